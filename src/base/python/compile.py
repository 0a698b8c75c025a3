"""Compiles Python ahead. The first argument is a folder with two files: `sources`, one source after the other, and `index`,
which says of each where it begins there, how many bytes it has, and the name that its bytecode knows it by. The second is
the time that the sources will have, which Python 3.6 asks for.

Writes files `compiled.N`: for each source its place in the index, the size of its .pyc, both in 4 bytes with the lowest
first, and the .pyc. Sources that are no Python of this version (templates, tests of parsers) are left out. Nothing is
imported or run.
"""

import importlib.util
import marshal
import os
import sys


def header(source):
    if hasattr(importlib.util, "source_hash"):
        # PEP 552: the bytecode is never checked against its source.
        flags, rest = 1, importlib.util.source_hash(source)
    else:
        flags, rest = int(sys.argv[2]), (len(source) & 0xFFFFFFFF).to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + flags.to_bytes(4, "little") + rest


folder = sys.argv[1]
sources = os.open(f"{folder}/sources", os.O_RDONLY)
with open(f"{folder}/index", encoding="utf-8", newline="") as file:
    fields = file.read().split("\0")
index = list(zip(fields[0::3], fields[1::3], fields[2::3]))


def compiled(start, size, name):
    source = os.pread(sources, int(size), int(start))
    try:
        code = marshal.dumps(compile(source, name, "exec", dont_inherit=True))
    except Exception:
        return None
    return header(source) + code


# Each processor has a process, which takes the place of the next source from a pipe.
places, queue = os.pipe()
children = []
for worker in range(len(os.sched_getaffinity(0))):
    child = os.fork()
    if child == 0:
        os.close(queue)
        with open(f"{folder}/compiled.{worker}", "wb") as file:
            for place in iter(lambda: os.read(places, 4), b""):
                pyc = compiled(*index[int.from_bytes(place, "little")])
                if pyc is not None:
                    file.write(place + len(pyc).to_bytes(4, "little") + pyc)
        os._exit(0)
    children.append(child)
os.close(places)
for place in range(len(index)):
    os.write(queue, place.to_bytes(4, "little"))
os.close(queue)
if any(os.waitpid(child, 0)[1] != 0 for child in children):
    sys.exit("a process that compiles ended early")
print("compiled")
