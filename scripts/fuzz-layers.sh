#!/bin/sh
# Unpacks mutated layers: `scripts/fuzz-layers.sh [INPUTS]`, a million where none are given. Fails where one of them
# touches what lies beside the tree, panics, takes ten seconds, or all together more memory than they may.
#
# The same inputs each time. In TMPDIR, which is best a file system in memory.
set -eu
cd "$(dirname "$0")/.."
EKIBEN_FUZZ_INPUTS="${1:-1000000}" exec cargo test --locked --test it layers::mutated_layers_do_no_harm -- --nocapture
