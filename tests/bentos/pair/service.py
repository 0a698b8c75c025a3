import bentoml


@bentoml.service
class Scaler:
    @bentoml.api
    def scale(self, features: list[list[float]]) -> list[list[float]]:
        return [[value / 10 for value in row] for row in features]


@bentoml.service
class Classifier:
    scaler = bentoml.depends(Scaler)

    def __init__(self):
        self.model = bentoml.sklearn.load_model("iris:1")

    @bentoml.api
    def classify(self, millimetres: list[list[float]]) -> list[int]:
        return self.model.predict(self.scaler.scale(features=millimetres)).tolist()
