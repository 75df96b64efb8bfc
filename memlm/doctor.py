"""What this machine has, and whether its packages are the pinned ones. Run as a module it is the check that the shell
scripts make before they use an active environment: exit status 1 and one sentence where a pin is not met."""

import os
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import memlm
from memlm import paths


def pins():
    """{package: version} of constraints.txt, names in lower case with hyphens. ValueError for a line that is no pin."""
    found, file = {}, paths.ROOT / "constraints.txt"
    for number, line in enumerate(file.read_text(encoding="utf8", errors="backslashreplace").splitlines(), 1):
        if pin := line.partition("#")[0].strip():
            if not re.fullmatch(r"[\w.-]+==[\w.+!-]+", pin):
                raise ValueError(f"{paths.shown(file)}, line {number}, is {line!r}; expected name==version")
            found |= [pin.split("==")]
    return found


def requirements():
    """Names of the packages that pyproject.toml asks for, with all extras."""
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return sorted({re.match(r"[\w.-]+", name)[0].lower() for group in groups for name in group})


def unmet():
    """Sentences about required packages that are missing or not the pinned version. [] if all is well."""
    pinned, problems = pins(), []
    for name in requirements():
        try:
            # Torch says which build it is after a plus sign; metadata that are cut off say nothing.
            found = (metadata(name).get("Version") or "of no version").split("+")[0]
        except PackageNotFoundError:
            found = "missing"
        if found != pinned.get(name):
            problems.append(f"{name} is {found}; expected {pinned.get(name, 'a pin in constraints.txt')}")
    return problems


def elsewhere(folder=None):
    """A sentence where ``folder``, by default the working directory, lies in another clone of memlm than the one that is
    imported; None where it does not."""
    for clone in (here := Path(folder or os.getcwd()).resolve(), *here.parents):
        if (clone / "memlm" / "paths.py").is_file():
            if clone != paths.ROOT:
                return (
                    f"WARNING: this is the clone {clone}, but memlm is imported from {paths.PACKAGE}: use ./run_all.sh here"
                )
            return None
    return None


def facts():
    """Lines of text about versions, processor, data and runs; read-only. What cannot be told because a package is missing
    is left out, after the sentence that says so."""
    problems = unmet()
    lines = [f"memlm {memlm.__version__} in {paths.PACKAGE}, python {sys.version.split()[0]}"]
    lines += filter(None, [elsewhere()])
    lines += problems or [f"all {len(requirements())} required packages have their pinned versions"]
    try:
        from memlm import bench, corpora, records
    except ImportError as error:
        return [*lines, f"{error.name or error} is missing, so nothing more can be told: ./run_all.sh sets up .venv"]
    lines.append(f"training runs on {bench.device_name()}")
    lines.append(f"Question-Formation lines come from source {corpora.available_source()!r}")
    lines.append(f"finished runs here: {len(list(records.RUNS.glob('[!.]*')))}")
    lines.append(f"committed records: {len(list(paths.RECORDS.glob('*/stamp.json')))}")
    return lines


if __name__ == "__main__":
    try:
        problems = unmet()
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    more = [f"and {len(problems) - 3} more"] if len(problems) > 3 else []
    sys.exit("; ".join(problems[:3] + more) or None)
