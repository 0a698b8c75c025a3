//! From an image in a registry to a service that answers, and back to the one before.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Setback;
use crate::cli::deploy::{self, Place, Subject, Wishes};
use crate::cli::printer::{NAME, dim_time};
use crate::cli::{Context, Failure};
use crate::deploy::kubectl::{Error, Force};
use crate::deploy::{Cluster, Metadata, Object, State, Target, objects, patience};
use crate::formats::diagnostic::Diagnostics;
use crate::image::session::Session;
use crate::io::explain::{ErrorKind, with_causes};
use crate::project::manifest::Manifest;
use crate::project::manifest::deploy::{Deploy, Expose, Kind, Models};
use crate::run::service::{Example, Outcome, Verdict};

/// How long a service that is ready has until it can be reached.
const REACHED: Duration = Duration::from_secs(30);

/// How models are deployed.
pub struct Deployments<'a> {
    context: &'a Context,
    session: &'a Session,
    cluster: Cluster,
    wishes: &'a Wishes,
    /// What is said of how they run.
    said: Deploy,
}

/// A version's image with all that is known of it.
struct Planned {
    manifest: Manifest,
    target: Target,
    deploy: Deploy,
}

/// What is said of how models run: by variables of DPM360's service builder, by a file over that, by options over both.
pub fn said(context: &Context, settings: Option<&Path>, wishes: &Wishes) -> Result<Deploy, Failure> {
    let mut found = Diagnostics::new();
    let said = deploy::said(settings, wishes, &mut found);
    if found.has_errors() {
        crate::cli::watch::show(context, &found);
        return Err(deploy::mistakes("nothing can be deployed so".to_owned(), found));
    }
    let expose = variable("DPM360_SERVICE_BUILDER_HOST_NAME").map(|host| Expose { host, ..Expose::default() });
    let below = Deploy { namespace: variable("K8S_NAME_SPACE"), expose, ..Deploy::default() };
    let said = below.overlaid(&said);
    if said.kind() != Kind::Service {
        return Err(refused("what is followed is deployed as a service: leave `kind` out"));
    }
    if said.models() != Models::Image {
        return Err(refused("what is followed has its weights in the image: leave `models` out"));
    }
    Ok(said)
}

fn refused(text: &str) -> Failure {
    Failure::new(ErrorKind::Usage.named("follow/settings"), text)
}

/// A variable of the environment that is set to something.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Below which path a model whose objects are called `name` answers, where it is exposed under a host: `/NAME/api`, unless the
/// settings say a path.
pub fn root(said: &Deploy, name: &str) -> Option<String> {
    said.expose.as_ref().filter(|expose| expose.path.is_none()).map(|_| format!("/{name}/api"))
}

impl<'a> Deployments<'a> {
    /// Deployments as they are `said`, in the cluster of the environment; `passed` goes to kubectl.
    pub fn new(
        context: &'a Context,
        session: &'a Session,
        said: Deploy,
        wishes: &'a Wishes,
        passed: Vec<OsString>,
    ) -> Result<Self, Failure> {
        let server = variable("K8S_API").zip(variable("K8S_API_KEY"));
        let cluster = Cluster::of(&session.client, server, passed)
            .map_err(|error| refused(&format!("K8S_API is no address: {error}")))?;
        let cluster = cluster.within(said.namespace.as_deref());
        Ok(Self { context, session, cluster, wishes, said })
    }

    /// Below which path the model answers whose objects are called `name`.
    pub fn root(&self, name: &str) -> Option<String> {
        root(&self.said, name)
    }

    /// What the objects of a model are called: as it is said, where it is one model, or else as it `is_called` in the registry.
    pub fn name<'b>(&'b self, is_called: &'b str) -> &'b str {
        self.said.name.as_deref().unwrap_or(is_called)
    }

    /// Whether the Deployment `name` runs `image`.
    pub fn runs(&self, name: &str, image: &str) -> Result<bool, Setback> {
        let metadata =
            Metadata { name: name.to_owned(), namespace: self.said.namespace.clone(), labels: Default::default() };
        let found = self.cluster.find(&Object::new("apps/v1", "Deployment", &metadata, json!({}))).map_err(away)?;
        let spec = found.map(|found| found["spec"].clone()).unwrap_or_default();
        Ok(spec["template"]["spec"]["containers"][0]["image"] == image && spec["replicas"] != 0)
    }

    /// Deploys `image`, waits until all its pods are ready, and asks the model its example requests. Gives where it answers.
    pub fn deploy(&self, name: &str, image: &str) -> Result<String, Setback> {
        let started = Instant::now();
        let planned = self.planned(name, image)?;
        let objects = self.applied(&planned, State::Running)?;
        let Some(service) = objects.iter().find(|object| object.kind() == "Service") else {
            return Err(Setback::Final("it has no service".to_owned()));
        };
        let Planned { manifest, target, deploy } = &planned;
        let way = self.cluster.way(service, &self.context.network).map_err(away)?;
        let wait = way.service.wait_ready(&target.service.ready, REACHED, || None);
        wait.map_err(|error| Setback::Final(format!("its service cannot be reached: {}", with_causes(&error))))?;
        let way = way.below(target.service.root.as_deref());
        let outcomes = Example::of(manifest).map(|example| way.service.ask(example, None));
        let different: Vec<_> =
            outcomes.filter(|outcome| outcome.verdict == Verdict::Different).map(|one| difference(&one)).collect();
        if !different.is_empty() {
            return Err(Setback::Final(format!("in the cluster it answers otherwise: {}", different.join("; "))));
        }
        let endpoint = endpoint(target, deploy, name, &self.cluster.namespace_of(service).map_err(away)?);
        let time = dim_time(started.elapsed());
        self.context.printer.status("Deployed", format!("{NAME}{name}{NAME:#} at {endpoint} {time}"));
        Ok(endpoint)
    }

    /// Keeps the objects of `image`, and no pod.
    pub fn stop(&self, name: &str, image: &str) -> Result<(), Setback> {
        self.applied(&self.planned(name, image)?, State::Stopped).map(drop)
    }

    /// Deletes the objects of `image`.
    pub fn delete(&self, name: &str, image: &str) -> Result<(), Setback> {
        let Planned { target, deploy, .. } = self.planned(name, image)?;
        self.cluster.delete(&objects(&target, &deploy, State::Running)).map_err(away)?;
        Ok(())
    }

    fn planned(&self, name: &str, image: &str) -> Result<Planned, Setback> {
        let said = Deploy { name: Some(name.to_owned()), ..self.said.clone() };
        let place = Place { push: None, image: None, models_image: None };
        let planned = || {
            let subject = Subject::named(self.session, image, &place, &[], self.wishes)?;
            let deploy = deploy::merged(self.context, &subject, &said, Diagnostics::new())?;
            let manifest = subject.manifest.clone();
            let target = subject.placed(self.context, self.session, &place, &[], &deploy.models())?;
            Ok::<_, Failure>(Planned { manifest, target, deploy })
        };
        planned().map_err(Setback::of)
    }

    fn applied(&self, planned: &Planned, state: State) -> Result<Vec<Object>, Setback> {
        let Planned { target, deploy, .. } = planned;
        let objects = objects(target, deploy, state);
        let force = if state == State::Stopped { Force::TakeOver } else { Force::Never };
        self.cluster.apply(&objects, force).map_err(away)?;
        if state == State::Running {
            self.cluster.wait(&objects, patience(target, deploy)).map_err(away)?;
        }
        Ok(objects)
    }
}

/// What the cluster says. Only what does not become ready is the version's fault.
fn away(error: Error) -> Setback {
    let text = with_causes(&error);
    match error {
        Error::NotReady { .. } => Setback::Final(text),
        _ => Setback::Passing(text),
    }
}

/// In what an answer differs, in a few words.
fn difference(outcome: &Outcome) -> String {
    match outcome.differences.first() {
        Some(first) => format!("{}: {first}", outcome.name),
        None => outcome.name.clone(),
    }
}

/// Where a model answers, as its people know it.
fn endpoint(target: &Target, deploy: &Deploy, name: &str, namespace: &str) -> String {
    let root = target.service.root.as_deref().unwrap_or_default();
    match &deploy.expose {
        Some(expose) => {
            let scheme = if expose.tls.is_some() { "https" } else { "http" };
            let path = expose.path.as_deref().unwrap_or(root).trim_end_matches('/');
            format!("{scheme}://{}{path}", expose.host)
        }
        None => format!("http://{name}.{namespace}.svc{root}"),
    }
}
