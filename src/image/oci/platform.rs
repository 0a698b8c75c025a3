//! The platform that an image is made for, in the spelling of everybody who needs to be told.
//!
//! OCI image specification 1.1, `config.md` (`os`, `architecture`, after Go's GOOS and GOARCH).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::io::explain::{ErrorKind, Explain, Explanation};

/// A Linux platform that Ekiben builds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Platform {
    /// 64-bit x86.
    #[serde(rename = "linux/amd64")]
    Amd64,
    /// 64-bit Arm.
    #[serde(rename = "linux/arm64")]
    Arm64,
}

/// The text names no platform that Ekiben can build for.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a platform that ekiben builds for: use linux/amd64 or linux/arm64")]
pub struct UnknownPlatform(String);

impl Explain for UnknownPlatform {
    fn explain(&self) -> Explanation {
        ErrorKind::Failure.named("platform/unknown")
    }
}

impl Platform {
    /// Every platform there is.
    pub const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// The platform of this machine.
    ///
    /// # Errors
    /// On processors that images are not built for.
    pub fn host() -> Result<Self, UnknownPlatform> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => Err(UnknownPlatform(format!("linux/{other}"))),
        }
    }

    /// Those of `named`, each once and in order; this machine's where none is.
    ///
    /// # Errors
    /// As [`Platform::host`].
    pub fn named_or_host(named: &[Self]) -> Result<Vec<Self>, UnknownPlatform> {
        let mut platforms = named.to_vec();
        platforms.sort();
        platforms.dedup();
        if platforms.is_empty() {
            platforms.push(Self::host()?);
        }
        Ok(platforms)
    }

    /// The OCI (Go) name of the processor, which is Debian's name too.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The kernel's name of the processor (`uname -m`), as wheels and GNU triplets use it.
    pub fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// Debian's multiarch folder, below `/usr/lib`.
    pub fn multiarch(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }
}

/// A platform as a document names it; Ekiben need not know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// As `linux`.
    pub os: String,
    /// As `amd64`.
    pub architecture: String,
}

impl Named {
    /// The one that is built for.
    ///
    /// # Errors
    /// When there is none.
    pub fn known(&self) -> Result<Platform, UnknownPlatform> {
        self.to_string().parse()
    }
}

impl From<Platform> for Named {
    fn from(platform: Platform) -> Self {
        Self { os: "linux".to_owned(), architecture: platform.architecture().to_owned() }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.architecture())
    }
}

impl FromStr for Platform {
    type Err = UnknownPlatform;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|platform| text == platform.to_string())
            .ok_or_else(|| UnknownPlatform(text.to_owned()))
    }
}
