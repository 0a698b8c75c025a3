"""The body of a request: JSON, a form (RFC 7578), or one file; read as it comes, within the limits.

All become JSON in which a token stands for each file, so that one check holds for all.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional

from pydantic_core import PydanticCustomError, from_json
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .files import Held, Upload

# Parts of a form, bytes of the head of a part.
MOST_PARTS = 1000
LONGEST_HEAD = 16 << 10
# What a refusal is answered with, by its type; 422 where it is none of these.
STATUS = {"too_large": 413, "media_type": 415, "not_acceptable": 406, "no_room": 507}


class Refusal(Exception):
    """A request that is not answered by the model; `detail` is of FastAPI's shape."""

    def __init__(self, detail: List[Dict[str, Any]]) -> None:
        super().__init__(detail)
        self.detail = detail

    def response(self) -> Response:
        status = next((STATUS[one["type"]] for one in self.detail if one["type"] in STATUS), 422)
        return JSONResponse({"detail": self.detail}, status)


def refusal(kind: str, message: str, *place: str) -> Refusal:
    return Refusal([{"type": kind, "loc": ["body", *place], "msg": message}])


async def whole(request: Request, limit: int) -> bytes:
    """All of a body in memory."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


def too_large(limit: int) -> Refusal:
    return refusal("too_large", f"the body has more than {limit} bytes")


def media_type(value: str) -> str:
    return value.partition(";")[0].strip().lower()


async def file(request: Request, limit: int, upload: Upload, name: str) -> bytes:
    """A body that is one file."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        put(upload, chunk, name)
    return json.dumps({name: upload.held.token(upload)}).encode()


def put(upload: Upload, part: bytes, name: str) -> None:
    try:
        upload.write(part)
    except PydanticCustomError as error:
        raise refusal(error.type, error.message(), name) from None
    except OSError as error:
        raise refusal("no_room", f"the file could not be kept: {error.strerror}", name) from None


class Form:
    """A `multipart/form-data` body, on its way to JSON."""

    def __init__(self, boundary: bytes, held: Held, fields: Dict[str, Any]) -> None:
        from python_multipart.multipart import MultipartParser

        self.held, self.fields = held, fields
        # The JSON of the values, by name; in the order in which they came.
        self.values: Dict[str, List[str]] = {}
        self.parts = self.head = 0
        self.ended = False
        names = ["part_begin", "header_field", "header_value", "header_end", "headers_finished"]
        names += ["part_data", "part_end", "end"]
        self.parser = MultipartParser(boundary, {f"on_{name}": getattr(self, name) for name in names})

    async def read(self, request: Request, limit: int) -> bytes:
        from python_multipart.exceptions import FormParserError

        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise too_large(limit)
                if not self.ended:
                    self.parser.write(chunk)
            self.parser.finalize()
        except FormParserError as error:
            raise refusal("form_invalid", f"the form cannot be read: {error}") from None
        if not self.ended:
            raise refusal("form_invalid", "the form ends before its last boundary")
        members = (f"{json.dumps(name)}:{self.value(name, values)}" for name, values in self.values.items())
        return ("{" + ",".join(members) + "}").encode()

    def value(self, name: str, values: List[str]) -> str:
        field = self.fields.get(name)
        if field is not None and field.is_list and not (len(values) == 1 and values[0].lstrip().startswith("[")):
            return f"[{','.join(values)}]"
        if len(values) > 1:
            raise refusal("form_invalid", "a value is given more than once", name)
        return values[0]

    # What the parser calls, in this order.

    def part_begin(self) -> None:
        self.parts += 1
        if self.parts > MOST_PARTS:
            raise refusal("too_large", f"the form has more than {MOST_PARTS} parts")
        self.header, self.header_text, self.head = b"", b"", 0
        self.headers: Dict[bytes, bytes] = {}

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]
        self.count(end - start)

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self.header_text += data[start:end]
        self.count(end - start)

    def count(self, size: int) -> None:
        self.head += size
        if self.head > LONGEST_HEAD:
            raise refusal("form_invalid", f"the head of a part has more than {LONGEST_HEAD} bytes")

    def header_end(self) -> None:
        self.headers[self.header.lower()] = self.header_text
        self.header, self.header_text = b"", b""

    def headers_finished(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self.headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise refusal("form_invalid", "a part of the form has no name")
        try:
            self.name = options[b"name"].decode("utf-8")
        except UnicodeDecodeError:
            raise refusal("form_invalid", "the name of a part is not UTF-8") from None
        coding = self.headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if coding not in (b"binary", b"8bit", b"7bit"):
            raise refusal("form_invalid", "a part has a transfer encoding, which forms do not have", self.name)
        self.kind = media_type(self.headers.get(b"content-type", b"").decode("latin-1"))
        field = self.fields.get(self.name)
        filename = options.get(b"filename")
        self.upload: Optional[Upload] = None
        self.text = bytearray()
        # What a browser sends where no file was chosen, and Swagger UI for what was left out.
        self.is_nothing = not filename and field is not None and not field.may_be_blank
        if field is not None and field.is_file:
            file_name = (filename or b"").decode("utf-8", "replace")
            self.upload = Upload(self.held, file_name, self.kind, field.lies)

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self.upload is not None:
            put(self.upload, data[start:end], self.name)
        else:
            self.text += data[start:end]

    def part_end(self) -> None:
        if self.is_nothing and not (self.text if self.upload is None else self.upload.size):
            return
        if self.upload is not None:
            value = json.dumps(self.held.token(self.upload))
        else:
            value = self.json()
        self.values.setdefault(self.name, []).append(value)

    def end(self) -> None:
        self.ended = True

    def json(self) -> str:
        """A value as JSON: a text stands for itself where a text is asked for, or where it is no JSON."""
        try:
            text = self.text.decode("utf-8")
        except UnicodeDecodeError:
            raise refusal("form_invalid", "a value is not UTF-8", self.name) from None
        field = self.fields.get(self.name)
        is_json = self.kind == "application/json" or self.kind.endswith("+json")
        if not is_json and field is not None and field.is_text:
            return json.dumps(text)
        try:
            from_json(self.text)
        except ValueError as error:
            if is_json:
                raise refusal("json_invalid", f"Invalid JSON: {error}", self.name) from None
            return json.dumps(text)
        return text


def boundary(content_type: str) -> bytes:
    from python_multipart.multipart import parse_options_header

    _, options = parse_options_header(content_type.encode("latin-1", "replace"))
    found = options.get(b"boundary", b"")
    # RFC 2046, section 5.1.1.
    if not 0 < len(found) <= 70:
        raise refusal("form_invalid", "the form has no boundary of 1 to 70 characters")
    return found
