//! Tracebacks of Python for a person: what broke, and the lines of their own code on the way there. What the service, its
//! libraries and Python itself did around it is folded into one line.
//!
//! The form is that of CPython's `traceback` module, and of `faulthandler` where a process tells where it is.

/// How much is shown of tracebacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The person's own frames, and the innermost.
    Folded,
    /// As Python wrote it.
    Whole,
}

/// The header of a traceback, and that of a thread in a dump of `faulthandler`.
const HEADER: &str = "Traceback (most recent call last):";
const DUMPED: &str = "(most recent call first):";

/// The lines of a text, with its tracebacks folded.
pub(super) fn folded(lines: &[&str], extent: Extent) -> Vec<String> {
    let mut shown = Vec::new();
    let mut rest = lines;
    while let [line, after @ ..] = rest {
        let is_dump = is_dump(line);
        if line.trim_end() != HEADER && !is_dump {
            shown.push((*line).to_owned());
            rest = after;
            continue;
        }
        let (frames, after) = frames(after);
        let count = if is_dump { 0 } else { message(after, extent) };
        let (message, after) = after.split_at(count);
        rest = after;
        if is_dump {
            shown.push((*line).to_owned());
        }
        shown.extend(message.iter().map(|line| (*line).to_owned()));
        shown.extend(fold(&frames, is_dump));
    }
    shown
}

/// Where a process was in the person's own code when it said where it is, from the last lines of its log.
pub fn place(lines: &[String]) -> Option<String> {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let begins = lines.iter().rposition(|line| line.starts_with("Current thread") && line.ends_with(DUMPED))?;
    let (frames, _) = frames(lines.get(begins + 1..)?);
    frames.iter().find(|frame| frame.is_own()).map(Frame::place)
}

/// Whether a line begins with what a thread of a process was at.
pub(super) fn is_dump(line: &str) -> bool {
    line.ends_with(DUMPED)
}

/// How far the words of an exception go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// To the next exception, or the end of the text: nothing else is in it.
    Text,
    /// Over lines that are set in: what comes then is something else.
    Line,
}

/// How many lines the words of an exception have.
fn message(lines: &[&str], extent: Extent) -> usize {
    let ends = |(at, line): (usize, &&str)| {
        let is_between = line.is_empty() && lines.get(at + 1).is_some_and(|next| is_link(next));
        let is_other = extent == Extent::Line && at > 0 && !line.starts_with(' ');
        is_between || is_other || line.trim_end() == HEADER
    };
    lines.iter().enumerate().position(ends).unwrap_or(lines.len())
}

/// What Python says between two exceptions of which one led to the other.
fn is_link(line: &str) -> bool {
    line.starts_with("The above exception was the direct cause")
        || line.starts_with("During handling of the above exception")
}

/// A step on the way to where it broke.
struct Frame<'a> {
    path: &'a str,
    line: &'a str,
    function: &'a str,
    /// The source, and marks below it.
    source: Vec<&'a str>,
}

fn frames<'a, 's>(mut lines: &'s [&'a str]) -> (Vec<Frame<'a>>, &'s [&'a str]) {
    let mut frames: Vec<Frame<'a>> = Vec::new();
    while let [line, after @ ..] = lines {
        match (Frame::read(line), frames.last_mut()) {
            (Some(frame), _) => frames.push(frame),
            (None, Some(frame)) if line.starts_with("    ") || line.starts_with("  [Previous line") => {
                frame.source.push(line)
            }
            // faulthandler leaves out what goes on and on.
            (None, Some(_)) if line.trim() == "..." => {}
            _ => break,
        }
        lines = after;
    }
    (frames, lines)
}

fn fold(frames: &[Frame<'_>], is_dump: bool) -> Vec<String> {
    let innermost = if is_dump { 0 } else { frames.len().saturating_sub(1) };
    let mut shown = Vec::new();
    let mut left_out = 0;
    for (at, frame) in frames.iter().enumerate() {
        if frame.is_own() || at == innermost {
            shown.extend(frame.show());
        } else {
            left_out += 1;
        }
    }
    match left_out {
        0 => {}
        1 => shown.push("  … and 1 frame of the service or a library (-v)".to_owned()),
        count => shown.push(format!("  … and {count} frames of the service and libraries (-v)")),
    }
    shown
}

impl<'a> Frame<'a> {
    /// `  File "PATH", line 12, in NAME`; a dump has no second comma, and an error of syntax no name.
    fn read(line: &'a str) -> Option<Self> {
        let (path, rest) = line.strip_prefix("  File \"")?.split_once("\", line ")?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (line, function) = rest.split_at(end);
        let function = function.trim_start_matches(',').trim_start().strip_prefix("in ").unwrap_or_default();
        Some(Self { path, line, function, source: Vec::new() })
    }

    /// Whether it is in code of the person, rather than Ekiben's, a library's or Python's.
    fn is_own(&self) -> bool {
        let foreign = ["/site-packages/", "/dist-packages/", "/ekiben_service/", "/lib/python3"];
        !self.path.starts_with('<') && !foreign.iter().any(|folder| self.path.contains(folder))
    }

    fn place(&self) -> String {
        // As the person knows it: below the project's folder, or that of the library.
        let inside = ["/site-packages/", "/dist-packages/", "/app/", "/home/bentoml/bento/src/"];
        let path = inside.iter().find_map(|folder| self.path.split_once(folder)).map_or(self.path, |(_, rest)| rest);
        match self.function {
            "" | "<module>" => format!("{path}:{}", self.line),
            function => format!("{path}:{}, in {function}", self.line),
        }
    }

    fn show(&self) -> Vec<String> {
        let place = format!("  {}", self.place());
        std::iter::once(place).chain(self.source.iter().map(|line| (*line).to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "  File \"/app/ekiben_service/app.py\", line 70, in answer\n    return await x\n           ^^^^^\n  \
                           File \"/app/.venv/lib/python3.11/site-packages/anyio/to_thread.py\", line 65, in run\n    await y\n";

    fn fold_text(text: &str, extent: Extent) -> String {
        folded(&text.lines().collect::<Vec<_>>(), extent).join("\n")
    }

    #[test]
    fn a_persons_frames_come_first_and_the_others_are_one_line() {
        let text = format!(
            "{HEADER}\n{SERVICE}  File \"/app/src/predict.py\", line 24, in many\n    return {{}}[\"x\"]\n           ~~^^^^^\n\
             KeyError: 'x'"
        );
        let shown = "KeyError: 'x'\n  src/predict.py:24, in many\n    return {}[\"x\"]\n           ~~^^^^^\n  \
                     … and 2 frames of the service and libraries (-v)";
        assert_eq!(fold_text(&text, Extent::Text), shown);
        // Within other lines of a log.
        assert_eq!(fold_text(&format!("before\n{text}\nafter"), Extent::Line), format!("before\n{shown}\nafter"));
    }

    #[test]
    fn a_library_that_broke_is_named_and_causes_stay_in_order() {
        let text = format!(
            "{HEADER}\n{SERVICE}ValueError: one\n  two\nthree\n\nThe above exception was the direct cause of the following \
             exception:\n\n{HEADER}\n{SERVICE}OSError: four"
        );
        let innermost =
            "  anyio/to_thread.py:65, in run\n    await y\n  … and 1 frame of the service or a library (-v)";
        assert_eq!(
            fold_text(&text, Extent::Text),
            format!(
                "ValueError: one\n  two\nthree\n{innermost}\n\nThe above exception was the direct cause of the following \
                 exception:\n\nOSError: four\n{innermost}"
            )
        );
    }

    #[test]
    fn a_dump_tells_where_each_thread_is() {
        let text = "Current thread 0x00007f10 (most recent call first):\n  File \"/usr/lib/python3.11/socket.py\", line 5 in recv\n  \
                    File \"/app/src/predict.py\", line 3 in <module>\n  File \"<frozen importlib._bootstrap>\", line 241 in _call\n  \
                    File \"/app/ekiben_service/__main__.py\", line 30 in main";
        assert_eq!(
            fold_text(text, Extent::Line),
            "Current thread 0x00007f10 (most recent call first):\n  /usr/lib/python3.11/socket.py:5, in recv\n  \
             src/predict.py:3\n  … and 2 frames of the service and libraries (-v)"
        );
        let lines: Vec<_> = format!("before\n{text}").lines().map(str::to_owned).collect();
        assert_eq!(place(&lines).as_deref(), Some("src/predict.py:3"));
        assert_eq!(place(&lines[..3]), None);
    }

    #[test]
    fn what_is_no_traceback_stays() {
        for text in ["", "a\n  b\n\n", HEADER, "Traceback\n  File", "x (most recent call first):"] {
            let lines: Vec<_> = text.lines().filter(|line| *line != HEADER).collect();
            assert_eq!(folded(&lines, Extent::Line), lines);
        }
        assert_eq!(fold_text(&format!("{HEADER}\n  + Exception Group"), Extent::Line), "  + Exception Group");
    }
}
