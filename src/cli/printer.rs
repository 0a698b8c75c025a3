//! The one gate through which output leaves the program.
//!
//! Results go to stdout, everything else to stderr. On a terminal there are colours and bars; elsewhere plain lines
//! without control codes; with `--output json` results are JSON, and so is each line of the little that is said besides:
//! diagnostics are kept, and are part of the one document with which the program ends on stderr.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anstream::adapter::strip_str;
use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;

use crate::formats::diagnostic::{Diagnostics, Json};
use crate::io::explain::{ErrorKind, Explain, Explanation, carry};
use crate::io::progress::{Event, Sink, TaskId, Unit};

/// The look of what was done: `Built iris:1.0`.
pub const VERB: Style = AnsiColor::Green.on_default().bold();
/// The look of what is beside the point.
pub const DIM: Style = Style::new().dimmed();
/// The look of names.
pub const NAME: Style = AnsiColor::Cyan.on_default();
/// The look of what went wrong.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// The look of what may go wrong.
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// The look of advice.
pub const HINT: Style = AnsiColor::Cyan.on_default().bold();

/// Width of the column in which verbs stand, flush right, as `cargo` has it.
const VERBS: usize = 12;

/// What a line of a task has beside its subject, in columns: the verb, and a time or a count.
const OTHERS: usize = VERBS + 16;

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people.
    Human,
    /// One JSON document on stdout.
    Json,
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Results, warnings and errors.
    Quiet,
    /// What is going on.
    Normal,
    /// Also why.
    Verbose,
}

/// The name of the error that stdout is a pipe which nobody reads any more: whoever closed it has seen enough (`ekiben images |
/// head -1`), and the program ends as one that the kernel ends for it.
pub const CLOSED: &str = "stdout/closed";

/// What was to be said could not be: nothing of the store's, nor of whatever the command was about, is wrong.
#[derive(Debug, thiserror::Error)]
#[error("stdout cannot be written to: {0}")]
struct Unwritten(io::Error);

impl Explain for Unwritten {
    fn explain(&self) -> Explanation {
        match self.0.kind() {
            io::ErrorKind::BrokenPipe => ErrorKind::Failure.named(CLOSED),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                ErrorKind::Failure.named("stdout/full").hint("there is no space left where it is redirected to")
            }
            _ => ErrorKind::Failure.named("stdout/failed"),
        }
    }
}

/// Tells what goes wrong with stdout apart from what goes wrong elsewhere.
fn unwritten(error: io::Error) -> io::Error {
    carry(Unwritten(error))
}

struct Stdout(io::StdoutLock<'static>);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => unwritten(error),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(unwritten)
    }
}

/// A result that can be shown in both ways.
pub trait Report: Serialize {
    /// Writes it for a person.
    ///
    /// # Errors
    /// When `out` fails.
    fn human(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Cheap to clone; see the module.
#[derive(Clone)]
pub struct Printer {
    output: Output,
    verbosity: Verbosity,
    terminal: Arc<Terminal>,
}

impl Printer {
    /// A printer for this process's stdout and stderr.
    pub fn new(output: Output, verbosity: Verbosity, color: clap::ColorChoice) -> Self {
        match color {
            clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
            clap::ColorChoice::Always => anstream::ColorChoice::Always,
            clap::ColorChoice::Never => anstream::ColorChoice::Never,
        }
        .write_global();
        let bars = verbosity >= Verbosity::Normal && output == Output::Human && io::stderr().is_terminal();
        let target = if bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = bars.then(|| MultiProgress::with_draw_target(target));
        Self {
            output,
            verbosity,
            terminal: Arc::new(Terminal { bars, tasks: Mutex::default(), kept: Mutex::default() }),
        }
    }

    /// The same, which says nothing of what was done, unless more than usual is to be said.
    #[must_use]
    pub fn quiet(&self) -> Self {
        let verbosity = if self.is_verbose() { self.verbosity } else { Verbosity::Quiet };
        Self { verbosity, ..self.clone() }
    }

    /// How results are written.
    pub fn output(&self) -> Output {
        self.output
    }

    /// Whether stderr shows colours.
    pub fn colors(&self) -> bool {
        anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never
    }

    /// Writes a result to stdout, in the way that was asked for.
    ///
    /// # Errors
    /// When stdout is closed.
    pub fn report(&self, report: &impl Report) -> io::Result<()> {
        self.above_bars(|| {
            let mut out = anstream::stdout().lock();
            match self.output {
                Output::Human => report.human(&mut out)?,
                Output::Json => {
                    serde_json::to_writer_pretty(&mut out, report)?;
                    writeln!(out)?;
                }
            }
            out.flush()
        })
        .map_err(unwritten)
    }

    /// Writes bytes to stdout as they are: logs, archives, generated scripts.
    ///
    /// # Errors
    /// When stdout is closed.
    pub fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        self.above_bars(|| {
            let mut out = self.stdout();
            out.write_all(bytes)?;
            out.flush()
        })
    }

    /// Stdout for what is long, beside bars.
    pub fn stdout(&self) -> impl Write {
        Stdout(io::stdout().lock())
    }

    /// Says what was done: `Built iris:1.0`.
    pub fn status(&self, verb: &str, text: impl AsRef<str>) {
        if self.verbosity >= Verbosity::Normal && self.output == Output::Human {
            self.line(&format!("{VERB}{verb:>VERBS$}{VERB:#} {}", text.as_ref()));
        }
    }

    /// Writes a line to stderr, above the bars.
    pub fn line(&self, text: &str) {
        // Nothing can be done about a closed stderr.
        let _ = self.above_bars(|| writeln!(anstream::stderr().lock(), "{text}"));
    }

    /// Says what may be done next.
    pub fn advise(&self, text: &str) {
        if self.verbosity >= Verbosity::Normal && self.output == Output::Human {
            self.line(&format!(" {HINT}hint{HINT:#}: {text}"));
        }
    }

    /// Whether it is to be said also why things are as they are.
    pub fn is_verbose(&self) -> bool {
        self.verbosity >= Verbosity::Verbose
    }

    /// Says why something is as it is, where more than usual is to be said.
    pub fn detail(&self, text: &str) {
        if self.verbosity >= Verbosity::Verbose {
            self.line(&match self.output {
                Output::Human => format!("{DIM}{:>VERBS$} {text}{DIM:#}", ""),
                Output::Json => serde_json::json!({ "detail": strip_str(text).to_string() }).to_string(),
            });
        }
    }

    /// Shows a line of a container's log.
    pub fn log(&self, line: &str) {
        self.line(&match self.output {
            Output::Human => format!("{DIM}{:>VERBS$}{DIM:#} {line}", "log"),
            Output::Json => serde_json::json!({ "log": line }).to_string(),
        });
    }

    /// Says what a person should know though all goes on.
    pub fn warn(&self, text: &str) {
        self.line(&match self.output {
            Output::Human => format!("{WARNING}warning{WARNING:#}: {text}"),
            Output::Json => serde_json::json!({ "warning": strip_str(text).to_string() }).to_string(),
        });
    }

    /// Keeps diagnostics for the document with which the program ends.
    pub fn keep(&self, found: &Diagnostics) {
        self.terminal.kept().extend(found.sorted().into_iter().cloned());
    }

    /// What was kept, and is no longer.
    pub fn kept(&self) -> Diagnostics {
        std::mem::take(&mut *self.terminal.kept())
    }

    /// Says what was kept, where nothing failed.
    pub fn say_kept(&self) {
        let kept = self.kept();
        if !kept.is_empty() {
            let diagnostics: Vec<_> = kept.sorted().into_iter().map(Json::from).collect();
            self.line(&serde_json::json!({ "diagnostics": diagnostics }).to_string());
        }
    }

    fn above_bars<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.terminal.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }
}

/// Bars and tasks under way.
struct Terminal {
    bars: Option<MultiProgress>,
    tasks: Mutex<HashMap<TaskId, Shown>>,
    /// Diagnostics that were not said yet.
    kept: Mutex<Diagnostics>,
}

struct Shown {
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Terminal {
    fn tasks(&self) -> MutexGuard<'_, HashMap<TaskId, Shown>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Diagnostics> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Printer {
    fn event(&self, event: Event) {
        match event {
            Event::Started { id, verb, subject, unit, total } => {
                let bar = self.terminal.bars.as_ref().map(|bars| {
                    let bar = bars.add(bar(verb, subject, unit, total));
                    // Not before it is one of the bars: alone, it would draw itself once more.
                    bar.enable_steady_tick(Duration::from_millis(120));
                    bar
                });
                self.terminal.tasks().insert(id, Shown { started: Instant::now(), bar });
            }
            Event::Advanced { id, by } => {
                if let Some(Shown { bar: Some(bar), .. }) = self.terminal.tasks().get(&id) {
                    bar.inc(by);
                }
            }
            Event::Finished { id, summary } => {
                let Some(shown) = self.terminal.tasks().remove(&id) else { return };
                if let Some(bar) = shown.bar {
                    bar.finish_and_clear();
                }
                if let Some(summary) = summary {
                    let (verb, rest) = summary.split_once(' ').unwrap_or((&summary, ""));
                    self.status(verb, format!("{rest} {}", dim_time(shown.started.elapsed())));
                }
            }
            Event::Warning(text) => self.warn(&text),
            Event::Detail(text) => self.detail(&text),
        }
    }
}

/// A bar that shows itself only when the work takes longer than a moment.
fn bar(verb: &'static str, subject: String, unit: Unit, total: Option<u64>) -> ProgressBar {
    let bar = match total {
        Some(total) => ProgressBar::new(total),
        None => ProgressBar::no_length(),
    };
    // Until it is one of the bars, it draws nothing.
    bar.set_draw_target(ProgressDrawTarget::hidden());
    // On a narrow terminal the bar gives way, as a line that wraps is drawn again and again.
    let wide = indicatif::TermLike::width(&console::Term::stderr()) >= 72;
    let template = match (unit, total, wide) {
        (Unit::Bytes, Some(_), true) => "{prefix:>12.green.bold} {msg} [{wide_bar:.cyan/dim}] {size} {rate} {eta}",
        (Unit::Bytes, Some(_), false) => "{prefix:>12.green.bold} {msg} {size} {eta}",
        (Unit::Bytes, None, _) => "{prefix:>12.green.bold} {msg} {size} {rate}",
        (Unit::Items, Some(_), _) => "{prefix:>12.green.bold} {msg} [{wide_bar:.cyan/dim}] {pos}/{len}",
        (Unit::Items, None, _) => "{prefix:>12.green.bold} {msg} {spinner} {elapsed}",
    };
    // The templates are constants that a test reads.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    // A line that wraps is drawn again and again.
    let room = usize::from(indicatif::TermLike::width(&console::Term::stderr())).saturating_sub(OTHERS);
    let subject = match subject.chars().count() > room {
        true => subject.chars().take(room.saturating_sub(1)).chain(['…']).collect(),
        false => subject,
    };
    let style = style
        .with_key("size", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let total = state.len().map(|total| format!("/{}", Size(total))).unwrap_or_default();
            // Writing to a terminal's line cannot fail.
            let _ = write!(out, "{}{total}", Size(state.pos()));
        })
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{}/s", Size(state.per_sec() as u64));
        });
    bar.with_style(style.progress_chars("━╸─")).with_prefix(verb).with_message(subject)
}

/// A foreign text as a terminal may have it: control characters would be obeyed.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// How long something took, in the dim look; nothing where it was but a moment.
pub fn dim_time(time: Duration) -> String {
    if time < Duration::from_millis(1) { String::new() } else { format!("{DIM}in {}{DIM:#}", Time(time)) }
}

/// A duration for a person: `12 ms`, `1.4 s`, `2 min 3 s`.
pub struct Time(pub Duration);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds < 1.0 {
            write!(f, "{:.0} ms", seconds * 1000.0)
        } else if seconds < 60.0 {
            write!(f, "{seconds:.1} s")
        } else {
            write!(f, "{} min {} s", self.0.as_secs() / 60, self.0.as_secs() % 60)
        }
    }
}

/// Rows of fields: for a person on a terminal in columns below their headings, and elsewhere, for programs that read
/// lines, with a tab between the fields and nothing else.
pub struct Table<const N: usize> {
    /// What is in the columns.
    pub headings: [&'static str; N],
    /// The fields.
    pub rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    /// Writes it. Names are the first column, and the last may be of any width.
    ///
    /// # Errors
    /// When `out` fails.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if !for_people() {
            return self.rows.iter().try_for_each(|row| writeln!(out, "{}", row.join("\t")));
        }
        let length = |text: &str| text.chars().count();
        let width = |at: usize| {
            let fields = self.rows.iter().filter_map(|row| row.get(at)).map(|field| length(field));
            fields.chain(self.headings.get(at).map(|heading| length(heading))).max().unwrap_or_default()
        };
        let line = |fields: &[String; N], first: Style, others: Style| {
            let fields = fields.iter().enumerate().map(|(at, field)| {
                let look = if at == 0 { first } else { others };
                let space = if at + 1 == N { 0 } else { width(at).saturating_sub(length(field)) };
                format!("{look}{field}{look:#}{:space$}", "")
            });
            fields.collect::<Vec<_>>().join("  ")
        };
        writeln!(out, "{}", line(&self.headings.map(str::to_owned), DIM, DIM))?;
        self.rows.iter().try_for_each(|row| writeln!(out, "{}", line(row, NAME, Style::new())))
    }
}

/// Whether it is a person who reads stdout.
pub fn for_people() -> bool {
    io::stdout().is_terminal()
}

/// How long ago a moment was, that lies so many seconds after 1970: `3 min ago` for a person, else the moment itself
/// (RFC 3339).
pub fn moment(seconds: u64) -> String {
    if !for_people() {
        let moment = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        return moment.map(|moment| moment.to_string()).unwrap_or_default();
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    age(now.as_secs().saturating_sub(seconds))
}

fn age(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(60, "s"), (60, "min"), (24, "h"), (u64::MAX, "days")];
    let mut number = seconds;
    for (next, unit) in UNITS {
        // `90 min` says more than `1 h`.
        if number < next.saturating_mul(2) {
            return format!("{number} {unit} ago");
        }
        number /= next;
    }
    format!("{number} days ago")
}

/// A size for a person, in powers of 1000 as disks and registries count: `1.4 MB`.
pub struct Size(pub u64);

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut size = self.0 as f64;
        for unit in ["B", "kB", "MB", "GB"] {
            if size < 999.5 {
                let digits = if unit == "B" || size >= 99.5 { 0 } else { 1 };
                return f.pad(&format!("{size:.digits$} {unit}"));
            }
            size /= 1000.0;
        }
        f.pad(&format!("{size:.1} TB"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (18_540_000, "18.5 MB"),
            (999_600, "1.0 MB"),
            (2 << 30, "2.1 GB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
        for (ms, text) in [(12, "12 ms"), (1_400, "1.4 s"), (123_000, "2 min 3 s")] {
            assert_eq!(Time(Duration::from_millis(ms)).to_string(), text);
        }
    }

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [
            (0, "0 s ago"),
            (119, "119 s ago"),
            (120, "2 min ago"),
            (7_000, "116 min ago"),
            (7_200, "2 h ago"),
            (86_400, "24 h ago"),
            (172_800, "2 days ago"),
            (u64::MAX, "213503982334601 days ago"),
        ] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn every_bar_has_its_template() {
        for unit in [Unit::Bytes, Unit::Items] {
            for total in [None, Some(10)] {
                let bar = bar("Testing", "x".to_owned(), unit, total);
                assert_eq!(bar.prefix(), "Testing");
                bar.finish_and_clear();
            }
        }
    }
}
