"""One style, the same bytes for the same picture, and a manifest that says where each figure came from."""

import fcntl
import io
import json

from memlm.paths import FIGURES, NOTEBOOKS, PACKAGE, REPORT, sha256, source_hash, write_json, writing

STYLE = PACKAGE / "paper.mplstyle"
PUBLISHED = ("cpu", "gpu", "paper")  # profiles whose figures are committed


def style():
    """Put memlm's figure style into force. Call it once at the head of a notebook."""
    import matplotlib.pyplot as plt

    plt.style.use(STYLE)


def curve(ax, runs, metric, **line):
    """Draw a metric against optimiser steps: the mean over ``runs`` (of one configuration, several seeds) as a line, their
    range as a band. ``line`` goes to matplotlib's plot."""
    import numpy as np

    steps = runs[0].column(metric)[0]
    values = np.array([run.column(metric)[1] for run in runs])
    (drawn,) = ax.plot(steps, values.mean(0), **line)
    ax.fill_between(steps, values.min(0), values.max(0), color=drawn.get_color(), alpha=0.25, linewidth=0)


def notebook_hash(notebook):
    """Hash of a notebook's code, of the style, and of all of memlm that can change what its figures show."""
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text())["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    return sha256(source_hash(code=code, without=("paths", "claims", "figures")) + sha256(STYLE))[:16]


def folder(profile):
    """Where figures of a profile go: figures/, or report/figures/smoke for smoke, which proves only that the code runs."""
    return FIGURES if profile in PUBLISHED else REPORT / "figures" / profile


def save(fig, name, *, notebook, profile, alt, records=(), into=None):
    """Write ``fig`` as PNG and SVG and enter it into the manifest.

    name: file name without ending. notebook: the one that draws it. alt: one sentence for those who cannot see it.
    records: ids of the runs it shows. Written ``into`` folder(profile); the bytes hold no date and no random ids.
    """
    if not alt.strip():
        raise ValueError(f"figure {name} has no alt text; expected a sentence")
    into = into or folder(profile)
    hashes = {}
    for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
        buffer = io.BytesIO()
        fig.savefig(buffer, format=ending, metadata=metadata)
        with writing(into / f"{name}.{ending}") as file:
            file.write(buffer.getvalue())
        hashes[ending] = sha256(buffer.getvalue())[:16]
    entry = {"notebook": notebook, "profile": profile, "alt": alt, "records": sorted(records), **hashes}
    _enter(into / "manifest.json", name, {**entry, "sources": notebook_hash(notebook)})


def _enter(path, name, entry):
    with open(path.with_name(".manifest.lock"), "w") as lock:  # two notebooks may finish a figure at the same moment
        fcntl.flock(lock, fcntl.LOCK_EX)
        manifest = json.loads(path.read_text()) if path.is_file() else {}
        write_json(path, {**manifest, name: entry})


def stale(where=FIGURES):
    """Sentences about figures that are not what the tree would make now: changed files, changed sources. [] if none."""
    manifest = json.loads((where / "manifest.json").read_text())
    problems = []
    for name, entry in manifest.items():
        for ending in ("png", "svg"):
            path = where / f"{name}.{ending}"
            if not path.is_file():
                problems.append(f"{path.name} is in the manifest but not in {where.name}/")
            elif sha256(path)[:16] != entry[ending]:
                problems.append(f"{path.name} is not the file that the manifest describes")
        if not (NOTEBOOKS / f"{entry['notebook']}.ipynb").is_file():
            problems.append(f"{name} was drawn by {entry['notebook']}, which is gone")
        elif notebook_hash(entry["notebook"]) != entry["sources"]:
            problems.append(f"{name} is older than the code of {entry['notebook']}: run ./run_all.sh --only it")
    drawn = {path.stem for path in where.iterdir() if path.suffix in (".png", ".svg")}
    return problems + [f"{name} is in {where.name}/ but not in the manifest" for name in sorted(drawn - manifest.keys())]
