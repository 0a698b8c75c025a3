//! The net for tensors that were saved without it: which class of the person's own fits them, what it has to be made with, and
//! what its first layer takes.
//!
//! Invariant: the code is parsed, never run. What is made of it is certain, or said to be open: of two classes that fit none is
//! taken.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use super::code::VALUE;
use super::input::{Array, Input, MOST_COLUMNS};
use super::{Proposal, literal, plain_name};
use crate::formats::classes::{Attribute, Call, Class, Classes, Method, Operand};
use crate::formats::model::{About, Model, Tensor};
use crate::formats::source::{Parameter, ParameterKind};

/// A module of the person's own that lies beside a model.
#[derive(Clone, Debug)]
pub struct Module {
    /// As it is imported.
    pub name: String,
    /// What it defines.
    pub classes: Classes,
}

/// Classes within classes that are looked into.
const DEEPEST: u8 = 16;

/// Layers that are looked into: classes may hold each other again and again.
const MOST: u32 = 20_000;

/// Tensors whose net is to be found.
#[derive(Clone, Debug)]
pub(super) struct Tensors {
    weights: Vec<Tensor>,
    file: File,
}

/// What has them.
#[derive(Clone, Debug)]
enum File {
    Torch {
        /// An expression that loads what the file has.
        load: String,
        /// Where in that they are.
        holder: Option<String>,
        /// What Lightning says that the net was made with; null where it is no simple value.
        chosen: Option<Map<String, Json>>,
    },
    Safetensors {
        /// An expression of the file's path.
        path: String,
    },
}

impl Tensors {
    /// Those in what PyTorch saved at `file`, an expression of Python's.
    pub fn of_torch(model: &Model, file: &str) -> Self {
        let globals = model.pickles.iter().flat_map(|(_, pickles)| pickles.globals.keys());
        // What `torch.load` makes without being told to trust the file (`torch/_weights_only_unpickler.py`).
        let is_plain = |(module, name): &(String, String)| {
            matches!(module.as_str(), "collections" | "torch" | "torch._utils" | "_codecs" | "torch._tensor")
                || (module == "torch.nn.parameter" && name == "Parameter")
                || (matches!(module.as_str(), "builtins" | "__builtin__")
                    && matches!(name.as_str(), "set" | "complex" | "bytearray"))
        };
        let weights_only = if globals.into_iter().all(is_plain) { "True" } else { "False" };
        let properties = &model.about.properties;
        Self {
            weights: model.about.weights.clone(),
            file: File::Torch {
                load: format!("torch.load({file}, map_location=\"cpu\", weights_only={weights_only})"),
                holder: properties.get("holder").cloned(),
                chosen: properties.get("hyper_parameters").and_then(|text| serde_json::from_str(text).ok()),
            },
        }
    }

    /// Those in a file of safetensors.
    pub fn of_safetensors(about: &About, file: &str) -> Self {
        Self { weights: about.weights.clone(), file: File::Safetensors { path: file.to_owned() } }
    }

    /// The first part of their names, where all have the same and something comes after it.
    fn common(&self) -> Option<&str> {
        let mut firsts = self.weights.iter().map(|tensor| tensor.name.split_once('.').map(|(first, _)| first));
        let first = firsts.next()??;
        firsts.all(|other| other == Some(first)).then_some(first)
    }
}

/// Says that the net is missing, and shows where it goes.
pub(super) fn lacking(proposal: &mut Proposal, tensors: Tensors) {
    proposal.take(Input::Unknown);
    match &tensors.file {
        File::Torch { load, .. } => proposal.code.load = format!("tensors = {load}"),
        File::Safetensors { path } => {
            proposal.import("from safetensors.numpy import load_file");
            proposal.code.load = format!("tensors = load_file({path})");
            proposal.requirements.insert(0, super::Pin::new("numpy", "holds the tensors"));
        }
    }
    proposal.leave_open("build the model, load its tensors into it, and call it here", WHERE);
    proposal.tensors = Some(tensors);
}

/// What to do where there is no net.
const WHERE: &str =
    "the file has tensors and no model: put the file with its class beside it, or build it in src/predict.py";

impl Proposal {
    /// Whether the model is tensors whose net was not found yet.
    pub fn lacks_net(&self) -> bool {
        self.tensors.is_some()
    }

    /// Looks for the net among the person's own `modules`: where one class fits, and all is known that it is made with, it is
    /// loaded and asked; else it is said what is missing.
    pub fn find_net(&mut self, modules: &[Module]) {
        let Some(tensors) = self.tensors.take() else { return };
        let nets = Nets::new(modules);
        match nets.find(&tensors) {
            Ok(found) => self.use_net(&nets, &found, &tensors),
            Err(Some(why)) => {
                self.open.retain(|open| open != WHERE);
                self.open.push(why);
            }
            Err(None) => {}
        }
    }

    fn use_net(&mut self, nets: &Nets<'_>, found: &Found<'_>, tensors: &Tensors) {
        let name = &found.class.name;
        let module = &found.module.name;
        self.modules.push(module.clone());
        self.class = Some(plain_name(name));
        self.open.retain(|open| open != WHERE);
        if let Some(line) = found.module.classes.works {
            self.open.push(format!(
                "{module}.py does its work as soon as it is imported (line {line}): put that below `if __name__ == \
                 \"__main__\":`, or {name} into a file of its own"
            ));
        }
        self.code.imports.clear();
        self.import(&format!("from {module} import {name}"));
        self.import("import torch");
        let chosen = match &tensors.file {
            File::Torch { chosen, .. } => chosen.as_ref(),
            File::Safetensors { .. } => None,
        };
        let made = nets.made_with(found, chosen);
        if !made.missing.is_empty() {
            let missing = made.missing.join("`, `");
            self.leave_open(
                &format!("make {name} with {}", made.missing.join(", ")),
                format!(
                    "what {name} of {module}.py is made with: nothing says its `{missing}`; src/predict.py makes it"
                ),
            );
        }
        let arguments = match made.is_chosen {
            true => "**saved[\"hyper_parameters\"]".to_owned(),
            false => made.arguments.join(", "),
        };
        let make = match made.missing.is_empty() {
            true => format!("model = {name}({arguments})"),
            // The service has to start for the rest to be tried.
            false => format!("# model = {name}({arguments}…)"),
        };
        self.code.load = match &tensors.file {
            File::Torch { load, holder, .. } => {
                let held = holder.as_ref().map(|holder| format!("[{}]", literal(holder))).unwrap_or_default();
                let (first, saved) = match made.is_chosen || !found.prefix.is_empty() {
                    true => (format!("saved = {load}\n"), format!("saved{held}")),
                    false => (String::new(), format!("{load}{held}")),
                };
                let given = match found.prefix.as_str() {
                    "" => saved,
                    prefix => format!(
                        "{{name.removeprefix({}): tensor for name, tensor in {saved}.items()}}",
                        literal(&format!("{prefix}."))
                    ),
                };
                format!("{first}{make}\nmodel.load_state_dict({given})\nmodel.eval()")
            }
            File::Safetensors { path } => {
                self.requirements.retain(|pin| pin.text != "numpy");
                self.require("torch", &format!("{module}.py imports it"));
                let load = match found.prefix.as_str() {
                    "" => {
                        self.import("from safetensors.torch import load_model");
                        format!("load_model(model, {path})")
                    }
                    prefix => {
                        self.import("from safetensors.torch import load_file");
                        let prefix = literal(&format!("{prefix}."));
                        format!(
                            "model.load_state_dict({{name.removeprefix({prefix}): tensor for name, tensor in \
                             load_file({path}).items()}})"
                        )
                    }
                };
                format!("{make}\n{load}\nmodel.eval()")
            }
        };
        if made.missing.is_empty() {
            self.ask_net(nets, found);
        } else {
            self.code.load = self.code.load.lines().map(commented).collect::<Vec<_>>().join("\n");
        }
    }

    /// Calls the net with what its first layer takes.
    fn ask_net(&mut self, nets: &Nets<'_>, found: &Found<'_>) {
        let name = &found.class.name;
        let Some(forward) = nets.method(found.class, "forward") else {
            let why = format!("{name} has no `forward`: call what it has in src/predict.py");
            return self.leave_open("call the model here", why);
        };
        let takes: Vec<&Parameter> = required(forward);
        let [argument] = takes.as_slice() else {
            let names: Vec<&str> = takes.iter().map(|parameter| parameter.name.as_str()).collect();
            let why = format!("{name} takes ({}): call it in src/predict.py", names.join(", "));
            return self.leave_open("call the model with all that it takes", why);
        };
        let array = |dtype, shape| Array { name: argument.name.clone(), dtype: Some(dtype), shape };
        let (input, of_array) = match &found.first {
            Some(First::Rows(width @ 1..=MOST_COLUMNS)) => (Input::Rows(vec![json!(0.5); *width as usize]), false),
            Some(First::Numbers) => (Input::Tensors(vec![array("int64", vec![None, None])]), true),
            Some(First::Steps(width)) => (Input::Tensors(vec![array("float32", vec![None, None, Some(*width)])]), true),
            Some(First::Channels(axes, channels)) => {
                let shape = [None, Some(*channels)].into_iter().chain(std::iter::repeat_n(None, *axes));
                (Input::Tensors(vec![array("float32", shape.collect())]), true)
            }
            Some(First::Rows(_) | First::Other) | None => (Input::Unknown, false),
        };
        self.take(input);
        self.code.conversions.clear();
        self.code.conversions.push(match (of_array, &found.first) {
            (true, _) => format!("torch.from_numpy({VALUE})"),
            (false, Some(First::Rows(_))) => format!("torch.tensor({VALUE}, dtype=torch.float32)"),
            (false, _) => format!("torch.tensor({VALUE})"),
        });
        if matches!(found.first, Some(First::Channels(..))) {
            self.tests.clear();
            self.unknown.retain(|unknown| !unknown.starts_with("what the model answers"));
            self.unknown.push(format!("how large what {name} takes has to be, so there is no example request"));
        }
        self.answer("predict", &format!("with torch.inference_mode():\n        return model({VALUE})"));
    }
}

/// A line as a comment.
fn commented(line: &str) -> String {
    if line.starts_with('#') { line.to_owned() } else { format!("# {line}") }
}

/// What has to be given to a method but the instance.
fn required(method: &Method) -> Vec<&Parameter> {
    method.signature.parameters.iter().skip(1).filter(|parameter| parameter.required).collect()
}

/// What the first layer that has weights takes.
#[derive(Clone, Debug, PartialEq)]
enum First {
    /// Rows of so many numbers.
    Rows(u64),
    /// Rows of whole numbers, each of which stands for something.
    Numbers,
    /// Steps of so many numbers each.
    Steps(u64),
    /// So many channels, each with so many axes.
    Channels(usize, u64),
    /// Something else.
    Other,
}

/// A class that fits, and what it tells.
#[derive(Debug)]
struct Found<'a> {
    module: &'a Module,
    class: &'a Class,
    /// What comes before the names of all tensors.
    prefix: String,
    /// What its parameters have to be, by the shapes.
    values: BTreeMap<String, Json>,
    first: Option<First>,
}

/// With what a class is made.
#[derive(Debug, Default)]
struct Made {
    /// As the call has them.
    arguments: Vec<String>,
    /// Names of what is not known.
    missing: Vec<String>,
    /// Whether all are what the file says.
    is_chosen: bool,
}

/// The classes of all modules.
struct Nets<'a> {
    all: Vec<(&'a Module, &'a Class)>,
}

impl<'a> Nets<'a> {
    fn new(modules: &'a [Module]) -> Self {
        let of = |module: &'a Module| module.classes.classes.iter().map(move |class| (module, class));
        Self { all: modules.iter().flat_map(of).collect() }
    }

    /// The class of this name, as `user` would find it: its own module's before others.
    fn named(&self, name: &str, user: &Class) -> Option<&'a Class> {
        let last = name.rsplit('.').next().unwrap_or_default();
        let home = self.all.iter().find(|(_, class)| std::ptr::eq(*class, user)).map(|(module, _)| &module.name);
        let mut same = self.all.iter().filter(|(_, class)| class.name == last && !std::ptr::eq(*class, user));
        let mut others = same.clone();
        let own = same.find(|(module, _)| Some(&module.name) == home);
        own.or_else(|| others.next()).map(|(_, class)| *class)
    }

    /// The class and those of the person's that it is derived of, the farthest first.
    fn line(&self, class: &'a Class) -> Vec<&'a Class> {
        let mut line = vec![class];
        while let Some(last) = line.last()
            && let Some(base) = last.bases.iter().find_map(|base| self.named(base, last))
            && line.len() < usize::from(DEEPEST)
        {
            line.push(base);
        }
        line.reverse();
        line
    }

    /// Whether it is a module of PyTorch's, by what it is derived of.
    fn is_net(&self, class: &'a Class) -> bool {
        let is_module = |base: &String| base.rsplit('.').next().is_some_and(|name| name.ends_with("Module"));
        self.line(class).iter().any(|class| class.bases.iter().any(is_module))
    }

    fn method(&self, class: &'a Class, name: &str) -> Option<&'a Method> {
        self.line(class).into_iter().rev().find_map(|class| class.method(name))
    }

    /// What its instances are given, the last of each name.
    fn attributes(&self, class: &'a Class) -> Vec<&'a Attribute> {
        let all: Vec<&Attribute> = self.line(class).into_iter().flat_map(|class| &class.attributes).collect();
        let is_last = |at: usize, one: &Attribute| !all.iter().skip(at + 1).any(|other| other.name == one.name);
        all.iter().enumerate().filter(|(at, one)| is_last(*at, one)).map(|(_, one)| *one).collect()
    }

    /// The parameters of its `__init__` but the instance.
    fn parameters(&self, class: &'a Class) -> &'a [Parameter] {
        let all = self.method(class, "__init__").map(|method| method.signature.parameters.as_slice());
        all.and_then(|all| all.get(1..)).unwrap_or_default()
    }

    /// The one class that fits.
    ///
    /// # Errors
    /// Why there is none, where there are classes.
    fn find(&self, tensors: &Tensors) -> Result<Found<'a>, Option<String>> {
        let nets: Vec<_> = self.all.iter().copied().filter(|(_, class)| self.is_net(class)).collect();
        // DataParallel and `torch.compile` put a name before all others, and so does a net within a net.
        let prefixes = [String::new()].into_iter().chain(tensors.common().map(str::to_owned));
        for prefix in prefixes {
            let stripped: Vec<(&str, &Tensor)> = tensors
                .weights
                .iter()
                .map(|tensor| {
                    let name = tensor.name.strip_prefix(&prefix).unwrap_or(&tensor.name);
                    (if prefix.is_empty() { name } else { name.trim_start_matches('.') }, tensor)
                })
                .collect();
            let mut fitting = Vec::new();
            for (module, class) in &nets {
                let mut layers = Layers { nets: self, tensors: &stripped, seen: 0 };
                let fit = layers.of_class(class, "", 0);
                fitting.extend(fit.map(|Fit { values, first }| Found {
                    module,
                    class,
                    prefix: prefix.clone(),
                    values,
                    first,
                }));
            }
            // What a class of theirs is derived of may fit as well, and is not what is meant.
            let bases: BTreeSet<*const Class> = fitting
                .iter()
                .flat_map(|found| self.line(found.class).into_iter().rev().skip(1))
                .map(std::ptr::from_ref)
                .collect();
            fitting.retain(|found| !bases.contains(&std::ptr::from_ref(found.class)));
            if fitting.iter().any(|found| self.method(found.class, "forward").is_some()) {
                fitting.retain(|found| self.method(found.class, "forward").is_some());
            }
            if fitting.len() > 1 {
                let names: Vec<String> =
                    fitting.iter().map(|found| format!("{} of {}.py", found.class.name, found.module.name)).collect();
                return Err(Some(format!(
                    "which class the tensors are of: {} fit; build the one in src/predict.py",
                    names.join(" and ")
                )));
            }
            if let Some(found) = fitting.pop() {
                return Ok(found);
            }
        }
        let names: Vec<String> =
            nets.iter().take(5).map(|(module, class)| format!("{} of {}.py", class.name, module.name)).collect();
        if names.is_empty() {
            return Err(None);
        }
        let example = tensors.weights.first().map(|tensor| plain_name(&tensor.name)).unwrap_or_default();
        Err(Some(format!(
            "the file has tensors and no model, and {} fits them (`{example}`): put the file with the class beside it, or build \
             it in src/predict.py",
            match names.as_slice() {
                [one] => format!("not {one}"),
                several => format!("none of {}", several.join(", ")),
            }
        )))
    }

    /// With what a class is made that was found.
    fn made_with(&self, found: &Found<'_>, chosen: Option<&Map<String, Json>>) -> Made {
        let parameters = self.all.iter().find(|(_, class)| std::ptr::eq(*class, found.class));
        let parameters = parameters.map(|(_, class)| self.parameters(class)).unwrap_or_default();
        let takes_any = parameters.iter().any(|parameter| parameter.kind == ParameterKind::AnyKeywords);
        let is_taken = |name: &String| takes_any || parameters.iter().any(|parameter| &parameter.name == name);
        let needs = parameters.iter().filter(|parameter| parameter.required);
        if let Some(chosen) = chosen.filter(|chosen| !chosen.is_empty())
            && chosen.keys().all(is_taken)
            && needs.clone().all(|parameter| chosen.contains_key(&parameter.name))
        {
            return Made { is_chosen: true, ..Made::default() };
        }
        let mut made = Made::default();
        for parameter in parameters.iter().filter(|parameter| parameter.kind == ParameterKind::Named) {
            let said = chosen.and_then(|chosen| chosen.get(&parameter.name)).filter(|value| !value.is_null());
            match said.or_else(|| found.values.get(&parameter.name)) {
                Some(value) if parameter.default.as_ref() == Some(value) => {}
                Some(value) => {
                    let value = match value {
                        Json::Bool(truth) => if *truth { "True" } else { "False" }.to_owned(),
                        value => value.to_string(),
                    };
                    made.arguments.push(format!("{}={value}", parameter.name));
                }
                None if parameter.required => made.missing.push(parameter.name.clone()),
                None => {}
            }
        }
        made
    }
}

/// What the shapes say of a class's parameters, and what its first layer takes.
#[derive(Debug, Default)]
struct Fit {
    values: BTreeMap<String, Json>,
    first: Option<First>,
}

impl Fit {
    /// Notes that what a layer is given as `operand` has to be `size`. None where it is another one.
    fn settle(&mut self, operand: Option<&Operand>, size: &Json, parameters: &[Parameter]) -> Option<()> {
        match operand {
            Some(Operand::Value(value)) if value.is_u64() && value != size => None,
            Some(Operand::Name(name)) if parameters.iter().any(|parameter| &parameter.name == name) => {
                let known = self.values.entry(name.clone()).or_insert_with(|| size.clone());
                (known == size).then_some(())
            }
            _ => Some(()),
        }
    }
}

/// The search for tensors in the layers of a class.
struct Layers<'a, 'b> {
    nets: &'b Nets<'a>,
    /// By the names that they have in the net.
    tensors: &'b [(&'b str, &'b Tensor)],
    seen: u32,
}

impl<'a> Layers<'a, '_> {
    /// The lengths of a tensor.
    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        let (_, tensor) = self.tensors.iter().find(|(known, _)| *known == name)?;
        tensor.shape.iter().copied().collect()
    }

    /// Whether there are tensors below a name.
    fn has(&self, path: &str) -> bool {
        self.tensors.iter().any(|(name, _)| below(name, path).is_some())
    }

    /// How a class fits all tensors below `path`. None where it does not.
    fn of_class(&mut self, class: &'a Class, path: &str, depth: u8) -> Option<Fit> {
        self.seen += 1;
        if depth > DEEPEST || self.seen > MOST {
            return None;
        }
        let attributes = self.nets.attributes(class);
        let is_known = |name: &str| attributes.iter().any(|attribute| attribute.name == name);
        let mut inner = self.tensors.iter().filter_map(|(name, _)| below(name, path)).peekable();
        inner.peek()?;
        if !inner.all(|name| is_known(name.split('.').next().unwrap_or_default())) {
            return None;
        }
        let mut fit = Fit::default();
        for attribute in &attributes {
            let path = if path.is_empty() { attribute.name.clone() } else { format!("{path}.{}", attribute.name) };
            match &attribute.value {
                Operand::Call(_) if attribute.is_optional && !self.has(&path) => {}
                Operand::Call(call) => self.of_call(call, class, &path, &mut fit, depth)?,
                _ if fit.first.is_none() && self.has(&path) => fit.first = Some(First::Other),
                _ => {}
            }
        }
        Some(fit)
    }

    /// How a layer fits the tensors below `path`, which `call` in the `__init__` of `user` makes. None where it does not.
    fn of_call(&mut self, call: &Call, user: &'a Class, path: &str, fit: &mut Fit, depth: u8) -> Option<()> {
        self.seen += 1;
        if depth > DEEPEST || self.seen > MOST {
            return None;
        }
        let parameters = self.nets.parameters(user);
        if let Some(class) = self.nets.named(&call.function, user).filter(|class| self.nets.is_net(class)) {
            // One without weights of its own has none here.
            if !self.has(path) {
                return Some(());
            }
            let inner = self.of_class(class, path, depth + 1)?;
            let names = self.nets.parameters(class).iter().map(|parameter| parameter.name.as_str()).enumerate();
            for (at, name) in names {
                if let Some(size) = inner.values.get(name) {
                    fit.settle(call.argument(name, Some(at)), size, parameters)?;
                }
            }
            fit.first = fit.first.take().or(inner.first);
            return Some(());
        }
        if call.last_name() == "Sequential" {
            for (at, argument) in call.arguments.iter().enumerate() {
                if let Operand::Call(inner) = &argument.value {
                    self.of_call(inner, user, &format!("{path}.{at}"), fit, depth + 1)?;
                }
            }
        } else if let Some(layer) = Layer::named(call.last_name()) {
            for (name, at, tensor, axis) in layer.sizes(call) {
                let shape = self.shape(&format!("{path}.{tensor}"));
                let Some(shape) = shape.filter(|shape| layer.ranks().contains(&shape.len())) else {
                    // A normalisation may do without weights.
                    return if matches!(layer, Layer::Norm(..)) { Some(()) } else { None };
                };
                let size = *shape.get(axis)?;
                fit.settle(call.argument(name, Some(at)), &json!(size), parameters)?;
                if fit.first.is_none() && layer.is_input(name) {
                    fit.first = Some(layer.first(size));
                }
            }
        }
        if fit.first.is_none() && self.has(path) {
            fit.first = Some(First::Other);
        }
        Some(())
    }
}

/// What follows a name and a dot; all, where the name is empty.
fn below<'a>(name: &'a str, path: &str) -> Option<&'a str> {
    if path.is_empty() { Some(name) } else { name.strip_prefix(path)?.strip_prefix('.') }
}

/// Layers of `torch.nn` whose weights say with what they were made (<https://pytorch.org/docs/stable/nn.html>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Linear,
    /// With so many axes.
    Convolution(usize),
    Transposed(usize),
    Embedding,
    /// What the number of features is called, and whether it takes rows of them.
    Norm(&'static str, bool),
    Recurrent,
}

impl Layer {
    fn named(class: &str) -> Option<Self> {
        Some(match class {
            "Linear" => Self::Linear,
            "Conv1d" => Self::Convolution(1),
            "Conv2d" => Self::Convolution(2),
            "Conv3d" => Self::Convolution(3),
            "ConvTranspose1d" => Self::Transposed(1),
            "ConvTranspose2d" => Self::Transposed(2),
            "ConvTranspose3d" => Self::Transposed(3),
            "Embedding" => Self::Embedding,
            "BatchNorm1d" => Self::Norm("num_features", true),
            "BatchNorm2d" | "BatchNorm3d" => Self::Norm("num_features", false),
            "LayerNorm" => Self::Norm("normalized_shape", false),
            "LSTM" | "GRU" | "RNN" => Self::Recurrent,
            _ => return None,
        })
    }

    /// How many axes its weights have.
    fn ranks(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Linear | Self::Embedding | Self::Recurrent => 2..=2,
            Self::Convolution(axes) | Self::Transposed(axes) => axes + 2..=axes + 2,
            Self::Norm(..) => 1..=4,
        }
    }

    /// What it is made with: the name, the place among its arguments, and the tensor and axis that say it.
    fn sizes(self, call: &Call) -> Vec<(&'static str, usize, &'static str, usize)> {
        let is_grouped = call.argument("groups", None).is_some();
        match self {
            Self::Linear => vec![("in_features", 0, "weight", 1), ("out_features", 1, "weight", 0)],
            Self::Convolution(_) if is_grouped => vec![("out_channels", 1, "weight", 0)],
            Self::Convolution(_) => vec![("in_channels", 0, "weight", 1), ("out_channels", 1, "weight", 0)],
            Self::Transposed(_) if is_grouped => vec![("in_channels", 0, "weight", 0)],
            Self::Transposed(_) => vec![("in_channels", 0, "weight", 0), ("out_channels", 1, "weight", 1)],
            Self::Embedding => vec![("num_embeddings", 0, "weight", 0), ("embedding_dim", 1, "weight", 1)],
            Self::Norm(name, _) => vec![(name, 0, "weight", 0)],
            Self::Recurrent => vec![("input_size", 0, "weight_ih_l0", 1), ("hidden_size", 1, "weight_hh_l0", 1)],
        }
    }

    /// Whether this one of them is what it takes.
    fn is_input(self, name: &str) -> bool {
        matches!(name, "in_features" | "in_channels" | "num_embeddings" | "input_size")
            || matches!(self, Self::Norm(..))
    }

    fn first(self, size: u64) -> First {
        match self {
            Self::Linear => First::Rows(size),
            Self::Convolution(axes) | Self::Transposed(axes) => First::Channels(axes, size),
            Self::Embedding => First::Numbers,
            Self::Norm(_, true) => First::Rows(size),
            Self::Norm(..) => First::Other,
            Self::Recurrent => First::Steps(size),
        }
    }
}
