"""What a case of the zoo is, and how what it made is written.

A case trains a model on small data and saves it as the framework's own documentation recommends. It is a function that
is given an empty folder and the means to write down what it asks. This file is read by the harness and by the Python of
each environment: it uses nothing but the standard library, and cases import their frameworks in their functions.
"""

import dataclasses
import importlib.metadata
import json
import math
import pathlib
import platform
from typing import Callable, Dict, Tuple

CASES: Dict[str, "Case"] = {}


@dataclasses.dataclass(frozen=True)
class Case:
    """A way of saving a model. `row` is that of the table of the issue, where it has one."""

    name: str
    row: str
    title: str
    environment: str
    packages: Tuple[str, ...]
    light: bool
    function: Callable


def case(name, row, title, environment, packages, light=False):
    """Makes a function a case. `packages` are those whose versions are noted; the environment has to have them."""

    def register(function):
        if name in CASES:
            raise ValueError(f"two cases have the name {name}")
        CASES[name] = Case(name, row, title, environment, tuple(packages.split()), light, function)
        return function

    return register


class Saved:
    """What a case hands on: where the model lies, what is asked of it, and what the framework itself answers.

    `folder` is what a person has: the model, and the code beside it. Question and answers lie outside of it.
    """

    def __init__(self, place: pathlib.Path):
        self.place = place
        self.folder = place / "saved"
        self.folder.mkdir(parents=True)
        self.model = None
        self.question = {}
        self.answers = {}
        self.natural = ()
        self.note = ""
        # What the file alone cannot say: the report has to name it, and nothing answers without it.
        self.lacking = ""
        # The file is code, by the way it is saved: whoever takes it has to say so.
        self.code = False

    def path(self, name):
        """Where a file or folder is saved that is the model."""
        self.model = self.folder / name
        return self.model

    def ask(self, **forms):
        """The question, in one or more forms that mean the same.

        `records` is a table with names (a data frame, or a list of objects), `rows` a matrix or a list of tensors,
        `texts` a list of texts, `tensors` an object of names, `value` what is none of these.
        """
        self.question = {form: plain(value) for form, value in forms.items()}

    def answer(self, natural, near=None, **answers):
        """What the framework says.

        `natural` names the calls that people mean when they say "predict": one or more, between blanks; the others are
        for routes of their own. `near` is the precision where the values do not tell it: numbers of 32 bits that the
        framework made Python's of.
        """
        self.natural = tuple(natural.split())
        self.answers = {
            name: {"precision": near or precision(value), "value": plain(value)} for name, value in answers.items()
        }
        missing = [name for name in self.natural if name not in self.answers]
        if missing:
            raise ValueError(f"there is no answer called {missing[0]}")

    def write(self, case):
        if not (self.model and self.model.exists() and self.question and self.answers):
            raise ValueError(f"{case.name} lacks a model, a question or an answer")
        about = {
            "case": case.name,
            "row": case.row,
            "title": case.title,
            "environment": case.environment,
            "light": case.light,
            "model": str(self.model.relative_to(self.place)),
            "python": platform.python_version(),
            "versions": {name: importlib.metadata.version(name) for name in case.packages},
            "note": self.note,
            "lacking": self.lacking,
            "code": self.code,
        }
        write(self.place / "question.json", self.question)
        write(self.place / "answer.json", {"natural": self.natural, "answers": self.answers})
        write(self.place / "case.json", about)


def write(path, value):
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def kinds(value):
    """The types of numbers in a value."""
    if hasattr(value, "dtypes") and hasattr(value, "to_dict"):  # a data frame, or a series
        dtypes = value.dtypes
        return {str(kind) for kind in dtypes} if hasattr(dtypes, "__iter__") else {str(dtypes)}
    if hasattr(value, "dtype"):
        return {str(value.dtype).removeprefix("torch.")}
    if isinstance(value, dict):
        return set().union(*map(kinds, value.values())) if value else set()
    if isinstance(value, (list, tuple)):
        return set().union(*map(kinds, value)) if value else set()
    return {type(value).__name__}


def precision(value):
    """How near an answer has to be: that of the coarsest number in it."""
    found = kinds(value)
    return "float32" if found & {"float32", "float16", "bfloat16"} else "float64"


def plain(value):
    """A value as JSON has it: arrays and tensors are lists, a data frame is a list of objects, a series a list."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return [plain(record) for record in value.to_dict("records")]
    if hasattr(value, "to_list") and hasattr(value, "index"):
        return plain(value.to_list())
    if hasattr(value, "detach"):
        return plain(value.detach().cpu().tolist())
    if hasattr(value, "numpy") and callable(value.numpy):
        return plain(value.numpy())
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"{type(value)} is nothing that JSON has")
