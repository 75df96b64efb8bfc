#!/usr/bin/env bash
# Lints and tests; arguments go to pytest.   ./run_tests.sh [-k X2]
# With --proofs, instead, Coq checks the theorems of proofs/.   ./run_tests.sh --proofs
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" >/dev/null && pwd -P)
if [ "${1:-}" = --proofs ]; then exec "$root/proofs/check.sh"; fi
source "$root/.ci/environment.sh"
SECONDS=0
"$python" -m ruff check --quiet .
"$python" -m ruff format --check --quiet .
"$python" -m pytest "$@"
if [ $# -eq 0 ]; then mkdir -p report && echo "$SECONDS" >report/tests.seconds; fi
