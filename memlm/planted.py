"""Statements beside the true ones of notebook 04, each wrong in one place, which the search that accepts those has to
refute: a wrong constant, a wrong sign, a lost log d, something true for one layer or one pattern only.
"""

import math

import torch

from memlm import descent, layered
from memlm.descent import ROUNDING, attention, relative, search, visit
from memlm.layered import bookkeeping, layer_energies, log_shares, nearest_energy, own_energy, shift, stack_energy

REFUTED = -1e-9  # three digits above ROUNDING: nothing that rounding could do is taken for a refutation
# n, layers, patterns a layer, spread: the smallest cases that tell a statement from its neighbours
SHAPES = ((1, 1, 1, 1.0), (1, 1, 2, 0.3), (1, 2, 1, 1.0), (1, 4, 1, 0.3), (2, 2, 2, 1.0), (2, 4, 1, 1.0), (5, 4, 2, 0.3))


def union(groups):
    return torch.cat(groups, -2)


def sq(vector):
    return vector.square().sum(-1)


def steps(x, groups, delta=1.0):
    """path, its bookkeeping, and log p_t(x) of the visited layer before each step."""
    path, index = visit(x, groups, delta), torch.arange(len(groups))
    return path, bookkeeping(path, groups), log_shares(path[:-1], groups)[index, ..., index]


def drop(x, groups, factor):
    """E(x) - E(x+) - factor |x+ - x|^2 for the mean-shift step."""
    patterns, after = union(groups), shift(x, union(groups))
    return own_energy(x, patterns) - own_energy(after, patterns) - factor * sq(after - x)


def attention_drop(x, groups, factor, beta=1.0):
    before, after = attention(x, union(groups), beta)
    return before - attention(after, union(groups), beta)[0] - factor * sq(after - x)


def posted_drop(x, groups):
    """Of the energy posted in issue 14 of hopfield-layers, which has |x|^2 where E_MCHN has |x|^2/2."""
    before, after = attention(x, union(groups), 1.0)
    return before + sq(x) / 2 - attention(after, union(groups), 1.0)[0] - sq(after) / 2


def depth(x, groups, lost=0.0, count=3, layers=3, worst=False):
    patterns = union(groups)
    moved = descent.squared_steps(x, patterns, count)
    bound = (nearest_energy(x, patterns) + (1 - lost) * math.log(patterns.shape[-2])) / layers
    return bound - (moved.amax(-1) if worst else moved.amin(-1))


def off(value, target):
    return ROUNDING - relative((value - target).abs(), target)


def visit_nearest(x, groups):
    """A descent by g_t of the layer that is nearest, which then does not raise E_global?"""
    energies = layer_energies(x, groups)
    t = energies.argmin(-1)
    after = torch.stack([layered.nearest_step(x, group, 1.0) for group in groups])
    y = after.gather(0, t[None, :, None].expand(1, *x.shape))[0]
    return stack_energy(x, groups) - stack_energy(y, groups)


def printed_descent(x, groups):
    """Does the first layer's printed step lower E_global of the printed energies?"""
    y = layered.printed_step(x, groups[0], 1.0, directions=16)
    return stack_energy(x, groups, layered.printed_layer_energy) - stack_energy(y, groups, layered.printed_layer_energy)


def weighted(x, groups, weights):
    y = layered.nearest_step(x, groups[-1], 1.0)
    return (
        stack_energy(x, groups)
        + (weights(x, y) * (layer_energies(y, groups) - layer_energies(x, groups))).sum(-1)
        - (stack_energy(y, groups))
    )


def one_layer(groups):
    return torch.nn.functional.one_hot(torch.tensor(len(groups) - 1), len(groups)).double()


def c(x, groups, t=None):
    """c_t(x) = log l + log p_t(x) for layer t, or for the layer of least energy."""
    shares = log_shares(x, groups)
    return math.log(len(groups)) + (shares.amax(-1) if t is None else shares[..., t])


def nearer(x, groups, step, gain=0.0):
    return nearest_energy(x, groups[0]) - gain - nearest_energy(step(x, groups[0], 0.5), groups[0])


STACKS = {
    "E6": {
        "the printed step": lambda x, g: nearer(x, g, layered.printed_step),
        "the square falls by delta": lambda x, g: nearer(x, g, layered.nearest_step, gain=0.5),
        "nearer to the patterns of every layer": lambda x, g: (
            layer_energies(x, g) - layer_energies(layered.nearest_step(x, g[0], 0.5), g)
        ).amin(-1),
    },
    "E8": {
        "log l halved": lambda x, g: stack_energy(x, g) - layer_energies(x, g).amin(-1) + math.log(len(g)) / 2,
        "log l lost, true at l = 1": lambda x, g: stack_energy(x, g) - layer_energies(x, g).amin(-1),
        "mean for min": lambda x, g: stack_energy(x, g) - layer_energies(x, g).mean(-1) + math.log(len(g)),
        "least energy lowered by 1/1000": lambda x, g: layer_energies(x, g).amin(-1) - 1e-3 - stack_energy(x, g),
    },
    "MM": {
        "every step lowers E_global, true at l = 1": lambda x, g: -steps(x, g)[1].rise.amax(0),
        "small steps do": lambda x, g: -steps(x, g, 0.05)[1].rise.amax(0),
        "a step of the nearest layer does": visit_nearest,
        "a whole pass does": lambda x, g: -steps(x, g)[1].rise.sum(0),
        "a step of the printed E_t does, Z = 1, true at l = 1": printed_descent,
    },
    "S40": {
        "factor 2": lambda x, g: drop(x, g, 2.0),
        "factor 1.001": lambda x, g: drop(x, g, 1.001),
        "equality, true at d = 1": lambda x, g: ROUNDING - drop(x, g, 1.0).abs(),
        "the attention step": lambda x, g: own_energy(x, union(g)) - own_energy(attention(x, union(g), 2.0)[1], union(g)),
    },
    "S41": {
        "factor 1": lambda x, g: attention_drop(x, g, 1.0),
        "factor 0.501": lambda x, g: attention_drop(x, g, 0.501),
        "factor beta/2": lambda x, g: attention_drop(x, g, 1.0, beta=2.0),
        "equality, true at d = 1": lambda x, g: ROUNDING - attention_drop(x, g, 0.5).abs(),
        "|x|^2 for |x|^2/2, as posted for hopfield-layers": posted_drop,
    },
    "S42": {
        "log d lost, true at d = 1": lambda x, g: depth(x, g, lost=1.0),
        "one layer more than there are": lambda x, g: depth(x, g, count=1, layers=2),
        "the largest step": lambda x, g: depth(x, g, worst=True),
    },
    "S43": {
        "log l too high, true at l = 1": lambda x, g: off(
            stack_energy(x, g, own_energy) + math.log(len(g)), own_energy(x, union(g))
        ),
        "least energy": lambda x, g: off(layer_energies(x, g, own_energy).amin(-1), own_energy(x, union(g))),
        "g_t for E_t, true at one pattern a layer": lambda x, g: off(stack_energy(x, g), own_energy(x, union(g))),
    },
    "S45": {
        "sign of the share": lambda x, g: (ROUNDING - (lambda b: (b.rise - b.own + b.share).abs())(steps(x, g)[1])).amin(0),
        "share lost, true at l = 1": lambda x, g: (ROUNDING - (lambda b: (b.rise - b.own).abs())(steps(x, g)[1])).amin(0),
        "own lost": lambda x, g: (ROUNDING - (lambda b: (b.rise - b.share).abs())(steps(x, g)[1])).amin(0),
    },
    "S46": {
        "E_global rises by at most what E_t falls": lambda x, g: (lambda p, b, q: -b.own - b.rise)(*steps(x, g)).amin(0),
        "a layer with p_t >= 1/2 is safe": lambda x, g: (
            lambda p, b, q: torch.where(q >= -math.log(2), -b.rise, 0)
        )(*steps(x, g)).amin(0),
        "a fall of E_t by half of -log p_t is enough": lambda x, g: (
            lambda p, b, q: torch.where(-b.own >= -q / 2, -b.rise, 0)
        )(*steps(x, g)).amin(0),
    },
    "S47": {
        "equal weights, true at l = 1": lambda x, g: weighted(x, g, lambda x, y: torch.tensor(1.0 / len(g))),
        "weights of the new state": lambda x, g: weighted(x, g, lambda x, y: log_shares(y, g).exp()),
        "the visited layer alone (MM)": lambda x, g: weighted(x, g, lambda x, y: one_layer(g)),
    },
    "S48": {
        "one fixed layer (E10), true at l = 1": lambda x, g: c(x, g, t=0),
        "c = 0, true at l = 1": lambda x, g: ROUNDING - c(x, g).abs(),
        "c up to half of log l": lambda x, g: math.log(len(g)) / 2 - c(x, g),
    },
}  # fmt: skip


def log_crowd(s, r, d, factor, exponent):
    return (d - 1).log() + s.log() + factor.log() - exponent


def first(s, r):
    return s - (r + (r.square() + 4).sqrt()) / 2


STORAGE = {
    "disjoint balls (A3)": lambda s, r, d: s > 2 * r,
    "two minima, s^2 > 2": lambda s, r, d: s > 2**0.5,
    "d - 1 lost, true at d = 2": lambda s, r, d: (
        (first(s, r) > 0) & (log_crowd(s, r, d * 0 + 2, torch.maximum(1 / r, 2 * s), s * (s - 2 * r)) < 0)
    ),
    "two neighbours, as on the line": lambda s, r, d: (
        (first(s, r) > 0) & (log_crowd(s, r, d.clamp_max(3), torch.maximum(1 / r, 2 * s), s * (s - 2 * r)) < 0)
    ),
    "exponent s^2": lambda s, r, d: (first(s, r) > 0) & (log_crowd(s, r, d, torch.maximum(1 / r, 2 * s), s * s) < 0),
    "no first half": lambda s, r, d: log_crowd(s, r, d, torch.maximum(1 / r, 2 * s), s * (s - 2 * r)) < 0,
    "contraction only": lambda s, r, d: (first(s, r) > 0) & (log_crowd(s, r, d, 2 * s, s * (s - 2 * r)) < 0),
    "self-map only": lambda s, r, d: (first(s, r) > 0) & (log_crowd(s, r, d, 1 / r, s * (s - 2 * r)) < 0),
}


def refused(claim, tries=2_000, seed=0):
    """How many of the planted neighbours of ``claim`` the search refutes, and how many there are."""
    margins = STACKS[claim].values()
    return sum(search(margin, tries, seed, SHAPES).slack < REFUTED for margin in margins), len(margins)


def storage_refused(trials):
    """How many wrong conditions for storage the rows of ``descent.storage_trials`` refute, and how many there are. [S44]"""
    s, r, d, slack = trials.T
    return sum(bool((slack[condition(s, r, d)] < 0).any()) for condition in STORAGE.values()), len(STORAGE)
