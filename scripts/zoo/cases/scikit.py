"""scikit-learn, and what is kept with it: by pickle, joblib and skops."""

from ..case import case

SKLEARN = "scikit-learn numpy scipy pandas joblib"


def customers():
    """A table of texts, numbers, truth values and a category; rows that training sees, and others."""
    import numpy
    import pandas

    random = numpy.random.default_rng(7)
    count = 240
    table = pandas.DataFrame(
        {
            "age": random.integers(18, 80, count),
            "income": random.normal(42000, 9000, count).round(2),
            "city": random.choice(["Berlin", "Paris", "Rome"], count),
            "plan": random.choice(["basic", "plus", "pro"], count, p=[0.5, 0.3, 0.2]),
        }
    )
    churn = (table.income / 60000 + (table.plan == "pro") + random.normal(0, 0.2, count) > 1.0).astype(int)
    return table[:200], churn[:200], table[200:206].reset_index(drop=True)


def reviews():
    good = "lovely great fine superb warm friendly excellent tasty fresh kind".split()
    bad = "awful cold rude stale terrible slow dirty broken bland noisy".split()
    texts, labels = [], []
    for number in range(60):
        words, label = (good, "good") if number % 2 else (bad, "bad")
        texts.append(
            f"the {words[number % 10]} place was {words[(number * 7 + 3) % 10]} and {words[(number * 3) % 10]}"
        )
        labels.append(label)
    return texts, labels, ["a lovely and fresh meal", "rude people, cold soup", "the place was noisy but warm"]


def irises():
    from sklearn.datasets import load_iris

    data = load_iris(as_frame=True)
    unseen = data.frame.index % 30 == 7
    table, held = data.data[~unseen], data.data[unseen]
    return table.reset_index(drop=True), data.target[~unseen].reset_index(drop=True), held.reset_index(drop=True)


def iris_arrays():
    """The same without names."""
    return tuple(part.to_numpy() for part in irises())


def column_pipeline():
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["age", "income"]),
            ("texts", OneHotEncoder(handle_unknown="ignore"), ["city", "plan"]),
        ]
    )
    return Pipeline([("columns", columns), ("classifier", LogisticRegression(max_iter=500))])


@case(
    "sklearn-columns-joblib",
    "1",
    "scikit-learn Pipeline with ColumnTransformer over texts and numbers, joblib",
    "light",
    SKLEARN,
    light=True,
)
def sklearn_columns_joblib(saved):
    import joblib

    table, target, unseen = customers()
    model = column_pipeline().fit(table, target)
    joblib.dump(model, saved.path("churn.joblib"))
    saved.ask(records=unseen)
    saved.answer(
        "predict",
        predict=model.predict(unseen),
        predict_proba=model.predict_proba(unseen),
        decision_function=model.decision_function(unseen),
    )


@case("sklearn-tfidf-pickle", "2", "TfidfVectorizer and LogisticRegression, pickle", "light", SKLEARN, light=True)
def sklearn_tfidf_pickle(saved):
    import pickle

    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts, labels, unseen = reviews()
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, labels)
    with open(saved.path("sentiment.pkl"), "wb") as file:
        pickle.dump(model, file)
    saved.ask(texts=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))


@case("skops", "3", "scikit-learn Pipeline, `model.skops`", "light", SKLEARN + " skops", light=True)
def skops(saved):
    import skops.io

    table, target, unseen = customers()
    model = column_pipeline().fit(table, target)
    skops.io.dump(model, saved.path("model.skops"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))


@case(
    "skops-trusted",
    "",
    "skops of a forest: its type `sklearn.tree._tree.Tree` has to be trusted",
    "light",
    SKLEARN + " skops",
    light=True,
)
def skops_trusted(saved):
    import skops.io
    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import RandomForestRegressor

    data = load_diabetes(as_frame=True)
    model = RandomForestRegressor(8, max_depth=4, random_state=0).fit(data.data[:400], data.target[:400])
    unseen = data.data[400:405].reset_index(drop=True)
    skops.io.dump(model, saved.path("diabetes.skops"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen))


@case(
    "sklearn-text-column",
    "+",
    'a text column in a ColumnTransformer (`("t", TfidfVectorizer(), "review")`), joblib',
    "light",
    SKLEARN,
    light=True,
)
def sklearn_text_column(saved):
    import joblib
    import pandas
    from sklearn.compose import ColumnTransformer
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    texts, labels, unseen = reviews()
    table = pandas.DataFrame({"review": texts, "stars": [1 + number % 5 for number in range(len(texts))]})
    columns = ColumnTransformer([("t", TfidfVectorizer(), "review"), ("n", "passthrough", ["stars"])])
    model = Pipeline([("columns", columns), ("classifier", LogisticRegression(max_iter=500))]).fit(table, labels)
    joblib.dump(model, saved.path("reviews.joblib"))
    asked = pandas.DataFrame({"review": unseen, "stars": [5, 1, 3]})
    saved.ask(records=asked)
    saved.answer("predict", predict=model.predict(asked), predict_proba=model.predict_proba(asked))


@case("sklearn-tuple", "+", "a tuple `(model, encoder)`, joblib", "light", SKLEARN, light=True)
def sklearn_tuple(saved):
    import joblib
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.preprocessing import LabelEncoder

    table, target, unseen = irises()
    names = ["setosa", "versicolor", "virginica"]
    encoder = LabelEncoder().fit(names)
    model = RandomForestClassifier(8, random_state=0).fit(table, encoder.transform([names[one] for one in target]))
    joblib.dump((model, encoder), saved.path("iris.joblib"))
    saved.ask(records=unseen)
    predicted = model.predict(unseen)
    saved.answer(
        "predict labels",
        predict=predicted,
        labels=encoder.inverse_transform(predicted),
        predict_proba=model.predict_proba(unseen),
    )


@case(
    "sklearn-dict", "+", "a dictionary of model, scaler and the list of features, joblib", "light", SKLEARN, light=True
)
def sklearn_dict(saved):
    import joblib
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    table, target, unseen = irises()
    scaler = StandardScaler().fit(table)
    model = LogisticRegression(max_iter=500).fit(scaler.transform(table), target)
    kept = {
        "model": model,
        "scaler": scaler,
        "features": list(table.columns),
        "classes": ["setosa", "versicolor", "virginica"],
    }
    joblib.dump(kept, saved.path("iris.joblib"))
    saved.ask(records=unseen)
    scaled = scaler.transform(unseen)
    saved.answer(
        "predict labels",
        predict=model.predict(scaled),
        predict_proba=model.predict_proba(scaled),
        labels=[kept["classes"][one] for one in model.predict(scaled)],
    )
    saved.note = "what the parts are for, only their names say: the scaler comes before the model"


@case("sklearn-dict-plain", "+", "a dictionary of a model and what is known of it, pickle", "light", SKLEARN)
def sklearn_dict_plain(saved):
    import pickle

    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import RandomForestRegressor

    data = load_diabetes(as_frame=True)
    model = RandomForestRegressor(8, max_depth=4, random_state=0).fit(data.data[:400], data.target[:400])
    unseen = data.data[400:405].reset_index(drop=True)
    with open(saved.path("diabetes.pkl"), "wb") as file:
        pickle.dump(
            {"model": model, "metrics": {"r2": 0.47}, "trained": "2026-01-01", "features": list(data.data.columns)},
            file,
        )
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen))


@case("sklearn-gridsearch", "+", "GridSearchCV, joblib", "light", SKLEARN)
def sklearn_gridsearch(saved):
    import joblib
    from sklearn.model_selection import GridSearchCV

    table, target, unseen = customers()
    model = GridSearchCV(column_pipeline(), {"classifier__C": [0.1, 1.0]}, cv=3).fit(table, target)
    joblib.dump(model, saved.path("search.joblib"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))


@case("sklearn-array-pickle", "+", "a regressor trained on an array, pickle", "light", SKLEARN)
def sklearn_array_pickle(saved):
    import pickle

    from sklearn.datasets import load_diabetes
    from sklearn.ensemble import GradientBoostingRegressor

    data, target = load_diabetes(return_X_y=True)
    model = GradientBoostingRegressor(n_estimators=20, random_state=0).fit(data[:400], target[:400])
    with open(saved.path("model.pkl"), "wb") as file:
        pickle.dump(model, file)
    saved.ask(rows=data[400:405])
    saved.answer("predict", predict=model.predict(data[400:405]))


@case(
    "sklearn-svc-joblib",
    "+",
    "StandardScaler and SVC with probabilities on an array, compressed joblib",
    "light",
    SKLEARN,
)
def sklearn_svc_joblib(saved):
    import joblib
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    data, target, unseen = iris_arrays()
    model = make_pipeline(StandardScaler(), SVC()).fit(data, target)
    joblib.dump(model, saved.path("model.joblib.gz"), compress=("gzip", 3))
    saved.ask(rows=unseen)
    saved.answer("predict", predict=model.predict(unseen), decision_function=model.decision_function(unseen))


@case("sklearn-kmeans-pickle", "+", "KMeans, pickle", "light", SKLEARN)
def sklearn_kmeans_pickle(saved):
    import pickle

    from sklearn.cluster import KMeans

    data, _, unseen = iris_arrays()
    model = KMeans(3, n_init=3, random_state=0).fit(data)
    with open(saved.path("kmeans.pkl"), "wb") as file:
        pickle.dump(model, file)
    saved.ask(rows=unseen)
    saved.answer("predict", predict=model.predict(unseen), transform=model.transform(unseen))


@case("sklearn-pca-joblib", "+", "StandardScaler and PCA (only `transform`), joblib", "light", SKLEARN)
def sklearn_pca_joblib(saved):
    import joblib
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table, _, unseen = irises()
    model = make_pipeline(StandardScaler(), PCA(2)).fit(table)
    joblib.dump(model, saved.path("pca.joblib"))
    saved.ask(records=unseen)
    saved.answer("transform", transform=model.transform(unseen))


@case("sklearn-booleans", "+", "columns of booleans and categories, HistGradientBoosting, joblib", "light", SKLEARN)
def sklearn_booleans(saved):
    import joblib
    import numpy
    import pandas
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    random = numpy.random.default_rng(3)
    table = pandas.DataFrame(
        {
            "member": random.random(200) > 0.5,
            "visits": random.integers(0, 30, 200),
            "colour": pandas.Categorical(random.choice(["red", "green", "blue"], 200)),
        }
    )
    target = (table.member & (table.visits > 10)).map({True: "buys", False: "leaves"})
    columns = ColumnTransformer([("c", OrdinalEncoder(), ["colour"])], remainder="passthrough")
    model = Pipeline([("columns", columns), ("classifier", HistGradientBoostingClassifier(max_iter=10))])
    model.fit(table[:190], target[:190])
    joblib.dump(model, saved.path("shop.joblib"))
    unseen = table[190:195].reset_index(drop=True)
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))


@case("sklearn-multioutput", "+", "a regressor of several outputs, joblib", "light", SKLEARN)
def sklearn_multioutput(saved):
    import joblib
    from sklearn.datasets import load_linnerud
    from sklearn.linear_model import Ridge

    data = load_linnerud(as_frame=True)
    model = Ridge().fit(data.data[:16], data.target[:16])
    joblib.dump(model, saved.path("linnerud.joblib"))
    unseen = data.data[16:].reset_index(drop=True)
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen))


@case("sklearn-outliers", "+", "IsolationForest, joblib", "light", SKLEARN)
def sklearn_outliers(saved):
    import joblib
    from sklearn.ensemble import IsolationForest

    table, _, unseen = irises()
    model = IsolationForest(n_estimators=10, random_state=0).fit(table)
    joblib.dump(model, saved.path("outliers.joblib"))
    saved.ask(records=unseen)
    saved.answer(
        "predict",
        predict=model.predict(unseen),
        decision_function=model.decision_function(unseen),
        score_samples=model.score_samples(unseen),
    )


@case("imblearn", "", "imbalanced-learn's Pipeline, joblib", "light", SKLEARN + " imbalanced-learn")
def imblearn(saved):
    import joblib
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.pipeline import make_pipeline
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    table, target, unseen = irises()
    model = make_pipeline(RandomOverSampler(random_state=0), StandardScaler(), LogisticRegression()).fit(table, target)
    joblib.dump(model, saved.path("balanced.joblib"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))


@case("category-encoders", "", "category_encoders in a Pipeline, pickle", "light", SKLEARN + " category-encoders")
def category_encoders(saved):
    import pickle

    import category_encoders
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    table, target, unseen = customers()
    model = make_pipeline(category_encoders.TargetEncoder(cols=["city", "plan"]), LogisticRegression(max_iter=500))
    model.fit(table, target)
    with open(saved.path("encoded.pkl"), "wb") as file:
        pickle.dump(model, file)
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))


@case(
    "sklearn-old",
    "+",
    "a Pipeline of scikit-learn 1.0 and NumPy 1.21 on Python 3.9, pickle",
    "python-3.9",
    "scikit-learn numpy pandas",
)
def sklearn_old(saved):
    import pickle

    table, target, unseen = customers()
    model = column_pipeline().fit(table, target)
    with open(saved.path("churn.pkl"), "wb") as file:
        pickle.dump(model, file)
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))
