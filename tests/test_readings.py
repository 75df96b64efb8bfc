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


@pytest.mark.parametrize(
    ("d", "t", "message"),
    [
        (0, 1, "d is 0"),
        (1.5, 1, "d is 1.5"),
        ("3", 1, "d is '3'"),
        (3, 0, "tokens_per_sequence is 0"),
        (3, 10**400, "tokens"),
    ],
)
def test_bad_input_is_named(d, t, message):
    with pytest.raises(ValueError, match=message):
        collapse.memoriser_floor(d, t)


def test_A2_S63_points_of_a_ball_pay_more_than_its_centre():
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


def test_S67_S68_the_ends_and_their_near_misses():
    """Stacks on the line, by sums over midpoints of the balls: L between its ends, and nothing nearer for all of them."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(60):
        layers, each = int(rng.integers(2, 5)), int(rng.integers(1, 4))
        gaps = 10 ** rng.uniform(-2, 0.5) * rng.uniform(0.5, 1.5, layers * each)
        patterns = rng.permutation(np.cumsum(gaps))
        r = np.diff(np.sort(patterns)).min() / 2
        steps = (np.arange(2000) + 0.5) / 1000 - 1
        x, weight = np.concatenate([patterns, (patterns[:, None] + r * steps).ravel()]), r / 1000
        squares = (x[:, None] - patterns) ** 2
        nearest = squares.reshape(len(x), layers, each).min(-1)
        energies = {"stack": -np.log(np.exp(-nearest).sum(1)), "g": nearest.min(1), "E": -np.log(np.exp(-squares).sum(1))}
        d = layers * each
        loss = {k: np.log(weight * np.exp(-e[d:]).sum()) + e[:d].mean() for k, e in energies.items()}
        total = np.log(weight * np.exp(-nearest[d:]).sum())
        found.append((loss["stack"] - total, math.log(layers), abs(loss["E"] - loss["g"]), math.log(d)))
    stack, log_l, difference, log_d = np.array(found).T
    assert (stack <= 1e-9).all() and (stack >= -log_l - 1e-9).all() and (difference <= log_d + 1e-9).all()
    planted = {
        "L is the upper end": stack >= -1e-3,
        "L is the lower end": stack <= 1e-3 - log_l,
        "half of log l": stack >= -log_l / 2,
        "L_E is L_g": difference <= 1e-3,
        "a hundredth of log d": difference <= log_d / 100,
    }
    assert [name for name, true in planted.items() if true.all()] == []


# n, r, and log d so that 1/Z lies anywhere up to 1e4: what 400 nodes in |y|^n missed are the narrow peaks of large n
HARD = [
    (n, r, max(1, int(math.exp(min(700.0, -t - float(ball.log_mass(n, float(r))))))))
    for n in (1, 8, 100)
    for r in (Fraction(1, 4), Fraction(1), Fraction(2), Fraction(5), Fraction(100))
    for t in (9.0, 4.0, -3.0)
    if -t - float(ball.log_mass(n, float(r))) < 700
]


def furthest(reading, exact):
    """Largest error of ``reading`` over the hard cases, in units of what it states."""
    worst = 0.0
    for case, value in exact.items():
        n, _, d = case
        try:
            found = reading(n, float(case[1]), d)
        except ValueError:
            continue
        inverse = math.exp(-float(ball.log_partition(n, float(case[1]), d)))
        worst = max(worst, abs(found - value) / (1e-12 * (1 + n / 1000 + abs(value) + inverse)))
    return worst


def by_400_nodes(sign):
    nodes, weights = np.polynomial.legendre.leggauss(400)
    nodes, weights = (nodes + 1) / 2, weights / 2

    def reading(n, r, d):
        inverse = math.exp(-ball.log_partition(n, r, d))
        exponent = -sign * inverse * np.exp(-((r * nodes ** (1 / n)) ** 2))
        mean = math.log(weights @ np.exp(exponent - exponent.max())) + exponent.max()
        return math.log(d) + ball.log_volume(n, r) + mean + sign * inverse

    return reading


def test_P4_literal_and_repaired_are_right_wherever_they_answer_and_planted_ways_are_not():
    def exactly(reading):
        found = {}
        for n, r, d in HARD:
            if math.exp(-float(ball.log_partition(n, float(r), d))) < 9_999:
                value = readings.certified(reading, n, r, d, precision=1024)
                assert value.rad() < 1e-20
                found[n, r, d] = float(value)
        return found

    exact = {reading: exactly(reading) for reading in (readings.literal, readings.repaired)}
    assert all(len(values) > 25 for values in exact.values())
    for reading, values in exact.items():
        assert furthest(reading, values) < 1
    planted = [
        (by_400_nodes(1), exact[readings.literal]),
        (by_400_nodes(-1), exact[readings.repaired]),
        (readings.repaired, exact[readings.literal]),
        (readings.consistent, exact[readings.repaired]),
        (lambda n, r, d: readings.repaired(n, r, d) + 1e-9 * (1 + n), exact[readings.repaired]),
    ]
    refused = sum(furthest(wrong, values) > 1 for wrong, values in planted)
    assert refused == len(planted) == 5


def test_readings_at_their_ends_are_right_or_refused():
    assert readings.literal(1, 1.0, 10**400) == pytest.approx(readings.repaired(1, 1.0, 10**400), rel=1e-15)  # 1/Z is 0
    wide = math.log(2e300) + math.exp(-0.5 * math.log(math.pi))  # exp(-E) is 1 nearly everywhere
    assert readings.literal(1, 1e300) == pytest.approx(wide, rel=1e-15)
    bad = [
        (lambda: readings.hybrid(1e6, 200.0), r"1/Z is exp\(230507\) at n = 1000000.0, r = 200.0, d = 1; expected at most"),
        (lambda: readings.hybrid_repaired(1e6, 200.0), r"1/Z is exp\(230507\)"),
        (lambda: readings.repaired(1e6, 200.0), r"1/Z is exp\(230507\) .* expected at most 1e4"),
        (lambda: readings.literal(3, 1.0, 0), "d is 0.0; expected"),
        (lambda: readings.literal([1, 2], 1.0), r"have shape \(2,\) together; expected three numbers"),
        (lambda: readings.certified(readings.literal, 1, 0), "r is 0; expected a number > 0"),
        (lambda: readings.certified(readings.literal, 1, HALF, 1.5), "d is 1.5; expected a whole number >= 1"),
        (lambda: readings.certified(len, 1, HALF), "expected one of the five"),
        (lambda: readings.certified(readings.repaired, 100, HALF), "no value is certain .* expected a greater precision"),
    ]
    for call, message in bad:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("n", "r", "d"), [(100, Fraction(294, 125), 10), (10, Fraction(1, 100), 1), (30, Fraction(1, 2), 3)]
)
def test_the_precision_that_an_uncertain_reading_asks_for_is_enough(n, r, d):
    with pytest.raises(ValueError, match=r"expected a greater precision, \d+ bits") as refused:
        readings.certified(readings.repaired, n, r, d)
    bits = int(str(refused.value).split()[-4])
    assert readings.certified(readings.repaired, n, r, d, precision=bits).is_finite()


def test_a_precision_is_a_whole_number_and_a_long_radius_is_refused_short():
    for precision in (None, "x", 0):
        with pytest.raises(ValueError, match=r"precision is .*expected a whole number"):
            readings.certified(readings.literal, 3, 1, precision=precision)
    with pytest.raises(ValueError, match=r"r is a Fraction -1 / a number of 16610 bits; expected a number > 0"):
        readings.certified(readings.literal, 3, Fraction(-1, 10**5000))
