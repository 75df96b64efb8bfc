"""One style, the same bytes for the same picture, and a manifest that says where each figure came from."""

import fcntl
import io
import json
import os
from pathlib import Path

from memlm.claims import check_profile
from memlm.paths import (
    FIGURES,
    NOTEBOOKS,
    PACKAGE,
    STAGE,
    Damaged,
    plain_name,
    read_sealed,
    sha256,
    shown,
    source_hash,
    stage,
    write_sealed,
    writing,
)

STYLE = PACKAGE / "paper.mplstyle"
PUBLISHED = ("cpu", "gpu", "paper")  # profiles whose figures are committed
ENDINGS = ("png", "svg")
_ENTRY = {"notebook": str, "profile": str, "alt": str, "records": list, "sources": str, **dict.fromkeys(ENDINGS, str)}


def style():
    """Put memlm's figure style into force, whatever a user's matplotlibrc says. Call it once at the head of a notebook."""
    import matplotlib.pyplot as plt

    plt.rcdefaults()
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
    """Hash of a notebook's code, of the style, and of all of memlm that can change what its figures show. Raises ValueError
    where there is no such notebook."""
    path = NOTEBOOKS / f"{notebook}.ipynb"
    if not path.is_file():
        known = ", ".join(sorted(other.stem for other in NOTEBOOKS.glob("[0-9]*.ipynb")))
        raise ValueError(f"notebook is {notebook!r}; expected one of {known}")
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    return sha256(source_hash(code=code, without=("paths", "claims", "figures")) + sha256(STYLE))[:16]


def save(fig, name, *, notebook, profile, alt, records=(), into=None):
    """Write ``fig`` as PNG and SVG and enter it into the manifest beside them.

    name: file name without ending. notebook: the one that draws it. alt: one sentence for those who cannot see it.
    records: ids of the runs it shows. into: a folder; by default the runner's or, by hand, a scratch folder, which is then
    printed (see ``paths.stage``). The bytes hold no date and no random ids.
    """
    plain_name(name, "figure")
    check_profile(profile)
    if not alt.strip():
        raise ValueError(f"figure {name} has no alt text; expected a sentence")
    entry = {"notebook": notebook, "profile": profile, "alt": alt, "records": sorted(records)}
    entry["sources"] = notebook_hash(notebook)
    aside = into is None and STAGE not in os.environ
    into = Path(into or stage(profile) / "figures")
    for ending, metadata in zip(ENDINGS, ({"Software": None}, {"Date": None, "Creator": None}), strict=True):
        buffer = io.BytesIO()
        fig.savefig(buffer, format=ending, metadata=metadata)
        with writing(into / f"{name}.{ending}") as file:
            file.write(buffer.getvalue())
        entry[ending] = sha256(buffer.getvalue())[:16]
    _enter(into, {name: entry})
    if aside:
        print(f"figure {name} is in {shown(into)}/: a notebook that is run by hand leaves figures/ as it is")


def manifest(folder):
    """{figure: its entry} of a folder, {} where nothing was drawn. Raises paths.Damaged."""
    own = Path(folder) == FIGURES
    advice = "git checkout -- figures" if own else "delete it and execute the notebooks that draw these figures again"
    try:
        return read_sealed(Path(folder) / "manifest.json", {...: _ENTRY}, advice)
    except FileNotFoundError:
        return {}


def _enter(folder, entries, without=()):
    """Add entries to the manifest of a folder, and take some away. A damaged manifest of what is only staged is begun anew:
    the figures that it lacks then are drawn again."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".manifest.lock", "wb") as lock:  # two notebooks may finish a figure at the same moment
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            known = manifest(folder)
        except Damaged:
            if folder == FIGURES:
                raise
            known = {}
        write_sealed(folder / "manifest.json", {k: v for k, v in (known | entries).items() if k not in without})


def _damage(folder, name, entry):
    """Sentences about files of a figure that are not those of its entry."""
    for ending in ENDINGS:
        path = folder / f"{name}.{ending}"
        if not path.is_file():
            yield f"{path.name} is in the manifest but not in {folder.name}/"
        elif sha256(path)[:16] != entry[ending]:
            yield f"{path.name} is not the file that the manifest describes"


def of(notebook, folder):
    """{figure: its entry} of those in a folder that ``notebook`` drew."""
    return {name: entry for name, entry in manifest(folder).items() if entry["notebook"] == notebook}


def to_adopt(staged, notebook):
    """Figures that ``notebook`` left in the folder ``staged`` and that figures/ lacks: not there, damaged, or drawn by other
    code. One drawn by the same code stays as it is, though another processor may draw it with other bytes."""
    committed, found = manifest(FIGURES), []
    if not committed and any(FIGURES.glob("*.png")):
        raise Damaged(f"{shown(FIGURES)}/manifest.json is missing beside its figures; git checkout -- figures")
    for name, entry in of(notebook, staged).items():
        there = committed.get(name)
        if there is None or there["sources"] != entry["sources"] or [*_damage(FIGURES, name, there)]:
            found.append(name)
    return found


def adopt(names, staged):
    """Copy figures of the folder ``staged``, with their entries, to figures/."""
    entries = {name: entry for name, entry in manifest(staged).items() if name in names}
    for name, entry in entries.items():
        if problems := [*_damage(Path(staged), name, entry)]:
            raise Damaged(f"{shown(staged)}: {problems[0]}; execute {entry['notebook']} again")
        for ending in ENDINGS:
            with writing(FIGURES / f"{name}.{ending}") as file:
                file.write((staged / f"{name}.{ending}").read_bytes())
    if entries:
        _enter(FIGURES, entries)


def drop(names, folder=None):
    """Remove figures from a folder, by default figures/, and from its manifest; a file that is not the manifest's stays."""
    folder = folder or FIGURES
    entries = manifest(folder)
    for name in names:
        for ending in ENDINGS:
            path = folder / f"{name}.{ending}"
            if path.is_file() and sha256(path)[:16] == entries[name][ending]:
                path.unlink()
    if names:
        _enter(folder, {}, without=names)


def stale(where=None):
    """Sentences about figures that are not what the tree would make now: changed files, changed sources. [] if none.
    ``where`` is figures/ unless another folder is given."""
    where = where or FIGURES
    try:
        entries = manifest(where)
    except Damaged as error:
        return [str(error)]
    problems = []
    for name, entry in entries.items():
        problems += _damage(where, name, entry)
        if not (NOTEBOOKS / f"{entry['notebook']}.ipynb").is_file():
            problems.append(f"{name} was drawn by {entry['notebook']}, which is gone")
        elif notebook_hash(entry["notebook"]) != entry["sources"]:
            problems.append(f"{name} is older than the code of {entry['notebook']}: run ./run_all.sh --only it")
    drawn = {path.stem for path in where.iterdir() if path.suffix[1:] in ENDINGS}
    return problems + [f"{name} is in {where.name}/ but not in the manifest" for name in sorted(drawn - entries.keys())]
