//! What would be packed and should not be: secrets, and what is of no use to the model.
//!
//! A secret is known by its file's name or by its form; the forms are those that the issuers publish so that scanners
//! find them. No part of a secret is repeated in a message.

use std::collections::BTreeSet;
use std::io::Read;

use fs_err as fs;

use super::Subject;
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::project::files::{IGNORE_FILE, ProjectFile};

/// Bytes of a file that are searched. What is larger is data.
const SEARCHED: u64 = 256 << 10;

/// Names of files that hold secrets.
const SECRET_NAMES: &[&str] = &[
    ".env",
    ".netrc",
    "_netrc",
    ".pypirc",
    ".npmrc",
    ".git-credentials",
    ".htpasswd",
    ".pgpass",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "kubeconfig",
    "credentials.json",
    "service-account.json",
    ".dockercfg",
    "secrets.toml",
    "secrets.yaml",
    "secrets.yml",
    "secrets.json",
];

const SECRET_ENDINGS: &[&str] = &[".pfx", ".p12", ".jks", ".keystore", ".kdbx", ".ovpn", ".ppk"];

/// Names of files and folders that are of no use, and what they are.
const RUBBISH: &[(&str, &str)] = &[
    (".ipynb_checkpoints", "copies that Jupyter keeps"),
    ("node_modules", "packages of JavaScript"),
    (".mypy_cache", "a cache"),
    (".pytest_cache", "a cache"),
    (".ruff_cache", "a cache"),
    (".cache", "a cache"),
    (".DS_Store", "a file of macOS"),
    ("Thumbs.db", "a file of Windows"),
    (".idea", "an editor's folder"),
    (".vscode", "an editor's folder"),
    (".hg", "a repository"),
    (".svn", "a repository"),
    ("wandb", "logs of the training"),
    ("mlruns", "logs of the training"),
    ("lightning_logs", "logs of the training"),
    ("optimizer.pt", "the state of the training"),
    ("scheduler.pt", "the state of the training"),
    ("rng_state.pth", "the state of the training"),
    ("venv", "an environment of Python"),
];

/// Looks for them; what is found goes to `found`.
pub fn check(subject: &Subject<'_>, found: &mut Diagnostics) {
    let mut said = BTreeSet::new();
    let files = subject.files;
    for file in files.model.iter().chain(&files.code).chain(&files.metadata) {
        let path = file.path.as_str();
        if let Some((rubbish, what)) = rubbish(path) {
            if said.insert(rubbish.to_owned()) {
                let shown = crate::formats::document::shown(&subject.root.join(rubbish));
                let warning = Diagnostic::of_file(Code::Rubbish, shown, format!("`{rubbish}` would be packed: {what}"));
                found.push(warning.help(format!("leave it out: add `{rubbish}` to `{IGNORE_FILE}`")));
            }
            continue;
        }
        let name = file.path.name();
        if is_secret_name(name) {
            found.push(secret(subject, path, format!("`{path}` would be packed, and such files hold secrets")));
        } else if let Some((what, line)) = token(file) {
            found.push(secret(subject, path, format!("`{path}` would be packed, and line {line} looks like {what}")));
        }
    }
    for (name, value) in &subject.manifest.env {
        if let Some(what) = looks_secret(value) {
            let at = crate::formats::document::pointer(["env", name.as_str()]);
            let warning =
                subject.document.at_key(Code::Secret, &at, format!("the value of `{name}` looks like {what}"));
            found.push(warning.help("give it to the container when it starts, instead of packing it"));
        }
    }
}

fn secret(subject: &Subject<'_>, path: &str, message: String) -> Diagnostic {
    let shown = crate::formats::document::shown(&subject.root.join(path));
    Diagnostic::of_file(Code::Secret, shown, message).help(format!("leave it out: add `{path}` to `{IGNORE_FILE}`"))
}

/// The part of a path that is of no use, and what it is.
fn rubbish(path: &str) -> Option<(&str, &'static str)> {
    let mut end = 0;
    for name in path.split('/') {
        end += name.len();
        let compiled = name.ends_with(".pyc").then_some("compiled Python, which is made anew");
        let listed = RUBBISH.iter().find(|(rubbish, _)| *rubbish == name).map(|(_, what)| *what);
        let packaging = name.ends_with(".egg-info").then_some("a record of an installation");
        if let Some(what) = listed.or(compiled).or(packaging) {
            return Some((path.get(..end)?, what));
        }
        end += 1;
    }
    None
}

fn is_secret_name(name: &str) -> bool {
    // `.env.example` and the like are there to be shown.
    let shown = [".example", ".sample", ".template", ".dist"].iter().any(|end| name.ends_with(end));
    !shown
        && (SECRET_NAMES.contains(&name)
            || name.starts_with(".env.")
            || SECRET_ENDINGS.iter().any(|end| name.ends_with(end)))
}

/// What a file holds that looks like a secret, and on which line.
fn token(file: &ProjectFile) -> Option<(&'static str, usize)> {
    if file.size > SEARCHED {
        return None;
    }
    let mut bytes = Vec::new();
    fs::File::open(&file.host).ok()?.take(SEARCHED).read_to_end(&mut bytes).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?;
    text.lines().zip(1..).find_map(|(line, number)| looks_secret(line).map(|what| (what, number)))
}

/// Beginnings of tokens: how many letters, digits, `_` and `-` follow at least, and what they are.
const TOKENS: &[(&str, usize, &str)] = &[
    ("AKIA", 16, "an access key of AWS"),
    ("ASIA", 16, "an access key of AWS"),
    ("ghp_", 36, "a token of GitHub"),
    ("gho_", 36, "a token of GitHub"),
    ("ghs_", 36, "a token of GitHub"),
    ("github_pat_", 40, "a token of GitHub"),
    ("glpat-", 20, "a token of GitLab"),
    ("xoxb-", 20, "a token of Slack"),
    ("xoxp-", 20, "a token of Slack"),
    ("hf_", 30, "a token of Hugging Face"),
    ("AIza", 35, "a key of Google"),
    ("npm_", 36, "a token of npm"),
    ("sk-ant-", 40, "a key of Anthropic"),
    ("sk-proj-", 40, "a key of OpenAI"),
    ("dckr_pat_", 20, "a token of Docker Hub"),
];

fn looks_secret(line: &str) -> Option<&'static str> {
    if line.contains("-----BEGIN ") && line.contains("PRIVATE KEY-----") {
        return Some("a private key");
    }
    TOKENS.iter().find_map(|(begin, length, what)| {
        line.match_indices(begin).find_map(|(at, _)| {
            // A word that only has it inside is none.
            let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            let before = line.get(..at).and_then(|before| before.chars().next_back());
            let rest = line.get(at + begin.len()..)?;
            let follow: Vec<char> = rest.chars().take_while(|c| word(*c)).collect();
            let digits = follow.iter().filter(|c| c.is_ascii_digit()).count();
            (!before.is_some_and(word) && follow.len() >= *length && digits >= 2).then_some(*what)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_known_by_their_form() {
        let letters = "a1B2c3D4".repeat(6);
        for (begin, _, what) in TOKENS {
            assert_eq!(looks_secret(&format!("key = \"{begin}{letters}\"")), Some(*what));
            assert_eq!(looks_secret(&format!("{begin}short")), None);
        }
        assert_eq!(looks_secret(&format!("-----BEGIN RSA {} KEY-----", "PRIVATE")), Some("a private key"));
        assert_eq!(looks_secret("hf_this_is_only_the_name_of_a_function_that_is_long"), None);
    }

    #[test]
    fn rubbish_is_named_by_its_folder() {
        assert_eq!(rubbish("src/.ipynb_checkpoints/a.py").map(|(path, _)| path), Some("src/.ipynb_checkpoints"));
        assert_eq!(rubbish("src/a.py"), None);
        assert!(is_secret_name(".env.local") && !is_secret_name(".env.example") && !is_secret_name("environment.py"));
    }
}
