//! The variables of a build: arguments, the environment, and what is set for every build.

use std::collections::BTreeMap;

use crate::formats::dockerfile::{Argument, ExpansionError, Word};
use crate::image::oci::platform::Platform;

/// Arguments that every `RUN` has, declared or not, and that change nothing of what is made
/// (Dockerfile reference, "Predefined ARGs").
pub const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// What variables stand for at one place of a Dockerfile.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// What the person gives.
    given: BTreeMap<String, String>,
    /// What is known before the first `FROM`: with defaults, and of the platforms.
    globals: BTreeMap<String, String>,
    /// Arguments that are declared here; none where one has no value.
    arguments: BTreeMap<String, Option<String>>,
    /// `ENV`, in its order.
    environment: Vec<(String, String)>,
}

impl Scope {
    /// Before the first `FROM`, where the person gives `given`, for an image for `platform`.
    pub fn new(given: BTreeMap<String, String>, platform: Platform, host: Platform, stage: Option<&str>) -> Self {
        let mut globals = BTreeMap::new();
        for (prefix, platform) in [("TARGET", platform), ("BUILD", host)] {
            let text = platform.to_string();
            let (os, architecture) = text.split_once('/').unwrap_or(("linux", &text));
            globals.insert(format!("{prefix}PLATFORM"), text.clone());
            globals.insert(format!("{prefix}OS"), os.to_owned());
            globals.insert(format!("{prefix}ARCH"), architecture.to_owned());
            globals.insert(format!("{prefix}VARIANT"), String::new());
        }
        globals.insert("TARGETSTAGE".to_owned(), stage.unwrap_or("default").to_owned());
        Self { given, globals, ..Self::default() }
    }

    /// `ARG` before the first `FROM`.
    ///
    /// # Errors
    /// When its words cannot be expanded.
    pub fn declare_globally(&mut self, argument: &Argument) -> Result<(), ExpansionError> {
        let name = self.expand(&argument.name)?;
        let default = argument.default.as_ref().map(|default| self.expand(default)).transpose()?;
        if let Some(value) = self.given.get(&name).cloned().or(default) {
            self.globals.insert(name, value);
        }
        Ok(())
    }

    /// At the beginning of a stage whose base has `environment`.
    #[must_use]
    pub fn stage(&self, environment: Vec<(String, String)>) -> Self {
        Self { given: self.given.clone(), globals: self.globals.clone(), arguments: BTreeMap::new(), environment }
    }

    /// `ARG` in a stage.
    ///
    /// # Errors
    /// When its words cannot be expanded.
    pub fn declare(&mut self, argument: &Argument) -> Result<(), ExpansionError> {
        let name = self.local(&argument.name)?;
        let default = argument.default.as_ref().map(|default| self.local(default)).transpose()?;
        let value = self.given.get(&name).cloned().or(default).or_else(|| self.globals.get(&name).cloned());
        // Declared again without a value, it keeps the one that it has.
        let value = value.or_else(|| self.arguments.get(&name).cloned().flatten());
        self.arguments.insert(name, value);
        Ok(())
    }

    /// `ENV`
    pub fn set(&mut self, name: &str, value: &str) {
        match self.environment.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.environment.push((name.to_owned(), value.to_owned())),
        }
    }

    /// What `ENV` has set.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// What a command is given: arguments and the environment, which has the last word.
    pub fn variables(&self) -> Vec<(String, String)> {
        let is_set = |name: &String| self.environment.iter().any(|(known, _)| known == name);
        let arguments = self.arguments.iter().filter(|(name, _)| !is_set(name) && !is_proxy(name));
        let arguments = arguments.filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        arguments.chain(self.environment.iter().cloned()).collect()
    }

    /// Proxies that the person gives for the commands.
    pub fn proxies(&self) -> Vec<(String, String)> {
        self.given
            .iter()
            .filter(|(name, _)| is_proxy(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    /// What is given, and nobody declares among `declared`.
    pub fn unused<'a>(&'a self, declared: &dyn Fn(&str) -> bool) -> Vec<&'a str> {
        let unused =
            self.given.keys().filter(|name| !is_proxy(name) && !self.globals.contains_key(*name) && !declared(name));
        unused.map(String::as_str).collect()
    }

    /// A word before the first `FROM`, or of a `FROM`.
    ///
    /// # Errors
    /// When it cannot be expanded.
    pub fn expand(&self, word: &Word) -> Result<String, ExpansionError> {
        word.expand(&|name: &str| self.globals.get(name).cloned())
    }

    /// A word in a stage.
    ///
    /// # Errors
    /// When it cannot be expanded.
    pub fn local(&self, word: &Word) -> Result<String, ExpansionError> {
        word.expand(&|name: &str| self.value(name))
    }

    /// A word in a stage that may become several.
    ///
    /// # Errors
    /// When it cannot be expanded.
    pub fn words(&self, word: &Word) -> Result<Vec<String>, ExpansionError> {
        word.expand_to_words(&|name: &str| self.value(name))
    }

    /// What a variable stands for in a stage.
    pub fn value(&self, name: &str) -> Option<String> {
        let set = self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        set.or_else(|| self.arguments.get(name).cloned().flatten())
    }
}

fn is_proxy(name: &str) -> bool {
    PROXIES.iter().any(|proxy| proxy.eq_ignore_ascii_case(name))
}
