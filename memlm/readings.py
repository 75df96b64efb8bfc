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

import numpy as np

from memlm import ball

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(400)
_NODES, _WEIGHTS = (_NODES + 1) / 2, _WEIGHTS / 2


def consistent(n, r, d=1):
    """log Z, any real number. Unchanged, as a cross-entropy must be, when a constant is added to the energy."""
    return ball.log_partition(n, r, d)


def hybrid(n, r, d=1):
    """log Z + 1/Z, at least 1 and equal to 1 at Z = 1: the formula that Proposition 4 prints."""
    log_z = ball.log_partition(n, r, d)
    return log_z + math.exp(-log_z)


def hybrid_repaired(n, r, d=1):
    """log Z - 1/Z, any real number: the printed formula with the sign of the energy repaired."""
    log_z = ball.log_partition(n, r, d)
    return log_z - math.exp(-log_z)


def _log_gibbs(n, r, d, sign):
    """log int_Omega exp(-sign * exp(-g)/Z) and 1/Z. With u = (|y|/r)^n uniform on [0, 1] the integral over a ball is its
    volume times a mean over u, by 400 Gauss-Legendre nodes."""
    inverse = math.exp(-ball.log_partition(n, r, d))
    if inverse > 1e4:
        raise ValueError(f"1/Z is {inverse:.3g} at n = {n}, r = {r}, d = {d}; expected at most 1e4 for the quadrature")
    exponent = -sign * inverse * np.exp(-((r * _NODES ** (1 / n)) ** 2))
    peak = exponent.max()
    mean = math.log(_WEIGHTS @ np.exp(exponent - peak)) + peak
    return math.log(d) + ball.log_volume(n, r) + mean, inverse


def literal(n, r, d=1):
    """log int_Omega exp(-exp(-g)/Z) + 1/Z; between log vol(Omega) and that plus (1 - exp(-r^2))/Z: worse than uniform."""
    log_w, inverse = _log_gibbs(n, r, d, 1)
    return log_w + inverse


def repaired(n, r, d=1):
    """log int_Omega exp(exp(-g)/Z) - 1/Z, at most log vol(Omega)."""
    log_w, inverse = _log_gibbs(n, r, d, -1)
    return log_w - inverse


def certified(reading, n, r, d=1, precision=128):
    """The value of a reading as a python-flint ball, by rigorous integration. n a whole number, r a Fraction, d an int.

    reading: one of the five functions of this module.
    """
    from flint import acb, arb, ctx, fmpq

    if n != int(n) or n < 1:
        raise ValueError(f"n is {n}; expected a whole number >= 1")
    before, ctx.prec = ctx.prec, precision
    try:
        radius = arb(fmpq(r.numerator, r.denominator))
        surface = d * n * arb.pi() ** (arb(n) / 2) / (arb(n) / 2 + 1).gamma()

        def over_balls(f):  # int over all balls of f(|y|^2)
            return surface * acb.integral(lambda y, _: y ** (n - 1) * f(y * y), 0, radius).real

        z = over_balls(lambda s: (-s).exp())
        if reading is consistent:
            return z.log()
        if reading is hybrid:
            return z.log() + 1 / z
        if reading is hybrid_repaired:
            return z.log() - 1 / z
        sign = {literal: 1, repaired: -1}[reading]
        return over_balls(lambda s: (-sign * (-s).exp() / z).exp()).log() + sign / z
    finally:
        ctx.prec = before
