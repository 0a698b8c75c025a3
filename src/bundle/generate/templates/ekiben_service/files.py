"""Files that callers send and functions answer with: what they are made of, where they lie, what kind they are.

A file is in memory or in the temporary folder, never both, and gone after the answer. Nothing that a caller writes
becomes a path or an address that is opened: of a file's name only the suffix is used.
"""

from __future__ import annotations

import base64
import binascii
import io
import mimetypes
import os
import re
import shutil
import tempfile
import threading
import uuid
from pathlib import Path
from typing import Any, BinaryIO, Iterable, List, Optional, Tuple
from urllib.parse import quote, unquote_to_bytes

from pydantic_core import PydanticCustomError

# Bytes of a request's files that are in memory; what is more lies in the temporary folder.
IN_MEMORY = 1 << 20
UNKNOWN = "application/octet-stream"
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
# What files begin with: the bytes, where they stand, and the kind.
SIGNS = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF8", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"WAVE", 8, "audio/wav"),
    (b"BM", 0, "image/bmp"),
    (b"II*\0", 0, "image/tiff"),
    (b"MM\0*", 0, "image/tiff"),
    (b"%PDF-", 0, "application/pdf"),
    (b"PK\x03\x04", 0, "application/zip"),
    (b"\x1f\x8b", 0, "application/gzip"),
    (b"OggS", 0, "audio/ogg"),
    (b"fLaC", 0, "audio/flac"),
    (b"ID3", 0, "audio/mpeg"),
    (b"\x1aE\xdf\xa3", 0, "video/webm"),
    (b"ftyp", 4, "video/mp4"),
)
# What a browser may show without running anything of it, as it would a page or an SVG.
SHOWN = {kind for _, _, kind in SIGNS if kind.startswith(("image/", "audio/", "video/"))}


class Upload:
    """One file that a caller has sent."""

    def __init__(self, held: Held, name: str = "", media_type: str = "", lies: bool = False) -> None:
        self.held, self.name, self.media_type = held, name, media_type
        self.size = 0
        self.place: Optional[Path] = held.place(suffix(name, media_type)) if lies else None
        self.file: BinaryIO = open(self.place, "w+b") if self.place else io.BytesIO()
        held.uploads.append(self)

    def write(self, part: bytes) -> None:
        """Raises PydanticCustomError where it becomes larger than a file may be."""
        self.size += len(part)
        check_size(self.size, self.held.limit)
        if isinstance(self.file, io.BytesIO):
            self.held.in_memory += len(part)
            if self.held.in_memory > IN_MEMORY:
                self.held.in_memory -= self.size
                # It has no name in the folder, so that it is gone however this process ends.
                lying = tempfile.TemporaryFile()
                lying.write(self.file.getbuffer())
                self.file = lying
        self.file.write(part)

    def head(self) -> bytes:
        self.file.seek(0)
        head = self.file.read(16)
        self.file.seek(0)
        return head

    def content(self) -> bytes:
        self.file.seek(0)
        return self.file.read()

    def reader(self) -> BinaryIO:
        self.file.seek(0)
        return self.file

    def path(self) -> Path:
        if self.place is None:
            self.place = self.held.place(suffix(self.name, self.media_type))
            self.file.seek(0)
            with open(self.place, "wb") as lying:
                shutil.copyfileobj(self.file, lying)
        self.file.flush()
        return self.place


class Held:
    """The files of one request."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_memory = 0
        self.uploads: List[Upload] = []
        self.folder: Optional[str] = None
        # Nobody can write this name of a file into a request, as it is another one each time.
        self.sign = uuid.uuid4().hex
        self.lock = threading.Lock()

    def token(self, upload: Upload) -> str:
        """What stands for a file in the JSON that is made of a request."""
        return f"{self.sign}:{self.uploads.index(upload)}"

    def upload(self, text: str) -> Optional[Upload]:
        if not text.startswith(self.sign):
            return None
        return self.uploads[int(text.rpartition(":")[2])]

    def place(self, ending: str) -> Path:
        with self.lock:
            self.folder = self.folder or tempfile.mkdtemp(prefix="ekiben-")
        return Path(self.folder) / f"{len(self.uploads)}-{uuid.uuid4().hex[:8]}{ending}"

    def close(self) -> None:
        for upload in self.uploads:
            upload.file.close()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def check_size(size: int, limit: int) -> None:
    if size > limit:
        raise PydanticCustomError("too_large", "a file may have at most {limit} bytes", {"limit": limit})


def suffix(name: str, media_type: str) -> str:
    """The ending of a file's name, as `.png` or `.tar.gz`; the rest of what a caller calls it is not used."""
    found = re.search(r"(\.tar)?\.[A-Za-z0-9]{1,16}$", name, re.ASCII)
    if found:
        return found.group()
    return (mimetypes.guess_extension(media_type) or "") if media_type != UNKNOWN else ""


def decode(text: str, held: Held) -> Upload:
    """The file that a text is: base64 (RFC 4648, section 4) or a `data:` URL (RFC 2397). No address is ever opened."""
    media_type = ""
    scheme = ADDRESS.match(text)
    if scheme and scheme.group().lower() != "data:":
        raise PydanticCustomError("file", "addresses are not fetched: send the file itself, as base64 or a data: URL")
    is_base64 = True
    if scheme:
        head, comma, text = text[5:].partition(",")
        if not comma:
            raise PydanticCustomError("file", "the data: URL has no comma before its data")
        kind, *more = head.split(";")
        media_type = kind.strip().lower() or "text/plain"
        is_base64 = bool(more) and more[-1].strip().lower() == "base64"
    check_size(len(text) // 4 * 3 - text.count("=", -2) if is_base64 else len(text) // 3, held.limit)
    upload = Upload(held, media_type=media_type)
    upload.write(from_base64(text) if is_base64 else unquote_to_bytes(text))
    return upload


def from_base64(text: str) -> bytes:
    try:
        content = base64.b64decode(text.encode("ascii"), validate=True)
        # Bits that are left over at the end have to be 0, so that one file has one text.
        last = content[(len(content) - 1) // 3 * 3 :]
        if base64.b64encode(last).decode() == text[-4:]:
            return content
    except (binascii.Error, ValueError):
        pass
    raise PydanticCustomError("file", "a file is given as base64 (A-Z a-z 0-9 + / with = at its end) or a data: URL")


def check_kind(upload: Upload, accepts: Tuple[str, ...]) -> None:
    """What a caller says that a file is has to be accepted; where nothing is said, what the file begins with."""
    kind = upload.media_type
    if not accepts or not upload.size:
        return
    if kind in ("", UNKNOWN):
        kind = sniffed(upload.head())
    if kind and not any(is_kind(kind, accepted) for accepted in accepts):
        context = {"accepted": ", ".join(accepts), "kind": kind}
        raise PydanticCustomError("media_type", "the file is of the kind {kind}, and not of {accepted}", context)


def is_kind(kind: str, accepted: str) -> bool:
    return accepted in (kind, "*/*") or accepted.endswith("/*") and kind.startswith(accepted[:-1])


def sniffed(head: bytes) -> str:
    """The kind of a file by its first bytes; empty where they say nothing."""
    return next((kind for sign, at, kind in SIGNS if head.startswith(sign, at)), "")


def data_url(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def disposition(name: str, media_type: str) -> str:
    """The value of the header Content-Disposition (RFC 6266) for a file of this name: browsers show and play what they can."""
    way = "inline" if media_type in SHOWN else "attachment"
    name = re.sub(r"[\x00-\x1f\x7f]", "", os.path.basename(name)) or "answer"
    plain = re.sub(r'[^A-Za-z0-9 !#$&+.^_`|~()\[\]{}@=,-]', "_", name)
    more = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'{way}; filename="{plain}"{more}'


def accepted_ranges(accept: str) -> List[Tuple[str, float]]:
    """The kinds that a header Accept (RFC 9110, section 12.5.1) names, and how much each is liked: from 0 to 1."""
    ranges: List[Tuple[str, float]] = []
    for one in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in one.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        ranges.append((kind, quality))
    return ranges


def acceptable(accept: str, offers: Iterable[str]) -> Optional[str]:
    """The offer that a header Accept likes best; of several the first."""
    if not accept.strip():
        return next(iter(offers), None)
    ranges = accepted_ranges(accept)
    best, liked = None, 0.0
    for offer in offers:
        fitting = [(kind.count("*"), -quality) for kind, quality in ranges if is_kind(offer, kind)]
        # What is said of the kind itself counts before what is said of all.
        quality = -min(fitting)[1] if fitting else 0.0
        if quality > liked:
            best, liked = offer, quality
    return best
