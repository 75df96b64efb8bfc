#!/usr/bin/env bash
# Executes the notebooks, in order, and regenerates figures, verdicts and report.
#   ./run_all.sh [--profile smoke|cpu|gpu|paper] [--only 03] [--from-records] [--force] [--seed N]
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" >/dev/null && pwd -P)
source "$root/.ci/environment.sh"
exec "$python" -m memlm notebooks "$@"
