# Sourced by run_all.sh and run_tests.sh with $root set: leaves in $python an interpreter that has the pinned packages.
# That is the active environment's, where one is active and satisfies constraints.txt, and otherwise .venv's, which is
# made on first use and brought up to date when the pins change.
# From here on the working directory is $root: python -m takes what lies in it before all else, as it might another clone.
cd "$root"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
python=""
if [ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && command -v python >/dev/null; then
    if unmet=$(python -m memlm.doctor 2>&1); then
        python=$(command -v python)
    else
        echo "The active environment is not used: $(printf '%s\n' "$unmet" | tail -n 1). Using $root/.venv instead."
    fi
fi
if [ -z "$python" ]; then
    python="$root/.venv/bin/python"
    wanted=$(cksum "$root/constraints.txt" "$root/pyproject.toml" | cut -d ' ' -f 1,2 | tr '\n' ' ')
    if [ "$(cat "$root/.venv/ready" 2>/dev/null)" != "$wanted" ]; then
        base=""
        for candidate in python3.11 python3; do
            if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then base=$candidate; break; fi
        done
        if [ -z "$base" ]; then echo "Python 3.11 or later was not found; install it, or use environment.yml." >&2; exit 1; fi
        echo "Setting up $root/.venv: about 2 minutes and 2 GB, once."
        begun=$SECONDS
        "$base" -m venv "$root/.venv"
        "$python" -m pip install --disable-pip-version-check -c "$root/constraints.txt" -e "$root[notebooks,proofs,test]" 2>&1 |
            tee "$root/.venv/install.log" | awk '/^Collecting/ && ++n % 20 == 0 { print "  " n " packages found"; fflush() }
                /^Installing/ { print "  installing them"; fflush() }  /^ERROR/ { print; fflush() }'
        if [ "${PIPESTATUS[0]}" -ne 0 ]; then echo "The set-up failed; see $root/.venv/install.log." >&2; exit 1; fi
        printf '%s\n' "$wanted" >"$root/.venv/ready"
        mkdir -p "$root/report" && echo "$((SECONDS - begun))" >"$root/report/setup.seconds"
        echo "Set up in $((SECONDS - begun)) s."
    fi
fi
