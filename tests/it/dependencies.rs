//! What we build on: no more than there was, each once, and nothing that was banned. `deny.toml` says which.

use std::collections::BTreeMap;
use std::fs;

use toml::{Table, Value};

/// Packages in `Cargo.lock`, with those of other systems, of the operator and of tests.
const MOST: usize = 591;

fn read(name: &str) -> Table {
    let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path).unwrap().parse().unwrap()
}

fn list<'a>(table: &'a Table, key: &str) -> &'a [Value] {
    table[key].as_array().unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

#[test]
fn we_build_on_no_more_than_is_agreed_upon() {
    let (lock, rules) = (read("Cargo.lock"), read("deny.toml"));
    let packages = list(&lock, "package");
    assert!(packages.len() <= MOST, "Cargo.lock has {} packages; {MOST} were enough", packages.len());
    let bans = rules["bans"].as_table().unwrap();
    let mut versions = BTreeMap::<&str, Vec<&str>>::new();
    packages.iter().for_each(|one| versions.entry(text(one, "name")).or_default().push(text(one, "version")));
    for ban in list(bans, "deny") {
        assert!(!versions.contains_key(text(ban, "crate")), "{} is banned: {}", ban["crate"], ban["reason"]);
    }
    for skip in list(bans, "skip") {
        let (name, wanted) = text(skip, "crate").split_once('@').unwrap();
        let is_wanted = |version: &&str| version.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('.'));
        let known = versions.get_mut(name).and_then(|known| Some((known.iter().position(is_wanted)?, known)));
        let Some((at, known)) = known.filter(|(_, known)| known.len() > 1) else {
            panic!("{name} {wanted} is no second version any more: strike it from deny.toml");
        };
        known.remove(at);
    }
    versions.retain(|_, known| known.len() > 1);
    assert!(versions.is_empty(), "there are two versions of these: {versions:?}");
}
