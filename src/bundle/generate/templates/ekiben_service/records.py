"""Records: the requests that lie in files, one after the other, as the functions of the model take them.

Invariant: the same files give the same records with the same numbers, whatever part of them is asked for. No more than one
record, and a bounded head of each table, is in memory.
"""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import io
import json
import mimetypes
import os
import re
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Optional, TextIO, Tuple

from pydantic import TypeAdapter
from typing_extensions import Annotated, get_args, get_origin

from .body import refusal
from .files import UNKNOWN
from .function import Function
from .values import LISTS, UNIONS, checkable, is_text, may_be_blank, named

# Files by their endings. `json` is an array of records, or values one after the other.
ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
}
FORMATS = ("jsonl", "json", "csv", "file")
# Characters that are read of a JSON document at once, and rows of a table that tell what is in its columns.
PART, HEAD = 1 << 18, 1000
# Bytes at each end of a file that are looked at to know it again.
END = 1 << 16
WHITE = re.compile(r"[ \t\r\n]*")
INTEGER = re.compile(r"[+-]?[0-9]+")
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
TRUTH = {"true": True, "false": False}
NUMBERS = {"integer", "number"}
LISTS_ALONE = (list, tuple)
DELIMITERS = ",;\t|"
CSV = "text/csv"


class Unreadable(Exception):
    """What records cannot be read from."""


class Record(NamedTuple):
    """A request; its number counts from 1 over all files."""

    number: int
    # What it is called; None where it has no name.
    id: Any = None
    body: bytes = b""
    # What the body is, where it is no JSON.
    media_type: str = ""
    # The file that is the whole request.
    path: Optional[Path] = None
    # Whether it is one row of a table, so that its answer is that of one row.
    is_row: bool = False
    # What is wrong with it already.
    wrong: Optional[Exception] = None

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size if self.path else len(self.body)


class Input:
    """The files that records lie in, in order."""

    def __init__(
        self,
        patterns: List[str],
        form: Optional[str],
        id_field: Optional[str],
        function: Optional[Function],
        most: int,
        takes_tables: bool,
    ) -> None:
        """`most` is the size in bytes of the largest record; `function` is None where a protocol's route is asked, which may take
        tables as they are.
        """
        self.form, self.id_field, self.function, self.most = form, id_field, function, most
        self.takes_tables = takes_tables
        self.files: List[Tuple[Path, str]] = []
        for pattern in patterns:
            found = [(path, name) for path, name in files(pattern) if not self.is_passed_over(name)]
            if not found:
                raise Unreadable(f"there is no file {pattern}" if not os.path.isdir(pattern) else f"{pattern} has no files")
            self.files += found
        for path, _ in self.files:
            self.format(path)
        csv.field_size_limit(most)

    def is_passed_over(self, name: str) -> bool:
        """What other programs leave beside data, as `_SUCCESS`."""
        hidden = (".", "_") if self.form != "file" and not self.takes_file else (".",)
        return os.path.dirname(name) != "" and any(part.startswith(hidden) for part in name.split(os.sep)[1:])

    @property
    def takes_file(self) -> bool:
        return self.function is not None and self.function.whole != ""

    def format(self, path: Path) -> str:
        """Raises Unreadable."""
        known = self.form or ENDINGS.get(ending(path)) or ("file" if self.takes_file else None)
        if known is None:
            told = ", ".join(ENDINGS)
            raise Unreadable(f"{path} is of no kind that is known by its name ({told}, each also .gz): name its format")
        if known == "file" and not self.takes_file:
            raise Unreadable(f"the function does not take one file, and so not {path}")
        return known

    def fingerprint(self) -> List[Any]:
        """What is another where the records are, as far as names, sizes and the ends of files tell."""
        told: List[Any] = [self.form, self.id_field]
        for path, name in self.files:
            told.append([name, path.stat().st_size, "" if self.format(path) == "file" else ends(path)])
        return told

    def records(self) -> Iterator[Record]:
        """All of them; raises Unreadable where there are no further ones, as a file is broken."""
        number = 0
        for path, name in self.files:
            form = self.format(path)
            try:
                for record in self.of_file(path, name, form):
                    number += 1
                    yield record._replace(number=number)
            except (OSError, EOFError, UnicodeDecodeError, csv.Error, Unreadable) as error:
                behind = f" behind record {number}" if number else ""
                raise Unreadable(f"{path} cannot be read{behind}: {error}") from None

    def of_file(self, path: Path, name: str, form: str) -> Iterator[Record]:
        if form == "file":
            # What lies in a folder is called by its place there.
            place = name.partition(os.sep)[2] or name
            yield Record(0, place if self.id_field is None else None, path=path)
            return
        with opened(path) as file:
            if form == "csv":
                yield from self.of_table(text(file, newline=""))
            elif form == "json":
                yield from map(self.of_json, values(text(file), self.most))
            else:
                yield from self.of_lines(file)

    def of_lines(self, file: BinaryIO) -> Iterator[Record]:
        first = True
        while True:
            line = file.readline(self.most + 2)
            if not line:
                return
            if first and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise Unreadable("it is UTF-16, and not UTF-8")
            if first and line.startswith(b"\xef\xbb\xbf"):
                line = line[3:]
            first = False
            if not line.endswith(b"\n") and len(line) > self.most:
                while line and not line.endswith(b"\n"):
                    line = file.readline(PART)
                yield Record(0, wrong=refusal("too_large", f"the record has more than {self.most} bytes"))
                continue
            line = line.strip()
            if line:
                yield self.of_json(line)

    def of_json(self, document: Any) -> Record:
        body = document if isinstance(document, bytes) else document.encode()
        if self.id_field is None:
            return Record(0, body=body)
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            # It is refused as it would be in a request.
            return Record(0, body=body)
        if not isinstance(value, dict) or self.id_field not in value:
            return Record(0, body=body)
        if self.function is None or self.id_field in self.function.hints or self.id_field in self.function.names:
            return Record(0, value[self.id_field], body)
        name = value.pop(self.id_field)
        return Record(0, name, json.dumps(value, ensure_ascii=False).encode())

    def of_table(self, file: TextIO) -> Iterator[Record]:
        if self.function is None and not self.takes_tables:
            raise Unreadable("only requests as JSON can be given to this route")
        first = file.readline(self.most)
        if not first.strip():
            return
        delimiter = max(DELIMITERS, key=first.count)
        rows = csv.reader(chain([first], file), delimiter=delimiter, strict=True)
        header = [name.strip() for name in next(rows)]
        double = {name for name in header if header.count(name) > 1 or not name}
        if double:
            raise Unreadable(f"the header has {', '.join(map(repr, sorted(double)))} as a name without its own column")
        if self.id_field is not None and self.id_field not in header:
            raise Unreadable(f"there is no column {self.id_field} in the header")
        known = [] if self.function is None else self.function.names
        names = [name for name in header if name != self.id_field or name in known]
        whole = Table(self.function, names) if self.function is not None else None
        head = list(islice(rows, HEAD))
        if whole is not None:
            whole.learn([dict(zip(header, row)) for row in head if len(row) == len(header)])
        for row in chain(head, rows):
            if not row:
                # An empty line.
                continue
            cells = dict(zip(header, row))
            name = cells.get(self.id_field) if self.id_field is not None else None
            if len(row) != len(header):
                told = f"the row has {len(row)} cells, and the header {len(header)}"
                yield Record(0, name, wrong=refusal("csv_invalid", told))
                continue
            if whole is None:
                yield Record(0, name, table_of([names, [cells[one] for one in names]]), CSV, is_row=True)
                continue
            yield Record(0, name, json.dumps(whole.request(cells), ensure_ascii=False).encode(), is_row=whole.is_row)


def table_of(rows: List[List[str]]) -> bytes:
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows(rows)
    return written.getvalue().encode()


class Table:
    """How the rows of a table become requests to a function: its columns are parameters, or all of them together are one."""

    def __init__(self, function: Function, names: List[str]) -> None:
        self.names = names
        self.hints = {name: function.hints.get(name, Any) for name in names}
        # The parameter that a row is, or is a row of.
        self.parameter: Optional[str] = None
        self.is_row = self.are_objects = False
        self.inner: Any = Any
        self.kinds: Dict[str, str] = {}
        foreign = [name for name in names if name not in function.names]
        self.texts = {name for name in names if not foreign and is_text(self.hints[name])}
        self.blank = {name for name in names if not foreign and may_be_blank(self.hints[name])}
        if foreign and not function.is_open:
            self.join(function, foreign)

    def join(self, function: Function, foreign: List[str]) -> None:
        """Raises Unreadable where no parameter can hold a row."""
        sole = function.required[0] if len(function.required) == 1 else ""
        form = row_form(function.hints.get(sole, Any)) if sole else None
        if form is None and (not sole or len(foreign) < len(self.names)):
            told = ", ".join(function.names) or "nothing"
            raise Unreadable(f"the function takes {told}, and the header has {', '.join(foreign[:8])}")
        if form is None:
            raise Unreadable(
                f"the header names columns ({', '.join(foreign[:8])}), and no parameter: for rows the parameter {sole} "
                "needs a type that says what a row is, as list[list[float]] or a DataFrame"
            )
        self.parameter = sole
        self.is_row, self.are_objects, self.inner = form
        self.texts = texts(self.inner, self.names)

    def learn(self, rows: List[Dict[str, str]]) -> None:
        """What is in the columns, by the first rows, where no type says it."""
        if self.parameter is None or self.inner is not Any:
            return
        for name in self.names:
            found = {kind(row[name]) for row in rows} - {""}
            if "text" in found or len(found) > 1 and found != NUMBERS:
                self.kinds[name] = "text"
            elif "number" in found:
                # A column of pandas or numpy has one type.
                self.kinds[name] = "number"

    def request(self, cells: Dict[str, str]) -> Dict[str, Any]:
        if self.parameter is None:
            return {name: self.value(name, cells[name]) for name in self.names if cells[name] or name in self.blank}
        row = {name: self.cell(name, cells[name]) for name in self.names}
        value: Any = row if self.are_objects else list(row.values())
        return {self.parameter: [value] if self.is_row else value}

    def cell(self, name: str, cell: str) -> Any:
        """That of a row."""
        if name in self.texts:
            return cell
        known = self.kinds.get(name)
        if known == "text":
            return cell or None
        value = plain(cell)
        return float(value) if known == "number" and type(value) is int else value

    def value(self, name: str, cell: str) -> Any:
        """That of a parameter, as in a form: a text where one is asked for, else JSON, else a text."""
        if name in self.texts:
            return cell
        if kind(cell) != "text":
            return plain(cell)
        if cell.lstrip()[:1] in ("[", "{", '"') or cell.strip() == "null":
            try:
                return json.loads(cell)
            except (ValueError, RecursionError):
                pass
        return cell


def kind(cell: str) -> str:
    """What a cell holds; nothing where it is empty."""
    cell = cell.strip()
    if not cell or cell.lower() == "nan":
        return ""
    if INTEGER.fullmatch(cell):
        return "integer"
    if NUMBER.fullmatch(cell):
        return "number"
    return "truth" if cell.lower() in TRUTH else "text"


def plain(cell: str) -> Any:
    """A number, a truth value, None for an empty cell; a text where it is none of these."""
    of = kind(cell)
    if not of:
        return None
    if of == "text":
        return cell
    cell = cell.strip()
    return TRUTH[cell.lower()] if of == "truth" else int(cell) if of == "integer" and len(cell) < 4000 else float(cell)


def row_form(hint: Any) -> Optional[Tuple[bool, bool, Any]]:
    """How a row is given to a parameter of this type: as one of several, as an object, and of which type it is then."""
    origin, arguments = get_origin(hint), get_args(hint)
    beside: Tuple[Any, ...] = ()
    while origin is Annotated or origin in UNIONS:
        some = [one for one in arguments if one is not type(None)]
        if origin is not Annotated and len(some) > 1:
            return None
        beside += arguments[1:] if origin is Annotated else ()
        hint = some[0]
        origin, arguments = get_origin(hint), get_args(hint)
    whole = named(origin or hint)
    if whole.startswith("pandas.") and whole.endswith(".DataFrame"):
        return True, True, Any
    if whole == "numpy.ndarray":
        shapes = [one.get("shape") if isinstance(one, dict) else getattr(one, "dimensions", None) for one in beside]
        is_flat = any(shape is not None and len(shape) == 1 for shape in shapes)
        return not is_flat, False, Any
    name = getattr(origin or hint, "__name__", "")
    if name in LISTS:
        inner = arguments[0] if arguments else Any
        if inner in LISTS_ALONE or named(inner) == "numpy.ndarray":
            return True, False, Any
        of_row = row_form(inner)
        if of_row is not None:
            return None if of_row[0] else (True, of_row[1], of_row[2])
        # Of `list` alone nobody knows whether it is a row.
        return (False, False, inner) if inner is not Any else None
    if name in ("dict", "Mapping"):
        return False, True, arguments[1] if arguments else Any
    is_object = any(hasattr(hint, sign) for sign in ("model_fields", "__total__", "__dataclass_fields__"))
    return (False, True, hint) if is_object else None


def texts(hint: Any, names: List[str]) -> set[str]:
    """The columns that are texts in a row of this type, whatever they look like."""
    if hint is Any:
        return set()
    if isinstance(hint, type) and hint is str:
        return set(names)
    try:
        schema = TypeAdapter(checkable(hint)).json_schema()
    except Exception:
        # It has no schema.
        return set()
    known = schema.get("$defs", {})
    members = known.get(schema.get("$ref", "").rpartition("/")[2], schema).get("properties", {})

    def is_textual(one: Dict[str, Any]) -> bool:
        one = known.get(one.get("$ref", "").rpartition("/")[2], one)
        some = [other for other in one.get("anyOf", [one]) if other.get("type") != "null"]
        return bool(some) and all(other.get("type") == "string" for other in some)

    return {name for name in names if is_textual(members.get(name, {}))}


def ending(path: Path) -> str:
    name = path.name.lower()
    return Path(name[:-3] if name.endswith(".gz") else name).suffix


def media_type(path: Path) -> str:
    return mimetypes.guess_type(path.name)[0] or UNKNOWN


def files(pattern: str) -> Iterator[Tuple[Path, str]]:
    """Files that a person names, in an order that is always the same, with what they are called: from the folder on that was
    named, if it was one.
    """
    if os.path.isdir(pattern):
        root = Path(pattern)
        found = []
        for folder, _, names in os.walk(root, onerror=raised, followlinks=True):
            found += [Path(folder) / name for name in names]
        for path in sorted(found, key=lambda path: path.parts):
            if path.is_file():
                yield path, os.path.join(root.name or "input", path.relative_to(root))
        return
    some = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
    for name in some:
        path = Path(name)
        if path.is_file():
            yield path, path.name


def ends(path: Path) -> str:
    """A digest of a file's first and last bytes."""
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read(END))
        file.seek(max(path.stat().st_size - END, 0))
        digest.update(file.read(END))
    return digest.hexdigest()


def raised(error: OSError) -> None:
    raise error


def opened(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


def text(file: BinaryIO, newline: Optional[str] = None) -> TextIO:
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline=newline)


def values(file: TextIO, most: int) -> Iterator[str]:
    """The JSON of each value in an array, or of values that stand one after the other; raises Unreadable."""
    decode = json.JSONDecoder().raw_decode
    document, at, ended = "", 0, False

    def more(size: int) -> None:
        nonlocal document, at, ended
        part = file.read(size)
        document, at, ended = document[at:] + part, 0, not part

    def following() -> str:
        """The next character that is none between values; nothing at the end."""
        nonlocal at
        while True:
            match = WHITE.match(document, at)
            at = match.end() if match else at
            if at < len(document) or ended:
                return document[at : at + 1]
            more(PART)

    is_array = following() == "["
    if is_array:
        at += 1
    count = 0
    while True:
        sign = following()
        if is_array and sign == "]" and not count:
            at += 1
            break
        if is_array and count:
            if sign == "]":
                at += 1
                break
            if sign != ",":
                raise Unreadable("there is no `,` or `]` behind it" if sign else "the array does not end")
            at += 1
            sign = following()
        if not sign:
            if is_array:
                raise Unreadable("the array does not end")
            return
        size = PART
        while True:
            try:
                _, end = decode(document, at)
            except RecursionError:
                raise Unreadable("it is too deep") from None
            except ValueError as error:
                if ended or len(document) - at > most:
                    raise Unreadable(f"it is no JSON: {error}") from None
            else:
                # A number may go on.
                if end < len(document) or ended:
                    yield document[at:end]
                    at = end
                    break
            more(size)
            size *= 2
        count += 1
    if following():
        raise Unreadable("there is something behind the array")
