//! A model in Java: its files, what it takes, and that the image has a Java.

use fs_err as fs;

use super::Subject;
use crate::base::Named;
use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::document::pointer;
use crate::formats::mojo::{CATEGORIES, Mojo};
use crate::io::archive::ArchivePath;
use crate::io::suggest::{closest, did_you_mean, listed};
use crate::project::manifest::java::Java;

/// Checks it; mistakes go to `found`.
pub fn check(subject: &Subject<'_>, found: &mut Diagnostics) {
    let Some(java) = &subject.manifest.service.java else { return };
    let document = subject.document;
    let at = |key: &str| format!("{}{key}", Java::POINTER);
    let mut wrong = |key: &str, message: &str, help: &str| {
        found.push(document.at_key(Code::NoJava, &at(key), message).help(help));
    };
    match (&java.jar, &java.model) {
        (None, None) => wrong(
            "",
            "nothing says what answers in Java",
            "name a program, `jar: src/predict.jar`, or a model of h2o's, `model: model.zip`",
        ),
        (Some(_), Some(_)) => wrong("/model", "both a program and a model would answer", "leave one of them out"),
        (None, Some(model)) => {
            if !java.parameters.is_empty() {
                let help = "leave them out: a model is asked by the names of its columns";
                wrong("/parameters", "only a program has parameters", help);
            }
            let is_pojo = model.strip_suffix(".java").is_some_and(|stem| !stem.is_empty());
            if !is_pojo && java.mojo().is_none() {
                let help = "h2o exports `model.zip` by `download_mojo`, and `Model.java` by `download_pojo`";
                wrong("/model", "a model of h2o's is a MOJO or a POJO", help);
            }
        }
        (Some(_), None) => {
            if java.genmodel.is_some() {
                wrong("/genmodel", "only a model of h2o's is read with a library", "leave it out");
            }
            for number in java.repeated() {
                let message = format!("the parameter `{}` is named twice", java.parameters[number]);
                wrong(&format!("/parameters/{number}"), &message, "give each a name of its own");
            }
        }
    }
    if let Some(jar) = java.jar.as_deref().or(java.model.as_ref().map(|_| java.genmodel())) {
        archive(subject, java, jar, found);
    }
    let columns = model(subject, java, found);
    let parameters = java.jar.as_ref().map(|_| java.parameters.clone());
    if let Some(names) = parameters.or(columns) {
        requests(subject, &names, found);
    }
    machine(subject, found);
}

/// A program says in its manifest which class is to be run; a library is an archive.
fn archive(subject: &Subject<'_>, java: &Java, jar: &str, found: &mut Diagnostics) {
    // That it is not there was said.
    let Some(file) = ArchivePath::relative(jar).ok().and_then(|path| subject.files.get(&path)) else { return };
    let is_program = java.jar.is_some();
    let key = if is_program { "/jar" } else { "/genmodel" };
    let at = if java.jar.is_some() || java.genmodel.is_some() { key } else { "" };
    let opened = fs::File::open(&file.host).map_err(zip::result::ZipError::from);
    let archive = opened.and_then(|file| zip::ZipArchive::new(std::io::BufReader::new(file.into_parts().0)));
    let why = match archive {
        Err(error) => format!("`{jar}` is no archive of Java's: {error}"),
        Ok(mut archive) if is_program => match main_class(&mut archive) {
            true => return,
            false => format!("`{jar}` does not say which class is to be run"),
        },
        Ok(mut archive) => match archive.by_name("hex/genmodel/MojoModel.class").is_ok() {
            true => return,
            false => format!("`{jar}` is not the library of h2o's that reads models"),
        },
    };
    let help = match is_program {
        true => "a program is made by `jar --create --file predict.jar --main-class Predict -C classes .`",
        false => "h2o gives it with each export: `model.download_mojo(…, get_genmodel_jar=True)`",
    };
    found.push(subject.document.at_key(Code::NoJava, &format!("{}{at}", Java::POINTER), why).help(help));
}

/// JAR file specification, "JAR Manifest".
fn main_class(archive: &mut zip::ZipArchive<std::io::BufReader<std::fs::File>>) -> bool {
    use std::io::Read as _;
    const MOST: u64 = 1 << 20;
    let Ok(member) = archive.by_name("META-INF/MANIFEST.MF") else { return false };
    let mut text = Vec::new();
    let read = member.take(MOST).read_to_end(&mut text).is_ok();
    read && String::from_utf8_lossy(&text).lines().any(|line| line.to_ascii_lowercase().starts_with("main-class:"))
}

/// The columns of a MOJO, where it can be read.
fn model(subject: &Subject<'_>, java: &Java, found: &mut Diagnostics) -> Option<Vec<String>> {
    let path = ArchivePath::relative(java.mojo()?).ok()?;
    let file = subject.files.get(&path)?;
    let at = format!("{}/model", Java::POINTER);
    match Mojo::read(&file.host) {
        Ok(mojo) => {
            if !CATEGORIES.contains(&mojo.category.as_str()) {
                let message = format!("`{path}` is a model of the kind {}, which is not served", mojo.category);
                let help = format!("served are {}", CATEGORIES.join(", "));
                found.push(subject.document.at(Code::NoJava, &at, message).help(help));
            }
            Some(mojo.columns.into_iter().map(|column| column.name).chain(["rows".to_owned()]).collect())
        }
        Err(error) => {
            let message = format!("`{path}` cannot be read: {error}");
            let help = "h2o exports such archives by `model.download_mojo(…)`, up to release 3.46";
            found.push(subject.document.at(Code::NoJava, &at, message).help(help));
            None
        }
    }
}

/// The names in requests that are to succeed, and of inputs that are described, are those that are known.
fn requests(&Subject { manifest, document, .. }: &Subject<'_>, names: &[String], found: &mut Diagnostics) {
    let mut unknown = |at: &str, name: &str, is_key: bool| {
        let message = format!("the model takes no `{name}`");
        let mut error = match is_key {
            true => document.at_key(Code::NoParameter, at, message),
            false => document.at(Code::NoParameter, at, message),
        };
        match closest(name, names) {
            Some(near) => error = error.label(did_you_mean(near)),
            None => error = error.help(format!("it takes {}", listed(names))),
        }
        found.push(error);
    };
    for (number, test) in manifest.tests.iter().enumerate() {
        let is_meant = test.path == "/predict" && (200..300).contains(&test.wanted_status());
        let members = test.request.as_ref().and_then(|request| request.as_object()).filter(|_| is_meant);
        for name in members.into_iter().flat_map(|members| members.keys()).filter(|name| !names.contains(name)) {
            let number = number.to_string();
            unknown(&pointer(["tests", number.as_str(), "request", name.as_str()]), name, true);
        }
    }
    for (number, input) in manifest.service.inputs.iter().enumerate() {
        if !names.contains(&input.name) {
            unknown(&format!("/service/inputs/{number}/name"), &input.name, false);
        }
    }
}

/// Upon Debian's packages there is no Java that nobody asked for.
fn machine(&Subject { manifest, document, .. }: &Subject<'_>, found: &mut Diagnostics) {
    let is_debian = manifest.base.meant().is_ok_and(|base| matches!(base.named(), Named::Auto | Named::Debian(_)));
    if !is_debian || manifest.has_commands() {
        return;
    }
    let is_java = |name: &str| name.contains("-jre") || name.contains("-jdk");
    if manifest.system.packages.names().any(is_java) {
        return;
    }
    let release = match manifest.base.meant().map(|base| base.named()) {
        Ok(Named::Debian(suite)) if suite.to_string() == "trixie" => 21,
        _ => 17,
    };
    let help = format!("add it: `system: {{packages: [openjdk-{release}-jre-headless]}}`");
    found.push(document.at_key(Code::NoJava, Java::POINTER, "the image has no Java").help(help));
}
