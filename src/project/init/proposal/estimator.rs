//! What an estimator takes and what it can do, by the attributes that fitting gave it: of scikit-learn and of those
//! that follow its conventions (<https://scikit-learn.org/stable/developers/develop.html>).

use serde_json::Value as Json;

use super::booster;
use super::input::{Column, Input, MOST_COLUMNS, presentable};
use crate::formats::model::Object;

/// What a model can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has methods of these names that take rows; the first is what it is for.
    Methods(Vec<&'static str>),
    /// It learnt from its data and can say nothing about other data.
    Unable,
    /// The class is not known here.
    Unknown,
}

/// Estimators within estimators that are looked into.
const DEEPEST: u8 = 8;

/// Estimators that are asked for examples: a hostile model may hold the same ones again and again.
const MOST_ASKED: u32 = 200;

/// The package that an object's class belongs to, as it is imported.
pub fn package(object: Object<'_>) -> Option<&str> {
    Some(object.class()?.0.split('.').next().unwrap_or_default())
}

/// What it is, for a person: `Pipeline (StandardScaler, LogisticRegression)`.
pub fn describe(object: Object<'_>) -> Option<String> {
    let class = super::plain_name(object.class()?.1);
    let parts: Vec<String> = if let Some(best) = inner(object) {
        best.class().map(|(_, class)| super::plain_name(class)).into_iter().collect()
    } else {
        let classes = steps(object).into_iter().filter_map(|step| step.class());
        classes.take(8).map(|(_, class)| super::plain_name(class)).collect()
    };
    Some(if parts.is_empty() { class } else { format!("{class} ({})", parts.join(", ")) })
}

/// The estimator that another one found or wraps.
fn inner(object: Object<'_>) -> Option<Object<'_>> {
    ["best_estimator_", "regressor_"].into_iter().filter_map(|name| object.get(name)).find(|o| o.class().is_some())
}

/// The steps of a pipeline that do something.
fn steps(object: Object<'_>) -> Vec<Object<'_>> {
    let steps = object.get("steps").and_then(Object::items).unwrap_or_default();
    steps.into_iter().filter_map(|step| step.items()?.get(1).copied()).filter(|step| step.class().is_some()).collect()
}

/// What can be asked of it.
pub fn role(object: Object<'_>) -> Role {
    role_at(object, 0)
}

fn role_at(object: Object<'_>, depth: u8) -> Role {
    let Some((module, class)) = object.class() else { return Role::Unknown };
    let mut parts = module.split('.');
    let (package, area) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    if depth < DEEPEST && matches!(package, "sklearn" | "imblearn") {
        if class == "Pipeline" {
            return steps(object).last().map_or(Role::Unknown, |last| role_at(*last, depth + 1));
        }
        if let Some(best) = object.get("best_estimator_") {
            return role_at(best, depth + 1);
        }
    }
    match (package, area, class) {
        ("sklearn", "cluster", "FeatureAgglomeration") => only("transform"),
        ("sklearn", "cluster", "KMeans" | "MiniBatchKMeans" | "BisectingKMeans" | "MeanShift") => predicts(object),
        ("sklearn", "cluster", "AffinityPropagation" | "Birch") => predicts(object),
        ("sklearn", "cluster", _) => Role::Unable,
        ("sklearn", "neighbors", "NearestNeighbors") => only("kneighbors"),
        ("sklearn", "neighbors", "KernelDensity") => only("score_samples"),
        ("sklearn", "neighbors", "LocalOutlierFactor") => match object.get("novelty").and_then(Object::truth) {
            Some(true) => predicts(object),
            _ => Role::Unable,
        },
        ("sklearn", "neighbors", class) if class.contains("Transformer") || class.contains("Analysis") => {
            only("transform")
        }
        ("sklearn", "manifold", "Isomap" | "LocallyLinearEmbedding") => only("transform"),
        ("sklearn", "manifold", _) => Role::Unable,
        ("sklearn", "feature_selection", "RFE" | "RFECV") => predicts(object),
        ("sklearn", "compose", "TransformedTargetRegressor") => predicts(object),
        ("sklearn", "covariance", class) if class != "EllipticEnvelope" => Role::Unable,
        ("sklearn", "ensemble", "RandomTreesEmbedding") | ("sklearn", "neural_network", "BernoulliRBM") => {
            only("transform")
        }
        ("sklearn", "pipeline", "FeatureUnion") | ("sklearn", "compose", _) => only("transform"),
        (
            "sklearn",
            "preprocessing"
            | "decomposition"
            | "feature_extraction"
            | "impute"
            | "feature_selection"
            | "random_projection"
            | "kernel_approximation",
            _,
        ) => only("transform"),
        (
            "sklearn",
            "calibration"
            | "cross_decomposition"
            | "discriminant_analysis"
            | "dummy"
            | "ensemble"
            | "covariance"
            | "gaussian_process"
            | "isotonic"
            | "kernel_ridge"
            | "linear_model"
            | "mixture"
            | "model_selection"
            | "multiclass"
            | "multioutput"
            | "naive_bayes"
            | "neighbors"
            | "neural_network"
            | "semi_supervised"
            | "svm"
            | "tree",
            class,
            // Helpers such as a loss or a tree's nodes are no estimators.
        ) if class.starts_with(|c: char| c.is_ascii_uppercase()) && !matches!(class, "Tree" | "StratifiedKFold") => {
            predicts(object)
        }
        ("imblearn", "ensemble", _) | ("catboost", ..) => predicts(object),
        ("xgboost" | "lightgbm", _, class) if class.starts_with(|c: char| c.is_ascii_uppercase()) => predicts(object),
        ("statsmodels", _, class) if class.contains("Results") => predicts(object),
        _ => Role::Unknown,
    }
}

fn only(method: &'static str) -> Role {
    Role::Methods(vec![method])
}

/// `predict`, and what else a class has that says more: probabilities, or how far a row is from the boundary where there
/// are none, or distances.
fn predicts(object: Object<'_>) -> Role {
    const PROBABLE: [&str; 26] = [
        "LogisticRegression",
        "LogisticRegressionCV",
        "RandomForestClassifier",
        "ExtraTreesClassifier",
        "GradientBoostingClassifier",
        "HistGradientBoostingClassifier",
        "AdaBoostClassifier",
        "BaggingClassifier",
        "DecisionTreeClassifier",
        "ExtraTreeClassifier",
        "KNeighborsClassifier",
        "RadiusNeighborsClassifier",
        "MLPClassifier",
        "GaussianNB",
        "MultinomialNB",
        "BernoulliNB",
        "ComplementNB",
        "GaussianProcessClassifier",
        "LinearDiscriminantAnalysis",
        "QuadraticDiscriminantAnalysis",
        "CalibratedClassifierCV",
        "GaussianMixture",
        "XGBClassifier",
        "XGBRFClassifier",
        "LGBMClassifier",
        "CatBoostClassifier",
    ];
    let class = object.class().map(|(_, class)| class).unwrap_or_default();
    let is_true = |name: &str| object.get(name).and_then(Object::truth) == Some(true);
    let further = match class {
        "SVC" | "NuSVC" if is_true("probability") => "predict_proba",
        "SGDClassifier" => match object.get("loss").and_then(Object::text) {
            Some("log_loss" | "log" | "modified_huber") => "predict_proba",
            _ => "decision_function",
        },
        "SVC" | "NuSVC" | "LinearSVC" | "RidgeClassifier" | "RidgeClassifierCV" | "Perceptron" => "decision_function",
        "IsolationForest" | "OneClassSVM" | "SGDOneClassSVM" | "EllipticEnvelope" | "LocalOutlierFactor" => {
            "decision_function"
        }
        "KMeans" | "MiniBatchKMeans" | "BisectingKMeans" | "Birch" => "transform",
        class if PROBABLE.contains(&class) => "predict_proba",
        _ => return only("predict"),
    };
    Role::Methods(vec!["predict", further])
}

/// What it takes.
pub fn input(object: Object<'_>) -> Input {
    input_at(object, 0)
}

fn input_at(object: Object<'_>, depth: u8) -> Input {
    let Some((module, class)) = object.class() else { return Input::Unknown };
    if depth >= DEEPEST {
        return Input::Unknown;
    }
    if let Some(names) = object.get("feature_names_in_").and_then(names) {
        return columns(object, names);
    }
    if let Some(first) = steps(object).first() {
        return match input_at(*first, depth + 1) {
            // What later steps know of the same columns may be more.
            Input::Rows(rows) => Input::Rows(filled(object, rows.len())),
            Input::Columns(found) => columns(object, found.into_iter().map(|column| column.name).collect()),
            other => other,
        };
    }
    if let Some(inner) = inner(object) {
        return input_at(inner, depth + 1);
    }
    if module.starts_with("sklearn.feature_extraction") {
        match class {
            "CountVectorizer" | "TfidfVectorizer" | "HashingVectorizer" => return Input::Texts,
            "DictVectorizer" | "FeatureHasher" => return Input::Records,
            _ => {}
        }
    }
    if let Some(booster) = booster::read(object) {
        return booster;
    }
    // The second and third are of before scikit-learn 1.0, and of LightGBM; the last of what has nothing else.
    let width = ["n_features_in_", "n_features_", "_n_features"].into_iter().find_map(|name| {
        let number = object.get(name)?.integer()?;
        u64::try_from(number).ok()
    });
    let width = width.or_else(|| object.get("coef_")?.shape()?.last().copied());
    match width {
        Some(width @ 1..=MOST_COLUMNS) => Input::Rows(filled(object, width as usize)),
        _ => Input::Unknown,
    }
}

fn names(array: Object<'_>) -> Option<Vec<String>> {
    let names = array.elements()?;
    if names.is_empty() || names.len() as u64 > MOST_COLUMNS {
        return None;
    }
    names.into_iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

fn columns(object: Object<'_>, names: Vec<String>) -> Input {
    let examples = Examples::default().of(object, &names, names.len(), 0);
    let examples = examples.into_iter().map(or_zero);
    Input::Columns(names.into_iter().zip(examples).map(|(name, example)| Column::new(name, example)).collect())
}

fn filled(object: Object<'_>, width: usize) -> Vec<Json> {
    Examples::default().of(object, &[], width, 0).into_iter().map(or_zero).collect()
}

fn or_zero(example: Option<Json>) -> Json {
    example.unwrap_or_else(|| 0.0.into())
}

/// Values that a model saw, or near to those: means, categories, what gaps are filled with.
#[derive(Default)]
struct Examples {
    asked: u32,
}

impl Examples {
    /// One for each of `width` columns.
    fn of(&mut self, object: Object<'_>, names: &[String], width: usize, depth: u8) -> Vec<Option<Json>> {
        let mut all = vec![None; width];
        self.asked += 1;
        if depth >= DEEPEST || self.asked > MOST_ASKED {
            return all;
        }
        let mut take = |found: Vec<Option<Json>>| {
            for (place, value) in all.iter_mut().zip(found) {
                if place.is_none() {
                    *place = value;
                }
            }
        };
        // A step that changes the columns ends what is known of them.
        const SAME_COLUMNS: [&str; 6] =
            ["SimpleImputer", "StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "PowerTransformer"];
        for step in steps(object) {
            take(self.of(step, names, width, depth + 1));
            if !step.class().is_some_and(|(_, class)| SAME_COLUMNS.contains(&class)) {
                break;
            }
        }
        if let Some(inner) = inner(object) {
            take(self.of(inner, names, width, depth + 1));
        }
        for attribute in ["mean_", "statistics_", "center_", "data_min_"] {
            if let Some(values) =
                object.get(attribute).and_then(Object::elements).filter(|values| values.len() == width)
            {
                take(values.into_iter().map(presentable).collect());
            }
        }
        if let Some(categories) = object.get("categories_").and_then(Object::items).filter(|c| c.len() == width) {
            let first = |of: Object<'_>| of.elements()?.into_iter().find_map(presentable);
            take(categories.into_iter().map(first).collect());
        }
        for part in object.get("transformers_").and_then(Object::items).unwrap_or_default() {
            let Some(part) = part.items() else { continue };
            // A single name hands the column itself on, as vectorizers take it, and no table of one.
            let one = |places: &Object<'_>| places.text().map(|name| vec![name.into()]);
            let places = part.get(2).and_then(|places| one(places).or_else(|| places.elements()));
            let (Some(transformer), Some(places)) = (part.get(1), places) else { continue };
            let found = match input_at(*transformer, depth + 1) {
                Input::Texts => vec![Some("an example".into())],
                _ => self.of(*transformer, &[], places.len().min(width), depth + 1),
            };
            // More places than columns are none.
            let mut spread = vec![None; width];
            for (place, value) in places.iter().take(width).zip(found) {
                let index = match place {
                    Json::String(name) => names.iter().position(|known| known == name),
                    place => place.as_u64().and_then(|place| usize::try_from(place).ok()),
                };
                if let Some(place) = index.and_then(|index| spread.get_mut(index)) {
                    *place = value;
                }
            }
            take(spread);
        }
        all
    }
}
