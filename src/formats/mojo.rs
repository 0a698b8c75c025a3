//! Models that h2o exports as archives (MOJO): what they take, read as data.
//!
//! `model.ini` has a section `[info]` of `key = value`, `[columns]` with a name on each line, those that a row has first, and
//! `[domains]` with `COLUMN: COUNT FILE` for each column whose values are words, which stand in `domains/FILE`, a line each
//! (h2o-genmodel 3.46, `ModelMojoReader`). Invariants: nothing of the model itself is read; any bytes end in a value or a reason,
//! in bounded memory.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use fs_err as fs;

/// What a model takes and gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mojo {
    /// As `gbm`.
    pub algorithm: String,
    /// As `Multinomial`.
    pub category: String,
    /// The release of h2o that exported it.
    pub version: String,
    /// What a row may have.
    pub columns: Vec<Column>,
    /// The words that it answers with; empty where that is no word.
    pub labels: Vec<String>,
}

/// A column of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Any text.
    pub name: String,
    /// The words that its values may be; none where they are numbers.
    pub values: Option<Vec<String>>,
}

/// Why an archive is no model of h2o's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is no archive.
    #[error("it is no zip archive: {0}")]
    Zip(#[from] zip::result::ZipError),
    /// What it says of itself is not as h2o writes it.
    #[error("it is no MOJO of h2o's: {0}")]
    Strange(String),
}

/// The categories that are served.
pub const CATEGORIES: [&str; 9] = [
    "AnomalyDetection",
    "AutoEncoder",
    "Binomial",
    "Clustering",
    "CoxPH",
    "DimReduction",
    "Multinomial",
    "Ordinal",
    "Regression",
];

/// Bytes of `model.ini`, and of a file of words.
const MOST_BYTES: u64 = 16 << 20;

/// Columns of a model, and words of all its columns.
const MOST_COLUMNS: usize = 100_000;
const MOST_WORDS: usize = 1_000_000;

type Archive = zip::ZipArchive<std::io::BufReader<std::fs::File>>;

impl Mojo {
    /// Reads what the archive at `path` says of itself.
    ///
    /// # Errors
    /// When it is none of h2o's.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = fs::File::open(path)?.into_parts().0;
        let mut archive = zip::ZipArchive::new(std::io::BufReader::new(file))?;
        let text = member(&mut archive, "model.ini")?;
        let described = Described::parse(&text).map_err(Error::Strange)?;
        let mut words = 0;
        let mut domains = BTreeMap::new();
        for (column, (count, file)) in &described.domains {
            words += count;
            if words > MOST_WORDS {
                return Err(Error::Strange(format!("it has more than {MOST_WORDS} words")));
            }
            let text = member(&mut archive, &format!("domains/{file}"))?;
            let values: Vec<_> = text.lines().map(|line| described.word(line)).collect();
            if values.len() != *count {
                return Err(Error::Strange(format!("domains/{file} has {} lines, not {count}", values.len())));
            }
            domains.insert(*column, values);
        }
        let mut all: Vec<_> = described
            .columns
            .iter()
            .enumerate()
            .map(|(number, name)| Column { name: name.clone(), values: domains.remove(&number) })
            .collect();
        let info = |key: &str| described.info.get(key).cloned().unwrap_or_default();
        // The answer's column is the last, where there is one.
        let labels = match info("supervised") == "true" && all.len() > described.features {
            true => all.last().and_then(|answer| answer.values.clone()).unwrap_or_default(),
            false => Vec::new(),
        };
        all.truncate(described.features);
        let (algorithm, category, version) = (info("algo"), info("category"), info("h2o_version"));
        Ok(Self { algorithm, category, version, columns: all, labels })
    }
}

fn member(archive: &mut Archive, name: &str) -> Result<String, Error> {
    let strange = |why: &str| Error::Strange(format!("{name} {why}"));
    let member = match archive.by_name(name) {
        Ok(member) => member,
        Err(zip::result::ZipError::FileNotFound) => return Err(strange("is not in it")),
        Err(error) => return Err(error.into()),
    };
    let mut bytes = Vec::new();
    member.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(strange("is too large"));
    }
    String::from_utf8(bytes).map_err(|_| strange("is not UTF-8"))
}

/// `model.ini`
#[derive(Debug, Default)]
struct Described {
    info: BTreeMap<String, String>,
    columns: Vec<String>,
    /// By the number of the column: how many words there are, and in which file.
    domains: BTreeMap<usize, (usize, String)>,
    /// How many of the columns a row has.
    features: usize,
}

impl Described {
    fn parse(text: &str) -> Result<Self, String> {
        let mut found = Self::default();
        let mut section = "";
        for line in text.lines() {
            let line = line.trim_end_matches('\r');
            if section != "[columns]" && line.trim().is_empty() {
                continue;
            }
            if let "[info]" | "[columns]" | "[domains]" = line {
                section = line;
                continue;
            }
            match section {
                "[info]" => {
                    let (key, value) = line.split_once('=').ok_or("a line of [info] has no `=`")?;
                    found.info.insert(key.trim().to_owned(), value.trim().to_owned());
                }
                "[columns]" if line.is_empty() => {}
                "[columns]" => found.columns.push(line.to_owned()),
                "[domains]" => {
                    let parsed = line.split_once(": ").and_then(|(column, rest)| {
                        let (count, file) = rest.split_once(' ')?;
                        Some((column.trim().parse().ok()?, (count.parse().ok()?, file.to_owned())))
                    });
                    let (column, words) = parsed.ok_or("a line of [domains] cannot be read")?;
                    if words.1.contains(['/', '\\']) {
                        return Err("a file of words has no plain name".to_owned());
                    }
                    found.domains.insert(column, words);
                }
                _ => return Err("model.ini begins with no section".to_owned()),
            }
            if found.columns.len() > MOST_COLUMNS {
                return Err(format!("it has more than {MOST_COLUMNS} columns"));
            }
        }
        let number = |key: &str| found.info.get(key).and_then(|text| text.parse::<usize>().ok());
        let columns = number("n_columns").ok_or("model.ini says no n_columns")?;
        if columns != found.columns.len() {
            return Err(format!("it has {} columns, and says {columns}", found.columns.len()));
        }
        found.features =
            number("n_features").filter(|count| *count <= columns).ok_or("model.ini says no n_features")?;
        if found.domains.keys().any(|column| *column >= columns) {
            return Err("a column has words that is not there".to_owned());
        }
        Ok(found)
    }

    /// A word as the data had it: line feeds and backslashes are escaped where the model says so.
    fn word(&self, line: &str) -> String {
        match self.info.get("escape_domain_values").is_some_and(|escaped| escaped == "true") {
            true => unescaped(line),
            false => line.to_owned(),
        }
    }
}

fn unescaped(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => text.push('\n'),
                Some(other) => text.push(other),
                None => text.push('\\'),
            },
            letter => text.push(letter),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fixture(name: &str) -> Result<Mojo, Error> {
        Mojo::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mojo").join(name))
    }

    #[test]
    fn what_a_model_takes_is_read() {
        let classes = fixture("classes.zip").unwrap();
        assert_eq!((classes.algorithm.as_str(), classes.category.as_str()), ("gbm", "Multinomial"));
        assert_eq!(classes.version, "3.46.0.7");
        let names: Vec<_> = classes.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["warmth", "shaking.rate", "make"]);
        assert_eq!(classes.columns[0].values, None);
        assert_eq!(classes.columns[2].values.as_deref().unwrap(), ["north", "south", "öst"]);
        assert_eq!(classes.labels, ["broken", "good", "worn"]);
        assert_eq!(fixture("number.zip").unwrap().labels, [""; 0]);
        let clusters = fixture("clusters.zip").unwrap();
        assert_eq!((clusters.category.as_str(), clusters.columns.len()), ("Clustering", 2));
    }

    #[test]
    fn words_are_as_the_data_had_them() {
        assert_eq!(unescaped(r"a\nb\\nc"), "a\nb\\nc");
        assert_eq!(unescaped("öst"), "öst");
    }

    #[test]
    fn what_is_none_is_said() {
        assert!(fixture("Classes.java").unwrap_err().to_string().contains("no zip archive"));
        for (text, why) in [
            ("", "n_columns"),
            ("x", "no section"),
            ("[info]\nx\n", "no `=`"),
            ("[info]\nn_columns = 2\nn_features = 1\n[columns]\na\n", "has 1 columns"),
            ("[info]\nn_columns = 1\nn_features = 2\n[columns]\na\n", "n_features"),
            ("[info]\nn_columns = 1\nn_features = 1\n[columns]\na\n[domains]\n1: 1 d\n", "not there"),
            ("[info]\nn_columns = 1\nn_features = 1\n[columns]\na\n[domains]\n0: 1 ../d\n", "no plain name"),
            ("[info]\nn_columns = 1\nn_features = 1\n[columns]\na\n[domains]\nx\n", "cannot be read"),
        ] {
            let said = Described::parse(text).unwrap_err();
            assert!(said.contains(why), "{text:?}: {said}");
        }
    }

    proptest! {
        #[test]
        fn any_text_ends_in_a_value_or_a_reason(text in "(\\[(info|columns|domains)\\]\n|[a-z0-9_ =:.]{0,12}\n){0,20}") {
            let _ = Described::parse(&text);
        }
    }
}
