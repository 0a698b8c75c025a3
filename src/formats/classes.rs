//! Classes of Python source, read as data: what they are derived of, what their methods take, and of what calls an instance's
//! attributes are made. Nothing is imported or run.
//!
//! Invariant: as in [`super::source`], any text ends in a value or an error, in bounded time and memory.

use std::rc::Rc;

use ruff_python_ast::{self as ast, Expr, Stmt};
use ruff_text_size::Ranged;
use serde_json::Value as Json;

use super::source::{Error, Module, Signature, apart, literal, position, signature};

/// What a source has of classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Classes {
    /// Those of its top level; of several with one name the last, as in Python.
    pub classes: Vec<Class>,
    /// The line of the first statement that works rather than defines as soon as the source is imported: a loop, or a call
    /// that trains or saves something.
    pub works: Option<usize>,
}

/// A class.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Its name.
    pub name: String,
    /// What it is derived of, as it is written: `nn.Module`.
    pub bases: Vec<String>,
    /// Its decorators.
    pub decorators: Vec<Call>,
    /// Its methods, those of its own body.
    pub methods: Vec<Method>,
    /// What its body gives names to.
    pub fields: Vec<Attribute>,
    /// What `__init__` gives `self`, in this order.
    pub attributes: Vec<Attribute>,
    /// The line of its name.
    pub line: usize,
}

/// A method of a class.
#[derive(Clone, Debug, PartialEq)]
pub struct Method {
    /// What it takes, the instance among it.
    pub signature: Signature,
    /// Its decorators.
    pub decorators: Vec<Call>,
}

/// A name that gets a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Without `self`.
    pub name: String,
    /// What it gets.
    pub value: Operand,
    /// Whether it gets it under some condition only, or in a loop.
    pub is_optional: bool,
}

/// A call, or a name alone, which has no arguments then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// What is called, as it is written: `nn.Linear`. Empty where it is no name.
    pub function: String,
    /// What it is given.
    pub arguments: Vec<Argument>,
}

/// What a call is given.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// Its name, where it is given by that.
    pub name: Option<String>,
    /// Its value.
    pub value: Operand,
}

/// An expression, as far as it is looked into.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A literal.
    Value(Json),
    /// A name, dots and all.
    Name(String),
    /// A call.
    Call(Call),
    /// Anything else.
    Other,
}

impl Class {
    /// Its method of this name: of several the last.
    pub fn method(&self, name: &str) -> Option<&Method> {
        self.methods.iter().rev().find(|method| method.signature.name == name)
    }
}

impl Call {
    /// The last part of what is called: `Linear` of `nn.Linear`.
    pub fn last_name(&self) -> &str {
        self.function.rsplit('.').next().unwrap_or_default()
    }

    /// What it is given by the name `name`, or else at the place `at`, where it has one.
    pub fn argument(&self, name: &str, at: Option<usize>) -> Option<&Operand> {
        let named = self.arguments.iter().find(|argument| argument.name.as_deref() == Some(name));
        let placed = || at.and_then(|at| self.arguments.iter().filter(|argument| argument.name.is_none()).nth(at));
        named.or_else(placed).map(|argument| &argument.value)
    }

    /// The text that it is given so.
    pub fn text(&self, name: &str, at: Option<usize>) -> Option<&str> {
        match self.argument(name, at)? {
            Operand::Value(Json::String(text)) => Some(text),
            _ => None,
        }
    }
}

/// Calls within calls, and blocks within blocks, that are looked into.
const DEEPEST: u8 = 8;

/// The classes of a source.
///
/// # Errors
/// When it is no Python, or too much.
pub fn classes(source: &str) -> Result<Classes, Error> {
    apart(source, || {
        let source = source.strip_prefix('\u{feff}').unwrap_or(source);
        let module = Rc::new(Module::new("", source.to_owned())?);
        let mut found = Classes::default();
        found.visit(&module, module.body(), 0);
        Ok(found)
    })
}

impl Classes {
    fn visit(&mut self, module: &Rc<Module>, body: &[Stmt], depth: u8) {
        for statement in body {
            match statement {
                Stmt::ClassDef(class) => {
                    let class = read(module, class);
                    self.classes.retain(|other| other.name != class.name);
                    self.classes.push(class);
                }
                Stmt::Try(attempt) if depth < DEEPEST => {
                    self.visit(module, &attempt.body, depth + 1);
                    self.visit(module, &attempt.orelse, depth + 1);
                }
                Stmt::For(_) | Stmt::While(_) => self.work(module.source(), statement),
                Stmt::Expr(expression) if is_work(&expression.value) => self.work(module.source(), statement),
                _ => {}
            }
        }
    }

    fn work(&mut self, source: &str, statement: &Stmt) {
        self.works.get_or_insert(position(source, statement.range().start()).line);
    }
}

/// Whether a call trains, saves or runs something, by its name.
fn is_work(expression: &Expr) -> bool {
    const WORK: [&str; 9] =
        ["fit", "train", "save", "main", "run", "backward", "dump", "save_checkpoint", "train_model"];
    let Expr::Call(call) = expression else { return false };
    dotted(&call.func, 0).rsplit('.').next().is_some_and(|name| WORK.contains(&name))
}

fn read(module: &Rc<Module>, class: &ast::StmtClassDef) -> Class {
    let arguments = class.arguments.as_deref();
    let bases = arguments.map(|arguments| arguments.args.iter().map(|base| dotted(base, 0)).collect());
    let mut read = Class {
        name: class.name.to_string(),
        bases: bases.unwrap_or_default(),
        decorators: decorators(&class.decorator_list),
        methods: Vec::new(),
        fields: Vec::new(),
        attributes: Vec::new(),
        line: position(module.source(), class.name.range().start()).line,
    };
    for statement in &class.body {
        match statement {
            Stmt::FunctionDef(function) => {
                if function.name.as_str() == "__init__" {
                    let this = function.parameters.posonlyargs.first().or(function.parameters.args.first());
                    let this = this.map(|parameter| parameter.parameter.name.as_str()).unwrap_or_default();
                    read.attributes.clear();
                    given(&function.body, this, 0, &mut read.attributes);
                }
                let decorators = decorators(&function.decorator_list);
                read.methods.push(Method { signature: signature(module, function, &|_| None), decorators });
            }
            Stmt::Assign(assign) => {
                let names = assign.targets.iter().filter_map(Expr::as_name_expr);
                let value = operand(&assign.value, 0);
                read.fields.extend(names.map(|name| Attribute {
                    name: name.id.to_string(),
                    value: value.clone(),
                    is_optional: false,
                }));
            }
            Stmt::AnnAssign(assign) => {
                let name = assign.target.as_name_expr().map(|name| name.id.to_string());
                let value = assign.value.as_deref().map(|value| operand(value, 0));
                read.fields.extend(name.zip(value).map(|(name, value)| Attribute { name, value, is_optional: false }));
            }
            _ => {}
        }
    }
    read
}

fn decorators(list: &[ast::Decorator]) -> Vec<Call> {
    let call = |decorator: &ast::Decorator| match operand(&decorator.expression, 0) {
        Operand::Call(call) => call,
        Operand::Name(function) => Call { function, arguments: Vec::new() },
        _ => Call::default(),
    };
    list.iter().map(call).collect()
}

/// What a function's body gives `this`, also in the blocks of `if`, `for` and the like.
fn given(body: &[Stmt], this: &str, depth: u8, found: &mut Vec<Attribute>) {
    if depth > DEEPEST {
        return;
    }
    let is_optional = depth > 0;
    for statement in body {
        let blocks: Vec<&[Stmt]> = match statement {
            Stmt::If(branch) => {
                let others = branch.elif_else_clauses.iter().map(|clause| clause.body.as_slice());
                std::iter::once(branch.body.as_slice()).chain(others).collect()
            }
            Stmt::For(each) => vec![&each.body],
            Stmt::With(block) => vec![&block.body],
            Stmt::Try(attempt) => vec![&attempt.body, &attempt.orelse],
            _ => Vec::new(),
        };
        blocks.into_iter().for_each(|block| given(block, this, depth + 1, found));
        match statement {
            Stmt::Assign(assign) => {
                let value = operand(&assign.value, 0);
                let names = assign.targets.iter().filter_map(|target| attribute(target, this));
                found.extend(names.map(|name| Attribute { name, value: value.clone(), is_optional }));
            }
            Stmt::AnnAssign(assign) => {
                let value = assign.value.as_deref().map_or(Operand::Other, |value| operand(value, 0));
                found.extend(attribute(&assign.target, this).map(|name| Attribute { name, value, is_optional }));
            }
            Stmt::Expr(expression) => {
                let registered = registered(&expression.value, this);
                found.extend(registered.map(|(name, value)| Attribute { name, value, is_optional }));
            }
            _ => {}
        }
    }
}

/// `name` of `this.name`.
fn attribute(target: &Expr, this: &str) -> Option<String> {
    let attribute = target.as_attribute_expr()?;
    let is_this = attribute.value.as_name_expr().is_some_and(|name| name.id.as_str() == this);
    is_this.then(|| attribute.attr.to_string())
}

/// What PyTorch's `self.add_module("name", value)` and its like give `self`.
fn registered(expression: &Expr, this: &str) -> Option<(String, Operand)> {
    let Operand::Call(call) = operand(expression, 0) else { return None };
    let method = call.function.strip_prefix(this)?.strip_prefix('.')?;
    if !matches!(method, "add_module" | "register_module" | "register_buffer" | "register_parameter") {
        return None;
    }
    let value = call.argument("module", Some(1)).cloned().unwrap_or(Operand::Other);
    Some((call.text("name", Some(0))?.to_owned(), value))
}

fn operand(expression: &Expr, depth: u8) -> Operand {
    if depth > DEEPEST {
        return Operand::Other;
    }
    match expression {
        Expr::Call(call) => {
            let arguments = call.arguments.args.iter().map(|value| (None, value));
            let named = call
                .arguments
                .keywords
                .iter()
                .filter_map(|keyword| Some((Some(keyword.arg.as_ref()?.to_string()), &keyword.value)));
            let argument = |(name, value): (Option<String>, &Expr)| Argument { name, value: operand(value, depth + 1) };
            Operand::Call(Call {
                function: dotted(&call.func, 0),
                arguments: arguments.chain(named).map(argument).collect(),
            })
        }
        Expr::Name(_) | Expr::Attribute(_) => match dotted(expression, 0) {
            name if name.is_empty() => Operand::Other,
            name => Operand::Name(name),
        },
        other => literal(other, depth).map_or(Operand::Other, Operand::Value),
    }
}

/// A name with its dots; empty where it is none.
fn dotted(expression: &Expr, depth: u8) -> String {
    match expression {
        Expr::Name(name) => name.id.to_string(),
        Expr::Attribute(attribute) if depth < DEEPEST => match dotted(&attribute.value, depth + 1) {
            before if before.is_empty() => before,
            before => format!("{before}.{}", attribute.attr),
        },
        // `Generic[T]`.
        Expr::Subscript(generic) if depth < DEEPEST => dotted(&generic.value, depth + 1),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_class_says_what_its_instances_are_made_of() {
        let source = "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n    size: int = 4\n\n    def \
                      __init__(self, inputs, hidden=8):\n        super().__init__()\n        self.first = \
                      nn.Linear(inputs, out_features=hidden)\n        if hidden > 4:\n            self.second = \
                      nn.Sequential(nn.ReLU(), nn.Linear(hidden, 3))\n        self.register_buffer('mean', \
                      torch.zeros(1))\n\n    @torch.no_grad()\n    def forward(self, x): ...\n\nfor _ in range(3):\n    pass\n";
        let found = classes(source).unwrap();
        assert_eq!(found.works, Some(17));
        let [net] = found.classes.as_slice() else { panic!("{found:?}") };
        assert_eq!((net.name.as_str(), net.bases.as_slice()), ("Net", &["nn.Module".to_owned()][..]));
        let names: Vec<&str> = net.attributes.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["first", "second", "mean"]);
        let Operand::Call(first) = &net.attributes[0].value else { panic!("{net:?}") };
        assert_eq!(first.last_name(), "Linear");
        assert_eq!(first.argument("in_features", Some(0)), Some(&Operand::Name("inputs".to_owned())));
        assert_eq!(first.argument("out_features", Some(1)), Some(&Operand::Name("hidden".to_owned())));
        assert_eq!(
            net.fields,
            [Attribute { name: "size".to_owned(), value: Operand::Value(4.into()), is_optional: false }]
        );
        assert_eq!(net.method("forward").unwrap().decorators[0].function, "torch.no_grad");
        assert_eq!(net.method("forward").unwrap().signature.parameters[1].name, "x");
    }

    #[test]
    fn what_defines_alone_does_no_work() {
        let quiet = "import torch\ntorch.manual_seed(0)\nclass A: pass\nif __name__ == '__main__':\n    main()\n";
        assert_eq!(classes(quiet).unwrap().works, None);
        assert_eq!(classes("trainer.fit(model)\n").unwrap().works, Some(1));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(class A|def __init__|self\\.|@|\\(|\\)|:|\n|    |=|\\[|\\]|'|,|if |for |[a-z1]){0,60}") {
            let _ = classes(&text);
        }
    }
}
