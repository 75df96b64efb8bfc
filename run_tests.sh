#!/usr/bin/env bash
# Lints and tests; arguments go to pytest.   ./run_tests.sh [-k X2]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
source "$root/.ci/environment.sh"
cd "$root"
SECONDS=0
"$python" -m ruff check --quiet .
"$python" -m ruff format --check --quiet .
"$python" -m pytest "$@"
if [ $# -eq 0 ]; then mkdir -p report && echo "$SECONDS" >report/tests.seconds; fi
