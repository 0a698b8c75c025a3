"""Boosted trees: XGBoost, LightGBM and CatBoost, in their own formats and in pickles."""

from ..case import case
from .scikit import customers, iris_arrays, irises

XGBOOST = "xgboost-cpu numpy pandas scikit-learn"
LIGHTGBM = "lightgbm numpy pandas scikit-learn"
CATBOOST = "catboost numpy pandas"


def diabetes():
    from sklearn.datasets import load_diabetes

    data = load_diabetes(as_frame=True)
    return data.data[:400], data.target[:400], data.data[400:405].reset_index(drop=True)


def categories():
    """Customers, the texts as pandas' categories."""
    table, target, unseen = customers()
    for column in ("city", "plan"):
        kinds = table[column].astype("category").dtype
        table[column], unseen[column] = table[column].astype(kinds), unseen[column].astype(kinds)
    return table, target, unseen


@case("xgboost-ubj", "4a", 'XGBClassifier, `save_model("m.ubj")`', "light", XGBOOST, light=True)
def xgboost_ubj(saved):
    from xgboost import XGBClassifier

    table, target, unseen = irises()
    model = XGBClassifier(n_estimators=8, max_depth=3).fit(table, target)
    model.save_model(saved.path("m.ubj"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))


@case("xgboost-json", "4b", 'an XGBoost Booster, `save_model("m.json")`', "light", XGBOOST, light=True)
def xgboost_json(saved):
    import xgboost

    table, target, unseen = diabetes()
    booster = xgboost.train({"max_depth": 3, "eta": 0.3}, xgboost.DMatrix(table, label=target), 10)
    booster.save_model(saved.path("m.json"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=booster.predict(xgboost.DMatrix(unseen)))


@case("xgboost-booster-ubj", "+", "an XGBoost Booster of a matrix without names, binary, `.ubj`", "light", XGBOOST)
def xgboost_booster_ubj(saved):
    import xgboost

    table, target, unseen = iris_arrays()
    data = xgboost.DMatrix(table, label=(target == 2).astype(int))
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 3}, data, 10)
    booster.save_model(saved.path("versicolor.ubj"))
    saved.ask(rows=unseen)
    saved.answer("predict", predict=booster.predict(xgboost.DMatrix(unseen)))


@case("xgboost-categories", "+", "XGBRegressor with columns of categories, `.json`", "light", XGBOOST, light=True)
def xgboost_categories(saved):
    from xgboost import XGBRegressor

    table, target, unseen = categories()
    model = XGBRegressor(n_estimators=8, max_depth=3, enable_categorical=True).fit(table, target)
    model.save_model(saved.path("m.json"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen))


@case("xgboost-joblib", "+", "XGBClassifier, joblib", "light", XGBOOST + " joblib")
def xgboost_joblib(saved):
    import joblib
    from xgboost import XGBClassifier

    table, target, unseen = irises()
    model = XGBClassifier(n_estimators=8, max_depth=3).fit(table, target)
    joblib.dump(model, saved.path("xgb.joblib"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))


@case("xgboost-pipeline", "+", "XGBClassifier in a scikit-learn Pipeline, joblib", "light", XGBOOST + " joblib")
def xgboost_pipeline(saved):
    import joblib
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from xgboost import XGBClassifier

    table, target, unseen = irises()
    model = make_pipeline(StandardScaler(), XGBClassifier(n_estimators=8, max_depth=3)).fit(table, target)
    joblib.dump(model, saved.path("pipeline.joblib"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))


@case("xgboost-old-binary", "", "XGBoost 1.7's own binary format, `m.model`", "xgboost-1", "xgboost numpy")
def xgboost_old_binary(saved):
    import numpy
    import xgboost

    random = numpy.random.RandomState(0)
    data = random.rand(200, 4)
    booster = xgboost.train(
        {"max_depth": 3, "objective": "reg:squarederror"}, xgboost.DMatrix(data[:195], label=data[:195].sum(axis=1)), 10
    )
    booster.save_model(saved.path("m.model"))
    saved.ask(rows=data[195:])
    saved.answer("predict", predict=booster.predict(xgboost.DMatrix(data[195:])))
    saved.note = "XGBoost 3.1 and later read it no more: it needs xgboost<3.1"


@case("lightgbm-text", "5a", 'a LightGBM Booster, `save_model("m.txt")`', "light", LIGHTGBM, light=True)
def lightgbm_text(saved):
    import lightgbm

    table, target, unseen = diabetes()
    booster = lightgbm.train(
        {"objective": "regression", "num_leaves": 7, "verbose": -1}, lightgbm.Dataset(table, target), 10
    )
    booster.save_model(saved.path("m.txt"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=booster.predict(unseen))


@case(
    "lightgbm-text-classes",
    "+",
    "LGBMClassifier's booster with three classes and names with blanks, `m.txt`",
    "light",
    LIGHTGBM,
)
def lightgbm_text_classes(saved):
    from lightgbm import LGBMClassifier

    table, target, unseen = irises()
    model = LGBMClassifier(n_estimators=8, num_leaves=4, verbose=-1).fit(table, target)
    model.booster_.save_model(saved.path("iris.txt"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.booster_.predict(unseen))


@case(
    "lightgbm-text-categories",
    "+",
    "a LightGBM Booster with pandas' categories, `m.txt`",
    "light",
    LIGHTGBM,
    light=True,
)
def lightgbm_text_categories(saved):
    import lightgbm

    table, target, unseen = categories()
    booster = lightgbm.train(
        {"objective": "binary", "num_leaves": 7, "verbose": -1}, lightgbm.Dataset(table, target), 10
    )
    booster.save_model(saved.path("m.txt"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=booster.predict(unseen))


@case("lightgbm-joblib", "5b", "LGBMClassifier, joblib", "light", LIGHTGBM + " joblib", light=True)
def lightgbm_joblib(saved):
    import joblib
    from lightgbm import LGBMClassifier

    table, target, unseen = irises()
    model = LGBMClassifier(n_estimators=8, num_leaves=4, verbose=-1).fit(table, target)
    joblib.dump(model, saved.path("lgbm.joblib"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))


@case("catboost-cbm", "6", 'CatBoostClassifier, `save_model("m.cbm")`', "light", CATBOOST, light=True)
def catboost_cbm(saved):
    from catboost import CatBoostClassifier

    table, target, unseen = customers()
    model = CatBoostClassifier(iterations=10, depth=3, verbose=False, cat_features=["city", "plan"]).fit(table, target)
    model.save_model(str(saved.path("m.cbm")))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))


@case("catboost-regressor-cbm", "+", "CatBoostRegressor of numbers, `m.cbm`", "light", CATBOOST)
def catboost_regressor_cbm(saved):
    from catboost import CatBoostRegressor

    table, target, unseen = diabetes()
    model = CatBoostRegressor(iterations=10, depth=3, verbose=False).fit(table, target)
    model.save_model(str(saved.path("m.cbm")))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen))


@case("catboost-json", "", 'CatBoostClassifier of three classes, `save_model(format="json")`', "light", CATBOOST)
def catboost_json(saved):
    from catboost import CatBoostClassifier

    table, target, unseen = irises()
    model = CatBoostClassifier(iterations=10, depth=3, verbose=False).fit(table, target)
    model.save_model(str(saved.path("m.json")), format="json")
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))


@case("catboost-joblib", "6b", "CatBoostClassifier with categories, joblib", "light", CATBOOST + " joblib", light=True)
def catboost_joblib(saved):
    import joblib
    from catboost import CatBoostClassifier

    table, target, unseen = customers()
    model = CatBoostClassifier(iterations=10, depth=3, verbose=False, cat_features=["city", "plan"]).fit(table, target)
    joblib.dump(model, saved.path("cat.joblib"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))
