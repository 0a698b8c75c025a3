//! Models of fastText (<https://fasttext.cc>).

use serde_json::json;

use super::Proposal;
use super::input::{Given, Input};

impl Proposal {
    /// The proposal for a model of fastText's, supervised or not.
    pub(super) fn of_fasttext(is_supervised: bool, file: &str) -> Self {
        let mut proposal = Self::empty("fastText");
        // Facebook's own package has no wheels, and those of others fail with NumPy 2.
        proposal.require("fasttext-community", "runs the model, and has wheels");
        proposal.import("import fasttext");
        proposal.code.load = format!("model = fasttext.load_model(str({file}))");
        if is_supervised {
            proposal.class = Some("classifier of texts".to_owned());
            proposal.take(Input::Texts);
            // A line is what fastText takes for a text.
            proposal.answer(
                "predict",
                "labels, chances = model.predict([text.replace(\"\\n\", \" \") for text in texts])\n    \
                 return {\"labels\": labels, \"chances\": [one.tolist() for one in chances]}",
            );
        } else {
            proposal.class = Some("vectors of words".to_owned());
            let words = "a list of words, also such as the model does not know";
            proposal.take(Input::Given(vec![Given::new("words", "list[str]", words, json!(["word"]))]));
            proposal.answer("predict", "return [model.get_nearest_neighbors(word) for word in words]");
            proposal.answer("vectors", "return [model.get_word_vector(word) for word in words]");
        }
        proposal
    }
}
