//! Recipes: how a layer is had whose bytes are not in the store.
//!
//! Invariant: a document has one form, read and written here alone. An older Ekiben's documents are read as they were
//! written; the same recipe gives the same bytes.

use std::io;
use std::path::PathBuf;

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::{Error, Flush, Store};
use crate::io::archive::ArchivePath;
use crate::io::content::Content;
use crate::io::digest::Digest;

/// How the bytes of a layer are had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "neither files nor an origin")]
pub enum Recipe {
    /// They are fetched.
    Origin {
        /// Registry and repository: `registry.example/iris`.
        from: String,
    },
    /// They are put together from files that lie elsewhere.
    Files {
        /// The time in the headers, in seconds since 1970.
        epoch: u64,
        /// In their order in the layer.
        files: Vec<LayerFile>,
    },
}

/// A file of a layer that is made of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFile {
    /// Where it lies in the image.
    pub path: ArchivePath,
    /// Where its bytes come from.
    pub content: Content,
}

impl Store {
    /// Where the recipe of a layer lies, if it has one.
    pub fn recipe_path(&self, digest: &Digest) -> PathBuf {
        self.root().join("recipes").join(format!("{}.json", digest.hex()))
    }

    /// The recipe of the layer with the digest `digest`.
    ///
    /// # Errors
    /// When it is there but cannot be read, and [`Error::Damaged`] when it is no recipe.
    pub fn recipe(&self, digest: &Digest) -> Result<Option<Recipe>, Error> {
        let path = self.recipe_path(digest);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| Error::Damaged { path, source: error.into() })
    }

    /// As [`Store::recipe`], for those who can do without: a damaged recipe counts as none.
    ///
    /// # Errors
    /// When it is there but cannot be read.
    pub fn intact_recipe(&self, digest: &Digest) -> Result<Option<Recipe>, Error> {
        match self.recipe(digest) {
            Err(Error::Damaged { .. }) => Ok(None),
            recipe => recipe,
        }
    }

    /// Keeps the recipe of the layer with the digest `digest`.
    ///
    /// # Errors
    /// When writing fails.
    pub fn put_recipe(&self, digest: &Digest, recipe: &Recipe) -> Result<(), Error> {
        let text = serde_json::to_vec(recipe).map_err(io::Error::from)?;
        self.replace(&self.recipe_path(digest), &text, Flush::Yes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = r#"{"from":"registry.example/iris"}"#;
    const FILES: &str = concat!(
        r#"{"epoch":7,"files":[{"path":"models/a","content":{"file":{"path":"/w/a","size":1,"device":2,"inode":3,"#,
        r#""times":[4,5]}}},{"path":"models/b","content":{"packed":{"bundle":{"path":"/w.ekiben","size":6,"device":2,"#,
        r#""inode":8,"times":[9,10]},"offset":11,"size":12}}},{"path":"models/c","content":{"bytes":[13]}}]}"#,
    );

    #[test]
    fn what_was_written_is_read_and_written_again_to_the_byte() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let digest = Digest::of(b"a layer");
        for text in [ORIGIN, FILES] {
            std::fs::write(store.recipe_path(&digest), text).unwrap();
            let recipe = store.recipe(&digest).unwrap().unwrap();
            assert_eq!(matches!(recipe, Recipe::Origin { .. }), text == ORIGIN);
            std::fs::remove_file(store.recipe_path(&digest)).unwrap();
            store.put_recipe(&digest, &recipe).unwrap();
            assert_eq!(std::fs::read_to_string(store.recipe_path(&digest)).unwrap(), text);
        }
    }

    #[test]
    fn what_is_no_recipe_is_damaged_and_no_intact_one() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let digest = Digest::of(b"a layer");
        assert_eq!(store.recipe(&digest).unwrap(), None);
        let half = &FILES[..FILES.len() / 2];
        for text in ["", "{}", "[]", r#"{"from":1}"#, r#"{"files":[]}"#, r#"{"epoch":7,"files":[{}]}"#, half] {
            std::fs::write(store.recipe_path(&digest), text).unwrap();
            assert!(matches!(store.recipe(&digest), Err(Error::Damaged { .. })), "{text}");
            assert_eq!(store.intact_recipe(&digest).unwrap(), None, "{text}");
        }
    }
}
