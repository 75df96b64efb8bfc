"""The inside algorithm: the log probability of a sentence under a grammar, summed over all its derivations."""

import math
from collections import defaultdict
from fractions import Fraction

import numpy as np

from memlm.grammar import is_terminal

_CELLS, _BLOCK = 2**26, 2**19  # numbers of a chart that is held at a time, half a GiB, and that are summed at a time


class Inside:
    """A grammar made ready: ``Inside(grammar)(sentences)`` is what ``Grammar.log_prob`` returns.

    Rules are made binary, A -> B C D into A -> B (C D), where (C D) is a symbol. What derives the empty sentence with
    probability p can be left out: A -> B C of weight w also is A -> B of weight w p(C), and A -> C of weight w p(B).
    """

    def __init__(self, grammar):
        self.index = defaultdict(lambda: len(self.index))
        self.start = self.index[grammar.start]
        rules = {left: grammar.rules[left] for left in grammar._reachable}
        log_empty = {symbol: math.log(p) for symbol, p in _empty(rules).items()}
        self.empty = log_empty.get(grammar.start, -math.inf)
        binary, unit, lexical = {}, defaultdict(list), defaultdict(list)
        queue = [(left, right, weight) for left, alternatives in rules.items() for right, weight in _merged(alternatives)]
        while queue:
            left, right, weight = queue.pop()
            a, log_weight = self.index[left], math.log(weight)
            if len(right) == 1 and is_terminal(right[0]):
                lexical[right[0][1:]].append((a, log_weight))
            elif len(right) == 1:
                unit[a, self.index[right[0]]].append(log_weight)
            elif right:
                first, rest = right[0], right[1] if len(right) == 2 else right[1:]
                new = {part for part in (first, rest) if part not in self.index and part not in rules}
                # a word within a right side, and what is left of one, are symbols of their own
                queue += [(part, part if isinstance(part, tuple) else (part,), 1) for part in new]
                b, c = self.index[first], self.index[rest]
                binary[a, b, c] = log_weight
                rests = [log_empty.get(part, -math.inf) for part in right[1:]]
                if (left_out := math.fsum(rests)) > -math.inf:
                    unit[a, b].append(log_weight + left_out)
                if first in log_empty:
                    unit[a, c].append(log_weight + log_empty[first])
        edges = sorted(binary.items())
        self.left, self.first, self.second = np.array([edge for edge, _ in edges] or np.empty((0, 3))).astype(int).T
        self.weight = np.array([log_weight for _, log_weight in edges])
        self.units = _steps({edge: np.logaddexp.reduce(logs) for edge, logs in unit.items()}, len(self.index))
        classes = {}  # of words that the grammar cannot tell apart
        self.words = {w: classes.setdefault(tuple(sorted(entries)), len(classes)) for w, entries in lexical.items()}
        self.lexicon = np.full((len(self.index), len(classes)), -np.inf)
        for entries, column in classes.items():
            for symbol, log_weight in entries:
                self.lexicon[symbol, column] = np.logaddexp(self.lexicon[symbol, column], log_weight)

    def __call__(self, sentences):
        """(m,) float64: see ``Grammar.log_prob``."""
        refuse_text("sentences", sentences, "a list of sentences, each a list of words")
        for sentence in sentences:
            refuse_text("a sentence", sentence, "a list of words")
        patterns = [tuple(self.words.get(word, -1) for word in sentence) for sentence in sentences]
        known, by_length = {(): self.empty}, defaultdict(set)
        for pattern in patterns:
            by_length[len(pattern)].add(pattern)
        for length, group in by_length.items():
            group = sorted(pattern for pattern in group if pattern and -1 not in pattern)
            cells = len(self.index) * (length + 1) ** 2
            if group and cells > 8 * _CELLS:
                raise ValueError(
                    f"a sentence has {length} words and the grammar {len(self.index)} symbols; expected at most "
                    f"{8 * _CELLS:,} for symbols times squared length"
                )
            most = max(_CELLS // cells, 1)
            for part in (group[i : i + most] for i in range(0, len(group), most)):
                known.update(zip(part, self._chart(np.array(part)), strict=True))
        return np.array([known.get(pattern, -np.inf) for pattern in patterns])

    def _chart(self, patterns):
        """log probabilities (m,) of sentences of one length, (m, length) numbers of words: the chart holds that of each
        symbol for the span of each width from each place, (width, symbol, sentence, place)."""
        count, length = patterns.shape
        chart = np.full((length + 1, len(self.index), count, length + 1), -np.inf)
        occurs = np.zeros(chart.shape[:2], bool)
        w, s, c, p = chart.strides
        for width in range(1, length + 1):
            places = length + 1 - width
            scores = self.lexicon[:, patterns] if width == 1 else np.full((len(self.index), count, places), -np.inf)
            # Only rules whose two parts occur somewhere, of widths k and width - k, are looked at, in blocks.
            rule, k = np.nonzero((occurs[1:width, self.first] & occurs[width - 1 : 0 : -1, self.second]).T)
            # [k, symbol, sentence, place]: the span of width - k - 1 from place + k + 1, a slanted view of the chart
            shape, slanted = (width - 1, *chart.shape[1:3], places), chart[width - 1 :, :, :, 1:]
            ends = np.lib.stride_tricks.as_strided(slanted, shape, (p - w, s, c, p), writeable=False) if width > 1 else None
            size = max(_BLOCK // (count * places), 1)
            for block in (slice(i, i + size) for i in range(0, len(rule), size)):
                r, head = rule[block], np.flatnonzero(np.diff(self.left[rule[block]], prepend=-1))
                joined = chart[k[block] + 1, self.first[r], :, :places] + ends[k[block], self.second[r]]
                joined += self.weight[r][:, None, None]
                left = self.left[r[head]]
                scores[left] = np.logaddexp(scores[left], _log_sums(joined, head))
            chart[width, :, :, :places] = scores = self._closed(scores)
            occurs[width] = (scores > -np.inf).any((1, 2))
        return chart[length, self.start, :, 0]

    def _closed(self, scores):
        """Scores (symbols, ...) once chains of unit rules, of any length, are counted in."""
        for targets, sources, logs, heads in self.units:
            more = np.logaddexp.reduceat(scores[sources] + logs.reshape(-1, *[1] * (scores.ndim - 1)), heads, 0)
            scores[targets] = np.logaddexp(scores[targets], more)
        return scores


def refuse_text(name, value, expected):
    """ValueError for a text where a list is expected: it would be taken for the list of its characters."""
    if isinstance(value, str | bytes):
        raise ValueError(f"{name} is the text {value!r}; expected {expected}")


def _merged(alternatives):
    """(right side, weight) of each right side; one that is given twice counts twice."""
    merged = defaultdict(Fraction)
    for weight, right in alternatives:
        merged[right] += weight
    return merged.items()


def _empty(rules):
    """{symbol: probability that it derives the empty sentence}, where that is not 0: the least solution of p(A) = sum over
    A -> X Y ... of w p(X) p(Y) ..., by Newton's method, which rises to it from 0 (Etessami and Yannakakis 2009)."""
    able, before = set(), -1
    while len(able) > before:
        before = len(able)
        able |= {left for left, alternatives in rules.items() if any(able.issuperset(right) for _, right in alternatives)}
    index = {symbol: i for i, symbol in enumerate(able)}
    found = [
        (i, float(weight), [index[symbol] for symbol in right])
        for left, i in index.items()
        for right, weight in _merged(rules[left])
        if able.issuperset(right)
    ]
    p = np.zeros(len(able))
    for _ in range(100):
        value, slope = np.zeros(len(able)), np.zeros((len(able), len(able)))
        for i, weight, right in found:
            value[i] += weight * np.prod(p[right])
            for j, symbol in enumerate(right):
                slope[i, symbol] += weight * np.prod(p[right[:j] + right[j + 1 :]])
        step = np.linalg.solve(np.eye(len(able)) - slope, value - p)
        p = p + step
        if np.all(np.abs(step) <= 1e-15 * p):
            break
    return {symbol: min(p[i], 1.0) for symbol, i in index.items() if p[i] > 0}


def _steps(unit, size):
    """What chains of unit rules come to, as a list of steps (targets, sources, log weights, heads): the scores of the
    sources, weighted and summed by target, are added to the targets. unit: {(A, B): log weight of A -> B}.

    Symbols that derive each other are summed over chains of any length by one inverse; the others follow in the order in
    which one derives the other.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    if not unit:
        return []
    above, below = np.array(list(unit)).T
    logs = np.array(list(unit.values()))
    count, label = connected_components(csr_array((np.ones(len(logs)), (above, below)), (size, size)), connection="strong")
    inner = label[above] == label[below]
    level = np.zeros(count, int)
    for _ in range(count):  # the longest way down, from one component to another
        longer = level.copy()
        np.maximum.at(longer, label[above[~inner]], level[label[below[~inner]]] + 1)
        if (longer == level).all():
            break
        level = longer
    steps = []
    for depth in range(level.max() + 1):
        edges = np.flatnonzero(~inner & (level[label[above]] == depth))
        steps.append((above[edges], below[edges], logs[edges]))
        parts = [[], [], []]
        for component in np.unique(label[above[inner & (level[label[above]] == depth)]]):
            members = np.flatnonzero(label == component)
            own = inner & (label[above] == component)
            matrix = np.zeros((len(members),) * 2)
            np.add.at(
                matrix, (np.searchsorted(members, above[own]), np.searchsorted(members, below[own])), np.exp(logs[own])
            )
            chains = matrix @ np.linalg.inv(np.eye(len(members)) - matrix)
            i, j = np.nonzero(chains > 0)
            for part, more in zip(parts, (members[i], members[j], np.log(chains[i, j])), strict=True):
                part.append(more)
        if parts[0]:
            steps.append(tuple(map(np.concatenate, parts)))
    return [_by_target(*step) for step in steps if len(step[0])]


def _by_target(targets, sources, logs):
    order = np.argsort(targets, kind="stable")
    heads = np.flatnonzero(np.diff(targets[order], prepend=-1))
    return targets[order][heads], sources[order], logs[order], heads


def _log_sums(logs, heads):
    """log of the sums of exp(logs) over the segments of the first axis that begin at ``heads``; logs are overwritten."""
    top = np.maximum.reduceat(logs, heads, 0)
    shift = np.where(top > -np.inf, top, 0.0)
    logs -= np.repeat(shift, np.diff(heads, append=len(logs)), 0)
    with np.errstate(divide="ignore"):
        return shift + np.log(np.add.reduceat(np.exp(logs, out=logs), heads, 0))
