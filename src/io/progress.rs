//! Events that say what is going on. The library emits them; whoever started it decides what they look like.
//!
//! Invariant: the library prints nothing. A [`Task`] that was started always finishes, also when it fails.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::io::digest::{Digest, Hasher};

/// What a task counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Packages, wheels, files: the subject says what.
    Items,
}

/// Names a task among those under way in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskId(u64);

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Work began that may take longer than a moment.
    Started {
        /// Names the task in later events.
        id: TaskId,
        /// What is done, in the present participle, capitalised: `Downloading`.
        verb: &'static str,
        /// To what: `41 Debian packages`.
        subject: String,
        /// What is counted.
        unit: Unit,
        /// How much there is to do, where it is known.
        total: Option<u64>,
    },
    /// A part of a task is done: so much more than before.
    Advanced {
        /// The task.
        id: TaskId,
        /// In the task's unit.
        by: u64,
    },
    /// A task ended, well or not (then an error follows on another way).
    Finished {
        /// The task.
        id: TaskId,
        /// In the past tense with its result, where there is something to say: `Downloaded 41 Debian packages`.
        summary: Option<String>,
    },
    /// Something that a person should know though all goes on.
    Warning(String),
    /// Something that only a person who looks for a reason wants to know (`--verbose`).
    Detail(String),
}

/// Takes events. Called from any thread.
pub trait Sink: Send + Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Where events go. Cheap to clone.
#[derive(Clone)]
pub struct Progress {
    sink: Arc<dyn Sink>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

impl Progress {
    /// Events go to `sink`.
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self { sink }
    }

    /// Events go nowhere.
    pub fn silent() -> Self {
        struct Nobody;
        impl Sink for Nobody {
            fn event(&self, _: Event) {}
        }
        Self::new(Arc::new(Nobody))
    }

    /// Starts a task; see [`Event::Started`] for the words.
    pub fn task(&self, verb: &'static str, subject: impl Into<String>, unit: Unit, total: Option<u64>) -> Task {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = TaskId(NEXT.fetch_add(1, Ordering::Relaxed));
        self.sink.event(Event::Started { id, verb, subject: subject.into(), unit, total });
        Task { id, progress: self.clone(), finished: false }
    }

    /// Emits [`Event::Warning`].
    pub fn warn(&self, text: impl Into<String>) {
        self.sink.event(Event::Warning(text.into()));
    }

    /// Emits [`Event::Detail`].
    pub fn detail(&self, text: impl Into<String>) {
        self.sink.event(Event::Detail(text.into()));
    }
}

/// Work under way. Finishes when dropped.
#[derive(Debug)]
pub struct Task {
    id: TaskId,
    progress: Progress,
    finished: bool,
}

impl Task {
    /// So much more is done, in the task's unit.
    pub fn advance(&self, by: u64) {
        self.progress.sink.event(Event::Advanced { id: self.id, by });
    }

    /// Passes `reader` on, advancing by the bytes that are read.
    pub fn reading<R: Read>(&self, reader: R) -> Reading<'_, R> {
        Reading { reader, task: self }
    }

    /// Reads `reader` to its end, advancing by the bytes, and gives their digest and number.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn hash(&self, reader: impl Read) -> io::Result<(Digest, u64)> {
        let mut hasher = Hasher::new();
        let size = self.copy(reader, |bytes| {
            hasher.update(bytes);
            Ok(())
        })?;
        Ok((hasher.finish(), size))
    }

    /// Reads `reader` to its end, advancing by the bytes, and hands them to `take`. Gives their number.
    ///
    /// # Errors
    /// Those of the reader and of `take`.
    pub fn copy(&self, mut reader: impl Read, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<u64> {
        const LARGE: usize = 1 << 20;
        // Small files are many, and a large buffer for each costs more than they do.
        let mut buffer = vec![0; 1 << 16];
        let mut size = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(size),
                Ok(taken) => {
                    take(&buffer[..taken])?;
                    size += taken as u64;
                    self.advance(taken as u64);
                    if taken == buffer.len() && taken < LARGE {
                        buffer = vec![0; LARGE];
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends the task with a line for the person.
    pub fn finish(mut self, summary: impl Into<String>) {
        self.finished = true;
        self.progress.sink.event(Event::Finished { id: self.id, summary: Some(summary.into()) });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if !self.finished {
            self.progress.sink.event(Event::Finished { id: self.id, summary: None });
        }
    }
}

/// See [`Task::reading`].
pub struct Reading<'a, R> {
    reader: R,
    task: &'a Task,
}

impl<R: Read> Read for Reading<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.reader.read(buffer)?;
        self.task.advance(taken as u64);
        Ok(taken)
    }
}
