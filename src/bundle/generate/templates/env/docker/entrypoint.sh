#!/bin/sh
# Without arguments: serves the model on $PORT. With arguments: runs them instead.
set -eu
if [ "$#" -gt 0 ]; then
    exec "$@"
fi
exec @COMMAND@
