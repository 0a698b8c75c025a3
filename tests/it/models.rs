//! Files of models, read as data: what is said of good and of hostile ones, and that no bytes do harm.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ekiben::check;
use ekiben::formats::diagnostic::{Code, Diagnostics, Rendering};
use ekiben::formats::model::{self, Column, Fault, Format, Kind, Model, Origin, Tensor};
use ekiben::project::Project;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn check(path: &Path) -> Diagnostics {
    let mut found = Diagnostics::new();
    check::of(&[path.to_owned()]).into_iter().for_each(|verdict| found.extend(verdict.diagnostics));
    found
}

fn codes(found: &Diagnostics) -> BTreeSet<Code> {
    found.sorted().into_iter().map(|diagnostic| diagnostic.code).collect()
}

fn rendered(found: &Diagnostics) -> String {
    found.sorted().into_iter().map(|diagnostic| Rendering::PLAIN.render(diagnostic)).collect()
}

/// What is said of these bytes in a file of this name, in a folder of its own.
fn said(name: &str, bytes: &[u8]) -> BTreeSet<Code> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    codes(&check(&path))
}

fn inspect(bytes: &[u8], name: &str) -> Model {
    let open = || Ok(Box::new(std::io::Cursor::new(bytes.to_vec())) as Box<dyn Read + Send>);
    model::inspect(&Origin::Stream(&open), name, bytes.len() as u64).unwrap()
}

const SYSTEM: &[u8] = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02id\x85R.";

fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn a_hidden_command_is_found_wherever_it_is() {
    let dangerous: BTreeSet<_> = [Code::DangerousGlobal].into();
    let deflated = |bytes: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    for name in ["model.pkl", "model.bin", "model.txt", "model.joblib", "model"] {
        assert_eq!(said(name, SYSTEM), dangerous, "{name}");
        assert_eq!(said(name, &deflated(SYSTEM)), dangerous, "{name}, compressed");
        assert_eq!(said(name, &zstd::encode_all(SYSTEM, 3).unwrap()), dangerous, "{name}, compressed with zstd");
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(SYSTEM).unwrap();
        assert_eq!(said(name, &lz4.finish().unwrap()), dangerous, "{name}, compressed with lz4");
    }
    for name in ["model.pt", "model.zip", "model.npz"] {
        for member in ["archive/data.pkl", "hidden.txt", "data/0"] {
            assert_eq!(
                said(name, &zipped(&[("archive/version", b"3\n"), (member, SYSTEM)])),
                dangerous,
                "{name} {member}"
            );
        }
    }
    // A pickle that begins like another format: a short text, then the command.
    for head in [&b"CBM1"[..], b"\x8c\x02{\""] {
        let mut bytes = head.to_vec();
        bytes.resize(2 + 0x42, b' ');
        let bytes = [&bytes[..if head[0] == b'C' { 2 + 0x42 } else { 4 }], &SYSTEM[2..]].concat();
        assert_eq!(said("model.cbm", &bytes), dangerous, "{head:?}");
    }
    // A pickle of the old protocols begins like any text.
    assert_eq!(said("notes.bin", b"cposix\nsystem\n(S'id'\ntR."), dangerous);
    // In an array of objects.
    let mut array = b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".to_vec();
    array.resize(127, b' ');
    array.push(b'\n');
    array.extend(SYSTEM);
    assert_eq!(said("a.npy", &array), dangerous);
}

#[test]
fn damage_within_a_compression_is_an_error() {
    let bytes: Vec<u8> = (0..200_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut pickle = b"\x80\x04B".to_vec();
    pickle.extend((bytes.len() as u32).to_le_bytes());
    pickle.extend(bytes);
    pickle.push(b'.');
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&pickle).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&pickle).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&pickle).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(&pickle).unwrap();
    let zstd = zstd::encode_all(&pickle[..], 1).unwrap();
    for whole in [gzip.finish().unwrap(), xz.finish().unwrap(), bzip2.finish().unwrap(), lz4.finish().unwrap(), zstd] {
        assert_eq!(said("a.pkl", &whole), [].into());
        assert_eq!(said("a.pkl", &whole[..whole.len() / 2]), [Code::BrokenModel].into());
    }
    // A frame that wants 2 GiB to be read is not wrong.
    assert_eq!(said("a.pkl", b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00"), [Code::NotLookedInto].into());
}

/// A field of a protocol buffer with a length.
fn field(number: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content.as_slice()].concat()
}

#[test]
fn an_onnx_model_says_what_it_takes() {
    let axis = |size: &[u8]| field(1, &[size]);
    let of = |kind: u8, axes: &[&[u8]]| field(2, &[&field(1, &[&[1 << 3, kind], &field(2, axes)])]);
    let rows = of(11, &[&axis(&field(2, &[b"N"])), &axis(&[1 << 3, 4])]);
    let inputs = [field(11, &[&field(1, &[b"x"]), &rows]), field(11, &[&field(1, &[b"w"]), &of(1, &[])])].concat();
    // A weight is an input too, in old models.
    let graph = field(7, &[&field(5, &[&field(8, &[b"w"])]), &inputs]);
    let said = [field(2, &[b"maker"]), field(3, &[b"1.2"]), field(14, &[&field(1, &[b"k"]), &field(2, &[b"v"])])];
    // A sequence is no tensor, and an output all the same.
    let outputs = [field(12, &[&field(1, &[b"p"]), &field(2, &[&field(4, &[])])])].concat();
    let graph = [&graph[..1], &[graph[1] + u8::try_from(outputs.len()).unwrap()], &graph[2..], &outputs].concat();
    let model = inspect(&[&[1 << 3, 8], said.concat().as_slice(), &graph].concat(), "a.onnx");
    assert!(model.faults.is_empty(), "{:?}", model.faults);
    let tensor = Tensor { name: "x".to_owned(), kind: Some(Kind::Number("float64")), shape: vec![None, Some(4)] };
    assert_eq!(model.about.inputs, [tensor]);
    assert_eq!(model.about.outputs, [Tensor { name: "p".to_owned(), ..Tensor::default() }]);
    assert_eq!(model.about.version.as_deref(), Some("1.2"));
    assert_eq!(
        ["producer_name", "k", "ir_version"].map(|name| model.about.properties[name].as_str()),
        ["maker", "v", "8"]
    );
}

#[test]
fn a_saved_model_says_what_it_takes() {
    let info = |axes: &[&[u8]], kind: u8| {
        let axes: Vec<u8> = axes.iter().flat_map(|size| field(2, &[&[1 << 3], size])).collect();
        [vec![2 << 3, kind], field(3, &[&axes])].concat()
    };
    let entry = |number: u8, key: &[u8], value: &[u8]| field(number, &[&field(1, &[key]), &field(2, &[value])]);
    let free = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    let rows = info(&[&free, &[4]], 1);
    let signature = [entry(1, b"x", &rows), entry(1, b"name", &info(&[&free], 7)), entry(2, b"y", &rows)].concat();
    let graph = [
        field(1, &[&field(5, &[b"2.21.0"])]),
        field(2, &[&[0; 40]]),
        entry(5, b"__saved_model_init_op", &[]),
        entry(5, b"serving_default", &signature),
    ];
    let length = u8::try_from(graph.concat().len() - 128).unwrap();
    let bytes = [&[1 << 3, 1, 2 << 3 | 2, length | 0x80, 1][..], &graph.concat()].concat();
    let folder = tempfile::tempdir().unwrap();
    for end in 0..=bytes.len() {
        fs::write(folder.path().join("saved_model.pb"), &bytes[..end]).unwrap();
        let model = model::saved_model(folder.path()).unwrap();
        assert_eq!(model.faults.is_empty(), end == bytes.len(), "{end}: {:?}", model.faults);
    }
    let Model { format, about, .. } = model::saved_model(folder.path()).unwrap();
    assert_eq!((format, about.version.as_deref()), (Format::SavedModel, Some("2.21.0")));
    let tensor = |name: &str, kind, shape: &[Option<u64>]| Tensor {
        name: name.to_owned(),
        kind: Some(kind),
        shape: shape.to_vec(),
    };
    let number = Kind::Number("float32");
    assert_eq!(about.inputs, [tensor("name", Kind::Text, &[None]), tensor("x", number, &[None, Some(4)])]);
    assert_eq!(about.outputs, [tensor("y", number, &[None, Some(4)])]);
    assert_eq!(
        about.signatures.iter().map(|signature| signature.name.as_str()).collect::<Vec<_>>(),
        ["serving_default"]
    );
}

/// Parts of a FlatBuffer.
enum Flat<'a> {
    Table(&'a [Option<Flat<'a>>]),
    Vector(&'a [Flat<'a>]),
    Text(&'a str),
    Number(i32),
}

impl Flat<'_> {
    /// Writes the part, and gives its place; numbers have none.
    fn write(&self, bytes: &mut Vec<u8>) -> usize {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let start = bytes.len();
        let place = |bytes: &mut Vec<u8>, slot: usize, part: &Flat<'_>| {
            let value = match part {
                Flat::Number(number) => *number,
                part => i32::try_from(part.write(bytes) - slot).unwrap(),
            };
            bytes[slot..slot + 4].copy_from_slice(&value.to_le_bytes());
        };
        match self {
            Self::Table(fields) => {
                let table = (start + 4 + 2 * fields.len()).next_multiple_of(4);
                bytes.extend(u16::try_from(4 + 2 * fields.len()).unwrap().to_le_bytes());
                bytes.extend(u16::try_from(4 + 4 * fields.len()).unwrap().to_le_bytes());
                for (at, field) in fields.iter().enumerate() {
                    bytes.extend(u16::try_from(if field.is_some() { 4 + 4 * at } else { 0 }).unwrap().to_le_bytes());
                }
                bytes.resize(table, 0);
                bytes.extend(i32::try_from(table - start).unwrap().to_le_bytes());
                bytes.resize(table + 4 + 4 * fields.len(), 0);
                for (at, field) in fields.iter().enumerate() {
                    field.iter().for_each(|field| place(bytes, table + 4 + 4 * at, field));
                }
                table
            }
            Self::Vector(items) => {
                bytes.extend(u32::try_from(items.len()).unwrap().to_le_bytes());
                bytes.resize(start + 4 + 4 * items.len(), 0);
                items.iter().enumerate().for_each(|(at, item)| place(bytes, start + 4 + 4 * at, item));
                start
            }
            Self::Text(text) => {
                bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
                bytes.extend(text.as_bytes());
                start
            }
            Self::Number(_) => start,
        }
    }
}

/// A model of TensorFlow Lite's with one input and one output, and a signature that calls them otherwise.
fn tflite(signature: Option<Flat<'_>>) -> Vec<u8> {
    use Flat::{Number, Table, Text, Vector};
    let mut bytes = vec![0; 8];
    let tensor = |name| [Some(Vector(&[Number(1), Number(4)])), Some(Number(2)), None, Some(Text(name))];
    let free = [Some(Vector(&[Number(1)])), None, None, Some(Text("b")), None, None, None, Some(Vector(&[Number(-1)]))];
    let (first, tensors) = (tensor("a"), 2);
    let tensors = [Table(&first), Table(&free)].into_iter().take(tensors).collect::<Vec<_>>();
    let graph = [Some(Vector(&tensors)), Some(Vector(&[Number(0)])), Some(Vector(&[Number(1)]))];
    let root = [Some(Number(3)), None, Some(Vector(&[Table(&graph)])), None, None, None, None, signature];
    let place = Table(&root).write(&mut bytes);
    bytes[..4].copy_from_slice(&u32::try_from(place).unwrap().to_le_bytes());
    bytes[4..8].copy_from_slice(b"TFL3");
    bytes
}

#[test]
fn tensorflow_lite_says_what_it_takes() {
    use Flat::{Number, Table, Text, Vector};
    let Model { format, faults, about, .. } = inspect(&tflite(None), "a");
    assert_eq!((format, faults.as_slice()), (Format::TfLite, &[][..]));
    let tensor = |name: &str, kind, shape: &[Option<u64>]| Tensor {
        name: name.to_owned(),
        kind: Some(Kind::Number(kind)),
        shape: shape.to_vec(),
    };
    assert_eq!(about.inputs, [tensor("a", "int32", &[Some(1), Some(4)])]);
    assert_eq!(about.outputs, [tensor("b", "float32", &[None])]);
    let input = [Some(Text("measures")), Some(Number(0))];
    let output = [Some(Text("chances")), Some(Number(1))];
    let signature = [Some(Vector(&[Table(&input)])), Some(Vector(&[Table(&output)])), Some(Text("serving_default"))];
    let about = inspect(&tflite(Some(Vector(&[Table(&signature)]))), "a").about;
    assert_eq!(about.inputs[0].name, "measures");
    assert_eq!((about.signatures[0].name.as_str(), about.outputs[0].name.as_str()), ("serving_default", "chances"));
}

#[test]
fn no_offset_of_a_flatbuffer_does_harm() {
    let whole = tflite(None);
    let catboost = fs::read("fixtures/models/catboost.cbm").unwrap();
    let start = Instant::now();
    for (bytes, name) in [(&whole, "a.tflite"), (&catboost[..2000].to_vec(), "a.cbm")] {
        for at in (8..bytes.len() - 4).step_by(4) {
            // Forward, back to the beginning, into itself, and beyond the end.
            for offset in [4_u32, 0, 0_u32.wrapping_sub(u32::try_from(at).unwrap()), 0xffff_ffff, 0x7fff_ffff] {
                let mut bytes = bytes.clone();
                bytes[at..at + 4].copy_from_slice(&offset.to_le_bytes());
                inspect(&bytes, name);
            }
        }
    }
    assert!(start.elapsed() < crate::home::PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn keras_says_what_it_takes() {
    let layer = |name: &str, shape: &str, kind: &str| {
        format!(
            r#"{{"module": "keras.layers", "class_name": "InputLayer", "name": "{name}",
            "config": {{"batch_shape": {shape}, "dtype": {kind}, "name": "{name}"}}}}"#
        )
    };
    let policy = r#"{"class_name": "DTypePolicy", "config": {"name": "float16"}}"#;
    let layers = [
        layer("image", "[null, 8, 8, 1]", r#""float32""#),
        layer("words", "[null, 1]", r#""string""#),
        format!(r#"{{"module": "own.layers", "class_name": "Mix", "name": "mix", "config": {{"dtype": {policy}}}}}"#),
    ];
    let config = |inputs: &str| {
        format!(
            r#"{{"module": "keras", "class_name": "Functional", "config": {{"name": "net", "layers": [{}],
            "input_layers": {inputs}, "output_layers": ["mix", 0, 0]}}}}"#,
            layers.join(",")
        )
    };
    let metadata = br#"{"keras_version": "3.15.1"}"#;
    let of = |config: &str| {
        let members = [("metadata.json", &metadata[..]), ("config.json", config.as_bytes()), ("model.weights.h5", b"")];
        let model = inspect(&zipped(&members), "a.keras");
        assert!(model.faults.is_empty(), "{:?}", model.faults);
        model.about
    };
    for inputs in [r#"[["words", 0, 0], ["image", 0, 0]]"#, r#"{"a": ["words", 0, 0], "b": ["image", 0, 0]}"#] {
        let about = of(&config(inputs));
        assert_eq!((about.version.as_deref(), about.class.as_deref()), (Some("3.15.1"), Some("Functional")));
        assert_eq!(about.inputs.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(), ["words", "image"]);
        assert_eq!((about.inputs[0].kind, about.inputs[1].shape.len()), (Some(Kind::Text), 4));
        assert_eq!((about.outputs[0].name.as_str(), about.outputs[0].kind), ("mix", Some(Kind::Number("float16"))));
        assert_eq!(about.untrusted, ["own.layers.Mix"]);
    }
    assert_eq!(of(&config(r#"["image", 0, 0]"#)).inputs.len(), 1);
    let built = r#"{"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense", "config": {"name": "d"}}]},
        "build_config": {"input_shape": [null, 3]}}"#;
    let about = of(built);
    assert_eq!((about.inputs[0].shape.as_slice(), about.outputs[0].name.as_str()), (&[None, Some(3)][..], "d"));
    // Within HDF5, text after text.
    let mut bytes = b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08".to_vec();
    bytes.resize(1000, 0);
    bytes.extend(b"keras_version\0\0\x062.15.0\0\0tensorflow\0\0");
    bytes.extend(config(r#"["image", 0, 0]"#).replacen(r#""module": "keras", "#, "", 1).as_bytes());
    let about = inspect(&bytes, "a.h5").about;
    assert_eq!((about.version.as_deref(), about.inputs.len()), (Some("2.15.0"), 1));
}

#[test]
fn arrays_that_gensim_keeps_beside_are_named() {
    let bytes = b"\x80\x04\x8c\x16gensim.models.fasttext\x8c\x01M\x93)\x81}(\x8c\x08__numpys](\x8c\x04syn1\x8c\x04../xe\
        \x8c\x15__recursive_saveloads]\x8c\x02wva\x8c\x02wv\x8c\x06gensim\x8c\x01K\x93)\x81}\x8c\x08__numpys]\x8c\x01vasbub.";
    let model = inspect(bytes, "folder/w2v.model");
    assert!(model.faults.is_empty(), "{:?}", model.faults);
    // What is no name leads nowhere else.
    assert_eq!(model.beside, ["w2v.model.syn1.npy", "w2v.model.wv.v.npy"]);
}

/// A dictionary of one tensor, `w`, of two rows of four numbers.
const TENSORS: &[u8] = b"}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n\
    X\x01\0\0\x000X\x03\0\0\0cpuK\x08tQK\x00K\x02K\x04\x86K\x04K\x01\x86\x89}tRs";

#[test]
fn tensors_of_pytorch_have_names_and_shapes() {
    let wanted = Tensor { name: "w".to_owned(), kind: Some(Kind::Number("float32")), shape: vec![Some(2), Some(4)] };
    let alone = [b"\x80\x02", TENSORS, b"."].concat();
    let lightning = [
        b"\x80\x02}(X\x0a\0\0\0state_dict",
        TENSORS,
        b"X\x19\0\0\0pytorch-lightning_versionX\x05\0\0\x002.6.6X\x10\0\0\0hyper_parameters}X\x04\0\0\0sizeK\x04su.",
    ];
    for bytes in [alone, lightning.concat()] {
        let Model { format, faults, about, .. } =
            inspect(&zipped(&[("net/data.pkl", &bytes), ("net/version", b"3"), ("net/data/0", &[0; 32])]), "a.pt");
        assert_eq!((format, faults.as_slice()), (Format::PyTorch, &[][..]));
        assert_eq!(about.weights, std::slice::from_ref(&wanted));
        if let Some(version) = about.properties.get("pytorch-lightning_version") {
            assert_eq!((version.as_str(), about.properties["hyper_parameters"].as_str()), ("2.6.6", r#"{"size":4}"#));
        }
    }
    let header = br#"{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,4],"data_offsets":[0,32]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 32]].concat();
    let about = inspect(&bytes, "a.safetensors").about;
    assert_eq!((about.weights.as_slice(), about.properties["format"].as_str()), (&[wanted][..], "pt"));
}

#[test]
fn torchscript_and_exported_programs_say_what_they_take() {
    let code =
        b"class Net(Module):\n  training : bool\n  def forward(self: __torch__.net.Net,\n    measures: Tensor,\n    \
        sizes: List[int]=[1]) -> Tensor:\n    return measures\n";
    let object = b"\x80\x02c__torch__.net\nNet\n)\x81}X\x08\0\0\0training\x89sb.";
    let members: [(&str, &[u8]); 5] = [
        ("net/data.pkl", object),
        ("net/code/__torch__/net.py", code),
        ("net/code/__torch__/net.py.debug_pkl", b"\x80\x02ctorch.jit._pickle\nbuild_intlist\n]\x85R."),
        ("net/constants.pkl", b"\x80\x02)."),
        ("net/version", b"3"),
    ];
    let Model { format, about, .. } = inspect(&zipped(&members), "a.pt");
    assert_eq!((format, about.class.as_deref()), (Format::TorchScript, Some("Net")));
    let found: Vec<_> =
        about.arguments.iter().map(|a| (a.name.as_str(), a.annotation.as_str(), a.has_default)).collect();
    assert_eq!(found, [("measures", "Tensor", false), ("sizes", "List[int]", true)]);
    assert_eq!(about.properties["answer"], "Tensor");
    // It is a program, which is said once: neither its own classes nor what its notes name is a danger of its own.
    assert_eq!(said("a.pt", &zipped(&members)), [Code::CarriesCode].into());
    let size = r#"[{"as_expr": {"expr_str": "s0"}}, {"as_int": 4}]"#;
    let program = format!(
        r#"{{"torch_version": "2.15.0+cpu", "schema_version": {{"major": 8, "minor": 20}}, "graph_module": {{
        "graph": {{"nodes": [[[1]]], "tensor_values": {{"x": {{"dtype": 7, "sizes": {size}}}}}}},
        "signature": {{"input_specs": [{{"parameter": {{"arg": {{"name": "w"}}}}}},
            {{"user_input": {{"arg": {{"as_tensor": {{"name": "x"}}}}}}}}],
            "output_specs": [{{"user_output": {{"arg": {{"as_tensor": {{"name": "y"}}}}}}}}]}}}}}}"#
    );
    for (name, mark) in
        [("net/models/model.json", "net/archive_format"), ("serialized_exported_program.json", "version")]
    {
        let Model { format, faults, about, .. } =
            inspect(&zipped(&[(name, program.as_bytes()), (mark, b"pt2")]), "a.pt2");
        assert_eq!((format, faults.as_slice()), (Format::TorchExport, &[][..]));
        assert_eq!(about.version.as_deref(), Some("2.15.0+cpu"));
        let kind = Some(Kind::Number("float32"));
        assert_eq!(about.inputs, [Tensor { name: "x".to_owned(), kind, shape: vec![None, Some(4)] }]);
        assert_eq!(about.outputs.len(), 1);
    }
}

/// What fastText writes of two labels and a word, which the matrices follow.
fn fasttext() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [793_712_314_u32, 12, 8, 5, 50, 1, 5, 1, 3, 3, 2_000_000, 0, 0, 100] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(1e-4_f64.to_le_bytes());
    [3_u32, 1, 2].iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    bytes.extend([9, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    for (word, kind) in [("film", 0), ("__label__good", 1), ("__label__bad", 1)] {
        bytes.extend(word.as_bytes());
        bytes.extend([0, 5, 0, 0, 0, 0, 0, 0, 0, kind]);
    }
    bytes
}

#[test]
fn fasttext_spacy_and_gguf_say_what_they_are() {
    let whole = fasttext();
    for end in 8..whole.len() {
        let model = inspect(&whole[..end], "a.bin");
        assert!(model.format == Format::FastText && !model.faults.is_empty(), "{end}");
    }
    let Model { format, faults, about, .. } = inspect(&whole, "a.bin");
    assert_eq!((format, faults.as_slice()), (Format::FastText, &[][..]));
    assert_eq!((about.class.as_deref(), about.classes), (Some("fastText (supervised)"), Some(2)));
    assert_eq!(about.labels, ["good", "bad"]);
    let folder = tempfile::tempdir().unwrap();
    let meta = r#"{"lang": "en", "name": "mood", "version": "1.0", "spacy_version": ">=3.8,<3.9", "pipeline": ["textcat"],
        "labels": {"textcat": ["good", "bad"]}, "requirements": ["spacy-curated-transformers>=1"], "performance": {}}"#;
    fs::write(folder.path().join("meta.json"), meta).unwrap();
    let Model { format, about, .. } = model::pipeline(folder.path()).unwrap();
    assert_eq!((format, about.class.as_deref()), (Format::Spacy, Some("en_mood")));
    assert_eq!((about.version.as_deref(), about.labels.len()), (Some(">=3.8,<3.9"), 2));
    assert_eq!(about.requirements, ["spacy-curated-transformers>=1"]);
    fs::write(folder.path().join("meta.json"), &meta[..meta.len() / 2]).unwrap();
    assert!(!model::pipeline(folder.path()).unwrap().faults.is_empty());
    let mut gguf = b"GGUF\x03\0\0\0".to_vec();
    [0_u64, 3].iter().for_each(|number| gguf.extend(number.to_le_bytes()));
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    gguf.extend([text("general.architecture"), vec![8, 0, 0, 0], text("llama")].concat());
    gguf.extend([text("llama.context_length"), vec![4, 0, 0, 0, 64, 0, 0, 0]].concat());
    gguf.extend([text("words"), vec![9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], text("a")].concat());
    let Model { faults, about, .. } = inspect(&gguf, "a.gguf");
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!((about.class.as_deref(), about.properties["llama.context_length"].as_str()), (Some("llama"), "64"));
}

#[test]
fn formats_are_known_by_their_content() {
    let mut gguf = b"GGUF\x03\0\0\0".to_vec();
    gguf.extend([0; 16]);
    for (bytes, name, format) in [
        (&b"N."[..], "a.pkl", Format::Pickle),
        (b"\x80\x04N.", "a", Format::Pickle),
        (b"\x02\0\0\0\0\0\0\0{}", "a.safetensors", Format::Safetensors),
        (&gguf, "a.bin", Format::Gguf),
        (b"\x08\x07\x3a\x00", "a.onnx", Format::Onnx),
        (b"just text", "a.txt", Format::Other),
        (&zipped(&[("archive/data.pkl", b"N.")]), "a.bin", Format::PyTorch),
        (&zipped(&[("a.npy", b"x")]), "a.bin", Format::NumpyZip),
        (&zipped(&[("config.json", b"{}"), ("metadata.json", b"{}"), ("model.weights.h5", b"")]), "a", Format::Keras),
    ] {
        let model = inspect(bytes, name);
        assert_eq!(model.format, format, "{name}");
        assert!(model.faults.is_empty(), "{name}: {:?}", model.faults);
    }
}

/// A model that `fixtures/models/make.py` wrote, whole and harmless.
fn real(name: &str) -> Model {
    let path = Path::new("fixtures/models").join(name);
    let model = model::inspect(&Origin::File(&path), name, path.metadata().unwrap().len()).unwrap();
    assert!(model.faults.is_empty(), "{name}: {:?}", model.faults);
    // It is the same from a stream, and under a name that says nothing.
    let streamed = inspect(&fs::read(&path).unwrap(), "a");
    assert_eq!((streamed.format, &streamed.about), (model.format, &model.about));
    model
}

fn names(columns: &[Column]) -> Vec<&str> {
    columns.iter().map(|column| column.name.as_deref().unwrap_or_default()).collect()
}

#[test]
fn boosters_say_what_they_take() {
    for name in ["xgboost.ubj", "xgboost.json"] {
        let Model { format, about, .. } = real(name);
        assert_eq!(format, Format::XGBoost);
        assert_eq!(about.version.as_deref(), Some("3.2.0"));
        assert_eq!((about.class.as_deref(), about.classes), (Some("Booster (multi:softprob)"), Some(3)));
        assert_eq!(names(&about.columns), ["petal length (cm)", "visits", "colour"]);
        let [petal, visits, colour] = about.columns.as_slice() else { panic!() };
        // Where a tree splits.
        assert!(petal.example.as_ref().and_then(|e| e.as_f64()).is_some_and(|e| (2.0..4.0).contains(&e)));
        assert_eq!((visits.kind, visits.example.clone()), (Some(Kind::Number("int64")), Some(7.into())));
        assert!(colour.is_category);
        assert_eq!(colour.categories, ["blue", "green", "red"]);
    }
    let Model { format, about, .. } = real("lightgbm.txt");
    assert_eq!(format, Format::LightGBM);
    assert_eq!((about.version.as_deref(), about.classes), (Some("v4"), Some(3)));
    // LightGBM has no spaces in names.
    assert_eq!(names(&about.columns), ["petal_length_(cm)", "visits", "colour"]);
    assert_eq!(about.columns[1].range, Some((0.0, 8.0)));
    assert_eq!(about.columns[2].categories, ["blue", "green", "red"]);
}

#[test]
fn a_model_in_json_is_no_document() {
    let folder = tempfile::tempdir().unwrap();
    let whole = br#"{"learner":{"learner_model_param":{"num_feature":"2"},"objective":{"name":"reg:squarederror"}},"version":[3,0,0]}"#;
    for (name, bytes, wanted) in [
        ("booster.json", &whole[..], None),
        ("cut.json", &whole[..60], Some(Code::BrokenModel)),
        ("hidden.json", SYSTEM, Some(Code::DangerousGlobal)),
        // What is neither is taken for a manifest.
        ("other.json", b"{}", Some(Code::MissingKey)),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let [checked] = &check::of(&[path])[..] else { panic!("{name}") };
        assert_eq!(checked.kind == check::Kind::Model, name != "other.json", "{name}");
        assert_eq!(codes(&checked.diagnostics).into_iter().next(), wanted, "{name}");
    }
}

#[test]
fn catboost_says_what_it_takes() {
    let Model { format, about, .. } = real("catboost.cbm");
    assert_eq!((format, about.version.as_deref()), (Format::CatBoost, Some("1.2.10")));
    assert_eq!((about.class.as_deref(), about.classes), (Some("CatBoostClassifier"), Some(3)));
    assert_eq!(about.labels, ["large", "middle", "small"]);
    assert_eq!(names(&about.columns), ["petal length (cm)", "visits", "colour", "note"]);
    let [petal, _, colour, note] = about.columns.as_slice() else { panic!() };
    assert!(petal.example.as_ref().is_some_and(serde_json::Value::is_f64) && colour.is_category);
    assert_eq!(note.kind, Some(Kind::Text));
    let Model { format, about, .. } = real("catboost.json");
    assert_eq!((format, about.version.as_deref(), about.classes), (Format::CatBoost, Some("1.2.10"), Some(2)));
    assert_eq!(names(&about.columns), ["petal length (cm)", "visits"]);
}

#[test]
fn skops_is_read_as_a_pickle_is() {
    let Model { format, about, pickles, .. } = real("pipeline.skops");
    assert_eq!((format, about.version.as_deref()), (Format::Skops, Some("0.16.0")));
    assert_eq!(about.class.as_deref(), Some("Pipeline"));
    assert_eq!(about.untrusted, ["sklearn.tree._tree.Tree"]);
    let [(_, pickles)] = pickles.as_slice() else { panic!("{pickles:?}") };
    assert!(pickles.whole && pickles.globals.keys().any(|(_, name)| name == "DecisionTreeClassifier"));
    assert_eq!(pickles.versions.get("_sklearn_version").map(String::as_str), Some("1.9.1"));
    let root = pickles.objects.root().unwrap();
    assert_eq!(root.class(), Some(("sklearn.pipeline", "Pipeline")));
    let steps = root.get("steps").and_then(|steps| steps.items()).unwrap();
    let first = steps[0].items().unwrap()[1];
    assert_eq!(first.class().map(|(_, class)| class), Some("ColumnTransformer"));
    let names = first.get("feature_names_in_").and_then(|names| names.elements()).unwrap();
    assert_eq!(names, ["petal length (cm)", "visits", "colour"]);
    let scaler = first.get("transformers_").unwrap().items().unwrap()[0].items().unwrap()[1];
    assert_eq!(scaler.get("mean_").and_then(|mean| mean.elements()).map(|mean| mean.len()), Some(2));
    assert_eq!(scaler.get("n_features_in_").and_then(|count| count.integer()), Some(2));
    assert!(said("pipeline.skops", &fs::read("fixtures/models/pipeline.skops").unwrap()).is_empty());
}

#[test]
fn what_skops_would_import_is_judged() {
    let of = |schema: &str| said("model.skops", &zipped(&[("schema.json", schema.as_bytes())]));
    let node = |loader: &str, module: &str, class: &str, rest: &str| {
        format!(r#"{{"__class__": "{class}", "__module__": "{module}", "__loader__": "{loader}"{rest}}}"#)
    };
    let dangerous: BTreeSet<_> = [Code::DangerousGlobal].into();
    let function = node("FunctionNode", "os", "system", "");
    assert_eq!(of(&function), dangerous);
    assert_eq!(of(&node("TypeNode", "subprocess", "Popen", "")), dangerous);
    assert_eq!(of(&node("MethodNode", "builtins", "x", r#", "content": {"func": "y", "obj": null}"#)).len(), 1);
    let list = node("ListNode", "builtins", "list", &format!(r#", "content": [{function}]"#));
    assert_eq!(of(&list), dangerous);
    let object = node("ObjectNode", "sklearn.svm._classes", "SVC", &format!(r#", "content": {list}"#));
    assert_eq!(of(&object), dangerous);
    let reduced = node("TreeNode", "sklearn.tree._tree", "Tree", &format!(r#", "__reduce__": {{"args": {list}}}"#));
    assert_eq!(of(&reduced), dangerous);
    let partial = node("PartialNode", "functools", "partial", &format!(r#", "content": {{"func": {function}}}"#));
    assert!(of(&partial).contains(&Code::DangerousGlobal));
    // Nested deeper than anybody writes: it could hide what is in it.
    let open = node("ListNode", "builtins", "list", r#", "content": ["#);
    let deep = format!("{}{function}{}", open.trim_end_matches('}').repeat(300), "]}".repeat(300));
    assert_eq!(of(&deep), [Code::NotLookedInto].into());
}

#[test]
fn boosters_of_before_are_known() {
    let mut old = Vec::new();
    old.extend(0.5_f32.to_le_bytes());
    [4_u32, 3, 0, 0, 1, 7].into_iter().for_each(|number| old.extend(number.to_le_bytes()));
    old.resize(136, 0);
    old.extend(13_u64.to_le_bytes());
    old.extend(b"multi:softmax");
    for bytes in [old.clone(), [b"binf", old.as_slice()].concat()] {
        let Model { format, about, .. } = inspect(&bytes, "a.model");
        assert_eq!(format, Format::XGBoost);
        assert_eq!((about.version.as_deref(), about.classes, about.columns.len()), (Some("1.7"), Some(3), 4));
    }
}

#[test]
fn of_large_boosters_beginning_and_end_are_read() {
    let small = String::from_utf8(fs::read("fixtures/models/xgboost.json").unwrap()).unwrap();
    let known = inspect(small.as_bytes(), "a").about;
    let tree = r#"{"base_weights":[1.5,2.5],"left_children":[-1],"split_indices":[0]},"#;
    let many = small.replace("\"trees\":[", &format!("\"trees\":[{}", tree.repeat(200_000)));
    for bytes in [small.replace('{', "{\n "), many] {
        let model = inspect(bytes.as_bytes(), "a");
        assert!(model.faults.is_empty(), "{:?}", model.faults);
        assert_eq!(model.about.version, known.version);
        assert_eq!((model.about.classes, names(&model.about.columns)), (known.classes, names(&known.columns)));
    }
    // A gigabyte of one tree's numbers.
    let bytes = fs::read("fixtures/models/xgboost.ubj").unwrap();
    let sign = b"base_weights[$d#L";
    let at = bytes.windows(sign.len()).position(|window| window == sign).unwrap() + sign.len();
    let count = u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
    let (more, folder) = (1_u64 << 28, tempfile::tempdir().unwrap());
    let path = folder.path().join("a.ubj");
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(&[&bytes[..at], &(count + more).to_be_bytes()].concat()).unwrap();
    file.set_len((at + 8) as u64 + more * 4).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
    file.write_all(&bytes[at + 8..]).unwrap();
    let start = Instant::now();
    let model = model::inspect(&Origin::File(&path), "a.ubj", path.metadata().unwrap().len()).unwrap();
    assert!(model.faults.is_empty() && start.elapsed() < Duration::from_secs(60), "{:?}", model.faults);
    assert_eq!((model.about.version, model.about.classes), (known.version, known.classes));
}

#[test]
fn boosters_that_end_early_are_broken() {
    for name in ["xgboost.ubj", "xgboost.json", "lightgbm.txt", "catboost.cbm", "catboost.json"] {
        let bytes = fs::read(Path::new("fixtures/models").join(name)).unwrap();
        let model = inspect(&bytes[..bytes.len() / 2], name);
        assert!(matches!(model.faults.as_slice(), [Fault::Broken(..)]), "{name}: {:?}", model.faults);
    }
}

#[test]
fn keras_with_a_layer_of_code_is_refused() {
    let config = br#"{"layers": [{"class_name": "Lambda"}]}"#;
    let bytes = zipped(&[("config.json", config), ("metadata.json", b"{}"), ("model.weights.h5", b"")]);
    assert_eq!(said("model.keras", &bytes), [Code::CarriesCode].into());
}

#[test]
fn the_manifest_allows_what_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, bytes: &[u8]| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("src/predict.py", b"def predict(): pass\n");
    write(
        "model.pkl",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x930\x8c\x05other\x8c\x05Model\x930\x8c\x05shape\x8c\x03Box\x93.",
    );
    let load = |allow: &str| {
        let manifest = format!(
            "name: iris\nmodel: {{files: [model.pkl], allow: [{allow}]}}\nservice: {{predict: src/predict.py:predict}}\n"
        );
        write("ekiben.yaml", manifest.as_bytes());
        match Project::load(folder.path()) {
            Ok((_, found)) | Err(found) => found,
        }
    };
    let all = load("");
    assert_eq!(all.len(), 3, "{}", rendered(&all));
    assert_eq!(codes(&load("other.Model, shape.Box")), [Code::DangerousGlobal].into());
    assert!(load("'other.*', shape.Box, posix.system").is_empty());
    // What the project itself defines is its own.
    write("src/shape.py", b"class Box: pass\n");
    assert!(load("other.Model, posix.system").is_empty());
    // The file alone is judged with its project.
    assert!(check(&folder.path().join("model.pkl")).is_empty());
}

#[test]
fn of_four_gigabytes_only_what_is_needed_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let size: u64 = 4 << 30;
    let sparse = |name: &str, head: &[u8], tail: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(head).unwrap();
        file.set_len(head.len() as u64 + size).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
        file.write_all(tail).unwrap();
        path
    };
    let mut pickle = b"\x80\x05\x8e".to_vec();
    pickle.extend(size.to_le_bytes());
    let tail = &SYSTEM[2..];
    let pickle = sparse("a.pkl", &pickle, tail);
    assert_eq!(codes(&check(&pickle)), [Code::DangerousGlobal].into());
    let header = format!("{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{size}],\"data_offsets\":[0,{size}]}}}}");
    let mut safetensors = (header.len() as u64).to_le_bytes().to_vec();
    safetensors.extend(header.as_bytes());
    let safetensors = sparse("a.safetensors", &safetensors, b"");
    assert!(check(&safetensors).is_empty());
    // The kernel counts what the process had from which a program is started: so a small one starts it.
    let starter = "import resource, subprocess, sys\n\
                   code = subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL).returncode\n\
                   print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
    let mut python = std::process::Command::new("python3");
    let program = python.args(["-c", starter, env!("CARGO_BIN_EXE_ekiben"), "validate"]).args([&pickle, &safetensors]);
    let said = String::from_utf8(program.output().unwrap().stdout).unwrap();
    let (code, memory) = said.lines().last().unwrap().split_once(' ').unwrap();
    assert_eq!(code, "3", "{said}");
    assert!(memory.parse::<u64>().unwrap() < 100 << 10, "{memory} kB");
}

#[test]
fn bombs_end_soon_and_small() {
    // Entries in the memo far apart, a stack of millions, marks without end.
    let mut memo = b"\x80\x04".to_vec();
    (0..300_000_u32).for_each(|number| {
        memo.extend(b"K\x01r");
        memo.extend((number.wrapping_mul(2_654_435_761)).to_le_bytes());
        memo.push(b'0');
    });
    let numbers = b"K\x01".repeat(2_000_000);
    let marks = b"(".repeat(2_000_000);
    let memoized = [&b"\x80\x04"[..], &b"N\x94".repeat(1_000_000)].concat();
    let dicts = b"}".repeat(500_000);
    for bytes in [memo, numbers, marks, memoized, dicts, b"]2a".repeat(300_000), b"S'\\\\".repeat(1_000_000)] {
        let start = Instant::now();
        let model = inspect(&bytes, "a.pkl");
        assert!(!model.faults.is_empty());
        assert!(start.elapsed() < crate::home::PATIENCE, "{:?}", start.elapsed());
    }
}

/// Beginnings of all formats, which random bytes follow.
const HEADS: [&[u8]; 18] = [
    b"",
    b"\x80\x04",
    b"\x80\x02",
    b"\x93NUMPY\x01\0",
    b"GGUF\x03\0\0\0",
    b"\x89HDF\r\n\x1a\n",
    b"PK\x03\x04",
    b"\x1f\x8b\x08\0",
    b"\x78\x9c",
    b"\x08\x07\x3a",
    b"\x02\0\0\0\0\0\0\0{\"",
    b"\xfd7zXZ\0",
    b"{\"learner\":{",
    b"{L\0\0\0\0\0\0\0\x07learner{",
    b"tree\nversion=v4\n",
    b"CBM1\xff\0\0\0",
    b"{\"features_info\":{\"float_features\":",
    b"\x14\0\0\0TFL3",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_bytes_end_in_an_answer(
        head in 0..HEADS.len(),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        name in prop_oneof![Just("a.pkl"), Just("a.onnx"), Just("a.safetensors"), Just("a.bin")],
    ) {
        inspect(&[HEADS[head], &bytes].concat(), name);
    }

    #[test]
    fn what_looks_like_a_pickle_ends_in_an_answer(
        opcodes in proptest::collection::vec(proptest::sample::select(
            &b"(012FIJKLMNPQRSTUVX]ab}cdeghijloprqstu)GBC.\x80\x81\x82\x85\x86\x87\x88\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98\x01\x02\n'aos"[..]
        ), 0..200),
    ) {
        ekiben::project::init::proposal::of_file(&inspect(&opcodes, "a.pkl"), "a.pkl");
    }

    #[test]
    fn a_broken_archive_ends_in_an_answer(at in 0..400_usize, byte in any::<u8>(), cut in 0..400_usize) {
        let mut bytes = zipped(&[("archive/data.pkl", SYSTEM), ("archive/data/0", b"0123456789")]);
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(length - cut % length / 4);
        inspect(&bytes, "a.pt");
    }
}

/// How many inputs the readers get.
fn fuzz_wanted() -> usize {
    std::env::var("EKIBEN_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

/// A few changes: cut off, other bytes, bits, a piece of `other`, a large number.
fn mutated(mut bytes: Vec<u8>, other: &[u8], random: &mut StdRng) -> Vec<u8> {
    for _ in 0..random.gen_range(1..6) {
        let at = random.gen_range(0..=bytes.len());
        match random.gen_range(0..5) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = random.r#gen(),
            2 if at < bytes.len() => bytes[at] ^= 1 << random.gen_range(0..8),
            3 => {
                let from = random.gen_range(0..=other.len());
                let to = (from + random.gen_range(0..40)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => bytes.splice(at..at, [0xff, 0xff, 0xff, 0x7f]).for_each(drop),
        }
    }
    bytes
}

/// Runs `run(seed, inputs)` on two processors, and gives the longest that one input took.
fn by_both_halves(wanted: usize, run: impl Fn(u64, usize) -> Duration + Sync) -> Duration {
    std::thread::scope(|scope| {
        let run = &run;
        let halves: Vec<_> = (0..2).map(|seed| scope.spawn(move || run(seed, wanted.div_ceil(2)))).collect();
        halves.into_iter().map(|half| half.join().unwrap()).max().unwrap()
    })
}

/// Models of real frameworks, files and folders, with one file of each changed: whatever comes, `init` ends with a project or
/// an error, and leaves nothing behind where it fails. `scripts/fuzz-models.sh` makes them and runs this.
#[test]
#[ignore = "takes minutes, and needs the frameworks; scripts/fuzz-models.sh runs it"]
fn projects_of_broken_models_are_made_or_refused() {
    use ekiben::project::init::{self, Start};

    let zoo = PathBuf::from(std::env::var_os("EKIBEN_ZOO").expect("EKIBEN_ZOO names a folder of models"));
    let mut seeds: Vec<(PathBuf, Vec<PathBuf>, Vec<PathBuf>)> = Vec::new();
    for case in fs::read_dir(&zoo).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(text) = fs::read_to_string(case.join("case.json")) else { continue };
        let known: serde_json::Value = serde_json::from_str(&text).unwrap();
        let model = case.join(known["model"].as_str().unwrap());
        let files = files_below(&case.join("saved"));
        // What is large is arrays.
        let small = |path: &&PathBuf| path.metadata().unwrap().len() < 300_000;
        let changed = files.iter().filter(small).filter(|path| path.starts_with(&model)).cloned().collect();
        seeds.push((model.strip_prefix(&case).unwrap().to_owned(), files, changed));
    }
    seeds.retain(|(_, _, changed)| !changed.is_empty());
    seeds.sort();
    assert!(seeds.len() > 20, "{} has {} models", zoo.display(), seeds.len());
    let run = |seed: u64, count: usize| {
        let mut random = StdRng::seed_from_u64(seed);
        let mut slowest = Duration::ZERO;
        for _ in 0..count {
            let (model, files, changed) = &seeds[random.gen_range(0..seeds.len())];
            let broken = &changed[random.gen_range(0..changed.len())];
            let other = &seeds[random.gen_range(0..seeds.len())].2;
            let other = fs::read(&other[random.gen_range(0..other.len())]).unwrap();
            let folder = tempfile::tempdir_in("/dev/shm").unwrap();
            for file in files {
                let saved = file.components().position(|part| part.as_os_str() == "saved").unwrap();
                let copy = folder.path().join(file.components().skip(saved).collect::<PathBuf>());
                fs::create_dir_all(copy.parent().unwrap()).unwrap();
                if file == broken {
                    fs::write(&copy, mutated(fs::read(file).unwrap(), &other, &mut random)).unwrap();
                } else if file.metadata().unwrap().len() < 5_000_000 {
                    fs::copy(file, &copy).unwrap();
                }
            }
            let project = folder.path().join("project");
            let start = Start { folder: project.clone(), model: Some(folder.path().join(model)), ..Start::default() };
            let (started, mut found) = (Instant::now(), Diagnostics::new());
            let result = init::start(&start, &mut found);
            slowest = slowest.max(started.elapsed());
            rendered(&found);
            assert_eq!(result.is_ok(), project.exists(), "{model:?} with another {broken:?}: {result:?}");
        }
        slowest
    };
    let slowest = by_both_halves(fuzz_wanted(), run);
    assert!(slowest < Duration::from_secs(60), "{slowest:?}");
    println!("{} projects of {} models; the slowest took {slowest:?}", fuzz_wanted(), seeds.len());
}

/// All files below a folder, in order.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let below = |name: &String| {
        let path = folder.join(name);
        if path.is_dir() { files_below(&path) } else { vec![path] }
    };
    crate::home::names(folder).iter().flat_map(below).collect()
}

/// Many inputs for every reader of foreign bytes, made from what is in `fixtures` by a few changes each, the same ones
/// every time. `scripts/bench-validate.sh` runs a million: `EKIBEN_FUZZ` says how many.
#[test]
#[ignore = "takes minutes; scripts/bench-validate.sh runs it"]
fn a_million_inputs_end_in_answers() {
    use ekiben::formats::diagnostic::Source;
    use ekiben::formats::document::{Document, Format};
    use ekiben::formats::schema::{self, Kind};

    let wanted = fuzz_wanted();
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    for folder in
        ["fixtures/invalid", "fixtures/invalid/src", "fixtures/iris", "fixtures/analytics", "fixtures/metadata"]
    {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_file() && !name.ends_with(".txt") {
                let mut bytes = fs::read(&path).unwrap();
                bytes.truncate(4096);
                seeds.push((name, bytes));
            }
        }
    }
    for entry in fs::read_dir("fixtures/models").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending != "py") {
            seeds.push((path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()));
        }
    }
    seeds.extend(HEADS.map(|head| ("a.pkl".to_owned(), [head, SYSTEM].concat())));
    seeds.push(("a.tflite".to_owned(), tflite(None)));
    seeds.push(("a.bin".to_owned(), fasttext()));
    seeds.push(("a.pkl".to_owned(), zstd::encode_all(SYSTEM, 1).unwrap()));
    seeds.push(("a.pt".to_owned(), zipped(&[("archive/data.pkl", SYSTEM), ("a.npy", b"\x93NUMPY\x01\0")])));
    seeds.sort();
    let run = |seed: u64, count: usize| {
        let mut random = StdRng::seed_from_u64(seed);
        let mut slowest = Duration::ZERO;
        for _ in 0..count {
            let (name, bytes) = &seeds[random.gen_range(0..seeds.len())];
            let (_, other) = &seeds[random.gen_range(0..seeds.len())];
            let bytes = mutated(bytes.clone(), other, &mut random);
            let start = Instant::now();
            inspect(&bytes, name);
            let text = String::from_utf8_lossy(&bytes);
            if name.ends_with(".py") {
                let _ = ekiben::formats::source::function(&text, "predict");
            } else if let Some(format) = match name.rsplit('.').next() {
                Some("yaml") => Some(Format::Yaml),
                Some("json" | "lock") => Some(Format::Json),
                Some("json5") => Some(Format::Json5),
                _ => None,
            } {
                let mut found = Diagnostics::new();
                if let Some(document) = Document::parse(&Source::new("x", text), format, &mut found) {
                    let kind = Kind::ALL[random.gen_range(0..Kind::ALL.len())];
                    ekiben::formats::schema::load::checked::<serde_json::Value>(
                        &document,
                        schema::of(kind),
                        &mut found,
                    );
                }
                rendered(&found);
            }
            slowest = slowest.max(start.elapsed());
        }
        slowest
    };
    let slowest = by_both_halves(wanted, run);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim();
    // What the script puts into the table.
    fs::write(
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz.txt"),
        format!("{wanted} {} {peak}", slowest.as_millis()),
    )
    .unwrap();
    assert!(slowest < Duration::from_secs(60), "{slowest:?}");
}
