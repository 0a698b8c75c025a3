//! Ekiben packs an AI model into a bundle that travels, builds OCI images from it without Docker or any daemon, and
//! runs them locally for testing.
//!
//! The map of the house, with what each room may not do, is `docs/architecture.md`. The rooms from the ground up; a
//! room uses only rooms above it in this list:

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod archive;
pub mod diagnostic;
pub mod digest;
pub mod document;
pub mod fetch;
pub mod files;
pub mod form;
pub mod init;
pub mod lock;
pub mod manifest;
pub mod near;
pub mod platform;
pub mod progress;
pub mod project;
pub mod schema;
pub mod session;
pub mod store;
pub mod validate;
