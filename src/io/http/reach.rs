//! Whether a server can be reached: asked once, for the head of its answer alone, and within a short time.

use std::time::{Duration, SystemTime};

use url::Url;

use super::header::{DATE, HeaderMap};
use super::{Client, Error, Method, Patience, Redirects, Request, shown};
use crate::io::finding::{Finding, Level};

/// How long a server has to answer.
pub const SHORT: Duration = Duration::from_secs(5);

/// The variables that name a proxy, as HTTP libraries read them.
const PROXIES: [&str; 8] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"];

/// What a server said.
#[derive(Clone, Debug)]
pub struct Reached {
    /// The status that it answered with.
    pub status: u16,
    /// What time it is for the server, in whole seconds.
    pub date: Option<SystemTime>,
}

/// Asks for the head of what lies at `url`, once. `secrets` are for its origin alone.
///
/// # Errors
/// When no answer comes within [`SHORT`].
pub fn reach(client: &Client, url: &Url, secrets: &HeaderMap) -> Result<Reached, Error> {
    let mut request = Request::new(Method::HEAD).patience(Patience::within(SHORT));
    let answer = client.follow(url, &mut request, secrets, Redirects::Anywhere)?;
    let date = answer.header(DATE.as_str()).and_then(|text| {
        let moment = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
        Some(moment.into())
    });
    Ok(Reached { status: answer.status, date })
}

/// The proxies that the environment names. One that is no address is a mistake that nothing else tells as plainly.
pub fn proxies() -> Finding {
    const NAME: &str = "proxies";
    let mut said = Vec::new();
    for (name, value) in PROXIES.into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?))) {
        if value.is_empty() {
            continue;
        }
        if name.eq_ignore_ascii_case("NO_PROXY") {
            said.push(format!("{name}={value}"));
            continue;
        }
        // `HOST:PORT` is an address as well.
        let text = if value.contains("://") { value } else { format!("http://{value}") };
        match Url::parse(&text) {
            Ok(url) if url.has_host() => said.push(format!("{name}={}", shown(&url).trim_end_matches('/'))),
            _ => {
                let advice = format!("write it as http://HOST:PORT, or `unset {name}`");
                return Finding::warning(NAME, format!("{name} is no address of a proxy"), advice);
            }
        }
    }
    Finding::ok(NAME, if said.is_empty() { "none".to_owned() } else { said.join(", ") })
}

/// Whether what lies at `url` can be had; and what time it is there. `refused`: what to do where it wants to know who asks.
pub fn finding(
    name: &'static str,
    client: &Client,
    url: &Url,
    secrets: &HeaderMap,
    refused: &str,
) -> (Finding, Option<SystemTime>) {
    let place = shown(url);
    let reached = match reach(client, url, secrets) {
        Ok(reached) => reached,
        Err(Error::Offline { .. }) => return (Finding::ok(name, format!("{place}, not asked (--offline)")), None),
        Err(error) => {
            let found = Finding::of_error(name, Level::Problem, &error);
            let advice = found.advice.or_else(|| Some(format!("see whether it is there: `curl -I {place}`")));
            return (Finding { advice, ..found }, None);
        }
    };
    let status = reached.status;
    let finding = match status {
        // Some answer a GET alone.
        200..=399 | 405 | 501 => Finding::ok(name, format!("{place} answers")),
        401 | 403 | 407 => Finding::problem(name, format!("{place} refuses ({status})"), refused),
        404 | 410 => Finding::problem(name, format!("there is nothing at {place} ({status})"), "name another one"),
        _ => Finding::problem(name, format!("{place} answered {status}"), "try again later, or name another one"),
    };
    (finding, reached.date)
}
