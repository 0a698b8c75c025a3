#!/bin/sh
# Without arguments, or with `serve`: serves the model on $PORT. With `batch` and its arguments: answers the records of files.
# With any others: runs them instead.
set -eu
case "${1-}" in
'' | batch) exec @PYTHON@ -m ekiben_service "$@" ;;
serve) exec @PYTHON@ -m ekiben_service ;;
esac
exec "$@"
