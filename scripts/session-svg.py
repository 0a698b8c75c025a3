#!/usr/bin/env python3
"""Runs commands in a terminal of its own and draws what they print, as an SVG that follows light and dark themes.

    scripts/session-svg.py OUT.svg [--columns N] [--hide TEXT=SHOWN] [--ends CODE] -- 'COMMAND' ['COMMAND' ...]

The pictures in the documents are made by `scripts/pictures`. Only the standard library is used.
"""

import argparse
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from html import escape

CELL, LINE, PAD = 8.4, 20, 18
CLASSES = {1: "b", 2: "d", 31: "r", 32: "g", 33: "y", 34: "u", 35: "m", 36: "c", 91: "r", 92: "g", 93: "y", 96: "c"}
STYLE = """
text { font: 14px ui-monospace, 'JetBrains Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace; white-space: pre; fill: #1f2328 }
.w { fill: #f6f8fa; stroke: #d1d9e0 } .b { font-weight: 700 } .d { fill: #6e7781 } .r { fill: #cf222e } .g { fill: #1a7f37 }
.y { fill: #9a6700 } .u { fill: #0550ae } .m { fill: #8250df } .c { fill: #0a7ea4 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .w { fill: #0d1117; stroke: #30363d } .d { fill: #8b949e } .r { fill: #ff7b72 } .g { fill: #3fb950 }
  .y { fill: #d29922 } .u { fill: #79c0ff } .m { fill: #d2a8ff } .c { fill: #39c5cf }
}
"""


def run(command: str, columns: int, ends: int) -> str:
    """Runs a command on a terminal `columns` wide, that ends with the code `ends`, and returns what it wrote."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(columns)}
    process = subprocess.Popen(command, shell=True, stdout=slave, stderr=slave, stdin=subprocess.DEVNULL, env=environment)
    os.close(slave)
    output = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # The other end is closed.
            break
        if not piece:
            break
        output += piece
    if process.wait() != ends:
        sys.exit(f"`{command}` ended with {process.returncode}:\n{output.decode(errors='replace')}")
    return output.decode()


def screen(output: str, columns: int) -> list[list[tuple[str, str]]]:
    """What stays on a screen `columns` wide: lines of runs of text, each with its classes."""
    lines: list[list[tuple[str, str]]] = [[]]
    active: list[str] = []
    row = column = 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r\n|\r|\n|[^\x1b\r\n]+|\x1b.", output):
        if token in ("\n", "\r\n"):
            row, column = row + 1, 0
        elif token == "\r":
            column = 0
        elif re.fullmatch(r"\x1b\[[0-9;]*m", token):
            for code in token[2:-1].split(";"):
                number = int(code or 0)
                if number == 0:
                    active = []
                elif number in CLASSES:
                    active.append(CLASSES[number])
        elif token.startswith("\x1b["):
            count = int(re.sub(r"\D", "", token) or 1)
            if token.endswith("A"):
                row = max(0, row - count)
            elif token.endswith("B"):
                row += count
            elif token.endswith("K"):
                lines[row] = []
        else:
            # What does not fit goes on in the next line.
            while token:
                if column == columns:
                    row, column = row + 1, 0
                    lines += [[] for _ in range(row + 1 - len(lines))]
                fits, token = token[: columns - column], token[columns - column :]
                lines[row].append((fits, " ".join(active)))
                column += len(fits)
        while len(lines) <= row:
            lines.append([])
    while lines and not lines[-1]:
        lines.pop()
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out")
    parser.add_argument("--columns", type=int, default=88)
    parser.add_argument("--hide", action="append", default=[], metavar="TEXT=SHOWN")
    parser.add_argument("--ends", type=int, default=0, metavar="CODE")
    parser.add_argument("commands", nargs="+")
    args = parser.parse_args()

    lines: list[list[tuple[str, str]]] = []
    for command in args.commands:
        output = run(command, args.columns, args.ends)
        for pair in args.hide:
            hidden, shown = pair.split("=", 1)
            command, output = command.replace(hidden, shown), output.replace(hidden, shown)
        lines.append([("$ ", "d"), (command, "b")])
        lines += screen(output, args.columns)
        lines.append([])
    lines.pop()

    width = round(args.columns * CELL + 2 * PAD)
    height = len(lines) * LINE + 2 * PAD
    drawing = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
        f"<style>{STYLE}</style>",
        f'<rect class="w" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
    ]
    for number, line in enumerate(lines):
        runs = "".join(f'<tspan class="{c}">{escape(t)}</tspan>' if c else escape(t) for t, c in line)
        if runs:
            drawing.append(f'<text x="{PAD}" y="{PAD + 14 + number * LINE}" xml:space="preserve">{runs}</text>')
    drawing.append("</svg>\n")
    with open(args.out, "w", encoding="utf-8") as file:
        file.write("\n".join(drawing))


if __name__ == "__main__":
    main()
