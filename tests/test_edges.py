"""Every public function of the theory, given nan, infinity, nothing or too much: a ValueError, or an answer that is finite.

./run_tests.sh tests/test_edges.py
"""

import inspect
import math
from fractions import Fraction

import flint
import numpy as np
import pytest
import torch

from memlm import (
    ball,
    bounds,
    certified,
    descent,
    energy,
    layered,
    lemmas,
    planted,
    quantities,
    readings,
    scaling,
    search,
)

X = torch.tensor([[0.5, -1.0], [2.0, 0.25]], dtype=torch.float64)
P = torch.tensor([[1.0, 0.0], [0.0, 2.5], [1.0, 0.0]], dtype=torch.float64)  # with a duplicate
SIGNS = torch.tensor([[1.0, -1.0], [-1.0, -1.0]], dtype=torch.float64)
GROUPS = [P[:1], P[1:2]]
STACK = [P[:1].expand(2, 1, 2), P[1:2].expand(2, 1, 2)]  # a layer's patterns for each of two states
PATH = torch.stack([X, X + 1, X])


def _seed():
    return torch.Generator().manual_seed(0)


# A good call of every public function; what is not here has to be in OTHERS.
CALLS = {
    energy: {
        "log_sum_exp": (X, 2.0),
        "nearest_sq_distance": (X, P),
        "layer_energy": (X, P),
        "mchn_energy": (X, P, 2.0),
        "hopfield_energy": (SIGNS, P, P[0]),
        "krotov_hopfield_energy": (SIGNS, P, 3),
        "demircigil_energy": (SIGNS, P),
        "global_energy": (X, GROUPS),
        "layer_weights": (X, P),
        "attention_weights": (X, P, 2.0),
        "mean_shift_step": (X, P),
        "attention_step": (X, P, 2.0),
        "layer_gradient": (X, P),
        "mchn_gradient": (X, P, 2.0),
        "layer_hessian": (X, P),
        "mchn_hessian": (X, P, 2.0),
        "flip_step": (SIGNS, SIGNS),
        "retrieve": (X, P, energy.mean_shift_step, 1e-3, 200),
        "distances": (X,),
        "distinct": (P, 1e-6),
        "gradient_error": (energy.log_sum_exp, lambda y: torch.softmax(y, -1), X),
        "whole": ("n", 3, 1),
        "seeded": (0,),
    },
    layered: {
        "checked_groups": (GROUPS,),
        "nearest_energy": (X, P),
        "own_energy": (X, P),
        "printed_layer_energy": (X, P),
        "layer_energies": (X, GROUPS),
        "stack_energy": (X, GROUPS),
        "log_shares": (X, GROUPS),
        "shift": (X, P),
        "nearest_step": (X, P, 1.0),
        "shift_step": (X, P, 1.0),
        "printed_step": (X, P, 1.0, 8),
        "pass_through": (X, GROUPS, layered.nearest_step, 1.0, 2),
        "bookkeeping": (PATH, GROUPS),
        "random_stack": (3, 2, 1, 2, 1.0, _seed()),
        "disjoint": (P[:2], 0.5),
        "storage_margin": (3.0, 0.5, 4),
        "stores_every_pattern": (P[:2], 0.5),
        "storage_slack": (P[:2], 0.5, _seed(), 4),
    },
    descent: {
        "attention": (X, STACK[0], 2.0),
        "attention_margin": (X, STACK, 2.0),
        "squared_steps": (X, STACK[0], 3),
        "depth_margin": (X, STACK, 3),
        "visit": (X, STACK, 1.0),
        "storage_trials": (0, (0.5,), 1),
        "least_separation": (0.5, 3),
        **{
            name: (X, STACK)
            for name in (
                "mean_shift_margin",
                "union_margin",
                "bounds_margin",
                "bookkeeping_margin",
                "conditions_margin",
                "surrogate_margin",
                "nearest_layer_margin",
            )
        },
        "search": (descent.bounds_margin, 10, 0, ((1, 1, 1, 1.0),)),
    },
    lemmas: {
        **{
            name: (X, X + 1)
            for name in (
                "convexity",
                "above_max",
                "below_min",
                "lipschitz",
                "curvature",
                "ties_and_gap",
                "above_mean",
                "between_differences",
                "between_tangents",
                "rounding",
            )
        },
        "attack": (lemmas.convexity, 4000, 0),
    },
    ball: {
        "stirling_correction": (2.0,),
        "stirling_radius": (3.0,),
        "log_volume": (3.0, 1.0),
        "log_mass": (3.0, 1.0, 2),
        "log_partition": (3.0, 1.0, 4, 1),
        "unit_volume_radius": (3.0, 4),
        "unit_mass_radius": (3.0, 4, 1),
    },
    certified: {
        "checked_power": (2,),
        "exact_ball": ("n", Fraction(1, 3)),
        "certified_stirling_radius": (3,),
        "certified_log_volume": (3, Fraction(1, 2)),
        "certified_series": (2, Fraction(1, 2)),
        "certified_log_mass": (3, Fraction(1, 2), 2),
        "certified_log_partition": (3, Fraction(1, 2), 4, 1),
        "certified_unit_volume_radius": (3, 4),
        "certified_unit_mass_radius": (3, 4, 1),
        "certified_line_mass": ([0, 3], [1, Fraction(1, 2)]),
        "certified_slope": ([0], [[-1], [2]]),
        "certified_convex": ([0], Fraction(1, 20), [[-1], [2]]),
        "certified_stationary": ([-2, 0, 1],),
        "certified_well": ([-1], Fraction(1, 2), [[-1], [2]]),
    },
    readings: {
        **{name: (3.0, 1.0, 4) for name in ("consistent", "literal", "repaired", "hybrid", "hybrid_repaired")},
        "certified": (readings.literal, 3, Fraction(1, 2), 4),
    },
    scaling: {
        "fit_exponent": ([1.0, 2.0, 4.0], [1.0, 4.1, 15.9], 0.9),
        "exponent_range": ([1.0, 3.0], [2.0, 4.0], [1.0, 5.0]),
    },
    search: {
        "margin": (bounds.P2, X, P),
        "attack": (bounds.P1, 50, 0, [(2, 2)]),
        "certify": (bounds.P1, ([1], [[0], [5]]), 256),
    },
    quantities: {"ball": (3,), "rational_point": ([1], [[0], [5]])},
    bounds: {"P2_at": (0.5,), "inner_product": (0.5,), "shell": (0.5,), "statement": ()},
}
OTHERS = {
    "hostile": "draws numbers and takes none but sizes",
    "reference": "reads a table by name",
    "statement": "makes a Bound of functions",
    "P2_at": "makes a Bound",
    "inner_product": "makes a Bound",
    "shell": "makes a Bound",
    "convex_within": "makes a Bound",
    "soft_minimum": "takes balls; tried in test_layered",
    "one_for_all": "takes balls; tried in test_layered",
    "peer_steps": "takes nothing",
    "relative": "leaves a nan to the search, which names the point",
}
OPEN = {"fit_exponent", "storage_margin"}  # documented as infinite: two points have no interval, one pattern no neighbour


def broken(value):
    """What a user's mistake makes of an argument of this kind."""
    if isinstance(value, torch.Tensor):
        yield from (torch.full_like(value, bad) for bad in (math.nan, math.inf, -math.inf, 1e200, 1e308))
        yield from (value[:0], value[..., :0], torch.zeros((), dtype=torch.float64), torch.zeros_like(value))
        one = value.clone()
        one[(0,) * one.ndim] = math.nan
        yield one
    elif isinstance(value, list | tuple):
        yield type(value)()
        for bad in broken(value[0]) if value else ():
            yield type(value)([bad, *value[1:]])
    elif isinstance(value, int | float | Fraction) and not isinstance(value, bool):
        yield from (
            math.nan,
            math.inf,
            -math.inf,
            0,
            -1,
            0.5,
            Fraction(1, 3),
            1e-320,
            1e300,
            10**400,
            -(10**400),
            None,
            "two",
        )


def finite(value):
    if isinstance(value, torch.Tensor):
        return bool(value.isfinite().all())
    if isinstance(value, flint.arb):
        return bool(value.is_finite())
    if isinstance(value, np.ndarray | float | np.generic):
        return bool(np.isfinite(value).all())
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    return True  # whole numbers, truth values, Fractions, functions, None for undecided


NAMES = [(module, name) for module, calls in CALLS.items() for name in calls if name not in OTHERS]


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[f"{m.__name__[6:]}.{n}" for m, n in NAMES])
def test_no_bad_argument_gives_a_silent_nan_or_a_traceback(module, name):
    function, arguments = getattr(module, name), CALLS[module][name]
    assert finite(function(*arguments)) or name in OPEN, "the good call"
    for position, argument in enumerate(arguments):
        for bad in broken(argument):
            tried = [*arguments[:position], bad, *arguments[position + 1 :]]
            try:
                value = function(*tried)
            except (ValueError, RuntimeError) as error:
                assert isinstance(error, ValueError) or name == "retrieve", (tried, error)
                assert "expected" in str(error), (tried, error)
                continue
            assert finite(value) or name in OPEN, (tried, value)


def test_every_public_function_of_the_theory_is_tried():
    for module in (*CALLS, planted):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("_") or function.__module__ != module.__name__ or module is planted:
                continue
            assert name in CALLS[module] or name in OTHERS, f"{module.__name__}.{name}"
