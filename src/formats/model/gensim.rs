//! gensim's models (`SaveLoad` in `gensim/utils.py`): pickles that keep large arrays in files of their own beside them, called
//! after the model's file and the attribute.

use super::{Model, Object};

/// Objects within objects that are looked into.
const DEEPEST: usize = 4;

/// Files beside a model that are remembered.
const MOST: usize = 1000;

/// Notes the files that a model called `file` needs beside it.
pub fn companions(model: &mut Model, file: &str) {
    let root = model.pickles.first().and_then(|(_, pickles)| pickles.objects.root());
    let Some((module, class)) = root.and_then(Object::class) else { return };
    if module.split('.').next() != Some("gensim") {
        return;
    }
    let mut found = Vec::new();
    root.iter().for_each(|root| arrays(*root, file, 0, &mut found));
    if matches!(class, "LdaModel" | "LdaMulticore") {
        // These two are saved by the class itself.
        found.extend(["state", "id2word"].map(|part| format!("{file}.{part}")));
    }
    model.beside = found;
}

fn arrays(object: Object<'_>, prefix: &str, depth: usize, found: &mut Vec<String>) {
    let names = |list: &str| {
        let items = object.get(list).and_then(Object::items).unwrap_or_default();
        let plain = |name: &&str| name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
        items.into_iter().filter_map(Object::text).filter(plain).collect::<Vec<_>>()
    };
    found.extend(
        names("__numpys").iter().map(|name| format!("{prefix}.{name}.npy")).take(MOST.saturating_sub(found.len())),
    );
    for name in names("__recursive_saveloads") {
        if let Some(inner) = object.get(name).filter(|_| depth < DEEPEST && found.len() < MOST) {
            arrays(inner, &format!("{prefix}.{name}"), depth + 1, found);
        }
    }
}
