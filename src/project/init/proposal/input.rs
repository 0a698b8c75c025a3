//! What a model takes, with an example of each part.

use serde_json::{Value as Json, json};

use super::{literal, plain_name};

/// What a model takes.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Rows of so many values, with an example of each.
    Rows(Vec<Json>),
    /// Rows with named columns.
    Columns(Vec<Column>),
    /// Texts.
    Texts,
    /// Objects with names and values of any number.
    Records,
    /// Arrays, each of which the caller names.
    Tensors(Vec<Array>),
    /// What is none of these, as the functions' parameters.
    Given(Vec<Given>),
    /// Nobody knows.
    Unknown,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// What it is called.
    pub name: String,
    /// A value that the model takes.
    pub example: Json,
    /// What pandas makes of its values before the model gets them, as an expression of Python's. None: what it finds.
    pub dtype: Option<String>,
}

impl Column {
    /// A column whose values go to the model as they come.
    pub fn new(name: impl Into<String>, example: Json) -> Self {
        Self { name: name.into(), example, dtype: None }
    }
}

/// A parameter that a model takes, which is neither table nor array.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    /// What it is called.
    pub name: &'static str,
    /// Its type, as Python writes it; with a default, where it has one.
    pub hint: &'static str,
    /// What it is, for a person.
    pub description: String,
    /// One that the model takes.
    pub example: Json,
}

impl Given {
    /// A parameter without a default.
    pub fn new(name: &'static str, hint: &'static str, description: impl Into<String>, example: Json) -> Self {
        Self { name, hint, description: description.into(), example }
    }

    /// Whether it may be left out.
    pub fn is_optional(&self) -> bool {
        self.hint.contains(" = ")
    }
}

/// An array that a model takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// What the model calls it.
    pub name: String,
    /// What NumPy calls its type; none for texts.
    pub dtype: Option<&'static str>,
    /// How many values it has along each axis; none where any number will do.
    pub shape: Vec<Option<u64>>,
}

/// More columns than these make no example that a person can read.
pub(super) const MOST_COLUMNS: u64 = 1000;

/// More axes than these no array of a model has.
const MOST_AXES: usize = 8;

impl Array {
    /// What Python calls the type of its values.
    fn item(&self) -> &'static str {
        match self.dtype {
            None => "str",
            Some("bool") => "bool",
            Some(dtype) if dtype.starts_with("float") => "float",
            Some(_) => "int",
        }
    }

    /// Its type as a hint of Python's: as many lists as it has axes.
    pub fn hint(&self) -> String {
        let axes = self.shape.len().min(MOST_AXES);
        format!("{}{}{}", "list[".repeat(axes), self.item(), "]".repeat(axes))
    }

    /// One that is as small as it can be; none where that is too large for a person to read.
    pub fn example(&self) -> Option<Json> {
        let values = self.shape.iter().try_fold(1_u64, |all, length| all.checked_mul(length.unwrap_or(1)))?;
        if values > MOST_COLUMNS || self.shape.len() > MOST_AXES {
            return None;
        }
        let value = match self.item() {
            "str" => json!("an example"),
            "bool" => json!(true),
            "float" => json!(0.5),
            _ => json!(1),
        };
        let around = |inner: Json, length: &Option<u64>| Json::from(vec![inner; length.unwrap_or(1) as usize]);
        Some(self.shape.iter().rev().fold(value, around))
    }

    /// Its shape as Python writes it: `(None, 4)`.
    pub fn shape_in_python(&self) -> String {
        let axes: Vec<String> =
            self.shape.iter().map(|length| length.map_or_else(|| "None".to_owned(), |n| n.to_string())).collect();
        match axes.as_slice() {
            [one] => format!("({one},)"),
            axes => format!("({})", axes.join(", ")),
        }
    }

    /// What NumPy makes it of, as Python writes it.
    pub fn dtype_in_python(&self) -> String {
        literal(self.dtype.unwrap_or("str"))
    }

    /// What it is, for a person.
    pub fn in_words(&self) -> String {
        let what = match self.item() {
            "str" => "texts",
            "bool" => "truth values",
            "float" => "numbers",
            _ => "whole numbers",
        };
        match self.shape.as_slice() {
            [] => format!("one of {what}"),
            [_] => format!("a list of {what}"),
            _ => format!("{what}, of shape {}", self.shape_in_python().replace("None", "any")),
        }
    }
}

/// Names of parameters for what a model calls its inputs: distinct, and none that the code has for something else.
pub fn parameters<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut taken: Vec<String> = ["model", "tensors", "given", "numpy", "os", "predict"].map(str::to_owned).to_vec();
    let own = |(at, name): (usize, &'a str)| {
        let name: String = plain_name(name).replace('.', "_").trim_matches('_').to_ascii_lowercase();
        let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic()) && !is_keyword(&name);
        let mut name = if is_plain { name } else { format!("input_{}", at + 1) };
        while taken.contains(&name) {
            name += "_";
        }
        taken.push(name.clone());
        name
    };
    names.enumerate().map(own).collect()
}

/// Words that Python has for itself (<https://docs.python.org/3/reference/lexical_analysis.html#keywords>), in lower case.
fn is_keyword(name: &str) -> bool {
    const KEYWORDS: [&str; 32] = [
        "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "else", "except",
        "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass",
        "raise", "return", "try", "while", "with", "yield",
    ];
    KEYWORDS.contains(&name)
}

/// A value as a person would type it: numbers with four digits, no very long texts.
pub fn presentable(value: Json) -> Option<Json> {
    match &value {
        Json::Number(number) if number.is_f64() => {
            let rounded: f64 = format!("{:.3e}", number.as_f64()?).parse().ok()?;
            Some(rounded.into())
        }
        Json::String(text) if text.len() > 200 => None,
        Json::Null => None,
        _ => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_names_that_python_takes() {
        let names = ["age", "Serving.default:0", "class", "age", "1", "", "model", "日本", "_x"];
        let found = parameters(names.into_iter());
        let expected = ["age", "serving_default0", "input_3", "age_", "input_5", "input_6", "model_", "input_8", "x"];
        assert_eq!(found, expected);
    }

    #[test]
    fn arrays_are_lists_in_lists() {
        let array = |dtype, shape: &[Option<u64>]| Array { name: "x".to_owned(), dtype, shape: shape.to_vec() };
        let matrix = array(Some("float32"), &[None, Some(2)]);
        assert_eq!(matrix.hint(), "list[list[float]]");
        assert_eq!(matrix.example(), Some(json!([[0.5, 0.5]])));
        assert_eq!(matrix.shape_in_python(), "(None, 2)");
        assert_eq!(matrix.in_words(), "numbers, of shape (any, 2)");
        let texts = array(None, &[None]);
        assert_eq!((texts.hint(), texts.shape_in_python()), ("list[str]".to_owned(), "(None,)".to_owned()));
        assert_eq!(array(Some("int64"), &[]).example(), Some(json!(1)));
        // A picture is more than a person reads, and a shape may be anything.
        assert_eq!(array(Some("float32"), &[None, Some(224), Some(224), Some(3)]).example(), None);
        assert_eq!(array(Some("float32"), &[Some(u64::MAX), Some(u64::MAX)]).example(), None);
        assert_eq!(array(Some("float32"), &[None; 1000]).example(), None);
    }
}
