"""A stack of layers that each store their own patterns: equations (5) to (10) of the paper, run as they stand and repaired.

x is (..., n); groups is a list of l tensors (..., d_t, n), the patterns of each layer, whose leading axes broadcast with
those of x: one call runs one stack from many states, or many stacks at once. Energies are in nats.
"""

from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch

from memlm.energy import LARGEST, _generator, _numbers, _positive, distances, log_sum_exp, whole


def _broadcast(*shapes):
    try:
        np.broadcast_shapes(*shapes)  # ten times as fast as torch's, which a search would notice
        return True
    except ValueError:
        return False


def _checked(x, group):
    """A state and the patterns of a layer as float64 tensors: x (..., n), group (..., d, n), |coordinates| <= 1e150."""
    x, group = _numbers("x", x, LARGEST), _numbers("group", group, LARGEST)
    fits = x.ndim >= 1 and group.ndim >= 2 and 0 not in group.shape[-2:] and x.shape[-1] == group.shape[-1]
    if not fits or not _broadcast(x.shape[:-1], group.shape[:-2]):
        raise ValueError(
            f"x and group have shapes {tuple(x.shape)} and {tuple(group.shape)}; expected (..., n) and (..., d, n)"
        )
    return x, group


def _sq_distances(x, group):
    # Unlike the one in ``energy``, for patterns (..., d, n) with the leading axes of x: each state has its own stack.
    x, group = _checked(x, group)
    return (x.unsqueeze(-2) - group).square().sum(-1)


def checked_groups(groups):
    """The patterns of every layer as float64 tensors. ValueError unless they are finite, non-empty and disjoint."""
    groups = [_numbers(f"group {t}", group, LARGEST) for t, group in enumerate(groups)]
    if not groups:
        raise ValueError("groups holds 0 layers; expected at least 1")
    for t, group in enumerate(groups):
        if group.ndim < 2 or 0 in group.shape:
            raise ValueError(f"group {t} has shape {tuple(group.shape)}; expected (..., d, n) with d >= 1 and n >= 1")
        if group.shape[-1] != groups[0].shape[-1]:
            raise ValueError(f"group {t} has patterns in {group.shape[-1]} dimensions; expected {groups[0].shape[-1]}")
    for (s, one), (t, two) in combinations(enumerate(groups), 2):
        shared = (one.unsqueeze(-2) == two.unsqueeze(-3)).all(-1).nonzero()
        if len(shared):
            pattern = one[tuple(shared[0][:-1])].tolist()
            raise ValueError(f"groups {s} and {t} both hold the pattern {pattern}; expected groups without a common pattern")
    return groups


def nearest_energy(x, group):
    """g_t(x) = min over the layer's patterns of |x - rho|^2, the energy that (6) needs. [E6] (..., n) -> (...)."""
    return _sq_distances(x, group).amin(-1)


def own_energy(x, group):
    """E_t(x) = -log sum over the layer's patterns of exp(-|x - rho|^2), eq. (4) for one layer. [E7, S43]"""
    return -log_sum_exp(-_sq_distances(x, group))


def printed_layer_energy(x, group):
    """exp(-g_t(x)), which is E_t = exp(-g_t)/Z_t as printed, in units of 1/Z_t > 0: largest at the patterns. [E6]"""
    return (-nearest_energy(x, group)).exp()


def layer_energies(x, groups, energy=nearest_energy):
    """(E_1(x), ..., E_l(x)) with E_t = energy(x, group). (..., n) -> (..., l)."""
    if not len(groups):
        raise ValueError("groups holds 0 layers; expected at least 1")
    return torch.stack([energy(x, group) for group in groups], -1)


def stack_energy(x, groups, energy=nearest_energy):
    """E_global = -LSE(-E_1, ..., -E_l), eq. (7), for any energy of a layer. [E7] (..., n) -> (...)."""
    return -log_sum_exp(-layer_energies(x, groups, energy))


def _balls(energies):
    from flint import arb

    if not energies or not all(isinstance(value, arb) for value in energies):
        raise ValueError(f"energies are {energies!r}; expected at least one python-flint ball: rounded ones prove nothing")
    return energies


def soft_minimum(energies):
    """E_global of the energies of layers, python-flint balls, as such a ball: eq. (7), certified. [E7, MM]"""
    return -sum((-value).exp() for value in _balls(energies)).log()


def one_for_all(states):
    """Has one layer t the c_t = log l + log p_t >= 0 at every state? True, False, or None where balls overlap. [E10]

    states: the energies (E_1, ..., E_l) at each, python-flint balls. c_t >= 0 says that sum_s exp(E_t - E_s) <= l.
    """
    if not states or len({len(_balls(energies)) for energies in states}) > 1:
        raise ValueError(f"states are {states!r}; expected at least one, with the energies of the same layers at each")
    sums = [[sum((own - other).exp() for other in energies) for own in energies] for energies in states]
    layers = list(zip(*sums, strict=True))
    if any(all(value <= len(layers) for value in layer) for layer in layers):
        return True
    return False if all(any(value > len(layers) for value in layer) for layer in layers) else None


def log_shares(x, groups, energy=nearest_energy):
    """log p_t(x), p = softmax(-E_1, ..., -E_l): how far each layer answers for x. E_global = E_t + log p_t. (..., l)."""
    return torch.log_softmax(-_numbers("energies", layer_energies(x, groups, energy)), -1)


def shift(x, group):
    """The mean-shift point x+ = sum_i softmax_i(-|x - rho_i|^2) rho_i of the group. (..., n) -> (..., n)."""
    x, group = _checked(x, group)
    return (torch.softmax(-_sq_distances(x, group), -1).unsqueeze(-2) @ group).squeeze(-2)


def _move(x, towards, delta):
    """x moved towards the target by at most delta (Euclidean)."""
    way = towards - x
    length = way.norm(dim=-1, keepdim=True)
    return x + way * (delta / length.clamp_min(1e-300)).clamp_max(1)


def nearest_step(x, group, delta):
    """argmin of g_t over |y - x| <= delta: towards the nearest pattern, and onto it if delta reaches. [E6 repaired]

    Exact in every dimension: over the ball the least |y - rho| is max(0, |x - rho| - delta), and that is least for the
    nearest rho (the first of several). (..., n) -> (..., n).
    """
    x, group = _checked(x, group)
    nearest = _sq_distances(x, group).argmin(-1)[..., None, None]
    group = group.expand(*x.shape[:-1], *group.shape[-2:])
    return _move(x, group.gather(-2, nearest.expand(*x.shape[:-1], 1, x.shape[-1])).squeeze(-2), _positive("delta", delta))


def shift_step(x, group, delta):
    """The layer's own mean shift, cut off at distance delta; never raises E_t = own_energy. (..., n) -> (..., n)."""
    x, group = _checked(x, group)
    return _move(x, shift(x, group), _positive("delta", delta))


def printed_step(x, group, delta, directions=256):
    """argmin of exp(-g_t)/Z_t over |y - x| <= delta, eq. (6) as printed: the point farthest from the layer's patterns. [E6]

    The best of finitely many candidates: x itself, full steps away from each pattern, along the axes and in ``directions``
    fixed random directions, and the midpoints of pairs of patterns drawn into the ball. Exact for one pattern and for n = 1;
    otherwise the true argmin lies at least as far from the patterns as the point returned. (..., n) -> (..., n).
    """
    (x, group), delta = _checked(x, group), _positive("delta", delta)
    n, pairs = x.shape[-1], torch.triu_indices(group.shape[-2], group.shape[-2], 1)
    random = torch.randn(
        whole("directions", directions, 0), n, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    axes = torch.eye(n, dtype=torch.float64)
    fixed = torch.nn.functional.normalize(torch.cat([axes, -axes, random]), dim=-1)
    away = torch.nn.functional.normalize(x.unsqueeze(-2) - group, dim=-1)
    ways = torch.cat([torch.zeros_like(away[..., :1, :]), away, fixed.expand(*away.shape[:-2], *fixed.shape)], -2)
    outer = x.unsqueeze(-2) + delta * ways
    inner = _move(x.unsqueeze(-2), (group[..., pairs[0], :] + group[..., pairs[1], :]) / 2, delta)
    candidates = torch.cat([outer, inner], -2)
    best = nearest_energy(candidates, group.unsqueeze(-3)).argmax(-1)[..., None, None]
    return candidates.gather(-2, best.expand(*best.shape[:-1], n)).squeeze(-2)


def pass_through(x, groups, step=nearest_step, delta=1.0, passes=1):
    """The trajectory x^(0), x^(1), ... of a state through all layers in turn, ``passes`` times over. [E6, MM]

    step(x, group, delta) is one layer's step; delta > 0 its trust region. (..., n) -> (passes * l + 1, ..., n).
    """
    groups = checked_groups(groups)
    path = [_numbers("x", x, LARGEST)]
    for group in groups * whole("passes", passes):
        path.append(step(path[-1], group, delta))
    return torch.stack(path)


class Bookkeeping(NamedTuple):
    """For each step of a trajectory, (steps, ...): the rise of E_global, the rise of the visited layer's own energy, and
    the rise of log p_t, that layer's share. rise = own + share, exactly. [S45]"""

    rise: torch.Tensor
    own: torch.Tensor
    share: torch.Tensor


def bookkeeping(path, groups, energy=nearest_energy):
    """Where each rise of E_global along a trajectory of ``pass_through`` comes from. [S45] path (steps + 1, ..., n)."""
    path = _numbers("path", path)
    if path.ndim < 2 or len(path) == 0:
        raise ValueError(f"path has shape {tuple(path.shape)}; expected (steps + 1, ..., n)")
    visited = torch.arange(len(path) - 1) % max(1, len(groups))
    steps = torch.arange(len(path) - 1)
    energies, shares = layer_energies(path, groups, energy), log_shares(path, groups, energy)
    total = -log_sum_exp(-energies)
    own = energies[steps + 1, ..., visited] - energies[steps, ..., visited]
    return Bookkeeping(total[1:] - total[:-1], own, shares[steps + 1, ..., visited] - shares[steps, ..., visited])


def random_stack(count, layers, per_layer, n, spread, generator):
    """``count`` independent stacks and a start for each: x (count, n) and ``layers`` groups (count, per_layer, n).

    Patterns and starts are normal with mean 0 and covariance spread^2 I.
    """
    if not all(isinstance(size, int) and 1 <= size < 2**31 for size in (count, layers, per_layer, n)):
        raise ValueError(f"sizes are {(count, layers, per_layer, n)}; expected whole numbers >= 1")
    _generator(generator)
    drawn = torch.randn(count, layers * per_layer + 1, n, dtype=torch.float64, generator=generator)
    drawn = _positive("spread", spread) * drawn
    return drawn[:, 0], list(drawn[:, 1:].split(per_layer, -2))


def disjoint(patterns, r):
    """Are the balls of radius r round the patterns (d, n) disjoint, as A3 asks? True or False. [A3]"""
    return bool((_separation(patterns) > 2 * _positive("r", r)).item())


def _separation(patterns):
    apart = distances(patterns)
    if 0 in apart.shape:
        raise ValueError("patterns holds 0 patterns; expected at least 1")
    return apart.fill_diagonal_(torch.inf).min()


def storage_margin(s, r, d):
    """By how much the margin condition of S44 is met, > 0 if it is: the lesser of s - (r + sqrt(r^2 + 4))/2 and
    -log((d - 1) s max(1/r, 2s) exp(-s(s - 2r))). s: least distance of two patterns, r: radius of the balls, d: patterns.

    Met, mean shift maps every ball into itself and contracts it: every pattern is stored. s >= 0, r > 0 and d >= 1
    broadcast -> (...); infinite at d = 1.
    """
    s, r, d = _numbers("s", s, LARGEST), _numbers("r", r, LARGEST), _numbers("d", d)
    for name, values, fine, expected in (
        ("s", s, s >= 0, "distances >= 0"),
        ("r", r, r > 0, "radii > 0"),
        ("d", d, d >= 1, "numbers of patterns >= 1"),
    ):
        if not fine.all():
            raise ValueError(f"{name} is {values[~fine][0].item()}; expected {expected}")
    if not _broadcast(s.shape, r.shape, d.shape):
        raise ValueError(
            f"s, r and d have shapes {tuple(s.shape)}, {tuple(r.shape)} and {tuple(d.shape)}; expected such as broadcast"
        )
    crowd = (d - 1).log() + s.log() + torch.maximum(-r.log(), (2 * s).log()) - s * (s - 2 * r)
    return torch.where(d == 1, torch.inf, torch.minimum(s - (r + (r.square() + 4).sqrt()) / 2, -crowd))


def stores_every_pattern(patterns, r):
    """Does the margin condition promise that mean shift stores every pattern (d, n) in its ball of radius r? [A3, S44]

    True is a proof. False says only that the condition is not met.
    """
    met = storage_margin(_separation(patterns).clamp(max=LARGEST), r, len(patterns)) > 0
    if met.numel() != 1:
        raise ValueError(f"r has shape {tuple(met.shape)}; expected one number > 0, the radius of every ball")
    return bool(met.item())


def storage_slack(patterns, r, generator, points=16):
    """What is left to a violation of storage, tried at many states of each ball; > 0: none found. [A3, S44] (d, n) -> float

    The least of 1 - |x+ - rho|/r over states x in the ball of rho (self-map) and of 1 - 2 |Cov(x)| (contraction: mean shift
    has the derivative 2 Cov). States: ``points`` inside, ``points`` on the sphere, and the points of the sphere towards
    each other pattern and towards the mean of all, where the pull away is strongest. ValueError where a slack is not finite.
    """
    _generator(generator)
    patterns, r, points = _numbers("patterns", patterns, LARGEST), _positive("r", r), whole("points", points)
    if patterns.ndim != 2 or 0 in patterns.shape:
        raise ValueError(f"patterns have shape {tuple(patterns.shape)}; expected (d, n) with d >= 1 and n >= 1")
    return min(_ball_slack(patterns, rho, r, generator, points) for rho in patterns)


def _ball_slack(patterns, rho, r, generator, points):
    d, n = patterns.shape
    patterns = patterns - rho  # seen from rho, so that a small ball far out keeps its digits
    ways = torch.randn(2 * points, n, dtype=torch.float64, generator=generator)
    ways = torch.nn.functional.normalize(torch.cat([ways, patterns, patterns.mean(0, keepdim=True)]), dim=-1)
    ways[:points] *= torch.rand(points, 1, dtype=torch.float64, generator=generator)
    weights = torch.softmax(-_sq_distances(r * ways, patterns), -1)
    after = weights @ patterns
    # the covariance has the eigenvalues of A'A and of AA', where A has the rows sqrt(w_i) (rho_i - mean)
    rows = weights.sqrt().unsqueeze(-1) * (patterns - after.unsqueeze(-2))
    spread = torch.linalg.eigvalsh(rows @ rows.mT if d < n else rows.mT @ rows)[:, -1]
    slacks = torch.cat([1 - after.norm(dim=-1) / r, 1 - 2 * spread])
    if not slacks.isfinite().all():
        bad = slacks[~slacks.isfinite()][0].item()
        raise ValueError(f"slack is {bad} in the ball of radius {r} round {rho.tolist()}; expected numbers")
    return slacks.min().item()
