//! Models of series: of pmdarima, sktime and prophet.

use serde_json::json;

use super::input::{Column, Given, Input};
use super::{Pin, Proposal, plain_name, releases};
use crate::formats::model::{About, Object};

/// The release of pmdarima or sktime that saved a model, as a requirement.
pub fn version(object: Object<'_>) -> Option<Pin> {
    let pinned = |package: &str, text: &str| {
        let version = releases::version(text)?;
        Some(Pin::new(format!("{package}=={version}"), "saved the model"))
    };
    match super::estimator::package(object)? {
        "pmdarima" => pinned("pmdarima", object.get("pkg_version_")?.text()?),
        "sktime" => pinned("sktime", object.get("_tags_dynamic")?.get("sktime_version")?.text()?),
        _ => None,
    }
}

impl Proposal {
    /// Asks a model of pmdarima's.
    pub(super) fn ask_pmdarima(&mut self, object: Object<'_>) {
        self.class = object.class().map(|(_, class)| plain_name(class));
        self.forecast("model.predict(n_periods=periods)");
        if object.get("fit_with_exog_").and_then(Object::truth) == Some(true) {
            self.leave_open(
                "call the model here, with what goes with the series",
                "it was trained with other values beside the series: say in src/predict.py how they come with a request",
            );
        }
    }

    /// Asks a model of sktime's.
    pub(super) fn ask_sktime(&mut self, object: Object<'_>) {
        let (module, class) = object.class().unwrap_or_default();
        self.class = Some(plain_name(class));
        if !module.starts_with("sktime.forecasting.") {
            self.take(Input::Unknown);
            let why = format!("say in src/predict.py how series come to {}: it is loaded there", plain_name(class));
            self.leave_open("call the model here", why);
            return;
        }
        let horizon = "which periods are forecast, from the end of the series on: 1 is the next";
        self.take(Input::Given(vec![Given::new("horizon", "list[int]", horizon, json!([1, 2, 3]))]));
        self.answer("predict", "return model.predict(horizon)");
    }

    /// The proposal for a model that prophet wrote as JSON.
    pub(super) fn of_prophet(about: &About, file: &str) -> Self {
        let version = about.version.as_deref().and_then(releases::version);
        let mut proposal =
            Self::empty(&version.as_ref().map_or_else(|| "prophet".to_owned(), |version| format!("prophet {version}")));
        proposal.class = Some("Prophet".to_owned());
        proposal.requirements.push(match version {
            Some(version) => Pin::new(format!("prophet>={version}"), "saved the model, and later ones read it"),
            None => Pin::new("prophet", "runs the model"),
        });
        proposal.import("from prophet.serialize import model_from_json");
        proposal.code.load = format!("model = model_from_json(({file}).read_text())");
        let named = about.columns.iter().map(|column| {
            Column::new(column.name.clone().unwrap_or_default(), column.example.clone().unwrap_or_else(|| 0.0.into()))
        });
        proposal.take(Input::Columns(named.collect()));
        proposal.answer(
            "predict",
            "forecast = model.predict({value})\n    \
             forecast[\"ds\"] = forecast[\"ds\"].astype(str)\n    \
             return forecast[[\"ds\", \"yhat\", \"yhat_lower\", \"yhat_upper\"]]",
        );
        proposal
            .unknown
            .push("`yhat_lower` and `yhat_upper` exactly: prophet draws them by chance, each time anew".to_owned());
        proposal
    }
}
