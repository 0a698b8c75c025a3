//! Instructions, read from lines: the forms that BuildKit's `frontend/dockerfile/instructions` takes.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::flags::{self, Flag, List, Parts};
use super::heredoc::Heredoc;
use super::instruction::{
    Argument, Check, Command, Copying, HealthCheck, Instruction, Kind, Network, Pair, Run, Security, Separator, Trigger,
};
use super::lines::Line;
use super::mount::MountFlag;
use super::word::{Escape, Word};
use super::{From, NAMES};
use crate::formats::diagnostic::{Code, Diagnostic, Source};
use crate::io::suggest::{closest, did_you_mean, listed};

/// Something read, or what is wrong with it.
pub(super) type Read<T> = Result<T, Box<Diagnostic>>;

/// What a line is.
pub(super) enum Item {
    /// The beginning of a stage.
    From(From),
    /// Anything else.
    Instruction(Instruction),
}

/// Whether heredocs may begin in a line: in those of `RUN`, `COPY` and `ADD` that are no lists of JSON.
pub(super) fn begins_heredocs(line: &str, escape: Escape) -> bool {
    let parts = flags::cut(line, 0..line.len(), escape);
    let named = |name: &str| line.get(parts.name.clone()).unwrap_or_default().eq_ignore_ascii_case(name);
    if named("ONBUILD") {
        return line.get(parts.rest).is_some_and(|inner| inner.len() < line.len() && begins_heredocs(inner, escape));
    }
    ["RUN", "COPY", "ADD"].into_iter().any(named) && matches!(flags::list(line, parts.rest), List::None)
}

/// A line that is being read.
pub(super) struct Reader<'a> {
    pub source: &'a Arc<Source>,
    pub line: &'a Line,
    pub escape: Escape,
}

/// The flags of an instruction, to be taken one by one.
struct Flags<'a> {
    reader: &'a Reader<'a>,
    instruction: &'static str,
    flags: Vec<Flag>,
}

impl Reader<'_> {
    /// What the line is.
    pub fn item(&self) -> Read<Item> {
        let parts = flags::cut(&self.line.text, 0..self.line.text.len(), self.escape);
        if self.text(&parts.name).eq_ignore_ascii_case("FROM") {
            return Ok(Item::From(self.from(parts)?));
        }
        let original = self.line.text.trim().to_owned();
        Ok(Item::Instruction(self.instruction(parts, original, self.line.span.clone())?))
    }

    fn text(&self, part: &Range<usize>) -> &str {
        self.line.text.get(part.clone()).unwrap_or_default()
    }

    fn word(&self, part: &Range<usize>) -> Word {
        Word::new(self.text(part), self.line.place(part.clone()), self.escape)
    }

    fn wrong(&self, code: Code, part: &Range<usize>, message: impl Into<String>) -> Box<Diagnostic> {
        Box::new(Diagnostic::new(code, self.source, self.line.place(part.clone()), message))
    }

    /// An instruction that is not written as it has to be.
    fn bad(&self, part: &Range<usize>, message: impl Into<String>) -> Box<Diagnostic> {
        self.wrong(Code::BadInstruction, part, message)
    }

    fn from(&self, parts: Parts) -> Read<From> {
        let words = flags::plain_words(&self.line.text, parts.rest.clone());
        let mut flags = Flags { reader: self, instruction: "FROM", flags: parts.flags };
        let (image, alias) = match words.as_slice() {
            [image] => (image, None),
            [image, between, alias] if self.text(between).eq_ignore_ascii_case("as") => (image, Some((between, alias))),
            [] => return Err(self.bad(&parts.name, "`FROM` needs an image, or `scratch`")),
            [_, second, ..] => {
                let message = "`FROM` has an image, and may have `AS NAME` after it, and nothing else";
                return Err(self.bad(second, message));
            }
        };
        let alias = alias.map(|(between, alias)| {
            let name = self.text(alias).to_lowercase();
            let valid = name.starts_with(|first: char| first.is_ascii_lowercase())
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
            match valid {
                true => Ok((self.word(between), self.word(alias))),
                false => {
                    let message = format!("`{}` is no name of a stage", self.text(alias));
                    let help = "a name begins with a letter, and has letters, digits, `-`, `_` and `.`";
                    Err(Box::new(self.bad(alias, message).help(help)))
                }
            }
        });
        let alias: Option<(Word, Word)> = alias.transpose()?;
        let platform = flags.word("platform")?;
        flags.finish(&["platform"])?;
        Ok(From {
            span: self.line.span.clone(),
            keyword: self.line.place(parts.name),
            original: self.line.text.trim().to_owned(),
            image: self.word(image),
            platform,
            name: alias.as_ref().map(|(_, name)| name.text().to_lowercase()),
            alias,
        })
    }

    fn instruction(&self, parts: Parts, original: String, span: Range<usize>) -> Read<Instruction> {
        let written = self.text(&parts.name);
        let upper = written.to_ascii_uppercase();
        let Some(name) = NAMES.iter().copied().find(|name| *name == upper) else {
            let message = format!("there is no instruction `{}`", written.chars().take(80).collect::<String>());
            let error = self.wrong(Code::UnknownInstruction, &parts.name, message);
            return Err(match closest(&upper, NAMES.iter().copied()) {
                Some(meant) => error.label(did_you_mean(meant)).into(),
                None => error.help("a line goes on in the next one where it ends in `\\`").into(),
            });
        };
        let place = self.line.place(parts.name.clone());
        let Parts { name: at, flags, rest } = parts;
        let mut flags = Flags { reader: self, instruction: name, flags };
        let kind = match name {
            "ADD" => Kind::Add(self.copying(&at, &mut flags, &rest)?),
            "COPY" => Kind::Copy(self.copying(&at, &mut flags, &rest)?),
            "RUN" => Kind::Run(self.run(&mut flags, &rest)?),
            "HEALTHCHECK" => Kind::HealthCheck(self.health_check(&at, &mut flags, &rest)?),
            "ENV" => Kind::Env(self.pairs(name, &at, &rest)?),
            "LABEL" => Kind::Label(self.pairs(name, &at, &rest)?),
            "ARG" => Kind::Arg(self.arguments(&at, &rest)?),
            "WORKDIR" => Kind::Workdir(self.whole(name, &at, &rest)?),
            "USER" => Kind::User(self.whole(name, &at, &rest)?),
            "STOPSIGNAL" => Kind::StopSignal(self.whole(name, &at, &rest)?),
            "MAINTAINER" => Kind::Maintainer(self.whole(name, &at, &rest)?.text().to_owned()),
            "CMD" => Kind::Cmd(self.command(&rest)?),
            "ENTRYPOINT" => Kind::Entrypoint(self.command(&rest)?),
            "SHELL" => Kind::Shell(self.shell(&at, &rest)?),
            "EXPOSE" => Kind::Expose(self.several(name, &at, &flags::plain_words(&self.line.text, rest))?),
            "VOLUME" => Kind::Volume(self.volumes(&at, &rest)?),
            _ => Kind::OnBuild(self.trigger(&at, &rest)?),
        };
        if !matches!(kind, Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::HealthCheck(_)) {
            flags.finish(&[])?;
        }
        Ok(Instruction { span, name: place, original, kind })
    }

    fn copying(&self, at: &Range<usize>, flags: &mut Flags<'_>, rest: &Range<usize>) -> Read<Copying> {
        let is_copy = flags.instruction == "COPY";
        let words: Vec<Word> = match self.list(rest)? {
            Some(texts) => texts,
            None => flags::plain_words(&self.line.text, rest.clone()).iter().map(|part| self.word(part)).collect(),
        };
        let Some(([first, sources @ ..], target)) = words.split_last().map(|(target, sources)| (sources, target))
        else {
            let message = format!("`{}` needs at least a source and a target", flags.instruction);
            return Err(self.bad(if rest.is_empty() { at } else { rest }, message));
        };
        if Heredoc::begun_by(target.text()).is_some() {
            let message = "a heredoc is a source, and the target comes after it";
            return Err(Box::new(Diagnostic::new(Code::BadInstruction, self.source, target.span(), message)));
        }
        // Of those with one name the last one's lines count.
        let named = self.line.heredocs.iter().map(|heredoc| (heredoc.name.as_str(), heredoc));
        let named: HashMap<&str, &Heredoc> = named.collect();
        let mut documents = Vec::new();
        let mut files = Vec::new();
        for word in std::iter::once(first).chain(sources) {
            match Heredoc::begun_by(word.text()) {
                Some(begun) => documents.push(named.get(begun.name.as_str()).map_or(begun, |known| (*known).clone())),
                None => files.push(word.clone()),
            }
        }
        let copying = Copying {
            sources: files,
            documents,
            target: target.clone(),
            chown: flags.word("chown")?,
            chmod: flags.word("chmod")?,
            link: flags.truth("link")?.unwrap_or_default(),
            exclude: flags.words("exclude")?,
            from: if is_copy { flags.word("from")? } else { None },
            parents: is_copy && flags.truth("parents")?.unwrap_or_default(),
            checksum: if is_copy { None } else { flags.word("checksum")? },
            keep_git_dir: if is_copy { None } else { flags.truth("keep-git-dir")? },
            unpack: if is_copy { None } else { flags.truth("unpack")? },
        };
        flags.finish(match is_copy {
            true => &["chown", "chmod", "from", "link", "parents", "exclude"],
            false => &["chown", "chmod", "checksum", "keep-git-dir", "link", "unpack", "exclude"],
        })?;
        Ok(copying)
    }

    fn run(&self, flags: &mut Flags<'_>, rest: &Range<usize>) -> Read<Run> {
        let mut mounts = Vec::new();
        for flag in flags.take("mount") {
            let span = self.line.place(flag.value_span.clone());
            let mount = MountFlag::new(flags.value(&flag)?, span, self.escape);
            mount.check().map_err(|error| {
                let wrong = self.bad(&flag.span, error.to_string());
                error.hint().into_iter().fold(*wrong, Diagnostic::help)
            })?;
            mounts.push(mount);
        }
        let one_of = |flag: &Flag, value: &str, known: &[&str]| {
            let message = format!("`{value}` is nothing that `--{}` can be", flag.name);
            Box::new(self.bad(&flag.value_span, message).help(format!("it is one of {}", listed(known))))
        };
        let network = match flags.one("network")? {
            None => Network::Default,
            Some((flag, value)) => match value.as_str() {
                "default" => Network::Default,
                "none" => Network::None,
                "host" => Network::Host,
                _ => return Err(one_of(&flag, &value, &["default", "none", "host"])),
            },
        };
        let security = match flags.one("security")? {
            None => Security::Sandbox,
            Some((flag, value)) => match value.as_str() {
                "sandbox" => Security::Sandbox,
                "insecure" => Security::Insecure(self.line.place(flag.span)),
                _ => return Err(one_of(&flag, &value, &["sandbox", "insecure"])),
            },
        };
        let devices = flags.words("device")?;
        flags.finish(&["mount", "network", "security", "device"])?;
        Ok(Run {
            command: self.command(rest)?,
            heredocs: self.line.heredocs.clone(),
            mounts,
            network,
            security,
            devices,
        })
    }

    fn health_check(&self, at: &Range<usize>, flags: &mut Flags<'_>, rest: &Range<usize>) -> Read<HealthCheck> {
        const KNOWN: &[&str] = &["interval", "timeout", "start-period", "start-interval", "retries"];
        let text = self.text(rest);
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        let kind = rest.start..rest.start + end;
        let command = flags::trimmed(&self.line.text, kind.end..rest.end);
        match self.text(&kind).to_ascii_uppercase().as_str() {
            "NONE" if command.is_empty() => Ok(HealthCheck::None),
            "NONE" => Err(self.bad(&command, "nothing comes after `HEALTHCHECK NONE`")),
            "CMD" if command.is_empty() => Err(self.bad(&kind, "`HEALTHCHECK CMD` needs a command")),
            "CMD" => {
                let check = Check {
                    command: self.command(&command)?,
                    interval: flags.duration("interval")?,
                    timeout: flags.duration("timeout")?,
                    start_period: flags.duration("start-period")?,
                    start_interval: flags.duration("start-interval")?,
                    retries: match flags.one("retries")? {
                        None => None,
                        Some((flag, value)) => {
                            let number = value.parse::<i32>().ok().and_then(|number| u32::try_from(number).ok());
                            Some(number.ok_or_else(|| self.bad(&flag.value_span, "retries are a whole number"))?)
                        }
                    },
                };
                flags.finish(KNOWN)?;
                Ok(HealthCheck::Check(check))
            }
            "" => Err(self.bad(at, "`HEALTHCHECK` needs `CMD` and a command, or `NONE`")),
            _ => Err(self.bad(&kind, "after `HEALTHCHECK` and its flags stands `CMD` and a command, or `NONE`")),
        }
    }

    fn pairs(&self, name: &str, at: &Range<usize>, rest: &Range<usize>) -> Read<Vec<Pair>> {
        let words = flags::quoted_words(&self.line.text, rest.clone(), self.escape);
        let Some(first) = words.first() else {
            return Err(self.bad(at, format!("`{name}` needs at least one NAME=VALUE")));
        };
        if !self.text(first).contains('=') {
            let text = self.text(rest);
            let Some(end) = text.find(flags::is_space) else {
                let message = format!("`{name}` needs a value for `{text}`");
                return Err(Box::new(self.bad(rest, message).help(format!("write `{name} {text}=VALUE`"))));
            };
            let (key, value) = (rest.start..rest.start + end, rest.start + end..rest.end);
            let spaces = self.text(&value).len() - self.text(&value).trim_start_matches(flags::is_space).len();
            let value = value.start + spaces..value.end;
            return Ok(vec![Pair { name: self.word(&key), value: self.word(&value), separator: Separator::Space }]);
        }
        let pair = |word: &Range<usize>| {
            let text = self.text(word);
            let Some(equals) = text.find('=') else {
                let message = format!("`{text}` has no `=`");
                let help = format!("`{name}` has pairs of NAME=VALUE; a value with spaces needs quotes");
                return Err(Box::new(self.bad(word, message).help(help)));
            };
            if equals == 0 {
                return Err(self.bad(word, "a name is missing before `=`"));
            }
            let equals = word.start + equals;
            let (name, value) = (self.word(&(word.start..equals)), self.word(&(equals + 1..word.end)));
            Ok(Pair { name, value, separator: Separator::Equals })
        };
        words.iter().map(pair).collect()
    }

    fn arguments(&self, at: &Range<usize>, rest: &Range<usize>) -> Read<Vec<Argument>> {
        let words = flags::quoted_words(&self.line.text, rest.clone(), self.escape);
        if words.is_empty() {
            return Err(self.bad(at, "`ARG` needs at least one NAME, or NAME=DEFAULT"));
        }
        let argument = |word: &Range<usize>| match self.text(word).find('=') {
            Some(0) => Err(self.bad(word, "a name is missing before `=`")),
            Some(equals) => {
                let equals = word.start + equals;
                let default = Some(self.word(&(equals + 1..word.end)));
                Ok(Argument { name: self.word(&(word.start..equals)), default })
            }
            None => Ok(Argument { name: self.word(word), default: None }),
        };
        words.iter().map(argument).collect()
    }

    /// The one word that is the whole rest of the line.
    fn whole(&self, name: &str, at: &Range<usize>, rest: &Range<usize>) -> Read<Word> {
        match rest.is_empty() {
            true => Err(self.bad(at, format!("something is missing after `{name}`"))),
            false => Ok(self.word(rest)),
        }
    }

    fn several(&self, name: &str, at: &Range<usize>, words: &[Range<usize>]) -> Read<Vec<Word>> {
        match words {
            [] => Err(self.bad(at, format!("something is missing after `{name}`"))),
            words => Ok(words.iter().map(|word| self.word(word)).collect()),
        }
    }

    fn volumes(&self, at: &Range<usize>, rest: &Range<usize>) -> Read<Vec<Word>> {
        let words = match self.list(rest)? {
            Some(words) => words,
            None => self.several("VOLUME", at, &flags::plain_words(&self.line.text, rest.clone()))?,
        };
        match words.iter().any(|word| word.text().trim().is_empty()) || words.is_empty() {
            true => Err(self.bad(rest, "a volume is a path, and not empty")),
            false => Ok(words),
        }
    }

    fn shell(&self, at: &Range<usize>, rest: &Range<usize>) -> Read<Vec<String>> {
        let help = "write `SHELL [\"/bin/bash\", \"-c\"]`";
        match self.command(rest)? {
            Command::Exec(words) if !words.is_empty() => Ok(words),
            Command::Exec(_) => Err(Box::new(self.bad(rest, "`SHELL` needs at least a program").help(help))),
            Command::Shell(_) => {
                let part = if rest.is_empty() { at } else { rest };
                Err(Box::new(self.bad(part, "`SHELL` is a list of texts, as JSON").help(help)))
            }
        }
    }

    fn command(&self, rest: &Range<usize>) -> Read<Command> {
        Ok(match self.list(rest)? {
            Some(words) => Command::Exec(words.into_iter().map(|word| word.text().to_owned()).collect()),
            None => Command::Shell(self.text(rest).to_owned()),
        })
    }

    /// A list of JSON. None where it is no JSON, or no list: then it is what it looks like to a shell.
    fn list(&self, rest: &Range<usize>) -> Read<Option<Vec<Word>>> {
        let word = |(text, part)| Word::new(text, self.line.place(part), self.escape);
        match flags::list(&self.line.text, rest.clone()) {
            List::None => Ok(None),
            List::Texts(texts) => Ok(Some(texts.into_iter().map(word).collect())),
            List::Other => Err(self.bad(rest, "a list holds texts alone, each in double quotes")),
        }
    }

    fn trigger(&self, at: &Range<usize>, rest: &Range<usize>) -> Read<Trigger> {
        if rest.is_empty() {
            return Err(self.bad(at, "`ONBUILD` needs an instruction"));
        }
        let parts = flags::cut(&self.line.text, rest.clone(), self.escape);
        let inner = self.text(&parts.name).to_ascii_uppercase();
        if matches!(inner.as_str(), "ONBUILD" | "FROM" | "MAINTAINER") {
            return Err(self.bad(&parts.name, format!("`{inner}` cannot wait for whoever builds upon the image")));
        }
        let original = self.text(rest).to_owned();
        let documents = self.line.heredocs.iter().map(|document| format!("\n{}{}", document.raw, document.name));
        let expression = original.clone() + &documents.collect::<String>();
        let span = self.line.place(rest.clone()).start..self.line.span.end;
        Ok(Trigger { expression, instruction: Box::new(self.instruction(parts, original, span)?) })
    }
}

impl Flags<'_> {
    fn take(&mut self, name: &str) -> Vec<Flag> {
        let (taken, left) = std::mem::take(&mut self.flags).into_iter().partition(|flag: &Flag| flag.name == name);
        self.flags = left;
        taken
    }

    fn value(&self, flag: &Flag) -> Read<String> {
        flag.value
            .clone()
            .ok_or_else(|| self.reader.bad(&flag.span, format!("`--{0}` needs a value, as `--{0}=…`", flag.name)))
    }

    /// A flag that may be given once, and its value.
    fn one(&mut self, name: &str) -> Read<Option<(Flag, String)>> {
        let mut taken = self.take(name).into_iter();
        let Some(flag) = taken.next() else { return Ok(None) };
        if let Some(second) = taken.next() {
            return Err(self.reader.bad(&second.span, format!("`--{name}` is there twice")));
        }
        let value = self.value(&flag)?;
        Ok(Some((flag, value)))
    }

    fn word(&mut self, name: &str) -> Read<Option<Word>> {
        Ok(self.one(name)?.map(|(flag, value)| self.as_word(&flag, value)).filter(|word| !word.text().is_empty()))
    }

    fn words(&mut self, name: &str) -> Read<Vec<Word>> {
        let taken = self.take(name);
        taken.iter().map(|flag| Ok(self.as_word(flag, self.value(flag)?))).collect()
    }

    fn as_word(&self, flag: &Flag, value: String) -> Word {
        Word::new(value, self.reader.line.place(flag.value_span.clone()), self.reader.escape)
    }

    fn truth(&mut self, name: &str) -> Read<Option<bool>> {
        let mut taken = self.take(name);
        let Some(flag) = taken.pop() else { return Ok(None) };
        if !taken.is_empty() {
            return Err(self.reader.bad(&flag.span, format!("`--{name}` is there twice")));
        }
        match flag.value.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(self.reader.bad(&flag.span, format!("`--{name}` is true or false"))),
        }
    }

    fn duration(&mut self, name: &str) -> Read<Option<Duration>> {
        let Some((flag, value)) = self.one(name)? else { return Ok(None) };
        match duration(&value) {
            Some(Duration::ZERO) => Ok(None),
            Some(duration) if duration >= Duration::from_millis(1) => Ok(Some(duration)),
            _ if value.is_empty() => Ok(None),
            _ => {
                let message = format!("`{value}` is no time that `--{name}` can be");
                Err(Box::new(
                    self.reader.bad(&flag.value_span, message).help("times are written as `30s`, `1m30s` or `500ms`"),
                ))
            }
        }
    }

    /// That no flag is left; `known` are those that there are.
    fn finish(&mut self, known: &[&str]) -> Read<()> {
        let Some(flag) = self.flags.first() else { return Ok(()) };
        let (name, instruction) = (flag.name.chars().take(80).collect::<String>(), self.instruction);
        let error = self.reader.wrong(Code::UnknownFlag, &flag.span, format!("`{instruction}` has no flag `--{name}`"));
        Err(Box::new(match closest(&name, known.iter().copied()) {
            Some(meant) => error.label(did_you_mean(format!("--{meant}"))),
            None if known.is_empty() => error.label(format!("`{instruction}` has no flags")),
            None => {
                let known: Vec<String> = known.iter().map(|name| format!("--{name}")).collect();
                error.help(format!("the flags of `{instruction}` are {}", listed(&known)))
            }
        }))
    }
}

/// A time as Go's `time.ParseDuration` reads it, up to a day's thousands; none where it is negative.
fn duration(text: &str) -> Option<Duration> {
    const MOST: f64 = 292.0 * 365.0 * 86_400.0;
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit() && c != '.')?);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit;
        rest = after;
    }
    (seconds < MOST).then(|| Duration::from_secs_f64(seconds))
}
