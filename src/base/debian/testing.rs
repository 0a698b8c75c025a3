//! A small Debian archive for tests: made, signed and served from a folder.

use std::io::Write as _;
use std::path::Path;

use fs_err as fs;
use pgp::composed::{ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedSecretKey};
use pgp::types::Password;

use super::{Archive, Keyring, Package, Source};
use crate::image::session::{Making, Session};
use crate::image::store::Store;
use crate::io::archive::{ArchivePath, Entry, Mode, Writer};
use crate::io::digest::Digest;
use crate::io::http::{Client, Network};
use crate::io::progress::Progress;

/// A session with a store in `home`.
pub(super) fn session(home: &Path, network: Network) -> Session {
    let (store, client) = (Store::open(home).unwrap(), Client::new(network));
    Session { store, progress: Progress::silent(), client, making: Making::Compressed }
}

pub(super) fn path(text: &str) -> ArchivePath {
    ArchivePath::new(text).unwrap()
}

/// A member of a package.
pub(super) fn file(name: &str, content: &str) -> (Entry, Vec<u8>) {
    (Entry::file(path(name), content.len() as u64, Mode::Plain), content.as_bytes().to_vec())
}

pub(super) fn tar(members: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in members {
        match entry.kind {
            crate::io::archive::Kind::File { .. } => writer.file(entry, content.as_slice()).unwrap(),
            _ => writer.entry(entry).unwrap(),
        }
    }
    writer.finish().unwrap()
}

pub(super) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ar::Builder::new(Vec::new());
    for (name, bytes) in members {
        builder.append(&ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64), *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A package with the control paragraph `control`, the script `postinst` and `members`.
pub(super) fn deb(control: &str, postinst: &str, members: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let control = tar(&[file("control", control), file("postinst", postinst)]);
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.xz", &xz(&control)), ("data.tar.xz", &xz(&tar(members)))])
}

/// An archive with the suite bookworm, its updates and its security updates, for amd64.
pub(super) struct Mirror {
    root: tempfile::TempDir,
    key: SignedSecretKey,
    packages: Vec<(Archive, String, Vec<u8>)>,
    /// More lines for each release.
    pub(super) release: String,
    pub(super) codename: &'static str,
}

impl Mirror {
    pub(super) fn new() -> Self {
        let mut key = SecretKeyParamsBuilder::default();
        key.key_type(KeyType::Ed25519Legacy)
            .can_certify(true)
            .can_sign(true)
            .primary_user_id("Test <t@example>".into());
        let key = key.build().unwrap().generate(rand::thread_rng()).unwrap();
        let root = tempfile::tempdir().unwrap();
        Self { root, key, packages: Vec::new(), release: String::new(), codename: "bookworm" }
    }

    /// Adds a package that has only a control paragraph and a file with its name: `add("a", "1", "Depends: b")`.
    pub(super) fn add(&mut self, name: &str, version: &str, fields: &str) -> Package {
        let members = [file(&format!("./usr/share/{name}/name"), name)];
        self.add_deb(Archive::Main, name, version, fields, "", &members)
    }

    pub(super) fn add_deb(
        &mut self,
        archive: Archive,
        name: &str,
        version: &str,
        fields: &str,
        postinst: &str,
        members: &[(Entry, Vec<u8>)],
    ) -> Package {
        let mut control = format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n");
        if !fields.is_empty() {
            control.push_str(&format!("{fields}\n"));
        }
        let bytes = deb(&control, postinst, members);
        let package = Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            archive,
            file: path(&format!("pool/{name}_{version}.deb")),
            size: bytes.len() as u64,
            digest: Digest::of(&bytes),
        };
        let Package { file, size, digest, .. } = &package;
        control.push_str(&format!("Filename: {file}\nSize: {size}\nSHA256: {}\n", digest.hex()));
        let place = self.folder(archive).join(file.as_str());
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, &bytes).unwrap();
        self.packages.push((archive, control, bytes));
        package
    }

    pub(super) fn folder(&self, archive: Archive) -> std::path::PathBuf {
        self.root.path().join(match archive {
            Archive::Main => "debian",
            Archive::Security => "debian-security",
        })
    }

    pub(super) fn suite_folder(&self, suite: &str) -> std::path::PathBuf {
        let archive = if suite.ends_with("-security") { Archive::Security } else { Archive::Main };
        self.folder(archive).join("dists").join(suite)
    }

    /// Writes and signs the indexes.
    pub(super) fn publish(&self) {
        for (archive, flavour) in [(Archive::Main, ""), (Archive::Main, "-updates"), (Archive::Security, "-security")] {
            let mut text = String::new();
            let these = self.packages.iter().filter(|(of, ..)| *of == archive && flavour != "-updates");
            these.for_each(|(_, control, _)| text.push_str(&format!("{control}\n")));
            let folder = self.suite_folder(&format!("bookworm{flavour}"));
            let packages = xz(text.as_bytes());
            fs::create_dir_all(folder.join("main/binary-amd64")).unwrap();
            fs::write(folder.join("main/binary-amd64/Packages.xz"), &packages).unwrap();
            let contents = gzip(b"usr/lib/x86_64-linux-gnu/libone.so.1  libs/one1\n");
            fs::write(folder.join("main/Contents-amd64.gz"), &contents).unwrap();
            let line = |bytes: &[u8], path: &str| format!(" {} {} {path}\n", Digest::of(bytes).hex(), bytes.len());
            let release = format!(
                "Suite: oldstable{flavour}\nCodename: {}{flavour}\n{}SHA256:\n{}{}",
                self.codename,
                self.release,
                line(&packages, "main/binary-amd64/Packages.xz"),
                line(&contents, "main/Contents-amd64.gz"),
            );
            fs::write(folder.join("InRelease"), self.signed(&release)).unwrap();
        }
    }

    pub(super) fn signed(&self, text: &str) -> String {
        let key = &self.key.primary_key;
        let message = CleartextSignedMessage::sign(rand::thread_rng(), text, key, &Password::empty()).unwrap();
        message.to_armored_string(ArmorOptions::default()).unwrap()
    }

    pub(super) fn keyring(&self) -> Keyring {
        let bytes = self.key.to_public_key().to_armored_bytes(ArmorOptions::default()).unwrap();
        Keyring::read(&bytes).unwrap()
    }

    /// The source that reads this archive.
    pub(super) fn source(&self, snapshot: Option<&str>) -> Source {
        let url = format!("file://{}", self.folder(Archive::Main).display());
        Source::of(&url, snapshot, self.keyring())
    }
}

/// Serves the folder `root` over HTTP as long as the process lives; gives the address.
pub(super) fn serve(root: &Path) -> String {
    use std::io::{BufRead as _, BufReader};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let root = root.to_owned();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines().map_while(Result::ok);
            let request = lines.next().unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
            let (status, body) = match fs::read(root.join(path)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(&body));
        }
    });
    address
}
