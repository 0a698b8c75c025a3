//! Ekiben packs an AI model into a bundle that travels, builds OCI images from it without Docker or any daemon, and
//! runs them locally for testing.
//!
//! The map of the house, with what each room may not do, is `docs/architecture.md`.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod analytics;
pub mod archive;
pub mod atomic;
pub mod base;
pub mod bento;
pub mod bundle;
pub mod carrier;
pub mod cli;
pub mod compress;
pub mod confine;
pub mod container;
pub mod content;
pub mod convert;
pub mod debian;
pub mod diagnostic;
pub mod digest;
pub mod document;
pub mod fetch;
pub mod files;
pub mod form;
pub mod generate;
pub mod image;
pub mod import;
pub mod init;
pub mod launch;
pub mod layer;
pub mod layout;
pub mod loader;
pub mod lock;
pub mod manifest;
pub mod metadata;
pub mod model;
pub mod near;
pub mod openapi;
pub mod parcel;
pub mod platform;
pub mod progress;
pub mod project;
pub mod proposal;
pub mod python;
pub mod registry;
pub mod repair;
pub mod requirements;
pub mod resolve;
pub mod schema;
pub mod service;
pub mod session;
pub mod source;
pub mod store;
pub mod toolchain;
pub mod validate;
pub mod verdict;
pub mod workers;
