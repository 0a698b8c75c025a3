"""What a model of MLflow's says that it takes (https://mlflow.org/docs/latest/ml/model/signatures/), held against requests.

The rules are those of MLflow 3: what its scoring server takes is taken here and comes out as the same tables and arrays, and
what it refuses is refused. A request is read in two steps, as there: JSON is cast to the types of the signature, generously;
then whatever came, CSV as well, is held against it, and only safe casts are made.
"""

from __future__ import annotations

import base64
import datetime
import logging
from itertools import chain
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy

# What MLflow calls types, with numpy's, pandas' and Python's. A text of any length has none of numpy's with a size.
SCALARS: Dict[str, Tuple[Any, Any, Any]] = {
    "boolean": (numpy.dtype("bool"), numpy.dtype("bool"), bool),
    "integer": (numpy.dtype("int32"), numpy.dtype("int32"), int),
    "long": (numpy.dtype("int64"), numpy.dtype("int64"), int),
    "float": (numpy.dtype("float32"), numpy.dtype("float32"), float),
    "double": (numpy.dtype("float64"), numpy.dtype("float64"), float),
    "string": (numpy.dtype("str"), object, str),
    "binary": (numpy.dtype("bytes"), object, bytes),
    "datetime": (numpy.dtype("datetime64[ns]"), numpy.dtype("datetime64[ns]"), datetime.date),
}
# Numbers of columns whose cast changes nothing but the type, by what Python's values are of.
FROM = {"double": {int, float}, "float": {int, float}, "long": {int}, "integer": {int}}
INT32 = numpy.iinfo("int32")
logger = logging.getLogger("ekiben")


class Mismatch(Exception):
    """A value is not what the signature says."""


class Invalid(Exception):
    """A request's body cannot be made what the signature says."""

    def __init__(self, message: str) -> None:
        super().__init__(f"Invalid input. {message}")


class Type:
    """A type of a column, of a parameter, or within one."""

    def __init__(self, written: Dict[str, Any]) -> None:
        self.kind: str = written["type"]
        self.inner: Optional[Type] = None
        self.members: Dict[str, Tuple[Type, bool]] = {}
        if self.kind == "sparkml_vector":
            self.kind, self.inner = "array", Type({"type": "double"})
        elif self.kind == "array":
            self.inner = Type(written["items"])
        elif self.kind == "map":
            self.inner = Type(written["values"])
        elif self.kind == "object":
            properties = sorted(written["properties"].items())
            self.members = {name: (Type(one), one.get("required", True)) for name, one in properties}
        elif self.kind != "any" and self.kind not in SCALARS:
            raise ValueError(f"the signature has a column of an unknown type, {self.kind}")
        self.is_scalar = self.kind in SCALARS
        self.numpy, self.pandas, self.python = SCALARS.get(self.kind, (None, None, None))

    def __repr__(self) -> str:
        if self.kind == "array":
            return f"Array({self.inner!r})"
        if self.kind == "map":
            return f"Map(str -> {self.inner!r})"
        if self.kind == "object":
            return "{" + ", ".join(f"{name}: {of!r} ({told(needed)})" for name, (of, needed) in self.members.items()) + "}"
        return "Any" if self.kind == "any" else self.kind


class Column:
    """A column, or a value that has no name."""

    def __init__(self, written: Dict[str, Any]) -> None:
        self.name: Optional[str] = written.get("name")
        self.type = Type(written)
        # MLflow has no default for types within types; and before 2.10 it wrote `optional`.
        self.required = bool(written.get("required", self.type.is_scalar and not written.get("optional", False)))

    def __repr__(self) -> str:
        return f"{'' if self.name is None else repr(self.name) + ': '}{self.type!r} ({told(self.required)})"


class Tensor:
    """An array, of a type of numpy's and a shape in which -1 is any length."""

    required = True

    def __init__(self, written: Dict[str, Any]) -> None:
        self.name: Optional[str] = written.get("name")
        self.type = numpy.dtype(written["tensor-spec"]["dtype"])
        self.shape = tuple(written["tensor-spec"]["shape"])

    def __repr__(self) -> str:
        return f"{'' if self.name is None else repr(self.name) + ': '}Tensor({self.type.name!r}, {self.shape!r})"


def told(required: bool) -> str:
    return "required" if required else "optional"


class Inputs:
    """All that a model takes but its parameters."""

    def __init__(self, written: List[Dict[str, Any]]) -> None:
        self.are_tensors = written[0]["type"] == "tensor"
        self.all: List[Any] = [Tensor(one) if self.are_tensors else Column(one) for one in written]
        self.are_named = self.all[0].name is not None
        self.by_name: Dict[Any, Any] = {one.name: one for one in self.all} if self.are_named else {}
        names = [one.name or place for place, one in enumerate(self.all)]
        self.names: List[Any] = names
        self.required: List[Any] = [name for name, one in zip(names, self.all) if one.required]
        kinds = {one.type.kind for one in self.all} if self.are_named and not self.are_tensors else set()
        # The only type of all columns, where a table can be made of numbers at once.
        self.only = kinds.pop() if len(kinds) == 1 and kinds <= set(FROM) and len(self.required) == len(names) else None
        self.index: Any = None

    def __repr__(self) -> str:
        return repr(self.all)

    def numbers(self, columns: Any, rows: Any) -> Any:
        """A table of numbers, of rows as JSON brings them, when it is just what the signature says; else None.

        It is as the longer way would make it, to the order of its values in memory.
        """
        if self.only is None or not isinstance(rows, list) or not rows:
            return None
        names, places = self.names, None
        if columns != names:
            if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
                return None
            if len(columns) != len(names) or set(columns) != set(names):
                return None
            places = [columns.index(name) for name in names]
        width = len(names)
        if not all(type(row) is list and len(row) == width for row in rows):
            return None
        return self.numbered(zip(*rows), places)

    def recorded(self, rows: Any) -> Any:
        """The same, of objects."""
        if self.only is None or not isinstance(rows, list) or not rows:
            return None
        width = len(self.names)
        if not all(type(row) is dict and len(row) == width for row in rows):
            return None
        try:
            return self.numbered(([row[name] for row in rows] for name in self.names), None)
        except KeyError:
            return None

    def numbered(self, columns: Any, places: Optional[List[int]]) -> Any:
        values = list(columns)
        if places is not None:
            values = [values[place] for place in places]
        if not set(map(type, chain.from_iterable(values))) <= FROM[self.only or ""]:
            return None
        kind = SCALARS[self.only or ""][0]
        try:
            whole = numpy.array(values, dtype="int64" if kind.kind == "i" else "float64")
        except OverflowError:
            return None
        if kind.kind == "i" and kind.itemsize == 4 and not (INT32.min <= whole.min() and whole.max() <= INT32.max):
            return None
        if self.index is None:
            self.index = pandas().Index(self.names)
        return pandas().DataFrame(whole.astype(kind, copy=False).T, columns=self.index, copy=False)

    # What JSON brings, cast to the types of the signature.

    def cast_table(self, frame: Any) -> Any:
        """A table whose columns are of the types of the signature; raises Invalid."""
        there = set(frame.columns)
        if self.are_named:
            pairs = list(zip(self.names, (one.type for one in self.all)))
        elif self.are_tensors and len(self.all) == 1:
            pairs = [(column, self.all[0].type) for column in there]
        else:
            pairs = list(zip(frame.columns, (one.type for one in self.all)))
        for name, of in pairs:
            if name not in there:
                continue
            try:
                self.cast_column(frame, name, of, name in self.required)
            except Exception as error:
                wanted = of.pandas if isinstance(of, Type) and of.is_scalar else of
                raise Invalid(
                    "Data is not compatible with model signature. "
                    f"Failed to convert column {name} to type '{wanted}'. Error: '{error!r}'"
                ) from None
        return frame

    def cast_column(self, frame: Any, name: Any, of: Any, required: bool) -> None:
        is_type = isinstance(of, Type)
        if is_type and of.kind == "binary":
            frame[name] = frame[name].map(lambda text: base64.decodebytes(bytes(text, "utf8")))
        elif not is_type and of == numpy.dtype(bytes):
            frame[name] = frame[name].map(lambda text: bytes(text, "utf8"))
        elif self.are_tensors and isinstance(frame[name].iloc[0], list):
            # Of several dimensions: its type is held later.
            pass
        elif is_type and of.kind == "any":
            pass
        elif is_type and not of.is_scalar:
            frame[name] = frame[name].map(lambda value: enforced(value, of, required))
        elif is_type and of.kind == "datetime":
            parsed = pandas().to_datetime(frame[name])
            # From pandas 3 on it is of microseconds.
            if getattr(parsed.dtype, "kind", "") == "M" and getattr(parsed.dt, "unit", "ns") != "ns":
                parsed = parsed.dt.as_unit("ns")
            frame[name] = parsed
        else:
            wanted = of.pandas if is_type else of
            is_text = wanted is object or getattr(wanted, "kind", "") in "UO"
            if is_text and isinstance(frame[name].dtype, pandas().StringDtype):
                return
            frame[name] = frame[name].astype(wanted)

    def cast_value(self, value: Any, of: Any) -> Any:
        try:
            if isinstance(of, Tensor):
                return numpy.array(value, dtype=of.type)
            if of.type.is_scalar:
                if isinstance(value, list):
                    return numpy.array(value, of.type.numpy)
                return numpy.array([value], of.type.numpy)[0]
            if of.type.kind == "array":
                return numpy.array(array(value, of.type, of.required))
            return enforced(value, of.type, of.required)
        except Exception as error:
            raise Invalid(str(error)) from None

    # What came in any way, held against the signature.

    def enforce(self, value: Any) -> Any:
        """What the model is given; raises Mismatch, or whatever numpy and pandas do."""
        if not self.are_tensors:
            value = self.as_table(value)
        if self.are_named:
            value = self.check_names(value)
        elif not self.are_tensors and len(value.columns) < len(self.all):
            raise Mismatch(
                f"Model inference is missing inputs. The model signature declares {len(self.all)} inputs  but the provided "
                f"value only has {len(value.columns)} inputs. Note: the inputs were not named in the signature so we can "
                "only verify their count."
            )
        return self.tensors(value) if self.are_tensors else self.columns(value)

    def as_table(self, value: Any) -> Any:
        frames = pandas()
        if numpy.isscalar(value):
            return frames.DataFrame([value])
        if isinstance(value, frames.Series):
            return frames.DataFrame(value)
        if isinstance(value, dict):
            values = value.values()
            if any(one.type.kind in ("array", "object") for one in self.all) or all(map(is_single, values)):
                return frames.DataFrame([value])
            try:
                if all(isinstance(one, numpy.ndarray) and one.dtype.kind == "U" and one.shape == () for one in values):
                    return frames.DataFrame([value])
                nested = [isinstance(one, numpy.ndarray) and one.ndim > 1 for one in values]
                return frames.DataFrame(
                    {name: one.tolist() if is_nested else one for (name, one), is_nested in zip(value.items(), nested)}
                )
            except Exception as error:
                raise Mismatch(
                    "This model contains a column-based signature, which suggests a DataFrame input. There was an error "
                    f"casting the input data to a DataFrame: {error}"
                ) from None
        if isinstance(value, (list, numpy.ndarray)):
            return frames.DataFrame(value)
        if not isinstance(value, frames.DataFrame):
            raise Mismatch(f"Expected input to be DataFrame. Found: {type(value).__name__}")
        return value

    def check_names(self, value: Any) -> Any:
        if len(self.required) == 1 and isinstance(value, numpy.ndarray):
            value = {self.required[0]: value}
            there = set(self.required)
        elif isinstance(value, dict):
            there = set(value)
        else:
            there = set(getattr(value, "columns", ()))
        missing = [name for name in self.required if name not in there]
        extra = [name for name in there if name not in self.by_name]
        if missing:
            more = f" Note that there were extra inputs: {extra}." if extra else ""
            raise Mismatch(f"Model is missing inputs {missing}.{more}")
        if extra:
            logger.warning("inputs that the signature does not have are left out: %s", extra)
        return value

    def columns(self, frame: Any) -> Any:
        kept = {}
        pairs = zip(self.names, self.all) if self.are_named else zip(frame.columns, self.all)
        for name, one in pairs:
            # What is required is there.
            if name in frame:
                column = frame[name]
                if one.type.is_scalar:
                    kept[name] = safely_cast(name, column, one.type)
                else:
                    required = one.required if self.are_named else True
                    values = [enforced(value, one.type, required) for value in column]
                    kept[name] = pandas().Series(values, index=frame.index, name=name)
        return pandas().DataFrame(kept)

    def tensors(self, value: Any) -> Any:
        is_table = hasattr(value, "columns") and hasattr(value, "iloc")
        if self.are_named:
            if is_table:
                return {one.name: of_column(one.name, value[one.name], one) for one in self.all}
            if not isinstance(value, dict):
                raise Mismatch(
                    "This model contains a tensor-based model signature with input names, which suggests a dictionary input "
                    "mapping input name to tensor, or a pandas DataFrame input containing columns mapping input name to "
                    f"flattened list value from tensor, but an input of type {type(value)} was found."
                )
            for one in self.all:
                if not isinstance(value[one.name], numpy.ndarray):
                    raise Mismatch(
                        "This model contains a tensor-based model signature with input names, which suggests a dictionary "
                        "input mapping input name to a numpy array, but a dict with value type "
                        f"{type(value[one.name])} was found."
                    )
            return {one.name: fitting(value[one.name], one) for one in self.all}
        only = self.all[0]
        if not is_table:
            if not isinstance(value, numpy.ndarray):
                raise Mismatch(
                    "This model contains a tensor-based model signature with no input names, which suggests a numpy array "
                    f"input or a pandas dataframe input with proper column values, but an input of type {type(value)} was "
                    "found."
                )
            return fitting(value, only)
        if value.empty:
            raise Mismatch("Input DataFrame is empty.")
        width = len(value.columns)
        if width == 1:
            return of_column(None, value[value.columns[0]], only)
        if only.shape != (-1, width):
            raise Mismatch(
                "This model contains a model signature with an unnamed input. Since the input data is a pandas DataFrame "
                "containing multiple columns, the input shape must be of the structure (-1, number_of_dataframe_columns). "
                f"Instead, the input DataFrame passed had {width} columns and an input shape of {only.shape} with all "
                "values within the DataFrame of scalar type. Please adjust the passed in DataFrame to match the expected "
                "structure"
            )
        return fitting(value.to_numpy(), only)


def pandas() -> Any:
    """Pandas, which only models have that take tables."""
    import pandas

    return pandas


def is_single(value: Any) -> bool:
    texts = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return texts or value is None or numpy.isscalar(value)


def safely_cast(name: Any, values: Any, of: Type) -> Any:
    """A column as one of the type, where no value can become another one by it."""
    if values.dtype == object and of.kind not in ("binary", "string"):
        values = values.infer_objects()
    actual, wanted = values.dtype, of.numpy
    is_texts = isinstance(actual, pandas().StringDtype)
    if of.kind == "string" and (actual == object or is_texts) or of.kind == "binary" and is_texts:
        return values
    if of.pandas == actual or wanted == actual or of.kind == "binary" and actual.kind == wanted.kind:
        return values
    if of.kind == "datetime":
        try:
            if actual.kind == "M":
                return values.astype("datetime64[ns]")
            if actual == object:
                return values.astype("datetime64[ns]", errors="raise")
        except TypeError as error:
            raise Mismatch(
                "Please ensure that the input data of datetime column only contains timezone-naive datetime objects. "
                f"Error: {error}"
            ) from None
        except ValueError:
            raise Mismatch(f"Failed to convert column {name} from type {actual} to {of!r}.") from None
    if of.kind == "boolean" and actual == object:
        # None would become False.
        return values
    if actual.kind == wanted.kind:
        is_safe = actual.itemsize <= wanted.itemsize
    elif actual.kind == "u" and wanted.kind == "i":
        is_safe = actual.itemsize < wanted.itemsize
    elif actual.kind in ("i", "u") and wanted == numpy.float64:
        is_safe = actual.itemsize <= 6
    else:
        is_safe = False
    # Whole numbers of 64 bits may have no float that is the same, but these have.
    is_whole = actual == numpy.int64 and wanted.kind == "f"
    if is_safe or is_whole and all(pandas().isnull(one) or one in (0, 1) for one in values):
        return values.astype(wanted, errors="raise")
    hint = ""
    if actual == numpy.float64 and wanted.kind in "iu" and values.hasnans:
        hint = (
            " Hint: the type mismatch is likely caused by missing values. Integer columns in python can not represent "
            "missing values and are therefore encoded as floats."
        )
    raise Mismatch(
        f"Incompatible input types for column {name}. Can not safely convert {actual} to {wanted}.{hint}"
    )


def enforced(value: Any, of: Type, required: bool) -> Any:
    """A value within a column of objects, lists or maps."""
    if of.kind == "any":
        return value
    if of.kind == "array":
        return array(value, of, required)
    inner = of.inner
    if of.kind == "map" and inner is not None:
        if (not required or inner.kind == "any") and (value is None or value == {}):
            return value
        if not isinstance(value, dict):
            raise Mismatch(f"Expected data to be a dict, got {type(value).__name__}")
        return {name: enforced(one, inner, required) for name, one in value.items()}
    if of.kind == "object":
        return members(value, of, required)
    if not required and (value is None or isinstance(value, float) and value != value):
        return None
    if not numpy.isscalar(value):
        raise Mismatch(f"Expected data to be scalar, got {type(value).__name__}")
    try:
        return safely_cast("", pandas().Series(value), of)[0]
    except Mismatch:
        raise Mismatch(f"Failed to enforce schema of data `{value}` with dtype `{of.kind}`") from None


def array(value: Any, of: Type, required: bool) -> Any:
    inner = of.inner or of
    is_list = isinstance(value, (list, numpy.ndarray))
    if (not required or inner.kind == "any") and (value is None or is_list and len(value) == 0):
        return value
    if not is_list:
        raise Mismatch(f"Expected data to be list or numpy array, got {type(value).__name__}")
    if not inner.is_scalar:
        whole: Any = [enforced(one, inner, required) for one in value]
    elif len(value):
        whole = safely_cast("", pandas().Series(value), inner).to_numpy(dtype=inner.numpy)
    else:
        whole = value
    if isinstance(value, list):
        return whole.tolist() if isinstance(whole, numpy.ndarray) else whole
    return numpy.array(whole) if isinstance(whole, list) else whole


def members(value: Any, of: Type, required: bool) -> Any:
    if not required and (value is None or value == {}):
        return value
    if not isinstance(value, dict):
        raise Mismatch(
            f"Failed to enforce schema of '{value}' with type '{of!r}'. Expected data to be dictionary, got "
            f"{type(value).__name__}"
        )
    missing = {name for name, (_, needed) in of.members.items() if needed} - value.keys()
    if missing:
        raise Mismatch(f"Missing required properties: {missing}")
    unknown = value.keys() - of.members.keys()
    if unknown:
        raise Mismatch(f"Invalid properties not defined in the schema found: {unknown}")
    for name, one in value.items():
        inner, needed = of.members[name]
        try:
            value[name] = enforced(one, inner, needed)
        except Mismatch as error:
            raise Mismatch(
                f"Failed to enforce schema for key `{name}`. Expected type {inner.kind}, received type {type(one).__name__}"
            ) from error
    return value


def fitting(values: Any, of: Tensor) -> Any:
    """An array, when it has the type and the shape."""
    wanted, actual = of.shape, values.shape
    if wanted == (-1,) and of.type == numpy.dtype("O"):
        return values
    if len(wanted) > 1 and -1 in wanted[1:] and len(actual) == 1 and values.dtype == numpy.dtype("O"):
        # Its rows are of several lengths.
        return values
    if len(wanted) != len(actual) or any(length not in (-1, own) for length, own in zip(wanted, actual)):
        raise Mismatch(f"Shape of input {actual} does not match expected shape {wanted}.")
    kind = values.dtype
    if numpy.dtype({"U": "str", "S": "bytes"}.get(kind.char, kind)) != of.type:
        raise Mismatch(f"dtype of input {kind} does not match expected dtype {of.type}")
    return values


def of_column(name: Optional[str], values: Any, of: Tensor) -> Any:
    """An array of a column of a table, whose values may be lists."""
    if of.shape[0] != -1 or -1 in of.shape[1:]:
        raise Mismatch(
            "For pandas dataframe input, the first dimension of shape must be a variable dimension and other dimensions "
            f"must be fixed, but in model signature the shape of {'input ' + name if name else 'the unnamed input'} is "
            f"{of.shape}."
        )
    first = values[0]
    if numpy.isscalar(first):
        if of.shape in ((-1,), (-1, 1)):
            return fitting(numpy.array(values, dtype=of.type).reshape(of.shape), of)
        raise Mismatch(
            f"The input pandas dataframe column '{name}' contains scalar values, which requires the shape to be (-1,) or "
            f"(-1, 1), but got tensor spec shape of {of.shape}."
        )
    if isinstance(first, list) and numpy.isscalar(first[0]) or isinstance(first, numpy.ndarray):
        try:
            whole = numpy.vstack(values.tolist()).reshape(of.shape)
            whole = whole.astype(of.type) if isinstance(first, list) else whole
        except ValueError:
            whole = []
        if len(whole) == len(values):
            return whole
        raise Mismatch(
            f"The value in the Input DataFrame column '{name}' could not be converted to the expected shape of: "
            f"'{of.shape}'. Ensure that each of the input list elements are of uniform length and that the data can be "
            f"coerced to the tensor type '{of.type}'"
        )
    raise Mismatch(
        "Because the model signature requires tensor spec input, the input pandas dataframe values should be either scalar "
        "value, python list containing scalar values or numpy array containing scalar values, other types are not supported."
    )


class Parameter:
    """A parameter of a model, with its default."""

    def __init__(self, written: Dict[str, Any]) -> None:
        self.name: str = str(written["name"])
        # What MLflow 2.6 wrote says `dtype`.
        self.type = Type({**written, "type": written.get("type") or written.get("dtype")})
        self.is_list = written.get("shape") is not None
        self.default = self.checked(written["default"])

    def __repr__(self) -> str:
        return f"{self.name!r}: {self.type!r}{' (shape: (-1,))' if self.is_list else ''}"

    def checked(self, value: Any) -> Any:
        """The value as the model gets it; raises Mismatch."""
        if self.is_list:
            if not isinstance(value, list) or numpy.array(value).ndim != 1:
                raise Mismatch(
                    f"Value must be a 1D array with shape (-1,) for param {self!r}, received {type(value).__name__}"
                )
            return [parameter(one, self.type) for one in value]
        if not self.type.is_scalar:
            members(copied(value), self.type, True)
            return value
        return parameter(value, self.type)


def copied(value: Any) -> Any:
    """Lists and objects of JSON anew."""
    if isinstance(value, dict):
        return {name: copied(one) for name, one in value.items()}
    return [copied(one) for one in value] if isinstance(value, list) else value


def parameter(value: Any, of: Type) -> Any:
    """A value of a parameter, of Python's own types."""
    if value is None:
        return None
    if of.kind == "datetime":
        try:
            made = numpy.datetime64(value).item()
        except ValueError:
            made = None
        if not isinstance(made, datetime.date):
            raise Mismatch(f"Failed to convert value `{value}` from type `{type(value)}` to `{of!r}`")
        return made
    if not numpy.isscalar(value):
        raise Mismatch(f"Value must be a scalar for type `{of!r}`, got `{value}`")
    if type(value) is of.python or of.python is float and type(value) is int:
        return of.python(value)
    raise Mismatch(f"Can not safely convert `{type(value)}` to `{of!r}` for value `{value}`")


def parameters(known: Optional[List[Parameter]], given: Any) -> Any:
    """The parameters of a request, with the defaults of those that are not given; raises Mismatch."""
    if known is None:
        if given:
            logger.warning("the model has no parameters, so those of the request are left out")
            return {}
        return given
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise Mismatch(f"Parameters must be a dictionary. Got type '{type(given).__name__}'.")
    unknown = given.keys() - {one.name for one in known}
    if unknown:
        logger.warning("parameters that the signature does not have are left out: %s", sorted(unknown))
    found = {name: value for name, value in given.items() if name not in unknown}
    wrong = set()
    for one in known:
        if one.name not in found:
            found[one.name] = one.default
            continue
        try:
            found[one.name] = one.checked(found[one.name])
        except Exception as error:
            wrong.add((one.name, f"Failed to validate type and shape for {one!r}, error: {error}"))
    if wrong:
        raise Mismatch(f"Invalid parameters found: {wrong!r}")
    return found


def read(inputs: Optional[Inputs], form: str, value: Any) -> Tuple[Any, bool]:
    """What the JSON of a request is, and whether it is known to be as the signature says; raises Invalid."""
    if form == "dataframe_records":
        return of_records(inputs, value)
    if form == "dataframe_split":
        return of_split(inputs, value)
    try:
        return of_instances(inputs, value) if form == "instances" else of_inputs(inputs, value), False
    except Invalid:
        raise
    except Exception as error:
        raise Invalid(f"Ensure that the input is a valid JSON-formatted string.\nError: {error!r}") from None


def of_records(inputs: Optional[Inputs], rows: Any) -> Tuple[Any, bool]:
    if not isinstance(rows, list):
        kind = "dictionary" if isinstance(rows, dict) else f"type {type(rows)}"
        raise Invalid(f"Dataframe records format must be a list of records. Got {kind}.")
    table = inputs.recorded(rows) if inputs else None
    if table is not None:
        return table, True
    return made(inputs, lambda: pandas().DataFrame(data=rows), "records"), False


def of_split(inputs: Optional[Inputs], split: Any) -> Tuple[Any, bool]:
    if not isinstance(split, dict):
        kind = "list" if isinstance(split, list) else f"type {type(split)}"
        raise Invalid(f"Dataframe split format must be a dictionary. Got {kind}.")
    keys = set(split)
    if "data" not in keys or keys - {"columns", "data", "index"}:
        raise Invalid(
            f"Dataframe split format must have 'data' field and optionally 'columns' and 'index' fields. Got {keys}.'"
        )
    columns, data, index = split.get("columns"), split["data"], split.get("index")
    table = inputs.numbers(columns, data) if inputs and index is None else None
    if table is not None:
        return table, True
    return made(inputs, lambda: pandas().DataFrame(data, index, columns), "split"), False


def made(inputs: Optional[Inputs], make: Callable[[], Any], form: str) -> Any:
    try:
        frame = make()
    except Exception as error:
        raise Invalid(
            f"Provided dataframe_{form} field is not a valid dataframe representation in '{form}' format. Error: '{error}'"
        ) from None
    return frame if inputs is None else inputs.cast_table(frame)


def of_instances(inputs: Optional[Inputs], rows: Any) -> Any:
    if isinstance(rows, list) and rows and isinstance(rows[0], dict):
        columns: Dict[str, List[Any]] = {}
        for row in rows:
            for name, one in row.items():
                columns.setdefault(name, []).append(cast(inputs, one, name))
        value: Any = {name: numpy.array(column) for name, column in columns.items()}
    else:
        value = of_inputs(inputs, rows)
    if isinstance(value, dict):
        sized = {name: one for name, one in value.items() if isinstance(one, (list, numpy.ndarray))}
        if inputs is not None and inputs.are_named:
            is_array = {one.name: not inputs.are_tensors and one.type.kind == "array" for one in inputs.all}
            sized = {name: one for name, one in sized.items() if name in inputs.required and not is_array[name]}
        if len({len(one) for one in sized.values()}) > 1:
            raise Invalid("The length of values for each input/column name are not the same")
    return value


def of_inputs(inputs: Optional[Inputs], value: Any) -> Any:
    is_list = isinstance(value, list)
    are_objects = is_list and all(isinstance(one, dict) for one in value)
    if inputs is not None:
        if len(inputs.by_name) == 1 and is_list and not any(isinstance(one, dict) for one in value):
            value, is_list, are_objects = {inputs.names[0]: value}, False, False
        elif not inputs.are_named and not (is_list or numpy.isscalar(value)):
            raise Invalid(
                "Failed to parse input data. This model contains an un-named  model signature which expects a single "
                f"n-dimensional array or a single value as input, however, an input of type {type(value)} was found."
            )
    if isinstance(value, dict):
        return {name: cast(inputs, one, name) for name, one in value.items()}
    if are_objects:
        return [{name: cast(inputs, one, name) for name, one in row.items()} for row in value]
    of = inputs.all[0] if inputs is not None else None
    if inputs is None or of is None:
        return array_of(value)
    return inputs.cast_value(value, of)


def cast(inputs: Optional[Inputs], value: Any, name: str) -> Any:
    of = None if inputs is None else inputs.by_name.get(name)
    return array_of(value) if inputs is None or of is None else inputs.cast_value(value, of)


def array_of(value: Any) -> Any:
    """An array of whatever numpy makes of it."""
    try:
        return numpy.array(value)
    except Exception as error:
        raise Invalid(str(error)) from None

