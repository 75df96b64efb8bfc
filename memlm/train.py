"""One training loop. A run is a ``RunConfig`` and nothing else: no option is read from anywhere but the configuration."""

import json
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from memlm import corpora
from memlm.models import VanillaTransformer


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run depends on. Two runs with equal configurations and code give equal bits on the CPU."""

    experiment: str  # claim id, e.g. X2
    source: str  # where the lines come from, one of corpora.SOURCES
    digest: str  # SHA-256 of those lines
    train_lines: int  # training lines
    n_layer: int
    d_model: int
    n_head: int
    d_ff: int
    dropout: float
    batch_size: int  # lines per step
    steps: int  # optimiser steps
    lr: float  # peak of linear warm-up, then linear decay to 0 at the last step
    warmup_steps: int
    eval_every: int  # steps between evaluations
    seed: int  # of weights, batches and dropout

    def __post_init__(self):
        for name in ("train_lines", "n_layer", "d_model", "n_head", "d_ff", "batch_size", "steps", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected 0 <= dropout < 1")


class Diverged(RuntimeError):
    """The training loss is no longer a finite number."""


def token_losses(model, inputs, targets):
    """Cross-entropy of every target in nats, 0 at padding. inputs, targets (m, T) int64 -> (m, T) float32."""
    logits = model(inputs)
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=corpora.IGNORED, reduction="none")
    return losses.view_as(targets)


@torch.no_grad()
def evaluate(model, part, batch=500):
    """Mean losses with dropout off, in nats per predicted token: over all, up to the type token, and after it."""
    model.eval()
    inputs, targets, first_half = part
    losses = torch.cat([token_losses(model, i, t) for i, t in zip(inputs.split(batch), targets.split(batch), strict=True)])
    kept = targets != corpora.IGNORED
    model.train()
    halves = {"loss": kept, "before": first_half, "after": kept & ~first_half}
    return {name: losses[mask].double().mean().item() for name, mask in halves.items()}


def train(config, corpus, write, device="cpu"):
    """Train, calling ``write(metrics)`` with a dict of plain numbers at step 0, every ``eval_every`` steps and the last.

    train_running is the mean loss of the batches since the last evaluation, dropout as configured: what a paper plots as
    training loss. train_* and dev_* are losses with dropout off on the first 1,000 training lines and on the dev lines.
    Returns the model. Raises Diverged with the step.
    """
    torch.manual_seed(config.seed)  # weights and dropout
    batches = torch.Generator().manual_seed(config.seed)
    model = VanillaTransformer(
        len(corpus.vocabulary) + 1, config.n_layer, config.d_model, config.n_head, config.d_ff, config.dropout
    ).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.0, eps=1e-7)
    inputs, targets, first_half = map(torch.from_numpy, corpora.encode(corpus.train, corpus.vocabulary))
    lengths = (targets != corpora.IGNORED).sum(1)
    held = {
        "train": tuple(part[:1000].to(device) for part in (inputs, targets, first_half)),
        "dev": tuple(torch.from_numpy(part).to(device) for part in corpora.encode(corpus.dev, corpus.vocabulary)),
    }
    begun, running, tokens, order = time.perf_counter(), [], 0, torch.empty(0, dtype=torch.int64)

    def report(step):
        metrics = {"step": step, "tokens": tokens, "seconds": time.perf_counter() - begun}
        if running:
            metrics["train_running"] = torch.stack(running).double().mean().item()
        for name, part in held.items():
            metrics |= {f"{name}_{key}": value for key, value in evaluate(model, part).items()}
        running.clear()
        write(metrics)

    report(0)
    for step in range(1, config.steps + 1):
        rate = min(
            step / max(config.warmup_steps, 1), (config.steps - step + 1) / max(config.steps - config.warmup_steps, 1)
        )
        for group in optimiser.param_groups:
            group["lr"] = config.lr * min(rate, 1.0)
        while len(order) < config.batch_size:  # a new pass over the lines begins where the last one ended
            order = torch.cat([order, torch.randperm(len(inputs), generator=batches)])
        rows, order = order[: config.batch_size], order[config.batch_size :]
        width = int(lengths[rows].max())
        x, y = inputs[rows, :width].to(device), targets[rows, :width].to(device)
        loss = token_losses(model, x, y).sum() / lengths[rows].sum()
        if not torch.isfinite(loss):
            raise Diverged(f"training loss is {loss.item()} at step {step}; expected a finite number (lr {config.lr})")
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        running.append(loss.detach())
        tokens += int(lengths[rows].sum())
        if step % config.eval_every == 0 or step == config.steps:
            report(step)
    return model


def read_metrics(path):
    """The metrics that ``write`` received, from a file with one JSON object a line."""
    return [json.loads(line) for line in path.read_text().splitlines()]
