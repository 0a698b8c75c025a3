//! Which model a request is for: by the path `/NAME/…` and `/NAME@VERSION/…`, or by `Host`.
//!
//! Invariant: names are looked up as they stand, and never decoded or joined to a path: what is not in the table is not there.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};

use pep440_rs::Version as Number;

use super::config::{self, Config};
use super::lock;
use super::refusal::Refusal;
use super::schedule::Hours;
use super::version::Version;
use crate::image::store::{ImageQuery, ImageRecord};
use crate::io::suggest::closest;

/// The models, by name and by host.
#[derive(Default)]
pub struct Table {
    /// By name.
    pub models: BTreeMap<String, Arc<Model>>,
    hosts: HashMap<String, Arc<Model>>,
}

/// A model with its versions.
pub struct Model {
    /// Its name.
    pub name: String,
    shape: Mutex<Shape>,
}

/// What a model is now.
#[derive(Clone, Default)]
pub struct Shape {
    /// By tag.
    pub versions: BTreeMap<String, Arc<Version>>,
    /// The one that `/NAME/…` leads to.
    pub current: Option<Arc<Version>>,
    /// The one that takes its place as soon as it is ready.
    pub next: Option<Arc<Version>>,
    /// When it runs, whether or not somebody asks.
    pub hours: Option<Hours>,
    /// Whether it was within them when somebody looked last.
    pub is_within: bool,
    /// It is outside of its hours, and does not run then; it does again at this time.
    pub closed: Option<jiff::Timestamp>,
}

/// Where a request goes.
pub struct Route {
    /// The model.
    pub model: Arc<Model>,
    /// The version that was asked for; none for the newest.
    pub version: Option<String>,
    /// The part of the path that leads to the model, and is not the model's own: `/NAME`, or nothing.
    pub prefix: String,
    /// The model's own path, with the query; none where the slash behind the name is missing.
    pub path: Option<String>,
}

impl Table {
    /// One of these models.
    pub fn new(models: impl IntoIterator<Item = Arc<Model>>, config: &Config) -> Self {
        let models: BTreeMap<_, _> = models.into_iter().map(|model| (model.name.clone(), model)).collect();
        let mut hosts = HashMap::new();
        for (name, written) in &config.models {
            let Some(model) = models.get(name) else { continue };
            hosts.extend(written.hosts.iter().map(|host| (host.to_ascii_lowercase(), Arc::clone(model))));
        }
        Self { models, hosts }
    }

    /// Where a request for `path` (with its query) at `host` (without a port) goes.
    ///
    /// # Errors
    /// When there is nothing, or the path is none that can be passed on.
    pub fn route(&self, host: &str, path: &str) -> Result<Route, Refusal> {
        let plain = path.split('?').next().unwrap_or_default();
        if plain.split('/').any(is_dots) {
            return Err(Refusal::bad("the path has `.` or `..` in it"));
        }
        if let Some(model) = self.of_host(host) {
            let (model, path) = (Arc::clone(model), Some(path.to_owned()));
            return Ok(Route { model, version: None, prefix: String::new(), path });
        }
        let rest = path.strip_prefix('/').ok_or_else(|| Refusal::bad("the path does not begin with `/`"))?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (segment, rest) = rest.split_at(end);
        // Clients may write the `@` in either way.
        let written = segment.replacen("%40", "@", 1);
        let (name, version) = match written.split_once('@') {
            Some((name, version)) => (name, Some(version.to_owned())),
            None => (written.as_str(), None),
        };
        let model = self.models.get(name).cloned().ok_or_else(|| self.unknown(name))?;
        let path = rest.starts_with('/').then(|| rest.to_owned());
        Ok(Route { model, version, prefix: format!("/{segment}"), path })
    }

    /// The model that `host` belongs to: one that is configured, or `NAME.anything`.
    fn of_host(&self, host: &str) -> Option<&Arc<Model>> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        if host.parse::<IpAddr>().is_ok() {
            return None;
        }
        self.hosts.get(&host).or_else(|| self.models.get(host.split_once('.')?.0))
    }

    fn unknown(&self, name: &str) -> Refusal {
        let names: Vec<_> = self.models.keys().map(String::as_str).collect();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        Refusal::unknown(match closest(name, &names) {
            Some(similar) => format!("there is no such model; did you mean `/{similar}/`?"),
            None if !name.is_empty() && name.len() < 64 && name.chars().all(plain) => {
                format!("there is no model `{name}`; the path begins with the name of one")
            }
            None => "the path begins with the name of no model".to_owned(),
        })
    }
}

/// Whether a segment of a path is `.` or `..`, also in disguise: servers differ in what they take for them.
fn is_dots(segment: &str) -> bool {
    let plain = segment.replace("%2e", ".").replace("%2E", ".");
    // What stands behind `;` or an encoded slash is taken apart by some.
    let plain =
        plain.replace("%2f", "/").replace("%2F", "/").replace("%5c", "/").replace("%5C", "/").replace('\\', "/");
    plain.split('/').any(|part| matches!(part.split(';').next(), Some("." | "..")))
}

impl Model {
    /// One of which nothing is known yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), shape: Mutex::default() }
    }

    /// What it is now.
    pub fn shape(&self) -> Shape {
        lock(&self.shape).clone()
    }

    /// Changes what it is.
    pub fn change<T>(&self, change: impl FnOnce(&mut Shape) -> T) -> T {
        change(&mut lock(&self.shape))
    }

    /// The version that `tag` means; without one, the newest.
    ///
    /// # Errors
    /// When there is none, or the model does not run at this time.
    pub fn version(&self, tag: Option<&str>) -> Result<Arc<Version>, Refusal> {
        let shape = lock(&self.shape);
        if let Some(until) = shape.closed {
            let pause = until.duration_since(jiff::Timestamp::now()).unsigned_abs();
            let why = format!("the model runs at certain times alone, and will from {until} on");
            return Err(Refusal::unavailable("out-of-hours", why).after(pause));
        }
        match tag {
            None => shape.current.clone().ok_or_else(|| {
                Refusal::unavailable("no-image", format!("the image of `{}` is not in the store", self.name))
            }),
            Some(tag) => shape.versions.get(tag).cloned().ok_or_else(|| {
                let tags: Vec<_> = shape.versions.keys().map(String::as_str).collect();
                Refusal::unknown(format!("`{}` has no such version; there are: {}", self.name, tags.join(", ")))
            }),
        }
    }
}

/// The images of `records` that a model's text means, and the newest of them.
pub fn images_of(model: &config::Model, records: &[ImageRecord]) -> (Vec<ImageRecord>, Option<String>) {
    let Some(Ok(query)) = model.image.as_ref().map(|image| image.parse::<ImageQuery>()) else {
        return Default::default();
    };
    let found: Vec<_> = records.iter().filter(|record| query.matches(&record.name)).cloned().collect();
    let newest = found.iter().max_by(|a, b| by_age(a, b)).map(|record| record.name.tag().to_owned());
    (found, newest)
}

/// Numbers of versions count more than when somebody gave a name; a tag that is none, as `latest`, less than any.
fn by_age(a: &ImageRecord, b: &ImageRecord) -> Ordering {
    let number = |record: &ImageRecord| Number::from_str(record.name.tag()).ok();
    number(a).cmp(&number(b)).then_with(|| a.named().cmp(&b.named())).then_with(|| a.name.cmp(&b.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut config = Config::of_images(&["iris".parse().unwrap(), "host:5000/a/wine:2".parse().unwrap()]);
        config.models.get_mut("wine").unwrap().hosts = vec!["Grapes.example.com".to_owned()];
        Table::new(config.models.keys().map(|name| Arc::new(Model::new(name))), &config)
    }

    fn way(host: &str, path: &str) -> Result<String, u16> {
        let route = table().route(host, path).map_err(|refusal| refusal.status.as_u16())?;
        let Route { model, version, prefix, path } = route;
        Ok(format!("{} {} {prefix} {}", model.name, version.unwrap_or("-".into()), path.unwrap_or("-".into())))
    }

    #[test]
    fn a_request_goes_where_its_path_or_host_says() {
        for (host, path, expected) in [
            ("localhost", "/iris/predict?x=/../1", "iris - /iris /predict?x=/../1"),
            ("localhost", "/iris", "iris - /iris -"),
            ("localhost", "/iris/", "iris - /iris /"),
            ("localhost", "/iris@1.0/a%2Fb", "iris 1.0 /iris@1.0 /a%2Fb"),
            ("localhost", "/iris%401.0/a", "iris 1.0 /iris%401.0 /a"),
            ("iris.example.com", "/wine/predict", "iris -  /wine/predict"),
            ("IRIS.localhost.", "/", "iris -  /"),
            ("grapes.example.com", "/predict", "wine -  /predict"),
            ("127.0.0.1", "/wine/predict", "wine - /wine /predict"),
            ("::1", "/wine/predict", "wine - /wine /predict"),
        ] {
            assert_eq!(way(host, path).as_deref(), Ok(expected), "{host}{path}");
        }
    }

    #[test]
    fn no_path_leads_out_of_the_table() {
        for (path, status) in [
            ("/", 404),
            ("//iris/", 404),
            ("/irs/predict", 404),
            ("/%69ris/", 404),
            ("/iris%00/", 404),
            ("/iris\\..\\wine", 400),
            ("/../iris/", 400),
            ("/iris/../wine/predict", 400),
            ("/iris/%2e%2E/wine", 400),
            ("/iris/a%2f..%2fb", 400),
            ("/iris/..;/b", 400),
            ("/iris/.", 400),
            ("*", 400),
        ] {
            assert_eq!(way("localhost", path), Err(status), "{path}");
        }
        assert!(table().route("localhost", "/irs/").err().unwrap().why.contains("did you mean `/iris/`?"));
    }
}
