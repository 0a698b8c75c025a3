//! What is written for people: each relative link and anchor leads somewhere, each page is led to, and the reference of the
//! manifest is what its schema says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use regex::Regex;
use serde_json::Value;

/// All pages: those that one meets first, and those in `docs`.
fn pages() -> BTreeMap<PathBuf, String> {
    fn add(folder: &Path, pages: &mut BTreeMap<PathBuf, String>) {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension() {
                _ if path.is_dir() => add(&path, pages),
                Some(extension) if extension == "md" => {
                    drop(pages.insert(path.clone(), fs::read_to_string(path).unwrap()))
                }
                _ => {}
            }
        }
    }
    let roots = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let mut pages = roots.map(|name| (PathBuf::from(name), fs::read_to_string(name).unwrap())).into();
    add(Path::new("docs"), &mut pages);
    pages
}

/// Without what is shown as it is: blocks, and code within a line.
fn prose(page: &str) -> String {
    let mut is_block = false;
    let mut prose = String::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if !is_block {
            prose += line;
            prose.push('\n');
        }
    }
    Regex::new("`[^`]*`").unwrap().replace_all(&prose, "`").into_owned()
}

/// What its headings are called in an address.
fn anchors(page: &str) -> BTreeSet<String> {
    let link = Regex::new(r"\[([^\]]*)\]\([^)]*\)").unwrap();
    let mut is_block = false;
    let mut anchors = BTreeSet::new();
    for line in page.lines() {
        is_block ^= line.trim_start().starts_with("```");
        let Some(heading) = line.strip_prefix('#').filter(|_| !is_block) else { continue };
        let text = link.replace_all(heading.trim_start_matches('#'), "$1");
        let is_kept = |c: &char| c.is_alphanumeric() || "-_ ".contains(*c);
        let slug: String = text.trim().to_lowercase().chars().filter(is_kept).collect();
        anchors.insert(slug.replace(' ', "-"));
    }
    anchors
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
        plain
    })
}

#[test]
fn every_link_leads_somewhere_and_every_page_is_led_to() {
    let pages = pages();
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let (mut wrong, mut led, mut count) = (Vec::new(), BTreeSet::new(), 0);
    for (path, page) in &pages {
        for (_, [target]) in link.captures_iter(&prose(page)).map(|found| found.extract()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let to = if file.is_empty() { path.clone() } else { plain(&path.parent().unwrap().join(file)) };
            if !to.exists() {
                wrong.push(format!("{}: {target}: there is no such file", path.display()));
            } else if !anchor.is_empty() && !pages.get(&to).is_some_and(|page| anchors(page).contains(anchor)) {
                wrong.push(format!("{}: {target}: there is no such heading", path.display()));
            }
            if to != *path {
                led.insert(to);
            }
        }
    }
    let lost = pages.keys().filter(|path| *path != Path::new("README.md") && !led.contains(*path));
    wrong.extend(lost.map(|path| format!("{}: no page leads there", path.display())));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 100, "only {count} links are found");
    println!("{count} links of {} pages", pages.len());
}

#[test]
fn every_script_that_is_named_is_there_and_can_be_started() {
    use std::os::unix::fs::PermissionsExt as _;
    let workflows = fs::read_dir(".github/workflows").unwrap().map(|entry| entry.unwrap().path());
    let pages = pages().into_iter().chain(workflows.map(|path| (path.clone(), fs::read_to_string(path).unwrap())));
    let script = Regex::new(r"\bscripts/[\w./-]*\w").unwrap();
    // A history names what there was.
    let named = pages.filter(|(path, _)| path != Path::new("CHANGELOG.md")).flat_map(|(path, page)| {
        let scripts: Vec<_> = script.find_iter(&page).map(|found| PathBuf::from(found.as_str())).collect();
        scripts.into_iter().map(move |script| (path.clone(), script))
    });
    let is_well = |script: &Path| {
        let Ok(kind) = fs::metadata(script) else { return false };
        kind.is_dir() || !fs::read(script).unwrap().starts_with(b"#!") || kind.permissions().mode() & 0o111 == 0o111
    };
    let wrong: Vec<_> = named.filter(|(_, script)| !is_well(script)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_page_has_its_place_in_the_site() {
    let navigation = fs::read_to_string("scripts/pages/mkdocs.yml").unwrap();
    let missing: Vec<_> = pages()
        .into_keys()
        .filter_map(|path| path.strip_prefix("docs").ok().map(|path| path.display().to_string()))
        .filter(|path| !navigation.lines().any(|line| line.ends_with(&format!(" {path}"))))
        .collect();
    assert!(missing.is_empty(), "scripts/pages/mkdocs.yml has no {missing:?}");
}

/// The reference of the manifest, as its schema has it.
struct Reference<'a> {
    schema: &'a Value,
    /// Where each definition with keys of its own is described.
    sections: BTreeMap<&'a str, String>,
    text: String,
}

impl<'a> Reference<'a> {
    /// What a `$ref` leads to, with its name.
    fn meant(&self, schema: &'a Value) -> (Option<&'a str>, &'a Value) {
        match schema["$ref"].as_str() {
            Some(to) => (to.rsplit('/').next(), self.schema.pointer(to.trim_start_matches('#')).unwrap()),
            None => (None, schema),
        }
    }

    fn variants(schema: &'a Value) -> impl Iterator<Item = &'a Value> {
        ["anyOf", "oneOf", "allOf"].into_iter().flat_map(|key| schema[key].as_array().into_iter().flatten())
    }

    /// A value in words.
    fn kind(&self, schema: &'a Value) -> String {
        let (name, schema) = self.meant(schema);
        if let Some(section) = name.and_then(|name| self.sections.get(name)) {
            let anchor: String = section.chars().filter(|c| *c != '.').collect::<String>().to_lowercase();
            return format!("[`{section}`](#{anchor})");
        }
        let all = |list: Vec<String>| list.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" or ");
        if let Some(value) = schema.get("const") {
            return format!("`{}`", value.as_str().unwrap());
        }
        if let Some(values) = schema["enum"].as_array() {
            return all(values
                .iter()
                .map(|value| value.as_str().map(|text| format!("`{text}`")).unwrap_or_default())
                .collect());
        }
        if Self::variants(schema).next().is_some() {
            return all(Self::variants(schema).map(|one| self.kind(one)).collect());
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::Array(list) => list.iter().map(|one| one.as_str().unwrap()).collect(),
            one => one.as_str().into_iter().collect(),
        };
        let of = |kind: &str, key: &str| match self.kind(&schema[key]) {
            inner if inner.is_empty() => kind.to_owned(),
            inner => format!("{kind} of {inner}"),
        };
        let word = |name: &&str| match *name {
            "string" => "text".to_owned(),
            "integer" => "whole number".to_owned(),
            "boolean" => "`true` or `false`".to_owned(),
            "array" => of("list", "items"),
            "object" if schema.get("properties").is_some() => {
                let keys = schema["properties"].as_object().unwrap().keys().map(|key| format!("`{key}`"));
                format!("mapping with {}", keys.collect::<Vec<_>>().join(", "))
            }
            "object" if schema["additionalProperties"].is_object() => of("mapping", "additionalProperties"),
            "object" => "mapping".to_owned(),
            "null" => String::new(),
            other => other.to_owned(),
        };
        all(types.iter().map(word).collect())
    }

    /// The definitions that a value leads to, each with the place in the manifest where it is met first.
    fn find(&mut self, at: &str, schema: &'a Value, found: &mut Vec<&'a Value>) {
        let (name, schema) = self.meant(schema);
        if schema.get("properties").is_some() && name.is_some_and(|name| !self.sections.contains_key(name)) {
            self.sections.insert(name.unwrap(), at.to_owned());
            found.push(schema);
        }
        let inner = ["items", "additionalProperties"].into_iter().filter_map(|key| schema.get(key));
        for one in Self::variants(schema).chain(inner).filter(|one| one.is_object()) {
            self.find(at, one, found);
        }
    }

    fn line(&self, key: &str, schema: &'a Value, is_needed: bool) -> String {
        let (_, meant) = self.meant(schema);
        let words = |text: &Value| text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let mut line = format!("- **`{key}`**");
        let kind = self.kind(schema);
        if !kind.is_empty() {
            line += &format!(": {kind}");
        }
        line += if is_needed { ", required. " } else { ". " };
        line += &words(&schema["description"]);
        let chosen = Self::variants(schema)
            .chain([schema])
            .map(|one| self.meant(one).1)
            .flat_map(Self::variants)
            .chain(Self::variants(meant));
        let mut said = BTreeSet::new();
        for one in chosen.filter(|one| one["const"].is_string() && one["description"].is_string()) {
            let text = format!(" `{}`: {}", one["const"].as_str().unwrap(), words(&one["description"]));
            if said.insert(text.clone()) {
                line += &text;
            }
        }
        let is_empty = |value: &Value| match value {
            Value::Null | Value::Bool(false) => true,
            Value::Object(keys) => keys.values().all(|value| value.as_array().is_some_and(Vec::is_empty)),
            Value::Array(list) => list.is_empty(),
            _ => false,
        };
        let code = |value: &Value| match value {
            Value::String(text) if text.parse::<f64>().is_err() => format!("`{text}`"),
            other => format!("`{}`", other.to_string().replace("\":", "\": ").replace(",\"", ", \"")),
        };
        if let Some(default) = schema.get("default").filter(|value| !is_empty(value)) {
            line += &format!(" Default: {}.", code(default));
        }
        let is_open = ["text", "number", "list", "mapping"].iter().any(|word| kind.contains(word));
        let example = schema["examples"].get(0).filter(|example| is_open && schema.get("default") != Some(example));
        line += &example.map(|example| format!(" Example: {}.", code(example))).unwrap_or_default();
        line + "\n"
    }

    fn section(&mut self, at: &str, schema: &'a Value) {
        let keys: Vec<_> = schema["properties"].as_object().unwrap().iter().collect();
        let mut below = Vec::new();
        for (key, property) in &keys {
            let place = if at.is_empty() { (*key).clone() } else { format!("{at}.{key}") };
            let mut found = Vec::new();
            self.find(&place, property, &mut found);
            below.extend(found.into_iter().map(|schema| (place.clone(), schema)));
        }
        if at.is_empty() {
            self.text += "\n## The file\n\n";
        } else {
            let level = if at.contains('.') { "###" } else { "##" };
            let description = schema["description"].as_str().unwrap_or_default();
            self.text += &format!("\n{level} `{at}`\n\n{description}\n\n");
        }
        let needed = schema["required"].as_array();
        for (key, property) in keys {
            let is_needed = needed.is_some_and(|needed| needed.iter().any(|one| one == key));
            self.text += &self.line(key, property, is_needed);
        }
        below.into_iter().for_each(|(place, schema)| self.section(&place, schema));
    }
}

#[test]
fn the_reference_of_the_manifest_is_what_its_schema_says() {
    const PAGE: &str = "docs/manifest.md";
    let schema: Value = serde_json::from_str(&fs::read_to_string("schemas/manifest.schema.json").unwrap()).unwrap();
    let head = "# The manifest\n\n`ekiben.yaml`, or the same as `ekiben.json` or `ekiben.json5`: every key that it can have. Keys that are not here are \
                errors.\n[Editors](editors.md) know all of it. This page is made from the schema: `EKIBEN_BLESS=1 cargo test --test it documents::`.\n";
    let mut reference = Reference { schema: &schema, sections: BTreeMap::new(), text: head.to_owned() };
    reference.section("", &schema);
    if std::env::var_os("EKIBEN_BLESS").is_some() {
        fs::write(PAGE, &reference.text).unwrap();
    }
    let known = fs::read_to_string(PAGE).unwrap_or_default();
    assert!(known == reference.text, "{PAGE} is stale: EKIBEN_BLESS=1 cargo test --test it documents::");
}
