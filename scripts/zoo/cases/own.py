"""Classes that people write themselves, and cloudpickle's code by value."""

from ..case import case

MODULE = '''\
class Celsius:
    """Turns degrees Fahrenheit into degrees Celsius, with a correction that was learnt."""

    def fit(self, readings, truth):
        errors = [true - (reading - 32) / 1.8 for reading, true in zip(readings, truth)]
        self.correction = sum(errors) / len(errors)
        return self

    def predict(self, readings):
        return [(reading - 32) / 1.8 + self.correction for reading in readings]
'''

STEP = '''\
from sklearn.base import BaseEstimator, TransformerMixin


class Ratio(TransformerMixin, BaseEstimator):
    """Adds the ratio of the first two columns."""

    def fit(self, table, target=None):
        return self

    def transform(self, table):
        table = table.copy()
        table["ratio"] = table.iloc[:, 0] / table.iloc[:, 1]
        return table
'''


def written(folder, name, text):
    """Writes code into a folder, and imports it as a script that lies there would."""
    import importlib
    import sys

    (folder / f"{name}.py").write_text(text)
    sys.path.insert(0, str(folder.resolve()))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


@case("own-class", "13a", "a class of `mymodel.py`, which lies beside the pickle", "light", "", light=True)
def own_class(saved):
    import pickle

    saved.lacking = "an example of what it takes"
    model = written(saved.folder, "mymodel", MODULE).Celsius().fit([32, 212], [0.5, 100.5])
    with open(saved.path("model.pkl"), "wb") as file:
        pickle.dump(model, file)
    saved.ask(value=[50, 68.5, 99], rows=[50, 68.5, 99])
    saved.answer("predict", predict=model.predict([50, 68.5, 99]))


@case(
    "own-step",
    "+",
    "a scikit-learn Pipeline with a step of `features.py`, beside it, joblib",
    "light",
    "scikit-learn pandas joblib",
    light=True,
)
def own_step(saved):
    import joblib
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from .scikit import irises

    saved.lacking = "the columns that its own step takes"
    table, target, unseen = irises()
    model = make_pipeline(written(saved.folder, "features", STEP).Ratio(), LogisticRegression(max_iter=500)).fit(
        table, target
    )
    joblib.dump(model, saved.path("pipeline.joblib"))
    saved.ask(records=unseen)
    saved.answer("predict", predict=model.predict(unseen), predict_proba=model.predict_proba(unseen))


def by_value(saved, name):
    """An object whose class is of no module: cloudpickle writes its code."""
    import cloudpickle

    space = {"__name__": "__main__"}
    exec(MODULE, space)
    model = space["Celsius"]().fit([32, 212], [0.5, 100.5])
    with open(saved.path(name), "wb") as file:
        cloudpickle.dump(model, file)
    saved.code = True
    saved.lacking = "an example of what it takes"
    saved.ask(value=[50, 68.5, 99], rows=[50, 68.5, 99])
    saved.answer("predict", predict=model.predict([50, 68.5, 99]))


@case("cloudpickle-by-value", "13b", "a class of a notebook, cloudpickle by value", "light", "cloudpickle", light=True)
def cloudpickle_by_value(saved):
    by_value(saved, "model.pkl")


@case("cloudpickle-313", "+", "the same, saved on Python 3.13", "python-3.13", "cloudpickle")
def cloudpickle_313(saved):
    by_value(saved, "model.pkl")


@case("cloudpickle-function", "+", "a function, cloudpickle by value", "light", "cloudpickle numpy")
def cloudpickle_function(saved):
    import cloudpickle

    space = {"__name__": "__main__"}
    exec(
        "import numpy\n\ndef predict(rows):\n    return numpy.asarray(rows).sum(axis=1) * scale\n\nscale = 2.5\n", space
    )
    with open(saved.path("function.pkl"), "wb") as file:
        cloudpickle.dump(space["predict"], file)
    saved.code = True
    saved.lacking = "an example of what it takes"
    saved.ask(rows=[[1, 2], [3.5, 4]])
    saved.answer("predict", predict=space["predict"]([[1, 2], [3.5, 4]]))


@case("plain-pickle", "+", "a plain value: a table of rates, pickle", "light", "")
def plain_pickle(saved):
    import pickle

    rates = {"EUR": 1.0, "USD": 1.08, "GBP": 0.86}
    with open(saved.path("rates.pkl"), "wb") as file:
        pickle.dump(rates, file)
    saved.ask(texts=["USD", "GBP"])
    saved.answer("lookup", lookup=[rates["USD"], rates["GBP"]])
    saved.lacking = "what is to be done with the values"
