//! Python source, read as data: the declared parameters of a function, and the modules that it imports. Nothing is
//! imported or run.
//!
//! Invariant: any text ends in a value or an [`Error`], in bounded time and memory. The grammar is that of Python
//! (<https://docs.python.org/3/reference/grammar.html>) as ruff's parser has it; annotations follow the `typing`
//! module.

mod types;

pub use types::{Array, Class, File, Form, Handed, Member, Orient, Read, Type};

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use ruff_python_ast::token::TokenKind;
use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{self as ast, Expr, Stmt};
use ruff_python_parser::Parsed;
use ruff_text_size::{Ranged, TextRange, TextSize};
use serde_json::Value;

use crate::io::explain::{ErrorKind, Explain, Explanation};
use crate::io::suggest::{closest, did_you_mean};
pub(super) use types::Module;
use types::Reader;

/// A module that a source imports as it is itself imported, without a way round where it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Its name, as `sklearn.tree`; empty for what lies in the folder of the source (`from . import x`).
    pub module: String,
    /// How many dots stand before it: 0 where it is looked for along `sys.path`.
    pub level: u32,
    /// What is taken out of it, which may be modules as well.
    pub names: Vec<String>,
    /// Where its name stands in the source, in bytes.
    pub span: Range<usize>,
}

/// What a source imports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imports {
    /// In the order of the source.
    pub modules: Vec<Import>,
    /// Whether it says itself where modules are looked for: it names `sys.path` or its like.
    pub elsewhere: bool,
}

/// What a function declares about itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Signature {
    /// Its name.
    pub name: String,
    /// In the order of the source.
    pub parameters: Vec<Parameter>,
    /// The annotation of what it returns.
    pub returns: Option<Type>,
    /// What each part of its answer is, where it answers in parts, one after the other: it is a generator, or says that
    /// it returns an iterator.
    pub parts: Option<Type>,
    /// The classes of the project that the annotations name, and those that these name, by a name that is unique here.
    pub classes: BTreeMap<String, Class>,
    /// Its docstring, without the indentation of the source.
    pub docstring: Option<String>,
    /// Whether it is an `async def`.
    pub is_async: bool,
    /// Whether a decorator may change what it takes.
    pub decorated: bool,
    /// Of the name.
    pub position: Position,
    /// What is still to be written: it raises a `NotImplementedError` whatever it is given.
    pub unwritten: Option<Unwritten>,
}

/// A statement that stands for what is still to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// What the statement says of it; empty where it says nothing.
    pub text: String,
    /// Of the statement.
    pub position: Position,
}

impl Signature {
    /// The parameter that takes an argument with this name; `**rest` takes any.
    pub fn takes(&self, name: &str) -> bool {
        self.parameters.iter().any(|parameter| match parameter.kind {
            ParameterKind::AnyKeywords => true,
            ParameterKind::AnyPositions => false,
            ParameterKind::Named => parameter.name == name,
        })
    }
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Without stars.
    pub name: String,
    /// How arguments get into it.
    pub kind: ParameterKind,
    /// Its annotation.
    pub annotation: Option<Type>,
    /// Whether it has to be given: it has no default.
    pub required: bool,
    /// The default, where it is a literal.
    pub default: Option<Value>,
    /// Of the name.
    pub position: Position,
}

/// How arguments get into a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// One argument, by its name (or by its place).
    Named,
    /// `*rest`: all further arguments by place.
    AnyPositions,
    /// `**rest`: all further arguments by name.
    AnyKeywords,
}

/// A place in the source: line and column count from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a function could not be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The text is no Python.
    #[error("{message}")]
    Syntax {
        /// Where the parser stopped.
        position: Position,
        /// What the parser says.
        message: String,
    },
    /// The module defines no such name.
    #[error("there is no function `{name}`")]
    Missing {
        /// What was asked for.
        name: String,
        /// The functions that there are.
        functions: Vec<String>,
    },
    /// The name is there, but is no function that the module itself defines, so that its parameters are not known.
    #[error("`{name}` is not defined here with `def`, so its parameters are not known before it runs")]
    Opaque {
        /// What was asked for.
        name: String,
        /// Where it gets its value.
        position: Position,
    },
    /// More text than any source that people write.
    #[error("the source has {size} bytes, more than {}", MOST)]
    TooLarge {
        /// In bytes.
        size: usize,
    },
    /// Brackets, blocks or chains of operators without end.
    #[error("a statement in the file is nested too deep")]
    TooDeep,
    /// The machine gave no thread to read it in.
    #[error("the source could not be read: no thread could be started")]
    NoThread,
}

/// What a file has in place of a function that it lacks.
fn instead_of(name: &str, functions: &[String]) -> Option<String> {
    closest(name, functions)
        .map(did_you_mean)
        .or_else(|| (!functions.is_empty()).then(|| format!("the file has {}", functions.join(", "))))
}

impl Explain for Error {
    fn explain(&self) -> Explanation {
        match self {
            Self::Syntax { .. } => ErrorKind::Failure.named("source/syntax"),
            Self::Missing { name, functions } => {
                ErrorKind::Failure.named("source/no-function").maybe(instead_of(name, functions))
            }
            Self::Opaque { name, .. } => ErrorKind::Failure
                .named("source/opaque")
                .hint(format!("define `def {name}(…):` in this file, and call the other from it")),
            Self::TooLarge { .. } => ErrorKind::Failure.named("source/too-large"),
            Self::TooDeep => ErrorKind::Failure.named("source/too-deep"),
            Self::NoThread => ErrorKind::Failure.named("source/no-thread"),
        }
    }
}

/// Words of a source that says itself where modules are looked for, or makes some.
const ELSEWHERE: [&str; 9] = [
    "sys.path",
    "sys.meta_path",
    "sys.modules",
    "__path__",
    "addsitedir",
    "load_source",
    "pyximport",
    "spec_from_file_location",
    "zipimporter",
];

/// Largest source that is read, in bytes.
const MOST: usize = 1 << 20;

/// The stack on which a source is parsed, in bytes: its syntax tree may be as deep as the source is long, and is
/// taken down recursively. The kernel gives only the pages that are touched.
const STACK: usize = 512 << 20;

/// The function `name` that `source` defines at its top level; of several the last, as in Python. What it imports of the
/// project is not looked into.
///
/// # Errors
/// See [`Error`].
pub fn function(source: &str, name: &str) -> Result<Signature, Error> {
    function_in("", source, name, &|_| None)
}

/// The same of the file `file` of a project, whose other files `others` gives: classes that it imports of them are read.
///
/// # Errors
/// See [`Error`]; what is wrong in other files is none.
pub fn function_in(file: &str, source: &str, name: &str, others: &Read<'_>) -> Result<Signature, Error> {
    apart(source, || read(file, source, name, others))
}

/// The modules that `source` imports as soon as it is imported itself. Not those that it can do without, or needs under some
/// condition only: in `try` with `except ImportError`, `if`, loops and functions.
///
/// # Errors
/// See [`Error`]; there is no function to be missing.
pub fn imports(source: &str) -> Result<Imports, Error> {
    apart(source, || {
        let module = parse(source)?;
        // What is put into a module that is there makes none.
        let changes = ["sys.modules[\"__main__\"]", "sys.modules['__main__']", "sys.modules[__name__]"];
        let others = changes.iter().fold(source.to_owned(), |source, change| source.replace(change, ""));
        let elsewhere = ELSEWHERE.iter().any(|way| others.contains(way));
        let mut imports = Imports { modules: Vec::new(), elsewhere };
        imports.visit(&module.syntax().body, 0);
        Ok(imports)
    })
}

/// Reads a source where the stack is large enough for any.
pub(super) fn apart<T: Send>(source: &str, read: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    if source.len() > MOST {
        return Err(Error::TooLarge { size: source.len() });
    }
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, read);
        reader.map_err(|_| Error::NoThread)?.join().map_err(|_| Error::NoThread)?
    })
}

/// Whether a source is nested deeper than any person writes.
///
/// The parser recurses, and so does the destruction of its tree; and what it reads may be hostile. Python itself stops
/// at 200 brackets and 100 levels of indentation (`MAXSTACK`, `MAXINDENT` in its tokenizer). Chains of operators nest as
/// well: 20,000 of them within one statement are let through, and lists of numbers of any length.
fn too_deep(text: &str) -> bool {
    let mut lexer = ruff_python_parser::lexer::lex(text, ruff_python_parser::Mode::Module);
    let (mut brackets, mut indents, mut chain) = (0_usize, 0_usize, 0_usize);
    let mut before = TokenKind::Newline;
    loop {
        let kind = lexer.next_token();
        match kind {
            TokenKind::EndOfFile => return false,
            TokenKind::Newline => chain = 0,
            TokenKind::Indent => indents += 1,
            TokenKind::Dedent => indents = indents.saturating_sub(1),
            TokenKind::Lpar
            | TokenKind::Lsqb
            | TokenKind::Lbrace
            | TokenKind::FStringStart
            | TokenKind::TStringStart => {
                brackets += 1;
                chain += usize::from(matches!(before, TokenKind::Name | TokenKind::Rpar | TokenKind::Rsqb));
            }
            TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace | TokenKind::FStringEnd | TokenKind::TStringEnd => {
                brackets = brackets.saturating_sub(1);
            }
            TokenKind::Comma | TokenKind::Colon | TokenKind::Equal => {}
            // The sign of a number.
            TokenKind::Int | TokenKind::Float if before.is_unary_arithmetic_operator() => {
                chain = chain.saturating_sub(1);
            }
            kind if kind.is_operator() || kind.is_non_soft_keyword() => chain += 1,
            _ => {}
        }
        if brackets > 200 || indents > 100 || chain > 20_000 {
            return true;
        }
        before = kind;
    }
}

/// The tree of a source. Whoever asks has a stack that is large enough.
pub(super) fn parse(source: &str) -> Result<Parsed<ast::ModModule>, Error> {
    if too_deep(source) {
        return Err(Error::TooDeep);
    }
    ruff_python_parser::parse_module(source).map_err(|error| Error::Syntax {
        position: position(source, error.location.start()),
        message: bounded(&error.error.to_string()),
    })
}

impl Imports {
    /// Classes, `with` and `try` are looked into, a few levels deep.
    fn visit(&mut self, body: &[Stmt], depth: u8) {
        const DEEPEST: u8 = 8;
        if depth > DEEPEST {
            return;
        }
        for statement in body {
            match statement {
                Stmt::Import(import) => self.modules.extend(import.names.iter().map(|alias| Import {
                    module: alias.name.to_string(),
                    level: 0,
                    names: Vec::new(),
                    span: alias.name.range().to_std_range(),
                })),
                Stmt::ImportFrom(import) => self.modules.push(Import {
                    module: import.module.as_ref().map(ToString::to_string).unwrap_or_default(),
                    level: import.level,
                    names: import.names.iter().map(|alias| alias.name.to_string()).collect(),
                    span: import.module.as_ref().map_or(import.range, Ranged::range).to_std_range(),
                }),
                Stmt::Try(attempt) => {
                    if !attempt.handlers.iter().any(takes_import_errors) {
                        self.visit(&attempt.body, depth + 1);
                        self.visit(&attempt.orelse, depth + 1);
                    }
                    self.visit(&attempt.finalbody, depth + 1);
                }
                Stmt::With(block) if !block.items.iter().any(|item| suppresses(&item.context_expr)) => {
                    self.visit(&block.body, depth + 1);
                }
                Stmt::ClassDef(class) => self.visit(&class.body, depth + 1),
                _ => {}
            }
        }
    }
}

/// Whether a handler goes on where a module is not there.
fn takes_import_errors(handler: &ast::ExceptHandler) -> bool {
    let ast::ExceptHandler::ExceptHandler(handler) = handler;
    let takes = |error: &Expr| {
        let name = match error {
            Expr::Name(name) => name.id.as_str(),
            Expr::Attribute(attribute) => attribute.attr.as_str(),
            // Computed, so it may be any.
            _ => return true,
        };
        matches!(name, "ImportError" | "ModuleNotFoundError" | "Exception" | "BaseException")
    };
    match handler.type_.as_deref() {
        None => true,
        Some(Expr::Tuple(errors)) => errors.elts.iter().any(takes),
        Some(error) => takes(error),
    }
}

/// `contextlib.suppress(…)`, and what is called like it.
fn suppresses(expression: &Expr) -> bool {
    let Expr::Call(call) = expression else { return false };
    match &*call.func {
        Expr::Name(name) => name.id.as_str().contains("suppress"),
        Expr::Attribute(attribute) => attribute.attr.as_str().contains("suppress"),
        _ => false,
    }
}

fn read(file: &str, source: &str, name: &str, others: &Read<'_>) -> Result<Signature, Error> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let module = Rc::new(Module::new(file, source.to_owned())?);
    let mut names = Names { wanted: name, functions: Vec::new(), found: None };
    names.visit(module.body(), 0);
    match names.found {
        Some(Found::Function(function)) => Ok(signature(&module, function, others)),
        Some(Found::Value(range)) => {
            Err(Error::Opaque { name: name.to_owned(), position: position(source, range.start()) })
        }
        None => Err(Error::Missing { name: name.to_owned(), functions: names.functions }),
    }
}

/// What a module's top level binds a name to.
enum Found<'a> {
    Function(&'a ast::StmtFunctionDef),
    Value(TextRange),
}

/// Looks for a name at the top level of a module.
struct Names<'a> {
    wanted: &'a str,
    functions: Vec<String>,
    found: Option<Found<'a>>,
}

impl<'a> Names<'a> {
    /// `if` and `try` at the top level are looked into as well, a few levels deep.
    fn visit(&mut self, body: &'a [Stmt], depth: u8) {
        const DEEPEST: u8 = 8;
        if depth > DEEPEST {
            return;
        }
        for statement in body {
            match statement {
                Stmt::FunctionDef(function) => {
                    if function.name.as_str() == self.wanted {
                        self.found = Some(Found::Function(function));
                    }
                    self.functions.push(function.name.to_string());
                }
                Stmt::ClassDef(class) => self.bind(class.name.as_str(), class.name.range()),
                Stmt::Assign(assign) => assign.targets.iter().for_each(|target| self.assign(target)),
                Stmt::AnnAssign(assign) => self.assign(&assign.target),
                Stmt::Import(import) => self.import(&import.names),
                Stmt::ImportFrom(import) => self.import(&import.names),
                Stmt::If(branch) => {
                    self.visit(&branch.body, depth + 1);
                    branch.elif_else_clauses.iter().for_each(|clause| self.visit(&clause.body, depth + 1));
                }
                Stmt::Try(attempt) => {
                    self.visit(&attempt.body, depth + 1);
                    self.visit(&attempt.orelse, depth + 1);
                    self.visit(&attempt.finalbody, depth + 1);
                }
                Stmt::With(block) => self.visit(&block.body, depth + 1),
                _ => {}
            }
        }
    }

    fn assign(&mut self, target: &'a Expr) {
        if let Expr::Name(name) = target {
            self.bind(name.id.as_str(), name.range());
        }
    }

    fn import(&mut self, names: &'a [ast::Alias]) {
        for alias in names {
            self.bind(alias.asname.as_ref().unwrap_or(&alias.name).as_str(), alias.range());
        }
    }

    fn bind(&mut self, name: &str, range: TextRange) {
        if name == self.wanted {
            self.found = Some(Found::Value(range));
        }
    }
}

pub(super) fn signature(module: &Rc<Module>, function: &ast::StmtFunctionDef, others: &Read<'_>) -> Signature {
    let (source, reader) = (module.source(), Reader::new(others));
    let one = |parameter: &ast::Parameter, kind, default: Option<&Expr>| Parameter {
        name: parameter.name.to_string(),
        kind,
        annotation: parameter.annotation.as_deref().map(|annotation| reader.annotation(module, annotation)),
        required: default.is_none() && kind == ParameterKind::Named,
        default: default.and_then(|default| literal(default, 0)),
        position: position(source, parameter.name.start()),
    };
    let named = |all: &[ast::ParameterWithDefault]| {
        all.iter().map(|p| one(&p.parameter, ParameterKind::Named, p.default.as_deref())).collect::<Vec<_>>()
    };
    let declared = &function.parameters;
    let mut parameters = named(&declared.posonlyargs);
    parameters.extend(named(&declared.args));
    parameters.extend(declared.vararg.as_deref().map(|p| one(p, ParameterKind::AnyPositions, None)));
    parameters.extend(named(&declared.kwonlyargs));
    parameters.extend(declared.kwarg.as_deref().map(|p| one(p, ParameterKind::AnyKeywords, None)));
    let returns = function.returns.as_deref().map(|annotation| reader.annotation(module, annotation));
    Signature {
        name: function.name.to_string(),
        parameters,
        parts: parts(&reader, module, function),
        returns,
        classes: reader.into_classes(),
        docstring: docstring(&function.body),
        is_async: function.is_async,
        decorated: !function.decorator_list.is_empty(),
        position: position(source, function.name.start()),
        unwritten: function.body.iter().find_map(|statement| unwritten(source, statement)),
    }
}

/// What a function that answers in parts gives.
fn parts(reader: &Reader<'_>, module: &Rc<Module>, function: &ast::StmtFunctionDef) -> Option<Type> {
    let of_annotation = function.returns.as_deref().and_then(|annotation| match annotation {
        Expr::StringLiteral(text) => {
            let expression = ruff_python_parser::parse_expression(text.value.to_str()).ok()?;
            element(reader, module, expression.expr())
        }
        annotation => element(reader, module, annotation),
    });
    match of_annotation {
        Some((Iterated::Once, of)) => Some(of),
        Some((Iterated::Often, of)) => yields(&function.body).then_some(of),
        None => yields(&function.body).then_some(Type::Any),
    }
}

/// How often something can be iterated over.
enum Iterated {
    /// It gives its parts one after the other.
    Once,
    /// It may as well be a list.
    Often,
}

/// What an annotation says of what is iterated over, and what that gives.
fn element(reader: &Reader<'_>, module: &Rc<Module>, annotation: &Expr) -> Option<(Iterated, Type)> {
    let (name, of) = match annotation {
        Expr::Subscript(generic) => match &*generic.slice {
            Expr::Tuple(several) => (&*generic.value, reader.annotation(module, several.elts.first()?)),
            one => (&*generic.value, reader.annotation(module, one)),
        },
        name => (name, Type::Any),
    };
    match last_name(name) {
        "Iterator" | "Generator" | "AsyncIterator" | "AsyncGenerator" => Some((Iterated::Once, of)),
        "Iterable" | "AsyncIterable" => Some((Iterated::Often, of)),
        _ => None,
    }
}

/// The last name of `typing.Iterator`.
fn last_name(expression: &Expr) -> &str {
    match expression {
        Expr::Name(name) => name.id.as_str(),
        Expr::Attribute(attribute) => match &*attribute.value {
            Expr::Name(module) if matches!(module.id.as_str(), "typing" | "t" | "typing_extensions" | "abc") => {
                attribute.attr.as_str()
            }
            _ => "",
        },
        _ => "",
    }
}

/// Whether a function with this body is a generator: what is defined in it counts for itself.
fn yields(body: &[Stmt]) -> bool {
    struct Yields(bool);
    impl<'a> Visitor<'a> for Yields {
        fn visit_stmt(&mut self, statement: &'a Stmt) {
            if !self.0 && !matches!(statement, Stmt::FunctionDef(_) | Stmt::ClassDef(_)) {
                walk_stmt(self, statement);
            }
        }
        fn visit_expr(&mut self, expression: &'a Expr) {
            match expression {
                Expr::Yield(_) | Expr::YieldFrom(_) => self.0 = true,
                Expr::Lambda(_) => {}
                _ if self.0 => {}
                _ => walk_expr(self, expression),
            }
        }
    }
    let mut found = Yields(false);
    found.visit_body(body);
    found.0
}

/// `raise NotImplementedError`, with or without a text.
fn unwritten(source: &str, statement: &Stmt) -> Option<Unwritten> {
    let Stmt::Raise(raise) = statement else { return None };
    let (exception, text) = match raise.exc.as_deref()? {
        Expr::Call(call) => {
            let text = call.arguments.args.first().and_then(Expr::as_string_literal_expr);
            (&*call.func, text.map(|text| bounded(text.value.to_str())).unwrap_or_default())
        }
        exception => (exception, String::new()),
    };
    let name = exception.as_name_expr()?.id.as_str();
    (name == "NotImplementedError").then(|| Unwritten { text, position: position(source, raise.start()) })
}

fn docstring(body: &[Stmt]) -> Option<String> {
    let Some(Stmt::Expr(first)) = body.first() else { return None };
    let Expr::StringLiteral(text) = &*first.value else { return None };
    let lines: Vec<&str> = text.value.to_str().trim().lines().map(str::trim).collect();
    Some(lines.join("\n")).filter(|text| !text.is_empty())
}

/// Deepest nesting of an annotation or a default that is looked into.
const DEEPEST: u8 = 16;

/// The value of an expression that is one.
pub(super) fn literal(expression: &Expr, depth: u8) -> Option<Value> {
    if depth > DEEPEST {
        return None;
    }
    match expression {
        Expr::NoneLiteral(_) => Some(Value::Null),
        Expr::BooleanLiteral(value) => Some(value.value.into()),
        Expr::StringLiteral(text) => Some(text.value.to_str().into()),
        Expr::NumberLiteral(number) => match &number.value {
            ast::Number::Int(int) => int.as_i64().map(Value::from),
            ast::Number::Float(float) => serde_json::Number::from_f64(*float).map(Value::Number),
            ast::Number::Complex { .. } => None,
        },
        Expr::UnaryOp(minus) if minus.op == ast::UnaryOp::USub => match literal(&minus.operand, depth + 1)? {
            Value::Number(number) => match number.as_i64() {
                Some(int) => int.checked_neg().map(Value::from),
                None => serde_json::Number::from_f64(-number.as_f64()?).map(Value::Number),
            },
            _ => None,
        },
        Expr::List(list) => list.elts.iter().map(|item| literal(item, depth + 1)).collect(),
        Expr::Tuple(tuple) => tuple.elts.iter().map(|item| literal(item, depth + 1)).collect(),
        Expr::Dict(dict) if dict.items.is_empty() => Some(Value::Object(serde_json::Map::new())),
        _ => None,
    }
}

pub(super) fn position(source: &str, offset: TextSize) -> Position {
    let before = source.get(..offset.to_usize()).unwrap_or(source);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Position {
        line: before.matches('\n').count() + 1,
        column: before.get(start..).unwrap_or_default().chars().count() + 1,
    }
}

/// Foreign words, at most 200 characters of them.
fn bounded(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn first_type(annotation: &str) -> Type {
        let source = format!("def f(x: {annotation}): pass");
        function(&source, "f").unwrap().parameters.remove(0).annotation.unwrap()
    }

    #[test]
    fn a_function_that_answers_in_parts_is_known_by_its_yield_or_by_what_it_returns() {
        let parts = |source: &str| function(source, "f").unwrap().parts;
        for (source, expected) in [
            ("def f():\n    yield 1\n", Some(Type::Any)),
            ("async def f():\n    for a in b:\n        x = yield a\n", Some(Type::Any)),
            ("def f() -> Iterator[str]:\n    return g()\n", Some(Type::Str)),
            ("def f() -> 'typing.AsyncGenerator[int, None]':\n    return g()\n", Some(Type::Int)),
            ("def f() -> Iterable[float]:\n    yield from g()\n", Some(Type::Float)),
            ("def f() -> Iterable[float]:\n    return []\n", None),
            ("def f():\n    def g():\n        yield 1\n    return list(g())\n", None),
            ("def f():\n    return lambda: (yield 1)\n", None),
            ("def f() -> list[str]:\n    return []\n", None),
        ] {
            assert_eq!(parts(source), expected, "{source}");
        }
    }

    #[test]
    fn a_signature_says_what_the_source_says() {
        let source = "import numpy as np\n\nasync def predict(a, /, features: list[list[float]], *rest, k: int = -3, \
                      **more) -> 'list[int]':\n    \"\"\"Tells irises apart.\n\n    By four numbers.\n    \"\"\"\n";
        let found = function(source, "predict").unwrap();
        assert!(found.is_async);
        assert_eq!(found.position, Position { line: 3, column: 11 });
        assert_eq!(found.returns, Some(Type::List(Type::Int.into())));
        assert_eq!(found.docstring.as_deref(), Some("Tells irises apart.\n\nBy four numbers."));
        let shown: Vec<_> =
            found.parameters.iter().map(|p| (p.name.as_str(), p.kind, p.required, p.default.clone())).collect();
        use ParameterKind::{AnyKeywords, AnyPositions, Named};
        assert_eq!(
            shown,
            [
                ("a", Named, true, None),
                ("features", Named, true, None),
                ("rest", AnyPositions, false, None),
                ("k", Named, false, Some((-3).into())),
                ("more", AnyKeywords, false, None),
            ]
        );
        assert!(found.takes("anything"));
    }

    #[test]
    fn annotations_become_types() {
        use Type::*;
        let cases = [
            ("float | None", Union(vec![Float, None])),
            ("Optional[int]", Union(vec![Int, None])),
            ("typing.Union[int, str, int]", Union(vec![Int, Str])),
            ("dict[str, list[bool]]", Dict(List(Bool.into()).into())),
            ("tuple[int, ...]", List(Int.into())),
            ("tuple[int, str]", Tuple(vec![Int, Str])),
            ("Literal['a', 1]", Literal(vec!["a".into(), 1.into()])),
            ("Annotated[int, 'count']", Int),
            ("np.ndarray", Other("np.ndarray".into())),
            ("np.float64", Other("np.float64".into())),
            ("'broken['", Other("'broken['".into())),
            ("list", List(Any.into())),
        ];
        for (text, expected) in cases {
            assert_eq!(first_type(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let syntax = function("def f(:\n  pass", "f");
        assert!(matches!(syntax, Err(Error::Syntax { position: Position { line: 1, .. }, .. })), "{syntax:?}");
        let missing = function("def predict(x): ...", "predikt").unwrap_err();
        assert_eq!(missing.explain().hint.as_deref(), Some("did you mean `predict`?"));
        let opaque = function("x = 1\nfrom other import predict", "predict").unwrap_err();
        assert!(matches!(opaque, Error::Opaque { position: Position { line: 2, column: 19 }, .. }), "{opaque:?}");
    }

    #[test]
    fn the_last_definition_counts_also_within_try() {
        let source = "def f(a): ...\ntry:\n    import fast\n    def f(b): ...\nexcept ImportError:\n    pass\n";
        assert_eq!(function(source, "f").unwrap().parameters[0].name, "b");
    }

    #[test]
    fn imports_are_those_that_cannot_fail() {
        let source = "import a, b.c as d\nfrom e.f import g\nfrom . import h\nfrom ..i import *\ntry:\n    import j\nexcept \
                      (ValueError, ImportError):\n    import k\ntry:\n    import l\nfinally:\n    import m\nif TYPE_CHECKING:\n    \
                      import n\ndef f():\n    import o\nclass C:\n    import p\nwith suppress(ImportError):\n    import q\nwith \
                      open('x') as x:\n    import r\ntry:\n    import s\nexcept ValueError:\n    import t\ntry:\n    import u\n\
                      except:\n    pass\n";
        let Imports { modules, elsewhere } = imports(source).unwrap();
        let names: Vec<_> =
            modules.iter().map(|one| format!("{}{}", ".".repeat(one.level as usize), one.module)).collect();
        assert_eq!(names, ["a", "b.c", "e.f", ".", "..i", "l", "m", "p", "r", "s"]);
        assert!(modules.iter().filter(|one| one.level == 0).all(|one| source[one.span.clone()] == one.module));
        assert!(!elsewhere && imports("import sys\nsys.path.append('x')").unwrap().elsewhere);
    }

    #[test]
    fn hostile_depth_ends_in_an_answer() {
        for unit in ["(", "[", "-", "not ", "1+", "a.", "lambda:", "f(", "{1:", "x if y else ", "if 1:\n ", "a="] {
            let _ = function(&unit.repeat((MOST / 8) / unit.len()), "f");
        }
        assert!(matches!(function(&" ".repeat(MOST + 1), "f"), Err(Error::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(def |async |class |f|\\(|\\)|:|\n|    |=|\\[|\\]|'|\"|\\*|,|[a-zäß\u{2028}1]|->|\\|){0,60}") {
            let _ = (function(&text, "f"), imports(&text));
        }
    }
}
