"""What a GPU that is at hand for an hour, or a quarter of one, is used for: ``./run_gpu.sh --minutes 60``.

In the order of its worth: the tests that need one, the bench, then the runs of profile gpu, first those without a committed
record, each with the minutes that profiles.toml says it takes at most. None is begun that could not end in time, and the
record of each is in ``--out`` as soon as it is there, so that a machine that is taken away costs one run at most. Copied to
data/records/, records are replayed.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryFile

import torch
from tqdm import tqdm

from memlm import bench, experiments, paths, records, runs, text

MINUTES = {"tests": 2, "bench": 2.5}  # at most
RUNS = ("X1", "X2", "S65")
REHEARSED = {"X1": 2, "X2": 1, "S65": 0}  # how many runs of profile smoke
PARTS = ("tests", "bench", "runs")


def session(minutes, out, parts=PARTS, data=None, rehearse=False):
    """Do the ``parts`` within ``minutes``; True if none failed. data: the tokenised text of X1 and S65 (see tokenise).

    out gets bench.json, and in records/ the records. rehearse: all of it in tiny sizes, on whatever there is here. Raises
    ValueError where there is no GPU otherwise, for a text that is not there, and for a folder that is not this one's.
    """
    begun, well = time.monotonic(), True
    if not 0 < minutes < 60 * 24 * 7:
        raise ValueError(f"minutes is {minutes}; expected more than 0 and less than those of a week")
    if not rehearse and not torch.cuda.is_available():
        raise ValueError("torch sees no GPU here; expected one, or --rehearse, which tries everything in tiny sizes")
    if data is not None:
        text.open_tokens(text.folder_of(data))
    kept = _place(Path(out).absolute())
    steps = [(part, 0.5 if rehearse else MINUTES[part], work) for part, work in (("tests", _tests), ("bench", _bench))]
    steps = [(part, needed, lambda work=work: work(kept.parent, rehearse)) for part, needed, work in steps if part in parts]
    asked = []
    for name in RUNS if "runs" in parts else ():
        try:
            asked += _configs(name, data, rehearse)
        except (ValueError, OSError, ImportError) as error:  # a text that cannot be had; other runs need none
            well = _failed(name, error)
    new = records.missing([config for config, _ in asked])  # these first: another session goes on where one has ended
    asked.sort(key=lambda each: each[0] not in new)
    steps += [(config.label, needed, lambda config=config: _run(config, kept)) for config, needed in asked]
    for what, needed, work in steps:
        left = minutes - (time.monotonic() - begun) / 60
        if needed > left:
            print(f"{what}: not begun, for it may take {needed:g} minutes and {max(left, 0):.1f} are left", flush=True)
            continue
        try:
            well &= work()
        except (ValueError, RuntimeError, OSError) as error:  # what comes next may do better
            well = _failed(what, error)
    used = (time.monotonic() - begun) / 60
    print(f"{used:.1f} of {minutes:g} minutes used; records are in {paths.shown(kept)}")
    return well


def _failed(what, error):
    print(f"{what}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return False


def _place(out):
    """The folder for records in ``out``, if both are new or hold nothing but what a session has left, and can be written."""
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if foreign := [name for name in names if name not in ("records", "bench.json")]:
        raise ValueError(f"{paths.shown(out)} holds {foreign[0]}; expected an empty folder, or one of another session")
    if (out / "bench.json").is_file():
        paths.read_sealed(out / "bench.json", {"results": dict}, "it is no bench of ours; take another folder")
    kept = records.place(out / "records")
    records.refuse_weights(kept)
    kept.mkdir(parents=True, exist_ok=True)
    TemporaryFile(dir=kept).close()  # now, not after the first run
    return kept


def _tests(_out, _rehearse):
    """The tests marked cuda, in a process of their own, whose memory is free again afterwards."""
    # Warnings of the versions that this machine happens to have are not errors here.
    tests = ["-m", "pytest", "-m", "cuda", "-W", "default", "-v", "-rs", str(paths.ROOT / "tests" / "test_cuda.py")]
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    return subprocess.run([sys.executable, *tests], cwd=paths.ROOT, env=environment).returncode == 0


def _bench(out, rehearse):
    print(bench.table(bench.run(small=rehearse, record=out / "bench.json")))
    return True


def _configs(name, data, rehearse):
    """[(RunConfig, minutes that it takes at most)] of an experiment."""
    profile = "smoke" if rehearse else "gpu"
    table = experiments.profile(profile)[name]
    configs = experiments.configs(name, profile, data=None if name == "X2" or rehearse else data)
    needed = 0.5 if rehearse else experiments.minutes(f"{profile}.{name}", table)
    return [(config, needed) for config in (configs[: REHEARSED[name]] if rehearse else configs)]


def _run(config, kept):
    """Train one run in this process, which the runs of one shape share: what is compiled for one serves the next."""
    id, code = records.run_id(config), records.training_code()
    with tqdm(total=config.steps, desc=config.label, unit="step", mininterval=2) as bar:

        def progress(step, _tokens, loss):
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            bar.update(step - bar.n)

        run = runs.train_here(config, id, code, records.RUNS, progress)
    records.keep(run, into=kept)
    last, stamp = run.metrics[-1], run.stamp
    training = sum(
        (b["tokens"] - a["tokens"]) / b["tokens_per_second"] for a, b in zip(run.metrics, run.metrics[1:], strict=False)
    )
    print(
        f"{config.label}: train {last['train_loss']:.4f}, held out {last['dev_loss']:.4f} nats per token; "
        f"{stamp['tokens_per_second']:,.0f} tokens/s, {stamp['mfu']:.1%} of peak, {stamp['seconds']:.0f} s, of which "
        f"{1 - training / stamp['seconds']:.1%} is not training; {stamp['peak_memory'] / 1e9:.1f} GB",
        flush=True,
    )
    return True
