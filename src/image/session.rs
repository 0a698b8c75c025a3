//! What every step of the way needs: where things are kept, where events go, and whether the network may be used.

use crate::image::store::Store;
use crate::io::http::Client;
use crate::io::progress::Progress;

/// What becomes of a layer that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Making {
    /// It is compressed, for whoever gets the image.
    Compressed,
    /// It is unpacked too while it is compressed: it is needed here at once.
    Both,
    /// It is unpacked, as it is needed here, and compressed when somebody needs that.
    Unpacked,
}

impl Making {
    /// The same of a layer that is needed here at once in any case.
    pub fn needed_here(self) -> Self {
        match self {
            Self::Compressed | Self::Both => Self::Both,
            Self::Unpacked => Self::Unpacked,
        }
    }
}

/// Handed to each step by whoever started it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Session {
    /// Where blobs, images and caches live.
    pub store: Store,
    /// Where events go.
    pub progress: Progress,
    /// The way to the network.
    pub client: Client,
    /// What becomes of the layers that are made.
    pub making: Making,
}
