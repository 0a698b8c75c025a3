//! A Dockerfile with the context that it is built in: what it copies, and what is left out of that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;

use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Source};
use crate::formats::dockerfile::{ContextSource, Dockerfile, FILES, Ignore, clean};
use crate::formats::document::{self, shown};

/// Whether a file is called as Dockerfiles are: also `NAME.Dockerfile`, `Dockerfile.NAME` and `Dockerfile_NAME`, and no
/// template of one.
pub(super) fn is_name(name: &str) -> bool {
    const OTHERS: &[&str] =
        &["dockerignore", "erb", "in", "j2", "jinja", "jinja2", "md", "template", "tmpl", "tpl", "txt"];
    let folded = name.to_ascii_lowercase();
    let ending = folded.rsplit('.').next().unwrap_or_default();
    if OTHERS.contains(&ending) {
        return false;
    }
    FILES.into_iter().any(|known| {
        let plain = known.to_ascii_lowercase();
        match name.strip_prefix(known) {
            Some(rest) if rest.starts_with('.') => true,
            // With another ending it is a file of another kind, about a Dockerfile.
            Some(rest) => !rest.starts_with(char::is_alphabetic) && !rest.contains('.'),
            None => folded == plain || ending == plain,
        }
    })
}

/// All that is wrong with a Dockerfile, and with what it takes from `context`, or from the folder that it was probably
/// written for. Mistakes go to `found`.
pub(super) fn judge(path: &Path, context: Option<&Path>, found: &mut Diagnostics) {
    let Some(source) = document::read_text(path, &shown(path), document::MAX_BYTES, found) else { return };
    let file = Dockerfile::read(&source, found);
    let checks = file.check(&source, found);
    let sources = file.context_sources();
    let folder = match context {
        Some(context) => context.to_owned(),
        None => context_of(path, &sources),
    };
    let ignore = ignore(path, &folder, found);
    for copied in &sources {
        let place = inside(&copied.path);
        let name = &copied.path;
        if !is_there(&folder, &place) {
            let message = format!("`{name}` is not in the context");
            let help = format!("the context is {}; `--context` names another folder", described(&folder));
            found.push(Diagnostic::new(Code::NoSource, &source, copied.span.clone(), message).help(help));
        } else if let Some((ignore, ignored_by)) = &ignore
            && checks.wants("CopyIgnoredFile")
            && is_left_out(ignore, &folder, &place)
        {
            let message = format!("`{name}` is left out of the context by {}", shown(ignored_by));
            let help = format!("a line `!{place}` at the end of {} takes it up again", shown(ignored_by));
            found.push(Diagnostic::new(Code::LeftOutSource, &source, copied.span.clone(), message).help(help));
        }
    }
}

/// The path in the context; nothing leads out of it.
fn inside(path: &str) -> String {
    let path = clean(&format!("/{path}"));
    path.trim_start_matches('/').to_owned()
}

fn is_there(folder: &Path, place: &str) -> bool {
    folder.join(place).symlink_metadata().is_ok()
}

fn is_left_out(ignore: &Ignore, folder: &Path, place: &str) -> bool {
    match folder.join(place).is_dir() {
        // Of the whole context some of it is always there, or the other lines say what is not.
        true => !place.is_empty() && ignore.is_left_out_as_a_whole(place),
        false => ignore.is_left_out(place),
    }
}

/// The folder that a Dockerfile was probably written for: the nearest one, from its own up to the root of the
/// repository, in which all is that it copies. Its own where there is none.
fn context_of(path: &Path, sources: &[ContextSource]) -> PathBuf {
    let own = path.parent().filter(|own| !own.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
    let Ok(real) = fs::canonicalize(&own) else { return own };
    for folder in real.ancestors() {
        if sources.iter().all(|copied| is_there(folder, &inside(&copied.path))) {
            return if folder == real { own } else { folder.to_owned() };
        }
        if folder.join(".git").exists() {
            break;
        }
    }
    own
}

fn described(folder: &Path) -> String {
    if folder == Path::new(".") { "the current folder".to_owned() } else { format!("`{}`", shown(folder)) }
}

/// What is left out of the context, and which file says so: one that is called after the Dockerfile comes first.
fn ignore(path: &Path, folder: &Path, found: &mut Diagnostics) -> Option<(Ignore, PathBuf)> {
    let mut own = path.as_os_str().to_owned();
    own.push(".dockerignore");
    let file = [PathBuf::from(own), folder.join(".dockerignore")].into_iter().find(|file| file.is_file())?;
    let source: Arc<Source> = document::read_text(&file, &shown(&file), document::MAX_BYTES, found)?;
    match Ignore::read(source.text()) {
        Ok(ignore) => Some((ignore, file)),
        Err(error) => {
            let line = source.line(error.line());
            found.push(Diagnostic::new(Code::BadInstruction, &source, line, error.reason()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockerfiles_are_known_by_their_names() {
        for name in [
            "Dockerfile",
            "dockerfile",
            "Containerfile",
            "Dockerfile.gpu",
            "Dockerfile_gpu",
            "Containerfile2",
            "gpu.Dockerfile",
            "gpu.dockerfile",
            "a.containerfile",
        ] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "Dockerfile.dockerignore",
            "Dockerfile.j2",
            "Dockerfile.md",
            "dockerfile.py",
            "MyDockerfile",
            ".dockerignore",
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
