"""Types into a shell in a terminal of its own, and waits for what it completes.

    typed.py SHELL [ARGUMENT...] < LINES

Each line of stdin is what is typed, a tab, and what has to appear then; `<TAB>` is the key. Ends with 1, and the screen, where
it does not.
"""

import os
import pty
import re
import select
import sys
import time

lines = [line.rstrip("\n").split("\t") for line in sys.stdin]
process, terminal = pty.fork()
if process == 0:
    os.environ |= {"TERM": "xterm", "COLUMNS": "200", "LINES": "50"}
    os.execvp(sys.argv[1], sys.argv[1:])


def heard(seconds):
    text = b""
    while select.select([terminal], [], [], seconds)[0]:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            break
        if not piece:
            break
        text += piece
        # fish asks what kind of terminal this is.
        if b"\x1b[0c" in piece or b"\x1b[c" in piece:
            os.write(terminal, b"\x1b[?62;22c")
    plain = re.sub(r"\x1b[\[\]()?][0-9;?]*[A-Za-z]?|\x1b[=>]|[\x00-\x09\x0b-\x1f]", "", text.decode(errors="replace"))
    return plain


def fail(typed, wanted, screen):
    print(f"after {typed!r}, {wanted!r} does not appear:\n{screen}")
    os.kill(process, 9)
    sys.exit(1)


heard(1)
for typed, wanted in lines:
    os.write(terminal, b"\x15" + typed.replace("<TAB>", "\t").replace("<ENTER>", "\r").encode())
    screen, end = "", time.monotonic() + 120
    while wanted not in screen:
        screen += heard(0.1)
        if time.monotonic() > end:
            fail(typed, wanted, screen)
    # Nothing of it is taken for the next answer.
    heard(0.15)
os.kill(process, 9)
