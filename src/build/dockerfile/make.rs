//! Stages made, instruction by instruction.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use url::Url;

use super::accounts::Account;
use super::contents::{self, Archive};
use super::copy::{self, Additions, Placing, inside};
use super::hashed::Hashed;
use super::mode::Mode;
use super::plan::{self, Origin, Plan};
use super::scope::Scope;
use super::source;
use super::stage::Stage;
use super::{Allowed, Context, Debug, Error, Ledger, Opened, Request, error};
use crate::base;
use crate::bundle::runtime::Convention;
use crate::formats::diagnostic::Source;
use crate::formats::dockerfile::{
    Copying, Ignore, Instruction, Kind, Mount, MountKind, Network, Program, Run, Security, Sharing, Variables,
};
use crate::image::layer::{self, Layer};
use crate::image::oci::platform::Platform;
use crate::image::registry::{self, Reference};
use crate::image::session::Session;
use crate::image::store::ImageQuery;
use crate::image::{Image, download, remote};
use crate::io::archive::{Node, View};
use crate::io::compress::Compression;
use crate::io::digest::Digest;
use crate::io::ids::Ids;
use crate::io::progress::Unit;
use crate::project::lock::{LockedLayer, LockedStep};
use crate::run::container::Launcher;
use crate::run::step::{self, Workshop};

/// Version of what commands leave. Raised with each change of that.
const RULES: u32 = 1;

/// How many lines of a command that failed are shown.
const LAST: usize = 20;

/// Stages that are made or will be.
pub type Made = BTreeMap<usize, OnceLock<Option<Stage>>>;

/// What all stages have in common.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    pub session: &'a Session,
    pub request: &'a Request,
    pub opened: &'a Opened,
    pub plan: &'a Plan,
    pub globals: &'a Scope,
    pub platform: Platform,
    pub ledger: &'a Ledger,
    pub debug: Option<&'a Debug<'a>>,
}

/// What files are taken from: a view, and the archives that its members are of.
struct Files {
    view: Arc<View>,
    archives: Vec<Archive>,
}

impl Making<'_> {
    /// Sees whether what would have to be executed may be.
    pub fn allow(&self) -> Result<(), Error> {
        let needed = self.plan.bases.keys().filter_map(|number| self.opened.file.stages.get(*number));
        self.opened.allow(needed, self.request.allowed)
    }

    /// Makes the stage `number`, once those are there that it needs.
    pub fn stage(&self, number: usize, base: &Origin, made: &Made) -> Result<Stage, Error> {
        let Some(written) = self.opened.file.stages.get(number) else { return Err(Error::Waited) };
        let mut stage = match base {
            Origin::Stage(other) => waited(made, *other)?.next(self.globals),
            Origin::Scratch => Stage::upon(Image::scratch(self.platform), self.globals),
            Origin::Named(name) => {
                let platform = written.from.platform.as_ref().map(|word| self.globals.expand(word)).transpose()?;
                let platform = match platform.filter(|text| !text.is_empty()) {
                    Some(text) => text
                        .parse()
                        .map_err(|error: crate::image::oci::platform::UnknownPlatform| Error::Platform(error))?,
                    None => self.platform,
                };
                Stage::upon(self.image(name, platform)?, self.globals)
            }
        };
        for trigger in stage.take_triggers() {
            let source = Source::new("the base's ONBUILD", trigger.as_str());
            let instruction = Instruction::parse(&source)
                .map_err(|_| Error::Refused(format!("the base has `ONBUILD {trigger}`, which is no instruction")))?;
            self.instruction(&mut stage, &instruction, made)
                .map_err(|source| Error::Trigger { trigger, source: Box::new(source) })?;
        }
        for instruction in &written.instructions {
            self.instruction(&mut stage, instruction, made)
                .map_err(|source| Error::at(self.opened, instruction, source))?;
        }
        Ok(stage)
    }

    fn instruction(&self, stage: &mut Stage, instruction: &Instruction, made: &Made) -> Result<(), Error> {
        let layers = stage.layers().len();
        match &instruction.kind {
            Kind::Arg(arguments) => {
                for argument in arguments {
                    stage.scope.declare(argument)?;
                }
            }
            Kind::Env(pairs) => {
                // All have the values from before the instruction.
                let scope = stage.scope.clone();
                for pair in pairs {
                    stage.set(&scope.local(&pair.name)?, &scope.local(&pair.value)?);
                }
            }
            Kind::Label(pairs) => {
                for pair in pairs {
                    let (name, value) = (stage.scope.local(&pair.name)?, stage.scope.local(&pair.value)?);
                    stage.label(&name, &value);
                }
            }
            Kind::Workdir(word) => {
                let path = stage.scope.local(word)?;
                let folder = stage.absolute(&path);
                let folder = if folder == "/" { folder } else { folder.trim_end_matches('/').to_owned() };
                self.folder(stage, &folder, &instruction.original)?;
                stage.enter(folder);
            }
            Kind::User(word) => {
                let user = stage.scope.local(word)?;
                stage.become_user(user);
            }
            Kind::Cmd(command) => stage.command(command),
            Kind::Entrypoint(command) => stage.entrypoint(command),
            Kind::Shell(words) => stage.shell(words),
            Kind::Expose(words) => {
                for word in words {
                    for text in stage.scope.words(word)? {
                        stage.expose(&text).map_err(Error::Refused)?;
                    }
                }
            }
            Kind::Volume(words) => {
                for word in words {
                    let path = stage.scope.local(word)?;
                    stage.volume(path);
                }
            }
            Kind::StopSignal(word) => {
                let signal = stage.scope.local(word)?;
                stage.stop_signal(signal);
            }
            Kind::HealthCheck(check) => stage.health(check),
            Kind::OnBuild(trigger) => stage.trigger(&trigger.expression),
            Kind::Maintainer(name) => stage.label("maintainer", name),
            Kind::Copy(copying) => self.copy(stage, copying, &instruction.original, made)?,
            Kind::Add(copying) => self.add(stage, copying, &instruction.original, made)?,
            Kind::Run(run) => self.run(stage, run, &instruction.original, made)?,
        }
        if stage.layers().len() == layers {
            stage.note(&instruction.original);
        }
        Ok(())
    }

    /// The image that `FROM` or `--from` names: one that the person says stands in, one of the store, or of a registry.
    fn image(&self, name: &str, platform: Platform) -> Result<Image, Error> {
        match self.request.contexts.get(name) {
            Some(Context::Image(base)) => {
                return Ok(base::named_image(self.session, base, platform, &Convention::Ekiben.user())?);
            }
            Some(Context::Made(image)) => return Ok(Image::clone(image)),
            Some(Context::Folder(_)) => {
                return Err(Error::Refused(format!("`{name}` is a folder, on which no stage can stand")));
            }
            None => {}
        }
        let image = self.named(name, platform)?;
        self.ledger.named(name, image.save(&self.session.store)?.0);
        Ok(image)
    }

    /// The image that a name is in this store or in a registry; the one that it was, where the lock has it.
    fn named(&self, name: &str, platform: Platform) -> Result<Image, Error> {
        let locked = self.ledger.image(name)?;
        if let Some(digest) = locked.filter(|digest| self.session.store.has_blob(digest)) {
            return Ok(Image::load(&self.session.store, &digest)?);
        }
        if locked.is_none()
            && let Ok(query) = name.parse::<ImageQuery>()
            && let Ok(record) = self.session.store.find(&query, None)
        {
            let (_, image) = Image::handed_on(self.session, record)?;
            if image.platform() == platform {
                self.session.progress.detail(format!("{name} is the image of this store"));
                return Ok(image);
            }
        }
        let reference: Reference = name.parse().map_err(|error| Error::Refused(format!("`{name}`: {error}")))?;
        let reference = locked.map_or(reference.clone(), |digest| reference.at(digest));
        Ok(remote::find(self.session, &reference, platform)?.1)
    }

    /// What `from` names, to take files from.
    fn files(&self, from: &str, made: &Made) -> Result<Files, Error> {
        let (view, layers) = match plan::origin(&self.opened.file, from) {
            Origin::Stage(other) => {
                let stage = waited(made, other)?;
                (stage.view(self.session)?, stage.layers().to_vec())
            }
            Origin::Scratch => (Arc::default(), Vec::new()),
            Origin::Named(name) => {
                let image = self.image(&name, self.platform)?;
                (Arc::new(contents::view(self.session, image.layers(), None)?), image.layers().to_vec())
            }
        };
        Ok(Files { view, archives: layers.into_iter().map(Archive::Layer).collect() })
    }

    /// Makes a folder where none is, which is the user's whose turn it is: so BuildKit makes that of `WORKDIR`.
    fn folder(&self, stage: &mut Stage, path: &str, title: &str) -> Result<(), Error> {
        let user = stage.user();
        let key = stage.key(&("folder", path, &user));
        let layer = self.once(Some(key), title, || {
            let view = stage.view(self.session)?;
            let mut additions = Additions::default();
            if !is_folder(&view, path) {
                let owner = if user.is_empty() { (0, 0) } else { stage.accounts(self.session)?.owner(&user)? };
                additions.make_folder(path, owner, &view)?;
            }
            self.layer(&additions, &[], &view, title)
        })?;
        stage.put(layer);
        Ok(())
    }

    /// What `make` makes of what `key` stands for, made once. Nothing is known of what has no key.
    fn once(
        &self,
        key: Option<Digest>,
        title: &str,
        make: impl FnOnce() -> Result<Option<Layer>, Error>,
    ) -> Result<Option<Layer>, Error> {
        let known = key.filter(|_| !self.request.anew);
        if let Some(layer) = known.and_then(|key| self.session.store.cached::<Option<Layer>>("placed", &key)) {
            return Ok(layer.map(|layer| Layer { title: title.to_owned(), ..layer }));
        }
        let layer = make()?;
        if let Some(key) = key {
            self.session.store.cache("placed", &key, &layer, layer.iter().map(|layer| layer.digest).collect())?;
        }
        Ok(layer)
    }

    /// The layer of files; none, where there are none.
    fn layer(
        &self,
        additions: &Additions,
        archives: &[Archive],
        view: &View,
        title: &str,
    ) -> Result<Option<Layer>, Error> {
        let is_there = !additions.is_empty();
        is_there.then(|| self.written(additions, archives, view, title)).transpose()
    }

    /// The layer of files, made once; also of none.
    fn written(&self, additions: &Additions, archives: &[Archive], view: &View, title: &str) -> Result<Layer, Error> {
        let hashed = Hashed::of(self.session, &self.request.context, title, self.request.anew);
        let key = additions.key(archives, view, &hashed)?;
        let known = (!self.request.anew).then(|| self.session.store.cached::<Layer>("copied", &key)).flatten();
        if let Some(layer) = known {
            return Ok(Layer { title: title.to_owned(), ..layer });
        }
        let layer = additions.layer(self.session, title, archives, view)?;
        self.session.store.cache("copied", &key, &layer, vec![layer.digest])?;
        Ok(layer)
    }

    fn copy(&self, stage: &mut Stage, copying: &Copying, title: &str, made: &Made) -> Result<(), Error> {
        let mut sources = Vec::new();
        for word in &copying.sources {
            sources.push(stage.scope.local(word)?);
        }
        let key = self.copy_key(stage, copying, &sources, made)?;
        let layer = self.once(key, title, || {
            let (mut additions, below) = (Additions::default(), stage.view(self.session)?);
            self.documents(stage, copying, &mut additions, &below)?;
            let archives = self.copied(stage, copying, &sources, &mut additions, &below, made)?;
            self.layer(&additions, &archives, &below, title)
        })?;
        stage.put(layer);
        Ok(())
    }

    /// What stands for all that a `COPY` depends on, without looking into a layer or a file; none where more would have to be
    /// looked at, or a file was written just now.
    fn copy_key(
        &self,
        stage: &Stage,
        copying: &Copying,
        sources: &[String],
        made: &Made,
    ) -> Result<Option<Digest>, Error> {
        if copying.parents || !copying.documents.is_empty() {
            return Ok(None);
        }
        let from = copying.from.as_ref().map(|word| stage.scope.local(word)).transpose()?;
        let state = match from {
            None => {
                let root = fs_err::canonicalize(&self.request.context)?;
                copy::state(source::Source::Context { root: &root, ignore: &self.opened.ignore }, sources)?
            }
            Some(from) if self.request.contexts.contains_key(&from) => None,
            Some(from) => match plan::origin(&self.opened.file, &from) {
                Origin::Stage(other) => Some(waited(made, other)?.key(&"files")),
                Origin::Scratch | Origin::Named(_) => None,
            },
        };
        let Some(state) = state else { return Ok(None) };
        let mut words = Vec::new();
        for word in [Some(&copying.target), copying.chown.as_ref(), copying.chmod.as_ref()] {
            words.push(word.map(|word| stage.scope.local(word)).transpose()?);
        }
        let mut excluded = Vec::new();
        for word in &copying.exclude {
            excluded.push(stage.scope.local(word)?);
        }
        Ok(Some(stage.key(&("copy", stage.folder(), sources, words, excluded, copying.link, state))))
    }

    /// Adds the texts that stand in the Dockerfile.
    fn documents(
        &self,
        stage: &Stage,
        copying: &Copying,
        additions: &mut Additions,
        below: &View,
    ) -> Result<(), Error> {
        self.placed(stage, copying, below, |placing, scope| {
            for document in &copying.documents {
                let text = document.expand(scope)?;
                additions.text(&document.name, text.into_bytes(), 0o644, placing, below)?;
            }
            Ok(())
        })
    }

    /// Adds the files `sources` of what `--from` says.
    #[allow(clippy::too_many_arguments, reason = "it is a part of `copy` and `add`, with what both know")]
    fn copied(
        &self,
        stage: &Stage,
        copying: &Copying,
        sources: &[String],
        additions: &mut Additions,
        below: &View,
        made: &Made,
    ) -> Result<Vec<Archive>, Error> {
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        let from = copying.from.as_ref().map(|word| stage.scope.local(word)).transpose()?;
        let folder = from.as_deref().and_then(|from| match self.request.contexts.get(from) {
            Some(Context::Folder(folder)) => Some(folder.as_path()),
            _ => None,
        });
        if let (Some(from), None) = (&from, folder) {
            let files = self.files(from, made)?;
            self.placed(stage, copying, below, |placing, _| {
                Ok(additions.copy(source::Source::View(&files.view), sources, placing, below)?)
            })?;
            return Ok(files.archives);
        }
        let nothing = Ignore::default();
        let ignore = if folder.is_some() { &nothing } else { &self.opened.ignore };
        let root = fs_err::canonicalize(folder.unwrap_or(&self.request.context))?;
        let source = source::Source::Context { root: &root, ignore };
        self.placed(stage, copying, below, |placing, _| Ok(additions.copy(source, sources, placing, below)?))?;
        Ok(Vec::new())
    }

    /// Calls `put` with where and how files are put.
    fn placed(
        &self,
        stage: &Stage,
        copying: &Copying,
        below: &View,
        put: impl FnOnce(&Placing<'_>, &Variables<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let scope = &stage.scope;
        let mut target = stage.absolute(&scope.local(&copying.target)?);
        if copying.sources.len() + copying.documents.len() > 1 && !target.ends_with('/') {
            if !is_folder(below, &target) {
                return Err(copy::Error::Several { target }.into());
            }
            target.push('/');
        }
        let owner = match copying.chown.as_ref().map(|word| scope.local(word)).transpose()? {
            Some(text) if text.split(':').all(|part| part.parse::<u32>().is_ok()) => {
                Some(super::accounts::Accounts::default().owner(&text)?)
            }
            Some(text) => Some(stage.accounts(self.session)?.owner(&text)?),
            // Files of a person are nobody's in the image; those of a stage stay whose they are.
            None => None,
        };
        let mode = copying.chmod.as_ref().map(|word| scope.local(word)).transpose()?;
        let mode = mode.map(|text| Mode::read(&text)).transpose().map_err(Error::Refused)?;
        let mode = |bits, is_folder| mode.as_ref().map_or(bits, |mode| mode.of(bits, is_folder));
        let mut excluded = Vec::new();
        for word in &copying.exclude {
            excluded.push(scope.local(word)?);
        }
        let excluded = Ignore::of_patterns(excluded.iter().map(String::as_str))
            .map_err(|error| Error::Refused(error.to_string()))?;
        let is_excluded = |path: &Path| excluded.is_left_out(&path.to_string_lossy());
        let placing = Placing {
            target: &target,
            owner,
            mode: &mode,
            parents: copying.parents,
            is_excluded: &is_excluded,
            link: copying.link,
            replaces: false,
        };
        put(&placing, &|name: &str| scope.value(name))
    }

    fn add(&self, stage: &mut Stage, copying: &Copying, title: &str, made: &Made) -> Result<(), Error> {
        let (mut plain, mut remote) = (Vec::new(), Vec::new());
        for word in &copying.sources {
            let text = stage.scope.local(word)?;
            match text.starts_with("http://") || text.starts_with("https://") {
                true => remote.push(text),
                false if text.starts_with("git@") || text.starts_with("git://") || text.starts_with("ssh://") => {
                    return Err(Error::Refused(format!(
                        "`{text}`: repositories of git are not fetched; add its archive"
                    )));
                }
                false => plain.push(text),
            }
        }
        let below = stage.view(self.session)?;
        let (mut additions, mut archives) = (Additions::default(), Vec::new());
        self.documents(stage, copying, &mut additions, &below)?;
        let checksum = copying.checksum.as_ref().map(|word| stage.scope.local(word)).transpose()?;
        for text in remote {
            let (name, path, digest) = self.fetched(&text, checksum.as_deref())?;
            if copying.unpack == Some(true) {
                self.unpacked(stage, copying, Archive::File { path, digest }, &mut additions, &mut archives, &below)?;
                continue;
            }
            self.placed(
                stage,
                copying,
                &below,
                |placing, _| Ok(additions.file(&name, &path, 0o600, placing, &below)?),
            )?;
        }
        let mut files = Vec::new();
        let is_unpacked = copying.from.is_none() && copying.unpack != Some(false);
        for text in if is_unpacked { self.one_by_one(plain)? } else { plain } {
            // Archives of the context are unpacked, if they are.
            match if is_unpacked { self.archive(&text)? } else { None } {
                Some(path) => {
                    let digest = contents::digest(fs_err::File::open(&path)?)?;
                    self.unpacked(
                        stage,
                        copying,
                        Archive::File { path, digest },
                        &mut additions,
                        &mut archives,
                        &below,
                    )?;
                }
                None => files.push(text),
            }
        }
        let known = archives.len();
        let more = self.copied(stage, copying, &files, &mut additions, &below, made)?;
        if known > 0 && !more.is_empty() {
            return Err(Error::Refused("archives and files of a stage cannot be added by one instruction".to_owned()));
        }
        archives.extend(more);
        let layer = self.layer(&additions, &archives, &below, title)?;
        stage.put(layer);
        Ok(())
    }

    /// Patterns of the context's files, each replaced by what it matches where an archive is among that.
    fn one_by_one(&self, patterns: Vec<String>) -> Result<Vec<String>, Error> {
        let root = fs_err::canonicalize(&self.request.context)?;
        let source = source::Source::Context { root: &root, ignore: &self.opened.ignore };
        let mut all = Vec::new();
        for pattern in patterns {
            let mut each = Vec::new();
            for path in copy::matches(source, &pattern)? {
                each.push(copy::escaped(&path.to_string_lossy()));
            }
            let mut are_archives = each.iter().map(|path| self.archive(path));
            let has_archive = are_archives.any(|archive| archive.is_ok_and(|archive| archive.is_some()));
            all.extend(if has_archive { each } else { vec![pattern] });
        }
        Ok(all)
    }

    /// The file of the context that `text` names, where that is an archive.
    fn archive(&self, text: &str) -> Result<Option<PathBuf>, Error> {
        let root = fs_err::canonicalize(&self.request.context)?;
        let source = source::Source::Context { root: &root, ignore: &self.opened.ignore };
        let place = source.resolve(&inside(&copy::unescaped(text)))?;
        let path = self.request.context.join(&place);
        let is_there = source.find(&place)?.is_some_and(|found| matches!(found.node, Node::File(_)));
        if !is_there {
            return Ok(None);
        }
        let archive = Archive::File { digest: Digest::of(b""), path: path.clone() };
        Ok(archive.is_one(self.session).then_some(path))
    }

    fn unpacked(
        &self,
        stage: &Stage,
        copying: &Copying,
        archive: Archive,
        additions: &mut Additions,
        archives: &mut Vec<Archive>,
        below: &View,
    ) -> Result<(), Error> {
        let mut view = View::beginning_at(archives.len());
        contents::lay(self.session, &mut view, &archive)?;
        archives.push(archive);
        let all = [".".to_owned()];
        self.placed(stage, copying, below, |placing, _| {
            let target = format!("{}/", placing.target.trim_end_matches('/'));
            let placing = Placing { target: &target, replaces: true, ..*placing };
            Ok(additions.copy(source::Source::View(&view), &all, &placing, below)?)
        })
    }

    /// Fetches what is at an address: its name, where it lies now, and its digest.
    fn fetched(&self, text: &str, checksum: Option<&str>) -> Result<(String, PathBuf, Digest), Error> {
        let url = Url::parse(text).map_err(|error| Error::Refused(format!("`{text}`: {error}")))?;
        let name = url.path().rsplit('/').next().filter(|name| !name.is_empty()).map(str::to_owned);
        let name = name.ok_or_else(|| Error::Refused(format!("`{text}` has no name for a file")))?;
        let wanted: Option<Digest> = checksum
            .map(|text| text.parse().map_err(|error| Error::Refused(format!("--checksum={text}: {error}"))))
            .transpose()?;
        if let Some(digest) = wanted.filter(|digest| self.session.store.has_blob(digest)) {
            return Ok((name, self.session.store.blob_path(&digest), digest));
        }
        let task = self.session.progress.task("Fetching", name.clone(), Unit::Bytes, None);
        let (digest, _) = download::content(self.session, &url, &|_| HeaderMap::new(), None, None, &task)?;
        task.finish(format!("Fetched {name}"));
        if let Some(wanted) = wanted.filter(|wanted| *wanted != digest) {
            return Err(Error::Refused(format!("what is at {text} has the digest {digest}, not {wanted}")));
        }
        Ok((name, self.session.store.blob_path(&digest), digest))
    }

    fn run(&self, stage: &mut Stage, run: &Run, title: &str, made: &Made) -> Result<(), Error> {
        if let Security::Insecure(_) = run.security {
            return Err(Error::Refused("--security=insecure: no command leaves the sandbox".to_owned()));
        }
        if run.network == Network::Host {
            return Err(Error::Refused("--network=host: no command is in the host's network".to_owned()));
        }
        if self.platform != Platform::host()? {
            return Err(Error::Refused(format!("commands for {} cannot be executed here", self.platform)));
        }
        if self.request.allowed < Allowed::Commands {
            return Err(Error::NotAllowed { commands: vec![error::shortened(title)] });
        }
        let account = self.account(stage)?;
        let folder = stage.folder();
        self.folder(stage, &folder, &format!("WORKDIR {folder}"))?;
        let mut files = Vec::new();
        let args = match run.program() {
            Program::Shell(text) => stage.in_shell(&text),
            Program::Exec(words) => words,
            Program::Script { name, content } => {
                let target = format!("/dev/pipes/{name}");
                let content = content.into_bytes();
                files.push(step::File { target: target.clone().into(), content, mode: 0o755, owner: (0, 0) });
                vec![target]
            }
        };
        let workshop = Workshop::open(self.session, &Launcher::this()?)?;
        let mut env = stage.variables(&account.home);
        let (mut mounts, mut parts) = (Vec::new(), Vec::new());
        for mount in &run.mounts {
            let mount = mount.expand(&|name: &str| stage.scope.value(name))?;
            self.mount(stage, &mount, &workshop, made, &mut mounts, &mut parts, &mut env)?;
        }
        let outside = self.request.allowed == Allowed::Network && run.network == Network::Default;
        let diff_ids: Vec<Digest> = stage.layers().iter().map(|layer| layer.diff_id).collect();
        let contents: Vec<_> = files.iter().map(|file| (&file.target, &file.content)).collect();
        let what = (&args, stage.variables(&account.home), &folder, (account.user, &account.groups));
        let key = layer::key(&("executed", RULES, self.platform, diff_ids, what, outside, contents, parts));
        let locked = self.ledger.step(&key)?;
        let is_known = !self.request.anew && !self.request.verify;
        let layer = match if is_known { self.made_before(&key, locked)? } else { None } {
            Some(layer) => layer.map(|layer| Layer { title: title.to_owned(), ..layer }),
            None => {
                env.extend(self.globals.proxies().into_iter().map(|(name, value)| format!("{name}={value}")));
                let command = step::Command {
                    env,
                    cwd: folder.into(),
                    user: account.user,
                    // Whoever has one id alone cannot set groups, and needs none to be root.
                    groups: if account.groups == [0] { Vec::new() } else { account.groups },
                    network: if outside { step::Network::Outside } else { step::Network::None },
                    files,
                    mounts,
                    ..step::Command::new(args, title)
                };
                let layer = self.executed(stage, &workshop, &command)?;
                if self.request.verify {
                    let again = self.executed(stage, &workshop, &command)?;
                    self.compare(layer.as_ref(), again.as_ref())?;
                }
                let blobs = layer.iter().map(|layer| layer.digest).collect();
                self.session.store.cache("executed", &key, &layer, blobs)?;
                layer
            }
        };
        self.ledger.led(key, title, layer.as_ref(), &self.session.progress)?;
        stage.has_executed();
        stage.put(layer);
        Ok(())
    }

    /// What a command led to before: what the lock says, where that can be had, else what it was here.
    fn made_before(&self, key: &Digest, locked: Option<&LockedStep>) -> Result<Option<Option<Layer>>, Error> {
        let here = self.session.store.cached::<Option<Layer>>("executed", key);
        let diff_id = |layer: &Option<Layer>| layer.as_ref().map(|layer| layer.diff_id);
        match locked {
            Some(step) if here.as_ref().map(diff_id) != Some(step.diff_id()) => Ok(self.locked(step)?.or(here)),
            _ => Ok(here),
        }
    }

    /// What a command led to by the lock, where it need not be executed: its layer is here, or in a registry.
    fn locked(&self, step: &LockedStep) -> Result<Option<Option<Layer>>, Error> {
        let Some(LockedLayer { diff_id, digest, size }) = step.layer else {
            // That it changed nothing is believed together with the layers of others.
            return Ok(Some(None).filter(|_| !self.request.cache_from.is_empty()));
        };
        let title = step.command.clone();
        let layer = Layer { compression: Compression::Gzip, digest, size, diff_id, title, pending: None };
        let has = registry::find_layer(self.session, &layer, &self.request.cache_from)?;
        Ok(has.then_some(Some(layer)))
    }

    /// Whom commands run as, found out once.
    fn account(&self, stage: &Stage) -> Result<Account, Error> {
        let key = stage.key(&("account", stage.user()));
        if let Some(known) = self.session.store.cached("account", &key) {
            return Ok(known);
        }
        let account = stage.accounts(self.session)?.account(&stage.user())?;
        self.session.store.cache("account", &key, &account, Vec::new())?;
        Ok(account)
    }

    /// Executes a command over what there is.
    fn executed(&self, stage: &Stage, workshop: &Workshop, command: &step::Command) -> Result<Option<Layer>, Error> {
        registry::fetch(self.session, stage.layers())?;
        let layers: Vec<_> = stage.layers().iter().collect();
        let trees = workshop.trees(&layers)?;
        let title = error::shortened(&command.title);
        let task = self.session.progress.task("Running", title.clone(), Unit::Items, None);
        let mut last = std::collections::VecDeque::new();
        let failed = |code, last: std::collections::VecDeque<_>| {
            let alone = match workshop.ids() {
                Ids::One { why } => Some(why.clone()),
                Ids::Range { .. } => None,
            };
            Error::Failed { code, lines: last.into(), alone }
        };
        let ran = workshop.run(&trees, command, &mut |line| {
            self.session.progress.detail(line);
            last.push_back(line.to_owned());
            if last.len() > LAST {
                last.pop_front();
            }
        })?;
        if let Some(debug) = self.debug.filter(|_| ran.exit != 0) {
            drop(task);
            debug(workshop, &trees, command)?;
            return Err(failed(ran.exit, last));
        }
        if ran.out_of_memory {
            return Err(Error::OutOfMemory);
        }
        if ran.exit != 0 {
            return Err(failed(ran.exit, last));
        }
        task.finish(format!("Executed {title}"));
        if !ran.left_out.is_empty() {
            self.session.progress.detail(format!("{}: left out of the layer", ran.left_out.join(", ")));
        }
        Ok(ran.layer)
    }

    /// Whether a command led to the same both times.
    fn compare(&self, first: Option<&Layer>, second: Option<&Layer>) -> Result<(), Error> {
        if first.map(|layer| layer.diff_id) == second.map(|layer| layer.diff_id) {
            return Ok(());
        }
        let [first, second] = [first, second].map(|layer| contents::members(self.session, layer));
        Err(Error::NotTheSame { files: contents::differences(&first?, &second?) })
    }

    /// Adds a mount to `mounts`, what of it changes what is made to `parts`, and a secret that is a variable to `env`.
    #[allow(clippy::too_many_arguments, reason = "it is a part of `run`, with what that knows")]
    fn mount(
        &self,
        stage: &Stage,
        mount: &Mount,
        workshop: &Workshop,
        made: &Made,
        mounts: &mut Vec<step::Mount>,
        parts: &mut Vec<(String, PathBuf, bool, Vec<Digest>)>,
        env: &mut Vec<String>,
    ) -> Result<(), Error> {
        let target = |default: Option<&str>| {
            let text = mount.target.as_deref().or(default);
            let text = text.ok_or_else(|| Error::Refused("a mount needs a target".to_owned()))?;
            Ok::<_, Error>(PathBuf::from(stage.absolute(text).trim_end_matches('/')))
        };
        let owner = (mount.user.unwrap_or(0), mount.group.unwrap_or(0));
        match mount.kind {
            MountKind::Bind => {
                let layers = match &mount.from {
                    Some(from) if !matches!(self.request.contexts.get(from), Some(Context::Folder(_))) => {
                        let archives = self.files(from, made)?.archives;
                        archives
                            .into_iter()
                            .filter_map(|archive| match archive {
                                Archive::Layer(layer) => Some(layer),
                                Archive::File { .. } => None,
                            })
                            .collect()
                    }
                    from => vec![self.context_layer(from.as_deref(), mount.source.as_deref().unwrap_or("."))?],
                };
                registry::fetch(self.session, &layers)?;
                let trees = workshop.trees(&layers.iter().collect::<Vec<_>>())?;
                let (path, target) = (inside(mount.source.as_deref().unwrap_or("/")), target(None)?);
                let diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
                parts.push((path.display().to_string(), target.clone(), !mount.read_only, diff_ids));
                let path = Path::new("/").join(path);
                mounts.push(step::Mount::Bind { trees, path, target, writable: !mount.read_only });
            }
            MountKind::Cache => {
                let target = target(None)?;
                let key = mount.id.clone().unwrap_or_else(|| target.display().to_string());
                let sharing = match mount.sharing {
                    None | Some(Sharing::Shared) => step::Sharing::Shared,
                    Some(Sharing::Private) => step::Sharing::Private,
                    Some(Sharing::Locked) => step::Sharing::Locked,
                };
                mounts.push(step::Mount::Cache { key, target, mode: mount.mode.unwrap_or(0o755), owner, sharing });
            }
            MountKind::Tmpfs => {
                let target = target(None)?;
                let size = mount.size.unwrap_or(1 << 30);
                parts.push((size.to_string(), target.clone(), true, Vec::new()));
                mounts.push(step::Mount::Tmpfs { target, size });
            }
            MountKind::Secret => {
                let named = mount.id.clone().or_else(|| Some(mount.source.clone()?.rsplit('/').next()?.to_owned()));
                let from_target = || Some(mount.target.clone()?.rsplit('/').next()?.to_owned());
                let id = named.or_else(from_target).ok_or_else(|| Error::Refused("a secret needs an id".to_owned()))?;
                let Some(content) = self.request.secrets.get(&id) else {
                    if mount.required {
                        return Err(Error::Refused(format!(
                            "there is no secret `{id}`: give it with --secret id={id},…"
                        )));
                    }
                    return Ok(());
                };
                if let Some(variable) = &mount.variable {
                    let name = if variable.is_empty() { &id } else { variable };
                    env.push(format!("{name}={}", String::from_utf8_lossy(content)));
                }
                if mount.variable.is_none() || mount.target.is_some() {
                    let target = target(Some(&format!("/run/secrets/{id}")))?;
                    let mode = mount.mode.unwrap_or(0o400);
                    mounts.push(step::Mount::Secret(step::File { target, content: content.clone(), mode, owner }));
                }
            }
            MountKind::Ssh => {
                let id = mount.id.clone().unwrap_or_else(|| "default".to_owned());
                let Some(socket) = self.request.agents.get(&id) else {
                    if mount.required {
                        return Err(Error::Refused(format!("there is no agent `{id}`: give it with --ssh {id}")));
                    }
                    return Ok(());
                };
                let target = target(Some(&format!("/run/buildkit/ssh_agent.{}", mounts.len())))?;
                env.push(format!("SSH_AUTH_SOCK={}", target.display()));
                let mode = mount.mode.unwrap_or(0o600);
                mounts.push(step::Mount::Ssh { socket: socket.clone(), target, mode, owner });
            }
        }
        Ok(())
    }

    /// Files of a context as a layer of their own, at their paths.
    fn context_layer(&self, from: Option<&str>, path: &str) -> Result<Layer, Error> {
        let folder = from.and_then(|from| match self.request.contexts.get(from) {
            Some(Context::Folder(folder)) => Some(folder.as_path()),
            _ => None,
        });
        let nothing = Ignore::default();
        let ignore = if folder.is_some() { &nothing } else { &self.opened.ignore };
        let root = fs_err::canonicalize(folder.unwrap_or(&self.request.context))?;
        let source = source::Source::Context { root: &root, ignore };
        let place = inside(path);
        let is_folder = source.is_folder(&source.resolve(&place)?);
        let target = match (is_folder, place.parent()) {
            (true, _) => format!("/{}/", place.display()),
            (false, Some(parent)) if !parent.as_os_str().is_empty() => format!("/{}/", parent.display()),
            (false, _) => "/".to_owned(),
        };
        let placing = Placing {
            target: &target,
            owner: Some((0, 0)),
            mode: &|mode, _| mode,
            parents: false,
            is_excluded: &|_| false,
            link: false,
            replaces: false,
        };
        let (mut additions, view) = (Additions::default(), View::default());
        additions.copy(source, &[path.to_owned()], &placing, &view)?;
        self.written(&additions, &[], &view, "files of the context")
    }
}

/// The stage `number`, once it is there.
fn waited(made: &Made, number: usize) -> Result<Stage, Error> {
    made.get(&number).and_then(|place| place.wait().clone()).ok_or(Error::Waited)
}

fn is_folder(view: &View, path: &str) -> bool {
    let place = view.resolve(&inside(path)).unwrap_or_default();
    place.as_os_str().is_empty() || view.entry(&place).is_some_and(|there| there.node == Node::Folder)
}
