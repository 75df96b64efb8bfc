"""The inside algorithm: the log probability of a sentence under a grammar, summed over all its derivations."""

import math
from collections import defaultdict
from fractions import Fraction

import numpy as np

from memlm.grammar import is_terminal


class Inside:
    """A grammar made ready: ``Inside(grammar)(sentences)`` is what ``Grammar.log_prob`` returns."""

    def __init__(self, grammar):
        self.index = defaultdict(lambda: len(self.index))
        binary, unit, lexical = [], [], defaultdict(list)
        start = self.index[grammar.start]
        for left, alternatives in grammar.rules.items():
            merged = defaultdict(Fraction)  # an alternative given twice counts twice
            for weight, right in alternatives:
                merged[right] += weight
            for right, weight in merged.items():
                if len(right) == 1 and is_terminal(right[0]):
                    lexical[right[0][1:]].append((self.index[left], math.log(weight)))
                    continue
                for symbol in right:  # a word inside a longer right side becomes a symbol of its own
                    if is_terminal(symbol) and symbol not in self.index:
                        lexical[symbol[1:]].append((self.index[symbol], 0.0))
                if len(right) == 1:
                    unit.append((self.index[left], self.index[right[0]], float(weight)))
                    continue
                parent, log_weight = left, math.log(weight)
                while len(right) > 2:  # A -> B C D becomes A -> B (C D)
                    binary.append((self.index[parent], self.index[right[0]], self.index[right[1:]], log_weight))
                    parent, right, log_weight = right[1:], right[1:], 0.0
                binary.append((self.index[parent], self.index[right[0]], self.index[right[1]], log_weight))
        binary = sorted(set(binary))  # right sides with a common end share its symbols
        self.start, size = start, len(self.index)
        self.left, self.first, self.second = np.array([b[:3] for b in binary] or np.empty((0, 3))).astype(int).T
        self.weight = np.array([b[3] for b in binary])
        chains = np.zeros((size, size))
        for a, b, weight in unit:
            chains[a, b] += weight
        with np.errstate(divide="ignore"):  # chains of unit rules, of any length, summed once and for all
            self.chains = np.log(np.maximum(np.linalg.inv(np.eye(size) - chains), 0)) if unit else None
        self.words = {}
        classes = {}
        for word, entries in lexical.items():
            self.words[word] = classes.setdefault(tuple(sorted(entries)), len(classes))
        self.lexicon = np.full((len(classes), size), -np.inf)
        for entries, row in classes.items():
            for symbol, log_weight in entries:
                self.lexicon[row, symbol] = np.logaddexp(self.lexicon[row, symbol], log_weight)

    def __call__(self, sentences):
        try:
            patterns = [tuple(self.words[word] for word in sentence) for sentence in sentences]
        except KeyError as error:
            raise ValueError(f"word {error} is not in the vocabulary of {len(self.words)} words") from None
        known = {(): -np.inf}
        by_length = defaultdict(set)
        for pattern in patterns:
            by_length[len(pattern)].add(pattern)
        for length, group in by_length.items():
            if length:
                group = sorted(group)
                known.update(zip(group, self._chart(np.array(group)), strict=True))
        return np.array([known[pattern] for pattern in patterns])

    def _chart(self, patterns):
        count, length = patterns.shape
        chart = {(i, i + 1): self._closed(self.lexicon[patterns[:, i]]) for i in range(length)}
        heads = np.flatnonzero(np.diff(self.left, prepend=-1)) if len(self.left) else []
        for width in range(2, length + 1):
            for i in range(length - width + 1):
                total = np.full((count, len(self.index)), -np.inf)
                if len(heads):
                    firsts = np.stack([chart[i, k] for k in range(i + 1, i + width)])[:, :, self.first]
                    seconds = np.stack([chart[k, i + width] for k in range(i + 1, i + width)])[:, :, self.second]
                    splits = np.logaddexp.reduce(firsts + seconds, 0) + self.weight
                    total[:, self.left[heads]] = np.logaddexp.reduceat(splits, heads, 1)
                chart[i, i + width] = self._closed(total)
        return chart[0, length][:, self.start]

    def _closed(self, scores):
        if self.chains is None:
            return scores
        return np.logaddexp.reduce(self.chains + scores[:, None, :], -1)
