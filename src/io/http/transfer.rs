//! A body of a known size, which is read on where a connection breaks.

use std::io::{self, Read};

use reqwest::Method;
use reqwest::header::RANGE;
use url::Url;

use super::answer::broken;
use super::{Answer, Body, Client, Error, Judged, Request, Tries, shown};
use crate::io::digest::Mismatch;
use crate::io::explain::{Explain, carry};

/// What counts as having got on, in bytes: as much, and all tries are there again.
const STEP: u64 = 64 << 10;

/// Reads exactly so many bytes as were promised, or ends with an error; broken connections are made up for (RFC 9110,
/// section 14). The digest is for the reader of it to check.
///
/// Its errors are those of `open`, carried by an [`io::Error`].
pub struct Transfer<O> {
    client: Client,
    open: O,
    size: u64,
    /// Where it ends: before the end of the body, where only a part is wanted.
    end: u64,
    position: u64,
    /// Whether all pieces have to be of one version: where no digest tells in the end.
    is_of_one: bool,
    /// The entity tag of that, as soon as one is known (RFC 9110, section 8.8.3).
    tag: Option<String>,
    body: Option<(Url, Body)>,
    tries: Tries,
    /// Where the last failure was.
    since: u64,
}

impl<O, E> Transfer<O>
where
    O: FnMut(&mut Request<'_>) -> Result<Answer, E>,
    E: Judged + From<Error> + Explain,
{
    /// Reads a body of `size` bytes from the offset `from` on. `open` sends the request that it is given, and gives the
    /// answer if its status is one of success.
    pub fn new(client: &Client, size: u64, from: u64, open: O) -> Self {
        let tries = Tries::new(client.policy());
        Self {
            client: client.clone(),
            open,
            size,
            end: size,
            position: from,
            is_of_one: false,
            tag: None,
            body: None,
            tries,
            since: from,
        }
    }

    /// The same, which ends before the byte `end` of the body. Only a server that knows ranges gives it.
    #[must_use]
    pub fn until(self, end: u64) -> Self {
        Self { end: end.min(self.size), ..self }
    }

    /// The same, of which every piece has to be of what has the entity tag `tag`. Where none is given, it is that of the first.
    #[must_use]
    pub fn of(self, tag: Option<String>) -> Self {
        Self { is_of_one: true, tag: tag.filter(|tag| is_strong(tag)), ..self }
    }

    /// The entity tag of what is transferred, where one is known by now.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// A body that begins at the position, and where it comes from.
    fn connect(&mut self) -> Result<(Url, Body), E> {
        let mut request = Request::new(Method::GET);
        let is_part = self.end < self.size;
        if is_part {
            request = request.header(RANGE, format!("bytes={}-{}", self.position, self.end.saturating_sub(1)));
        } else if self.position > 0 {
            request = request.header(RANGE, format!("bytes={}-", self.position));
        }
        let answer = (self.open)(&mut request)?;
        let url = answer.url.clone();
        if let Some(now) = answer.header("etag").filter(|tag| self.is_of_one && is_strong(tag)) {
            if self.tag.as_deref().is_some_and(|tag| tag != now) {
                return Err(Error::protocol(&url, "it became another one while it was fetched").into());
            }
            self.tag = Some(now.to_owned());
        }
        let begins = match (answer.status, answer.header("content-range")) {
            (206, Some(range)) if range.starts_with(&format!("bytes {}-", self.position)) => self.position,
            (206, _) => return Err(Error::protocol(&url, "it sent another part than was asked for").into()),
            _ if is_part => return Err(Error::protocol(&url, "it sent all where a part was asked for").into()),
            _ => 0,
        };
        if let Some(end) = answer.length().map(|length| begins.saturating_add(length)).filter(|end| *end != self.end) {
            return Err(self.wrong_size(&url, end, false).into());
        }
        let mut body = answer.body();
        // A server without ranges sends all again.
        let skip = self.position - begins;
        let skipped = io::copy(&mut (&mut body).take(skip), &mut io::sink()).map_err(|error| broken(&url, error))?;
        if skipped < skip {
            return Err(Error::transport(&url, io::Error::from(io::ErrorKind::UnexpectedEof)).into());
        }
        Ok((url, body))
    }

    fn wrong_size(&self, url: &Url, actual: u64, more: bool) -> Error {
        Error::Wrong { url: shown(url), source: Mismatch::Size { expected: self.size, actual, more } }
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize, E> {
        let (url, mut body) = match self.body.take() {
            Some(body) => body,
            None if self.position == self.end => return Ok(0),
            None => self.connect()?,
        };
        if self.position == self.end {
            // A lost connection after the last byte is no loss.
            return match body.read(&mut [0]) {
                Ok(1..) => Err(self.wrong_size(&url, self.end.saturating_add(1), true).into()),
                _ => Ok(0),
            };
        }
        let room = usize::try_from(self.end - self.position).unwrap_or(usize::MAX).min(buffer.len());
        match body.read(buffer.get_mut(..room).unwrap_or_default()) {
            Ok(0) => Err(Error::transport(&url, io::Error::from(io::ErrorKind::UnexpectedEof)).into()),
            Ok(taken) => {
                self.position += taken as u64;
                self.body = Some((url, body));
                Ok(taken)
            }
            Err(error) => Err(broken(&url, error).into()),
        }
    }
}

/// Whether what has this entity tag is the same byte for byte.
fn is_strong(tag: &str) -> bool {
    tag.starts_with('"')
}

impl<O, E> Read for Transfer<O>
where
    O: FnMut(&mut Request<'_>) -> Result<Answer, E>,
    E: Judged + From<Error> + Explain,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.next(buffer) {
                Ok(taken) => return Ok(taken),
                Err(error) => {
                    if self.position >= self.since.saturating_add(STEP) {
                        self.tries.progress();
                        self.since = self.position;
                    }
                    if !self.client.again(&mut self.tries, error.verdict(), &error) {
                        return Err(carry(error));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Server;
    use super::super::{Network, Redirects, header::HeaderMap};
    use super::*;
    use crate::io::explain::carried;

    fn read(server: &Server, size: u64) -> Result<String, Error> {
        let client = Client::new(Network::Online).at_once();
        let open =
            |request: &mut Request<'_>| client.follow(&server.url, request, &HeaderMap::new(), Redirects::Anywhere);
        let mut text = String::new();
        let read = Transfer::new(&client, size, 0, open).read_to_string(&mut text);
        read.map(|_| text).map_err(|error| carried(error).unwrap())
    }

    fn answer(status: u16, headers: &str, body: &str) -> String {
        format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{headers}\r\n\r\n{body}")
    }

    #[test]
    fn what_came_is_not_asked_for_again() {
        let server = Server::start([
            answer(200, "Content-Length: 10", "0123"),
            answer(206, "Content-Range: bytes 4-9/10\r\nContent-Length: 6", "45"),
            answer(206, "Content-Range: bytes 6-9/10\r\nContent-Length: 4", "6789"),
        ]);
        assert_eq!(read(&server, 10).unwrap(), "0123456789");
        let ranges: Vec<_> = server.heads().iter().map(|head| head.contains("range: bytes=")).collect();
        assert_eq!(ranges, [false, true, true]);
        assert!(server.heads()[2].contains("range: bytes=6-\r\n"));
    }

    #[test]
    fn a_server_without_ranges_sends_all_again() {
        let all = answer(200, "Content-Length: 10", "0123456789");
        let server = Server::start([answer(200, "Content-Length: 10", "0123"), all]);
        assert_eq!(read(&server, 10).unwrap(), "0123456789");
        // An unknown length is fine, and so is a connection that is lost after the last byte.
        let chunked = answer(200, "Transfer-Encoding: chunked", "a\r\n0123456789\r\n");
        assert_eq!(read(&Server::start([chunked]), 10).unwrap(), "0123456789");
    }

    #[test]
    fn another_part_or_size_is_refused_at_once() {
        let part = answer(206, "Content-Range: bytes 5-9/10\r\nContent-Length: 5", "56789");
        let server = Server::start([answer(200, "Content-Length: 10", "0123"), part]);
        assert!(matches!(read(&server, 10), Err(Error::Protocol { .. })));
        for (length, size) in [(9, 10), (11, 10)] {
            let server = Server::start([answer(200, &format!("Content-Length: {length}"), "0123456789a")]);
            let error = read(&server, size).unwrap_err();
            assert!(matches!(error, Error::Wrong { source: Mismatch::Size { .. }, .. }), "{error:?}");
            assert_eq!(server.heads().len(), 1);
        }
        let more = answer(200, "Transfer-Encoding: chunked", "b\r\n0123456789a\r\n0\r\n\r\n");
        let error = read(&Server::start([more]), 10).unwrap_err();
        assert!(matches!(error, Error::Wrong { source: Mismatch::Size { more: true, .. }, .. }), "{error:?}");
    }

    #[test]
    fn it_ends_when_it_does_not_get_on() {
        let server = Server::start(vec![answer(200, "Content-Length: 10", ""); 20]);
        assert!(matches!(read(&server, 10), Err(Error::Transport { .. })));
        assert_eq!(server.heads().len(), 7);
    }

    #[test]
    fn who_gets_on_has_all_tries_again() {
        // Each connection brings one step, and there are more of them than tries.
        let steps = 10;
        let size = steps * STEP;
        let body = "x".repeat(STEP as usize);
        let answers = (0..steps).map(|step| match step * STEP {
            0 => answer(200, &format!("Content-Length: {size}"), &body),
            at => answer(206, &format!("Content-Range: bytes {at}-{}/{size}", size - 1), &body),
        });
        let server = Server::start(answers.collect::<Vec<_>>());
        assert_eq!(read(&server, size).unwrap().len() as u64, size);
        assert_eq!(server.heads().len() as u64, steps);
    }
}
