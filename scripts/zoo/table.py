"""The results as a table of Markdown."""

import json
import re

NAMES = ["row", "case", "recognised as", "passes", "equal", "seconds", "image", "what was missing"]
HEAD = f"| {' | '.join(NAMES)} |\n{'|---' * len(NAMES)}|\n"


def line(result):
    equal = {True: "yes", False: "**no**", None: "–"}[result["equal"]]
    passes = "yes" if result["passes"] else "**no**"
    size = f"{result['size'] / 1e6:.0f} MB" if result["size"] else "–"
    seconds = "–" if result["seconds"] is None else f"{result['seconds']:.1f}"
    missing = "; ".join(
        [f"no file has {result['lacking']}"] * bool(result["lacking"])
        + ["`--allow`, as the refusal says"] * bool(result["allowed"])
        + result["missing"]
    )
    missing = re.sub(r"\s+", " ", missing if len(missing) <= 300 else f"{missing[:299]}…").replace("|", "\\|")
    kind = (result["recognised"] or "–").replace("|", "\\|")
    return f"| {result['row']} | {result['title']} | {kind} | {passes} | {equal} | {seconds} | {size} | {missing} |\n"


def markdown(results):
    return HEAD + "".join(map(line, results)) + "\n" + summary(results) + "\n"


def summary(results):
    """How many of the rows of the issue, and of all cases, pass and answer as the framework does.

    A row that several cases have passes when all of them do.
    """
    rows = {}
    for one in results:
        if one["row"][:1].isdigit():
            rows[one["row"]] = rows.get(one["row"], True) and one["passes"]
    passing = sum(one["passes"] for one in results)
    equal, other = (sum(one["equal"] is kind for one in results) for kind in (True, False))
    return (
        f"{sum(rows.values())} of {len(rows)} rows and {passing} of {len(results)} cases pass; "
        f"{equal} answers are equal, {other} {'is' if other == 1 else 'are'} not."
    )


def write(results, path):
    """The table at `path`, and the same as JSON beside it."""
    path.write_text(markdown(results))
    path.with_suffix(".json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def put(results, document):
    """The table between the marks of a document."""
    text = document.read_text()
    before, rest = text.split("<!-- zoo -->\n")
    after = rest.split("<!-- /zoo -->")[1]
    document.write_text(f"{before}<!-- zoo -->\n{markdown(results)}<!-- /zoo -->{after}")
