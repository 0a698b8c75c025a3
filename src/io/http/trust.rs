//! Whom a connection trusts, and how it shows who it is: certificates beyond those of the system.

use std::path::{Path, PathBuf};

use fs_err as fs;
use reqwest::{Certificate, ClientBuilder, Identity};
use url::Url;

use super::{Error, authority};

/// Files with certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Trust {
    authorities: Vec<PathBuf>,
    /// That of the client. Its key lies beside it, with `.key`.
    identity: Option<PathBuf>,
}

impl Trust {
    /// The authorities of `ca`, and what `folders` have for the host of `url`, each in a folder of its own: `*.crt` are
    /// authorities, `NAME.cert` with `NAME.key` is a client's certificate.
    pub(super) fn of(url: &Url, ca: &[PathBuf], folders: &[PathBuf]) -> Self {
        let mut trust = Self { authorities: ca.to_vec(), identity: None };
        let host = authority(url);
        for folder in folders {
            let Ok(entries) = fs::read_dir(folder.join(&host)) else { continue };
            let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            files.sort();
            for file in files {
                match file.extension().and_then(|extension| extension.to_str()) {
                    Some("crt") => trust.authorities.push(file),
                    Some("cert") if trust.identity.is_none() => trust.identity = Some(file),
                    _ => {}
                }
            }
        }
        trust
    }

    /// Adds them to what a client trusts.
    ///
    /// # Errors
    /// [`Error::Certificates`] when a file cannot be read or holds no certificate.
    pub(super) fn configure(&self, mut builder: ClientBuilder) -> Result<ClientBuilder, Error> {
        let mut certificates = Vec::new();
        for file in &self.authorities {
            let bundle = Certificate::from_pem_bundle(&read(file)?).map_err(|error| unusable(file, error))?;
            if bundle.is_empty() {
                return Err(unusable(file, "there is no certificate in it"));
            }
            certificates.extend(bundle);
        }
        if !certificates.is_empty() {
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(file) = &self.identity {
            let mut pem = read(file)?;
            pem.push(b'\n');
            pem.extend(read(&file.with_extension("key"))?);
            builder = builder.identity(Identity::from_pem(&pem).map_err(|error| unusable(file, error))?);
        }
        Ok(builder)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Certificates { path: path.to_owned(), source: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_its_own_folder_of_certificates() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("r.example:5000");
        fs::create_dir(&folder).unwrap();
        for file in ["b.crt", "a.crt", "me.cert", "me.key", "other.cert", "README"] {
            fs::write(folder.join(file), "").unwrap();
        }
        let ca = [PathBuf::from("/ca.pem")];
        let folders = [home.path().to_owned(), home.path().join("missing")];
        let of = |url: &str| Trust::of(&url.parse().unwrap(), &ca, &folders);
        let theirs = of("https://r.example:5000/v2/");
        assert_eq!(theirs.authorities, ["/ca.pem".into(), folder.join("a.crt"), folder.join("b.crt")]);
        assert_eq!(theirs.identity, Some(folder.join("me.cert")));
        assert_eq!(of("https://r.example/v2/"), Trust { authorities: ca.to_vec(), identity: None });
        let error = theirs.configure(ClientBuilder::new()).unwrap_err();
        assert_eq!(error.to_string(), "/ca.pem cannot be used");
        let empty = Trust { authorities: vec![folder.join("a.crt")], identity: None };
        let Err(Error::Certificates { source, .. }) = empty.configure(ClientBuilder::new()) else { panic!() };
        assert_eq!(source.to_string(), "there is no certificate in it");
    }
}
