//! Tokenizers (<https://huggingface.co/docs/tokenizers>) without a model.

use super::input::Input;
use super::{Proposal, plain_name};

impl Proposal {
    /// The proposal for a tokenizer of the tokenizers package, alone.
    pub(super) fn of_tokenizer(class: Option<&str>, file: &str) -> Self {
        let mut proposal = Self::empty("tokenizers");
        proposal.class =
            Some(class.map_or_else(|| "tokenizer".to_owned(), |class| format!("{} tokenizer", plain_name(class))));
        proposal.require("tokenizers", "reads the file");
        proposal.import("from tokenizers import Tokenizer");
        proposal.code.load = format!("model = Tokenizer.from_file(str({file}))");
        proposal.take(Input::Texts);
        proposal.answer(
            "predict",
            "return [{\"ids\": one.ids, \"tokens\": one.tokens} for one in model.encode_batch(texts)]",
        );
        proposal
    }
}
