//! Archives for tests.

/// An archive as no honest program writes it: the name goes into the header as it is.
pub fn forged(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, kind, link) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_size(0);
        header.set_uid(0);
        header.set_gid(0);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
    }
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}
