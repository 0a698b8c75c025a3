//! `ekiben audit`

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::inputs::Inputs;
use super::printer::{DIM, ERROR, NAME, Report, VERB, WARNING, dim_time, plain};
use super::{Context, Exit, Failure, completions};
use crate::build::audit::{self, Audited, Place, Subject};
use crate::formats::document::shown;
use crate::formats::osv::{self, Finding, Ignored, Severity};
use crate::image::oci::platform::Platform;
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben audit --db osv/PyPI/all.zip --db osv/Debian/all.zip\n\
\x20 ekiben audit iris:1.0 --db https://mirror.example/osv/PyPI/all.zip --fail-on high\n\
\x20 ekiben audit iris.spdx.json --db debian-tracker.json --format sarif > audit.sarif";

/// Find known vulnerabilities of exactly the packages in a lock or an image, by databases that you have
///
/// Databases are exports of OSV (all.zip of an ecosystem, a folder, one file) and the JSON of Debian's security tracker. They are
/// read whole, so that nobody learns what is looked for, and nothing else is asked over the network. Of a project or a bundle the
/// lock is looked at, and nothing is built, unless commands were executed for it.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    databases: Databases,
    /// How findings are written.
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
    /// Fail (with 4) where something is found that is so bad, or worse; `any` also where nobody says how bad it is.
    #[arg(long, value_enum, value_name = "SEVERITY")]
    fail_on: Option<Threshold>,
    /// What is not told of, a line each: `CVE-2024-1 in numpy until 2027-01-31: why`. The words with `in` and `until` may be left
    /// out, the reason may not.
    #[arg(long, value_name = "FILE")]
    ignore: Option<PathBuf>,
    /// Which image of several.
    #[arg(long, add = completions::platforms())]
    platform: Option<Platform>,
}

/// Where databases are.
#[derive(clap::Args)]
#[group(skip)]
pub struct Databases {
    /// A database: a file, a folder, or an address; may be repeated.
    #[arg(long = "db", env = "EKIBEN_AUDIT_DB", value_delimiter = ',', value_name = "FILE|DIR|URL", required = true)]
    databases: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people; with --output json as that says.
    Table,
    /// One JSON document.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
}

/// From where on something is too bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Threshold {
    Any,
    Low,
    Medium,
    High,
    Critical,
}

impl Threshold {
    fn severity(self) -> Severity {
        match self {
            Self::Any => Severity::Unknown,
            Self::Low => Severity::Low,
            Self::Medium => Severity::Medium,
            Self::High => Severity::High,
            Self::Critical => Severity::Critical,
        }
    }
}

#[derive(Serialize)]
struct AuditReport {
    subject: String,
    #[serde(flatten)]
    audited: Audited,
    ignored: Vec<IgnoredFinding>,
    #[serde(skip)]
    seconds: String,
}

#[derive(Serialize)]
struct IgnoredFinding {
    #[serde(flatten)]
    finding: Finding,
    why: Ignored,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let Args { inputs, databases: Databases { databases }, format, fail_on, ignore, platform } = args;
    let lines = ignore.as_deref().map(read).transpose()?.unwrap_or_default();
    let session = context.session()?;
    let subject = audit::subject(&session, inputs.request(context)?, platform, context)?;
    let started = Instant::now();
    let mut audited = audit::audit(&session, &subject, &databases)?;
    say_what_is_unknown(context, &audited);
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let (findings, ignored, over) = osv::without(audited.findings, &lines, today);
    audited.findings = findings;
    over.iter().for_each(|line| context.printer.warn(&format!("`{line}` has run out: it is told of again")));
    let is_too_bad = fail_on.is_some_and(|least| audited.findings.iter().any(|one| one.severity >= least.severity()));
    let Subject { name, file, .. } = subject;
    if format == Format::Sarif {
        let place = file.as_deref().map_or_else(|| name.clone(), shown);
        context.printer.raw(format!("{:#}\n", osv::sarif(&audited.findings, &place)).as_bytes())?;
    } else {
        let ignored = ignored.into_iter().map(|(finding, why)| IgnoredFinding { finding, why }).collect();
        let report = AuditReport { subject: name, audited, ignored, seconds: dim_time(started.elapsed()) };
        match format {
            Format::Json => context.printer.raw(format!("{:#}\n", serde_json::json!(report)).as_bytes())?,
            _ => context.printer.report(&report)?,
        }
    }
    Ok(if is_too_bad { Exit::Error(ErrorKind::Mismatch) } else { Exit::Success })
}

fn read(path: &Path) -> Result<Vec<Ignored>, Failure> {
    let text = fs_err::read_to_string(path)?;
    osv::ignored(&text).map_err(|error| {
        let explanation = ErrorKind::Invalid.named("audit/ignore");
        Failure::new(explanation, format!("{}: {error}", shown(path)))
    })
}

/// Nobody should take what was not looked for as well.
pub fn say_what_is_unknown(context: &Context, audited: &Audited) {
    if !audited.unknown.is_empty() {
        let what = audited.unknown.join(", ");
        context.printer.warn(&format!("no database has a record of {what}: packages from there were not judged"));
    }
    if audited.passed > 0 {
        let count = audited.passed;
        context.printer.warn(&format!("{count} packages are of systems whose versions are not compared here"));
    }
}

/// A line of what was found.
pub fn row(out: &mut dyn Write, finding: &Finding, width: (usize, usize)) -> io::Result<()> {
    const LONGEST: usize = 70;
    let Finding { package, version, id, severity, fixed, summary, .. } = finding;
    let style = match severity {
        Severity::Critical | Severity::High => ERROR,
        Severity::Medium => WARNING,
        Severity::Low | Severity::Unknown => DIM,
    };
    let (names, ids) = width;
    let named = format!("{} {}", plain(package), plain(version));
    let fixed = fixed
        .as_ref()
        .map_or_else(|| format!("{DIM}none yet{DIM:#}"), |fixed| format!("{VERB}{}{VERB:#}", plain(fixed)));
    let line: String = summary.as_deref().map(plain).unwrap_or_default().chars().take(LONGEST).collect();
    writeln!(
        out,
        "  {style}{severity:<8}{style:#} {NAME}{named:<names$}{NAME:#}  {:<ids$}  fixed: {fixed}",
        plain(id)
    )?;
    if !line.is_empty() {
        writeln!(out, "           {DIM}{line}{DIM:#}")?;
    }
    Ok(())
}

/// How wide names and identifiers are.
pub fn width(findings: &[Finding]) -> (usize, usize) {
    let most = |of: fn(&Finding) -> usize| findings.iter().map(of).max().unwrap_or_default().min(50);
    (most(|one| one.package.chars().count() + one.version.chars().count() + 1), most(|one| one.id.chars().count()))
}

impl Report for AuditReport {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { subject, audited, ignored, seconds } = self;
        let width = width(&audited.findings);
        audited.findings.iter().try_for_each(|finding| row(out, finding, width))?;
        let count =
            |number: usize, what: &str, more: &str| format!("{number} {}", if number == 1 { what } else { more });
        let packages = count(audited.packages, "package", "packages");
        if audited.findings.is_empty() {
            writeln!(out, "{VERB}no known vulnerability{VERB:#} in {packages} of {} {seconds}", plain(subject))?;
        } else {
            let all = [Severity::Critical, Severity::High, Severity::Medium, Severity::Low, Severity::Unknown];
            let by =
                all.map(|severity| (audited.findings.iter().filter(|one| one.severity == severity).count(), severity));
            let by =
                by.iter().filter(|(number, _)| *number > 0).map(|(number, severity)| format!("{number} {severity}"));
            let total = count(audited.findings.len(), "vulnerability", "vulnerabilities");
            let by = by.collect::<Vec<_>>().join(", ");
            writeln!(out, "\n{ERROR}{total}{ERROR:#} in {packages} of {}: {by} {seconds}", plain(subject))?;
        }
        for IgnoredFinding { finding, why } in ignored {
            writeln!(
                out,
                "{DIM}ignored: {} in {}: {}{DIM:#}",
                plain(&finding.id),
                plain(&finding.package),
                plain(why.reason())
            )?;
        }
        let newest =
            audited.newest.as_ref().map(|newest| format!(", the newest of {}", plain(newest))).unwrap_or_default();
        writeln!(out, "{DIM}by {}{newest}{DIM:#}", count(audited.records, "record", "records"))
    }
}
