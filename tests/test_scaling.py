"""Exponents and printed numbers.   ./run_tests.sh tests/test_scaling.py"""

import math
from itertools import product

import numpy as np
import pytest
import sympy as sp

from memlm import ball, scaling


def test_an_exact_power_law_is_found():
    x = np.array([1.0, 3.0, 7.0, 20.0])
    for p in (-1.5, 0.5, 2.0):
        fit = scaling.fit_exponent(x, 5 * x**p)
        assert fit.value == pytest.approx(p, abs=1e-12)
        assert fit.high - fit.low < 1e-6


def test_the_interval_agrees_with_scipy():
    from scipy.stats import linregress, t

    rng = np.random.default_rng(0)
    x = np.geomspace(1, 100, 9)
    y = x**1.7 * np.exp(rng.normal(0, 0.2, 9))
    expected = linregress(np.log(x), np.log(y))
    fit = scaling.fit_exponent(x, y)
    assert fit.value == pytest.approx(expected.slope, rel=1e-12)
    assert fit.high - fit.value == pytest.approx(t.ppf(0.975, 7) * expected.stderr, rel=1e-9)
    assert scaling.fit_exponent(x[:2], y[:2]).high == math.inf


def test_T3_S72_intervals_of_the_exponent():
    table = scaling.reference("table3")
    star = table["starred"] == 1
    N, D = table["n_million"][star], table["d_million"][star]
    previous = table["d_million"][np.flatnonzero(star) - 1]
    assert np.abs(N * 1e6 / (D * 1e6) ** 2 * 1e10 - table["ratio_e10"][star]).max() < 0.0051
    fit, grid = scaling.fit_exponent(D, N), scaling.exponent_range(previous, D, N)
    assert (fit.value, fit.low, fit.high) == pytest.approx((1.900, 0.68, 3.12), abs=0.01)
    assert (grid.low, grid.high) == pytest.approx((1.416, 2.429), abs=0.001)
    ends = [scaling.fit_exponent(list(x), N[[0, 2]]).value for x in product((previous[0], D[0]), (previous[2], D[2]))]
    assert (min(ends), max(ends)) == pytest.approx((1.436, 2.422), abs=0.001)  # first and last model alone say less
    rng = np.random.default_rng(0)  # nothing inside the box lies outside the range that the grid of points found
    slopes = [scaling.fit_exponent(rng.uniform(previous, D), N).value for _ in range(300)]
    assert grid.low <= min(slopes) and max(slopes) <= grid.high
    planted = {
        "starred column one later": (N, table["d_million"][np.flatnonzero(star) + 1]),
        "N for N^2": (N**2, D),
        "swapped": (D, N),
    }
    refused = sum(abs(scaling.fit_exponent(x, y).value - fit.value) > 0.05 for y, x in planted.values())
    assert refused == len(planted) == 3


def test_P5_S70_the_exponent_by_numbers_and_planted_near_misses():
    """Widths 100 and 10,000 under T ~ w^a, l ~ w^b: the exponent from the numbers against the formula."""

    def numerical(a, b):
        sizes = []
        for w in (1e2, 1e4):
            T, layers = w**a, w**b
            d = math.sqrt(math.pi * T * w)
            sizes.append((math.log(layers * w * w), math.log(T * d)))
        (n0, d0), (n1, d1) = sizes
        return (n1 - n0) / (d1 - d0)

    cases = [(a, b) for a in (0.0, 1 / 3, 0.5, 1.0) for b in (0.0, 0.5, 1.0)]
    formula = {"true": lambda a, b: 2 * (b + 2) / (3 * a + 1)}
    planted = {
        "3 lost": lambda a, b: 2 * (b + 2) / (a + 1),
        "factor 2 lost": lambda a, b: (b + 2) / (3 * a + 1),
        "depth lost": lambda a, b: 4 / (3 * a + 1),
        "always 2": lambda a, b: 2,
    }
    assert all(formula["true"](a, b) == pytest.approx(numerical(a, b), rel=1e-12) for a, b in cases)
    refused = sum(any(abs(f(a, b) - numerical(a, b)) > 1e-6 for a, b in cases) for f in planted.values())
    assert refused == len(planted) == 4


def test_S71_asymptotics_of_d_star_and_planted_near_misses():
    n = 1024.0 * 954

    def error(form):
        return abs(-ball.log_mass(n, ball.stirling_radius(n)) - form)

    lead, root, last = n / (2 * math.pi * math.e), math.log(math.pi * n) / 2, math.log(1 - 1 / (math.pi * math.e))
    assert error(lead + root + last) < 1e-6
    planted = {
        "no last term": lead + root,
        "no root": lead + last,
        "sign of last": lead + root - last,
        "2 pi n": lead + root + last + math.log(2) / 2,
    }
    refused = sum(error(form) > 1e-6 for form in planted.values())
    assert refused == len(planted) == 4


def test_the_derived_constant_has_the_width_in_it():
    A, depth, w, T = sp.symbols("A l w T", positive=True)
    n = T * w
    d = sp.sqrt(sp.pi * n)
    assert sp.simplify(A * depth * w**2 / (T * d) ** 2 - A * depth * w / (sp.pi * T**3)) == 0


BAD = [
    (lambda: scaling.reference("table9"), "reference is 'table9'; expected one of .*table3"),
    (lambda: scaling.fit_exponent([1.0], [1.0]), "expected two lists of equal length"),
    (lambda: scaling.fit_exponent([1.0, 2.0], [1.0, -2.0]), "expected positive numbers"),
    (lambda: scaling.fit_exponent([2.0, 2.0], [1.0, 2.0]), "at least two different x"),
    (lambda: scaling.exponent_range([1.0] * 5, [2.0] * 5, [1.0] * 5), "y has 5 entries; expected at most 4"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


NARROW = [
    (lambda: scaling.fit_exponent([1.0, 2.0, math.inf], [1.0, 2.0, 3.0]), "expected positive numbers, all finite"),
    (lambda: scaling.fit_exponent([1.0, 2.0], [1.0, math.nan]), "expected positive numbers, all finite"),
    (lambda: scaling.fit_exponent([1e300, 1e300 * (1 + 1e-16)], [1.0, 2.0]), "at least two different x"),
    (lambda: scaling.fit_exponent([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], level=95), "level is 95; expected a share"),
    (lambda: scaling.fit_exponent([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], level=math.nan), "level is nan; expected a share"),
    (lambda: scaling.fit_exponent([10**400, 1], [1.0, 2.0]), "x holds no numbers"),
    (lambda: scaling.exponent_range([1.0, 1.5], [2.0, 3.0], [1.0, 2.0]), "expected intervals without a point common to all"),
    (lambda: scaling.exponent_range([2.0, 5.0], [1.0, 6.0], [1.0, 2.0]), "expected two lists of equal length"),
    (lambda: scaling.exponent_range([1.0], [2.0, 3.0], [1.0, 2.0]), "expected two lists of equal length"),
    (lambda: scaling.exponent_range([1.0, math.nan], [2.0, 4.0], [1.0, 2.0]), "expected positive numbers, all finite"),
]


@pytest.mark.parametrize(("call", "message"), NARROW)
def test_what_would_give_a_silent_nan_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_masked_numbers_are_refused():
    masked = np.ma.masked_array([1, 2, 1e9], [0, 0, 1])
    for x, y in ((masked, [1, 2, 4]), ([1, 2, 4], masked)):
        with pytest.raises(ValueError, match=r"it is a masked array.*expected positive numbers"):
            scaling.fit_exponent(x, y)
