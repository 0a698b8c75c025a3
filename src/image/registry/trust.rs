//! Whom a connection trusts, and how it shows who it is: certificates beyond those of the system.
//!
//! Docker's and podman's folders are read: `certs.d/HOST[:PORT]/*.crt` are authorities, `NAME.cert` with `NAME.key`
//! is a client's certificate.

use std::path::{Path, PathBuf};

use fs_err as fs;
use reqwest::{Certificate, ClientBuilder, Identity};

use super::Error;

/// The folders in which each host may have one.
fn folders() -> Vec<PathBuf> {
    let home = std::env::home_dir();
    let below = |path: &str| home.as_ref().map(|home| home.join(path));
    [
        Some(PathBuf::from("/etc/docker/certs.d")),
        Some(PathBuf::from("/etc/containers/certs.d")),
        below(".docker/certs.d"),
        below(".config/docker/certs.d"),
        below(".config/containers/certs.d"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Adds the authorities of `ca`, and what the folders have for `host`.
///
/// # Errors
/// When a file cannot be read or holds no certificate.
pub(super) fn configure(builder: ClientBuilder, host: &str, ca: &[PathBuf]) -> Result<ClientBuilder, Error> {
    let mut authorities = ca.to_vec();
    let mut identity = None;
    for folder in folders() {
        let Ok(entries) = fs::read_dir(folder.join(host)) else { continue };
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.sort();
        for file in files {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => authorities.push(file),
                Some("cert") if identity.is_none() => {
                    let mut pem = read(&file)?;
                    pem.push(b'\n');
                    pem.extend(read(&file.with_extension("key"))?);
                    identity = Some(Identity::from_pem(&pem).map_err(|error| unusable(&file, error))?);
                }
                _ => {}
            }
        }
    }
    let mut certificates = Vec::new();
    for file in &authorities {
        let bundle = Certificate::from_pem_bundle(&read(file)?).map_err(|error| unusable(file, error))?;
        if bundle.is_empty() {
            return Err(unusable(file, "there is no certificate in it"));
        }
        certificates.extend(bundle);
    }
    let builder = if certificates.is_empty() { builder } else { builder.tls_certs_merge(certificates) };
    Ok(match identity {
        Some(identity) => builder.identity(identity),
        None => builder,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    Ok(fs::read(path)?)
}

fn unusable(path: &Path, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::File { path: path.display().to_string(), source: why.into() }
}
