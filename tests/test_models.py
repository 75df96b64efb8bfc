"""Architectures against hand formulas and slow references.   ./run_tests.sh tests/test_models.py"""

import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F

from memlm import models

SMALL_ELM = {"d_model": 40, "query_heads": (2, 4, 6), "kv_heads": (1, 2, 3), "ffn": (0.5, 2.0), "head_size": 16}
BUILD = {
    "vanilla": lambda dropout=0.0: models.VanillaTransformer(131, 2, 32, 4, 48, dropout, max_length=24),
    "gpt2": lambda dropout=0.0: models.gpt2(131, 2, 32, 4, 24, dropout),
    "openelm": lambda dropout=0.0: models.OpenELM(131, context=24, dropout=dropout, **SMALL_ELM),
}
IDS = torch.randint(0, 131, (3, 20), generator=torch.Generator().manual_seed(0))


def build(name, dropout=0.0, seed=0):
    torch.manual_seed(seed)
    return BUILD[name](dropout)


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", BUILD)
def test_shapes_and_the_two_parts_of_a_model(name):
    model = build(name).eval()
    logits, hidden = model(IDS), model.hidden(IDS)
    assert logits.shape == (3, 20, 131) and logits.dtype == torch.float32
    assert hidden.shape == (3, 20, model.head.weight.shape[1])
    assert torch.equal(F.linear(hidden, model.head.weight, getattr(model.head, "bias", None)), logits)
    assert model(IDS[:1, :1]).shape == (1, 1, 131)
    assert len(model.state_dict()) == len(list(model.parameters()))  # a tied matrix is stored once


@pytest.mark.parametrize("name", BUILD)
def test_no_output_depends_on_a_later_input(name):
    model, moved = build(name).eval(), 0
    before = model(IDS)
    for at in (0, 1, 11, 19):
        changed = IDS.clone()
        changed[:, at] = (changed[:, at] + 1) % 131
        after = model(changed)
        assert torch.equal(before[:, :at], after[:, :at])
        moved += int(((before - after).abs().amax(-1)[:, at:] > 1e-6).all())  # far above rounding of logits of size 0.1
    assert moved == 4, "every later output sees the change, or the test above could not fail"


def test_X2_a_causal_layer_is_torchs_own_under_a_mask():
    layer, x = build("vanilla").layers[1], torch.randn(3, 20, 32)
    with torch.no_grad():
        for parameter in layer.parameters():  # biases begin at 0, where they would not be seen
            parameter.add_(0.1 * torch.randn_like(parameter))
    later = torch.ones(20, 20, dtype=torch.bool).triu(1)

    def distance(mask):
        return (layer(x) - torch.nn.TransformerEncoderLayer.forward(layer, x, mask)).abs().max().item()

    assert distance(later) < 1e-5  # float32 rounding of outputs of size 3
    planted = {"no mask": None, "one later input": later.triu(2), "no input of long ago": later | later.mT.tril(-15)}
    assert all(distance(wrong) > 1e-3 for wrong in planted.values())
    full = layer(x)
    for module, name in ((layer.dropout, "p"), (layer.dropout1, "p"), (layer.dropout2, "p"), (layer.self_attn, "dropout")):
        setattr(module, name, 1.0)  # drops everything, so that no random numbers have to agree
        assert distance(later) < 1e-5 and (layer(x) - full).abs().max() > 1e-3
        setattr(module, name, 0.0)


@pytest.mark.parametrize("name", BUILD)
def test_one_seed_gives_equal_bits_and_dropout_acts_in_training_alone(name):
    one, two, other = build(name, 0.3), build(name, 0.3), build(name, 0.3, seed=1)
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one(IDS), other(IDS))
    torch.manual_seed(5)
    first, second = one(IDS), one(IDS)
    torch.manual_seed(5)
    assert torch.equal(first, two(IDS)) and not torch.equal(first, second)
    assert torch.equal(one.eval()(IDS), one(IDS)) and torch.equal(one(IDS), two.eval()(IDS))


@pytest.mark.parametrize(
    ("vocabulary", "n_layer", "d", "n_head", "context", "count"),
    [(50257, 12, 768, 12, 1024, 124_439_808), (50257, 4, 256, 4, 128, None), (131, 1, 8, 1, 2, None)],
)
def test_X1_parameters_of_gpt2(vocabulary, n_layer, d, n_head, context, count):
    attention = d * 3 * d + 3 * d + d * d + d
    feed_forward = d * 4 * d + 4 * d + 4 * d * d + d
    layer = attention + feed_forward + 2 * 2 * d  # two norms
    assert layer == 12 * d**2 + 13 * d
    expected = vocabulary * d + context * d + n_layer * layer + 2 * d  # the last norm; the output matrix is the embedding
    with torch.device("meta"):
        model = models.gpt2(vocabulary, n_layer, d, n_head, context, 0.1)
    assert size(model) == expected == (count or expected)


def test_X1_gpt2_is_transformers_own_with_its_loss_head():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = build("gpt2").eval()
    config = GPT2Config(vocab_size=131, n_layer=2, n_embd=32, n_head=4, n_positions=24, attn_implementation="eager")
    theirs = GPT2LMHeadModel(config).eval()
    theirs.transformer.load_state_dict(model.network.state_dict())
    # eager attention and GELU in eight steps against one kernel each: float32 rounding of logits of size 0.1
    torch.testing.assert_close(model(IDS), theirs(IDS).logits, atol=1e-6, rtol=1e-5)
    assert model.network.wte.weight.std().item() == pytest.approx(0.02, rel=0.05)  # 4192 numbers: 1.1 % a deviation
    projection = torch.cat([block.mlp.c_proj.weight.flatten() for block in model.network.h])
    assert projection.std().item() == pytest.approx(0.02 / math.sqrt(2 * 2), rel=0.05)  # 8192 numbers


PRINTED = {
    "39.95M": (954, [6, 6, 6, 6, 8, 8, 8, 10], [3, 3, 3, 3, 4, 4, 4, 5], "2.184"),
    "60.26M": (1280, [6, 6, 6, 6, 8, 8, 8, 10], [3, 3, 3, 3, 4, 4, 4, 5], "1.838"),
    "80.20M": (1440, [6, 6, 6, 8, 8, 8, 10, 10], [3, 3, 3, 4, 4, 4, 5, 5], "2.034"),
}


@pytest.mark.parametrize("name", PRINTED)
def test_X4_parameters_of_the_three_published_shapes(name):
    d, queries, kvs, last = PRINTED[name]
    expected = d  # the last norm
    for i, (q, kv) in enumerate(zip(queries, kvs, strict=True)):
        multiplier = Fraction(1, 2) + (Fraction(last) - Fraction(1, 2)) * i / 7
        width = 8 * math.floor(multiplier * d / 8 + Fraction(1, 2))
        expected += d * 64 * (q + 2 * kv) + 64 * q * d + 3 * d * width + 2 * d + 2 * 64
    with torch.device("meta"):
        model = models.OpenELM(50257, **models.OPEN_ELM[name])
    assert size(model) == 50257 * d + expected
    assert expected / 1e6 == pytest.approx(float(name[:-1]), rel=1e-3)  # what the multiplier was chosen for
    assert set(models.OPEN_ELM) == set(PRINTED)


def slow_openelm(model, ids, kv_of=None, power=0.5):
    """The architecture from its definition, one head and one position pair at a time, in float64."""
    weights = {name: value.double() for name, value in model.state_dict().items()}
    norm = lambda x, w: x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w  # noqa: E731
    size_ = SMALL_ELM["head_size"]
    x = weights["embedding.weight"][ids]
    length = ids.shape[1]
    turn = torch.polar(
        torch.ones(length, size_ // 2, dtype=torch.float64),
        torch.arange(length)[:, None] * 10_000.0 ** (-2 * torch.arange(size_ // 2).double() / size_),
    )
    for i, (q_heads, kv_heads) in enumerate(zip(SMALL_ELM["query_heads"], SMALL_ELM["kv_heads"], strict=True)):
        w = {name.removeprefix(f"layers.{i}."): value for name, value in weights.items() if name.startswith(f"layers.{i}.")}
        heads = (norm(x, w["norm_attention.weight"]) @ w["qkv.weight"].T).split(size_, -1)

        def rotated(y, weight):
            y = norm(y, weight)
            z = torch.complex(y[..., : size_ // 2], y[..., size_ // 2 :]) * turn
            return torch.cat([z.real, z.imag], -1)

        outputs = []
        for h in range(q_heads):
            kv = (kv_of or (lambda h, q, k: h // (q // k)))(h, q_heads, kv_heads)
            q = rotated(heads[h], w["norm_query.weight"])
            k, v = rotated(heads[q_heads + kv], w["norm_key.weight"]), heads[q_heads + kv_heads + kv]
            scores = (q @ k.mT / size_**power).masked_fill(torch.ones(length, length).triu(1).bool(), -math.inf)
            outputs.append(scores.softmax(-1) @ v)
        x = x + torch.cat(outputs, -1) @ w["out.weight"].T
        gate, up = (norm(x, w["norm_ffn.weight"]) @ w["gate_up.weight"].T).chunk(2, -1)
        x = x + (gate * gate.sigmoid() * up) @ w["down.weight"].T
    return norm(x, weights["norm.weight"]) @ weights["embedding.weight"].T


def test_X4_openelm_is_its_definition_computed_slowly():
    torch.manual_seed(3)
    model = build("openelm").double().eval()
    with torch.no_grad():
        for parameter in model.parameters():  # away from the initialisation, where a norm's weight would not be seen
            parameter.mul_(5 if parameter.dim() == 2 else 1).add_(0.1 * torch.randn_like(parameter))
        logits = model(IDS)
        rounding = 1e-5 * logits.abs().max()  # the rotation table is float32: angles up to 20 are off by 1e-6
        assert (logits - slow_openelm(model, IDS)).abs().max() < rounding
        planted = {"heads dealt in turn": {"kv_of": lambda h, q, k: h % k}, "scores over size": {"power": 1.0}}
        planted["first head for all"] = {"kv_of": lambda h, q, k: 0}
        refused = sum(bool((logits - slow_openelm(model, IDS, **p)).abs().max() > 10 * rounding) for p in planted.values())
        assert refused == len(planted) >= 3


def test_rotary_scores_depend_on_the_distance_alone():
    q, k = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    cos, sin = build("openelm").rotation
    turned = [
        [torch.dot(models.rotate(q, cos[m], sin[m]), models.rotate(k, cos[n], sin[n])) for n in range(9)] for m in range(9)
    ]
    scores = torch.tensor(turned)
    for shift in range(-8, 9):
        assert scores.diagonal(shift).std(correction=0) < 1e-5  # float32 rounding of scores of size 4
    assert scores[0].std() > 0.1
    torch.testing.assert_close(scores[0, 0], torch.dot(q, k))


def test_dropout_of_openelm_acts_on_embedding_and_attention():
    model = build("openelm", 0.5)
    differs = lambda: not torch.equal(model(IDS), model(IDS))  # noqa: E731
    assert differs()
    model.dropout.p = 0.0
    assert differs(), "attention alone"
    for layer in model.layers:
        layer.attention_dropout = 0.0
    assert not differs()
    model.dropout.p = 0.5
    assert differs(), "embedding alone"


def test_openelm_weights_begin_at_the_printed_scale():
    model = build("openelm")
    for name, value in model.named_parameters():
        if value.dim() == 2:
            assert value.std().item() == pytest.approx(0.02, rel=6 / math.sqrt(2 * value.numel())), name  # six deviations
        else:
            assert torch.equal(value, torch.ones_like(value)), name


@pytest.mark.parametrize("name", BUILD)
def test_bfloat16_autocast_is_near_float32(name):
    model = build(name).eval()
    with torch.autocast("cpu", torch.bfloat16):
        low = model(IDS).float()
    scale = model(IDS).abs().max()
    assert (low - model(IDS)).abs().max() < 0.03 * scale  # a few bfloat16 roundings of 2^-8
    assert not torch.equal(low, model(IDS))


@pytest.mark.parametrize("name", BUILD)
def test_a_sequence_longer_than_the_context_is_named(name):
    with pytest.raises(ValueError, match="sequence length is 25; expected at most context = 24"):
        build(name)(torch.zeros(1, 25, dtype=torch.int64))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kv_heads": (1, 2)}, "kv_heads has 2 layers; expected 3, as query_heads has"),
        ({"kv_heads": (1, 3, 3)}, "kv_heads has 3 heads; expected a divisor of that layer's 4 query heads"),
        ({"kv_heads": (0, 2, 3)}, "kv_heads has 0 heads; expected a divisor"),
        ({"head_size": 15}, "head_size is 15; expected an even number"),
    ],
)
def test_impossible_heads_are_named(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        models.OpenELM(131, **SMALL_ELM | change)


@pytest.mark.parametrize(
    "make", [lambda d: models.gpt2(131, 1, d, 4, 8, 0.0), lambda d: models.VanillaTransformer(9, 1, d, 4, 8, 0.0)]
)
def test_a_width_that_heads_do_not_divide_is_named(make):
    with pytest.raises(ValueError, match="d_model is 33; expected a multiple of n_head = 4"):
        make(33)
