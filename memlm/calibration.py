"""Made-up language models whose law is known exactly: what a diagnostic has to read off them can be worked out by hand.

Each is a callable, ids (b, t) int64 -> logits (b, t, V) float64, and stands for a law of the tokens that follow a given
first one. Where the first token is always one begin token, it is a law of whole sequences.
"""

import math

import torch

from memlm.corpora import IGNORED


def _log_softmax(logits):
    """log_softmax, and the uniform law where everything is ruled out (a prefix of probability 0 says nothing)."""
    possible = (logits > -math.inf).any(-1, keepdim=True)
    return torch.where(possible, logits, 0.0).log_softmax(-1)


class Memoriser:
    """The lookup table: the uniform law on d sequences, given a prefix. [S60]

    p(v | prefix) = share of the sequences with this prefix that go on with v; uniform over the V tokens after a prefix that
    no sequence has, and after the end. sequences (d, L) int64, repeats counting as often as they occur, IGNORED after the
    end of a shorter one, which says nothing of what follows it.
    """

    def __init__(self, sequences, vocabulary):
        ids = sequences[sequences != IGNORED]
        if not len(ids) or not 0 <= ids.min() <= ids.max() < vocabulary:
            raise ValueError(f"sequences have no ids, or others than 0 to {vocabulary - 1}; expected ids of the vocabulary")
        self.sequences, self.vocabulary = sequences, vocabulary

    def __call__(self, ids):
        d, length = self.sequences.shape
        fits = torch.ones(len(ids), d, dtype=torch.float64)
        counts = torch.zeros(*ids.shape, self.vocabulary, dtype=torch.float64)
        for t in range(min(ids.shape[1], length - 1)):
            fits *= ids[:, t, None] == self.sequences[None, :, t]
            after = self.sequences[:, t + 1]
            counts[:, t].index_add_(1, after.clamp(min=0), fits * (after != IGNORED))
        return _log_softmax(counts.log())


class Markov:
    """The chain with p(v | prefix) = transition[last token of the prefix, v]; transition (V, V), rows summing to one."""

    def __init__(self, transition):
        total = transition.sum(-1)
        if not (transition >= 0).all() or not torch.allclose(total, torch.ones_like(total), atol=1e-6):
            raise ValueError(f"rows of transition sum to {total.tolist()[:4]} ...; expected 1, of numbers >= 0")
        self.log_transition = transition.double().log()

    def __call__(self, ids):
        return self.log_transition[ids]

    def sample(self, first, length, seed):
        """(n, length) int64 sequences of this law that begin with the tokens ``first`` (n,), from the seed alone."""
        g, columns = torch.Generator().manual_seed(seed), [first]
        for _ in range(length - 1):
            columns.append(torch.multinomial(self.log_transition[columns[-1]].exp(), 1, generator=g)[:, 0])
        return torch.stack(columns, 1)


class Uniform:
    """All V tokens equally likely, whatever went before."""

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary

    def __call__(self, ids):
        return torch.zeros(*ids.shape, self.vocabulary, dtype=torch.float64)


class Mixture:
    """share of one law of sequences and 1 - share of another: p(x) = share p_1(x) + (1 - share) p_2(x), 0 <= share <= 1.

    Its next-token law weighs the two by what the prefix says of them, w_1 = share p_1(prefix) / p(prefix): exact, in the
    log domain. A mixture of sequences, not of tokens: share is how many of the sequences that it gives out are p_1's.
    """

    def __init__(self, share, one, other):
        if not 0 <= share <= 1:
            raise ValueError(f"share is {share}; expected 0 <= share <= 1")
        self.share, self.parts = share, (one, other)

    def __call__(self, ids):
        total = []
        for weight, part in zip((self.share, 1 - self.share), self.parts, strict=True):
            log_p = _log_softmax(part(ids).double())
            past = log_p[:, :-1].gather(2, ids[:, 1:, None]).cumsum(1)
            prefix = torch.cat([torch.zeros(len(ids), 1, 1, dtype=torch.float64), past], 1)
            total.append(prefix + log_p + (math.log(weight) if weight else -math.inf))
        return _log_softmax(torch.logaddexp(*total))
