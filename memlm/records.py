"""What a finished run leaves: its configuration, metrics and stamp, hashed, found by what was asked for.

data/cache/runs/<id>/ and data/records/<id>/ hold config.json, metrics.jsonl (one evaluation a line) and stamp.json (when,
where, with which versions, how long and how fast, and the hashes of the other two).
"""

import json
import math
import os
import platform
import subprocess
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from resource import RUSAGE_SELF, getrusage
from statistics import median

from memlm.configs import config_hash
from memlm.paths import CACHE, RECORDS, ROOT, sha256, source_hash, write_json, writing

RUNS = CACHE / "runs"
_FILES = ("config.json", "metrics.jsonl")


class DamagedRun(ValueError):
    """A run's files are not those that its stamp describes."""


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


def run_id(config):
    """Name of the run that the present code makes of ``config``."""
    return f"{config.experiment}-{config_hash(config)}-{training_code()[:8]}"


def _commit():
    answer = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return answer.stdout.strip() or "unknown"


def _seal(stamp):
    """Hash of a stamp without its own seal."""
    return sha256(json.dumps({name: value for name, value in stamp.items() if name != "seal"}, sort_keys=True))


def read(folder):
    """The run stored in ``folder``. Raises DamagedRun, with the file's name, where a hash does not fit."""
    try:
        stamp = json.loads((folder / "stamp.json").read_text())
        contents = {name: (folder / name).read_bytes() for name in _FILES}
    except (OSError, ValueError) as error:
        raise DamagedRun(f"{folder.name} is not a whole run: {error}; delete the folder to train it again") from None
    for name in _FILES:
        if _seal(stamp) != stamp.get("seal") or sha256(contents[name]) != stamp["sha256"][name]:
            raise DamagedRun(
                f"{folder.name}/{name} does not have the hash in its stamp; delete the folder to train it again"
            )
    metrics = [json.loads(line) for line in contents["metrics.jsonl"].splitlines()]
    return Run(folder.name, json.loads(contents["config.json"]), metrics, stamp)


def find(config, folder=None):
    """The committed record of ``config`` (None if there is none): found by its configuration, whatever code made it.

    A configuration whose data have no digest, or the size 0, stands for data of that name with any.
    """
    asked = json.loads(json.dumps(asdict(config)))
    asked["data"] = {name: value for name, value in asked["data"].items() if value}
    for path in sorted((folder or RECORDS).glob(f"{config.experiment}-*-*")):
        run = read(path)
        if {**run.config, "data": {name: run.config["data"][name] for name in asked["data"]}} == asked:
            return replace(run, outdated=run.stamp["sources"] != training_code())
    return None


def finish(config, model, folder, code, device):
    """Write config.json and stamp.json of a run in ``folder`` that has come to its end, made by ``code``."""
    write_json(folder / "config.json", asdict(config))
    stamp = _stamp(config, model, folder, code, device)
    write_json(folder / "stamp.json", {**stamp, "seal": _seal(stamp)})


def _stamp(config, model, folder, code, device):
    """Who made a run, where, and at which speed. tokens_per_second is that of training alone, a median over the
    evaluations; mfu is the share of the device's measured matrix-product peak that the model's arithmetic takes."""
    import torch

    from memlm import bench

    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    speed = median([m["tokens_per_second"] for m in metrics if "tokens_per_second" in m])
    flops = speed * bench.flops_per_token(model, config.model.context)
    processes = int(os.environ.get("WORLD_SIZE", 1))
    memory = getrusage(RUSAGE_SELF).ru_maxrss * 1024 if device == "cpu" else torch.cuda.max_memory_allocated()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "sources": code,
        "device": bench.device_name(),
        "processes": processes,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "numpy")},
        "seed": config.seed,
        "seconds": metrics[-1]["seconds"],
        "tokens": metrics[-1]["tokens"],
        "tokens_per_second": speed,
        "mfu": round(flops / processes / bench.matmul_peak(device, config.precision), 4),
        "peak_memory": memory,
        "sha256": {name: sha256(folder / name) for name in _FILES},
    }


def keep(run, folder=None):
    """Copy a run from ``folder`` (by default RUNS) to data/records/, from where it is committed and replayed."""
    for name in (*_FILES, "stamp.json"):
        with writing(RECORDS / run.id / name) as file:
            file.write(((folder or RUNS) / run.id / name).read_bytes())
