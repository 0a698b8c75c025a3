//! What the words of a command may mean.

/// What a word of a command may name of the project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandPath {
    /// The path, relative to the manifest.
    pub path: String,
    /// Where the manifest names it, as a JSON pointer.
    pub pointer: String,
    /// Whether the command fails without it: it is the script that a Python is given, or the program itself.
    pub is_needed: bool,
}

/// The paths that the words of a command may stand for, in their order; the manifest has it at the JSON pointer `at`. They are
/// meant from the folder that the code lies in (`/app`): as they are, behind `--option=`, as modules (`-m server`,
/// `server:app`), and in a shell's line.
pub(super) fn paths(command: &[String], at: &str) -> Vec<CommandPath> {
    let program = command.first().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
    let is_python = program.strip_prefix("python").is_some_and(|rest| rest.chars().all(|c| "0123456789.".contains(c)));
    let mut before = "";
    let mut script_is_next = is_python;
    let mut paths = Vec::new();
    for (number, word) in command.iter().enumerate() {
        let pointer = format!("{at}/{number}");
        let mut add = |path: String, is_needed: bool| {
            let path = path.strip_prefix("/app/").unwrap_or(&path);
            let path = path.strip_prefix("./").unwrap_or(path);
            if !path.is_empty() && !path.starts_with(['/', '-']) {
                paths.push(CommandPath { path: path.to_owned(), pointer: pointer.clone(), is_needed });
            }
        };
        let module = |name: &str| {
            let is_name = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'));
            let path = name.replace('.', "/");
            ["", "/__main__", "/__init__"].map(|end| format!("{path}{end}.py")).into_iter().filter(move |_| is_name)
        };
        if number == 0 {
            if word.contains('/') {
                add(word.clone(), word.starts_with("./"));
            }
        } else if script_is_next && before == "-m" {
            module(word).for_each(|path| add(path, false));
            script_is_next = false;
        } else if script_is_next && matches!(before, "-W" | "-X") {
            // How Python runs, and no path.
        } else if script_is_next && before != "-c" && !word.starts_with('-') {
            add(word.clone(), word.ends_with(".py"));
            script_is_next = false;
        } else {
            script_is_next &= before != "-c";
            for piece in word.split(|c: char| c.is_whitespace() || ";|&()'\"`".contains(c)) {
                let piece = piece.split_once('=').filter(|_| piece.starts_with("--")).map_or(piece, |(_, value)| value);
                add(piece.to_owned(), false);
                if let Some((name, _)) = piece.split_once(':') {
                    add(name.to_owned(), false);
                    module(name).for_each(|path| add(path, false));
                }
            }
        }
        before = word;
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_may_name_is_known_by_its_words() {
        let of = |words: &[&str]| {
            let command: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            let paths = paths(&command, "/service/command");
            paths.into_iter().map(|named| named.path + if named.is_needed { "!" } else { "" }).collect::<Vec<_>>()
        };
        assert_eq!(of(&["python", "-u", "server.py", "data.csv"]), ["server.py!", "data.csv"]);
        assert_eq!(of(&["python3.11", "-X", "dev", "./a/b.py"]), ["a/b.py!"]);
        assert_eq!(
            of(&["python", "-m", "my.server"]),
            ["my/server.py", "my/server/__main__.py", "my/server/__init__.py"]
        );
        assert_eq!(of(&["./start.sh"]), ["start.sh!"]);
        assert_eq!(of(&["python", "/app/server.py"]), ["server.py!"]);
        assert_eq!(of(&["/usr/bin/serve", "--config=c/x.yaml", "/etc/x"]), ["c/x.yaml"]);
        let uvicorn = of(&["uvicorn", "server:app"]);
        assert!(uvicorn.contains(&"server.py".to_owned()), "{uvicorn:?}");
        assert!(of(&["sh", "-c", "cd src; exec python 'x.py'"]).contains(&"x.py".to_owned()));
        assert_eq!(of(&["python", "-c", "import this"]), ["import", "this"]);
    }
}
