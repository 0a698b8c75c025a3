"""Keras and TensorFlow: `.keras`, `.h5`, SavedModel, TFLite."""

from ..case import case

KERAS = "keras tensorflow-cpu numpy"


def network():
    import keras
    import numpy

    keras.utils.set_random_seed(1)
    random = numpy.random.default_rng(1)
    data = random.random((200, 4)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((4,), name="measures"),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(data[:190], (data[:190].sum(axis=1) * 3 / 4).astype(int), epochs=2, verbose=0)
    return model, data[190:194]


def two_inputs():
    import keras
    import numpy

    keras.utils.set_random_seed(2)
    random = numpy.random.default_rng(2)
    image = keras.Input((8, 8, 1), name="image")
    facts = keras.Input((3,), name="facts")
    joined = keras.layers.Concatenate()([keras.layers.Flatten()(image), facts])
    model = keras.Model([image, facts], keras.layers.Dense(1, activation="sigmoid", name="chance")(joined))
    model.compile("adam", "binary_crossentropy")
    data = {"image": random.random((40, 8, 8, 1)).astype("float32"), "facts": random.random((40, 3)).astype("float32")}
    model.fit(data, (data["facts"].sum(axis=1) > 1.5).astype("float32"), epochs=1, verbose=0)
    return model, {name: random.random((2, *value.shape[1:])).astype("float32") for name, value in data.items()}


@case("keras", "8", "Keras 3, `model.keras`", "keras", KERAS)
def keras(saved):
    model, unseen = network()
    model.save(saved.path("model.keras"))
    saved.ask(rows=unseen, tensors={"measures": unseen})
    saved.answer("predict", predict=model.predict(unseen, verbose=0))


@case("keras-two-inputs", "8c", "Keras 3 with two inputs, `.keras`", "keras", KERAS)
def keras_two_inputs(saved):
    model, unseen = two_inputs()
    model.save(saved.path("model.keras"))
    saved.ask(tensors=unseen)
    saved.answer("predict", predict=model.predict(unseen, verbose=0))


@case("keras-image", "", "Keras 3, a convolution over images, `.keras`", "keras", KERAS)
def keras_image(saved):
    import keras
    import numpy

    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.save(saved.path("images.keras"))
    unseen = numpy.random.default_rng(3).integers(0, 256, (2, 16, 16, 3)).astype("float32")
    saved.ask(rows=unseen)
    saved.answer("predict", predict=model.predict(unseen, verbose=0))


@case("keras-texts", "", "Keras 3 with TextVectorization: it takes texts, `.keras`", "keras", KERAS)
def keras_texts(saved):
    import keras
    import tensorflow

    from .scikit import reviews

    keras.utils.set_random_seed(4)
    texts, _, unseen = reviews()
    words = keras.layers.TextVectorization(output_mode="multi_hot", max_tokens=40)
    words.adapt(texts)
    model = keras.Sequential([keras.Input((1,), dtype="string"), words, keras.layers.Dense(2, activation="softmax")])
    model.save(saved.path("texts.keras"))
    saved.ask(texts=unseen, rows=[[text] for text in unseen])
    saved.answer("predict", predict=model.predict(tensorflow.constant([[text] for text in unseen]), verbose=0))


@case("keras-h5", "", "Keras, the older whole-model `.h5`", "keras", KERAS)
def keras_h5(saved):
    model, unseen = network()
    model.save(saved.path("model.h5"))
    saved.ask(rows=unseen)
    saved.answer("predict", predict=model.predict(unseen, verbose=0))


@case("keras-weights", "", "Keras weights alone, `.weights.h5`", "keras", KERAS)
def keras_weights(saved):
    model, unseen = network()
    model.save_weights(saved.path("model.weights.h5"))
    saved.ask(rows=unseen)
    saved.answer("predict", predict=model.predict(unseen, verbose=0))
    saved.lacking = "the net"


@case("savedmodel", "10a", "SavedModel, `model.export`", "keras", KERAS)
def savedmodel(saved):
    model, unseen = network()
    model.export(str(saved.path("classifier")), verbose=False)
    saved.ask(rows=unseen, tensors={"measures": unseen})
    saved.answer(
        "serve outputs", serve=model.predict(unseen, verbose=0), outputs={"output_0": model.predict(unseen, verbose=0)}
    )


@case("savedmodel-module", "", "SavedModel of a tf.Module with two named inputs and outputs", "keras", KERAS)
def savedmodel_module(saved):
    import tensorflow

    class Line(tensorflow.Module):
        def __init__(self):
            self.slope = tensorflow.Variable(2.5)

        @tensorflow.function(
            input_signature=[
                tensorflow.TensorSpec([None], tensorflow.float32, "x"),
                tensorflow.TensorSpec([None], tensorflow.float32, "offset"),
            ]
        )
        def __call__(self, x, offset):
            return {"y": self.slope * x + offset, "twice": 2 * x}

    line = Line()
    tensorflow.saved_model.save(line, str(saved.path("line")))
    asked = {"x": tensorflow.constant([1.0, 2.5]), "offset": tensorflow.constant([0.5, -1.0])}
    saved.ask(tensors=asked)
    saved.answer("serve", serve=line(**asked))


@case("tflite", "10b", "TFLite, `TFLiteConverter.from_keras_model`", "keras", "tensorflow-cpu ai-edge-litert numpy")
def tflite(saved):
    import tensorflow
    from ai_edge_litert.interpreter import Interpreter

    model, unseen = network()
    path = saved.path("model.tflite")
    path.write_bytes(tensorflow.lite.TFLiteConverter.from_keras_model(model).convert())
    runner = Interpreter(model_path=str(path)).get_signature_runner()
    name = list(runner.get_input_details())[0]
    found = runner(**{name: unseen})
    saved.ask(rows=unseen, tensors={name: unseen})
    saved.answer("outputs predict", outputs=found, predict=list(found.values())[0])
