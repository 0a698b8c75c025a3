//! SPDX 2.3 as JSON (ISO/IEC 5962:2021 and its minor revision; <https://spdx.github.io/spdx-spec/v2.3/>).
//!
//! Files are packages with the purpose FILE: what the specification calls a file needs a SHA-1.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{File, Inventory, Licence, Package, TOOL, uuid};
use crate::io::digest::Digest;

/// Nobody says anything of it.
const NONE: &str = "NOASSERTION";

const IMAGE: &str = "SPDXRef-Image";
const MODEL: &str = "SPDXRef-Model";
const DATA: &str = "SPDXRef-Data";
const BASE: &str = "SPDXRef-Base";

/// Its document.
pub(super) fn document(inventory: &Inventory) -> Value {
    let mut writer = Writer { created: &inventory.created, packages: Vec::new(), relations: Vec::new() };
    writer.relation("SPDXRef-DOCUMENT", "DESCRIBES", IMAGE);
    writer.image(inventory);
    let purls = inventory.purls();
    for (number, (package, purl)) in inventory.packages.iter().zip(&purls).enumerate() {
        writer.package(number, package, purl);
    }
    writer.model(inventory);
    for (number, file) in inventory.files.iter().enumerate() {
        writer.file(&format!("SPDXRef-File-{number}"), file, IMAGE);
    }
    let Writer { packages, relations, .. } = writer;
    let own = format!("Tool: {TOOL}-{}", env!("CARGO_PKG_VERSION"));
    let mut document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": inventory.name,
        "creationInfo": { "created": inventory.created, "creators": [own] },
        "packages": packages,
        "relationships": relations,
    });
    let named = named(inventory);
    if !named.is_empty() {
        document["hasExtractedLicensingInfos"] = named
            .into_iter()
            .map(|(reference, name)| {
                let text =
                    format!("What packages call `{name}`. Its words are in their own copyright files and metadata.");
                json!({ "licenseId": reference, "name": name, "extractedText": text })
            })
            .collect();
    }
    document["documentNamespace"] = format!("urn:uuid:{}", uuid(document.to_string())).into();
    document
}

/// What the references to licences stand for.
fn named(inventory: &Inventory) -> BTreeMap<&String, &String> {
    let packages = inventory.packages.iter().map(|package| &package.licence);
    packages.chain([&inventory.licence]).flat_map(|licence| &licence.named).collect()
}

struct Writer<'a> {
    created: &'a str,
    packages: Vec<Value>,
    relations: Vec<Value>,
}

impl Writer<'_> {
    fn relation(&mut self, of: &str, kind: &str, to: &str) {
        self.relations.push(json!({ "spdxElementId": of, "relationshipType": kind, "relatedSpdxElement": to }));
    }

    fn add(&mut self, id: &str, name: &str, licence: &Licence, more: Value) {
        let mut package = Map::new();
        package.insert("SPDXID".to_owned(), id.into());
        package.insert("name".to_owned(), name.into());
        package.insert("downloadLocation".to_owned(), NONE.into());
        package.insert("filesAnalyzed".to_owned(), false.into());
        package.insert("licenseConcluded".to_owned(), NONE.into());
        package.insert("licenseDeclared".to_owned(), licence.expression.as_deref().unwrap_or(NONE).into());
        package.insert("copyrightText".to_owned(), NONE.into());
        let more = if let Value::Object(more) = more { more } else { Map::new() };
        package.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        self.packages.push(package.into());
    }

    fn image(&mut self, inventory: &Inventory) {
        let mut more = json!({
            "versionInfo": inventory.version,
            "primaryPackagePurpose": "CONTAINER",
            "checksums": checksums(&[inventory.digest]),
            "description": inventory.description,
            "sourceInfo": inventory.source.as_ref().map(|source| format!("its source is at {source}")),
            "externalRefs": purl(&inventory.purl()),
        });
        if !inventory.commands.is_empty() {
            let own = format!("Tool: {TOOL}-{}", env!("CARGO_PKG_VERSION"));
            let executed = inventory.commands.iter().map(|command| {
                let comment = format!("executed when it was built: {command}");
                json!({
                    "annotationType": "OTHER", "annotator": own, "annotationDate": self.created, "comment": comment,
                })
            });
            more["annotations"] = executed.collect();
        }
        self.add(IMAGE, &inventory.name, &inventory.licence, more);
        if let Some(digest) = inventory.base {
            let more = json!({ "primaryPackagePurpose": "CONTAINER", "checksums": checksums(&[digest]) });
            self.add(BASE, "base", &Licence::default(), more);
            self.relation(IMAGE, "DESCENDANT_OF", BASE);
        }
        if let Some(system) = &inventory.system {
            let more = json!({
                "versionInfo": system.version,
                "description": system.title,
                "primaryPackagePurpose": "OPERATING-SYSTEM",
            });
            self.add("SPDXRef-System", &system.id, &Licence::default(), more);
            self.relation(IMAGE, "CONTAINS", "SPDXRef-System");
        }
    }

    fn package(&mut self, number: usize, package: &Package, address: &str) {
        let id = format!("SPDXRef-Package-{number}");
        let source = package.source.as_ref();
        // Several wheels may do, and which one was taken is known of none.
        let digests = if package.digests.len() == 1 { checksums(&package.digests) } else { Value::Null };
        let more = json!({
            "versionInfo": package.version,
            "supplier": package.supplier.as_ref().map(|who| format!("Person: {}", who.replace(['\n', '\r'], " "))),
            "summary": package.summary,
            "homepage": package.homepage.as_ref().filter(|homepage| is_address(homepage)),
            "checksums": digests,
            "externalRefs": purl(address),
            "sourceInfo": source.map(|source| format!("made from the source package {} {}", source.name, source.version)),
        });
        self.add(&id, &package.name, &package.licence, more);
        self.relation(IMAGE, "CONTAINS", &id);
        for other in &package.depends {
            self.relation(&id, "DEPENDS_ON", &format!("SPDXRef-Package-{other}"));
        }
    }

    fn model(&mut self, inventory: &Inventory) {
        let Some(model) = &inventory.model else { return };
        let origins = model.origins.iter().map(|origin| match origin.versions.is_empty() {
            true => origin.from.clone(),
            false => format!("{} ({})", origin.from, origin.versions.join(", ")),
        });
        let origins: Vec<_> = origins.collect();
        let source = (!origins.is_empty()).then(|| format!("fetched from {}", origins.join(", ")));
        let more = json!({ "primaryPackagePurpose": "OTHER", "sourceInfo": source, "comment": "the model" });
        self.add(MODEL, &model.name, &Licence::default(), more);
        self.relation(IMAGE, "CONTAINS", MODEL);
        for (number, file) in model.files.iter().enumerate() {
            self.file(&format!("SPDXRef-Weights-{number}"), file, MODEL);
        }
        if let Some((name, digest)) = model.training.as_ref().and_then(|training| training.data.as_ref()) {
            let more = json!({
                "primaryPackagePurpose": "OTHER",
                "checksums": checksums(&[*digest]),
                "comment": "the data set that the model was trained with",
            });
            self.add(DATA, name, &Licence::default(), more);
            self.relation(MODEL, "GENERATED_FROM", DATA);
        }
    }

    fn file(&mut self, id: &str, file: &File, of: &str) {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        let more = json!({
            "primaryPackagePurpose": "FILE",
            "packageFileName": format!("/{}", file.path),
            "checksums": checksums(&[file.digest]),
        });
        self.add(id, name, &Licence::default(), more);
        self.relation(of, "CONTAINS", id);
    }
}

fn checksums(digests: &[Digest]) -> Value {
    digests.iter().map(|digest| json!({ "algorithm": "SHA256", "checksumValue": digest.hex() })).collect()
}

fn purl(address: &str) -> Value {
    json!([{ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": address }])
}

/// Whether a text is what the specification takes for an address.
fn is_address(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.as_str().is_ascii())
        && !text.contains(char::is_whitespace)
}
