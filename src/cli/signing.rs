//! What signs and what is signed, as commands are told it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::Failure;
use super::policy::name_here;
use crate::build::workflow;
use crate::image::Image;
use crate::image::oci::{Content, Descriptor, Document};
use crate::image::policy::Name;
use crate::image::registry::{Reference, Registries};
use crate::image::session::Session;
use crate::image::sign::{LARGEST_KEY, Place, PrivateKey, PublicKey, Signer, blob, folder};
use crate::image::store::ImageRecord;
use crate::io::explain::ErrorKind;

/// What signs.
#[derive(clap::Args)]
pub struct SignerArgs {
    /// The private key: a file, or `env://NAME` for one in an environment variable. Its password is taken from
    /// EKIBEN_KEY_PASSWORD or COSIGN_PASSWORD, or asked for.
    #[arg(long, value_name = "FILE", conflicts_with = "signer")]
    key: Option<String>,
    /// A command that signs: it gets the bytes on stdin, and writes the signature (raw or in base64) to stdout.
    #[arg(long, value_name = "COMMAND", requires = "public_key")]
    signer: Option<String>,
    /// The public key that belongs to `--signer`.
    #[arg(long, value_name = "FILE", requires = "signer")]
    public_key: Option<String>,
}

impl SignerArgs {
    /// Whether anything is to be signed with.
    pub fn is_given(&self) -> bool {
        self.key.is_some() || self.signer.is_some()
    }

    /// What signs; none where nothing is said.
    pub fn signer(&self) -> Result<Option<Signer>, Failure> {
        if let Some((command, public)) = self.signer.as_ref().zip(self.public_key.as_ref()) {
            return Ok(Some(Signer::Command { command: command.clone(), public: public_key(public)? }));
        }
        let Some(name) = &self.key else { return Ok(None) };
        let mut asked = Ok(());
        let password = || match password(false) {
            Ok(password) => password,
            Err(failure) => {
                asked = Err(failure);
                None
            }
        };
        let key = PrivateKey::read(&text(name)?, name, password);
        asked?;
        Ok(Some(Signer::Key(key?)))
    }
}

/// Reads a public key of a file or a variable.
pub fn public_key(name: &str) -> Result<PublicKey, Failure> {
    Ok(PublicKey::read(&text(name)?, name)?)
}

/// What stands in a file or, after `env://`, in a variable.
fn text(name: &str) -> Result<String, Failure> {
    if let Some(variable) = name.strip_prefix("env://") {
        return std::env::var(variable).map_err(|_| {
            let explanation = ErrorKind::Usage.named("key/no-variable");
            Failure::new(explanation, format!("the environment has no variable {variable} with a key"))
        });
    }
    let mut bytes = Vec::new();
    fs::File::open(name)?.take(LARGEST_KEY).read_to_end(&mut bytes)?;
    // What is no text is no key, which the next step says.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The password of a key, from the environment or the terminal; none where there is neither. A new one is asked for twice.
pub fn password(is_new: bool) -> Result<Option<Vec<u8>>, Failure> {
    let known = ["EKIBEN_KEY_PASSWORD", "COSIGN_PASSWORD"].into_iter().find_map(std::env::var_os);
    if let Some(known) = known {
        use std::os::unix::ffi::OsStringExt as _;
        return Ok(Some(known.into_vec()));
    }
    let terminal = console::Term::stderr();
    if !terminal.is_term() {
        return Ok(None);
    }
    terminal.write_str("password of the key: ")?;
    let password = terminal.read_secure_line()?;
    if is_new {
        terminal.write_str("once more: ")?;
        if terminal.read_secure_line()? != password {
            return Err(Failure::new(ErrorKind::Usage.named("key/two-passwords"), "these are two passwords"));
        }
    }
    Ok(Some(password.into_bytes()))
}

/// What a person names that is signed or verified.
pub enum Named {
    /// An image: see [`Subject`].
    Image,
    /// A file, as a bundle.
    File(PathBuf),
    /// A folder, as that of a model.
    Folder(PathBuf),
}

impl Named {
    /// What `text` names. What is written as a path (`./x`, `/x`, `x/`, `x.ekiben`) is one, and a name with the host of a
    /// registry is an image; any other is a file or folder if one is there, unless there is an image of that name as well.
    pub fn of(session: &Session, text: &str, local: bool) -> Result<Self, Failure> {
        let path = PathBuf::from(text);
        let is_path = [".", ".."].contains(&text)
            || ["/", "./", "../"].iter().any(|start| text.starts_with(start))
            || [".ekiben", "/"].iter().any(|end| text.ends_with(end));
        if local || (!is_path && Reference::names_registry(text)) {
            return Ok(Self::Image);
        }
        let named = match (path.is_dir(), path.is_file()) {
            (true, _) => Self::Folder(path),
            (_, true) => Self::File(path),
            _ if is_path => {
                let explanation = ErrorKind::Usage.named("sign/nothing-there");
                let explanation =
                    explanation.hint("an image in the local store that is called so is meant with `--local`");
                return Err(Failure::new(explanation, format!("there is no file or folder {text}")));
            }
            _ => return Ok(Self::Image),
        };
        if !is_path && here(session, text).is_ok() {
            let explanation = ErrorKind::Usage
                .named("sign/ambiguous")
                .hint(format!("`./{text}` is what lies there, and `--local` means the image"));
            return Err(Failure::new(explanation, format!("`{text}` is the name of an image and of what lies there")));
        }
        Ok(named)
    }

    /// Where the signature of a file or folder is kept, unless somewhere else is said; none of an image.
    pub fn signature(&self, said: Option<PathBuf>) -> Option<PathBuf> {
        let own = match self {
            Self::Image => return None,
            Self::File(path) => {
                let mut name = path.as_os_str().to_owned();
                name.push(blob::END);
                PathBuf::from(name)
            }
            Self::Folder(path) => path.join(folder::NAME),
        };
        Some(said.unwrap_or(own))
    }
}

/// Says that options are of another kind of thing than the one that is named, where any is given.
pub fn only_for(what: &str, options: &[(&str, bool)]) -> Result<(), Failure> {
    match options.iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            let explanation = ErrorKind::Usage.named("sign/other-kind");
            Err(Failure::new(explanation, format!("`{option}` is for {what}")))
        }
        None => Ok(()),
    }
}

/// The image of the local store that `text` names.
fn here(session: &Session, text: &str) -> Result<ImageRecord, Failure> {
    Ok(match text.parse() {
        Ok(query) => workflow::find(&session.store, &query)?,
        Err(_) => session.store.image(&Reference::local_name(text)?)?,
    })
}

/// An image that is signed or verified, where it lies.
pub struct Subject {
    /// As it is shown.
    pub name: String,
    /// Where it lies.
    pub place: Place,
    /// Its manifest or index.
    pub top: Document,
    /// The repository that it is called by.
    pub repository: String,
    /// Where it is in a registry; none of one that is looked at here.
    pub reference: Option<Reference>,
}

impl Subject {
    /// What `text` names: with a host in it an image in that registry, unless it is to be a local one; else one of the store.
    pub fn of(session: &Session, text: &str, local: bool) -> Result<Self, Failure> {
        if Reference::names_registry(text) && !local {
            let reference: Reference = text.parse()?;
            let place = Place::Registry(Registries::new(session).repository(&reference));
            let top = place.manifest(&reference.wanted())?;
            let (name, repository) = (reference.to_string(), reference.place());
            return Ok(Self { name, place, top, repository, reference: Some(reference) });
        }
        let (record, _) = Image::handed_on(session, here(session, text)?)?;
        let place = Place::Store(session.store.clone());
        let top = place.manifest(&record.digest.to_string())?;
        let repository = record.name.repository().to_owned();
        Ok(Self { name: record.name.to_string(), place, top, repository, reference: None })
    }

    /// As policies call it.
    pub fn policy_name(&self) -> Result<Name, Failure> {
        match &self.reference {
            Some(reference) => Ok(Name::Registry(reference.clone())),
            None => Ok(name_here(&self.name.parse()?)),
        }
    }

    /// The images of an index, as it names them; none of an image.
    pub fn images(&self) -> Vec<Descriptor> {
        match &self.top.content {
            Content::Index(index) => index.images().cloned().collect(),
            Content::Image(_) => Vec::new(),
        }
    }
}

/// A number of files, for a person.
pub fn counted(files: usize) -> String {
    format!("{files} file{}", if files == 1 { "" } else { "s" })
}

/// What a key is called: its file, without folders.
pub fn key_name(name: &str) -> String {
    Path::new(name).file_name().map_or_else(|| name.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A file is there already.
pub fn taken(path: &Path) -> Failure {
    let explanation = ErrorKind::Usage.named("key/exists").hint("choose another name, or remove it yourself");
    Failure::new(explanation, format!("{} is there already", path.display()))
}

/// Writes a new file, and never over another.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let mut file = match made {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(taken(path));
        }
        made => made.map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))?,
    };
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(())
}
