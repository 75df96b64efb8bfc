"""A run is found by the hash of its configuration and of the code that made it, and is trained only if it is not there.

data/cache/runs/<id>/ and data/records/<id>/ hold config.json, metrics.jsonl (one evaluation a line) and stamp.json (when,
where, with which versions and how long, and the hashes of the other two).
"""

import fcntl
import json
import os
import platform
import shutil
import subprocess
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

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
        """The values of one metric over the evaluations that have it, as (steps, values)."""
        points = [(m["step"], m[name]) for m in self.metrics if name in m]
        if not points:
            raise KeyError(f"run {self.id} has no metric {name!r}; it has {', '.join(self.metrics[-1])}")
        return tuple(zip(*points, strict=True))


def training_code():
    """Hash of the code that a run depends on. The lines are in the configuration by their digest, so how they were made
    is not part of it."""
    return source_hash("train", without=("paths", "grammar", "question"))


def run_id(config):
    """Name of the run that the present code makes of ``config``."""
    return f"{config.experiment}-{config_hash(config)}-{training_code()[:8]}"


def device_name():
    """The processor or GPU that training runs on here, in the words of its maker."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} x {names[0] if names else platform.machine()}"


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


def find_record(config, folder=RECORDS):
    """The committed record of ``config`` (None if there is none): found by its configuration, whatever code made it."""
    for path in sorted(folder.glob(f"*-{config_hash(config)}-*")):
        run = read(path)
        return Run(run.id, run.config, run.metrics, run.stamp, run.stamp["sources"] != training_code())
    return None


def train_here(config, id, code, folder):
    """Train ``config`` in this process, or go on where a killed run stopped, and store it as folder/<id>, made by ``code``.

    One thread on a CPU, so that runs side by side do not share threads and the bits do not depend on how many there are.
    A second process that starts the same run waits for the first and takes its result.
    """
    import torch

    from memlm import batches
    from memlm.train import train

    partial, final = folder / f".{id}", folder / id
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f".{id}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if final.is_dir():
            return read(final)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu":
            torch.set_num_threads(1)
        train(config, batches.load(config.data, config.model.context), partial, device)
        write_json(partial / "config.json", asdict(config))
        stamp = {
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "commit": _commit(),
            "sources": code,
            "device": device_name(),
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("torch", "numpy")},
            "seconds": json.loads((partial / "metrics.jsonl").read_text().splitlines()[-1])["seconds"],
            "sha256": {name: sha256(partial / name) for name in _FILES},
        }
        write_json(partial / "stamp.json", {**stamp, "seal": _seal(stamp)})
        os.replace(partial, final)
        return read(final)


def _train_together(todo, code):
    """Under torchrun: all processes train each run together, and the first one stores it."""
    import torch
    import torch.distributed as dist

    from memlm import batches
    from memlm.train import train

    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    for id, config in todo.items():
        if dist.get_rank() == 0:
            train_here(config, id, code, RUNS)
        else:
            device = f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu"
            train(config, batches.load(config.data, config.model.context), RUNS / f".{id}", device)
        dist.barrier()
    dist.destroy_process_group()


def _step(id):
    """The last step that a run under way has reported; 0 before its first report."""
    lines = [p.read_text().split("\n")[:-1] for p in RUNS.glob(f".{id}/metrics.jsonl")]
    return max((json.loads(ls[-1])["step"] for ls in lines if ls), default=0)


def load_or_train(configs, from_records=False, force=False):
    """The runs of ``configs`` (a list), in order; those that are not stored are trained, as many at a time as cores.

    from_records: take the committed records and train nothing; LookupError names a configuration that has none.
    force: train again even what is stored.
    """
    from tqdm import tqdm

    if from_records:
        found = [find_record(config) for config in configs]
        for config, run in zip(configs, found, strict=True):
            if run is None:
                raise LookupError(f"data/records holds no record of {config}; run without --from-records to train it")
        return found
    # The names are fixed before training begins: the code on the disk may change while it runs.
    code, ids = training_code(), [run_id(config) for config in configs]
    for id in ids:
        if force:
            shutil.rmtree(RUNS / id, ignore_errors=True)
            shutil.rmtree(RUNS / f".{id}", ignore_errors=True)
    todo = {id: config for id, config in zip(ids, configs, strict=True) if not (RUNS / id).is_dir()}
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        _train_together(todo, code)
    elif todo:
        import torch

        workers = 1 if torch.cuda.is_available() else min(len(todo), os.cpu_count())
        total = sum(config.steps for config in todo.values())
        with (
            ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
            tqdm(total=total, unit="step", desc=f"training {len(todo)} runs", mininterval=1) as bar,
        ):
            waiting = {id: pool.submit(train_here, config, id, code, RUNS) for id, config in todo.items()}
            while wait(waiting.values(), timeout=1, return_when=FIRST_EXCEPTION).not_done:
                if any(future.done() and future.exception() for future in waiting.values()):
                    pool.shutdown(wait=False, cancel_futures=True)
                    break
                bar.update(sum(todo[id].steps if future.done() else _step(id) for id, future in waiting.items()) - bar.n)
            for future in waiting.values():
                if not future.cancelled():
                    future.result()
            bar.update(total - bar.n)
    return [read(RUNS / id) for id in ids]


def keep_record(run):
    """Copy a run to data/records/, from where it is committed and replayed."""
    for name in (*_FILES, "stamp.json"):
        with writing(RECORDS / run.id / name) as file:
            file.write((RUNS / run.id / name).read_bytes())
