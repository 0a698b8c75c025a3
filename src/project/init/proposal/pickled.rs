//! Models in pickles: of scikit-learn and its kin, of PyTorch, and of the person's own classes.

use std::collections::BTreeSet;

use super::booster;
use super::code::VALUE;
use super::estimator::{self, Role};
use super::input::Input;
use super::releases::{self, Numpy, Range};
use super::torch;
use super::{Hardware, Pin, Proposal, literal, plain_name, plain_path};
use super::{gensim, series};
use crate::formats::model::globals::{distribution, is_standard};
use crate::formats::model::{Format, Model, Object, Pickles};
use crate::formats::package;

/// The module of a script, where a model was saved by the same.
const SCRIPT: &str = "__main__";

/// The proposal for a pickle that lies at `file`, an expression of Python's.
pub fn propose(model: &Model, file: &str) -> Proposal {
    let Some((_, pickles)) = model.pickles.first() else {
        let mut proposal = Proposal::empty("unknown");
        proposal.load_from(file, Saved::of(model, false));
        proposal.take(Input::Unknown);
        proposal.answer("predict", &format!("return model.predict({VALUE})"));
        proposal.open.push("name the packages that the model needs in requirements.txt".to_owned());
        return proposal;
    };
    let modules = || pickles.globals.keys().map(|(module, _)| module.as_str());
    let root = pickles.objects.root();
    // Before 1.6 PyTorch wrote several pickles in a row, of which the first is but a number.
    if root.is_none_or(|root| root.class().is_none()) && modules().any(|module| module.starts_with("torch.")) {
        return torch::propose(model, file);
    }
    let mut proposal = Proposal::empty("unknown");
    let is_joblibs = modules().any(|module| module.starts_with("joblib."));
    proposal.load_from(file, Saved::of(model, is_joblibs));
    let chosen = root.and_then(|root| proposal.choose(root));
    proposal.needs(pickles, chosen.as_ref().map(|chosen| chosen.asked));
    match chosen {
        Some(chosen) if proposal.ask_written(chosen.asked) => proposal.adapt(&chosen),
        Some(chosen) => {
            match chosen.asked.class().and(estimator::package(chosen.asked)) {
                Some("gensim") => proposal.ask_gensim(chosen.asked, file),
                Some("statsmodels") => proposal.ask_statsmodels(chosen.asked, file),
                Some("lifelines") => proposal.ask_lifelines(chosen.asked),
                Some("pmdarima") => proposal.ask_pmdarima(chosen.asked),
                Some("sktime") => proposal.ask_sktime(chosen.asked),
                _ => proposal.ask(chosen.asked),
            }
            proposal.adapt(&chosen);
        }
        None => {
            proposal.take(Input::Unknown);
            proposal.answer("predict", "raise NotImplementedError(\"call the model here\")");
        }
    }
    proposal
}

/// The proposal for an archive that sktime saved: the class, and the object. None where it is none.
pub fn propose_zip(model: &Model, file: &str) -> Option<Proposal> {
    let [(Some(first), class), (Some(second), object)] = model.pickles.as_slice() else { return None };
    let (class, root) = (class.objects.root()?.class()?, object.objects.root()?);
    if first != "_metadata" || second != "_obj" || !class.0.starts_with("sktime.") {
        return None;
    }
    let mut proposal = Proposal::empty("unknown");
    proposal.import("from sktime.base import load");
    proposal.code.load = format!("model = load({file})");
    proposal.needs(object, Some(root));
    proposal.ask_sktime(root);
    Some(proposal)
}

/// The package that brings a module, where that is known.
fn brings(module: &str) -> Option<String> {
    distribution(module)
        .map(str::to_owned)
        .or_else(|| package::proposal(module).filter(|_| package::is_known(module) && !is_standard(module)))
}

/// The release that saved an object, as a requirement.
fn version(object: Object<'_>) -> Option<Pin> {
    let of_others = || gensim::version(object).or_else(|| series::version(object));
    booster::version(object).or_else(of_others)
}

/// What wrote a file.
#[derive(Clone, Copy, Debug)]
enum Saved<'a> {
    Pickle,
    Joblib,
    /// With the classes that have to be trusted.
    Skops(&'a [String]),
}

impl<'a> Saved<'a> {
    fn of(model: &'a Model, is_joblibs: bool) -> Self {
        match model.format {
            Format::Skops => Self::Skops(&model.about.untrusted),
            Format::CompressedPickle => Self::Joblib,
            _ if is_joblibs => Self::Joblib,
            _ => Self::Pickle,
        }
    }
}

impl Proposal {
    fn load_from(&mut self, file: &str, saved: Saved<'_>) {
        match saved {
            Saved::Pickle => {
                self.import("import pickle");
                self.code.load = format!("with open({file}, \"rb\") as file:\n    model = pickle.load(file)");
            }
            Saved::Joblib => {
                self.require("joblib", "reads the file");
                self.import("import joblib");
                self.code.load = format!("model = joblib.load({file})");
            }
            Saved::Skops(untrusted) => {
                self.require("skops", "reads the file");
                self.import("import skops.io");
                let trusted: Vec<String> = untrusted.iter().map(|class| literal(&plain_name(class))).collect();
                self.code.load = match trusted.as_slice() {
                    [] => format!("model = skops.io.load({file})"),
                    trusted => format!(
                        "# Classes that skops makes objects of only for those who say that they trust the file.\n\
                         TRUSTED = [\n{}]\nmodel = skops.io.load({file}, trusted=TRUSTED)",
                        trusted.iter().map(|class| format!("    {class},\n")).collect::<String>()
                    ),
                };
            }
        }
    }

    /// Loads a model by its class, where it is not of joblib's or skops' making.
    pub(super) fn load_with_class(&mut self, import: &str, load: &str) {
        if let Some(at) = self.code.imports.iter().position(|import| import == "import pickle") {
            self.code.imports.remove(at);
            self.import(import);
            self.code.load = format!("model = {load}");
        }
    }

    /// Packages, their versions, and the Python that they run on.
    fn needs(&mut self, pickles: &Pickles, asked: Option<Object<'_>>) {
        let (mut packages, mut own, mut script) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (module, name) in pickles.globals.keys() {
            if module == SCRIPT {
                script.insert(plain_name(name.split('.').next().unwrap_or_default()));
            } else if let Some(package) = brings(module) {
                packages.insert(package);
            } else if !is_standard(module) {
                own.insert(plain_name(module));
            }
        }
        // What the code in it imports is no module of the person's: there is none, or it would not be in the pickle.
        packages.extend(pickles.modules.iter().filter_map(|module| brings(module)));
        self.modules = own.into_iter().collect();
        // Their classes for scikit-learn need it, also where the pickle imports nothing of it.
        if pickles.globals.keys().any(|(module, _)| matches!(module.as_str(), "xgboost.sklearn" | "lightgbm.sklearn")) {
            packages.insert("scikit-learn".to_owned());
        }
        let core = |prefix: &str| pickles.globals.keys().any(|(module, _)| module.starts_with(prefix));
        let numpy = match (core("numpy._core."), core("numpy.core.")) {
            (true, _) => Some(Numpy::Two),
            (_, true) => Some(Numpy::One),
            _ => None,
        };
        let mut ranges = Vec::new();
        let mut unpinned = Vec::new();
        let sklearn = pickles.versions.get("_sklearn_version").and_then(|text| releases::version(text));
        match (&sklearn, packages.remove("scikit-learn")) {
            (Some(version), _) => {
                self.framework = format!("scikit-learn {version}");
                let (pins, range) = releases::sklearn(version, numpy);
                self.requirements.extend(pins);
                ranges.push(range);
                packages.retain(|package| !["numpy", "scipy", "joblib"].contains(&package.as_str()));
            }
            (None, true) => {
                self.framework = "scikit-learn".to_owned();
                self.require("scikit-learn", "the model's class is one of its kind");
                unpinned.push("scikit-learn".to_owned());
            }
            (None, false) => {}
        }
        if let Some(numpy) = numpy.filter(|_| packages.remove("numpy")) {
            self.requirements.push(releases::numpy_pin(numpy));
        }
        // Before 3 its classes were found in `pandas.core`.
        let is_three = |(module, name): &&(String, String)| {
            module == "pandas" && matches!(name.as_str(), "DataFrame" | "Index" | "Series")
        };
        if pickles.globals.keys().any(|global| is_three(&global)) && packages.remove("pandas") {
            self.requirements.push(Pin::new("pandas>=3", "pandas 3 wrote its tables"));
            ranges.push(Range { from: 11, to: u32::MAX, who: "pandas 3 runs".to_owned() });
        }
        if numpy == Some(Numpy::Two) && sklearn.is_none() {
            ranges.push(Range { from: 9, to: u32::MAX, who: "NumPy 2 runs".to_owned() });
        }
        if let Some((from, to)) = pickles.python {
            ranges.push(Range { from, to, who: "the byte code in the pickle runs".to_owned() });
        }
        for package in packages {
            let own = asked.and_then(estimator::package).and_then(brings).as_ref() == Some(&package);
            match asked.filter(|_| own).and_then(version) {
                Some(pin) => {
                    self.framework = pin.text.replace("==", " ").replace(">=", " ");
                    self.requirements.push(pin);
                }
                None if self.requirements.iter().any(|pin| pin.text == package) => {}
                None => {
                    self.require(&package, if own { "made the model" } else { "is imported by the pickle" });
                    if own {
                        self.framework.clone_from(&package);
                    }
                    unpinned.push(package.clone());
                }
            }
            if package == "lightgbm" {
                self.packages.push(Pin::new("libgomp1", "LightGBM's wheels are without it"));
            }
        }
        if !unpinned.is_empty() {
            let packages = unpinned.join(", ");
            self.unknown.push(format!("which version of {packages} saved it: `ekiben lock` takes the newest"));
        }
        let since = match pickles.protocol {
            5 => 8,
            _ => 4,
        };
        let otherwise = format!("protocol {} of its pickle is read by Python 3.{since} and later", pickles.protocol);
        let (python, open) = releases::python(&ranges, &otherwise);
        self.python = python;
        self.open.extend(open);
        if !script.is_empty() {
            let is_name = |name: &String| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            let names: Vec<String> = script.into_iter().filter(is_name).collect();
            self.import("import script");
            self.import("import sys");
            let set = names.iter().map(|name| format!("sys.modules[\"{SCRIPT}\"].{name} = script.{name}\n"));
            let why = "# A script saved the model, so what that defined is looked for in `__main__`.\n";
            self.code.load = format!("{why}{}{}", set.collect::<String>(), self.code.load);
            let names = names.join("`, `");
            self.open
                .push(format!("put the definition of `{names}` into src/script.py: the script that saved it had it"));
        }
    }

    /// Asks an object in the function.
    fn ask(&mut self, object: Object<'_>) {
        self.class = estimator::describe(object).filter(|class| !class.is_empty());
        let class = self.class.clone().unwrap_or_default();
        let package = estimator::package(object).unwrap_or_default().to_owned();
        let role = estimator::role(object);
        if self.framework == "unknown" && object.class().is_some_and(|(module, _)| distribution(module).is_none()) {
            self.framework = "own code".to_owned();
        }
        self.take(estimator::input(object));
        if matches!(package.as_str(), "lightgbm" | "xgboost") {
            self.take_arrays();
        }
        if package == "xgboost" && class == "Booster" {
            self.import("import xgboost");
            self.code.conversions.push(format!("xgboost.DMatrix({VALUE})"));
        }
        match role {
            Role::Methods(methods) => methods.into_iter().for_each(|method| self.answer_by(method)),
            Role::Unable => {
                self.tests.clear();
                let why = format!("{class} learnt from its data and cannot be asked about other data");
                self.leave_open(&format!("{class} cannot be asked about other data"), why);
            }
            Role::Unknown => {
                self.asked = object.class().map(|(module, _)| plain_name(module));
                self.answer("predict", &format!("return model.predict({VALUE})"));
            }
        }
    }

    /// Gives the service a function that calls a method of the model; the first one is `predict`.
    fn answer_by(&mut self, method: &'static str) {
        let statements = match method {
            "transform" => format!(
                "answer = model.transform({VALUE})\n    \
                 # A sparse matrix is no JSON.\n    \
                 return answer.toarray() if hasattr(answer, \"toarray\") else answer"
            ),
            "kneighbors" => format!(
                "distances, indices = model.kneighbors({VALUE})\n    \
                 return {{\"distances\": distances, \"indices\": indices}}"
            ),
            method => format!("return model.{method}({VALUE})"),
        };
        let name = if self.code.functions.is_empty() { "predict" } else { method };
        self.answer(name, &statements);
    }

    /// Settles what loading imports that no package known here has: `imports` are the modules that the person's own code
    /// imports, each with the file that does, and `source` gives the text of a module of that code. And with it what holds
    /// for all models: packages for the hardware.
    pub fn settle(
        &mut self,
        hardware: Hardware,
        imports: &[(String, String)],
        source: impl Fn(&str) -> Option<String>,
    ) {
        for (module, file) in imports {
            match package::proposal(module).filter(|_| package::is_known(module)) {
                Some(package) => self.require(&package, &format!("{} imports it", plain_path(file))),
                None => self.open.push(format!(
                    "{} imports `{}`, which nobody here knows: put its code into src/, or the package that has it into \
                     requirements.txt",
                    plain_path(file),
                    plain_name(module)
                )),
            }
        }
        let mut predicts = false;
        for module in &self.modules {
            match source(module) {
                Some(text) => predicts |= self.asked.as_ref() == Some(module) && text.contains("def predict("),
                None => {
                    let advice = "put its code into src/, or the package that has it into requirements.txt";
                    self.open.push(format!("loading imports `{module}`, which nobody here knows: {advice}"));
                }
            }
        }
        if self.asked.is_some() && !predicts {
            let class = self.class.as_deref().unwrap_or("the model");
            self.open.push(format!("whether {class} has a method `predict` is not known: src/predict.py calls that"));
        }
        self.suit(hardware);
    }
}
