//! Object stores that speak S3's protocol: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or `MLFLOW_S3_ENDPOINT_URL` name one, else
//! it is that of `AWS_REGION`. Who asks is found as Amazon's own tools find it: the environment, `~/.aws`, a web identity, the
//! container, the machine. Where nobody is found, it is asked as nobody.

use std::collections::HashMap;
use std::path::PathBuf;
use std::task::{Context as Waiting, Poll, Waker};

use bytes::Bytes;
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, EMPTY_STRING_SHA256, RequestSigner};
use reqsign_core::{Context, Env, FileRead, HttpSend, OsEnv, Signer};
use serde::Deserialize;
use url::Url;

use super::{At, Error, MOST_FILES, Place, Remote, encoded_path};
use crate::io::http::header::HeaderMap;
use crate::io::http::{Client, Method, Payload, Request};
use crate::io::progress::Progress;

/// The region of an endpoint of one's own, which has none.
const REGION: &str = "us-east-1";

/// A bucket, and how its requests are signed (AWS Signature Version 4).
#[derive(Clone)]
pub(super) struct Bucket {
    /// With the bucket in its path or its host.
    url: Url,
    signer: Signer<Credential>,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bucket").field("url", &self.url.as_str()).finish_non_exhaustive()
    }
}

impl Bucket {
    pub fn new(client: &Client, name: &str) -> Result<Self, String> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL"].into_iter().find_map(set);
        let region = set("AWS_REGION").or_else(|| set("AWS_DEFAULT_REGION"));
        let region = region.unwrap_or_else(|| REGION.to_owned());
        let url = match endpoint {
            Some(endpoint) => format!("{}/{name}/", endpoint.trim_end_matches('/')),
            // In a host, a dot would be a level that no certificate has.
            None if name.contains('.') => format!("https://s3.{region}.amazonaws.com/{name}/"),
            None => format!("https://{name}.s3.{region}.amazonaws.com/"),
        };
        let url = Url::parse(&url).map_err(|error| format!("the endpoint {url} is no URL: {error}"))?;
        let context =
            Context::new().with_file_read(Files).with_http_send(Sender(client.clone())).with_env(Environment(OsEnv));
        let signer = Signer::new(context, DefaultCredentialProvider::new(), RequestSigner::new("s3", &region));
        Ok(Self { url, signer })
    }

    /// The address of an object.
    fn object(&self, key: &str) -> Url {
        let mut url = self.url.clone();
        let path = format!("{}{}", url.path(), encoded_path(key));
        url.set_path(&path);
        url
    }

    /// The headers that sign a request for `url`; none where nobody is known who could, which is told.
    pub fn sign(&self, method: &Method, url: &Url, progress: &Progress) -> HeaderMap {
        self.signed(method, url).unwrap_or_else(|why| {
            progress.detail(format!("{} is asked without a signature: {why}", self.url));
            HeaderMap::new()
        })
    }

    fn signed(&self, method: &Method, url: &Url) -> Result<HeaderMap, String> {
        let request = http::Request::builder()
            .method(method.clone())
            .uri(url.as_str())
            .header("x-amz-content-sha256", EMPTY_STRING_SHA256)
            .body(())
            .map_err(|error| error.to_string())?;
        let (mut parts, ()) = request.into_parts();
        at_once(self.signer.sign(&mut parts, None)).map_err(|error| error.to_string())?;
        parts.headers.remove("host");
        Ok(parts.headers)
    }
}

/// An answer to `ListObjectsV2`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listing {
    #[serde(default)]
    contents: Vec<Object>,
    next_continuation_token: Option<String>,
}

/// An object in a listing.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Object {
    key: String,
    size: u64,
    e_tag: Option<String>,
}

/// The object of a key, or all whose key begins with a prefix that ends in `/`.
pub(super) fn find(place: &Place<'_>, bucket: &Bucket, key: &str) -> Result<Vec<Remote>, Error> {
    if !(key.is_empty() || key.ends_with('/')) {
        let url = bucket.object(key);
        let answer = place.head(&url)?;
        let version = answer.header("x-amz-version-id").filter(|version| *version != "null");
        let version = version.or_else(|| answer.header("etag")).map(str::to_owned);
        let name = key.rsplit('/').next().unwrap_or_default().to_owned();
        return Ok(vec![Remote { name, at: At::Url(url), size: answer.length(), digest: None, version }]);
    }
    let (mut found, mut token) = (Vec::new(), None::<String>);
    loop {
        let mut url = bucket.url.clone();
        url.query_pairs_mut().append_pair("list-type", "2").append_pair("prefix", key);
        if let Some(token) = &token {
            url.query_pairs_mut().append_pair("continuation-token", token);
        }
        let (_, bytes) = place.page(&url)?;
        let listing: Listing = quick_xml::de::from_reader(bytes.as_slice()).map_err(|error| place.answer(error))?;
        for object in listing.contents {
            // What consoles put in the place of a folder.
            let Some(name) = object.key.strip_prefix(key).filter(|name| !name.is_empty() && !name.ends_with('/'))
            else {
                continue;
            };
            found.push(Remote {
                name: name.to_owned(),
                at: At::Url(bucket.object(&object.key)),
                size: Some(object.size),
                digest: None,
                version: object.e_tag,
            });
        }
        if found.len() > MOST_FILES {
            return Err(Error::TooMany(place.from.clone()));
        }
        token = listing.next_continuation_token;
        if token.is_none() {
            return Ok(found);
        }
    }
}

/// What a future gives that waits for nothing: all that it asks for is answered when it asks.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut waiting = Waiting::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut waiting) {
            return value;
        }
        // Another thread asks at the same time, and holds what is known so far.
        std::thread::yield_now();
    }
}

/// Files of the person's.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        fs_err::read(path).map_err(|error| reqsign_core::Error::config_invalid(error.to_string()))
    }
}

/// The environment, with whose home folder is the person's.
#[derive(Debug)]
struct Environment(OsEnv);

impl Env for Environment {
    fn var(&self, key: &str) -> Option<String> {
        self.0.var(key).filter(|value| !value.is_empty())
    }

    fn vars(&self) -> HashMap<String, String> {
        self.0.vars()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        std::env::home_dir()
    }
}

/// Asks those who give credentials.
#[derive(Clone)]
struct Sender(Client);

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

impl HttpSend for Sender {
    async fn http_send(&self, asked: http::Request<Bytes>) -> reqsign_core::Result<http::Response<Bytes>> {
        let failed = |error: String| reqsign_core::Error::unexpected(error);
        let (parts, body) = asked.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|error| failed(error.to_string()))?;
        let mut request = Request::new(parts.method);
        if !body.is_empty() {
            request = request.carrying(Payload::Bytes(body));
        }
        let answer =
            self.0.once().send(&url, &mut request, &parts.headers).map_err(|error| failed(error.to_string()))?;
        let mut response = http::Response::builder().status(answer.code());
        for (name, value) in &answer.headers {
            response = response.header(name, value);
        }
        let bytes = answer.bytes(1 << 20).map_err(|error| failed(error.to_string()))?;
        response.body(Bytes::from(bytes)).map_err(|error| failed(error.to_string()))
    }
}
