"""Files from above docs/ as pages of the site, and the site's own style and script."""

import re
from pathlib import Path

from mkdocs.structure.files import File

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def on_files(files, config):
    for name, source in (("contributing.md", "CONTRIBUTING.md"), ("changelog.md", "CHANGELOG.md")):
        text = re.sub(r"\]\(docs/", "](", (ROOT / source).read_text("utf-8"))
        files.append(File.generated(config, name, content=text))
    for name in ("extra.css", "iframe-worker.js"):
        files.append(File.generated(config, name, abs_src_path=str(HERE / name)))
    return files
