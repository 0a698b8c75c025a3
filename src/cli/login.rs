//! `ekiben login`

use std::io::{self, Read as _};

use super::{Context, Exit, Failure};
use crate::image::registry::{Credential, Registries};
use crate::io::explain::ErrorKind;

const EXAMPLES: &str = "Examples:\n\
\x20 ekiben login registry.example\n\
\x20 echo \"$TOKEN\" | ekiben login registry.example -u ci --password-stdin";

/// Log in to a registry; docker, podman and skopeo know then too
///
/// The registry is asked first. The credentials go to the helper that docker's configuration names, else into
/// `~/.docker/config.json` (or REGISTRY_AUTH_FILE). A password is never an argument, which others could see.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The registry: HOST[:PORT].
    #[arg(default_value = "docker.io")]
    registry: String,
    /// Who you are there; asked for without it.
    #[arg(long, short, value_name = "NAME")]
    username: Option<String>,
    /// Read the password from stdin.
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

/// Longest password, in bytes.
const LONGEST: u64 = 64 << 10;

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let session = context.session()?;
    let terminal = console::Term::stderr();
    let user = match args.username {
        Some(user) => user,
        None => {
            need_terminal(&terminal)?;
            terminal.write_str("username: ")?;
            terminal.read_line()?
        }
    };
    let password = if args.password_stdin {
        let mut text = String::new();
        io::stdin().take(LONGEST).read_to_string(&mut text)?;
        text.trim_end_matches(['\r', '\n']).to_owned()
    } else {
        need_terminal(&terminal)?;
        terminal.write_str("password: ")?;
        terminal.read_secure_line()?
    };
    let credential = match user.as_str() {
        "<token>" => Credential::Identity(password),
        _ => Credential::Password { user, password },
    };
    let place = Registries::new(&session).login(&args.registry, credential)?;
    context.printer.status("Logged in", format!("to {}, kept in {place}", args.registry));
    Ok(Exit::Success)
}

fn need_terminal(terminal: &console::Term) -> Result<(), Failure> {
    match terminal.is_term() {
        true => Ok(()),
        false => Err(Failure::new(
            ErrorKind::Usage.named("login/no-terminal").hint("use `-u NAME --password-stdin`"),
            "there is no terminal to ask for the password",
        )),
    }
}
