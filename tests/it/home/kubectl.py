"""kubectl for a Kubernetes 1.20: objects of apiVersions that it does not have yet go to it as the older ones of the same shape.

    python kubectl.py KUBECTL [ARGUMENT]...

That is so for HorizontalPodAutoscaler, PodDisruptionBudget and CronJob, given with -f FILE, -f - or -k FOLDER, and for
nothing else. Jobs cannot be suspended there.
"""

import json
import os
import subprocess
import sys

import yaml

OLDER = {
    ("autoscaling/v2", "HorizontalPodAutoscaler"): "autoscaling/v2beta2",
    ("policy/v1", "PodDisruptionBudget"): "policy/v1beta1",
    ("batch/v1", "CronJob"): "batch/v1beta1",
}


def older(found):
    if isinstance(found, dict):
        key = (found.get("apiVersion"), found.get("kind"))
        found["apiVersion"] = OLDER.get(key, found.get("apiVersion"))
        if key[1] == "Job":
            (found.get("spec") or {}).pop("suspend", None)
        for item in found.get("items") or []:
            older(item)
    return found


def rewritten(text):
    documents = [older(found) for found in yaml.safe_load_all(text) if found is not None]
    return "".join(f"---\n{json.dumps(found)}\n" for found in documents).encode()


def named(place):
    """The text of what -f names."""
    if place == "-":
        return sys.stdin.buffer.read().decode()
    if os.path.isdir(place):
        paths = [os.path.join(place, name) for name in sorted(os.listdir(place))]
        paths = [path for path in paths if path.endswith((".yaml", ".yml", ".json"))]
        return "\n---\n".join(open(path).read() for path in paths)
    return open(place).read()


kubectl, *arguments = sys.argv[1:]
passed, texts, words = [], [], iter(arguments)
for word in words:
    option, equals, value = word.partition("=")
    if word == "--":
        passed += [word, *words]
    elif option in ("-f", "--filename"):
        texts.append(named(value if equals else next(words)))
    elif option in ("-k", "--kustomize"):
        texts.append(subprocess.run([kubectl, "kustomize", value if equals else next(words)], check=True, capture_output=True, text=True).stdout)
    else:
        passed.append(word)
if not texts:
    os.execv(kubectl, [kubectl, *passed])
at = passed.index("--") if "--" in passed else len(passed)
passed[at:at] = ["-f", "-"]
sys.exit(subprocess.run([kubectl, *passed], input=rewritten("\n---\n".join(texts))).returncode)
