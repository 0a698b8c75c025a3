//! Getting one blob into a repository.
//!
//! Distribution specification 1.1, "Pushing blobs" and "Mounting a blob from another repository". The order is the one
//! that works with all registries: HEAD; POST, which mounts where it can and else begins an upload; one PATCH with the
//! whole blob; PUT. Beyond it:
//!
//! - A small blob goes with the PUT itself, which saves a request.
//! - After a lost connection the registry is asked how far it got, and the rest is sent. Where it does not know any
//!   more (distribution 2.8 takes no upload up again whose PATCH broke off), or what it has turns out to be wrong, the
//!   blob is sent again from the start.
//! - After a failed PUT the blob is looked up first: some registries commit late and answer 404 or a 5xx meanwhile.
//! - A proxy in front that takes no large requests (413, or connections that break before anything got through) gets
//!   pieces of 90 MB, then of 4 MB, which is what GHCR takes at most. Google's Artifact Registry takes no pieces at
//!   all, so they are never the first choice.

use url::Url;

use super::Error;
use super::host::Target;
use super::repository::Repository;
use crate::image::oci::Descriptor;
use crate::io::http::header::{CONTENT_RANGE, CONTENT_TYPE};
use crate::io::http::{Cursor, Judged, Method, Open, Part, Payload, Request, Tries, shown};

/// A blob of at most so many bytes goes with the PUT.
const SMALL: u64 = 1 << 20;

/// Sizes of requests in bytes, for registries behind proxies that take no large ones.
const PIECES: [u64; 2] = [90 << 20, 4_000_000];

/// What became of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was there.
    Present,
    /// It came from another repository of the registry.
    Mounted,
    /// It was sent.
    Sent,
}

/// Puts the blob `link` into `repository`. `places` are repositories of the same registry that may have it.
///
/// # Errors
/// When it could not be read, or the registry refuses it for good.
pub(super) fn upload<'a>(
    repository: &'a Repository,
    link: &'a Descriptor,
    places: &[String],
    open: Open<'a>,
    advance: &'a (dyn Fn(u64) + Sync),
) -> Result<Outcome, Error> {
    if repository.has_blob(&link.digest)? {
        advance(link.size);
        return Ok(Outcome::Present);
    }
    let mut upload =
        Upload { repository, link, cursor: Cursor::new(link.size, open, advance), piece: None, resumes: true };
    let Some(mut location) = upload.begin_or_mount(places)? else {
        advance(link.size);
        return Ok(Outcome::Mounted);
    };
    let mut tries = Tries::new(repository.client().policy());
    let small = link.size <= SMALL;
    loop {
        let sent = if small { Ok(location.clone()) } else { upload.send(location, &mut tries) };
        let committed = sent.and_then(|location| upload.commit(location, small));
        let Err(error) = committed else { return Ok(Outcome::Sent) };
        if repository.has_blob(&link.digest)? {
            return Ok(Outcome::Sent);
        }
        if !upload.adapt(&error, &tries) && !repository.client().again(&mut tries, error.verdict(), &error) {
            return Err(error);
        }
        location = upload.begin()?;
    }
}

struct Upload<'a> {
    repository: &'a Repository,
    link: &'a Descriptor,
    cursor: Cursor<'a>,
    /// Which of [`PIECES`] is sent at once; none for all.
    piece: Option<u64>,
    /// Whether an interrupted upload may be taken up.
    resumes: bool,
}

impl Upload<'_> {
    /// Mounts the blob from one of `places`, or begins an upload.
    fn begin_or_mount(&self, places: &[String]) -> Result<Option<Url>, Error> {
        for place in places {
            let target = self.repository.below(&format!("blobs/uploads/?mount={}&from={place}", self.link.digest));
            let mut request = Request::new(Method::POST);
            // A refusal of any kind means that it cannot be mounted from there, and nothing more: Harbor answers 401
            // for a project that is not there, Docker Hub 4xx across registries.
            let Ok(answer) = self.repository.ask_to_push(&target, &mut request, Some(place)) else { continue };
            match (answer.status, answer.location()) {
                (201, _) => return Ok(None),
                (202, Some(location)) => return Ok(Some(location)),
                _ => {}
            }
        }
        self.begin().map(Some)
    }

    fn begin(&self) -> Result<Url, Error> {
        let target = self.repository.below("blobs/uploads/");
        self.repository.client().retrying(|| {
            let answer = self.repository.ask_to_push(&target, &mut Request::new(Method::POST), None)?;
            match (answer.status, answer.location()) {
                (200..=299, Some(location)) => Ok(location),
                (200..=299, None) => {
                    let why = "it began an upload without saying where".to_owned();
                    Err(Error::Protocol { url: shown(&answer.url), why })
                }
                _ => Err(self.repository.refusal(answer)),
            }
        })
    }

    /// Sends the blob to `location`, and gives the location at which it is committed.
    fn send(&mut self, mut location: Url, tries: &mut Tries) -> Result<Url, Error> {
        let mut offset = 0;
        while offset < self.link.size {
            let left = self.link.size - offset;
            let length = self.piece.map_or(left, |piece| piece.min(left));
            let mut request = Request::new(Method::PATCH);
            if offset > 0 || length < left {
                request = request.header(CONTENT_RANGE, format!("{offset}-{}", offset + length - 1));
            }
            request = request.carrying(Payload::Part(Part { source: &mut self.cursor, from: offset, length }));
            let answer = self.repository.ask_to_push(&Target::Url(location.clone()), &mut request, None);
            let answer = answer.and_then(|answer| match answer.status {
                200..=299 => Ok(answer),
                _ => Err(self.repository.refusal(answer)),
            });
            match answer {
                Ok(answer) => {
                    offset += length;
                    location = answer.location().unwrap_or(location);
                }
                // What is there is asked for only where it can be gone on from.
                Err(error) if error.is_passing() && self.resumes => {
                    if !self.repository.client().again(tries, error.verdict(), &error) {
                        return Err(error);
                    }
                    let Some((got, next)) = self.status(&location) else { return Err(error) };
                    if got > offset {
                        tries.progress();
                    }
                    (offset, location) = (got, next);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(location)
    }

    /// How many bytes of an upload the registry has, and where the rest goes.
    fn status(&self, location: &Url) -> Option<(u64, Url)> {
        let target = Target::Url(location.clone());
        let ask = || self.repository.ask_to_push(&target, &mut Request::new(Method::GET), None);
        let answer = self.repository.client().retrying(ask).ok()?;
        if !answer.is_success() {
            return None;
        }
        // `0-99` are a hundred bytes; nothing yet is `0-0` with some and no header with others.
        let range = answer.header("range").unwrap_or("0-0");
        let last: u64 = range.trim_start_matches("bytes=").split_once('-')?.1.trim().parse().ok()?;
        let got = if last == 0 { 0 } else { last.checked_add(1)? };
        let next = answer.location().unwrap_or_else(|| location.clone());
        (got <= self.link.size).then_some((got, next))
    }

    /// Commits what was sent; or sends all of it and commits, when `whole`.
    fn commit(&mut self, mut location: Url, whole: bool) -> Result<(), Error> {
        location.query_pairs_mut().append_pair("digest", &self.link.digest.to_string());
        let request = Request::new(Method::PUT);
        let mut request = match whole {
            true => request.carrying(Payload::Part(Part { source: &mut self.cursor, from: 0, length: self.link.size })),
            false => request.header(CONTENT_TYPE, "application/octet-stream"),
        };
        let answer = self.repository.ask_to_push(&Target::Url(location), &mut request, None)?;
        match answer.status {
            200..=299 => Ok(()),
            _ => Err(self.repository.refusal(answer)),
        }
    }

    /// Goes another way after `error`, where there is one left.
    fn adapt(&mut self, error: &Error, tries: &Tries) -> bool {
        let sent = self.piece.unwrap_or(self.link.size);
        let finer = PIECES.into_iter().find(|piece| *piece < sent);
        match error {
            Error::Status { status: 413, .. } if finer.is_some() => {
                self.piece = finer;
                true
            }
            // What was resumed did not fit together.
            Error::Status { status: 400 | 404 | 416, .. } if self.resumes => {
                self.resumes = false;
                true
            }
            // Some proxies reset the connection rather than say 413.
            Error::Transport { .. } if finer.is_some() && self.piece.is_none() && tries.is_nearly_over() => {
                self.piece = finer;
                true
            }
            _ => false,
        }
    }
}
