#!/usr/bin/env bash
# Tries the files of a release as people have them, in fresh trees, as an ordinary user without compilers, and prints a table.
#
#   scripts/test-dist.sh DIST     as root, on Debian or Ubuntu, with a network: what `scripts/release` made
#
# Trees of Debian bullseye, bookworm and trixie are put together by the program itself; one with no C library at all has it and
# busybox; one of Debian sid (for Python 3.14) comes from mmdebstrap, where that is there. Other Pythons are those in
# $PYTHONS/*/bin (~/.pyenv/versions). Programs for arm64 run under qemu-user of Debian trixie.
# A tree is entered by pivot_root(2), as no user namespace can be made in a chroot. Nothing stays behind.
set -euo pipefail
cd "$(dirname "$0")/.."
dist=$(realpath "${1:?which folder?}")
[ "$(id -u)" = 0 ] || { echo "only root can enter trees" >&2; exit 1; }
for program in busybox umoci unshare bc; do
    command -v $program >/dev/null || { echo "install busybox-static, umoci, util-linux and bc" >&2; exit 1; }
done
# What a machine behind its own authority has in the environment.
kept=$(env | grep -E '^(PIP_CERT|SSL_CERT_FILE|UV_DEFAULT_INDEX|https?_proxy|no_proxy)=' | grep -v ' ' | paste -sd' ' || true)
# Where there is no pip, Ekiben asks the index under its oldest name, which not every network knows.
case $kept in
    *UV_DEFAULT_INDEX*) ;;
    *) kept="$kept UV_DEFAULT_INDEX=$(python3 -c 'from pip._internal.models.index import PyPI; print(PyPI.simple_url)')" ;;
esac
pythons=${PYTHONS:-$HOME/.pyenv/versions}

work=$(mktemp -d "${TMPDIR:-/tmp}/dist.XXXXXX")
rows=$work/rows
registered=""
failed=""
ended() {
    [ -z "$registered" ] || echo -1 >"/proc/sys/fs/binfmt_misc/$registered"
    rm -rf "$work"
}
trap ended EXIT
chmod 755 "$work"
mkdir -p "$work/home" "$work/program" "$work/store"
cp -r fixtures/iris "$work/home/iris"
rm -f "$work/home/iris/ekiben.lock"
chown -R 1000:1000 "$work/home"

(cd "$dist" && sha256sum --quiet --check --strict SHA256SUMS)
version=$(basename "$dist"/ekiben-*.build.json .build.json)
version=${version#ekiben-}
tar -xzf "$dist/ekiben-$version-x86_64-unknown-linux-musl.tar.gz" -C "$work/program" --strip-components=1
ekiben=$work/program/bin/ekiben
export EKIBEN_HOME=$work/store

# --- Trees

# tree NAME BASE PLATFORM PACKAGES...: a tree of packages, by the program itself.
tree() {
    local name=$1 base=$2 platform=$3 project=$work/projects/$1
    shift 3
    mkdir -p "$project" "$work/layouts" "$work/bundles" "$work/trees"
    printf 'name: %s\nversion: "1"\nbase: %s\nsystem: {packages: [%s]}\nservice: {command: [/bin/sh]}\n' \
        "$name" "$base" "$(echo "$@" | tr ' ' ,)" >"$project/ekiben.yaml"
    "$ekiben" build --quiet --platform "$platform" "$project" >/dev/null
    "$ekiben" export --quiet "$name:1" "$work/layouts/$name/" >/dev/null
    umoci unpack --image "$work/layouts/$name:1" "$work/bundles/$name" >/dev/null 2>&1
    mv "$work/bundles/$name/rootfs" "$work/trees/$name"
    furnish "$name"
}

# What a machine has beside its packages: a user, names of others, who is trusted, where Debian is.
furnish() {
    local tree=$work/trees/$1
    mkdir -p "$tree"/{proc,dev,sys,tmp,etc/ssl/certs,home/user,root,var/tmp,usr/bin,dist,.old,.bin}
    chmod 1777 "$tree/tmp" "$tree/var/tmp"
    chmod 755 "$tree/root"
    grep -qs '^user:' "$tree/etc/passwd" || echo 'user:x:1000:1000::/home/user:/bin/sh' >>"$tree/etc/passwd"
    grep -qs '^user:' "$tree/etc/group" || echo 'user:x:1000:' >>"$tree/etc/group"
    cp -L /etc/resolv.conf /etc/hosts "$tree/etc/"
    rm -f "$tree/etc/ssl/certs/ca-certificates.crt"
    cp -L /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
    cp "$(command -v busybox)" "$tree/.bin/busybox"
    if grep -q '^ID=debian' /etc/os-release; then
        mkdir -p "$tree/etc/apt/sources.list.d"
        cp /etc/apt/sources.list "$tree/etc/apt/" 2>/dev/null || true
        cp /etc/apt/sources.list.d/debian.sources "$tree/etc/apt/sources.list.d/" 2>/dev/null || true
    fi
}

# within NAME USER SCRIPT: a shell of the tree runs it, with the files of the release in /dist and the user's home, which all
# trees share: what one has fetched the next one has.
within() {
    local tree=$work/trees/$1 user=$2 script=$3
    # shellcheck disable=SC2016 # its own variables
    unshare --mount --pid --fork --propagation private sh -euc '
        tree=$1 home=$2 dist=$3 pythons=$4 kept=$5 user=$6 script=$7
        mount --bind "$tree" "$tree"
        mount --bind "$home" "$tree/home/user"
        mount --bind "$dist" "$tree/dist"
        if [ -d "$pythons" ]; then mkdir -p "$tree/$pythons"; mount --bind "$pythons" "$tree/$pythons"; fi
        mount -t proc proc "$tree/proc"
        mount --rbind /dev "$tree/dev"
        mount --rbind /sys "$tree/sys"
        cd "$tree"
        pivot_root . .old
        cd /
        /.bin/busybox umount -l /.old
        if [ "$user" = user ]; then cd /home/user; fi
        exec /.bin/busybox env -i $kept LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
            /.bin/busybox su -s /bin/sh "$user" -c "set -eu; $script"
    ' sh "$tree" "$work/home" "$dist" "$pythons" "$kept" "$user" "$script"
}

# --- Trials

# trial WHERE HOW COMMAND...: a row of the table.
trial() {
    local where=$1 how=$2 started result=works log=$work/log
    shift 2
    started=$(date +%s.%N)
    if ! "$@" >"$log" 2>&1 </dev/null; then
        result="**fails**"
        failed=yes
        sed 's/^/    /' "$log" >&2
    fi
    printf '| %s | %s | %s | %.1f s |\n' "$where" "$how" "$result" "$(echo "$(date +%s.%N) - $started" | bc)" | tee -a "$rows"
}

# In a tree: words of its shell.
says_version="[ \"\$(ekiben --version)\" = \"ekiben $version\" ]"
iris="ekiben test iris"
no_compiler="for tool in cc gcc rustc cargo; do if command -v \$tool; then exit 1; fi; done"

# Of the wheels the one for this machine is chosen by pip itself, which is asked for nothing else.
wheel() { # PYTHON
    echo "$no_compiler; rm -rf env; $1 -m venv env; env/bin/pip install --quiet --no-index --find-links /dist ekiben
        PATH=\$PWD/env/bin:\$PATH; $says_version; [ -f env/share/man/man1/ekiben.1 ]"
}

for suite in bullseye bookworm trixie; do
    tree $suite debian:$suite linux/amd64 ca-certificates coreutils diffutils dpkg python3 python3-venv tar gzip
    trial "Debian $suite" "wheel, \`pip install\`" within $suite user "$(wheel python3); $iris"
    trial "Debian $suite" ".deb, \`dpkg -i\`" within $suite root "dpkg -i /dist/ekiben_*_amd64.deb; $says_version"
    trial "Debian $suite" "as the .deb has it, \`ekiben test\`" within $suite user "$no_compiler; $says_version; $iris"
    trial "Debian $suite" ".deb, \`dpkg -r\`" within $suite root "dpkg -r ekiben; ! [ -e /usr/bin/ekiben ]"
done

# Both commands of the README, with uv from the index.
trial "Debian bookworm" "\`uvx ekiben test iris\`" within bookworm user \
    "python3 -m venv uv; uv/bin/pip install --quiet uv; UV_FIND_LINKS=/dist uv/bin/uvx ekiben test iris"
trial "Debian bookworm" "\`pip install ekiben\`, \`ekiben test iris\`" within bookworm user \
    "rm -rf env; python3 -m venv env; env/bin/pip install --quiet --find-links /dist ekiben; env/bin/$iris"

# No C library, no Python: the static program and busybox.
mkdir -p "$work/trees/musl"/{bin,etc}
printf 'root:x:0:0::/root:/bin/sh\n' >"$work/trees/musl/etc/passwd"
furnish musl
for name in $(busybox --list); do ln -sf /.bin/busybox "$work/trees/musl/bin/$name"; done
unpack="rm -rf tar; mkdir tar; tar -xzf /dist/ekiben-$version-x86_64-unknown-linux-musl.tar.gz -C tar; PATH=\$(echo \$PWD/tar/*/bin):\$PATH"
trial "busybox, no C library" "archive" within musl user "$no_compiler; $unpack; $says_version; $iris"

# Pythons that Debian's releases have not. Where one is missing, the table says so.
if command -v mmdebstrap >/dev/null; then
    mirror=$(cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null |
        sed -n 's/^URIs: *//p; s/^deb [^h]*\(http[^ ]*\).*/\1/p' | head -n 1 || true)
    mmdebstrap --quiet --aptopt='Acquire::Check-Valid-Until "false"' --variant=minbase --include=ca-certificates,python3-venv sid "$work/trees/sid" ${mirror:+"$mirror"} 2>"$work/log" &&
        furnish sid || sed 's/^/    /' "$work/log" >&2
fi
for python in 3.9 3.10 3.11 3.12 3.13 3.14; do
    where=""
    for tree in bullseye bookworm trixie sid; do
        if [ -e "$work/trees/$tree/usr/bin/python$python" ]; then where="$tree /usr/bin/python$python"; break; fi
    done
    built=$(find "$pythons" -maxdepth 3 -path "*/$python.*/bin/python$python" 2>/dev/null | head -n 1 || true)
    [ -n "$where" ] || [ -z "$built" ] || where="bookworm $built"
    if [ -z "$where" ]; then
        echo "| Python $python | wheel | not had here | |" | tee -a "$rows"
    else
        trial "Python $python (Debian ${where%% *})" "wheel" within "${where%% *}" user "$(wheel "${where#* }"); $iris"
    fi
done

# --- CI

# The hooks with the real pre-commit, and what the action and the component for GitLab say, as their runners do it.
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet pre-commit
mkdir -p "$work/hooks/packaging/hooks" "$work/ci"
cp .pre-commit-hooks.yaml pyproject.toml "$work/hooks"
cp packaging/hooks/hooks.py "$work/hooks/packaging/hooks"
cp -r fixtures/iris/. "$work/ci"
committed() { git -C "$1" init --quiet; git -C "$1" add .; git -C "$1" -c user.name=x -c user.email=x@x commit --quiet -m x; }
committed "$work/hooks"
printf 'repos: [{repo: %s, rev: %s, hooks: [{id: ekiben-validate}]}]\n' "$work/hooks" \
    "$(git -C "$work/hooks" rev-parse HEAD)" >"$work/ci/.pre-commit-config.yaml"
committed "$work/ci"
in_ci() { (cd "$work/ci" && env -u EKIBEN_HOME CI_PROJECT_DIR="$work/ci" HOME="$work/ci-home" RUNNER_TEMP="$work/runner" PATH="$work/tools/bin:/usr/bin:/bin" "$@"); }
mkdir "$work/ci-home" "$work/runner"
# pip, too, takes a space for the end of a folder's name.
ln -s "$dist" "$work/dist"
offline="env PIP_NO_INDEX=1 PIP_FIND_LINKS=$work/dist"
# shellcheck disable=SC2086 # words of its own
trial "pre-commit" "\`language: python\`, without a network: installed" in_ci $offline pre-commit run --all-files
trial "pre-commit" "the second time" in_ci pre-commit run --all-files
cat >"$work/steps.py" <<'PY'
import os, pathlib, re, subprocess, sys, yaml
given = dict(pair.split("=", 1) for pair in sys.argv[2:])
*spec, main = yaml.safe_load_all(open(sys.argv[1]))
inputs = (spec[0]["spec"] if spec else main)["inputs"]
value = lambda name: given.get(name, str(inputs[name].get("default", "")))
filled = lambda text: re.sub(r"\$(?:\{\{|\[\[) inputs\.(\w+) (?:\}\}|\]\])", lambda found: value(found[1]), text)
if spec:
    (job,) = main.values()
    steps = [{"run": "\n".join(job["before_script"] + job["script"]), "env": job["variables"]}]
else:
    steps = [step for step in main["runs"]["steps"] if "run" in step]
paths = pathlib.Path(os.environ["RUNNER_TEMP"], "path")
paths.write_text("")
for step in steps:
    env = {name: os.path.expandvars(filled(text)) for name, text in step.get("env", {}).items()}
    path = ":".join([*paths.read_text().split(), os.environ["PATH"]])
    subprocess.run(["sh", "-ec", filled(step["run"])], check=True, env=os.environ | env | {"PATH": path, "GITHUB_PATH": str(paths)})
PY
# shellcheck disable=SC2086
trial "GitHub" "\`action.yml\`" in_ci $offline python "$work/steps.py" "$PWD/action.yml" paths=.
# shellcheck disable=SC2086
trial "GitLab" "\`templates/ekiben.yml\`" in_ci $offline python "$work/steps.py" "$PWD/templates/ekiben.yml"

# --- The other processor

if [ -e "$dist/ekiben-$version-aarch64-unknown-linux-musl.tar.gz" ]; then
    # That of trixie is linked statically, and knows openat2(2), which that of bookworm does not.
    tree qemu debian:trixie linux/amd64 qemu-user
    qemu=$work/trees/qemu/usr/bin/qemu-aarch64
    formats=/proc/sys/fs/binfmt_misc
    [ -e $formats/register ] || mount -t binfmt_misc binfmt_misc $formats
    if ! [ -e $formats/qemu-aarch64 ]; then
        # binfmt_misc of the kernel's documentation: the header of ELF programs for arm64; F opens the interpreter now.
        printf '%s' ':ekiben-arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:'\
'\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'"$qemu:F" >$formats/register
        registered="ekiben-arm64"
    fi
    mkdir "$work/arm64"
    tar -xzf "$dist/ekiben-$version-aarch64-unknown-linux-musl.tar.gz" -C "$work/arm64" --strip-components=1
    arm64() { env EKIBEN_HOME="$work/arm64-store" "$work/arm64/bin/ekiben" "$@"; }
    native() { env EKIBEN_HOME="$work/store" "$ekiben" "$@"; }
    # Of Debian packages and weights, without Python: uv and the base's Python are locked in by means that qemu has not.
    tree arm64 debian:bookworm linux/arm64 ca-certificates coreutils diffutils dpkg python3 python3-venv tar gzip
    cp "$work/home/iris/model.pkl" "$work/projects/arm64"
    echo 'model: {files: [model.pkl]}' >>"$work/projects/arm64/ekiben.yaml"
    same() {
        local one other
        one=$(native build --platform "$1" "$work/projects/arm64" | tail -n 1)
        other=$(arm64 build --platform "$1" "$work/projects/arm64" | tail -n 1)
        echo "$one by x86-64, $other by arm64"
        [ -n "$one" ] && [ "$one" = "$other" ]
    }
    where="arm64, under qemu"
    trial "$where" "archive, \`ekiben --version\`" test "$(arm64 --version)" = "ekiben $version"
    trial "$where" "archive, \`ekiben validate iris\`" arm64 validate "$work/home/iris"
    for platform in linux/arm64 linux/amd64; do
        trial "$where" "archive, \`ekiben build --platform $platform\`: the digest that x86-64 has" same $platform
    done
    trial "$where" "wheel, \`pip install\`" within arm64 user "$(wheel python3)"
    trial "$where" ".deb, \`dpkg -i\`" within arm64 root "dpkg -i /dist/ekiben_*_arm64.deb; $says_version"
fi

printf '\n| where | what | | time |\n|---|---|---|---|\n'
cat "$rows"
[ -z "$failed" ]
