"""Saves models with MLflow, with the Python of the zoo's environment `mlflow`: models.py PLACE NAME…

The first four are of the flavours that have a loader of their own here, or a `code` folder. The others take apart what they are
given, and tell it: that is how a signature is seen.
"""

import datetime
import os
import pathlib
import shutil
import sys
import warnings

MODELS = {}


def model(function):
    MODELS[function.__name__] = function
    return function


def irises():
    from sklearn.datasets import load_iris

    data = load_iris(as_frame=True)
    return data.data, data.target


@model
def sklearn(place):
    import mlflow
    from sklearn.linear_model import LogisticRegression

    table, target = irises()
    fitted = LogisticRegression(max_iter=500).fit(table, target)
    signature = mlflow.models.infer_signature(table, fitted.predict_proba(table))
    mlflow.sklearn.save_model(
        fitted, place, signature=signature, input_example=table[:2], pyfunc_predict_fn="predict_proba"
    )


@model
def xgboost(place):
    import mlflow
    from xgboost import XGBRegressor

    table, target = irises()
    fitted = XGBRegressor(n_estimators=8, max_depth=3).fit(table, target)
    mlflow.xgboost.save_model(fitted, place, signature=mlflow.models.infer_signature(table, fitted.predict(table)))


@model
def onnx(place):
    import mlflow
    import numpy
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(numpy.arange(12, dtype=numpy.float32).reshape(4, 3) / 10, "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "weights"], ["scores"])],
        "scores",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, 3])],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    array = irises()[0].to_numpy().astype("float32")
    signature = mlflow.models.infer_signature(array, array[:, :3])
    mlflow.onnx.save_model(made, place, signature=signature, input_example=array[:2])


SCALES = """\
def scaled(table, factor):
    return [row * factor for row in table.sum(axis=1)]
"""

SCALER = """
import mlflow

from scales import scaled


class Scaler(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return scaled(model_input, params["factor"])
"""


@model
def pyfunc(place):
    import mlflow

    pathlib.Path("scales.py").write_text(SCALES)
    space = {"__name__": "__main__"}
    exec(SCALER, space)
    table, _ = irises()
    signature = mlflow.models.infer_signature(table, [1.0], params={"factor": 2.0})
    mlflow.pyfunc.save_model(place, python_model=space["Scaler"](), code_paths=["scales.py"], signature=signature)


@model
def lightgbm(place):
    import mlflow
    from lightgbm import LGBMClassifier

    table, target = irises()
    table = table.set_axis(["a", "b", "c", "d"], axis=1)
    fitted = LGBMClassifier(n_estimators=8, num_leaves=4, verbose=-1).fit(table, target)
    mlflow.lightgbm.save_model(fitted, place, signature=mlflow.models.infer_signature(table, fitted.predict(table)))


@model
def booster(place):
    """XGBoost's own class, which is given its own kind of table."""
    import mlflow
    import xgboost

    table, target = irises()
    fitted = xgboost.train({"max_depth": 3}, xgboost.DMatrix(table, target), num_boost_round=8)
    mlflow.xgboost.save_model(fitted, place, signature=mlflow.models.infer_signature(table, [1.0]))


ECHO = """
import mlflow


class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        import numpy
        import pandas

        def written(value):
            # With pyarrow pandas has Python's own texts in the place of numpy's, which are texts as well.
            return repr(str(value) if isinstance(value, str) else value)

        def told(value):
            if isinstance(value, pandas.DataFrame):
                columns = {str(name): [written(one) for one in value[name]] for name in value.columns}
                types = {str(name): str(kind) for name, kind in value.dtypes.items()}
                return {"columns": columns, "types": types, "index": [str(one) for one in value.index]}
            if isinstance(value, numpy.ndarray):
                return {"array": repr(value.tolist()), "dtype": str(value.dtype), "shape": list(value.shape)}
            if isinstance(value, dict):
                return {str(name): told(one) for name, one in value.items()}
            return [told(one) for one in value] if isinstance(value, list) else [type(value).__name__, repr(value)]

        return {"data": told(model_input), "params": told(params)}
"""


def echo(place, inputs=(), params=()):
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, Schema
    from mlflow.types.schema import AnyType

    space = {"__name__": "__main__"}
    exec(ECHO, space)
    signature = None
    if inputs or params:
        signature = ModelSignature(
            inputs=Schema(list(inputs)),
            outputs=Schema([ColSpec(AnyType())]),
            params=ParamSchema(list(params)) if params else None,
        )
    mlflow.pyfunc.save_model(place, python_model=space["Echo"](), signature=signature)


@model
def mixed(place):
    from mlflow.types import ColSpec, DataType, ParamSpec

    kinds = {"d": "double", "f": "float", "l": "long", "i": "integer", "s": "string", "b": "boolean", "t": "datetime"}
    inputs = [ColSpec(kind, name) for name, kind in kinds.items()]
    inputs += [ColSpec("binary", "x", required=False), ColSpec("double", "o", required=False)]
    params = [
        ParamSpec("temperature", DataType.float, 0.5),
        ParamSpec("k", DataType.integer, 3),
        ParamSpec("words", DataType.string, ["a"], (-1,)),
        ParamSpec("when", DataType.datetime, datetime.datetime(2024, 1, 2)),
        ParamSpec("name", DataType.string, None),
    ]
    echo(place, inputs, params)


@model
def doubles(place):
    from mlflow.types import ColSpec

    echo(place, [ColSpec("double", name) for name in "abc"])


@model
def longs(place):
    from mlflow.types import ColSpec

    echo(place, [ColSpec("long", name) for name in "ab"])


@model
def floats(place):
    from mlflow.types import ColSpec

    echo(place, [ColSpec("float", name) for name in "ab"])


@model
def integer(place):
    from mlflow.types import ColSpec

    echo(place, [ColSpec("integer", "a")])


@model
def unnamed(place):
    from mlflow.types import ColSpec

    echo(place, [ColSpec("double"), ColSpec("long")])


@model
def text(place):
    from mlflow.types import ColSpec

    echo(place, [ColSpec("string", "text")])


@model
def nested(place):
    from mlflow.types import ColSpec, DataType
    from mlflow.types.schema import AnyType, Array, Map, Object, Property

    inner = Object([Property("n", DataType.string), Property("q", DataType.long, required=False)])
    inputs = [ColSpec(Array(DataType.double), "v"), ColSpec(inner, "o"), ColSpec(Map(DataType.double), "m")]
    inputs += [ColSpec(Array(Array(DataType.string)), "w", required=False), ColSpec(AnyType(), "z", required=False)]
    echo(place, inputs)


def tensors(place, **shapes):
    import numpy
    from mlflow.types import TensorSpec

    echo(place, [TensorSpec(numpy.dtype(kind), shape, name or None) for name, (kind, shape) in shapes.items()])


@model
def tensor(place):
    tensors(place, **{"": ("float32", (-1, 3))})


@model
def arrays(place):
    tensors(place, p=("float64", (-1, 2)), q=("int64", (-1,)), r=("str", (-1,)))


@model
def image(place):
    tensors(place, **{"": ("uint8", (-1, 2, 2, 1))})


@model
def anything(place):
    echo(place)


HINTS = """\
import mlflow


class Greeter(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:
        return [f"hello {name}" for name in model_input]


mlflow.models.set_model(Greeter())
"""


@model
def hints(place):
    import mlflow

    pathlib.Path("greeter.py").write_text(HINTS)
    mlflow.pyfunc.save_model(place, python_model="greeter.py")


def main():
    place = pathlib.Path(sys.argv[1]).resolve()
    warnings.simplefilter("ignore")
    for name in sys.argv[2:]:
        # They are called as their modules.
        scratch = place / f".{name}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        os.chdir(scratch)
        sys.path.insert(0, str(scratch))
        MODELS[name](str(scratch / "model"))
        shutil.rmtree(place / name, ignore_errors=True)
        (scratch / "model").rename(place / name)
        os.chdir(place)
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
