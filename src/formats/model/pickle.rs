//! Pickles, read as the data that they are: which globals loading one would import. Nothing is ever unpickled.
//!
//! All protocols (Python's `pickletools` describes each opcode; PEP 307, 3154 and 574), pickles within pickles, several
//! in a row, and joblib's, which put the bytes of arrays between opcodes (`joblib/numpy_pickle.py`). Where Python's
//! unpickler would stop with an error this reader goes on as long as it can, so that what runs before the error is seen.
//!
//! Invariants: time is linear in the bytes that are read; what is kept on the stack and in the memo is bounded
//! ([`MOST_VALUES`], [`MOST_TEXT`]); a text or an array of any size is skipped, not read.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::cloudpickle;
use super::feed::{Feed, Stop};
use super::object::{Dtype, Global, MOST_BYTES, Node, Objects, UNKNOWN, Value};

/// What loading a pickle would do, as far as data can tell.
#[derive(Debug, Default)]
pub struct Pickles {
    /// What would be imported, by module and name, with the offset of its first mention.
    pub globals: BTreeMap<(String, String), u64>,
    /// Offsets of imports whose module or name is computed while loading, so that it cannot be told.
    pub computed: BTreeSet<u64>,
    /// Versions of packages that the objects remember, by the key that holds them, as `_sklearn_version`.
    pub versions: BTreeMap<String, String>,
    /// Where and why reading ended early.
    pub broken: Option<(u64, Stop)>,
    /// Whether at least one pickle was read to its end.
    pub whole: bool,
    /// The newest protocol that one of them needs.
    pub protocol: u8,
    /// The first and the last Python, by the number after `3.`, that runs the code which was pickled. None where there is
    /// no code, which is the rule.
    pub python: Option<(u32, u32)>,
    /// Modules that code in it imports by name, as cloudpickle writes it down.
    pub modules: BTreeSet<String>,
    /// What loading would make.
    pub objects: Objects,
}

/// Values on the stack, or in the memo, that are told apart; the others count as unknown.
const MOST_VALUES: usize = 500_000;

/// Bytes of texts that the memo keeps.
const MOST_TEXT: usize = 16 << 20;

/// The longest text that can be a name, in bytes.
const LONGEST_NAME: u64 = 512;

/// Globals that are told apart. A model's file has a few dozen.
const MOST_GLOBALS: usize = 10_000;

/// Pickles within pickles that are looked into.
const DEEPEST: u8 = 4;

/// Pickles in a row that are looked into; PyTorch's old format has five.
const MOST_IN_A_ROW: usize = 100_000;

/// Reads all pickles up to the end of the feed.
///
/// What follows a whole pickle and is none is let be, as Python does: it reads the first and stops.
pub fn read(feed: &mut Feed<'_>) -> Pickles {
    let mut pickles = Pickles::default();
    for _ in 0..MOST_IN_A_ROW {
        match feed.at_end() {
            Ok(false) => {}
            Ok(true) if pickles.whole => break,
            Ok(true) => {
                pickles.broken = Some((feed.position(), Stop::Truncated));
                break;
            }
            Err(error) => {
                pickles.broken = Some((feed.position(), error));
                break;
            }
        }
        let first = !pickles.whole;
        let mut machine = Machine { feed, pickles: &mut pickles, stack: Stack::default(), memo: Memo::default() };
        match machine.run(0) {
            Ok(()) => {
                let made = machine.stack.pop();
                pickles.objects.root.get_or_insert(made);
                pickles.whole = true;
            }
            Err(_) if !first => break,
            Err(error) => {
                pickles.broken = Some((feed.position(), error));
                break;
            }
        }
    }
    pickles
}

/// The stack, with neighbours that nothing is known of counted only.
#[derive(Default)]
struct Stack(Vec<Value>);

impl Stack {
    fn push(&mut self, value: Value) {
        let value = match value {
            Value::Mark => Value::Mark,
            _ if self.0.len() >= MOST_VALUES => UNKNOWN,
            value => value,
        };
        match (self.0.last_mut(), &value) {
            (Some(Value::Unknown(count)), Value::Unknown(more)) if *count < u32::MAX => *count += more,
            _ => self.0.push(value),
        }
    }

    fn pop(&mut self) -> Value {
        match self.0.last_mut() {
            Some(Value::Unknown(count)) if *count > 1 => {
                *count -= 1;
                UNKNOWN
            }
            // Python would stop here, with an error.
            _ => self.0.pop().unwrap_or(UNKNOWN),
        }
    }

    fn top(&self) -> Value {
        match self.0.last() {
            Some(Value::Unknown(_)) | None => UNKNOWN,
            Some(value) => value.clone(),
        }
    }

    /// Takes all down to the mark. Runs of unknown values come as one.
    fn down_to_mark(&mut self) -> Vec<Value> {
        let mark = self.0.iter().rposition(|value| matches!(value, Value::Mark));
        let values = self.0.split_off(mark.map_or(0, |mark| mark + 1));
        self.0.pop();
        values
    }
}

/// What was put aside under a number. Unknown values are not kept.
#[derive(Default)]
struct Memo {
    known: HashMap<u64, Value>,
    text: usize,
    /// Which numbers are taken: those below `dense`, and the `others` above it.
    dense: u64,
    others: HashSet<u64>,
}

impl Memo {
    fn put(&mut self, number: u64, value: Value) {
        if number == self.dense {
            self.dense += 1;
            while self.others.remove(&self.dense) {
                self.dense += 1;
            }
        } else if number > self.dense && self.others.len() < MOST_VALUES {
            self.others.insert(number);
        }
        let (size, most) = match &value {
            Value::Unknown(_) | Value::Mark | Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => (0, 0),
            Value::Text(text) => (text.len(), MOST_VALUES),
            Value::Bytes(bytes) => (bytes.len(), MOST_VALUES),
            // There has to be room for names.
            Value::Node(_) => (0, MOST_VALUES / 2),
            _ => (0, MOST_VALUES),
        };
        let keep = self.known.len() < most && self.text + size <= MOST_TEXT;
        if keep {
            self.text += size;
            self.known.insert(number, value);
        } else {
            self.known.remove(&number);
        }
    }

    /// Under the number that `MEMOIZE` means: how many there are.
    fn memoize(&mut self, value: Value) {
        self.put(self.dense + self.others.len() as u64, value);
    }

    fn get(&self, number: u64) -> Value {
        self.known.get(&number).cloned().unwrap_or(UNKNOWN)
    }
}

struct Machine<'a, 'b> {
    feed: &'a mut Feed<'b>,
    pickles: &'a mut Pickles,
    stack: Stack,
    memo: Memo,
}

impl Machine<'_, '_> {
    /// Goes through one pickle, up to its end.
    fn run(&mut self, depth: u8) -> Result<(), Stop> {
        loop {
            let start = self.feed.position();
            match self.feed.byte()? {
                b'.' => return Ok(()),
                opcode => self.step(opcode, start, depth)?,
            }
        }
    }

    fn step(&mut self, opcode: u8, start: u64, depth: u8) -> Result<(), Stop> {
        let value = match opcode {
            // PROTO: Python refuses what is above 5 before it does anything.
            0x80 => match self.feed.byte()? {
                protocol @ 0..=5 => {
                    self.pickles.protocol = self.pickles.protocol.max(protocol);
                    return Ok(());
                }
                other => return Err(Stop::Malformed(format!("there is no pickle protocol {other}"))),
            },
            // FRAME, NEXT_BUFFER, READONLY_BUFFER, STOP's kin that change nothing here.
            0x95 => return self.feed.skip(8),
            0x97 => UNKNOWN,
            0x98 => return Ok(()),
            b'(' => Value::Mark,
            b'0' => {
                self.stack.pop();
                return Ok(());
            }
            b'1' => {
                self.stack.down_to_mark();
                return Ok(());
            }
            b'2' => self.stack.top(),
            // Numbers and constants.
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'F' => self.text_line()?.and_then(|text| text.trim().parse().ok()).map_or(UNKNOWN, Value::Float),
            b'L' => self.skip_line()?,
            b'I' => match self.text_line()?.as_deref().map(str::trim) {
                Some("00") => Value::Bool(false),
                Some("01") => Value::Bool(true),
                Some(text) => text.parse().map_or(UNKNOWN, Value::Int),
                None => UNKNOWN,
            },
            b'J' => Value::Int(i64::from(self.feed.number(4)? as u32 as i32)),
            b'K' => Value::Int(i64::from(self.feed.byte()?)),
            b'M' => Value::Int(self.feed.number(2)? as i64),
            // The only number with its most significant byte first.
            b'G' => Value::Float(f64::from_bits(self.feed.number(8)?.swap_bytes())),
            0x8a => {
                let length = usize::from(self.feed.byte()?);
                self.long(length)?
            }
            0x8b => {
                let length = self.signed_length()?;
                self.skip(length)?
            }
            // Texts and bytes.
            b'S' => self.text_line()?.map_or(UNKNOWN, |line| Value::Text(unquoted(line.trim_end()).into())),
            b'V' => match self.feed.line(LONGEST_NAME as usize * 6)? {
                Some(line) => Value::Text(raw_unicode(&line).into()),
                None => UNKNOWN,
            },
            b'X' => {
                let length = self.feed.number(4)?;
                self.text(length)?
            }
            0x8c => {
                let length = u64::from(self.feed.byte()?);
                self.text(length)?
            }
            0x8d => {
                let length = self.feed.number(8)?;
                self.text(length)?
            }
            b'U' => {
                let length = u64::from(self.feed.byte()?);
                self.old_text(length, depth)?
            }
            b'T' => {
                let length = self.signed_length()?;
                self.old_text(length, depth)?
            }
            b'C' => {
                let length = u64::from(self.feed.byte()?);
                self.binary(length, depth)?
            }
            b'B' => {
                let length = self.feed.number(4)?;
                self.binary(length, depth)?
            }
            0x8e | 0x96 => {
                let length = self.feed.number(8)?;
                self.binary(length, depth)?
            }
            // Containers.
            b')' | b']' | 0x8f => self.pickles.objects.sequence(Vec::new()),
            b't' | b'l' | 0x91 => {
                let items = self.stack.down_to_mark();
                self.pickles.objects.sequence(items)
            }
            0x85..=0x87 => {
                let mut items: Vec<_> = (0x84..opcode).map(|_| self.stack.pop()).collect();
                items.reverse();
                self.pickles.objects.sequence(items)
            }
            b'}' => self.pickles.objects.make(Node::Map(Vec::new())),
            b'd' => {
                let items = self.stack.down_to_mark();
                let dict = self.pickles.objects.make(Node::Map(Vec::new()));
                self.fill(&dict, items);
                dict
            }
            b'a' => {
                let item = self.stack.pop();
                self.pickles.objects.append(&self.stack.top(), vec![item]);
                return Ok(());
            }
            b'e' | 0x90 => {
                let items = self.stack.down_to_mark();
                self.pickles.objects.append(&self.stack.top(), items);
                return Ok(());
            }
            b's' => {
                let value = self.stack.pop();
                let key = self.stack.pop();
                let dict = self.stack.top();
                self.fill(&dict, vec![key, value]);
                return Ok(());
            }
            b'u' => {
                let items = self.stack.down_to_mark();
                let dict = self.stack.top();
                self.fill(&dict, items);
                return Ok(());
            }
            // The memo.
            b'p' => {
                if let Some(number) = self.number_line()? {
                    self.memo.put(number, self.stack.top());
                }
                return Ok(());
            }
            b'q' | b'r' => {
                let number = self.feed.number(if opcode == b'q' { 1 } else { 4 })?;
                self.memo.put(number, self.stack.top());
                return Ok(());
            }
            0x94 => {
                self.memo.memoize(self.stack.top());
                return Ok(());
            }
            b'g' => self.number_line()?.map_or(UNKNOWN, |number| self.memo.get(number)),
            b'h' => {
                let number = self.feed.number(1)?;
                self.memo.get(number)
            }
            b'j' => {
                let number = self.feed.number(4)?;
                self.memo.get(number)
            }
            // What is imported, made and called.
            b'c' => {
                let global = self.global_lines()?;
                self.import(global, start)
            }
            b'i' => {
                let global = self.global_lines()?;
                self.stack.down_to_mark();
                let class = self.import(global, start);
                self.made(&class, UNKNOWN)
            }
            0x93 => {
                let name = self.stack.pop();
                let module = self.stack.pop();
                let global = match (module, name) {
                    (Value::Text(module), Value::Text(name)) => Some((module.to_string(), name.to_string())),
                    _ => None,
                };
                self.import(global, start)
            }
            // EXT1, EXT2, EXT4: an import by a number that the program which loads has registered.
            0x82..=0x84 => {
                self.feed.skip(1 << (opcode - 0x82))?;
                self.import(None, start)
            }
            b'o' => {
                let class = self.stack.down_to_mark().into_iter().next().unwrap_or(UNKNOWN);
                self.made(&class, UNKNOWN)
            }
            b'R' | 0x81 => {
                let arguments = self.stack.pop();
                let callable = self.stack.pop();
                self.made(&callable, arguments)
            }
            0x92 => {
                self.stack.pop();
                let arguments = self.stack.pop();
                let callable = self.stack.pop();
                self.made(&callable, arguments)
            }
            b'b' => {
                let state = self.stack.pop();
                return self.build(state, depth);
            }
            b'P' => self.skip_line()?,
            // What stands outside is known by the tuple that names it.
            b'Q' => self.stack.pop(),
            other => return Err(Stop::Malformed(format!("0x{other:02x} is no opcode of a pickle"))),
        };
        self.stack.push(value);
        Ok(())
    }

    fn skip(&mut self, count: u64) -> Result<Value, Stop> {
        self.feed.skip(count)?;
        Ok(UNKNOWN)
    }

    fn skip_line(&mut self) -> Result<Value, Stop> {
        self.feed.line(0)?;
        Ok(UNKNOWN)
    }

    /// None where it is longer than any name.
    fn text_line(&mut self) -> Result<Option<String>, Stop> {
        let line = self.feed.line(LONGEST_NAME as usize * 6)?;
        Ok(line.map(|line| String::from_utf8_lossy(&line).into_owned()))
    }

    fn number_line(&mut self) -> Result<Option<u64>, Stop> {
        Ok(self.text_line()?.and_then(|line| line.trim().parse().ok()))
    }

    fn signed_length(&mut self) -> Result<u64, Stop> {
        let length = self.feed.number(4)? as u32 as i32;
        u64::try_from(length).map_err(|_| Stop::Malformed("a length is negative".to_owned()))
    }

    fn long(&mut self, length: usize) -> Result<Value, Stop> {
        let bytes = self.feed.take(length)?;
        if length == 0 || length > 8 {
            return Ok(if length == 0 { Value::Int(0) } else { UNKNOWN });
        }
        let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let mut full = [if negative { 0xff } else { 0 }; 8];
        full.iter_mut().zip(&bytes).for_each(|(to, from)| *to = *from);
        Ok(Value::Int(i64::from_le_bytes(full)))
    }

    fn text(&mut self, length: u64) -> Result<Value, Stop> {
        if length > LONGEST_NAME {
            return self.beginning(length);
        }
        let bytes = self.feed.take(length as usize)?;
        Ok(String::from_utf8(bytes).map_or(UNKNOWN, |text| Value::Text(text.into())))
    }

    /// A text of Python 2, which may as well hold bytes.
    fn old_text(&mut self, length: u64, depth: u8) -> Result<Value, Stop> {
        if length > LONGEST_NAME { self.binary(length, depth) } else { self.text(length) }
    }

    /// The first of so many bytes; the others are skipped.
    fn beginning(&mut self, length: u64) -> Result<Value, Stop> {
        let room = self.pickles.objects.room(length);
        let bytes = self.feed.take(room as usize)?;
        self.feed.skip(length - room)?;
        Ok(Value::Bytes(bytes.into()))
    }

    /// Bytes. If they are a pickle themselves it is looked into: something may load it.
    fn binary(&mut self, length: u64, depth: u8) -> Result<Value, Stop> {
        let end = self.feed.position().saturating_add(length);
        let mut head = Vec::new();
        if length >= 4 && depth < DEEPEST {
            let limit = self.feed.set_limit(end);
            // The limit within another one is the nearer.
            self.feed.set_limit(end.min(limit));
            let begins = self.feed.take(2);
            let nested = begins.as_ref().is_ok_and(|begins| matches!(begins.as_slice(), [0x80, 0..=5]));
            if nested {
                // Bytes that only begin like one end with an error soon, which says nothing.
                let _ =
                    Machine { feed: self.feed, pickles: self.pickles, stack: Stack::default(), memo: Memo::default() }
                        .run(depth + 1);
            }
            self.feed.set_limit(limit);
            if nested {
                return self.skip(end.saturating_sub(self.feed.position()));
            }
            head = begins?;
        }
        let room = self.pickles.objects.room(length);
        head.extend(self.feed.take((room as usize).saturating_sub(head.len()))?);
        self.feed.skip(length - head.len() as u64)?;
        Ok(Value::Bytes(head.into()))
    }

    fn fill(&mut self, dict: &Value, items: Vec<Value>) {
        let mut key: Option<Value> = None;
        for value in items {
            let (value, mut count) = match value {
                Value::Unknown(count) => (UNKNOWN, count),
                value => (value, 1),
            };
            if let Some(key) = key.take() {
                self.pair(dict, key, value.clone());
                count -= 1;
            }
            // With unknown ones counted, keys and values stay in step.
            if count % 2 == 1 {
                key = Some(value);
            }
        }
    }

    fn pair(&mut self, dict: &Value, key: Value, value: Value) {
        if let (Value::Text(key), Value::Text(version)) = (&key, &value)
            && key.ends_with("_version")
            && self.pickles.versions.len() < 64
        {
            self.pickles.versions.insert(key.to_string(), version.to_string());
        }
        self.pickles.objects.insert(dict, key, value);
    }

    /// Module and name as the opcodes of the old protocols have them.
    fn global_lines(&mut self) -> Result<Option<(String, String)>, Stop> {
        let module = self.text_line()?;
        let name = self.text_line()?;
        Ok(module.zip(name))
    }

    fn import(&mut self, global: Option<(String, String)>, at: u64) -> Value {
        let globals = &mut self.pickles.globals;
        match global {
            Some(global) if globals.len() < MOST_GLOBALS || globals.contains_key(&global) => {
                globals.entry(global.clone()).or_insert(at);
                Value::Global(Rc::new(global))
            }
            _ => {
                if self.pickles.computed.len() < MOST_GLOBALS {
                    self.pickles.computed.insert(at);
                }
                UNKNOWN
            }
        }
    }

    /// Gives an object its state. After joblib's stand-in for an array, the array's bytes follow.
    fn build(&mut self, state: Value, depth: u8) -> Result<(), Stop> {
        match self.stack.top() {
            Value::Dtype(dtype) => {
                let Some(Node::Sequence(items)) = self.pickles.objects.get(&state) else { return Ok(()) };
                // The second item is the order of bytes; the last has the flags, of which the lowest bit says that
                // there are objects.
                dtype.big.set(dtype.big.get() || matches!(items.get(1), Some(Value::Text(order)) if &**order == ">"));
                if let Some(Value::Int(flags)) = items.last() {
                    dtype.objects.set(dtype.objects.get() || flags & 1 != 0);
                }
                Ok(())
            }
            Value::Wrapper => {
                self.stack.pop();
                let array = self.array(&state, depth)?;
                self.stack.push(array);
                Ok(())
            }
            instance => {
                self.pickles.objects.set_state(&instance, state);
                Ok(())
            }
        }
    }

    fn array(&mut self, state: &Value, depth: u8) -> Result<Value, Stop> {
        let unknown = || Stop::Malformed("an array of joblib's says not how large it is".to_owned());
        let objects = &self.pickles.objects;
        let Some(Node::Map(state)) = objects.get(state) else { return Err(unknown()) };
        let get = |name: &str| {
            let found = state.iter().rev().find(|(key, _)| matches!(key, Value::Text(text) if &**text == name));
            found.map(|(_, value)| value)
        };
        let Some(Value::Dtype(dtype)) = get("dtype").cloned() else { return Err(unknown()) };
        if dtype.objects.get() {
            if depth >= DEEPEST {
                return Err(Stop::Malformed("arrays of objects are nested too deep".to_owned()));
            }
            let mut inner =
                Machine { feed: self.feed, pickles: self.pickles, stack: Stack::default(), memo: Memo::default() };
            inner.run(depth + 1)?;
            return Ok(inner.stack.pop());
        }
        let Some(Node::Sequence(lengths)) = get("shape").and_then(|shape| objects.get(shape)) else {
            return Err(unknown());
        };
        let length = |length: &Value| match length {
            Value::Int(length) => u64::try_from(*length).map_err(|_| unknown()),
            _ => Err(unknown()),
        };
        let shape = lengths.iter().map(length).collect::<Result<Vec<_>, _>>()?;
        let size = shape.iter().try_fold(dtype.size, |size, length| size.checked_mul(*length)).ok_or_else(unknown)?;
        if get("numpy_array_alignment_bytes").is_some() {
            let padding = u64::from(self.feed.byte()?);
            self.feed.skip(padding)?;
        }
        let whole = size <= MOST_BYTES && self.pickles.objects.room(size) == size;
        let bytes = if whole { Some(self.feed.take(size as usize)?) } else { None };
        if !whole {
            self.feed.skip(size)?;
        }
        Ok(self.pickles.objects.make(Node::Array { dtype, shape, bytes }))
    }

    /// Whether it is the type of code, by its own name or by that which cloudpickle has for it.
    fn is_code(&self, callable: &Value) -> bool {
        match (callable, self.pickles.objects.get(callable)) {
            (Value::Global(global), _) => global.0 == "types" && global.1 == "CodeType",
            (_, Some(Node::Instance { class, arguments, .. })) if class.1 == "_builtin_type" => {
                matches!(self.pickles.objects.get(arguments), Some(Node::Sequence(items))
                    if matches!(items.first(), Some(Value::Text(name)) if &**name == "CodeType"))
            }
            _ => false,
        }
    }

    /// What calling something with arguments makes.
    fn made(&mut self, callable: &Value, arguments: Value) -> Value {
        if self.is_code(callable)
            && let Some(Node::Sequence(items)) = self.pickles.objects.get(&arguments)
            && let Some((from, to)) = pythons(items)
        {
            let known = self.pickles.python.unwrap_or((0, u32::MAX));
            self.pickles.python = Some((known.0.max(from), known.1.min(to)));
            let class = Rc::new(("types".to_owned(), "CodeType".to_owned()));
            return self.instance(class, None, arguments);
        }
        let Value::Global(global) = callable else {
            return match cloudpickle::class_name(&self.pickles.objects, callable) {
                Some(name) => self.instance(Rc::new(("__main__".to_owned(), name)), Some(callable.clone()), arguments),
                None => UNKNOWN,
            };
        };
        let objects = &mut self.pickles.objects;
        let first = match objects.get(&arguments) {
            Some(Node::Sequence(arguments)) => arguments.first().cloned(),
            _ => None,
        };
        match (global.0.as_str(), global.1.as_str(), first) {
            ("numpy", "dtype", Some(Value::Text(text))) => {
                Dtype::parse(&text).map_or(UNKNOWN, |dtype| Value::Dtype(Rc::new(dtype)))
            }
            ("joblib.numpy_pickle", "NumpyArrayWrapper", _) => Value::Wrapper,
            // Protocols 0 and 1: the class is the first argument.
            ("copyreg" | "copy_reg", "_reconstructor" | "__newobj__", Some(class @ Value::Global(_))) => {
                let nothing = objects.sequence(Vec::new());
                self.made(&class, nothing)
            }
            ("builtins" | "__builtin__", "bytearray" | "bytes", Some(bytes @ Value::Bytes(_))) => bytes,
            (module, "_class_setstate" | "_function_setstate", Some(made)) if cloudpickle::is(module) => {
                let state = match objects.get(&arguments) {
                    Some(Node::Sequence(arguments)) => arguments.get(1).cloned(),
                    _ => None,
                };
                objects.set_state(&made, state.unwrap_or(UNKNOWN));
                made
            }
            (module, "subimport", Some(Value::Text(name))) if cloudpickle::is(module) => {
                if self.pickles.modules.len() < MOST_GLOBALS {
                    self.pickles.modules.insert(name.to_string());
                }
                UNKNOWN
            }
            // Bytes, as protocol 2 has them.
            ("_codecs", "encode", Some(Value::Text(text))) => {
                Value::Bytes(text.chars().map(|letter| u32::from(letter) as u8).collect())
            }
            _ => self.instance(global.clone(), None, arguments),
        }
    }

    fn instance(&mut self, class: Rc<Global>, written: Option<Value>, arguments: Value) -> Value {
        let (state, items) = (Value::None, Vec::new());
        self.pickles.objects.make(Node::Instance { class, written, arguments, state, items })
    }
}

/// The Pythons whose code is made of these values (`code_new` in CPython's `Objects/codeobject.c`), and has these opcodes
/// (`Lib/opcode.py`, `Include/opcode_ids.h`).
fn pythons(values: &[Value]) -> Option<(u32, u32)> {
    match values.len() {
        15 => Some((0, 7)),
        16 => Some((8, 10)),
        18 => {
            let Some(Value::Bytes(code)) = values.get(6) else { return Some((11, u32::MAX)) };
            // Each has an argument; what is remembered of earlier runs is nought.
            let opcodes: Vec<u8> = code.iter().copied().step_by(2).collect();
            let begins = |opcode: u8| opcodes.iter().take(64).any(|first| *first == opcode);
            let has = |opcode: u8| opcodes.contains(&opcode);
            Some(match () {
                // RESUME is 151; PRECALL went away, RETURN_CONST and LOAD_FAST_AND_CLEAR came.
                () if begins(151) && has(166) => (11, 11),
                () if begins(151) && (has(121) || has(143)) => (12, 12),
                () if begins(151) => (11, 12),
                // RESUME is 149, which was COPY_FREE_VARS.
                () if begins(149) => (13, 13),
                () => (11, u32::MAX),
            })
        }
        _ => None,
    }
}

/// The text between quotes, with the escapes that Python's `repr` makes.
fn unquoted(line: &str) -> String {
    let inner = match line.chars().next() {
        Some(quote @ ('\'' | '"')) => line.get(1..).and_then(|rest| rest.strip_suffix(quote)).unwrap_or(line),
        _ => line,
    };
    let mut text = String::new();
    let mut characters = inner.chars().peekable();
    while let Some(c) = characters.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        let Some(escape) = characters.next() else { break };
        match escape {
            'n' => text.push('\n'),
            't' => text.push('\t'),
            'r' => text.push('\r'),
            'a' => text.push('\u{7}'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'v' => text.push('\u{b}'),
            'x' => text.extend(hex(&mut characters, 2)),
            '0'..='7' => {
                let mut number = escape.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    let Some(digit) = characters.next_if(|c| c.is_digit(8)) else { break };
                    number = number * 8 + digit.to_digit(8).unwrap_or_default();
                }
                text.extend(char::from_u32(number & 0xff));
            }
            other => text.push(other),
        }
    }
    text
}

fn hex(characters: &mut std::iter::Peekable<std::str::Chars<'_>>, digits: usize) -> Option<char> {
    let mut number = 0;
    for _ in 0..digits {
        number = number * 16 + characters.next_if(char::is_ascii_hexdigit)?.to_digit(16)?;
    }
    char::from_u32(number)
}

/// Python's `raw-unicode-escape`: Latin-1 with `\uXXXX` and `\UXXXXXXXX`.
fn raw_unicode(line: &[u8]) -> String {
    let latin: String = line.iter().map(|byte| char::from(*byte)).collect();
    let mut text = String::new();
    let mut characters = latin.chars().peekable();
    while let Some(c) = characters.next() {
        let digits = match (c, characters.peek()) {
            ('\\', Some('u')) => 4,
            ('\\', Some('U')) => 8,
            _ => {
                text.push(c);
                continue;
            }
        };
        characters.next();
        text.extend(hex(&mut characters, digits));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::feed::Stream;
    use super::*;

    fn scan(bytes: &[u8]) -> Pickles {
        read(&mut Feed::new(Stream(bytes)))
    }

    fn names(bytes: &[u8]) -> Vec<String> {
        scan(bytes).globals.keys().map(|(module, name)| format!("{module}.{name}")).collect()
    }

    #[test]
    fn imports_are_seen_however_they_are_spelt() {
        for bytes in [
            &b"cos\nsystem\n(S'x'\ntR."[..],
            b"(S'x'\nios\nsystem\n.",
            b"(cos\nsystem\nS'x'\no.",
            b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R.",
            b"S'o\\x73'\nS'syst\\145m'\n\x93.",
            b"V\\u006fs\nVsystem\n\x93.",
            b"\x80\x04X\x02\0\0\0osq\x00X\x06\0\0\0systemq\x010000h\x00h\x01\x93.",
            b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93.",
            b"\x80\x04\x8c\x01z\x94\x8c\x02osq\x00\x8c\x06system\x94h\x00h\x01\x93.",
            b"\x80\x04C\x14\x80\x04\x8c\x02os\x8c\x06system\x93)R......",
            b"N.cos\nsystem\n.",
            b"cos\nsystem\n(S'x'\ntR\xff",
            b"\x80\x04\x8c\x02os2\x8c\x06system\x93.",
            b"\x80\x02U\x02osU\x06system\x93.",
        ] {
            assert!(names(bytes).contains(&"os.system".to_owned()), "{bytes:?}: {:?}", names(bytes));
        }
    }

    #[test]
    fn a_name_that_is_computed_is_said() {
        let found = scan(b"\x80\x04\x8c\x02os\x8c\x03str\x8c\x01x\x85R\x93.");
        assert_eq!(found.computed.len(), 1);
        assert_eq!(scan(b"\x80\x02\x82\x01.").computed.len(), 1);
    }

    #[test]
    fn what_ends_early_is_broken() {
        for bytes in
            [&b""[..], b"\x80\x04", b"\x80\x04B\xff\xff\xff\x7fabc", b"\x80\x09.", b"cos\n", b"T\xff\xff\xff\xff."]
        {
            assert!(scan(bytes).broken.is_some(), "{bytes:?}");
        }
        assert!(scan(b"N.rest").broken.is_none());
    }

    #[test]
    fn pickled_code_tells_its_python() {
        let of = |count: usize, code: &[u8]| {
            let mut bytes =
                b"\x80\x04\x8c\x17cloudpickle.cloudpickle\x8c\x0d_builtin_type\x93\x8c\x08CodeType\x85R(".to_vec();
            for at in 0..count {
                match at {
                    6 => bytes.extend([&[b'C', code.len() as u8], code].concat()),
                    _ => bytes.extend(b"K\x01"),
                }
            }
            bytes.extend(b"tR.");
            scan(&bytes).python
        };
        assert_eq!(of(16, b"d\0S\0"), Some((8, 10)));
        assert_eq!(of(18, b"\x97\0\xa6\0\xab\0"), Some((11, 11)));
        assert_eq!(of(18, b"\x97\0y\0"), Some((12, 12)));
        assert_eq!(of(18, b"\x97\0|\0S\0"), Some((11, 12)));
        assert_eq!(of(18, b"\x95\0U\0$\0"), Some((13, 13)));
        assert_eq!(of(18, b""), Some((11, u32::MAX)));
        assert_eq!(of(3, b""), None);
        assert_eq!(scan(b"\x80\x04ctypes\nCodeType\n)R.").python, None);
    }

    #[test]
    fn versions_are_remembered() {
        let bytes = b"\x80\x04}(\x8c\x01a]\x8c\x10_sklearn_version\x8c\x051.5.2u.";
        assert_eq!(scan(bytes).versions.get("_sklearn_version").map(String::as_str), Some("1.5.2"));
    }

    #[test]
    fn what_loading_would_make_is_known() {
        // {'n': 3, 'x': A(), 'l': [1, 'b', None]}, where A() has the state {'k': 2.5}.
        let bytes = b"\x80\x04}(\x8c\x01nK\x03\x8c\x01x\x8c\x01m\x8c\x01A\x93)\x81}\x8c\x01kG\x40\x04\0\0\0\0\0\0sb\
            \x8c\x01l](K\x01\x8c\x01bNeu.";
        let found = scan(bytes);
        let root = found.objects.root().unwrap();
        assert_eq!(root.get("n").and_then(|n| n.integer()), Some(3));
        let object = root.get("x").unwrap();
        assert_eq!(object.class(), Some(("m", "A")));
        assert_eq!(object.get("k").and_then(|k| k.scalar()), Some(2.5.into()));
        assert_eq!(root.get("l").and_then(|l| l.items()).map(|items| items.len()), Some(3));
        assert!(root.get("other").is_none() && root.items().is_none());
    }

    #[test]
    fn cycles_depth_and_great_numbers_do_no_harm() {
        // A list within itself; lists within lists; more dictionaries than are remembered.
        let own = scan(b"]q\0h\0a.");
        assert_eq!(own.objects.root().and_then(|root| root.items()).map(|items| items.len()), Some(1));
        let deep = [&b"]".repeat(300_000)[..], &b"a".repeat(299_999), b"."].concat();
        assert!(scan(&deep).whole);
        let many = [&b"]"[..], &b"}a".repeat(1_000_000), b"."].concat();
        let many = scan(&many);
        // The oldest, here the list itself, is forgotten.
        assert!(many.whole && many.objects.root().is_some_and(|root| root.items().is_none()));
    }
}
