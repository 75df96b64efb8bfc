"""What a run is: data, a model, and how the one is trained on the other. Plain numbers, so that a run has a name."""

import json
import math
import os
from dataclasses import asdict, dataclass

from memlm.paths import plain_name, sha256

PRECISIONS = ("float32", "bfloat16")
SCHEDULES = ("linear", "cosine")
SEEDS = range(2**32)  # what every generator of random numbers takes


def check_seed(seed):
    """Raise ValueError for a seed that is no whole number in SEEDS."""
    if type(seed) is not int or seed not in SEEDS:
        raise ValueError(f"seed is {seed!r}; expected a whole number from 0 to {SEEDS[-1]}")


def processes():
    """(number of this process, how many there are) under torchrun; (0, 1) elsewhere, whatever RANK is left over there."""
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        return 0, 1
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise ValueError(f"RANK is {rank} and WORLD_SIZE {world}; expected 0 <= RANK < WORLD_SIZE, as torchrun sets them")
    return int(rank), int(world)


def _whole(config, least, *names):
    for name in names:
        value = getattr(config, name)
        if type(value) is not int or value < least:
            raise ValueError(f"{name} is {value!r}; expected at least {least}, a whole number")


def _real(name, value, fits, expected):
    """nan fits nothing, because no comparison holds of it."""
    if type(value) not in (int, float) or not fits(value):
        raise ValueError(f"{name} is {value!r}; expected {expected}")


def _one_of(name, value, known):
    if value not in known:
        raise ValueError(f"{name} is {value!r}; expected {' or '.join(known)}")


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

    def __post_init__(self):
        if not isinstance(self.kind, str):
            raise ValueError(f"kind is {self.kind!r}; expected the name of a kind of model")
        _whole(self, 1, "n_layer", "d_model", "n_head", "d_ff", "context")
        _real("dropout", self.dropout, lambda p: 0 <= p < 1, "0 <= dropout < 1")
        if self.kind in ("vanilla", "gpt2", "openelm") and self.d_model % self.n_head:
            raise ValueError(f"d_model is {self.d_model}; expected a multiple of n_head = {self.n_head}")


@dataclass(frozen=True)
class DataConfig:
    """Which data, by content. ``batches.load`` finds them."""

    source: str  # mccoy, file or generator (Question-Formation lines), one of sources.SOURCES, or a folder of tokens
    digest: str  # SHA-256 of the data
    size: int  # training lines, or training tokens

    def __post_init__(self):
        for name in ("source", "digest"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected a text")
        _whole(self, 0, "size")


@dataclass(frozen=True)
class RunConfig:
    """Everything that a run depends on. Two runs with equal configurations and code give equal bits on the CPU. ValueError
    for a value that no run can have."""

    experiment: str  # claim id, e.g. X2
    data: DataConfig
    model: ModelConfig
    batch_size: int  # sequences per step, over all processes
    accumulate: int  # parts of equal size in which a batch is computed
    steps: int  # optimiser steps
    lr: float  # peak, after a linear warm-up
    warmup_steps: int  # may be more than there are steps; then lr is not reached
    schedule: str  # linear or cosine, to 0 after the last step
    weight_decay: float
    adam: tuple[float, float, float]  # beta1, beta2, epsilon
    precision: str  # float32 or bfloat16 (autocast)
    eval_every: int  # steps between evaluations
    seed: int  # of weights, batches and dropout

    def __post_init__(self):
        plain_name(self.experiment, "experiment")
        _whole(self, 1, "batch_size", "accumulate", "steps", "eval_every")
        _whole(self, 0, "warmup_steps")
        if self.batch_size % self.accumulate:
            raise ValueError(f"accumulate is {self.accumulate}; expected a divisor of batch_size = {self.batch_size}")
        _real("lr", self.lr, lambda x: 0 < x < math.inf, "0 < lr < inf")
        _real("weight_decay", self.weight_decay, lambda x: 0 <= x < math.inf, "0 <= weight_decay < inf")
        if not isinstance(self.adam, (tuple, list)) or len(self.adam) != 3:
            raise ValueError(f"adam is {self.adam!r}; expected three numbers: beta1, beta2, epsilon")
        for name, beta in zip(("beta1", "beta2"), self.adam, strict=False):
            _real(f"{name} of adam", beta, lambda x: 0 <= x < 1, f"0 <= {name} < 1")
        _real("epsilon of adam", self.adam[2], lambda x: 0 < x < math.inf, "0 < epsilon < inf")
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("precision", self.precision, PRECISIONS)
        check_seed(self.seed)

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
