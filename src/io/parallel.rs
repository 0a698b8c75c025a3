//! Work on all processors whose results come in the order in which it was given.
//!
//! Invariant: neither the order nor the results depend on the number of processors, and only so many pieces are under
//! way at once that memory stays flat.

use std::collections::VecDeque;
use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// What one worker does to a piece: it may keep memory from one piece to the next.
pub type Work = Box<dyn FnMut(&[u8]) -> io::Result<Vec<u8>> + Send>;

/// A piece that is done.
pub struct Done {
    /// As it was given.
    pub input: Vec<u8>,
    /// What came of it.
    pub output: Vec<u8>,
}

/// Processors that one process uses. More would need more memory than they are worth.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(16)
}

/// Does `work` to each of `items`, as many at once as there are processors, the last first.
///
/// # Errors
/// The first of those that `work` gives; then what is not begun is left.
pub fn side_by_side<T: Send, E: Send>(items: Vec<T>, work: impl Fn(T) -> Result<(), E> + Sync) -> Result<(), E> {
    side_by_side_on(threads(), items, work)
}

/// The same, `most` at once: of work that waits more than it computes.
///
/// # Errors
/// As [`side_by_side`].
pub fn side_by_side_on<T: Send, E: Send>(
    most: usize,
    items: Vec<T>,
    work: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).pop();
    std::thread::scope(|scope| {
        let worker = || {
            while let Some(item) = next() {
                work(item).inspect_err(|_| items.lock().unwrap_or_else(PoisonError::into_inner).clear())?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..most).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Does two things at once.
///
/// # Errors
/// That of the first, or else that of the second.
pub fn both<A, B: Send, E: Send>(
    first: impl FnOnce() -> Result<A, E>,
    second: impl FnOnce() -> Result<B, E> + Send,
) -> Result<(A, B), E> {
    std::thread::scope(|scope| {
        let second = scope.spawn(second);
        let first = first();
        let second = second.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok((first?, second?))
    })
}

struct Job {
    input: Vec<u8>,
    done: SyncSender<io::Result<Done>>,
}

/// Workers, and what is under way. They end when this is dropped.
pub struct Pool {
    jobs: Sender<Job>,
    under_way: VecDeque<Receiver<io::Result<Done>>>,
    most: usize,
}

impl Pool {
    /// Starts `threads` workers; `work` is asked for the work of each.
    pub fn new(threads: usize, work: impl Fn() -> Work) -> Self {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads {
            let (queue, mut work) = (queue.clone(), work());
            std::thread::spawn(move || {
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok(Job { input, done }) = next() {
                    let result = work(&input).map(|output| Done { input, output });
                    // Whoever asked may have given up.
                    let _ = done.send(result);
                }
            });
        }
        // More than they have in hand, so that none waits.
        Self { jobs, under_way: VecDeque::new(), most: threads + 2 }
    }

    /// Whether [`Pool::take`] has to be called before more is given.
    pub fn is_full(&self) -> bool {
        self.under_way.len() >= self.most
    }

    /// Gives a piece of work.
    pub fn give(&mut self, input: Vec<u8>) {
        let (done, result) = sync_channel(1);
        // If all workers are gone, so is `done`, and whoever waits for the result hears of it.
        let _ = self.jobs.send(Job { input, done });
        self.under_way.push_back(result);
    }

    /// Waits for the oldest piece under way; none when there is none.
    pub fn take(&mut self) -> Option<io::Result<Done>> {
        let result = self.under_way.pop_front()?;
        Some(result.recv().unwrap_or_else(|_| Err(io::Error::other("a worker ended before its work was done"))))
    }
}
