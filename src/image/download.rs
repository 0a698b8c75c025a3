//! Files of mirrors and indexes: bounded, and verified before they are kept. How they are asked for is said by
//! [`crate::io::http`].

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use url::Url;

use crate::image::session::Session;
use crate::image::store;
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, Explain, Explanation, carried};
use crate::io::http::header::{ACCEPT, HeaderMap};
use crate::io::http::{
    self, Answer, Client, Judged, Method, Redirects, Request, Transfer, Verdict, authorization, basic, shown,
};
use crate::io::progress::Task;

/// Why something was not downloaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `--offline` was given, and it is not in the cache.
    #[error("{url} is needed, but not in the cache, and the network is off (--offline)")]
    Offline {
        /// What was asked for.
        url: String,
    },
    /// Something else failed before, so that nobody needs it any more.
    #[error("{url} is not needed any more")]
    Stopped {
        /// What was asked for.
        url: String,
    },
    /// The server answered, but not with the content.
    #[error("{url}: the server answered {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What that says of asking again.
        verdict: Verdict,
    },
    /// No whole answer came.
    #[error("{url} could not be downloaded")]
    Transport {
        /// What was asked for.
        url: String,
        /// What broke off: the name, the connection, or the body.
        source: http::Broken,
    },
    /// The answer is larger than is sensible for what it should be.
    #[error("{url} has more than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// In bytes.
        limit: u64,
    },
    /// The bytes that came are not the promised ones, or could not be kept.
    #[error("{url} could not be kept")]
    Keep {
        /// What was asked for.
        url: String,
        /// Why: a mismatch of digest or size, or the disk.
        source: store::Error,
    },
    /// It cannot be asked for, or was not answered as HTTP has it.
    #[error(transparent)]
    Client(http::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Offline { .. } => {
                ErrorKind::Unavailable.named("download/offline").hint("run once without `--offline`")
            }
            Self::Stopped { .. } => ErrorKind::Unavailable.named("download/stopped"),
            Self::Status { .. } => ErrorKind::Unavailable.named("download/status"),
            Self::Transport { source, .. } if source.is_about_certificates() => ErrorKind::Unavailable
                .named("download/unreachable")
                .hint("name the authority that signed its certificate with `--ca FILE` or SSL_CERT_FILE"),
            Self::Transport { .. } => ErrorKind::Unavailable
                .named("download/unreachable")
                .hint("check the network, and the proxy's variables (`https_proxy`)"),
            Self::TooLarge { .. } => ErrorKind::Unavailable.named("download/too-large"),
            Self::Keep { source, .. } => ErrorKind::Unavailable.named("download/not-kept").or(source),
            Self::Client(error) => error.explain(),
        }
    }
}

impl Error {
    /// The server does not give it to whoever asks.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Status { status: 401 | 403, .. })
    }

    /// The server has no such thing (any more).
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Status { status: 404 | 410, .. })
    }
}

impl Judged for Error {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Status { verdict, .. } => *verdict,
            Self::Transport { source, .. } => source.verdict(),
            _ => Verdict::Final,
        }
    }
}

impl From<http::Error> for Error {
    fn from(error: http::Error) -> Self {
        match error {
            http::Error::Offline { url } => Self::Offline { url },
            http::Error::Stopped { url } => Self::Stopped { url },
            http::Error::Transport { url, source } => Self::Transport { url, source },
            http::Error::TooLarge { url, limit } => Self::TooLarge { url, limit },
            http::Error::Wrong { url, source } => Self::Keep { url, source: store::Error::Mismatch(source) },
            error => Self::Client(error),
        }
    }
}

/// A name and a password (RFC 7617).
#[derive(Clone)]
pub struct Credentials {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

/// Names and passwords for servers (`netrc(5)`).
#[derive(Clone, Default)]
pub struct Netrc(String);

impl fmt::Debug for Netrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netrc").finish_non_exhaustive()
    }
}

impl Netrc {
    /// The person's: the file that `NETRC` names, else `~/.netrc`. Empty where there is none.
    pub fn of_person() -> Self {
        let file = std::env::var_os("NETRC").map(PathBuf::from);
        let file = file.or_else(|| Some(std::env::home_dir()?.join(".netrc")));
        Self(file.and_then(|file| fs_err::read_to_string(file).ok()).unwrap_or_default())
    }

    /// The text of such a file.
    pub fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// What it has for a host, as curl reads it.
    pub fn credentials(&self, host: &str) -> Option<Credentials> {
        let lines = self.0.lines().filter(|line| !line.trim_start().starts_with('#'));
        let mut words = lines.flat_map(str::split_whitespace);
        let (mut meant, mut name, mut password) = (false, None, None);
        while let Some(word) = words.next() {
            match word {
                "machine" | "default" => {
                    if meant {
                        break;
                    }
                    meant = word == "default" || words.next() == Some(host);
                }
                "login" if meant => name = words.next(),
                "password" if meant => password = words.next(),
                "login" | "password" | "account" => drop(words.next()),
                _ => {}
            }
        }
        Some(Credentials { name: name?.to_owned(), password: password.unwrap_or_default().to_owned() })
    }
}

/// An answer in memory.
pub struct Page {
    /// Where it came from in the end.
    pub url: Url,
    /// What came.
    pub bytes: Vec<u8>,
}

/// Downloads `url` into memory.
///
/// # Errors
/// See [`Error`]; more than `limit` bytes are [`Error::TooLarge`].
pub fn bytes(client: &Client, url: &Url, limit: u64) -> Result<Vec<u8>, Error> {
    Ok(page(client, url, "*/*", None, limit)?.bytes)
}

/// Downloads `url` into memory, in one of the media types `accepted` (RFC 9110, 12.5.1). `credentials` go to its origin
/// alone, not to where it redirects.
///
/// # Errors
/// As [`bytes`].
pub fn page(
    client: &Client,
    url: &Url,
    accepted: &str,
    credentials: Option<&Credentials>,
    limit: u64,
) -> Result<Page, Error> {
    let secrets = secrets(credentials);
    client.retrying(|| {
        let mut request = Request::new(Method::GET).header(ACCEPT, accepted);
        let answer = success(url, client.follow(url, &mut request, &secrets, Redirects::Anywhere)?)?;
        let url = answer.url.clone();
        Ok(Page { url, bytes: answer.bytes(limit)? })
    })
}

/// Headers for a request with a method that go to the origin of its address alone; asked for with each request, as
/// signatures hold for a while.
pub type Secrets<'a> = dyn Fn(&Method) -> HeaderMap + Sync + 'a;

/// The head of the answer for `url`, after redirections: with HEAD, else with GET, whose body is not read.
///
/// # Errors
/// As [`bytes`].
pub fn head(client: &Client, url: &Url, secrets: &Secrets<'_>) -> Result<Answer, Error> {
    let ask = |method: Method| {
        client.retrying(|| {
            let mut request = Request::new(method.clone());
            success(url, client.follow(url, &mut request, &secrets(&method), Redirects::Anywhere)?)
        })
    };
    match ask(Method::HEAD) {
        // Those who sign addresses sign them for one method, and some servers know no HEAD.
        Err(Error::Status { status: 400 | 403 | 405 | 501, .. }) => ask(Method::GET),
        answer => answer,
    }
}

/// The answer for `url`, after redirections, whose body is read by whoever wants it.
///
/// # Errors
/// As [`bytes`].
pub fn open(client: &Client, url: &Url, secrets: &Secrets<'_>) -> Result<Answer, Error> {
    client.retrying(|| {
        let mut request = Request::new(Method::GET);
        success(url, client.follow(url, &mut request, &secrets(&Method::GET), Redirects::Anywhere)?)
    })
}

/// Downloads `url` into memory, as a page of several: with the address of the next one (RFC 8288).
///
/// # Errors
/// As [`bytes`].
pub fn get(client: &Client, url: &Url, secrets: &Secrets<'_>, limit: u64) -> Result<(Option<Url>, Vec<u8>), Error> {
    client.retrying(|| {
        let mut request = Request::new(Method::GET);
        let answer = success(url, client.follow(url, &mut request, &secrets(&Method::GET), Redirects::Anywhere)?)?;
        let next = answer.header("link").and_then(next_page).and_then(|next| answer.url.join(next).ok());
        Ok((next, answer.bytes(limit)?))
    })
}

/// The address of the next page in a header `Link`.
fn next_page(link: &str) -> Option<&str> {
    let one = link.split(',').find(|one| one.contains("rel=\"next\""))?;
    one.split_once('<')?.1.split_once('>').map(|(address, _)| address)
}

/// Bytes of a piece, where a file is fetched in several at once.
const PIECE: u64 = 4 << 20;

/// Pieces that are fetched at once, and those that are held in memory.
const AT_ONCE: usize = 6;
const HELD: u64 = 8;

/// How long one connection is watched, and as how many bytes in a second are more than one of an object store in the cloud
/// gives: where it has them, more connections do not help.
const WATCHED: Duration = Duration::from_millis(400);
const FAST: f64 = 250e6;

/// Downloads `url` into the store, whatever its digest is, and gives that with the size. It comes as [`transfer`] has it. What has
/// come is kept under `key` where that is given and all does not come: it is gone on with then.
///
/// # Errors
/// As [`blob`]. Nothing is kept then.
pub fn content(
    session: &Session,
    url: &Url,
    secrets: &Secrets<'_>,
    size: Option<u64>,
    key: Option<&Digest>,
    task: &Task,
) -> Result<(Digest, u64), Error> {
    let mut writer = match (key, size) {
        (Some(key), Some(size)) if size >= PIECE => session.store.resumed_blob(key, size),
        _ => session.store.blob_writer(),
    }
    .map_err(|source| kept(url, source))?;
    let from = writer.written();
    transfer(&session.client, url, secrets, size, from, &mut writer, task)?;
    writer.commit().map_err(|source| kept(url, source))
}

/// What the disk says of what came from `url`; what carries an error of the transfer is that.
fn kept(url: &Url, source: store::Error) -> Error {
    match source {
        store::Error::Io(error) => {
            carried(error).unwrap_or_else(|error| Error::Keep { url: shown(url), source: store::Error::Io(error) })
        }
        source => Error::Keep { url: shown(url), source },
    }
}

/// Downloads what is at `url` from the byte `from` on to `writer`, which has got those before. Where the size is known, a
/// connection that breaks is made up for, and what is left of a large file that comes slowly comes in pieces at once. `task`
/// advances by the bytes that come, and those that were there.
///
/// # Errors
/// As [`blob`], and when it becomes another one while it is fetched.
pub fn transfer(
    client: &Client,
    url: &Url,
    secrets: &Secrets<'_>,
    size: Option<u64>,
    from: u64,
    writer: &mut dyn Write,
    task: &Task,
) -> Result<(), Error> {
    let open = |request: &mut Request<'_>| {
        success(url, client.follow(url, request, &secrets(&Method::GET), Redirects::Anywhere)?)
    };
    let keep = |error: io::Error| kept(url, store::Error::Io(error));
    let Some(size) = size else {
        io::copy(&mut task.reading(open(&mut Request::new(Method::GET))?.body()), writer).map_err(keep)?;
        return Ok(());
    };
    let mut writer = Counted { inner: writer, written: from };
    task.advance(from);
    let mut transfer = Transfer::new(client, size, from, open).of(None);
    let rate = copy_watched(&mut task.reading(&mut transfer), &mut writer).map_err(keep)?;
    let from = writer.written;
    if let Some(rate) = rate.filter(|rate| *rate < FAST)
        && size.saturating_sub(from) >= HELD * PIECE
    {
        let head = head(client, url, secrets)?;
        if head.header("accept-ranges") == Some("bytes") && head.length() == Some(size) {
            let tag = transfer.tag().map(str::to_owned);
            let piece = |client: &Client, from: u64, end: u64| {
                let open = |request: &mut Request<'_>| {
                    success(url, client.follow(url, request, &secrets(&Method::GET), Redirects::Anywhere)?)
                };
                let mut bytes = Vec::with_capacity((end - from) as usize);
                let transfer = Transfer::new(client, size, from, open).until(end).of(tag.clone());
                task.reading(transfer).read_to_end(&mut bytes)?;
                Ok(bytes)
            };
            pieces(client, from, size, rate, &piece, &mut writer).map_err(keep)?;
            transfer = Transfer::new(client, size, writer.written, open).of(tag);
        }
    }
    io::copy(&mut task.reading(transfer), &mut writer).map_err(keep)?;
    Ok(())
}

/// Counts what goes through.
struct Counted<'a> {
    inner: &'a mut dyn Write,
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.inner.write(bytes)?;
        self.written += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Copies for as long as it is watched, and gives the bytes that came in a second of waiting for them; none where that was all.
/// How long the first took says nothing of the connection: a server may have had to look for them.
fn copy_watched(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<Option<f64>> {
    let mut waited = Duration::ZERO;
    let mut has_begun = false;
    let mut buffer = vec![0; 256 << 10];
    let mut copied = 0_u64;
    loop {
        let asked = Instant::now();
        let taken = match from.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let time = asked.elapsed();
        to.write_all(buffer.get(..taken).unwrap_or_default())?;
        if std::mem::replace(&mut has_begun, true) {
            waited += time;
            copied += taken as u64;
        }
        if waited >= WATCHED {
            return Ok(Some(copied as f64 / waited.as_secs_f64()));
        }
    }
}

/// Fetches the bytes from one offset to another.
type Piece<'a> = dyn Fn(&Client, u64, u64) -> io::Result<Vec<u8>> + Sync + 'a;

/// Writes the bytes `from..size`, which `piece` fetches: several pieces at once, in order. Less than all where fewer come in a
/// second than `rate`, which is what one connection gave.
fn pieces(
    client: &Client,
    from: u64,
    size: u64,
    rate: f64,
    piece: &Piece<'_>,
    writer: &mut dyn Write,
) -> io::Result<()> {
    /// What is under way, by the number of the piece.
    #[derive(Default)]
    struct Way {
        next: u64,
        written: u64,
        came: BTreeMap<u64, io::Result<Vec<u8>>>,
        is_over: bool,
    }
    let client = client.apart();
    let count = (size - from).div_ceil(PIECE);
    let way = Mutex::new(Way::default());
    let changed = Condvar::new();
    let lock = || way.lock().unwrap_or_else(PoisonError::into_inner);
    let wait = |way| changed.wait(way).unwrap_or_else(PoisonError::into_inner);
    let fetch = || {
        loop {
            let number = {
                let mut way = lock();
                while !way.is_over && way.next < count && way.next >= way.written + HELD {
                    way = wait(way);
                }
                if way.is_over || way.next >= count {
                    return;
                }
                way.next += 1;
                way.next - 1
            };
            let begin = from + number * PIECE;
            let got = piece(&client, begin, (begin + PIECE).min(size));
            lock().came.insert(number, got);
            changed.notify_all();
        }
    };
    let started = Instant::now();
    let mut write = || {
        for number in 0..count {
            let time = started.elapsed();
            if time >= WATCHED * 5 && ((number * PIECE) as f64) < rate * time.as_secs_f64() {
                return Ok(());
            }
            let bytes = {
                let mut way = lock();
                loop {
                    match way.came.remove(&number) {
                        Some(got) => break got?,
                        None => way = wait(way),
                    }
                }
            };
            writer.write_all(&bytes)?;
            lock().written += 1;
            changed.notify_all();
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        (0..AT_ONCE).for_each(|_| drop(scope.spawn(fetch)));
        let written = write();
        lock().is_over = true;
        changed.notify_all();
        // Pieces under way are of no use any more.
        client.stop();
        written
    })
}

/// The headers that show `credentials`, if there are any.
pub fn secrets(credentials: Option<&Credentials>) -> HeaderMap {
    // What base64 makes fits into a header.
    let header = credentials.and_then(|Credentials { name, password }| authorization(&basic(name, password)));
    header.unwrap_or_default()
}

/// Downloads `url` into the store, unless it is there: exactly `size` bytes with the digest `digest`. A connection that
/// breaks is made up for: what came is not asked for again. `credentials` are as those of [`page`]. `task` advances by the
/// bytes that come in.
///
/// # Errors
/// See [`Error`]. Nothing is kept then.
pub fn blob(
    session: &Session,
    url: &Url,
    credentials: Option<&Credentials>,
    digest: &Digest,
    size: u64,
    task: &Task,
) -> Result<(), Error> {
    let alone = session.store.fetching(digest, size, &session.progress).map_err(|source| kept(url, source))?;
    let Some(_alone) = alone else {
        task.advance(size);
        return Ok(());
    };
    let client = &session.client;
    let secrets = secrets(credentials);
    let transfer = Transfer::new(client, size, 0, |request| {
        success(url, client.follow(url, request, &secrets, Redirects::Anywhere)?)
    });
    session.store.put_blob(&mut task.reading(transfer), digest, size).map_err(|source| kept(url, source))
}

/// The answer, if it is the content of `url`.
fn success(url: &Url, answer: Answer) -> Result<Answer, Error> {
    match answer.is_success() {
        true => Ok(answer),
        false => Err(Error::Status { url: shown(url), status: answer.status, verdict: answer.verdict() }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::image::session::Making;
    use crate::image::store::Store;
    use crate::io::http::Network;
    use crate::io::http::testing::Server;
    use crate::io::progress::{Event, Progress, Sink, Unit};

    #[derive(Default)]
    struct Counted(AtomicU64);

    impl Sink for Counted {
        fn event(&self, event: Event) {
            if let Event::Advanced { by, .. } = event {
                self.0.fetch_add(by, Ordering::Relaxed);
            }
        }
    }

    fn get(answers: &[&str], digest: &Digest) -> (Result<(), Error>, Server, u64) {
        let server = Server::start(answers.iter().map(|answer| format!("HTTP/1.1 {answer}")));
        let home = tempfile::tempdir().unwrap();
        let counted = Arc::new(Counted::default());
        let progress = Progress::new(counted.clone());
        let client = Client::new(Network::Online).at_once();
        let store = Store::open(home.path()).unwrap();
        let session = Session { store, progress: progress.clone(), client, making: Making::Compressed };
        let task = progress.task("Downloading", "it", Unit::Bytes, Some(10));
        let result = blob(&session, &server.url, None, digest, 10, &task);
        assert_eq!(session.store.has_blob(digest), result.is_ok());
        (result, server, counted.0.load(Ordering::Relaxed))
    }

    #[test]
    fn a_download_goes_on_and_each_byte_is_counted_once() {
        let answers = [
            "503 Busy\r\nConnection: close\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n",
            "200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n0123",
            "206 Part\r\nConnection: close\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n\r\n456789",
        ];
        let (result, server, counted) = get(&answers, &Digest::of("0123456789"));
        result.unwrap();
        assert_eq!((server.heads().len(), counted), (3, 10));
    }

    #[test]
    fn what_is_wrong_is_not_asked_for_again() {
        let other = ["200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n9876543210"; 2];
        let (result, server, _) = get(&other, &Digest::of("0123456789"));
        assert!(matches!(result, Err(Error::Keep { source: store::Error::Mismatch(_), .. })), "{result:?}");
        assert_eq!(server.heads().len(), 1);
        let missing = ["404 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"; 2];
        let (result, server, _) = get(&missing, &Digest::of("0123456789"));
        assert!(result.unwrap_err().is_missing());
        assert_eq!(server.heads().len(), 1);
    }

    #[test]
    fn a_netrc_is_read_as_curl_reads_it() {
        let text = "# c\nmachine a.example login l password p\nmachine b.example\n  login m\n  password q account x\ndefault login d password e\n";
        let of = |host| Netrc::of(text).credentials(host).map(|found| (found.name, found.password));
        assert_eq!(of("a.example"), Some(("l".into(), "p".into())));
        assert_eq!(of("b.example"), Some(("m".into(), "q".into())));
        assert_eq!(of("c.example"), Some(("d".into(), "e".into())));
        assert!(Netrc::of("machine a.example login l password p").credentials("c.example").is_none());
    }

    #[test]
    fn a_page_is_bounded_and_its_address_has_no_password() {
        let page = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\npage";
        let server = Server::start([page, page]);
        let mut url = server.url.clone();
        url.set_username("me").unwrap();
        url.set_password(Some("secret")).unwrap();
        let client = Client::new(Network::Online);
        let found = super::page(&client, &url, "text/html", None, 4).unwrap();
        assert_eq!((found.url.as_str(), found.bytes.as_slice()), (server.url.as_str(), &b"page"[..]));
        assert!(server.heads()[0].contains("accept: text/html"));
        let error = super::page(&client, &url, "text/html", None, 3).err().unwrap();
        assert_eq!(error.to_string(), format!("{} has more than 3 bytes", server.url));
    }
}
