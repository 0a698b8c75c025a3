//! The words of the OCI specifications: platforms, media types, descriptors; the documents of images, read and written
//! here and nowhere else.
//!
//! Invariants: a document that could be read in two ways is none (GHSA-mc8v-mgrf-8f4m), wherever it comes from; the
//! same values give the same bytes, with sorted keys.

mod artifact;
mod configuration;
mod document;
mod media_type;
pub mod platform;

pub use artifact::Artifact;
pub use configuration::{Configuration, EXTENSIONS};
pub use document::{Content, Descriptor, Document, Index, Malformed, Manifest};
pub use media_type::MediaType;

/// Largest manifest, index or configuration that is read, in bytes: what registries take as well (distribution
/// specification 1.1, "Pushing Manifests").
pub const LARGEST: u64 = 4 << 20;

/// The annotation of a layout's index that holds the name of an image.
pub use oci_spec::image::ANNOTATION_REF_NAME as NAME;

/// The annotation of a layout's index that an image has which is only for this machine: layers of it are to be compressed
/// yet.
pub const DRAFT: &str = "io.ekiben.draft";

/// The annotation of a layer of such an image that holds the media type which it will have.
pub const PENDING: &str = "io.ekiben.pending";
