"""One training loop. A run is a ``RunConfig`` and nothing else: no option is read from anywhere but the configuration."""

import json
import math
import os
import time
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist

from memlm import checkpoints, models
from memlm.configs import RunConfig, config_hash  # noqa: F401
from memlm.corpora import IGNORED
from memlm.loss import linear_cross_entropy, token_losses


class Diverged(RuntimeError):
    """The training loss is no longer a finite number."""


class _Loss(torch.nn.Module):
    """A model as a function of a batch to its summed loss, so that several processes can share it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs, targets):
        return linear_cross_entropy(self.model.hidden(inputs), self.model.head, targets)


@torch.no_grad()
def evaluate(model, part, batch=64):
    """Mean losses with dropout off, in nats per predicted token: over all targets, and over each mask of the part."""
    model.eval()
    inputs, targets, masks = part
    pieces = zip(inputs.split(batch), targets.split(batch), strict=True)
    losses = torch.cat([token_losses(model.hidden(x), model.head, y).cpu() for x, y in pieces])
    kept = (targets != IGNORED).cpu()
    model.train()
    everything = {"loss": kept} | {name: kept & mask.cpu() for name, mask in masks.items()}
    return {name: losses[mask].double().mean().item() for name, mask in everything.items()}


class _Run:
    """What changes while a run goes on, and what a checkpoint therefore holds."""

    def __init__(self, config, data, device):
        torch.manual_seed(config.seed)  # weights and dropout
        self.config, self.device = config, device
        self.model = models.build(config.model, data.vocabulary).to(device)
        self.batches = torch.Generator().manual_seed(config.seed)
        self.order = torch.empty(0, dtype=torch.int64)
        *betas, eps = config.adam
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay, betas=betas, eps=eps, fused=True
        )
        self.step = self.tokens = 0
        self.seconds, self.running, self.written = 0.0, [], 0

    def rows(self, count, sequences):
        """Numbers of the next ``count`` sequences; a new pass over the data begins where the last one ended."""
        while len(self.order) < count:
            self.order = torch.cat([self.order, torch.randperm(sequences, generator=self.batches)])
        taken, self.order = self.order[:count], self.order[count:]
        return taken

    def save(self, folder):
        numbers = {name: getattr(self, name) for name in ("step", "tokens", "seconds", "running", "written")}
        random = {"batches": self.batches.get_state(), "order": self.order, "torch": torch.get_rng_state()}
        if self.device != "cpu":
            random["cuda"] = torch.cuda.get_rng_state(self.device)
        state = {"numbers": numbers, "random": random, "optimiser": self.optimiser.state_dict()}
        weights = dict(self.model.named_parameters())
        checkpoints.save(folder, self.step, config_hash(self.config), weights, state)

    def restore(self, folder):
        """Go on from the newest checkpoint, if there is one."""
        found = checkpoints.load(folder, config_hash(self.config))
        if found:
            _, weights, state = found
            self.model.load_state_dict(weights, strict=False)
            self.optimiser.load_state_dict(state["optimiser"])
            for name, value in state["numbers"].items():
                setattr(self, name, value)
            self.batches.set_state(state["random"]["batches"])
            self.order = state["random"]["order"]
            torch.set_rng_state(state["random"]["torch"])
            if self.device != "cpu":
                torch.cuda.set_rng_state(state["random"]["cuda"], self.device)


def _step(run, loss_of, batch, rank, world):
    """One optimiser step on this process's share of a batch. Returns the batch's mean loss, summed over processes."""
    config = run.config
    inputs, targets = batch
    count = (targets != IGNORED).sum()
    total = torch.zeros((), device=run.device)
    run.optimiser.zero_grad(set_to_none=True)
    parts = list(
        zip(inputs[rank::world].chunk(config.accumulate), targets[rank::world].chunk(config.accumulate), strict=True)
    )
    for number, (x, y) in enumerate(parts, 1):
        x, y = x.to(run.device, non_blocking=True), y.to(run.device, non_blocking=True)
        wait = loss_of.no_sync() if world > 1 and number < len(parts) else nullcontext()
        with wait, _autocast(config, run.device):
            loss = loss_of(x, y) / count
        (loss * world).backward()  # several processes average their gradients, which have to add up
        total += loss.detach()
    if world > 1:
        dist.all_reduce(total)
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimiser.step()
    return total


def _autocast(config, device):
    if config.precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, getattr(torch, config.precision))


def train(config, data, folder, device="cpu"):
    """Train in ``folder``, or go on from its newest checkpoint: the end is the same to the bit (CPU, float32).

    folder/metrics.jsonl gets a line at step 0, every ``eval_every`` steps and at the last: step, tokens, seconds,
    train_running (mean loss of the batches since the last line, dropout as configured: what papers plot), and losses with
    dropout off on parts of the training and held-out data. Under torchrun every process takes its share of each batch and
    the first one writes. Returns the model. Raises Diverged with the step; the last checkpoint is then kept.
    """
    folder = Path(folder)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if config.batch_size % (world * config.accumulate):
        raise ValueError(
            f"batch_size is {config.batch_size}; expected a multiple of {world} processes x {config.accumulate}"
        )
    run = _Run(config, data, device)
    run.restore(folder / "checkpoints")
    loss_of = _Loss(run.model)
    if rank > 0:
        torch.manual_seed(config.seed + 10_000 * rank)  # dropout of its own; weights and batches are those of the first
    if world > 1:
        loss_of = torch.nn.parallel.DistributedDataParallel(loss_of)
    held = {name: (x.to(device), y.to(device), masks) for name, (x, y, masks) in data.held().items()}
    path = folder / "metrics.jsonl"
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.truncate(run.written)  # what a killed run wrote after its last checkpoint is written again
    before, begun = run.seconds, time.perf_counter()

    def report():
        run.seconds = before + time.perf_counter() - begun
        metrics = {"step": run.step, "tokens": run.tokens, "seconds": round(run.seconds, 3)}
        if run.running:
            metrics["train_running"] = math.fsum(run.running) / len(run.running)
        for name, part in held.items():
            metrics |= {f"{name}_{key}": value for key, value in evaluate(run.model, part).items()}
        run.running = []
        with open(path, "ab") as file:
            file.write((json.dumps(metrics) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
            run.written = file.tell()
        run.save(folder / "checkpoints")

    if run.step == 0 and run.written == 0 and rank == 0:
        report()
    while run.step < config.steps:
        run.step += 1
        for group in run.optimiser.param_groups:
            group["lr"] = config.rate(run.step)
        batch = data.batch(run.rows(config.batch_size, len(data)))
        loss = _step(run, loss_of, batch, rank, world).item()
        if not math.isfinite(loss):
            raise Diverged(f"training loss is {loss} at step {run.step}; expected a finite number (lr {config.lr})")
        run.running.append(loss)
        run.tokens += int((batch[1] != IGNORED).sum())
        if rank == 0 and (run.step % config.eval_every == 0 or run.step == config.steps):
            report()
        elif run.step % config.eval_every == 0:
            run.running = []
    return run.model
