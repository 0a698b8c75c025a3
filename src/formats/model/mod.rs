//! Files of models, read as data: what they are, whether they are whole, and what loading them would import.
//!
//! A file is recognised by its content; its name decides only where the content cannot (pickles of protocols 0 and 1
//! begin like any text). Invariants: nothing of a file is run or unpickled; only what is needed is read, so the size of
//! the weights does not matter; any bytes end in a [`Model`] or an error of the disk, in bounded memory.

pub mod catboost;
pub mod cloudpickle;
mod fasttext;
mod feed;
mod flatbuffer;
mod gensim;
mod gguf;
pub mod globals;
mod hdf5;
mod keras;
pub mod lightgbm;
mod numpy;
mod object;
mod onnx;
mod outline;
mod pickle;
mod protobuf;
mod safetensors;
mod skops;
mod spacy;
mod tensorflow;
mod texts;
mod tflite;
mod torch;
pub mod xgboost;
mod zipped;

use std::collections::BTreeMap;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::path::Path;

use fs_err as fs;
use serde_json::Value as Json;

pub use object::{Object, Objects};
pub use pickle::Pickles;
pub use spacy::pipeline;
pub use tensorflow::saved_model;

use feed::{Feed, OnDisk, Stop, Stream};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A pickle, also joblib's, and PyTorch's before 1.6.
    Pickle,
    /// A pickle that joblib compressed.
    CompressedPickle,
    /// PyTorch's zip of a pickle and tensors, since 1.6.
    PyTorch,
    /// PyTorch's zip of a program with its code, made by `torch.jit`.
    TorchScript,
    /// PyTorch's zip of a program that `torch.export` made.
    TorchExport,
    /// NumPy's array.
    Numpy,
    /// NumPy's zip of arrays.
    NumpyZip,
    /// Tensors without code.
    Safetensors,
    /// ONNX, a protocol buffer.
    Onnx,
    /// GGUF of ggml and llama.cpp.
    Gguf,
    /// HDF5, as Keras 2 writes it.
    Hdf5,
    /// Keras 3's zip.
    Keras,
    /// A booster of XGBoost's, in JSON, Universal Binary JSON, or the binary format of before 3.1.
    XGBoost,
    /// A booster of LightGBM's, as text.
    LightGBM,
    /// CatBoost's model, in its own format or in JSON.
    CatBoost,
    /// TensorFlow's folder of a graph and its variables.
    SavedModel,
    /// TensorFlow Lite's, now LiteRT's.
    TfLite,
    /// fastText's words or labels with their vectors.
    FastText,
    /// spaCy's folder of a pipeline.
    Spacy,
    /// skops' zip of a tree of objects and arrays.
    Skops,
    /// Words and their vectors, as word2vec writes them: in binary, or as text.
    WordVectors,
    /// A tokenizer of Hugging Face's, alone.
    Tokenizer,
    /// A model of prophet's, as JSON.
    Prophet,
    /// Another zip.
    Zip,
    /// The address of a file that Git LFS has not fetched.
    LfsPointer,
    /// None of these.
    Other,
}

/// What was found in a file.
#[derive(Debug)]
pub struct Model {
    /// What it is.
    pub format: Format,
    /// The pickles in it, each with the member of the archive that it is.
    pub pickles: Vec<(Option<String>, Pickles)>,
    /// What is wrong with it.
    pub faults: Vec<Fault>,
    /// Files beside it that it needs: the weights that an ONNX model keeps outside.
    pub beside: Vec<String>,
    /// What it says of itself, where its format has a place for that.
    pub about: About,
}

/// What a model says of itself. All of it comes from the file: texts may be anything, and names may be missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// The version of the package that saved it, or of the format where only that is written down.
    pub version: Option<String>,
    /// What its makers call it: a class, an objective, an architecture.
    pub class: Option<String>,
    /// Between how many classes it decides, two for yes and no. None where it decides nothing, or does not say.
    pub classes: Option<u64>,
    /// What it calls these classes, in its order.
    pub labels: Vec<Json>,
    /// The tensors that it takes, in their order.
    pub inputs: Vec<Tensor>,
    /// The tensors that it answers, in their order.
    pub outputs: Vec<Tensor>,
    /// The ways in which it can be called, where it has several: the first inputs and outputs are those of one of them.
    pub signatures: Vec<Signature>,
    /// What the function that it is takes, in this order, where its code is there to be read.
    pub arguments: Vec<Argument>,
    /// The tensors that it is made of.
    pub weights: Vec<Tensor>,
    /// The columns of the table that it takes, in their order.
    pub columns: Vec<Column>,
    /// Classes and functions that its reader has to be told to trust, as it makes none of others on its own.
    pub untrusted: Vec<String>,
    /// What it requires of the package index, as it was written down.
    pub requirements: Vec<String>,
    /// What else it says of itself, by the names that the format has for it.
    pub properties: BTreeMap<String, String>,
}

/// A way in which a model can be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// What the model calls it.
    pub name: String,
    /// The tensors that it takes, by name.
    pub inputs: Vec<Tensor>,
    /// The tensors that it answers.
    pub outputs: Vec<Tensor>,
}

/// What a function takes under a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Argument {
    /// What the function calls it.
    pub name: String,
    /// Its type, as the code has it: `Tensor`, `List[int]`.
    pub annotation: String,
    /// Whether it may be left out.
    pub has_default: bool,
}

/// A tensor that a model takes or answers, or is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tensor {
    /// What the model calls it.
    pub name: String,
    /// Of which kind its values are.
    pub kind: Option<Kind>,
    /// How many values it has along each axis; none where any number will do.
    pub shape: Vec<Option<u64>>,
}

/// The kind of a tensor's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Numbers and truth values, as NumPy calls their type: `float32`, `int64`, `bool`.
    Number(&'static str),
    /// Texts.
    Text,
}

/// A column of a table that a model takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// What the model calls it. None where it has but a place.
    pub name: Option<String>,
    /// A value that the model saw, or near to those.
    pub example: Option<Json>,
    /// Whether its values are categories: texts or numbers of which each stands for itself.
    pub is_category: bool,
    /// The categories, where the model knows them.
    pub categories: Vec<Json>,
    /// Of which kind its values are, where the model says so.
    pub kind: Option<Kind>,
    /// The least and the greatest value that the model saw.
    pub range: Option<(f64, f64)>,
}

/// Something that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ends too early, or contradicts itself: what, and after which byte.
    Broken(u64, String),
    /// It carries code that loading runs.
    Code(String),
    /// It, or a part of it, could not be looked into.
    Unread(String),
}

impl Model {
    /// A file of this format, of which no more is known.
    pub fn of(format: Format) -> Self {
        Self { format, pickles: Vec::new(), faults: Vec::new(), beside: Vec::new(), about: About::default() }
    }

    /// Notes why reading stopped, unless all was well.
    fn note(&mut self, at: u64, result: Result<(), Stop>) {
        match result {
            Ok(()) => {}
            Err(Stop::TooMuch) => self.faults.push(Fault::Unread(Stop::TooMuch.to_string())),
            Err(Stop::Io(error)) if !is_damage(&error) => self.faults.push(Fault::Unread(error.to_string())),
            Err(stop) => self.faults.push(Fault::Broken(at, stop.to_string())),
        }
    }
}

/// Whether what decompresses says that the bytes are wrong: not the disk, and not that it would need too much memory.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// Bytes that are decompressed of one file at the most. More is not looked at, and that is said.
const MOST_DECOMPRESSED: u64 = 16 << 30;

/// Where the bytes of a model are.
pub enum Origin<'a> {
    /// In a file.
    File(&'a Path),
    /// Where a stream of them can be opened any number of times.
    Stream(&'a dyn Fn() -> io::Result<Box<dyn Read + Send>>),
}

/// Bytes that are written to a temporary file where an archive within a stream has to be read out of order.
const MOST_SPOOLED: u64 = 1 << 30;

impl Origin<'_> {
    fn feed(&self) -> io::Result<Feed<'static>> {
        Ok(match self {
            Self::File(path) => Feed::new(OnDisk::new(fs::File::open(path)?)?),
            Self::Stream(open) => Feed::new(Stream(open()?)),
        })
    }

    fn read(&self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::File(path) => Box::new(fs::File::open(path)?),
            Self::Stream(open) => open()?,
        })
    }

    /// Up to `length` bytes from the byte `at` on: as many as there are. None where all before them would have to be
    /// read, and those are too many.
    fn range(&self, at: u64, length: u64) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        match self {
            Self::File(path) => {
                let mut file = fs::File::open(path)?;
                file.seek(SeekFrom::Start(at))?;
                file.take(length).read_to_end(&mut bytes)?;
            }
            Self::Stream(_) if at > MOST_SPOOLED => return Ok(None),
            Self::Stream(open) => {
                let mut stream = open()?;
                io::copy(&mut (&mut stream).take(at), &mut io::sink())?;
                stream.take(length).read_to_end(&mut bytes)?;
            }
        }
        Ok(Some(bytes))
    }

    /// The same as a file; none where it would be too large.
    fn file(&self, size: u64) -> io::Result<Option<std::fs::File>> {
        match self {
            Self::File(path) => Ok(Some(fs::File::open(path)?.into_parts().0)),
            Self::Stream(_) if size > MOST_SPOOLED => Ok(None),
            Self::Stream(open) => {
                let mut file = tempfile::tempfile()?;
                io::copy(&mut open()?, &mut file)?;
                file.rewind()?;
                Ok(Some(file))
            }
        }
    }
}

/// Looks into the `size` bytes of a file called `name`.
///
/// # Errors
/// When the disk says no.
pub fn inspect(origin: &Origin<'_>, name: &str, size: u64) -> io::Result<Model> {
    let mut head = Vec::new();
    origin.read()?.take(256).read_to_end(&mut head)?;
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    // Git LFS specification, "The Pointer": a text of less than 1024 bytes that begins with its version.
    if size < 1024 && head.starts_with(b"version https://git-lfs.github.com/spec/") {
        return Ok(Model::of(Format::LfsPointer));
    }
    if let Some(format) = plain(&head) {
        // What begins like another format may be a pickle all the same.
        let hidden = pickled(&mut origin.feed()?, Format::Pickle);
        if is_pickle(&hidden) {
            return Ok(hidden);
        }
        return match format {
            Plain::XGBoost(syntax) => xgboost::inspect(origin, size, syntax),
            Plain::LightGBM => lightgbm::inspect(origin, size),
            Plain::CatBoost => catboost::inspect(origin, size),
            Plain::CatBoostJson => catboost::inspect_json(origin),
            Plain::TfLite => tflite::inspect(origin, size),
            Plain::FastText => read_with(origin, Format::FastText, size, fasttext::read),
            Plain::Texts(format) => texts::inspect(origin, &head, format),
        };
    }
    Ok(match head.as_slice() {
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => {
            let mut model = Model::of(Format::Numpy);
            numpy::read(&mut origin.feed()?, Some(size), None, &mut model);
            model
        }
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => match origin.file(size)? {
            Some(file) => zipped::read(file, &ending),
            None => {
                let mut model = Model::of(Format::Zip);
                model.faults.push(Fault::Unread("it is too large to be unpacked for a look".to_owned()));
                model
            }
        },
        [b'G', b'G', b'U', b'F', ..] => read_with(origin, Format::Gguf, size, gguf::read)?,
        [0x89, b'H', b'D', b'F', b'\r', b'\n', 0x1a, b'\n', ..] => hdf5::read(origin, size)?,
        [0x80, 0..=5, ..] => {
            let mut model = pickled(&mut origin.feed()?, Format::Pickle);
            let root = model.pickles.first().and_then(|(_, pickles)| pickles.objects.root());
            let beside = root.map(|root| gensim::beside(root, origin, name.rsplit('/').next().unwrap_or(name)));
            model.beside.extend(beside.into_iter().flatten());
            model
        }
        head if ending == "safetensors" || safetensors::begins(head, size) => {
            read_with(origin, Format::Safetensors, size, safetensors::read)?
        }
        head => match decompressed(origin, head)? {
            Some(mut feed) => {
                let named = matches!(ending.as_str(), "pkl" | "pickle" | "joblib" | "z");
                let model = pickled(&mut feed, Format::CompressedPickle);
                // Any file may be compressed; only one that is called a model has to be one.
                if named || is_pickle(&model) { model } else { Model::of(Format::Other) }
            }
            None if ending == "onnx" => onnx::inspect(&mut origin.feed()?, size),
            None => {
                let named = matches!(ending.as_str(), "pkl" | "pickle" | "joblib" | "p");
                let model = pickled(&mut origin.feed()?, Format::Pickle);
                if named || is_pickle(&model) { model } else { Model::of(Format::Other) }
            }
        },
    })
}

/// Formats of a single file without compression, known by the beginning.
enum Plain {
    XGBoost(xgboost::Syntax),
    LightGBM,
    CatBoost,
    CatBoostJson,
    TfLite,
    FastText,
    Texts(Format),
}

/// What begins with `head`, if it is one of them.
fn plain(head: &[u8]) -> Option<Plain> {
    if let Some(syntax) = xgboost::recognise(head) {
        Some(Plain::XGBoost(syntax))
    } else if lightgbm::recognise(head) {
        Some(Plain::LightGBM)
    } else if head.starts_with(catboost::MAGIC) {
        Some(Plain::CatBoost)
    } else if catboost::is_json(head) {
        Some(Plain::CatBoostJson)
    } else if tflite::recognise(head) {
        Some(Plain::TfLite)
    } else if fasttext::recognise(head) {
        Some(Plain::FastText)
    } else {
        texts::recognise(head).map(Plain::Texts)
    }
}

fn read_with(
    origin: &Origin<'_>,
    format: Format,
    size: u64,
    read: impl Fn(&mut Feed<'_>, u64, &mut About) -> Result<(), Stop>,
) -> io::Result<Model> {
    let mut model = Model::of(format);
    let mut feed = origin.feed()?;
    let result = read(&mut feed, size, &mut model.about);
    model.note(feed.position(), result);
    Ok(model)
}

/// Whether what was read as a pickle is one, for a file whose name says nothing: it imports something, and it either
/// comes to its end or imports what a pickle that is cut off on purpose would.
fn is_pickle(model: &Model) -> bool {
    model.pickles.iter().any(|(_, pickles)| {
        let harmful = |(module, name): &(String, String)| {
            matches!(globals::judge(module, name), globals::Verdict::Dangerous(_) | globals::Verdict::Carries(_))
        };
        !pickles.globals.is_empty() && pickles.whole || pickles.globals.keys().any(harmful)
    })
}

fn pickled(feed: &mut Feed<'_>, format: Format) -> Model {
    let mut model = Model::of(format);
    let mut pickles = pickle::read(feed);
    if let Some((at, stop)) = pickles.broken.take() {
        model.note(at, Err(stop));
    }
    model.pickles.push((None, pickles));
    model
}

/// The bytes of a file that is compressed as joblib or pandas does it; none where it is not.
fn decompressed(origin: &Origin<'_>, head: &[u8]) -> io::Result<Option<Feed<'static>>> {
    let open = || Ok::<_, io::Error>(io::BufReader::with_capacity(64 << 10, origin.read()?));
    let stream: Box<dyn Read> = match head {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(open()?)),
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => Box::new(flate2::bufread::ZlibDecoder::new(open()?)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(open()?)),
        [0x5d, 0, 0, ..] => {
            // The memory limit is that of xz's own `-9`.
            let stream = liblzma::stream::Stream::new_lzma_decoder(128 << 20).map_err(io::Error::other)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(open()?, stream))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(open()?)?;
            // What is asked of all who read zstd is 8 MiB (RFC 8878, section 3.1.1.1.2); 128 MiB is what `zstd` allows.
            decoder.window_log_max(27)?;
            Box::new(Vague(decoder))
        }
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Box::new(bzip2::bufread::MultiBzDecoder::new(open()?)),
        [0x04, 0x22, 0x4d, 0x18, ..] => Box::new(Vague(lz4_flex::frame::FrameDecoder::new(open()?))),
        _ => return Ok(None),
    };
    Ok(Some(Feed::new(Stream(stream.take(MOST_DECOMPRESSED)))))
}

/// A decoder whose errors are all of one kind; these are of that which they are.
struct Vague<R>(R);

impl<R: Read> Read for Vague<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Other if !error.to_string().contains("too much memory") => {
                io::Error::new(io::ErrorKind::InvalidData, error)
            }
            _ => error,
        })
    }
}
