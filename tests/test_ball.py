"""Balls: floats against ball arithmetic, closed forms, proofs, and near-misses that the same checkers must refuse.

./run_tests.sh tests/test_ball.py
"""

import time
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import sympy as sp
from flint import arb, ctx
from scipy.special import gammainc

from memlm import ball, ball_proofs
from memlm.ball_proofs import decide, integrand, n, r

DIMENSIONS = [2, 3, 16, 1024, 10**6, 10**8]
RELATIVE = 1e-13  # the accuracy asked of a logarithm; a float holds 16 digits, and three are left to scipy's functions


def allowed(exact, n):
    return RELATIVE * abs(exact) + 1e-15 * (n + 10)  # the second part: d log V_n/d log r = n times the rounding of r


def worst(value, twin, points):
    """Largest error of value(*point) in units of what is allowed; the twin's own radius counts as error."""
    found = value(*map(np.array, zip(*points, strict=True)))
    exact = [twin(*point) for point in points]
    off = [float(abs(e - float(f)).upper()) for e, f in zip(exact, found, strict=True)]
    return max(o / allowed(float(e), point[0]) for o, e, point in zip(off, exact, points, strict=True))


def spread(power, count=150):
    """(n, r) over n in [1, 1e8], r in [1e-3, 1e4]: anywhere, at the knee r^power = n/power, and where log mass is near 0."""
    random = np.random.default_rng(power)
    n = np.concatenate([10 ** random.uniform(0, 8, count), 10.0 ** np.arange(9), [1.5, 2, 31, 32, 33]])
    anywhere = 10 ** random.uniform(-3, 4, len(n))
    widths = random.choice([-1, 1], len(n)) * 10 ** random.uniform(-1, 1.6, len(n)) / np.sqrt(n / power)
    knee = np.clip(abs(n / power * (1 + widths)) ** (1 / power), 1e-3, 1e4)
    zero = ball.unit_mass_radius(n, 1, power) * (1 + 1e-3 * random.normal(size=len(n)))
    corners = list(product((1.0, 1e8), (1e-3, 1e4)))
    return [*zip(np.tile(n, 3), np.concatenate([anywhere, knee, zero]), strict=True), *corners]


@pytest.mark.parametrize("power", [1, 2])
def test_log_mass_agrees_with_ball_arithmetic(power):
    points = spread(power)
    assert worst(lambda n, r: ball.log_mass(n, r, power), lambda n, r: ball.certified_log_mass(n, r, power), points) < 1
    assert worst(ball.log_volume, ball.certified_log_volume, points) < 1
    value, twin = ball.log_partition, ball.certified_log_partition
    assert worst(lambda n, r: value(n, r, 209160, power), lambda n, r: twin(n, r, 209160, power), points[::9]) < 1


def test_the_comparison_refuses_planted_errors():
    planted = [
        lambda n, r: ball.log_mass(n, r) + 1e-6,
        lambda n, r: ball.log_mass(n, r, 1),
        lambda n, r: ball.log_mass(n + 1, r),
        lambda n, r: ball.log_mass(n, r) * (1 + 1e-12),
        lambda n, r: n / 2 * np.log(np.pi) + np.log(np.maximum(gammainc(n / 2, r * r), 1e-300)),  # underflow
    ]
    refused = sum(worst(wrong, ball.certified_log_mass, spread(2, 30)) > 1 for wrong in planted)
    assert refused == len(planted) == 5


def test_scipy_alone_is_wrong_below_the_knee():
    a = 1e8
    x = a - 6e4
    exact = ball.certified_log_mass(a, x, 1) - ball.certified_log_mass(a, 2 * a, 1)  # log P(a, x): 2a is 10^4 widths out
    assert abs(float(exact) - np.log(gammainc(a, x))) > 0.1  # why log_mass has a series of its own
    assert abs(float(exact - float(ball.log_mass(a, x, 1)) + ball.certified_log_mass(a, 2 * a, 1))) < allowed(1.7e9, a)


CLOSED = {  # mass of exp(-|y|^power) in low dimensions, integrated by hand
    (1, 2): lambda r: arb.pi().sqrt() * r.erf(),
    (2, 2): lambda r: -arb.pi() * (-r * r).expm1(),
    (3, 2): lambda r: arb.pi() ** 1.5 * r.erf() - 2 * arb.pi() * r * (-r * r).exp(),
    (4, 2): lambda r: arb.pi() ** 2 * (1 - (1 + r * r) * (-r * r).exp()),
    (1, 1): lambda r: -2 * (-r).expm1(),
    (2, 1): lambda r: 2 * arb.pi() * (1 - (1 + r) * (-r).exp()),
    (3, 1): lambda r: 4 * arb.pi() * (2 - (r * r + 2 * r + 2) * (-r).exp()),
}


@pytest.mark.parametrize(("n", "power"), CLOSED)
def test_E12_certified_mass_equals_closed_forms(n, power):
    with ctx.workprec(400):
        for radius in map(arb, (0.25, 1, 3, 14, 15, 300, 1000)):  # both sides of the change of series
            exact = CLOSED[n, power](radius).log()
            found = ball.certified_log_mass(n, radius, power)
            assert found.overlaps(exact) and found.rad() < 1e-30
            assert not found.overlaps(exact + 1e-25)


def test_E12_certified_mass_equals_flint_incomplete_gamma():
    with ctx.workprec(2000):  # flint's own P(a, x), with the digits that it takes
        for a, x in ((0.75, 300.0), (7.3, 2.1), (150.5, 150.0), (150.5, 400.0), (900.0, 600.0), (900.25, 1150.0)):
            share = arb(x).gamma_lower(arb(a), 1)
            found = ball.certified_log_mass(2 * a, arb(x).sqrt()) - a * arb.pi().log()
            assert found.overlaps(share.log()) and share.rad() < 1e-40


def test_E12_the_printed_formula_belongs_to_the_other_integrand():
    sphere = sp.pi ** (n / 2) / sp.gamma(n / 2)
    assert integrand(sphere * sp.lowergamma(n / 2, r**2)) == sp.exp(-(r**2))
    assert integrand(2 * sphere * sp.lowergamma(n, r)) == sp.exp(-r)
    planted = [
        2 * sphere * sp.lowergamma(n, r**2),
        2 * sphere * sp.lowergamma(n / 2, r**2),
        sphere * sp.lowergamma(n / 2, r),
        sphere * sp.lowergamma(n, r),
        2 * sp.pi ** (n / 2) * sp.lowergamma(n, r) / sp.gamma(n),
        sp.pi ** (n / 2) * sp.lowergamma(n / 2, r**2) / sp.gamma(n / 2 + 1),
        sphere * sp.lowergamma((n + 1) / 2, r**2),
        sphere * sp.lowergamma(n / 2, r**2) + 1,
    ]
    refused = sum(integrand(wrong) not in (sp.exp(-(r**2)), sp.exp(-r)) for wrong in planted)
    assert refused == len(planted) == 8


LEAD, GAMMA = r**n / n, sp.lowergamma(n, r)
TRUE_L5 = {
    "lower half": GAMMA - sp.exp(-r) * LEAD,
    "upper half": LEAD - GAMMA,
    "sharper lower": GAMMA - LEAD * sp.exp(-r * n / (n + 1)),
    "sharper upper": LEAD * (1 + n * sp.exp(-r)) / (n + 1) - GAMMA,
}
PLANTED_L5 = {
    "exp(-r/2), true at n = 1 only": GAMMA - sp.exp(-r / 2) * LEAD,
    "no exponential": GAMMA - LEAD,
    "n - 1/2 for n": GAMMA - sp.exp(-r) * r**n / (n - sp.Rational(1, 2)),
    "n + 1 for n": r**n / (n + 1) - GAMMA,
    "sign": GAMMA - LEAD * sp.exp(r),
    "n + 2 in the sharper lower": GAMMA - LEAD * sp.exp(-r * n / (n + 2)),
    "n + 2 in the sharper upper": LEAD * (1 + n * sp.exp(-r)) / (n + 2) - GAMMA,
    "n - 1 in the sharper upper": LEAD * (1 + (n - 1) * sp.exp(-r)) / (n + 1) - GAMMA,
}


def test_L5_both_bounds_and_the_sharper_ones_for_every_real_n():
    assert {name: decide(f) for name, f in TRUE_L5.items()} == dict.fromkeys(TRUE_L5, True)


def test_L5_near_misses_are_refused():
    refused = [name for name, f in PLANTED_L5.items() if decide(f) not in (True, None)]
    assert len(refused) == len(PLANTED_L5) == 8


def test_a_sign_that_is_not_proved_is_not_taken_for_a_disproof():
    assert decide((r - 2 / sp.Integer(7)) ** 2 * 10**-30) is None  # positive but at one point, and too small to see


def test_S20_series_and_its_near_misses():
    step = ball_proofs.series_step
    assert step(LEAD * sp.exp(-r) + sp.lowergamma(n + 1, r) / n)
    planted = [
        LEAD * sp.exp(-r) + sp.lowergamma(n + 1, r) / (n + 1),
        LEAD * sp.exp(-r) - sp.lowergamma(n + 1, r) / n,
        LEAD + sp.lowergamma(n + 1, r) / n,
        r**n * sp.exp(-r) + sp.lowergamma(n + 1, r) / n,
    ]
    assert sum(not step(wrong) for wrong in planted) == len(planted) == 4
    with ctx.workprec(200):
        for a, x in ((0.5, 3.0), (20.0, 5.0), (1e6, 9e5)):  # S = 1 + x/(a+1) S(a+1)
            left, right = ball.certified_series(a, x), 1 + arb(x) / (a + 1) * ball.certified_series(a + 1, x)
            assert left.overlaps(right) and not left.overlaps(right * (1 + arb(1e-30)))


MASS, VOLUME = sp.lowergamma(n / 2, r**2), 2 * r**n / n  # both without the factor pi^{n/2}/Gamma(n/2)
PLANTED_E14 = {
    "as printed": MASS - VOLUME * sp.exp(-r),
    "exp(-r^2/2)": MASS - VOLUME * sp.exp(-(r**2) / 2),
    "no exponential": MASS - VOLUME,
    "upper exp(-r^2)": VOLUME * sp.exp(-(r**2)) - MASS,
    "upper exp(-r)": VOLUME * sp.exp(-r) - MASS,
    "upper half of V": VOLUME / 2 - MASS,
}


def test_E14_corrected_halves_are_proved_and_near_misses_refused():
    assert decide(MASS - VOLUME * sp.exp(-(r**2))) is True and decide(VOLUME - MASS) is True
    witnesses = {name: decide(f) for name, f in PLANTED_E14.items()}
    refused = [name for name, point in witnesses.items() if point not in (True, None)]
    assert len(refused) == len(PLANTED_E14) == 6
    assert witnesses["as printed"] == (3, 3)


def test_E14_the_printed_lower_half_fails_from_21_on():
    margin = ball_proofs.lower_half_margin
    assert all(margin(k) > 0 for k in range(1, 21))
    assert all(margin(k) < 0 for k in (21, 22, 23, 50, 1024, 10**6))
    assert all(margin(k, power=1) > 0 and margin(k, exponent=2) > 0 for k in (1, 21, 1024, 10**6))  # the two repairs
    planted = [lambda k: margin(k + 1), lambda k: margin(k - 1), lambda k: margin(k, power=1), lambda k: -margin(k)]
    refused = sum(not (wrong(20) > 0 and wrong(21) < 0) for wrong in planted)
    assert refused == len(planted) == 4


def configurations(count=60):
    """Disjoint balls on the line: 1 to 4 rational patterns, one radius or several, ties with half the distance included."""
    random, found = np.random.default_rng(0), [([0, 3], [Fraction(5, 2), Fraction(1, 4)]), ([0], [9]), ([0, 4], [2, 1])]
    while len(found) < count:
        d = int(random.integers(1, 5))
        patterns = [Fraction(int(p), 2) for p in random.choice(40, d, replace=False)]
        radii = [Fraction(int(s), 4) for s in random.integers(1, 12, d)]
        radii = radii if random.random() < 0.7 else [radii[0]] * d
        if ball_proofs.separated(patterns, radii):
            found.append((patterns, radii))
    return found


def test_S23_half_the_distance_decides_and_near_misses_err():
    tried, half = configurations(), ball_proofs.half_distance
    assert ball_proofs.decides_the_sum(half, tried) == len(tried) == 60
    planted = [
        lambda patterns, radii: True,  # disjoint suffices
        lambda patterns, radii: len(set(radii)) == 1,  # one radius is needed
        lambda patterns, radii: half(patterns, [s / 2 for s in radii]),  # the distance instead of half of it
        lambda patterns, radii: half(patterns, [2 * s for s in radii]),
        lambda patterns, radii: half(patterns, [min(radii)] * len(radii)),
        lambda patterns, radii: len(patterns) == 1,  # true at d = 1 only
    ]
    refused = sum(ball_proofs.decides_the_sum(wrong, tried) is None for wrong in planted)
    assert refused == len(planted) == 6


def test_E13_disjoint_balls_of_unequal_radii_are_not_enough():
    whole = ball.certified_line_mass([0, 3], [Fraction(5, 2), Fraction(1, 4)])
    parts = sum(ball.certified_log_mass(1, s).exp() for s in (Fraction(5, 2), Fraction(1, 4)))
    assert whole > parts + 0.365 and whole < parts + 0.366
    two = ball.certified_line_mass([0, 3], [1, 1], layer=[0])  # the other pattern's ball counts, by the distance to 0
    by_hand = (2 * arb(1).erf() + arb(4).erf() - arb(2).erf()) * arb.pi().sqrt() / 2
    assert two.overlaps(by_hand) and float(two.rad()) < 1e-30 and float(two) == pytest.approx(1.49779, abs=1e-5)
    assert ball.certified_line_mass([0, 3], [1, 1], layer=[3]).overlaps(two)  # by symmetry
    assert ball.certified_line_mass([0, 3], [1, 1], layer=[0, 3]).overlaps(ball.certified_line_mass([0, 3], [1, 1]))
    for wrong in (2 * arb(1).erf() * arb.pi().sqrt(), arb(1).erf() * arb.pi().sqrt()):  # both balls whole; its own alone
        assert not two.overlaps(wrong)
    with pytest.raises(ValueError, match="layer holds 0 patterns; expected at least 1"):
        ball.certified_line_mass([0], [1], layer=[])
    alone = ball.certified_line_mass([0], [1])
    assert ball.certified_line_mass([0, 0], [1, 1]).overlaps(alone)  # duplicates count once
    assert ball.certified_line_mass([0, 1], [1, 1]) < 2 * alone  # overlapping balls


def test_RAD_S22_the_window_of_unit_volume_and_its_near_misses():
    window, r_0, pi = ball_proofs.volume_in_window, ball.certified_stirling_radius, arb.pi
    assert window(lambda k: r_0(k) * (pi() * k) ** (1 / (2 * k)), [1, *DIMENSIONS]) == 7
    planted = [
        r_0,
        lambda k: r_0(k) * (2 * pi() * k) ** (1 / (2 * k)),
        lambda k: r_0(k) * (pi() * k) ** (1 / k),
        lambda k: r_0(k) * k ** (1 / (2 * k)),
        lambda k: r_0(k + 1) * (pi() * k) ** (1 / (2 * k)),
        lambda k: r_0(k) * (pi() * k) ** (-1 / (2 * k)),
        lambda k: r_0(k) * (1 + (pi() * k).log() / (2 * k)),
    ]
    refused = [window(wrong, DIMENSIONS) is None for wrong in planted]
    assert sum(refused) == len(planted) == 7
    t = r / 2  # Stirling's correction: one step of its telescoping sum, with r = 1/a
    step = (1 + t) * sp.log(1 + r) - r
    assert decide(step) is True and decide(r**3 / (12 * (1 + r)) - step) is True
    assert decide(r**3 / (13 * (1 + r)) - step) not in (True, None)


def lambert(k, power, factor=1):
    a = k / arb(power)
    return (-a * (-factor * ball.certified_unit_volume_radius(k) ** power / a).lambertw()) ** (1 / arb(power))


def test_S21_lambert_radius_brackets_the_unit_mass_radius_and_near_misses_do_not():
    brackets = ball_proofs.brackets_the_radius
    for power in (1, 2):
        assert brackets(lambda k, power=power: lambert(k, power), DIMENSIONS, power) == len(DIMENSIONS)
    planted = [
        ball.certified_stirling_radius,
        ball.certified_unit_volume_radius,
        lambda k: lambert(k, 1),  # the printed integral's radius
        lambda k: lambert(k, 2, 2),
        lambda k: lambert(k, 2, arb(1.01)),
        lambda k: lambert(k, 2, arb(0.99)),
        lambda k: lambert(k + 1, 2),
    ]
    refused = [brackets(wrong, DIMENSIONS) is None for wrong in planted]
    assert sum(refused) == len(planted) == 7
    with ctx.workprec(160):  # the limit r_1/sqrt(n), s = -W(-1/(pi e))/2
        s = -(-1 / (arb.pi() * arb(1).exp())).lambertw() / 2
        assert abs(ball.certified_unit_mass_radius(10**8) / 10**4 - s.sqrt()) < 1e-7


def test_radii_agree_with_their_twins_and_solve_their_equations():
    n = np.array([1, 1.5, 2, 3, 7, 31, 32, 33, 1e3, 1e5, 1e8])
    for k, found in zip(n, ball.stirling_radius(n), strict=True):
        assert abs(ball.certified_stirling_radius(k) / float(found) - 1) < 1e-15
    for d, power in product((1, 2, 209160, 1e300), (1, 2)):
        mass, volume = ball.unit_mass_radius(n, d, power), ball.unit_volume_radius(n, d)
        for k, r_1, r_V in zip(n, mass, volume, strict=True):
            exact = ball.certified_unit_mass_radius(k, d, power)
            assert exact.rad() < 1e-30 * exact.mid()
            assert ball.certified_log_partition(k, exact, d, power).contains(0)
            for value, twin in ((r_1, exact), (r_V, ball.certified_unit_volume_radius(k, d))):
                scale = 1 + abs(np.log(value))  # the radius is the exponential of its logarithm
                assert abs(twin / float(value) - 1) < 1e-14 * scale


def test_shapes_scalars_and_extreme_radii():
    assert ball.log_mass(3, 1.0).shape == () and ball.log_volume(3, 1).shape == ()
    assert ball.log_mass([[1], [2]], [0.5, 1, 2]).shape == (2, 3)
    assert ball.log_partition([5.0], 1, [1, 2, 3]).shape == (3,)
    assert ball.log_mass([], 1).shape == (0,) and ball.unit_mass_radius([]).shape == (0,)
    assert ball.log_partition(4, 2, 1) == ball.log_mass(4, 2)
    assert ball.log_mass(7, 1e200) == pytest.approx(3.5 * np.log(np.pi), rel=1e-15)
    assert ball.log_mass(7, 1e-200) == pytest.approx(float(ball.certified_log_volume(7, 1e-200)), rel=1e-15)
    assert ball.log_mass(1, 1e-3) == pytest.approx(np.log(2e-3 * (1 - 1e-6 / 3)), abs=1e-12)  # next term 1e-13


def test_one_call_is_fast():
    for point in ((1024, 7.74), (1e8, 2420.0), (16, 1.0)):
        begun = time.perf_counter()
        for _ in range(200):
            ball.log_mass(*point)
        assert (time.perf_counter() - begun) / 200 < 400e-6  # 25 to 60 us alone; the rest is for a loaded machine
    many = 10 ** np.random.default_rng(0).uniform(0, 8, 20_000)
    begun = time.perf_counter()
    ball.log_mass(many, 10.0)
    assert (time.perf_counter() - begun) / 20_000 < 10e-6  # 1 us alone


BAD = [
    (lambda: ball.log_mass(3, 0), r"r is 0.0; expected finite numbers > 0"),
    (lambda: ball.log_volume(3, [1, -2.0]), r"r is -2.0; expected finite numbers > 0"),
    (lambda: ball.log_mass(3, float("inf")), "r is inf; expected finite"),
    (lambda: ball.log_mass(0.5, 1), "n is 0.5; expected finite numbers >= 1"),
    (lambda: ball.stirling_radius(float("nan")), "n is nan; expected finite numbers >= 1"),
    (lambda: ball.unit_mass_radius(float("inf")), "n is inf; expected finite numbers >= 1"),
    (lambda: ball.log_mass(3, 1, power=3), "power is 3; expected 1 for"),
    (lambda: ball.unit_mass_radius(3, 1, power=0), "power is 0; expected 1 for"),
    (lambda: ball.log_partition(3, 1, 0), "d is 0.0; expected finite numbers >= 1"),
    (lambda: ball.unit_volume_radius(3, 0.5), "d is 0.5; expected finite numbers >= 1"),
    (lambda: ball.certified_log_mass(3, 0), r"r is 0; expected a finite number > 0"),
    (lambda: ball.certified_log_mass(Fraction(1, 2), 1), r"n is 0.5\S*; expected a finite number >= 1"),
    (lambda: ball.certified_log_mass(3, 1, power=1.5), "power is 1.5; expected 1"),
    (lambda: ball.certified_log_partition(3, 1, arb("nan")), "d is nan; expected a finite number >= 1"),
    (lambda: ball.certified_line_mass([0, 1], [1]), "2 patterns and 1 radii; expected equally many"),
    (lambda: ball.certified_line_mass([], []), "0 patterns and 0 radii; expected equally many, at least 1"),
    (lambda: ball.certified_line_mass([0], [0]), "radius is 0; expected > 0"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Numbers of balls of any length, and the ends of the floats

LONG = [10**400, 10**5000, Fraction(10**400, 3), 2**70 + 1, Fraction(10**700, 10**300 + 1), Fraction(3, 2), 1]


@pytest.mark.parametrize("d", LONG, ids=lambda d: f"{float(arb(d.numerator).log() - arb(d.denominator).log()):.4g}")
def test_any_number_of_balls_counts_by_its_logarithm(d):
    for point in ((3, 1.0), (1, 1e-200), (1e6, 250.0)):
        exact, found = ball.certified_log_partition(*point, d), ball.log_partition(*point, d)
        log_d = float(exact - ball.certified_log_mass(*point))
        assert abs(exact - float(found)) < allowed(float(exact), point[0]) + 1e-15 * log_d
    for dimension in (100, 1e4, 1e8):
        for twin, value in (
            (ball.certified_unit_volume_radius, ball.unit_volume_radius),
            (ball.certified_unit_mass_radius, ball.unit_mass_radius),
        ):
            found = float(value(dimension, d))
            assert abs(twin(dimension, d) / found - 1) < 1e-14 * (1 + abs(np.log(found)))


def test_numbers_of_balls_may_be_mixed_and_wrong_ones_are_refused():
    found = ball.log_partition(3, 1.0, [10**400, 2, Fraction(5, 2)])
    assert found.shape == (3,) and found[1] == ball.log_partition(3, 1.0, 2)
    planted = (
        0,
        -(10**400),
        Fraction(1, 10**400),
        [10**400, 0.5],
        [10**400, float("nan")],
        [10**400, "2"],
        float("inf"),
        None,
    )
    for wrong in planted:
        with pytest.raises(ValueError, match=r"d is .*; expected"):
            ball.log_partition(3, 1.0, wrong)
    with pytest.raises(ValueError, match=r"r_V is below 2e-308 at n = 1 with log d = 921.034; expected a smaller d"):
        ball.unit_mass_radius(1, 10**400)


def test_the_ends_of_the_floats_are_right_or_refused():
    points = [(3, 5e-324), (3, 1e-320), (3, 1.7e308), (1e300, 1e150), (1e300, 1e-300), (1e12, 2e5), (1e10, 25000.0)]
    assert worst(ball.log_volume, ball.certified_log_volume, points) < 1
    assert worst(ball.log_mass, ball.certified_log_mass, [*points[:5], (1e9, 8000.0), (1e10, 25000.0)]) < 1
    planted = [
        lambda n, r: np.maximum(ball.log_volume(n, r), -2000),
        lambda n, r: n * np.log(np.maximum(r, 1e-307)) + ball.log_volume(n, 1.0),
    ]
    assert sum(worst(wrong, ball.certified_log_volume, points) > 1 for wrong in planted) == len(planted) == 2


REFUSED = [
    (lambda: ball.log_mass(10**400, 1), "n is no number .* too large to convert to float; expected >= 1"),
    (lambda: ball.log_mass(1e301, 1), "n is 1e[+]301; expected finite numbers >= 1"),
    (lambda: ball.log_mass(3, 10**400), "r is no number"),
    (lambda: ball.log_mass("three", 1), "n is no number"),
    (lambda: ball.log_mass(3, 1, power=np.array([1, 2])), "power is .*; expected 1 for"),
    (lambda: ball.log_mass(3, 1, power=float("nan")), "power is nan; expected 1 for"),
    (lambda: ball.stirling_correction(0), "a is 0.0; expected finite numbers >= 0.5"),
    (lambda: ball.certified_log_mass("3", 1), "n is '3'; expected a finite exact number"),
    (lambda: ball.certified_log_mass(3, float("nan")), "r is nan; expected a finite exact number"),
    (lambda: ball.certified_log_mass(1e16, 70710678.1), "terms; expected so small an n or r"),
    (lambda: ball.certified_series(1, 1e12), "terms; expected so small an n or r"),
    (lambda: ball.certified_unit_mass_radius(1e14), "expected n below 1e13"),
    (lambda: ball.certified_line_mass([float("nan")], [1]), "pattern is nan; expected a finite exact number"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_no_float_or_ball_can_hold_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_twins_take_numbers_as_exactly_what_they_are():
    import decimal

    import mpmath

    exact = ball.certified_log_volume(3, Fraction(1, 10))
    assert ball.certified_log_volume(3, decimal.Decimal("0.1")).overlaps(exact)
    for rounded in (0.1, np.float32(0.1), np.longdouble(1) / 10):
        assert not ball.certified_log_volume(3, rounded).overlaps(exact)
        assert ball.certified_log_volume(3, rounded).overlaps(
            ball.certified_log_volume(3, Fraction(*rounded.as_integer_ratio()))
        )
    with pytest.raises(ValueError, match="expected a finite exact number"):
        ball.certified_log_volume(3, mpmath.mpf("0.1"))  # float() would round it


def test_floats_prove_and_disprove_nothing():
    assert decide(sp.Float(0.5) * r) is None and ball_proofs.positive_for_all_r(r + 1e17 - 1e17) in (True, None)
    assert decide(1e-17 - sp.Float(1.0) * r) is None  # false at r = 1, but by a rounded coefficient
    with pytest.raises(ValueError, match="holds the float"):
        integrand(0.5 * sp.lowergamma(n, r))


def test_proofs_about_radii_want_balls_and_at_least_one_case():
    window, brackets = ball_proofs.volume_in_window, ball_proofs.brackets_the_radius
    for call in (
        lambda: window(lambda k: float(ball.stirling_radius(float(k))), [3]),
        lambda: brackets(lambda k: float(ball.unit_mass_radius(float(k))) * 1.001, [1024]),
    ):
        with pytest.raises(ValueError, match="expected a python-flint ball"):
            call()
    for call in (
        lambda: window(ball.certified_stirling_radius, []),
        lambda: brackets(ball.certified_stirling_radius, []),
        lambda: ball_proofs.decides_the_sum(ball_proofs.half_distance, []),
    ):
        with pytest.raises(ValueError, match="0 cases to check; expected at least 1"):
            call()
    touching = [0.1, 0.1 + 0.2], [0.1, 0.1]  # as floats 0.2 apart less the last digit; in float arithmetic exactly 0.2
    assert ball_proofs.separated(*touching) == (Fraction(0.1 + 0.2) - Fraction(0.1) > 2 * Fraction(0.1))


def test_numbers_of_balls_of_every_kind_and_length():
    assert ball.log_partition(3, 1, [np.int64(5), 10**30])[0] == ball.log_partition(3, 1, 5)
    for d, message in (
        (-(10**5000), "d is -a number of 16610 bits"),
        (Fraction(1, 10**5000), "d is a Fraction 1 / a number of 16610 bits"),
        ([np.int64(0), 10**30], "d is 0"),
        (np.ma.masked_array([1.0, 2.0], [0, 1]), "a masked array"),
    ):
        with pytest.raises(ValueError, match=f"{message}.*expected"):
            ball.log_partition(3, 1, d)
