"""Folders of MLflow's."""

from ..case import case
from .own import written
from .scikit import column_pipeline, customers, iris_arrays, irises

MLFLOW = "mlflow scikit-learn pandas numpy"


def loaded(saved, asked):
    """What MLflow itself answers: it is the folder that is loaded, with its casts."""
    import mlflow

    return mlflow.pyfunc.load_model(str(saved.model)).predict(asked)


def regression(table, target):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500).fit(table, target)


@case("mlflow-sklearn-skops", "12a", "MLflow sklearn (skops), signature", "mlflow", MLFLOW + " skops")
def mlflow_sklearn_skops(saved):
    import mlflow

    table, target, unseen = irises()
    model = regression(table, target)
    mlflow.sklearn.save_model(
        model,
        saved.path("iris"),
        serialization_format="skops",
        signature=mlflow.models.infer_signature(table, model.predict(table)),
    )
    saved.ask(records=unseen)
    saved.answer("predict", predict=loaded(saved, unseen), predict_proba=model.predict_proba(unseen))


@case(
    "mlflow-sklearn-cloudpickle", "12a2", "MLflow sklearn (cloudpickle), signature", "mlflow", MLFLOW + " cloudpickle"
)
def mlflow_sklearn_cloudpickle(saved):
    import mlflow

    table, target, unseen = customers()
    model = column_pipeline().fit(table, target)
    mlflow.sklearn.save_model(
        model,
        saved.path("churn"),
        serialization_format="cloudpickle",
        signature=mlflow.models.infer_signature(table, model.predict(table)),
    )
    saved.ask(records=unseen)
    saved.answer("predict", predict=loaded(saved, unseen), predict_proba=model.predict_proba(unseen))


@case("mlflow-whole-numbers", "+", "MLflow sklearn, whole numbers for `double` columns", "mlflow", MLFLOW)
def mlflow_whole_numbers(saved):
    import mlflow

    table, target, _ = irises()
    model = regression(table, target)
    mlflow.sklearn.save_model(
        model, saved.path("iris"), signature=mlflow.models.infer_signature(table, model.predict(table))
    )
    asked = table[:3].round().astype("int64")
    saved.ask(records=asked)
    saved.answer("predict", predict=loaded(saved, asked.astype("float64")))


FLAVOUR = """\
import mlflow

from scales import scaled


class Scaler(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return scaled(model_input["x"], model_input["factor"]).tolist()
"""

SCALES = """\
def scaled(values, factors):
    return values * factors + 1.0
"""


@case("mlflow-python-model", "12b", "MLflow PythonModel with `code_paths`", "mlflow", MLFLOW)
def mlflow_python_model(saved):
    import pathlib

    import mlflow
    import pandas

    table = pandas.DataFrame({"x": [1.0, 2.5], "factor": [2.0, -1.0]})
    written(pathlib.Path("."), "scales", SCALES)
    space = {"__name__": "__main__"}
    exec(FLAVOUR, space)
    mlflow.pyfunc.save_model(
        saved.path("scaler"),
        python_model=space["Scaler"](),
        code_paths=["scales.py"],
        signature=mlflow.models.infer_signature(table, [1.0, 2.0]),
    )
    saved.code = True
    unseen = pandas.DataFrame({"x": [0.5, 8.0, -3.25], "factor": [3.0, 0.5, 2.0]})
    saved.ask(records=unseen)
    saved.answer("predict", predict=loaded(saved, unseen))


CODE = """\
import mlflow


class Greeter(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:
        return [f"hello {name}" for name in model_input]


mlflow.models.set_model(Greeter())
"""


@case("mlflow-model-from-code", "", "MLflow PythonModel from code, by type hints", "mlflow", MLFLOW)
def mlflow_model_from_code(saved):
    import pathlib

    import mlflow

    path = pathlib.Path("greeter.py")
    path.write_text(CODE)
    mlflow.pyfunc.save_model(saved.path("greeter"), python_model=str(path))
    saved.ask(texts=["Ada", "Grace"])
    saved.answer("predict", predict=loaded(saved, ["Ada", "Grace"]))


@case("mlflow-xgboost", "12c", "MLflow xgboost, signature", "mlflow", MLFLOW + " xgboost")
def mlflow_xgboost(saved):
    import mlflow
    from xgboost import XGBClassifier

    table, target, unseen = irises()
    model = XGBClassifier(n_estimators=8, max_depth=3).fit(table, target)
    mlflow.xgboost.save_model(
        model, saved.path("iris"), signature=mlflow.models.infer_signature(table, model.predict(table))
    )
    saved.ask(records=unseen)
    saved.answer("predict", predict=loaded(saved, unseen))


@case("mlflow-lightgbm", "", "MLflow lightgbm, signature", "mlflow", MLFLOW + " lightgbm")
def mlflow_lightgbm(saved):
    import mlflow
    from lightgbm import LGBMRegressor
    from sklearn.datasets import load_diabetes

    data = load_diabetes(as_frame=True)
    model = LGBMRegressor(n_estimators=8, num_leaves=4, verbose=-1).fit(data.data[:400], data.target[:400])
    unseen = data.data[400:404].reset_index(drop=True)
    mlflow.lightgbm.save_model(
        model, saved.path("diabetes"), signature=mlflow.models.infer_signature(unseen, model.predict(unseen))
    )
    saved.ask(records=unseen)
    saved.answer("predict", predict=loaded(saved, unseen))


@case("mlflow-no-signature", "12d/e", "MLflow sklearn without signature", "mlflow", MLFLOW)
def mlflow_no_signature(saved):
    import mlflow

    data, target, unseen = iris_arrays()
    mlflow.sklearn.save_model(regression(data, target), saved.path("iris"))
    saved.ask(rows=unseen)
    saved.answer("predict", predict=loaded(saved, unseen))


@case("mlflow-python-no-signature", "12d/e", "MLflow PythonModel without signature", "mlflow", MLFLOW)
def mlflow_python_no_signature(saved):
    import mlflow

    space = {"__name__": "__main__"}
    exec(
        FLAVOUR.replace("from scales import scaled\n", "").replace(
            'scaled(model_input["x"], model_input["factor"]).tolist()', "[len(str(one)) for one in model_input]"
        ),
        space,
    )
    mlflow.pyfunc.save_model(saved.path("lengths"), python_model=space["Scaler"]())
    saved.lacking = "an example of what it takes"
    saved.code = True
    saved.ask(texts=["three", "seventeen"])
    saved.answer("predict", predict=loaded(saved, ["three", "seventeen"]))


@case(
    "mlflow-input-example", "+", "MLflow sklearn with an input example (`serving_input_example.json`)", "mlflow", MLFLOW
)
def mlflow_input_example(saved):
    import mlflow

    table, target, unseen = irises()
    mlflow.sklearn.save_model(regression(table, target), saved.path("iris"), input_example=table[:2])
    saved.ask(records=unseen)
    saved.answer("predict", predict=loaded(saved, unseen))


@case("mlflow-tensor", "+", "MLflow sklearn with a signature of tensors", "mlflow", MLFLOW)
def mlflow_tensor(saved):
    import mlflow

    data, target, unseen = iris_arrays()
    model = regression(data, target)
    mlflow.sklearn.save_model(
        model, saved.path("iris"), signature=mlflow.models.infer_signature(data, model.predict(data))
    )
    saved.ask(rows=unseen)
    saved.answer("predict", predict=loaded(saved, unseen))
