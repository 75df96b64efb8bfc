"""Bounds of the paper and their repairs, as objects that can be attacked in float64 and certified in exact arithmetic.

A ``Bound`` says lower(x, patterns) <= value(x, patterns) <= upper(x, patterns) for every state and every set of patterns.

    found = attack(P3_printed)                           # found.slack < 0: a violation at found.x, found.patterns
    certify(P3_printed, (found.x, found.patterns))       # True: it is one, rounding excluded

The paper's own bounds are written once, over the names of ``memlm.quantities``, and read in both arithmetics.

A bound that speaks of some patterns only takes a value that acquits at all others, say 1 where 0 is the lower end, and keeps
its gradient where it speaks, by torch.where: see ``convex_within``. The attack follows the gradient, of x and of the
patterns, up to the edge of the condition and not across it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from memlm.certified import _short
from memlm.quantities import Balls, Floats
from memlm.search import SIZES, Attack, attack, certify, margin

__all__ = ["PLANTED", "SIZES", "STATEMENTS", "Attack", "Bound", "attack", "certify", "margin", "statement"]


@dataclass(frozen=True)
class Bound:
    """lower <= value <= upper, each a function of (x, patterns): x (..., n), patterns (d, n), float64 tensors -> (...).

    lower or upper may be None. ``exact``, which only ``certify`` needs, takes (x, patterns) as nested lists of Fractions and
    returns (lower, value, upper) as python-flint balls at the precision in force, None where there is no bound. ``together``
    may give the same three in float64 at once, where they share work.
    """

    lower: Callable | None = None
    value: Callable | None = None
    upper: Callable | None = None
    name: str = "bound"
    exact: Callable | None = None
    together: Callable | None = None

    def __post_init__(self):
        if self.value is None or (self.lower is None and self.upper is None):
            raise ValueError(
                f"{self.name} lacks a value or a bound on it; expected value= and at least one of lower=, upper="
            )

    def parts(self, x, patterns):
        """(lower, value, upper) in float64 at the states x, with None where there is no bound."""
        if self.together is not None:
            return self.together(x, patterns)
        return tuple(part and part(x, patterns) for part in (self.lower, self.value, self.upper))


def statement(name, *, value, lower=None, upper=None):
    """A Bound from functions of the quantities q alone, for instance value=lambda q: q.E, upper=lambda q: q.g.

    The same functions are evaluated over ``Floats`` for the attack and over ``Balls`` for the exact twin.
    """

    def over(q):
        return tuple(part and part(q) for part in (lower, value, upper))

    def alone(part):
        return part and (lambda x, patterns: part(Floats(x, patterns)))

    return Bound(
        *map(alone, (lower, value, upper)),
        name=name,
        exact=lambda x, patterns: over(Balls(x, patterns)),
        together=lambda x, patterns: over(Floats(x, patterns)),
    )


def _offset(q):
    return q.E - (2 * q.M_at(2) - q.log(q.d))


def _zero(q):
    return 0 * q.g


P1 = statement("P1", lower=lambda q: q.g - q.log(q.d), value=lambda q: q.E, upper=lambda q: q.g)
P1_nearest = statement("S33", lower=lambda q: q.g - q.log_mass, value=lambda q: q.E, upper=lambda q: q.g - q.log(q.k))
P1_balls = statement("S34", lower=lambda q: q.g - q.log_shell, value=lambda q: q.E, upper=lambda q: q.g)
P2 = statement("P2", lower=lambda q: -q.spread, value=_offset, upper=lambda q: q.spread)
P2_mean = statement("P2, sharp", lower=_zero, value=lambda q: -_offset(q), upper=lambda q: q.mean_c)
P3_printed = statement(
    "P3 as printed",
    lower=lambda q: -q.spread,
    value=lambda q: q.g - 2 * q.M_at(2),
    upper=lambda q: q.spread + q.log(q.d),
)
P3 = statement("P3, repaired", lower=lambda q: -q.spread - q.log(q.d), value=lambda q: q.g - 2 * q.M_at(2), upper=_zero)

near_patterns = statement("S36", value=lambda q: q.steepest, upper=lambda q: 2 * (q.d - 1) * q.decay)


def P2_at(beta):
    """0 <= E_MCHN - (log d)/beta - E_beta <= (max |rho|^2 - min |rho|^2)/2 at the inverse temperature beta. [S30]"""
    return statement(
        f"S30 at beta = {_short(beta)}",
        lower=_zero,
        value=lambda q: q.M_at(beta) - q.log(q.d) / q.number(beta) - q.E_at(beta),
        upper=lambda q: q.spread / 2,
    )


def inner_product(beta):
    """h/2 <= E_MCHN <= h/2 + (log d)/beta: MCHN is a smooth search for the largest inner product. [S32]"""
    return statement(
        f"S32 at beta = {_short(beta)}",
        lower=lambda q: q.h / 2,
        value=lambda q: q.M_at(beta),
        upper=lambda q: q.h / 2 + q.log(q.d) / q.number(beta),
    )


def shell(beta):
    """E_MCHN >= (|x| - max |rho|)^2 / 2, which sharpens E_MCHN >= 0. [S32]"""
    return statement(f"S32, shell, at beta = {_short(beta)}", lower=lambda q: q.shell / 2, value=lambda q: q.M_at(beta))


def convex_within(sq_distance, hessian):
    """The energy with this hessian(x, patterns) is convex where no two patterns are farther apart than that squared. [S1]"""

    def least_curvature(x, patterns):
        within = (patterns[:, None] - patterns).square().sum(-1).max() <= sq_distance
        return torch.where(within, torch.linalg.eigvalsh(hessian(x, patterns))[..., 0], 1.0)

    return Bound(value=least_curvature, lower=lambda x, patterns: 0.0, name=f"convex where s^2 <= {_short(sq_distance)}")


def _stated(value, lower=None, upper=None):
    return statement("stated", value=value, lower=lower, upper=upper)


# True for every n and d; the proofs are in notebook 03.
STATEMENTS = {
    "P1": P1,
    "P2": P2,
    "P2, sharp": P2_mean,
    "P3, log d moved": _stated(lambda q: q.g - 2 * q.M_at(2), lambda q: -q.spread - q.log(q.d), lambda q: q.spread),
    "S31": P3,
    "S33": P1_nearest,
    "S34": P1_balls,
    "S36": near_patterns,
    **{f"S30 at {beta}": P2_at(beta) for beta in (0.5, 1, 7.0)},
    **{f"S32 at {beta}": inner_product(beta) for beta in (0.5, 2, 7.0)},
    **{f"S32, shell, at {beta}": shell(beta) for beta in (1, 4.0)},
}

# Near-misses, claim by claim: a checker that does not refute every one of them is worth nothing.
PLANTED = {
    "P1": {
        "log d lost (true only at d = 1)": _stated(lambda q: q.E, lower=lambda q: q.g),
        "half of log d": _stated(lambda q: q.E, lower=lambda q: q.g - q.log(q.d) / 2),
        "sign of log d": _stated(lambda q: q.E, lower=lambda q: q.g + q.log(q.d)),
        "upper end lowered by log d": _stated(lambda q: q.E, upper=lambda q: q.g - q.log(q.d)),
        "distance for its square": _stated(lambda q: q.E, upper=lambda q: q.g**0.5),
    },
    "P2": {
        "half the spread": _stated(_offset, lower=lambda q: -q.spread / 2),
        "log d lost": _stated(lambda q: q.E - 2 * q.M_at(2), lower=lambda q: -q.spread),
        "sign of log d": _stated(lambda q: q.E - 2 * q.M_at(2) - q.log(q.d), lower=lambda q: -q.spread),
        "beta = 1": _stated(lambda q: q.E - 2 * q.M_at(1) + q.log(q.d), lambda q: -q.spread, lambda q: q.spread),
        "the energy not doubled": _stated(lambda q: q.E - q.M_at(2) + q.log(q.d), lambda q: -q.spread, lambda q: q.spread),
        "half the mean of c": _stated(_offset, lower=lambda q: -q.mean_c / 2),
    },
    "S30": {
        "the other sign": _stated(lambda q: q.E_at(3) + q.log(q.d) / 3 - q.M_at(3), lower=_zero),
        "a third of the spread": _stated(lambda q: q.M_at(3) - q.log(q.d) / 3 - q.E_at(3), upper=lambda q: q.spread / 3),
        "log d not divided by beta": _stated(lambda q: q.M_at(3) - q.log(q.d) - q.E_at(3), lower=_zero),
        "spread divided by beta": _stated(lambda q: q.M_at(3) - q.log(q.d) / 3 - q.E_at(3), upper=lambda q: q.spread / 6),
    },
    "P3": {
        "as printed": P3_printed,
        "log d lost": _stated(lambda q: q.g - 2 * q.M_at(2), lower=lambda q: -q.spread),
        "spread lost (true for equal norms only)": _stated(lambda q: q.g - 2 * q.M_at(2), lower=lambda q: -q.log(q.d)),
        "half the spread": _stated(lambda q: q.g - 2 * q.M_at(2), lower=lambda q: -q.spread / 2 - q.log(q.d)),
        "upper end lowered by log d": _stated(lambda q: q.g - 2 * q.M_at(2), upper=lambda q: -q.log(q.d)),
        "the other sign": _stated(lambda q: 2 * q.M_at(2) - q.g, lambda q: -q.spread - q.log(q.d), _zero),
    },
    "S32": {
        "log d lost": _stated(lambda q: q.M_at(2), upper=lambda q: q.h / 2),
        "g for h above": _stated(lambda q: q.M_at(2), upper=lambda q: q.g / 2 + q.log(q.d) / 2),
        "log d below too": _stated(lambda q: q.M_at(2), lower=lambda q: q.h / 2 + q.log(q.d) / 2),
        "half of log d": _stated(lambda q: q.M_at(2), upper=lambda q: q.h / 2 + q.log(q.d) / 4),
        "shell without its half": _stated(lambda q: q.M_at(2), lower=lambda q: q.shell),
    },
    "S33": {
        "upper end: one nearest more": _stated(lambda q: q.E, upper=lambda q: q.g - q.log(q.k + 1)),
        "lower end: the others lost": _stated(lambda q: q.E, lower=lambda q: q.g - q.log(q.k)),
        "lower end: half the logarithm": _stated(lambda q: q.E, lower=lambda q: q.g - q.log_mass / 2),
        "upper end lowered by the logarithm": _stated(lambda q: q.E, upper=lambda q: q.g - q.log_mass),
    },
    "S34": {
        "half the logarithm": _stated(lambda q: q.E, lower=lambda q: q.g - q.log_shell / 2),
        "no allowance at all": _stated(lambda q: q.E, lower=lambda q: q.g),
        "upper end lowered": _stated(lambda q: q.E, upper=lambda q: q.g - q.log_shell),
        "1 - 1/d of the logarithm": _stated(lambda q: q.E, lower=lambda q: q.g - q.log_shell * (1 - 1 / q.d)),
    },
}
