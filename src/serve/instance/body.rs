//! The bytes behind the head of a request or an answer, passed on piece by piece as they come.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Sleep;

use super::Visit;
use crate::serve::tally::Tally;

/// A body on its way.
#[derive(Debug)]
pub enum Body {
    /// All of it, known beforehand.
    Whole(Option<Bytes>),
    /// A caller's.
    Asked(Asked),
    /// A model's.
    Answer(Box<Answer>),
}

/// The body of a request, which its caller sends at their own pace, but not without end.
#[derive(Debug)]
pub struct Asked {
    incoming: Incoming,
    patience: Duration,
    /// Runs while nothing comes.
    pause: Option<Pin<Box<Sleep>>>,
    fault: Arc<OnceLock<Fault>>,
}

/// Why a request's body has no end. It is told to whoever waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing came for too long.
    #[error("nothing came of the request's body for too long")]
    Slow,
    /// It broke off, or is not written as its head says.
    #[error("the request's body broke off, or is not what its head says")]
    Broken,
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

    /// The body of a request, of which something has to come within any time of the length `patience`.
    pub fn asked(incoming: Incoming, patience: Duration) -> Self {
        Self::Asked(Asked { incoming, patience, pause: None, fault: Arc::default() })
    }

    /// Where it is written why it had no end; nowhere for what is no caller's.
    pub fn fault(&self) -> Option<Arc<OnceLock<Fault>>> {
        match self {
            Self::Asked(asked) => Some(Arc::clone(&asked.fault)),
            Self::Whole(_) | Self::Answer(_) => None,
        }
    }
}

impl Asked {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let fault = match http_body::Body::poll_frame(Pin::new(&mut self.incoming), context) {
            Poll::Ready(Some(Err(_))) => Fault::Broken,
            Poll::Ready(frame) => {
                self.pause = None;
                return Poll::Ready(frame.map(|frame| frame.map_err(Error::from)));
            }
            Poll::Pending => {
                let patience = self.patience;
                let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                std::task::ready!(pause.as_mut().poll(context));
                Fault::Slow
            }
        };
        let _ = self.fault.set(fault);
        Poll::Ready(Some(Err(fault.into())))
    }
}

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's fault.
    #[error(transparent)]
    Asked(#[from] Fault),
    /// The connection.
    #[error(transparent)]
    Connection(#[from] hyper::Error),
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(Some(bytes.into()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Asked(asked) => asked.poll(context),
            Self::Answer(answer) => {
                let frame = Pin::new(&mut answer.incoming).poll_frame(context);
                answer.is_over |= matches!(frame, Poll::Ready(None));
                frame.map(|frame| frame.map(|frame| frame.map_err(Error::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Asked(asked) => asked.incoming.is_end_stream(),
            Self::Answer(answer) => answer.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Asked(asked) => asked.incoming.size_hint(),
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
