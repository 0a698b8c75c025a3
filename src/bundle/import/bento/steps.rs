//! What BentoML has Docker do for the image of a bento beside installing packages, as instructions of a Dockerfile.
//!
//! Where they stand among packages, weights and code is where BentoML's templates have them (`base.j2` to 1.3, `base_v2.j2`
//! from 1.4 on). Nothing is executed here.

use std::collections::BTreeMap;

use crate::formats::diagnostic::Source;
use crate::formats::dockerfile::{Dockerfile, Excerpt};

/// Instructions, by what they are done upon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Stages in front, from which the others may copy.
    pub stages: Option<Excerpt>,
    /// Upon the base with its Debian packages.
    pub base: Vec<Excerpt>,
    /// Upon Python packages.
    pub packages: Vec<Excerpt>,
    /// Upon everything.
    pub whole: Vec<Excerpt>,
    /// What commands are given as secrets, unless the person gives others.
    pub secrets: BTreeMap<String, String>,
    /// Another base is taken than the bento's, which may have what is done upon that.
    pub replaced: bool,
}

impl Steps {
    /// Whether there is nothing to do.
    pub fn are_none(&self) -> bool {
        self.base.is_empty() && self.packages.is_empty() && self.whole.is_empty()
    }

    /// All of them, in their order.
    pub fn all(&self) -> Vec<Excerpt> {
        [&self.base, &self.packages, &self.whole].into_iter().flatten().cloned().collect()
    }

    /// All texts.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let excerpts = self.stages.iter().chain(&self.base).chain(&self.packages).chain(&self.whole);
        excerpts.map(|excerpt| excerpt.text.as_str())
    }
}

/// Why `text` is no instructions; none where it is.
pub(super) fn mistake(text: &str) -> Option<String> {
    let source = Source::new("instructions", format!("FROM scratch\n{text}"));
    match Dockerfile::parse(&source) {
        Ok(file) => (file.stages.len() > 1).then(|| "`FROM` begins another image".to_owned()),
        Err(mistakes) => mistakes.sorted().first().map(|mistake| mistake.message.clone()),
    }
}
