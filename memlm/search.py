"""Search for a violation of a bound in float64, and a decision in exact arithmetic on what was found.

Both take any ``memlm.bounds.Bound``, the paper's or a stranger's. A search can only refute; a ball can also acquit.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import product

import torch

from memlm.energy import _checked, _reals, _rows, seeded, whole
from memlm.quantities import ball, rational_point

SIZES = tuple(product((1, 2, 3, 4, 5, 8, 16, 64), (1, 2, 3, 5, 8, 16, 64)))  # (d, n)
BATCH, WORST, STEPS = 512, 16, 12  # random states for each set of patterns; how many of them then descend, and how far
EPSILON = 2.0**-52


def margin(bound, x, patterns):
    """(least of value - lower and upper - value, what rounding may have added to it), each (...), at the states x.

    The second is 4 eps (n + d + 8) (1 + (|x| + max |rho|)^2 + |value| + |the end that is least|): sums of n products or of d
    exponentials, of numbers no larger than that, are this exact. A margin below it in size cannot be told from equality.
    The other end has no part in it, however large, nor can it hide a violation: the end that is farther beyond its own
    rounding counts. ValueError where a part is nan, truth values, or neither one number nor of the shape of the states,
    and where the value is infinite on the side that would acquit.
    """
    x, patterns = _checked(x, patterns)
    _is_bound(bound)
    parts = _tensors(bound, x, patterns)
    for name, part in parts.items():
        if part.shape not in (x.shape[:-1], ()):
            raise ValueError(
                f"{bound.name}: {name} has shape {tuple(part.shape)}; expected {tuple(x.shape[:-1])}, one number a state"
            )
        if part.ndim == 0:
            _same_for_all(bound, name, part, x.reshape(-1, x.shape[-1]), patterns)
    return _margin(bound, parts, x, patterns)


def _is_bound(bound):
    if not (hasattr(bound, "parts") and hasattr(bound, "exact")):
        raise ValueError(f"bound is {bound!r}; expected a memlm.bounds.Bound")


def _three(name, parts):
    if not isinstance(parts, list | tuple) or len(parts) != 3:
        raise ValueError(f"{name} gives {parts!r}; expected three, (lower, value, upper)")
    return parts


def _part(bound, name, part):
    reals = _reals(f"{bound.name}: {name}", part)
    if torch.as_tensor(part).dtype == torch.bool:
        raise ValueError(f"{bound.name}: {name} is a truth value; expected numbers, what is compared and not the comparison")
    return reals


def _tensors(bound, x, patterns):
    """{"lower": tensor, ...} of the parts that the bound has. One that it has and does not compute is an error."""
    named = dict(zip(("lower", "value", "upper"), _three(bound.name, bound.parts(x, patterns)), strict=True))
    for name, part in named.items():
        if (part is None) != (getattr(bound, name) is None):
            raise ValueError(f"{bound.name}: {name} gives {part}; expected numbers where the bound has {name}=, else None")
    return {name: _part(bound, name, part) for name, part in named.items() if part is not None}


def _same_for_all(bound, name, part, states, patterns):
    # A part without an axis of states is a constant of the patterns, or it was summed over the states by mistake: then the
    # first state alone or the last one gives another number.
    for end in (states[:1], states[-1:]) if len(states) > 1 else ():
        alone = _reals(f"{bound.name}: {name}", getattr(bound, name)(end, patterns))
        if not (alone == part).all():
            raise ValueError(
                f"{bound.name}: {name} is {part.item():g} for {len(states)} states and another number for one of them; "
                f"expected one number a state, shape {tuple(states.shape[:-1])}"
            )


def _margin(bound, parts, x, patterns):
    value, rest = parts["value"], parts.keys() - {"value"}
    pairs = [(value, parts[end]) if end == "lower" else (parts[end], value) for end in sorted(rest)]
    gaps = torch.stack([(above - below).broadcast_to(x.shape[:-1]) for above, below in pairs])
    if gaps.isnan().any():
        where = x[gaps.isnan().any(0)][0]
        raise ValueError(f"{bound.name} is nan at x = {where.tolist()}; expected numbers, infinite ones included")
    if (acquitted := (gaps == torch.inf).any(0) & value.isinf()).any():  # an end may be infinite, and is then no bound
        where, held = x[acquitted][0].tolist(), value.broadcast_to(acquitted.shape)[acquitted][0].item()
        raise ValueError(f"{bound.name}: value is {held} at x = {where}; expected a finite number")
    reach = (x.norm(dim=-1) + patterns.norm(dim=-1).max()).square()
    sizes = torch.stack([1 + reach + _size(above) + _size(below) for above, below in pairs]).detach()
    rounding = 4 * EPSILON * (sum(patterns.shape) + 8) * sizes
    least = torch.where(gaps.abs() <= rounding, 0.0, gaps).argmin(0, keepdim=True)
    return gaps.gather(0, least).squeeze(0), rounding.gather(0, least).squeeze(0)


def _size(part):
    return part.abs().nan_to_num(posinf=0)  # an infinite end is met or missed whatever the rounding


@dataclass(frozen=True)
class Attack:
    """What an attack found: the least slack, negative if the bound is violated there, with its state x (n,) and its
    patterns (d, n); the number of states tried; the allowance for rounding at that point; and with how many sets of patterns
    the states were tried, those that a descent passed through not counted."""

    slack: float
    x: torch.Tensor
    patterns: torch.Tensor
    tries: int
    rounding: float
    sets: int


def _unit(v):
    return v / v.norm(dim=-1, keepdim=True).clamp(min=1e-300)


def _patterns(d, n, random):
    """d patterns in R^n. Mostly by one of eight laws, at a scale from 1e-6 to 1e6, near 1 half of the time. Else 0.1 to 10
    apart, at random or at two places: there exp(-distance^2) is neither 0 nor 1, and energies turn from convex to not."""
    normal = torch.randn(d, n, generator=random, dtype=torch.float64)
    laws = (
        lambda: normal,
        lambda: _unit(normal),  # equal norms
        lambda: normal.sign(),  # equal norms, ties
        lambda: (2 * normal).round(),  # ties and duplicates
        lambda: normal[torch.randint((d + 1) // 2, (d,), generator=random)],  # duplicates
        lambda: normal[:, :1] * _unit(normal[0]),  # on a line through 0
        lambda: normal + 10 * _unit(normal[0]),  # far from 0, norms almost equal
        lambda: normal * 10 ** torch.linspace(-2, 0, d, dtype=torch.float64)[:, None],  # short and long
    )
    law, wide = torch.randint(len(laws), (), generator=random), torch.rand(3, generator=random, dtype=torch.float64)
    if wide[2] < 0.3:
        apart = _unit(normal[0]) * (torch.arange(1, d + 1) % 2)[:, None] if wide[1] < 0.5 else normal
        return apart * 10 ** (2 * wide[0] - 1)
    return laws[law]() * 10 ** ((2 * wide[0] - 1) * (6 if wide[1] < 0.5 else 1))


def _states(patterns, count, random):
    """count states: at, between and beyond two of the patterns, at 0 and far out, a quarter of them with nothing added."""
    d, n = patterns.shape
    one, two = patterns[torch.randint(d, (2, count), generator=random)]
    mixtures = torch.tensor([[1, 0], [0.5, 0.5], [0, 0], [2, -1], [1, 1], [-10, 0]], dtype=torch.float64)
    a, b = mixtures[torch.randint(len(mixtures), (count,), generator=random)].T[..., None]
    uniform = torch.rand(2, count, 1, generator=random, dtype=torch.float64)
    reach = torch.where(uniform[0] < 0.25, 0, 10 ** (5 * uniform[1] - 3)) * patterns.norm(dim=-1).max()
    return a * one + b * two + reach * _unit(torch.randn(count, n, generator=random, dtype=torch.float64))


def _descend(bound, x, patterns, steps):
    """Move states (worst first) and patterns against the gradient of the margin; yield each stage. A step that lowers
    no margin, or leaves the patterns of which the bound speaks, is taken back and shortened; five such in a row end it."""
    weights = 0.5 ** torch.arange(len(x), dtype=torch.float64)  # each state goes its own way; the patterns heed the worst
    length, lowest, vain = 0.5 * patterns.norm(dim=-1).max(), None, 0
    for _ in range(steps):
        x, patterns = x.detach().requires_grad_(), patterns.detach().requires_grad_()
        least, rounding = _margin(bound, _tensors(bound, x, patterns), x, patterns)
        yield x.detach(), patterns.detach(), least.detach(), rounding
        if not least.requires_grad:
            return  # a bound without derivatives is attacked at random only
        total = (weights * least).sum()
        if lowest is None or total < lowest:
            lowest, here, vain = total.detach(), (x.detach(), patterns.detach()), 0
            slopes = torch.autograd.grad(total, (x, patterns), allow_unused=True)
            dx, dp = (torch.zeros_like(v) if s is None else s.nan_to_num(0, 0, 0) for s, v in zip(slopes, here, strict=True))
            dx, dp = _unit(dx), _unit(dp.flatten()).view_as(dp)
        else:
            length, vain = 0.4 * length, vain + 1
            if vain == 5:
                return
        x, patterns = here[0] - length * dx, here[1] - length * dp


def attack(bound, tries=100_000, seed=0, sizes=SIZES):
    """Search for a violation of ``bound``, at random and by descent, over sizes (d, n), patterns and states: an ``Attack``.

    Reproducible from the seed. A margin that rounding may have made (see ``margin``) counts as 0, so slack < 0 means a
    violation beyond rounding and slack = 0 that the bound is met to within rounding; ``certify`` decides such a point.
    """
    _is_bound(bound)
    tries, sizes = whole("tries", tries), [(whole("d", d), whole("n", n)) for d, n in _rows("sizes", sizes, "dn", "pairs")]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are small; and the answer shall not depend on the number of cores
    try:
        return _attack(bound, tries, seeded(seed), sizes)
    finally:
        torch.set_num_threads(threads)


def _attack(bound, tries, random, sizes):
    done, sets, best = 0, 0, None
    few = [(d, n) for d, n in sizes if 2 <= d <= 3 and n <= 3] or sizes  # half of the sets: where most goes wrong first

    def consider(x, patterns, least, rounding):
        nonlocal best, done
        slack = torch.where(least.abs() <= rounding, 0.0, least)
        i, done = slack.argmin(), done + len(x)
        if best is None or slack[i] < best.slack:
            best = Attack(slack[i].item(), x[i], patterns, tries, rounding[i].item(), sets)

    while done < tries:
        chosen = few if torch.rand((), generator=random) < 0.5 else sizes
        patterns, sets = _patterns(*chosen[torch.randint(len(chosen), (), generator=random)], random), sets + 1
        x = _states(patterns, min(BATCH, tries - done), random)
        with torch.no_grad():
            least, rounding = margin(bound, x, patterns)
        consider(x, patterns, least, rounding)
        worst = x[least.argsort()[: min(WORST, tries - done)]]
        for stage in _descend(bound, worst, patterns, min(STEPS, (tries - done) // max(1, len(worst)))):
            consider(*stage)
    return replace(best, sets=sets)


def _certain(name, part):
    """An end of a bound, a ball or a rational number. ValueError for a float and whatever else may have been rounded."""
    import flint

    if isinstance(part, int | Fraction | flint.arb) and not isinstance(part, bool):
        return part
    raise ValueError(f"{name} is {part!r}; expected a python-flint ball, a Fraction or a whole number: the rest is rounded")


def _ends(bound, x, patterns):
    """The pairs (smaller, larger) that the bound claims at a point, from its exact twin."""
    lower, value, upper = _three(f"{bound.name}: exact", bound.exact(x, patterns))
    value = _certain(f"{bound.name}: exact value", value)
    pairs = []
    for name, end, function in (("lower", lower, bound.lower), ("upper", upper, bound.upper)):
        if (end is None) != (function is None):
            raise ValueError(
                f"{bound.name}: exact {name} is {end!r}; expected a ball where the bound has {name}=, else None"
            )
        if end is not None:
            end = _certain(f"{bound.name}: exact {name}", end)
            pairs.append((end, value) if name == "lower" else (value, end))
    rational = [all(isinstance(part, int | Fraction) for part in pair) for pair in pairs]  # compared as what they are
    return [pair if r else tuple(map(ball, pair)) for r, pair in zip(rational, pairs, strict=True)]


def certify(bound, exact_point, most=4096):
    """Is ``bound`` violated at (x, patterns)? True: proved. False: proved that it is not. None: undecided at ``most`` bits.

    The coordinates, x (n,) and patterns (d, n), are Fractions, whole numbers or floats, and taken as the exact numbers they
    are. Balls that overlap prove nothing: the precision is doubled from 64 bits on. Equality mostly stays undecided.
    ValueError unless the exact twin returns balls, Fractions or whole numbers: a float may be rounded, and proves nothing.
    """
    import flint

    _is_bound(bound)
    if bound.exact is None:
        raise ValueError(f"{bound.name} has no exact twin; expected Bound(exact=...) with balls for lower, value and upper")
    if not isinstance(exact_point, list | tuple) or len(exact_point) != 2:
        held = f"has {len(exact_point)} parts" if isinstance(exact_point, list | tuple) else f"is {exact_point!r}"
        raise ValueError(f"the point {held}; expected two, x (n,) and patterns (d, n)")
    x, patterns = rational_point(*exact_point)
    bits, most = 64, whole("most", most, 64)
    while bits <= most:
        with flint.ctx.workprec(bits):
            pairs = _ends(bound, x, patterns)
            if any(a > b for a, b in pairs):
                return True
            if all(a <= b for a, b in pairs):
                return False
        bits *= 2
    return None
