//! What loading a pickle would make, as far as data tells: objects with their classes, attributes and small arrays.
//!
//! Invariant: bounded memory, whatever the bytes. Containers name each other by number, so neither depth nor cycles do
//! harm; where there are too many, the oldest are forgotten, and what is forgotten is unknown.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;

use serde_json::Value as Json;

/// Containers, and what is in them, that are remembered.
const MOST: usize = 400_000;

/// Bytes of one text or array that are looked at.
pub(super) const MOST_BYTES: u64 = 64 << 10;

/// Bytes of all of them.
const MOST_BYTES_IN_ALL: u64 = 32 << 20;

/// Items of one container that are remembered.
const MOST_ITEMS: usize = 16_384;

/// A module and a name in it.
pub(super) type Global = (String, String);

/// What is known of a value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// So many values of which nothing is known, one after the other.
    Unknown(u32),
    Mark,
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Rc<str>),
    /// Bytes, or a long text: the beginning, where there are more.
    Bytes(Rc<[u8]>),
    Global(Rc<Global>),
    Dtype(Rc<Dtype>),
    /// joblib's stand-in for an array whose bytes follow.
    Wrapper,
    /// A container among [`Objects`].
    Node(u64),
}

pub(super) const UNKNOWN: Value = Value::Unknown(1);

/// A type of NumPy's.
#[derive(Debug)]
pub(super) struct Dtype {
    /// As NumPy calls it: `f`, `i`, `U`, `O`.
    kind: char,
    /// Bytes of an item.
    pub size: u64,
    /// Whether items are Python objects, so that they are pickled.
    pub objects: Cell<bool>,
    /// Whether the most significant byte comes first.
    pub big: Cell<bool>,
}

impl Dtype {
    /// From what its constructor is given: `f8`, `O8`, `V24`, `<i4`.
    pub fn parse(text: &str) -> Option<Self> {
        let big = Cell::new(text.starts_with('>'));
        let text = text.trim_start_matches(['<', '>', '|', '=']);
        let kind = text.chars().next()?;
        let count: u64 = text.get(kind.len_utf8()..)?.parse().ok()?;
        let size = if kind == 'U' { count.checked_mul(4)? } else { count };
        Some(Self { kind, size, objects: Cell::new(kind == 'O'), big })
    }

    /// The items that `bytes` hold, where their kind is one that JSON has.
    pub(super) fn items(&self, bytes: &[u8]) -> Option<Vec<Json>> {
        let size = usize::try_from(self.size).ok().filter(|size| *size > 0)?;
        bytes.chunks_exact(size).map(|item| self.item(item)).collect()
    }

    fn item(&self, bytes: &[u8]) -> Option<Json> {
        let number = |bytes: &[u8]| {
            let fold = |all: u64, byte: &u8| all << 8 | u64::from(*byte);
            if self.big.get() { bytes.iter().fold(0, fold) } else { bytes.iter().rev().fold(0, fold) }
        };
        Some(match (self.kind, bytes.len()) {
            ('f', 8) => f64::from_bits(number(bytes)).into(),
            ('f', 4) => f64::from(f32::from_bits(number(bytes) as u32)).into(),
            ('i', size @ (1 | 2 | 4 | 8)) => (((number(bytes) << (64 - 8 * size)) as i64) >> (64 - 8 * size)).into(),
            ('u', 1 | 2 | 4 | 8) => number(bytes).into(),
            ('b', 1) => (bytes != [0]).into(),
            ('U', _) => {
                let letters = bytes.chunks_exact(4).map(|letter| char::from_u32(number(letter) as u32));
                let text: String = letters.collect::<Option<_>>()?;
                text.trim_end_matches('\0').into()
            }
            _ => return None,
        })
    }
}

/// A container.
#[derive(Debug)]
pub(super) enum Node {
    /// A tuple, list or set.
    Sequence(Vec<Value>),
    Map(Vec<(Value, Value)>),
    /// What a class, or a function, made of arguments.
    Instance {
        class: Rc<Global>,
        /// The class, where it was written into the pickle as well: a container among [`Objects`].
        written: Option<Value>,
        arguments: Value,
        state: Value,
        items: Vec<(Value, Value)>,
    },
    /// An array as joblib has it; the bytes of a small one.
    Array {
        dtype: Rc<Dtype>,
        shape: Vec<u64>,
        bytes: Option<Vec<u8>>,
    },
}

impl Node {
    fn cost(&self) -> usize {
        1 + match self {
            Self::Sequence(items) => items.len(),
            Self::Map(items) | Self::Instance { items, .. } => 2 * items.len(),
            Self::Array { shape, .. } => shape.len(),
        }
    }
}

/// The containers of a pickle, and the value that it makes.
#[derive(Default)]
pub struct Objects {
    nodes: VecDeque<Node>,
    /// The number of the oldest that is remembered.
    first: u64,
    /// Of what they hold, in values.
    cost: usize,
    bytes: u64,
    pub(super) root: Option<Value>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("containers", &self.nodes.len()).finish_non_exhaustive()
    }
}

impl Objects {
    /// What the first of the pickles makes, where it was read to its end.
    pub fn root(&self) -> Option<Object<'_>> {
        self.root.as_ref().map(|value| Object { objects: self, value })
    }

    /// How many of `size` bytes may be kept; none once there are enough.
    pub(super) fn room(&mut self, size: u64) -> u64 {
        let size = size.min(MOST_BYTES);
        let room = self.bytes + size <= MOST_BYTES_IN_ALL;
        self.bytes += if room { size } else { 0 };
        if room { size } else { 0 }
    }

    pub(super) fn make(&mut self, node: Node) -> Value {
        self.cost += node.cost();
        self.nodes.push_back(node);
        self.forget();
        Value::Node(self.first + self.nodes.len() as u64 - 1)
    }

    fn forget(&mut self) {
        while self.cost > MOST
            && let Some(oldest) = self.nodes.pop_front()
        {
            self.first += 1;
            self.cost = self.cost.saturating_sub(oldest.cost());
        }
    }

    pub(super) fn sequence(&mut self, values: Vec<Value>) -> Value {
        let sequence = self.make(Node::Sequence(Vec::new()));
        self.append(&sequence, values);
        sequence
    }

    pub(super) fn get(&self, value: &Value) -> Option<&Node> {
        let Value::Node(number) = value else { return None };
        self.nodes.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn get_mut(&mut self, value: &Value) -> Option<&mut Node> {
        let Value::Node(number) = value else { return None };
        self.nodes.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// Adds items to a list.
    pub(super) fn append(&mut self, list: &Value, values: Vec<Value>) {
        let Some(Node::Sequence(items)) = self.get_mut(list) else { return };
        let before = items.len();
        for value in values {
            let (value, count) = match value {
                Value::Unknown(count) => (UNKNOWN, count as usize),
                value => (value, 1),
            };
            items.extend(std::iter::repeat_n(value, count.min(MOST_ITEMS - items.len())));
        }
        self.cost += items.len() - before;
        self.forget();
    }

    /// Puts an item into a dictionary, or an object that is one.
    pub(super) fn insert(&mut self, map: &Value, key: Value, value: Value) {
        if let Some(Node::Map(items) | Node::Instance { items, .. }) = self.get_mut(map)
            && items.len() < MOST_ITEMS
        {
            items.push((key, value));
            self.cost += 2;
            self.forget();
        }
    }

    /// Gives an object its state.
    pub(super) fn set_state(&mut self, instance: &Value, new: Value) {
        if let Some(Node::Instance { state, .. }) = self.get_mut(instance) {
            *state = new;
        }
    }
}

/// Something that loading a pickle would make. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    objects: &'a Objects,
    value: &'a Value,
}

impl<'a> Object<'a> {
    fn of(self, value: &'a Value) -> Self {
        Self { value, ..self }
    }

    fn node(self) -> Option<&'a Node> {
        self.objects.get(self.value)
    }

    /// The module and name of its class, or of the function that makes it; of a class or function its own.
    pub fn class(self) -> Option<(&'a str, &'a str)> {
        match (self.value, self.node()) {
            (Value::Global(global), _) | (_, Some(Node::Instance { class: global, .. })) => {
                Some((&global.0, &global.1))
            }
            _ => None,
        }
    }

    /// Its class, where that was written into the pickle as well.
    pub fn written(self) -> Option<Self> {
        match self.node()? {
            Node::Instance { written, .. } => written.as_ref().map(|class| self.of(class)),
            _ => None,
        }
    }

    /// Its attribute, or its item, of this name: of several the last, as it is the one that stays.
    pub fn get(self, name: &str) -> Option<Self> {
        let in_items = |items: &'a [(Value, Value)]| {
            let found = items.iter().rev().find(|(key, _)| matches!(key, Value::Text(text) if &**text == name));
            found.map(|(_, value)| self.of(value))
        };
        match self.node()? {
            Node::Map(items) => in_items(items),
            Node::Instance { state, items, .. } => {
                // A state may come with that of slots: a pair.
                let state = self.of(state);
                let attributes = match state.node() {
                    Some(Node::Sequence(pair)) => state.of(pair.first()?),
                    _ => state,
                };
                match attributes.node() {
                    Some(Node::Map(attributes)) => in_items(attributes),
                    _ => None,
                }
                .or_else(|| in_items(items))
            }
            _ => None,
        }
    }

    /// What its class, or the function that makes it, is called with: a tuple.
    pub fn arguments(self) -> Option<Self> {
        match self.node()? {
            Node::Instance { arguments, .. } => Some(self.of(arguments)),
            _ => None,
        }
    }

    /// The values of its attributes, in their order; of a dictionary those of its items.
    pub fn attributes(self) -> Vec<Self> {
        let values = |items: &'a [(Value, Value)]| items.iter().map(|(_, value)| self.of(value)).collect::<Vec<_>>();
        match self.node() {
            Some(Node::Map(items)) => values(items),
            Some(Node::Instance { state, items, .. }) => {
                let mut found = values(items);
                if let Some(Node::Map(attributes)) = self.objects.get(state) {
                    found.extend(values(attributes));
                }
                found
            }
            _ => Vec::new(),
        }
    }

    /// What it is given when it is made.
    pub fn state(self) -> Option<Self> {
        match self.node()? {
            Node::Instance { state, .. } => Some(self.of(state)),
            _ => None,
        }
    }

    /// Whether the first axis of an array is the one that changes fastest in its memory.
    pub fn is_column_major(self) -> bool {
        let fourth = |of: Option<Self>| of.and_then(Self::items).and_then(|items| items.get(3).copied());
        fourth(self.arguments()).and_then(Self::text) == Some("F")
            || fourth(self.state()).and_then(Self::truth) == Some(true)
    }

    /// Keys and values of a dictionary.
    pub fn entries(self) -> Vec<(Self, Self)> {
        match self.node() {
            Some(Node::Map(items) | Node::Instance { items, .. }) => {
                items.iter().map(|(key, value)| (self.of(key), self.of(value))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether it is a dictionary.
    pub fn is_map(self) -> bool {
        matches!(self.node(), Some(Node::Map(_)))
    }

    /// The items of a tuple, list or set.
    pub fn items(self) -> Option<Vec<Self>> {
        match self.node()? {
            Node::Sequence(items) => Some(items.iter().map(|item| self.of(item)).collect()),
            _ => None,
        }
    }

    /// A text.
    pub fn text(self) -> Option<&'a str> {
        match self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Bytes, or a long text: of many the beginning.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) => Some(bytes),
            Value::Text(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// A whole number.
    pub fn integer(self) -> Option<i64> {
        self.scalar()?.as_i64()
    }

    /// A truth value.
    pub fn truth(self) -> Option<bool> {
        self.scalar()?.as_bool()
    }

    /// A text, number or truth value, also one of NumPy's.
    pub fn scalar(self) -> Option<Json> {
        match self.value {
            Value::Bool(truth) => Some((*truth).into()),
            Value::Int(number) => Some((*number).into()),
            Value::Float(number) => Some((*number).into()),
            Value::Text(text) => Some((&**text).into()),
            _ => match self.node()? {
                Node::Instance { class, arguments, .. } if class.1 == "scalar" && is_numpy(&class.0) => {
                    let arguments = self.of(arguments).items()?;
                    let (dtype, bytes) = (arguments.first()?, arguments.get(1)?);
                    let Value::Dtype(dtype) = dtype.value else { return None };
                    dtype.items(bytes.bytes()?)?.pop()
                }
                _ => None,
            },
        }
    }

    /// The lengths of an array.
    pub fn shape(self) -> Option<Vec<u64>> {
        Some(self.array()?.0)
    }

    /// The items of a list, or of a small array in the order of its memory, where JSON has such.
    pub fn elements(self) -> Option<Vec<Json>> {
        if let Some(items) = self.items() {
            return items.into_iter().map(Self::scalar).collect();
        }
        let (shape, elements) = self.array()?;
        let elements = elements?;
        (shape.iter().product::<u64>() == elements.len() as u64).then_some(elements)
    }

    /// The lengths of an array, and its items where they are known.
    fn array(self) -> Option<(Vec<u64>, Option<Vec<Json>>)> {
        let lengths = |shape: Self| -> Option<Vec<u64>> {
            shape.items()?.into_iter().map(|length| u64::try_from(length.integer()?).ok()).collect()
        };
        let of = |dtype: Self, data: Self| match dtype.value {
            Value::Dtype(dtype) if dtype.objects.get() => data.items()?.into_iter().map(Self::scalar).collect(),
            Value::Dtype(dtype) => dtype.items(data.bytes()?),
            _ => None,
        };
        match self.node()? {
            Node::Array { dtype, shape, bytes } => {
                Some((shape.clone(), bytes.as_ref().and_then(|bytes| dtype.items(bytes))))
            }
            Node::Instance { class, arguments, state, .. } if is_numpy(&class.0) => {
                let (shape, dtype, data) = match class.1.as_str() {
                    // `ndarray.__setstate__`: version, shape, dtype, whether columns come first, data.
                    "_reconstruct" => match self.of(state).items()?.as_slice() {
                        [_, shape, dtype, _, data] => (*shape, *dtype, *data),
                        _ => return None,
                    },
                    "_frombuffer" => match self.of(arguments).items()?.as_slice() {
                        [data, dtype, shape, _] => (*shape, *dtype, *data),
                        _ => return None,
                    },
                    _ => return None,
                };
                Some((lengths(shape)?, of(dtype, data)))
            }
            _ => None,
        }
    }
}

fn is_numpy(module: &str) -> bool {
    module.starts_with("numpy.core.") || module.starts_with("numpy._core.")
}
