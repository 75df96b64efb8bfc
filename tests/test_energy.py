"""Energies against arithmetic by hand, automatic differentiation and planted errors.

./run_tests.sh tests/test_energy.py
"""

import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memlm import certified, energy
from memlm.quantities import Balls

PLANE = torch.tensor([[-2.0, -0.5], [0.2, -0.3], [1.5, 1.5]], dtype=torch.float64)
LINE = torch.tensor([[-2.0], [0.0], [1.0]], dtype=torch.float64)
TOLERANCE = 1e-12  # double precision 1e-16, at most three digits lost in sums of a few hundred terms


def sets(n_max=6, d_max=6):
    """Random (x, patterns), with duplicates and ties likely because coordinates are small multiples of 1/2."""
    number = st.integers(-8, 8).map(lambda k: k / 2)
    sizes = st.tuples(st.integers(1, n_max), st.integers(1, d_max))

    def arrays(size):
        row = st.lists(number, min_size=size[0], max_size=size[0])
        return st.tuples(row, st.lists(row, min_size=size[1], max_size=size[1]))

    return sizes.flatmap(arrays)


@given(sets())
@settings(max_examples=60, deadline=None)
def test_E3_E4_values_agree_with_numpy_in_the_plainest_form(drawn):
    x, patterns = map(np.array, drawn)
    sq = ((x - patterns) ** 2).sum(1)
    assert energy.nearest_sq_distance(x, patterns).item() == sq.min()
    low = sq.min()
    assert energy.layer_energy(x, patterns).item() == pytest.approx(low - np.log(np.exp(low - sq).sum()), abs=TOLERANCE)


@given(sets(), st.sampled_from([0.5, 1.0, 2.0, 7.0]))
@settings(max_examples=60, deadline=None)
def test_T1_mchn_energy_in_the_plainest_form_and_never_negative(drawn, beta):
    x, patterns = map(np.array, drawn)
    y = beta * patterns @ x
    lse = (y.max() + np.log(np.exp(y - y.max()).sum())) / beta
    expected = -lse + x @ x / 2 + np.log(len(patterns)) / beta + (patterns**2).sum(1).max() / 2
    found = energy.mchn_energy(x, patterns, beta).item()
    assert found == pytest.approx(expected, abs=1e-11)
    assert found >= -1e-11


def test_T1_binary_energies_by_hand():
    x, patterns = torch.tensor([1.0, 1.0, -1.0]), torch.tensor([[1.0, 1.0, -1.0], [1.0, -1.0, 1.0]])
    weights = patterns.T @ patterns
    weights.fill_diagonal_(0)
    assert energy.hopfield_energy(x, patterns).item() == -(x @ weights @ x).item() / 2
    assert energy.hopfield_energy(x, patterns, bias=[1.0, 2.0, 3.0]).item() == -(x @ weights @ x).item() / 2 - (1 + 2 - 3)
    assert energy.krotov_hopfield_energy(x, patterns, 3).item() == -(27 - 1)
    assert energy.demircigil_energy(x, patterns).item() == pytest.approx(-np.log(np.exp(3) + np.exp(-1)), abs=TOLERANCE)


def test_log_sum_exp_is_stable_for_entries_of_1e4_and_exact_for_one_entry():
    assert energy.log_sum_exp([1e4, 1e4]).item() == pytest.approx(1e4 + np.log(2), rel=1e-15)
    assert energy.log_sum_exp([-1e4, -1e4], beta=3.0).item() == pytest.approx(-1e4 + np.log(2) / 3, rel=1e-15)
    assert energy.log_sum_exp([[5.0], [-7.0]]).tolist() == [5.0, -7.0]


def test_E7_global_energy_of_layers_is_the_energy_of_the_union():
    x = torch.randn(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    split = energy.global_energy(x, [PLANE[:1], PLANE[1:]])
    assert (split - energy.layer_energy(x, PLANE)).abs().max() < TOLERANCE


PAIRS = [
    (energy.layer_energy, energy.layer_gradient),
    (energy.mchn_energy, energy.mchn_gradient),
    (partial(energy.mchn_energy, beta=2.0), partial(energy.mchn_gradient, beta=2.0)),
]


def states(count=200):
    return 3 * torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("value", "gradient"), PAIRS)
def test_gradients_agree_with_automatic_differentiation(value, gradient):
    assert energy.gradient_error(partial(value, patterns=PLANE), partial(gradient, patterns=PLANE), states()) < TOLERANCE


WRONG = {
    "factor 2 lost": lambda x: energy.layer_gradient(x, PLANE) / 2,
    "sign": lambda x: -energy.layer_gradient(x, PLANE),
    "weights of attention": lambda x: 2 * (x - energy.attention_step(x, PLANE)),
    "nearest pattern only": lambda x: 2 * (x - PLANE[torch.cdist(x, PLANE).argmin(-1)]),
    "one part in a million": lambda x: energy.layer_gradient(x, PLANE) * (1 + 1e-6),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_planted_wrong_gradients_are_refused(wrong):
    assert energy.gradient_error(partial(energy.layer_energy, patterns=PLANE), wrong, states()) > 1e-8


def test_hessians_agree_with_automatic_differentiation():
    for x in states(5):
        for value, hessian in ((energy.layer_energy, energy.layer_hessian), (energy.mchn_energy, energy.mchn_hessian)):
            automatic = torch.autograd.functional.hessian(lambda z, value=value: value(z, PLANE), x)
            assert (automatic - hessian(x, PLANE)).abs().max() < TOLERANCE


def test_steps_never_raise_their_energies():
    x = states()
    moved = energy.mean_shift_step(x, PLANE)
    drop = energy.layer_energy(x, PLANE) - energy.layer_energy(moved, PLANE)
    assert (drop >= (moved - x).square().sum(-1) - TOLERANCE).all()
    moved = energy.attention_step(x, PLANE, beta=2.0)
    assert (energy.mchn_energy(moved, PLANE, 2.0) <= energy.mchn_energy(x, PLANE, 2.0) + TOLERANCE).all()


def test_retrieval_ends_at_stationary_points_and_says_when_it_does_not():
    reached = energy.retrieve(states(), PLANE)
    assert energy.layer_gradient(reached, PLANE).abs().max() < 1e-9
    with pytest.raises(RuntimeError, match=r"still move by .* after 2 steps"):
        energy.retrieve(states(), PLANE, max_steps=2)


def test_flip_step_repairs_a_corrupted_pattern_and_keeps_ties():
    generator = torch.Generator().manual_seed(0)
    stored = 2.0 * torch.randint(0, 2, (3, 60), generator=generator, dtype=torch.float64) - 1
    corrupted = stored.clone()
    corrupted[:, :5] *= -1
    for value in (energy.hopfield_energy, partial(energy.krotov_hopfield_energy, degree=3), energy.demircigil_energy):
        assert torch.equal(energy.flip_step(corrupted, stored, value), stored)
    flat = torch.tensor([1.0, -1.0])
    assert torch.equal(energy.flip_step(flat, stored[:, :2], lambda x, patterns: torch.zeros(x.shape[:-1])), flat)
    with pytest.raises(ValueError, match="x holds 0"):
        energy.flip_step([0.0, 1.0], [[1.0, 1.0]])


def test_F1_each_pattern_of_figure_1_has_its_own_minimum_of_E():
    minima = energy.retrieve(PLANE, PLANE)
    assert len(energy.distinct(minima)) == 3
    assert (torch.linalg.eigvalsh(energy.layer_hessian(minima, PLANE)) > 0).all()
    # and the picture of MCHN at beta = 1 is another one: the inner pattern is no memory of it
    assert len(energy.distinct(energy.retrieve(PLANE, PLANE, step=energy.attention_step))) == 2


def test_F1_stationary_points_on_the_line_are_counted_by_balls():
    root = Fraction(14142135623730950488, 10**19)
    cases = {(-2, 0, 1): 2, (-1, 1): 2, (0, Fraction(7, 5)): 1, (0, Fraction(3, 2)): 2, (3,): 1, (0, 0): 1, (-3, 0, 3): 3}
    for patterns, minima in cases.items():
        found = certified.certified_stationary(patterns)
        assert sum(least for *_, least in found) == minima and len(found) == 2 * minima - 1
        assert [least for *_, least in found] == [k % 2 == 0 for k in range(len(found))]  # they alternate
        ends = torch.tensor([[float(end)] for low, high, _ in found for end in (low, high)], dtype=torch.float64)
        slopes = energy.layer_gradient(ends, torch.tensor([[float(p)] for p in patterns], dtype=torch.float64))
        assert (slopes[::2] * slopes[1::2] < 0).all()
    with pytest.raises(ValueError, match=r"are both 0 or nearly so at 0.7.*; expected them apart by more"):
        certified.certified_stationary([0, root])


def test_F1_wells_are_certified_and_what_is_none_is_refused():
    plane = [[Fraction(-2), Fraction(-1, 2)], [Fraction(1, 5), Fraction(-3, 10)], [Fraction(3, 2), Fraction(3, 2)]]
    assert all(certified.certified_well(rho, Fraction(1, 20), plane) for rho in plane)
    line = [[-2], [0], [1]]
    assert certified.certified_well([-2], Fraction(1, 2), line) and certified.certified_well([Fraction(1, 2)], 1, line)
    planted = {
        "so small that the minimum is outside": (plane[1], Fraction(1, 1000), plane),
        "between two patterns": ([0, 0], 1, [[-1, 0], [1, 0]]),
        "the pattern 0 has no minimum of its own": ([0], Fraction(1, 4), line),
        "nor has the pattern 1": ([1], Fraction(1, 4), line),
    }
    refused = sum(not certified.certified_well(*wrong) for wrong in planted.values())
    assert refused == len(planted) == 4
    assert all(certified.certified_convex(rho, Fraction(1, 20), plane) for rho in plane)
    assert not certified.certified_convex([Fraction(-1)], Fraction(1, 20), line)  # a maximum between -2 and 0
    assert not certified.certified_convex([0], Fraction(1, 20), [[Fraction(-71, 100)], [Fraction(71, 100)]])  # s^2 > 2
    for x in ([0.3, -0.2], [-2.0, 1.0]):
        value, gradient, variance = certified._layer(x, plane)
        rounded = torch.tensor([[float(a) for a in rho] for rho in plane], dtype=torch.float64)
        assert float(value) == pytest.approx(energy.layer_energy(x, rounded).item(), abs=TOLERANCE)
        assert [float(g) for g in gradient] == pytest.approx(energy.layer_gradient(x, rounded).tolist(), abs=TOLERANCE)
        trace = energy.layer_hessian(x, rounded).trace().item()
        assert 2 * len(x) - 4 * float(variance) == pytest.approx(trace, abs=TOLERANCE)


def test_S36_a_slope_that_is_certainly_not_0():
    assert certified.certified_slope([1], [[0], [1]]) and certified.certified_slope([0, 0], [[0, 0], [5, 1]])
    planted = [([0], [[-3], [0], [3]]), ([1, 1], [[1, 1], [1, 1]]), ([Fraction(1, 2)], [[0], [1]])]
    assert not any(certified.certified_slope(*wrong) for wrong in planted)


def test_CV_the_curvature_on_figure_1_is_minus_five_ninths():
    for beta, exact in ((1.0, Fraction(-5, 9)), (2.0, Fraction(-19, 9))):
        assert energy.mchn_hessian([0.0], LINE, beta).item() == pytest.approx(float(exact), abs=1e-15)
    # in the plane at 0, beta = 1: [[-163/150, -163/150], [-163/150, 43/225]]
    exact = torch.tensor([[-163 / 150, -163 / 150], [-163 / 150, 43 / 225]], dtype=torch.float64)
    assert (energy.mchn_hessian([0.0, 0.0], PLANE) - exact).abs().max() < 1e-14


@pytest.mark.parametrize("beta", [0.5, 1.0, 4.0])
def test_S1_convexity_changes_at_the_threshold(beta):
    x = torch.linspace(-3, 3, 601, dtype=torch.float64).unsqueeze(-1)
    for factor, convex in ((1 - 1e-9, True), (1 + 1e-3, False)):
        half = (factor * 4 / beta) ** 0.5 / 2
        pair = torch.tensor([[-half], [half]], dtype=torch.float64)
        assert (energy.mchn_hessian(x, pair, beta).min().item() >= 0) == convex
        half = (factor * 2) ** 0.5 / 2
        pair = torch.tensor([[-half], [half]], dtype=torch.float64)
        assert (energy.layer_hessian(x, pair).min().item() >= 0) == convex


def convex_on_a_pair(hessian, square):
    """Is an energy convex for two patterns at squared distance ``square``, on a grid that holds its worst state?"""
    half = square**0.5 / 2
    x = torch.linspace(-3, 3, 601, dtype=torch.float64).unsqueeze(-1)
    return hessian(x, torch.tensor([[-half], [half]], dtype=torch.float64)).min().item() >= -1e-12


def test_S1_CV_F1_planted_near_misses_are_refused():
    squares = [0.5, 0.999, 1.5, 1.999, 2.001, 3.0, 3.999, 4.001, 6.0, 9.0]
    cases = {"E": (energy.layer_hessian, 2, (1, 4, 8)), "MCHN": (energy.mchn_hessian, 4, (1, 2, 8))}
    for name, (hessian, true, planted) in cases.items():
        found = [convex_on_a_pair(hessian, square) for square in squares]
        assert found == [square <= true for square in squares], name
        refused = sum(found != [square <= wrong for square in squares] for wrong in planted)
        assert refused == len(planted) == 3
    curvature = energy.mchn_hessian([0.0], LINE, 1.0).item()
    planted = {
        "sign": 5 / 9,
        "variance 5/3": -2 / 3,
        "beta forgotten at 2": energy.mchn_hessian([0.0], LINE, 2.0).item(),
        "0": 0.0,
    }
    assert sum(abs(curvature - wrong) > 1e-12 for wrong in planted.values()) == len(planted) == 4
    counts = {
        "line": len(
            energy.distinct(energy.retrieve(torch.linspace(-3, 3, 101, dtype=torch.float64)[:, None] + 0.013, LINE))
        ),
        "MCHN": len(energy.distinct(energy.retrieve(PLANE, PLANE, step=energy.attention_step))),
        "two patterns": len(energy.distinct(energy.retrieve(PLANE[:2], PLANE[:2]))),
    }
    assert sum(count != 3 for count in counts.values()) == len(counts) == 3  # none of them passes for the plane's three


def test_duplicates_and_ties():
    twice = torch.cat([PLANE, PLANE])
    x = states()
    assert (energy.layer_energy(x, twice) - (energy.layer_energy(x, PLANE) - np.log(2))).abs().max() < TOLERANCE
    assert torch.equal(energy.nearest_sq_distance(x, twice), energy.nearest_sq_distance(x, PLANE))
    assert energy.nearest_sq_distance([0.0], [[-1.0], [1.0]]).item() == 1.0
    assert len(energy.distinct(twice)) == 3


BAD = [
    (lambda: energy.layer_energy([1.0, 2.0], [[1.0]]), r"x has shape \(2,\); expected \(\.\.\., 1\)"),
    (lambda: energy.layer_energy([1.0], torch.empty(0, 1)), r"shape \(0, 1\); expected \(d, n\) with d >= 1"),
    (lambda: energy.layer_energy([1.0], [1.0]), r"shape \(1,\); expected \(d, n\)"),
    (lambda: energy.layer_energy([1.0], [[float("nan")]]), "patterns holds nan; expected finite"),
    (lambda: energy.mchn_energy([float("inf")], [[1.0]]), "x holds inf; expected finite"),
    (lambda: energy.mchn_energy([1.0], [[1.0]], beta=0), "beta is 0; expected a finite number > 0"),
    (lambda: energy.krotov_hopfield_energy([1.0], [[1.0]], 1.5), "degree is 1.5; expected a whole number"),
    (lambda: energy.global_energy([1.0], []), "groups holds 0 layers; expected at least 1"),
    (lambda: energy.log_sum_exp([]), r"y has shape \(0,\)"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Where digits are lost: far from 0, at tiny and huge scales, at every temperature


def exactly(quantity, x, patterns):
    """A quantity of ``memlm.quantities.Balls`` at a float point, at 3000 bits, as a float."""
    import flint

    with flint.ctx.workprec(3000):
        return float(quantity(Balls(x, patterns)))


def hard_cases(count=150):
    """(x, patterns, beta): scales from 1e-140 to 1e140, up to 1e8 scales away from 0; duplicates, ties, equal norms."""
    random = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=random, dtype=torch.float64)
    for k in range(count):
        d, n = (1, 2, 3, 16)[k % 4], (1, 2, 5)[k % 3]
        scale, away = 10.0 ** ((-140, -9, -3, 0, 3, 9, 140)[k % 7]), (0, 1e3, 1e6, 1e8)[k % 4]
        patterns = draw(d, n)
        if k % 5 == 1:
            patterns = (2 * patterns).round() / 2
        if k % 5 == 2:
            patterns = patterns[torch.randint((d + 1) // 2, (d,), generator=random)]
        if k % 5 == 3:
            patterns = patterns / patterns.norm(dim=-1, keepdim=True)
        patterns = scale * (patterns + away)
        x = (patterns[0], patterns.mean(0), torch.zeros(n, dtype=torch.float64), patterns[0] + 100 * scale * draw(n))[k % 4]
        yield x, patterns, (1e-10, 0.5, 1.0, 7.0, 1e10)[k % 5]


def off_by(value):
    """Largest error of value(x, patterns, beta) in units of 1e-15 (n + d + 8) of the MCHN energy."""
    worst = 0.0
    for x, patterns, beta in hard_cases():
        found, exact = float(value(x, patterns, beta)), exactly(lambda q, b=beta: q.M_at(b), x, patterns)
        size = 1e-15 * (sum(patterns.shape) + 8) * (exact + 1e-292)
        worst = max(worst, abs(found - exact) / size if math.isfinite(found) else math.inf)
    return worst


def test_T1_mchn_energy_keeps_its_digits_at_every_scale_and_planted_ways_do_not():
    assert off_by(energy.mchn_energy) < 1
    assert all(energy.mchn_energy(*case) >= 0 for case in hard_cases())

    def by_products(x, p, beta):
        largest = p.square().sum(-1).max()
        return (x.square().sum() + largest) / 2 + math.log(len(p)) / beta - energy.log_sum_exp(x @ p.T, beta)

    def squares(x, p):
        norms = p.square().sum(-1)
        return (x - p).square().sum(-1) + norms.max() - norms

    planted = {
        "inner products": by_products,
        "logarithm of the mean alone": lambda x, p, beta: (
            squares(x, p).min() / 2 - (beta * (squares(x, p).min() - squares(x, p)) / 2).exp().mean().log() / beta
        ),
        "c_i lost": lambda x, p, beta: energy._mchn((x - p).square().sum(-1), beta),
        "log d added at the end": lambda x, p, beta: -energy.log_sum_exp(-squares(x, p) / 2, beta) + math.log(len(p)) / beta,
    }
    refused = sum(off_by(wrong) > 1 for wrong in planted.values())
    assert refused == len(planted) == 4


def test_gradients_and_hessians_keep_their_digits_far_out():
    near = 1e-3 * PLANE
    for shift in (0.0, 1e3, 1e9):
        moved, x = near + shift, near[:1] + 1e-3 + shift
        there = (moved - moved[0], x - moved[0])  # the same picture, seen from a pattern: exact differences
        for beta in (1.0, 1e6):
            sq = (there[1] - there[0]).square().sum(-1)
            w = torch.softmax(-sq, -1)
            expected = 2 * (w[:, None] * (there[1] - there[0])).sum(0)
            assert (energy.layer_gradient(x, moved)[0] - expected).abs().max() < 1e-15 * 1e-2
            assert torch.isfinite(energy.mchn_gradient(x, moved, beta)).all()
        spread = (w[:, None] * there[0]).sum(0)
        covariance = (there[0] - spread).T @ (w[:, None] * (there[0] - spread))
        expected = 2 * (torch.eye(2, dtype=torch.float64) - 2 * covariance)
        assert (energy.layer_hessian(x, moved)[0] - expected).abs().max() < 1e-14


@pytest.mark.parametrize(
    ("y", "beta", "exact"),
    [
        ([1e308, 1e308], 10.0, 1e308),
        ([-1e308, 1e308], 10.0, 1e308),
        ([1.7e308, -1.7e308], 1e300, 1.7e308),
        ([3.0, 3.0], 1e300, 3.0),
        ([3.0, 3.0], 1e-300, math.log(2) * 1e300),
        ([5e-324, 0.0], 1.0, math.log(2)),
        ([-7.25], 1e-300, -7.25),
        ([1.0, 2.0], Fraction(1, 2), 2 * math.log(math.exp(0.5) + math.exp(1))),
    ],
)
def test_log_sum_exp_at_the_ends_of_the_floats(y, beta, exact):
    assert energy.log_sum_exp(y, beta).item() == pytest.approx(exact, rel=4e-16)


def test_distinct_sees_what_is_apart_at_any_distance_from_0():
    pair = torch.tensor([[0.0, 0.0], [1e-3, 0.0]], dtype=torch.float64)

    def right(f):
        apart = all(len(f(pair + shift, 1e-4)) == 2 and len(f(pair + shift, 1e-2)) == 1 for shift in (0, 1.0, 1e3, 1e6, 1e8))
        many = torch.cat([pair + 1e6] * 20)  # from 25 points on torch takes inner products by itself
        return apart and len(f(many, 1e-4)) == 2 and len(f(1e-200 * pair, 0.0)) == 2 and len(f(1e250 * pair, 1e240)) == 2

    def by(distances):
        return lambda points, tol: points[~(distances(points) <= tol).tril(-1).any(-1)]

    assert right(energy.distinct)
    planted = {
        "inner products": lambda p: torch.cdist(p, p, compute_mode="use_mm_for_euclid_dist"),
        "squares": lambda p: (p[:, None] - p).square().sum(-1).sqrt(),
        "norms alone": lambda p: (p.norm(dim=-1)[:, None] - p.norm(dim=-1)).abs(),
    }
    refused = sum(not right(by(wrong)) for wrong in planted.values())
    assert refused == len(planted) == 3
    assert energy.distinct(torch.empty(0, 2)).shape == (0, 2)


def test_flips_are_refused_where_energies_say_nothing():
    x, ones = torch.ones(784, dtype=torch.float64), torch.ones(3, 784, dtype=torch.float64)
    x[0] = -1
    assert torch.equal(energy.flip_step(x, ones, partial(energy.krotov_hopfield_energy, degree=100)), ones[0])
    for degree in (107, 150, 151, 2**40):
        with pytest.raises(ValueError, match=rf"degree {degree} is -?inf at one of the states; expected a finite number"):
            energy.flip_step(x, ones, partial(energy.krotov_hopfield_energy, degree=degree))
    planted = {
        "infinite": lambda a, p: torch.full(a.shape[:-1], -math.inf),
        "nan": lambda a, p: torch.full(a.shape[:-1], math.nan),
        "one number for all states": lambda a, p: a.sum(),
        "the exponentials themselves": lambda a, p: -(a @ p.T).exp().sum(-1),
    }
    states = torch.stack([x, ones[0]])
    for wrong in planted.values():
        with pytest.raises(ValueError, match=r"energy (is|has shape) .* expected"):
            energy.flip_step(states, ones, wrong)


SILENT = [
    (lambda: energy.retrieve(PLANE, PLANE, step=lambda x, p: x * math.nan), "the state after a step holds nan"),
    (lambda: energy.retrieve(PLANE, PLANE, step=lambda x, p: x.sum()), r"step returns shape \(\); expected that of x"),
    (lambda: energy.gradient_error(lambda x: x.sum(-1), lambda x: x * math.nan, PLANE), "the closed gradient holds nan"),
    (lambda: energy.gradient_error(lambda x: x.sum(-1), lambda x: x.sum(), PLANE), r"shapes \(3, 2\) and \(\)"),
    (lambda: energy.gradient_error(lambda x: torch.ones(3), lambda x: x, PLANE), "energy does not depend on x"),
    (lambda: energy.mchn_energy([1e160], [[1.0]]), r"x holds 1e\+160; expected finite numbers of at most 1e\+150"),
    (lambda: energy.mchn_energy([1.0], [[1.0]], 1e-310), "beta is 1e-310; expected a finite number > 0"),
    (lambda: energy.log_sum_exp([1.0, -math.inf]), "y holds -inf; expected finite numbers"),
    (lambda: energy.log_sum_exp([1.0, 2.0], 10**400), "beta is a number of 1329 bits; expected a finite number > 0"),
    (lambda: energy.hopfield_energy([1.0, 1.0], [[1.0, -1.0]], bias=[1.0]), r"bias has shape \(1,\); expected \(2,\)"),
]


@pytest.mark.parametrize(("call", "message"), SILENT)
def test_what_would_give_a_silent_nan_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_energy_that_returns_nothing_is_named():
    x = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    for nothing in (None, "low", 1j):
        with pytest.raises(ValueError, match="energy is no array of real numbers"):
            energy.flip_step(x, x, lambda state, patterns, value=nothing: value)
