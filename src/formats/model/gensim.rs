//! What gensim keeps beside a model that it saves: large arrays, each in a file that is called after the attribute
//! (`gensim.utils.SaveLoad`).

use std::path::Path;

use super::{Object, Origin};

/// Objects within objects that are looked into.
const DEEPEST: u8 = 4;

/// Files of one model.
const MOST: usize = 1000;

/// The files beside the model `root`, which is called `name`, that its class reads with it; those that it can do without
/// only where they are there.
pub fn beside(root: Object<'_>, origin: &Origin<'_>, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Some((module, class)) = root.class().filter(|(module, _)| module.starts_with("gensim.")) else { return found };
    within(root, name, 0, &mut found);
    // What it keeps beside it is of the same module.
    if (module == "gensim.models.ldamodel" || class.starts_with("Lda")) && class != "LdaState" {
        found.push(format!("{name}.state"));
        found.push(format!("{name}.id2word"));
        found.push(format!("{name}.expElogbeta.npy"));
    }
    found.sort();
    found.dedup();
    let is_there = |name: &String| match origin {
        Origin::File(path) => Path::with_file_name(path, name).is_file(),
        Origin::Stream(_) => true,
    };
    found.retain(|file| !file.ends_with(".id2word") && !file.ends_with(".expElogbeta.npy") || is_there(file));
    found
}

fn within(object: Object<'_>, name: &str, depth: u8, found: &mut Vec<String>) {
    let listed = |attribute: &str| {
        let names = object.get(attribute).and_then(Object::items).unwrap_or_default();
        // An attribute's name, and no path to another folder.
        let plain = |name: &&str| name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
        names.into_iter().filter_map(Object::text).filter(plain).collect::<Vec<_>>()
    };
    if depth > DEEPEST || found.len() > MOST {
        return;
    }
    found.extend(listed("__numpys").into_iter().map(|array| format!("{name}.{array}.npy")));
    for array in listed("__scipys") {
        found.extend(["data", "indices", "indptr"].map(|part| format!("{name}.{array}.{part}.npy")));
    }
    for part in listed("__recursive_saveloads") {
        if let Some(inner) = object.get(part) {
            within(inner, &format!("{name}.{part}"), depth + 1, found);
        }
    }
}
