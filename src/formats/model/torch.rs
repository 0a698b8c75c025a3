//! What PyTorch's zips say of themselves: the arguments of a TorchScript's `forward`, the inputs of an exported program,
//! names and shapes of tensors, and what Lightning writes beside them.

use std::io::Read;

use serde_json::Value as Json;

use super::feed::{Feed, Stream};
use super::outline::{self, Syntax};
use super::{About, Argument, Kind, Model, Object, Tensor};

/// Bytes of TorchScript's code that are read.
const MOST_CODE: u64 = 4 << 20;

/// Bytes of an exported program's description that are read.
const MOST_DESCRIPTION: u64 = 64 << 20;

/// Tensors that are remembered, and axes of one.
const MOST: usize = 100_000;

type Archive = zip::ZipArchive<std::io::BufReader<std::fs::File>>;

/// The pickle of an archive that has the model itself.
fn root(model: &Model) -> Option<Object<'_>> {
    let is = |name: &Option<String>| name.as_ref().is_some_and(|name| name.rsplit('/').next() == Some("data.pkl"));
    model.pickles.iter().find(|(name, _)| is(name)).and_then(|(_, pickles)| pickles.objects.root())
}

/// What TorchScript's code says of `forward`, in an archive whose names begin with `folder`.
pub fn script(archive: &mut Archive, folder: &str, model: &mut Model) {
    let Some((module, class)) = root(model).and_then(Object::class).map(|(m, c)| (m.to_owned(), c.to_owned())) else {
        return;
    };
    let mut code = String::new();
    if let Ok(member) = archive.by_name(&format!("{folder}code/{}.py", module.replace('.', "/"))) {
        let mut bytes = Vec::new();
        if member.take(MOST_CODE).read_to_end(&mut bytes).is_ok() {
            code = String::from_utf8_lossy(&bytes).into_owned();
        }
    }
    if let Some((arguments, answer)) = forward(&code, &class) {
        model.about.arguments = arguments;
        model.about.properties.insert("answer".to_owned(), answer);
    }
    model.about.class = Some(class);
}

/// The arguments of a class's `forward` but itself, and the type of its answer.
fn forward(code: &str, class: &str) -> Option<(Vec<Argument>, String)> {
    let (_, body) = code.split_once(&format!("class {class}(Module):"))?;
    let body = body.split("\nclass ").next()?;
    let (_, rest) = body.split_once("  def forward(")?;
    let (mut depth, mut parts, mut part, mut end) = (0_u32, Vec::new(), String::new(), 0);
    for (at, letter) in rest.char_indices() {
        match letter {
            ')' if depth == 0 => {
                end = at + 1;
                break;
            }
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        part.push(letter);
    }
    parts.push(part);
    let answer = rest.get(end..)?.strip_prefix(" -> ")?.split(":\n").next()?.trim().to_owned();
    let argument = |part: &String| {
        let (name, annotation) = part.split_once(':')?;
        let annotation = annotation.split('=').next()?.split_whitespace().collect::<Vec<_>>().join(" ");
        Some(Argument { name: name.trim().to_owned(), annotation, has_default: part.contains('=') })
    };
    Some((parts.iter().skip(1).take(1000).filter_map(argument).collect(), answer))
}

/// What an exported program says, whose description is the member `name`.
pub fn exported(archive: &mut Archive, name: &str, model: &mut Model) {
    let Ok(member) = archive.by_name(name) else { return };
    let mut feed = Feed::new(Stream(member.take(MOST_DESCRIPTION)));
    let is_wanted =
        |name: &str| !matches!(name, "nodes" | "guards_code" | "metadata" | "example_inputs" | "sym_int_values");
    let outline = outline::read(&mut feed, Syntax::Json, &is_wanted);
    let get = |pointer: &str| outline.root.pointer(pointer);
    let about = &mut model.about;
    about.version = get("/torch_version").and_then(Json::as_str).map(str::to_owned);
    for (name, pointer) in [("schema", "/schema_version"), ("opset", "/opset_version")] {
        about.properties.extend(get(pointer).map(|value| (name.to_owned(), value.to_string())));
    }
    let values = get("/graph_module/graph/tensor_values");
    let tensors = |list: &str, role: &str| {
        let specs = get(&format!("/graph_module/signature/{list}")).and_then(Json::as_array);
        let of = |spec: &Json| {
            let name = spec.pointer(&format!("/{role}/arg/as_tensor/name"))?.as_str()?;
            let value = values.and_then(|values| values.get(name));
            let sizes = value.and_then(|value| value.get("sizes")?.as_array());
            let length = |size: &Json| size.get("as_int").and_then(Json::as_u64);
            let shape = sizes.map(|sizes| sizes.iter().take(MOST).map(length).collect()).unwrap_or_default();
            let kind = value.and_then(|value| scalar(value.get("dtype")?.as_u64()?));
            Some(Tensor { name: name.to_owned(), kind: kind.map(Kind::Number), shape })
        };
        specs.into_iter().flatten().take(MOST).filter_map(of).collect()
    };
    about.inputs = tensors("input_specs", "user_input");
    about.outputs = tensors("output_specs", "user_output");
    // What is left out of a large one is no fault of it.
    if let Some(stop @ super::feed::Stop::Malformed(_)) = outline.stop {
        model.note(0, Err(stop));
    }
}

/// `ScalarType` of the exported program's schema.
fn scalar(number: u64) -> Option<&'static str> {
    Some(match number {
        1 => "uint8",
        2 => "int8",
        3 => "int16",
        4 => "int32",
        5 => "int64",
        6 => "float16",
        7 => "float32",
        8 => "float64",
        12 => "bool",
        _ => return None,
    })
}

/// Tensors of a dictionary of them, and what Lightning says of its own.
pub fn tensors(model: &mut Model) {
    let Some(root) = root(model) else { return };
    let mut about = About::default();
    let holder = ["state_dict", "model_state_dict", "model"].into_iter().find_map(|name| Some((name, root.get(name)?)));
    let holder = match holder.filter(|(_, held)| !held.entries().is_empty()) {
        Some((name, held)) => {
            about.properties.insert("holder".to_owned(), name.to_owned());
            held
        }
        None => root,
    };
    let named = holder.entries().into_iter().filter_map(|(name, value)| tensor(name.text()?, value));
    about.weights = named.take(MOST).collect();
    if let Some(version) = root.get("pytorch-lightning_version").and_then(Object::text) {
        about.properties.insert("pytorch-lightning_version".to_owned(), version.to_owned());
        let chosen = root.get("hyper_parameters").map(Object::entries).unwrap_or_default();
        let named = |(name, value): (Object<'_>, Object<'_>)| {
            Some((name.text()?.to_owned(), value.scalar().unwrap_or_default()))
        };
        let chosen = chosen.into_iter().filter_map(named);
        let chosen: serde_json::Map<String, Json> = chosen.collect();
        about.properties.insert("hyper_parameters".to_owned(), Json::Object(chosen).to_string());
    }
    model.about = about;
}

/// A tensor, as `torch._utils._rebuild_tensor_v2` is given it: where its numbers are, an offset, its lengths.
fn tensor(name: &str, value: Object<'_>) -> Option<Tensor> {
    let arguments = value.arguments()?.items()?;
    match value.class()? {
        ("torch._utils", "_rebuild_parameter") => tensor(name, *arguments.first()?),
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
            let lengths = arguments.get(2)?.items()?;
            let shape =
                lengths.into_iter().map(|length| length.integer().and_then(|length| u64::try_from(length).ok()));
            let storage = arguments.first()?.items().and_then(|storage| storage.get(1)?.class());
            let kind = storage.and_then(|(_, class)| {
                Some(Kind::Number(match class {
                    "FloatStorage" => "float32",
                    "DoubleStorage" => "float64",
                    "HalfStorage" => "float16",
                    "LongStorage" => "int64",
                    "IntStorage" => "int32",
                    "ShortStorage" => "int16",
                    "CharStorage" => "int8",
                    "ByteStorage" => "uint8",
                    "BoolStorage" => "bool",
                    _ => return None,
                }))
            });
            Some(Tensor { name: name.to_owned(), kind, shape: shape.collect() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_forward_are_read() {
        let code = "class Other(Module):\n  def forward(self: x,\n    no: int) -> int:\n    return no\n\
            class Net(Module):\n  training : bool\n  def forward(self: __torch__.net.Net,\n    measures: Tensor,\n    \
            more: Dict[str, List[Tensor]],\n    scale: float=2.) -> Tuple[Tensor, int]:\n    return (measures, 1)\n";
        let (arguments, answer) = forward(code, "Net").unwrap();
        let found: Vec<_> = arguments.iter().map(|a| (a.name.as_str(), a.annotation.as_str(), a.has_default)).collect();
        let wanted =
            [("measures", "Tensor", false), ("more", "Dict[str, List[Tensor]]", false), ("scale", "float", true)];
        assert_eq!(found, wanted);
        assert_eq!(answer, "Tuple[Tensor, int]");
        for cut in 0..code.len() {
            let _ = forward(&code[..cut], "Net");
        }
    }
}
