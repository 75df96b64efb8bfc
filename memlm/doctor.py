"""What this machine has, and whether its packages are the pinned ones. Run as a module it is the check that the shell
scripts make before they use an active environment: exit status 1 and one sentence where a pin is not met."""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version

from memlm import paths


def pins():
    """{package: version} of constraints.txt, names in lower case with hyphens."""
    lines = (paths.ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def requirements():
    """Names of the packages that pyproject.toml asks for, with all extras."""
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    return sorted({re.match(r"[\w.-]+", name)[0].lower() for group in groups for name in group})


def unmet():
    """Sentences about required packages that are missing or not the pinned version. [] if all is well."""
    pinned, problems = pins(), []
    for name in requirements():
        try:
            found = version(name).split("+")[0]  # torch says which build it is after a plus sign
        except PackageNotFoundError:
            found = "missing"
        if found != pinned.get(name):
            problems.append(f"{name} is {found}; expected {pinned.get(name, 'a pin in constraints.txt')}")
    return problems


def facts():
    """Lines of text about versions, processor, data and runs; read-only."""
    from memlm import bench, corpora, records

    problems = unmet()
    lines = [f"python {sys.version.split()[0]} on {bench.device_name()}"]
    lines += problems or [f"all {len(requirements())} required packages have their pinned versions"]
    lines.append(f"Question-Formation lines come from source {corpora.available_source()!r}")
    lines.append(f"finished runs here: {len(list(records.RUNS.glob('[!.]*')))}")
    lines.append(f"committed records: {len(list(paths.RECORDS.glob('*/stamp.json')))}")
    return lines


if __name__ == "__main__":
    problems = unmet()
    more = [f"and {len(problems) - 3} more"] if len(problems) > 3 else []
    sys.exit("; ".join(problems[:3] + more) or None)
