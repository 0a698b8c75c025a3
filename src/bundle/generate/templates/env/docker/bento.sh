#!/bin/sh
# As BentoML's own entrypoint, for any POSIX shell. Without arguments, or with options alone: serves the bento.
set -eu
if [ -n "${PORT+set}" ]; then
    export BENTOML_PORT="$PORT"
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
