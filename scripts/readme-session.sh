#!/bin/sh
# Draws docs/session.svg, the picture in the README, from what the program really prints.
#
# Works in a store of its own, so that it shows a first run; downloads of wheels are cached by uv as always.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --quiet
program="$PWD/target/release"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r fixtures "$work/fixtures"
rm -f "$work"/fixtures/*/ekiben.lock
cd "$work"
PATH="$program:$PATH" EKIBEN_HOME="$work/store" "$OLDPWD/scripts/session-svg.py" "$OLDPWD/docs/session.svg" --columns 84 \
    -- 'ekiben test fixtures/iris' 'ekiben inspect iris:1.0'
