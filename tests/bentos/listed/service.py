import bentoml


@bentoml.service
class Listed:
    # Only here: no `models` in what BentoML builds from, so the bento lists it under its service alone.
    iris = bentoml.models.get("iris:1")

    def __init__(self):
        self.model = bentoml.sklearn.load_model(self.iris)

    @bentoml.api
    def classify(self, features: list[list[float]]) -> list[int]:
        return self.model.predict(features).tolist()
