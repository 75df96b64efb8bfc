"""Balls in R^n: their volume, the mass that exp(-|y|^power) puts into them, and the radii at which these are 1.

Everything is the logarithm of what the paper writes, in nats, because volumes leave the range of floats from n = 300 on.
n is real and at least 1, power is 1 for exp(-|y|) or 2 for exp(-|y|^2). With a = n/power and x = r^power,

    mass = total(n) P(a, x) = V_n(r) exp(-x) (1 + x/(a+1) + x^2/((a+1)(a+2)) + ...),

P the regularised lower incomplete gamma function. Each function takes arrays (broadcast together) and has a twin
``certified_...`` for one n and r (memlm/certified.py) that returns a python-flint ball holding the true value.

Accuracy, n up to 1e10 and any radius: a logarithm is off by at most 1e-13 of itself, or by 1e-15 (n + 10 + log d) where
it is near 0: that is what changing r in its last digits does, for d log V_n / d log r = n. Radii: 1e-14 (1 + |log r|) of
r. A number d of balls may be a whole number or Fraction of any length: only log d is used.
"""

import math
from numbers import Real

import numpy as np
from scipy.special import gammainc, gammaln, lambertw

from memlm.certified import (  # noqa: F401
    _short,
    certified_line_mass,
    certified_log_mass,
    certified_log_partition,
    certified_log_volume,
    certified_series,
    certified_stirling_radius,
    certified_unit_mass_radius,
    certified_unit_volume_radius,
    checked_power,
)

NODES, WEIGHTS = np.polynomial.laguerre.laggauss(16)


LARGEST = 1e300  # of n: beyond it the logarithms leave the range of floats


def _checked(name, value, least=1, most=LARGEST):
    try:
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError("a masked array")
        value = np.asarray(value, dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} is no number or array of numbers that floats hold: {error}; expected >= {least}") from None
    fine = (value >= least) & (value <= most) & (value > 0)
    if not fine.all():
        raise ValueError(f"{name} is {value[~fine].flat[0]}; expected finite numbers {f'>= {least}' if least else '> 0'}")
    return value


def _radius(r):
    return _checked("r", r, least=0, most=np.finfo(float).max)


def _log_count(d):
    """log d of numbers d >= 1, also of whole numbers and Fractions beyond 1e308, which become no floats. (...) -> (...)"""
    values = np.asarray(d)
    if values.dtype != object:
        return np.log(_checked("d", d, most=np.finfo(float).max))
    return np.asarray(np.frompyfunc(_log_of_one, 1, 1)(values), dtype=float)


def _log_of_one(d):
    if not isinstance(d, Real) or not 1 <= d < math.inf:
        raise ValueError(f"d is {_short(d)}; expected finite numbers >= 1")
    try:
        return math.log(d)
    except OverflowError:  # of a Fraction, which log turns into a float
        return math.log(d.numerator) - math.log(d.denominator)


def stirling_correction(a):
    """mu(a) = log Gamma(a+1) - (a + 1/2) log a + a - log(2 pi)/2, between 0 and 1/(12 a). a >= 1/2 (...) -> (...)."""
    a = _checked("a", a, least=0.5)
    s = (1 / a) ** 2
    far = (1 - s * (1 / 30 - s * (1 / 105 - s * (1 / 140 - s / 99)))) / (12 * a)
    near = gammaln(a + 1) - (a + 0.5) * np.log(a) + a - np.log(2 * np.pi) / 2
    return np.where(a < 16, near, far)


def stirling_radius(n):
    """r_0 = sqrt(n/(2 pi e)), the radius that the paper reads off Stirling's formula. [E14] n (...) -> (...)."""
    return np.sqrt(_checked("n", n) / (2 * np.pi * np.e))


def log_volume(n, r):
    """log V_n(r) = (n/2) log pi + n log r - log Gamma(n/2 + 1). [E14]

    Computed as n log(r/r_0) - log(pi n)/2 - mu(n/2), which cancels nothing. n >= 1, r > 0 (...) -> (...).
    r = 0 is refused: the volume is 0 and has no logarithm. Raises ValueError that names the value.
    """
    return _log_volume(_checked("n", n), _radius(r))


def _log_volume(n, r):
    r_0 = np.sqrt(n / (2 * np.pi * np.e))
    with np.errstate(all="ignore"):
        ratio = r / r_0
        held = (ratio > 1e-300) & (ratio < 1e300)  # the quotient has all its digits, which log r - log r_0 has not near 0
        log_ratio = np.where(held, np.log(ratio), np.log(r) - np.log(r_0))
    return n * log_ratio - np.log(np.pi * n) / 2 - stirling_correction(n / 2)


def _log_total(n, power):
    # log of the integral over all of R^n
    return n / 2 * np.log(np.pi) + (0 if power == 2 else np.log(2) + gammaln(n) - gammaln(n / 2))


def _log_series(a, x):
    """log of S = sum_k x^k/((a+1)...(a+k)) = a int_0^oo exp(-a u + x (1 - e^-u)) du where x < a - 4 sqrt(a).

    The exponent is -(a - x) u + x (1 - u - e^-u), and its second part is small where the first lets anything through, so
    that 16 nodes of Gauss and Laguerre leave 1e-15 (a million terms of the series itself would be needed at a = 1e8).
    """
    slope = (a - x)[..., None]
    u = NODES / slope
    return np.log(np.exp(x[..., None] * (-np.expm1(-u) - u)) @ WEIGHTS) + np.log(a / (a - x))


def log_mass(n, r, power=2):
    """log of the integral of exp(-|y|^power) over the ball of radius r in R^n. [E12]

    power 2: pi^{n/2} P(n/2, r^2). power 1: 2 pi^{n/2} gamma(n, r)/Gamma(n/2), which the paper prints for power 2.
    n >= 1, r > 0 (...) -> (...). Far below x = a the positive series replaces P, which underflows there and which scipy
    has wrong by up to 30 % at a = 1e8, its own series being cut at 2000 terms. Raises ValueError as log_volume.
    """
    n, r = _checked("n", n), _radius(r)
    with np.errstate(over="ignore", under="ignore"):  # r^2 = 0 and r^2 = inf both lead to the right limit
        a, x = n / checked_power(power), r**power
    share = gammainc(a, x)
    deep = (x < a - 4 * np.sqrt(a)) | (share < 1e-200)
    near = _log_total(n, power) + np.log(np.where(deep, 1, share))
    if not deep.any():
        return near
    low = np.where(deep, x, 0.0)
    far = _log_volume(n, r) - low + _log_series(a + 0 * low, low)
    return np.where(deep, far, near)[()]


def log_partition(n, r, d, power=2):
    """log Z = log d + log_mass(n, r, power) of d equal balls; exact where each ball is nearest to its own centre. [E13]

    That is the case for disjoint balls of one radius (S23). n >= 1, r > 0, d >= 1 (...) -> (...).
    """
    return _log_count(d) + log_mass(n, r, power)


def unit_volume_radius(n, d=1):
    """r_V with d V_n(r_V) = 1: r_0 exp((log(pi n)/2 + mu(n/2) - log d)/n). [RAD, S21] n, d >= 1 (...) -> (...).

    ValueError where it is below 2e-308, the least number that a float holds with all its digits.
    """
    n, log_d = _checked("n", n), _log_count(d)
    r = stirling_radius(n) * np.exp((np.log(np.pi * n) / 2 + stirling_correction(n / 2) - log_d) / n)
    if not (r >= np.finfo(float).tiny).all():
        raise ValueError(f"r_V is below 2e-308 at n = {np.min(n):g} with log d = {np.max(log_d):g}; expected a smaller d")
    return r


def unit_mass_radius(n, d=1, power=2):
    """r_1 with d times the mass of the ball = 1, so that log_partition(n, r_1, d, power) = 0. [S21]

    Newton's method in t = log r. The start solves the equation without the series S, by Lambert's W; log mass is concave
    in t, so after one step the iterates rise to the root, whatever the start. n, d >= 1 (...) -> (...). Raises ValueError as
    unit_volume_radius.
    """
    a = _checked("n", n) / checked_power(power)
    n, volume_radius = a * power, unit_volume_radius(n, d)
    w = lambertw(-np.minimum(volume_radius**power / a, 0.36)).real  # the equation w exp(w) = -r_V^power/a, w real above -1/e
    t, log_d = np.log(volume_radius) - w / power, _log_count(d)
    for _ in range(50):
        r = np.exp(t)
        value = log_mass(n, r, power)
        slope = n * np.exp(_log_volume(n, r) - r**power - value)
        step = (value + log_d) / slope
        t = t - step
        if np.all(np.abs(step) <= 1e-15 * (1 + np.abs(t))):
            break
    return np.exp(t)
