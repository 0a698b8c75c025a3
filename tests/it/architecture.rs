//! The house as `docs/architecture.md` has it: the table of rooms there, against all that the source imports.
//!
//! A room uses only rooms below it; those of one row know nothing of each other. No files need each other in a circle,
//! but for a module and the modules within it, which are one thing in several files. Paths are followed through `pub use`
//! to the file that owns the name. What only unit tests need does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// As many things lie directly below `src`.
const MOST: usize = 14;

/// A path as it stands in a file, without the names that `as` gives.
type Names = Vec<String>;

/// A file of the library.
#[derive(Default)]
struct File {
    /// Names that are imported or declared as modules, and where they lead.
    imports: BTreeMap<String, Names>,
    /// Modules of which everything is imported.
    globs: Vec<Names>,
    /// Names that are imported for others.
    exports: BTreeMap<String, Names>,
    /// All other paths from the root of the crate.
    paths: Vec<Names>,
    /// All other paths that begin with a name of the file's own. What is not imported from here is another crate's.
    relative: Vec<Names>,
}

struct House {
    /// By module: `["io", "archive", "path"]`.
    files: BTreeMap<Names, File>,
}

fn names(text: &str) -> Names {
    text.split("::").map(str::to_owned).collect()
}

/// The source files below `folder` by their modules.
fn sources(folder: &Path, module: &Names, found: &mut Vec<(Names, String)>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let inner = [module.as_slice(), std::slice::from_ref(&name)].concat();
        if path.is_dir() {
            sources(&path, &inner, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = if name == "mod" { module.clone() } else { inner };
            found.push((module, fs::read_to_string(&path).unwrap()));
        }
    }
}

impl House {
    fn read() -> Self {
        let mut found = Vec::new();
        sources(Path::new("src"), &Vec::new(), &mut found);
        // The front door belongs to no room: it opens all of them.
        let doors = [names("lib"), names("cli::main"), names("operator::main")];
        found.retain(|(module, _)| !doors.contains(module));
        let modules: BTreeSet<Names> = found.iter().map(|(module, _)| module.clone()).collect();
        let files = found.into_iter().map(|(module, text)| {
            let mut file = File::default();
            for other in modules.iter().filter(|other| other.len() == module.len() + 1 && other.starts_with(&module)) {
                file.imports.insert(other.last().unwrap().clone(), other.clone());
            }
            file.scan(&module, text.parse().unwrap_or_else(|error| panic!("{}: {error}", module.join("::"))));
            (module, file)
        });
        Self { files: files.collect() }
    }

    /// The file that owns what `path` leads to, seen from the root of the crate; none for what is of another crate.
    fn owner(&self, path: &[String], depth: usize) -> Option<&Names> {
        let length = (1..=path.len()).rev().find(|length| self.files.contains_key(&path[..*length]))?;
        let (module, file) = self.files.get_key_value(&path[..length])?;
        let export = path.get(length).and_then(|name| file.exports.get(name)).filter(|_| depth < 8);
        match export.and_then(|target| self.owner(target, depth + 1)) {
            Some(owner) => Some(owner),
            None => Some(module),
        }
    }

    /// What each file needs of others.
    fn arrows(&self) -> BTreeMap<&Names, BTreeSet<&Names>> {
        let of = |(module, file): (&'_ Names, &'_ File)| {
            let imported = file.imports.values().chain(file.exports.values()).chain(&file.globs);
            let declared = |path: &&Names| !(path.len() == module.len() + 1 && path.starts_with(module));
            let used = file.relative.iter().filter_map(|path| {
                let start = file.imports.get(&path[0])?;
                Some([start.as_slice(), &path[1..]].concat())
            });
            let all: Vec<Names> =
                imported.filter(declared).cloned().chain(used).chain(file.paths.iter().cloned()).collect();
            all.iter().filter_map(|path| self.owner(path, 0)).cloned().collect::<BTreeSet<_>>()
        };
        self.files
            .iter()
            .map(|(module, file)| {
                let targets = of((module, file));
                let targets = self.files.keys().filter(|other| targets.contains(*other) && *other != module);
                (module, targets.collect())
            })
            .collect()
    }
}

impl File {
    /// Reads the tokens of a file or of a part of it, which is the module `here`.
    fn scan(&mut self, here: &Names, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            let before = at.checked_sub(1).and_then(|at| tokens.get(at));
            match &tokens[at] {
                // What only tests need holds nothing up.
                TokenTree::Group(attribute) if attribute.to_string() == "[cfg (test)]" => {
                    let ends = |token: &TokenTree| {
                        is(token, ';')
                            || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
                    };
                    at += tokens[at..].iter().position(ends).unwrap();
                }
                // Not what an `impl Trait + use<'a>` captures.
                TokenTree::Ident(word) if word == "use" && !tokens.get(at + 1).is_some_and(|next| is(next, '<')) => {
                    let end = (at..tokens.len()).find(|at| is(&tokens[*at], ';')).unwrap();
                    let mut leaves = Vec::new();
                    leaves_of(&tokens[at + 1..end], &Vec::new(), &mut leaves);
                    let exported = match before {
                        Some(TokenTree::Ident(word)) => word == "pub",
                        Some(TokenTree::Group(_)) => true,
                        _ => false,
                    };
                    leaves.into_iter().for_each(|leaf| self.import(here, leaf, exported));
                    at = end;
                }
                TokenTree::Ident(word) if word == "mod" && matches!(tokens.get(at + 2), Some(TokenTree::Group(_))) => {
                    let inner = [here.as_slice(), &[tokens[at + 1].to_string()]].concat();
                    let Some(TokenTree::Group(group)) = tokens.get(at + 2) else { unreachable!() };
                    self.scan(&inner, group.stream());
                    at += 2;
                }
                TokenTree::Ident(_) if !before.is_some_and(|before| is(before, ':') || is(before, '.')) => {
                    let (path, next) = path_at(&tokens, at);
                    if path.len() > 1 {
                        match absolute(here, &path) {
                            Some(path) => self.paths.push(path),
                            None => self.relative.push(path),
                        }
                    }
                    at = next - 1;
                }
                TokenTree::Group(group) => self.scan(here, group.stream()),
                _ => {}
            }
            at += 1;
        }
    }

    fn import(&mut self, here: &Names, (mut path, name): (Names, String), exported: bool) {
        let glob = name == "*";
        path = match absolute(here, &path) {
            Some(path) => path,
            None => match self.imports.get(&path[0]) {
                // By the name of a module within, or of one that is imported.
                Some(start) => [start.as_slice(), &path[1..]].concat(),
                None => return,
            },
        };
        match (glob, exported) {
            (true, _) => self.globs.push(path),
            (false, true) => drop(self.exports.insert(name, path)),
            (false, false) => drop(self.imports.insert(name, path)),
        }
    }
}

fn is(token: &TokenTree, c: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == c)
}

/// The path that begins at a word, and where it ends.
fn path_at(tokens: &[TokenTree], at: usize) -> (Names, usize) {
    let (mut path, mut next) = (vec![tokens[at].to_string()], at + 1);
    while let [colon, other, TokenTree::Ident(word), ..] = &tokens[next..]
        && is(colon, ':')
        && is(other, ':')
    {
        path.push(word.to_string());
        next += 3;
    }
    (path, next)
}

/// The leaves of a tree of imports: the path of each, and the name that it has here; `*` for all.
fn leaves_of(tokens: &[TokenTree], prefix: &Names, leaves: &mut Vec<(Names, String)>) {
    for tree in tokens.split(|token| is(token, ',')).filter(|tree| !tree.is_empty()) {
        let mut path = prefix.clone();
        let mut name = None;
        let mut words = tree.iter();
        while let Some(token) = words.next() {
            match token {
                TokenTree::Group(group) => {
                    leaves_of(&group.stream().into_iter().collect::<Vec<_>>(), &path, leaves);
                    path.clear();
                }
                TokenTree::Ident(word) if word == "as" => name = words.next().map(ToString::to_string),
                TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
                TokenTree::Ident(word) => path.push(word.to_string()),
                token if is(token, '*') => name = Some("*".to_owned()),
                _ => {}
            }
        }
        if let Some(last) = path.last().cloned() {
            leaves.push((path, name.unwrap_or(last)));
        }
    }
}

/// A path from the root of the crate; none where it begins with another name.
fn absolute(here: &Names, path: &[String]) -> Option<Names> {
    let ups = path.iter().take_while(|name| *name == "super").count();
    match path[0].as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some([here, &path[1..]].concat()),
        "super" => Some([&here[..here.len().saturating_sub(ups)], &path[ups..]].concat()),
        _ => None,
    }
}

/// The rooms, each with its row in the table, the highest first.
fn rooms() -> BTreeMap<Names, usize> {
    let text = fs::read_to_string("docs/architecture.md").unwrap();
    let table = text.lines().skip_while(|line| !line.starts_with("| room |")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|')).enumerate();
    let rooms = rows.flat_map(|(row, line)| {
        let first = line.split('|').nth(1).unwrap();
        let rooms: Vec<_> = first.split('`').skip(1).step_by(2).map(|room| (names(room), row)).collect();
        rooms
    });
    rooms.collect()
}

/// The room that a file lies in.
fn room_of<'a>(rooms: &'a BTreeMap<Names, usize>, file: &Names) -> Option<(&'a Names, usize)> {
    let length = (1..=file.len()).rev().find(|length| rooms.contains_key(&file[..*length]))?;
    rooms.get_key_value(&file[..length]).map(|(room, row)| (room, *row))
}

#[test]
fn a_room_uses_only_rooms_below_it() {
    let (house, rooms) = (House::read(), rooms());
    assert!(rooms.len() > 20, "the table of rooms was not found");
    for room in rooms.keys() {
        assert!(house.files.contains_key(room), "there is no room `{}`", room.join("::"));
    }
    let mut wrong = Vec::new();
    for (file, targets) in house.arrows() {
        let Some((room, row)) = room_of(&rooms, file) else {
            wrong.push(format!("{} lies in no room", file.join("::")));
            continue;
        };
        for target in targets {
            let Some((other, below)) = room_of(&rooms, target) else { continue };
            if room != other && row >= below {
                wrong.push(format!("{} uses {}", file.join("::"), target.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "upward, by the table in docs/architecture.md:\n{}", wrong.join("\n"));
}

#[test]
fn no_files_need_each_other_in_a_circle() {
    let house = House::read();
    let mut arrows = house.arrows();
    for (file, targets) in &mut arrows {
        targets.retain(|target| !file.starts_with(target) && !target.starts_with(file));
    }
    // What needs nothing that is left is taken away, and what nothing needs, until only circles are.
    loop {
        let needed: BTreeSet<_> = arrows.values().flatten().copied().collect();
        let before = arrows.len();
        arrows.retain(|file, targets| !targets.is_empty() && needed.contains(file));
        let left: BTreeSet<_> = arrows.keys().copied().collect();
        arrows.values_mut().for_each(|targets| targets.retain(|target| left.contains(target)));
        if arrows.len() == before {
            break;
        }
    }
    let left = |(file, targets): (&&Names, &BTreeSet<&Names>)| {
        let targets: Vec<_> = targets.iter().map(|target| target.join("::")).collect();
        format!("{} -> {}", file.join("::"), targets.join(", "))
    };
    assert!(arrows.is_empty(), "in circles:\n{}", arrows.iter().map(left).collect::<Vec<_>>().join("\n"));
}

/// Who says a crate's name elsewhere than in the room that it is for.
fn users_elsewhere(name: &str, room: &str) -> Vec<String> {
    let mut found = Vec::new();
    sources(Path::new("src"), &Vec::new(), &mut found);
    let users = found.iter().filter(|(_, text)| text.contains(name)).map(|(module, _)| module.join("::"));
    let (within, elsewhere): (Vec<_>, Vec<_>) = users.partition(|module| module.starts_with(room));
    assert!(!within.is_empty(), "`{room}` was not found");
    elsewhere
}

#[test]
fn there_is_one_way_to_the_network() {
    assert_eq!(users_elsewhere("reqwest", "io::http"), [""; 0], "they know the HTTP library themselves");
}

#[test]
fn requirements_are_read_in_one_place() {
    assert_eq!(users_elsewhere("pep508_rs", "formats::requirement"), [""; 0], "the library panics on some of them");
}

/// The crates that the program is made of, with these arguments for `cargo tree`.
fn crates(args: &[&str]) -> BTreeSet<String> {
    let mut command = std::process::Command::new(env!("CARGO"));
    command.args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    let listed = crate::home::ran(command.args(args)).ok().out;
    listed.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

#[test]
fn the_command_line_carries_no_client_of_kubernetes() {
    let is_of = |name: &str| {
        let name = format!("{name} ");
        move |one: &&String| one.starts_with(&name)
    };
    let (own, with) = (crates(&[]), crates(&["--features", "operator"]));
    for name in ["kube", "k8s-openapi"] {
        assert!(with.iter().any(|one| is_of(name)(&one)), "the operator has no {name}");
        assert!(!own.iter().any(|one| is_of(name)(&one)), "{name}");
    }
    // And there is one way to speak TLS.
    assert_eq!(with.iter().filter(is_of("rustls")).count(), 1);
    for name in ["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"] {
        assert!(!with.iter().any(|one| is_of(name)(&one)), "{name}");
    }
}

#[test]
fn the_first_look_at_the_source_is_a_short_one() {
    let things = fs::read_dir("src").unwrap().count();
    assert!(things <= MOST, "{things} things lie directly below src");
}

#[test]
fn imports_are_read_as_the_compiler_reads_them() {
    let text = "
        use crate::io::{archive::{self, Reader as R}, digest::*};
        pub use inner::Thing;
        use super::other;
        fn f() -> archive::path::Place { other::g(std::mem::take) }
        mod inner { use super::super::third; const X: &str = \"crate::not::this\"; }
        #[cfg(test)]
        mod tests { use crate::not::this; }
        macro!(crate::in_a::macro_call);
    ";
    let mut file = File::default();
    file.imports.insert("inner".to_owned(), names("a::b::inner"));
    file.scan(&names("a::b"), text.parse().unwrap());
    let import = |name: &str| file.imports.get(name).map(|path| path.join("::"));
    assert_eq!(import("archive").unwrap(), "io::archive");
    assert_eq!(import("R").unwrap(), "io::archive::Reader");
    assert_eq!(import("other").unwrap(), "a::other");
    assert_eq!(import("third").unwrap(), "a::third");
    assert_eq!(file.globs, [names("io::digest")]);
    assert_eq!(file.exports["Thing"], names("a::b::inner::Thing"));
    assert_eq!(file.paths, [names("in_a::macro_call")]);
    assert_eq!(file.relative, ["archive::path::Place", "other::g", "std::mem::take"].map(names));
}
