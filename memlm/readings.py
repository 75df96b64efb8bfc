"""What Proposition 4 can mean: four readings of its loss, on d disjoint balls of equal radius r round the patterns. [P4]

The test points are the patterns (the paper's target: equal Dirac masses), one layer holds them all, and
Z = int_Omega exp(-g) = d * int_{|y|<r} exp(-|y|^2) dy. Each reading is a function (n, r, d) -> L in nats per *pattern*,
that is, per whole sequence. They differ in the energy whose Gibbs law is the model:

    consistent   E = g                 L = log Z
    literal      E = exp(-g)/Z         L = log int_Omega exp(-E) + 1/Z       (eq. (6) and (9) as printed)
    repaired     E = -exp(-g)/Z        L = log int_Omega exp(-E) - 1/Z       (the sign that makes patterns low)
    hybrid       literal, but with int_Omega exp(-E) replaced by Z           L = log Z + 1/Z, what is printed
"""

import math
from itertools import pairwise

import numpy as np
from scipy.integrate import quad
from scipy.special import gammaln, logsumexp

from memlm import ball
from memlm.certified import exact_ball
from memlm.energy import _short, whole

MOST = "1e4"  # 1/Z in the literal and the repaired reading: the panels and the sum below are made for it


def consistent(n, r, d=1):
    """log Z, any real number. Unchanged, as a cross-entropy must be, when a constant is added to the energy."""
    return ball.log_partition(n, r, d)


def hybrid(n, r, d=1):
    """log Z + 1/Z, at least 1 and equal to 1 at Z = 1: the formula that Proposition 4 prints."""
    log_z = _log_z(n, r, d)
    return log_z + _inverse(log_z, "1.7e308", n, r, d)


def hybrid_repaired(n, r, d=1):
    """log Z - 1/Z, any real number: the printed formula with the sign of the energy repaired."""
    log_z = _log_z(n, r, d)
    return log_z - _inverse(log_z, "1.7e308", n, r, d)


def _log_z(n, r, d):
    log_z = ball.log_partition(n, r, d)
    if log_z.shape:
        raise ValueError(f"n, r and d have shape {log_z.shape} together; expected three numbers")
    return float(log_z)


def _inverse(log_z, most, n, r, d):
    """1/Z from log Z; ValueError if it is above ``most``."""
    if -log_z > math.log(float(most)):
        size = f"{math.exp(-log_z):.3g}" if log_z > -700 else f"exp({-log_z:.6g})"
        raise ValueError(f"1/Z is {size} at n = {n}, r = {_short(r)}, d = {_short(d)}; expected at most {most}")
    return math.exp(-log_z)


def literal(n, r, d=1):
    """log int_Omega exp(-exp(-g)/Z) + 1/Z; between log vol(Omega) and that plus (1 - exp(-r^2))/Z: worse than uniform.

    Right to 1e-12 (1 + n/1000 + |L| + 1/Z), as ``repaired`` is; ValueError where 1/Z is above 1e4. The integrand is taken
    relative to its value at the edge of a ball, where it is largest, and against v = -n log(|y|/r), of which exp(-v) is the
    law in the ball: it then falls from 1, as fast as exp(-1e4 v) or as slowly as exp(-v), so panels shrink towards 0.
    """
    log_z = _log_z(n, r, d)
    log_volume = float(ball._log_count(d) + ball.log_volume(n, r))
    inverse, n, r = _inverse(log_z, MOST, n, r, d), float(n), min(float(r), 1e100)  # a wider ball has the same integral

    def integrand(v):
        square = (r * math.exp(-v / n)) ** 2
        return math.exp(-v + inverse * math.exp(-square) * math.expm1(square * -math.expm1(2 * v / n)))

    edges = [0, *(50 * 2.0 ** np.arange(-25, 1))]  # beyond 50 less than exp(-50) is left
    mean = math.fsum(quad(integrand, a, b, epsabs=1e-16, epsrel=1e-12, limit=200)[0] for a, b in pairwise(edges))
    return log_volume - inverse * math.expm1(-r * r) + math.log(mean)


def repaired(n, r, d=1):
    """log int_Omega exp(exp(-g)/Z) - 1/Z, at most log vol(Omega).

    Accuracy and range as ``literal``. By the power series of the outer exponential it is the logarithm of a mean over
    Poisson's law with mean 1/Z, of int_Omega exp(-k g): positive terms, falling in k, and no sharp peak to be missed.
    """
    log_z = _log_z(n, r, d)
    log_volume = ball.log_volume(n, r)
    inverse, n, r = _inverse(log_z, MOST, n, r, d), float(n), min(float(r), 1e100)  # see ``literal``
    k = np.arange(1, math.ceil(inverse + 40 * math.sqrt(inverse) + 60))  # beyond it Poisson's law leaves less than 1e-30
    law = -k * log_z - gammaln(k + 1) - inverse
    masses = ball.log_mass(n, r * np.sqrt(k)) - n / 2 * np.log(k)
    terms = np.append(law + masses, log_volume - inverse)
    return float(ball._log_count(d) + logsumexp(terms))


def certified(reading, n, r, d=1, precision=128):
    """The value of a reading as a python-flint ball, by rigorous integration. n and d whole numbers, r exact, such as a
    Fraction.

    reading: one of the five functions of this module. ValueError where ``precision`` bits leave no digit certain; it names
    the bits to try, of which the repaired reading takes some (n/2) log2(1/Z).
    """
    from flint import acb, arb, ctx

    n, signs = whole("n", n), {literal: 1, repaired: -1}
    if reading not in (consistent, hybrid, hybrid_repaired, *signs):
        raise ValueError(f"reading is {reading!r}; expected one of the five of memlm.readings")
    if not isinstance(d, int) or d < 1:
        raise ValueError(f"d is {_short(d)}; expected a whole number >= 1")
    precision = whole("precision", precision, 2)
    before, ctx.prec = ctx.prec, precision
    try:
        radius = exact_ball("r", r)
        if not radius > 0:
            raise ValueError(f"r is {_short(r)}; expected a number > 0")
        surface = d * n * arb.pi() ** (arb(n) / 2) / (arb(n) / 2 + 1).gamma()

        unit = min(radius, arb(1))  # of length: the integral is then no power of a small radius

        def over_balls(f):  # int over all balls of f(|y|^2)
            integral = acb.integral(lambda y, _: y ** (n - 1) * f((unit * y) ** 2), 0, radius / unit)
            return surface * unit**n * integral.real

        z = over_balls(lambda s: (-s).exp())
        values = {consistent: z.log(), hybrid: z.log() + 1 / z, hybrid_repaired: z.log() - 1 / z}
        if reading in signs:  # the constant exp(sign/Z) is taken in, and nothing cancels
            values[reading] = over_balls(lambda s: (-signs[reading] * (-s).expm1() / z).exp()).log()
        if not values[reading].is_finite():
            # integration is right to 2^-precision, and the repaired integral may be as small as Z^{n/2}
            small = n / 2 * max(0.0, -float(ball.log_partition(n, r, d))) / math.log(2)
            bits = max(2 * precision, 128 + math.ceil(small))
            raise ValueError(
                f"no value is certain at n = {n}, r = {_short(r)} with {precision} bits; expected a greater precision, "
                f"{bits} bits or so"
            )
        return values[reading]
    finally:
        ctx.prec = before
