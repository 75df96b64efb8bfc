"""What a GPU that is at hand for an hour, or a quarter of one, is used for: ``./run_gpu.sh --minutes 60``.

In the order of its worth: the tests that need one, the bench, then the runs of profile gpu, each with the minutes that
profiles.toml says it takes at most. None is begun that could not end in time, and the record of each is in ``--out`` as soon
as it is there, so that a machine that is taken away costs one run at most. Copied to data/records/, records are replayed.
"""

import os
import subprocess
import sys
import time

import torch
from tqdm import tqdm

from memlm import bench, experiments, records, runs
from memlm.paths import ROOT, shown

MINUTES = {"tests": 2, "bench": 2.5}  # at most
RUNS = ("X1", "X2", "S65")
REHEARSED = {"X1": 2, "X2": 1, "S65": 0}  # how many runs of profile smoke
PARTS = ("tests", "bench", "runs")


def session(minutes, out, parts=PARTS, data=None, rehearse=False):
    """Do the ``parts`` within ``minutes``; True if none failed. data: the tokenised text of X1 and S65 (see tokenise).

    rehearse: all of it in tiny sizes, on whatever there is here. Raises ValueError where there is no GPU otherwise.
    """
    begun = time.monotonic()
    if not 0 < minutes < 60 * 24 * 7:
        raise ValueError(f"minutes is {minutes}; expected more than 0 and less than those of a week")
    if not rehearse and not torch.cuda.is_available():
        raise ValueError("torch sees no GPU here; expected one, or --rehearse, which tries everything in tiny sizes")
    out = records.place(out)
    left = lambda: minutes - (time.monotonic() - begun) / 60  # noqa: E731
    steps = {"tests": lambda: _tests(), "bench": lambda: _bench(out, small=rehearse)}
    well = True
    for part, work in steps.items():
        if part in parts and _in_time(part, 0.5 if rehearse else MINUTES[part], left()):
            well &= work()
    if "runs" in parts:
        for config, needed in _runs(data, rehearse):
            if _in_time(config.label, needed, left()):
                well &= _run(config, out)
    print(f"{(time.monotonic() - begun) / 60:.1f} of {minutes:g} minutes used; records are in {shown(out)}")
    return well


def _in_time(what, needed, left):
    if needed > left:
        print(f"{what}: not begun, for it may take {needed:g} minutes and {max(left, 0):.1f} are left")
    return needed <= left


def _tests():
    """The tests marked cuda, in a process of their own, whose memory is free again afterwards."""
    # Warnings of the versions that this machine happens to have are not errors here.
    tests = ["-m", "pytest", "-m", "cuda", "-W", "default", "-v", "-rs", str(ROOT / "tests" / "test_cuda.py")]
    status = subprocess.run([sys.executable, *tests], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}).returncode
    return status == 0


def _bench(out, small):
    print(bench.table(bench.run(small=small, record=out.parent / f"{out.name}.bench.json")))
    return True


def _runs(data, rehearse):
    """(RunConfig, minutes that it takes at most) in the order of their worth."""
    profile = "smoke" if rehearse else "gpu"
    for name in RUNS:
        table = experiments.profile(profile)[name]
        text = data if name != "X2" and not rehearse else None
        configs = experiments.configs(name, profile, data=text)
        for config in configs[: REHEARSED[name]] if rehearse else configs:
            yield config, 0.5 if rehearse else experiments.minutes(f"{profile}.{name}", table)


def _run(config, out):
    """Train one run in this process, which the runs of one shape share: what is compiled for one serves the next."""
    id, code = records.run_id(config), records.training_code()
    with tqdm(total=config.steps, desc=config.label, unit="step", mininterval=2) as bar:

        def progress(step, _tokens, loss):
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            bar.update(step - bar.n)

        try:
            run = runs.train_here(config, id, code, records.RUNS, progress)
        except (ValueError, RuntimeError, OSError) as error:  # the next run may do better
            print(f"{config.label}: {type(error).__name__}: {error}", file=sys.stderr)
            return False
    records.keep(run, into=out)
    last, stamp = run.metrics[-1], run.stamp
    training = sum(
        (b["tokens"] - a["tokens"]) / b["tokens_per_second"] for a, b in zip(run.metrics, run.metrics[1:], strict=False)
    )
    print(
        f"{config.label}: train {last['train_loss']:.4f}, held out {last['dev_loss']:.4f} nats per token; "
        f"{stamp['tokens_per_second']:,.0f} tokens/s, {stamp['mfu']:.1%} of peak, {stamp['seconds']:.0f} s, of which "
        f"{1 - training / stamp['seconds']:.1%} is not training; {stamp['peak_memory'] / 1e9:.1f} GB"
    )
    return True
