"""Compiles a folder ahead. Arguments: the folder, where it will lie, a pattern of paths to leave out.

Files that are no Python of this version (templates, tests of parsers) are skipped. Nothing is imported or run. What
compileall does beside compiling costs a third more.
"""

import importlib.util
import marshal
import os
import re
import sys

# PEP 552: the bytecode is never checked against its source.
UNCHECKED_HASH = (1).to_bytes(4, "little")

folder, prefix, left_out = sys.argv[1:]
left_out = re.compile(left_out)


def sources(parent):
    with os.scandir(parent) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from sources(entry.path)
            elif entry.name.endswith(".py") and entry.is_file(follow_symlinks=False):
                if not left_out.search(entry.path):
                    yield entry.stat().st_size, entry.path


def compile_file(path):
    with open(path, "rb") as file:
        source = file.read()
    try:
        code = compile(source, prefix + path[len(folder) :], "exec", dont_inherit=True)
    except Exception:
        return
    target = importlib.util.cache_from_source(path, optimization="")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(importlib.util.MAGIC_NUMBER + UNCHECKED_HASH + importlib.util.source_hash(source))
        file.write(marshal.dumps(code))


# The largest first. Each processor has a process, which takes the number of the next file from a pipe.
paths = [path for _, path in sorted(sources(folder), reverse=True)]
numbers, queue = os.pipe()
children = []
for _ in os.sched_getaffinity(0):
    child = os.fork()
    if child == 0:
        os.close(queue)
        while number := os.read(numbers, 4):
            compile_file(paths[int.from_bytes(number, "little")])
        os._exit(0)
    children.append(child)
os.close(numbers)
for number in range(len(paths)):
    os.write(queue, number.to_bytes(4, "little"))
os.close(queue)
if any(os.waitpid(child, 0)[1] != 0 for child in children):
    sys.exit("a process that compiles ended early")
print("compiled")
