//! Instructions done upon an image that is there: those of a bento, which stand in no Dockerfile of their own.

use super::{Allowed, Context, Error, Ledger, Opened, Request, made};
use crate::formats::diagnostic::Source;
use crate::formats::dockerfile::{Dockerfile, Excerpt, Ignore};
use crate::image::Image;
use crate::image::session::Session;

/// What the image is called in the text of which a Dockerfile is read. No image is called so.
const BELOW: &str = "ekiben.below";

/// Does the instructions of `excerpts` upon `image`; before it stand `stages`, of which they may copy. `request` says where
/// `COPY` takes files from, and what commands may do. Layers of what comes of it may not be compressed yet.
///
/// # Errors
/// See [`Error`].
pub fn upon(
    session: &Session,
    image: &Image,
    stages: Option<&Excerpt>,
    excerpts: &[Excerpt],
    request: &Request,
    ledger: &Ledger,
) -> Result<Image, Error> {
    if excerpts.is_empty() {
        return Ok(image.clone());
    }
    let mut request = request.clone();
    request.contexts.insert(BELOW.to_owned(), Context::Made(Box::new(image.clone())));
    made(session, &request, &opened(stages, excerpts)?, image.platform(), ledger, None)
}

/// Sees whether the commands of `stages` and `excerpts` may be executed.
///
/// # Errors
/// [`Error::NotAllowed`], with all of them.
pub fn allow(stages: Option<&Excerpt>, excerpts: &[Excerpt], allowed: Allowed) -> Result<(), Error> {
    let opened = opened(stages, excerpts)?;
    opened.allow(opened.file.stages.iter(), allowed)
}

/// The Dockerfile that they are together.
fn opened(stages: Option<&Excerpt>, excerpts: &[Excerpt]) -> Result<Opened, Error> {
    let (mut text, mut places) = (String::new(), Vec::new());
    if let Some(stages) = stages {
        places.push((0, stages.place.clone()));
        text.push_str(&stages.text);
    }
    text.push_str(&format!("FROM {BELOW}\n"));
    for excerpt in excerpts {
        places.push((text.len(), excerpt.place.clone()));
        text.push_str(&excerpt.text);
    }
    let source = Source::new("instructions", text.as_str());
    let file = Dockerfile::parse(&source).map_err(|mistakes| {
        let first = mistakes.sorted().first().map(|mistake| mistake.message.clone());
        Error::Refused(first.unwrap_or_else(|| "they are none".to_owned()))
    })?;
    Ok(Opened { source, file, ignore: Ignore::default(), excerpts: places })
}
