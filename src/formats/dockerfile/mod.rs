//! Dockerfiles, read as data: stages and their instructions, each with its place. Nothing is expanded, nothing executed.
//!
//! The language is that of [Docker's reference](https://docs.docker.com/reference/dockerfile/) and of BuildKit's frontend
//! 1.7 and newer; what its texts leave open is as BuildKit's own parser has it (`frontend/dockerfile/parser`,
//! `instructions` and `shell`), whose cases `scripts/dockerfile-suites` runs (`docs/dockerfiles.md` has the figures).
//!
//! The parser is our own. `parse-dockerfile` 0.1.9 knows places too, but takes a heredoc that is handed to a program
//! (`RUN python3 <<EOF`) for a mistake, stops at the first mistake where a person wants all of them, and replaces no
//! variables: the larger half would have to be written anyway. `dockerfile-parser` knows no heredocs, and
//! `dockerfile-parser-rs` loses the order of instructions.
//!
//! Invariants: every span lies within the text; what is read takes time and memory by the length of the text.

mod flags;
mod heredoc;
mod ignore;
mod instruction;
mod lines;
mod mount;
mod pattern;
mod read;
mod rules;
mod scope;
mod word;

pub use heredoc::Heredoc;
pub use ignore::{Ignore, IgnoreError};
pub use instruction::{
    Argument, Check, Command, Copying, HealthCheck, Instruction, Kind, Network, Pair, Program, Run, Security,
    Separator, Trigger,
};
pub use mount::{Mount, MountError, MountFlag, MountKind, Sharing};
pub use pattern::{Pattern, PatternError, clean};
pub use rules::{Checks, ContextSource};
pub use word::{Escape, ExpansionError, Variables, Word};

use std::ops::Range;
use std::sync::Arc;

use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Source};
use lines::{Broken, Line, Lines};
use read::{Item, Reader, begins_heredocs};

/// Names of all instructions.
pub const NAMES: &[&str] = &[
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// Names of a Dockerfile in a folder, the one that is taken before the others first.
pub const FILES: [&str; 2] = ["Dockerfile", "Containerfile"];

/// Stages that are read: each is looked at with all variables of the one that it stands on.
const MOST_STAGES: usize = 1_000;

/// Instructions that stand somewhere else than in a Dockerfile, in its language.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// Where a person finds them: FILE:LINE.
    pub place: String,
    /// The instructions, each with the end of its line.
    pub text: String,
}

/// A Dockerfile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dockerfile {
    /// What stands before everything else.
    pub directives: Directives,
    /// `ARG` before the first `FROM`.
    pub globals: Vec<Instruction>,
    /// Its stages, in their order; at least one where there is no mistake.
    pub stages: Vec<Stage>,
    /// Blank lines within instructions.
    pub blanks: Vec<Range<usize>>,
    /// Whether a `FROM` could not be read, so that numbers and names of stages are not those of the file.
    lacks_stages: bool,
}

/// What `# NAME=VALUE` lines at the beginning say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// The frontend that BuildKit would fetch; another one than Docker's may mean anything.
    pub syntax: Option<Word>,
    /// What escapes.
    pub escape: Escape,
    /// Which checks are left out, as `skip=all;error=true`.
    pub check: Option<Word>,
}

/// A stage: a base, and what is done upon it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// How it begins.
    pub from: From,
    /// What follows, in its order.
    pub instructions: Vec<Instruction>,
    /// From its `FROM` to its last instruction, in bytes of the file.
    pub span: Range<usize>,
}

/// `FROM`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// Where it stands, in bytes of the file.
    pub span: Range<usize>,
    /// Where its name stands.
    pub keyword: Range<usize>,
    /// It as one line.
    pub original: String,
    /// An image, an earlier stage, or `scratch`.
    pub image: Word,
    /// `--platform`
    pub platform: Option<Word>,
    /// What the stage is called, in lower case.
    pub name: Option<String>,
    /// `AS` and the name, as they were written.
    pub alias: Option<(Word, Word)>,
}

impl Dockerfile {
    /// Reads a Dockerfile in which there may be no mistake.
    ///
    /// # Errors
    /// All mistakes.
    pub fn parse(source: &Arc<Source>) -> Result<Self, Diagnostics> {
        let mut found = Diagnostics::new();
        let read = Self::read(source, &mut found);
        if found.has_errors() { Err(found) } else { Ok(read) }
    }

    /// Reads what can be read. Mistakes go to `found`, and their instructions are left out.
    pub fn read(source: &Arc<Source>, found: &mut Diagnostics) -> Self {
        let mut file = Self::default();
        // After a `FROM` that could not be read, whatever follows belongs to a stage that is not known.
        let mut lost = false;
        let mut lines = Lines::new(source.text());
        loop {
            let escape = lines.escape;
            let line = match lines.next(|line| begins_heredocs(line, escape)) {
                Ok(Some(line)) => line,
                Ok(None) => break,
                Err(broken) => {
                    found.push(broken.say(source));
                    return file;
                }
            };
            file.blanks.extend(line.blanks.iter().cloned());
            let item = Reader { source, line: &line, escape: lines.escape }.item();
            match (item, file.stages.last_mut()) {
                (Ok(Item::From(from)), _) => {
                    lost = false;
                    if file.stages.len() == MOST_STAGES {
                        let message = format!("there are more than {MOST_STAGES} stages");
                        found.push(Diagnostic::new(Code::DockerfileSyntax, source, from.span, message));
                        return file;
                    }
                    file.stages.push(Stage { span: from.span.clone(), instructions: Vec::new(), from });
                }
                (Ok(Item::Instruction(_)), _) if lost => {}
                (Ok(Item::Instruction(instruction)), Some(stage)) => {
                    stage.span.end = instruction.span.end;
                    stage.instructions.push(instruction);
                }
                (Ok(Item::Instruction(instruction)), None) => match instruction.kind {
                    Kind::Arg(_) => file.globals.push(instruction),
                    kind => found.push(
                        Diagnostic::new(
                            Code::DockerfileSyntax,
                            source,
                            instruction.name,
                            format!("`{}` stands before the first `FROM`", kind.name()),
                        )
                        .help("a stage begins with `FROM IMAGE`; only `ARG` may stand before"),
                    ),
                },
                (Err(mistake), _) => {
                    lost = lost || line.text.get(..4).is_some_and(|name| name.eq_ignore_ascii_case("FROM"));
                    file.lacks_stages |= lost;
                    found.push(*mistake);
                }
            }
        }
        file.directives.escape = lines.escape;
        for directive in lines.directives {
            let word = Word::new(directive.value, directive.value_span, lines.escape);
            match directive.name.as_str() {
                "syntax" => file.directives.syntax = Some(word),
                "check" => file.directives.check = Some(word),
                _ => {}
            }
        }
        if file.stages.is_empty() && !found.has_errors() {
            let end = source.text().len();
            let message = if file.globals.is_empty() { "there is no instruction" } else { "there is no `FROM`" };
            found.push(
                Diagnostic::new(Code::DockerfileSyntax, source, end..end, message)
                    .help("a Dockerfile has at least one stage, which begins with `FROM IMAGE`"),
            );
        }
        file
    }
}

impl Instruction {
    /// Reads one instruction: what an image's configuration has for those who build upon it.
    ///
    /// # Errors
    /// All mistakes: also `FROM`, and more or less than one instruction.
    pub fn parse(source: &Arc<Source>) -> Result<Self, Diagnostics> {
        let mut found = Diagnostics::new();
        let mut lines = Lines::new(source.text());
        let escape = Escape::default();
        let mut next = || lines.next(|line| begins_heredocs(line, escape));
        let whole = 0..source.text().len();
        let wrong = |message: &str| Diagnostic::new(Code::DockerfileSyntax, source, whole.clone(), message);
        let (line, second): (Option<Line>, Option<Line>) = match next().and_then(|line| Ok((line, next()?))) {
            Ok(read) => read,
            Err(broken) => {
                found.push(broken.say(source));
                return Err(found);
            }
        };
        match (line, second) {
            (Some(line), None) => match (Reader { source, line: &line, escape }).item() {
                Ok(Item::Instruction(instruction)) => return Ok(instruction),
                Ok(Item::From(_)) => found.push(wrong("`FROM` cannot stand in a trigger")),
                Err(mistake) => found.push(*mistake),
            },
            _ => found.push(wrong("a trigger is one instruction")),
        }
        Err(found)
    }
}

impl Broken {
    fn say(self, source: &Arc<Source>) -> Diagnostic {
        let say = |span, message: String| Diagnostic::new(Code::DockerfileSyntax, source, span, message);
        match self {
            Self::Twice(directive) => {
                say(directive.span, format!("the directive `{}` is there a second time", directive.name))
            }
            Self::NoEscape(directive) => say(directive.value_span, format!("`{}` cannot escape", directive.value))
                .help("`# escape=` is followed by `\\` or a backtick"),
            Self::TooLong(span) => say(span, format!("the line has more than {} bytes", lines::LONGEST)),
            Self::Endless { heredoc, line } => {
                let name = &heredoc.name;
                say(line, format!("the heredoc `{name}` has no end"))
                    .help(format!("it ends with a line that is `{name}` and nothing else"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(text: &str) -> Arc<Source> {
        Source::new("Dockerfile", text)
    }

    fn instructions(text: &str) -> Vec<Instruction> {
        let file = Dockerfile::parse(&source(&format!("FROM scratch\n{text}")));
        file.unwrap_or_else(|found| panic!("{:?}", found.sorted())).stages.remove(0).instructions
    }

    fn kind(text: &str) -> Kind {
        instructions(text).remove(0).kind
    }

    fn run(text: &str) -> Run {
        match kind(text) {
            Kind::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_word_knows_its_place_over_lines_and_comments() {
        let text =
            "# syntax=docker/dockerfile:1\n# escape=`\nFROM a\r\nENV A=b`\r\n  # no\r\n\r\n  C=\"d `\n e\" F\\=`g\n";
        let file = Dockerfile::parse(&source(text)).unwrap();
        assert_eq!(file.directives.escape, Escape::Backtick);
        assert_eq!(file.directives.syntax.as_ref().map(Word::text), Some("docker/dockerfile:1"));
        assert_eq!(file.blanks.iter().map(|blank| source(text).position(blank.start)).collect::<Vec<_>>(), [(6, 1)]);
        let instruction = &file.stages[0].instructions[0];
        assert_eq!(instruction.original, "ENV A=b  C=\"d  e\" F\\=`g");
        let Kind::Env(pairs) = &instruction.kind else { panic!("no ENV") };
        let places: Vec<_> = pairs.iter().map(|pair| (&text[pair.name.span()], &text[pair.value.span()])).collect();
        assert_eq!(places, [("A", "b"), ("C", "\"d `\n e\""), ("F\\", "`g")]);
        let values: Vec<_> = pairs.iter().map(|pair| pair.value.expand(&|_| None).unwrap()).collect();
        assert_eq!(values, ["b", "d  e", "g"]);
    }

    #[test]
    fn a_program_is_what_a_shell_gets() {
        let program = |text: &str| run(text).program();
        let shell = |text: &str| Program::Shell(text.to_owned());
        assert_eq!(program("RUN a && \\\n  # no\n  b"), shell("a &&   b"));
        assert_eq!(program("RUN [\"a\", \"b c\"]"), Program::Exec(vec!["a".to_owned(), "b c".to_owned()]));
        assert_eq!(program("RUN ['a']"), shell("['a']"), "no JSON");
        assert_eq!(program("RUN <<EOF\na\nb\nEOF"), shell("a\nb\n"));
        assert_eq!(program("RUN <<-EOF\n\ta\n\tEOF"), shell("a\n"));
        assert_eq!(program("RUN cat <<EOF > x\n a $y\nEOF\n"), shell("cat <<EOF > x\n a $y\nEOF"));
        assert_eq!(program("RUN python3 <<'EOF'\nprint(1)\nEOF"), shell("python3 <<'EOF'\nprint(1)\nEOF"));
        let script = Program::Script { name: "EOF".to_owned(), content: "#!/bin/perl\n1\n".to_owned() };
        assert_eq!(program("RUN <<EOF\n#!/bin/perl\n1\nEOF"), script);
        assert_eq!(program("RUN a <<A b <<B\n1\nA\n2\nB"), shell("a <<A b <<B\n1\nA\n2\nB"));
        assert_eq!(program("RUN echo \"<<EOF\""), shell("echo \"<<EOF\""), "it is quoted");
        assert_eq!(program("RUN x=\"$((1 << 2))\""), shell("x=\"$((1 << 2))\""));
    }

    #[test]
    fn files_are_written_in_the_dockerfile() {
        let Kind::Copy(copying) = kind("COPY --chmod=644 <<a.txt <<-\"b.txt\" c /to/\n$x\na.txt\n\t$x\nb.txt\n") else {
            panic!("no COPY")
        };
        let contents: Vec<String> =
            copying.documents.iter().map(|text| text.expand(&|_| Some("1".to_owned())).unwrap()).collect();
        assert_eq!(contents, ["1\n", "$x\n"]);
        assert_eq!(copying.documents.iter().map(|text| text.name.as_str()).collect::<Vec<_>>(), ["a.txt", "b.txt"]);
        assert_eq!((copying.sources[0].text(), copying.target.text()), ("c", "/to/"));
        let Kind::Copy(copying) = kind("COPY --exclude=a --exclude='b c' --parents --link=false [\"a b\", \"/c\"]")
        else {
            panic!("no COPY")
        };
        assert_eq!(copying.exclude.iter().map(Word::text).collect::<Vec<_>>(), ["a", "b c"]);
        assert!(copying.parents && !copying.link && copying.sources[0].text() == "a b");
    }

    #[test]
    fn flags_end_where_words_begin() {
        let run = run("RUN --mount=type=cache,target=\"/a b\",id=$ID --network=none -- --help");
        assert_eq!((run.command.clone(), run.network), (Command::Shell("--help".to_owned()), Network::None));
        let mount = run.mounts[0].expand(&|name| (name == "ID").then(|| "x".to_owned())).unwrap();
        assert_eq!(
            (mount.kind, mount.target.as_deref(), mount.id.as_deref()),
            (MountKind::Cache, Some("/a b"), Some("x"))
        );
        assert!(!mount.read_only);
        let mount = |text: &str| self::run(&format!("RUN --mount={text} a")).mounts[0].expand(&|_| None).unwrap();
        assert_eq!(mount("type=tmpfs,size=1.5m,target=/x").size, Some(1_572_864));
        assert!(
            mount("target=/x").read_only && !mount("target=/x,rw").read_only && !mount("target=/x,ro=false").read_only
        );
        let secret = mount("type=secret,id=a,env=A,required,mode=0440,uid=1");
        assert_eq!((secret.variable.as_deref(), secret.required, secret.mode), (Some("A"), true, Some(0o440)));
    }

    #[test]
    fn times_are_those_of_go() {
        let Kind::HealthCheck(HealthCheck::Check(check)) =
            kind("HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=0s --retries=3 CMD curl x")
        else {
            panic!("no HEALTHCHECK")
        };
        assert_eq!(check.interval, Some(std::time::Duration::from_secs(90)));
        assert_eq!((check.timeout, check.start_period), (Some(std::time::Duration::from_millis(1500)), None));
        assert_eq!(check.command, Command::Shell("curl x".to_owned()));
    }

    #[test]
    fn triggers_keep_their_text() {
        let Kind::OnBuild(trigger) = kind("onbuild  RUN <<EOF\na\nEOF") else { panic!("no ONBUILD") };
        assert_eq!(trigger.expression, "RUN <<EOF\na\nEOF");
        let read = Instruction::parse(&source(&trigger.expression)).unwrap();
        let (Kind::Run(read), Kind::Run(run)) = (read.kind, trigger.instruction.kind) else { panic!("no RUN") };
        assert_eq!(read.program(), run.program());
        for wrong in ["", "FROM a", "RUN a\nRUN b", "RUM a"] {
            assert!(Instruction::parse(&source(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_are_taken_apart_as_a_shell_does() {
        let variables = |name: &str| match name {
            "f" => Some("a/b/c.tar.gz".to_owned()),
            "e" => Some(String::new()),
            _ => None,
        };
        for (text, value) in [
            ("${f#*/}", "b/c.tar.gz"),
            ("${f##*/}", "c.tar.gz"),
            ("${f%.*}", "a/b/c.tar"),
            ("${f%%.*}", "a/b/c"),
            ("${f/\\//-}", "a-b/c.tar.gz"),
            ("${f//\\//-}", "a-b-c.tar.gz"),
            ("${f//?.tar/${e:-x}}", "a/b/x.gz"),
            ("${e:-x}${e-y}${u-z}", "xz"),
            ("${e:+x}${e+y}${u+z}", "y"),
            ("'$f'\"$e\"\\$f", "$f$f"),
        ] {
            let Kind::User(word) = kind(&format!("USER {text}")) else { panic!("no USER") };
            assert_eq!(word.expand(&variables).as_deref(), Ok(value), "{text}");
        }
        let Kind::User(word) = kind("USER ${u:?say it}") else { panic!("no USER") };
        assert_eq!(word.expand(&variables).unwrap_err().to_string(), "u: say it");
        assert_eq!(word.missing(&variables), [""; 0]);
        let Kind::Expose(ports) = kind("EXPOSE $p") else { panic!("no EXPOSE") };
        let two = ports[0].expand_to_words(&|_| Some("80 81/udp".to_owned())).unwrap();
        assert_eq!(two, ["80", "81/udp"]);
    }

    #[test]
    fn what_grows_without_end_is_stopped() {
        let word = |text: &str| match kind(&format!("USER {text}")) {
            Kind::User(word) => word,
            other => panic!("{other:?}"),
        };
        let long = "x".repeat(600_000);
        assert_eq!(word("$a$a").expand(&|_| Some(long.clone())), Err(ExpansionError::TooLong));
        let deep = "${a:-".repeat(5_000) + &"}".repeat(5_000);
        assert_eq!(word(&deep).expand(&|_| None), Err(ExpansionError::TooDeep));
        let stages = "FROM a\n".repeat(MOST_STAGES + 1);
        assert!(Dockerfile::parse(&source(&stages)).is_err());
        let line = format!("FROM scratch\nRUN {}", "x".repeat(70_000));
        assert!(Dockerfile::parse(&source(&line)).is_err());
    }

    /// What would take minutes if any of it took time by the square of its length.
    #[test]
    fn a_megabyte_of_anything_is_read_at_once() {
        let parts = [
            "RUN a\n",
            "RUN a \\\n",
            "\\\n",
            "#\n",
            "\n",
            "ENV A=$A$A\n",
            "ARG A\n",
            "ENV A$B=${C:-$D}\n",
            "COPY <<A <<A /\nA\nA\n",
            "RUN <<A\nA\n",
            "COPY a b c d e ${F} g\n",
            "LABEL 'a\"b'=\"c\" \\\n",
            "RUN --mount=type=cache,target=/x --mount=from=0 \\\n",
            "EXPOSE 1 2 3 \\\n",
            "ONBUILD COPY a b\n",
            "COPY --from=1 a b\n",
            "x ",
            "[\"",
            "\"",
            "'",
            "${a",
            "<<A ",
            "<<",
            "\\",
            "--a=b ",
        ];
        for part in parts {
            let many = part.repeat((1 << 19) / part.len());
            // Lines have an end somewhere.
            let many: String = many
                .as_bytes()
                .chunks(60_000)
                .fold(String::new(), |text, chunk| text + &String::from_utf8_lossy(chunk) + "\\\n");
            let source = source(&format!("FROM scratch\nENV A=xy\nCOPY {many}\nFROM scratch\n{many}"));
            let mut found = Diagnostics::new();
            let file = Dockerfile::read(&source, &mut found);
            file.check(&source, &mut found);
            file.context_sources();
        }
    }

    proptest! {
        #[test]
        fn whatever_it_is_it_ends(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            judged(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn whatever_looks_like_one_ends(parts in proptest::collection::vec(prop_oneof![
            Just("FROM a AS b\n"), Just("COPY "), Just("RUN "), Just("ENV "), Just("ARG "), Just("ONBUILD "),
            Just("HEALTHCHECK "), Just("--from="), Just("--mount=type=secret,"), Just("--x "), Just("<<EOF "),
            Just("EOF\n"), Just("<<-'E' "), Just("\\\n"), Just("\n"), Just("# escape=`\n"), Just("`\n"), Just("\""),
            Just("'"), Just("${"), Just("$a"), Just(":-"), Just("%%*"), Just("//"), Just("}"), Just("[\"a\", "), Just("]"),
            Just("é"), Just("\r\n"), Just("\t"), Just("="), Just(","), Just("a "), Just("# check=skip=all;error=true\n"),
        ], 0..40)) {
            judged(&parts.concat());
        }

        #[test]
        fn patterns_end(pattern in "[a*?\\[\\]^/\\\\!-]{0,12}", path in "[ab/*\\[]{0,12}") {
            for pattern in [Pattern::new(&pattern), Pattern::across(&pattern)].into_iter().flatten() {
                pattern.is_match(&path);
            }
            if let Ok(ignore) = Ignore::read(&pattern) {
                // What is left out as a whole is left out.
                prop_assert!(!ignore.is_left_out_as_a_whole(&path) || ignore.is_left_out(&path));
            }
        }
    }

    /// Reads and checks a text, and renders what is said: all places lie within it.
    fn judged(text: &str) {
        let source = source(text);
        let mut found = Diagnostics::new();
        let file = Dockerfile::read(&source, &mut found);
        file.check(&source, &mut found);
        file.context_sources();
        for diagnostic in found.sorted() {
            let span = &diagnostic.primary.span;
            assert!(span.start <= span.end && span.end <= text.len(), "{span:?} of {text:?}");
            assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end), "{span:?} of {text:?}");
            crate::formats::diagnostic::Rendering::PLAIN.render(diagnostic);
        }
        for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
            assert!(text.get(instruction.span.clone()).is_some() && text.get(instruction.name.clone()).is_some());
        }
    }
}
