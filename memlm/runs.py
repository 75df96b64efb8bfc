"""Runs are trained only if they are not there: several side by side, or one on several GPUs."""

import fcntl
import logging
import os
import signal
import sys
import time
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process, resource_tracker
from statistics import fmean
from tempfile import gettempdir
from threading import RLock, Thread, current_thread, main_thread

from memlm import records
from memlm.configs import processes
from memlm.paths import naming, short_temporary_folder

LOG = logging.getLogger("memlm")  # at level INFO: one line for every evaluation


class RunFailed(RuntimeError):
    """A run came to no end; the message has its label and the cause."""


def _finished(folder, id):
    """Is a run stored, and not being replaced by one that was killed and is to go on?"""
    return (folder / id).exists() and not (folder / f".{id}").exists()


@contextmanager
def _turn(id, folder, force):
    """Hold the lock of a run, for which a second process with the same run waits; yields whether it is to be trained."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f".{id}.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if force:
            records.refuse_foreign(folder / id)  # now, not when all the work is done
            records.remove(folder / f".{id}")
        yield force or not _finished(folder, id)


def _train_and_store(config, id, code, folder, progress):
    """Under the lock: train, or go on where a killed run stopped. What was there under the name is replaced at the end."""
    import torch

    from memlm import batches
    from memlm.train import train

    partial, final, old = folder / f".{id}", folder / id, folder / f".{id}.replaced"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    model = train(config, batches.load(config.data, config.model.context), partial, device, progress)
    records.finish(config, model, partial, code, device)
    records.remove(old)
    if final.exists():
        os.replace(final, old)
    os.replace(partial, final)
    records.remove(old)


def train_here(config, id, code, folder, progress=lambda step, tokens, loss: None, force=False):
    """Train ``config`` in this process, or go on where a killed run stopped, and store it as folder/<id>, made by ``code``.

    One thread on a CPU, so that runs side by side do not share threads and the bits do not depend on how many there are.
    A second process that starts the same run waits for the first and takes its result. force: train from the beginning, and
    only then replace what is stored.
    """
    with _turn(id, folder, force) as needed:
        if needed:
            _train_and_store(config, id, code, folder, progress)
        return records.read(folder / id)


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
        for (id, config), step in zip(self.todo.items(), self.numbers[::3], strict=True):
            partial = self.folder / f".{id}"
            folder = partial if partial.is_dir() else self.folder / id
            lines = records.so_far(folder, self.logged[id]) if step else []  # until then, what is there may be of before
            for m in lines:
                speed = f", {m['tokens_per_second']:,.0f} tokens/s" if "tokens_per_second" in m else ""
                losses = f"train {m['train_loss']:.4f}, held out {m['dev_loss']:.4f}"
                self.bar.write(f"{config.label}  step {m['step']:>6}: {losses}{speed}", file=sys.stderr)
            self.logged[id] += len(lines)


def _join(shared):
    """What a process of the pool does first: it learns where to note how far it is, and to end with its parent."""
    from tqdm import tqdm

    global _numbers
    _numbers = shared
    tqdm.set_lock(RLock())  # its own is the system's, which one that is killed would leave behind, with a warning
    # Without this, the processes of a killed parent would wait for work for ever.
    Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()


def _train_beside(number, config, id, code, folder, force):
    """``train_here`` in a process of the pool. What goes wrong is said in a sentence: not every exception can be sent."""

    def note(*what):
        _numbers[3 * number : 3 * number + 3] = what

    try:
        return train_here(config, id, code, folder, note, force)
    except Exception as error:
        plain = str(error) if isinstance(error, ValueError | RuntimeError | OSError) else repr(error)
        raise RunFailed(f"{config.label}: {' '.join(plain.split()) or repr(error)}") from None


def _train_side_by_side(todo, code, folder, force):
    """Train all runs, as many at a time as there are cores, or one after the other on a GPU."""
    import torch

    # Processes that come from one server share what it has imported, which takes each of them seconds. Not memlm itself:
    # what trains has to be what is on the disk now, since the run is named after it.
    server = get_context("forkserver")
    slow = ["transformers.models.gpt2.modeling_gpt2"] if any(c.model.kind == "gpt2" for c in todo.values()) else []
    server.set_forkserver_preload(["torch._dynamo", *slow])
    with naming(gettempdir()):
        numbers = server.Array("d", 3 * len(todo), lock=False)
    workers = 1 if torch.cuda.is_available() else min(len(todo), os.cpu_count())
    board, others = _Board(todo, folder, numbers), active_children()
    with board.bar, ProcessPoolExecutor(workers, mp_context=server, initializer=_join, initargs=(numbers,)) as pool:
        try:
            with _deaf():
                waiting = [pool.submit(_train_beside, i, todo[id], id, code, folder, force) for i, id in enumerate(todo)]
            while wait(waiting, timeout=1, return_when=FIRST_EXCEPTION).not_done:
                if any(future.done() and future.exception() for future in waiting):
                    pool.shutdown(wait=False, cancel_futures=True)
                    break
                board.show()
            for future in waiting:
                if not future.cancelled():
                    future.result()
            board.show()
        except (EOFError, ConnectionError, BrokenProcessPool):
            begun = [c.label for step, c in zip(numbers[::3], todo.values(), strict=True) if 0 < step < c.steps]
            raise RunFailed(
                f"a process that trains was killed ({' or '.join(begun) or 'before its first step'}), perhaps for want of "
                "memory; what was finished is kept, and the same command goes on from the last checkpoints"
            ) from None
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()) - set(others):
                process.kill()  # a run goes on from its last checkpoint
            raise


@contextmanager
def _deaf():
    """Ctrl-C waits, until all processes that are to be ended on it are known; these, and what they start, never hear it."""
    resource_tracker.ensure_running()  # starting it later would end the silence
    main, pressed = current_thread() is main_thread(), []  # elsewhere Ctrl-C is not heard anyway
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True)) if main else None
    heard = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # which is inherited; another thread may still hear
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, heard)
        if main:
            signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt


def _train_together(todo, code, folder, force):
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

            with board.bar, _turn(id, folder, force) as needed:
                dist.broadcast_object_list([needed])
                if needed:
                    _train_and_store(config, id, code, folder, note)
                    board.show()
        else:
            dist.broadcast_object_list(needed := [None])
            if needed[0]:
                device = "cuda" if cuda else "cpu"
                train(config, batches.load(config.data, config.model.context), folder / f".{id}", device)
        dist.barrier()
    dist.destroy_process_group()


def unserved(profile, seed=0):
    """Labels of the runs behind the notebooks that have no committed record in a profile, with seeds shifted by ``seed``;
    [] where ``--from-records`` can show everything. Raises DamagedRun, and ValueError for an unknown profile or a bad seed.
    """
    from memlm import experiments

    shown = [name for name in experiments.EXPERIMENTS if name != "text"]  # which the notebooks take from the cpu profile
    asked = [config for name in shown for config in experiments.configs(name, profile, seed, from_records=True)]
    return [f"{config.experiment} {config.label}" for config in records.missing(asked)]


def load_or_train(configs, from_records=False, force=False, folder=None):
    """The runs of ``configs`` (a list), in order; those not stored in ``folder`` (by default records.RUNS) are trained.

    from_records: take the committed records and train nothing; LookupError names a configuration that has none.
    force: train again even what is stored, which is replaced when that is done.
    RunFailed says which run came to no end, and why.
    """
    if from_records:
        found = [records.find(config) for config in configs]
        for config, run in zip(configs, found, strict=True):
            if run is None:
                what = f"{config.experiment} {config.label}"
                raise LookupError(f"data/records holds no record of {what}; run without --from-records to train it")
        return found
    folder = folder or records.RUNS
    # The names are fixed before training begins: the code on the disk may change while it runs.
    code, ids = records.training_code(), [records.run_id(config) for config in configs]
    todo = {id: c for id, c in zip(ids, configs, strict=True) if force or not _finished(folder, id)}
    if processes()[1] > 1:
        _train_together(todo, code, folder, force)
    elif todo:
        with short_temporary_folder():  # the processes of the pool talk through sockets
            _train_side_by_side(todo, code, folder, force)
    return [records.read(folder / id) for id in ids]
