#!/usr/bin/env python3
"""Writes bentos that nobody should trust into a folder, for the tests: python hostile.py FOLDER.

Only the standard library. What lies in FOLDER/bombs wants to fill disks and memory, FOLDER/escapes climbs out of where it
is unpacked, FOLDER/documents lies in its bento.yaml. FOLDER/harmless is only strange.
"""

import bz2
import gzip
import io
import lzma
import pathlib
import sys
import tarfile
import zipfile

BENTO = """\
service: {service}
name: {name}
version: {version}
bentoml_version: 1.2.20
creation_time: '2024-01-01T00:00:00+00:00'
labels: {{}}
models:
- tag: {model}
  module: bentoml.sklearn
  creation_time: '2024-01-01T00:00:00+00:00'
entry_service: Iris
services:
- name: Iris
  models: []
  dependencies: []
envs: {envs}
docker:
  distro: debian
  python_version: '3.11'
  env: null
  system_packages: {packages}
python:
  packages: []
"""
PLAIN = {
    "service": "service:Iris",
    "name": "iris",
    "version": "'1'",
    "model": "iris:1",
    "envs": "[]",
    "packages": "null",
}
# What stands where a bento is unpacked, and must not be reached.
OUTSIDE = "outside.txt"


def description(**other):
    return BENTO.format(**{**PLAIN, **other}).encode()


def member(name, content=b"", kind=tarfile.REGTYPE, link="", size=None):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o644
    info.size = len(content) if size is None else size
    return info, content


def packed(members):
    return lzma.compress(tar(members))


def files(**other):
    """The members of a bento in which all is right but what is said of it."""
    return [
        member("bento.yaml", description(**other)),
        member("src/service.py", b"import bentoml\n"),
        member("env/python/requirements.txt", b"bentoml==1.2.20\n"),
        member("env/docker/entrypoint.sh", b"#!/bin/sh\n"),
        member("models/iris/latest", b"1"),
        member("models/iris/1/model.yaml", b"name: iris\nversion: '1'\nmodule: bentoml.sklearn\n"),
        member("models/iris/1/saved_model.pkl", b"\x80\x04N."),
    ]


def tar(members, ends=True):
    out = io.BytesIO()
    for info, content in members:
        out.write(info.tobuf(tarfile.PAX_FORMAT))
        out.write(content + b"\0" * (-len(content) % 512))
    return out.getvalue() + (b"\0" * 1024 if ends else b"")


def bombs(folder, _):
    """64 GiB of zeros in one member, and no more of them on the disk than the compression needs: streams follow each
    other in all three formats."""
    part = bytes(16 << 20)
    parts = 4096
    head = tar([*files(), member("models/iris/1/zeros", size=len(part) * parts)], ends=False)
    for ending, compress, count in [
        ("xz", lzma.compress, parts),
        # 1 : 1000 is all that deflate gives.
        ("gz", lambda data: gzip.compress(data, mtime=0), 512),
        ("bz2", bz2.compress, parts),
    ]:
        one = compress(part)
        with open(folder / f"zeros.{ending}", "wb") as file:
            file.write(compress(head))
            for _ in range(count):
                file.write(one)
    small = io.BytesIO()
    with zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in files():
            archive.writestr(info.name, content)
        archive.writestr("models/iris/1/zeros", part)
    (folder / "overlapping.zip").write_bytes(overlap(bytearray(small.getvalue())))
    # Each folder has two ways to the next one: a billion paths.
    links = [member(f"src/{n}/file", b"x") for n in range(31)]
    links += [member(f"src/{n}/{way}", kind=tarfile.SYMTYPE, link=f"../{n + 1}") for n in range(30) for way in "ab"]
    (folder / "links.bento").write_bytes(packed([*files(), *links]))
    (folder / "description.xz").write_bytes(lzma.compress(tar([member("bento.yaml", size=1 << 34)], ends=False)) + one_xz(64))
    laughs = ["labels:", "  a0: &a0 ha"] + [f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    (folder / "laughs.tar").write_bytes(tar([member("bento.yaml", description() + "\n".join(laughs).encode())]))
    deep = description() + b"schema: " + b"[" * 200_000
    (folder / "deep.tar").write_bytes(tar([member("bento.yaml", deep)]))


def one_xz(times):
    return lzma.compress(bytes(16 << 20)) * times


def overlap(archive):
    """The central directory of a zip file names its last member, the same bytes, a thousand times more."""
    end = archive.rindex(b"PK\5\6")
    count = int.from_bytes(archive[end + 10 : end + 12], "little")
    size = int.from_bytes(archive[end + 12 : end + 16], "little")
    start = int.from_bytes(archive[end + 16 : end + 20], "little")
    directory = bytes(archive[start : start + size])
    last = directory[directory.rindex(b"PK\1\2") :]
    more = b"".join(last.replace(b"1/zeros", b"1/z%04d" % number) for number in range(1000))
    tail = archive[end:]
    total = (count + 1000).to_bytes(2, "little")
    tail[8:10], tail[10:12] = total, total
    tail[12:16] = (size + len(more)).to_bytes(4, "little")
    return bytes(archive[:start]) + directory + more + bytes(tail)


def escapes(folder, outside):
    """Each would write, read or replace something that is not its own."""
    evil = b"evil"
    cases = {
        "parent": [member(f"../{OUTSIDE}", evil)],
        "parents": [member(f"src/../../{OUTSIDE}", evil)],
        "dot-parent": [member(f"./src/./../../{OUTSIDE}", evil)],
        "absolute": [member(str(outside), evil)],
        "link-folder": [
            member("src/up", kind=tarfile.SYMTYPE, link="../.."),
            member(f"src/up/{OUTSIDE}", evil),
        ],
        "link-chain": [
            member("src/a", kind=tarfile.SYMTYPE, link=".."),
            member("src/b", kind=tarfile.SYMTYPE, link="a/.."),
            member(f"src/b/{OUTSIDE}", evil),
        ],
        "link-loop": [member("src/loop", kind=tarfile.SYMTYPE, link="../src")],
        "link-self": [member("src/self", kind=tarfile.SYMTYPE, link="self")],
        "link-read": [member("src/secret", kind=tarfile.SYMTYPE, link=str(outside))],
        "link-weights": [member("models/iris/1/secret", kind=tarfile.SYMTYPE, link=str(outside))],
        "link-model": [member("models/other", kind=tarfile.SYMTYPE, link=str(outside.parent))],
        "hard-link": [member("src/secret", kind=tarfile.LNKTYPE, link=str(outside))],
        "hard-link-up": [member("src/secret", kind=tarfile.LNKTYPE, link=f"../{OUTSIDE}")],
        "hard-link-write": [
            member("src/secret", kind=tarfile.LNKTYPE, link=str(outside)),
            member("src/secret", evil),
        ],
        "device": [member("src/disk", kind=tarfile.BLKTYPE)],
        "character-device": [member("src/null", kind=tarfile.CHRTYPE)],
        "pipe": [member("src/pipe", kind=tarfile.FIFOTYPE)],
        "description-link": [member("bento.yaml", kind=tarfile.SYMTYPE, link=str(outside))],
        "terminal": [member("src/\x1b[2J.py", evil)],
        "long": [member("src/" + "x" * 300)],
        "file-as-folder": [member("src/service.py/x", evil)],
    }
    for name, members in cases.items():
        first = [] if name == "description-link" else files()
        (folder / f"{name}.bento").write_bytes(packed(first + members))
    for name, path, mode in [
        ("parent", f"../{OUTSIDE}", 0o100644),
        ("absolute", str(outside), 0o100644),
        ("link", "src/secret", 0o120777),
    ]:
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for info, content in files():
                archive.writestr(info.name, content)
            info = zipfile.ZipInfo(path)
            info.external_attr = mode << 16
            archive.writestr(info, str(outside) if name == "link" else evil)


def documents(folder, outside):
    """A description that says what no BentoML wrote."""
    touch = f"touch {outside.with_name('touched')}"
    cases = {
        "service-command": {"service": f"'service:Iris; {touch}'"},
        "service-substitution": {"service": f"'$({touch}):Iris'"},
        "service-line": {"service": f'"service:Iris\\nRUN {touch}"'},
        "service-path": {"service": "'../../../x:Iris'"},
        "service-option": {"service": "'--reload'"},
        "service-terminal": {"service": '"service:\\e[2JIris"'},
        "name-path": {"name": "../../iris"},
        "name-absolute": {"name": "/iris"},
        "name-command": {"name": f"'iris; {touch}'"},
        "name-substitution": {"name": "'`id`'"},
        "name-long": {"name": "i" * 64},
        "name-empty": {"name": "''"},
        "name-list": {"name": "[iris]"},
        "version-path": {"version": "1/../../2"},
        "version-line": {"version": '"1\\n2"'},
        "model-path": {"model": "'../../secret:1'"},
        "model-version-path": {"model": "'iris:../../..'"},
        "model-absolute": {"model": "/etc:1"},
        "model-command": {"model": f"'iris:$({touch})'"},
        "model-missing": {"model": "other:1"},
        "variable-name": {"envs": "[{name: 'A=B', value: x}]"},
        "variable-line": {"envs": '[{name: "A\\nRUN id", value: x}]'},
        "variable-loader": {"envs": "[{name: 'A B', value: x}]"},
        "package-command": {"packages": f"['libgomp1; {touch}']"},
        "package-option": {"packages": "['-o', 'Debug=1']"},
        "package-path": {"packages": "['../../x.deb']"},
    }
    for name, other in cases.items():
        (folder / f"{name}.bento").write_bytes(packed(files(**other)))
    (folder / "none.bento").write_bytes(packed(files()[1:]))
    (folder / "binary.bento").write_bytes(packed([member("bento.yaml", bytes(range(256)))]))
    (folder / "list.bento").write_bytes(packed([member("bento.yaml", b"- service\n")]))


def harmless(folder, outside):
    """What looks like an attack, and is none."""
    many = [member(f"src/{number // 1000}/{number}.py") for number in range(100_000)]
    cases = {
        "members": many,
        "deep": [member("src/" + "/".join(["d"] * 1500) + "/x")],
        "case": [member("SRC/service.py"), member("src/Service.py")],
        "twice": files(service="other:Other"),
        # A name ends there.
        "null": [member("src/a\0b", b"mine")],
        # Another file takes the place of the link.
        "link-file": [member("src/out", kind=tarfile.SYMTYPE, link=str(outside)), member("src/out", b"mine")],
    }
    for name, members in cases.items():
        (folder / f"{name}.bento").write_bytes(lzma.compress(tar(files() + members), preset=0))
    # Names and kinds of another system mean nothing here.
    for name, path, mode in [("backslash", f"..\\{OUTSIDE}", 0o100644), ("device", "src/disk", 0o060644)]:
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for info, content in files():
                archive.writestr(info.name, content)
            info = zipfile.ZipInfo(path)
            info.external_attr = mode << 16
            archive.writestr(info, b"mine")


def main(folder):
    folder = pathlib.Path(folder).resolve()
    outside = folder / OUTSIDE
    outside.write_text("mine")
    for make in (bombs, escapes, documents, harmless):
        place = folder / make.__name__
        place.mkdir()
        make(place, outside)


if __name__ == "__main__":
    main(sys.argv[1])
