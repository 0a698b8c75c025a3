#!/bin/sh
# Without arguments, or with `serve`: serves the model on $PORT. `batch` answers the records of files, `train` trains the model,
# `consume` answers messages alone, and `learn` trains with messages.
# With any others: runs them instead.
set -eu
case "${1-}" in
'' | batch | consume | learn | train) exec @PYTHON@ -m ekiben_service "$@" ;;
serve) exec @PYTHON@ -m ekiben_service ;;
esac
exec "$@"
