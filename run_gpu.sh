#!/usr/bin/env bash
# What a GPU is used for that is here for M minutes: tests, bench, and the runs of profile gpu in the order of their worth.
#   ./run_gpu.sh --minutes M [--out DIR] [--data NAME] [--parts tests,bench,runs]
#   ./run_gpu.sh --rehearse       all of it in tiny sizes, without a GPU
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" >/dev/null && pwd -P)
# A Python whose torch sees a GPU is used as it is, whatever its versions are: records name them.
caller=$PWD python=""
for candidate in python python3; do
    if "$candidate" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
        python=$candidate
        export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
        break
    fi
done
if [ -z "$python" ]; then source "$root/.ci/environment.sh"; fi
# What lies in the caller's folder is not imported (-P); what is named there, as by --out, is.
cd "$caller"
exec "$python" -P -m memlm gpu "$@"
