//! The words of the OCI specifications.

pub mod platform;
