//! What stands before a registry and says something else than it, where a test wants that.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use ekiben::io::digest::Digest;
use serde_json::{Value, json};

/// A request as it came.
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    head: String,
    pub body: Vec<u8>,
}

/// An answer in the place of the registry's.
pub struct Said {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Said {
    /// A document.
    pub fn json(media_type: &str, value: &Value) -> Self {
        Self::bytes(media_type, value.to_string().into_bytes())
    }

    pub fn bytes(media_type: &str, body: Vec<u8>) -> Self {
        let digest = ("Docker-Content-Digest".to_owned(), Digest::of(&body).to_string());
        Self { status: 200, headers: vec![("Content-Type".to_owned(), media_type.to_owned()), digest], body }
    }
}

type Rule = dyn Fn(&Asked) -> Option<Said> + Send + Sync;

/// A server that asks `rule` first and then the registry.
pub struct Front {
    pub port: u16,
}

impl Front {
    pub fn of(registry: u16, rule: impl Fn(&Asked) -> Option<Said> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let rule: Arc<Rule> = Arc::new(rule);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let rule = rule.clone();
                thread::spawn(move || serve(client, registry, &*rule));
            }
        });
        Self { port }
    }

    /// One with the API of referrers, in pages of `page`.
    pub fn with_referrers(registry: u16, page: usize) -> Self {
        let known: Mutex<Vec<(String, Value)>> = Mutex::default();
        Self::of(registry, move |asked| {
            if let Some((_, rest)) = asked.path.split_once("/referrers/") {
                let url = url::Url::parse(&format!("http://x/{rest}")).unwrap();
                let query: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
                let from: usize = query.get("last").map_or(0, |last| last.parse().unwrap());
                let known = known.lock().unwrap();
                let subject = url.path().trim_start_matches('/');
                let kind = |one: &Value| query.get("artifactType").is_none_or(|kind| one["artifactType"] == **kind);
                let of = known.iter().filter(|(about, one)| about == subject && kind(one)).map(|(_, one)| one);
                let all: Vec<&Value> = of.collect();
                let part: Vec<_> = all.iter().skip(from).take(page).collect();
                let media_type = "application/vnd.oci.image.index.v1+json";
                let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": part });
                let mut said = Said::json(media_type, &index);
                if from + part.len() < all.len() {
                    let next =
                        format!("<{}?last={}>; rel=\"next\"", asked.path.split('?').next().unwrap(), from + page);
                    said.headers.push(("Link".to_owned(), next));
                }
                return Some(said);
            }
            if asked.method == "PUT"
                && asked.path.contains("/manifests/")
                && let Ok(manifest) = serde_json::from_slice::<Value>(&asked.body)
                && let Some(subject) = manifest["subject"]["digest"].as_str()
            {
                let mut said = pass(&asked.head, asked, registry);
                assert_eq!(said.status, 201, "{}", String::from_utf8_lossy(&said.body));
                let listed = json!({
                    "mediaType": manifest["mediaType"], "digest": Digest::of(&asked.body), "size": asked.body.len(),
                    "artifactType": manifest["artifactType"], "annotations": manifest["annotations"],
                });
                let mut known = known.lock().unwrap();
                known.retain(|(_, one)| *one != listed);
                known.push((subject.to_owned(), listed));
                said.headers.push(("OCI-Subject".to_owned(), subject.to_owned()));
                return Some(said);
            }
            None
        })
    }

    pub fn reference(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }
}

/// The head of a message and its body.
fn read(stream: &TcpStream, no_body: bool) -> Option<(String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let header = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let mut body = Vec::new();
    match (header("content-length"), header("transfer-encoding")) {
        _ if no_body => {}
        (Some(length), _) => drop(reader.take(length.parse().ok()?).read_to_end(&mut body).ok()?),
        (None, Some(_)) => loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = u64::from_str_radix(line.trim(), 16).ok()?;
            (&mut reader).take(size + 2).read_to_end(&mut body).ok()?;
            body.truncate(body.len() - 2);
            if size == 0 {
                break;
            }
        },
        (None, None) => {}
    }
    Some((head, body))
}

/// What the registry answers to the request with the head `head`: without the headers of the transfer.
fn pass(head: &str, asked: &Asked, registry: u16) -> Said {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, registry)).unwrap();
    let left_out = ["connection:", "transfer-encoding:", "content-length:", "expect:"];
    for line in head.lines().filter(|line| !left_out.iter().any(|name| line.to_ascii_lowercase().starts_with(name))) {
        write!(server, "{line}\r\n").unwrap();
    }
    write!(server, "Connection: close\r\nContent-Length: {}\r\n\r\n", asked.body.len()).unwrap();
    let _ = server.write_all(&asked.body);
    let (head, body) = read(&server, asked.method == "HEAD").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let kept = lines.filter(|(name, _)| !["connection", "transfer-encoding"].contains(&&*name.to_ascii_lowercase()));
    let headers = kept.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Said { status, headers, body }
}

fn serve(mut client: TcpStream, registry: u16, rule: &Rule) {
    let Some((head, body)) = read(&client, false) else { return };
    let mut words = head.split(' ').map(str::to_owned);
    let asked = Asked { method: words.next().unwrap(), path: words.next().unwrap(), head: head.clone(), body };
    let said = rule(&asked).unwrap_or_else(|| pass(&head, &asked, registry));
    let mut text = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", said.status);
    let is_length = |name: &str| name.eq_ignore_ascii_case("content-length");
    for (name, value) in said.headers.iter().filter(|(name, _)| asked.method == "HEAD" || !is_length(name)) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if asked.method != "HEAD" {
        text.push_str(&format!("Content-Length: {}\r\n", said.body.len()));
    }
    let _ = client.write_all(format!("{text}\r\n").as_bytes());
    if asked.method != "HEAD" {
        let _ = client.write_all(&said.body);
    }
    let _ = client.shutdown(Shutdown::Write);
}
