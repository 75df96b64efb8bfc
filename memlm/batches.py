"""Training data as numbered sequences: what the training loop asks for, from lines or from one long file of tokens.

Both classes have ``len()`` (training sequences), ``vocabulary`` (size), ``batch(rows)`` -> (inputs, targets) int64 tensors
(b, T), ``fixed_length`` (has T one value?), ``held()`` -> {part: (inputs, targets, {name: mask})}, the sequences on which
losses are evaluated, and ``scores(model)`` -> {name: number}, what else is measured. Targets that are not predicted are
IGNORED.
"""

import torch

from memlm import corpora, sources
from memlm.corpora import IGNORED, encode


class Lines:
    """Lines of a corpus, one a sequence, padded to the longest of the batch. Losses also by half, where lines have two: up
    to the type token (``before``) and after it."""

    fixed_length = False

    def __init__(self, corpus, evaluated=1000):
        self.vocabulary = len(corpus.vocabulary) + 1
        self._inputs, self._targets, first_half = map(torch.from_numpy, encode(corpus.train, corpus.vocabulary))
        self._lengths = (self._targets != IGNORED).sum(1)
        dev = tuple(map(torch.from_numpy, encode(corpus.dev, corpus.vocabulary)))
        train = tuple(part[:evaluated] for part in (self._inputs, self._targets, first_half))
        self._held = {"train": train, "dev": dev}

    def __len__(self):
        return len(self._inputs)

    def batch(self, rows):
        width = int(self._lengths[rows].max())
        return self._inputs[rows, :width], self._targets[rows, :width]

    def held(self):
        parts = {}
        for part, (x, y, half) in self._held.items():
            two = (~half & (y != IGNORED)).any()
            parts[part] = (x, y, {"before": half, "after": ~half} if two else {})
        return parts

    def scores(self, model):
        return {}


class Windows:
    """A file of tokens, cut into windows of ``context`` tokens that do not overlap; every token but the first is a target.

    train, dev: one-dimensional integer arrays (memory-mapped files do). Losses are evaluated on the first ``evaluated``
    windows of each.
    """

    fixed_length = True

    def __init__(self, train, dev, vocabulary, context, evaluated=64):
        for name, part in (("train", train), ("dev", dev)):
            if len(part) < context + 1:
                raise ValueError(f"{name} has {len(part)} tokens; expected at least context + 1 = {context + 1}")
        self.vocabulary, self.context = vocabulary, context
        self._train, self._dev, self._evaluated = train, dev, evaluated

    def __len__(self):
        return (len(self._train) - 1) // self.context

    def _cut(self, tokens, rows):
        spans = [tokens[row * self.context : (row + 1) * self.context + 1].astype("int64") for row in rows]
        windows = torch.stack([torch.from_numpy(span) for span in spans])
        return windows[:, :-1], windows[:, 1:]

    def batch(self, rows):
        return self._cut(self._train, rows.tolist())

    def held(self):
        parts = {}
        for name, tokens in (("train", self._train), ("dev", self._dev)):
            count = min(self._evaluated, (len(tokens) - 1) // self.context)
            parts[name] = (*self._cut(tokens, range(count)), {})
        return parts

    def scores(self, model):
        return {}


def load(data, context):
    """The sequences that a DataConfig names, cut to ``context`` where they are one file. Raises CorpusError if they are not
    those that it describes."""
    if data.source in corpora.SOURCES:
        corpus = corpora.load_question_formation(data.source, data.size)
        digest, sequences = corpus.digest, Lines(corpus)
    elif data.source in sources.SOURCES:
        corpus = corpora.load_lines(data.source, data.size)
        digest, sequences = corpus.digest, Lines(corpus)
    else:
        from memlm import text

        corpus = text.open_tokens(text.TEXT / data.source)
        digest, sequences = corpus.digest, Windows(corpus.train[: data.size], corpus.dev, corpus.vocabulary_size, context)
    if digest != data.digest:
        raise corpora.CorpusError(f"the data of {data.source!r} have digest {digest[:12]}; expected {data.digest[:12]}")
    return sequences
