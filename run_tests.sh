#!/usr/bin/env bash
# Lints and tests; arguments go to pytest.   ./run_tests.sh [-k X2]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
source "$root/.ci/environment.sh"
cd "$root"
"$python" -m ruff check --quiet .
"$python" -m ruff format --check --quiet .
exec "$python" -m pytest "$@"
