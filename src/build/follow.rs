//! From a tag in MLflow's registry to an image: which versions are to be built, and what is written to them of it.
//!
//! Invariant: what is known of a version stands in its own tags, the status last. Whoever is killed leaves a version that is
//! still to be built, and building it again gives the same image.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use crate::bundle::origin::mlflow::{Error, Server, Version};
use crate::project::address::Which;
use crate::project::init;

/// Characters of an error in a tag: releases before 2 take no more.
const LONGEST: usize = 450;

/// The status of a version whose image was pushed.
const DONE: &str = "done";

/// That of one of which no image can be made.
const FAILED: &str = "failed";

/// That of one which was done and is not selected any more.
const RETIRED: &str = "retired";

/// Which versions are meant.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Those of this model; of all where it is none.
    pub name: Option<String>,
    /// Those that a filter of MLflow's finds.
    pub filter: Option<String>,
    /// Those that have this alias.
    pub alias: Option<String>,
    /// Those in this stage.
    pub stage: Option<String>,
}

/// What the tags are called that are written.
#[derive(Clone, Debug)]
pub struct Words {
    /// What all but the endpoint's begin with: `ekiben.`
    pub prefix: String,
    /// That of the address at which the model was deployed: `model_endpoint`.
    pub endpoint: String,
}

impl Words {
    fn status(&self) -> String {
        format!("{}status", self.prefix)
    }

    /// Whether a version is said to be served somewhere.
    pub fn serves(&self, version: &Version) -> bool {
        version.tag(&self.endpoint).is_some()
    }

    /// The image of a version that is done, or was.
    pub fn image_of<'a>(&self, version: &'a Version) -> Option<&'a str> {
        let is_built = matches!(version.tag(&self.status()), Some(DONE | RETIRED));
        version.tag(&self.image()).filter(|_| is_built)
    }

    fn image(&self) -> String {
        format!("{}image", self.prefix)
    }

    fn error(&self) -> String {
        format!("{}error", self.prefix)
    }

    fn at(&self) -> String {
        format!("{}at", self.prefix)
    }
}

/// What a look at the registry found.
#[derive(Debug, Default)]
pub struct Found {
    /// To be built, the oldest first.
    pub due: Vec<Version>,
    /// Selected, and built before.
    pub done: usize,
    /// Selected, and given up before.
    pub failed: usize,
    /// Built before, and not selected any more.
    pub retired: Vec<Version>,
    /// All that are selected and can be fetched, the newest first.
    pub selected: Vec<Version>,
}

impl Found {
    /// The versions of a model that are selected, the newest first.
    pub fn of(&self, model: &str) -> Vec<&Version> {
        self.selected.iter().filter(|version| version.name == model).collect()
    }
}

/// Looks for versions. Those that were given up are to be built again where `again` says so of one.
///
/// # Errors
/// When the server does not answer, or the filter is none.
pub fn look(
    server: &Server,
    selection: &Selection,
    words: &Words,
    again: &dyn Fn(&Version) -> bool,
) -> Result<Found, Error> {
    let mut found = Found::default();
    let selected = selected(server, selection)?;
    let keys: BTreeSet<(String, u64)> = selected.iter().map(|one| (one.name.clone(), one.version)).collect();
    found.selected = selected.into_iter().filter(Version::is_ready).collect();
    found.selected.sort_by(|one, other| (other.version, &one.name).cmp(&(one.version, &other.name)));
    for version in found.selected.iter().cloned() {
        match version.tag(&words.status()) {
            Some(DONE) => found.done += 1,
            Some(FAILED) if !again(&version) => found.failed += 1,
            _ => found.due.push(version),
        }
    }
    found.due.sort_by(|one, other| (one.version, &one.name).cmp(&(other.version, &other.name)));
    let done = format!("tags.`{}` = '{DONE}'", words.status());
    let is_gone = |version: &Version| {
        let is_meant = selection.name.as_ref().is_none_or(|name| *name == version.name);
        is_meant && !keys.contains(&(version.name.clone(), version.version))
    };
    found.retired = server.search(&done, "models:/")?.into_iter().filter(is_gone).collect();
    Ok(found)
}

/// Versions that are not selected any more and still serve, as nobody has deleted what runs them.
///
/// # Errors
/// When the server does not answer.
pub fn lingering(server: &Server, selection: &Selection, words: &Words, found: &Found) -> Result<Vec<Version>, Error> {
    let retired = format!("tags.`{}` = '{RETIRED}'", words.status());
    let is_one = |version: &Version| {
        let is_meant = selection.name.as_ref().is_none_or(|name| *name == version.name);
        is_meant && words.serves(version) && found.of(&version.name).is_empty()
    };
    Ok(server.search(&retired, "models:/")?.into_iter().filter(is_one).collect())
}

/// The versions of a model that are said to serve, the newest first.
///
/// # Errors
/// When the server does not answer.
pub fn serving(server: &Server, model: &str, words: &Words) -> Result<Vec<Version>, Error> {
    let all = server.search(&Server::filter_of_name(model), "models:/")?;
    let mut serving: Vec<_> = all.into_iter().filter(|version| words.serves(version)).collect();
    serving.sort_by_key(|version| std::cmp::Reverse(version.version));
    Ok(serving)
}

fn selected(server: &Server, selection: &Selection) -> Result<Vec<Version>, Error> {
    let Selection { name, filter, alias, stage } = selection;
    let versions = match (alias, name) {
        (Some(alias), name) => {
            let names =
                server.with_alias(alias)?.into_iter().filter(|one| name.as_ref().is_none_or(|name| name == one));
            let version = |name: String| match server.version(&name, &Which::Alias(alias.clone())) {
                // Somebody took it away in between.
                Err(error) if error.is_missing() => None,
                found => Some(found),
            };
            names.filter_map(version).collect::<Result<Vec<_>, _>>()?
        }
        (None, name) => {
            let of_name = name.as_ref().map(|name| Server::filter_of_name(name));
            let filters: Vec<&str> = of_name.as_deref().into_iter().chain(filter.as_deref()).collect();
            server.search(&filters.join(" and "), "models:/")?
        }
    };
    let is_in = |version: &Version| {
        stage
            .as_ref()
            .is_none_or(|stage| version.current_stage.as_ref().is_some_and(|own| own.eq_ignore_ascii_case(stage)))
    };
    Ok(versions.into_iter().filter(is_in).collect())
}

/// What became of a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "status")]
pub enum Outcome {
    /// It was built, tested and pushed.
    Done {
        /// The image, with its digest.
        image: String,
        /// Where it was deployed, if it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        endpoint: Option<String>,
    },
    /// No image can be made of it.
    Failed {
        /// Why.
        error: String,
    },
    /// It was done, and is not selected any more.
    Retired,
}

/// Writes to a version what became of it. What failed here and was done by somebody else meanwhile is done.
///
/// # Errors
/// When the server does not take it. Then it is to be built, or retired, again.
pub fn record(server: &Server, seen: &Version, words: &Words, outcome: &Outcome) -> Result<(), Error> {
    let version = &server.version(&seen.name, &Which::Number(seen.version))?;
    let is_done = |version: &Version| version.tag(&words.status()) == Some(DONE);
    if matches!(outcome, Outcome::Failed { .. }) && is_done(version) && !is_done(seen) {
        return Ok(());
    }
    let forget = |key: &str| match version.tag(key) {
        Some(_) => server.delete_tag(version, key),
        None => Ok(()),
    };
    server.set_tag(version, &words.at(), &Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())?;
    let status = match outcome {
        Outcome::Done { image, endpoint } => {
            forget(&words.error())?;
            server.set_tag(version, &words.image(), image)?;
            if let Some(endpoint) = endpoint {
                server.set_tag(version, &words.endpoint, endpoint)?;
            }
            DONE
        }
        Outcome::Failed { error } => {
            forget(&words.image())?;
            let error: String = error.chars().take(LONGEST).collect();
            server.set_tag(version, &words.error(), &error)?;
            FAILED
        }
        Outcome::Retired => RETIRED,
    };
    server.set_tag(version, &words.status(), status)
}

/// Says no more that a version is served somewhere.
///
/// # Errors
/// When the server does not take it.
pub fn forget_endpoint(server: &Server, version: &Version, words: &Words) -> Result<(), Error> {
    if words.serves(version) { server.delete_tag(version, &words.endpoint) } else { Ok(()) }
}

/// The repositories below `prefix` that the images of `versions` go to, by the models' names. None where another model's would
/// go to the same.
pub fn repositories<'a>(
    prefix: &str,
    versions: impl IntoIterator<Item = &'a Version>,
) -> BTreeMap<String, Option<String>> {
    let own = own_names(versions, init::plain);
    let prefix = prefix.trim_end_matches('/');
    own.into_iter().map(|(name, own)| (name, own.map(|own| format!("{prefix}/{own}")))).collect()
}

/// What each model is called where names are made of those in the registry. None where that is nothing, or another model's as well.
pub fn own_names<'a>(
    versions: impl IntoIterator<Item = &'a Version>,
    made: impl Fn(&str) -> String,
) -> BTreeMap<String, Option<String>> {
    let names: BTreeSet<&str> = versions.into_iter().map(|version| version.name.as_str()).collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    names.iter().for_each(|name| *counts.entry(made(name)).or_default() += 1);
    let own = |name: &str| {
        let own = made(name);
        (!own.is_empty() && counts.get(&own) == Some(&1)).then_some(own)
    };
    names.into_iter().map(|name| (name.to_owned(), own(name))).collect()
}
