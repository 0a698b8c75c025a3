//! What is said about images, and who signed them: beside an image in registries with and without an API for that.

use std::collections::BTreeMap;

use ekiben::image::oci::{Artifact, Descriptor, MediaType};
use ekiben::image::registry::{Reference, Registries};

use crate::home::front::Front;
use crate::home::registry::Registry;
use crate::home::session;

#[test]
fn what_is_about_an_image_is_found_with_the_api_and_without() {
    let registry = Registry::start();
    let with_api = Front::with_referrers(registry.port, 2);
    let home = tempfile::tempdir().unwrap();
    let session = session(home.path());
    for (place, has_api) in [(registry.reference("plain/w"), false), (with_api.reference("api/w"), true)] {
        let reference: Reference = place.parse().unwrap();
        let repository = Registries::new(&session).repository(&reference);
        let image = Descriptor::of(MediaType::Manifest, b"an image that need not be there yet");
        assert!(repository.referrers(&image.digest, None).unwrap().is_empty());
        let mut all = Vec::new();
        for number in 0..5 {
            let kind = if number % 2 == 0 { "application/even" } else { "application/odd+x" };
            let mut artifact = Artifact::of(kind, "text/plain", format!("text {number}").into_bytes());
            artifact.annotations = BTreeMap::from([("number".to_owned(), number.to_string())]);
            all.push(repository.attach(&image, &artifact).unwrap());
            assert_eq!(&repository.attach(&image, &artifact).unwrap(), all.last().unwrap(), "twice is once");
        }
        let found = repository.referrers(&image.digest, None).unwrap();
        assert_eq!(found, all);
        let odd = repository.referrers(&image.digest, Some("application/odd+x")).unwrap();
        assert_eq!(odd, [all[1].clone(), all[3].clone()]);
        let document = repository.referrer(&odd[0].digest, &image.digest).unwrap();
        let layer = &document.blobs()[0];
        assert_eq!(repository.small_blob(layer, 100).unwrap(), b"text 1");
        assert!(repository.small_blob(layer, 3).is_err(), "it is larger");
        let other = ekiben::io::digest::Digest::of("other");
        assert!(repository.referrer(&odd[0].digest, &other).is_err(), "it is about another");
        let tag = format!("sha256-{}", image.digest.hex());
        assert_eq!(repository.head(&tag).unwrap().is_some(), !has_api);
    }
}
