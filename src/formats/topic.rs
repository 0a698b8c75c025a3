//! Routing keys of topic exchanges (AMQP 0-9-1, 3.1.3.3): words with dots between them, of which `*` stands for any one and `#`
//! for any number of them.

use std::collections::BTreeSet;

use crate::formats::diagnostic::{Code, Diagnostics};
use crate::formats::document::Document;

/// A key, after where it stands, as a JSON pointer.
pub type Place = (String, String);

/// The keys by which a model gets and gives messages.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// By which come what it is trained with.
    pub training: Vec<Place>,
    /// By which comes what it is asked.
    pub prediction: Vec<Place>,
    /// By which statistics of a training go out.
    pub statistics: Vec<Place>,
    /// By which answers go out.
    pub answers: Vec<Place>,
}

/// Each is there once for its purpose, and by none of those that go out comes something in again; mistakes go to `found`.
pub fn check(keys: &Keys, document: &Document, found: &mut Diagnostics) {
    let Keys { training, prediction, statistics, answers } = keys;
    for keys in [training, prediction, statistics, answers] {
        let mut seen = BTreeSet::new();
        for (at, name) in keys {
            if !seen.insert(name) {
                found.push(document.at(Code::NameTwice, at, format!("the routing key `{name}` is there twice")));
            }
        }
    }
    for (at, name) in statistics.iter().chain(answers) {
        if name.split('.').any(|word| ["*", "#"].contains(&word)) {
            let message = format!("`{name}` stands for several keys, and a message has one");
            found.push(document.at(Code::Inconsistent, at, message));
        }
        if let Some((_, input)) = training.iter().chain(prediction).find(|(_, input)| is_matched(input, name)) {
            let message = format!("what goes out by `{name}` comes in again by `{input}`, and so without end");
            found.push(document.at(Code::Inconsistent, at, message));
        }
    }
}

/// Whether an exchange hands what has the key `key` to who is bound by `pattern`.
fn is_matched(pattern: &str, key: &str) -> bool {
    let words: Vec<_> = key.split('.').collect();
    // How many of the words can be taken up by what was read of the pattern.
    let mut taken = vec![false; words.len() + 1];
    taken[0] = true;
    for part in pattern.split('.') {
        let before = taken.clone();
        for count in 0..taken.len() {
            taken[count] = match part {
                "#" => before[..=count].contains(&true),
                _ => count > 0 && before[count - 1] && (part == "*" || part == words[count - 1]),
            };
        }
    }
    taken[words.len()]
}

#[cfg(test)]
mod tests {
    use super::is_matched;

    #[test]
    fn keys_are_matched_as_a_topic_exchange_does() {
        let yes = [
            ("a.b", "a.b"),
            ("a.*", "a.b"),
            ("*.*", "a.b"),
            ("#", "a.b"),
            ("#", ""),
            ("a.#", "a"),
            ("a.#.d", "a.b.c.d"),
        ];
        let no = [("a.b", "a.c"), ("a.*", "a"), ("*", "a.b"), ("a.#.d", "a.b.c"), ("a.*.#", "a"), ("a", "A")];
        for (pattern, key) in yes {
            assert!(is_matched(pattern, key), "{pattern} {key}");
        }
        for (pattern, key) in no {
            assert!(!is_matched(pattern, key), "{pattern} {key}");
        }
        assert!(!is_matched(&format!("{}b", "#.a.".repeat(60)), &"a.".repeat(120)), "and that at once");
    }
}
