"""What a finished run leaves: its configuration, metrics and stamp, hashed, found by what was asked for.

data/cache/runs/<id>/ and data/records/<id>/ hold config.json, metrics.jsonl (one evaluation a line) and stamp.json (sealed:
when, where, with which versions, how long and how fast, and the hashes of the other two). An id says what it names, so a run
under another's is refused: <experiment>-<hash of the configuration>-<hash of the code>.
"""

import json
import math
import os
import platform
import re
import shutil
import subprocess
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median

from memlm import paths
from memlm.configs import config_hash, processes
from memlm.paths import CACHE, RECORDS, ROOT, sha256, shown, source_hash, write_json, writing

RUNS = CACHE / "runs"
_FILES = ("config.json", "metrics.jsonl")
_NUMBER = (int, float)
_STAMP = dict.fromkeys(("date", "commit", "sources", "device", "python"), str) | {
    **dict.fromkeys(("processes", "seed", "tokens", "peak_memory"), int),
    **dict.fromkeys(("seconds", "tokens_per_second", "mfu"), _NUMBER),
    "versions": {...: str},
    "sha256": dict.fromkeys(_FILES, str),
}
_CONFIG = {"experiment": str, "data": {"source": str, "digest": str, "size": int}, "model": {...: object}, "seed": int}
_LINE = {"step": int, "tokens": int, "seconds": _NUMBER, "train_loss": _NUMBER, "dev_loss": _NUMBER}


class DamagedRun(paths.Damaged):
    """A run's files are not those that its stamp describes, or it is not the run that its folder is named after."""


@dataclass(frozen=True)
class Run:
    """A finished run. outdated: it is a committed record, and the code that made it has changed since."""

    id: str
    config: dict
    metrics: list[dict]
    stamp: dict
    outdated: bool = False

    def column(self, name):
        """The values of one metric over the evaluations that have it, as (steps, values). Dots lead into a record, as in
        ``collapse.prefixes.-1.index``; what could not be measured is nan."""
        points = []
        for metrics in self.metrics:
            with suppress(KeyError):
                points.append((metrics["step"], _read(metrics, name)))
        if not points:
            raise KeyError(f"run {self.id} has no metric {name!r}; it has {', '.join(self.metrics[-1])}")
        return tuple(zip(*points, strict=True))


def _read(metrics, name):
    for part in name.split("."):
        if metrics is None:
            break
        metrics = metrics[int(part)] if isinstance(metrics, list) else metrics[part]
    return math.nan if metrics is None else metrics


def training_code():
    """Hash of the code that a run depends on. The data are in the configuration by their digest, so how they were made is
    not part of it."""
    without = ("paths", "grammar", "inside", "question", "sources", "ambiguity", "documents", "text", "tokenizer")
    return source_hash("train", "batches", without=without)


_FILE = r"(config\.json|metrics\.jsonl|stamp\.json|model\.safetensors|state\.pt)"
_INSIDE = re.compile(rf"(checkpoints(/(\.?\d+|\.removed))?/)?({_FILE}|\.{_FILE}\.\w+)|checkpoints(/(\.?\d+|\.removed))?")
_ID = re.compile(r"\.?\w[\w .+-]*-[0-9a-f]{12}-[0-9a-f]{8}(\.replaced|(?P<lock>\.lock))?")


def _name(config, code):
    return f"{config['experiment']}-{config_hash(config)}-{code[:8]}"


def run_id(config):
    """Name of the run that the present code makes of ``config``."""
    return _name(asdict(config), training_code())


def _commit():
    with suppress(OSError):  # no git here
        answer = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        return answer.stdout.strip() or "unknown"
    return "unknown"


def read(folder):
    """The run stored in ``folder``. Raises DamagedRun, with the file's path and what to do, where a hash or a shape does not
    fit, or the run is not that of the folder's name."""
    stamp, config, lines = _whole(folder)
    return Run(folder.name, config, _metrics(folder / "metrics.jsonl", lines, _advice(folder)), stamp)


def _advice(folder):
    if folder.parent == RECORDS:
        return f"git checkout -- {shown(folder)} brings it back"
    return f"delete {shown(folder)} to train it again"


def _whole(folder):
    """Stamp, configuration and bytes of the metrics of the run in ``folder``, once the hashes fit."""
    advice = _advice(folder)
    try:
        stamp = paths.read_sealed(folder / "stamp.json", _STAMP, advice)
        contents = [(folder / name).read_bytes() for name in _FILES]
    except OSError as error:
        raise DamagedRun(f"{shown(folder)} is not a whole run: {error}; {advice}") from None
    except ValueError as error:
        raise DamagedRun(str(error)) from None
    for name, content in zip(_FILES, contents, strict=True):
        if sha256(content) != stamp["sha256"][name]:
            raise DamagedRun(f"{shown(folder / name)} does not have the hash in its stamp; {advice}")
    config = _parsed(folder / "config.json", contents[0], _CONFIG, advice)
    own = _name(config, stamp["sources"])
    if folder.name != own:
        raise DamagedRun(f"{shown(folder)} holds the run {own}; expected it under its own name; {advice}")
    return stamp | {"seal": paths.seal(stamp)}, config, contents[1]


def _parsed(where, text, shape, advice):
    try:
        return paths.fitting(where, json.loads(text), shape, advice)
    except paths.Damaged as error:
        raise DamagedRun(str(error)) from None
    except (ValueError, RecursionError) as error:
        raise DamagedRun(f"{shown(where)} is no JSON ({error}); {advice}") from None


def _metrics(path, content, advice, after=0):
    """The evaluations in the content of a metrics.jsonl, but for those of the first ``after`` lines."""
    lines = list(enumerate(content.splitlines(), 1))
    if not lines:
        raise DamagedRun(f"{shown(path)} has 0 evaluations; expected at least 1; {advice}")
    return [_parsed(f"{shown(path)}, line {number}", line, _LINE, advice) for number, line in lines[after:]]


def so_far(folder, after=0):
    """The evaluations but the first ``after`` that the run in ``folder`` shows so far. None where the file is not as it was
    written: the run will write it again."""
    try:
        path = folder / "metrics.jsonl"
        return _metrics(path, path.read_bytes(), "", after)
    except (OSError, DamagedRun):
        return []


def refuse_foreign(folder):
    """Raise ValueError if ``folder``, where a run is or could be, holds anything that no run leaves, or is no folder."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ValueError(f"{shown(folder)} is no folder of its own; expected a run's; move it away")
    if foreign := _foreign(folder):
        raise ValueError(f"{shown(folder)} holds {foreign}; expected nothing but what a run leaves; move it away")


def remove(folder):
    """Remove a finished or unfinished run, if there is one. Raises ValueError as ``refuse_foreign`` does."""
    refuse_foreign(folder)
    if folder.exists():
        shutil.rmtree(folder)


def _foreign(folder):
    """The path within a run's folder of something that no run leaves; "" where there is none."""
    for at, folders, files in os.walk(folder):  # which does not mind what another process removes meanwhile
        for name in sorted([*folders, *files]):
            if not _INSIDE.fullmatch(inside := (Path(at) / name).relative_to(folder).as_posix()):
                return inside
    return ""


def place(folder):
    """``folder`` as a Path, if runs may be kept there: it is new, empty, or holds runs alone; otherwise ValueError."""
    if not folder:
        raise ValueError(f"the folder for runs is {folder!r}; expected the name of a folder")
    folder = Path(folder).absolute()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{shown(folder)} is a file; expected a folder for runs")
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        named = _ID.fullmatch(path.name)
        whole = path.is_file() if named and named["lock"] else path.is_dir() and not path.is_symlink() and not _foreign(path)
        if not named or not whole:
            raise ValueError(f"{shown(folder)} holds {path.name}, which is no run; expected an empty folder or one of runs")
    return folder


def _stored(folder, pattern):
    """(path, configuration) of the records in ``folder`` whose names fit ``pattern``, once their hashes fit."""
    return [(path, _whole(path)[1]) for path in sorted(folder.glob(pattern))]


def _answers(stored, config):
    """Is the configuration ``stored`` (a dict) the one that ``config`` asks for? Data without a digest, or of size 0, stand
    for data of that name with any."""
    asked = json.loads(json.dumps(asdict(config)))
    asked["data"] = {name: value for name, value in asked["data"].items() if value}
    return {**stored, "data": {name: stored["data"][name] for name in asked["data"]}} == asked


def find(config, folder=None):
    """The committed record of ``config`` (None if there is none): found by its configuration, whatever code made it.

    A configuration whose data have no digest, or the size 0, stands for data of that name with any.
    """
    for path, stored in _stored(folder or RECORDS, f"{config.experiment}-*-*"):
        if _answers(stored, config):
            run = read(path)
            return replace(run, outdated=run.stamp["sources"] != training_code())
    return None


def missing(configs, folder=None):
    """Those of ``configs`` that have no committed record. Reads every record once."""
    stored = [found for _, found in _stored(folder or RECORDS, "*-*-*")]
    return [config for config in configs if not any(_answers(found, config) for found in stored)]


def finish(config, model, folder, code, device):
    """Write config.json and stamp.json of a run in ``folder`` that has come to its end, made by ``code``."""
    write_json(folder / "config.json", asdict(config))
    stamp = _stamp(config, model, folder, code, device)
    paths.write_sealed(folder / "stamp.json", stamp)


def _stamp(config, model, folder, code, device):
    """Who made a run, where, and at which speed. tokens_per_second is that of training alone, a median over the
    evaluations; mfu is the share of the device's measured matrix-product peak that the model's arithmetic takes."""
    import torch

    from memlm import bench

    metrics = _metrics(folder / "metrics.jsonl", (folder / "metrics.jsonl").read_bytes(), _advice(folder))
    speed = median([m["tokens_per_second"] for m in metrics if "tokens_per_second" in m])
    flops = speed * bench.flops_per_token(model, config.model.context)
    _, world = processes()
    memory = getrusage(RUSAGE_SELF).ru_maxrss * 1024 if device == "cpu" else torch.cuda.max_memory_allocated()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "sources": code,
        "device": bench.device_name(),
        "processes": world,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "numpy")},
        "seed": config.seed,
        "seconds": metrics[-1]["seconds"],
        "tokens": metrics[-1]["tokens"],
        "tokens_per_second": speed,
        "mfu": round(flops / world / bench.matmul_peak(device, config.precision), 4),
        "peak_memory": memory,
        "sha256": {name: sha256(folder / name) for name in _FILES},
    }


def refuse_weights(folder):
    """Raise ValueError if a run in ``folder`` has its weights beside it: a record would take the place of both."""
    for path in sorted(folder.glob("*/checkpoints")):
        raise ValueError(f"{shown(path.parent)} is a run with its weights; expected a folder of records alone")


def keep(run, folder=None, into=None):
    """Copy a run from ``folder`` (by default RUNS) to ``into`` (by default data/records/, from where it is committed and
    replayed), without its weights. Records of the same configuration that other code has made go."""
    folder, into = folder or RUNS, into or RECORDS
    refuse_weights(into)
    for name in (*_FILES, "stamp.json"):
        with writing(into / run.id / name) as file:
            file.write((folder / run.id / name).read_bytes())
    for other in into.glob(f"{run.id.rpartition('-')[0]}-*"):
        if other.name != run.id:
            remove(other)
