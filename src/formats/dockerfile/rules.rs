//! What is wrong with a Dockerfile as a whole: variables, stages, and what BuildKit's own checks say of it
//! (`frontend/dockerfile/linter`). `# check=skip=NAME` and `error=true` hold here as there.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::instruction::{Command, Copying, Instruction, Kind, Security, Separator};
use super::scope::{PLATFORMS, Scope};
use super::word::{ExpansionError, Word};
use super::{Dockerfile, Stage};
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Source};
use crate::io::suggest::{closest, did_you_mean};

/// Names of BuildKit's checks, and our own.
const CHECKS: &[&str] = &[
    "ConsistentInstructionCasing",
    "CopyIgnoredFile",
    "DuplicateStageName",
    "ExposeInvalidFormat",
    "ExposeProtoCasing",
    "FromAsCasing",
    "FromPlatformFlagConstDisallowed",
    "InvalidBaseImagePlatform",
    "InvalidDefaultArgInFrom",
    "InvalidDefinitionDescription",
    "JSONArgsRecommended",
    "LegacyKeyValueFormat",
    "MaintainerDeprecated",
    "MultipleInstructionsDisallowed",
    "NoEmptyContinuation",
    "RedundantTargetPlatform",
    "ReservedStageName",
    "SecretsUsedInArgOrEnv",
    "StageNameCasing",
    "UndefinedArgInFrom",
    "UndefinedVar",
    "UnusedStage",
    "WorkdirRelativePath",
];

/// Which checks a file wants.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    skipped: BTreeSet<String>,
    skips_all: bool,
    are_errors: bool,
}

/// Something that is copied from the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContextSource {
    /// `COPY` or `ADD`.
    pub instruction: &'static str,
    /// The path as it was written, its variables replaced by their defaults.
    pub path: String,
    /// Where it stands.
    pub span: Range<usize>,
}

impl Checks {
    /// Whether a check is wanted.
    pub fn wants(&self, check: &str) -> bool {
        !self.skips_all && !self.skipped.contains(check)
    }

    /// Reads the directive. Mistakes go to `found`.
    fn read(directive: Option<&Word>, source: &Arc<Source>, found: &mut Diagnostics) -> Self {
        let mut checks = Self::default();
        let Some(word) = directive else { return checks };
        let mut say = |code, message: String, help: String| {
            found.push(Diagnostic::new(code, source, word.span(), message).help(help));
        };
        for option in word.text().split(';').map(str::trim) {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            match (key.trim(), value.trim()) {
                ("skip", "all") => checks.skips_all = true,
                ("skip", names) => {
                    for name in names.split(',').map(str::trim) {
                        if !CHECKS.contains(&name) {
                            let help = closest(name, CHECKS.iter().copied()).map(did_you_mean);
                            let help = help.unwrap_or_else(|| "docs/dockerfiles.md lists them".to_owned());
                            say(Code::UnknownCheck, format!("there is no check `{name}`"), help);
                        }
                        checks.skipped.insert(name.to_owned());
                    }
                }
                ("error", "true" | "1") => checks.are_errors = true,
                ("error", "false" | "0") | ("experimental", _) => {}
                (key, _) => say(
                    Code::BadInstruction,
                    format!("`{key}` is nothing that can be said of checks"),
                    "write `# check=skip=NAME,NAME;error=true`".to_owned(),
                ),
            }
        }
        checks
    }
}

/// So many variables without a value are looked at: what is meant is searched for among all names.
const MOST_MISSING: usize = 2_000;

/// The stages that one needs, by number; and where it says so.
type Needs = Vec<(usize, Range<usize>)>;

struct Rules<'a> {
    file: &'a Dockerfile,
    source: &'a Arc<Source>,
    checks: Checks,
    found: &'a mut Diagnostics,
}

impl Dockerfile {
    /// Finds what is wrong with the file as a whole, and gives which checks it wants. Mistakes go to `found`.
    pub fn check(&self, source: &Arc<Source>, found: &mut Diagnostics) -> Checks {
        let checks = Checks::read(self.directives.check.as_ref(), source, found);
        if self.lacks_stages {
            return checks;
        }
        let mut rules = Rules { file: self, source, checks, found };
        rules.casing();
        rules.stages();
        rules.variables();
        for (number, stage) in self.stages.iter().enumerate() {
            rules.stage(number, stage);
        }
        for blank in &self.blanks {
            let line = blank.start..blank.start;
            rules.warn("NoEmptyContinuation", Code::OldForm, line, "a blank line within an instruction", "remove it");
        }
        rules.checks
    }

    /// What is copied from the context, as far as it is known before the build; patterns and addresses are left out.
    pub fn context_sources(&self) -> Vec<ContextSource> {
        let mut sources = Vec::new();
        self.each_scope(|_, scope, instruction| {
            let (name, copying) = match &instruction.kind {
                Kind::Copy(copying) if copying.from.is_none() => ("COPY", copying),
                Kind::Add(copying) => ("ADD", copying),
                _ => return,
            };
            for word in &copying.sources {
                let Some(path) = scope.known(word) else { continue };
                let is_pattern = path.contains(['*', '?', '[', '\\']);
                let is_address = name == "ADD" && (path.contains("://") || path.starts_with("git@"));
                if !path.is_empty() && !is_pattern && !is_address {
                    sources.push(ContextSource { instruction: name, path, span: word.span() });
                }
            }
        });
        sources
    }

    /// The stage before `below` that is called `name`; the last one where there are several.
    fn stage_called(&self, name: &str, below: usize) -> Option<usize> {
        let stages = self.stages.get(..below)?;
        stages.iter().rposition(|stage| stage.from.name.as_deref() == Some(name.to_lowercase().as_str()))
    }

    /// Calls `each` for all instructions of all stages with what they see.
    fn each_scope(&self, mut each: impl FnMut(&Stage, &Scope, &Instruction)) {
        let globals = Scope::of_globals(self);
        let mut scopes: Vec<Scope> = Vec::new();
        for (number, stage) in self.stages.iter().enumerate() {
            let parent = globals.known(&stage.from.image).and_then(|name| self.stage_called(&name, number));
            let mut scope = Scope::of_stage(stage, parent.and_then(|parent| scopes.get(parent).cloned()));
            for instruction in &stage.instructions {
                each(stage, &scope, instruction);
                scope.take(instruction, &globals);
            }
            scopes.push(scope);
        }
    }
}

impl Rules<'_> {
    /// One of BuildKit's checks, where it is wanted.
    fn warn(&mut self, check: &str, code: Code, span: Range<usize>, message: impl Into<String>, help: &str) {
        if self.checks.wants(check) {
            let diagnostic = Diagnostic::new(code, self.source, span, message);
            let diagnostic = if help.is_empty() { diagnostic } else { diagnostic.help(help) };
            self.found.push(if self.checks.are_errors { diagnostic.as_error() } else { diagnostic });
        }
    }

    fn error(&mut self, code: Code, span: Range<usize>, message: impl Into<String>, help: &str) {
        let diagnostic = Diagnostic::new(code, self.source, span, message);
        self.found.push(if help.is_empty() { diagnostic } else { diagnostic.help(help) });
    }

    fn written(&self, span: &Range<usize>) -> &str {
        self.source.text().get(span.clone()).unwrap_or_default()
    }

    fn casing(&mut self) {
        let file = self.file;
        let names: Vec<Range<usize>> = file
            .stages
            .iter()
            .flat_map(|stage| {
                let instructions = stage.instructions.iter().map(|instruction| instruction.name.clone());
                std::iter::once(stage.from.keyword.clone()).chain(instructions)
            })
            .collect();
        let count = |test: fn(char) -> bool| names.iter().filter(|name| !self.written(name).chars().any(test)).count();
        let (upper, lower) = (count(char::is_lowercase), count(char::is_uppercase));
        let (wrong, right): (fn(char) -> bool, _) =
            if lower > upper { (char::is_uppercase, "lower") } else { (char::is_lowercase, "upper") };
        for name in names {
            if self.written(&name).chars().any(wrong) {
                let message = format!("`{}` is not in {right} case, as most instructions here", self.written(&name));
                self.warn("ConsistentInstructionCasing", Code::Casing, name, message, "");
            }
        }
        for stage in &file.stages {
            let Some((between, name)) = &stage.from.alias else { continue };
            let keyword = self.written(&stage.from.keyword);
            let is = |test: fn(char) -> bool, text: &str| !text.chars().any(test);
            let differs = |test: fn(char) -> bool| is(test, keyword) && !is(test, between.text());
            if differs(char::is_lowercase) || differs(char::is_uppercase) {
                let message = format!("`{}` and `{keyword}` are not in the same case", between.text());
                self.warn("FromAsCasing", Code::Casing, between.span(), message, "");
            }
            if name.text().chars().any(char::is_uppercase) {
                let message = format!("the stage's name `{}` has capitals, and is used without", name.text());
                self.warn("StageNameCasing", Code::Casing, name.span(), message, "");
            }
        }
    }

    /// Their names, and which of them needs which.
    fn stages(&mut self) {
        let file = self.file;
        let mut names: BTreeMap<&str, &Word> = BTreeMap::new();
        for stage in &file.stages {
            let (Some(name), Some((_, word))) = (&stage.from.name, &stage.from.alias) else { continue };
            if matches!(name.as_str(), "scratch" | "context") {
                let message = format!("a stage called `{name}` is hidden by what that means in `FROM` and `--from`");
                self.warn("ReservedStageName", Code::StageName, word.span(), message, "call it otherwise");
            }
            if let Some(first) = names.insert(name, word)
                && self.checks.wants("DuplicateStageName")
            {
                let message = format!("two stages are called `{name}`");
                let diagnostic = Diagnostic::new(Code::StageName, self.source, word.span(), message);
                let diagnostic = diagnostic.also(self.source, first.span(), "the first one");
                self.found.push(if self.checks.are_errors { diagnostic.as_error() } else { diagnostic });
            }
        }
        let globals = Scope::of_globals(file);
        let needs: Vec<Needs> = (0..file.stages.len()).map(|number| self.needs(number, &globals)).collect();
        let mut used = vec![false; needs.len()];
        let mut open: Vec<usize> = needs.len().checked_sub(1).into_iter().collect();
        while let Some(number) = open.pop() {
            if let Some(seen) = used.get_mut(number)
                && !std::mem::replace(seen, true)
            {
                open.extend(needs.get(number).into_iter().flatten().map(|(needed, _)| *needed));
            }
        }
        self.circles(&needs);
        for (stage, used) in file.stages.iter().zip(used) {
            if used {
                continue;
            }
            let (span, message) = match &stage.from.alias {
                Some((_, name)) => (name.span(), format!("nothing uses the stage `{}`", name.text())),
                None => (stage.from.span.clone(), "nothing uses the stage, and it has no name".to_owned()),
            };
            let help = "it is built with `--target` alone; `# check=skip=UnusedStage` says that this is meant";
            self.warn("UnusedStage", Code::UnusedStage, span, message, help);
        }
    }

    /// The stages that a stage needs. References that can be none are said.
    fn needs(&mut self, number: usize, globals: &Scope) -> Needs {
        let file = self.file;
        let Some(stage) = file.stages.get(number) else { return Needs::new() };
        let image = &stage.from.image;
        let mut needs: Needs = match image.text().split_once('$') {
            // A build argument chooses among those that are called so.
            Some((begin, _)) => {
                let begin = begin.trim_start_matches(['"', '\'']).to_lowercase();
                let earlier = file.stages.iter().take(number).enumerate();
                let chosen = earlier
                    .filter(|(_, earlier)| earlier.from.name.as_ref().is_some_and(|name| name.starts_with(&begin)));
                chosen.map(|(needed, _)| (needed, image.span())).collect()
            }
            None => {
                let base = globals.known(image).and_then(|name| file.stage_called(&name, number));
                base.map(|base| (base, image.span())).into_iter().collect()
            }
        };
        for instruction in &stage.instructions {
            let mut references: Vec<(String, Range<usize>)> = Vec::new();
            match &instruction.kind {
                Kind::Copy(Copying { from: Some(from), .. }) => {
                    references.push((from.text().to_owned(), from.span()));
                }
                Kind::Run(run) => {
                    references.extend(run.mounts.iter().filter_map(|mount| Some((mount.from()?, mount.span()))));
                }
                _ => {}
            }
            for (name, span) in references {
                // A name that no stage has is that of an image.
                let index = name.parse::<usize>().ok();
                let Some(needed) = index.or_else(|| file.stage_called(&name, file.stages.len())) else { continue };
                if needed >= file.stages.len() {
                    let message = format!("there is no stage {needed}: the last one is {}", file.stages.len() - 1);
                    self.error(Code::NoStage, span, message, "stages are counted from 0");
                } else if needed == number {
                    self.error(Code::NoStage, span, "a stage cannot take files from itself", "");
                } else {
                    needs.push((needed, span));
                }
            }
        }
        needs
    }

    /// Says of each stage that needs itself by a detour that it does; only what points forward can close a circle.
    fn circles(&mut self, needs: &[Needs]) {
        for (number, needed) in needs.iter().enumerate() {
            let forward = || needed.iter().filter(|(needed, _)| *needed > number);
            let mut seen = BTreeSet::new();
            let mut open: Vec<usize> = forward().map(|(needed, _)| *needed).collect();
            while let Some(next) = open.pop() {
                if seen.insert(next) {
                    open.extend(needs.get(next).into_iter().flatten().map(|(needed, _)| *needed));
                }
            }
            if let Some((_, span)) = forward().next().filter(|_| seen.contains(&number)) {
                let message = "the stages need each other";
                self.error(Code::NoStage, span.clone(), message, "take files from earlier stages alone");
            }
        }
    }

    /// What is expanded with variables that are not there, and what cannot be expanded.
    fn variables(&mut self) {
        let file = self.file;
        let globals = Scope::of_globals(file);
        let usual = Scope::of_usual_globals(file);
        let of_stages = file.stages.iter().flat_map(|stage| &stage.instructions).flat_map(|it| match &it.kind {
            Kind::Arg(named) => named.as_slice(),
            _ => &[],
        });
        let of_stages: BTreeSet<&str> = of_stages.map(|argument| argument.name.text()).collect();
        for stage in &file.stages {
            let from = &stage.from;
            for word in std::iter::once(&from.image).chain(&from.platform) {
                self.broken(word, &globals);
                for name in word.missing(&|name| globals.value(name)) {
                    self.unset_in_from(word, &name, &globals, &of_stages);
                }
            }
            self.base(stage, &usual);
        }
        // Names that are set anywhere: one of these was meant, though a base may have it.
        let mut anywhere: BTreeSet<String> = PLATFORMS.iter().map(|name| (*name).to_owned()).collect();
        anywhere.extend(globals.names().map(str::to_owned));
        for instruction in file.stages.iter().flat_map(|stage| &stage.instructions) {
            match &instruction.kind {
                Kind::Env(pairs) => anywhere.extend(pairs.iter().map(|pair| pair.name.text().to_owned())),
                Kind::Arg(named) => anywhere.extend(named.iter().map(|named| named.name.text().to_owned())),
                _ => {}
            }
        }
        let mut looked_at = 0;
        file.each_scope(|_, scope, instruction| {
            for (place, word, missing) in expanded(&instruction.kind, &|name| scope.value(name)) {
                if let Some(word) = word {
                    self.broken(word, scope);
                }
                for name in missing {
                    looked_at += 1;
                    if looked_at <= MOST_MISSING {
                        self.unset(place.clone(), &name, scope, &anywhere);
                    }
                }
            }
        });
    }

    fn broken(&mut self, word: &Word, scope: &Scope) {
        match word.expand(&|name| scope.value(name)) {
            // Which value it has is for the build to know.
            Ok(_) | Err(ExpansionError::Required { .. }) => {}
            Err(error) => self.error(Code::BadExpansion, word.span(), error.to_string(), ""),
        }
    }

    fn unset_in_from(&mut self, word: &Word, name: &str, globals: &Scope, of_stages: &BTreeSet<&str>) {
        if !self.checks.wants("UndefinedArgInFrom") {
            return;
        }
        let message = format!("no `ARG` before the first `FROM` declares `{name}`");
        let diagnostic = Diagnostic::new(Code::UnsetInFrom, self.source, word.span(), message);
        let help = match closest(name, globals.names()) {
            _ if of_stages.contains(name) => {
                format!("the `ARG {name}` of a stage is known in that stage alone: write it before the first `FROM`")
            }
            Some(meant) => did_you_mean(meant),
            None => format!("write `ARG {name}=…` before the first `FROM`"),
        };
        self.found.push(diagnostic.help(help));
    }

    /// What `FROM` names with the defaults of all variables.
    fn base(&mut self, stage: &Stage, globals: &Scope) {
        let image = &stage.from.image;
        let value = |name: &str| globals.value(name);
        // What is missing was said.
        if !image.missing(&value).is_empty() || !image.text().contains('$') {
            return;
        }
        let Ok(name) = image.expand(&value) else { return };
        let is_name = !name.is_empty() && !name.starts_with([':', '@', '/']) && !name.ends_with([':', '@', '/', '-']);
        if !is_name || name.contains("//") || name.contains("/:") {
            let message = format!("without a build argument the image is called `{name}`");
            self.warn("InvalidDefaultArgInFrom", Code::NoDefaultInFrom, image.span(), message, "give `ARG` a default");
        }
    }

    fn unset(&mut self, place: Range<usize>, name: &str, scope: &Scope, anywhere: &BTreeSet<String>) {
        // Each stage has `PATH`, and what ends in it is called so by many bases.
        let meant = closest(name, scope.names().filter(|known| *known != "PATH")).map(str::to_owned);
        let is_elsewhere = anywhere.contains(name);
        if scope.has_base && !is_elsewhere && meant.is_none() {
            return;
        }
        let help = match meant {
            _ if is_elsewhere => format!("`ARG {name}` in this stage makes it known, where a build has it"),
            Some(meant) => did_you_mean(meant),
            None => String::new(),
        };
        let message = format!("nothing sets `{name}` before this");
        self.warn("UndefinedVar", Code::UnsetVariable, place, message, &help);
    }

    /// What is wrong within one stage.
    fn stage(&mut self, number: usize, stage: &Stage) {
        self.platform(stage);
        let mut last: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        // A stage of this file does not change unseen.
        let mut has_workdir = self.file.stage_called(stage.from.image.text(), number).is_some();
        let mut has_shell = false;
        for instruction in &stage.instructions {
            let name = instruction.kind.name();
            match &instruction.kind {
                Kind::Cmd(command) | Kind::Entrypoint(command) => {
                    self.only_last(name, instruction, &mut last);
                    if matches!(command, Command::Shell(_)) && !has_shell {
                        let message = format!("a shell stands in front of this `{name}`, and keeps signals from it");
                        let help = "write it as a list of texts: `[\"program\", \"argument\"]`";
                        let span = instruction.name.clone();
                        self.warn("JSONArgsRecommended", Code::ShellForm, span, message, help);
                    }
                }
                Kind::HealthCheck(_) => self.only_last(name, instruction, &mut last),
                // Whoever chooses a shell wants one.
                Kind::Shell(_) => has_shell = true,
                Kind::Workdir(word) => {
                    let is_relative = !word.text().trim_start_matches(['"', '\'']).starts_with(['/', '$']);
                    if !has_workdir && is_relative {
                        let message = format!("`{}` lies below the working folder of the base", word.text());
                        self.warn(
                            "WorkdirRelativePath",
                            Code::RelativeWorkdir,
                            word.span(),
                            message,
                            "begin it with `/`",
                        );
                    }
                    has_workdir = true;
                }
                Kind::Env(pairs) => {
                    for pair in pairs {
                        self.secret(name, &pair.name);
                        self.separator(name, &pair.name, pair.separator);
                    }
                }
                Kind::Label(pairs) => {
                    for pair in pairs {
                        self.separator(name, &pair.name, pair.separator);
                    }
                }
                Kind::Arg(named) => named.iter().for_each(|named| self.secret(name, &named.name)),
                Kind::Maintainer(_) => {
                    let help = "write `LABEL org.opencontainers.image.authors=\"…\"`";
                    let message = "`MAINTAINER` is going away";
                    self.warn("MaintainerDeprecated", Code::OldForm, instruction.name.clone(), message, help);
                }
                Kind::Expose(ports) => ports.iter().for_each(|port| self.port(port)),
                Kind::Run(run) => {
                    if let Security::Insecure(span) = &run.security {
                        let message = "no step is given all rights on this machine";
                        self.error(Code::InsecureStep, span.clone(), message, "leave `--security` out");
                    }
                }
                _ => {}
            }
        }
    }

    fn only_last<'k>(&mut self, name: &'k str, instruction: &Instruction, last: &mut BTreeMap<&'k str, Range<usize>>) {
        if let Some(before) = last.insert(name, instruction.name.clone())
            && self.checks.wants("MultipleInstructionsDisallowed")
        {
            let message = format!("a later `{name}` of the stage replaces this one");
            let diagnostic = Diagnostic::new(Code::OnlyLastCounts, self.source, before, message).also(
                self.source,
                instruction.name.clone(),
                "this one counts",
            );
            self.found.push(if self.checks.are_errors { diagnostic.as_error() } else { diagnostic });
        }
    }

    fn separator(&mut self, instruction: &str, name: &Word, separator: Separator) {
        if separator == Separator::Space {
            let message = format!("`{instruction} {0} …` is the old form of `{instruction} {0}=…`", name.text());
            self.warn("LegacyKeyValueFormat", Code::OldForm, name.span(), message, "");
        }
    }

    /// Goes by names, as BuildKit does.
    fn secret(&mut self, instruction: &str, name: &Word) {
        const SECRET: &[&str] =
            &["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
        let text = name.text().to_lowercase();
        let parts = || text.split('_');
        if parts().any(|part| SECRET.contains(&part))
            && !parts().any(|part| matches!(part, "public" | "file" | "version"))
        {
            let message = format!("`{instruction} {}` looks like a secret, and stays in the image", name.text());
            let help = "a step gets a secret with `RUN --mount=type=secret,id=…`";
            self.warn("SecretsUsedInArgOrEnv", Code::SecretInImage, name.span(), message, help);
        }
    }

    fn port(&mut self, port: &Word) {
        let text = port.text();
        if text.contains('$') {
            return;
        }
        if let Some((_, protocol)) = text.split_once('/')
            && protocol.chars().any(char::is_uppercase)
        {
            let message = format!("the protocol `{protocol}` is written in lower case");
            self.warn("ExposeProtoCasing", Code::Casing, port.span(), message, "");
        }
        if text.contains(':') {
            let message = "an image can say which port it has, not where that is published";
            self.warn(
                "ExposeInvalidFormat",
                Code::OldForm,
                port.span(),
                message,
                "write the port of the container alone",
            );
        }
    }

    fn platform(&mut self, stage: &Stage) {
        let Some(platform) = &stage.from.platform else { return };
        let text = platform.text();
        if matches!(text, "$TARGETPLATFORM" | "${TARGETPLATFORM}") {
            let message = "the platform that is asked for is what every stage has";
            self.warn(
                "RedundantTargetPlatform",
                Code::FixedPlatform,
                platform.span(),
                message,
                "leave `--platform` out",
            );
        } else if !text.contains('$') {
            let name = stage.from.name.as_deref().unwrap_or_default();
            // A stage that is called after it is meant to be of it.
            if !text.split('/').any(|part| !part.is_empty() && name.contains(part)) {
                let message = format!("the stage is for `{text}`, whatever platform is asked for");
                let help = "leave it out, or write `$BUILDPLATFORM` where the stage only compiles";
                self.warn("FromPlatformFlagConstDisallowed", Code::FixedPlatform, platform.span(), message, help);
            }
        }
    }
}

/// A place where variables are replaced, the word that it is, and those of its variables that are missing.
type Use<'a> = (Range<usize>, Option<&'a Word>, Vec<String>);

/// The places of an instruction in which variables are replaced.
fn expanded<'a>(kind: &'a Kind, value: &dyn Fn(&str) -> Option<String>) -> Vec<Use<'a>> {
    let word = |word: &'a Word| (word.span(), Some(word), word.missing(value));
    match kind {
        Kind::Env(pairs) | Kind::Label(pairs) => {
            pairs.iter().flat_map(|pair| [word(&pair.name), word(&pair.value)]).collect()
        }
        Kind::Arg(named) => named.iter().flat_map(|named| &named.default).map(word).collect(),
        Kind::Workdir(one) | Kind::User(one) | Kind::StopSignal(one) => vec![word(one)],
        Kind::Expose(several) | Kind::Volume(several) => several.iter().map(word).collect(),
        Kind::Copy(copying) | Kind::Add(copying) => {
            let flags = [&copying.chown, &copying.chmod, &copying.checksum].into_iter().flatten();
            let words = copying.sources.iter().chain([&copying.target]).chain(flags).map(word);
            let texts = copying.documents.iter().map(|text| (text.span.clone(), None, text.missing(value)));
            words.chain(texts).collect()
        }
        Kind::Run(run) => run.mounts.iter().map(|mount| (mount.span(), None, mount.missing(value))).collect(),
        // Its variables are those of whoever builds upon the image.
        Kind::OnBuild(_) => Vec::new(),
        Kind::Cmd(_) | Kind::Entrypoint(_) | Kind::Shell(_) | Kind::HealthCheck(_) | Kind::Maintainer(_) => Vec::new(),
    }
}
