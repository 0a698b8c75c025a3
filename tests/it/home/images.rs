//! Small images that were not made by Ekiben.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{ran, tool};

/// Debian's static busybox.
pub fn busybox() -> &'static Path {
    static BUSYBOX: OnceLock<PathBuf> = OnceLock::new();
    BUSYBOX.get_or_init(|| {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox");
        let path = kept.join("bin/busybox");
        if !path.exists() {
            fs::create_dir_all(&kept).unwrap();
            let script = "apt-get download busybox-static && dpkg-deb -x busybox-static_*.deb .";
            ran(tool("sh").args(["-ec", script]).current_dir(&kept)).ok();
        }
        path
    })
}

/// A tar archive of these entries; what ends in `/` is a folder.
fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in entries {
        let mut header = tar::Header::new_ustar();
        let folder = path.ends_with('/');
        header.set_entry_type(if folder { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_uid(7);
        header.set_gid(8);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A docker archive of busybox and two layers, the upper of which deletes things of the lower.
pub fn docker_archive(to: &Path) {
    archive(to, "", &[]);
}

/// The same, whose program runs as `user`: it knows `root` and `model`.
pub fn docker_archive_for(to: &Path, user: &str) {
    let books: [(&str, &[u8]); 2] = [
        ("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nmodel:x:1001:50::/srv/model:/bin/sh\n"),
        ("etc/group", b"root:x:0:\nwheel:x:10:\n"),
    ];
    archive(to, user, &books);
}

fn archive(to: &Path, user: &str, more: &[(&str, &[u8])]) {
    let busybox = fs::read(busybox()).unwrap();
    let lower: [(&str, &[u8]); 10] = [
        ("bin/", b""),
        ("bin/busybox", &busybox),
        ("bin/sh", &busybox),
        ("etc/", b""),
        ("etc/gone", b"1"),
        ("etc/kept", b"1"),
        ("old/", b""),
        ("old/a", b"1"),
        ("whole/", b""),
        ("whole/x", b"1"),
    ];
    let lower = tar(&[&lower[..], more].concat());
    let upper =
        tar(&[("etc/.wh.gone", b""), ("old/", b""), ("old/.wh..wh..opq", b""), ("old/b", b"2"), (".wh.whole", b"")]);
    let digest = |bytes: &[u8]| ekiben::io::digest::Digest::of(bytes).to_string();
    let config = serde_json::json!({
        "architecture": ekiben::image::oci::platform::Platform::host().unwrap().architecture(), "os": "linux",
        "config": { "Env": ["FROM_BASE=yes", "PORT=1"], "Cmd": ["never"], "User": user },
        "rootfs": { "type": "layers", "diff_ids": [digest(&lower), digest(&upper)] },
    });
    let manifest = br#"[{"Config":"config.json","RepoTags":[],"Layers":["1.tar","2.tar"]}]"#;
    let config = config.to_string();
    let files: [(&str, &[u8]); 4] =
        [("config.json", config.as_bytes()), ("1.tar", &lower), ("2.tar", &upper), ("manifest.json", manifest)];
    fs::write(to, tar(&files)).unwrap();
}
