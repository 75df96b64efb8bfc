"""The search for violations finds every planted one and none of a true statement.   ./run_tests.sh tests/test_lemmas.py"""

import pytest
import torch

from memlm import claims, lemmas


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors
    yield
    torch.set_num_threads(threads)


def test_attacks_break_every_near_miss_and_no_statement():
    for id, slack in lemmas.SLACKS.items():
        assert lemmas.attack(slack, 4000).slack >= 0, id
        refused = sum(lemmas.attack(wrong, 4000).slack < 0 for wrong in lemmas.PLANTED[id].values())
        assert refused == len(lemmas.PLANTED[id]) >= 3, id
    assert lemmas.SLACKS.keys() == lemmas.PLANTED.keys() and len(lemmas.SLACKS) == 9


def test_an_attack_is_reproducible_and_returns_what_it_found():
    wrong = lemmas.PLANTED["L2"]["log(n - 1)"]
    found, again, other = (lemmas.attack(wrong, 4000, seed) for seed in (1, 1, 2))
    assert found.slack == again.slack and torch.equal(found.x, again.x) and torch.equal(found.y, again.y)
    assert not torch.equal(found.x, other.x) and found.tries == 4000
    assert wrong(found.x, found.y).item() + lemmas.rounding(found.x, found.y).item() == pytest.approx(found.slack, abs=1e-12)
    with pytest.raises(ValueError, match="tries is 3999; expected at least 4000"):
        lemmas.attack(wrong, 3999)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([0.0], [3.0]),  # n = 1: every bound is an equality
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0]),  # all equal, and x = y
        ([1e4, -1e4, 1e4], [-1e4, 1e4, -1e4]),
        ([0.0, -1000.0], [0.0, 0.0]),
        ([1.0, 1.0, 0.5, 0.5], [3.0, 3.0, 2.5, 2.5]),  # ties; x - y constant
    ],
)
def test_slacks_at_the_edges(x, y):
    x, y = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    for id, slack in lemmas.SLACKS.items():
        value = slack(x, y)
        assert value.shape == () and value.isfinite() and value >= -lemmas.rounding(x, y), id


def test_slacks_by_hand():
    x, y = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    log_2, soft = torch.tensor(2.0).double().log(), torch.tensor([1.0, 0.0]).double().logsumexp(0)
    expected = {
        "L2": [0.0, min(soft - 1, log_2 + 1 - soft)],
        "L3": [0.0, min(-soft + 1 + log_2, soft - 1)],  # LSE(-1, 0) = LSE(1, 0) - 1
        "L4": [0.0, 1 - (soft - log_2)],
        "S11": [0.0, 0.0],  # one other entry: both sides are attained
        "S12": [0.0, soft - 0.5 - log_2],
        "S13": [0.0, min(soft - log_2, 1 - soft + log_2)],
    }
    for id, values in expected.items():
        assert lemmas.SLACKS[id](x, y).tolist() == pytest.approx([float(value) for value in values], abs=1e-15), id


def test_a_slack_that_is_nan_or_of_another_shape_is_an_error_that_names_the_vectors():
    def holes(x, y):
        return torch.where(x[..., 0] > 2e3, torch.nan, lemmas.convexity(x, y))

    planted = {
        "nan always": lambda x, y: lemmas.convexity(x, y) * torch.nan,
        "nan at some": holes,
        "nan at one of 20": lambda x, y: lemmas.convexity(x, y).index_fill(0, torch.tensor([7]), torch.nan),
    }
    for wrong in planted.values():
        with pytest.raises(ValueError, match=r"slack is nan at x = \[.*\], y = \[.*\]; expected a number"):
            lemmas.attack(wrong, 4000)
    for wrong in (lambda x, y: lemmas.convexity(x, y).sum(), lambda x, y: x, lambda x, y: 1.0):
        with pytest.raises(ValueError, match=r"slack has shape .*, one number for each pair"):
            lemmas.attack(wrong, 4000)
    with pytest.raises(ValueError, match=r"slack is inf at x = \[.*\], y = \[.*\]; expected a number"):
        lemmas.attack(lambda x, y: torch.full((len(x),), torch.inf), 4000)
    assert claims.attacked("nothing", torch.inf, 4000).passed is None


def test_a_slack_is_a_real_floating_point_number():
    def wrong(x, y):
        return -lemmas.convexity(x, y) - 1

    assert lemmas.attack(wrong, 4000).slack < 0
    for message, change in {
        "the dtype bool": lambda v: v >= 0,
        "the dtype int64": lambda v: (v >= 0).long(),
        "complex numbers": lambda v: v + 1j,
        "NoneType": lambda v: None,
        "slack is inf at x": lambda v: torch.where(v < -5, torch.inf, v),
    }.items():
        with pytest.raises(ValueError, match=f"{message}.*expected"):
            lemmas.attack(lambda x, y, change=change: change(wrong(x, y)), 4000)
    with pytest.raises(ValueError, match="slack is 'L1'; expected a function"):
        lemmas.attack("L1", 4000)
