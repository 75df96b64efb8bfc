"""One training loop. A run is a ``RunConfig`` and nothing else: no option is read from anywhere but the configuration."""

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from memlm import checkpoints, models
from memlm.configs import RunConfig, config_hash, processes  # noqa: F401
from memlm.corpora import IGNORED
from memlm.loss import token_losses
from memlm.paths import writing
from memlm.step import Step, autocast

LARGE = 10_000_000  # weights from which on a checkpoint is not written at every evaluation
CLOCK = ("seconds", "tokens_per_second")  # metrics that two equal runs do not share


class Diverged(RuntimeError):
    """A loss, or a weight, is no longer a finite number."""


@torch.no_grad()
def evaluate(model, part):
    """Mean losses in nats per predicted token, with dropout as the model has it now: over all targets, and over each mask
    of the part, which is (inputs, targets, {name: mask})."""
    inputs, targets, masks = part
    batch = 64 if inputs.device.type == "cpu" else max(2**16 // inputs.shape[1], 1)  # a GPU wants more at a time
    pieces = zip(inputs.split(batch), targets.split(batch), strict=True)
    losses = torch.cat([token_losses(model.hidden(x), model.head, y).cpu() for x, y in pieces])
    kept = (targets != IGNORED).cpu()
    everything = {"loss": kept} | {name: kept & mask.cpu() for name, mask in masks.items()}
    return {name: losses[mask].double().mean().item() for name, mask in everything.items()}


class _Order:
    """Which sequences a step takes. Every pass over the data has an order of its own, drawn from the seed and the number of
    the pass alone, so that any step's sequences are known without those before it."""

    def __init__(self, sequences, batch_size, seed):
        self.batch_size, self.sequences = batch_size, sequences
        self.order = lru_cache(maxsize=2)(lambda number: np.random.default_rng([seed, number]).permutation(sequences))

    def rows(self, step):
        """Numbers of the sequences of step 1, 2, ...: int64 (batch_size,). A pass begins where the last one ended."""
        passes, places = np.divmod(np.arange((step - 1) * self.batch_size, step * self.batch_size), self.sequences)
        parts = [self.order(int(number))[places[passes == number]] for number in np.unique(passes)]
        return torch.from_numpy(np.concatenate(parts))


def _prefetched(data, order, steps, device):
    """(step, batch, number of its predicted tokens) of ``steps``, each made while the one before it is trained on: cut to
    its longest sequence for a CPU, whose work that saves, and pinned in its full width for a GPU, which wants one shape."""

    def make(step):
        inputs, targets = data.batch(order.rows(step))
        kept = targets != IGNORED
        if device == "cpu":
            width = int(kept.any(0).nonzero().max()) + 1
            return (inputs[:, :width], targets[:, :width]), int(kept.sum())
        return (inputs.pin_memory(), targets.pin_memory()), int(kept.sum())

    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(make, steps.start) if steps else None
        for step in steps:
            made = coming.result()
            if step + 1 in steps:
                coming = thread.submit(make, step + 1)
            yield step, *made


_KEPT = ("step", "tokens", "seconds", "running", "lines")


class _Run:
    """What changes while a run goes on, and what a checkpoint therefore holds."""

    def __init__(self, config, data, device):
        torch.manual_seed(config.seed)  # weights and dropout
        self.config, self.device = config, device
        self.model = models.build(config.model, data.vocabulary).to(device)
        self.take = Step(self.model, config, device)
        self.optimiser = self.take.optimiser
        self.step = self.tokens = 0
        self.seconds, self.running = 0.0, []
        self.lines = []  # of metrics.jsonl, which is written from them: the checkpoint's hash is theirs too
        self.weights = sum(p.numel() for p in self.model.parameters())
        self.saved = (time.perf_counter(), self.weights / 2e7)  # when last, and its seconds: before the first, a guess

    def save(self, folder):
        begun = time.perf_counter()
        numbers = {name: getattr(self, name) for name in _KEPT}
        random = {"torch": torch.get_rng_state()}
        if self.device != "cpu":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        state = {"numbers": numbers, "random": random, "optimiser": self.optimiser.state_dict()}
        weights = dict(self.model.named_parameters())
        checkpoints.save(folder, self.step, config_hash(self.config), weights, state)
        self.saved = (time.perf_counter(), time.perf_counter() - begun)

    def save_if_due(self, folder):
        """Save, unless the model is large and that would take more than a twentieth of the time: gigabytes take seconds to
        write and to sync."""
        at, cost = self.saved
        if self.step == self.config.steps or self.weights < LARGE or time.perf_counter() - at > 19 * cost:
            self.save(folder)

    def restore(self, folder):
        """Go on from the newest checkpoint, if there is one."""
        found = checkpoints.load(folder, config_hash(self.config))
        if found:
            step, weights, state = found
            try:
                self._take(weights, state)
            except Exception as error:  # whatever torch makes of a state that is not of this run
                raise checkpoints.damaged(folder / str(step), f"it is not of this run ({type(error).__name__})") from None

    def _take(self, weights, state):
        self.model.load_state_dict(weights)
        own = [{name: group[name] for name in ("lr", "capturable")} for group in self.optimiser.param_groups]
        self.optimiser.load_state_dict(state["optimiser"])
        for group, these in zip(self.optimiser.param_groups, own, strict=True):
            group |= these  # a checkpoint of a GPU goes on on a CPU, and the other way round, if not to the same bits
        for name in _KEPT:
            setattr(self, name, state["numbers"][name])
        torch.set_rng_state(state["random"]["torch"])
        if self.device != "cpu" and "cuda" in state["random"]:
            torch.cuda.set_rng_state(state["random"]["cuda"], self.device)

    def measure(self, held, data):
        """Losses on the parts of ``held``, without dropout and, if the model has any, with it (its bits from the step); and
        the scores of the data. Raises Diverged: the training loss of a step says nothing of what the step itself has done.
        """
        metrics, random = {}, [] if self.device == "cpu" else [self.device]
        if not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            raise Diverged(f"a weight is not finite at step {self.step}; expected finite numbers (lr {self.config.lr})")
        for name, part in held.items():
            with autocast(self.config, self.device):
                self.model.eval()
                metrics |= {f"{name}_{key}": value for key, value in evaluate(self.model, part).items()}
                self.model.train()
                if self.config.model.dropout:
                    with torch.random.fork_rng(random):
                        torch.manual_seed(self.step)
                        metrics[f"{name}_loss_dropout"] = evaluate(self.model, part)["loss"]
        self._refuse_broken(metrics, math.isfinite)
        self.model.eval()
        with autocast(self.config, self.device):
            scores = data.scores(self.model)
        self.model.train()
        self._refuse_broken(scores, lambda value: not math.isnan(value))  # an energy may be infinite
        return metrics | scores

    def _refuse_broken(self, metrics, fits):
        for name, value in _numbers(metrics):
            if not fits(value):
                what = f"{name.replace('train_', 'training ')} is {value} at step {self.step}"
                raise Diverged(f"{what}; expected a finite number (lr {self.config.lr})")


def _numbers(value, name=""):
    """(name, number) of all numbers in nested dicts and lists; what could not be measured, None, is none."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(part, f"{name}.{key}" if name else str(key))
    elif isinstance(value, int | float):
        yield name, value


def _step(run, batch):
    """The optimiser step number ``run.step``; returns the batch's mean loss, on the device."""
    run.take.set_rate(run.config.rate(run.step))
    return run.take(batch)


def train(config, data, folder, device="cpu", progress=lambda step, tokens, loss: None):
    """Train in ``folder``, or go on from its newest checkpoint: the end is the same to the bit (CPU, float32).

    folder/metrics.jsonl gets a line at step 0, every ``eval_every`` steps and at the last: step, tokens, seconds,
    tokens_per_second (of training alone), train_running (mean loss of the batches since the last line, dropout as
    configured: what papers plot), losses with dropout off, and on, on parts of the training and held-out data, and what
    ``data.scores(model)`` measures. The file only shows the lines, which the checkpoint holds: it is written anew from them.
    Under torchrun every process takes its share of each batch and the first one writes. ``progress`` is called after every
    step. Returns the model. Raises Diverged with the step, before anything of a broken model is written: the last
    checkpoint, made while losses and weights were finite, is kept.
    """
    folder = Path(folder)
    rank, world = processes()
    if config.batch_size % (world * config.accumulate):
        raise ValueError(
            f"batch_size is {config.batch_size}; expected a multiple of {world} processes x {config.accumulate}"
        )
    run = _Run(config, data, device)
    run.restore(folder / "checkpoints")
    if rank > 0:
        torch.manual_seed(config.seed + 10_000 * rank)  # dropout of its own; weights and batches are those of the first
    held = {name: (x.to(device), y.to(device), masks) for name, (x, y, masks) in data.held().items()}

    def show():
        with writing(folder / "metrics.jsonl") as file:
            file.write("".join(run.lines).encode())

    if rank == 0:
        show()
    before, begun = run.seconds, time.perf_counter()
    since = (begun, run.tokens)  # the clock and the tokens when training last went on
    unchecked = []  # losses of the last steps: looking at one would make a GPU wait, so it is looked at 16 together
    many = 1 if device == "cpu" else 16

    def check():
        losses = torch.stack([loss for _, _, loss in unchecked]).tolist() if unchecked else []
        for (step, tokens, _), loss in zip(unchecked, losses, strict=True):
            if not math.isfinite(loss):
                raise Diverged(f"training loss is {loss} at step {step}; expected a finite number (lr {config.lr})")
            run.running.append(loss)
            progress(step, tokens, loss)
        unchecked.clear()

    def report():
        check()
        now = time.perf_counter()
        metrics = {"step": run.step, "tokens": run.tokens}
        if run.running:
            metrics["train_running"] = math.fsum(run.running) / len(run.running)
            metrics["tokens_per_second"] = round((run.tokens - since[1]) / (now - since[0]), 1)
        metrics |= run.measure(held, data)
        run.running, run.seconds = [], before + time.perf_counter() - begun
        run.lines.append(json.dumps({**metrics, "seconds": round(run.seconds, 3)}) + "\n")
        run.save_if_due(folder / "checkpoints")
        show()
        return time.perf_counter(), run.tokens

    if not run.lines and rank == 0:
        since = report()
    order = _Order(len(data), config.batch_size, config.seed)
    for step, batch, tokens in _prefetched(data, order, range(run.step + 1, config.steps + 1), device):
        run.step = step
        loss = _step(run, batch)
        if len(unchecked) >= many:
            check()
        run.tokens += tokens
        unchecked.append((step, run.tokens, loss))
        if step % config.eval_every == 0 or step == config.steps:
            if rank == 0:
                since = report()
            else:
                check()
                run.running = []
    return run.model
