//! `ekiben lock`

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::audit::say_what_is_unknown;
use super::printer::{NAME, Report, plain};
use super::{Context, Exit, Failure, inputs};
use crate::build::audit::{self, Change, Place, Subject as Audited};
use crate::build::built::Watch as _;
use crate::build::resolve::{Moved, Renewal, Subject};
use crate::build::{commands, workflow};
use crate::formats::diagnostic::Diagnostics;
use crate::formats::osv::Finding;
use crate::image::oci::platform::Platform;
use crate::image::session::Session;
use crate::project::Project;
use crate::project::lock;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben lock\n\
\x20 ekiben lock --update\n\
\x20 ekiben lock --update --audit-db osv/PyPI/all.zip\n\
\x20 ekiben lock --upgrade-models\n\
\x20 ekiben lock --check        in CI: fail when the lock does not fit";

/// Resolve a project's packages and write them to `ekiben.lock`, each by digest
///
/// Commit the lock: the same lock builds the same image, on any machine, on any day. Versions stay as they are while
/// they still meet the manifest; `--update` takes the newest.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A project's folder, or its manifest.
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
    /// Take the newest versions of everything.
    #[arg(long)]
    update: bool,
    /// With --update: say which known vulnerabilities go and come with it, by a database as `ekiben audit` reads it; may be
    /// repeated.
    #[arg(long, env = "EKIBEN_AUDIT_DB", value_delimiter = ',', value_name = "FILE|DIR|URL")]
    audit_db: Vec<Place>,
    /// Take up what is now at the addresses of the model's files.
    #[arg(long)]
    upgrade_models: bool,
    /// Write nothing; fail when the lock is missing or does not fit.
    #[arg(long, conflicts_with_all = ["update", "upgrade_models"])]
    check: bool,
    #[command(flatten)]
    pins: inputs::Pins,
    #[command(flatten)]
    commands: inputs::Commands,
}

#[derive(Serialize)]
struct Locked {
    path: PathBuf,
    lock: lock::Lock,
    /// What the new versions do to known vulnerabilities, where databases were named.
    #[serde(skip_serializing_if = "Option::is_none")]
    vulnerabilities: Option<Change>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let project = workflow::project(&inputs::meant(context, args.path)?, context)?;
    let renewal = match (args.update, args.check) {
        (true, _) => Renewal::Always,
        (_, true) => Renewal::Never,
        _ => Renewal::IfNeeded,
    };
    let moved = if args.upgrade_models { Moved::IsTaken } else { Moved::Stays };
    let commands = commands::request(&project.manifest, args.commands.request());
    let subject = Subject { moved, relax: args.pins.relax_pins, commands, ..Subject::of(&project) };
    let path = project.root.join(lock::NAME);
    let is_asked = args.update && !args.audit_db.is_empty();
    let before = lock::Lock::load(&path, &mut Diagnostics::new()).filter(|_| is_asked && path.exists());
    let lock = workflow::lock(&session, &subject, renewal, &|_, _, _| Ok(()), context)?;
    let files = project.files.model.iter().map(|file| file.path.as_str());
    workflow::tell_relaxed(&session, &lock, files);
    if moved == Moved::Stays && !session.client.is_offline() {
        context.diagnostics(&workflow::moved(&session, &project, &lock)?);
    }
    let change = before.map(|before| change(context, &session, &project, [&before, &lock], &args.audit_db));
    let vulnerabilities = change.transpose()?;
    context.printer.report(&Locked { path, lock, vulnerabilities })?;
    Ok(Exit::Success)
}

/// Looks what the second of two locks does to what is known of the first, and says it.
fn change(
    context: &Context,
    session: &Session,
    project: &Project,
    locks: [&lock::Lock; 2],
    databases: &[Place],
) -> Result<Change, Failure> {
    let mut found = Vec::new();
    for lock in locks {
        let host = Platform::host().ok().filter(|host| lock.platforms.contains_key(host));
        let platform = host.or_else(|| lock.platforms.keys().next().copied()).map_or_else(Platform::host, Ok)?;
        let (packages, system) = audit::locked(session, &project.manifest, lock, platform)?;
        let subject = Audited { name: project.manifest.name.clone(), file: None, system, packages };
        let audited = audit::audit(session, &subject, databases)?;
        if found.is_empty() {
            say_what_is_unknown(context, &audited);
        }
        found.push(audited.findings);
    }
    let (after, before) = (found.pop().unwrap_or_default(), found.pop().unwrap_or_default());
    let change = Change::of(before, after);
    let say = |verb: &str, all: &[Finding]| {
        for Finding { id, severity, package, version, .. } in all {
            context.printer.status(verb, format!("{NAME}{}{NAME:#} ({severity}) of {package} {version}", plain(id)));
        }
    };
    say("Gone", &change.gone);
    say("Came", &change.came);
    say("Stays", &change.stays);
    Ok(change)
}

impl Report for Locked {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.path.display())
    }
}
