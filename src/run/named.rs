//! Which container a person means: by its name, by the beginning of it, or by the name of its image.

use super::container::{Container, Error, State};
use super::{IMAGE, containers};
use crate::image::session::Session;
use crate::image::store::ImageQuery;
use crate::io::suggest::closest;

/// Which container is meant rather than another, where a text fits several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// One that runs.
    Live,
    /// One that has ended.
    Ended,
}

/// The container that `text` means: the one of that name, else the only one of the image of that name, else the only one
/// whose name begins so. Of those, only the preferred count where there are any.
///
/// # Errors
/// [`Error::NoContainer`] when it means none, [`Error::Ambiguous`] when it may mean several.
pub fn find(session: &Session, text: &str, prefer: Prefer) -> Result<Container, Error> {
    let containers = containers(session)?;
    let states = containers.list()?;
    let name = match choose(&states, text, prefer)? {
        Some(state) => &state.name,
        None => {
            let names: Vec<_> = states.into_iter().map(|state| state.name).collect();
            let similar = closest(text, &names).map(str::to_owned);
            return Err(Error::NoContainer { name: text.to_owned(), similar, names });
        }
    };
    containers.get(name)
}

/// The running container that `text` means, if it means one.
///
/// # Errors
/// [`Error::Ambiguous`] when it may mean several.
pub fn running(session: &Session, text: &str) -> Result<Option<State>, Error> {
    let mut states = containers(session)?.list()?;
    states.retain(State::is_live);
    Ok(choose(&states, text, Prefer::Live)?.cloned())
}

/// Whether `text` is the whole name of a container or of its image, and not the beginning of one.
pub fn is_whole(state: &State, text: &str) -> bool {
    let query = text.parse::<ImageQuery>().ok();
    state.name == text || is_of_image(state, query.as_ref())
}

fn is_of_image(state: &State, query: Option<&ImageQuery>) -> bool {
    let image = state.labels.get(IMAGE).and_then(|image| image.parse().ok());
    query.zip(image).is_some_and(|(query, image)| query.matches(&image))
}

fn choose<'a>(states: &'a [State], text: &str, prefer: Prefer) -> Result<Option<&'a State>, Error> {
    if let Some(state) = states.iter().find(|state| state.name == text) {
        return Ok(Some(state));
    }
    let query = text.parse::<ImageQuery>().ok();
    let begins = |state: &&State| !text.is_empty() && state.name.starts_with(text);
    let mut found: Vec<_> = states.iter().filter(|state| is_of_image(state, query.as_ref())).collect();
    if found.is_empty() {
        found = states.iter().filter(begins).collect();
    }
    let is_preferred = |state: &&State| state.is_live() == (prefer == Prefer::Live);
    if found.iter().any(&is_preferred) {
        found.retain(is_preferred);
    }
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => {
            let names = several.iter().map(|state| state.name.clone()).collect();
            Err(Error::Ambiguous { text: text.to_owned(), names })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::container::Status;

    fn state(name: &str, image: &str, runs: bool) -> State {
        let status = if runs { Status::Running } else { Status::Exited { code: 0, out_of_memory: false } };
        State::example(name, status, [(IMAGE.to_owned(), image.to_owned())].into())
    }

    #[test]
    fn a_container_is_found_by_what_a_person_knows_of_it() {
        let states = [
            state("iris-ab", "iris:1.0", true),
            state("iris-cd", "iris:0.9", false),
            state("other", "host:5000/wine:2", true),
            state("other-1", "host:5000/wine:3", true),
        ];
        let choose = |text: &str, prefer| match choose(&states, text, prefer) {
            Ok(found) => found.map_or("none", |state| &state.name).to_owned(),
            Err(Error::Ambiguous { names, .. }) => names.join(" "),
            Err(error) => error.to_string(),
        };
        for (text, live, ended) in [
            ("iris-ab", "iris-ab", "iris-ab"),
            ("iris-a", "iris-ab", "iris-ab"),
            ("iris", "iris-ab", "iris-cd"),
            ("iris:0.9", "iris-cd", "iris-cd"),
            ("iris:1", "none", "none"),
            ("other", "other", "other"),
            ("othe", "other other-1", "other other-1"),
            ("host:5000/wine", "other other-1", "other other-1"),
            ("host:5000/wine:3", "other-1", "other-1"),
            ("", "none", "none"),
        ] {
            assert_eq!(choose(text, Prefer::Live), live, "{text}");
            assert_eq!(choose(text, Prefer::Ended), ended, "{text}");
        }
    }
}
