//! Annotations as types, with the classes that they name where those are defined in the project.
//!
//! What is served by it checks requests with pydantic, so the classes are read as pydantic reads them
//! (<https://docs.pydantic.dev/latest/concepts/>): its models, dataclasses, `TypedDict`, `NamedTuple` and `Enum`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use ruff_python_ast::{self as ast, Expr, Stmt};
use ruff_python_parser::Parsed;
use ruff_text_size::Ranged as _;
use serde_json::{Map, Value};

use super::{DEEPEST, bounded, docstring, literal, parse};

/// An annotation, as far as a caller can tell types apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Anything: `Any`, `object`.
    Any,
    /// `None`.
    None,
    /// `bool`.
    Bool,
    /// `int`.
    Int,
    /// `float`.
    Float,
    /// `str`.
    Str,
    /// `Decimal`: a number, or a text with one.
    Decimal,
    /// A text of a form that JSON Schema has a name for, as `date-time`.
    Text(&'static str),
    /// A list or sequence, with what is in it.
    List(Box<Type>),
    /// The same without repetitions.
    Set(Box<Type>),
    /// A list whose items have types of their own.
    Tuple(Vec<Type>),
    /// A mapping from text, with what its values are.
    Dict(Box<Type>),
    /// One of several.
    Union(Vec<Type>),
    /// One of these values.
    Literal(Vec<Value>),
    /// A file: bytes, a path, something to read from, or a picture.
    File(File),
    /// An array of numpy.
    Array(Array),
    /// A frame of pandas, written as [`Orient`] says.
    Frame(Orient),
    /// A series of pandas.
    Series,
    /// A class of the project, by its name in [`super::Signature::classes`].
    Class(String),
    /// A type with keywords of JSON Schema beside it, as `minimum`.
    Bounded(Box<Type>, Map<String, Value>),
    /// A type that only running the code could tell, in the source's words.
    Other(String),
}

/// A file that is sent or answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Whether it is a picture, which is decoded.
    pub is_picture: bool,
    /// The kinds that are named beside it, as `image/png` or `image/*`; none where any will do.
    pub media_types: Vec<String>,
}

/// An array of numpy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Array {
    /// As `float32`.
    pub dtype: Option<String>,
    /// The length along each axis, as far as it is given.
    pub shape: Option<Vec<Option<u64>>>,
}

/// How a frame of pandas is written as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orient {
    /// A list of objects, one for each row.
    #[default]
    Records,
    /// An object of `columns`, `data` and perhaps `index`.
    Split,
    /// An object of lists, one for each column.
    Columns,
}

/// A class of the project that stands for a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Its docstring.
    pub docstring: Option<String>,
    /// What its values are.
    pub form: Form,
}

/// What the values of a class are in JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// Objects with these members; with others only where `is_open`.
    Object {
        /// In the order of the source, those of its bases first.
        members: Vec<Member>,
        /// Whether further members are let be.
        is_open: bool,
    },
    /// Lists of these items.
    Row(Vec<Member>),
    /// One of these.
    Values(Vec<Value>),
    /// Only running the code could tell.
    Unknown,
}

/// A member of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// What it is called in JSON.
    pub name: String,
    /// Its type.
    pub of: Type,
    /// Whether it has to be given.
    pub required: bool,
    /// The default, where it is a literal.
    pub default: Option<Value>,
}

impl Type {
    /// Whether a value of it is a file, or may be one, or is a list of them.
    pub fn takes_files(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::List(inner) | Self::Set(inner) | Self::Dict(inner) | Self::Bounded(inner, _) => inner.takes_files(),
            Self::Tuple(types) | Self::Union(types) => types.iter().any(Self::takes_files),
            _ => false,
        }
    }

    /// The file that it is, or is a list of, where `None` may stand in its place.
    pub fn file(&self) -> Option<&File> {
        match self {
            Self::File(file) => Some(file),
            Self::List(inner) | Self::Bounded(inner, _) => inner.file(),
            Self::Union(types) => types.iter().find_map(Self::file),
            _ => None,
        }
    }

    /// The file that it is itself, where `None` may stand in its place; none of a list.
    pub fn alone(&self) -> Option<&File> {
        self.file().filter(|_| !self.is_list())
    }

    /// Whether it is a list, where `None` may stand in its place.
    pub fn is_list(&self) -> bool {
        match self {
            Self::List(_) | Self::Set(_) | Self::Tuple(_) => true,
            Self::Bounded(inner, _) => inner.is_list(),
            Self::Union(types) => types.iter().any(Self::is_list),
            _ => false,
        }
    }
}

/// Gives the text of a file of the project, by its path; none where it is not there.
pub type Read<'a> = dyn Fn(&str) -> Option<String> + Sync + 'a;

/// Bounds on what is followed: foreign texts may name each other without end.
const MOST_CLASSES: usize = 200;
const MOST_MODULES: usize = 50;
const MOST_TYPES: usize = 20_000;

/// A file with its tree.
pub(in crate::formats) struct Module {
    /// Relative to the project.
    file: String,
    source: String,
    parsed: Parsed<ast::ModModule>,
}

/// What a name is bound to at the top level of a module.
enum Bound<'m> {
    Class(&'m ast::StmtClassDef),
    Alias(&'m Expr),
    Import { level: u32, path: Vec<String> },
}

/// Where a name leads.
enum Place {
    /// A class or an alias of the project.
    Here(Rc<Module>, String),
    /// A name of another package, in whole.
    Elsewhere(String),
}

impl Module {
    pub(in crate::formats) fn new(file: &str, source: String) -> Result<Self, super::Error> {
        let parsed = parse(&source)?;
        Ok(Self { file: file.to_owned(), source, parsed })
    }

    pub(in crate::formats) fn body(&self) -> &[Stmt] {
        &self.parsed.syntax().body
    }

    pub(in crate::formats) fn source(&self) -> &str {
        &self.source
    }

    /// What `name` is bound to; of several the last.
    fn bound(&self, name: &str) -> Option<Bound<'_>> {
        fn visit<'m>(body: &'m [Stmt], name: &str, depth: u8, found: &mut Option<Bound<'m>>) {
            const DEEPEST: u8 = 8;
            if depth > DEEPEST {
                return;
            }
            let is = |target: &Expr| target.as_name_expr().is_some_and(|target| target.id.as_str() == name);
            for statement in body {
                match statement {
                    Stmt::ClassDef(class) if class.name.as_str() == name => *found = Some(Bound::Class(class)),
                    Stmt::Assign(assign) if assign.targets.iter().any(is) => *found = Some(Bound::Alias(&assign.value)),
                    Stmt::AnnAssign(assign) if is(&assign.target) => {
                        if let Some(value) = &assign.value {
                            *found = Some(Bound::Alias(value));
                        }
                    }
                    Stmt::TypeAlias(alias) if is(&alias.name) => *found = Some(Bound::Alias(&alias.value)),
                    Stmt::Import(import) => {
                        for alias in &import.names {
                            let names = || alias.name.split('.').map(str::to_owned);
                            match &alias.asname {
                                Some(other) if other.as_str() == name => {
                                    *found = Some(Bound::Import { level: 0, path: names().collect() });
                                }
                                None if names().next().as_deref() == Some(name) => {
                                    *found = Some(Bound::Import { level: 0, path: vec![name.to_owned()] });
                                }
                                _ => {}
                            }
                        }
                    }
                    Stmt::ImportFrom(import) => {
                        for alias in &import.names {
                            if alias.asname.as_ref().unwrap_or(&alias.name).as_str() == name {
                                let module = import.module.as_ref().map(|module| module.as_str()).unwrap_or_default();
                                let path = module.split('.').filter(|name| !name.is_empty());
                                let path = path.chain([alias.name.as_str()]).map(str::to_owned).collect();
                                *found = Some(Bound::Import { level: import.level, path });
                            }
                        }
                    }
                    Stmt::If(branch) => {
                        visit(&branch.body, name, depth + 1, found);
                        branch.elif_else_clauses.iter().for_each(|clause| visit(&clause.body, name, depth + 1, found));
                    }
                    Stmt::Try(attempt) => {
                        visit(&attempt.body, name, depth + 1, found);
                        visit(&attempt.orelse, name, depth + 1, found);
                    }
                    _ => {}
                }
            }
        }
        let mut found = None;
        visit(self.body(), name, 0, &mut found);
        found
    }
}

/// Reads annotations, and collects the classes that they name.
pub(super) struct Reader<'a> {
    read: &'a Read<'a>,
    modules: RefCell<BTreeMap<String, Option<Rc<Module>>>>,
    classes: RefCell<BTreeMap<String, Class>>,
    /// What the class of a name in a file is called among them.
    keys: RefCell<BTreeMap<(String, String), String>>,
    left: Cell<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(read: &'a Read<'a>) -> Self {
        Self {
            read,
            modules: RefCell::default(),
            classes: RefCell::default(),
            keys: RefCell::default(),
            left: Cell::new(MOST_TYPES),
        }
    }

    pub(super) fn into_classes(self) -> BTreeMap<String, Class> {
        self.classes.into_inner()
    }

    /// The type that `annotation` is in `module`.
    pub(super) fn annotation(&self, module: &Rc<Module>, annotation: &Expr) -> Type {
        self.read_type(module, module.source(), annotation, 0)
    }

    fn read_type(&self, module: &Rc<Module>, text: &str, annotation: &Expr, depth: u8) -> Type {
        let other = || Type::Other(bounded(text.get(annotation.range().to_std_range()).unwrap_or_default()));
        if depth > DEEPEST || self.left.get() == 0 {
            return other();
        }
        self.left.set(self.left.get() - 1);
        let inner = |expression: &Expr| self.read_type(module, text, expression, depth + 1);
        match annotation {
            Expr::NoneLiteral(_) => Type::None,
            // An annotation in quotes is an expression as well.
            Expr::StringLiteral(quoted) => match ruff_python_parser::parse_expression(quoted.value.to_str()) {
                Ok(parsed) => self.read_type(module, quoted.value.to_str(), parsed.expr(), depth + 1),
                Err(_) => other(),
            },
            Expr::BinOp(or) if or.op == ast::Operator::BitOr => union([inner(&or.left), inner(&or.right)]),
            Expr::Name(_) | Expr::Attribute(_) => match self.place(module, annotation, depth) {
                Some(Place::Here(place, name)) => self.own(&place, &name, depth).unwrap_or_else(other),
                Some(Place::Elsewhere(name)) => named(&name).unwrap_or_else(other),
                None => other(),
            },
            Expr::Subscript(generic) => {
                let arguments = match &*generic.slice {
                    Expr::Tuple(tuple) => &tuple.elts[..],
                    one => std::slice::from_ref(one),
                };
                let Some(Place::Elsewhere(name)) = self.place(module, &generic.value, depth) else { return other() };
                match (short(&name), arguments) {
                    ("Optional", [one]) => union([inner(one), Type::None]),
                    ("Union", some) => union(some.iter().map(inner)),
                    ("Annotated", [first, metadata @ ..]) => {
                        let mut found = Metadata::default();
                        metadata.iter().for_each(|one| found.read(self, module, one, depth + 1));
                        found.on(inner(first))
                    }
                    ("Required" | "NotRequired" | "ReadOnly" | "Final", [one]) => inner(one),
                    ("Literal", values) => match values.iter().map(|value| literal(value, depth)).collect() {
                        Some(values) => Type::Literal(values),
                        None => other(),
                    },
                    ("dict" | "Dict" | "Mapping" | "MutableMapping", [_, values]) => Type::Dict(inner(values).into()),
                    ("tuple" | "Tuple", [of, Expr::EllipsisLiteral(_)]) => Type::List(inner(of).into()),
                    ("tuple" | "Tuple", some) => Type::Tuple(some.iter().map(inner).collect()),
                    ("set" | "Set" | "frozenset" | "FrozenSet", [of]) => Type::Set(inner(of).into()),
                    (name, [of]) if is_sequence(name) => Type::List(inner(of).into()),
                    ("IO", [of]) if matches!(inner(of), Type::File(_)) => file(false),
                    ("numpy.typing.NDArray", [dtype]) => {
                        Type::Array(Array { dtype: self.dtype(module, dtype, depth), shape: None })
                    }
                    ("numpy.ndarray", [_, of]) => {
                        let dtype = of.as_subscript_expr().and_then(|of| self.dtype(module, &of.slice, depth));
                        Type::Array(Array { dtype, shape: None })
                    }
                    _ => other(),
                }
            }
            _ => other(),
        }
    }

    /// Where a name leads, with dots in it or without.
    fn place(&self, module: &Rc<Module>, expression: &Expr, depth: u8) -> Option<Place> {
        let path = dotted(expression, depth)?;
        self.follow(module, &path, depth)
    }

    fn follow(&self, module: &Rc<Module>, path: &[String], depth: u8) -> Option<Place> {
        if depth > DEEPEST {
            return None;
        }
        let (first, rest) = path.split_first()?;
        match (module.bound(first), rest) {
            (Some(Bound::Class(_) | Bound::Alias(_)), []) => Some(Place::Here(module.clone(), first.clone())),
            (Some(Bound::Import { level, path }), rest) => {
                let whole: Vec<String> = path.into_iter().chain(rest.iter().cloned()).collect();
                match self.locate(module, level, &whole) {
                    Some((found, rest)) => self.follow(&found, &rest, depth + 1),
                    None => Some(Place::Elsewhere(whole.join("."))),
                }
            }
            (Some(_), _) => None,
            (None, _) => Some(Place::Elsewhere(path.join("."))),
        }
    }

    /// The module of the project in which the last of the names `path` stand, and these.
    fn locate(&self, module: &Module, level: u32, path: &[String]) -> Option<(Rc<Module>, Vec<String>)> {
        let mut folder = module.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let up = |folder: &str| folder.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned());
        let mut folders = Vec::new();
        if level == 0 {
            // Where modules are looked for: beside the file, and in the folders above it.
            let mut next = folder.to_owned();
            loop {
                folders.push(next.clone());
                if next.is_empty() {
                    break;
                }
                next = up(&next);
            }
        } else {
            let mut above;
            for _ in 1..level {
                if folder.is_empty() {
                    return None;
                }
                above = up(folder);
                folder = module.file.get(..above.len())?;
            }
            folders.push(folder.to_owned());
        }
        let least = usize::from(level == 0);
        for count in (least..path.len()).rev() {
            let (names, rest) = path.split_at(count);
            for folder in &folders {
                let start = [folder.as_str()].into_iter().filter(|folder| !folder.is_empty());
                let stem = start.chain(names.iter().map(String::as_str)).collect::<Vec<_>>().join("/");
                let files = [format!("{stem}.py"), format!("{stem}/__init__.py")];
                let found = files.iter().filter(|_| !stem.is_empty()).find_map(|file| self.module(file));
                if let Some(found) = found.filter(|found| found.file != module.file) {
                    return Some((found, rest.to_vec()));
                }
            }
        }
        None
    }

    fn module(&self, file: &str) -> Option<Rc<Module>> {
        if let Some(known) = self.modules.borrow().get(file) {
            return known.clone();
        }
        let is_enough = self.modules.borrow().values().flatten().count() >= MOST_MODULES;
        let text = if is_enough { None } else { (self.read)(file) };
        let text = text.filter(|text| text.len() <= super::MOST);
        let module = text.and_then(|text| Module::new(file, text).ok()).map(Rc::new);
        self.modules.borrow_mut().insert(file.to_owned(), module.clone());
        module
    }

    /// A class or an alias of the project.
    fn own(&self, module: &Rc<Module>, name: &str, depth: u8) -> Option<Type> {
        match module.bound(name)? {
            Bound::Alias(Expr::Call(call)) => match (call_name(call), &*call.arguments.args) {
                ("NewType", [_, of]) => Some(self.read_type(module, module.source(), of, depth + 1)),
                _ => None,
            },
            Bound::Alias(value) => Some(self.read_type(module, module.source(), value, depth + 1)),
            Bound::Class(class) => Some(Type::Class(self.class(module, class, depth))),
            Bound::Import { .. } => None,
        }
    }

    /// The key of a class, which is read where it is not known yet.
    fn class(&self, module: &Rc<Module>, class: &ast::StmtClassDef, depth: u8) -> String {
        let name = class.name.as_str();
        let id = (module.file.clone(), name.to_owned());
        if let Some(key) = self.keys.borrow().get(&id) {
            return key.clone();
        }
        // Components of OpenAPI 3.1 are named with these letters alone.
        let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        let is_free = |key: &String| !self.classes.borrow().contains_key(key) && !key.is_empty();
        let key = std::iter::once(plain.clone()).chain((2..).map(|number| format!("{plain}{number}"))).find(is_free);
        let key = key.unwrap_or_default();
        self.keys.borrow_mut().insert(id, key.clone());
        let docstring = docstring(&class.body);
        self.classes.borrow_mut().insert(key.clone(), Class { docstring, form: Form::Unknown });
        let is_enough = self.classes.borrow().len() > MOST_CLASSES;
        let form = if is_enough { None } else { self.form(module, class, depth) }.unwrap_or(Form::Unknown);
        if let Some(class) = self.classes.borrow_mut().get_mut(&key) {
            class.form = form;
        }
        key
    }

    fn form(&self, module: &Rc<Module>, class: &ast::StmtClassDef, depth: u8) -> Option<Form> {
        let kind = self.kind(module, class, depth)?;
        match kind {
            Kind::Values(counting) => values(class, counting).map(Form::Values),
            Kind::Row => Some(Form::Row(self.members(module, class, kind, depth)?.members)),
            Kind::Model | Kind::Record | Kind::Dictionary => {
                let Members { members, is_open } = self.members(module, class, kind, depth)?;
                Some(Form::Object { members, is_open })
            }
        }
    }

    /// What a class is by its bases and decorators.
    fn kind(&self, module: &Rc<Module>, class: &ast::StmtClassDef, depth: u8) -> Option<Kind> {
        if depth > DEEPEST {
            return None;
        }
        let is_dataclass = |decorator: &ast::Decorator| {
            let expression = decorator.expression.as_call_expr().map_or(&decorator.expression, |call| &*call.func);
            dotted(expression, depth).is_some_and(|path| path.last().is_some_and(|name| name == "dataclass"))
        };
        if class.decorator_list.iter().any(is_dataclass) {
            return Some(Kind::Record);
        }
        let mut mixed = false;
        for base in class.bases() {
            match self.place(module, base, depth)? {
                Place::Elsewhere(name) => match short(&name) {
                    "pydantic.BaseModel" => return Some(Kind::Model),
                    "TypedDict" => return Some(Kind::Dictionary),
                    "NamedTuple" => return Some(Kind::Row),
                    "enum.StrEnum" => return Some(Kind::Values(Counting::Names)),
                    "enum.Enum" if mixed => return Some(Kind::Values(Counting::Names)),
                    "enum.Enum" | "enum.IntEnum" => return Some(Kind::Values(Counting::Numbers)),
                    "str" => mixed = true,
                    "int" => {}
                    _ => return None,
                },
                Place::Here(place, name) => {
                    let Some(Bound::Class(base)) = place.bound(&name) else { return None };
                    if let Some(kind) = self.kind(&place, base, depth + 1) {
                        return Some(kind);
                    }
                }
            }
        }
        None
    }

    fn members(&self, module: &Rc<Module>, class: &ast::StmtClassDef, kind: Kind, depth: u8) -> Option<Members> {
        if depth > DEEPEST {
            return None;
        }
        // Stdlib classes have the strictness of what asks for them; models have their own.
        let mut all = Members { members: Vec::new(), is_open: kind == Kind::Model };
        for base in class.bases().iter().rev() {
            if let Some(Place::Here(place, name)) = self.place(module, base, depth)
                && let Some(Bound::Class(base)) = place.bound(&name)
            {
                let inherited = self.members(&place, base, kind, depth + 1)?;
                all.is_open = inherited.is_open;
                inherited.members.into_iter().for_each(|member| all.put(member));
            }
        }
        let is_total = !class.keywords().iter().any(|keyword| {
            keyword.arg.as_ref().is_some_and(|name| name.as_str() == "total")
                && literal(&keyword.value, 0) == Some(Value::Bool(false))
        });
        for statement in &class.body {
            match statement {
                Stmt::AnnAssign(assign) => {
                    let Some(name) = assign.target.as_name_expr().map(|name| name.id.as_str()) else { continue };
                    if let Some(member) = self.member(module, name, assign, kind, is_total, depth) {
                        all.put(member);
                    }
                }
                Stmt::Assign(assign) if kind == Kind::Model => {
                    let is_config = assign
                        .targets
                        .iter()
                        .any(|target| target.as_name_expr().is_some_and(|name| name.id.as_str() == "model_config"));
                    if is_config {
                        all.configure(&settings(&assign.value))?;
                    }
                }
                Stmt::ClassDef(config) if kind == Kind::Model && config.name.as_str() == "Config" => {
                    let settings = config.body.iter().filter_map(|statement| {
                        let assign = statement.as_assign_stmt()?;
                        let name = assign.targets.first()?.as_name_expr()?.id.to_string();
                        Some((name, literal(&assign.value, 0)))
                    });
                    all.configure(&settings.collect::<Vec<_>>())?;
                }
                _ => {}
            }
        }
        Some(all)
    }

    fn member(
        &self,
        module: &Rc<Module>,
        name: &str,
        assign: &ast::StmtAnnAssign,
        kind: Kind,
        is_total: bool,
        depth: u8,
    ) -> Option<Member> {
        if kind == Kind::Model && name.starts_with('_') {
            return None;
        }
        let wrapper = |annotation: &Expr| {
            let generic = annotation.as_subscript_expr()?;
            dotted(&generic.value, depth)?.pop()
        };
        let wrapped = wrapper(&assign.annotation).or_else(|| wrapper_in_quotes(&assign.annotation, depth));
        if matches!(wrapped.as_deref(), Some("ClassVar" | "InitVar")) {
            return None;
        }
        let of = self.read_type(module, module.source(), &assign.annotation, depth + 1);
        let mut member = Member { name: name.to_owned(), of, required: true, default: None };
        if kind == Kind::Dictionary {
            member.required = match wrapped.as_deref() {
                Some("Required") => true,
                Some("NotRequired") => false,
                _ => is_total,
            };
            return Some(member);
        }
        let mut found = Metadata::default();
        // What stands beside the type within `Annotated` is read with it, but for the name and the default.
        if let Some(generic) = assign.annotation.as_subscript_expr().filter(|_| wrapped.as_deref() == Some("Annotated"))
            && let Expr::Tuple(tuple) = &*generic.slice
        {
            let mut beside = Metadata::default();
            tuple.elts.iter().skip(1).for_each(|one| beside.read(self, module, one, depth + 1));
            found.alias = beside.alias;
            found.default = beside.default;
        }
        match assign.value.as_deref() {
            None => {}
            Some(Expr::EllipsisLiteral(_)) if kind == Kind::Model => {}
            Some(Expr::Call(call)) if matches!(call_name(call), "Field" | "field") => {
                let init = call.arguments.find_keyword("init").and_then(|keyword| literal(&keyword.value, 0));
                if init == Some(Value::Bool(false)) {
                    return None;
                }
                found.read(self, module, &Expr::Call(call.clone()), depth + 1);
            }
            Some(value) => found.default = Some(literal(value, 0)),
        }
        if let Some(default) = found.default.take() {
            member.required = false;
            member.default = default;
        }
        if let Some(alias) = found.alias.take() {
            member.name = alias;
        }
        member.of = found.on(member.of);
        Some(member)
    }

    /// `np.float32`, `"float32"`, `float`.
    fn dtype(&self, module: &Rc<Module>, expression: &Expr, depth: u8) -> Option<String> {
        if let Expr::StringLiteral(text) = expression {
            return Some(bounded(text.value.to_str()));
        }
        match self.place(module, expression, depth)? {
            Place::Elsewhere(name) => match name.as_str() {
                "float" => Some("float64".to_owned()),
                "int" => Some("int64".to_owned()),
                "bool" | "numpy.bool_" => Some("bool".to_owned()),
                name => name.strip_prefix("numpy.").map(str::to_owned),
            },
            Place::Here(..) => None,
        }
    }
}

/// What a class is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A model of pydantic.
    Model,
    /// A dataclass.
    Record,
    /// A `TypedDict`.
    Dictionary,
    /// A `NamedTuple`.
    Row,
    /// An `Enum`.
    Values(Counting),
}

/// What `auto()` gives in an `Enum`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    Numbers,
    Names,
}

struct Members {
    members: Vec<Member>,
    is_open: bool,
}

impl Members {
    /// A member of the same name is in the place of the earlier one.
    fn put(&mut self, member: Member) {
        match self.members.iter_mut().find(|known| known.name == member.name) {
            Some(known) => *known = member,
            None => self.members.push(member),
        }
    }

    /// None where the settings make other names of those in the source.
    fn configure(&mut self, settings: &[(String, Option<Value>)]) -> Option<()> {
        for (name, value) in settings {
            match name.as_str() {
                "extra" => self.is_open = value.as_ref().and_then(Value::as_str) != Some("forbid"),
                "alias_generator" => return None,
                _ => {}
            }
        }
        Some(())
    }
}

/// The settings in `ConfigDict(extra="forbid")` or `{"extra": "forbid"}`.
fn settings(value: &Expr) -> Vec<(String, Option<Value>)> {
    match value {
        Expr::Call(call) => {
            let keywords = call.arguments.keywords.iter();
            keywords.filter_map(|one| Some((one.arg.as_ref()?.to_string(), literal(&one.value, 0)))).collect()
        }
        Expr::Dict(dict) => {
            let items = dict.items.iter();
            let text = |key: &Expr| key.as_string_literal_expr().map(|text| text.value.to_str().to_owned());
            items.filter_map(|item| Some((text(item.key.as_ref()?)?, literal(&item.value, 0)))).collect()
        }
        _ => Vec::new(),
    }
}

/// The values of an `Enum`; none where one of them is no literal.
fn values(class: &ast::StmtClassDef, counting: Counting) -> Option<Vec<Value>> {
    let mut values: Vec<Value> = Vec::new();
    for statement in &class.body {
        let Stmt::Assign(assign) = statement else { continue };
        let name = assign.targets.first()?.as_name_expr()?.id.as_str();
        if name.starts_with('_') {
            continue;
        }
        let value = match (&*assign.value, counting) {
            (Expr::Call(call), Counting::Names) if call_name(call) == "auto" => name.to_lowercase().into(),
            (Expr::Call(call), Counting::Numbers) if call_name(call) == "auto" => {
                (values.last().and_then(Value::as_i64).unwrap_or(0) + 1).into()
            }
            (value, _) => literal(value, 0)?,
        };
        if !values.contains(&value) {
            values.push(value);
        }
    }
    Some(values).filter(|values| !values.is_empty())
}

/// What stands beside a type: in `Annotated`, in `Field`.
#[derive(Default)]
struct Metadata {
    media_types: Vec<String>,
    array: Array,
    orient: Orient,
    bounds: Map<String, Value>,
    least: Option<Value>,
    most: Option<Value>,
    alias: Option<String>,
    /// Whether there is one, and what it is where that is a literal.
    default: Option<Option<Value>>,
}

impl Metadata {
    fn read(&mut self, reader: &Reader<'_>, module: &Rc<Module>, expression: &Expr, depth: u8) {
        match expression {
            Expr::StringLiteral(text) => self.text(text.value.to_str()),
            Expr::Dict(dict) => {
                for item in &dict.items {
                    let key = item.key.as_ref().and_then(Expr::as_string_literal_expr).map(|key| key.value.to_str());
                    match key {
                        Some("dtype") => self.array.dtype = reader.dtype(module, &item.value, depth),
                        Some("shape") => self.array.shape = shape(&item.value),
                        _ => {}
                    }
                }
            }
            Expr::Call(call) => {
                let positional = &call.arguments.args;
                let first = positional.first();
                match call_name(call) {
                    "ContentType" => {
                        if let Some(Value::String(kind)) = first.and_then(|kind| literal(kind, 0)) {
                            self.media_types.push(kind.to_lowercase());
                        }
                    }
                    "DType" => self.array.dtype = first.and_then(|dtype| reader.dtype(module, dtype, depth)),
                    "Shape" => self.array.shape = first.and_then(shape),
                    "Doc" => self.bound("description", first),
                    "Gt" => self.bound("exclusiveMinimum", first),
                    "Ge" => self.bound("minimum", first),
                    "Lt" => self.bound("exclusiveMaximum", first),
                    "Le" => self.bound("maximum", first),
                    "MultipleOf" => self.bound("multipleOf", first),
                    "MinLen" => self.least = first.and_then(|value| literal(value, 0)),
                    "MaxLen" => self.most = first.and_then(|value| literal(value, 0)),
                    "Len" => {
                        self.least = first.and_then(|value| literal(value, 0));
                        self.most = positional.get(1).and_then(|value| literal(value, 0));
                    }
                    "Field" | "field" if first.is_some() => {
                        let is_needed = matches!(first, Some(Expr::EllipsisLiteral(_)));
                        self.default = (!is_needed).then(|| first.and_then(|value| literal(value, 0)));
                    }
                    _ => {}
                }
                for keyword in &call.arguments.keywords {
                    let Some(name) = &keyword.arg else { continue };
                    self.keyword(name.as_str(), &keyword.value);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        match text {
            "records" => self.orient = Orient::Records,
            "split" => self.orient = Orient::Split,
            "columns" => self.orient = Orient::Columns,
            text if text.contains('/') && !text.contains(' ') => self.media_types.push(text.to_lowercase()),
            _ => {}
        }
    }

    fn keyword(&mut self, name: &str, value: &Expr) {
        let value_of = || literal(value, 0);
        match name {
            "gt" => self.bound("exclusiveMinimum", Some(value)),
            "ge" => self.bound("minimum", Some(value)),
            "lt" => self.bound("exclusiveMaximum", Some(value)),
            "le" => self.bound("maximum", Some(value)),
            "multiple_of" => self.bound("multipleOf", Some(value)),
            "pattern" => self.bound("pattern", Some(value)),
            "title" => self.bound("title", Some(value)),
            "description" => self.bound("description", Some(value)),
            "examples" => self.bound("examples", Some(value)),
            "min_length" => self.least = value_of(),
            "max_length" => self.most = value_of(),
            "alias" | "validation_alias" => self.alias = value_of().and_then(|alias| Some(alias.as_str()?.to_owned())),
            "default" => self.default = Some(value_of()),
            "default_factory" => self.default = Some(None),
            "content_type" => self.media_types.extend(value_of().and_then(|kind| Some(kind.as_str()?.to_lowercase()))),
            _ => {}
        }
    }

    fn bound(&mut self, keyword: &str, value: Option<&Expr>) {
        if let Some(value) = value.and_then(|value| literal(value, 0)) {
            self.bounds.insert(keyword.to_owned(), value);
        }
    }

    /// A type with all that was said beside it.
    fn on(self, of: Type) -> Type {
        let of = match of {
            Type::File(file) if !self.media_types.is_empty() => {
                Type::File(File { media_types: self.media_types, ..file })
            }
            Type::Array(array) => {
                Type::Array(Array { dtype: self.array.dtype.or(array.dtype), shape: self.array.shape.or(array.shape) })
            }
            Type::Frame(_) => Type::Frame(self.orient),
            of => of,
        };
        let mut bounds = self.bounds;
        let words = match of.unbounded() {
            Type::Str => Some(("minLength", "maxLength")),
            Type::List(_) | Type::Set(_) => Some(("minItems", "maxItems")),
            Type::Dict(_) => Some(("minProperties", "maxProperties")),
            _ => None,
        };
        if let Some((least, most)) = words {
            bounds.extend(self.least.map(|value| (least.to_owned(), value)));
            bounds.extend(self.most.map(|value| (most.to_owned(), value)));
        }
        match (bounds.is_empty(), of) {
            (true, of) => of,
            (false, Type::Bounded(inner, known)) => Type::Bounded(inner, known.into_iter().chain(bounds).collect()),
            (false, of) => Type::Bounded(of.into(), bounds),
        }
    }
}

impl Type {
    fn unbounded(&self) -> &Self {
        match self {
            Self::Bounded(inner, _) => inner.unbounded(),
            Self::Union(types) => match types.as_slice() {
                [one, Self::None] | [Self::None, one] => one.unbounded(),
                _ => self,
            },
            of => of,
        }
    }
}

/// The lengths along the axes; `None`, -1 and texts stand for any.
fn shape(expression: &Expr) -> Option<Vec<Option<u64>>> {
    match literal(expression, 0)? {
        Value::Array(axes) => Some(axes.iter().map(Value::as_u64).collect()),
        _ => None,
    }
}

/// A type of another package or of Python itself, by its whole name.
fn named(name: &str) -> Option<Type> {
    let bounded = |of: Type, keyword: &str| {
        let bounds = Map::from_iter([(keyword.to_owned(), Value::from(0))]);
        Some(Type::Bounded(of.into(), bounds))
    };
    Some(match short(name) {
        "Any" | "object" => Type::Any,
        "bool" | "pydantic.StrictBool" => Type::Bool,
        "int" | "pydantic.StrictInt" => Type::Int,
        "float" | "pydantic.StrictFloat" | "pydantic.FiniteFloat" => Type::Float,
        "str" | "pydantic.StrictStr" => Type::Str,
        "dict" | "Dict" | "Mapping" | "MutableMapping" => Type::Dict(Type::Any.into()),
        "set" | "Set" | "frozenset" | "FrozenSet" => Type::Set(Type::Any.into()),
        "bytes" | "pathlib.Path" | "io.BytesIO" | "BinaryIO" => file(false),
        "PIL.Image.Image" | "PIL.Image" => file(true),
        "numpy.ndarray" => Type::Array(Array::default()),
        "pandas.DataFrame" => Type::Frame(Orient::Records),
        "pandas.Series" => Type::Series,
        "datetime.datetime" => Type::Text("date-time"),
        "datetime.date" => Type::Text("date"),
        "datetime.time" => Type::Text("time"),
        "datetime.timedelta" => Type::Text("duration"),
        "uuid.UUID" => Type::Text("uuid"),
        "decimal.Decimal" => Type::Decimal,
        "pydantic.PositiveInt" => return bounded(Type::Int, "exclusiveMinimum"),
        "pydantic.PositiveFloat" => return bounded(Type::Float, "exclusiveMinimum"),
        "pydantic.NegativeInt" => return bounded(Type::Int, "exclusiveMaximum"),
        "pydantic.NegativeFloat" => return bounded(Type::Float, "exclusiveMaximum"),
        "pydantic.NonNegativeInt" => return bounded(Type::Int, "minimum"),
        "pydantic.NonNegativeFloat" => return bounded(Type::Float, "minimum"),
        "pydantic.NonPositiveInt" => return bounded(Type::Int, "maximum"),
        "pydantic.NonPositiveFloat" => return bounded(Type::Float, "maximum"),
        name if is_sequence(name) => Type::List(Type::Any.into()),
        _ => return None,
    })
}

fn file(is_picture: bool) -> Type {
    Type::File(File { is_picture, media_types: Vec::new() })
}

/// `List` of `typing.List`.
fn short(name: &str) -> &str {
    let modules = ["typing.", "typing_extensions.", "collections.abc.", "builtins.", "t.", "abc."];
    modules.iter().find_map(|module| name.strip_prefix(module)).unwrap_or(name)
}

fn is_sequence(name: &str) -> bool {
    matches!(name, "list" | "List" | "tuple" | "Tuple" | "Sequence" | "MutableSequence" | "Iterable" | "Collection")
}

/// The names of `a.b.c`.
fn dotted(expression: &Expr, depth: u8) -> Option<Vec<String>> {
    match expression {
        Expr::Name(name) => Some(vec![name.id.to_string()]),
        Expr::Attribute(attribute) if depth <= DEEPEST => {
            let mut path = dotted(&attribute.value, depth + 1)?;
            path.push(attribute.attr.to_string());
            Some(path)
        }
        _ => None,
    }
}

/// `Required` of `"Required[int]"`.
fn wrapper_in_quotes(annotation: &Expr, depth: u8) -> Option<String> {
    let text = annotation.as_string_literal_expr()?;
    let parsed = ruff_python_parser::parse_expression(text.value.to_str()).ok()?;
    dotted(&parsed.expr().as_subscript_expr()?.value, depth)?.pop()
}

/// The last name of what is called.
fn call_name(call: &ast::ExprCall) -> &str {
    match &*call.func {
        Expr::Name(name) => name.id.as_str(),
        Expr::Attribute(attribute) => attribute.attr.as_str(),
        _ => "",
    }
}

/// Flat, without repetitions.
fn union(types: impl IntoIterator<Item = Type>) -> Type {
    let mut all = Vec::new();
    for one in types {
        let parts = if let Type::Union(parts) = one { parts } else { vec![one] };
        for part in parts {
            if !all.contains(&part) {
                all.push(part);
            }
        }
    }
    match all.len() {
        1 => all.remove(0),
        _ => Type::Union(all),
    }
}
