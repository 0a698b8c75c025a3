#!/bin/sh
# Makes projects of models of the zoo (scripts/zoo) after a file of each was changed.
#
# EKIBEN_FUZZ is how many (100,000), EKIBEN_ZOO where models lie that were made before.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${EKIBEN_ZOO:-}" ]; then
    EKIBEN_ZOO=target/tmp/zoo
    python3 scripts/zoo --make-only --into "$EKIBEN_ZOO"
fi
export EKIBEN_ZOO EKIBEN_FUZZ="${EKIBEN_FUZZ:-100000}"
cargo test --locked --test it -- --ignored --nocapture models::projects_of_broken_models
