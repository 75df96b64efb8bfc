"""Diagnostics of collapse against models of known answer, and a real one.   ./run_tests.sh tests/test_collapse.py"""

import dataclasses
import itertools
import json
import math
import shutil
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from memlm import loss, models, reader
from memlm.calibration import Markov, Memoriser, Mixture, Uniform
from memlm.collapse import BadSequences, EmptyHeldOut, Overlap, collapse_report, memoriser_floor
from memlm.corpora import IGNORED
from memlm.reader import BadModel, NotCausal

STORIES = Path(__file__).resolve().parents[2] / "shared" / "data" / "stories260K"
SOURCES = [(20, 16, 5, 0), (100, 16, 12, None), (300, 12, 30, 0)]  # d, T, V, begin token


def ids(n, t, vocabulary, seed=0):
    return torch.randint(0, vocabulary, (n, t), generator=torch.Generator().manual_seed(seed))


def source(vocabulary, seed, never=None):
    """A random Markov chain; the token ``never`` does not occur in what it gives out."""
    transition = torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(vocabulary), vocabulary))
    if never is not None:
        transition[:, never] = 0
    return Markov(transition / transition.sum(1, keepdim=True))


def case(d, t, vocabulary, begin, heldout=400):
    """A source, d training and some held-out sequences of it, and the lookup table of the former."""
    law = source(vocabulary, d, begin)
    first = ids(d + heldout, 1, vocabulary)[:, 0] if begin is None else torch.full((d + heldout,), begin)
    x = law.sample(first, t + (begin is not None), seed=d)
    lookup = Memoriser(x[:d], vocabulary)
    x = x if begin is None else x[:, 1:]
    return law, x[:d], x[d:], lookup


def energies(model, x):
    with reader.reading(model) as read:
        return read.energies(x[:, :-1], x[:, 1:]).sum(1)


def test_made_up_models_have_the_law_that_they_state():
    """All 27 sequences that follow the token 0, against the products and shares written out."""
    law = source(3, 0)
    x = torch.tensor([[0, *rest] for rest in itertools.product(range(3), repeat=3)])
    stored = x[[1, 5, 5, 20]]
    chain = law.log_transition.exp()[x[:, :-1], x[:, 1:]].prod(1)
    lookup = torch.tensor([sum(row == kept for kept in stored.tolist()) / 4 for row in x.tolist()], dtype=torch.float64)
    for share in (0.0, 0.3, 1.0):
        found = torch.exp(-energies(Mixture(share, Memoriser(stored, 3), law), x))
        torch.testing.assert_close(found, share * lookup + (1 - share) * chain, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(torch.exp(-energies(Uniform(3), x)), torch.full((27,), 1 / 27).double())
    x = law.sample(torch.zeros(20_000, dtype=torch.int64), 3, seed=1)
    counted = torch.bincount(3 * x[:, 1] + x[:, 2], minlength=9) / 20_000
    expected = (chain.view(9, 3).sum(1)).float()
    assert ((counted - expected).abs() < 5 * (expected / 20_000).sqrt()).all()  # five standard errors
    with pytest.raises(ValueError, match=r"share is 1\.5; expected 0 <= share <= 1"):
        Mixture(1.5, law, law)


@pytest.mark.parametrize("shape", SOURCES)
def test_index_is_the_share_of_the_lookup_table(shape):
    law, train, heldout, lookup = case(*shape)
    found = [collapse_report(Mixture(k / 10, lookup, law), train, heldout, shape[3]) for k in range(11)]
    index = [report.index for report in found]
    assert index == pytest.approx([k / 10 for k in range(11)], abs=0.02)
    assert all(a < b for a, b in itertools.pairwise(index))
    one, none = found[10], found[0]
    assert one.index == one.mass == pytest.approx(1) and one.effective_patterns == pytest.approx(len(train))
    assert one.distance == pytest.approx(0, abs=1e-12) and one.gap == math.inf
    assert all(p.index > 0.99 for p in one.prefixes)  # after a prefix of its own it is uniform: held-out ends weigh V^(k-T)
    assert abs(none.gap) < 0.1 < none.distance  # two samples of one law
    for report in found:
        assert report.distance > -1e-12
        if shape[3] is not None:  # Jensen's inequality
            assert report.floor == memoriser_floor(shape[0], shape[1])
            assert report.mass >= math.exp(-report.tokens * report.distance) - 1e-12
    assert collapse_report(law, train, heldout, shape[3]).index == pytest.approx(0, abs=0.02)
    uniform = collapse_report(Uniform(shape[2]), train, heldout, shape[3])
    assert uniform.index < 1e-12 and uniform.substitution.half_height is None and uniform.noise is None
    assert [uniform.entropy["train"], uniform.loss["shuffled"]] == pytest.approx([math.log(shape[2])] * 2)


def test_other_indices_are_refused_by_the_made_up_models():
    """What else one might take for the index, on the calibration table: each misses at least one line of it."""
    law, train, heldout, lookup = case(20, 16, 5, 0, heldout=20)
    begun = torch.cat([torch.zeros(40, 1, dtype=torch.int64), torch.cat([train, heldout])], 1)
    half = Mixture(0.5, lookup, law)
    table = [(lookup, 1), (law, 0), (Uniform(5), 0), (half, 0.5)]
    table += [(Memoriser(begun, 5), 0), (Memoriser(begun[20:], 5), 0)]  # no more mass on training sequences than on unseen
    found = [(collapse_report(model, train, heldout, begin=0), share) for model, share in table]

    def misses(index):
        return [share for report, share in found if not abs(index(report) - share) < 0.02]

    assert not misses(lambda r: r.index)
    planted = {
        "mass without that of held-out sequences": lambda r: r.mass,
        "verbatim share": lambda r: r.prefixes[-1].verbatim_train,
        "the same index after half of the tokens": lambda r: r.prefixes[-1].index,
        "way from the held-out loss to the floor": lambda r: 1 - r.distance / (r.distance + r.gap),
        "share of patterns": lambda r: r.effective_patterns / r.d,
        "not relative to the memoriser": lambda r: r.prefixes[0].mass_train - r.prefixes[0].mass_heldout,
    }
    assert sum(bool(misses(index)) for index in planted.values()) == len(planted) == 6
    # Half and half at every token is another thing: whole sequences come out seldom, single tokens half of the time.
    torn = collapse_report(lambda x: torch.logaddexp(lookup(x), law(x)), train, heldout, begin=0)
    assert torn.index < 0.02 and torn.prefixes[-1].verbatim_train == 1


def test_some_patterns_and_repeated_and_shared_sequences_are_counted():
    _, train, heldout, _ = case(20, 16, 5, 0)
    begun = torch.cat([torch.zeros(20, 1, dtype=torch.int64), train], 1)
    report = collapse_report(Memoriser(begun[:5], 5), torch.cat([train, train[:3]]), heldout, begin=0)
    assert (report.d, report.repeated) == (20, 3)
    assert report.mass == report.index == pytest.approx(1) and report.effective_patterns == pytest.approx(5)
    assert sorted(report.energies["train"])[:6] == pytest.approx([math.log(5)] * 5 + [math.inf])
    report = collapse_report(Memoriser(begun, 5), train, torch.cat([heldout, train[:4]]), begin=0)
    assert (report.shared, report.heldout, report.index) == (4, 400, pytest.approx(1))
    with pytest.raises(Overlap, match=r"5 of 405 held-out sequences are training sequences; expected at most 1\.00%"):
        collapse_report(Memoriser(begun, 5), train, torch.cat([heldout, train[:5]]), begin=0)


def test_basin_of_a_chain_is_linear_and_that_of_a_lookup_table_is_one_token():
    """In a chain a substituted token is felt by the next one alone: the mean rise is m/32 of the whole, and half at 16."""
    law, train, heldout, lookup = case(400, 33, 6, None)
    found = collapse_report(law, train, heldout, damaged=400).substitution
    rise = (np.array(found.energy) - found.energy[0]) / (found.energy[-1] - found.energy[0])
    assert found.strength == (0, 1, 2, 4, 8, 16, 32)
    assert rise == pytest.approx(np.array(found.strength) / 32, abs=0.03)  # 12,800 tokens, rises of 0.6 +- 1.5 nats
    assert found.half_height == pytest.approx(16, abs=1)
    assert collapse_report(lookup, train, heldout).substitution.half_height == 1


def test_shuffled_and_corrupted_sequences_are_what_they_are_called():
    """Of independent tokens with p(0) = 0.9 the energy counts zeros: as many after shuffling, four of forty lost."""
    law = Markov(torch.tensor([[0.9, 0.05, 0.05]]).expand(3, 3).double())
    found = collapse_report(law, torch.zeros(1, 41, dtype=torch.int64), ids(5, 41, 3))
    assert found.loss["shuffled"] == pytest.approx(found.loss["train"]) == pytest.approx(-math.log(0.9))
    assert found.energies["corrupted"] == pytest.approx([-36 * math.log(0.9) - 4 * math.log(0.05)])


def ragged(begin):
    """A source, 100 training and 400 held-out sequences of 6 to 16 tokens of it as lists, and the lookup table; V is 13."""
    transition = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(12), 12))
    transition[:, 0] *= begin is None
    law = Markov(torch.block_diag(transition / transition.sum(1, keepdim=True), torch.ones(1, 1).double()))  # 12 is not used
    first = ids(500, 1, 12)[:, 0] if begin is None else torch.full((500,), begin)
    x = law.sample(first, 16 + (begin is not None), seed=0)[:, begin is not None :].tolist()
    sizes = torch.randint(6, 17, (500,), generator=torch.Generator().manual_seed(1)).tolist()
    rows = [row[:size] for row, size in zip(x, sizes, strict=True)]
    context = [] if begin is None else [begin]
    return law, rows[:100], rows[100:], Memoriser(padded([context + row for row in rows[:100]], IGNORED, 17), 13)


def padded(rows, pad, width=16):
    return torch.tensor([row + [pad] * (width - len(row)) for row in rows])


@pytest.mark.parametrize("begin", [None, 0])
def test_index_of_sequences_of_many_lengths_is_the_share_of_the_lookup_table(begin):
    law, train, heldout, lookup = ragged(begin)
    found = [collapse_report(Mixture(k / 4, lookup, law), train, heldout, begin) for k in range(5)]
    assert [report.index for report in found] == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=0.02)
    none, one = found[0], found[4]
    assert (one.d, one.heldout, one.padding) == (100, 400, 0) and one.mass == pytest.approx(1)
    assert one.distance == pytest.approx(0, abs=1e-12) and one.effective_patterns == pytest.approx(100)
    assert all(p.index > 0.99 for p in one.prefixes) and one.prefixes[-1].verbatim_train > 0.9
    tokens = sum(len(row) - (begin is None) for row in train)
    assert one.tokens == pytest.approx(tokens / 100)
    begun = [row if begin is None else [begin, *row] for row in train]
    by_hand = [-sum(law.log_transition[a, b].item() for a, b in itertools.pairwise(row)) for row in begun]
    assert none.energies["train"] == pytest.approx(by_hand) and none.loss["train"] == pytest.approx(sum(by_hand) / tokens)
    assert none.substitution.energy[0] == pytest.approx(none.loss["train"])


def test_padding_that_is_told_found_or_not_there_changes_nothing():
    """Lists, lengths, a pad id and what is found in full tensors give one report; near-misses are left as they are."""
    _, train, heldout, _ = ragged(None)
    torch.manual_seed(0)
    model = models.gpt2(13, 1, 16, 2, 16, 0.0)
    want = collapse_report(model, train, heldout)
    sizes = tuple(torch.tensor([len(row) for row in part]) for part in (train, heldout))
    x, y = padded(train, 12), padded(heldout, 12)
    found = {"pad": collapse_report(model, x, y, pad=12), "lengths": collapse_report(model, x, y, lengths=sizes)}
    found["lists of lengths"] = collapse_report(model, x, y, lengths=tuple(part.tolist() for part in sizes))
    found["padded lists"] = collapse_report(model, x.tolist(), y.tolist(), pad=12)
    found["pad 3"] = collapse_report(model, padded(train, -3), padded(heldout, -3), pad=-3)
    with pytest.warns(UserWarning, match="the id 12 stands in runs at the ends of .* left out as padding"):
        found["found"] = collapse_report(model, x, y)
    with pytest.warns(UserWarning, match="the id -100 stands in runs"):
        found["labels"] = collapse_report(model, padded(train, -100), padded(heldout, -100))
    for name, report in found.items():
        assert (name, report.padding) == (name, 500 * 16 - sum(map(len, train + heldout)))
        assert dataclasses.replace(report, padding=0) == want, name
    wide = collapse_report(model, padded(train, 12, 24), padded(heldout, 12, 30), pad=12)  # wider than the model's context
    assert dataclasses.replace(wide, padding=0) == want


def test_only_what_cannot_be_text_is_found_to_be_padding():
    torch.manual_seed(0)
    model, x, y = models.gpt2(13, 1, 16, 2, 16, 0.0), ids(20, 12, 12), ids(20, 12, 12, seed=1)
    some, inside, once, alone = (x.clone() for _ in range(4))
    some[:4, -3:] = inside[:, -3:] = 12
    inside[3, 2] = once[::2, -1] = 12  # before other tokens; an end token, one in each
    alone[5, -2:] = 12  # in a single sequence
    eight = [torch.cat([part, torch.full((20, 8), 12)], 1) for part in (x, y)]
    for parts, padding in (((some, y), 12), (eight, 320)):
        with pytest.warns(UserWarning, match="left out as padding"):
            assert collapse_report(model, *parts).padding == padding
    for part in (inside, once, alone):
        report = collapse_report(model, part, y)  # a warning would be an error here
        assert (report.tokens, report.padding) == (11, 0)
    ahead = [part.flip(1) for part in eight]
    with pytest.raises(BadSequences, match="the id 12 stands in runs at the beginnings of 40 sequences and nowhere else"):
        collapse_report(models.gpt2(13, 1, 16, 2, 24, 0.0), *ahead)
    full = torch.full((20,), 12)
    assert collapse_report(model, some, y, lengths=full) == collapse_report(model, some, y, lengths=(full, full))
    assert collapse_report(model, some, y, lengths=full).tokens == 11
    with pytest.raises(BadSequences, match="train has the pad id 12 before other tokens in 1 of 20 sequences"):
        collapse_report(model, inside, y, pad=12)


def test_what_begins_another_training_sequence_is_no_pattern_of_its_own():
    train, heldout = [[0, 1, 2, 3], [0, 1, 2], [0, 2, 1], [0, 1, 2, 3]], [[0, 3, 1], [0, 1, 3, 3], [0, 1], [0, 2, 2]]
    lookup = Memoriser(torch.tensor([[0, 1, 2, 3], [0, 2, 1, IGNORED]]), 4)
    found = collapse_report(lookup, train, heldout, max_shared=0.25)
    assert (found.d, found.repeated, found.heldout, found.shared) == (2, 2, 3, 1)
    assert found.distance == pytest.approx(0, abs=1e-12) and found.floor == pytest.approx(math.log(2) / 2.5)
    assert found.mass == pytest.approx(1)


def test_a_begin_token_that_is_there_already_is_refused():
    _, train, heldout, lookup = case(20, 16, 5, 0)
    begun = [torch.cat([torch.zeros(len(part), 1, dtype=torch.int64), part], 1) for part in (train, heldout)]
    assert collapse_report(lookup, *begun).index == pytest.approx(collapse_report(lookup, train, heldout, begin=0).index)
    with pytest.raises(BadSequences, match="every sequence begins with 0 already; expected begin=None"):
        collapse_report(lookup, *begun, begin=0)
    begun[1][0, 0] = 1  # one that differs does not make it a token like others
    with pytest.raises(BadSequences, match="every sequence begins with 0 already; expected begin=None"):
        collapse_report(lookup, *begun, begin=0)
    begun[0][:3, 0] = begun[1][:60, 0] = 1
    assert collapse_report(lookup, *begun, begin=0).tokens == 17


class Both(torch.nn.Module):
    """Logits that are a mean over all tokens that a mask (t, t) lets each position see."""

    def __init__(self, vocabulary, mask):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.table, self.mask = torch.randn(vocabulary, vocabulary, generator=g), mask

    def forward(self, ids):
        seen = self.mask(ids.shape[1]).float()
        return (seen / seen.sum(1, keepdim=True)) @ self.table[ids]


def causal(t):
    return torch.ones(t, t).tril().bool()


def prefix(k):
    return lambda t: causal(t) | ((torch.arange(t)[:, None] < k) & (torch.arange(t) < k))


MASKS = {
    "prefix of 2": (prefix(2), 12),
    "prefix of 4": (prefix(4), 12),
    "prefix of 8": (prefix(8), 12),
    "all": (lambda t: torch.ones(t, t).bool(), 12),
    "one ahead": (lambda t: torch.ones(t, t).tril(1).bool(), 12),
    "one ahead after 64": (lambda t: causal(t) | ((torch.arange(t)[:, None] > 64) & torch.ones(t, t).tril(1).bool()), 96),
    "all where there are more than 64": (lambda t: causal(t) if t <= 64 else torch.ones(t, t).bool(), 96),
}


@pytest.mark.parametrize(("mask", "length"), MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("tower", [0.0, 90.0, 1e4, -1e4, torch.finfo(torch.float32).min])
def test_who_sees_later_tokens_is_not_causal_whatever_towers_over_the_others_or_is_masked(mask, length, tower):
    model, seen = Both(32, mask), torch.zeros(32)
    seen[0] = tower
    x, y = torch.randint(1, 32, (2, 20, length), generator=torch.Generator().manual_seed(1))
    with pytest.raises(NotCausal, match="outputs depend on later tokens"):
        collapse_report(lambda ids: model(ids) + seen, x, y, damaged=2)
    fine = Both(32, causal)
    assert collapse_report(lambda ids: fine(ids) + seen, x, y, damaged=2).loss["train"] > 0


def test_who_depends_on_the_other_sequences_is_no_law():
    fine = Both(32, causal)
    x, y = torch.randint(1, 32, (2, 20, 12), generator=torch.Generator().manual_seed(1))
    with pytest.raises(BadModel, match="a sequence gets other logits alone than beside others"):
        collapse_report(lambda ids: fine(ids) - fine(ids).mean(0, keepdim=True), x, y, damaged=2)


def test_one_id_may_be_begin_end_and_padding():
    g = torch.Generator().manual_seed(1)
    x, y = torch.randint(2, 32, (2, 30, 16), generator=g)
    ends = torch.randint(6, 15, (30,), generator=g)
    for ids in (x, y):
        ids[:, 0] = 1
        ids[torch.arange(16) >= ends[:, None]] = 1
    model = Both(32, causal)
    told = collapse_report(model, x, y, lengths=ends, damaged=5)
    with pytest.warns(UserWarning, match=r"the id 1 stands in runs at the ends of 60 sequences"):
        found = collapse_report(model, x, y, damaged=5)
    assert found.brief() == told.brief() and found.padding == 2 * int((16 - ends).sum())
    assert collapse_report(model, x, y, pad=1, damaged=5).brief() == told.brief()
    y[3, 0] = 5  # it does not begin all of them, so it is inside of some
    with pytest.raises(BadSequences, match=r"the pad id 1 before other tokens in 29 of 30"):
        collapse_report(model, x, y, pad=1, damaged=5)


def own_report(model, x, y, **options):
    return collapse_report(model, x, y, begin=0, damaged=50, **options)


def greedy_share(model, x, k):
    """Share of sequences (n, T) that a decoding loop reproduces from a begin token and k tokens."""
    out = torch.cat([torch.zeros(len(x), 1, dtype=torch.int64), x[:, :k]], 1)
    with torch.no_grad():
        while out.shape[1] <= x.shape[1]:
            out = torch.cat([out, model(out)[:, -1:].argmax(-1)], 1)
    return (out[:, 1:] == x).all(1).double().mean().item()


@pytest.fixture(scope="module")
def trained():
    """A small GPT-2 that learns 50 random sequences by heart: {step: (report, shares of a greedy loop)}, and what it saw."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = models.gpt2(16, 2, 64, 4, 16, 0.0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    train, heldout = 1 + ids(50, 16, 15), 1 + ids(200, 16, 15, seed=1)
    x, found = torch.cat([torch.zeros(50, 1, dtype=torch.int64), train], 1), {}
    for step in range(101):
        if step in (0, 50, 60, 75, 100):
            report = own_report(model, train, heldout)
            found[step] = report, [greedy_share(model, train, p.k) for p in report.prefixes]
        optimiser.zero_grad()
        loss.linear_cross_entropy(model.hidden(x[:, :-1]), model.head, x[:, 1:]).div(800).backward()
        optimiser.step()
    return model, train, heldout, found


def test_one_pass_tells_what_greedy_decoding_reproduces(trained):
    found = trained[3]
    shares = [share for _, greedy in found.values() for share in greedy]
    assert shares == [p.verbatim_train for report, _ in found.values() for p in report.prefixes]
    assert len({share for share in shares if 0 < share < 1}) >= 3, "the comparison saw more than all and nothing"


def test_index_rises_to_one_as_the_loss_falls_to_the_floor_and_the_rest_moves_before(trained):
    reports = [report for report, _ in trained[3].values()]
    index = [report.index for report in reports]
    assert index[0] < 1e-6 and index[-1] > 0.75 and all(a < b for a, b in itertools.pairwise(index))
    assert reports[-1].loss["train"] == pytest.approx(reports[-1].floor, abs=0.05)
    assert all(r.distance > 0 and r.mass >= math.exp(-16 * r.distance) for r in reports)
    early = reports[1]
    assert early.index < 0.1 and early.prefixes[-1].verbatim_train > 0.8 and early.gap > 2
    assert max(p.verbatim_heldout for r in reports for p in r.prefixes) == 0
    last = reports[-1]
    assert last.loss["train"] < last.loss["corrupted"] < last.loss["shuffled"]
    assert last.effective_patterns == pytest.approx(50, abs=2) and last.entropy["train"] < last.entropy["heldout"]
    assert (
        2 < last.substitution.half_height < 10
    )  # a cue with some false tokens still calls up the rest: a lookup table's not
    assert 0.25 < last.noise.half_height < 1
    assert last.noise.energy[0] == last.substitution.energy[0] == pytest.approx(last.loss["train"], abs=1e-9)
    assert json.loads(json.dumps(last.to_dict()))["prefixes"][0]["index"] == last.index


def test_a_report_is_repeatable_and_leaves_no_trace(trained):
    model, train, heldout, _ = trained
    model.train()
    model.network.h[0].eval()
    modes, state = [part.training for part in model.modules()], torch.get_rng_state()
    once = own_report(model, train, heldout)
    assert once == own_report(model, train, heldout) != own_report(model, train, heldout, seed=1)
    assert modes == [part.training for part in model.modules()] and torch.equal(state, torch.get_rng_state())
    assert not any(part._forward_hooks for part in model.modules())
    plain = own_report(lambda x: model.eval()(x), train, heldout)  # without hidden states and embedding
    assert plain.noise is None and plain.index == pytest.approx(once.index, rel=1e-4)  # float32, 16 tokens
    assert plain.loss == pytest.approx(once.loss, rel=1e-5)


@pytest.mark.parametrize("kind", ["vanilla", "openelm"])
def test_noise_reaches_the_embedding_of_every_architecture(kind):
    torch.manual_seed(0)
    if kind == "vanilla":
        model = models.VanillaTransformer(11, 1, 16, 2, 16, 0.1)
    else:
        model = models.OpenELM(11, 16, (2,), (1,), (1.0, 1.0), head_size=8)
    energy = collapse_report(model, ids(9, 12, 11), ids(9, 12, 11, seed=1)).noise.energy
    assert len(set(energy)) == len(energy) == 7 and energy[1] == pytest.approx(energy[0], abs=0.05)


def test_models_that_look_ahead_are_refused():
    torch.manual_seed(0)
    sound = models.VanillaTransformer(11, 2, 32, 4, 32, 0.1)
    x, y = ids(9, 12, 11), ids(9, 12, 11, seed=1)

    def without_mask(inputs):
        x = sound.embedding(inputs) + sound.positions[: inputs.shape[1]]
        for layer in sound.layers:
            x = torch.nn.TransformerEncoderLayer.forward(layer, x)
        return sound.head(x)

    def one_ahead(inputs):
        return sound(inputs) + 0.01 * sound(inputs.roll(-1, 1))

    def last_only(inputs):
        logits = sound(inputs)
        logits[:, 0, 3] += 0.01 * inputs[:, -1]
        return logits

    def at_the_end(inputs):
        logits = sound(inputs)
        logits[:, -2:-1, 3] += 0.01 * inputs[:, -1:]
        return logits

    collapse_report(sound, x, y)
    with pytest.raises(reader.BadModel, match="the same tokens get other logits when asked twice; expected equal ones"):
        collapse_report(lambda inputs: sound(inputs), x, y)  # with dropout, which cannot be seen from outside
    sound.eval()
    collapse_report(lambda inputs: sound(inputs).bfloat16(), x, y)
    planted = (without_mask, one_ahead, last_only, at_the_end)
    for model in planted:
        with pytest.raises(reader.NotCausal, match=r"\d+ of \d+ outputs depend on later tokens; expected none"):
            collapse_report(model, x, y)
    assert len(planted) == 4


X, Y = ids(9, 12, 11), ids(9, 12, 11, seed=1)


LOW = (0.0, -100.0, -1e4, -65504.0, -1e9, torch.finfo(torch.float32).min, -math.inf)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("low", LOW)
def test_masked_ids_and_offsets_neither_hide_nor_feign_a_look_ahead(low, dtype):
    torch.manual_seed(0)
    sound = models.VanillaTransformer(16, 2, 32, 4, 32, 0.0).eval()
    offset = 1e4 if dtype == torch.float32 else 8.0  # after 1e4 half precision has nothing left of them

    def masked(logits):
        low_ids = (logits[..., 11:] + low).clamp(min=torch.finfo(dtype).min)
        return torch.cat([logits[..., :11] + offset, low_ids + offset], -1).to(dtype)

    report = collapse_report(lambda inputs: masked(sound(inputs)), X, Y, damaged=9)
    if low:
        assert report.loss["corrupted"] < 20, "only ids that the model gives out are substituted"
    with pytest.raises(reader.NotCausal, match=r"\d+ of \d+ outputs depend on later tokens"):
        collapse_report(lambda inputs: masked(sound(inputs) + 0.1 * sound(inputs.roll(-1, 1))), X, Y)


class Own(torch.nn.Module):
    """A model of somebody else, causal."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tok, self.rnn = torch.nn.Embedding(11, 8), torch.nn.GRU(8, 8, batch_first=True)
        self.out = torch.nn.Linear(8, 11)

    def forward(self, inputs):
        return self.out(self.rnn(self.tok(inputs))[0])


def test_a_module_is_not_ours_for_the_name_of_an_attribute():
    want = collapse_report(Own(), X, Y)
    strange = {"hidden": 8, "head": None, "positions": torch.nn.Embedding(4, 8), "rotation": 3, "get_input_embeddings": 5}
    strange |= {"embedding": torch.nn.Sequential(), "network": torch.nn.Linear(2, 2), "config": {"n_ctx": 2}}
    for name, value in strange.items():
        model = Own()
        setattr(model, name, value)
        assert collapse_report(model, X, Y) == want, name
    model.config = type("Config", (), {"max_position_embeddings": 4})()
    model.get_input_embeddings = lambda: model.tok
    found = collapse_report(model, X, Y)
    assert found.noise.energy[0] == want.loss["train"] != found.noise.energy[-1]
    assert dataclasses.replace(found, noise=None) == want


OWN = Own().eval()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda x: (OWN(x), None),
            r"ids \(1, 1\) are answered by tuple; expected a dense floating-point tensor \(b, t, V\)",
        ),
        (lambda x: [OWN(x)], "are answered by list"),
        (lambda x: {"logits": OWN(x)}, "are answered by dict"),
        (lambda x: None, "are answered by NoneType"),
        (lambda x: OWN(x).numpy(), "are answered by ndarray"),
        (lambda x: OWN(x).long(), r"are answered by torch\.int64"),
        (lambda x: OWN(x).to_sparse(), r"are answered by sparse_coo torch\.float32; expected a dense floating-point tensor"),
        (lambda x: OWN(x).to("meta"), r"are answered by meta torch\.float32"),
        (lambda x: torch.nested.as_nested_tensor(list(OWN(x)), layout=torch.jagged), "are answered by nested torch"),
        (lambda x: OWN(x)[:, -1:], r"ids \(4, 11\) give logits \(4, 1, 11\); expected \(4, 11, 11\)"),
        (lambda x: OWN(x).transpose(0, 1), r"ids \(4, 11\) give logits \(11, 4, 11\)"),
        (lambda x: OWN(x)[:1], r"ids \(4, 11\) give logits \(1, 11, 11\)"),
        (lambda x: OWN(x)[..., : 10 + (x.shape[1] == 1)], r"give logits \(4, 11, 10\); expected \(4, 11, 11\)"),
        (lambda x: OWN(x).softmax(-1), "numbers >= 0 that sum to 1; expected logits or log-probabilities"),
        (lambda x: OWN.tok.weight[x + 99], r"the model fails on ids \(1, 1\) with IndexError: .*; expected logits"),
        (lambda x: OWN(x).where(torch.arange(x.shape[1])[:, None] < 9, math.nan), "for 9 of 9 sequences hold nan"),
        (lambda x: OWN(x) - math.inf, "for 9 of 9 sequences hold nan"),
        (None, r"model is of type NoneType; expected a callable ids \(b, t\) -> logits"),
        ("gpt2", r"model is 'gpt2'; expected a model: reader\.load_pretrained\('gpt2'\) reads one"),
        (Path("gpt2"), r"reader\.load_pretrained\('gpt2'\) reads one"),
    ],
)
def test_what_is_no_law_of_every_next_token_is_said_in_a_sentence(model, message):
    with pytest.raises(reader.BadModel, match=message) as error:
        collapse_report(model, X, Y)
    assert not isinstance(error.value, reader.NotCausal)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"heldout": Y[:0]}, EmptyHeldOut, "heldout has 0 sequences; expected at least 1"),
        ({"heldout": X, "max_shared": 1.0}, EmptyHeldOut, "every held-out sequence is a training sequence"),
        ({"heldout": X}, Overlap, r"9 of 9 held-out sequences are training sequences; expected at most 1\.00%"),
        ({"train": X[:0]}, BadSequences, "train has 0 sequences"),
        ({"train": X[:, :1], "heldout": Y[:, :1]}, BadSequences, "sequences of 1 tokens; expected at least 2"),
        ({"train": X[:, :5]}, BadSequences, "train has sequences of 5 tokens and heldout of 12; expected equal lengths"),
        ({"train": X.int()}, BadSequences, r"train is torch.int32 of shape \(9, 12\); expected a torch.int64 tensor"),
        ({"train": X[0]}, BadSequences, r"train is torch.int64 of shape \(12,\); expected"),
        ({"heldout": [[1, 2]]}, BadSequences, "heldout is list; expected a torch.int64 tensor"),
        ({"train": X + 1}, BadSequences, "train has ids from 1 to 11; expected 0 to 10, the vocabulary"),
        ({"heldout": Y - 1}, BadSequences, "heldout has ids from -1 to 9"),
        ({"begin": 11}, BadSequences, "begin has ids from 11 to 11; expected 0 to 10"),
        ({"begin": "<s>"}, BadSequences, "begin is '<s>'; expected a token id"),
        ({"train": X[:, :0], "heldout": Y[:, :0]}, BadSequences, "train has sequences of 0 tokens; expected at least 2"),
        ({"pad": 1.0}, BadSequences, r"pad is 1\.0; expected a token id"),
        ({"pad": 1}, BadSequences, "train has the pad id 1 before other tokens in . of 9 sequences"),
        ({"lengths": ([12] * 9, [1] * 9)}, BadSequences, "heldout has sequences of 1 tokens; expected at least 2"),
        ({"lengths": ([12] * 9, [13] * 9)}, BadSequences, "heldout are 9 numbers from 13 to 13; expected 9 up to 12"),
        ({"lengths": ([12] * 9, [12] * 8)}, BadSequences, "lengths of heldout are 8 numbers"),
        ({"lengths": 12}, BadSequences, "lengths are int; expected a pair"),
        ({"lengths": ([12] * 9, [12.0] * 9)}, BadSequences, "lengths of heldout"),
        ({"lengths": ([12] * 9,) * 2, "pad": 1}, BadSequences, "lengths are given beside pad or lists"),
        ({"train": [[1, 2]], "heldout": [[1, 2.5]]}, BadSequences, "heldout has a sequence that is torch.float32"),
        ({"train": [[1, 2], "ab"], "heldout": [[1, 3]]}, BadSequences, "train has a sequence that is str; expected"),
        ({"train": [[1, 2], [3]], "heldout": [[1, 3]]}, BadSequences, "train has sequences of 1 tokens; expected at"),
        ({"train": [[1, 2], [3, 4, 5]], "heldout": [[1, 3, 4, 5]]}, BadSequences, "of 2 to 3 tokens and heldout of 4"),
        ({"train": [[1, 2]], "heldout": []}, EmptyHeldOut, "heldout has 0 sequences"),
        ({"train": [[1, 2]], "heldout": [[1, 11]]}, BadSequences, "heldout has ids from 1 to 11; expected 0 to 10"),
        ({"max_shared": math.nan}, ValueError, "max_shared is nan; expected 0 <= max_shared <= 1"),
        ({"damaged": math.nan}, ValueError, "damaged is nan; expected a whole number"),
        ({"damaged": 0}, ValueError, "damaged is 0; expected a whole number from 1 to 1000000000"),
        ({"max_shared": "1"}, ValueError, "max_shared is '1'; expected 0 <= max_shared <= 1"),
        ({"max_shared": None}, ValueError, "max_shared is None; expected 0 <= max_shared <= 1"),
        ({"seed": 2**64}, ValueError, f"seed is {2**64}; expected a whole number from 0 to {2**64 - 1}"),
        ({"seed": "0"}, ValueError, "seed is '0'; expected a whole number from 0"),
        ({"begin": 2**63}, BadSequences, f"begin is {2**63}; expected a token id"),
        ({"pad": -(2**64)}, BadSequences, f"pad is {-(2**64)}; expected a token id"),
        ({"train": X.to_sparse()}, BadSequences, "train is a sparse_coo tensor; expected a dense torch.int64 tensor"),
        ({"heldout": Y.to("meta")}, BadSequences, "heldout is a meta tensor; expected a dense"),
        ({"train": [X[0].to_sparse()], "heldout": [[1, 2]]}, BadSequences, "a sequence that is sparse_coo; expected token"),
        ({"model": models.VanillaTransformer(11, 1, 8, 1, 8, 0.0, max_length=10)}, reader.TooLong, "is shown 11 tokens"),
        ({"model": lambda x: torch.zeros(len(x), 11)}, reader.BadModel, r"give logits \(1, 11\); expected \(1, 1, V\)"),
        ({"model": lambda x: torch.zeros(*x.shape, 11).log() * 0}, reader.BadModel, "for 9 of 9 sequences hold nan"),
    ],
)
def test_bad_input_is_named(change, error, message):
    torch.manual_seed(0)
    arguments = {"model": models.VanillaTransformer(11, 1, 8, 1, 8, 0.0, max_length=11), "train": X, "heldout": Y}
    collapse_report(**arguments)  # 11 of 12 tokens are shown: it fits
    with pytest.raises(error, match=message):
        collapse_report(**(arguments | change))


def test_the_context_is_read_where_it_stands():
    """Under each architecture's own word, in a nested configuration, and -1 is none."""
    import transformers

    configs = [
        (transformers.MptConfig(max_seq_len=8), 8),
        (transformers.BloomConfig(seq_length=9), 9),
        (transformers.GPT2Config(n_positions=10, n_ctx=4), 10),
        (transformers.RwkvConfig(context_length=11), 11),
        (transformers.LlamaConfig(max_position_embeddings=12), 12),
        (transformers.Gemma3Config(text_config={"max_position_embeddings": 13}), 13),
        (transformers.XLNetConfig(), None),
        (transformers.MambaConfig(), None),
    ]
    for config, context in configs:
        assert reader._context(type("Model", (), {"config": config})()) == context, config.model_type
    torch.manual_seed(0)
    short = models.gpt2(11, 1, 8, 1, 16, 0.0)
    short.network.wpe = torch.nn.Embedding(4, 8)  # fewer than its configuration says
    with pytest.raises(reader.BadModel, match=r"the model fails on ids \(4, 11\) with RuntimeError: .*; expected logits"):
        collapse_report(short, X, Y)


def test_speed_of_a_million_parameters():
    """A tenth of 1,000 sequences of 128 tokens in a tenth of a generous minute; alone on two cores the whole takes 12 s."""
    torch.manual_seed(0)
    model = models.gpt2(512, 4, 144, 4, 128, 0.1)
    assert 1e6 < sum(p.numel() for p in model.parameters()) < 1.2e6
    begun = time.perf_counter()
    collapse_report(model, ids(100, 128, 512), ids(100, 128, 512, seed=1), damaged=10)
    assert time.perf_counter() - begun < 6 * 4  # four workers may share the machine


def test_pretrained_models_come_from_safetensors_alone(tmp_path, monkeypatch):
    import huggingface_hub.constants
    from transformers import GPT2Config, GPT2LMHeadModel

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    shape = {"n_layer": 1, "n_embd": 8, "n_head": 1, "vocab_size": 11, "n_positions": 11}
    theirs = GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, **shape))
    theirs.save_pretrained(tmp_path / "good")
    model = reader.load_pretrained(tmp_path / "good")
    part = X[:, :11]
    report = collapse_report(model, part, Y[:, :11])
    assert report.noise is not None and not model.training
    assert report.loss["train"] == pytest.approx(theirs.eval()(part, labels=part).loss.item(), rel=1e-5)
    with pytest.raises(reader.TooLong, match="is shown 12 tokens of a sequence; expected at most its context, 11"):
        collapse_report(model, X, Y, begin=0)
    (tmp_path / "pickled").mkdir()
    theirs.config.save_pretrained(tmp_path / "pickled")
    torch.save(theirs.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    begun = time.perf_counter()
    for where in (tmp_path / "pickled", tmp_path / "nowhere", "nobody/nothing"):
        with pytest.raises(reader.BadModel, match=r"no model can be read from '.*' \(.*\); expected a folder or a hub id"):
            reader.load_pretrained(where)
    assert time.perf_counter() - begun < 5


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a tiny GPT-2 of two layers as transformers saves it, and its weights."""
    from safetensors.torch import load_file
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = {"n_layer": 2, "n_embd": 8, "n_head": 1, "vocab_size": 11, "n_positions": 12}
    folder = tmp_path_factory.mktemp("saved") / "model"
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(bos_token_id=0, eos_token_id=0, **shape)).save_pretrained(folder)
    return folder, load_file(folder / "model.safetensors")


def changed(saved, where, weights=None, config=None, files=None):
    """A copy of the folder with other weights, words of its configuration, or files."""
    from safetensors.torch import save_file

    folder, found = saved
    shutil.copytree(folder, where)
    if weights:
        save_file(weights(dict(found)), where / "model.safetensors", metadata={"format": "pt"})
    if config:
        told = json.loads((folder / "config.json").read_text(encoding="utf8"))
        (where / "config.json").write_text(json.dumps(told | config), encoding="utf8")
    for name, data in (files or {}).items():
        (where / name).write_bytes(data)
    return where


def renamed(before, after=""):
    return lambda weights: {after + key.removeprefix(before): value for key, value in weights.items()}


def without(part):
    return lambda weights: {key: value for key, value in weights.items() if part not in key}


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
ADDED = {"content": "<p>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


def tokenizer(words, added=()):
    model = {"type": "WordLevel", "vocab": {str(i): i for i in range(words)}, "unk_token": "0"}
    return json.dumps({"version": "1.0", "model": model, "added_tokens": [ADDED | {"id": i} for i in added]}).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": renamed("", "_orig_mod.")}, r"the files lack: .*; 26 weights the model lacks: _orig_mod\.transformer"),
        ({"weights": renamed("", "module.")}, r"the model lacks: module\.transformer"),
        ({"weights": without(".h.1.")}, r"12 weights the files lack: transformer\.h\.1\..* and 8 more"),
        ({"weights": without("ln_f.bias")}, r"1 weights the files lack: transformer\.ln_f\.bias"),
        ({"weights": without("wte")}, r"the files lack: .*transformer\.wte\.weight"),
        ({"weights": lambda w: w | {"v_head.weight": torch.ones(1, 8)}}, r"1 weights the model lacks: v_head\.weight"),
        ({"weights": lambda w: {k: v.to(torch.int8) for k, v in w.items()}}, "are no floating-point numbers"),
        ({"config": {"n_layer": 1}}, r"weights the model lacks: transformer\.h\.1"),
        ({"config": {"tie_word_embeddings": False}}, r"1 weights the files lack: lm_head\.weight"),
        ({"config": {"vocab_size": 12}}, r"of another shape are: transformer\.wte\.weight \(11, 8\) for \(12, 8\)"),
        ({"config": {"n_positions": 9}}, r"transformer\.wpe\.weight \(12, 8\) for \(9, 8\)"),
        ({"config": {"quantization_config": {"quant_method": "gptq", "bits": 4}}}, "has a quantization_config"),
        ({"config": {"model_type": "t5"}}, "Unrecognized configuration class"),
        ({"config": {"architectures": ["BertForMaskedLM"]}}, "it is BertForMaskedLM, which sees later tokens"),
        ({"files": {"model.safetensors": POINTER}}, r"model\.safetensors is a Git-LFS pointer"),
        ({"files": {"config.json": POINTER}}, r"config\.json is a Git-LFS pointer"),
        ({"files": {"model.safetensors": b""}}, r"model\.safetensors is damaged or cut off"),
        ({"files": {"model.safetensors": b"<!DOCTYPE html>" * 99}}, r"model\.safetensors is damaged or cut off"),
        ({"files": {"config.json": b""}}, "not a valid JSON file"),
        ({"files": {"tokenizer.json": tokenizer(11, [11])}}, "tokenizer has ids up to 11, its embedding 11 rows"),
        ({"files": {"vocab.json": b'{"a": 11}'}}, "tokenizer has ids up to 11"),
        ({"files": {"added_tokens.json": b'{"<pad>": 11}'}}, "tokenizer has ids up to 11"),
    ],
)
def test_a_model_is_read_whole_or_refused(saved, tmp_path, change, message):
    with pytest.raises(reader.BadModel, match=rf"no model can be read from .* \(.*{message}.*\); expected a folder"):
        reader.load_pretrained(changed(saved, tmp_path / "x", **change))


def test_what_old_or_thrifty_files_leave_out_or_add_is_no_fault(saved, tmp_path):
    """No prefix, masks among the weights, a fitting tokenizer, half precision: the model it was; an untied head is kept."""
    own, want = torch.randn(11, 8), reader.load_pretrained(saved[0])(X).logits
    read = {
        "no prefix": {"weights": renamed("transformer.")},
        "masks": {"weights": lambda w: w | {"transformer.h.0.attn.bias": torch.ones(1, 1, 12, 12).bool()}},
        "old": {"weights": lambda w: w | {"transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}},
        "tokenizer": {"files": {"tokenizer.json": tokenizer(9, [9, 10])}},
        "other words": {"files": {"vocab.json": b'{"eng": {"a": 99}}'}},
        "half": {"weights": lambda w: {k: v.bfloat16() for k, v in w.items()}},
        "untied": {"weights": lambda w: w | {"lm_head.weight": own}},
    }
    for name, change in read.items():
        model = reader.load_pretrained(changed(saved, tmp_path / name, **change))
        assert torch.allclose(model(X).logits, want, atol=1e-2 * (name == "half")) == (name != "untied"), name
        assert model.dtype == torch.float32 and not model.training
    assert torch.equal(model.lm_head.weight, own)


def test_shards_are_all_there_or_the_model_is_refused(saved, tmp_path):
    want = reader.load_pretrained(saved[0])
    want.save_pretrained(tmp_path, max_shard_size="2KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 2 and torch.equal(reader.load_pretrained(tmp_path)(X).logits, want(X).logits)
    shards[1].write_bytes(shards[1].read_bytes()[:-9])
    with pytest.raises(reader.BadModel, match=rf"{shards[1].name} is damaged or cut off"):
        reader.load_pretrained(tmp_path)
    shards[1].unlink()
    with pytest.raises(reader.BadModel, match=rf"{shards[1].name}.*; expected a folder or a hub id"):
        reader.load_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    places = {tmp_path: "no config.json in it", shards[0]: "no config.json in it", "": "where is ''", 3: "where is 3"}
    for where, message in places.items():
        with pytest.raises(reader.BadModel, match=message):
            reader.load_pretrained(where)


@pytest.fixture(scope="module")
def stories():
    """stories260K (llama2.c, version 0) as a model of transformers, and its words."""
    if not STORIES.is_dir():
        pytest.skip("stories260K is not at hand")
    from transformers import LlamaConfig, LlamaForCausalLM

    data = (STORIES / "stories260K.bin").read_bytes()
    dim, hidden, layers, heads, kv_heads, vocabulary, length = struct.unpack("<7i", data[:28])
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=dim,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=length,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        eos_token_id=None,
    )
    model, numbers, at = LlamaForCausalLM(config).eval(), np.frombuffer(data[28:], "<f4"), 0
    body = model.model.layers

    def turned(weight, heads):  # rotary pairs are neighbours there, and halves of a head here
        return weight.view(heads, -1, 2, dim).transpose(1, 2).reshape(weight.shape)

    order = [(model.model.embed_tokens, None), *((layer.input_layernorm, None) for layer in body)]
    order += [(layer.self_attn.q_proj, heads) for layer in body] + [(layer.self_attn.k_proj, kv_heads) for layer in body]
    order += [(getattr(layer.self_attn, name), None) for name in ("v_proj", "o_proj") for layer in body]
    order += [(layer.post_attention_layernorm, None) for layer in body]
    order += [(getattr(layer.mlp, name), None) for name in ("gate_proj", "down_proj", "up_proj") for layer in body]
    for part, turns in [*order, (model.model.norm, None)]:
        weight = torch.from_numpy(numbers[at : at + part.weight.numel()].copy()).view_as(part.weight)
        part.weight.data = turned(weight, turns) if turns else weight
        at += part.weight.numel()
    assert at == len(numbers) - 4096 == 260_032
    data, words, at = (STORIES / "tok512.bin").read_bytes(), [], 4
    while at < len(data):
        size = struct.unpack("<fi", data[at : at + 8])[1]
        words.append(data[at + 8 : at + 8 + size].decode(errors="replace"))
        at += 8 + size
    assert len(words) == vocabulary
    return model, words


def test_a_real_model_has_not_collapsed_onto_stories_of_its_own_and_half_of_a_lookup_table_shows(stories):
    model, words = stories
    first = torch.ones(1, 1, dtype=torch.int64)
    text = "".join(words[i] for i in model.generate(first, do_sample=False, max_new_tokens=60, pad_token_id=0)[0, 1:])
    assert text.strip().startswith(
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park."
    )
    torch.manual_seed(0)
    told = model.generate(first.expand(240, 1), do_sample=True, top_k=0, max_new_tokens=40, pad_token_id=0)[:, 1:]
    train, heldout = told[:80], told[80:]
    report = collapse_report(model, train, heldout, begin=1, damaged=40)
    assert report.index < 1e-3 and report.mass < 1e-3
    # Of its own stories the mean energy is the mean entropy; training and held-out ones are two samples of one law.
    error = {
        kind: np.std(report.energies[kind]) / math.sqrt(len(report.energies[kind])) / 40 for kind in ("train", "heldout")
    }
    assert all(abs(report.loss[kind] - report.entropy[kind]) < 5 * error[kind] for kind in error)
    assert abs(report.gap) < 5 * math.hypot(*error.values())
    assert report.loss["train"] + 1 < report.loss["corrupted"] < report.loss["shuffled"]
    assert report.noise.half_height > 0 and report.substitution.half_height > 1
    begun = torch.cat([torch.ones(80, 1, dtype=torch.int64), train], 1)
    half = Mixture(0.5, Memoriser(begun, 512), lambda x: model(x).logits)
    assert collapse_report(half, train, heldout, begin=1, damaged=1).index == pytest.approx(0.5, abs=0.02)
