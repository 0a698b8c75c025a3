//! A registry as a cache of builds: the image of exactly this bundle is found under a tag made from what goes into it.
//!
//! The tag is `ekiben-` and the first 40 hexadecimal digits of the digest of the bundle's digest (which covers the lock
//! and the manifest) and the platforms. Whoever builds the same gets the same bytes, so any number of builders may push
//! at once: each puts the same manifest under the same tag, after all its blobs.

use crate::build;
use crate::build::input::Input;
use crate::bundle::apart::Part;
use crate::image::layer;
use crate::image::oci::platform::Platform;
use crate::image::session::Session;

/// Version of what the tag is made from. Images of another version are not found, and built again.
const VERSION: u32 = 2;

/// The tag under which the image of `input` for `platforms` is kept.
///
/// # Errors
/// When the weights cannot be read.
pub fn tag(session: &Session, input: &Input, platforms: &[Platform]) -> Result<String, crate::bundle::Error> {
    tag_of(session, input, platforms, Part::Whole)
}

/// The same of a part of the image.
///
/// # Errors
/// As [`tag`].
pub fn tag_of(
    session: &Session,
    input: &Input,
    platforms: &[Platform],
    part: Part,
) -> Result<String, crate::bundle::Error> {
    let mut platforms = platforms.to_vec();
    platforms.sort();
    platforms.dedup();
    let rules = (VERSION, build::INSTALLATION, build::CODE, crate::base::USER_RULES, crate::base::debian::RULES);
    let mut hex = layer::key(&(rules, input.bundle.digest(session)?, platforms)).hex();
    hex.truncate(40);
    Ok(format!("ekiben-{hex}{}", part.suffix()))
}
