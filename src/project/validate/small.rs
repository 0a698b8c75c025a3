//! What the service cannot do where only Python's own library is there.

use super::Subject;
use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::python::PythonVersion;
use crate::formats::source::{Type, function_in};
use crate::project::manifest::SERVED;

/// Checks that nothing of it is asked for; mistakes go to `found`.
pub fn check(subject: &Subject<'_>, python: PythonVersion, found: &mut Diagnostics) {
    let Subject { manifest, document, root, .. } = *subject;
    if !manifest.is_small() {
        return;
    }
    let service = &manifest.service;
    let help = format!("it needs packages that there are for Python {SERVED} and later");
    let mut refuse = |at: &str, what: &str| {
        let message = format!("on Python {python} the service has no {what}");
        found.push(document.at_key(Code::NotSuited, at, message).help(&help));
    };
    for (key, what, is_asked) in [
        ("workers", "further processes", service.workers.is_some_and(|workers| workers > 1)),
        ("batch", "requests that are answered together", !service.batch.is_empty()),
        ("deferred", "answers that are asked for later", service.deferred.is_some()),
        ("openai", "routes of OpenAI's API", service.openai.is_some()),
        ("kserve", "routes of KServe's protocol", service.kserve.is_some()),
        ("messages", "messages", service.messages.is_some()),
        ("mlflow", "routes of MLflow's scoring server", service.mlflow.is_some()),
        ("messages", "messages of a broker", service.messages.is_some()),
        ("java", "models in Java", service.java.is_some()),
    ] {
        if is_asked {
            refuse(&format!("/service/{key}"), what);
        }
    }
    if manifest.training.is_some() {
        refuse("/training", "training");
    }
    if let Some(training) = &manifest.training {
        if training.messages.is_some() {
            refuse("/training/messages", "messages of a broker");
        }
        // What trains is written for the Pythons behind it.
        if python.minor() < 7 {
            refuse("/training", "training");
        }
    }
    let read = |file: &str| std::fs::read_to_string(root.join(file)).ok();
    for entry in service.entries() {
        let Some(text) = read(entry.file) else { continue };
        let Ok(signature) = function_in(entry.file, &text, entry.function, &read) else { continue };
        let mut annotations = signature.parameters.iter().filter_map(|parameter| parameter.annotation.as_ref());
        if annotations.any(Type::takes_files) {
            refuse(&entry.pointer, "files in requests");
        }
        if signature.parts.is_some() {
            refuse(&entry.pointer, "answers in parts");
        }
    }
}
