//! `ekiben inspect`

mod address;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::printer::{DIM, HINT, NAME, Report, Size, VERB, dim_time, plain};
use super::{Context, Exit, Failure, Output, completions, pull, watch};
use crate::base::BaseName;
use crate::base::python::{self, Group, Large};
use crate::build::adopt;
use crate::build::afar;
use crate::build::dockerfile;
use crate::build::input::{self, Input};
use crate::build::workflow;
use crate::bundle::import::bento::{Bento, Recipe};
use crate::bundle::{Bundle, Hashing};
use crate::check::target::Target;
use crate::formats::document::Written;
use crate::formats::python::PythonVersion;
use crate::image::layer::Layer;
use crate::image::oci::platform::Platform;
use crate::image::registry::{Reference, Registries};
use crate::image::session::Session;
use crate::image::sign::{Beside, Place};
use crate::image::store::{self, ImageName, ImageRecord};
use crate::image::{Image, remote};
use crate::io::digest::Digest;
use crate::io::explain::{ErrorKind, quoted, with_causes};
use crate::project::lock::{self, Lock};
use crate::project::manifest::{Manifest, Requirements};
use address::AddressReport;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben inspect iris:1.0\n\
\x20 ekiben inspect iris-1.0.ekiben --verify\n\
\x20 ekiben inspect registry.example/iris:1.0 --platform linux/arm64\n\
\x20 ekiben inspect models:/iris@champion\n\
\x20 ekiben inspect iris:1.0 --output json | jq '.layers[].digest'";

/// Show what is in a bundle, an image, or a model at an address: sizes, what is shared, how it starts
///
/// An image that is not in the local store is looked at in its registry, and not pulled. What is shown comes from an index
/// or from manifests: whether the content is what those say is told by --verify alone. Where parts are missing, or have
/// another size, that is an error always.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A bundle's file, a bento (file, folder or bento:NAME:VERSION), the name of an image in the local store, an image in a
    /// registry, or where a model lies: models:/…, runs:/…, s3://…, hf://…, oci://…, https://…, a folder that MLflow wrote. Of that
    /// no weights are fetched.
    #[arg(value_name = "BUNDLE|BENTO|IMAGE|ADDRESS", add = completions::inputs())]
    target: String,
    /// Read every byte, and fail where one is not as it was: a member of a bundle, or a layer of an image.
    #[arg(long)]
    verify: bool,
    /// Which image of several in a registry.
    #[arg(long, add = completions::platforms())]
    platform: Option<Platform>,
}

#[derive(Serialize)]
struct ImageReport {
    name: ImageName,
    digest: Digest,
    platform: Platform,
    size: u64,
    /// Whether every byte was read, and is the one that it was.
    verified: bool,
    layers: Vec<LayerReport>,
    /// The Python packages that have a layer of their own, the largest first.
    packages: Vec<Large>,
    entrypoint: Vec<String>,
    command: Vec<String>,
    user: Option<String>,
    env: Vec<String>,
    ports: Vec<String>,
    annotations: BTreeMap<String, String>,
    /// How many commands of Dockerfiles were executed for it, where any was.
    #[serde(skip_serializing_if = "Option::is_none")]
    executed: Option<u64>,
    /// What lies beside it, as that says itself: signatures, lists of what is in it. `ekiben verify` verifies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    beside: Vec<Beside>,
}

#[derive(Serialize)]
struct LayerReport {
    #[serde(flatten)]
    layer: Layer,
    /// Other images in the store that have the layer.
    shared_with: Vec<ImageName>,
}

#[derive(Serialize)]
struct BundleReport {
    path: PathBuf,
    name: String,
    version: String,
    /// None for a bento that Ekiben did not pack: what its requirements resolve to is not in it.
    digest: Option<Digest>,
    /// Whether every byte was read, and is the one that was packed. A bento has nothing to verify it by but its archive's
    /// own checksums.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<bool>,
    /// What its image is made of; only of a bento that Ekiben did not pack.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<ImageOf>,
    members: Vec<MemberReport>,
    /// What a build would fetch, and is in the bundle (`ekiben pack --vendor`).
    vendored: Vendored,
    layers: Vec<LayerReport>,
    /// Those of the lock's Python packages that are large and can be done without.
    packages: Vec<Large>,
}

/// How much is in a bundle of what a build would fetch.
#[derive(Serialize)]
struct Vendored {
    files: usize,
    /// In bytes.
    size: u64,
}

/// What a bento says of its image.
#[derive(Serialize)]
struct ImageOf {
    base: Written<BaseName>,
    python: Option<Written<PythonVersion>>,
    requirements: Vec<String>,
    system: Vec<String>,
    env: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

impl From<Manifest> for ImageOf {
    fn from(manifest: Manifest) -> Self {
        let python = manifest.python.unwrap_or_default();
        let requirements = match python.requirements {
            Requirements::List(list) => list,
            Requirements::File(file) => vec![format!("-r {file}")],
        };
        Self {
            base: manifest.base,
            python: python.version,
            requirements,
            system: manifest.system.packages.words().map(str::to_owned).collect(),
            env: manifest.env,
            labels: manifest.labels,
        }
    }
}

#[derive(Serialize)]
struct MemberReport {
    path: String,
    size: u64,
    /// None for weights, which their layers verify.
    digest: Option<Digest>,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let path = PathBuf::from(&args.target);
    let target = Target::of(&path)?;
    if let Target::Model(at) = &target {
        let afar = afar::look(&session, at).map_err(adopt::Error::from)?;
        if context.printer.output() == Output::Human {
            watch::show(context, &afar.diagnostics);
        }
        let is_well = !afar.diagnostics.has_errors();
        context.printer.report(&AddressReport::new(afar))?;
        return Ok(if is_well { Exit::Success } else { Exit::Error(ErrorKind::Invalid) });
    }
    if let Target::Archive(path) = &target {
        let explanation = ErrorKind::Usage.named("inspect/archive").hint(format!(
            "`ekiben init --from {} NEW-FOLDER` shows what it becomes",
            quoted(&path.display().to_string())
        ));
        return Err(Failure::new(explanation, "an archive with a manifest.json is no image and no bundle yet"));
    }
    if let Target::Bento(found) = target {
        if args.verify {
            let explanation = ErrorKind::Usage
                .named("bento/no-digests")
                .hint("its archive's own checksums are verified when it is unpacked, which is done");
            return Err(Failure::new(explanation, "a bento has no digests to verify"));
        }
        context.printer.report(&bento(context, &session, path, &found)?)?;
    } else if path.is_file() {
        context.printer.report(&bundle(context, &session, path, args.verify)?)?;
    } else {
        let (reference, name) = pull::parse(&args.target)?;
        // What names a registry is not something like it here, but what it says.
        let record = match args.target.parse() {
            Ok(query) if !Reference::names_registry(&args.target) => workflow::find(&session.store, &query),
            _ => session.store.image(&name),
        };
        let (digest, name, found, place, top) = match record {
            Err(store::Error::NoImage { .. }) if Reference::names_registry(&args.target) => {
                let platform = args.platform.map_or_else(Platform::host, Ok)?;
                let (top, image) = remote::find(&session, &reference, platform)?;
                let place = Place::Registry(Registries::new(&session).repository(&reference));
                (image.save(&session.store)?.0, name, image, place, top)
            }
            record => {
                let (ImageRecord { name, digest, .. }, image) = Image::handed_on(&session, record?)?;
                (digest, name, image, Place::Store(session.store.clone()), digest)
            }
        };
        found.check_sizes(&session.store)?;
        if args.verify {
            let started = Instant::now();
            found.verify(&session.store, &session.progress)?;
            context.printer.status("Verified", format!("{} {}", Size(found.size()), dim_time(started.elapsed())));
        }
        let report = image(&session, name, digest, &found, args.verify)?;
        let subjects = if top == digest { vec![digest] } else { vec![top, digest] };
        let beside = match place.listed(&subjects) {
            Ok(beside) => beside,
            Err(error) => {
                context.printer.warn(&format!("what lies beside it cannot be listed: {}", with_causes(&error)));
                Vec::new()
            }
        };
        context.printer.report(&ImageReport { beside, ..report })?;
    }
    Ok(Exit::Success)
}

fn bundle(context: &Context, session: &Session, path: PathBuf, verify: bool) -> Result<BundleReport, Failure> {
    let bundle = Bundle::open(session, &path)?;
    bundle.check()?;
    if verify {
        let started = Instant::now();
        bundle.verify(session)?;
        context.printer.status("Verified", format!("{} {}", Size(bundle.bytes()), dim_time(started.elapsed())));
    }
    let digest = bundle.digest(session)?;
    Ok(BundleReport { verified: Some(verify), ..contents(session, path, &bundle, Some(digest), None)? })
}

/// A bento, and what its image is made of.
fn bento(context: &Context, session: &Session, path: PathBuf, found: &Path) -> Result<BundleReport, Failure> {
    let bento = Bento::open(session, found)?;
    if bento.own_manifest().is_some() {
        let bundle = Input::of_own_bento(session, &bento, Hashing::IfUnknown)?.bundle;
        let digest = bundle.digest(session)?;
        return contents(session, path, &bundle, Some(digest), None);
    }
    let (recipe, mistakes) = bento.describe(None);
    let Some(Recipe { manifest, .. }) = recipe else {
        return Err(workflow::Error::mistakes(found, &mistakes, context).into());
    };
    watch::show(context, &mistakes);
    let bundle = input::bento_bundle(session, &bento, &manifest, Hashing::IfUnknown)?;
    contents(session, path, &bundle, None, Some(ImageOf::from(manifest)))
}

fn contents(
    session: &Session,
    path: PathBuf,
    bundle: &Bundle,
    digest: Option<Digest>,
    image: Option<ImageOf>,
) -> Result<BundleReport, Failure> {
    let members = bundle.members().iter().map(|(path, member)| MemberReport {
        path: path.to_string(),
        size: member.content.size(),
        digest: Some(member.digest),
    });
    let place = bundle.places()?;
    let weights = bundle.weights().iter().map(|weight| MemberReport {
        path: place(&weight.path).to_string(),
        size: weight.content.size(),
        digest: None,
    });
    let members = members.chain(weights).collect();
    let shared = holders(session, None)?;
    Ok(BundleReport {
        name: bundle.name().to_owned(),
        version: bundle.version().to_owned(),
        digest,
        verified: None,
        image,
        members,
        vendored: Vendored { files: bundle.vendored().len(), size: bundle.vendored_bytes() },
        layers: layers(bundle.weight_layers(session)?, &shared),
        packages: locked(bundle),
        path,
    })
}

fn image(
    session: &Session,
    name: ImageName,
    digest: Digest,
    image: &Image,
    verified: bool,
) -> Result<ImageReport, Failure> {
    let shared = holders(session, Some(&name))?;
    let config = image.config();
    let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let mut ports = list(config.exposed_ports());
    ports.sort();
    Ok(ImageReport {
        digest,
        platform: image.platform(),
        size: image.size(),
        verified,
        layers: layers(image.layers(), &shared),
        packages: layered(image),
        entrypoint: list(config.entrypoint()),
        command: list(config.cmd()),
        user: config.user().clone(),
        env: list(config.env()),
        ports,
        annotations: image.annotations().clone(),
        executed: dockerfile::executed(image),
        beside: Vec::new(),
        name,
    })
}

/// The Python packages of an image that have layers of their own.
fn layered(image: &Image) -> Vec<Large> {
    let named = |layer: &Layer| {
        let (name, version) = Group::of_title(&layer.title)?;
        Some((name.to_owned(), version.to_owned(), Some(layer.size)))
    };
    python::large(&image.layers().iter().filter_map(named).collect::<Vec<_>>())
}

/// The Python packages in the lock of a bundle, as far as something avoids them. A bento that Ekiben did not pack has none.
/// A lock that cannot be read gives none: that is said by `--verify` and by `ekiben validate`, as of any content.
fn locked(bundle: &Bundle) -> Vec<Large> {
    let text = bundle.read(lock::NAME).ok();
    let Some(lock) = text.and_then(|text| serde_json::from_slice::<Lock>(&text).ok()) else { return Vec::new() };
    let packages = lock.platforms.into_values().flat_map(|platform| platform.python);
    python::large(&packages.map(|package| (package.name, package.version, None)).collect::<Vec<_>>())
}

/// Large packages, and once each what avoids them.
fn show_packages(out: &mut dyn Write, packages: &[Large]) -> io::Result<()> {
    const SHOWN: usize = 5;
    if packages.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nlargest Python packages")?;
    for Large { name, version, size, .. } in packages.iter().take(SHOWN) {
        let size = size.map(|size| Size(size).to_string()).unwrap_or_default();
        writeln!(out, "  {size:>8} {} {}", plain(name), plain(version))?;
    }
    if let Some(rest) = packages.get(SHOWN..).filter(|rest| !rest.is_empty()) {
        let bytes: u64 = rest.iter().filter_map(|large| large.size).sum();
        let size = if bytes > 0 { Size(bytes).to_string() } else { String::new() };
        writeln!(out, "  {size:>8} {DIM}in {} more{DIM:#}", rest.len())?;
    }
    let mut savings: Vec<_> = packages.iter().filter_map(|large| large.saving).collect();
    savings.sort_unstable();
    savings.dedup();
    savings.into_iter().try_for_each(|saving| writeln!(out, "{HINT}hint{HINT:#}: {saving}"))
}

/// Which images of the store, but for `except`, have a layer.
fn holders(session: &Session, except: Option<&ImageName>) -> Result<HashMap<Digest, Vec<ImageName>>, Failure> {
    let mut holders: HashMap<Digest, Vec<ImageName>> = HashMap::new();
    for record in session.store.images()? {
        if Some(&record.name) != except {
            for layer in Image::of_record(&session.store, &record)?.finished_before(&session.store).layers() {
                holders.entry(layer.digest).or_default().push(record.name.clone());
            }
        }
    }
    Ok(holders)
}

fn layers(layers: &[Layer], holders: &HashMap<Digest, Vec<ImageName>>) -> Vec<LayerReport> {
    let report = |layer: &Layer| LayerReport {
        layer: layer.clone(),
        shared_with: holders.get(&layer.digest).cloned().unwrap_or_default(),
    };
    layers.iter().map(report).collect()
}

/// Layers, the lowest first, each with a bar for its share of the size.
fn show_layers(out: &mut dyn Write, layers: &[LayerReport]) -> io::Result<()> {
    const BAR: usize = 12;
    let largest = layers.iter().map(|report| report.layer.size).max().unwrap_or_default().max(1);
    for LayerReport { layer, shared_with } in layers {
        // An eighth of a cell is the finest that a terminal draws.
        let eighths = (layer.size as f64 / largest as f64 * (BAR * 8) as f64).ceil() as usize;
        let mut bar = "█".repeat(eighths / 8);
        if let Some(part) = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"].get(eighths % 8) {
            bar.push_str(part);
        }
        let (size, digest, title) = (Size(layer.size), layer.digest.short(), &layer.title);
        writeln!(out, "  {size:>8} {NAME}{bar:<BAR$}{NAME:#} {title}  {DIM}{digest}{DIM:#}")?;
        if !shared_with.is_empty() {
            let names: Vec<_> = shared_with.iter().map(ToString::to_string).collect();
            writeln!(out, "  {:>8} {:BAR$} {DIM}shared with {}{DIM:#}", "", "", names.join(", "))?;
        }
    }
    Ok(())
}

/// What stands beside a digest: whether the bytes are those that it is of.
fn seal(verified: bool) -> &'static str {
    if verified { "verified" } else { "not verified" }
}

impl Report for ImageReport {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { name, digest, platform, size, .. } = self;
        writeln!(out, "{VERB}{name}{VERB:#}  {}  {platform}", Size(*size))?;
        writeln!(out, "{DIM}{digest}{DIM:#}  {}\n", seal(self.verified))?;
        show_layers(out, &self.layers)?;
        show_packages(out, &self.packages)?;
        writeln!(out)?;
        let mut row = |key: &str, value: String| match value.is_empty() {
            true => Ok(()),
            false => writeln!(out, "  {key:<8} {}", plain(&value)),
        };
        if let Some(commands) = self.executed {
            row("holds", format!("what commands have left: {commands} were executed for it"))?;
        }
        for (index, Beside { what, digest, .. }) in self.beside.iter().enumerate() {
            row(if index == 0 { "beside" } else { "" }, format!("{what}  {}", digest.short()))?;
        }
        row("starts", [self.entrypoint.join(" "), self.command.join(" ")].join(" ").trim().to_owned())?;
        row("user", self.user.clone().unwrap_or_default())?;
        row("ports", self.ports.join(", "))?;
        for (index, variable) in self.env.iter().enumerate() {
            row(if index == 0 { "env" } else { "" }, variable.clone())?;
        }
        Ok(())
    }
}

impl ImageOf {
    fn show(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut row = |key: &str, value: String| match value.is_empty() {
            true => Ok(()),
            false => writeln!(out, "  {key:<8} {}", plain(&value)),
        };
        row("base", self.base.to_string())?;
        row("python", self.python.as_ref().map(ToString::to_string).unwrap_or_default())?;
        row(
            "needs",
            self.requirements.iter().filter(|line| !line.starts_with('-')).cloned().collect::<Vec<_>>().join(", "),
        )?;
        row("system", self.system.join(", "))?;
        for (index, (name, value)) in self.env.iter().enumerate() {
            row(if index == 0 { "env" } else { "" }, format!("{name}={value}"))?;
        }
        for (index, (name, value)) in self.labels.iter().enumerate() {
            row(if index == 0 { "labels" } else { "" }, format!("{name}={value}"))?;
        }
        writeln!(out)
    }
}

impl Report for BundleReport {
    fn human(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{VERB}{} {}{VERB:#}  {}", self.name, self.version, self.path.display())?;
        match &self.digest {
            Some(digest) => {
                let seal = self.verified.map(|verified| format!("  {}", seal(verified))).unwrap_or_default();
                writeln!(out, "{DIM}{digest}{DIM:#}{seal}\n")?;
            }
            None => writeln!(out)?,
        }
        if let Some(image) = &self.image {
            image.show(out)?;
        }
        const SHOWN: usize = 100;
        for MemberReport { path, size, .. } in self.members.iter().take(SHOWN) {
            writeln!(out, "  {:>8} {path}", Size(*size))?;
        }
        let rest = self.members.get(SHOWN..).unwrap_or_default();
        if !rest.is_empty() {
            let bytes = rest.iter().map(|member| member.size).sum();
            writeln!(out, "  {:>8} {DIM}in {} more files{DIM:#}", Size(bytes), rest.len())?;
        }
        let Vendored { files, size } = &self.vendored;
        if *files > 0 {
            writeln!(out, "  {:>8} {DIM}in {files} files that a build would have fetched{DIM:#}", Size(*size))?;
        }
        if !self.layers.is_empty() {
            writeln!(out, "\nlayers of weights in an image")?;
            show_layers(out, &self.layers)?;
        }
        show_packages(out, &self.packages)
    }
}
