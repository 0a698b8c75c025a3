//! Ekiben packs an AI model into a bundle that travels, builds OCI images from it without Docker or any daemon, and
//! runs them locally for testing.
//!
//! The map of the house, with what each room may not do, is `docs/architecture.md`. The rooms from the ground up; a
//! room uses only rooms above it in this list:

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod archive;
pub mod digest;
pub mod fetch;
pub mod generate;
pub mod lock;
pub mod manifest;
pub mod platform;
pub mod progress;
pub mod python;
pub mod session;
pub mod source;
pub mod store;
