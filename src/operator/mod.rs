//! The operator of a cluster: a resource names a model at an address, and there is an image, a service, and no more pods than are
//! asked for. A program of its own, with `kube` for the API; the command line carries none of it.
//!
//! What a model's objects are is `deploy`'s to say, how its image comes about is `ekiben ensure`'s, run beside the operator or in a
//! Job: the operator itself touches neither models nor registries, and in the cluster it reads no secret.

mod activity;
mod builder;
mod cluster;
mod definition;
mod door;
mod journal;
mod lease;
mod manifests;
mod reconcile;
mod resource;
mod server;

use std::collections::HashSet;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Parser, Subcommand};
use futures_util::{StreamExt as _, stream};
use kube::api::Api;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::controller::Config;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::{Controller, watcher};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::activity::Reach;
use self::builder::{Builder, Here, Jobs};
use self::cluster::{Cluster, MANAGER, Place};
use self::definition::{Definition, NoDefinition};
use self::door::Doors;
use self::journal::{Weight, tell};
use self::lease::Leadership;
use self::reconcile::Operator;
use self::server::Metrics;
use crate::build::gate::Gate;
use crate::formats::diagnostic::Diagnostics;
use crate::io::explain::{ErrorKind, Explain, Explanation, with_causes};

/// Resources that are looked at at once.
const AT_ONCE: u16 = 8;

/// How often it is seen which resources are gone.
const SWEEP: Duration = Duration::from_secs(5);

/// Why the operator does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cluster can be reached.
    #[error("there is no cluster: {why}")]
    NoCluster {
        /// Why.
        why: String,
    },
    /// The API server says no.
    #[error("{what}: {why}")]
    Api {
        /// About what it was asked.
        what: String,
        /// What it says.
        why: String,
    },
    /// Somebody else's object is in the way.
    #[error("there is a {what} that is not this resource's")]
    Taken {
        /// Kind and name.
        what: String,
    },
    /// An object of a kind that the operator has no rights to.
    #[error("the operator does not make objects of the kind {0}")]
    UnknownKind(String),
    /// A secret does not have what it is named for.
    #[error("secret {name}: {why}")]
    Secret {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Something that cannot be, was.
    #[error("{0}")]
    Broken(String),
    /// The names of the resources.
    #[error(transparent)]
    Definition(#[from] NoDefinition),
    /// There is no `ekiben` to build with.
    #[error("there is no program {} to build with", program.display())]
    NoBuilder {
        /// The program.
        program: PathBuf,
    },
    /// The policy has mistakes.
    #[error("{} is no policy:{mistakes}", path.display())]
    Policy {
        /// The file.
        path: PathBuf,
        /// A line for each.
        mistakes: String,
    },
    /// The system says no.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoCluster { .. } => ErrorKind::Unavailable
                .named("operator/no-cluster")
                .hint("give `--kubeconfig FILE`, or run it in a cluster: `ekiben operator manifests`"),
            Self::Api { .. } => ErrorKind::Unavailable.named("operator/api"),
            Self::Taken { .. } => ErrorKind::Failure.named("operator/taken"),
            Self::UnknownKind(_) => ErrorKind::Failure.named("operator/unknown-kind"),
            Self::Secret { .. } => ErrorKind::Failure.named("operator/secret"),
            Self::Broken(_) => ErrorKind::Failure.named("operator/broken"),
            Self::Policy { .. } => {
                ErrorKind::Usage.named("operator/policy").hint("`ekiben validate FILE` shows where they are")
            }
            Self::Definition(_) => ErrorKind::Usage.named("operator/definition"),
            Self::NoBuilder { .. } => ErrorKind::Usage
                .named("operator/no-builder")
                .hint("give `--ekiben PROGRAM`, or `--builder IMAGE` for builds in the cluster"),
            Self::Io(error) => error.explain(),
        }
    }
}

impl Error {
    /// What becomes of an answer of the API server's, which was asked about `what`.
    fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |error| {
            let why = match &error {
                // The client would say it three times.
                kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
                error => with_causes(error),
            };
            Self::Api { what: what.into(), why }
        }
    }

    /// With its causes.
    fn in_one_line(&self) -> String {
        with_causes(self)
    }
}

/// Run models that are resources of a cluster: built into images, served, idle when nobody asks.
#[derive(Parser)]
#[command(name = "ekiben-operator", version)]
struct Cli {
    /// The group of the resources.
    #[arg(long, global = true, default_value = "ai.ekiben.dev", env = "EKIBEN_OPERATOR_GROUP")]
    group: String,
    /// Their kind.
    #[arg(long, global = true, default_value = "AIDeployment", env = "EKIBEN_OPERATOR_KIND")]
    kind: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(Run),
    Manifests(manifests::Args),
}

/// Run the operator. Of several, one works, and the others wait for its lease.
#[derive(clap::Args)]
struct Run {
    /// The cluster with the resources. Without it: the one in which this runs, or that of KUBECONFIG and ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The cluster that models are deployed into, where it is another one.
    #[arg(long, value_name = "FILE", env = "EKIBEN_OPERATOR_TARGET")]
    target_kubeconfig: Option<PathBuf>,
    /// The only namespace whose resources are looked at.
    #[arg(long, value_name = "NAMESPACE", env = "EKIBEN_OPERATOR_NAMESPACE")]
    namespace: Option<String>,
    /// Build in Jobs of the cluster, with this image: Ekiben's own.
    #[arg(long, value_name = "IMAGE", env = "EKIBEN_OPERATOR_BUILDER", conflicts_with = "build_here")]
    builder: Option<String>,
    /// Build beside the operator. It reads the secrets that resources name.
    #[arg(long, required_unless_present = "builder")]
    build_here: bool,
    /// What builds here. Without it: the `ekiben` beside this program.
    #[arg(long, value_name = "PROGRAM", requires = "build_here")]
    ekiben: Option<PathBuf>,
    /// What images need before they are deployed, in a file: see `ekiben ensure --policy`. A registry has to have them as the
    /// policy demands, as what is built here is signed by nobody.
    #[arg(long, value_name = "FILE", env = "EKIBEN_POLICY")]
    policy: Option<PathBuf>,
    /// Builds here at once.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    builds: u16,
    /// A registry (HOST[:PORT]) to speak to without TLS; may be repeated.
    #[arg(long, value_name = "HOST", value_delimiter = ',', env = "EKIBEN_PLAIN_HTTP")]
    plain_http: Vec<String>,
    /// Where /healthz, /readyz and /metrics are.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080", env = "EKIBEN_OPERATOR_LISTEN")]
    listen: SocketAddr,
    /// The address at which pods of the cluster reach this process: requests for idle models come here, and start them.
    #[arg(long, value_name = "ADDRESS", env = "EKIBEN_OPERATOR_ADDRESS")]
    address: Option<IpAddr>,
    /// Ask pods for their metrics through the API server, where their own addresses cannot be reached from here.
    #[arg(long)]
    through_api_server: bool,
    /// Where the lease is.
    #[arg(long, value_name = "NAMESPACE", default_value = "default", env = "EKIBEN_OPERATOR_LEASE_NAMESPACE")]
    lease_namespace: String,
    /// What this operator is called among others.
    #[arg(long, value_name = "NAME", env = "EKIBEN_OPERATOR_IDENTITY")]
    identity: Option<String>,
}

/// The program.
pub fn main() -> ExitCode {
    let Cli { group, kind, command } = Cli::parse();
    let ended = Definition::new(&group, &kind).map_err(Error::from).and_then(|definition| match command {
        Command::Run(run) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(work(definition, run))
        }
        Command::Manifests(args) => manifests::write(&definition, &args),
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let explanation = error.explain();
            let hint = explanation.hint.map(|hint| format!(" hint: {hint}\n")).unwrap_or_default();
            let _ = write!(std::io::stderr().lock(), "error: {}\n{hint}", error.in_one_line());
            ExitCode::from(if explanation.kind == ErrorKind::Usage { 2 } else { 1 })
        }
    }
}

/// The policy in a file, without a mistake.
fn gate(path: &Path) -> Result<Gate, Error> {
    let mut found = Diagnostics::new();
    let gate = Gate::read(path, &mut found).filter(|_| !found.has_errors());
    gate.ok_or_else(|| {
        let mistakes = found.sorted().into_iter().map(|one| format!("\n  - {}", one.message)).collect();
        Error::Policy { path: path.to_owned(), mistakes }
    })
}

async fn work(definition: Definition, run: Run) -> Result<(), Error> {
    let metrics = Arc::new(Metrics::default());
    server::serve(run.listen, metrics.clone()).await?;
    let home = Cluster::connect(run.kubeconfig.as_deref()).await?;
    let (target, place) = match &run.target_kubeconfig {
        Some(path) => (Cluster::connect(Some(path)).await?, Place::Other),
        None => (home.clone(), Place::Same),
    };
    let (knocks, mut knocked) = mpsc::unbounded_channel();
    let policy = run.policy.filter(|path| !path.as_os_str().is_empty());
    let gate = policy.as_deref().map(gate).transpose()?;
    let builder = match run.builder {
        Some(image) => Builder::Jobs(Jobs {
            image,
            plain_http: run.plain_http,
            namespace: run.namespace.clone(),
            policy: gate.map(|gate| gate.portable()),
        }),
        None => {
            let program = run.ekiben.map_or_else(beside, Ok)?;
            if !program.is_file() {
                return Err(Error::NoBuilder { program });
            }
            // Builds have folders of their own.
            let policy = policy.map(std::path::absolute).transpose()?;
            Builder::Here(Here::new(program, run.builds.into(), run.plain_http, policy, knocks.clone()))
        }
    };
    let identity = run.identity.unwrap_or_else(|| format!("{MANAGER}-{}", std::process::id()));
    metrics.is_ready.store(true, Ordering::Relaxed);
    let lease = format!("{MANAGER}.{}", definition.group());
    let leadership = Leadership::new(home.client(), &run.lease_namespace, &lease, &identity);
    let mut ends = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
    let [terminate, interrupt] = &mut ends;
    tokio::select! {
        () = leadership.acquired() => {}
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    }
    metrics.leads.store(true, Ordering::Relaxed);
    tell(Weight::Info, "lease", &format!("{identity} works"));

    let reporter = Reporter { controller: MANAGER.to_owned(), instance: Some(identity) };
    let operator = Arc::new(Operator {
        recorder: Recorder::new(home.client().clone(), reporter),
        reach: if run.through_api_server { Reach::Proxied } else { Reach::Direct },
        doors: run.address.map(|address| Doors::new(address, knocks)),
        known: Mutex::default(),
        definition,
        home,
        target,
        place,
        builder,
        metrics,
    });
    let controller = controller(&operator, run.namespace.as_deref());
    let store = controller.store();
    let sweeper = operator.clone();
    let sweep = async move {
        loop {
            tokio::time::sleep(SWEEP).await;
            let there: HashSet<String> =
                store.state().iter().filter_map(|object| object.metadata.uid.clone()).collect();
            sweeper.sweep(&there).await;
        }
    };
    let looks = controller
        .reconcile_on(stream::poll_fn(move |context| knocked.poll_recv(context)))
        .run(reconcile::reconcile, reconcile::after, operator)
        .for_each(|looked| async move {
            // A resource that is gone, or a watch that is begun again; failures of looks are told where they are seen.
            if let Err(kube::runtime::controller::Error::QueueError(error)) = looked {
                tell(Weight::Warning, "watch", &with_causes(&error));
            }
        });
    tokio::select! {
        () = looks => {}
        () = sweep => {}
        () = leadership.held() => return Err(Error::Broken("another operator has the lease".to_owned())),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    leadership.release().await;
    Ok(())
}

/// Watches the resources, and what is theirs.
fn controller(operator: &Operator, namespace: Option<&str>) -> Controller<DynamicObject> {
    let of = |cluster: &Cluster, kind: &ApiResource| match namespace {
        Some(namespace) => Api::namespaced_with(cluster.client().clone(), namespace, kind),
        None => Api::all_with(cluster.client().clone(), kind),
    };
    let kind = operator.definition.resource();
    let ours = watcher::Config::default().labels(&format!("{}=true", operator.definition.key("operated")));
    let [deployments, jobs] = Cluster::watched();
    let resources = of(&operator.home, &kind);
    let mut controller = Controller::new_with(resources, watcher::Config::default(), kind)
        .with_config(Config::default().concurrency(AT_ONCE));
    if operator.place == Place::Same {
        let theirs = of(&operator.target, &deployments);
        controller = controller.owns_with(theirs, deployments, ours.clone());
    }
    if matches!(operator.builder, Builder::Jobs(_)) {
        let theirs = of(&operator.home, &jobs);
        controller = controller.owns_with(theirs, jobs, ours);
    }
    controller
}

/// The `ekiben` that lies beside this program.
fn beside() -> Result<PathBuf, Error> {
    let own = std::env::current_exe()?;
    Ok(own.parent().unwrap_or(Path::new("/")).join("ekiben"))
}
