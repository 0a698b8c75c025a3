//! The functions that a service names: whether they are in their files, with the parameters that are described.
//!
//! The Python source is parsed, never run.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ruff_python_ast::token::TokenKind;
use ruff_python_ast::{Parameters, Stmt};
use ruff_python_parser::{Mode, ParseOptions, lexer, parse_unchecked};

use super::Subject;
use crate::archive::ArchivePath;
use crate::diagnostic::{Code, Diagnostic, Diagnostics, Source};
use crate::document::{MAX_BYTES, read_text};
use crate::files::File;
use crate::manifest::Entry;
use crate::near::near;

/// Checks them; mistakes go to `found`.
pub fn check(subject: &Subject<'_>, found: &mut Diagnostics) {
    let entries = subject.manifest.service.entries();
    let mut modules: BTreeMap<&str, Option<Module>> = BTreeMap::new();
    let mut functions = Vec::new();
    for entry in &entries {
        let module = modules.entry(entry.file).or_insert_with(|| Module::read(subject, entry.file, found));
        if let Some(module) = module {
            functions.extend(module.find(subject, entry, found));
        } else {
            // What it takes cannot be known.
            functions.push(Function::unknown());
        }
    }
    if functions.is_empty() || functions.iter().any(|function| function.open) {
        return;
    }
    for (number, input) in subject.manifest.service.inputs.iter().enumerate() {
        if functions.iter().any(|function| function.parameters.contains(&input.name)) {
            continue;
        }
        let at = format!("/service/inputs/{number}/name");
        let names: Vec<String> = functions.iter().flat_map(|function| function.parameters.clone()).collect();
        let message = match entries.as_slice() {
            [entry] => format!("`{}` is no parameter of the function `{}`", input.name, entry.function),
            _ => format!("`{}` is no parameter of any of the functions", input.name),
        };
        let mut error = subject.document.at(Code::NoParameter, &at, message);
        if let Some(near) = near(&input.name, &names) {
            error = error.label(format!("did you mean `{near}`?"));
        }
        for Function { place, .. } in &functions {
            if let Some((source, span)) = place {
                error = error.also(source, span.clone(), "the function is here");
            }
        }
        found.push(error);
    }
}

/// What a function takes.
#[derive(Clone)]
struct Function {
    /// Where its name stands.
    place: Option<(Arc<Source>, Range<usize>)>,
    parameters: Vec<String>,
    /// Whether it may take more than is seen.
    open: bool,
}

impl Function {
    fn unknown() -> Self {
        Self { place: None, parameters: Vec::new(), open: true }
    }
}

/// What a Python file has at its top level.
struct Module {
    source: Arc<Source>,
    names: BTreeMap<String, Function>,
}

impl Module {
    /// None, with an error in `found` (here, or by who looks for the file), where it cannot be read.
    fn read(subject: &Subject<'_>, file: &str, found: &mut Diagnostics) -> Option<Self> {
        // What is not among the files is not there, or not in the project: then it is not for us to open.
        let path = ArchivePath::relative(file).ok()?;
        let File { host, .. } = subject.files.get(&path)?;
        let source = read_text(host, &crate::document::shown(host), MAX_BYTES, found)?;
        if too_deep(source.text()) {
            found.push(Diagnostic::new(
                Code::PythonSyntax,
                &source,
                0..0,
                "a statement in the file is nested too deep",
            ));
            return None;
        }
        // A thread, for its stack: see `too_deep`.
        let parsing = std::thread::Builder::new().stack_size(STACK).spawn({
            let source = source.clone();
            move || Self::parse(source)
        });
        let parsed = parsing.and_then(|thread| thread.join().map_err(|_| std::io::Error::other("the parser gave up")));
        match parsed {
            Ok(Ok(module)) => return Some(module),
            Ok(Err(error)) => found.push(*error),
            Err(error) => {
                let message = format!("the file cannot be parsed: {error}");
                found.push(Diagnostic::new(Code::Unreadable, &source, 0..0, message));
            }
        }
        None
    }

    fn parse(source: Arc<Source>) -> Result<Self, Box<Diagnostic>> {
        let parsed = parse_unchecked(source.text(), ParseOptions::from(Mode::Module));
        if let Some(error) = parsed.errors().first() {
            let place = error.location.start().to_usize()..error.location.end().to_usize();
            let reason = error.error.to_string();
            let message = format!("the syntax is wrong: {}", reason.to_lowercase());
            return Err(Box::new(Diagnostic::new(Code::PythonSyntax, &source, place, message)));
        }
        let mut module = Self { source, names: BTreeMap::new() };
        if let Some(parsed) = parsed.try_into_module() {
            module.collect(parsed.suite());
        }
        Ok(module)
    }

    /// The names that statements bind, also within `if`, `try` and `with`.
    fn collect(&mut self, statements: &[Stmt]) {
        for statement in statements {
            match statement {
                Stmt::FunctionDef(function) => {
                    let place = function.name.range.start().to_usize()..function.name.range.end().to_usize();
                    let place = Some((self.source.clone(), place));
                    // A decorator may change what the function takes.
                    let open = !function.decorator_list.is_empty() || function.parameters.kwarg.is_some();
                    let parameters = parameters(&function.parameters);
                    self.names.insert(function.name.to_string(), Function { place, parameters, open });
                }
                Stmt::ClassDef(class) => self.bind(&class.name),
                Stmt::Import(import) => import.names.iter().for_each(|alias| self.bind_alias(alias)),
                Stmt::ImportFrom(import) => import.names.iter().for_each(|alias| self.bind_alias(alias)),
                Stmt::Assign(assign) => {
                    for target in &assign.targets {
                        if let Some(name) = target.as_name_expr() {
                            self.bind(&name.id);
                        }
                    }
                }
                Stmt::If(statement) => {
                    self.collect(&statement.body);
                    statement.elif_else_clauses.iter().for_each(|clause| self.collect(&clause.body));
                }
                Stmt::Try(statement) => {
                    self.collect(&statement.body);
                    for handler in &statement.handlers {
                        let ruff_python_ast::ExceptHandler::ExceptHandler(handler) = handler;
                        self.collect(&handler.body);
                    }
                    self.collect(&statement.orelse);
                    self.collect(&statement.finalbody);
                }
                Stmt::With(statement) => self.collect(&statement.body),
                _ => {}
            }
        }
    }

    fn bind_alias(&mut self, alias: &ruff_python_ast::Alias) {
        self.bind(alias.asname.as_ref().unwrap_or(&alias.name));
    }

    fn bind(&mut self, name: &str) {
        self.names.insert(name.to_owned(), Function::unknown());
    }

    fn find(&self, subject: &Subject<'_>, entry: &Entry<'_>, found: &mut Diagnostics) -> Option<Function> {
        // `from x import *` may bring anything.
        if let Some(function) = self.names.get(entry.function).or_else(|| self.names.get("*")) {
            return Some(function.clone());
        }
        let names: Vec<String> =
            self.names.iter().filter(|(_, function)| function.place.is_some()).map(|(name, _)| name.clone()).collect();
        let message = format!("there is no function `{}` in {}", entry.function, entry.file);
        let mut error = subject.document.at(Code::NoFunction, &entry.pointer, message);
        if let Some(near) = near(entry.function, &names) {
            error = error.label(format!("did you mean `{near}`?"));
            if let Some((source, span)) = self.names.get(near).and_then(|function| function.place.clone()) {
                error = error.also(&source, span, "this one?");
            }
        } else if !names.is_empty() {
            error = error.help(format!("the functions in it are {}", names.join(", ")));
        }
        found.push(error);
        None
    }
}

fn parameters(parameters: &Parameters) -> Vec<String> {
    // Inputs are passed by name: those that can only be passed by position cannot be meant.
    parameters.args.iter().chain(&parameters.kwonlyargs).map(|p| p.parameter.name.to_string()).collect()
}

/// The stack on which a file is parsed: enough for what [`too_deep`] lets through. Only what is used becomes memory.
const STACK: usize = 256 << 20;

/// Whether a file is nested deeper than any person writes.
///
/// The parser recurses, and so does the destruction of its tree; and what it reads may be hostile. Python itself stops
/// at 200 brackets and 100 levels of indentation (`MAXSTACK`, `MAXINDENT` in its tokenizer). Chains of operators nest as
/// well: 20,000 of them within one statement are let through, and lists of numbers of any length.
fn too_deep(text: &str) -> bool {
    let mut lexer = lexer::lex(text, Mode::Module);
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
