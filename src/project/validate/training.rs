//! How a model is trained, and the messages that it is trained and asked by.

use std::sync::Arc;

use super::Subject;
use crate::formats::diagnostic::{Code, Diagnostic, Diagnostics, Source};
use crate::formats::source::{ParameterKind, Signature};
use crate::formats::topic::{self, Keys, Place};
use crate::io::archive::ArchivePath;
use crate::project::manifest::Entry;

/// What a function that trains is given, by these names.
const GIVEN: [&str; 2] = ["data", "hyperparameters"];

/// Checks what the manifest says; mistakes go to `found`.
pub fn check(subject: &Subject<'_>, found: &mut Diagnostics) {
    let Subject { manifest, document, .. } = subject;
    let mut wrong = |at: &str, message: &str, help: &str| {
        found.push(document.at_key(Code::Untrainable, at, message).help(help));
    };
    if manifest.service.messages.is_some() && manifest.service.predict.is_none() && manifest.service.java.is_none() {
        let help = "name it: `predict: src/predict.py:predict`";
        wrong("/service/messages", "messages are answered by `predict`, and there is no such function", help);
    }
    if let Some(training) = &manifest.training {
        match (training.function.is_some(), training.command.is_empty()) {
            (true, true) | (false, false) => {}
            (true, false) => wrong(
                "/training/command",
                "the model is trained by a function and by a command",
                "leave one of them out",
            ),
            (false, true) => wrong(
                "/training",
                "nothing says how the model is trained",
                "name a function: `function: src/train.py:train`",
            ),
        }
        if !manifest.serves_functions() {
            let help = "it is named by `service.predict`";
            wrong("/training", "only a model that is asked by a function of the project is trained", help);
        }
        if ArchivePath::relative(&training.output).is_err() {
            let help = "as `model.pkl`: it lies below the model's folder";
            wrong("/training/output", "the model's file leaves the model's folder", help);
        }
        if let Some(data) = training.data.as_deref().filter(|data| ArchivePath::relative(data).is_err()) {
            let message = format!("`{data}` cannot be the name of a data set");
            wrong("/training/data", &message, "as `measurements.csv`");
        }
        if let Some(messages) = &training.messages {
            if messages.online && training.partial.is_none() {
                let help = "name what learns from one record: `partial: src/train.py:partial_train`";
                wrong("/training/messages/online", "nothing says how the model learns from a message", help);
            }
            if messages.subscribe.is_empty() && messages.publish.is_empty() {
                wrong("/training/messages", "no key is named", "name keys: `subscribe: [measurements]`");
            }
        }
    }
    keys(subject, found);
}

fn keys(&Subject { manifest, document, .. }: &Subject<'_>, found: &mut Diagnostics) {
    let places = |at: &str, keys: &[String]| -> Vec<Place> {
        keys.iter().enumerate().map(|(number, key)| (format!("{at}/{number}"), key.clone())).collect()
    };
    let trained = manifest.training.as_ref().map(|training| training.keys()).unwrap_or_default();
    let asked = manifest.service.messages.as_ref();
    let asked = asked.map_or((&[][..], &[][..]), |messages| (&messages.subscribe, &messages.publish));
    let keys = Keys {
        training: places("/training/messages/subscribe", trained.0),
        statistics: places("/training/messages/publish", trained.1),
        prediction: places("/service/messages/subscribe", asked.0),
        answers: places("/service/messages/publish", asked.1),
    };
    topic::check(&keys, document, found);
}

/// Whether a function that trains can be called with what it is given.
pub fn function(
    subject: &Subject<'_>,
    entry: &Entry<'_>,
    text: &Arc<Source>,
    signature: &Signature,
    found: &mut Diagnostics,
) {
    let places = || signature.parameters.iter().filter(|parameter| parameter.kind != ParameterKind::AnyKeywords);
    let message = if entry.name == "partial" {
        let required = signature.parameters.iter().filter(|parameter| parameter.required).count();
        (places().count() < 2 || required > 2)
            .then(|| format!("`{}` is called with the model and a record: it takes others", signature.name))
    } else {
        let needed = places().filter(|parameter| parameter.required);
        let mut unknown = needed.map(|parameter| parameter.name.as_str()).filter(|name| !GIVEN.contains(name));
        unknown.next().map(|name| {
            format!(
                "`{}` needs `{name}`: it is given {}",
                signature.name,
                GIVEN.map(|n| format!("`{n}`")).join(" and ")
            )
        })
    };
    let Some(message) = message.filter(|_| !signature.decorated) else { return };
    let start = text.offset(signature.position.line, signature.position.column);
    let here = start..start + signature.name.len();
    let error = Diagnostic::new(Code::Untrainable, text, here, message);
    found.push(error.also(&subject.document.source, subject.document.span_of(&entry.pointer), "it is named here"));
}
