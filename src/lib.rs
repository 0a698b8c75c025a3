//! Ekiben packs an AI model into a bundle that travels, builds OCI images from it without Docker or any daemon, and
//! runs them locally for testing.
//!
//! The map of the house, with what each room may not do, is `docs/architecture.md`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod base;
pub mod build;
pub mod bundle;
pub mod check;
pub mod cli;
pub mod deploy;
pub mod formats;
pub mod image;
pub mod io;
#[cfg(feature = "operator")]
pub mod operator;
pub mod project;
pub mod run;
pub mod serve;
