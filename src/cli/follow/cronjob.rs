//! `ekiben follow --cronjob`: what follows inside a cluster, written down.

use std::collections::BTreeMap;
use std::io::{self, Write};

use fs_err as fs;
use serde::Serialize;
use serde_json::json;
use url::Url;

use super::deployment::{root, variable};
use super::{Args, Model};
use crate::bundle::runtime::Convention;
use crate::cli::printer::Report;
use crate::cli::{Context, Failure};
use crate::deploy::follower::{Follower, Pruning, SETTINGS, objects};
use crate::deploy::{self, Object, State, Target};
use crate::image::registry::Reference;
use crate::io::digest::Digest;
use crate::io::explain::ErrorKind;
use crate::project::init;
use crate::project::manifest::Manifest;
use crate::project::manifest::deploy::{Deploy, Schedule, default_name};

/// Every two minutes.
const SCHEDULE: &str = "*/2 * * * *";

/// The file with how models are deployed.
const DEPLOY: &str = "deploy.json";

/// Addresses, which are no secrets where they hold no password.
const ADDRESSES: [&str; 5] =
    ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_S3_ENDPOINT_URL", "MLFLOW_API", "MODEL_REGISTRY_API"];

/// The objects.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Written {
    objects: Vec<Object>,
}

impl Report for Written {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(deploy::documents(&self.objects).as_bytes())
    }
}

/// What follows as `args` say, and deploys as it is `said`.
pub fn written(context: &Context, args: &Args, mut said: Deploy) -> Result<Written, Failure> {
    let Some(image) = args.image.clone() else {
        let explanation = ErrorKind::Usage.named("follow/no-image").hint("`ekiben self image` makes it");
        return Err(Failure::new(explanation, "`--image REF` has to say where Ekiben's own image is"));
    };
    // A RoleBinding has to name where the account is.
    let Some(namespace) = said.namespace.clone() else {
        let explanation = ErrorKind::Usage.named("follow/no-namespace");
        return Err(Failure::new(explanation, "`--namespace NAME` has to say where it is, and where it deploys"));
    };
    let schedule = match said.schedule.take() {
        Some(Schedule::At(text)) => text,
        _ => SCHEDULE.to_owned(),
    };
    let Model(model) = &args.model;
    let name = match model {
        Some(model) => format!("ekiben-follow-{}", default_name(&init::plain(model))),
        None => "ekiben-follow".to_owned(),
    };
    let mut files = BTreeMap::new();
    let mut line = arguments(args);
    if said != Deploy::default() {
        let text = serde_json::to_string_pretty(&said).map_err(io::Error::other)?;
        files.insert(DEPLOY.to_owned(), text + "\n");
        line.extend(["--settings".to_owned(), format!("{SETTINGS}/{DEPLOY}")]);
    }
    for (number, path) in (1..).zip(&context.network.ca) {
        let file = format!("authority-{number}.pem");
        line.extend(["--ca".to_owned(), format!("{SETTINGS}/{file}")]);
        files.insert(file, fs::read_to_string(path)?);
    }
    for host in &context.network.plain_http {
        line.extend(["--plain-http".to_owned(), host.clone()]);
    }
    let follower = Follower {
        name: name.get(..52).unwrap_or(&name).trim_end_matches('-').to_owned(),
        namespace,
        image,
        args: line,
        schedule,
        files,
        variables: variables(),
        store: args.store.clone(),
    };
    let pruning = if args.prune { Pruning::Deletes } else { Pruning::Keeps };
    Ok(Written { objects: objects(&follower, &examples(&said)?, pruning) })
}

/// The arguments of the command that the cron job runs.
fn arguments(args: &Args) -> Vec<String> {
    let Model(model) = &args.model;
    let mut line = vec!["follow".to_owned(), format!("models:/{}", model.as_deref().unwrap_or_default())];
    let said = [
        ("--where", args.filter.as_ref()),
        ("--alias", args.alias.as_ref()),
        ("--stage", args.stage.as_ref()),
        ("--push", Some(&args.push)),
        ("--tag-prefix", Some(&args.tag_prefix)),
        ("--endpoint-tag", Some(&args.endpoint_tag)),
    ];
    for (option, value) in said {
        line.extend(value.into_iter().flat_map(|value| [option.to_owned(), value.clone()]));
    }
    line.extend(["--once", "--deploy"].map(str::to_owned));
    line.extend(args.prune.then(|| "--prune".to_owned()));
    line
}

/// The addresses that are set here, and hold no secret.
fn variables() -> BTreeMap<String, String> {
    let is_plain = |text: &str| Url::parse(text).is_ok_and(|url| url.username().is_empty() && url.password().is_none());
    let set = ADDRESSES.iter().filter_map(|name| Some(((*name).to_owned(), variable(name)?)));
    let region = variable("AWS_DEFAULT_REGION").map(|region| ("AWS_DEFAULT_REGION".to_owned(), region));
    set.filter(|(_, value)| is_plain(value)).chain(region).collect()
}

/// Objects of the kinds that are written for a model that is deployed so.
fn examples(said: &Deploy) -> Result<Vec<Object>, Failure> {
    let name = "model";
    let service = json!({"predict": "src/predict.py:predict", "root": root(said, name)});
    let manifest: Manifest =
        serde_json::from_value(json!({"name": name, "service": service})).map_err(io::Error::other)?;
    let image: Reference = format!("registry.example/{name}").parse()?;
    let target = Target::new(&manifest, "1", Convention::Ekiben, image.at(Digest::of("")), BTreeMap::new());
    Ok(deploy::objects(&target, said, State::Running))
}
