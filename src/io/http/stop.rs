//! Waiting: for the network or for a while, until it comes, the time is over, or nobody waits any more.
//!
//! reqwest's blocking client hands bodies over in pieces of 8 KiB and cannot watch for a stalled upload, so its
//! asynchronous one runs on two threads, which all clients of this process share.

use std::io;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{Either, pending, select};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// The threads on which connections are served. They are started when they are first asked for.
pub(super) fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    match RUNTIME.get() {
        Some(runtime) => Ok(runtime),
        None => {
            let built = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            Ok(RUNTIME.get_or_init(|| built))
        }
    }
}

/// Says to all that wait with it that nobody needs what they wait for. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Stop(Arc<watch::Sender<bool>>);

/// Why something did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupted {
    /// Nobody waits any more.
    Stopped,
    /// The time is over.
    Late,
}

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Stop {
    pub(super) fn stop(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for `work`, for `most` at most.
    pub(super) fn wait<T>(
        &self,
        runtime: &Runtime,
        work: impl Future<Output = T>,
        most: Option<Duration>,
    ) -> Result<T, Interrupted> {
        let mut receiver = self.0.subscribe();
        runtime.block_on(async {
            let work = async {
                match most {
                    Some(most) => tokio::time::timeout(most, work).await.map_err(|_| Interrupted::Late),
                    None => Ok(work.await),
                }
            };
            match select(pin!(receiver.wait_for(|stopped| *stopped)), pin!(work)).await {
                Either::Left(_) => Err(Interrupted::Stopped),
                Either::Right((result, _)) => result,
            }
        })
    }

    /// Lets `time` pass, unless it is stopped.
    pub(super) fn pause(&self, time: Duration) {
        match runtime() {
            Ok(runtime) => drop(self.wait(runtime, pending::<()>(), Some(time))),
            Err(_) => std::thread::sleep(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_is_told_that_nobody_needs_it() {
        let runtime = runtime().unwrap();
        let stop = Stop::default();
        assert_eq!(stop.wait(runtime, async { 1 }, None), Ok(1));
        assert_eq!(stop.wait(runtime, pending::<()>(), Some(Duration::ZERO)), Err(Interrupted::Late));
        let waiting = std::thread::spawn({
            let stop = stop.clone();
            move || stop.wait(runtime, pending::<()>(), None)
        });
        stop.stop();
        assert_eq!(waiting.join().unwrap(), Err(Interrupted::Stopped));
        assert!(stop.is_stopped());
        // Nor is anything begun, and no time passes.
        assert_eq!(stop.wait(runtime, async { 1 }, None), Err(Interrupted::Stopped));
        stop.pause(Duration::MAX);
    }
}
