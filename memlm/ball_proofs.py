"""Checkers for the statements about balls: each accepts what is true and has to refuse near-misses (tests/test_ball.py).

SymPy cannot decide inequalities between functions; but a function that vanishes at 0 and has a positive derivative is
positive, and after some derivatives the sign is that of a polynomial with positive coefficients.
"""

from fractions import Fraction
from itertools import pairwise

import sympy as sp
from flint import arb, ctx

from memlm.certified import (
    BITS,
    certified_line_mass,
    certified_log_volume,
    certified_series,
    certified_unit_mass_radius,
    exact_ball,
)
from memlm.symbolic import exact

n, r = sp.symbols("n r", positive=True)


def _positive_at_sight(f):
    f = sp.expand(f)
    return f != 0 and all(term.is_positive for term in sp.Add.make_args(f))


def _without_positive_factors(f):
    if f.has(sp.lowergamma):
        return f  # its derivative is elementary only while it stands alone
    f = sp.expand(f * r ** (1 - n)) if f.has(r**n) or f.has(r ** (n - 1)) else f
    factors = sp.Mul.make_args(sp.factor(sp.powsimp(sp.expand(f))))
    return sp.Mul(*[factor for factor in factors if not factor.is_positive])


def positive_for_all_r(f, depth=4):
    """True if f(r) > 0 for every r > 0 is proved, whatever its other positive symbols; None if it is not. [L5, E14]

    f is positive if its expanded terms are; or if f(0) >= 0 and f' > 0. Positive factors are dropped, and one exponential
    may be divided out before each derivative (both keep signs).
    """
    if sp.sympify(f).has(sp.Float):
        return None  # rounded numbers prove nothing
    f = _without_positive_factors(f)
    if _positive_at_sight(f):
        return True
    if depth == 0 or not f.has(r) or sp.simplify(f.subs(r, 0)).is_nonnegative is not True:
        return None
    exponents = {e.args[0] for e in f.atoms(sp.exp)}
    for scaled in [f, *(f * sp.exp(-e) for e in sorted(exponents, key=sp.default_sort_key))]:
        if positive_for_all_r(sp.diff(sp.expand(sp.powsimp(sp.expand(scaled))), r), depth - 1):
            return True
    return None


def decide(f):
    """Is f(n, r) > 0 for all r > 0? True if proved, (n, r) of a violation evaluated to 30 digits, None if undecided."""
    if positive_for_all_r(f):
        return True
    if sp.sympify(f).has(sp.Float):
        return None
    for point in ((p, q) for p in (1, 2, 3, 22, 40) for q in map(sp.Rational, ("1/10", "1/2", "1", "3/2", "3", "8"))):
        if sp.N(f.subs(dict(zip((n, r), point, strict=True))), 30) < -1e-20:
            return point
    return None


def integrand(formula):
    """The radial function whose integral over every ball of radius r in R^n is ``formula``, for symbolic n. [E12]

    By the fundamental theorem it is formula'(r) / (2 pi^{n/2} r^{n-1}/Gamma(n/2)), provided that formula(0) = 0; None
    if that fails. exp(-r) for the printed formula, exp(-r^2) for the correct one.
    """
    if sp.simplify(exact(formula).subs(r, 0)) != 0:
        return None
    sphere = 2 * sp.pi ** (n / 2) * r ** (n - 1) / sp.gamma(n / 2)
    return sp.simplify(sp.powsimp(sp.expand_power_base(sp.diff(formula, r) / sphere), force=True))


def series_step(expression):
    """Is ``expression``, which may hold gamma(n + 1, r), equal to gamma(n, r)? By the derivative and the value at 0. [L5]"""
    difference = sp.simplify(sp.expand(sp.diff(exact(expression) - sp.lowergamma(n, r), r)))
    return difference == 0 and sp.simplify(expression.subs(r, 0)) == 0


def lower_half_margin(n, power=2, exponent=1):
    """log of mass/(V_n(r) exp(-r^exponent)) at r = r_0 as a ball; the printed lower half of (14) says it is >= 0. [E14]

    By the series it is log S - r_0^power + r_0^exponent. n > 0: int, float or a ball, for every real n in it.
    """
    with ctx.workprec(BITS):
        r_0 = (exact_ball("n", n) / (2 * arb.pi() * arb(1).exp())).sqrt()
        return certified_series(n / arb(power), r_0**power).log() - r_0**power + r_0**exponent


def _some(cases):
    if len(cases) == 0:
        raise ValueError("there are 0 cases to check; expected at least 1: of none everything is true")
    return cases


def _certain(radius):
    if not isinstance(radius, arb):
        raise ValueError(f"radius is {radius!r}; expected a python-flint ball: what is rounded proves nothing")
    return radius


def volume_in_window(radius, dimensions):
    """Is -1/(6 n) < log V_n(radius(n)) < 0 certain for all dimensions? True for r_0 (pi n)^{1/(2n)}. [RAD, S22]

    radius: function of a ball n to a ball. Returns the number of dimensions, or None at the first that is not certain.
    """
    with ctx.workprec(BITS):
        for k in _some(dimensions):
            value = certified_log_volume(k, _certain(radius(arb(k))))
            if not (value < 0 and value > -1 / (6 * arb(k))):
                return None
    return len(dimensions)


def brackets_the_radius(radius, dimensions, power=2):
    """Does ``radius(n)`` lie above the unit-mass radius by no more than S21 allows, for certain, for all dimensions? [S21]

    The equation without the series S has the root r_W > r_1, and with q = r_W^power/(n/power + 1) < 1 concavity gives
    log r_W - log r_1 < -log(1 - q)/(n (1 - q)). Returns the number of dimensions, or None at the first not certain.
    """
    with ctx.workprec(BITS):
        for k in _some(dimensions):
            above = _certain(radius(arb(k)))
            q = above**power / (arb(k) / power + 1)
            gap = above.log() - certified_unit_mass_radius(k, 1, power).log()
            if not (q < 1 and gap > 0 and gap < -(-q).log1p() / (k * (1 - q))):
                return None
    return len(dimensions)


def separated(patterns, radii):
    """Are the balls of rational patterns on the line disjoint?"""
    pairs = sorted(zip(map(Fraction, patterns), map(Fraction, radii), strict=True))
    return all(q - p > r + s for (p, r), (q, s) in pairwise(pairs))


def half_distance(patterns, radii):
    """Is every radius at most half the distance to the nearest other pattern? The condition of S23."""
    patterns, radii = list(map(Fraction, patterns)), list(map(Fraction, radii))  # floats, too, as what they are
    others = [[abs(p - q) for j, q in enumerate(patterns) if j != i] for i, p in enumerate(patterns)]
    return all(2 * r <= min(o) for o, r in zip(others, radii, strict=True) if o)


def decides_the_sum(condition, configurations):
    """Does ``condition(patterns, radii)`` say exactly when int_Omega exp(-g) is the sum over the balls? [E13, S23]

    configurations: (patterns, radii) of disjoint balls on the line, rational. The comparison is of balls with 40 digits:
    equal is to 1e-36, unequal that they do not overlap, and a pair of which neither is certain counts as an error.
    Returns the number of configurations told apart rightly, or None at the first one where the condition errs.
    """
    with ctx.workprec(BITS):
        for patterns, radii in _some(configurations):
            whole = certified_line_mass(patterns, radii)
            parts = sum(certified_line_mass([p], [s]) for p, s in zip(patterns, radii, strict=True))
            if not (abs(whole - parts) < 1e-36 if condition(patterns, radii) else whole != parts):
                return None
    return len(configurations)
