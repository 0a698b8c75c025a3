//! The options that say how a model is deployed: each is a key of the section `deploy`.

use serde_json::{Value, json};

use crate::formats::diagnostic::Diagnostics;
use crate::formats::schema::load::{self, Loaded};
use crate::project::manifest::deploy::{Deploy, Kind};

/// How it is to run.
#[derive(Debug, Default, PartialEq, clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct Wishes {
    /// What it runs as.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// What its objects are called.
    #[arg(long)]
    name: Option<String>,
    /// The namespace.
    #[arg(long, short)]
    namespace: Option<String>,
    /// A label of all objects; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// A variable of the container; may be repeated.
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// A secret of the namespace, whose keys are variables of the container; may be repeated.
    #[arg(long, value_name = "NAME")]
    secret: Vec<String>,
    /// How many pods.
    #[arg(long)]
    replicas: Option<u32>,
    /// How many pods, by what they do: 1..4.
    #[arg(long, value_name = "MIN..MAX")]
    autoscale: Option<String>,
    /// ALWAYS_ON, TIMEOUT or IMMEDIATE.
    #[arg(long)]
    strategy: Option<String>,
    /// Seconds after the last answer after which there are no pods, with TIMEOUT.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// When a cron job begins.
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,
    /// Memory of a pod: 2Gi.
    #[arg(long)]
    memory: Option<String>,
    /// Processors that a pod surely gets: 500m, 2.
    #[arg(long)]
    cpu: Option<String>,
    /// GPUs of a pod.
    #[arg(long)]
    gpus: Option<u32>,
    /// The time that it has to become ready: 5m.
    #[arg(long = "start-within", value_name = "TIME")]
    start: Option<String>,
    /// Where the weights are: image, volume, node, s3://BUCKET/PREFIX/ or pvc:CLAIM.
    #[arg(long, value_name = "WHERE")]
    models: Option<String>,
    /// Where the claim's weights come from.
    #[arg(long, value_name = "ADDRESS")]
    fill: Option<String>,
    /// The image that fetches weights in the cluster: Ekiben's own.
    #[arg(long, value_name = "IMAGE")]
    fetcher: Option<String>,
    /// The secret that says where the broker of its messages is.
    #[arg(long, value_name = "SECRET")]
    broker: Option<String>,
    /// The host under which it is reached from outside.
    #[arg(long)]
    host: Option<String>,
    /// What the paths begin with there.
    #[arg(long, value_name = "/PATH", requires = "host")]
    prefix: Option<String>,
    /// The Gateway that has the host: NAME or NAMESPACE/NAME.
    #[arg(long, requires = "host")]
    gateway: Option<String>,
    /// The class of the Ingress.
    #[arg(long, value_name = "CLASS", requires = "host")]
    ingress: Option<String>,
    /// The secret with the certificate of the Ingress.
    #[arg(long, value_name = "SECRET", requires = "host")]
    tls: Option<String>,
    /// A label that a node has to have; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    node: Vec<(String, String)>,
    /// The version of the cluster, as 1.31.
    #[arg(long, value_name = "VERSION")]
    kubernetes: Option<String>,
    /// The port of an image that Ekiben did not build.
    #[arg(long)]
    pub port: Option<u16>,
    /// The path that tells whether an image is ready that Ekiben did not build.
    #[arg(long, value_name = "PATH")]
    pub ready: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Wishes {
    /// As a section of a manifest, read as one: what is wrong goes to `found`.
    pub fn read(&self, found: &mut Diagnostics) -> Option<Loaded<Deploy>> {
        let pairs = |pairs: &[(String, String)]| {
            (!pairs.is_empty()).then(|| pairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect())
        };
        let text = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        let section = |keys: Vec<(&str, Option<Value>)>| {
            let keys = keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
            Some(Value::Object(keys.collect()))
                .filter(|section| section.as_object().is_some_and(|keys| !keys.is_empty()))
        };
        let resources = section(vec![
            ("memory", text(&self.memory)),
            ("cpu", text(&self.cpu)),
            ("gpus", self.gpus.map(|gpus| json!(gpus))),
        ]);
        let expose = section(vec![
            ("host", text(&self.host)),
            ("path", text(&self.prefix)),
            ("gateway", text(&self.gateway)),
            ("ingress", text(&self.ingress)),
            ("tls", text(&self.tls)),
        ]);
        let all = section(vec![
            ("kind", self.kind.map(|kind| json!(kind))),
            ("name", text(&self.name)),
            ("namespace", text(&self.namespace)),
            ("labels", pairs(&self.label)),
            ("env", pairs(&self.env)),
            ("secrets", (!self.secret.is_empty()).then(|| json!(self.secret))),
            ("replicas", self.replicas.map(|number| json!(number))),
            ("autoscale", text(&self.autoscale)),
            ("strategy", text(&self.strategy)),
            ("timeout", self.timeout.map(|seconds| json!(seconds))),
            ("schedule", text(&self.schedule)),
            ("resources", resources),
            ("start", text(&self.start)),
            ("models", text(&self.models)),
            ("fill", text(&self.fill)),
            ("fetcher", self.fetcher.as_ref().map(|image| json!({ "image": image }))),
            ("messages", self.broker.as_ref().map(|secret| json!({ "secret": secret }))),
            ("expose", expose),
            ("nodes", pairs(&self.node)),
            ("kubernetes", text(&self.kubernetes)),
        ])?;
        load::bytes::<Deploy>(all.to_string().as_bytes(), "(options)", "options.json", found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        wishes: Wishes,
    }

    #[test]
    fn options_are_read_as_a_section_is() {
        let line = |args: &[&str]| {
            let mut found = Diagnostics::new();
            let line = Line::try_parse_from([&["x"], args].concat()).unwrap();
            let read = line.wishes.read(&mut found).and_then(Loaded::whole).map(|(_, deploy)| deploy);
            (read, found.errors())
        };
        assert_eq!(line(&[]), (None, 0));
        let (deploy, errors) = line(&["--env", "A=b=c", "--memory", "2Gi", "--host", "a.example", "--kind", "job"]);
        let deploy = deploy.unwrap();
        assert_eq!((deploy.env["A"].as_str(), deploy.kind(), errors), ("b=c", Kind::Job, 0));
        assert_eq!(line(&["--memory", "2gb"]).1, 1);
        assert_eq!(line(&["--strategy", "SOMETIMES"]).1, 1);
    }
}
