//! What other tools have packed, as Ekiben's own values. One module for each format.

pub mod analytics;
pub mod bento;
mod unpacked;
