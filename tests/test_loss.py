"""The loss without logits against the plain form.   ./run_tests.sh tests/test_loss.py"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from memlm import loss, models

D, V = 24, 1003


def case(size=70, bias=True, dtype=torch.float32, scale=1.0, ignored=()):
    g = torch.Generator().manual_seed(size)
    head = nn.Linear(D, V, bias=bias, dtype=dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(generator=g)
    hidden = (scale * torch.randn(size, D, generator=g, dtype=dtype)).requires_grad_()
    targets = torch.randint(0, V, (size,), generator=g)
    targets[list(ignored)] = loss.IGNORED
    return hidden, head, targets


def plain(hidden, head, targets):
    logits = F.linear(hidden, head.weight, head.bias)
    return F.cross_entropy(logits, targets, ignore_index=loss.IGNORED, reduction="sum")


def value_and_gradients(form, hidden, head, targets):
    value = form(hidden, head, targets)
    return [value.detach(), *torch.autograd.grad(value, [hidden, *head.parameters()])]


def distance(form, reference, *arguments):
    """Greatest error of the value and of each gradient, relative to its greatest entry."""
    pairs = zip(value_and_gradients(form, *arguments), value_and_gradients(reference, *arguments), strict=True)
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in pairs)


@pytest.mark.parametrize("rows", [1, 7, 16, 64, 70, 1000])
@pytest.mark.parametrize("bias", [True, False])
def test_value_and_gradients_are_those_of_the_plain_form(monkeypatch, rows, bias):
    monkeypatch.setattr(loss, "PIECE", rows * 1024 * 4)  # rows of 1003 are filled up to 1024
    arguments = case(bias=bias, ignored=(0, 33, 69))
    assert distance(loss.linear_cross_entropy, plain, *arguments) < 1e-5  # float32 sums of 1003 and of 70 terms
    hidden, head, targets = arguments
    logits = F.linear(hidden, head.weight, head.bias)
    terms = F.cross_entropy(logits, targets, ignore_index=loss.IGNORED, reduction="none")
    torch.testing.assert_close(loss.token_losses(hidden, head, targets), terms.detach(), atol=1e-5, rtol=1e-5)


def test_the_comparison_refuses_near_misses():
    def form(change):
        class Form(torch.autograd.Function):
            @staticmethod
            def forward(ctx, hidden, weight, bias, targets):
                with torch.enable_grad():
                    h, w, b = (x.detach().requires_grad_() for x in (hidden, weight, bias))
                    value = change(h, w, b, targets)
                    ctx.gradients = torch.autograd.grad(value, [h, w, b], allow_unused=True, materialize_grads=True)
                return value.detach()

            @staticmethod
            def backward(ctx, g):
                return *ctx.gradients, None

        return lambda hidden, head, targets: Form.apply(hidden, head.weight, head.bias, targets)

    right = lambda h, w, b, t, **how: F.cross_entropy(h @ w.T + b, t, **{"reduction": "sum"} | how)  # noqa: E731
    planted = {
        "mean for sum": lambda h, w, b, t: right(h, w, b, t, reduction="mean"),
        "ignored targets count as word 0": lambda h, w, b, t: right(h, w, b, t.clamp(min=0)),
        "no bias": lambda h, w, b, t: right(h, w, 0 * b, t),
        "the last row is lost": lambda h, w, b, t: right(h[:-1], w, b, t[:-1]),
        "filled up with zeros": lambda h, w, b, t: F.cross_entropy(F.pad(h @ w.T + b, (0, 21)), t, reduction="sum"),
        "gradient without one-hot": lambda h, w, b, t: (
            right(h, w, b, t).detach() + (z := (h @ w.T + b).logsumexp(1).sum()) - z.detach()
        ),
        "hidden states in bfloat16": lambda h, w, b, t: right(h.bfloat16().float(), w, b, t),
    }
    arguments = case(ignored=(3,))
    assert distance(form(right), plain, *arguments) == 0
    refused = sum(distance(form(change), plain, *arguments) > 1e-5 for change in planted.values())
    assert refused == len(planted) >= 3


def test_gradients_are_derivatives(monkeypatch):
    monkeypatch.setattr(loss, "PIECE", 4 * 1024 * 8)
    hidden, head, targets = case(6, dtype=torch.float64, scale=0.3, ignored=(2,))
    g = torch.Generator().manual_seed(0)
    direction = [torch.randn(p.shape, generator=g, dtype=p.dtype) for p in (hidden, *head.parameters())]
    slope = sum(
        (d * e).sum()
        for d, e in zip(value_and_gradients(loss.linear_cross_entropy, hidden, head, targets)[1:], direction, strict=True)
    )

    @torch.no_grad()
    def along(step):
        moved = nn.Linear(D, V, dtype=torch.float64)
        moved.load_state_dict({n: p + step * d for (n, p), d in zip(head.named_parameters(), direction[1:], strict=True)})
        return loss.linear_cross_entropy(hidden + step * direction[0], moved, targets)

    # central difference: error step^2/6 times the third derivative (about 1e3 here) plus rounding 1e-13/step
    assert ((along(1e-5) - along(-1e-5)) / 2e-5).item() == pytest.approx(slope.item(), rel=1e-6)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_extreme_logits_lose_nothing(scale):
    hidden, head, targets = case(20, scale=scale)
    with torch.no_grad():
        doubled = nn.Linear(D, V, dtype=torch.float64)
        doubled.load_state_dict({name: value.double() for name, value in head.state_dict().items()})
        exact = F.cross_entropy(doubled(hidden.double()), targets, reduction="none")
    found = loss.token_losses(hidden, head, targets)
    assert torch.isfinite(found).all()
    # float32 logits of size 5 scale carry 24 roundings of 2^-24 each
    torch.testing.assert_close(found.double(), exact, atol=24 * 2**-24 * 20 * max(scale, 1), rtol=0)
    assert all(torch.isfinite(g).all() for g in value_and_gradients(loss.linear_cross_entropy, hidden, head, targets))


def test_softmax_and_losses_of_bfloat16_logits_go_through_float32():
    g = torch.Generator().manual_seed(0)
    logits, targets = (5 * torch.randn(40, V, generator=g)).bfloat16(), torch.randint(0, V, (40,), generator=g)
    z, found = logits.clone(), torch.zeros(40)
    loss._softmax_minus_one_hot_(z, targets, found)
    exact = logits.double().softmax(1) - F.one_hot(targets, V)
    torch.testing.assert_close(
        found.double(), F.cross_entropy(logits.double(), targets, reduction="none"), atol=1e-5, rtol=0
    )
    assert ((z - exact).abs() <= 2**-8 * exact.abs()).all()  # one rounding to bfloat16, not one for softmax and one after


def test_bfloat16_is_no_farther_from_the_truth_than_the_plain_form(monkeypatch):
    """Under autocast both forms round the same factors; the truth is float64 from the same weights."""
    monkeypatch.setattr(loss, "PIECE", 20 * 1024 * 2)
    hidden, head, targets = case(70)
    doubled = nn.Linear(D, V, dtype=torch.float64)
    doubled.load_state_dict({name: value.double() for name, value in head.state_dict().items()})
    truth = value_and_gradients(plain, hidden.detach().double().requires_grad_(), doubled, targets)
    errors = {}
    for name, form in (("plain", plain), ("ours", loss.linear_cross_entropy)):
        with torch.autocast("cpu", torch.bfloat16):
            found = value_and_gradients(form, hidden, head, targets)
        assert all(part.dtype == torch.float32 for part in found)
        errors[name] = [((a - b).norm() / b.norm()).item() for a, b in zip(found, truth, strict=True)]
    for ours, theirs in zip(errors["ours"], errors["plain"], strict=True):
        assert ours < max(1.2 * theirs, 2**-9)  # the same roundings, summed in another order
    assert errors["ours"][1] > 2**-12, "the products were in bfloat16"


@pytest.mark.parametrize("size", [0, 1])
def test_few_or_no_tokens(size):
    hidden, head, targets = case(size)
    value, *gradients = value_and_gradients(loss.linear_cross_entropy, hidden, head, targets)
    assert value.item() == pytest.approx(plain(hidden, head, targets).item(), rel=1e-5)
    assert [g.shape for g in gradients] == [hidden.shape, head.weight.shape, head.bias.shape]


def test_nothing_counts_where_every_target_is_ignored():
    found = value_and_gradients(loss.linear_cross_entropy, *case(5, ignored=range(5)))
    assert all(torch.equal(part, torch.zeros_like(part)) for part in found)


@pytest.mark.parametrize("target", [-1, V, 1023, 5000])
def test_a_target_outside_the_vocabulary_is_refused(target):
    hidden, head, targets = case(5)
    targets[2] = target
    with pytest.raises(
        ValueError, match=rf"target is {target}; expected 0 <= target < {V}, or {loss.IGNORED} to leave it out"
    ):
        loss.linear_cross_entropy(hidden, head, targets)


def test_shapes_that_do_not_fit_are_named():
    hidden, head, targets = case(5)
    with pytest.raises(ValueError, match=r"targets have shape \(4,\); expected \(5,\)"):
        loss.linear_cross_entropy(hidden, head, targets[:4])


def test_gradients_can_be_taken_once():
    value = loss.linear_cross_entropy(*case(5))
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


class LargestTensor(TorchDispatchMode):
    """Bytes of the largest storage that an operation returns."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("low", [False, True])
def test_the_logits_are_never_whole(monkeypatch, low):
    piece = 2**17
    monkeypatch.setattr(loss, "PIECE", piece)
    hidden, head, targets = case(2000)
    largest = {}
    for name, form in (("plain", plain), ("ours", loss.linear_cross_entropy)):
        with LargestTensor() as seen, torch.autocast("cpu", torch.bfloat16, enabled=low):
            value_and_gradients(form, hidden, head, targets)
        largest[name] = seen.bytes
    assert largest["plain"] >= 2000 * V * 4
    assert largest["ours"] <= max(piece, 2000 * D * 4)  # a piece, or the hidden states


@pytest.mark.parametrize("name", ["vanilla", "gpt2", "openelm"])
def test_a_model_learns_the_same_from_either_form(name):
    torch.manual_seed(0)
    model = {
        "vanilla": lambda: models.VanillaTransformer(131, 1, 32, 4, 48, 0.0),
        "gpt2": lambda: models.gpt2(131, 1, 32, 4, 24, 0.0),
        "openelm": lambda: models.OpenELM(131, 40, (2, 4), (1, 2), (0.5, 2.0), 24, 16, 0.0),
    }[name]()
    ids = torch.randint(0, 131, (3, 21))
    x, y = ids[:, :-1], ids[:, 1:].clone()
    y[1, 4:] = loss.IGNORED
    whole = F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum")
    pieces = loss.linear_cross_entropy(model.hidden(x), model.head, y)
    assert pieces.item() == pytest.approx(whole.item(), rel=1e-6)
    for parameter, a, b in zip(
        model.parameters(), *(torch.autograd.grad(v, list(model.parameters())) for v in (pieces, whole)), strict=True
    ):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max() + 1e-6, parameter.shape  # keys' biases have gradient 0
