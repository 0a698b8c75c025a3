"""A file as an answer: its bytes, its kind and its name, as a caller accepts them."""

from __future__ import annotations

import io
import mimetypes
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO, Iterator, List, Tuple

from starlette.responses import Response, StreamingResponse

from .body import refusal
from .files import UNKNOWN, acceptable, data_url, disposition, is_kind, sniffed
from .values import is_picture

JSON = "application/json"
# Bytes that are read of a file at once.
PART = 1 << 16
# What pictures are written as, where nothing is said of it; the first is the usual one.
PICTURES = {
    "image/png": "PNG",
    "image/jpeg": "JPEG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": "TIFF",
}


def response(value: Any, accept: str, kinds: Tuple[str, ...], name: str) -> Response:
    """Raises Refusal where a caller takes neither the file as it is nor JSON with a `data:` URL."""
    if is_picture(value):
        offers = pictures(value, kinds)
    else:
        offers = [kind_of(value, kinds)]
    chosen = acceptable(accept, [*offers, JSON])
    if chosen is None:
        raise refusal("not_acceptable", f"the answer can be had as {', '.join([*offers, JSON])}")
    if chosen == JSON and JSON not in offers:
        return Response(b'"%s"' % url(value, kinds).encode(), media_type=JSON)
    content, name = opened(value, chosen, name)
    headers = {"content-disposition": disposition(name, chosen), "x-content-type-options": "nosniff"}
    if isinstance(content, bytes):
        return Response(content, media_type=chosen, headers=headers)
    headers["content-length"] = str(os.fstat(content.fileno()).st_size)
    return StreamingResponse(parts(content), media_type=chosen, headers=headers)


def parts(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while True:
            part = file.read(PART)
            if not part:
                return
            yield part


def url(value: Any, kinds: Tuple[str, ...] = ()) -> str:
    """A file within JSON."""
    kind = pictures(value, kinds)[0] if is_picture(value) else kind_of(value, kinds)
    content, _ = opened(value, kind, "")
    if not isinstance(content, bytes):
        with content:
            content = content.read()
    return data_url(content, kind)


def pictures(value: Any, kinds: Tuple[str, ...]) -> List[str]:
    """What a picture can be written as: what the function declares, what it was read as, else all; best first."""
    fitting = [kind for kind in PICTURES if not kinds or any(is_kind(kind, declared) for declared in kinds)]
    own = next((kind for kind, name in PICTURES.items() if name == value.format), None)
    return sorted(fitting or PICTURES, key=lambda kind: kind != own)


def kind_of(value: Any, kinds: Tuple[str, ...]) -> str:
    """What the function declares, if that is one kind; else what the name or the first bytes say."""
    if len(kinds) == 1 and "*" not in kinds[0]:
        return kinds[0]
    if isinstance(value, Path):
        guessed, encoding = mimetypes.guess_type(value.name)
        if guessed and not encoding:
            return guessed
        with open_regular(value) as file:
            head = file.read(16)
    else:
        head = bytes(value.getbuffer()[:16]) if isinstance(value, io.BytesIO) else bytes(value[:16])
    return sniffed(head) or UNKNOWN


def open_regular(path: Path) -> BinaryIO:
    file = open(path, "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"the answer {path} is no file")
    return file


def opened(value: Any, kind: str, name: str) -> Tuple[Any, str]:
    """The bytes of a file, or the file itself, and what it is called. Open, it may be removed before it is sent."""
    if isinstance(value, Path):
        return open_regular(value), value.name
    name = f"{name}{mimetypes.guess_extension(kind) or ''}"
    if is_picture(value):
        return encoded(value, PICTURES[kind]), name
    return (value.getvalue() if isinstance(value, io.BytesIO) else bytes(value)), name


def encoded(image: Any, form: str) -> bytes:
    if form == "JPEG" and image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    elif form in ("PNG", "WEBP") and image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
        image = image.convert("RGB")
    written = io.BytesIO()
    image.save(written, form)
    return written.getvalue()
