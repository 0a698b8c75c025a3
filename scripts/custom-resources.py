#!/usr/bin/env python3
"""Makes tests/it/home/custom: definitions of custom resources (CRDs), each reduced to what a deployment may have.

    scripts/custom-resources.py KIND=REPOSITORY...

Each REPOSITORY is a clone of where SOURCES says that the kind is from (its git directory will do). What is made is the file of that
kind as the commit of the clone has it, with one version, without descriptions and status, and without the branches that nothing
of Ekiben's writes: what is left out is unknown to whoever checks by it, so it is only ever stricter than the original. Rules in
CEL are left out as well: the API server of the tests is older than they are.

Of Knative, what only an administrator's flag allows (its definition says so) is left out too.
"""

import pathlib
import re
import subprocess
import sys

import yaml

FOLDER = pathlib.Path(__file__).parent.parent / "tests/it/home/custom"

CONTAINER = [
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "volumeMounts",
]

PROBE = ["failureThreshold", "httpGet", "initialDelaySeconds", "periodSeconds", "successThreshold", "timeoutSeconds"]


def containers(at):
    """What is kept of the containers that are listed at `at`."""
    return {
        f"{at}[]": CONTAINER,
        f"{at}[].env[].valueFrom": ["secretKeyRef"],
        f"{at}[].envFrom[]": ["prefix", "secretRef"],
        f"{at}[].lifecycle": ["preStop"],
        f"{at}[].lifecycle.preStop": ["exec", "sleep"],
        f"{at}[].livenessProbe": PROBE,
        f"{at}[].readinessProbe": PROBE,
        f"{at}[].startupProbe": PROBE,
        f"{at}[].securityContext": [
            "allowPrivilegeEscalation",
            "capabilities",
            "readOnlyRootFilesystem",
            "runAsGroup",
            "runAsNonRoot",
            "runAsUser",
            "seccompProfile",
        ],
    }


# Where each is from, all under the Apache License 2.0, and which fields are kept of the objects that are not kept as a whole.
SOURCES = {
    "HTTPRoute": {
        "repository": "https://github.com/kubernetes-sigs/gateway-api",
        "path": "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
        "version": "v1",
        "kept": {
            "spec.rules[]": ["backendRefs", "filters", "matches", "name", "timeouts"],
            "spec.rules[].filters[]": ["type", "urlRewrite"],
            "spec.rules[].backendRefs[]": ["group", "kind", "name", "namespace", "port", "weight"],
        },
    },
    "ReferenceGrant": {
        "repository": "https://github.com/kubernetes-sigs/gateway-api",
        "path": "config/crd/standard/gateway.networking.k8s.io_referencegrants.yaml",
        "version": "v1beta1",
        "kept": {},
    },
    "ScaledObject": {
        "repository": "https://github.com/kedacore/keda",
        "path": "config/crd/bases/keda.sh_scaledobjects.yaml",
        "version": "v1alpha1",
        "kept": {
            "spec": [
                "cooldownPeriod",
                "idleReplicaCount",
                "initialCooldownPeriod",
                "maxReplicaCount",
                "minReplicaCount",
                "pollingInterval",
                "scaleTargetRef",
                "triggers",
            ],
        },
    },
    "HTTPScaledObject": {
        "repository": "https://github.com/kedacore/http-add-on",
        "path": "config/crd/bases/http.keda.sh_httpscaledobjects.yaml",
        "version": "v1alpha1",
        "kept": {},
    },
    "Service": {
        "repository": "https://github.com/knative/serving",
        "path": "config/core/300-resources/service.yaml",
        "version": "v1",
        "kept": {
            "spec.template.spec.volumes[]": ["emptyDir", "name", "secret"],
        },
        # These have no schema either, but are no flags. An old API server takes anything in an object that has one such within.
        "plain": {
            "spec.template.metadata": {
                "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "spec.template.spec.volumes[].emptyDir": {
                "medium": {"type": "string"},
                "sizeLimit": {"x-kubernetes-int-or-string": True},
            },
        },
    },
    "InferenceService": {
        "repository": "https://github.com/kserve/kserve",
        "path": "config/crd/full/serving.kserve.io_inferenceservices.yaml",
        "version": "v1beta1",
        "kept": {
            "spec": ["predictor"],
            "spec.predictor": [
                "annotations",
                "autoScaling",
                "automountServiceAccountToken",
                "containerConcurrency",
                "containers",
                "deploymentStrategy",
                "enableServiceLinks",
                "imagePullSecrets",
                "initContainers",
                "labels",
                "maxReplicas",
                "minReplicas",
                "nodeSelector",
                "scaleMetric",
                "scaleMetricType",
                "scaleTarget",
                "securityContext",
                "serviceAccountName",
                "terminationGracePeriodSeconds",
                "timeout",
                "tolerations",
                "topologySpreadConstraints",
                "volumes",
            ],
            "spec.predictor.autoScaling": ["metrics"],
            "spec.predictor.autoScaling.metrics[]": ["resource", "type"],
            **containers("spec.predictor.containers"),
            **containers("spec.predictor.initContainers"),
            "spec.predictor.securityContext": [
                "fsGroup",
                "fsGroupChangePolicy",
                "runAsGroup",
                "runAsNonRoot",
                "runAsUser",
                "seccompProfile",
            ],
            "spec.predictor.volumes[]": ["emptyDir", "image", "name", "persistentVolumeClaim", "secret"],
        },
    },
    "TridentVolumeReference": {
        "repository": "https://github.com/NetApp/trident",
        # A text within a program.
        "path": "cli/k8s_client/yaml_factory.go",
        "text": r"const tridentVolumeReferenceCRDYAMLv1 = `(.*?)`",
        "version": "v1",
        "kept": {},
    },
}


def reduced(schema, at, source):
    """A schema with what is kept of it."""
    kept = source["kept"]
    if at in source.get("plain", {}):
        return {"type": "object", "properties": source["plain"][at]}
    found = {key: value for key, value in schema.items() if key not in ("description", "x-kubernetes-validations")}
    # The API server of the tests reads it as null.
    if found.get("default") == "":
        del found["default"]
    properties = found.get("properties")
    if properties:
        names = kept.get(at) or list(properties)
        names = [name for name in names if not is_flag(properties[name], f"{at}.{name}", source)]
        lost = set(found.get("required", [])) - set(names)
        assert not lost, f"{at}: {lost} is required"
        found["properties"] = {name: reduced(properties[name], f"{at}.{name}", source) for name in sorted(names)}
    for within in ("items", "additionalProperties"):
        if isinstance(found.get(within), dict):
            found[within] = reduced(found[within], f"{at}[]", source)
    # What items are known by has to be there, where it has no default any more.
    items = found.get("items", {})
    known_by = [key for key in found.get("x-kubernetes-list-map-keys", []) if "default" not in items["properties"][key]]
    if known_by:
        items["required"] = sorted({*items.get("required", []), *known_by})
    return found


def is_flag(schema, at, source):
    if at in source.get("plain", {}):
        return False
    items = schema.get("items", schema)
    is_said = "feature flag" in f"{schema.get('description')} {items.get('description')}"
    return is_said or items.get("x-kubernetes-preserve-unknown-fields") is True


def definition(kind, repository):
    source = SOURCES[kind]
    git = ["git", "-C", repository]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    shown = subprocess.run([*git, "show", f"HEAD:{source['path']}"], check=True, capture_output=True, text=True).stdout
    if "text" in source:
        shown = re.search(source["text"], shown, re.DOTALL)[1]
    original = yaml.safe_load(shown)
    spec = original["spec"]
    (version,) = [version for version in spec["versions"] if version["name"] == source["version"]]
    schema = version["schema"]["openAPIV3Schema"]
    properties = {"spec": reduced(schema["properties"]["spec"], "spec", source)}
    for name in ("apiVersion", "kind"):
        properties[name] = {"type": "string"}
    properties["metadata"] = {"type": "object"}
    # Of somebody else's group below k8s.io it has to be said who approved it.
    approved = {
        key: value
        for key, value in original["metadata"].get("annotations", {}).items()
        if key == "api-approved.kubernetes.io"
    }
    made = {
        "apiVersion": original["apiVersion"],
        "kind": original["kind"],
        "metadata": {"name": original["metadata"]["name"], **({"annotations": approved} if approved else {})},
        "spec": {
            "group": spec["group"],
            "names": {key: spec["names"][key] for key in ("kind", "plural", "singular")},
            "scope": spec["scope"],
            "versions": [
                {
                    "name": version["name"],
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
                }
            ],
        },
    }
    head = (
        f"# Made by scripts/custom-resources.py from {source['path']} of\n# {source['repository']} at {commit}\n"
        "# (Apache License 2.0), reduced.\n"
    )
    return head + yaml.safe_dump(made, width=120)


for argument in sys.argv[1:]:
    kind, _, repository = argument.partition("=")
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{kind.lower()}.yaml").write_text(definition(kind, repository))
