#!/bin/bash
# Called before the Python packages and after them.
set -euo pipefail
if [ -d /app/.venv ]; then name=fourth; else name=second; fi
{ command -v gcc; ls -d env/docker; stat -c %U env/docker; ls -d service.py src 2> /dev/null || true; } > /opt/marks/$name
