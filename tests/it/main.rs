//! What a user does, with the real program against real tools: a module for each area, in one binary, as linking is most
//! of the wait. `cargo test --test it AREA::` runs one.

#![allow(clippy::expect_used, clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used)]

mod answers;
mod apart;
mod architecture;
mod batches;
mod bento;
mod build;
mod bundle_files;
mod cli;
mod commands;
mod container;
mod convert;
mod custom;
mod debian;
mod deploy;
mod dockerfile;
mod dockerfile_attacks;
mod dockerfile_build;
mod doctor;
mod drafts;
mod exec;
mod export;
mod fetch;
mod files;
mod followed;
mod gpus;
mod holdings;
mod home;
mod hostile;
mod interop;
mod invocations;
mod invoke;
mod itself;
mod jobs;
mod kubernetes;
mod layers;
mod libraries;
mod load;
mod messages;
mod metadata;
mod mlflow;
mod models;
mod names;
mod nets;
mod openai;
#[cfg(feature = "operator")]
mod operator;
mod origins;
mod pins;
mod pod;
mod python;
mod registry;
mod run;
mod serve;
mod service;
mod services;
mod step;
mod streams;
mod transfers;
mod validate;
mod values;
mod volumes;
mod weights;
mod zoo;
