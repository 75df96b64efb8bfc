"""Readings of Proposition 4 against rigorous integrals and planted variants.   ./run_tests.sh tests/test_readings.py"""

import math
from fractions import Fraction

import numpy as np
import pytest

from memlm import ball, collapse, readings

HALF = Fraction(1, 2)
ALL = (readings.consistent, readings.literal, readings.repaired, readings.hybrid, readings.hybrid_repaired)


@pytest.mark.parametrize("reading", ALL)
@pytest.mark.parametrize(
    ("n", "r", "d"), [(1, HALF, 1), (2, Fraction(1), 3), (3, Fraction(3, 4), 20), (8, Fraction(5, 4), 50)]
)
def test_P4_readings_agree_with_ball_arithmetic(reading, n, r, d):
    certified = readings.certified(reading, n, r, d)
    assert float(certified.rad()) < 1e-25
    # 400 nodes of Gauss-Legendre reach 1e-9 on these integrands, whose only fault is the root u^(1/n) at 0
    assert reading(n, float(r), d) == pytest.approx(float(certified.mid()), abs=1e-8, rel=1e-9)


def test_P4_the_literal_reading_falls_below_one():
    values = {reading.__name__: float(readings.certified(reading, 1, HALF).mid()) for reading in ALL}
    assert values["literal"] == pytest.approx(0.0866183424, abs=1e-10)
    assert values["consistent"] == pytest.approx(math.log(math.sqrt(math.pi) * math.erf(0.5)), abs=1e-14)
    assert bool(readings.certified(readings.literal, 1, HALF) < 1)
    assert values["hybrid"] > 1


def test_P4_E11_only_the_cross_entropies_shift_with_log_d():
    """With d times as many patterns every reading of a fixed energy shifts; the hybrid does not follow log d."""
    assert readings.consistent(2, 1.0, 7) - readings.consistent(2, 1.0) == pytest.approx(math.log(7), abs=1e-12)
    assert abs(readings.hybrid(2, 1.0, 7) - readings.hybrid(2, 1.0) - math.log(7)) > 0.1


def test_E11_E15_planted_near_misses_are_refused():
    log_integral, mean, shift = 0.7, 0.3, 2.5  # adding a constant to E lowers the log-normaliser and raises the mean by it

    def invariant(loss):
        return abs(loss(log_integral - shift, mean + shift) - loss(log_integral, mean)) < 1e-12

    assert invariant(lambda log_z, m: log_z + m)
    planted = {
        "log Z + 1/Z": lambda log_z, m: log_z + math.exp(-log_z),
        "sign": lambda log_z, m: log_z - m,
        "mean lost": lambda log_z, m: log_z,
        "half": lambda log_z, m: log_z + m / 2,
    }
    assert sum(not invariant(loss) for loss in planted.values()) == len(planted) == 4
    z = readings.certified(readings.consistent, 1, HALF).exp()
    w = (readings.certified(readings.literal, 1, HALF) - 1 / z).exp()
    near = {"Z": z, "Z/e": z / math.e, "exp(-1/Z)": (-1 / z).exp(), "exp(-1)": (0 * z - 1).exp(), "Z^2/2": z * z / 2}
    assert sum(bool(w != value) for value in near.values()) == len(near) == 5


def test_S62_the_literal_model_is_worse_than_uniform_and_near_misses_are_refuted():
    cases = [(n, r, d) for n in (1, 2, 4) for r in (0.5, 1.0, 2.0) for d in (1, 10)]

    def violated(bound):
        return [c for c in cases if bound(*c) > 1e-9]

    uniform = {c: math.log(c[2]) + ball.log_volume(c[0], c[1]) for c in cases}
    inverse = {c: math.exp(-ball.log_partition(*c)) for c in cases}
    literal = {c: readings.literal(*c) for c in cases}
    assert not violated(lambda *c: uniform[c] - literal[c])
    assert not violated(lambda *c: literal[c] - uniform[c] - (1 - math.exp(-(c[1] ** 2))) * inverse[c])
    planted = {
        "better than uniform": lambda *c: literal[c] - uniform[c],
        "room without 1/Z": lambda *c: literal[c] - uniform[c] - (1 - math.exp(-(c[1] ** 2))) * min(inverse[c], 0.01),
        "log d lost": lambda *c: literal[c] - ball.log_volume(c[0], c[1]) - (1 - math.exp(-(c[1] ** 2))) * inverse[c],
        "L >= 1": lambda *c: 1 - literal[c],
    }
    refused = sum(bool(violated(bound)) for bound in planted.values())
    assert refused == len(planted) == 4


def test_quadrature_and_dimension_are_refused_where_they_do_not_hold():
    with pytest.raises(ValueError, match=r"1/Z is .* at n = 8, r = 0.1, d = 1; expected at most 1e4"):
        readings.literal(8, 0.1)
    with pytest.raises(ValueError, match=r"n is 1\.5; expected a whole number >= 1"):
        readings.certified(readings.literal, 1.5, HALF)


def test_S60_memorisers_floor():
    assert collapse.memoriser_floor(1, 5) == 0
    assert collapse.memoriser_floor(100_000, 23.38) == pytest.approx(0.4925, abs=1e-4)
    laws = np.random.default_rng(0).dirichlet(np.full(12, 0.3), size=20_000)

    def loss(q):
        return -np.log(q[:, :6]).mean(1)

    floor = collapse.memoriser_floor(6, 1)
    assert (loss(laws) >= floor).all()
    planted = {"log(d) + 0.1": floor + 0.1 * 60, "log of all sequences": floor + 6 * math.log(2), "2 log d": 4 * floor}
    refused = sum(bool((loss(laws) < value).any()) for value in planted.values())
    assert refused == len(planted) == 3


@pytest.mark.parametrize(("d", "t", "message"), [(0, 1, "d is 0"), (1.5, 1, "d is 1.5"), (3, 0, "tokens_per_sequence is 0")])
def test_bad_input_is_named(d, t, message):
    with pytest.raises(ValueError, match=message):
        collapse.memoriser_floor(d, t)


def test_A2_points_of_a_ball_pay_more_than_its_centre():
    """Mean of |y|^2 over a ball by sampling, against n r^2/(n + 2) and three near-misses."""
    rng = np.random.default_rng(0)
    n, r = 3, 2.0
    directions = rng.normal(size=(200_000, n))
    points = r * directions / np.linalg.norm(directions, axis=1, keepdims=True) * rng.random((200_000, 1)) ** (1 / n)
    squares = (points**2).sum(1)
    error = 5 * squares.std() / math.sqrt(len(squares))  # five standard errors
    assert abs(squares.mean() - n * r**2 / (n + 2)) < error
    planted = {"0": 0.0, "r^2": r**2, "n/(n+1)": n * r**2 / (n + 1), "r^2/(n+2)": r**2 / (n + 2)}
    refused = sum(abs(squares.mean() - value) > error for value in planted.values())
    assert refused == len(planted) == 4
