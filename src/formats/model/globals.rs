//! What is known of the globals that pickles import: which run commands, and which are what models are made of.
//!
//! Three verdicts. *Dangerous*: importing or calling it can run code or commands, open files or connections, or reach
//! any other global; no model needs it. *Known*: a class or function that pickles of the usual packages name, and that
//! makes an object and nothing else. *Unknown*: all others.

/// What is to be thought of a global.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It makes an object, and nothing else.
    Known,
    /// Nobody here knows it.
    Unknown,
    /// It can do harm: how, in a few words.
    Dangerous(&'static str),
    /// It is how code gets into a file, and is run by loading it.
    Carries(Carrier),
}

/// What writes code into a file as a matter of course, for people who want that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// cloudpickle writes functions and classes of scripts by value, as byte code.
    Cloudpickle,
    /// dill does the same.
    Dill,
    /// TorchScript is a language of PyTorch's; a file of it is a program.
    TorchScript,
}

impl Carrier {
    /// The one that a global belongs to.
    fn of(module: &str) -> Option<Self> {
        let is =
            |package: &str| module.strip_prefix(package).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        if is("cloudpickle") {
            Some(Self::Cloudpickle)
        } else if is("dill") {
            Some(Self::Dill)
        } else if is("__torch__") || module == "torch.jit._pickle" {
            Some(Self::TorchScript)
        } else {
            None
        }
    }

    /// What a manifest's `model.allow` says of whoever trusts such a file.
    pub fn allow(self) -> &'static str {
        match self {
            Self::Cloudpickle => "cloudpickle.*",
            Self::Dill => "dill.*",
            Self::TorchScript => "torch.jit.*",
        }
    }

    /// What the file has, and how it got there, for a person.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Cloudpickle => "functions or classes that cloudpickle wrote into it as byte code",
            Self::Dill => "functions or classes that dill wrote into it as byte code",
            Self::TorchScript => "a program in TorchScript",
        }
    }

    /// Whether its code can reach whatever Python can.
    pub fn is_unbounded(self) -> bool {
        self != Self::TorchScript
    }
}

/// Whether a reason for danger is that other functions can be reached, which code can anyway.
pub fn is_reach(why: &str) -> bool {
    why == IMPORTS
}

const COMMANDS: &str = "it can run commands";
const CODE: &str = "it can run any code";
const IMPORTS: &str = "it can reach any other function";
const FILES: &str = "it can read or write files";
const NETWORK: &str = "it can open connections";

/// Modules of which nothing belongs into a model, with all below them.
const DANGEROUS_MODULES: &[(&str, &[&str])] = &[
    (
        COMMANDS,
        &[
            "os",
            "posix",
            "nt",
            "posixpath",
            "ntpath",
            "genericpath",
            "subprocess",
            "_posixsubprocess",
            "_winapi",
            "commands",
            "popen2",
            "pty",
            "pexpect",
            "multiprocessing",
            "concurrent",
            "distutils",
            "setuptools",
            "pip",
            "ensurepip",
            "venv",
            "_osx_support",
            "_aix_support",
            "_pyrepl",
            "webbrowser",
            "antigravity",
            "platform",
            "signal",
            "_signal",
            "sched",
            "numpy.distutils",
        ],
    ),
    (
        CODE,
        &[
            "runpy",
            "code",
            "codeop",
            "pdb",
            "bdb",
            "cProfile",
            "profile",
            "timeit",
            "trace",
            "doctest",
            "pydoc",
            "pickle",
            "_pickle",
            "cPickle",
            "pickletools",
            "marshal",
            "shelve",
            "jsonpickle",
            "idlelib",
            "lib2to3",
            "test",
            "unittest",
            "numpy.f2py",
            "numpy.testing",
            "torch._dynamo",
            "torch._inductor",
            "torch.hub",
            "torch.jit",
            "torch.utils.cpp_extension",
            "torch.package",
            "ctypes",
            "_ctypes",
            "cffi",
            "threading",
            "_thread",
            "atexit",
            "compileall",
            "py_compile",
            "zipapp",
            "asyncio",
            "joblib.parallel",
            "joblib.externals",
            "compiler",
            "gdb",
            "IPython",
            "turtle",
            "tkinter",
            "_tkinter",
        ],
    ),
    (
        IMPORTS,
        &[
            "importlib",
            "_frozen_importlib",
            "_frozen_importlib_external",
            "_imp",
            "imp",
            "pkgutil",
            "zipimport",
            "sys",
            "gc",
            "inspect",
            "site",
            "ihooks",
            "imputil",
            "_sitebuiltins",
        ],
    ),
    (
        FILES,
        &[
            "shutil",
            "tempfile",
            "glob",
            "fileinput",
            "linecache",
            "filecmp",
            "tarfile",
            "zipfile",
            "mmap",
            "sqlite3",
            "_sqlite3",
            "dbm",
            "gzip",
            "bz2",
            "lzma",
            "logging",
            "syslog",
            "fcntl",
        ],
    ),
    (
        NETWORK,
        &[
            "socket",
            "_socket",
            "socketserver",
            "ssl",
            "_ssl",
            "http",
            "httplib",
            "urllib",
            "urllib2",
            "urllib3",
            "requests",
            "httpx",
            "aiohttp",
            "smtplib",
            "imaplib",
            "ftplib",
            "poplib",
            "telnetlib",
            "nntplib",
            "xmlrpc",
            "xmlrpclib",
            "select",
            "selectors",
            "paramiko",
            "wsgiref",
        ],
    ),
];

/// Single functions and classes of modules that are harmless besides.
const DANGEROUS: &[(&str, &str, &[&str])] = &[
    (
        CODE,
        "builtins",
        &["eval", "exec", "execfile", "compile", "breakpoint", "help", "input", "raw_input", "exit", "quit", "apply"],
    ),
    (
        IMPORTS,
        "builtins",
        &[
            "__import__",
            "getattr",
            "setattr",
            "delattr",
            "globals",
            "locals",
            "vars",
            "dir",
            "reload",
            "map",
            "filter",
            "reduce",
            "classmethod",
            "staticmethod",
            "property",
            "super",
            "memoryview",
        ],
    ),
    (FILES, "builtins", &["open", "file"]),
    (CODE, "types", &["CodeType", "FunctionType", "LambdaType", "MethodType", "ModuleType", "CellType"]),
    (IMPORTS, "operator", &["attrgetter", "methodcaller", "itemgetter"]),
    (IMPORTS, "_operator", &["attrgetter", "methodcaller", "itemgetter"]),
    (IMPORTS, "functools", &["partial", "partialmethod", "reduce", "singledispatch"]),
    (IMPORTS, "_functools", &["partial", "reduce"]),
    (COMMANDS, "uuid", &["_get_command_stdout", "_popen"]),
    (FILES, "io", &["open", "open_code", "FileIO"]),
    (FILES, "_io", &["open", "open_code", "FileIO"]),
    (FILES, "codecs", &["open"]),
    (CODE, "torch", &["load", "compile", "eval", "hub"]),
    (CODE, "torch.serialization", &["load"]),
    (CODE, "torch.storage", &["_load_from_bytes"]),
    (CODE, "torch.fx.experimental.symbolic_shapes", &["ShapeEnv"]),
    (COMMANDS, "torch.utils.collect_env", &["run"]),
    (CODE, "torch.utils._config_module", &["ConfigModule"]),
    (CODE, "torch.utils.data.datapipes.utils.decoder", &["basichandlers"]),
    (CODE, "joblib", &["load", "Parallel", "Memory", "delayed"]),
    (CODE, "joblib.numpy_pickle", &["load"]),
    (CODE, "numpy", &["load", "loadtxt", "genfromtxt", "memmap", "fromfile", "DataSource", "vectorize"]),
    (CODE, "pandas", &["read_pickle", "eval", "read_csv"]),
    (CODE, "pandas.io.pickle", &["read_pickle"]),
    (CODE, "sympy", &["sympify", "lambdify"]),
    (CODE, "keras.layers", &["Lambda"]),
    (CODE, "keras.models", &["load_model"]),
    (CODE, "tensorflow.keras.models", &["load_model"]),
];

/// Names that lead from any object to any other.
const DANGEROUS_ATTRIBUTES: &[&str] = &[
    "__builtins__",
    "__class__",
    "__bases__",
    "__base__",
    "__mro__",
    "__subclasses__",
    "__globals__",
    "__getattribute__",
    "__getattr__",
    "__dict__",
    "__code__",
    "__import__",
    "__loader__",
    "__spec__",
    "__reduce__",
    "__reduce_ex__",
    "__call__",
    "__init_subclass__",
    "__self__",
    "__func__",
    "__closure__",
    "__wrapped__",
    "__init__",
    "__module__",
    "os",
    "sys",
    "subprocess",
    "builtins",
    "importlib",
    "system",
    "popen",
    "eval",
    "exec",
    "shutil",
    "socket",
    "types",
];

/// Names that pickles of the usual packages have, by module.
const KNOWN: &[(&str, &[&str])] = &[
    // What TorchScript's pickles name: each gives back the list that it is given.
    (
        "torch.jit._pickle",
        &["build_boollist", "build_doublelist", "build_intlist", "build_tensorlist", "restore_type_tag"],
    ),
    (
        "builtins",
        &[
            "object",
            "zip",
            "type",
            "set",
            "frozenset",
            "list",
            "dict",
            "tuple",
            "int",
            "long",
            "float",
            "complex",
            "bool",
            "str",
            "unicode",
            "bytes",
            "bytearray",
            "slice",
            "range",
            "xrange",
            "Ellipsis",
            "NotImplemented",
            "hash",
            "print",
            "min",
            "max",
            "sum",
            "len",
            "abs",
            "round",
            "sorted",
            "Exception",
            "BaseException",
            "ValueError",
            "TypeError",
            "KeyError",
            "IndexError",
            "RuntimeError",
            "StopIteration",
            "AttributeError",
            "NotImplementedError",
            "ArithmeticError",
            "ZeroDivisionError",
            "OSError",
            "UserWarning",
            "Warning",
        ],
    ),
    // What gensim puts in the place of a method that is not to be called of an object; it raises.
    ("gensim.utils", &["call_on_class_only"]),
    ("copyreg", &["_reconstructor", "__newobj__", "__newobj_ex__"]),
    ("copy_reg", &["_reconstructor", "__newobj__", "__newobj_ex__"]),
    ("_codecs", &["encode"]),
    ("codecs", &["encode"]),
    ("collections", &["OrderedDict", "defaultdict", "deque", "Counter", "ChainMap", "UserDict", "UserList"]),
    ("_collections", &["OrderedDict", "_tuplegetter", "defaultdict", "deque"]),
    ("datetime", &["datetime", "date", "time", "timedelta", "timezone"]),
    ("_datetime", &["datetime", "date", "time", "timedelta", "timezone"]),
    ("zoneinfo", &["ZoneInfo", "ZoneInfo._unpickle"]),
    ("decimal", &["Decimal"]),
    ("_decimal", &["Decimal"]),
    ("fractions", &["Fraction"]),
    ("uuid", &["UUID", "SafeUUID"]),
    ("pathlib", &["Path", "PurePath", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"]),
    ("pathlib._local", &["PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"]),
    ("re", &["_compile"]),
    ("io", &["BytesIO", "StringIO"]),
    ("_io", &["BytesIO", "StringIO"]),
    ("array", &["_array_reconstructor", "array"]),
    ("types", &["SimpleNamespace", "MappingProxyType"]),
    ("enum", &["Enum", "IntEnum", "Flag", "IntFlag"]),
    ("operator", &["add", "sub", "mul", "truediv", "neg", "eq", "ne", "lt", "le", "gt", "ge"]),
    ("_operator", &["add", "sub", "mul", "truediv", "neg", "eq", "ne", "lt", "le", "gt", "ge"]),
    (
        "numpy",
        &[
            "dtype",
            "ndarray",
            "matrix",
            "generic",
            "number",
            "float16",
            "float32",
            "float64",
            "longdouble",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "bool_",
            "bool",
            "str_",
            "bytes_",
            "object_",
            "complex64",
            "complex128",
            "datetime64",
            "timedelta64",
            "void",
            "intc",
            "int_",
            "float_",
            "mean",
            "sum",
            "min",
            "max",
            "median",
            "std",
            "var",
            "argmax",
            "argmin",
            "log",
            "log1p",
            "exp",
            "expm1",
            "sqrt",
            "abs",
            "absolute",
            "square",
            "nan",
            "inf",
        ],
    ),
    ("numpy.core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy._core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy.core.numeric", &["_frombuffer"]),
    ("numpy._core.numeric", &["_frombuffer"]),
    ("numpy.core._internal", &["_convert_to_stringdtype_kwargs"]),
    ("numpy._core._internal", &["_convert_to_stringdtype_kwargs"]),
    ("numpy.ma", &["MaskedArray"]),
    ("numpy.ma.core", &["MaskedArray", "_mareconstruct"]),
    ("numpy.random._pickle", &["__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor"]),
    ("numpy.random", &["__RandomState_ctor"]),
    ("numpy.random._mt19937", &["MT19937"]),
    ("numpy.random._pcg64", &["PCG64", "PCG64DXSM"]),
    ("numpy.random._philox", &["Philox"]),
    ("numpy.random._sfc64", &["SFC64"]),
    ("numpy.random.bit_generator", &["SeedSequence", "__pyx_unpickle_SeedSequence"]),
    ("joblib.numpy_pickle", &["NumpyArrayWrapper", "NDArrayWrapper", "ZNDArrayWrapper"]),
    ("joblib.numpy_pickle_compat", &["NDArrayWrapper", "ZNDArrayWrapper"]),
    ("scipy.sparse._csr", &["csr_matrix", "csr_array"]),
    ("scipy.sparse._csc", &["csc_matrix", "csc_array"]),
    ("scipy.sparse._coo", &["coo_matrix", "coo_array"]),
    ("scipy.sparse.csr", &["csr_matrix"]),
    ("scipy.sparse.csc", &["csc_matrix"]),
    ("scipy.sparse.coo", &["coo_matrix"]),
    ("scipy.stats._distn_infrastructure", &["rv_continuous_frozen", "rv_discrete_frozen"]),
    ("pandas._libs.internals", &["_unpickle_block"]),
    ("pandas._libs.arrays", &["__pyx_unpickle_NDArrayBacked"]),
    ("pandas.core.indexes.base", &["_new_Index", "Index"]),
    ("pandas.core.indexes.datetimes", &["_new_DatetimeIndex", "DatetimeIndex"]),
    ("pandas._libs.tslibs.timestamps", &["_unpickle_timestamp", "Timestamp"]),
    ("pandas._libs.tslibs.nattype", &["__nat_unpickle"]),
    ("pandas._libs.missing", &["NAType"]),
    ("pandas.core.internals.managers", &["BlockManager", "SingleBlockManager"]),
    ("pandas.core.internals.blocks", &["new_block"]),
    (
        "pandas",
        &[
            "DataFrame",
            "Series",
            "Index",
            "RangeIndex",
            "MultiIndex",
            "DatetimeIndex",
            "TimedeltaIndex",
            "PeriodIndex",
            "IntervalIndex",
            "CategoricalIndex",
            "Timestamp",
            "Timedelta",
            "Period",
            "Interval",
            "Categorical",
            "CategoricalDtype",
            "StringDtype",
            "DatetimeTZDtype",
            "PeriodDtype",
            "IntervalDtype",
            "Int64Dtype",
            "Float64Dtype",
            "BooleanDtype",
        ],
    ),
    // Compiled since 1.5 under a name without its package; with that it is imported.
    (
        "_loss",
        &[
            "CyAbsoluteError",
            "CyExponentialLoss",
            "CyHalfBinomialLoss",
            "CyHalfGammaLoss",
            "CyHalfMultinomialLoss",
            "CyHalfPoissonLoss",
            "CyHalfSquaredError",
            "CyHalfTweedieLoss",
            "CyHalfTweedieLossIdentity",
            "CyHuberLoss",
            "CyLossFunction",
            "CyPinballLoss",
        ],
    ),
    ("sklearn.metrics._dist_metrics", &["newObj"]),
    ("sklearn.neighbors._dist_metrics", &["newObj"]),
    ("sklearn.neighbors._kd_tree", &["newObj"]),
    ("sklearn.neighbors._ball_tree", &["newObj"]),
    ("sklearn.metrics._scorer", &["_passthrough_scorer"]),
    ("sklearn.utils._bunch", &["Bunch"]),
    (
        "torch._utils",
        &[
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_tensor_v3",
            "_rebuild_parameter",
            "_rebuild_parameter_with_state",
            "_rebuild_qtensor",
            "_rebuild_sparse_tensor",
            "_rebuild_meta_tensor_no_storage",
            "_rebuild_device_tensor_from_numpy",
            "_rebuild_wrapper_subclass",
        ],
    ),
    ("torch._tensor", &["_rebuild_from_type_v2", "Tensor"]),
    ("torch.nn.parameter", &["Parameter", "UninitializedParameter", "Buffer"]),
    ("torch.storage", &["TypedStorage", "UntypedStorage", "_LegacyStorage"]),
    ("torch.serialization", &["_get_layout"]),
    (
        "torch",
        &[
            "Tensor",
            "Size",
            "device",
            "dtype",
            "layout",
            "memory_format",
            "strided",
            "float16",
            "float32",
            "float64",
            "bfloat16",
            "half",
            "float",
            "double",
            "uint8",
            "int8",
            "int16",
            "int32",
            "int64",
            "short",
            "int",
            "long",
            "bool",
            "complex64",
            "complex128",
            "quint8",
            "qint8",
            "qint32",
            "per_tensor_affine",
            "per_channel_affine",
            "float8_e4m3fn",
            "float8_e5m2",
            "FloatStorage",
            "DoubleStorage",
            "HalfStorage",
            "BFloat16Storage",
            "LongStorage",
            "IntStorage",
            "ShortStorage",
            "CharStorage",
            "ByteStorage",
            "BoolStorage",
            "ComplexFloatStorage",
            "ComplexDoubleStorage",
            "QInt8Storage",
            "QUInt8Storage",
            "QInt32Storage",
            "QUInt4x2Storage",
            "QUInt2x4Storage",
        ],
    ),
    ("xgboost.core", &["Booster"]),
    ("lightgbm.basic", &["Booster"]),
    ("catboost.core", &["CatBoostClassifier", "CatBoostRegressor", "CatBoost"]),
];

/// Packages whose classes, in whatever module of theirs, make objects and nothing else.
const KNOWN_PACKAGES: &[&str] = &[
    "sklearn",
    "scipy.sparse",
    "scipy.interpolate",
    "scipy.spatial",
    "pandas.core",
    "pandas._libs",
    "pandas.arrays",
    "torch.nn.modules",
    "torch.optim",
    "xgboost.sklearn",
    "lightgbm.sklearn",
    "imblearn",
    "statsmodels",
    "lifelines",
    "pmdarima.arima",
    "sktime.datatypes",
    "sktime.forecasting",
    "gensim.models",
    "gensim.corpora",
    "numpy.random",
    "numpy.dtypes",
    "transformers.models",
    "transformers.tokenization_utils",
    "tokenizers",
    "collections",
    "datetime",
    "numpy.polynomial",
    "category_encoders",
    "sklearn_pandas",
    "torchvision.models",
    "scipy.stats",
];

/// What is to be thought of the global `name` of `module`.
pub fn judge(module: &str, name: &str) -> Verdict {
    let module = if module == "__builtin__" { "builtins" } else { module };
    let below =
        |package: &str| module.strip_prefix(package).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let first = name.split('.').next().unwrap_or_default();
    // The exact names come first: `numpy.random` has classes that are known and `numpy.testing` is dangerous.
    let listed = KNOWN.iter().any(|(known, names)| *known == module && names.contains(&name));
    if listed {
        return Verdict::Known;
    }
    if let Some(carrier) = Carrier::of(module) {
        return Verdict::Carries(carrier);
    }
    for (why, modules) in DANGEROUS_MODULES {
        if modules.iter().any(|package| below(package)) {
            return Verdict::Dangerous(why);
        }
    }
    for (why, package, names) in DANGEROUS {
        if *package == module && names.contains(&first) {
            return Verdict::Dangerous(why);
        }
    }
    // Protocol 4 follows dots from attribute to attribute, so any module that imports `os` leads to `os.system`.
    if name.split('.').any(|step| DANGEROUS_ATTRIBUTES.contains(&step)) {
        return Verdict::Dangerous(IMPORTS);
    }
    let is_class = |name: &str| name.starts_with(|c: char| c.is_ascii_uppercase());
    let bare = first.trim_start_matches('_');
    // Classes for each of BLAS' types are called like its functions: `zKalmanFilter`.
    let class = is_class(bare) || bare.strip_prefix(['s', 'd', 'c', 'z']).is_some_and(is_class);
    if class && !name.contains('.') && KNOWN_PACKAGES.iter().any(|package| below(package)) {
        return Verdict::Known;
    }
    // Functions of NumPy and SciPy that estimators hold, such as a kernel: a ufunc runs nothing else.
    if below("scipy.special") && !name.contains('.') || module == "numpy.core._multiarray_umath" {
        return Verdict::Known;
    }
    Verdict::Unknown
}

/// The distribution on the package index that brings a module, or none where Python itself or the person's code does.
pub fn distribution(module: &str) -> Option<&str> {
    let top = module.split('.').next().unwrap_or(module);
    Some(match top {
        "sklearn" | "_loss" => "scikit-learn",
        "skimage" => "scikit-image",
        "imblearn" => "imbalanced-learn",
        "PIL" => "pillow",
        "cv2" => "opencv-python",
        "yaml" => "pyyaml",
        "google" => return None,
        "umap" => "umap-learn",
        "category_encoders" => "category-encoders",
        "sentence_transformers" => "sentence-transformers",
        "hdbscan" | "numpy" | "scipy" | "pandas" | "torch" | "torchvision" | "xgboost" | "lightgbm" | "catboost"
        | "joblib" | "statsmodels" | "tensorflow" | "keras" | "transformers" | "tokenizers" | "spacy" | "gensim"
        | "nltk" | "prophet" | "onnx" | "onnxruntime" => top,
        _ => return None,
    })
}

/// Whether something is known here of a package, or of a module in it.
pub fn is_listed(package: &str) -> bool {
    let modules = DANGEROUS_MODULES.iter().flat_map(|(_, modules)| *modules);
    let listed = modules.chain(DANGEROUS.iter().map(|(_, module, _)| module)).chain(KNOWN.iter().map(|(m, _)| m));
    listed.into_iter().any(|module| module.split('.').next() == Some(package))
}

/// Whether a module is part of Python.
pub fn is_standard(module: &str) -> bool {
    let top = module.split('.').next().unwrap_or(module);
    include_str!("stdlib.txt").lines().any(|name| name == top)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("__builtin__", "getattr"),
            ("builtins", "eval.__call__"),
            ("subprocess", "Popen"),
            ("torch.serialization", "os.system"),
            ("sklearn.utils", "os.system"),
            ("sklearn.base", "BaseEstimator.__init__.__globals__"),
            ("collections", "OrderedDict.__subclasses__"),
            ("numpy.testing._private.utils", "runstring"),
            ("uuid", "_get_command_stdout"),
            ("functools", "partial"),
            ("http.client", "HTTPConnection"),
        ] {
            assert!(matches!(judge(module, name), Verdict::Dangerous(_)), "{module}.{name}");
        }
        for (module, name) in [
            ("sklearn.linear_model._logistic", "LogisticRegression"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy.random._pickle", "__randomstate_ctor"),
            ("collections", "OrderedDict"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("__builtin__", "set"),
            ("pandas.core.frame", "DataFrame"),
            ("uuid", "UUID"),
            ("_loss", "CyHalfSquaredError"),
        ] {
            assert_eq!(judge(module, name), Verdict::Known, "{module}.{name}");
        }
        for (module, name) in [
            ("mycode", "Model"),
            ("__main__", "Model"),
            ("sklearn.utils", "check_array"),
            ("osx", "a"),
            ("mypackage.types", "Box"),
            ("_loss", "Other"),
        ] {
            assert_eq!(judge(module, name), Verdict::Unknown, "{module}.{name}");
        }
    }

    #[test]
    fn pythons_own_modules_are_known() {
        assert!(is_standard("collections.abc") && !is_standard("sklearn.base"));
        assert_eq!(distribution("sklearn.tree._tree"), Some("scikit-learn"));
        assert_eq!(distribution("_loss"), Some("scikit-learn"));
    }
}
