//! What every step of the way needs: where things are kept, where events go, and whether the network may be used.

use crate::image::store::Store;
use crate::io::http::Client;
use crate::io::progress::Progress;

/// Handed to each step by whoever started it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Session {
    /// Where blobs, images and caches live.
    pub store: Store,
    /// Where events go.
    pub progress: Progress,
    /// The way to the network.
    pub client: Client,
}
