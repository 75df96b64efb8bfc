"""Runs are trained only if they are not there: several side by side, or one on several GPUs."""

import fcntl
import json
import logging
import os
import shutil
import sys
import time
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from multiprocessing import get_context
from statistics import fmean

from memlm import records

LOG = logging.getLogger("memlm")  # at level INFO: one line for every evaluation


def train_here(config, id, code, folder, progress=lambda step, tokens, loss: None):
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
        if not final.is_dir():
            device = "cuda" if torch.cuda.is_available() else "cpu"
            if device == "cpu":
                torch.set_num_threads(1)
            model = train(config, batches.load(config.data, config.model.context), partial, device, progress)
            records.finish(config, model, partial, code, device)
            os.replace(partial, final)
        return records.read(final)


class _Board:
    """Shows how far runs are. numbers: step, tokens and last loss of each run, perhaps in memory that processes share."""

    def __init__(self, todo, folder, numbers):
        from tqdm import tqdm

        self.todo, self.folder, self.numbers = todo, folder, numbers
        total = sum(config.steps for config in todo.values())
        self.bar = tqdm(total=total, unit="step", desc=f"training {len(todo)} runs", mininterval=1)
        self.logged, self.last = dict.fromkeys(todo, 0), (time.monotonic(), 0.0)

    def show(self):
        steps, tokens, losses = (self.numbers[i::3] for i in range(3))
        begun = [loss for step, loss in zip(steps, losses, strict=True) if step]
        clock, before = self.last
        if begun and time.monotonic() - clock >= 1:
            self.last = (time.monotonic(), sum(tokens))
            speed = (sum(tokens) - before) / (self.last[0] - clock)
            self.bar.set_postfix_str(f"loss {fmean(begun):.3f}, {speed:,.0f} tokens/s", refresh=False)
        self.bar.update(int(sum(steps)) - self.bar.n)
        if LOG.isEnabledFor(logging.INFO):
            self._log()

    def _log(self):
        """One line for each evaluation that is new."""
        for id, config in self.todo.items():
            files = [f for f in (self.folder / f".{id}/metrics.jsonl", self.folder / f"{id}/metrics.jsonl") if f.is_file()]
            lines = files[0].read_text().split("\n")[:-1] if files else []
            for line in lines[self.logged[id] :]:
                m = json.loads(line)
                speed = f", {m['tokens_per_second']:,.0f} tokens/s" if "tokens_per_second" in m else ""
                losses = f"train {m['train_loss']:.4f}, held out {m['dev_loss']:.4f}"
                self.bar.write(f"{config.label}  step {m['step']:>6}: {losses}{speed}", file=sys.stderr)
            self.logged[id] = max(len(lines), self.logged[id])


def _join(shared):
    """What a process of the pool does first: it learns where to note how far it is, and to end with its parent."""
    from memlm.text import end_with_parent

    global _numbers
    _numbers = shared
    end_with_parent()


def _train_beside(number, *arguments):
    def note(*what):
        _numbers[3 * number : 3 * number + 3] = what

    return train_here(*arguments, note)


def _train_side_by_side(todo, code, folder):
    """Train all runs, as many at a time as there are cores, or one after the other on a GPU."""
    import torch

    # Processes that come from one server share what it has imported, which takes each of them seconds. Not memlm itself:
    # what trains has to be what is on the disk now, since the run is named after it.
    server = get_context("forkserver")
    slow = ["transformers.models.gpt2.modeling_gpt2"] if any(c.model.kind == "gpt2" for c in todo.values()) else []
    server.set_forkserver_preload(["torch._dynamo", *slow])
    numbers = server.Array("d", 3 * len(todo), lock=False)
    workers = 1 if torch.cuda.is_available() else min(len(todo), os.cpu_count())
    board = _Board(todo, folder, numbers)
    with board.bar, ProcessPoolExecutor(workers, mp_context=server, initializer=_join, initargs=(numbers,)) as pool:
        waiting = [pool.submit(_train_beside, i, todo[id], id, code, folder) for i, id in enumerate(todo)]
        while wait(waiting, timeout=1, return_when=FIRST_EXCEPTION).not_done:
            if any(future.done() and future.exception() for future in waiting):
                pool.shutdown(wait=False, cancel_futures=True)
                break
            board.show()
        for future in waiting:
            if not future.cancelled():
                future.result()
        board.show()


def _train_together(todo, code, folder):
    """Under torchrun: all processes train each run together; the first one shows how far it is, and stores it."""
    import torch
    import torch.distributed as dist

    from memlm import batches
    from memlm.train import train

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if cuda else "gloo")
    for id, config in todo.items():
        if dist.get_rank() == 0:
            board = _Board({id: config}, folder, [0.0] * 3)

            def note(*what, board=board):
                board.numbers[:] = what
                board.show()

            with board.bar:
                train_here(config, id, code, folder, note)
        else:
            device = "cuda" if cuda else "cpu"
            train(config, batches.load(config.data, config.model.context), folder / f".{id}", device)
        dist.barrier()
    dist.destroy_process_group()


def load_or_train(configs, from_records=False, force=False, folder=None):
    """The runs of ``configs`` (a list), in order; those not stored in ``folder`` (by default records.RUNS) are trained.

    from_records: take the committed records and train nothing; LookupError names a configuration that has none.
    force: train again even what is stored.
    """
    if from_records:
        found = [records.find(config) for config in configs]
        for config, run in zip(configs, found, strict=True):
            if run is None:
                raise LookupError(f"data/records holds no record of {config}; run without --from-records to train it")
        return found
    folder = folder or records.RUNS
    # The names are fixed before training begins: the code on the disk may change while it runs.
    code, ids = records.training_code(), [records.run_id(config) for config in configs]
    for id in ids:
        if force:
            shutil.rmtree(folder / id, ignore_errors=True)
            shutil.rmtree(folder / f".{id}", ignore_errors=True)
    todo = {id: config for id, config in zip(ids, configs, strict=True) if not (folder / id).is_dir()}
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        _train_together(todo, code, folder)
    elif todo:
        _train_side_by_side(todo, code, folder)
    return [records.read(folder / id) for id in ids]
