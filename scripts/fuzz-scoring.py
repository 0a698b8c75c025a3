#!/usr/bin/env python3
"""Holds what Java reads of a request against what Python's service reads, which is pydantic's: the same rows, or the same words of what
is wrong, for JSON that is broken in every way.

    scripts/fuzz-scoring.py H2O-GENMODEL.JAR [CASES] [SEED]      with a JDK; pydantic comes from the package index

60,000 cases take a quarter of a minute.
"""

import json
import os
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCORING = ROOT / "src/bundle/generate/templates/ekiben_service/scoring"
SOURCES = ["Columns", "Json", "Mistake", "Reader", "Refusal", "Rows", "Utf8"]
COLUMNS = {"warmth": None, "make": ["north", "so\"u'th", "öst\n\u200b日"], "free": [], "it's": ["it's", "x"]}

# Answers each case, which comes with its length, in the same way.
HARNESS = """
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.TreeMap;

public class Harness {
    public static void main(String[] args) throws Exception {
        String[][] words = {null, {"north", "so\\"u'th", "\\u00f6st\\n\\u200b\\u65e5"}, {}, {"it's", "x"}};
        Columns columns = new Columns(new String[] {"warmth", "make", "free", "it's"}, words);
        DataInputStream in = new DataInputStream(new BufferedInputStream(System.in));
        DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out));
        for (int count = in.readInt(); count > 0; count--) {
            byte[] text = new byte[in.readInt()];
            in.readFully(text);
            StringBuilder said = new StringBuilder();
            try {
                Rows rows = Reader.read(text, text.length, columns);
                said.append(rows.isMany ? "list" : "row");
                for (int at = 0; at < rows.count(); at++) {
                    said.append(new TreeMap<>(rows.row(at)));
                }
            } catch (Refusal refusal) {
                said.append(refusal.detail);
            }
            byte[] bytes = said.toString().getBytes(StandardCharsets.UTF_8);
            out.writeInt(bytes.length);
            out.write(bytes);
        }
        out.flush();
    }
}
"""
SEEDS = [
    b'{"warmth":1.5,"make":"north"}',
    b'{"rows":[{"warmth":-12e-3,"free":"\\ud83d\\ude00x"},{"make":"so\\"u\'th"},{}]}',
    b'{"x":[1,2,{"a":[null,true,false]}],"free":"\xc3\xb6\xe6\x97\xa5\xf0\x9f\x98\x80"}',
    b'{"warmth":NaN,"it\'s":"x","free":"\\u00e4\\n\\t\\/"}',
    b"[[[]],{}]",
    b' {\n "warmth" : -Infinity ,\n "rows": null }',
    b'{"warmth":123456789012345678901234567890.5e10,"make":"\xc3\xb6st\\n\xe2\x80\x8b\xe6\x97\xa5"}',
]
PIECES = b'{ } [ ] , : " \\ \\u \\ud800 \\udc00 0 1 - . e + null true nul NaN Infinity "warmth" "make" "rows" "free" "north" 1e400 / b'.split()
PIECES += [b" ", b"\n", b"\0", b"\x1f", b"\x7f", b"\xff", b"\xc3", b"\x80", b"\xed\xa0\x80", b"\xe6\x97", b"\xf4\x90\x80\x80", b"9" * 30]
EDGES = [
    *(sign + b"9" * digits + end for sign in (b"", b"-") for digits in (4300, 4301, 4302, 6000) for end in (b"", b".5", b"]")),
    *(opened * depth + inner + closed * depth for depth in range(197, 204) for opened, inner, closed in (
        (b"[", b"", b"]"), (b"[ ", b"1", b"]"), (b'{"a":', b"1", b"}"), (b'{ "a" : ', b"{}", b"}")
    )),
    *(b'{"rows":[{"q":' + b"[" * depth + b"]" * depth + b"}]}" for depth in range(196, 202)),
    b'{"rows":[{"a":1}],"rows":[]}',
    b'{"warmth":1 , "warmth":null}',
    b'{"warmth":-0}',
    b'{"warmth":-0.0}',
    b'"\xff\x01"',
    b'"\xff\\x"',
    b'"\\n\xff\x01"',
]


def cases(count, draw):
    yield from EDGES
    for _ in range(count):
        text = bytearray(draw.choice(SEEDS)) if draw.random() < 0.8 else bytearray()
        for _ in range(draw.randint(1, 6)):
            at, kind = draw.randint(0, len(text)), draw.random()
            if kind < 0.4:
                text[at:at] = draw.choice(PIECES)
            elif kind < 0.7:
                del text[at : at + draw.randint(1, 5)]
            elif kind < 0.75:
                del text[at:]
            else:
                text[at : at + draw.randint(0, 3)] = draw.choice(PIECES)
        yield bytes(text)


def expected(adapter, text):
    """What the service of Python makes of it; numbers stand in a list beside."""
    from pydantic import ValidationError

    try:
        found = adapter.validate_json(text)
    except ValidationError as error:
        told = error.errors(include_url=False, include_context=False, include_input=False)
        return json.dumps([{**one, "loc": ["body", *one["loc"]]} for one in told], ensure_ascii=False, separators=(",", ":")), []
    many = "rows" in found
    if many and len(found) > 1:
        return refused("beside `rows` there can be no columns")
    if not found:
        return refused(f"no column is given: the model knows {', '.join(COLUMNS)}")
    rows = found["rows"] if many else [found]
    shown = ({key: value if isinstance(value, str) else "#" for key, value in row.items() if value is not None} for row in rows)
    texts = ("{" + ", ".join(f"{key}={value}" for key, value in sorted(row.items())) + "}" for row in shown)
    return ("list" if many else "row") + "".join(texts), [row["warmth"] for row in rows if row.get("warmth") is not None]


def refused(words):
    return json.dumps([{"type": "value_error", "loc": ["body"], "msg": words}], separators=(",", ":")), []


def compare(genmodel, count, seed):
    from typing import List, Literal, Optional

    from pydantic import ConfigDict, TypeAdapter
    from typing_extensions import NotRequired, TypedDict

    def checked(name, fields):
        found = TypedDict(name, fields)
        found.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)
        return found

    kinds = {name: float if words is None else Literal[tuple(words)] if words else str for name, words in COLUMNS.items()}
    fields = {name: NotRequired[Optional[kind]] for name, kind in kinds.items()}
    adapter = TypeAdapter(checked("request", {**fields, "rows": NotRequired[List[checked("row", fields)]]}))
    asked = list(cases(count, random.Random(seed)))
    with tempfile.TemporaryDirectory() as folder:
        harness = pathlib.Path(folder, "Harness.java")
        harness.write_text(HARNESS)
        sources = [*(SCORING / f"{name}.java" for name in SOURCES), harness]
        subprocess.run(["javac", "-d", folder, "-cp", genmodel, *sources], check=True)
        given = struct.pack(">i", len(asked)) + b"".join(struct.pack(">i", len(one)) + one for one in asked)
        command = ["java", "-cp", os.pathsep.join((folder, genmodel)), "Harness"]
        said = subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout
    at = wrong = 0
    for one in asked:
        (length,) = struct.unpack_from(">i", said, at)
        text, at = said[at + 4 : at + 4 + length].decode(), at + 4 + length
        wanted, numbers = expected(adapter, one)
        found = [float(number.replace("Infinity", "inf")) for number in re.findall("warmth=([^,}]*)", text)]
        if re.sub("warmth=[^,}]*", "warmth=#", text) != wanted or not text.startswith("[") and repr(found) != repr(numbers):
            wrong += 1
            print(f"{one[:200]!r}\n  Java:   {text[:300]}\n  Python: {wanted[:300]}")
    print(f"{len(asked)} cases, {wrong} of them read in two ways")
    return 1 if wrong else 0


def main():
    try:
        import pydantic  # noqa: F401
    except ImportError:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            python = f"{folder}/bin/python"
            subprocess.run([python, "-m", "pip", "install", "-q", "pydantic"], check=True)
            return subprocess.run([python, *sys.argv]).returncode
    genmodel, count, seed = [*sys.argv[1:], *("60000", "1")[len(sys.argv) - 2 :]]
    return compare(genmodel, int(count), int(seed))


if __name__ == "__main__":
    sys.exit(main())
