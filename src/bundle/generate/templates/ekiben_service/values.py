"""What a function takes and gives beyond JSON: files, arrays and tables; and answers as JSON.

All that follows from a type is decided when the code is imported.
"""

from __future__ import annotations

import io
import logging
import sys
import typing
from itertools import chain
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from pydantic import AfterValidator, PlainValidator, TypeAdapter, ValidationError, ValidationInfo
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticCustomError
from typing_extensions import Annotated, NotRequired, Required, TypedDict, get_args, get_origin, get_type_hints

from . import files
from .files import Held, Upload

UNIONS = (Union, getattr(__import__("types"), "UnionType", Union))
LISTS = ("list", "tuple", "set", "frozenset", "Sequence", "Iterable", "Collection")
# What JSON has of itself.
SCALARS = {str, int, float, bool, type(None)}
# How deep an answer is looked into for files.
DEEPEST = 64


class Field(NamedTuple):
    """What is to be known of a parameter before its value is there."""

    is_file: bool = False
    is_list: bool = False
    # Whether the file has to lie in a folder, under a path.
    lies: bool = False
    # Whether a part of a form that is no JSON is meant as a text.
    is_text: bool = False
    # Whether a part of a form without content is a value; else it is as good as none.
    may_be_blank: bool = True


def named(hint: Any) -> str:
    """`numpy.ndarray`; what is not imported need not be installed."""
    if isinstance(hint, type(sys)):
        # `image: Image` of somebody who wrote `from PIL import Image`.
        return f"{hint.__name__}.{hint.__name__.rpartition('.')[2]}"
    return f"{getattr(hint, '__module__', '')}.{getattr(hint, '__qualname__', '')}"


def maker(hint: Any) -> Optional[Callable[[Upload], Any]]:
    """What makes a parameter of this type of a file; None where it is no file."""
    if hint is bytes:
        return Upload.content
    if hint is Path:
        return Upload.path
    if hint is io.BytesIO:
        return lambda upload: io.BytesIO(upload.content())
    if hint is typing.BinaryIO or hint == typing.IO[bytes]:
        return Upload.reader
    if named(hint) == "PIL.Image.Image":
        return picture
    return None


def picture(upload: Upload) -> Any:
    """Opened and decoded: what cannot be is the caller's mistake."""
    from PIL import Image

    Image.init()
    # EPS would start another program.
    formats = [name for name in Image.OPEN if name != "EPS"]
    try:
        image = Image.open(upload.reader(), formats=formats)
        most = Image.MAX_IMAGE_PIXELS
        if most and image.width * image.height > most:
            raise PydanticCustomError("file", "the picture has more than {most} pixels", {"most": most})
        image.load()
    except PydanticCustomError:
        raise
    except Image.DecompressionBombError:
        raise PydanticCustomError("file", "the picture has too many pixels") from None
    except Exception as error:
        # What decoders raise for broken files is of all kinds.
        reason = unknown(upload, formats) if isinstance(error, Image.UnidentifiedImageError) else str(error)
        raise PydanticCustomError("file", "the picture cannot be read: {reason}", {"reason": reason}) from None
    upload.media_type = Image.MIME.get(image.format, upload.media_type)
    return image


# What people have pictures in, of what Pillow may know.
PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")


def unknown(upload: Upload, formats: List[str]) -> str:
    """Why a picture is none: what it is instead, what could be read, and what to try."""
    if not upload.size:
        return "it is empty"
    kind = files.sniffed(upload.head())
    known = ", ".join(one for one in PICTURES if one in formats)
    other = f"it is {kind}" if kind else "its first bytes are those of no picture that is known"
    return f"{other}; {known} and {len(formats)} kinds in all can be read: send the file as it is, or as PNG or JPEG"


def media_types(metadata: Tuple[Any, ...]) -> Tuple[str, ...]:
    """`"image/png"` beside a type, or what has a `content_type`, as BentoML's `ContentType`."""
    texts = [getattr(one, "content_type", one) for one in metadata]
    return tuple(text.lower() for text in texts if isinstance(text, str) and "/" in text and " " not in text)


def file(make: Callable[[Upload], Any], accepts: Tuple[str, ...]) -> Any:
    def validate(value: Any, info: ValidationInfo) -> Any:
        held: Held = info.context
        if not isinstance(value, str):
            raise PydanticCustomError("file", "a file is given as base64 or a data: URL")
        upload = held.upload(value) or files.decode(value, held)
        if make is picture:
            # What it really is.
            made = make(upload)
            files.check_kind(upload, accepts)
            return made
        files.check_kind(upload, accepts)
        return make(upload)

    return Annotated[Any, PlainValidator(validate)]


def checkable(hint: Any, accepts: Tuple[str, ...] = ()) -> Any:
    """The type that pydantic checks for a parameter; what it cannot check is anything."""
    hint = adapted(hint, accepts)
    try:
        TypeAdapter(hint)
    except PydanticUserError as error:
        logging.getLogger("ekiben").warning("the type hint %s is not used: %s", hint, str(error).partition("\n")[0])
        return Any
    return hint


def adapted(hint: Any, accepts: Tuple[str, ...], metadata: Tuple[Any, ...] = ()) -> Any:
    """The same, with what pydantic does not know replaced, however deep it stands."""
    make = maker(hint)
    if make:
        return file(make, accepts or media_types(metadata))
    whole = named(get_origin(hint) or hint)
    if whole == "numpy.ndarray":
        return Annotated[List[Any], AfterValidator(array(get_args(hint), metadata))]
    if whole.startswith("pandas.") and whole.endswith((".DataFrame", ".Series")):
        return Annotated[Any, AfterValidator(table(hint))]
    if sys.version_info < (3, 12) and type(hint).__name__ == "_TypedDictMeta" and type(hint).__module__ == "typing":
        # Pydantic does not know which of its keys are required.
        return TypedDict(hint.__name__, dict(members(hint, accepts)))  # type: ignore[operator]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        inner = adapted(arguments[0], accepts, arguments[1:])
        if inner is arguments[0]:
            return hint
        # What stands beside these was for us, and may be nothing that pydantic can use.
        is_ours = get_origin(inner) is Annotated and get_origin(arguments[0]) not in UNIONS
        return inner if is_ours else Annotated[(inner, *arguments[1:])]  # type: ignore[return-value]
    if origin in UNIONS:
        inner = tuple(adapted(one, accepts, metadata) for one in arguments)
        return hint if inner == arguments else Union[inner]  # type: ignore[return-value]
    if origin is not None and arguments and getattr(origin, "__name__", "") in (*LISTS, "dict", "Mapping"):
        inner = tuple(one if one is Ellipsis else adapted(one, accepts, metadata) for one in arguments)
        if inner == arguments:
            return hint
        return hint.copy_with(inner) if hasattr(hint, "copy_with") else origin[inner]
    return hint


def members(hint: Any, accepts: Tuple[str, ...]) -> Iterator[Tuple[str, Any]]:
    """Those of a `TypedDict`."""
    required = getattr(hint, "__required_keys__", ())
    for name, inner in get_type_hints(hint, include_extras=True).items():
        while get_origin(inner) in (Required, NotRequired):
            (inner,) = get_args(inner)
        yield name, (Required if name in required else NotRequired)[adapted(inner, accepts)]


# By the kind of a type of numpy, the kinds that its values may have as JSON brings them.
ARRAYS = {"f": "iuf", "i": "iu", "u": "iu", "b": "b", "U": "U"}


def array(arguments: Tuple[Any, ...], metadata: Tuple[Any, ...]) -> Callable[[List[Any]], Any]:
    """Makes arrays of numpy of lists, strictly: of the type and the shape that stand beside it, where they do.

    As `{"dtype": "float32", "shape": (None, 4)}`, as BentoML's `DType` and `Shape`, or as `NDArray[np.float32]`.
    """
    numpy = sys.modules["numpy"]
    inner = get_args(arguments[1]) if len(arguments) > 1 else ()
    dtype = inner[0] if inner and isinstance(inner[0], type) else None
    shape = None
    for one in metadata:
        dtype = one.get("dtype", dtype) if isinstance(one, dict) else getattr(one, "dtype", dtype)
        shape = one.get("shape", shape) if isinstance(one, dict) else getattr(one, "dimensions", shape)
    try:
        dtype = None if dtype is None else numpy.dtype(dtype)
    except TypeError:
        # As `np.floating`, which stands for several.
        dtype = None
    known = [length if isinstance(length, int) and length >= 0 else None for length in shape or ()]
    lengths = None if shape is None else known

    def make(value: List[Any]) -> Any:
        try:
            made = numpy.asarray(value)
            if dtype is not None and made.dtype != dtype:
                check_values(numpy, made, dtype)
                with numpy.errstate(over="raise"):
                    made = made.astype(dtype)
        except PydanticCustomError:
            raise
        except Exception as error:
            raise PydanticCustomError("array", "no array can be made of it: {reason}", {"reason": str(error)}) from None
        if lengths is not None:
            if not made.size and made.ndim < len(lengths):
                # No rows are of any length.
                made = made.reshape(made.shape + tuple(length or 0 for length in lengths[made.ndim :]))
            fits = len(lengths) == made.ndim and all(one in (None, own) for one, own in zip(lengths, made.shape))
            if not fits:
                context = {"shape": list(made.shape), "wanted": ["any" if one is None else one for one in lengths]}
                raise PydanticCustomError("array", "its shape is {shape}, and not {wanted}", context)
        return made

    return make


def check_values(numpy: Any, made: Any, dtype: Any) -> None:
    """Nothing is taken for what it is not: no text for a number, no number that has no room."""
    if not made.size:
        return
    if made.dtype.kind == "f" and dtype.kind in "iu" and (made == numpy.rint(made)).all():
        # JSON does not tell 1.0 from 1. What is larger than 2 ** 53 was no whole number before.
        if numpy.abs(made).max() <= 2**53:
            made = made.astype(numpy.int64)
    if made.dtype.kind not in ARRAYS.get(dtype.kind, made.dtype.kind):
        raise PydanticCustomError("array", "its values are no {dtype}", {"dtype": str(dtype)})
    if dtype.kind in "iu":
        room = numpy.iinfo(dtype)
        if made.min() < room.min or made.max() > room.max:
            raise PydanticCustomError("array", "a value has no room in {dtype}", {"dtype": str(dtype)})


def table(make: Any) -> Callable[[Any], Any]:
    """Makes frames and series of pandas: of records or rows, of columns, of `columns` and `data`; of a list."""
    is_series = make.__name__ == "Series"

    def of_lists(value: Dict[str, Any], *names: str) -> bool:
        return all(isinstance(value[name], list) for name in names or value)

    def build(value: Any) -> Any:
        if isinstance(value, list) and (is_series or set(map(type, value)) in (set(), {dict}, {list})):
            return make(value)
        if isinstance(value, dict) and not is_series:
            if {"columns", "data"} <= set(value) <= {"columns", "data", "index"} and of_lists(value):
                return make(value["data"], columns=value["columns"], index=value.get("index"))
            if of_lists(value):
                return make(value)
        wanted = "a list" if is_series else "a list of objects or of lists, an object of lists, or columns and data"
        raise PydanticCustomError("table", "it is not {wanted}", {"wanted": wanted})

    def checked(value: Any) -> Any:
        try:
            return build(value)
        except PydanticCustomError:
            raise
        except Exception as error:
            raise PydanticCustomError("table", "no table can be made of it: {reason}", {"reason": str(error)}) from None

    return checked


def field(hint: Any) -> Field:
    """What is to be known of a parameter of this type, which may be optional and a list."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        inner = field(arguments[0])
        return inner._replace(may_be_blank=inner.may_be_blank and (inner.is_list or may_be_blank(hint)))
    if origin in UNIONS:
        some = [field(one) for one in arguments if one is not type(None)]
        if len(some) == 1:
            return some[0]
        are_files, are_lists = any(one.is_file for one in some), any(one.is_list for one in some)
        are_texts, any_blank = all(one.is_text for one in some), any(one.may_be_blank for one in some)
        return Field(are_files, are_lists, is_text=are_texts, may_be_blank=any_blank)
    name = getattr(origin or hint, "__name__", "")
    if name in LISTS:
        inner = field(arguments[0]) if arguments else Field()
        return inner._replace(is_list=True)
    is_file = maker(hint) is not None
    return Field(is_file, lies=hint is Path, is_text=is_text(hint), may_be_blank=not is_file and may_be_blank(hint))


def holds_files(hint: Any) -> bool:
    """Whether there are files in values of this type."""
    return maker(hint) is not None or any(map(holds_files, get_args(hint)))


def is_text(hint: Any) -> bool:
    """Whether all values of it are texts in JSON."""
    try:
        schema = TypeAdapter(hint).json_schema()
    except Exception:
        # It has no schema.
        return False
    schema = schema.get("$defs", {}).get(schema.get("$ref", "").rpartition("/")[2], schema)
    values = schema.get("enum", [schema["const"]] if "const" in schema else [None])
    return schema.get("type") == "string" or all(isinstance(value, str) for value in values)


def may_be_blank(hint: Any) -> bool:
    """Whether a text without a character is a value of it."""
    try:
        TypeAdapter(hint).validate_json('""', strict=True)
    except ValidationError:
        return False
    except Exception:
        # It has no schema: then it is anything.
        pass
    return True


def surely_json(hint: Any) -> bool:
    """Whether what a function gives according to its signature has no file in it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return surely_json(arguments[0])
    if origin in UNIONS or getattr(origin, "__name__", "") in (*LISTS, "dict", "Mapping"):
        return bool(arguments) and all(one is Ellipsis or surely_json(one) for one in arguments)
    return hint in SCALARS if isinstance(hint, type) else hint is None


def is_file(value: Any) -> bool:
    return isinstance(value, (bytes, bytearray, Path, io.BytesIO)) or is_picture(value)


def is_picture(value: Any) -> bool:
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(value, module.Image)


def has_files(value: Any) -> bool:
    """Whether there are files in the lists and objects of an answer."""
    level = [value]
    for _ in range(DEEPEST):
        kinds = set(map(type, level)) - SCALARS
        if not kinds:
            return False
        below: List[Any] = []
        for kind in kinds:
            some = [one for one in level if type(one) is kind]
            if kind in (list, tuple):
                below.extend(chain.from_iterable(some))
            elif kind is dict:
                below.extend(chain.from_iterable(one.values() for one in some))
            elif any(map(is_file, some)):
                return True
        level = below
    return False


def with_urls(value: Any, write: Callable[[Any], str]) -> Any:
    """The same with a `data:` URL in place of each file."""
    if isinstance(value, dict):
        return {key: with_urls(one, write) for key, one in value.items()}
    if type(value) in (list, tuple):
        return [with_urls(one, write) for one in value]
    return write(value) if is_file(value) else value


# What pandas' `to_dict` calls them.
ORIENTS = {"records": "records", "split": "split", "columns": "list"}


def orient(metadata: Tuple[Any, ...]) -> str:
    """How frames are answered: `Annotated[pd.DataFrame, "split"]`; records where nothing is said."""
    return next((ORIENTS[one] for one in metadata if isinstance(one, str) and one in ORIENTS), "records")


def plain(value: Any, orient: str = "records") -> Any:
    """What JSON can hold, of numpy's and pandas' values."""
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return with_nulls(value).to_dict(orient=orient)
    if hasattr(value, "to_list") and hasattr(value, "isna"):
        return with_nulls(value.to_frame())[value.name if value.name is not None else 0].to_list()
    for method in ("tolist", "to_list", "item"):
        if hasattr(value, method):
            return getattr(value, method)()
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    raise TypeError(f"an answer of type {type(value).__name__} cannot be written as JSON")


def with_nulls(frame: Any) -> Any:
    """Without what pandas has for values that are not there, but NaN among numbers."""
    for number, kind in enumerate(frame.dtypes):
        if getattr(kind, "kind", "O") not in "fiub" or not hasattr(kind, "newbyteorder"):
            column = frame.iloc[:, number]
            if column.isna().any():
                frame = frame.copy()
                frame.isetitem(number, column.astype(object).where(column.notna(), None))
    return frame
