"""Exponents of power laws y ~ x^p, with what is known about their uncertainty, and the numbers that papers print."""

import csv
from itertools import product
from typing import NamedTuple

import numpy as np

from memlm.paths import ROOT


def reference(name):
    """Numbers printed in a paper: data/reference/<name>.csv as {column: array of float64}; its head names the source."""
    path = ROOT / "data" / "reference" / f"{name}.csv"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.csv")))
        raise ValueError(f"reference is {name!r}; expected one of {known}")
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    return {column: np.array([float(row[column] or "nan") for row in rows]) for column in rows[0]}


class Exponent(NamedTuple):
    """A fitted exponent and an interval for it."""

    value: float
    low: float
    high: float


def _logs(x, y):
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2:
        raise ValueError(f"x and y have shapes {x.shape} and {y.shape}; expected two lists of equal length >= 2")
    if not ((x > 0).all() and (y > 0).all()) or len(set(x)) < 2:
        raise ValueError(f"x is {x} and y is {y}; expected positive numbers and at least two different x")
    return np.log(x), np.log(y)


def fit_exponent(x, y, level=0.95):
    """Least squares of log y on log x: the slope with Student's t interval, which is infinite for two points. x, y (m,)."""
    from scipy.stats import t

    u, v = _logs(x, y)
    centred = u - u.mean()
    slope = centred @ v / (centred @ centred)
    residual = v - v.mean() - slope * centred
    freedom = len(u) - 2
    if freedom == 0:
        return Exponent(float(slope), -np.inf, np.inf)
    half = t.ppf((1 + level) / 2, freedom) * np.sqrt(residual @ residual / freedom / (centred @ centred))
    return Exponent(float(slope), float(slope - half), float(slope + half))


def exponent_range(x_low, x_high, y):
    """The slopes that ``fit_exponent`` can take when each x lies anywhere in [x_low, x_high]: (central, least, greatest).

    As a function of one log x with the others fixed, the slope is a ratio of a line to a parabola, so its extremes may lie
    inside; each interval is searched on 41 points, ends included. x_low, x_high, y (m,), m <= 4.
    """
    if len(y) > 4:
        raise ValueError(f"y has {len(y)} entries; expected at most 4")
    grid = np.array(list(product(*(np.geomspace(a, b, 41) for a, b in zip(x_low, x_high, strict=True)))))
    u, v = np.log(grid), np.log(np.asarray(y, float))
    centred = u - u.mean(1, keepdims=True)
    slopes = centred @ v / (centred**2).sum(1)
    central = fit_exponent(np.sqrt(np.multiply(x_low, x_high)), y).value
    return Exponent(central, float(slopes.min()), float(slopes.max()))
