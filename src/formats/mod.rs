//! What others wrote, read as data: documents with their places and the mistakes in them, the files of models,
//! Python source, and the documents of other programs as types. Nothing is run, nothing loaded.

pub mod analytics;
pub mod bento;
pub mod cdi;
pub mod classes;
pub mod deb822;
pub mod diagnostic;
pub mod dockerfile;
pub mod document;
pub mod metadata;
pub mod model;
pub mod modelpack;
pub mod mojo;
pub mod openapi;
pub mod osv;
pub mod package;
pub mod python;
pub mod requirement;
pub mod sbom;
pub mod schema;
pub mod source;
pub mod topic;
