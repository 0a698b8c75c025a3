#!/bin/bash
# Measures pushes and pulls beside curl, skopeo, buildah and docker, in one run on one machine, and prints a table.
#
#   scripts/bench-registry.sh [--write] [--runs N]
#
# With --write the table goes into docs/benchmarks.md. EKIBEN_BENCH_MIB sets the size of the weights (2048),
# EKIBEN_BENCH_FAULTS the number of seeded runs over a broken network (200; 0 leaves them out).
# skopeo is told to leave the layers as they are: by itself it compresses them. Needs docker-registry, skopeo, curl and python3; buildah and docker where they are there.
set -euo pipefail
cd "$(dirname "$0")/.."
write="" runs=3
while [ $# -gt 0 ]; do
    case $1 in
    --write) write=1 ;;
    --runs) runs=$2; shift ;;
    *) echo "unknown: $1" >&2; exit 2 ;;
    esac
    shift
done
mib=${EKIBEN_BENCH_MIB:-2048} faults=${EKIBEN_BENCH_FAULTS:-200}
cargo build --release --locked --quiet
ekiben=$PWD/target/release/ekiben
# No capital letters: buildah makes a name of the path.
work=${TMPDIR:-/tmp}/ekiben-bench-$$ pid=""
mkdir -m 700 "$work"
cleanup() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
# cargo looks for its toolchain in the home.
export RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} CARGO_HOME=${CARGO_HOME:-$HOME/.cargo}
export EKIBEN_HOME=$work/store HOME=$work
port=$(python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])')
at=127.0.0.1:$port

# A fresh registry each time: what was pushed before must not help.
registry() {
    if [ -n "$pid" ]; then kill "$pid"; wait "$pid" 2>/dev/null || true; fi
    [ -n "${1:-}" ] || rm -rf "$work/data"
    cat >"$work/registry.yml" <<END
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/data}}
http: {addr: "$at"}
END
    docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
    pid=$!
    for _ in $(seq 100); do curl -so /dev/null "http://$at/v2/" && return; sleep 0.05; done
    echo "the registry does not start" >&2
    exit 1
}

# Seconds and peak memory (MiB) of a command.
timed() {
    python3 - "$@" <<'END'
import resource, subprocess, sys, time
t = time.monotonic()
r = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
s = time.monotonic() - t
if r.returncode:
    sys.exit(r.stderr.decode())
print(f"{s:.3f} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f}")
END
}

declare -A seconds memory
# What is measured, and how; the median of the runs. `prepare` runs before each.
measure() {
    local name=$1 prepare=$2 all=""
    shift 2
    for _ in $(seq "$runs"); do
        eval "$prepare" >/dev/null 2>&1
        all+="$(timed "$@")"$'\n'
    done
    read -r "seconds[$name]" "memory[$name]" < <(printf %s "$all" | sort -n | sed -n "$(((runs + 1) / 2))p")
    echo "$name: ${seconds[$name]} s, ${memory[$name]} MiB" >&2
}

mkdir "$work/project"
head -c "$((mib << 20))" /dev/urandom >"$work/project/weights.bin"
manifest() {
    printf 'name: w\nversion: "1"\nbase: scratch\nmodel: {files: [weights.bin]}\nenv: {V: "%s"}\nservice: {command: [/bin/x]}\n' "$1" \
        >"$work/project/ekiben.yaml"
}
manifest 1
"$ekiben" build "$work/project" -t w:1
manifest 2
"$ekiben" build "$work/project" -t w:2
for tag in 1 2; do "$ekiben" export "w:$tag" "$work/layout$tag"; done

# One PATCH and one PUT with curl, of the same bytes.
cat >"$work/curl.sh" <<END
set -e
location=\$(curl -si -X POST http://$at/v2/w/blobs/uploads/ | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
location=\$(curl -si -X PATCH -H 'Content-Type: application/octet-stream' -H 'Expect:' -T $work/blob "\$location" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
curl -sf -X PUT "\$location&digest=sha256:$(basename "$(ls -S "$work"/layout1/blobs/sha256/* | head -1)")" >&2
END
ln "$(ls -S "$work"/layout1/blobs/sha256/* | head -1)" "$work/blob"

cache() { cat "$work/blob" "$work/project/weights.bin" >/dev/null; }
fresh="registry; cache"
changed="registry; skopeo copy --preserve-digests --dest-tls-verify=false oci:$work/layout1 docker://$at/w:1"
same="[ -d $work/data/docker/registry/v2/repositories/w/_manifests/tags/2 ] || skopeo copy --preserve-digests --dest-tls-verify=false oci:$work/layout2 docker://$at/w:2"
measure "first curl" "$fresh" bash "$work/curl.sh"
measure "first ekiben" "$fresh" "$ekiben" push w:1 "$at/w:1"
measure "first skopeo" "$fresh" skopeo copy --preserve-digests --dest-tls-verify=false "oci:$work/layout1" "docker://$at/w:1"
measure "change ekiben" "$changed" "$ekiben" push w:2 "$at/w:2"
measure "change skopeo" "$changed" skopeo copy --preserve-digests --dest-tls-verify=false "oci:$work/layout2" "docker://$at/w:2"
eval "$changed" >/dev/null 2>&1
sent=$("$ekiben" push w:2 "$at/w:2" --output json | python3 -c 'import json,sys; print(json.load(sys.stdin)["pushed"][0]["sent"])')
measure "same ekiben" "$same" "$ekiben" push w:2 "$at/w:2"
measure "same skopeo" "$same" skopeo copy --preserve-digests --dest-tls-verify=false "oci:$work/layout2" "docker://$at/w:2"
pulled="rm -rf $work/pulled"
measure "pull ekiben" "$pulled" env "EKIBEN_HOME=$work/pulled" "$ekiben" pull "$at/w:2"
measure "pull skopeo" "$pulled" skopeo copy --preserve-digests --src-tls-verify=false "docker://$at/w:2" "oci:$work/pulled"
if command -v buildah >/dev/null; then
    buildah="buildah --root $work/buildah --runroot $work/buildah-run --storage-driver vfs"
    if $buildah pull -q "oci:$work/layout1" >"$work/id" 2>"$work/buildah.log"; then
        measure "first buildah" "$fresh" $buildah push -q --tls-verify=false "$(cat "$work/id")" "docker://$at/w:1"
    else
        cat "$work/buildah.log" >&2
    fi
    rm -rf "$work/buildah"
fi
if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
    "$ekiben" tag w:1 "$at/w:1"
    "$ekiben" export "$at/w:1" - | docker load -q >/dev/null
    measure "first docker" "$fresh" docker push -q "$at/w:1"
    docker rmi -f "$at/w:1" >/dev/null
fi
through=""
if [ "$faults" != 0 ]; then
    EKIBEN_TEST_RUNS=$faults cargo test --quiet --test it -- --exact registry::broken_networks_end_with_the_image_or_a_clear_error >&2
    through="All of $faults seeded runs through a proxy that resets, delays, loses and refuses ended with the whole image or a clear error."
fi

cell() { [ -n "${seconds[$1]:-}" ] && echo "${seconds[$1]} s, ${memory[$1]} MiB" || echo "–"; }
table=$(
    cat <<END
$mib MiB of weights that do not compress, Debian's \`docker-registry\` on the loopback interface, $(nproc) processors; median of $runs runs,
with peak memory. \`scripts/bench-registry.sh\` measures all of it in one run.

| | ekiben | skopeo copy | curl, one PATCH | buildah push | docker push |
|---|---|---|---|---|---|
| first push | $(cell "first ekiben") | $(cell "first skopeo") | $(cell "first curl") | $(cell "first buildah") | $(cell "first docker") |
| push after a change of code | $(cell "change ekiben") | $(cell "change skopeo") | | | |
| push of what is there | $(cell "same ekiben") | $(cell "same skopeo") | | | |
| pull | $(cell "pull ekiben") | $(cell "pull skopeo") | | | |

After the change of code ekiben sent $sent bytes of blobs. $through
END
)
echo "$table"
if [ -n "$write" ]; then
    python3 - docs/benchmarks.md "$table" <<'END'
import os, re, sys
path, table = sys.argv[1:]
text = open(path).read() if os.path.exists(path) else "# Benchmarks\n"
section = f"<!-- registry -->\n## Registries\n\n{table}\n<!-- /registry -->\n"
if "<!-- registry -->" in text:
    text = re.sub(r"<!-- registry -->.*?<!-- /registry -->\n", lambda _: section, text, flags=re.S)
else:
    text = text.rstrip("\n") + "\n\n" + section
open(path, "w").write(text)
END
fi
