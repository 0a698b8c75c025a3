import bentoml
from bentoml.io import JSON

runner = bentoml.sklearn.get("iris:1").to_runner()
svc = bentoml.Service("runner", runners=[runner])


@svc.api(input=JSON(), output=JSON())
def classify(request):
    return runner.predict.run(request["features"]).tolist()
