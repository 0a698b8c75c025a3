//! Learners that fastai exported (<https://docs.fast.ai/learner.html#learner.export>): tables are asked by their columns.

use serde_json::json;

use super::code::VALUE;
use super::input::{Column, Input, MOST_COLUMNS, presentable};
use super::{Proposal, estimator};
use crate::formats::model::Object;

/// Objects within objects that are looked into, and how many in all.
const DEEPEST: u8 = 16;
const MOST: u32 = 20_000;

/// Whether an object is a learner of fastai's.
pub(super) fn is_learner(object: Object<'_>) -> bool {
    object.class().is_some_and(|(module, name)| module.starts_with("fastai.") && name.ends_with("Learner"))
}

impl Proposal {
    /// Asks a learner in `file`, an expression of Python's.
    pub(super) fn ask_fastai(&mut self, learner: Object<'_>, file: &str) {
        "fastai".clone_into(&mut self.framework);
        self.class = estimator::describe(learner);
        self.require("fastai", "exported the learner");
        self.code.imports.retain(|import| import != "import torch");
        // It adds what silences a learner.
        self.import("import fastai.callback.progress");
        self.import("from fastai.learner import load_learner");
        self.code.load = format!("model = load_learner({file}, cpu=True)");
        let Some(columns) = columns(learner) else {
            self.take(Input::Unknown);
            self.leave_open(
                "make what the learner takes, and return what it answers",
                "what the learner takes: make it of the request in src/predict.py (`model.predict(…)`)",
            );
            return;
        };
        self.take(Input::Columns(columns));
        self.answer(
            "predict",
            &format!(
                "with model.no_bar(), model.no_logging():\n        \
                 loader = model.dls.test_dl({VALUE})\n        \
                 _, _, answers = model.get_preds(dl=loader, with_decoded=True)\n    \
                 names = getattr(model.dls, \"vocab\", None)\n    \
                 return [names[int(answer)] for answer in answers] if names else answers.tolist()"
            ),
        );
    }
}

/// The columns of a table that a learner takes, with a value of each. None where it takes something else.
fn columns(learner: Object<'_>) -> Option<Vec<Column>> {
    let find = |name: &str| Search { name, seen: 0 }.within(learner, 0);
    let names = |list: &str| {
        let items = find(list)?.get("items")?.items()?;
        items.into_iter().map(|name| name.text().map(str::to_owned)).collect::<Option<Vec<_>>>()
    };
    let (categories, numbers) = (names("cat_names")?, names("cont_names")?);
    if categories.is_empty() && numbers.is_empty() || (categories.len() + numbers.len()) as u64 > MOST_COLUMNS {
        return None;
    }
    let (classes, means) = (find("classes"), find("means"));
    // The first category stands for what is missing.
    let category = |name: &str| classes?.get(name)?.get("items")?.get("items")?.items()?.get(1)?.scalar();
    let mean = |name: &str| presentable(means?.get(name)?.scalar()?);
    let columns =
        categories.iter().map(|name| Column::new(name, category(name).unwrap_or_else(|| json!("an example"))));
    let numbers = numbers.iter().map(|name| Column::new(name, mean(name).unwrap_or_else(|| json!(0.5))));
    Some(columns.chain(numbers).collect())
}

/// The search for the first object that has an attribute of this name.
struct Search<'b> {
    name: &'b str,
    seen: u32,
}

impl Search<'_> {
    fn within<'a>(&mut self, object: Object<'a>, depth: u8) -> Option<Object<'a>> {
        self.seen += 1;
        if depth > DEEPEST || self.seen > MOST {
            return None;
        }
        if let Some(found) = object.get(self.name) {
            return Some(found);
        }
        let inner = object.attributes().into_iter().chain(object.items().unwrap_or_default());
        inner.into_iter().find_map(|inner| self.within(inner, depth + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::model::{self, Origin};

    /// A learner with what is read of one, pickled by Python.
    const LEARNER: &[u8] =
        b"\x80\x04\x95\x0b\x01\x00\x00\x00\x00\x00\x00\x8c\x16fastai.tabular.learner\x94\x8c\x0eTabularLearner\
        \x94\x93\x94)\x81\x94}\x94(\x8c\x09cat_names\x94\x8c\x13fastcore.foundation\x94\x8c\x01L\x94\x93\x94\
        )\x81\x94}\x94\x8c\x05items\x94]\x94\x8c\x04city\x94asb\x8c\x0acont_names\x94h\x08)\x81\x94}\x94h\
        \x0b]\x94\x8c\x03age\x94asb\x8c\x07classes\x94}\x94h\x0d\x8c\x16fastai.data.transforms\x94\x8c\x0bCa\
        tegoryMap\x94\x93\x94)\x81\x94}\x94h\x0bh\x08)\x81\x94}\x94h\x0b]\x94(\x8c\x04#na#\x94\x8c\x04Rome\
        \x94esbsbs\x8c\x05means\x94}\x94h\x12G@D\xa0\x00\x00\x00\x00\x00sub.";

    #[test]
    fn a_table_has_the_columns_that_the_learner_was_trained_with() {
        let open = || Ok(Box::new(LEARNER) as Box<dyn std::io::Read + Send>);
        let model = model::inspect(&Origin::Stream(&open), "export.pkl", LEARNER.len() as u64).unwrap();
        let root = model.pickles[0].1.objects.root().unwrap();
        assert!(is_learner(root));
        let found = columns(root).unwrap();
        assert_eq!(found, [Column::new("city", json!("Rome")), Column::new("age", json!(41.25))]);
        let mut proposal = Proposal::empty("PyTorch");
        proposal.ask_fastai(root, "MODEL");
        assert!(proposal.is_ready() && proposal.requirements[0].text == "fastai");
    }
}
