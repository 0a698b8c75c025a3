//! Hashes a file once, with the library's own hashing: what any build of weights has to be measured against.
//!
//! `cargo run --release --example hash FILE`

#![allow(clippy::print_stdout)]

use ekiben::io::content::Content;
use ekiben::io::progress::{Progress, Unit};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("which file?")?;
    let task = Progress::silent().task("Hashing", &path, Unit::Bytes, None);
    let (digest, _) = task.hash(Content::file(path.as_ref())?.open()?)?;
    println!("{digest}");
    Ok(())
}
