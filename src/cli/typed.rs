//! Shells hand a word over as it is typed, with its backslashes and quotes, and bash and zsh write what they are answered as it is:
//! so names with spaces are read and written as the shells have them.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;

use clap::Command;
use clap_complete::engine;
use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Shells, Zsh};

/// All shells that are completed for.
pub const SHELLS: Shells<'static> = Shells(&[
    &Typed { shell: &Bash, script: of_bash, answer: to_bash },
    &Elvish,
    &Typed { shell: &Fish, script: str::to_owned, answer: to_fish },
    &Powershell,
    &Typed { shell: &Zsh, script: of_zsh, answer: to_zsh },
]);

/// What is between two answers to bash; it is the script's own.
const BETWEEN: &str = "\u{b}";

/// A shell that hands words over as they are typed.
struct Typed {
    shell: &'static dyn EnvCompleter,
    /// Its script, made of that of the library.
    script: fn(&str) -> String,
    /// Answers it.
    answer: Answer,
}

type Answer = fn(&mut Command, Vec<OsString>, Option<&Path>, &mut dyn Write) -> io::Result<()>;

impl EnvCompleter for Typed {
    fn name(&self) -> &'static str {
        self.shell.name()
    }

    fn is(&self, name: &str) -> bool {
        self.shell.is(name)
    }

    fn write_registration(
        &self,
        var: &str,
        name: &str,
        bin: &str,
        completer: &str,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        let mut script = Vec::new();
        self.shell.write_registration(var, name, bin, completer, &mut script)?;
        buf.write_all((self.script)(&String::from_utf8_lossy(&script)).as_bytes())
    }

    fn write_complete(
        &self,
        command: &mut Command,
        words: Vec<OsString>,
        folder: Option<&Path>,
        buf: &mut dyn Write,
    ) -> io::Result<()> {
        (self.answer)(command, words, folder, buf)
    }
}

/// The word up to the cursor comes without the quote that it begins with.
fn of_bash(script: &str) -> String {
    let word = "words[COMP_CWORD]=\"$2\"";
    let whole = "words[COMP_CWORD]=\"${COMP_WORDS[COMP_CWORD]%%[^\\'\\\"]*}$2\"";
    script.replace(word, whole)
}

fn to_bash(command: &mut Command, words: Vec<OsString>, folder: Option<&Path>, buf: &mut dyn Write) -> io::Result<()> {
    let values: Vec<String> = complete(command, &words, folder)?.into_iter().map(|(value, _)| value).collect();
    buf.write_all(values.join(BETWEEN).as_bytes())
}

/// Only the last word is as it is typed.
fn to_fish(
    command: &mut Command,
    mut words: Vec<OsString>,
    folder: Option<&Path>,
    buf: &mut dyn Write,
) -> io::Result<()> {
    if let Some(last) = words.last_mut() {
        *last = meant(last);
    }
    Fish.write_complete(command, words, folder, buf)
}

/// Else zsh quotes what is quoted, and the `~` of a home.
fn of_zsh(script: &str) -> String {
    script.replace("'values' dirs", "'values' dirs -Q").replace("'values' other", "'values' other -Q")
}

fn to_zsh(command: &mut Command, words: Vec<OsString>, folder: Option<&Path>, buf: &mut dyn Write) -> io::Result<()> {
    for (value, help) in complete(command, &words, folder)? {
        let escaped = |text: &str| text.replace('\\', "\\\\");
        let value = escaped(&value).replace(':', "\\:");
        match help.as_deref().and_then(|help| help.lines().next()) {
            Some(help) => writeln!(buf, "{value}:{}", escaped(help))?,
            None => writeln!(buf, "{value}")?,
        }
    }
    Ok(())
}

/// What may stand in the place of the word that the shell's script names by its number, as it is typed, and the help on it.
fn complete(
    command: &mut Command,
    words: &[OsString],
    folder: Option<&Path>,
) -> io::Result<Vec<(String, Option<String>)>> {
    let index: usize =
        std::env::var("_CLAP_COMPLETE_INDEX").ok().and_then(|index| index.parse().ok()).unwrap_or_default();
    let first = words.get(index).and_then(|word| word.as_bytes().first()).copied();
    let mut words: Vec<OsString> = words.iter().map(meant).collect();
    // One that is not begun.
    if words.len() == index {
        words.push(OsString::new());
    }
    let found = engine::complete(command, words, index, folder)?.into_iter().map(|candidate| {
        let value = candidate.get_value().to_string_lossy();
        (typed(&value, first), candidate.get_help().map(ToString::to_string))
    });
    Ok(found.collect())
}

/// A word without the quotes and backslashes that it is typed with. Quotes may be open yet.
fn meant(word: &OsString) -> OsString {
    let mut bytes = word.as_bytes().iter().copied().peekable();
    let (mut meant, mut quote) = (Vec::new(), None);
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'\'' | b'"', None) => quote = Some(byte),
            (_, Some(open)) if byte == open => quote = None,
            (b'\\', None) => meant.extend(bytes.next()),
            (b'\\', Some(b'"')) => meant.push(bytes.next_if(|next| b"\"\\$`".contains(next)).unwrap_or(byte)),
            _ => meant.push(byte),
        }
    }
    OsString::from_vec(meant)
}

/// A word as it is typed behind `first`, which may be a quote. The `~` of a home stays.
fn typed(value: &str, first: Option<u8>) -> String {
    match first {
        Some(b'\'') => return value.replace('\'', r"'\''"),
        Some(b'"') => return escaped(value, |c| "\"\\$`".contains(c)),
        _ => {}
    }
    let (home, rest) = if value.starts_with("~/") { value.split_at(2) } else { ("", value) };
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:=@+,%".contains(c);
    home.to_owned() + &escaped(rest, |c| !is_plain(c))
}

fn escaped(text: &str, is_special: impl Fn(char) -> bool) -> String {
    text.chars().flat_map(|c| is_special(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_meant_without_its_quotes() {
        for (typed, wanted) in [
            ("plain", "plain"),
            (r"my\ projet/", "my projet/"),
            ("'it is", "it is"),
            (r#""a \"b\" \c"#, r#"a "b" \c"#),
            (r#"a'b'"c"d"#, "abcd"),
            (r"end\", "end"),
        ] {
            assert_eq!(meant(&typed.into()), wanted, "{typed}");
        }
    }

    #[test]
    fn what_is_typed_means_the_word() {
        for word in ["iris:1.0", "~/my models/", "a'b\"c", "$(rm) `x` \\ ; & | *", "modèle (1).pkl", "--output=json"] {
            for quote in ["", "'", "\""] {
                let typed = format!("{quote}{}", typed(word, quote.bytes().next()));
                assert_eq!(meant(&OsString::from(&typed)), word, "{typed}");
                // Whoever closes the quote has the same.
                assert_eq!(meant(&OsString::from(typed + quote)), word);
            }
        }
        assert_eq!(typed("~/my models/", None), r"~/my\ models/");
        assert_eq!(typed("iris:1.0", None), "iris:1.0");
        // That is a file of this name, and no home.
        assert_eq!(typed("~x/", None), r"\~x/");
    }
}
