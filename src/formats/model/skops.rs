//! skops (<https://skops.readthedocs.io>, protocol 2): a zip archive with a tree of classes and attributes in
//! `schema.json`, and the arrays beside it. What loading makes of it is put together as that of a pickle is, so that whoever
//! looks for estimators finds them in both.
//!
//! skops makes objects of no class that it does not know, unless it is told to trust it: which these are is said too.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::rc::Rc;

use serde_json::Value as Json;

use super::feed::{Feed, Stop, Stream};
use super::object::{Dtype, MOST_BYTES, Node, UNKNOWN, Value};
use super::outline::{self, Syntax};
use super::{Model, Pickles, numpy};

/// The tree.
pub const SCHEMA: &str = "schema.json";

/// Bytes of the tree that are read.
const MOST: u64 = 64 << 20;

/// Arrays and bytes of a model that are looked at.
const MOST_FILES: u32 = 20_000;

/// Globals that are told apart.
const MOST_GLOBALS: usize = 10_000;

type Archive = zip::ZipArchive<std::io::BufReader<std::fs::File>>;

/// Whether an archive that has a [`SCHEMA`] is of skops, by the beginning of that.
pub fn is_schema(head: &[u8]) -> bool {
    let sign = b"\"__loader__\"";
    head.windows(sign.len()).any(|window| window == sign)
}

/// Reads the tree of an archive.
pub fn read(archive: &mut Archive, model: &mut Model) {
    let outline = match archive.by_name(SCHEMA) {
        Ok(member) => {
            let mut feed = Feed::new(Stream(member.take(MOST)));
            outline::read(&mut feed, Syntax::Json, &|name| name != "is_json")
        }
        Err(error) => {
            model.note(0, Err(Stop::Malformed(format!("`{SCHEMA}` cannot be read: {error}"))));
            return;
        }
    };
    let mut builder =
        Builder { archive, pickles: Pickles::default(), cached: HashMap::new(), files: 0, untrusted: BTreeSet::new() };
    let root = builder.value(&outline.root);
    builder.pickles.objects.root = Some(root);
    builder.pickles.whole = outline.stop.is_none();
    let (pickles, untrusted) = (builder.pickles, builder.untrusted);
    let text = |name: &str| outline.root.get(name).and_then(Json::as_str).map(str::to_owned);
    model.about.version = text("_skops_version");
    model.about.class = text("__class__");
    model.about.untrusted = untrusted.into_iter().collect();
    if let Some(stop) = outline.stop {
        model.note(0, Err(stop));
    }
    model.pickles.push((Some(SCHEMA.to_owned()), pickles));
}

struct Builder<'a> {
    archive: &'a mut Archive,
    pickles: Pickles,
    /// By their identities, objects that may stand in several places.
    cached: HashMap<u64, Value>,
    files: u32,
    untrusted: BTreeSet<String>,
}

impl Builder<'_> {
    fn value(&mut self, node: &Json) -> Value {
        let text = |name: &str| node.get(name).and_then(Json::as_str).unwrap_or_default();
        let id = node.get("__id__").and_then(Json::as_u64);
        let (module, class, loader) = (text("__module__"), text("__class__"), text("__loader__"));
        if loader == "CachedNode" {
            return id.and_then(|id| self.cached.get(&id).cloned()).unwrap_or(UNKNOWN);
        }
        if !matches!(loader, "" | "JsonNode") {
            self.import(module, class, loader);
        }
        let global = || Rc::new((module.to_owned(), class.to_owned()));
        let content = node.get("content").unwrap_or(&Json::Null);
        let value = match loader {
            "JsonNode" => {
                serde_json::from_str(content.as_str().unwrap_or_default()).map_or(UNKNOWN, |json| plain(&json))
            }
            "DictNode" => self.map(node),
            "DefaultDictNode" => {
                self.value(content.get("default_factory").unwrap_or(&Json::Null));
                self.value(content.get("main").unwrap_or(&Json::Null))
            }
            "ListNode" | "TupleNode" | "SetNode" => self.sequence(content),
            "NdArrayNode" if text("type") == "json" => self.sequence(content),
            "NdArrayNode" => self.array(text("file"), class).unwrap_or(UNKNOWN),
            "BytesNode" | "BytearrayNode" => self.bytes(text("file")).unwrap_or(UNKNOWN),
            "TypeNode" | "FunctionNode" => Value::Global(global()),
            "MethodNode" => {
                self.import(
                    module,
                    &format!("{class}.{}", content.get("func").and_then(Json::as_str).unwrap_or("?")),
                    "",
                );
                self.value(content.get("obj").unwrap_or(&Json::Null));
                UNKNOWN
            }
            "PartialNode" => {
                for part in ["func", "args", "kwds", "namespace"] {
                    self.value(content.get(part).unwrap_or(&Json::Null));
                }
                UNKNOWN
            }
            "" => UNKNOWN,
            _ => {
                // What others are made of is read for what it imports.
                for part in [node.pointer("/__reduce__/args"), node.get("attrs")].into_iter().flatten() {
                    self.value(part);
                }
                let state = if content.is_object() { self.value(content) } else { Value::None };
                self.pickles.objects.make(Node::Instance {
                    class: global(),
                    written: None,
                    arguments: UNKNOWN,
                    state,
                    items: Vec::new(),
                })
            }
        };
        if let Some(id) = id {
            self.cached.insert(id, value.clone());
        }
        value
    }

    fn sequence(&mut self, content: &Json) -> Value {
        let items = content.as_array().into_iter().flatten().map(|item| self.value(item)).collect();
        self.pickles.objects.sequence(items)
    }

    /// A dictionary; the types of its keys stand beside it, as all names are texts in JSON.
    fn map(&mut self, node: &Json) -> Value {
        let types: Vec<&Json> =
            node.pointer("/key_types/content").and_then(Json::as_array).into_iter().flatten().collect();
        let of = |kind: &Json| kind.get("__class__").and_then(Json::as_str).unwrap_or_default().to_owned();
        // Names of one type keep it in any order.
        let kind = types.first().map(|kind| of(kind)).filter(|kind| types.iter().all(|other| of(other) == *kind));
        for kind in types {
            self.value(kind);
        }
        let map = self.pickles.objects.make(Node::Map(Vec::new()));
        for (name, value) in node.get("content").and_then(Json::as_object).into_iter().flatten() {
            let value = self.value(value);
            if let (true, Value::Text(version)) = (name.ends_with("_version"), &value)
                && self.pickles.versions.len() < 64
            {
                self.pickles.versions.insert(name.clone(), version.to_string());
            }
            let key = match kind.as_deref() {
                Some("int") => name.parse().map_or(UNKNOWN, Value::Int),
                Some("float") => name.parse().map_or(UNKNOWN, Value::Float),
                _ => Value::Text(name.as_str().into()),
            };
            self.pickles.objects.insert(&map, key, value);
        }
        map
    }

    /// An array of NumPy's, or a single number of its own types.
    fn array(&mut self, file: &str, class: &str) -> Option<Value> {
        self.files += 1;
        if self.files > MOST_FILES {
            return None;
        }
        let mut feed = Feed::new(Stream(self.archive.by_name(file).ok()?));
        let numpy::Header { kind, shape, bytes } = numpy::header(&mut feed).ok()?;
        let (dtype, shape, size) = (Dtype::parse(&kind?)?, shape?, bytes?);
        let whole = size <= MOST_BYTES && self.pickles.objects.room(size) == size;
        let bytes = if whole { Some(feed.take(size as usize).ok()?) } else { None };
        drop(feed);
        if class != "ndarray" && shape.is_empty() {
            return Some(plain(&dtype.items(&bytes?)?.pop()?));
        }
        Some(self.pickles.objects.make(Node::Array { dtype: Rc::new(dtype), shape, bytes }))
    }

    fn bytes(&mut self, file: &str) -> Option<Value> {
        self.files += 1;
        if self.files > MOST_FILES {
            return None;
        }
        let member = self.archive.by_name(file).ok()?;
        let room = self.pickles.objects.room(member.size());
        let mut bytes = Vec::new();
        member.take(room).read_to_end(&mut bytes).ok()?;
        Some(Value::Bytes(bytes.into()))
    }

    fn import(&mut self, module: &str, class: &str, loader: &str) {
        let global = (module.to_owned(), class.to_owned());
        if self.pickles.globals.len() < MOST_GLOBALS || self.pickles.globals.contains_key(&global) {
            if !is_trusted(module, class, loader) {
                self.untrusted.insert(format!("{module}.{class}"));
            }
            self.pickles.globals.entry(global).or_insert(0);
        } else {
            self.pickles.computed.insert(0);
        }
    }
}

/// A value that JSON has.
fn plain(json: &Json) -> Value {
    match json {
        Json::Null => Value::None,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Int(number),
            (_, Some(number)) => Value::Float(number),
            _ => UNKNOWN,
        },
        Json::String(text) => Value::Text(text.as_str().into()),
        _ => UNKNOWN,
    }
}

/// Whether skops trusts a class unasked: its own list has the estimators of scikit-learn, which cannot be told from all
/// other classes there. To trust one more than is needed does no harm; one less, and the model cannot be loaded.
fn is_trusted(module: &str, class: &str, loader: &str) -> bool {
    /// Modules of scikit-learn's, by their last parts, whose classes are no estimators.
    const PARTS: [&str; 11] = [
        "_tree",
        "_kd_tree",
        "_ball_tree",
        "_dist_metrics",
        "kernels",
        "_bunch",
        "predictor",
        "_stochastic_optimizers",
        "loss",
        "_scorer",
        "_plotting",
    ];
    let own = module.strip_prefix("sklearn.").and_then(|own| own.rsplit('.').next());
    match (module.split('.').next(), loader) {
        (_, "JsonNode") => true,
        (Some("builtins"), _) => {
            let known =
                ["int", "float", "str", "bool", "list", "set", "map", "tuple", "dict", "bytes", "bytearray", "slice"];
            known.contains(&class)
        }
        (Some("numpy"), "NdArrayNode" | "MaskedArrayNode") => true,
        (Some("numpy"), "TypeNode") => class != "dtype",
        (Some("numpy"), loader) => loader.starts_with("Random"),
        (_, "DefaultDictNode") => true,
        _ => {
            own.is_some_and(|own| !PARTS.contains(&own))
                && loader == "ObjectNode"
                && class.starts_with(|first: char| first.is_ascii_uppercase())
        }
    }
}
