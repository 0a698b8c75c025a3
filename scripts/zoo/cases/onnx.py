"""ONNX, as skl2onnx and onnxmltools write it."""

from ..case import case
from .scikit import customers, iris_arrays

ONNX = "onnx onnxruntime skl2onnx scikit-learn numpy"


def answers(path, inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    return {output.name: value for output, value in zip(session.get_outputs(), session.run(None, inputs))}


@case("onnx-table", "9", "ONNX of a ColumnTransformer: two floats and two texts", "light", ONNX, light=True)
def onnx_table(saved):
    import numpy
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    from .scikit import column_pipeline

    table, target, unseen = customers()
    model = column_pipeline().fit(table, target)
    kinds = [
        ("age", FloatTensorType([None, 1])),
        ("income", FloatTensorType([None, 1])),
        ("city", StringTensorType([None, 1])),
        ("plan", StringTensorType([None, 1])),
    ]
    path = saved.path("churn.onnx")
    path.write_bytes(to_onnx(model, initial_types=kinds, options={"zipmap": False}).SerializeToString())
    inputs = {
        name: unseen[[name]].to_numpy(dtype=numpy.float32 if name in ("age", "income") else object)
        for name in table.columns
    }
    saved.ask(records=unseen, tensors=inputs)
    found = answers(path, inputs)
    saved.answer("all label", all=found, label=found["label"], probabilities=found["probabilities"])


@case("onnx-matrix", "9b", "ONNX of one matrix", "light", ONNX, light=True)
def onnx_matrix(saved):
    import numpy
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestClassifier

    data, target, unseen = iris_arrays()
    model = RandomForestClassifier(8, max_depth=3, random_state=0).fit(data, target)
    path = saved.path("iris.onnx")
    path.write_bytes(to_onnx(model, data[:1].astype(numpy.float32), options={"zipmap": False}).SerializeToString())
    unseen = unseen.astype(numpy.float32)
    saved.ask(rows=unseen, tensors={"X": unseen})
    found = answers(path, {"X": unseen})
    saved.answer("all label", all=found, label=found["label"], probabilities=found["probabilities"])


@case("onnx-zipmap", "+", "ONNX of a classifier with its probabilities as maps (skl2onnx's default)", "light", ONNX)
def onnx_zipmap(saved):
    import numpy
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    data, target, unseen = iris_arrays()
    model = LogisticRegression(max_iter=500).fit(data, target)
    path = saved.path("iris.onnx")
    path.write_bytes(to_onnx(model, data[:1].astype(numpy.float32)).SerializeToString())
    unseen = unseen.astype(numpy.float32)
    saved.ask(rows=unseen, tensors={"X": unseen})
    found = answers(path, {"X": unseen})
    saved.answer("all label", all=found, label=found["output_label"])


@case("onnx-image", "+", "ONNX of a small convolution over images", "light", ONNX)
def onnx_image(saved):
    import numpy
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = numpy.random.default_rng(0)
    weights = numpy_helper.from_array(random.normal(size=(4, 3, 3, 3)).astype(numpy.float32), "weights")
    nodes = [
        helper.make_node("Conv", ["image", "weights"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])],
        [weights],
    )
    path = saved.path("net.onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    asked = random.random((2, 3, 8, 8)).astype(numpy.float32)
    saved.ask(rows=asked, tensors={"image": asked})
    found = answers(path, {"image": asked})
    saved.answer("logits all", all=found, logits=found["logits"])
