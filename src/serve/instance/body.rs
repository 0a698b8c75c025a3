//! The bytes behind the head of a request or an answer, passed on piece by piece as they come.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;

use super::Visit;
use crate::serve::tally::Tally;

/// A body on its way.
#[derive(Debug)]
pub enum Body {
    /// All of it, known beforehand.
    Whole(Option<Bytes>),
    /// A caller's.
    Request(Incoming),
    /// A model's.
    Answer(Box<Answer>),
}

/// The body of a model's answer, and what is held until it is over or nobody wants it any more.
#[derive(Debug)]
pub struct Answer {
    /// Its bytes.
    pub incoming: Incoming,
    /// The connection that it comes on; given back when all of it was read.
    pub connection: Option<SendRequest<Body>>,
    /// The place in the container.
    pub visit: Visit,
    /// Where it is counted.
    pub tally: Arc<Tally>,
    /// When the request came.
    pub since: Instant,
    /// Whether all of it was read.
    pub is_over: bool,
}

impl Body {
    /// Nothing.
    pub fn none() -> Self {
        Self::Whole(None)
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(Some(bytes.into()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Request(incoming) => Pin::new(incoming).poll_frame(context),
            Self::Answer(answer) => {
                let frame = Pin::new(&mut answer.incoming).poll_frame(context);
                answer.is_over |= matches!(frame, Poll::Ready(None));
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Request(incoming) => incoming.is_end_stream(),
            Self::Answer(answer) => answer.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Request(incoming) => incoming.size_hint(),
            Self::Answer(answer) => answer.incoming.size_hint(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.tally.took(self.since.elapsed());
        self.visit.instance().answered.fetch_add(1, Ordering::Relaxed);
        // Where it is not over, the connection ends with it, by which the model learns that nobody listens any more.
        if (self.is_over || http_body::Body::is_end_stream(&self.incoming))
            && let Some(connection) = self.connection.take()
        {
            self.visit.instance().give_back(connection);
        }
    }
}
