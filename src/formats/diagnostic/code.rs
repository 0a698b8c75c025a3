//! Every rule that a text can break, with its number, title and explanation: one table.
//!
//! A number is for ever: it is never given to another rule. The hundreds say what kind: 00 the file as such,
//! 01 its syntax, 02 its form, 03 files of the project, 04 the service, 05 packages and bases, 06 the rest of the
//! manifest, 07 the lock, 08 files of models, 09 documents of other programs.

use std::fmt;

use super::Severity;

use crate::io::explain::{ErrorKind, Explain, Explanation};

macro_rules! codes {
    ($($number:literal $name:ident $severity:ident $title:literal $explanation:literal)*) => {
        /// A rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $name,)*
        }

        impl Code {
            /// Every rule there is, by number.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its number, as `EK0201`.
            pub fn number(self) -> &'static str {
                match self { $(Self::$name => $number),* }
            }

            /// How bad it is to break it.
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity),* }
            }

            /// What is wrong, in a few words.
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }

            /// Why it is wrong and what to do, in a paragraph.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$name => $explanation),* }
            }
        }
    };
}

codes! {
    "EK0001" Unreadable Error "the file cannot be read"
    "The operating system refused to open or read the file, or it is not a regular file. The message names its reason."
    "EK0002" NotUtf8 Error "the file is not UTF-8"
    "Texts are read as UTF-8. The place shown is the first byte that is not. Save the file as UTF-8: in most editors a choice in the status bar or under \"Save with encoding\"."
    "EK0003" TooLarge Error "the file is too large"
    "Files that people write stay small: a manifest of more than 1 MiB is data or another kind of file. Put data into files of its own, and name them."
    "EK0004" TooDeep Error "the values are nested too deep"
    "Values may be nested 64 levels deep. Deeper nesting is a mistake or an attack; no key needs it."
    "EK0005" TooMuchAliased Error "aliases make the file too large"
    "YAML's aliases (`*name`) repeat what stands at an anchor (`&name`). What they expand to is bounded, because a few lines can otherwise fill the memory. Write out what is meant."
    "EK0006" Empty Error "the file is empty"
    "Nothing but blank lines and comments is there. `ekiben init` writes a manifest to start from."
    "EK0007" SecondDocument Error "the file holds more than one document"
    "A line of `---` begins a second YAML document. One file describes one thing: remove the line, or move what follows into a file of its own."
    "EK0008" Unrecognised Error "nothing that is checked here"
    "The file is no manifest, lock, bento, bundle, project metadata, OpenAPI document or model, and no manifest stands in its folder or above it. Files are recognised by name and content."

    "EK0101" Syntax Error "the syntax is wrong"
    "The text is no YAML, JSON or JSON5. The place shown is where reading could not go on; the cause is there or shortly before."
    "EK0102" Unclosed Error "a quote or bracket is not closed"
    "The place shown is where the quote or bracket opens. A quote inside a quoted text is written `\\\"`, or the text is put in the other kind of quotes."
    "EK0103" Tab Error "a tab is used for indentation"
    "YAML is indented with spaces only. Replace each tab by two spaces."
    "EK0104" Indentation Error "the indentation is wrong"
    "In YAML, keys of the same mapping begin in the same column, and what belongs to a key is indented further than the key."
    "EK0105" TypographicQuotes Error "typographic quotes"
    "Web pages and word processors turn the quotes \" and ' into curly ones. To YAML and JSON these are ordinary letters and would become part of the value. Type straight quotes."
    "EK0106" DuplicateKey Error "a key is there twice"
    "Of two equal keys in a mapping one would be lost without a word. Merge or remove one of them."
    "EK0107" UnknownAlias Error "an alias has no anchor"
    "`*name` stands for what was marked with `&name` earlier in the file, and nothing was. A text that begins with `*` or `&` needs quotes."
    "EK0108" UnusualYaml Error "YAML that has no meaning here"
    "Tags such as `!include` and keys that are not text are allowed by YAML and mean nothing here. A text that begins with `!` needs quotes."
    "EK0109" NotFinite Error "a number that is not finite"
    "Infinity and NaN can be written in YAML and JSON5, and nothing here can be infinite."
    "EK0110" LooksLikeBoolean Warning "a text that some read as true or false"
    "`yes`, `no`, `on` and `off` are text in YAML 1.2, which is read here, and true or false in YAML 1.1, which other programs read (so Norway's `no` became false). Put quotes around a text; write `true` or `false` for a truth value."
    "EK0111" NotStrictJson Error "JSON5 in a JSON file"
    "Comments, single quotes, trailing commas and keys without quotes are JSON5. In a file that ends in `.json` other programs would stumble over them. Rename it to `.json5`, or write plain JSON."
    "EK0112" HiddenSpace Error "a space that is none"
    "A non-breaking or otherwise special space came with text pasted from a web page. It looks like a space and is read as a letter. Replace it by an ordinary space."

    "EK0201" UnknownKey Error "an unknown key"
    "The key means nothing at this place. An unknown key is an error, because a misspelt one would otherwise be ignored without a word."
    "EK0202" MissingKey Error "a key is missing"
    "A key that has no default is not there, and the message names it. Write it below the mapping that the place shows; `docs/manifest.md`, or an editor with the schema (`ekiben schema`), says what belongs there. Where a key is there that looks like it, that one is misspelt."
    "EK0203" WrongType Error "a value of the wrong kind"
    "A text, number, list or mapping is expected and something else is there. Texts that look like numbers or truth values need quotes."
    "EK0204" WrongForm Error "a value of the wrong form"
    "The value has the right kind, but is not spelt as it has to be. The message says what it may consist of."
    "EK0205" UnknownChoice Error "a value that is none of the choices"
    "Only the values that the message lists are known at this place."
    "EK0206" OutOfRange Error "a value out of range"
    "The number, or the length of the text or list, lies outside what is allowed."
    "EK0207" VersionAsNumber Error "a version without quotes"
    "Without quotes `3.10` is the number 3.1: the zero is gone. Put quotes around versions."
    "EK0208" NotDescribed Error "a value that the schema refuses"
    "The value is none that the file can have at this place. The message says which rule it breaks; the file's JSON Schema (`ekiben schema`) has all of them, with a description and an example of each key of a manifest. Compare the value with those."

    "EK0301" NoManifest Error "there is no manifest"
    "A project has an `ekiben.yaml` (or `ekiben.json`, `ekiben.json5`) in its root folder. `ekiben init` writes one."
    "EK0302" TwoManifests Error "there are two manifests"
    "Which of them holds cannot be known. Remove one, or name the one that is meant: `ekiben build PATH/ekiben.yaml`."
    "EK0303" PathLeaves Error "a path leaves the project"
    "Paths in a manifest are relative to it and stay in its folder: no `..`, no leading `/`. Else the same manifest would mean other things on another machine. Copy or link (inside the project) what is needed."
    "EK0304" NoFile Error "a file is not there"
    "The manifest names a file that does not exist. Paths are relative to the manifest's folder."
    "EK0305" NothingMatches Error "a glob matches nothing"
    "`*` matches within one folder, `**` across folders. What `.ekibenignore` names, `.git`, `__pycache__`, `.venv` and `*.ekiben` are left out."
    "EK0306" BadGlob Error "a glob cannot be read"
    "A glob may hold `*`, `**`, `?`, `[abc]` and `{this,that}`. A bracket that is meant as such is written `[[]`."
    "EK0307" LinkLeaves Error "a link leaves the project"
    "A symbolic link points out of the project's folder, or nowhere. On another machine it would point to something else. Copy the file into the project."
    "EK0308" NotAFile Error "neither a file nor a folder"
    "Sockets, pipes and devices cannot be packed, nor can files whose name is not UTF-8."
    "EK0309" EmptyModelFile Warning "a model file is empty"
    "A file of the model has no bytes. An interrupted download or a full disk leaves such files."
    "EK0310" GitLfsPointer Error "a model file is a Git LFS pointer"
    "The file holds the address of the model, not the model: the repository was cloned without Git LFS. `git lfs pull` fetches the content."
    "EK0311" Secret Warning "what is packed looks like a secret"
    "The file has the name of a file of secrets, or holds a private key or an access token. Whoever has the bundle or the image can read it. Name it in `.ekibenignore`, give the secret to the container when it starts (`ekiben run --env`), and replace a token that was packed before."
    "EK0312" Rubbish Warning "what is packed is of no use to the model"
    "Folders of tools, caches and checkpoints of the training make the bundle large and are never read. Name them in `.ekibenignore`."

    "EK0313" NoAddress Error "an address of the model's files cannot be read"
    "`model.files` names files of the project by globs, and files that live elsewhere by `from:` a path of this machine, `https://…`, `s3://BUCKET/KEY` or `hf://OWNER/NAME@REVISION/FILE`. Passwords and signatures do not belong into an address: they come from `~/.netrc` and the environment."
    "EK0314" ModelMoved Warning "a file of the model has changed where it lives"
    "The lock says which bytes are meant, and these are built. What is there now is another version: `ekiben lock --upgrade-models` takes it up."

    "EK0401" ServiceKind Error "the service has no way to answer, or two"
    "A service has functions that Ekiben serves (`predict`, `functions`) or a server of its own (`command`): one of the two."
    "EK0402" NoFunction Error "the function is not in the file"
    "The file has no function of this name at its top level. The file is parsed, never run: a function that is made while the program runs is not seen."
    "EK0403" NoParameter Error "an input is no parameter of the function"
    "`service.inputs` describes the parameters of the functions: each name has to be one. The names in the JSON of a request are the names of the parameters."
    "EK0404" PythonSyntax Error "the Python file has a syntax error"
    "The file was parsed as Python and could not be read at the place shown."
    "EK0405" RouteTaken Error "two things answer on the same path"
    "A function NAME answers `POST /NAME`. The service itself answers `/predict`, `/healthz`, `/livez`, `/readyz`, `/metrics` and `/docs`."
    "EK0406" UnknownRoute Error "a test asks a path that nothing answers"
    "The path of a test is `/predict`, `/NAME` of a function, or one that every service answers, as `/readyz`."
    "EK0407" OpaqueFunction Warning "what the function takes is not known before it runs"
    "The name is imported or assigned in the file, not defined with `def`. Then neither the inputs nor the description of the service can be checked against its parameters. Define a function of this name that calls the other."
    "EK0408" ImportNotPacked Error "a module of the project is imported and not packed"
    "The file lies in the project's folder and belongs to none of the lists that are packed: the code is the folder of the service's file (of a file in the project's own folder, that file alone) and what `include` names. Add it to `include`."
    "EK0409" Unwritten Warning "a function is still to be written"
    "The function raises a `NotImplementedError` whatever it is given: each request will be answered with a status of 500. `ekiben init` writes such a line where a model's file does not say how it is asked."
    "EK0410" NotSuited Error "a function is not suited for what is said of it"
    "`service.batch` names functions that Ekiben serves, by the names of their paths, and `over` names parameters of theirs. A function that answers in parts cannot be given several requests as one. `service.kserve` names one of these functions, too. The signature of `service.mlflow` is one as `MLmodel` has it: columns or tensors, all with names or none, whose types say what they hold. On Python 3.6 and 3.7, which images bring, the service is a small one of Python's own library: it answers JSON, and has no further processes, no batches, no files, and no routes of others' protocols."

    "EK0411" Untrainable Error "the model cannot be trained, or asked by messages, as the manifest says"
    "`training` has a function, as `src/train.py:train`, or a command, and the file that the model becomes. Where it learns from each message (`online`) it names `partial`. `service.messages` asks the function `predict`. `train` is given `data` and `hyperparameters`, `partial_train` the model and a record, by their order: what else they need has defaults."

    "EK0412" NoJava Error "the model in Java cannot answer as the manifest says"
    "`service.java` names a program (`jar`), whose manifest says which class is to be run, or a model that h2o exported (`model`: a MOJO, `model.zip`, or a POJO, `Model.java`) with the library that reads it, `h2o-genmodel.jar`. The image needs a Java: upon Debian, `system.packages` has `openjdk-17-jre-headless`."

    "EK0501" BadRequirement Error "a Python requirement cannot be read"
    "Requirements are written as PEP 508 says: a name, then versions, as `scikit-learn==1.5.2` or `pandas>=2,<3`."
    "EK0502" BadPackageName Error "not a name of a Debian package"
    "Names of Debian packages have lowercase letters, digits, `+`, `-` and `.`, and at least two of them. Versions are not written here: the lock pins them."
    "EK0503" UnknownBase Error "an unknown base"
    "A base is `auto`, `debian:SUITE`, `scratch`, an image in a registry, `oci:PATH` or `docker-archive:PATH`."
    "EK0504" UnknownPython Error "an unknown version of Python"
    "Versions of Python are written as `3.11`: with quotes, without the third number."
    "EK0505" PythonNotInBase Error "the base has another Python"
    "A Debian suite has one version of Python 3: bullseye 3.9, bookworm 3.11, trixie 3.13. Ask for that one, or choose another base."
    "EK0506" Contradiction Error "requirements that no version satisfies"
    "Two requirements of the same package exclude each other, or one excludes itself: no version can be installed. Keep one of them."
    "EK0507" RunsCode Error "a requirement that only its own code could install"
    "Editable requirements, folders, repositories and source archives are installed by running code that comes with them, on the machine that builds. Ekiben runs none: it installs wheels, each by its digest. Build a wheel where its code may run (`uv build --wheel`), put it into the project, and require it by its path: `name @ ./wheels/name-1.0-py3-none-any.whl`."
    "EK0508" LeftSetting Warning "a setting of uv's that a project cannot make"
    "Of a project's `uv.toml` or `[tool.uv]`, Ekiben takes what says which packages are meant and where they lie. Where uv keeps its cache, what it may build, which programs it starts for passwords and which hosts need no certificates is said by whoever runs it, in their own configuration or by uv's variables."
    "EK0509" NotBrought Error "a module is imported that no requirement brings"
    "The service would end with a ModuleNotFoundError as it starts: the module is none of Python's own, none of the project's, and no requirement, nor what comes along with one, brings it. Add the package to the requirements; it may be called otherwise than its module (`sklearn` comes with `scikit-learn`). Only what a file imports as it is loaded counts: not what is imported in functions, under `if` (as `TYPE_CHECKING`), and in `try` with `except ImportError`, which is how to write what the service can do without. A module of the project needs its file beside the one that imports it, or in a package there. Nothing is said where it is in doubt what there is: where a package is required, or locked, whose modules are not known here; where `system` names Debian packages other than libraries, or commands; where the code says itself where modules are looked for (`sys.path`)."
    "EK0510" BadCommands Error "commands that make no base"
    "`system.run` is a list of commands, each as after `RUN` in a Dockerfile. `build.file` names a Dockerfile whose image stands in the place of `base`, so that only one of the two can be there; `target` and `args` are for it."
    "EK0511" PythonOfHub Warning "a Python that Debian does not have"
    "Debian's suites have one Python each: bullseye 3.9, bookworm 3.11, trixie 3.13. With `base: auto`, these are assembled from Debian's packages. For any other version the base is the image `python:VERSION-slim`, which is pulled from Docker Hub: a place that may be closed or limited where Debian's mirror is not, and another base with a history of its own. Ask for one of Debian's, or write down that image, or a copy of it in a registry of your own, as `base`."

    "EK0601" BadVariable Error "not a name of a variable"
    "Names of environment variables have letters, digits and `_`, and do not begin with a digit."
    "EK0602" BadUrl Error "not a URL"
    "An address begins with `https://` or `http://` and the name of a server."
    "EK0603" NotSpdx Warning "not an SPDX licence expression"
    "Scanners and registries read licences as SPDX expressions: `Apache-2.0`, `MIT OR Apache-2.0`, `LicenseRef-mine`. The identifiers are listed at spdx.org/licenses."

    "EK0604" NotDeployable Error "Kubernetes would not take it, or do otherwise"
    "What the section `deploy` says cannot be so in a cluster: a name that is none there, a limit below the size of the weights, a kind that cannot do what is asked of it, or a version of Kubernetes that lacks it. It is checked before anything is written, as the cluster tells some of it only when a pod does not start, and some never."

    "EK0701" NewerLock Error "the lock is of another format"
    "The lock was written by another version of Ekiben. Update Ekiben, or renew the lock with `ekiben lock`."
    "EK0702" LockedOtherwise Warning "the lock has another version than is required"
    "The lock pins a version that the requirements exclude: they were changed since. The next `ekiben lock` or `ekiben build` renews it; with `--locked` the build is refused."

    "EK0801" BrokenModel Error "a model's file is damaged"
    "The file ends too early or contradicts itself, so that loading it will fail. An interrupted download or copy, and a full disk, leave such files. The offset is that of the byte at which reading ended."
    "EK0802" DangerousGlobal Error "loading the file would run commands or code"
    "A pickle is a small program that imports functions and calls them. This one imports what can run commands or any code, open files or connections, or reach such functions by detours. No model needs that: take the file for malicious unless you wrote it yourself. If you know why it is there, list it under `model.allow` in the manifest. The file was read as data; nothing of it was run."
    "EK0803" UnknownGlobal Warning "a pickle imports what is not known to be harmless"
    "Loading the file imports this class or function, which is neither known to be harmless nor part of the project. Look at it, and list it under `model.allow` in the manifest: `allow: [package.module.Name]`, or `package.*` for all of a package."
    "EK0804" ComputedGlobal Error "a pickle hides what it imports"
    "The name of what is imported is computed while the pickle is loaded, or stands for a number that another program registered. Picklers never write that; it is a way to hide an import from whoever looks. Take the file for malicious."
    "EK0805" CarriesCode Error "a model's file carries code"
    "Loading the file runs code that lies in it, whatever that does. cloudpickle and dill write functions and classes of scripts and notebooks into pickles as byte code, as MLflow does for models of one's own; TorchScript is a program in a language of PyTorch's; Keras stores the function of a Lambda layer as marshalled byte code. Such files are usual, and only as good as who made them. If that was you, or somebody whose code you would run, say so in the manifest: `model: {allow: [\"cloudpickle.*\"]}`, `dill.*`, `torch.jit.*` or `keras.layers.Lambda` (`ekiben init --allow` writes it). Else put the code into a module of the project, which can be read, and save the model again."
    "EK0806" NotLookedInto Warning "a model's file could not be looked into"
    "The file, or a part of it, is compressed or encrypted in a way that is not read here, or the disk failed. What loading it would do is not known."
    "EK0807" NotRequired Warning "a model's file needs a package that is not required"
    "Loading the file imports from this package, and neither the requirements nor the lock name it."
    "EK0808" OtherVersion Warning "a model was saved with another version than is required"
    "Objects in the file remember the version of the package that saved them, and the requirements exclude that version. Pickles of scikit-learn are good for the same minor version only: others may fail to load, or answer wrongly without a word."
    "EK0809" WeightsBeside Error "weights beside the model are missing"
    "The model keeps weights in other files, and one of them is not among the files of the model, or lies outside of its folder."
    "EK0810" PickledInScript Warning "a pickle needs a class of the script that wrote it"
    "What is defined in a script or notebook is pickled as part of `__main__`, and the service's `__main__` does not have it: loading will fail. Move the definition into a module, import it there and in the service, and save the model again."

    "EK0901" Inconsistent Error "two parts of a document contradict each other"
    "Both cannot hold. The message names them. In project metadata, what stands at several places with one id is one thing, and has one name and one type."
    "EK0902" NameTwice Error "a name is there twice"
    "Things of the same kind are told apart by their names, so each may be there once."
    "EK0903" NotFoundByService Warning "the service will not find the file"
    "A service reads its project metadata from `categories_and_labels_data.json5`. The SDK writes `categories_and_label_data.json5`, without the `s`: rename the file."
    "EK0904" BrokenReference Error "a reference leads nowhere"
    "The document refers to a part of itself, or to a file beside it, that is not there."
    "EK0905" NotMade Error "an image that cannot be made"
    "BentoML makes the image of this bento in a way that is not done here: with conda, CUDA or another distribution than Debian by name, a template of a Dockerfile that is not BentoML's with additions, or a command that no Dockerfile can have. The message says what, and what to do. Setup scripts, commands and templates are executed with `ekiben build --allow-run`."
    "EK0906" NoDefaultLabelSet Warning "a category has no default label set"
    "The default label set of a category holds what is found once in a document, and has the same id as the category. None of this one's label sets has it: the SDK makes an empty one in its place."

    "EK1001" DockerfileSyntax Error "the Dockerfile cannot be read"
    "Its lines make no Dockerfile: no stage begins, a heredoc has no end, a directive is there twice, or a line has more than 64 KiB. A Dockerfile has stages, each of which begins with `FROM IMAGE`; only `ARG` may stand before the first."
    "EK1002" UnknownInstruction Error "an unknown instruction"
    "A line begins with the name of an instruction, as `RUN` or `COPY`. A line that belongs to the one above it needs a `\\` at the end of that one, with nothing but spaces after it."
    "EK1003" UnknownFlag Error "an instruction has no such flag"
    "Flags (`--name=value`) stand between the name of an instruction and the rest of it. Flags of the command that `RUN` executes stand after its name, so that they cannot be taken for these."
    "EK1004" BadInstruction Error "an instruction is not written as it has to be"
    "Something is missing, too much, or of another form than Docker's reference has it: words, pairs of NAME=VALUE, a list of texts as JSON, or the value of a flag."
    "EK1005" UnsetInFrom Error "a variable in FROM that nothing declares"
    "In `FROM`, only variables are known that an `ARG` before the first `FROM` declares, and those of the platforms (`BUILDPLATFORM`, `TARGETARCH` and their like). One that belongs to a stage is not."
    "EK1006" NoStage Error "a stage that cannot be meant"
    "`--from` names a stage, its number from 0, or an image. A stage cannot take files from itself, nor two stages from each other, and there is no stage of a number that is not lower than their count."
    "EK1007" NoSource Error "what is copied is not in the context"
    "Sources of `COPY` and `ADD` are paths in the context, which is the folder that a build is given: nothing outside of it can be reached. The folder of the Dockerfile is looked at, or the nearest one above it, up to the root of the repository, that has all sources; `--context` names another one."
    "EK1008" InsecureStep Error "a step that asks not to be locked in"
    "`RUN --security=insecure` asks for all rights on the machine that builds. Ekiben gives a step no more than Docker's default rights, in namespaces of its own."
    "EK1009" BadExpansion Error "a variable is not written as it has to be"
    "`$NAME` and `${NAME}` stand for values of variables; in the braces may follow `:-`, `-`, `:+`, `+`, `:?`, `?`, `#`, `##`, `%`, `%%`, `/` or `//`. Quotes that are open have to be closed. A `$` that is meant as such is written `\\$`."
    "EK1010" LeftOutSource Error "what is copied is left out of the context"
    "`.dockerignore` (or `NAME.dockerignore` beside the Dockerfile) has a pattern for this path, so that it is not there for the build. Take it up again with a line that begins with `!`, or do not copy it. BuildKit's check `CopyIgnoredFile`."

    "EK1021" UnsetVariable Warning "a variable that nothing sets"
    "It is empty where it is used. A variable from before the first `FROM` is known in a stage after `ARG NAME` there; one of another stage is not. Where a stage stands on an image, that may set it: then nothing is said, unless the file has a variable of that name or one like it elsewhere. BuildKit's check `UndefinedVar`."
    "EK1022" UnusedStage Warning "a stage that nothing uses"
    "No later stage stands on it or takes files from it: it is built only where it is asked for with `--target`. `# check=skip=UnusedStage` at the top of the file says that this is meant."
    "EK1023" Casing Warning "upper and lower case are mixed"
    "Names of instructions are upper case or lower case throughout, `AS` as its `FROM`, names of stages and protocols lower case. BuildKit's checks `ConsistentInstructionCasing`, `FromAsCasing`, `StageNameCasing` and `ExposeProtoCasing`."
    "EK1024" StageName Warning "a name of a stage that misleads"
    "Two stages have the same name, so that the earlier one can be reached by its number alone; or a stage is called `scratch` or `context`, which mean something else. BuildKit's checks `DuplicateStageName` and `ReservedStageName`."
    "EK1025" OnlyLastCounts Warning "an instruction that a later one replaces"
    "Of several `CMD`, `ENTRYPOINT` or `HEALTHCHECK` in a stage only the last one counts. BuildKit's check `MultipleInstructionsDisallowed`."
    "EK1026" SecretInImage Warning "a secret would be in the image"
    "What `ENV` sets is in the image, and what `ARG` is given is in its history: whoever has the image can read it. Give a step its secrets with `RUN --mount=type=secret`, and a container its own when it starts. BuildKit's check `SecretsUsedInArgOrEnv`, which goes by names."
    "EK1027" ShellForm Warning "a command that a shell stands in front of"
    "`CMD` and `ENTRYPOINT` without a list are handed to `/bin/sh -c`, which does not pass signals on: the container is killed instead of ending cleanly. Write a list: `CMD [\"python\", \"-m\", \"server\"]`. BuildKit's check `JSONArgsRecommended`."
    "EK1028" RelativeWorkdir Warning "a working folder that depends on the base"
    "A relative `WORKDIR` lies below that of the base, as long as the stage has set none: it moves when the base changes. Write it with a `/`. BuildKit's check `WorkdirRelativePath`."
    "EK1029" FixedPlatform Warning "a platform that is fixed, or said twice"
    "`FROM --platform` with a constant makes the same image for every platform that is asked for; with `$TARGETPLATFORM` alone it says what holds anyway. `$BUILDPLATFORM` is for stages that cross-compile. BuildKit's checks `FromPlatformFlagConstDisallowed` and `RedundantTargetPlatform`."
    "EK1030" OldForm Warning "a form that is going away"
    "`ENV NAME VALUE` without `=`, `MAINTAINER`, blank lines within an instruction and addresses in `EXPOSE` are understood, and become errors some day. BuildKit's checks `LegacyKeyValueFormat`, `MaintainerDeprecated`, `NoEmptyContinuation` and `ExposeInvalidFormat`."
    "EK1031" NoDefaultInFrom Warning "an image that has no name unless a variable is given"
    "With the defaults of the variables in it, the name in `FROM` is none. Give `ARG` a default: `ARG TAG=latest`. BuildKit's check `InvalidDefaultArgInFrom`."
    "EK1032" UnknownCheck Warning "an unknown name of a check"
    "`# check=skip=NAME` leaves out what BuildKit, or Ekiben, calls NAME. A newer BuildKit may know more of them; one that is misspelt leaves nothing out."
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.number())
    }
}

impl std::str::FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = text.trim();
        let found = Self::ALL.iter().find(|code| code.number().eq_ignore_ascii_case(wanted));
        found.copied().ok_or_else(|| UnknownCode(text.chars().take(80).collect()))
    }
}

/// The text is no number of a rule.
#[derive(Debug, thiserror::Error)]
#[error("there is no rule `{0}`: `ekiben explain` lists all")]
pub struct UnknownCode(String);

impl Explain for UnknownCode {
    fn explain(&self) -> Explanation {
        ErrorKind::Usage.named("explain/unknown-rule")
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_in_order() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
        assert!(Code::ALL.iter().all(|code| code.number().parse::<Code>().is_ok_and(|parsed| parsed == *code)));
        assert!("EK9999".parse::<Code>().is_err());
    }
}
