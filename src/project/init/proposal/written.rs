//! Objects whose class, and functions whose code, cloudpickle wrote into the pickle: they are asked by what their methods take.

use super::code::{Parameter, VALUE};
use super::input::{self, Input};
use super::{Proposal, estimator, plain_name};
use crate::formats::model::{Argument, Object, cloudpickle};

/// Methods that answer, the first that there is being what the object is for.
const ASKED: [&str; 3] = ["predict", "transform", "__call__"];

/// What has a route of its own beside `predict`.
const FURTHER: [&str; 2] = ["predict_proba", "decision_function"];

impl Proposal {
    /// Asks an object of a class that was written into the pickle, or a function that was. Gives whether it is one.
    pub(super) fn ask_written(&mut self, object: Object<'_>) -> bool {
        if let Some(arguments) = cloudpickle::arguments(object) {
            self.class = Some("function".to_owned());
            "own code".clone_into(&mut self.framework);
            self.call_written("model", &arguments, Input::Unknown);
            return true;
        }
        let Some(class) = object.written() else { return false };
        self.class = object.class().map(|(_, name)| plain_name(name)).filter(|name| !name.is_empty());
        "own code".clone_into(&mut self.framework);
        let method = |name: &'static str| {
            let arguments = cloudpickle::arguments(cloudpickle::method(class, name)?)?;
            Some((name, arguments.into_iter().skip(1).collect::<Vec<_>>()))
        };
        let Some((name, arguments)) = ASKED.into_iter().find_map(method) else {
            self.take(Input::Unknown);
            let known: Vec<String> = cloudpickle::methods(class).into_iter().take(10).map(plain_name).collect();
            let has = match known.as_slice() {
                [] => String::new(),
                known => format!(", but `{}`", known.join("`, `")),
            };
            let class = self.class.as_deref().unwrap_or("the class").to_owned();
            self.leave_open("call the model here", format!("{class} has no `predict`{has}: call it in src/predict.py"));
            return true;
        };
        let call = if name == "__call__" { "model".to_owned() } else { format!("model.{name}") };
        self.call_written(&call, &arguments, estimator::input(object));
        for (name, others) in FURTHER.into_iter().filter_map(method) {
            if others == arguments && arguments.iter().filter(|argument| !argument.has_default).count() < 2 {
                self.answer(name, &format!("return model.{name}({VALUE})"));
            }
        }
        true
    }

    /// Gives the service a function that calls something with all that it has to be given, by the names that it has for that.
    fn call_written(&mut self, call: &str, arguments: &[Argument], input: Input) {
        let is_known = input != Input::Unknown;
        self.take(input);
        let required: Vec<&Argument> = arguments.iter().filter(|argument| !argument.has_default).collect();
        let taken: Vec<&Argument> = if required.is_empty() { arguments.iter().take(1).collect() } else { required };
        let names = input::parameters(taken.iter().map(|argument| argument.name.as_str()));
        let is_same = taken.iter().zip(&names).all(|(argument, name)| &argument.name == name);
        if names.is_empty() || (names.len() > 1 && !is_same) {
            return self
                .leave_open("call the model here", "what the model takes has no names: call it in src/predict.py");
        }
        if is_known && names.len() == 1 {
            return self.answer("predict", &format!("return {call}({VALUE})"));
        }
        let description = "any JSON, as it is not known what the model takes";
        let parameter = |name: &String| Parameter {
            name: name.clone(),
            hint: "Any".to_owned(),
            description: description.to_owned(),
        };
        self.code.parameters = names.iter().map(parameter).collect();
        let given = match names.as_slice() {
            [_] => VALUE.to_owned(),
            several => several.iter().map(|name| format!("{name}={name}")).collect::<Vec<_>>().join(", "),
        };
        self.answer("predict", &format!("return {call}({given})"));
    }
}
