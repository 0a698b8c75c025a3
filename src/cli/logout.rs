//! `ekiben logout`

use super::{Context, Exit, Failure};
use crate::image::registry;

/// Forget the credentials for a registry, in the files and helpers of docker and podman
#[derive(clap::Args)]
pub struct Args {
    /// The registry: HOST[:PORT].
    #[arg(default_value = "docker.io")]
    registry: String,
}

pub fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let found = registry::logout(&args.registry)?;
    let text = if found { "Logged out" } else { "Nothing" };
    let rest = if found { format!("of {}", args.registry) } else { format!("was kept for {}", args.registry) };
    context.printer.status(text, rest);
    Ok(Exit::Success)
}
