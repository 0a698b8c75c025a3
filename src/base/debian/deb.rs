//! A package as a file: an `ar` archive of `debian-binary`, `control.tar` and `data.tar` (deb(5)).
//!
//! The digest of a package is known before it is opened, so an enemy would need Debian's keys; it is read as if he had
//! them. The `ar` container is read here, not by the crate of that name: that one allocates what a header claims, and
//! panics on a name outside of its table.

use std::io::{self, Read, Write};

use crate::io::archive::{self, Entry, Kind, Limits, WHITEOUT};

/// What decompressing xz may take, in bytes of memory.
pub(super) const XZ_MEMORY: u64 = 256 << 20;

/// What is wrong with a package.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// It is not built as packages are.
    #[error("it is no Debian package: {0}")]
    Format(String),
    /// It ends early, or its bytes in the store have rotted.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// An archive inside of it is damaged or hostile.
    #[error("its {member} is damaged or not allowed")]
    Archive {
        /// The archive.
        member: String,
        /// What it holds that is damaged or not allowed.
        source: archive::Error,
    },
    /// The disk said no.
    #[error("its content cannot be written")]
    Write(#[source] io::Error),
}

/// A package that was read.
#[derive(Debug)]
pub(super) struct Deb {
    /// The control paragraph.
    pub(super) control: String,
    /// The script that dpkg would run after unpacking; empty where there is none.
    pub(super) postinst: String,
    /// What it brings, in its own order.
    pub(super) items: Vec<Item>,
}

/// A member of a package's `data.tar`.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) entry: Entry,
    /// Where the content of a file begins in what [`read`] wrote.
    pub(super) offset: u64,
}

/// More than any package in Debian has.
const DATA_LIMITS: Limits = Limits { members: 500_000, bytes: 16 << 30 };
const CONTROL_LIMITS: Limits = Limits { members: 1_000, bytes: 16 << 20 };

/// Reads a package to its end, and writes the contents of its files to `contents`, one behind the other.
pub(super) fn read(mut deb: impl Read, contents: &mut impl Write) -> Result<Deb, DebError> {
    begin(&mut deb)?;
    let (mut control, mut items) = (None, None);
    let mut first = true;
    while let Some((name, size)) = header(&mut deb)? {
        let mut body = (&mut deb).take(size);
        if first {
            let mut version = Vec::new();
            (&mut body).take(4).read_to_end(&mut version).map_err(DebError::Read)?;
            if name != "debian-binary" || !version.starts_with(b"2.") {
                return Err(DebError::Format("it does not begin with `debian-binary` 2.x".to_owned()));
            }
            first = false;
        } else if let Some(compression) = name.strip_prefix("control.tar").filter(|_| control.is_none()) {
            control = Some(read_control(&name, compression, &mut body)?);
        } else if let Some(compression) = name.strip_prefix("data.tar").filter(|_| items.is_none()) {
            items = Some(read_data(&name, compression, &mut body, contents)?);
        } else if items.is_none() && !name.starts_with('_') {
            return Err(DebError::Format(format!("it has the unknown member `{}`", name.escape_default())));
        }
        // What a decompressor left, and the byte that makes the size even. Only a whole stream has a digest to check.
        let rest = body.limit();
        let skipped = io::copy(&mut body, &mut io::sink()).map_err(DebError::Read)?;
        if skipped < rest {
            return Err(DebError::Read(io::ErrorKind::UnexpectedEof.into()));
        }
        io::copy(&mut (&mut deb).take(size % 2), &mut io::sink()).map_err(DebError::Read)?;
    }
    let missing = |member| DebError::Format(format!("it has no {member}"));
    let (control, postinst) = control.ok_or_else(|| missing("control.tar"))?;
    Ok(Deb { control, postinst, items: items.ok_or_else(|| missing("data.tar"))? })
}

/// Reads what every `ar` archive begins with.
fn begin(deb: &mut impl Read) -> Result<(), DebError> {
    let mut magic = [0; 8];
    deb.read_exact(&mut magic).map_err(DebError::Read)?;
    match &magic == b"!<arch>\n" {
        true => Ok(()),
        false => Err(DebError::Format("it is no ar archive".to_owned())),
    }
}

/// The control paragraph of a package; nothing behind it is read.
///
/// # Errors
/// When it has none.
pub fn control(mut deb: impl Read) -> Result<String, DebError> {
    begin(&mut deb)?;
    while let Some((name, size)) = header(&mut deb)? {
        let mut body = (&mut deb).take(size);
        if let Some(compression) = name.strip_prefix("control.tar") {
            return Ok(read_control(&name, compression, &mut body)?.0);
        }
        io::copy(&mut body, &mut io::sink()).map_err(DebError::Read)?;
        io::copy(&mut (&mut deb).take(size % 2), &mut io::sink()).map_err(DebError::Read)?;
    }
    Err(DebError::Format("it has no control.tar".to_owned()))
}

/// The name and size of the next member; none at the end.
fn header(deb: &mut impl Read) -> Result<Option<(String, u64)>, DebError> {
    let mut bytes = Vec::new();
    deb.take(60).read_to_end(&mut bytes).map_err(DebError::Read)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    // Name, time, owner, group, mode: 48 bytes in all; size: 10; end: 2.
    let field = |range: std::ops::Range<usize>| {
        bytes.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::trim_ascii_end)
    };
    match (field(0..16), field(48..58).and_then(|size| size.parse().ok()), bytes.get(58..)) {
        // GNU ar ends names with a slash, dpkg-deb does not.
        (Some(name), Some(size), Some(b"`\n")) => Ok(Some((name.trim_end_matches('/').to_owned(), size))),
        _ => Err(DebError::Format("a header of its ar archive is damaged".to_owned())),
    }
}

/// The decompressed bytes of a member whose name ends in `compression`.
fn decompressed<'a>(name: &str, compression: &str, body: impl Read + 'a) -> Result<Box<dyn Read + 'a>, DebError> {
    Ok(match compression {
        "" => Box::new(body),
        ".gz" => Box::new(flate2::read::GzDecoder::new(body)),
        ".xz" => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0);
            let stream = stream.map_err(|error| DebError::Read(error.into()))?;
            Box::new(liblzma::read::XzDecoder::new_stream(body, stream))
        }
        ".zst" => Box::new(zstd::Decoder::new(body).map_err(DebError::Read)?),
        _ => return Err(DebError::Format(format!("`{}` is compressed in an unknown way", name.escape_default()))),
    })
}

/// Reads the members of an archive within a package.
fn members(
    name: &str,
    compression: &str,
    body: impl Read,
    limits: Limits,
    mut visit: impl FnMut(archive::Member<'_>) -> Result<(), DebError>,
) -> Result<(), DebError> {
    /// Keeps apart what the archive's reader says and what the visitor says.
    enum Failure {
        Archive(archive::Error),
        Visit(DebError),
    }
    impl From<archive::Error> for Failure {
        fn from(error: archive::Error) -> Self {
            Self::Archive(error)
        }
    }
    let archive = decompressed(name, compression, body)?;
    let result = archive::Reader::new(archive, limits).for_each(|member| visit(member).map_err(Failure::Visit));
    result.map_err(|failure| match failure {
        Failure::Archive(source) => DebError::Archive { member: name.to_owned(), source },
        Failure::Visit(error) => error,
    })
}

fn read_control(name: &str, compression: &str, body: impl Read) -> Result<(String, String), DebError> {
    let (mut control, mut postinst) = (String::new(), String::new());
    members(name, compression, body, CONTROL_LIMITS, |member| {
        let text = match member.entry.path.as_str() {
            "control" => &mut control,
            "postinst" => &mut postinst,
            _ => return Ok(()),
        };
        let mut bytes = Vec::new();
        member.content.read_to_end(&mut bytes).map_err(DebError::Read)?;
        *text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(())
    })?;
    if control.is_empty() {
        return Err(DebError::Format(format!("its {name} has no `control`")));
    }
    Ok((control, postinst))
}

fn read_data(name: &str, compression: &str, body: impl Read, contents: &mut impl Write) -> Result<Vec<Item>, DebError> {
    let mut items = Vec::new();
    let mut offset = 0;
    members(name, compression, body, DATA_LIMITS, |member| {
        // In a layer such a name would remove something (OCI image specification 1.1, `layer.md`, section "Whiteouts").
        if member.entry.path.as_str().split('/').any(|name| name.starts_with(WHITEOUT)) {
            return Err(DebError::Format(format!("`{}` would remove files from the image", member.entry.path)));
        }
        let mut item = Item { entry: member.entry, offset };
        if let Kind::File { size } = item.entry.kind {
            copy(member.content, contents, size)?;
            offset += size;
        } else if let Kind::Directory = item.entry.kind {
            item.entry.mode |= 0o700;
        }
        items.push(item);
        Ok(())
    })?;
    Ok(items)
}

/// Copies exactly `size` bytes, and tells whose fault it is when that fails.
fn copy(content: &mut dyn Read, contents: &mut impl Write, size: u64) -> Result<(), DebError> {
    let mut buffer = [0; 1 << 14];
    let mut left = size;
    while left > 0 {
        let taken = match content.read(&mut buffer) {
            Ok(0) => return Err(DebError::Read(io::ErrorKind::UnexpectedEof.into())),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(DebError::Read(error)),
        };
        contents.write_all(buffer.get(..taken).unwrap_or_default()).map_err(DebError::Write)?;
        left = left.saturating_sub(taken as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ar, deb, file, path, tar, xz};
    use super::*;
    use crate::io::archive::Mode;

    fn whole() -> Vec<u8> {
        deb("Package: a\nVersion: 1\n", "true\n", &[file("./usr/a", "one"), file("usr/b", "two")])
    }

    fn read_bytes(bytes: &[u8]) -> Result<(Deb, Vec<u8>), DebError> {
        let mut contents = Vec::new();
        read(bytes, &mut contents).map(|deb| (deb, contents))
    }

    #[test]
    fn every_compression_is_read() {
        let control = tar(&[file("control", "Package: a\n")]);
        let data = tar(&[file("usr/a", "one")]);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&data).unwrap();
        let members: [(&str, Vec<u8>); 4] = [
            ("data.tar", data.clone()),
            ("data.tar.gz", gz.finish().unwrap()),
            ("data.tar.xz", xz(&data)),
            ("data.tar.zst", zstd::encode_all(&data[..], 1).unwrap()),
        ];
        for (name, bytes) in members {
            let parts: [(&str, &[u8]); 3] = [("debian-binary", b"2.0\n"), ("control.tar", &control), (name, &bytes)];
            let (deb, contents) = read_bytes(&ar(&parts)).unwrap();
            assert_eq!((deb.items.len(), contents.as_slice()), (1, &b"one"[..]), "{name}");
        }
    }

    #[test]
    fn a_package_is_read_in_its_own_order() {
        let (deb, contents) = read_bytes(&whole()).unwrap();
        assert_eq!((deb.control.as_str(), deb.postinst.as_str()), ("Package: a\nVersion: 1\n", "true\n"));
        assert_eq!(control(&whole()[..]).unwrap(), deb.control);
        assert!(control(&ar(&[("debian-binary", b"2.0\n")])[..]).is_err());
        assert_eq!(deb.items.iter().map(|item| item.offset).collect::<Vec<_>>(), [0, 3]);
        assert_eq!(contents, b"onetwo");
    }

    #[test]
    fn a_stump_is_never_taken_for_a_package() {
        let whole = whole();
        for length in 0..whole.len() {
            // All is there when only the byte that makes the last size even is missing.
            let padded = length + 1 == whole.len() && whole.ends_with(b"\n");
            assert!(padded || read_bytes(&whole[..length]).is_err(), "{length} of {} bytes", whole.len());
        }
    }

    #[test]
    fn what_is_no_package_is_refused() {
        let control = xz(&tar(&[file("control", "Package: a\n")]));
        let data = xz(&tar(&[file("usr/a", "one")]));
        let binary: (&str, &[u8]) = ("debian-binary", b"2.0\n");
        let cases: [&[(&str, &[u8])]; 7] = [
            &[binary],
            &[binary, ("control.tar.xz", &control)],
            &[binary, ("data.tar.xz", &data)],
            &[("control.tar.xz", &control), ("data.tar.xz", &data)],
            &[("debian-binary", b"3.0\n"), ("control.tar.xz", &control), ("data.tar.xz", &data)],
            &[binary, ("other", b"x"), ("control.tar.xz", &control), ("data.tar.xz", &data)],
            &[binary, ("control.tar.xz", &control), ("data.tar.lzma", &data)],
        ];
        for members in cases {
            assert!(matches!(read_bytes(&ar(members)), Err(DebError::Format(_))), "{members:?}");
        }
        let swapped = ar(&[binary, ("control.tar.xz", &control), ("data.tar.gz", &data)]);
        assert!(matches!(read_bytes(&swapped), Err(DebError::Archive { .. })));
    }

    #[test]
    fn members_that_reach_outside_are_refused() {
        use crate::io::archive::testing::forged;
        use tar::EntryType as T;
        for (data, expected) in [
            (forged(&[("../x", T::Regular, "")]), "leaves"),
            (forged(&[("/etc/passwd", T::Regular, "")]), "leaves"),
            (forged(&[("a/../../x", T::Regular, "")]), "leaves"),
            (forged(&[("x", T::Link, "../../etc/passwd")]), "leaves"),
            (forged(&[("dev/sda", T::Block, "")]), "device node"),
            (forged(&[("pipe", T::Fifo, "")]), "named pipe"),
            (forged(&[("usr/.wh.lib", T::Regular, "")]), "would remove"),
        ] {
            let control = tar(&[file("control", "Package: a\n")]);
            let parts: [(&str, &[u8]); 3] =
                [("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", &data)];
            let error = crate::io::explain::with_causes(&read_bytes(&ar(&parts)).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let entry = Entry::file(path("usr/zeros"), DATA_LIMITS.bytes + 1, Mode::Plain);
        let data = crate::io::archive::header(&entry, 0);
        let control = tar(&[file("control", "Package: a\n")]);
        let parts: [(&str, &[u8]); 3] = [("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", &data)];
        let error = read_bytes(&ar(&parts)).unwrap_err();
        assert!(matches!(error, DebError::Archive { source: archive::Error::TooLarge { .. }, .. }), "{error:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            let _ = read_bytes(&bytes);
            let _ = read_bytes(&[&b"!<arch>\n"[..], &bytes].concat());
        }

        #[test]
        fn any_change_of_a_package_can_be_read(at in 0usize..800, byte: u8) {
            let mut bytes = whole();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = read_bytes(&bytes);
        }
    }
}
