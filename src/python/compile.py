"""Compiles a folder ahead. Arguments: the folder, where it will lie, a pattern of paths to leave out.

Files that are no Python of this version (templates, tests of parsers) are skipped. Nothing is imported or run.
"""

import compileall
import py_compile
import re
import sys

folder, prefix, left_out = sys.argv[1:]
compileall.compile_dir(
    folder,
    stripdir=folder,
    prependdir=prefix,
    rx=re.compile(left_out),
    quiet=2,
    workers=0,
    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
)
print("compiled")
