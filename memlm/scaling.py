"""Exponents of power laws y ~ x^p, with what is known about their uncertainty, and the numbers that papers print."""

import csv
from itertools import product
from numbers import Real
from typing import NamedTuple

import numpy as np

from memlm.paths import ROOT


def reference(name):
    """Numbers printed in a paper: data/reference/<name>.csv as {column: array of float64}; its head names the source."""
    path = ROOT / "data" / "reference" / f"{name}.csv"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.csv")))
        raise ValueError(f"reference is {name!r}; expected one of {known}")
    lines = [line for line in path.read_text(encoding="utf8").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    return {column: np.array([float(row[column] or "nan") for row in rows]) for column in rows[0]}


class Exponent(NamedTuple):
    """A fitted exponent and an interval for it."""

    value: float
    low: float
    high: float


def _floats(name, values):
    try:
        if isinstance(values, np.ma.MaskedArray):
            raise TypeError("it is a masked array")
        values = np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} holds no numbers ({error}); expected positive numbers") from None
    if not (np.isfinite(values) & (values > 0)).all():
        raise ValueError(f"{name} is {values}; expected positive numbers, all finite")
    return values


def _logs(x, y):
    x, y = _floats("x", x), _floats("y", y)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2:
        raise ValueError(f"x and y have shapes {x.shape} and {y.shape}; expected two lists of equal length >= 2")
    u, v = np.log(x), np.log(y)
    if len(set(u)) < 2:
        raise ValueError(f"x is {x}; expected at least two different x")
    return u, v


def fit_exponent(x, y, level=0.95):
    """Least squares of log y on log x: the slope with Student's t interval, which is infinite for two points. x, y (m,)."""
    from scipy.stats import t

    if not isinstance(level, Real) or not 0 < level < 1:
        raise ValueError(f"level is {level}; expected a share between 0 and 1, such as 0.95")
    u, v = _logs(x, y)
    centred = u - u.mean()
    slope = centred @ v / (centred @ centred)
    residual = v - v.mean() - slope * centred
    freedom = len(u) - 2
    if freedom == 0:
        return Exponent(float(slope), -np.inf, np.inf)
    half = t.ppf((1 + float(level)) / 2, freedom) * np.sqrt(residual @ residual / freedom / (centred @ centred))
    return Exponent(float(slope), float(slope - half), float(slope + half))


def exponent_range(x_low, x_high, y):
    """The slopes that ``fit_exponent`` can take when each x lies anywhere in [x_low, x_high]: (central, least, greatest).

    As a function of one log x with the others fixed, the slope is a ratio of a line to a parabola, so its extremes may lie
    inside; each interval is searched on 41 points, ends included. x_low, x_high, y (m,), 2 <= m <= 4. ValueError where
    the intervals have a point in common: with all x equal there, the slope has no bound.
    """
    y, x_low, x_high = _floats("y", y), _floats("x_low", x_low), _floats("x_high", x_high)
    if y.size > 4:
        raise ValueError(f"y has {y.size} entries; expected at most 4")
    if x_low.shape != x_high.shape or x_low.ndim != 1 or not (x_low <= x_high).all():
        raise ValueError(f"x_low is {x_low} and x_high is {x_high}; expected two lists of equal length, the second above")
    central = fit_exponent(np.sqrt(x_low) * np.sqrt(x_high), y).value
    if not x_low.max() > x_high.min():
        raise ValueError(f"x_low is {x_low} and x_high is {x_high}; expected intervals without a point common to all")
    grid = np.array(list(product(*(np.geomspace(a, b, 41) for a, b in zip(x_low, x_high, strict=True)))))
    u, v = np.log(grid), np.log(y)
    centred = u - u.mean(1, keepdims=True)
    slopes = centred @ v / (centred**2).sum(1)
    return Exponent(central, float(slopes.min()), float(slopes.max()))
