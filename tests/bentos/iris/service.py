import bentoml


@bentoml.service
class Iris:
    def __init__(self):
        self.model = bentoml.sklearn.load_model("iris:1")

    @bentoml.api
    def classify(self, features: list[list[float]]) -> list[int]:
        return self.model.predict(features).tolist()
