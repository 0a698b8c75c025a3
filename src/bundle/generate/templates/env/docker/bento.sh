#!/bin/sh
# As BentoML's own entrypoint, for any POSIX shell. Without arguments, or with options alone: serves the bento.
set -eu
if [ -n "${PORT+set}" ]; then
    export BENTOML_PORT="$PORT"
fi
# On a read-only root, as Kubernetes gives it, BentoML has its home where it may write, and konfuzio-sdk, which keeps a log
# beside the code, writes it to the standard error alone.
if ! [ -w "$BENTOML_HOME" ]; then
    export BENTOML_HOME="${TMPDIR:-/tmp}/bentoml/" LOG_TO_FILE="${LOG_TO_FILE-false}"
fi
# One part of a service. To 1.3 it is a command of bentoml's.
start() {
    for internal in /app/.venv/lib/python3*/site-packages/bentoml_cli/_internal; do
        if [ -d "$internal" ]; then
            exec python -m bentoml_cli._internal.start "$@" "$BENTO_PATH"
        fi
    done
    exec bentoml "$@" "$BENTO_PATH"
}
case "${1-}" in
'' | -*)
    case "${BENTOML_SERVE_COMPONENT-}" in
    http_server) start start-http-server "$@" ;;
    grpc_server) start start-grpc-server "$@" ;;
    runner) start start-runner-server "$@" ;;
    *) exec bentoml serve "$@" "$BENTO_PATH" ;;
    esac
    ;;
serve | serve-http | serve-grpc) exec bentoml "$@" "$BENTO_PATH" ;;
start-http-server | start-grpc-server | start-runner-server) start "$@" ;;
esac
exec "$@"
