"""Certified twins of ``ball``: one n and r at a time, as int, float, Fraction or ball, to a python-flint ball.

The ball holds the true value, with about 30 digits. Nothing is shared with the float code: the incomplete gamma function
is summed here from two series with rigorous remainders, because python-flint's own can return balls of radius 1e104.
A comparison of balls that is False proves nothing: write both ``a < b`` and ``a >= b`` where either may hold.
"""

import math
from fractions import Fraction
from itertools import combinations, pairwise
from operator import index

BITS = 160  # working precision: 30 bits go to lgamma of 1e8, the rest is some 39 digits


def _short(value):
    """``value``, or in words where it is a whole number or Fraction so long that Python refuses to write it."""
    if isinstance(value, Fraction) and max(value.numerator.bit_length(), value.denominator.bit_length()) > 200:
        return f"a Fraction {_short(value.numerator)} / {_short(value.denominator)}"
    if isinstance(value, int) and value.bit_length() > 200:
        return f"{'-' if value < 0 else ''}a number of {value.bit_length()} bits"
    return value


def checked_power(power):
    """``power``, or a ValueError unless it is 1 or 2."""
    try:
        fine = bool(power in (1, 2))
    except (TypeError, ValueError):
        fine = False
    if not fine:
        raise ValueError(f"power is {_short(power)!r}; expected 1 for exp(-|y|) or 2 for exp(-|y|^2)")
    return power


def _payable(a, x):
    """ValueError where a series in x/(a + k) would take more than 10^7 terms, half a minute, to fall below 2^-160."""
    a, x = float(a), float(x)
    terms = max(x - a, 0) + 30 * math.sqrt(max(a, x))  # the k-th term falls as exp(-k^2/2a) from x = a on
    if x < a:
        terms = min(terms, 111 / math.log(a / x)) if x > 0 else 0
    if not terms < 1e7:
        raise ValueError(f"a = {a:g} and x = {x:g} take {terms:.1g} terms; expected so small an n or r that 1e7 suffice")


def exact_ball(name, value):
    """A ball as it is; a whole number, Fraction, float or Decimal as the ball of exactly that number; else a ValueError."""
    from flint import arb, fmpq, fmpz

    if isinstance(value, arb | fmpq | fmpz):
        return arb(value)
    try:  # as_integer_ratio is exact, where float() would round a number that has more digits
        value = value if hasattr(value, "as_integer_ratio") else index(value)
        return arb(fmpq(*map(int, value.as_integer_ratio())))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{name} is {_short(value)!r}; expected a finite exact number (int, Fraction, float) or a ball"
        ) from None


def _ball(name, value, least=0):
    # refused unless it is certainly finite, and > 0 (least = 0) or >= least
    value = exact_ball(name, value)
    if not value.is_finite() or not (value >= least and value > 0):
        raise ValueError(f"{name} is {value.str(15)}; expected a finite number {f'>= {least}' if least else '> 0'}")
    return value


def _bits():
    from flint import ctx

    return ctx.workprec(BITS)


def certified_stirling_radius(n):
    """``stirling_radius`` as a ball."""
    from flint import arb

    with _bits():
        return (_ball("n", n, 1) / (2 * arb.pi() * arb(1).exp())).sqrt()


def certified_log_volume(n, r):
    """``log_volume`` as a ball."""
    from flint import arb

    with _bits():
        n, r = _ball("n", n, 1), _ball("r", r)
        return n / 2 * arb.pi().log() + n * r.log() - (n / 2 + 1).lgamma()


def certified_series(a, x):
    """sum_k x^k/((a+1)...(a+k)) as a ball, a > 0, x > 0: all terms are positive, a geometric series bounds the tail. [L5]"""
    from flint import arb

    with _bits():
        a, x = _ball("a", a), _ball("x", x)
        _payable(a, x)
        term = total = arb(1)
        k = 0
        while True:
            k += 1
            term = term * x / (a + k)
            total += term
            ratio = x / (a + k + 1) if k % 16 == 0 else 1
            if k % 16 == 0 and ratio < 1 and (tail := term * ratio / (1 - ratio)) < total * 2.0**-BITS:
                return total + tail.union(0 * tail)


def _certified_upper_share(a, x):
    """Gamma(a, x)/Gamma(a) for x > a, by x^{a-1} e^{-x} (1 + (a-1)/x + (a-1)(a-2)/x^2 + ...), cut before a term is negative.

    After k terms Gamma(s, x) with s = a - k is left, and 0 < Gamma(s, x) <= x^{s-1} e^{-x}/(1 - max(s-1, 0)/x).
    """
    from flint import arb

    term, total, s = arb(1), arb(0), a
    while s > 1 and term > 2.0**-BITS * (1 - (s - 1) / x):
        total += term
        s -= 1
        term = term * s / x
    rest = term / (1 - (s - 1).nonnegative_part() / x)
    return ((a - 1) * x.log() - x - a.lgamma()).exp() * (total + rest.union(0 * rest))


def certified_log_mass(n, r, power=2):
    """``log_mass`` as a ball; up to 0.3 s at n = 1e8."""
    from flint import arb

    with _bits():
        n, r = _ball("n", n, 1), _ball("r", r)
        a, x = n / checked_power(power), r if power == 1 else r * r
        if not x > a + 200:  # 200: beyond it what the cut leaves over is below exp(-200)
            return certified_log_volume(n, r) - x + certified_series(a, x).log()
        _payable(x, a)
        total = n / 2 * arb.pi().log()
        if power == 1:
            total += arb(2).log() + n.lgamma() - (n / 2).lgamma()
        return total + (-_certified_upper_share(a, x)).log1p()


def certified_log_partition(n, r, d, power=2):
    """``log_partition`` as a ball."""
    with _bits():
        return _ball("d", d, 1).log() + certified_log_mass(n, r, power)


def certified_unit_volume_radius(n, d=1):
    """``unit_volume_radius`` as a ball."""
    from flint import arb

    with _bits():
        n, d = _ball("n", n, 1), _ball("d", d, 1)
        return (((n / 2 + 1).lgamma() - d.log()) / n).exp() / arb.pi().sqrt()


def certified_unit_mass_radius(n, d=1, power=2):
    """``unit_mass_radius`` as a ball, by the interval Newton method: an image inside holds the only root."""
    from flint import arb

    with _bits():
        n, d, power = _ball("n", n, 1), _ball("d", d, 1), checked_power(power)
        if not n < 1e13:
            raise ValueError(f"n is {n.str(15)}; expected n below 1e13, where {BITS} bits make the radius certain")
        around = certified_unit_volume_radius(n, d).log().mid()  # below the root, for mass < volume
        for width in (0,) * 12 + (1e-12, 1e-20):
            around = arb(around.mid(), width)
            r = around.exp()
            slope = n * (certified_log_volume(n, r) - r**power - certified_log_mass(n, r, power)).exp()
            image = around.mid() - certified_log_partition(n, around.mid().exp(), d, power) / slope
            if not width:
                around = image
                continue
            if not around.contains(image):
                raise ValueError(
                    f"n is {n.str(15)}, d {d.str(15)}: no radius is certain near {r.str(15)}; expected n below 1e13"
                )
            around = image
        return around.exp()


def _fraction(name, value):
    try:
        return Fraction(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {_short(value)!r}; expected a finite exact number (int, Fraction)") from None


def certified_line_mass(patterns, radii, layer=None):
    """int_Omega exp(-g) as a ball for n = 1, g the nearest squared distance, Omega the union of |x - rho_i| <= r_i. [E13]
    With ``layer``, the patterns that one layer owns, it is that layer's Z_t: Omega stays, and g is the distance to these.

    patterns, radii: equally many exact numbers (int, Fraction), radii > 0; balls may overlap and patterns coincide. The
    line is cut at ball ends and half way between neighbours; on each piece exp(-g) is one Gaussian.
    """
    from flint import arb

    if len(patterns) != len(radii) or not patterns:
        raise ValueError(f"{len(patterns)} patterns and {len(radii)} radii; expected equally many, at least 1")
    patterns, radii = ([_fraction(name, v) for v in values] for name, values in (("pattern", patterns), ("radius", radii)))
    owned = patterns if layer is None else [_fraction("layer", v) for v in layer]
    if not owned:
        raise ValueError("layer holds 0 patterns; expected at least 1")
    if min(radii) <= 0:
        raise ValueError(f"radius is {_short(min(radii))}; expected > 0")
    ordered = sorted(owned)
    cuts = {p + sign * r for p, r in zip(patterns, radii, strict=True) for sign in (-1, 1)}
    cuts = sorted(cuts | {(p + q) / 2 for p, q in pairwise(ordered)})
    with _bits():
        total = arb(0)
        for low, high in pairwise(cuts):
            middle = (low + high) / 2
            if any(abs(middle - p) < r for p, r in zip(patterns, radii, strict=True)):
                nearest = min(owned, key=lambda p, middle=middle: abs(middle - p))
                total += exact_ball("end", high - nearest).erf() - exact_ball("end", low - nearest).erf()
        return total * arb.pi().sqrt() / 2


def _layer(x, patterns):
    """(E, its gradient, the variance of the patterns under its weights) as balls over a box: x n balls or exact numbers,
    patterns d lists of n. The Hessian of E is 2 - 4 Cov, so E is strictly convex where the variance is < 1/2; on a line only
    there."""
    from flint import arb

    with _bits():
        x, *patterns = ([exact_ball("coordinate", a) for a in row] for row in (x, *patterns))
        inverse = [  # 1/w_i = sum_j exp(|x - rho_i|^2 - |x - rho_j|^2), whose exponents are linear in x
            sum(sum((b - a) * (2 * z - a - b) for z, a, b in zip(x, rho, other, strict=True)).exp() for other in patterns)
            for rho in patterns
        ]
        sq, rest = min(
            (
                (sum((z - a) * (z - a) for z, a in zip(x, rho, strict=True)), total)
                for rho, total in zip(patterns, inverse, strict=True)
            ),
            key=lambda pair: float(pair[0].mid()),
        )
        means = [sum(a / total for a, total in zip(axis, inverse, strict=True)) for axis in zip(*patterns, strict=True)]
        pairs = combinations(zip(patterns, inverse, strict=True), 2)
        variance = sum(
            (sum((a - b) * (a - b) for a, b in zip(one, two, strict=True)) / (t * u) for (one, t), (two, u) in pairs), arb(0)
        )
        return sq - rest.log(), [2 * (z - m) for z, m in zip(x, means, strict=True)], variance


def _exactly(x, patterns):
    from memlm.quantities import rational_point

    return rational_point(x, patterns)


def _cube(centre, half):
    return [exact_ball("end", a - half).union(exact_ball("end", a + half)) for a in centre]


def _half(half):
    half = _fraction("half", half)
    if half <= 0:
        raise ValueError(f"half is {_short(half)}; expected > 0")
    return half


def certified_slope(x, patterns):
    """Is the gradient of E at x, all exact numbers, certainly not 0? False where balls cannot tell it from 0. [S36]"""
    x, patterns = _exactly(x, patterns)
    return any(slope > 0 or slope < 0 for slope in _layer(x, patterns)[1])


def certified_convex(centre, half, patterns):
    """Is E certainly strictly convex on the cube |x_k - centre_k| <= half, all exact numbers? False where it cannot be told.
    [F1]"""
    (centre, patterns), half = _exactly(centre, patterns), _half(half)
    return bool(_layer(_cube(centre, half), patterns)[2] < 0.5)


def certified_stationary(patterns):
    """All stationary points of E for patterns on a line: [(low, high, is it a minimum)], one in each interval and no other.

    patterns: exact numbers. Left and right of all of them E' has one sign. An interval is dropped where E' has one sign on
    it, or E'' has and E' the same at both ends; kept where E'' has and E' changes its; else cut. ValueError where
    a millionth does not part the zeros of E' and E''.
    """
    patterns = [_fraction("pattern", p) for p in patterns]
    if not patterns or max(patterns) - min(patterns) > 1000:
        raise ValueError(f"{len(patterns)} patterns on the line; expected at least 1, and none over 1000 from another")
    todo, found = [(min(patterns) - 1, max(patterns) + 1)], []
    while todo:
        low, high = todo.pop()
        over, *ends = ([exact_ball("end", low).union(exact_ball("end", high))], [low], [high])
        _, (slope,), variance = _layer(over, [[p] for p in patterns])
        if slope > 0 or slope < 0:
            continue
        left, right = (_layer(end, [[p] for p in patterns])[1][0] for end in ends)
        if (variance < 0.5 or variance > 0.5) and all(end > 0 or end < 0 for end in (left, right)):
            found += [(low, high, variance < 0.5)] if (left > 0) != (right > 0) else []
            continue
        if high - low < Fraction(1, 2**20):
            raise ValueError(f"E' and E'' are both 0 or nearly so at {float(low):.3g}; expected them apart by more")
        cut = low + (high - low) * Fraction(5, 11)  # not half way, where symmetric patterns have a stationary point
        todo += [(cut, high), (low, cut)]
    return found


def certified_well(centre, half, patterns):
    """Is E on all faces of the cube |x_k - centre_k| <= half certainly above E at its centre? Then the cube holds a minimum.

    centre, patterns, half > 0: exact numbers. False where it is not, or not so clearly that faces of half/1000 show it.
    """
    (centre, patterns), half = _exactly(centre, patterns), _half(half)
    bottom, _, _ = _layer(centre, patterns)
    cube = [(a - half, a + half) for a in centre]
    faces = [[*cube[:k], (end, end), *cube[k + 1 :]] for k in range(len(cube)) for end in cube[k]]
    while faces:
        face = faces.pop()
        if _layer([exact_ball("end", a).union(exact_ball("end", b)) for a, b in face], patterns)[0] > bottom:
            continue
        k = max(range(len(face)), key=lambda k: face[k][1] - face[k][0])
        low, high = face[k]
        if high - low < half / 1000:
            return False
        middle = (low + high) / 2
        faces += [[*face[:k], (low, middle), *face[k + 1 :]], [*face[:k], (middle, high), *face[k + 1 :]]]
    return True
