//! Functions and classes that cloudpickle writes by value: what they are called, and what they take (cloudpickle's
//! `_make_function`, `_make_skeleton_class` and the functions that give these their state). Their code is not looked at.

use super::Argument;
use super::object::{Node, Object, Objects, Value};

/// Classes that a class is derived of, and that are looked into.
const DEEPEST: u8 = 16;

/// Whether a module is cloudpickle's own.
pub(super) fn is(module: &str) -> bool {
    matches!(module, "cloudpickle" | "cloudpickle.cloudpickle" | "cloudpickle.cloudpickle_fast")
}

/// What a class is called that a container makes: its arguments are its type, its name, what it is derived of, and more.
pub(super) fn class_name(objects: &Objects, class: &Value) -> Option<String> {
    let Node::Instance { class: maker, arguments, .. } = objects.get(class)? else { return None };
    if !is(&maker.0) || maker.1 != "_make_skeleton_class" {
        return None;
    }
    match objects.get(arguments)? {
        Node::Sequence(arguments) => match arguments.get(1)? {
            Value::Text(name) => Some(name.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// What a function that was written into a pickle takes, in this order. None where it is no such function.
pub fn arguments(function: Object<'_>) -> Option<Vec<Argument>> {
    let (module, maker) = function.class()?;
    if !is(module) || maker != "_make_function" {
        return None;
    }
    let code = function.arguments()?.items()?.first()?.arguments()?.items()?;
    let count = |at: usize| code.get(at).and_then(|count| usize::try_from(count.integer()?).ok());
    // `CodeType` takes the number of arguments, since 3.8 that of those without a name, and that of those with a name alone.
    let (names, only_named) = if code.len() == 15 { (8, 1) } else { (9, 2) };
    let (placed, only_named) = (count(0)?, count(only_named)?);
    let names = code.get(names)?.items()?;
    let all: Vec<&str> = names.into_iter().take(placed + only_named).map(Object::text).collect::<Option<_>>()?;
    if all.len() != placed + only_named {
        return None;
    }
    // The attributes that no `__dict__` has are the second half of its state.
    let slots = function.state().and_then(Object::items).and_then(|halves| halves.get(1).copied());
    let slot = |name: &str| slots.and_then(|slots| slots.get(name));
    let defaults = slot("__defaults__").and_then(Object::items).map_or(0, |defaults| defaults.len());
    let argument = |(at, name): (usize, &str)| Argument {
        name: name.to_owned(),
        annotation: String::new(),
        has_default: match at < placed {
            true => at + defaults >= placed,
            false => slot("__kwdefaults__").is_some_and(|defaults| defaults.get(name).is_some()),
        },
    };
    Some(all.into_iter().enumerate().map(argument).collect())
}

/// The method of this name of a class that was written into a pickle, or of one that it is derived of and that was written
/// as well.
pub fn method<'a>(class: Object<'a>, name: &str) -> Option<Object<'a>> {
    method_at(class, name, 0)
}

fn method_at<'a>(class: Object<'a>, name: &str, depth: u8) -> Option<Object<'a>> {
    if depth > DEEPEST {
        return None;
    }
    class.get(name).filter(|found| arguments(*found).is_some()).or_else(|| {
        let bases = class.arguments()?.items()?.get(2)?.items()?;
        // A class that is derived of one a hundred times over is asked no longer than any other.
        bases
            .into_iter()
            .take(4)
            .filter(|base| base.arguments().is_some())
            .find_map(|base| method_at(base, name, depth + 4))
    })
}

/// The names of all methods of a class that was written into a pickle, those for others.
pub fn methods(class: Object<'_>) -> Vec<&str> {
    let attributes = match class.state().and_then(Object::items).and_then(|halves| halves.first().copied()) {
        Some(attributes) => attributes.entries(),
        None => class.state().map(Object::entries).unwrap_or_default(),
    };
    let named = attributes.into_iter().filter(|(_, value)| arguments(*value).is_some());
    named.filter_map(|(name, _)| name.text()).filter(|name| !name.starts_with('_')).collect()
}
