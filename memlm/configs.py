"""What a run is: data, a model, and how the one is trained on the other. Plain numbers, so that a run has a name."""

import json
import math
from dataclasses import asdict, dataclass

from memlm.paths import sha256

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model, and what ``models.build`` makes of it."""

    kind: str  # vanilla, gpt2, openelm, or one of models.OPEN_ELM
    n_layer: int
    d_model: int
    n_head: int
    d_ff: int  # gpt2 always has 4 d_model
    dropout: float
    context: int  # longest sequence


@dataclass(frozen=True)
class DataConfig:
    """Which data, by content. ``batches.load`` finds them."""

    source: str  # mccoy, file or generator (Question-Formation lines), one of sources.SOURCES, or a folder of tokens
    digest: str  # SHA-256 of the data
    size: int  # training lines, or training tokens


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run depends on. Two runs with equal configurations and code give equal bits on the CPU."""

    experiment: str  # claim id, e.g. X2
    data: DataConfig
    model: ModelConfig
    batch_size: int  # sequences per step, over all processes
    accumulate: int  # parts of equal size in which a batch is computed
    steps: int  # optimiser steps
    lr: float  # peak, after a linear warm-up
    warmup_steps: int
    schedule: str  # linear or cosine, to 0 after the last step
    weight_decay: float
    adam: tuple[float, float, float]  # beta1, beta2, epsilon
    precision: str  # float32 or bfloat16 (autocast)
    eval_every: int  # steps between evaluations
    seed: int  # of weights, batches and dropout

    def __post_init__(self):
        for name in ("batch_size", "accumulate", "steps", "eval_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate is {self.accumulate}; expected a divisor of batch_size = {self.batch_size}")
        if self.schedule not in ("linear", "cosine"):
            raise ValueError(f"schedule is {self.schedule!r}; expected linear or cosine")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; expected {' or '.join(PRECISIONS)}")

    @property
    def label(self):
        """A name for people: data, size of data, model, seed."""
        m = self.model
        return f"{self.data.source}-{self.data.size}-{m.kind}{m.n_layer}x{m.d_model}-seed{self.seed}".replace(" ", "_")

    def rate(self, step):
        """Learning rate of step 1, 2, ..., steps."""
        if step <= self.warmup_steps:
            return self.lr * step / self.warmup_steps
        left = (self.steps - step + 1) / max(self.steps - self.warmup_steps, 1)
        return self.lr * (left if self.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2)


def config_hash(config):
    """Hash of a RunConfig (or of its fields as a dict): the name of its committed record."""
    fields = config if isinstance(config, dict) else asdict(config)
    return sha256(json.dumps(fields, sort_keys=True))[:12]
