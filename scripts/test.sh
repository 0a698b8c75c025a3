#!/bin/sh
# The one test command: formatting, lints and all tests. Fails if something that the tests need is missing.
#
# As root it installs what is missing from Debian first. EKIBEN_TEST_SKIP_INSTALL=1 leaves that out.
set -eu
cd "$(dirname "$0")/.."

export PATH="$PATH:/usr/sbin:/sbin"

# What the tests call, and the Debian package that brings it.
needed="skopeo:skopeo umoci:umoci podman:podman buildah:buildah runc:runc docker:docker.io dockerd:docker.io setpriv:util-linux
prlimit:util-linux taskset:util-linux unshare:util-linux mount:mount script:bsdutils hostname:hostname zstd:zstd tar:tar
xz:xz-utils busybox:busybox-static strace:strace python3:python3 pip3:python3-pip git:git docker-registry:docker-registry
htpasswd:apache2-utils openssl:openssl curl:curl containerd:containerd ctr:containerd ldconfig:libc-bin
cc:gcc strip:binutils ip:iproute2 flock:util-linux dpkg:dpkg newuidmap:uidmap useradd:passwd rabbitmq-server:rabbitmq-server
epmd:erlang-base java:openjdk-17-jre-headless shellcheck:shellcheck npm:npm zsh:zsh fish:fish"

missing=""
for pair in $needed; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
# What a node of Kubernetes puts its pods on the network with.
[ -x /usr/lib/cni/bridge ] || missing="$missing containernetworking-plugins"
# Environments of Python: the module is there on Debian, what it needs may not be.
python3 -c "import ensurepip" 2>/dev/null || missing="$missing python3-venv"
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && [ -z "${EKIBEN_TEST_SKIP_INSTALL:-}" ]; then
    echo "installing:$missing"
    apt-get update -qq
    # shellcheck disable=SC2086 # one word each
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    missing=""
    for pair in $needed; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
    done
    [ -x /usr/lib/cni/bridge ] || missing="$missing containernetworking-plugins"
fi
if [ -n "$missing" ]; then
    echo "the tests need these Debian packages:$missing" >&2
    exit 1
fi

# Commands of Dockerfiles are tried as an ordinary user, too, who has a range of ids.
has_ids=""
for name in $(cut -d: -f1 /etc/subuid 2>/dev/null); do
    if id -u "$name" >/dev/null 2>&1; then has_ids=yes; fi
done
if [ "$(id -u)" = 0 ] && [ -z "$has_ids" ]; then
    useradd --create-home ekiben-tester
fi

# The Kubernetes of the tests is made while the rest is compiled; it takes minutes, once.
kubernetes_log=$(mktemp)
nice scripts/cluster build >"$kubernetes_log" 2>&1 &
kubernetes=$!

cargo fmt --check
# shellcheck disable=SC2046 # names of ours, without spaces
shellcheck -S warning .ci/run $(grep -slE '^#!/(usr/bin/env |bin/)(ba)?sh' scripts/*)
scripts/deny
# With the operator, which is no part of the program as it is installed; and the program as it is.
cargo check --locked
cargo clippy --all-targets --features operator --locked -- -D warnings
cargo test --features operator --locked --no-run
wait "$kubernetes" || {
    cat "$kubernetes_log" >&2
    echo "scripts/cluster could not build Kubernetes, which the tests need" >&2
    exit 1
}
rm -f "$kubernetes_log"
# Some wait for a server, a broker or a cluster; one more than there are processors goes on meanwhile.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$(($(nproc) + 1))}"
cargo test --features operator --locked
