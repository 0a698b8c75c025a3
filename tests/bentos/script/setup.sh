#!/bin/bash
set -euo pipefail
mkdir /opt/marks
id -un > /opt/marks/user
pwd > /opt/marks/folder
cat src/service.py | wc -l > /opt/marks/code
python -c 'import sys; print(sys.prefix)' > /opt/marks/python
echo "$GREETING" > /opt/marks/greeting
command -v gcc > /opt/marks/gcc
