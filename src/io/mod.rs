//! Bytes: where they are, how they are packed and compressed, how they are known again, and how they reach the disk
//! whole; how they come over the network; what is going on meanwhile; and which name was meant. Knows no image and no
//! document.

pub mod alone;
pub mod archive;
pub mod atomic;
pub mod compress;
pub mod confine;
pub mod content;
pub mod digest;
pub mod elf;
pub mod explain;
pub mod finding;
pub mod http;
pub mod ids;
pub mod parallel;
pub mod pipe;
pub mod progress;
pub mod size;
pub mod suggest;
pub mod tied;
