//! Commands that make the base: whether each can be read, and the Dockerfile with them.

use super::Subject;
use crate::base::Named;
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Source};
use crate::formats::dockerfile::{Dockerfile, Instruction};
use crate::formats::document::{self, shown};
use crate::io::archive::ArchivePath;

/// Mistakes go to `found`.
pub(super) fn check(subject: &Subject<'_>, found: &mut Diagnostics) {
    let &Subject { manifest, document, root, .. } = subject;
    for (number, command) in manifest.system.run.iter().enumerate() {
        let at = format!("/system/run/{number}");
        let bad = |message: String| document.at(Code::BadCommands, &at, message);
        let command = command.trim();
        if command.is_empty() {
            found.push(bad("the command is empty".to_owned()));
        } else if !command.contains('\n')
            && let Err(mistakes) = Instruction::parse(&Source::new("system.run", format!("RUN {command}")))
        {
            found.extend(mistakes.sorted().into_iter().map(|mistake| bad(mistake.message.clone())));
        } else if command.ends_with('\\') {
            found.push(bad("the command ends with `\\`, and nothing follows".to_owned()));
        }
    }
    let build = &manifest.build;
    let Some(file) = &build.file else {
        for (key, is_there) in [("target", build.target.is_some()), ("args", !build.args.is_empty())] {
            if is_there {
                let message = format!("`{key}` is for a Dockerfile, and none is named");
                let error = document.at_key(Code::BadCommands, &format!("/build/{key}"), message);
                found.push(error.help("name it: `file: Dockerfile`"));
            }
        }
        return;
    };
    if !matches!(manifest.base.meant().map(|base| base.named()), Ok(Named::Auto)) {
        found.push(
            document
                .at_key(Code::BadCommands, "/base", "there are two bases")
                .also(&document.source, document.key_span_of("/build/file"), "the other one")
                .help("leave one of them out"),
        );
    }
    let at = "/build/file";
    let path = match ArchivePath::relative(file) {
        Ok(path) => path.under(root),
        Err(_) => {
            found.push(document.at(Code::PathLeaves, at, format!("`{file}` is not a path in the project")));
            return;
        }
    };
    if !path.is_file() {
        found.push(document.at(Code::NoFile, at, format!("there is no file `{file}`")));
        return;
    }
    if let Some(source) = document::read_text(&path, &shown(&path), document::MAX_BYTES, found) {
        let read = Dockerfile::read(&source, found);
        read.check(&source, found);
        let names: Vec<_> = read.stages.iter().filter_map(|stage| stage.from.name.clone()).collect();
        if let Some(target) = &build.target
            && !names.iter().any(|name| name.eq_ignore_ascii_case(target))
            && target.parse::<usize>().map_or(true, |number| number >= read.stages.len())
        {
            let message = format!("`{file}` has no stage `{target}`");
            found.push(Diagnostic::help(
                document.at(Code::BadCommands, "/build/target", message),
                format!("its stages are {}", names.join(", ")),
            ));
        }
    }
}
