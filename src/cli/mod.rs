//! The command line: one file per command, each an `Args` whose doc comments are the help, and a function that makes
//! one call into the library and one presentation of what came out. All output goes through the [`printer`].

mod attest;
mod audit;
mod batch;
mod build;
mod completions;
mod convert;
mod copy;
mod data;
mod deploy;
mod df;
mod dockerfile;
mod doctor;
mod ensure;
mod exec;
mod explain;
mod export;
mod failure;
mod fetch;
mod follow;
mod images;
mod init;
mod inputs;
mod inspect;
mod invoke;
mod itself;
mod key;
mod lock;
mod login;
mod logout;
mod logs;
mod metadata;
mod operator;
mod pack;
mod policy;
pub mod printer;
mod prune;
mod ps;
mod pull;
mod push;
mod reload;
mod rm;
mod rmi;
mod run;
mod running;
mod sbom;
mod schema;
mod serve;
mod shell;
mod sign;
mod signing;
mod stop;
mod tag;
mod test;
mod train;
mod typed;
mod unpack;
mod validate;
mod verify;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::image::session::{Making, Session};
use crate::image::store::Store;
use crate::io::explain::ErrorKind;
use crate::io::http::{Client, Network, Settings};
use crate::io::progress::Progress;
use crate::io::suggest::closest;
use failure::{Exit, Failure};
use printer::{Output, Printer, Verbosity};

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Pack AI models, build images from them without Docker, run them and test them.
#[derive(Parser)]
#[command(
    name = "ekiben",
    version,
    styles = STYLES,
    max_term_width = 100,
    after_long_help = concat!(
        "The usual way:\n",
        "  ekiben init --from model.pkl     a project from what is already there\n",
        "  ekiben validate                  find mistakes, in milliseconds\n",
        "  ekiben test                      build, run, and compare the answers with those expected\n",
        "  ekiben invoke . -d '{\"x\": 2}'    build, run, and ask once\n",
        "  ekiben build -t iris:1.0         an OCI image\n",
        "  ekiben push iris:1.0 HOST/iris   to a registry: only what it lacks moves\n",
        "  ekiben export iris:1.0 iris.tar  for docker load, podman load or skopeo\n\n",
        "Exit codes:\n",
        "  0  all is well            4  an answer or metadata is not as expected\n",
        "  1  something failed       5  the network, a mirror or a registry failed\n",
        "  2  wrong usage            6  no container can be started here\n",
        "  3  a document is invalid  7  the lock does not fit\n",
        "                            8  a signature or a policy says no"
    )
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of all commands.
#[derive(Args)]
struct Global {
    /// How results are written.
    #[arg(long, global = true, value_parser = formats(), default_value = "human", help_heading = "Global options")]
    output: Format,
    /// Say nothing but results, warnings and errors.
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    quiet: bool,
    /// Say also why things are done.
    #[arg(long, short, global = true, help_heading = "Global options")]
    verbose: bool,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value = "auto", help_heading = "Global options")]
    color: clap::ColorChoice,
    /// Use no network: what is not in the cache is an error.
    #[arg(long, global = true, env = "EKIBEN_OFFLINE", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Global options")]
    offline: bool,
    /// A file with certificates of authorities to trust beside the system's; may be repeated.
    #[arg(
        long,
        global = true,
        env = "EKIBEN_CA",
        value_delimiter = ':',
        value_name = "FILE",
        help_heading = "Global options"
    )]
    ca: Vec<PathBuf>,
    /// A registry (HOST[:PORT]) to speak to without TLS; may be repeated.
    #[arg(
        long,
        global = true,
        env = "EKIBEN_PLAIN_HTTP",
        value_delimiter = ',',
        value_name = "HOST",
        help_heading = "Global options"
    )]
    plain_http: Vec<String>,
}

/// How results are written. All but two are `validate`'s alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Human,
    /// One JSON document on stdout.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// Annotations of GitHub's workflows.
    Github,
    /// A report of code quality, for GitLab's merge requests.
    Gitlab,
    /// A JUnit report.
    Junit,
}

impl Format {
    /// How the printer goes about it: only people get bars and colours.
    fn output(self) -> Output {
        if self == Self::Human { Output::Human } else { Output::Json }
    }
}

/// The two that every command writes; the others are for `validate`, which has an option of its own.
fn formats() -> impl clap::builder::TypedValueParser<Value = Format> {
    use clap::ValueEnum as _;
    use clap::builder::{EnumValueParser, PossibleValue};
    #[derive(Clone)]
    struct Two(EnumValueParser<Format>);
    impl clap::builder::TypedValueParser for Two {
        type Value = Format;
        fn parse_ref(
            &self,
            command: &clap::Command,
            argument: Option<&clap::Arg>,
            value: &std::ffi::OsStr,
        ) -> Result<Format, clap::Error> {
            use clap::error::{ContextKind, ContextValue};
            self.0.parse_ref(command, argument, value).map_err(|mut error| {
                let two = self.possible_values().into_iter().flatten().map(|value| value.get_name().to_owned());
                error.insert(ContextKind::ValidValue, ContextValue::Strings(two.collect()));
                error
            })
        }
        fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
            let two = [Format::Human, Format::Json];
            Some(Box::new(two.into_iter().filter_map(|format| format.to_possible_value())))
        }
    }
    Two(EnumValueParser::new())
}

#[derive(Subcommand)]
enum Command {
    Init(init::Args),
    Convert(convert::Args),
    Validate(validate::Args),
    Lock(lock::Args),
    Pack(pack::Args),
    Unpack(unpack::Args),
    Build(build::Args),
    Run(run::Args),
    Serve(serve::Args),
    Test(test::Args),
    Invoke(invoke::Args),
    Batch(batch::Args),
    Train(train::Args),
    Data(data::Args),
    Inspect(inspect::Args),
    Sbom(sbom::Args),
    Audit(audit::Args),
    Images(images::Args),
    Tag(tag::Args),
    Push(push::Args),
    Pull(pull::Args),
    Copy(copy::Args),
    Key(key::Args),
    Sign(sign::Args),
    Verify(verify::Args),
    Ensure(ensure::Args),
    Deploy(Box<deploy::Args>),
    Fetch(fetch::Args),
    Follow(Box<follow::Args>),
    Operator(operator::Args),
    Login(login::Args),
    Logout(logout::Args),
    Export(export::Args),
    Ps(ps::Args),
    Logs(logs::Args),
    Exec(exec::Args),
    Shell(shell::Args),
    Stop(stop::Args),
    Rm(rm::Args),
    Rmi(rmi::Args),
    Df(df::Args),
    Doctor(doctor::Args),
    Prune(prune::Args),
    Metadata(metadata::Args),
    #[command(name = "self")]
    Itself(itself::Args),
    Schema(schema::Args),
    Explain(explain::Args),
    Completions(completions::Args),
}

impl Command {
    /// Whether it may be about files below the current folder.
    fn names_files(&self) -> bool {
        !matches!(
            self,
            Self::Images(_)
                | Self::Tag(_)
                | Self::Pull(_)
                | Self::Copy(_)
                | Self::Operator(_)
                | Self::Login(_)
                | Self::Logout(_)
                | Self::Ps(_)
                | Self::Logs(_)
                | Self::Exec(_)
                | Self::Shell(_)
                | Self::Stop(_)
                | Self::Rm(_)
                | Self::Rmi(_)
                | Self::Df(_)
                | Self::Doctor(_)
                | Self::Prune(_)
                | Self::Itself(_)
                | Self::Schema(_)
                | Self::Explain(_)
                | Self::Completions(_)
        )
    }
}

/// What a command gets: where to print, and how to reach the store.
#[derive(Clone)]
struct Context {
    printer: Printer,
    network: Settings,
}

impl Context {
    /// Opens the store, which waits while another process prunes it.
    fn session(&self) -> Result<Session, Failure> {
        let store = Store::open(&Store::default_root()?)?;
        Ok(Session { store, progress: self.progress(), client: self.client(), making: Making::Compressed })
    }

    /// The same for who only looks at what is there: none where there is no store, which is not made for it.
    fn session_if_any(&self) -> Result<Option<Session>, Failure> {
        if Store::is_at(&Store::default_root()?) { self.session().map(Some) } else { Ok(None) }
    }

    /// Where events go.
    fn progress(&self) -> Progress {
        Progress::new(Arc::new(self.printer.clone()))
    }

    /// The way to the network.
    fn client(&self) -> Client {
        Client::with(self.network.clone()).telling(self.progress())
    }

    /// The same for those who run what they build: layers are compressed when somebody else needs them.
    fn session_for_running(&self) -> Result<Session, Failure> {
        Ok(Session { making: Making::Unpacked, ..self.session()? })
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    // A shell asks what may come next.
    completions::answer();
    let cli = Cli::try_parse().unwrap_or_else(|error| with_similar_only(error).exit());
    let Global { output, quiet, verbose, color, offline, ca, plain_http } = cli.global;
    let verbosity = match (quiet, verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    if output != Format::Human && output != Format::Json && !matches!(cli.command, Command::Validate(_)) {
        let text = "only `ekiben validate` writes sarif, github, gitlab and junit";
        command().error(clap::error::ErrorKind::InvalidValue, text).exit();
    }
    let network = if offline { Network::Offline } else { Network::Online };
    let network = Settings { network, ca, plain_http };
    let context = Context { printer: Printer::new(output.output(), verbosity, color), network };
    let is_gone = std::env::current_dir().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    if is_gone && cli.command.names_files() {
        let explanation = ErrorKind::Failure.named("io/not-found").hint("go to another one with `cd`");
        return Failure::new(explanation, "the current folder is gone").present(&context.printer).leave();
    }
    let result = match cli.command {
        Command::Init(args) => init::run(&context, args),
        Command::Convert(args) => convert::run(&context, args),
        Command::Validate(args) => validate::run(&context, args),
        Command::Lock(args) => lock::run(&context, args),
        Command::Pack(args) => pack::run(&context, args),
        Command::Unpack(args) => unpack::run(&context, args),
        Command::Build(args) => build::run(&context, args),
        Command::Run(args) => run::run(&context, args),
        Command::Serve(args) => serve::run(&context, args),
        Command::Test(args) => test::run(&context, args),
        Command::Invoke(args) => invoke::run(&context, args),
        Command::Batch(args) => batch::run(&context, args),
        Command::Train(args) => train::run(&context, args),
        Command::Data(args) => data::run(&context, args),
        Command::Inspect(args) => inspect::run(&context, args),
        Command::Sbom(args) => sbom::run(&context, args),
        Command::Audit(args) => audit::run(&context, args),
        Command::Images(args) => images::run(&context, args),
        Command::Tag(args) => tag::run(&context, args),
        Command::Push(args) => push::run(&context, args),
        Command::Pull(args) => pull::run(&context, args),
        Command::Copy(args) => copy::run(&context, args),
        Command::Key(args) => key::run(&context, args),
        Command::Sign(args) => sign::run(&context, args),
        Command::Verify(args) => verify::run(&context, args),
        Command::Ensure(args) => ensure::run(&context, args),
        Command::Deploy(args) => deploy::run(&context, *args),
        Command::Fetch(args) => fetch::run(&context, args),
        Command::Follow(args) => follow::run(&context, *args),
        Command::Operator(args) => operator::run(args),
        Command::Login(args) => login::run(&context, args),
        Command::Logout(args) => logout::run(&context, args),
        Command::Export(args) => export::run(&context, args),
        Command::Ps(args) => ps::run(&context, args),
        Command::Logs(args) => logs::run(&context, args),
        Command::Exec(args) => exec::run(&context, args),
        Command::Shell(args) => shell::run(&context, args),
        Command::Stop(args) => stop::run(&context, args),
        Command::Rm(args) => rm::run(&context, args),
        Command::Rmi(args) => rmi::run(&context, args),
        Command::Df(args) => df::run(&context, args),
        Command::Doctor(args) => doctor::run(&context, args),
        Command::Prune(args) => prune::run(&context, args),
        Command::Metadata(args) => metadata::run(&context, args),
        Command::Itself(args) => itself::run(&context, args),
        Command::Schema(args) => schema::run(&context, args),
        Command::Explain(args) => explain::run(&context, args),
        Command::Completions(args) => completions::run(&context, args),
    };
    let exit = match result {
        Ok(exit) => {
            context.printer.say_kept();
            exit
        }
        Err(failure) => failure.present(&context.printer),
    };
    exit.leave()
}

/// What other tools call a command that is here.
const ELSEWHERE: [(&str, &str); 7] = [
    ("clean", "prune"),
    ("gc", "prune"),
    ("list", "images"),
    ("ls", "images"),
    ("new", "init"),
    ("scan", "audit"),
    ("start", "run"),
];

/// The error with what is meant, where that is known, and without what it calls similar, where that is not: clap compares by letters
/// in common, wherever they stand.
fn with_similar_only(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue};
    // An option that is none is hardly ever a value, but for a program that is started.
    let starts = |usage: String| ["ekiben run ", "ekiben exec "].iter().any(|command| usage.contains(command));
    if !error.get(ContextKind::Usage).is_some_and(|usage| starts(usage.to_string())) {
        error.remove(ContextKind::Suggested);
    }
    if let Some(ContextValue::String(written)) = error.get(ContextKind::InvalidSubcommand)
        && let Some((_, here)) = ELSEWHERE.iter().find(|(known, _)| known == written)
    {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![(*here).to_owned()]));
        return error;
    }
    let text = |error: &clap::Error, kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.trim_start_matches('-').to_owned()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    for (written, suggested) in [
        (ContextKind::InvalidArg, ContextKind::SuggestedArg),
        (ContextKind::InvalidSubcommand, ContextKind::SuggestedSubcommand),
        (ContextKind::InvalidValue, ContextKind::SuggestedValue),
    ] {
        let Some((written, near)) = text(&error, written).zip(text(&error, suggested)) else { continue };
        if !near.starts_with(&written) && closest(&written, [near.as_str()]).is_none() {
            error.remove(suggested);
        }
    }
    error
}

/// The whole command-line interface, for completions and for the reference in the documentation.
fn command() -> clap::Command {
    Cli::command()
}
