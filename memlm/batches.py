"""Training data as numbered sequences: what the training loop asks for, from lines or from one long file of tokens.

All classes have ``len()`` (training sequences), ``vocabulary`` (size), ``batch(rows)`` -> (inputs, targets) int64 tensors
(b, T) with one T for all batches, ``held()`` -> {part: (inputs, targets, {name: mask})}, the sequences on which losses are
evaluated, and ``scores(model)`` -> {name: number or record}, what else is measured on a model that is in evaluation mode.
Targets that are not predicted are IGNORED.
"""

import torch

from memlm import collapse, corpora, question, sources
from memlm.corpora import END, IGNORED, encode


class Lines:
    """Lines of a corpus, one a sequence, padded to the longest of all. Losses also by half, where lines have two: up
    to the type token (``before``) and after it. The first ``evaluated`` lines of each part are measured."""

    def __init__(self, corpus, evaluated=1000):
        self.vocabulary = len(corpus.vocabulary) + 1
        self._inputs, self._targets, first_half = map(torch.from_numpy, encode(corpus.train, corpus.vocabulary))
        self._held = {"train": tuple(part[:evaluated] for part in (self._inputs, self._targets, first_half))}
        for name in ("dev", "test", "gen"):
            if lines := getattr(corpus, name)[:evaluated]:
                self._held[name] = tuple(map(torch.from_numpy, encode(lines, corpus.vocabulary)))
        auxiliaries = {word for kind in ("Aux_s", "Aux_p") for word in question.LEXICON[kind]}
        ids = [i for i, word in enumerate(corpus.vocabulary, END + 1) if word in auxiliaries]
        self._auxiliaries = torch.tensor(ids, dtype=torch.int64)

    def __len__(self):
        return len(self._inputs)

    def batch(self, rows):
        return self._inputs[rows], self._targets[rows]

    def held(self):
        parts = {}
        for part in ("train", "dev"):
            x, y, half = self._held[part]
            two = (~half & (y != IGNORED)).any()
            parts[part] = (x, y, {"before": half, "after": ~half} if two else {})
        return parts

    def scores(self, model):
        """Of lines with two halves: test_exact and gen_exact, the shares whose second half the model writes without a fault;
        gen_main and gen_first, the shares of the generalisation questions that it begins with the main auxiliary, which is
        right, or with the first one in the sentence, which is another.

        One pass with the true tokens shows what greedy decoding writes: see ``collapse.collapse_report``.
        """
        found = {}
        for name in ("test", "gen"):
            if name in self._held:
                x, y, half = self._held[name]
                asked = ~half & (y != IGNORED)
                if not asked.any():
                    continue
                said = _most_likely(model, x)
                found[f"{name}_exact"] = ((said == y) | ~asked).all(1).double().mean().item()
                if name == "gen":
                    line, begin = torch.arange(len(x)), half.sum(1)
                    first = x[line, torch.isin(x, self._auxiliaries).int().argmax(1)]
                    for which, auxiliary in (("main", y[line, begin]), ("first", first)):
                        found[f"gen_{which}"] = (said[line, begin] == auxiliary).double().mean().item()
        return found


@torch.no_grad()
def _most_likely(model, ids, batch=64):
    """The token that the model holds most likely to follow each, (n, T), on the CPU."""
    device = next(model.parameters()).device
    return torch.cat([model(x.to(device)).argmax(-1).cpu() for x in ids.split(batch)])


class Memorised(Lines):
    """Lines of one length that are there to be memorised: what is measured is the collapse on them."""

    def scores(self, model):
        (_, train, _), (_, dev, _) = self._held["train"], self._held["dev"]
        return {"collapse": collapse.collapse_report(model, train, dev[: len(train)], begin=END).brief()}


class Windows:
    """A file of tokens, cut into windows of ``context`` tokens that do not overlap; every token but the first is a target.

    train, dev: one-dimensional integer arrays (memory-mapped files do). Losses and the collapse are measured on the first
    ``evaluated`` windows of each; the collapse on their first SEEN tokens.
    """

    SEEN = 128

    def __init__(self, train, dev, vocabulary, context, evaluated=128):
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
        (x, rest, _), (y, after, _) = self.held().values()
        whole = (torch.cat([first, last[:, -1:]], 1) for first, last in ((x, rest), (y, after)))
        train, dev = (ids[:, : self.SEEN + 1] for ids in whole)
        return {"collapse": collapse.collapse_report(model, train, dev, max_shared=1.0, damaged=32).brief()}


def load(data, context):
    """The sequences that a DataConfig names, cut to ``context`` where they are one file. Raises CorpusError if they are not
    those that it describes."""
    if data.source in (*corpora.SOURCES, *sources.SOURCES, *sources.MEMORISED):
        corpus = corpora.load(data.source, data.size)
        digest, sequences = corpus.digest, (Memorised if data.source in sources.MEMORISED else Lines)(corpus)
    else:
        from memlm import text

        corpus = text.open_tokens(text.folder_of(data.source))
        digest, sequences = corpus.digest, Windows(corpus.train[: data.size], corpus.dev, corpus.vocabulary_size, context)
    if digest != data.digest:
        raise corpora.CorpusError(f"the data of {data.source!r} have digest {digest[:12]}; expected {data.digest[:12]}")
    return sequences
