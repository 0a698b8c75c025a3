//! Registries: pulling, pushing, mounting and copying images, so that only missing bytes move and what moves arrives.
//!
//! Invariants: every byte that is kept was verified; a tag never points at something incomplete; credentials go to
//! their registry and its token server alone, and appear in no text. OCI distribution specification 1.1. What is done
//! about particular registries is said in `docs/registries.md`, and where it is done.

mod auth;
mod credentials;
mod error;
mod host;
mod mounts;
mod pull;
mod push;
mod reference;
mod referrers;
mod registries;
mod repository;
mod upload;

pub use credentials::Credential;
pub use error::Error;
pub use pull::{Found, fetch, find, find_layer};
pub use push::{Pushed, copy, push};
pub use reference::{Reference, ReferenceError};
pub use registries::{Registries, logout};
pub use repository::Repository;

use std::sync::{Mutex, MutexGuard, PoisonError};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
