"""What memorisation looks like from outside: has the law of a language model collapsed to point masses on its training data?

The energy of a sequence is E(x) = -log p(x_1 .. x_{L-1} | x_0) in nats: the first token is context, or a begin token put
before all sequences. ``collapse_report`` reads it off any causal model; ``memlm.calibration`` has models of known answer.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch

from memlm.corpora import IGNORED
from memlm.grammar import real, whole
from memlm.reader import reading
from memlm.sequences import BadSequences, begin_token, distinct, real_tokens
from memlm.sequences import EmptyHeldOut as EmptyHeldOut
from memlm.sequences import Overlap as Overlap

SIGMAS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
CORRUPTED = 0.1  # share of the predicted tokens that is substituted in the corrupted sequences


@dataclass(frozen=True)
class Prefix:
    """Given the first k tokens, how much of the exact rest comes out. The whole sequence after its context: the least k.

    Of sequences of several lengths, those of more than k tokens count; d is their number.
    verbatim_*: share of the sequences whose rest greedy decoding reproduces. mass_*: mean of p(x_k .. | x_0 .. x_{k-1}).
    memoriser: mass_train of the lookup table, (number of distinct prefixes)/d. index: how much of it the model has beyond
    what it gives to sequences that it has not seen, max(0, mass_train - mass_heldout) / memoriser, in [0, 1].
    """

    k: int
    verbatim_train: float
    verbatim_heldout: float
    mass_train: float
    mass_heldout: float
    memoriser: float
    index: float


@dataclass(frozen=True)
class Basin:
    """How the energy of training sequences rises when what the model sees of them is damaged.

    energy[i]: mean -log p(x_t | damaged x_{<t}) of the *original* tokens in nats per token, at strength[i]: retrieval from a
    damaged cue. half_height: the strength at which it has first risen halfway from energy[0] to energy[-1], interpolated
    linearly (the next strength, where the energy there is infinite); None where it does not rise. Where a sequence has fewer
    tokens than strength says, all of them are damaged.
    """

    strength: tuple[float, ...]
    energy: tuple[float, ...]
    half_height: float | None


@dataclass(frozen=True)
class CollapseReport:
    """What ``collapse_report`` finds, in nats.

    d, heldout: number of training and held-out sequences that were read; repeated, shared: training sequences that occurred
    before or that begin a longer one, held-out sequences that are a training sequence or begin one, which were left out.
    padding: how many ids were left out as padding. tokens: predicted tokens per training sequence, their mean.
    energies: E(x) per sequence of "train", "heldout", "shuffled" (predicted tokens of some training sequences in random
    order) and "corrupted" (a tenth of them substituted). loss: their means per token. gap: loss of held-out minus that of
    training. floor: the least loss on the training sequences, (log d)/T with a begin token, else the mean over them of
    (log of how many begin with the same token)/(T - 1); distance: the loss of training minus floor, >= 0. entropy: mean
    entropy of the next-token law along training and held-out sequences. prefixes: by number of given tokens. substitution:
    Basin by number of substituted tokens among those that the model sees; noise: by Gaussian noise on the input embeddings
    in units of their root mean square, None where no embedding can be reached. effective_patterns: exp of the entropy of p
    over the training sequences (contexts as often as in training): how many of them share their mass, 1 to d; it is
    nan, as gap is, where the model rules all of them out. mass: the probability that what the model gives out after a
    training context is a training sequence; index: see collapse_report.
    """

    d: int
    heldout: int
    repeated: int
    shared: int
    padding: int
    tokens: float
    vocabulary: int
    energies: dict[str, tuple[float, ...]]
    loss: dict[str, float]
    gap: float
    floor: float
    distance: float
    entropy: dict[str, float]
    prefixes: tuple[Prefix, ...]
    substitution: Basin
    noise: Basin | None
    effective_patterns: float
    mass: float
    index: float

    def to_dict(self):
        """Plain numbers, lists and dicts for JSON. Energies are infinite where a model rules a sequence out."""
        return asdict(self)

    def brief(self):
        """The same to five significant digits, for records of every evaluation of a run."""
        return _rounded(asdict(self))


def _rounded(value):
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return [_rounded(part) for part in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def memoriser_floor(d, tokens_per_sequence):
    """(log d)/T, the least cross-entropy on d distinct equiprobable sequences, in nats per predicted token. [S60]

    Any law q on sequences pays -(1/d) sum_i log q(x_i) >= log d per sequence, with equality iff q(x_i) = 1/d for all i:
    the lookup table. d >= 1 sequences; T > 0 their mean number of predicted tokens.
    """
    d = real("d", d, lambda d: 1 <= d < math.inf and d == int(d), "a whole number >= 1")
    tokens = real(
        "tokens_per_sequence", tokens_per_sequence, lambda t: 1e-300 <= t <= 1e300, "a number from 1e-300 to 1e300"
    )
    return math.log(d) / tokens


def collapse_report(model, train, heldout, begin=None, max_shared=0.01, damaged=100, seed=0, pad=None, lengths=None):
    """Read every diagnostic of CollapseReport off a model. Deterministic given the seed; the model is left as it was.

    model: a model of ``memlm.models``, a causal language model of ``transformers``, or any callable ids (b, t) int64 ->
    logits (b, t, V). train (d, T), heldout (h, T) int64, T >= 2, or lists of sequences of any lengths >= 2. The first token
    is context and T - 1 tokens are predicted; with ``begin``, a token id that no sequence has yet, this is put before every
    sequence and all T are predicted. max_shared: greatest share of the held-out sequences that may be training sequences.
    damaged: how many training sequences are shuffled, corrupted, and damaged for the two Basins.

    Padding is left out of everything. It stands behind the sequences, and is told by ``lengths``, a pair of how many tokens
    of each training and held-out sequence are real (one tensor, if they are the same); or by ``pad``, an id that is padding
    wherever it stands (an end token of the same id is lost: give lengths). Where neither is given, and all sequences of a
    set are equally long, an id that stands in runs at their ends, of several sequences and of two tokens or more, and
    nowhere else, is taken for padding with a UserWarning, and refused in front of them; lengths say so if it is none.
    Held-out sequences should be as long as training sequences are: a short one has much mass.

    The collapse index in [0, 1] is, with k = 0 given tokens after ``begin`` (k = 1 without),

        index = max(0, mean over train of p(x) - mean over held-out of p(x)) * d / (number of distinct contexts),

    with p(x) = exp(-E(x)): the probability that a sequence which the model gives out, after one of the contexts, is a
    training sequence, less that of its being one of equally many held-out ones. Take any law that treats training and
    held-out sequences alike (the source's own, the uniform one) and move the share s of it to the lookup table: the index is
    s up to sampling error, which is at most about max_shared. So it is a share of *sequences*, and moves late in training:
    with ``begin``, mass >= exp(-T distance). Prefix.index (the same for a cue of k tokens), verbatim_* and gap move before.

    What greedy decoding makes of a prefix is known from one pass: it gives back the rest exactly if and only if the most
    likely token at every position from k on, after the *true* tokens before it, is the true one; for up to the first
    failure these are the tokens that it has produced itself. Of equally likely tokens the one with the least id counts.

    Raises BadSequences, EmptyHeldOut, Overlap, and from ``memlm.reader`` BadModel, NotCausal, TooLong; all are ValueErrors.
    """
    damaged, seed = whole("damaged", damaged, 1), whole("seed", seed, 0, 2**64 - 1)
    max_shared = real("max_shared", max_shared, lambda share: 0 <= share <= 1, "0 <= max_shared <= 1")
    x, y, padding = real_tokens(train, heldout, pad, lengths)
    x, y, repeated, shared = distinct(x, y, max_shared)
    first = 0 if begin is None else begin_token(begin, x, y)
    with reading(model) as reader:
        for name, ids in (("train", x[x != IGNORED]), ("heldout", y[y != IGNORED]), ("begin", torch.tensor([first]))):
            if not 0 <= ids.min() <= ids.max() < reader.ids:
                raise BadSequences(
                    f"{name} has ids from {ids.min()} to {ids.max()}; expected 0 to {reader.ids - 1}, the vocabulary"
                )
        if begin is not None:
            x, y = (torch.cat([ids.new_full((len(ids), 1), first), ids], 1) for ids in (x, y))
        reader.refuse_unless_causal(x[:, :-1])
        left_out = {"repeated": repeated, "shared": shared, "padding": padding}
        return _report(reader, x, y, begin is not None, left_out, damaged, seed)


def _report(reader, x, y, begun, left_out, damaged, seed):
    g, d, first = torch.Generator().manual_seed(seed), len(x), 1 - begun
    counts = [(ids[:, 1:] != IGNORED).sum(1).double() for ids in (x, y)]  # of predicted tokens
    tokens, typical = counts[0].mean().item(), min(count.mean().item() for count in counts)
    some = torch.randperm(d, generator=g)[:damaged]
    context, rest = x[some, :1], x[some, 1:]
    rank = _random_order(rest, g)
    few = rank < (CORRUPTED * counts[0][some, None]).round().clamp(min=1)
    kinds = {"shuffled": rest.gather(1, rank), "corrupted": torch.where(few, reader.others(rest, g), rest)}
    reader.bar.total = d + len(y) + 16 * len(some)  # 14 strengths of damage, where T is 128
    (e_x, hit_x, entropy_x), (e_y, hit_y, entropy_y) = reader.read(x), reader.read(y)
    energy, targets = {"train": e_x, "heldout": e_y}, {"train": x[:, 1:], "heldout": y[:, 1:], **kinds}
    for kind, ids in kinds.items():
        energy[kind] = reader.energies(torch.cat([context, ids[:, :-1]], 1), ids)
    substitution, noise = _basins(reader, x[some], e_x[some], begun, seed, g)
    at = sorted({0, *(max(round(share * (typical + first)) - first, 0) for share in (1 / 8, 1 / 4, 1 / 2))})
    prefixes = tuple(_prefix(i, first, (x, e_x, hit_x), (y, e_y, hit_y)) for i in at)
    contexts = _same_prefix(x, 1)
    log_share = (contexts.log() - e_x.sum(1)).log_softmax(0)
    loss = {kind: _per_token(e, targets[kind]) for kind, e in energy.items()}
    floor = float(np.mean([memoriser_floor(n, tokens) for n in contexts.tolist()]))
    return CollapseReport(
        d=d,
        heldout=len(y),
        **left_out,
        tokens=int(tokens) if tokens.is_integer() else tokens,
        vocabulary=reader.vocabulary,
        energies={kind: tuple(e.sum(1).tolist()) for kind, e in energy.items()},
        loss=loss,
        gap=loss["heldout"] - loss["train"],
        floor=floor,
        distance=loss["train"] - floor,
        entropy={kind: _per_token(e, targets[kind]) for kind, e in (("train", entropy_x), ("heldout", entropy_y))},
        prefixes=prefixes,
        substitution=substitution,
        noise=noise,
        effective_patterns=torch.special.entr(log_share.exp()).sum().exp().item(),
        mass=prefixes[0].mass_train / prefixes[0].memoriser,
        index=prefixes[0].index,
    )


def _per_token(values, targets):
    """The mean of values (n, tokens), which are 0 where a target is IGNORED, over the other targets."""
    return (values.sum() / (targets != IGNORED).sum()).item()


def _random_order(targets, g):
    """A random order (n, tokens) of the tokens of every sequence, then what is IGNORED."""
    return (torch.rand(targets.shape, generator=g) + (targets == IGNORED)).argsort(1)


def _prefix(i, first, train, heldout):
    """The Prefix that ends before the predicted token i; train, heldout: ids, energies and hits of every sequence."""
    has_it = [part[0][:, i + 1] != IGNORED for part in (train, heldout)]
    (x, e_x, hit_x), (_, e_y, hit_y) = (
        [values[some] for values in part] for part, some in zip((train, heldout), has_it, strict=True)
    )
    masses = [torch.exp(-energy[:, i:].sum(1)).mean().item() for energy in (e_x, e_y)]
    verbatim = [hit[:, i:].all(1).double().mean().item() for hit in (hit_x, hit_y)]
    memoriser = (1 / _same_prefix(x, i + 1)).mean().item()
    return Prefix(i + first, *verbatim, *masses, memoriser, max(0.0, masses[0] - masses[1]) / memoriser)


def _same_prefix(x, k):
    """How many sequences begin with the same k tokens as each: (d,) float64."""
    _, which, counts = torch.unique(x[:, :k], dim=0, return_inverse=True, return_counts=True)
    return counts[which].double()


def _basins(reader, x, undamaged, begun, seed, g):
    """The two Basins on the sequences x, given their energies as they are; a begin token is not damaged."""
    cue, targets = x[:, begun:-1], x[:, 1:]
    seen = int((targets[:, begun:] != IGNORED).sum(1).max())
    counts = (*(2**i for i in range(seen.bit_length()) if 2**i < seen), seen)
    rank = _random_order(targets[:, begun:], g)
    others = reader.others(cue, g)
    substituted, noisy = ([_per_token(undamaged, targets)] for _ in range(2))
    for m in counts:  # the tokens substituted at m are also substituted, by the same, at every greater m
        ids = torch.cat([x[:, :begun], torch.where(rank < m, others, cue)], 1)
        substituted.append(_per_token(reader.energies(ids, targets), targets))
    if reader.embedding is None:
        return _basin((0, *counts), substituted), None
    for sigma in SIGMAS:
        with reader.noise(sigma, seed):
            noisy.append(_per_token(reader.energies(x[:, :-1], targets), targets))
    return _basin((0, *counts), substituted), _basin((0.0, *SIGMAS), noisy)


def _basin(strength, energy):
    if not energy[-1] > energy[0]:
        return Basin(strength, tuple(energy), None)
    half = (energy[0] + energy[-1]) / 2
    i = next(i for i, e in enumerate(energy) if i and e >= half)
    found = np.interp(half, energy[i - 1 : i + 1], strength[i - 1 : i + 1]) if math.isfinite(energy[i]) else strength[i]
    return Basin(strength, tuple(energy), float(found))
