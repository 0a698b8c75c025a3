#!/usr/bin/env python3
"""Plans the Dockerfiles of other projects: what each would execute is named, and whether all that it copies is there.

    scripts/plan-dockerfiles.py PROGRAM CHECKOUT [CHECKOUT...]     # github.com/kserve/kserve, SeldonIO/MLServer, bentoml/BentoML

Nothing is executed and nothing fetched: an image without files stands in for each that a file names. The context is the nearest
folder above the Dockerfile for which it can be planned and has no mistakes. Ends with 1 where there is none for which it can be
planned, and prints a line of the table in docs/dockerfiles.md for each checkout.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

NAME = re.compile(r"(^|\.)(Dockerfile|Containerfile)(\.|$)", re.IGNORECASE)


def named(text):
    """The images that a Dockerfile names in FROM and --from, with the defaults of its arguments."""
    defaults = dict(re.findall(r"^\s*ARG\s+(\w+)=[\"']?([^\s\"']+)", text, re.M | re.I))
    value = lambda found: defaults.get(found[1], found[2] or "")
    expanded = lambda word: re.sub(r"\$\{?(\w+)(?::-([^}]*))?\}?", value, word)
    froms = re.findall(r"^\s*FROM\s+(?:--\S+\s+)?(\S+)(?:\s+AS\s+(\S+))?", text, re.M | re.I)
    stages = {stage.lower() for _, stage in froms}
    others = re.findall(r"[-, ]from=([^, ]+)", text)
    names = {expanded(word) for word in [image for image, _ in froms] + others}
    return sorted(name for name in names if name.lower() not in stages | {"scratch", ""} and not name.isdigit())


def planned(program, file, root, home, env):
    """Whether it can be planned, and in that folder has no mistakes; and what was said last."""
    stand_ins = []
    for name in named(file.read_text(errors="replace")):
        stand_ins += ["--build-context", f"{name}=oci-layout://{home}/nothing"]
    run = lambda *args: subprocess.run([program, *args], capture_output=True, text=True, env=env)
    is_planned, said = False, ""
    for context in [folder for folder in file.parents if folder.is_relative_to(root)]:
        built = run("build", "--file", file, context, *stand_ins)
        if built.returncode == 0 or "would be executed" in built.stderr:
            checked = run("validate", "--context", context, file)
            if checked.returncode == 0:
                return True, True, ""
            is_planned, said = True, checked.stderr.strip() or checked.stdout.strip()
        else:
            said = said or built.stderr.strip()
    return is_planned, False, said


def main(program, *checkouts):
    program, failed = Path(program).resolve(), 0
    with tempfile.TemporaryDirectory() as home:
        Path(home, "Dockerfile").write_text("FROM scratch\nLABEL stands=in\n")
        env = {**os.environ, "EKIBEN_HOME": f"{home}/store"}
        for words in ["build -t nothing:1 .", "export nothing:1 nothing/"]:
            subprocess.run([program, *words.split()], check=True, stdout=subprocess.DEVNULL, cwd=home, env=env)
        for checkout in map(Path, checkouts):
            files = sorted(path for path in checkout.rglob("*") if NAME.search(path.name) and path.is_file())
            files = [path for path in files if path.suffix not in {".dockerignore", ".j2", ".md"}]
            plans, whole = 0, 0
            for file in files:
                is_planned, is_whole, said = planned(program, file.resolve(), checkout.resolve(), home, env)
                plans, whole, failed = plans + is_planned, whole + is_whole, failed + (not is_planned)
                if said:
                    print(f"{file}: {said}", file=sys.stderr)
            print(f"| {checkout.name} | {len(files)} | {plans} | {whole} |", flush=True)
    return failed > 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
