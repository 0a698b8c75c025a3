"""Compiles a folder ahead. Arguments: the folder, where it will lie, a pattern of paths to leave out.

Files that are no Python of this version (templates, tests of parsers) are skipped. Nothing is imported or run. Each
processor has a process of its own with a share of the files: compileall's own pool costs a quarter more.
"""

import compileall
import os
import py_compile
import re
import sys

folder, prefix, left_out = sys.argv[1:]
left_out = re.compile(left_out)


def sources():
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if name.endswith(".py") and os.path.isfile(path) and not os.path.islink(path):
                yield os.path.getsize(path), path


def compile_share(paths):
    for path in paths:
        compileall.compile_file(
            path,
            stripdir=folder,
            prependdir=prefix,
            rx=left_out,
            quiet=2,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


paths = [path for _, path in sorted(sources(), reverse=True)]
count = len(os.sched_getaffinity(0))
children = []
for number in range(count):
    child = os.fork()
    if child == 0:
        compile_share(paths[number::count])
        os._exit(0)
    children.append(child)
if any(os.waitpid(child, 0)[1] != 0 for child in children):
    sys.exit("a process that compiles ended early")
print("compiled")
