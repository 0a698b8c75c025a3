"""What a person does with a saved model: `ekiben init --from X DIR`, `ekiben test DIR`, and a question to what runs.

Nothing is edited between the steps. The question is one that training did not see, put into the shape of the project's
own example request; the answer is compared with the framework's.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

# The exit code where a model is dangerous.
REFUSED = 3
# How near a number has to be, of the largest one of the answer.
NEAR = {"float32": 1e-5, "float64": 1e-9}


class Ekiben:
    """The program, with a store of its own."""

    def __init__(self, program, store):
        self.program = program
        self.environment = {"EKIBEN_HOME": str(store)}

    def __call__(self, *words, document=True, timeout=900):
        """Runs a command; gives its exit code, the JSON that it wrote (None without one), and what it said."""
        command = [str(self.program), *map(str, words), *(["--output", "json"] if document else [])]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=timeout,
                stdin=subprocess.DEVNULL,
                env=os.environ | self.environment,
            )
        except subprocess.TimeoutExpired:
            return 124, None, f"no end after {timeout} s"
        if not document:
            return done.returncode, None, done.stdout + done.stderr
        try:
            value = json.loads(done.stdout)
        except ValueError:
            value = None
        return done.returncode, value, done.stderr


def example(proposal):
    """The first example request that the service has to answer."""
    for test in proposal.get("tests", []):
        if not test.get("refused") and isinstance(test.get("request"), dict) and not test.get("path"):
            return test["request"]
    return None


def shaped(question, example):
    """The question in the shape of an example request; None where no form of it fits.

    The example's values tell the form: objects in a list are records, lists in a list are rows, texts in a list are
    texts, an object of lists is tensors by name. Keys beside the one that carries the data stay as they are.
    """
    tensors = question.get("tensors", {})
    if tensors and set(tensors) <= set(example):
        return example | tensors
    value = question.get("value")
    if isinstance(value, dict) and set(value) <= set(example):
        return example | value
    for key, value in example.items():
        form = fitting(question, value)
        if form is not None:
            return example | {key: form}
    return None


def fitting(question, value):
    """The form of the question that is like this value."""
    if isinstance(value, dict):
        tensors = question.get("tensors")
        if tensors and set(tensors) == set(value):
            return tensors
        return question["value"] if isinstance(question.get("value"), dict) else None
    if isinstance(value, list) and value:
        first = value[0]
        if isinstance(first, dict):
            return spelt(question.get("records"), first)
        if isinstance(first, str):
            return question.get("texts")
        rows = question.get("rows")
        if rows is None and len(question.get("tensors", {})) == 1:
            rows = next(iter(question["tensors"].values()))
        if rows is None and isinstance(first, list) and question.get("records"):
            rows = [list(record.values()) for record in question["records"]]
        if rows is not None and depth(rows) == depth(value):
            return rows
        return question["value"] if "value" in question and depth(question["value"]) == depth(value) else None
    if isinstance(value, str) and question.get("texts"):
        return question["texts"][0] if len(question["texts"]) == 1 else None
    return question["value"] if "value" in question and depth(question["value"]) == depth(value) else None


def spelt(records, example):
    """Records with the names of an example's columns, which LightGBM writes without blanks; None for other columns."""

    def plain(name):
        return re.sub(r"[\W_]+", "_", name).strip("_")

    names = {plain(name): name for name in example}
    if not records or not set(names) <= set(map(plain, records[0])):
        return None
    return [{names.get(plain(name), name): value for name, value in record.items()} for record in records]


def depth(value):
    return 1 + (depth(value[0]) if value else 0) if isinstance(value, list) else 0


def difference(expected, actual, precision):
    """Where an answer is not the framework's; None where it is.

    An object may hold more keys, and a list of one thing is as good as the thing: services drop or add such brackets.
    """
    return compare(expected, actual, NEAR[precision] * max(largest(expected), 1e-6), "the answer")


def largest(value):
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return 0.0
    if isinstance(value, (int, float)):
        return abs(value)
    return max(map(largest, value.values() if isinstance(value, dict) else value), default=0.0)


def compare(expected, actual, near, place):
    if isinstance(expected, dict):
        if not isinstance(actual, dict):
            return f"{place} is no object"
        missing = [key for key in expected if key not in actual]
        if missing:
            return f"{place} has no `{missing[0]}`"
        return next(
            filter(None, (compare(expected[key], actual[key], near, f"{place}.{key}") for key in expected)), None
        )
    if isinstance(actual, dict) and len(actual) == 1:
        return compare(expected, next(iter(actual.values())), near, place)
    if isinstance(expected, list):
        if not isinstance(actual, list):
            return compare(expected[0], actual, near, place) if len(expected) == 1 else f"{place} is no list"
        if len(expected) != len(actual):
            return f"{place} has {len(actual)} items, not {len(expected)}"
        return next(
            filter(
                None,
                (
                    compare(one, other, near, f"{place}[{number}]")
                    for number, (one, other) in enumerate(zip(expected, actual))
                ),
            ),
            None,
        )
    if isinstance(actual, list) and len(actual) == 1:
        return compare(expected, actual[0], near, place)
    if isinstance(expected, bool) or isinstance(expected, str) or expected is None:
        return None if expected == actual else f"{place} is {shown(actual)}, not {shown(expected)}"
    if isinstance(actual, bool) or not isinstance(actual, (int, float)):
        return f"{place} is {shown(actual)}, not {shown(expected)}"
    return None if abs(expected - actual) <= near else f"{place} is {shown(actual)}, not {shown(expected)}"


def shown(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"


def asked(address, path, request):
    """Asks a service; gives status and answer."""
    body = json.dumps(request).encode()
    request = urllib.request.Request(f"{address}{path}", body, {"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=120) as answer:
            status, content = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, content = error.code, error.read()
    try:
        return status, json.loads(content)
    except ValueError:
        return status, content.decode(errors="replace")


def raised(log):
    """The last line of the last exception in a log; None where nothing was raised."""
    found = None
    for line in log:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = json.loads(line)["exception"].strip().splitlines()[-1]
    return found


class Trial:
    """One case, from its file to its answer. `result` is a row of the table."""

    def __init__(self, ekiben, place, work):
        self.ekiben = ekiben
        self.place = place
        self.about, self.question, self.answers = (
            json.loads((place / f"{name}.json").read_text()) for name in ("case", "question", "answer")
        )
        self.project = work / self.about["case"]
        self.result = {
            "case": self.about["case"],
            "row": self.about["row"],
            "title": self.about["title"],
            "versions": self.about["versions"],
            "lacking": self.about["lacking"],
            "recognised": None,
            "passes": False,
            "equal": None,
            "seconds": None,
            "size": None,
            "routes": {},
            "allowed": [],
            "missing": [],
        }

    def run(self):
        shutil.rmtree(self.project, ignore_errors=True)
        proposal = self.init()
        if proposal is not None:
            self.test(proposal)
        return self.result

    def lacks(self, words):
        """What was missing, in the program's own words."""
        lines = [line.strip() for line in words.splitlines() if line.strip()]
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                error = json.loads(line)["error"]
                self.result["missing"] += [error["message"], *error["causes"][:1], *filter(None, [error["hint"]])]
                if "exit code" in error["message"]:
                    _, _, log = self.ekiben("logs", "--last", document=False)
                    said = raised(log.splitlines()) or next(reversed(log.strip().splitlines()), "")
                    self.result["missing"].append(said)
                return
        self.result["missing"] += lines[-3:]

    def init(self):
        command = ["init", "--from", self.place / self.about["model"], self.project]
        code, report, words = self.ekiben(*command)
        if code == REFUSED and self.about["code"]:
            # It is code, and whoever saved it knows: they repeat the command with what the program told them to add.
            allowed = [name.strip("'") for name in re.findall(r"--allow ('[^']+'|[^\s'\"]+)", words)]
            self.result["allowed"] = allowed
            code, report, words = self.ekiben(*command, *(word for name in allowed for word in ("--allow", name)))
        proposal = (report or {}).get("proposal")
        if proposal:
            self.result["recognised"] = proposal.get("framework")
            self.result["missing"] += proposal.get("open", [])
        if code or not (self.project / "ekiben.yaml").exists():
            self.result["missing"].insert(0, f"init ended with {code}")
            self.lacks(words)
            return None
        return proposal or {}

    def test(self, proposal):
        started = time.monotonic()
        code, report, words = self.ekiben("test", self.project)
        self.result["seconds"] = round(time.monotonic() - started, 1)
        outcomes = (report or {}).get("outcomes", [])
        self.result["passes"] = code == 0 and any(one.get("status") == 200 for one in outcomes)
        image = (report or {}).get("image")
        if code:
            self.result["missing"].append(f"test ended with {code}")
            self.lacks(words)
            for one in outcomes:
                if one.get("verdict") == "different":
                    said = raised(one.get("log", [])) or shown(one.get("body"))
                    self.result["missing"].append(f"{one['name']}: {one.get('status')}: {said}")
        elif not self.result["passes"]:
            self.result["missing"].append("no example request was answered")
        if self.result["passes"]:
            with self.running() as container:
                if container:
                    self.ask(container, proposal)
        if image:
            _, images, _ = self.ekiben("images")
            self.result["size"] = next(
                (one["size"] for one in (images or {}).get("images", []) if one["name"] == image), None
            )
            self.ekiben("rmi", image)

    @contextlib.contextmanager
    def running(self):
        code, report, words = self.ekiben("run", self.project, "--detach")
        if code or not report:
            self.lacks(words)
            yield None
            return
        try:
            yield report
        finally:
            self.ekiben("stop", report["name"])

    def ask(self, container, proposal):
        """Asks the question at /predict, and at the routes that have the names of the framework's other calls."""
        shape = example(proposal)
        request = shaped(self.question, shape) if shape else None
        if request is None:
            self.result["missing"].append(f"the question does not fit the example {shown(shape)}")
            return
        address = container["address"]
        status, actual = asked(address, "/predict", request)
        if status != 200:
            self.result["equal"] = False
            _, _, log = self.ekiben("logs", container["name"], document=False)
            self.result["missing"].append(
                f"the question was answered with {status}: {raised(log.splitlines()) or shown(actual)}"
            )
            return
        answers = {name: one for name, one in self.answers["answers"].items() if one["value"] is not None}
        if not answers:
            self.result["missing"].append("nothing was asked on the host")
            return
        found = {}
        for name in self.answers["natural"]:
            found[name] = difference(answers[name]["value"], actual, answers[name]["precision"])
        same = [name for name, differs in found.items() if differs is None]
        self.result["equal"] = bool(same)
        self.result["call"] = same[0] if same else None
        if not same:
            self.result["missing"] += [f"{name}: {differs}" for name, differs in found.items()]
        # What stands at /predict is compared already, and may be another of the natural answers.
        for name, one in ((name, one) for name, one in answers.items() if name != "predict"):
            status, actual = asked(address, f"/{name}", request)
            if status == 404:
                continue
            differs = difference(one["value"], actual, one["precision"]) if status == 200 else f"status {status}"
            self.result["routes"][name] = differs is None
            if differs:
                self.result["equal"] = False
                self.result["missing"].append(f"/{name}: {differs}")
