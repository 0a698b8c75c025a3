"""The zoo: models as people save them, each tried from its file to its answer.

Trains and saves each case with the real framework, then runs `ekiben init --from X DIR` and `ekiben test DIR` without
an edit, asks what runs about rows that training did not see, and compares with the framework's own answer. Ends with 1
where an answer is another, and where a case does not pass although its file says enough.
"""

import argparse
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from zoo import cases, environments, table  # noqa: E402
from zoo.case import CASES  # noqa: E402
from zoo.trial import Ekiben, Trial  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
# Below this, layers that no image has are removed between two cases.
ROOM = 12e9


def cache():
    folder = os.environ.get("EKIBEN_ZOO")
    if folder:
        return pathlib.Path(folder)
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "ekiben-zoo"


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/zoo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument(
        "--light", action="store_true", help="only those that need neither PyTorch nor TensorFlow nor much time"
    )
    parser.add_argument(
        "--environment",
        action="append",
        default=[],
        choices=list(environments.WANTED),
        help="only those of this environment; may be repeated",
    )
    parser.add_argument("--list", action="store_true", help="print the cases, and do nothing")
    parser.add_argument("--make-only", action="store_true", help="train and save, and try nothing")
    parser.add_argument("--again", action="store_true", help="train and save also what is there")
    parser.add_argument(
        "--newest", action="store_true", help="take the newest releases, and write them to scripts/zoo/versions"
    )
    parser.add_argument("--keep", action="store_true", help="leave the projects in the cache folder")
    parser.add_argument(
        "--cache",
        type=pathlib.Path,
        default=cache(),
        metavar="FOLDER",
        help="environments, models and images (EKIBEN_ZOO; else below the user's cache)",
    )
    parser.add_argument(
        "--into", type=pathlib.Path, metavar="FOLDER", help="where models are saved; in the cache folder without it"
    )
    parser.add_argument(
        "--ekiben", type=pathlib.Path, default=HERE.parent.parent / "target/debug/ekiben", metavar="PROGRAM"
    )
    parser.add_argument(
        "--table", type=pathlib.Path, metavar="FILE", help="write the table there, and as .json beside it"
    )
    parser.add_argument(
        "--document", type=pathlib.Path, metavar="FILE", help="put the table between the marks of a document"
    )
    return parser.parse_args()


def chosen(options):
    unknown = [name for name in options.case if name not in CASES]
    if unknown:
        sys.exit(f"there is no case `{unknown[0]}`: --list prints them")
    found = [CASES[name] for name in options.case] or list(CASES.values())
    if options.light:
        found = [one for one in found if one.light]
    if options.environment:
        found = [one for one in found if one.environment in options.environment]
    return found


def make(wanted, options):
    """Makes what is not there, environment by environment; gives why some could not be."""
    failed = {}
    for name in dict.fromkeys(one.environment for one in wanted):
        group = [one.name for one in wanted if one.environment == name]
        group = [
            one for one in group if options.again or options.newest or not (options.into / one / "case.json").exists()
        ]
        if not group:
            continue
        try:
            python = environments.python(name, options.cache, options.newest)
        except environments.Unavailable as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed |= {one: f"not made: {error}" for one in group}
            continue
        for one in group:
            done = subprocess.run(
                [python, HERE / "make.py", options.into, one],
                env=environments.surroundings(options.cache),
                capture_output=True,
                text=True,
            )
            if done.returncode:
                print(done.stderr, file=sys.stderr)
                failed[one] = f"not made: {done.stderr.strip().splitlines()[-1:]}"
            print(f"{one}: {'not made' if done.returncode else 'made'}", flush=True)
    return failed


def main():
    cases.load()
    options = arguments()
    options.into = options.into or options.cache / "made"
    wanted = chosen(options)
    if options.list:
        for one in wanted:
            print(f"{one.row or '–':4} {one.name:28} {one.environment:12} {one.title}")
        return
    failed = make(wanted, options)
    if options.make_only:
        sys.exit(bool(failed))
    if not options.ekiben.exists():
        sys.exit(f"{options.ekiben} is not there: `cargo build` makes it")
    ekiben = Ekiben(options.ekiben.resolve(), options.cache / "store")
    work = options.cache / "projects"
    work.mkdir(parents=True, exist_ok=True)
    results = []
    for number, one in enumerate(wanted, 1):
        if one.name in failed:
            result = {
                "case": one.name,
                "row": one.row,
                "title": one.title,
                "versions": {},
                "lacking": "",
                "recognised": None,
                "passes": False,
                "equal": None,
                "seconds": None,
                "size": None,
                "routes": {},
                "allowed": [],
                "missing": [failed[one.name]],
            }
        else:
            result = Trial(ekiben, options.into / one.name, work).run()
        results.append(result)
        print(
            f"{number}/{len(wanted)} {one.name}: {'passes' if result['passes'] else 'does not pass'}, "
            f"{ {True: 'equal', False: 'not equal', None: 'not asked'}[result['equal']] }, {result['seconds']} s"
            + "".join(f"\n    {words}" for words in result["missing"]),
            flush=True,
        )
        if options.table:
            table.write(results, options.table)
        if not options.keep:
            shutil.rmtree(work / one.name, ignore_errors=True)
        if shutil.disk_usage(options.cache).free < ROOM:
            ekiben("prune", "--all")
    if options.document:
        table.put(results, options.document)
    print(table.summary(results))
    sys.exit(not all((one["passes"] or one["lacking"]) and one["equal"] is not False for one in results))


if __name__ == "__main__":
    main()
