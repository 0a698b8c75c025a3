//! Models in Java: programs, and what h2o exports.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CommandPath;

/// What answers `POST /predict` in Java: a program, or a model of h2o's. The image needs a Java of Debian's, as
/// `openjdk-17-jre-headless` in `system.packages`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Java {
    /// A program, as `src/predict.jar`: each request runs `java -jar predict.jar ARGUMENT…`, and what it writes to its standard
    /// output is the answer, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jar: Option<String>,
    /// The members of a request, in the order in which the program is given them: texts as they are, all else as JSON.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("items" = { "type": "string", "minLength": 1, "maxLength": 255 }))]
    pub parameters: Vec<String>,
    /// A model that h2o exported: a MOJO (`model.zip`) or a POJO (`Model.java`), in one Java that stays. A request is a row, with
    /// its columns by name, or `{"rows": […]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The library that reads it, of the release that exported it. Absent: `h2o-genmodel.jar`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genmodel: Option<String>,
    /// Options of Java, as `-Xmx2g`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("items" = { "type": "string", "pattern": "^-[!-~]+$", "patternErrorMessage": "an option of Java, as -Xmx2g" }))]
    pub options: Vec<String>,
}

/// Where the library is looked for where nobody says.
const GENMODEL: &str = "h2o-genmodel.jar";

impl Java {
    /// Where the manifest has it, as a JSON pointer.
    pub const POINTER: &str = "/service/java";

    /// The library that reads a model of h2o's.
    pub fn genmodel(&self) -> &str {
        self.genmodel.as_deref().unwrap_or(GENMODEL)
    }

    /// A model that h2o exported as an archive.
    pub fn mojo(&self) -> Option<&str> {
        self.model.as_deref().filter(|model| model.ends_with(".zip"))
    }

    /// The files of the project that it names, but for `made`, which training makes.
    pub(super) fn paths(&self, made: Option<&str>) -> Vec<CommandPath> {
        let named = |path: &str, key: &str| CommandPath {
            path: path.to_owned(),
            pointer: format!("{}{key}", Self::POINTER),
            is_needed: Some(path) != made,
        };
        let mut paths: Vec<_> = self.jar.iter().map(|jar| named(jar, "/jar")).collect();
        if let Some(model) = &self.model {
            paths.push(named(model, "/model"));
            paths.push(named(self.genmodel(), if self.genmodel.is_some() { "/genmodel" } else { "" }));
        }
        paths
    }

    /// The parameters of a program that are named twice.
    pub fn repeated(&self) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        self.parameters.iter().enumerate().filter(|(_, name)| !seen.insert(*name)).map(|(number, _)| number).collect()
    }
}
