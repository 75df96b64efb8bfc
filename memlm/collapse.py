"""What memorisation looks like from outside: has the law of a language model collapsed to point masses on its training data?

The energy of a sequence is E(x) = -log p(x_1 .. x_{L-1} | x_0) in nats: the first token is context, or a begin token put
before all sequences. ``collapse_report`` reads it off any causal model; ``memlm.calibration`` has models of known answer.
"""

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch

from memlm.reader import reading

SIGMAS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
CORRUPTED = 0.1  # share of the predicted tokens that is substituted in the corrupted sequences


class BadSequences(ValueError):
    """Not (n, T >= 2) int64 token ids of the model's vocabulary, equally long in both sets."""


class EmptyHeldOut(ValueError):
    """Without held-out sequences memorising cannot be told from modelling."""


class Overlap(ValueError):
    """Too many held-out sequences are training sequences."""


@dataclass(frozen=True)
class Prefix:
    """Given the first k tokens, how much of the exact rest comes out. The whole sequence after its context: the least k.

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
    linearly (the next strength, where the energy there is infinite); None where it does not rise.
    """

    strength: tuple[float, ...]
    energy: tuple[float, ...]
    half_height: float | None


@dataclass(frozen=True)
class CollapseReport:
    """What ``collapse_report`` finds, in nats.

    d, heldout: number of training and held-out sequences that were read; repeated, shared: training sequences that occurred
    before, held-out sequences that are training sequences, which were left out. tokens: predicted tokens per sequence.
    energies: E(x) per sequence of "train", "heldout", "shuffled" (predicted tokens of some training sequences in random
    order) and "corrupted" (a tenth of them substituted). loss: their means per token. gap: loss of held-out minus that of
    training. floor: the least loss on the training sequences, (log d)/T with a begin token, else the mean over them of
    (log of how many begin with the same token)/(T - 1); distance: the loss of training minus floor, >= 0. entropy: mean
    entropy of the next-token law along training and held-out sequences. prefixes: by number of given tokens. substitution:
    Basin by number of substituted tokens among those that the model sees; noise: by Gaussian noise on the input embeddings
    in units of their root mean square, None where no embedding can be reached. effective_patterns: exp of the entropy of p
    over the training sequences (contexts as often as in training): how many of them share their mass, 1 to d. mass: the
    probability that what the model gives out after a training context is a training sequence; index: see collapse_report.
    """

    d: int
    heldout: int
    repeated: int
    shared: int
    tokens: int
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
    if d != int(d) or d < 1:
        raise ValueError(f"d is {d}; expected a whole number >= 1")
    if not 0 < tokens_per_sequence < math.inf:
        raise ValueError(f"tokens_per_sequence is {tokens_per_sequence}; expected a finite number > 0")
    return math.log(d) / tokens_per_sequence


def collapse_report(model, train, heldout, begin=None, max_shared=0.01, damaged=100, seed=0):
    """Read every diagnostic of CollapseReport off a model. Deterministic given the seed; the model is left as it was.

    model: a model of ``memlm.models``, a causal language model of ``transformers``, or any callable ids (b, t) int64 ->
    logits (b, t, V). train (d, T), heldout (h, T) int64, T >= 2. The first token is context and T - 1 tokens are predicted;
    with ``begin``, a token id, this is put before every sequence and all T are predicted. max_shared: greatest share of the
    held-out sequences that may be training sequences. damaged: how many training sequences are shuffled, corrupted, and
    damaged for the two Basins.

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
    if damaged < 1:
        raise ValueError(f"damaged is {damaged}; expected at least 1")
    x, y = (_sequences(name, part) for name, part in (("train", train), ("heldout", heldout)))
    if x.shape[1] != y.shape[1]:
        raise BadSequences(f"train has sequences of {x.shape[1]} tokens and heldout of {y.shape[1]}; expected equal lengths")
    x, y, repeated, shared = _distinct(x, y, max_shared)
    with reading(model) as reader:
        for name, ids in (("train", x), ("heldout", y), ("begin", torch.tensor([0 if begin is None else begin]))):
            if not 0 <= ids.min() <= ids.max() < reader.vocabulary:
                raise BadSequences(
                    f"{name} has ids from {ids.min()} to {ids.max()}; expected 0 to {reader.vocabulary - 1}, the vocabulary"
                )
        if begin is not None:
            x, y = (torch.cat([ids.new_full((len(ids), 1), begin), ids], 1) for ids in (x, y))
        reader.refuse_unless_causal(x[:, :-1])
        return _report(reader, x, y, begin is not None, repeated, shared, damaged, seed)


def _report(reader, x, y, begun, repeated, shared, damaged, seed):
    g, (d, length), first = torch.Generator().manual_seed(seed), x.shape, 1 - begun
    tokens = length - 1
    some = torch.randperm(d, generator=g)[:damaged]
    context, rest = x[some, :1], x[some, 1:]
    rank = torch.rand(rest.shape, generator=g).argsort(1)  # a random order of the predicted tokens
    few = rank < max(1, round(CORRUPTED * tokens))
    kinds = {"shuffled": rest.gather(1, rank), "corrupted": _substitute(rest, few, reader.vocabulary, g)}
    reader.bar.total = d + len(y) + 16 * len(some)  # 14 strengths of damage, where T is 128
    (e_x, hit_x, entropy_x), (e_y, hit_y, entropy_y) = reader.read(x), reader.read(y)
    energy = {"train": e_x, "heldout": e_y}
    for kind, ids in kinds.items():
        energy[kind] = reader.energies(torch.cat([context, ids[:, :-1]], 1), ids)
    substitution, noise = _basins(reader, x[some], e_x[some].mean().item(), begun, seed, g)
    at = sorted({0, *(max(round(share * (length - begun)) - first, 0) for share in (1 / 8, 1 / 4, 1 / 2))})
    prefixes = tuple(_prefix(i, first, x, (e_x, hit_x), (e_y, hit_y)) for i in at)
    contexts = _same_prefix(x, 1)
    log_share = (contexts.log() - e_x.sum(1)).log_softmax(0)
    loss = {kind: e.mean().item() for kind, e in energy.items()}
    floor = float(np.mean([memoriser_floor(n, tokens) for n in contexts.tolist()]))
    return CollapseReport(
        d=d,
        heldout=len(y),
        repeated=repeated,
        shared=shared,
        tokens=tokens,
        vocabulary=reader.vocabulary,
        energies={kind: tuple(e.sum(1).tolist()) for kind, e in energy.items()},
        loss=loss,
        gap=loss["heldout"] - loss["train"],
        floor=floor,
        distance=loss["train"] - floor,
        entropy={"train": entropy_x.mean().item(), "heldout": entropy_y.mean().item()},
        prefixes=prefixes,
        substitution=substitution,
        noise=noise,
        effective_patterns=torch.special.entr(log_share.exp()).sum().exp().item(),
        mass=prefixes[0].mass_train / prefixes[0].memoriser,
        index=prefixes[0].index,
    )


def _prefix(i, first, x, train, heldout):
    """The Prefix that ends before the predicted token i; train, heldout: energies and hits (n, tokens)."""
    masses = [torch.exp(-energy[:, i:].sum(1)).mean().item() for energy, _ in (train, heldout)]
    verbatim = [hit[:, i:].all(1).double().mean().item() for _, hit in (train, heldout)]
    memoriser = (1 / _same_prefix(x, i + 1)).mean().item()
    return Prefix(i + first, *verbatim, *masses, memoriser, max(0.0, masses[0] - masses[1]) / memoriser)


def _same_prefix(x, k):
    """How many sequences begin with the same k tokens as each: (d,) float64."""
    _, which, counts = torch.unique(x[:, :k], dim=0, return_inverse=True, return_counts=True)
    return counts[which].double()


def _basins(reader, x, undamaged, begun, seed, g):
    """The two Basins on the sequences x, given their energy as they are; a begin token is not damaged."""
    cue, targets = x[:, begun:-1], x[:, 1:]
    seen = cue.shape[1]
    counts = (*(2**i for i in range(seen.bit_length()) if 2**i < seen), seen)
    rank = torch.rand(cue.shape, generator=g).argsort(1)
    others = _substitute(cue, rank >= 0, reader.vocabulary, g)
    substituted, noisy = [undamaged], [undamaged]
    for m in counts:  # the tokens substituted at m are also substituted, by the same, at every greater m
        ids = torch.cat([x[:, :begun], torch.where(rank < m, others, cue)], 1)
        substituted.append(reader.energies(ids, targets).mean().item())
    if reader.embedding is None:
        return _basin((0, *counts), substituted), None
    for sigma in SIGMAS:
        with reader.noise(sigma, seed):
            noisy.append(reader.energies(x[:, :-1], targets).mean().item())
    return _basin((0, *counts), substituted), _basin((0.0, *SIGMAS), noisy)


def _basin(strength, energy):
    if not energy[-1] > energy[0]:
        return Basin(strength, tuple(energy), None)
    half = (energy[0] + energy[-1]) / 2
    i = next(i for i, e in enumerate(energy) if i and e >= half)
    found = np.interp(half, energy[i - 1 : i + 1], strength[i - 1 : i + 1]) if math.isfinite(energy[i]) else strength[i]
    return Basin(strength, tuple(energy), float(found))


def _substitute(ids, where, vocabulary, g):
    """ids with another id, uniformly one of the V - 1 others, wherever ``where`` is true."""
    return torch.where(where, (ids + torch.randint(1, vocabulary, ids.shape, generator=g)) % vocabulary, ids)


def _sequences(name, ids):
    """The ids on the CPU, once they are known to be (n, T >= 2) int64."""
    if not isinstance(ids, torch.Tensor) or ids.dtype != torch.int64 or ids.dim() != 2:
        got = f"{ids.dtype} of shape {tuple(ids.shape)}" if isinstance(ids, torch.Tensor) else type(ids).__name__
        raise BadSequences(f"{name} is {got}; expected a torch.int64 tensor (sequences, tokens)")
    if not len(ids):
        raise (EmptyHeldOut if name == "heldout" else BadSequences)(f"{name} has 0 sequences; expected at least 1")
    if ids.shape[1] < 2:
        raise BadSequences(f"{name} has sequences of {ids.shape[1]} tokens; expected at least 2")
    return ids.cpu()


def _distinct(x, y, max_shared):
    """Training sequences without repeats, held-out ones that are none of them, and how many were left out of each."""
    rows = [row.tobytes() for row in x.numpy()]
    once = {row: i for i, row in reversed(list(enumerate(rows)))}
    new = torch.tensor([row.tobytes() not in once for row in y.numpy()])
    shared = int((~new).sum())
    if shared > max_shared * len(y):
        raise Overlap(f"{shared} of {len(y)} held-out sequences are training sequences; expected at most {max_shared:.2%}")
    if shared == len(y):
        raise EmptyHeldOut("every held-out sequence is a training sequence; expected at least 1 that is not")
    return x[sorted(once.values())], y[new], len(x) - len(once), shared
