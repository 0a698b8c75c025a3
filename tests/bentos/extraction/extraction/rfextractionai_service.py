"""Answers as the services of konfuzio-sdk do: `/extract`, and the project's metadata beside it."""

import json
import os

import bentoml
from base.base_services import PicklableModelService
from fastapi import FastAPI, HTTPException

from .schemas import ExtractRequest20241227, ExtractResponse20240117

TOP = os.path.dirname(os.path.dirname(__file__))
with open(os.path.join(TOP, "AI_MODEL_NAME")) as file:
    name = file.read().strip()

app = FastAPI()


@bentoml.service(traffic={"timeout": 3600, "max_concurrency": 2})
@bentoml.mount_asgi_app(app, path="/v1")
class ExtractionService(PicklableModelService):
    model_ref = bentoml.models.get(name)

    @bentoml.api(input_spec=ExtractRequest20241227)
    async def extract(self, ctx: bentoml.Context, **request) -> ExtractResponse20240117:
        model = await self.loading
        credentials = [key for key in ctx.request.headers if key.startswith("env_")]
        return ExtractResponse20240117(annotation_sets=model(request["text"]), credentials=sorted(credentials))


@app.get("/project-metadata")
async def project_metadata():
    try:
        with open(os.path.join(TOP, "categories_and_labels_data.json5")) as file:
            return json.load(file)
    except FileNotFoundError:
        raise HTTPException(status_code=404, detail="Project metadata not found")
