//! Where things lie in an image, and who runs them. Every path is absolute and without a `/` at its end.

/// Root of the code, and working directory: `src/predict.py` of a project lies at `/app/src/predict.py`.
pub const CODE: &str = "/app";
/// The virtual environment.
pub const VENV: &str = "/app/.venv";
/// The Python package that serves the functions.
pub const SERVICE: &str = "/app/ekiben_service";
/// Starts the service, or runs what it is given.
pub const ENTRYPOINT: &str = "/app/env/docker/entrypoint.sh";
/// The models: each has a folder of its name.
pub const MODELS: &str = "/models";
/// User and group, by number, as bentos have them.
pub const USER: u32 = 1034;
/// Their name.
pub const USER_NAME: &str = "ekiben";

/// The folder of a model's files.
pub fn model(name: &str) -> String {
    format!("{MODELS}/{name}")
}

/// The environment of the container, sorted: what the manifest says wins over what Ekiben sets.
pub fn environment(manifest: &crate::manifest::Manifest) -> std::collections::BTreeMap<String, String> {
    let mut variables = std::collections::BTreeMap::from([
        ("EKIBEN_MODEL_DIR".to_owned(), model(&manifest.name)),
        ("PATH".to_owned(), format!("{VENV}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")),
        ("PORT".to_owned(), manifest.service.port.to_string()),
        ("PYTHONUNBUFFERED".to_owned(), "1".to_owned()),
    ]);
    variables.extend(manifest.env.clone());
    variables
}
