//! The bytes of compiled Python that follow from the source alone.
//!
//! CPython writes of each object whether something refers back to it, and says yes wherever somebody else holds the
//! object at that moment: a name that a file compiled before left behind. Sets of constants it writes, until 3.11, in
//! the order of their hashes, some of which are addresses; which equal sets are one depends on that too. So what comes
//! out depends on what the process did before, and on chance. Here equal sets are one and in order, and only what is
//! referred to is marked so.
//!
//! A `.pyc` is PEP 552's header and an object in the format of CPython's `Python/marshal.c`, which is documented
//! nowhere else: a type, whose highest bit marks what can be referred to, and what the type says. References count the
//! marked objects before them.

use std::collections::HashMap;

use crate::io::digest::Digest;

/// Bytes before the object: magic number, flags, hash of the source.
const HASHED: usize = 16;
/// The same before PEP 552: magic number, time and size of the source.
const TIMED: usize = 12;
/// The flags of bytecode that is never checked against its source.
const UNCHECKED_HASH: [u8; 4] = [1, 0, 0, 0];
/// What marks an object that something refers to.
const MARK: u8 = 0x80;
/// A code object.
const CODE: u8 = b'c';
/// A set, which in bytecode cannot be changed.
const SET: u8 = b'>';
/// No object yet.
const UNREAD: u8 = 0;
/// Objects in objects: Python has at most 100 functions in each other, with a code object and a tuple each, and 200
/// pairs of parentheses.
const DEEPEST: usize = 500;

/// Makes the bytes of `pyc`, as CPython 3.6 to 3.14 wrote them, those that any other run would have come to; false when
/// they are nothing of the kind, and stay.
pub fn put_in_order(pyc: &mut Vec<u8>) -> bool {
    let is_unchecked = |fields: &Fields| fields.header == TIMED || pyc.get(4..8) == Some(&UNCHECKED_HASH);
    let Some(fields) = Fields::of(pyc).filter(is_unchecked) else { return false };
    let mut reader = Reader { bytes: pyc, at: fields.header, fields, graph: Graph::default(), marked: Vec::new() };
    let Some(top) = reader.object(0).filter(|_| reader.at == pyc.len()) else { return false };
    let graph = reader.graph;
    let mut writer = Writer {
        uses: graph.uses(top),
        written: pyc.get(..fields.header).unwrap_or_default().to_vec(),
        ..Writer::default()
    };
    writer.object(&graph, top);
    *pyc = writer.written;
    true
}

/// Which fields a code object has, in the order in which they are written.
#[derive(Clone, Copy)]
struct Fields {
    /// Bytes of the file before its object.
    header: usize,
    /// Numbers of 4 bytes at its beginning.
    numbers: usize,
    /// Objects before the number of its first line.
    before: usize,
    /// Objects behind it.
    behind: usize,
}

impl Fields {
    /// Those of the Python whose magic number the file begins with (CPython's `Include/internal/pycore_magic_number.h`).
    fn of(pyc: &[u8]) -> Option<Self> {
        let [low, high, b'\r', b'\n', ..] = pyc else { return None };
        match u16::from_le_bytes([*low, *high]) {
            // 3.6
            3370..3390 => Some(Self { header: TIMED, numbers: 5, before: 8, behind: 1 }),
            // 3.7
            3390..3400 => Some(Self { header: HASHED, numbers: 5, before: 8, behind: 1 }),
            // 3.8 to 3.10
            3400..3450 => Some(Self { header: HASHED, numbers: 6, before: 8, behind: 1 }),
            // 3.11 to 3.14
            3450..3650 => Some(Self { header: HASHED, numbers: 5, before: 8, behind: 2 }),
            _ => None,
        }
    }
}

/// A part of an object.
#[derive(Clone, Copy, PartialEq)]
enum Part<'a> {
    /// Bytes of the file.
    Bytes(&'a [u8]),
    /// Another object, by its number.
    Object(usize),
}

/// An object: its type and its parts.
#[derive(Clone)]
struct Node<'a> {
    kind: u8,
    parts: Vec<Part<'a>>,
}

impl Part<'_> {
    fn object(&self) -> Option<usize> {
        match self {
            Self::Bytes(_) => None,
            Self::Object(number) => Some(*number),
        }
    }
}

impl Node<'_> {
    /// The objects that are its parts.
    fn objects(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().filter_map(Part::object)
    }
}

/// All objects of a file.
#[derive(Default)]
struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    /// The number of each set, and of each object of which one is part.
    sets: HashMap<Digest, usize>,
    fingerprints: HashMap<usize, Digest>,
}

impl<'a> Graph<'a> {
    /// Puts an object in the place `number`; gives the number that it has, which is another one where it is a set, or
    /// holds one, and an equal one was there before.
    fn put(&mut self, number: usize, mut node: Node<'a>) -> usize {
        if node.kind == SET {
            node.parts.sort_by_cached_key(|part| part.object().map(|number| self.fingerprint(number)));
        }
        let holds_set = node.objects().any(|number| self.nodes[number].kind == SET);
        let shared = node.kind == SET || node.kind != CODE && holds_set;
        self.nodes[number] = node;
        if !shared {
            return number;
        }
        let fingerprint = self.fingerprint(number);
        *self.sets.entry(fingerprint).or_insert(number)
    }

    /// What tells an object from others, whatever numbers its parts have.
    fn fingerprint(&mut self, number: usize) -> Digest {
        if let Some(known) = self.fingerprints.get(&number) {
            return *known;
        }
        let node = self.nodes[number].clone();
        let mut text = vec![node.kind];
        for part in node.parts {
            match part {
                Part::Bytes(bytes) => text.extend_from_slice(bytes),
                Part::Object(number) => text.extend(self.fingerprint(number).hex().bytes()),
            }
        }
        *self.fingerprints.entry(number).or_insert(Digest::of(text))
    }

    /// How often each object is part of another, or is `top`.
    fn uses(&self, top: usize) -> Vec<u32> {
        let mut uses = vec![0; self.nodes.len()];
        let mut open = vec![top];
        while let Some(number) = open.pop() {
            uses[number] += 1;
            if uses[number] == 1 {
                open.extend(self.nodes[number].objects());
            }
        }
        uses
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    fields: Fields,
    graph: Graph<'a>,
    /// What references count.
    marked: Vec<usize>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..)?.get(..count)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn number(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().copied().map(u32::from_le_bytes)
    }

    /// Reads an object, and gives its number.
    fn object(&mut self, depth: usize) -> Option<usize> {
        if depth > DEEPEST {
            return None;
        }
        let byte = self.byte()?;
        let kind = byte & !MARK;
        if kind == b'r' {
            let index = self.number()?;
            return self.marked.get(index as usize).copied().filter(|number| self.graph.nodes[*number].kind != UNREAD);
        }
        let place = self.graph.nodes.len();
        self.graph.nodes.push(Node { kind: UNREAD, parts: Vec::new() });
        let mark = self.marked.len();
        if byte & MARK != 0 {
            self.marked.push(place);
        }
        let parts = self.parts(kind, depth)?;
        let number = self.graph.put(place, Node { kind: uninterned(kind, &parts), parts });
        if byte & MARK != 0 {
            self.marked[mark] = number;
        }
        Some(number)
    }

    fn parts(&mut self, kind: u8, depth: usize) -> Option<Vec<Part<'a>>> {
        let from = self.at;
        let (objects, bytes) = match kind {
            // None, False, True, Ellipsis, StopIteration
            b'N' | b'F' | b'T' | b'.' | b'S' => (0, 0),
            b'i' => (0, 4),
            // An integer of digits with 15 bits each; its sign is that of their number.
            b'l' => (0, self.number()?.cast_signed().unsigned_abs() as usize * 2),
            b'g' => (0, 8),
            b'y' => (0, 16),
            // Bytes, and texts: interned, any, ASCII, ASCII interned
            b's' | b't' | b'u' | b'a' | b'A' => (0, self.number()? as usize),
            b'z' | b'Z' => (0, self.byte()? as usize),
            b')' => (self.byte()? as usize, 0),
            b'(' | SET => (self.number()? as usize, 0),
            // A slice
            b':' => (3, 0),
            CODE => return self.code(depth),
            _ => return None,
        };
        self.take(bytes)?;
        let mut parts = vec![Part::Bytes(&self.bytes[from..self.at])];
        for _ in 0..objects {
            parts.push(Part::Object(self.object(depth + 1)?));
        }
        Some(parts)
    }

    fn code(&mut self, depth: usize) -> Option<Vec<Part<'a>>> {
        let Fields { numbers, before, behind, .. } = self.fields;
        let mut parts = vec![Part::Bytes(self.take(4 * numbers)?)];
        for _ in 0..before {
            parts.push(Part::Object(self.object(depth + 1)?));
        }
        parts.push(Part::Bytes(self.take(4)?));
        for _ in 0..behind {
            parts.push(Part::Object(self.object(depth + 1)?));
        }
        Some(parts)
    }
}

/// The type of an object, but for texts of one character: there is one of each in a process, which is interned as soon
/// as one file needs that. Whether a text is makes a difference to nobody but marshal.
fn uninterned(kind: u8, parts: &[Part]) -> u8 {
    match (kind, parts) {
        (b'Z', [Part::Bytes([1, _])]) => b'z',
        // Up to U+00FF, which takes two bytes.
        (b't', [Part::Bytes([2, 0, 0, 0, 0xc2..=0xc3, _])]) => b'u',
        _ => kind,
    }
}

#[derive(Default)]
struct Writer {
    uses: Vec<u32>,
    /// The objects that are marked so far, and how many come before each.
    marked: HashMap<usize, u32>,
    written: Vec<u8>,
}

impl Writer {
    fn object(&mut self, graph: &Graph, number: usize) {
        if let Some(marked) = self.marked.get(&number) {
            self.written.push(b'r');
            self.written.extend_from_slice(&marked.to_le_bytes());
            return;
        }
        let node = &graph.nodes[number];
        // Those that are one byte long are never referred to.
        if self.uses[number] > 1 && node.parts != [Part::Bytes(&[])] {
            self.marked.insert(number, self.marked.len() as u32);
            self.written.push(node.kind | MARK);
        } else {
            self.written.push(node.kind);
        }
        for part in &node.parts {
            match *part {
                Part::Bytes(bytes) => self.written.extend_from_slice(bytes),
                Part::Object(number) => self.object(graph, number),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file of Python 3.11 that holds the object `bytes`.
    fn pyc(bytes: &[u8]) -> Vec<u8> {
        let mut pyc = 3495u16.to_le_bytes().to_vec();
        pyc.extend(b"\r\n\x01\0\0\0hash4567");
        pyc.extend(bytes);
        pyc
    }

    fn ordered(bytes: &[u8]) -> Option<Vec<u8>> {
        let mut pyc = pyc(bytes);
        put_in_order(&mut pyc).then(|| pyc.split_off(HASHED))
    }

    #[test]
    fn only_what_is_referred_to_is_marked() {
        let marked = b"\xa9\x03\xda\x02ab\xda\x02cdr\x02\0\0\0";
        let sparing = b")\x03Z\x02ab\xda\x02cdr\0\0\0\0";
        assert_eq!(ordered(marked).unwrap(), sparing);
        assert_eq!(ordered(sparing).unwrap(), sparing);
    }

    #[test]
    fn equal_sets_are_one() {
        let one = b")\x02\xbe\x02\0\0\0NTr\0\0\0\0";
        let two = b")\x02>\x02\0\0\0TN>\x02\0\0\0NT";
        assert_eq!(ordered(one).unwrap(), ordered(two).unwrap());
    }

    #[test]
    fn a_letter_is_interned_or_not() {
        assert_eq!(ordered(b"Z\x01a"), ordered(b"z\x01a"));
        assert_eq!(ordered(b"t\x02\0\0\0\xc3\xa4"), ordered(b"u\x02\0\0\0\xc3\xa4"));
        assert_ne!(ordered(b"Z\x02ab"), ordered(b"z\x02ab"));
    }

    #[test]
    fn sets_have_one_order_wherever_their_objects_were_first() {
        let one = b")\x02>\x03\0\0\0\xda\x01aNz\x01br\0\0\0\0";
        let other = b")\x02\xbe\x03\0\0\0Nz\x01b\xda\x01ar\x01\0\0\0";
        assert_eq!(ordered(one).unwrap(), ordered(other).unwrap());
        let nested = [b">\x02\0\0\0>\x02\0\0\0NTF", b">\x02\0\0\0F>\x02\0\0\0TN"];
        assert_eq!(ordered(nested[0]).unwrap(), ordered(nested[1]).unwrap());
    }

    #[test]
    fn what_no_compiler_wrote_stays() {
        let mut deep = b")\x01".repeat(DEEPEST + 1);
        deep.push(b'N');
        let itself = b"\xa9\x01r\0\0\0\0";
        for bytes in [&deep[..], itself, b"", b"NN", b"r\0\0\0\0", b"(\xff\xff\xff\xff", b"s\xff\xff\xff\x7f", b"?"] {
            assert_eq!(ordered(bytes), None, "{bytes:?}");
        }
        let mut checked = pyc(b"N");
        checked[4] = 0;
        assert!(!put_in_order(&mut checked));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_what_is_in_order_stays(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(&b"\xa9)\xda>\xbezrcN\0\0\x01\x02"[..])], 0..60)
        ) {
            if let Some(once) = ordered(&bytes) {
                prop_assert_eq!(ordered(&once).unwrap(), once);
            }
        }
    }
}
