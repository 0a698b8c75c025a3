"""The routes of KServe's Open Inference Protocol, version 2
(https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md), for a function of arrays.

A tensor of the request is the parameter of its name, as an array; where the function has one parameter and the request one
tensor, its name may be another. What comes back is an array, or a dictionary of them.
"""

from __future__ import annotations

import inspect
import json
from typing import Any, Dict, List, Optional

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import app, log
from .load import Caller

# What the protocol calls the types of numpy.
TYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "object",
}
NAMES = {of: name for name, of in TYPES.items()}


class Wrong(Exception):
    """What a request says cannot be done."""

    def __init__(self, message: str, status: int = 400) -> None:
        self.status = status
        super().__init__(message)


def routes(service: app.Service, endpoint: app.Endpoint, settings: Dict[str, Any]) -> List[Route]:
    """Those of the protocol, which give the requests to a function that is served anyway."""
    name, version = settings["name"], settings["version"]
    model = Model(service, endpoint, name, version)
    found = [Route("/v2", model.server), Route("/v2/health/live", model.live), Route("/v2/health/ready", model.ready)]
    for path in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{version}"):
        found += [Route(path, model.metadata), Route(f"{path}/ready", model.ready)]
        found.append(Route(f"{path}/infer", model.infer, methods=["POST"]))
    return found


class Model:
    def __init__(self, service: app.Service, endpoint: app.Endpoint, name: str, version: str) -> None:
        self.service, self.endpoint, self.name, self.version = service, endpoint, name, version
        parameters = inspect.signature(endpoint.function.call).parameters.values()
        self.parameters = [one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]

    async def server(self, _: Request) -> Response:
        return JSONResponse({"name": "ekiben", "version": self.version, "extensions": []})

    async def live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        ready = self.service.state.status == "ok"
        return JSONResponse({"name": self.name, "ready": ready}, 200 if ready else 503)

    async def metadata(self, _: Request) -> Response:
        # Neither types nor shapes are known before a request comes.
        told: Dict[str, Any] = {"name": self.name, "versions": [self.version], "platform": "python"}
        return JSONResponse({**told, "inputs": [], "outputs": []})

    async def infer(self, request: Request) -> Response:
        try:
            self.endpoint.places.check()
            body = await app.whole(request, self.endpoint.function.largest)
            if body is None:
                raise Wrong("the body is too large", 413)
            return await self.answer(request, body)
        except ClientDisconnect:
            raise
        except Wrong as error:
            return failed(error)
        except Exception as error:
            status, text, headers = await app.in_words(request, error)
            return failed(Wrong(text, status), headers)

    async def answer(self, request: Request, body: bytes) -> Response:
        if "inference-header-content-length" in request.headers:
            raise Wrong("tensors are sent as JSON, without the extension for binary data", 415)
        try:
            asked = json.loads(body)
        except ValueError:
            raise Wrong("the body is no JSON") from None
        inputs = asked.get("inputs") if isinstance(asked, dict) else None
        if not isinstance(inputs, list) or not inputs:
            raise Wrong("`inputs` is a list of tensors")
        arguments = {}
        for tensor in inputs:
            name, value = array(tensor)
            if name not in self.parameters and len(inputs) == 1 and len(self.parameters) == 1:
                name = self.parameters[0]
            if name not in self.parameters or name in arguments:
                raise Wrong(f"the function takes {', '.join(self.parameters)}, each once, and not {name}")
            arguments[name] = value
        work = self.endpoint.function.bind(arguments)
        load = self.service.load
        caller: Caller = load.caller(request.receive)
        if self.endpoint.function.is_async:
            result = await load.task(work, caller)
        else:
            result = await load.thread(work, caller, self.endpoint.places)
        named = result if isinstance(result, dict) else {"output": result}
        outputs = [tensor_of(name, value) for name, value in named.items()]
        wanted = {one.get("name") for one in asked.get("outputs") or []}
        if wanted:
            missing = wanted - {output["name"] for output in outputs}
            if missing:
                raise Wrong(f"there is no output {', '.join(map(str, missing))}")
            outputs = [output for output in outputs if output["name"] in wanted]
        name = asked.get("id") or log.request_id.get()
        answer = {"model_name": self.name, "model_version": self.version, "id": name, "outputs": outputs}
        return Response(self.endpoint.function.encode(answer), media_type="application/json")


def array(tensor: Any) -> Any:
    """The name and the array of a tensor."""
    import numpy

    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise Wrong("a tensor has a name")
    name, kind, shape = tensor["name"], TYPES.get(tensor.get("datatype", "")), tensor.get("shape")
    if kind is None:
        raise Wrong(f"the tensor {name} has no datatype of {', '.join(TYPES)}")
    is_size = [isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in shape or []]
    if not isinstance(shape, list) or not all(is_size):
        raise Wrong(f"the shape of the tensor {name} is a list of sizes")
    try:
        value = numpy.asarray(tensor.get("data"), dtype=kind)
        return name, value.reshape(shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise Wrong(f"the data of the tensor {name} is not as its datatype and its shape say: {error}") from None


def tensor_of(name: str, value: Any) -> Dict[str, Any]:
    import numpy

    whole = numpy.asarray(value)
    kind = "BYTES" if whole.dtype.kind in "USO" else NAMES.get(whole.dtype.name)
    if kind is None:
        raise TypeError(f"the protocol has no datatype for {whole.dtype}")
    # Row after row, as the protocol has it.
    return {"name": name, "shape": list(whole.shape), "datatype": kind, "data": whole.ravel().tolist()}


def failed(error: Wrong, headers: Optional[Dict[str, str]] = None) -> Response:
    return JSONResponse({"error": str(error)}, error.status, headers)
