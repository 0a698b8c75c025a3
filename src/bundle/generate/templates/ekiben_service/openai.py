"""The routes of OpenAI's API (https://platform.openai.com/docs/api-reference), for clients that know these alone.

A function is given what it has parameters for: `messages`, `prompt` or texts as its first, and those of a request's other
members that it names, or all of them where it takes any (`**options`).
"""

from __future__ import annotations

import base64
import inspect
import json
import secrets
import time
from abc import abstractmethod
from array import array
from pathlib import Path
from typing import Any, Dict, List, Optional

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import app, stream
from .function import Function
from .load import Places
from .stream import END, EVENTS, GONE

# What the service itself understands.
OWN = {"model", "messages", "prompt", "input", "stream", "stream_options", "n", "encoding_format"}


class Wrong(Exception):
    """What a request says cannot be done."""

    def __init__(self, message: str, parameter: Optional[str] = None, status: int = 400, code: Optional[str] = None):
        self.parameter, self.status, self.code = parameter, status, code
        super().__init__(message)


def routes(service: app.Service, root: Path, settings: Dict[str, Any]) -> List[Route]:
    name, created = settings["name"], int(time.time())
    model = {"id": name, "object": "model", "created": created, "owned_by": "ekiben"}

    async def models(_: Request) -> Response:
        return JSONResponse({"object": "list", "data": [model]})

    async def one(request: Request) -> Response:
        if request.path_params["name"] != name:
            return failed(unknown(request.path_params["name"]))
        return JSONResponse(model)

    found = [Route("/v1/models", models), Route("/v1/models/{name}", one)]
    for kind, (path, endpoint) in KINDS.items():
        if kind in settings["openai"]:
            entry = settings["openai"][kind]
            answer = endpoint(Function(root, entry, settings), service, entry, name).answer
            found.append(Route(path, answer, methods=["POST"]))
    return found


def unknown(name: Any) -> Wrong:
    return Wrong(f"the model `{name}` does not exist", "model", 404, "model_not_found")


def failed(error: Wrong, headers: Optional[Dict[str, str]] = None) -> Response:
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    told = {"message": str(error), "type": kind, "param": error.parameter, "code": error.code}
    return JSONResponse({"error": told}, error.status, headers)


class Endpoint(stream.Endpoint):
    """What the routes have in common."""

    def __init__(self, function: Function, service: app.Service, entry: Dict[str, Any], name: str) -> None:
        super().__init__(function, service, entry)
        self.name = name
        parameters = inspect.signature(function.call).parameters.values()
        self.takes = [one.name for one in parameters if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
        self.takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)

    async def answer(self, request: Request) -> Any:
        try:
            self.places.check()
            body = await app.whole(request, self.function.largest)
            if body is None:
                raise Wrong("the body is too large", status=413)
            try:
                asked = json.loads(body)
            except ValueError:
                raise Wrong("the body is no JSON") from None
            if not isinstance(asked, dict):
                raise Wrong("the body is no JSON object")
            if asked.get("model") != self.name:
                raise unknown(asked.get("model"))
            if asked.get("n") not in (None, 1):
                raise Wrong("there is one answer at a time", "n")
            return await self.told(request, asked)
        except ClientDisconnect:
            raise
        except Wrong as error:
            return failed(error)
        except Exception as error:
            status, text, headers = await app.in_words(request, error)
            return failed(Wrong(text, status=status), headers)

    @abstractmethod
    async def told(self, request: Request, asked: Dict[str, Any]) -> Any:
        """The answer to what is asked."""

    def whole(self, result: Any, request: Request) -> Any:
        return [result]

    async def begin_with(self, request: Request, first: Any, asked: Dict[str, Any]) -> Any:
        """Starts the function with its first argument, and what else it takes of a request."""
        if not self.takes:
            raise TypeError(f"the function `{self.function.call.__name__}` has no parameter")
        arguments = {self.takes[0]: first}
        for name, value in asked.items():
            if name not in OWN and value is not None and (self.takes_any or name in self.takes[1:]):
                arguments[name] = value
        work = self.function.bind(self.function.checked(json.dumps(arguments)))
        return await self.begin(request, work, self.load.caller(request.receive))

    async def all(self, request: Request, first: Any, asked: Dict[str, Any]) -> List[Any]:
        """What the function gives, all parts of it."""
        parts, part, whole = await self.begin_with(request, first, asked)
        if whole is not None:
            return whole
        found = []
        try:
            while part is not END:
                if part is GONE:
                    raise ClientDisconnect
                found.append(part)
                part = await parts.next(parts.timeout)
            parts.work.result()
        finally:
            parts.close()
        return found


class Written(Endpoint):
    """Routes that answer with text."""

    kind: str
    chunk: str
    prefix: str

    async def told(self, request: Request, asked: Dict[str, Any]) -> Any:
        first = self.first(asked)
        if not asked.get("stream"):
            return self.together(await self.all(request, first, asked))
        parts, part, whole = await self.begin_with(request, first, asked)
        return Chunks(self, parts, part, whole)

    @abstractmethod
    def first(self, asked: Dict[str, Any]) -> Any:
        """What the function is given before all else."""

    @abstractmethod
    def choice(self, part: Dict[str, Any]) -> Dict[str, Any]:
        """A part of the answer as it is streamed."""

    @abstractmethod
    def together(self, parts: List[Any]) -> Response:
        """The answer in one."""

    def head(self, kind: str) -> Dict[str, Any]:
        name = f"{self.prefix}-{secrets.token_hex(12)}"
        return {"id": name, "object": kind, "created": int(time.time()), "model": self.name}

    def joined(self, parts: List[Any]) -> Dict[str, Any]:
        """Texts one after the other; of what else parts say, the last."""
        answer: Dict[str, Any] = {"content": ""}
        for part in map(member, parts):
            text = answer["content"]
            answer.update(part)
            answer["content"] = text if part.get("content") is None else text + part["content"]
        return answer


class Chat(Written):
    kind, chunk, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def first(self, asked: Dict[str, Any]) -> Any:
        messages = asked.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
            raise Wrong("`messages` is a list of messages", "messages")
        return messages

    def together(self, parts: List[Any]) -> Response:
        message = self.joined(parts)
        answer = self.head(self.kind)
        usage = message.pop("usage", None)
        reason = message.pop("finish_reason", None) or ("tool_calls" if message.get("tool_calls") else "stop")
        if message.get("tool_calls") and not message["content"]:
            message["content"] = None
        message = {"role": "assistant", **message}
        answer["choices"] = [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}]
        if usage is not None:
            answer["usage"] = usage
        return Response(self.function.encode(answer), media_type="application/json")

    def choice(self, part: Dict[str, Any]) -> Dict[str, Any]:
        return {"index": 0, "delta": part, "finish_reason": None}


class Completions(Written):
    kind = chunk = "text_completion"
    prefix = "cmpl"

    def first(self, asked: Dict[str, Any]) -> Any:
        prompt = asked.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        if not isinstance(prompt, str):
            raise Wrong("`prompt` is a text", "prompt")
        return prompt

    def together(self, parts: List[Any]) -> Response:
        said = self.joined(parts)
        answer = self.head(self.kind)
        reason = said.get("finish_reason") or "stop"
        answer["choices"] = [{"index": 0, "text": said["content"], "finish_reason": reason, "logprobs": None}]
        if "usage" in said:
            answer["usage"] = said["usage"]
        return Response(self.function.encode(answer), media_type="application/json")

    def choice(self, part: Dict[str, Any]) -> Dict[str, Any]:
        return {"index": 0, "text": part.get("content") or "", "finish_reason": None, "logprobs": None}


class Embeddings(Endpoint):
    def fitting(self) -> Places:
        return self.load.fitting()

    async def told(self, request: Request, asked: Dict[str, Any]) -> Any:
        given = asked.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise Wrong("`input` is a text or a list of texts", "input")
        (result,) = await self.all(request, texts, asked)
        vectors = json.loads(self.function.encode(result))
        if not isinstance(vectors, list) or len(vectors) != len(texts):
            raise TypeError(f"the function was given {len(texts)} texts and did not answer as many vectors")
        if asked.get("encoding_format") == "base64":
            vectors = [base64.b64encode(packed(vector)).decode() for vector in vectors]
        data = [{"object": "embedding", "index": place, "embedding": one} for place, one in enumerate(vectors)]
        return JSONResponse({"object": "list", "model": self.name, "data": data})


def packed(vector: List[float]) -> bytes:
    """Numbers of 32 bits, the lowest byte first; so are those of all processors that we run on."""
    return array("f", vector).tobytes()


def member(part: Any) -> Dict[str, Any]:
    if isinstance(part, str):
        return {"content": part}
    if isinstance(part, dict):
        return part
    raise TypeError(f"an answer is text, or a dictionary of what a message has, and no {type(part).__name__}")


class Chunks(stream.Stream):
    """Events, as OpenAI's clients read them."""

    def __init__(self, endpoint: Written, parts: stream.Parts, first: Any, whole: Optional[List[Any]]) -> None:
        super().__init__(endpoint.function.encode, parts, first, EVENTS)
        self.endpoint, self.head, self.whole = endpoint, endpoint.head(endpoint.chunk), whole or []
        self.reason, self.usage = "stop", None
        self.is_first = True

    def event(self, **more: Any) -> bytes:
        return b"data: " + self.encode({**self.head, **more}) + b"\n\n"

    def text(self, part: Any) -> bytes:
        part = dict(member(part))
        self.usage = part.pop("usage", self.usage)
        self.reason = part.pop("finish_reason", None) or self.reason
        if self.is_first:
            part = {"role": "assistant", **part}
            self.is_first = False
        return self.event(choices=[self.endpoint.choice(part)])

    def end(self) -> bytes:
        text = b"".join(self.text(part) for part in self.whole)
        text += self.event(choices=[{**self.endpoint.choice({}), "finish_reason": self.reason}])
        if self.usage is not None:
            text += self.event(choices=[], usage=self.usage)
        return text + b"data: [DONE]\n\n"

    def failure(self, error: Exception) -> bytes:
        known = isinstance(error, (ValueError, HTTPException))
        message = str(getattr(error, "detail", error)) if known else "internal error"
        told = {"message": message, "type": "server_error", "param": None, "code": None}
        return b"data: " + json.dumps({"error": told}).encode() + b"\n\n"


KINDS = {
    "chat": ("/v1/chat/completions", Chat),
    "completions": ("/v1/completions", Completions),
    "embeddings": ("/v1/embeddings", Embeddings),
}
