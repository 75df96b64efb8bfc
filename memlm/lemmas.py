"""Lemmas 1 to 4 and their sharper forms as numbers, and a search for vectors that break them.

A *slack* takes x (..., n) and y (..., n) and returns what is left before the statement fails, (...) in nats: negative is a
violation. ``SLACKS`` holds one for each claim; ``PLANTED`` holds near-misses, all false, that the search has to break.
The proofs are in notebook 01; a search proves nothing, but it would find what a proof of the wrong statement hides.
"""

import math
from functools import wraps
from typing import NamedTuple

import torch

from memlm.energy import LARGEST, _callable, _numbers, _slacks, seeded, whole
from memlm.energy import log_sum_exp as lse


def _least(*parts):
    return torch.stack(parts).amin(0)


def _dot(p, v):
    return (p * v).sum(-1)


def _of_vectors(slack):
    """The slack with its arguments checked: x and y of one shape (..., n), n >= 1, entries of at most 1e150 in size."""

    @wraps(slack)
    def checked(x, y, *constants, **named):
        x, y = _numbers("x", x, LARGEST), _numbers("y", y, LARGEST)
        if x.shape != y.shape or x.ndim == 0 or x.shape[-1] == 0:
            raise ValueError(
                f"x and y have shapes {tuple(x.shape)} and {tuple(y.shape)}; expected the same (..., n), n >= 1"
            )
        return slack(x, y, *constants, **named)

    return checked


@_of_vectors
def convexity(x, y):
    """(LSE(x) + LSE(y))/2 - LSE((x + y)/2). [L1]"""
    return (lse(x) + lse(y)) / 2 - lse((x + y) / 2)


@_of_vectors
def above_max(x, y, log_n=None):
    """The lesser slack of max x <= LSE(x) <= max x + log n. [L2]"""
    excess = lse(x) - x.amax(-1)
    return _least(excess, (math.log(x.shape[-1]) if log_n is None else log_n) - excess)


@_of_vectors
def below_min(x, y, log_n=None):
    """The lesser slack of min x - log n <= -LSE(-x) <= min x. [L3]"""
    excess = x.amin(-1) + lse(-x)
    return _least(excess, (math.log(x.shape[-1]) if log_n is None else log_n) - excess)


@_of_vectors
def lipschitz(x, y, constant=1.0):
    """constant |x - y|_inf - |LSE(x) - LSE(y)|. [L4]"""
    return constant * (x - y).abs().amax(-1) - (lse(x) - lse(y)).abs()


@_of_vectors
def curvature(x, y, bound=0.5):
    """The lesser slack of 0 <= v'Hv <= bound |v|^2, H the Hessian of LSE at x and v = x - y over its largest entry. [S10]"""
    p, v = x.softmax(-1), x - y
    v = v / v.abs().amax(-1, keepdim=True).clamp_min(1e-300)
    form = _dot(p, v**2) - _dot(p, v) ** 2
    return _least(form, bound * v.square().sum(-1) - form)


@_of_vectors
def ties_and_gap(x, y, ties=0, others=0):
    """The lesser slack of log(k + e^-gap) <= LSE(x) - max x <= log(k + (n - k) e^-gap), k maxima, gap to the next. [S11]"""
    top = x.amax(-1, keepdim=True)
    k = (x == top).sum(-1) + ties
    factor = (torch.where(x < top, x, -torch.inf).amax(-1) - top.squeeze(-1)).exp()  # e^-gap, 0 where all are maxima
    excess = lse(x) - top.squeeze(-1)
    upper = k + (x.shape[-1] - k + others) * factor
    return _least(excess - (k + factor).log(), upper.log() - excess)


@_of_vectors
def above_mean(x, y, log_n=None):
    """LSE(x) - mean x - log n. [S12]"""
    return lse(x) - x.mean(-1) - (math.log(x.shape[-1]) if log_n is None else log_n)


@_of_vectors
def between_differences(x, y):
    """The lesser slack of min(x - y) <= LSE(x) - LSE(y) <= max(x - y). [S13]"""
    change = lse(x) - lse(y)
    return _least(change - (x - y).amin(-1), (x - y).amax(-1) - change)


@_of_vectors
def between_tangents(x, y):
    """The lesser slack of softmax(y).(x - y) <= LSE(x) - LSE(y) <= softmax(x).(x - y). [S14]"""
    change = lse(x) - lse(y)
    return _least(change - _dot(y.softmax(-1), x - y), _dot(x.softmax(-1), x - y) - change)


SLACKS = {
    "L1": convexity,
    "L2": above_max,
    "L3": below_min,
    "L4": lipschitz,
    "S10": curvature,
    "S11": ties_and_gap,
    "S12": above_mean,
    "S13": between_differences,
    "S14": between_tangents,
}
PLANTED = {
    "L1": {
        "concave, true at n = 1 only": lambda x, y: -convexity(x, y),
        "strictly convex": lambda x, y: convexity(x, y) - (x - y).square().mean(-1) / 1e3,
        "mid-point below both": lambda x, y: _least(lse(x), lse(y)) - lse((x + y) / 2),
    },
    "L2": {
        "log n lost, true at n = 1 only": lambda x, y: above_max(x, y, 0.0),
        "log(n - 1)": lambda x, y: above_max(x, y, math.log(max(x.shape[-1] - 1, 1))),
        "0.999 log n": lambda x, y: above_max(x, y, 0.999 * math.log(x.shape[-1])),
        "sign": lambda x, y: -above_max(x, y),
    },
    "L3": {
        "log n lost, true at n = 1 only": lambda x, y: below_min(x, y, 0.0),
        "0.999 log n": lambda x, y: below_min(x, y, 0.999 * math.log(x.shape[-1])),
        "max for min": lambda x, y: x.amin(-1) - lse(x),
    },
    "L4": {
        "constant 0.999": lambda x, y: lipschitz(x, y, 0.999),
        "mean for max": lambda x, y: (x - y).abs().mean(-1) - (lse(x) - lse(y)).abs(),
        "sign, true at n = 1 only": lambda x, y: -lipschitz(x, y),
    },
    "S10": {
        "0.49 for 1/2": lambda x, y: curvature(x, y, 0.49),
        "no kernel": lambda x, y: curvature(x, y, 1e9) - 1e-6,
        "sign, true at n = 1 only": lambda x, y: -curvature(x, y, 1e9),
    },
    "S11": {
        "one maximum too many": lambda x, y: ties_and_gap(x, y, ties=1),
        "one other too few": lambda x, y: ties_and_gap(x, y, others=-1),
        "log(k + 1) below": lambda x, y: lse(x) - x.amax(-1) - ((x == x.amax(-1, keepdim=True)).sum(-1) + 1.0).log(),
    },
    "S12": {
        "log(n + 1)": lambda x, y: above_mean(x, y, math.log(x.shape[-1] + 1)),
        "max for mean": lambda x, y: lse(x) - x.amax(-1) - math.log(x.shape[-1]),
        "sign, true at n = 1 only": lambda x, y: -above_mean(x, y),
    },
    "S13": {
        "mean for max": lambda x, y: (x - y).mean(-1) - (lse(x) - lse(y)),
        "0.999 max": lambda x, y: (x - y).amax(-1) * 0.999 - (lse(x) - lse(y)),
        "sign, true at n = 1 only": lambda x, y: -between_differences(x, y),
    },
    "S14": {
        "softmax(x) and softmax(y) exchanged": lambda x, y: -between_tangents(x, y),
        "uniform weights": lambda x, y: lse(x) - lse(y) - (x - y).mean(-1),
        "both at the mid-point": lambda x, y: _dot(((x + y) / 2).softmax(-1), x - y) - (lse(x) - lse(y)),
    },
}


class Found(NamedTuple):
    """The least slack of a search, rounding allowed, the vectors where it was, and how many pairs were tried."""

    slack: float
    x: torch.Tensor
    y: torch.Tensor
    tries: int


@_of_vectors
def rounding(x, y):
    """What float64 may cost a slack: 32 epsilon for each of 1, |x|_inf and |y|_inf. Few operations, none cancels more."""
    return 32 * torch.finfo(torch.float64).eps * (1 + x.abs().amax(-1) + y.abs().amax(-1))


SIZES = (1, 2, 3, 8, 50)


def hostile(count, n, scale, generator):
    """Pairs x, y (count, n) near the edges of the lemmas: ties, all equal, one entry above the rest, x - y constant."""
    x, y = (scale * torch.randn(count, n, generator=generator, dtype=torch.float64) for _ in "xy")
    kind = torch.arange(count).unsqueeze(-1) % 6
    x = torch.where(kind == 1, (x / scale).round() * scale, x)
    x = torch.where(kind == 2, x[:, :1], x)
    x = torch.where((kind == 3) & (torch.arange(n) == 0), x + 3 * scale, x)
    y = torch.where(kind == 4, x + y[:, :1] + 1e-9 * y, y)
    return x, torch.where(kind == 5, x * (torch.arange(n) == 0), y)


def _computed(slack, x, y):
    """slack(x, y), one number for each pair."""
    return _slacks("slack", slack(x, y), x.shape[:-1], "pair", lambda i: f"x = {x[i].tolist()}, y = {y[i].tolist()}")


def _at_least_4000(tries):
    if whole("tries", tries) < 4000:
        raise ValueError(f"tries is {tries}; expected at least 4000")
    return int(tries)


def attack(slack, tries, seed=0, sizes=SIZES):
    """Search for pairs of vectors with slack(x, y) < 0: Found. n in ``sizes``, entries from 1e-3 to 1e4.

    At n = 1 all of the lemmas are equalities: whether an edge is reached, and a near-miss found, n >= 2 has to tell.

    Each of ten generations keeps the twentieth of least slack and tries copies of it, moved in half of their entries.
    ValueError where the slack is nan or +inf, or not one floating-point number for each pair.
    """
    _callable("slack", slack)
    sizes = [whole("sizes", n) for n in sizes]
    count, best = -(-_at_least_4000(tries) // (800 * len(sizes))) * 20, None
    generator = seeded(seed)
    for n in sizes:
        for scale in (1e-3, 1.0, 30.0, 1e4):
            x, y = hostile(count, n, scale, generator)
            for generation in range(10):
                value = _computed(slack, x, y) + rounding(x, y)
                i = value.argmin()
                if best is None or value[i] < best.slack:
                    best = Found(value[i].item(), x[i], y[i], 0)
                keep = value.topk(count // 20, largest=False).indices.repeat(20)
                noise = torch.randn(2, count, n, generator=generator, dtype=torch.float64)
                noise *= scale * 0.5**generation * (torch.rand(2, count, n, generator=generator) < 0.5)
                x, y = x[keep] + noise[0], y[keep] + noise[1]
    return best._replace(tries=40 * len(sizes) * count)
