"""What is true of steps through layers (S40 to S48), each as a margin that is >= 0 where the statement holds, and the search
that tries to make a margin negative.

A margin takes x (..., n) and groups, a list of tensors (..., d_t, n), and is (...,), in units of 1 + the energies that it
compares: rounding stays below ``ROUNDING``.
"""

import math
from collections.abc import Callable
from importlib.util import find_spec
from itertools import product
from typing import NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention

from memlm.energy import LARGEST, _callable, _numbers, _positive, _rows, _slacks, log_sum_exp, seeded, whole
from memlm.layered import (
    _checked,
    bookkeeping,
    layer_energies,
    log_shares,
    nearest_energy,
    nearest_step,
    own_energy,
    random_stack,
    shift,
    stack_energy,
    storage_margin,
    storage_slack,
)

ROUNDING = 1e-12  # float64 has 1e-16; distances of up to 16 coordinates and sums of up to 20 terms lose at most three digits


def relative(margin, *energies):
    """The margin in units of 1 + the sum of the magnitudes of the energies that went into it; nan where that is infinite."""
    unit = 1 + sum(value.abs() for value in energies)
    return torch.where(unit.isinf(), torch.nan, margin / unit)


def _union(groups):
    groups = [_numbers(f"group {t}", group) for t, group in enumerate(groups)]
    if not groups or any(
        g.ndim < 2 or (g.shape[:-2], g.shape[-1]) != (groups[0].shape[:-2], groups[0].shape[-1]) for g in groups
    ):
        raise ValueError(f"groups have shapes {[tuple(g.shape) for g in groups]}; expected l >= 1 of (..., d_t, n)")
    return torch.cat(groups, -2)


def mean_shift_margin(x, groups):
    """E(x+) <= E(x) - |x+ - x|^2 for the mean-shift point x+ of all patterns. [S40]"""
    patterns = _union(groups)
    after = shift(x, patterns)
    before, least = own_energy(x, patterns), own_energy(after, patterns)
    return relative(before - (after - x).square().sum(-1) - least, before, least)


def attention(x, patterns, beta):
    """E_MCHN without its constants, -LSE(beta, M'x) + |x|^2/2, and the attention step M softmax(beta M'x). [S41]

    The twins in ``energy`` take one set of patterns; these take patterns (..., d, n) with leading axes.
    """
    (x, patterns), beta = _checked(x, patterns), _positive("beta", beta)
    overlaps = (patterns @ x.unsqueeze(-1)).squeeze(-1)
    step = (torch.softmax(beta * overlaps, -1).unsqueeze(-2) @ patterns).squeeze(-2)
    return -log_sum_exp(overlaps, beta) + x.square().sum(-1) / 2, step


def peer_steps():
    """The attention step as others compute it, by package: step(x, patterns, beta), x (m, n), patterns (d, n). [S41]

    PyTorch's is always there, that of hopfield-layers, the package of Ramsauer et al., where it is installed.
    """
    peers = {"PyTorch": lambda x, patterns, beta: scaled_dot_product_attention(x, patterns, patterns, scale=beta)}
    if find_spec("hflayers"):
        from hflayers import Hopfield

        parts = ("stored_pattern", "state_pattern", "pattern_projection")  # no projection and no normalisation of any
        bare = {f"{part}_as_static": True for part in parts} | {f"normalize_{part}": False for part in parts}
        bare |= {f"normalize_{part}_affine": False for part in parts}
        peers["hopfield-layers"] = lambda x, patterns, beta: Hopfield(
            scaling=float(beta), disable_out_projection=True, **bare
        )((patterns[None], x[None], patterns[None]))[0]
    return peers


def attention_margin(x, groups, beta=1.0):
    """E_MCHN(x+) <= E_MCHN(x) - |x+ - x|^2/2 for the attention step x+ over all patterns. [S41]"""
    patterns = _union(groups)
    before, after = attention(x, patterns, beta)
    least, _ = attention(after, patterns, beta)
    return relative(before - (after - x).square().sum(-1) / 2 - least, before, least, x.square().sum(-1))


def squared_steps(x, patterns, depth):
    """|x^(t) - x^(t-1)|^2 of ``depth`` mean-shift steps, t = 1..depth. (..., n) -> (..., depth)."""
    path = [x]
    for _ in range(whole("depth", depth)):
        path.append(shift(path[-1], patterns))
    return torch.stack(path).diff(dim=0).square().sum(-1).movedim(0, -1)


def depth_margin(x, groups, depth=4):
    """min_t |x^(t) - x^(t-1)|^2 <= (g(x^(0)) + log d)/depth for ``depth`` layers that share all patterns. [S42]"""
    patterns, depth = _union(groups), whole("depth", depth)
    g = nearest_energy(x, patterns)
    bound = (g + math.log(patterns.shape[-2])) / depth
    return relative(bound - squared_steps(x, patterns, depth).amin(-1), g)


def union_margin(x, groups):
    """E_global of layers with E_t of (4) is E of all patterns together, and with E_t = g_t its least E_t is g. [S43]"""
    patterns = _union(groups)
    whole, g = own_energy(x, patterns), nearest_energy(x, patterns)
    smooth = (stack_energy(x, groups, own_energy) - whole).abs()
    return ROUNDING - relative(torch.maximum(smooth, (layer_energies(x, groups).amin(-1) - g).abs()), whole, g)


def bounds_margin(x, groups):
    """min_t E_t - log l <= E_global <= min_t E_t. [E8]"""
    least, total = layer_energies(x, groups).amin(-1), stack_energy(x, groups)
    log_l = math.log(len(groups))
    return relative(torch.minimum(total - least + log_l, least - total), least)


def bookkeeping_margin(x, groups):
    """E_global(x') - E_global(x) = [E_t(x') - E_t(x)] + log p_t(x') - log p_t(x) at each of a stack's steps. [S45]"""
    path = visit(x, groups)
    book = bookkeeping(path, groups)
    off = (book.rise - book.own - book.share).abs()
    return (ROUNDING - relative(off, book.own, stack_energy(path[1:], groups))).amin(0)


def visit(x, groups, delta=1.0):
    """As ``layered.pass_through`` with g_t, without its checks: rounded patterns may be shared. (l + 1, ..., n)."""
    path = [x]
    for group in groups:
        path.append(nearest_step(path[-1], group, delta))
    return torch.stack(path)


def conditions_margin(x, groups):
    """E_global does not rise if p_t does not, or if E_t falls by >= -log p_t(x); else it rises by <= -log p_t(x). [S46]"""
    path = visit(x, groups)
    book = bookkeeping(path, groups)
    index = torch.arange(len(groups))
    log_p = log_shares(path[:-1], groups)[index, ..., index]
    safe = (book.share <= 0) | (-book.own >= -log_p)
    return relative(torch.where(safe, 0, -log_p) - book.rise, book.own, log_p).amin(0)


def surrogate_margin(x, groups):
    """E_global(y) <= E_global(x) + sum_t p_t(x) (E_t(y) - E_t(x)), here at y = each layer's step from x. [S47]"""
    here = layer_energies(x, groups)
    y = torch.stack([nearest_step(x, group, 1.0) for group in groups])
    there = layer_energies(y, groups)
    bound = stack_energy(x, groups) + (log_shares(x, groups).exp() * (there - here)).sum(-1)
    total = stack_energy(y, groups)
    return relative(bound - total, here.amax(-1), there.amax(-1)).amin(0)


def nearest_layer_margin(x, groups):
    """With t(x) the layer of least E_t: E_global = E_t(x) - log l + c(x), 0 <= c(x) <= log l. [S48]"""
    energies, shares = layer_energies(x, groups), log_shares(x, groups)
    t = energies.argmin(-1, keepdim=True)
    log_l = math.log(len(groups))
    c = log_l + shares.gather(-1, t).squeeze(-1)
    return relative(torch.minimum(c, log_l - c), energies.amin(-1))


class Found(NamedTuple):
    """The least margin of a search, in how many tries, and where: x (n,) and one tensor (d_t, n) a layer."""

    slack: float
    tries: int
    x: torch.Tensor
    groups: list[torch.Tensor]


SHAPES = tuple(product((1, 2, 5, 16), (1, 2, 4), (1, 2, 5), (0.3, 1.0, 3.0)))  # n, layers, patterns a layer, spread


def search(margin: Callable, tries, seed, shapes=SHAPES):
    """The least value of margin(x, groups) over random stacks of all ``shapes``: a violation if below -ROUNDING. -> Found.

    Half of the first draws have coordinates rounded to halves, so that ties, duplicates and states on a pattern occur. Half
    of the tries go into the worst stacks of each shape, a hundred or one in twenty if that is more, which are perturbed in
    up to twenty rounds by ever smaller noise in x and patterns.
    ValueError where the margin is nan or +inf, or not one floating-point number for each stack.
    """
    tries, shapes = whole("tries", tries), _rows("shapes", shapes, ("n", "layers", "patterns a layer", "spread"))
    _callable("margin", margin)
    generator = seeded(seed)
    worst, done = None, 0
    for n, layers, per_layer, spread in shapes:
        count = max(2, -(-tries // (2 * len(shapes))))
        x, groups = random_stack(count, layers, per_layer, n, spread, generator)
        drawn = torch.cat([x.unsqueeze(-2), *groups], -2)
        drawn[::2] = (2 * drawn[::2]).round() / 2
        values = _computed(margin, drawn, per_layer)
        order = values.argsort()[: max(100, -(-count // 20))]
        best, kept = values[order], drawn[order]
        rounds = -(-count // len(kept))
        for k in range(rounds):
            tried = kept + spread * 0.8**k * torch.randn(kept.shape, dtype=torch.float64, generator=generator)
            values = _computed(margin, tried, per_layer)
            better = values < best
            best, kept = torch.where(better, values, best), torch.where(better[:, None, None], tried, kept)
        done += count + rounds * len(kept)
        i = best.argmin()
        if worst is None or best[i] < worst.slack:
            x, groups = _split(kept[i], per_layer)
            worst = Found(best[i].item(), 0, x, groups)
    return worst._replace(tries=done)


def _computed(margin, stacks, per_layer):
    """The margin of each stack."""
    x, groups = _split(stacks, per_layer)

    def point(i):
        return f"x = {x[i].tolist()}, groups = {[group[i].tolist() for group in groups]}"

    return _slacks("margin", margin(x, groups), x.shape[:-1], "stack", point)


def _split(stack, per_layer):
    """A state and its patterns in one tensor (..., 1 + l d_t, n), as the state x and the l groups."""
    return stack[..., 0, :], list(stack[..., 1:, :].split(per_layer, -2))


def storage_trials(seed, radii=(0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0), random_sets=1):
    """Mean shift tried out on many sets of patterns, at and round the margin condition. [A3, S44] -> (trials, 4) float64.

    Columns: least distance s, radius r, number d of patterns, ``layered.storage_slack``. The sets: a pair, a simplex, a
    line, a square grid, random sets, and a close pair far from a crowd; each at multiples of the least s that the margin
    condition allows (among them 1 + 1e-9) and at two small s. Any condition on (s, r, d) can be held against the rows.
    """
    generator = seeded(seed)
    line = torch.arange(12.0, dtype=torch.float64).unsqueeze(-1)
    crowd = torch.tensor([[0.0], [1.0], *([20.0 + k] for k in range(8))], dtype=torch.float64)
    sets = [line[:2], torch.eye(24, dtype=torch.float64), line, torch.cartesian_prod(line[:3, 0], line[:3, 0]), crowd]
    sets += [
        torch.randn(20, 6, dtype=torch.float64, generator=generator) for _ in range(whole("random_sets", random_sets, 0))
    ]
    rows = []
    for patterns, r in product(sets, radii):
        unit, d = patterns / torch.pdist(patterns).min(), len(patterns)
        least = least_separation(r, d)
        for s in [0.05, 0.5, *(factor * least for factor in (0.5, 0.8, 0.95, 1 + 1e-9, 1.05, 1.2, 1.5))]:
            rows.append((s, r, d, storage_slack(s * unit, r, generator)))
    return torch.tensor(rows, dtype=torch.float64)


def least_separation(r, d):
    """The least distance of d >= 2 patterns that meets the margin condition of S44 for balls of radius r > 0, to 1e-12."""
    (r, d), most = (_positive("r", r), float(whole("d", d, 2))), LARGEST / 4
    if r > most:
        raise ValueError(f"r is {r}; expected a number of at most {most}")
    low = (r + math.sqrt(r * r + 4)) / 2
    # beyond the first half of the condition the second decreases in s
    high = low + 2 * r + 10 + math.log(d) + max(0.0, -math.log(r))
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if storage_margin(middle, r, d) > 0 else (middle, high)
    return high
