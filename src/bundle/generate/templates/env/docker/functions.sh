#!/bin/sh
# Without arguments, or with `serve`: serves the model on $PORT. With `batch` and its arguments: answers the records of files; with
# `train`, `learn` and `consume`, where the model has these: trains it, does so with messages, is asked by messages alone. With any
# others: runs them instead.
set -eu
case "${1-}" in
@MODES@) exec @PYTHON@ -m ekiben_service "$@" ;;
serve) exec @PYTHON@ -m ekiben_service ;;
esac
exec "$@"
