//! A stage on its way: the image so far, and what the next instruction needs to know of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde_json::{Value, json};

use super::accounts::Accounts;
use super::contents;
use super::copy::{self, inside};
use super::scope::Scope;
use crate::formats::dockerfile::{Check, Command, HealthCheck};
use crate::image::Image;
use crate::image::layer::{self, Layer};
use crate::image::session::Session;
use crate::io::archive::View;
use crate::io::digest::Digest;

/// The label of an image for which commands were executed: how many.
pub const EXECUTED: &str = "io.ekiben.commands.executed";

/// What stands before a command that is one text, where `SHELL` says nothing.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Where programs are looked for, where an image says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the first of a stage's layers show, and how many these are.
type Shown = (Arc<View>, usize);

/// A stage.
#[derive(Clone)]
pub struct Stage {
    /// With all that was done.
    pub image: Image,
    /// Its variables.
    pub scope: Scope,
    /// Of this stage is its `CMD`.
    has_command: bool,
    /// How many commands were executed, here and in what it stands on.
    executed: usize,
    /// Once somebody asked.
    view: Arc<Mutex<Option<Shown>>>,
}

impl Stage {
    /// Upon `image`, which has a `PATH` from now on: BuildKit gives it to every stage whose base has none, `scratch` included.
    pub fn upon(image: Image, globals: &Scope) -> Self {
        let mut variables = image.config().env().clone().unwrap_or_default();
        let image = if variables.iter().any(|variable| variable.starts_with("PATH=")) {
            image
        } else {
            variables.push(format!("PATH={PATH}"));
            image.with_config(|config| {
                config.set_env(Some(variables.clone()));
            })
        };
        let pair = |text: String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        let scope = globals.stage(variables.into_iter().filter_map(pair).collect());
        let labels = image.config().labels().clone().unwrap_or_default();
        let executed = labels.get(EXECUTED).and_then(|text| text.parse().ok()).unwrap_or_default();
        Self { image, scope, has_command: false, executed, view: Arc::default() }
    }

    /// A stage that begins where this one ends: its arguments are none of the new one's.
    pub fn next(&self, globals: &Scope) -> Self {
        Self { has_command: false, scope: globals.stage(self.scope.environment().to_vec()), ..self.clone() }
    }

    /// Its layers, the lowest first.
    pub fn layers(&self) -> &[Layer] {
        self.image.layers()
    }

    /// What its layers show.
    ///
    /// # Errors
    /// When one cannot be had.
    pub fn view(&self, session: &Session) -> Result<Arc<View>, contents::Error> {
        let mut known = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.layers().len();
        if let Some((view, _)) = known.as_ref().filter(|(_, known)| *known == count) {
            return Ok(Arc::clone(view));
        }
        let before = known.take().map(|(view, count)| (Arc::unwrap_or_clone(view), count));
        let view = Arc::new(contents::view(session, self.layers(), before)?);
        *known = Some((Arc::clone(&view), count));
        Ok(view)
    }

    /// Its users and groups.
    ///
    /// # Errors
    /// When a layer cannot be had.
    pub fn accounts(&self, session: &Session) -> Result<Accounts, contents::Error> {
        let view = self.view(session)?;
        let text = |path| contents::read(session, self.layers(), &view, path);
        let [passwd, group] = [text("etc/passwd")?, text("etc/group")?]
            .map(|bytes| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned());
        Ok(Accounts::read(&passwd, &group))
    }

    /// What stands for its layers and `what`.
    pub fn key(&self, what: &impl Serialize) -> Digest {
        let layers: Vec<_> = self.layers().iter().map(|layer| layer.diff_id).collect();
        layer::key(&("stage", copy::RULES, layers, what))
    }

    /// Puts a layer on top, where there is one.
    pub fn put(&mut self, layer: Option<Layer>) {
        let Some(layer) = layer else { return };
        if Arc::get_mut(&mut self.view).is_none() {
            // Another stage begins or ends with the same.
            let known = self.view.lock().unwrap_or_else(PoisonError::into_inner).clone();
            self.view = Arc::new(Mutex::new(known));
        }
        self.image = self.image.clone().with_layer(layer);
    }

    /// Takes note of a step that made no layer.
    pub fn note(&mut self, step: &str) {
        self.image = self.image.clone().with_step(step);
    }

    /// Takes note that a command was executed.
    pub fn has_executed(&mut self) {
        self.executed += 1;
        self.label(EXECUTED, &self.executed.to_string());
    }

    /// `ENV`
    pub fn set(&mut self, name: &str, value: &str) {
        self.scope.set(name, value);
        let variables = self.scope.environment().iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.edit(|config| {
            config.set_env(Some(variables));
        });
    }

    /// `LABEL`
    pub fn label(&mut self, name: &str, value: &str) {
        self.edit(|config| {
            let mut labels: HashMap<_, _> = config.labels().clone().unwrap_or_default();
            labels.insert(name.to_owned(), value.to_owned());
            config.set_labels(Some(labels));
        });
    }

    /// Where commands begin, as an absolute path.
    pub fn folder(&self) -> String {
        let folder = self.image.config().working_dir().clone().filter(|folder| !folder.is_empty());
        folder.unwrap_or_else(|| "/".to_owned())
    }

    /// `text` as an absolute path, meant from there; a `/` at its end stays.
    pub fn absolute(&self, text: &str) -> String {
        let end = if text.ends_with('/') || text.ends_with("/.") || text == "." { "/" } else { "" };
        let path = if text.starts_with('/') { inside(text) } else { inside(&format!("{}/{text}", self.folder())) };
        match path.as_os_str().is_empty() {
            true => "/".to_owned(),
            false => format!("/{}{end}", path.display()),
        }
    }

    /// `WORKDIR`
    pub fn enter(&mut self, folder: String) {
        self.edit(|config| {
            config.set_working_dir(Some(folder));
        });
    }

    /// `USER`, as it is written.
    pub fn user(&self) -> String {
        self.image.config().user().clone().unwrap_or_default()
    }

    /// `USER`
    pub fn become_user(&mut self, user: String) {
        self.edit(|config| {
            config.set_user(Some(user));
        });
    }

    /// `CMD`
    pub fn command(&mut self, command: &Command) {
        self.has_command = true;
        let words = self.words(command);
        self.edit(|config| {
            config.set_cmd(Some(words));
        });
    }

    /// `ENTRYPOINT`: a command that the base has is not for it.
    pub fn entrypoint(&mut self, command: &Command) {
        let words = self.words(command);
        let has_command = self.has_command;
        self.edit(|config| {
            config.set_entrypoint(Some(words));
            if !has_command {
                config.set_cmd(None);
            }
        });
    }

    /// `EXPOSE`
    ///
    /// # Errors
    /// When it is no port.
    pub fn expose(&mut self, text: &str) -> Result<(), String> {
        let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is no port"));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("`{range}` ends before it begins"));
        }
        let protocol = protocol.to_lowercase();
        self.edit(|config| {
            let mut ports = config.exposed_ports().clone().unwrap_or_default();
            ports.extend((first..=last).map(|port| format!("{port}/{protocol}")));
            config.set_exposed_ports(Some(in_order(ports)));
        });
        Ok(())
    }

    /// `VOLUME`
    pub fn volume(&mut self, path: String) {
        self.edit(|config| {
            let mut volumes = config.volumes().clone().unwrap_or_default();
            volumes.push(path);
            config.set_volumes(Some(in_order(volumes)));
        });
    }

    /// `STOPSIGNAL`
    pub fn stop_signal(&mut self, signal: String) {
        self.edit(|config| {
            config.set_stop_signal(Some(signal));
        });
    }

    /// `SHELL`
    pub fn shell(&mut self, words: &[String]) {
        self.extend("Shell", json!(words));
    }

    /// `HEALTHCHECK`
    pub fn health(&mut self, check: &HealthCheck) {
        let value = match check {
            HealthCheck::None => json!({ "Test": ["NONE"] }),
            HealthCheck::Check(Check { command, interval, timeout, start_period, start_interval, retries }) => {
                let mut test = vec![match command {
                    Command::Shell(_) => "CMD-SHELL".to_owned(),
                    Command::Exec(_) => "CMD".to_owned(),
                }];
                match command {
                    Command::Shell(text) => test.push(text.clone()),
                    Command::Exec(words) => test.extend(words.clone()),
                }
                let mut value = json!({ "Test": test });
                let times = [
                    ("Interval", interval),
                    ("Timeout", timeout),
                    ("StartPeriod", start_period),
                    ("StartInterval", start_interval),
                ];
                for (name, time) in times {
                    if let Some(time) = time {
                        value[name] = json!(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
                    }
                }
                if let Some(retries) = retries {
                    value["Retries"] = json!(retries);
                }
                value
            }
        };
        self.extend("Healthcheck", value);
    }

    /// `ONBUILD`
    pub fn trigger(&mut self, expression: &str) {
        let mut triggers =
            self.image.extensions().get("OnBuild").and_then(Value::as_array).cloned().unwrap_or_default();
        triggers.push(json!(expression));
        self.extend("OnBuild", json!(triggers));
    }

    /// What the base wants to be done by whoever builds upon it; it is none of the new image's.
    pub fn take_triggers(&mut self) -> Vec<String> {
        let mut extensions = self.image.extensions().clone();
        let triggers = extensions.remove("OnBuild");
        if triggers.is_some() {
            self.image = self.image.clone().with_extensions(extensions);
        }
        let triggers = triggers.as_ref().and_then(Value::as_array).into_iter().flatten();
        triggers.filter_map(|trigger| trigger.as_str().map(str::to_owned)).collect()
    }

    /// The words of a command, with the shell before one that is a text.
    pub fn words(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(text) => self.in_shell(text),
        }
    }

    /// The words that have the shell execute `text`.
    pub fn in_shell(&self, text: &str) -> Vec<String> {
        let own = self.image.extensions().get("Shell").and_then(Value::as_array);
        let own: Option<Vec<String>> =
            own.map(|words| words.iter().filter_map(|it| Some(it.as_str()?.to_owned())).collect());
        let mut words = own.unwrap_or_else(|| SHELL.map(str::to_owned).to_vec());
        words.push(text.to_owned());
        words
    }

    /// What a command is given as its environment, but for proxies.
    pub fn variables(&self, home: &str) -> Vec<String> {
        let mut variables = self.scope.variables();
        if !variables.iter().any(|(known, _)| known == "HOME") {
            variables.push(("HOME".to_owned(), home.to_owned()));
        }
        variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    fn extend(&mut self, name: &str, value: Value) {
        let mut extensions: BTreeMap<_, _> = self.image.extensions().clone();
        extensions.insert(name.to_owned(), value);
        self.image = self.image.clone().with_extensions(extensions);
    }

    fn edit(&mut self, change: impl FnOnce(&mut oci_spec::image::Config)) {
        self.image = self.image.clone().with_config(change);
    }
}

fn in_order(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}
