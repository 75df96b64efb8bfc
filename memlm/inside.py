"""The inside algorithm: the log probability of a sentence under a grammar, summed over all its derivations.

All probabilities are logarithms, so that none underflows: a sentence of 400 words has e-700 and less.
"""

from collections import defaultdict

import numpy as np
from scipy.sparse import csc_array

from memlm.grammar import is_terminal, log, sums_over_paths

_CELLS = 2**18  # cells of a chart that are worked on at once
_MEMORY = 2**28  # numbers in a chart (2 GiB) after which a sentence is refused


class Inside:
    """A grammar made ready: ``Inside(grammar)(sentences)`` is what ``Grammar.log_prob`` returns.

    Symbols are numbers, 0 the start, and right sides have at most two: A -> B C D becomes A -> B (C D), where (C D) is a
    symbol that all right sides with this end share, and a word in a longer right side is a symbol too. binary: {(B, C):
    [(A, log weight)]}, unit: [(A, B, log weight)], empty: [(A, log weight)], lexical: {word: [(A, log weight)]}; null:
    (size,) log probability that a symbol derives nothing; edges: unit, and of every pair one half where the other is empty.
    """

    def __init__(self, grammar):
        self.numbers = defaultdict(lambda: len(self.numbers), {grammar.start: 0})
        self.binary, self.unit, self.empty, self.lexical = defaultdict(list), [], [], defaultdict(list)
        for left in grammar._reachable:
            for weight, right in grammar.rules[left]:
                self._add(self.numbers[left], log(weight), right)
        self.size = len(self.numbers)
        self.null = self._null()
        self.edges = self.unit + [
            (a, other, weight + self.null[nothing])
            for pair, parents in self.binary.items()
            for other, nothing in (pair, pair[::-1])
            for a, weight in parents
            if self.null[nothing] > -np.inf
        ]
        self.steps = _eliminated(self.edges)
        self.needs = self._needs()
        self._classes()

    def _add(self, left, weight, right):
        if not right:
            self.empty.append((left, weight))
        elif len(right) == 1 and is_terminal(right[0]):
            self.lexical[right[0][1:]].append((left, weight))
        elif len(right) == 1:
            self.unit.append((left, self.numbers[right[0]], weight))
        else:
            rest = self._number(right[-1])
            for symbol in reversed(right[1:-1]):
                pair = self._number(symbol), rest
                if pair not in self.numbers:
                    self.binary[pair].append((self.numbers[pair], 0.0))
                rest = self.numbers[pair]
            self.binary[self._number(right[0]), rest].append((left, weight))

    def _number(self, symbol):
        if is_terminal(symbol) and symbol not in self.numbers:
            self.lexical[symbol[1:]].append((self.numbers[symbol], 0.0))
        return self.numbers[symbol]

    def _null(self):
        """log probability that a symbol derives nothing: the least solution v of v = f(v), by Newton's method.

        f is convex and grows in every v. From below, Newton's steps stay below the solution and converge to it
        quadratically, as the derivative has a spectral radius of at most that of the mean offspring.
        """
        value, found = np.full(self.size, -np.inf), -1
        if not self.empty:
            return value
        rules = [(a, self.size, self.size, w) for a, w in self.empty] + [(a, b, self.size, w) for a, b, w in self.unit]
        rules += [(a, *pair, w) for pair, parents in self.binary.items() for a, w in parents]  # self.size stands for no part
        *parts, weight = np.array(rules).T
        left, one, other = np.array(parts, int)

        def terms(value):
            part = np.append(value, 0.0)
            return weight + part[one] + part[other]

        while found < (found := np.isfinite(value).sum()):
            value = self._sums(left, terms(value))
        some, kept = np.flatnonzero(np.isfinite(value)), np.isfinite(terms(value))
        for _ in range(100):
            after = self._sums(left, terms(value))
            step = after[some] - value[some]
            if not (step > 1e-15 * np.maximum(1, abs(value[some]))).any():
                break
            share = np.tile(np.exp(terms(value)[kept] - after[left[kept]]), 2)
            where = np.tile(left[kept], 2), np.concatenate([one[kept], other[kept]])
            slope = csc_array((share, where), (self.size + 1,) * 2)[some][:, some]
            value[some] += np.maximum(sums_over_paths(slope)(step), 0)
        return np.minimum(value, 0)

    def _sums(self, index, terms):
        """log of the sums of exp(terms) by index."""
        top = np.full(self.size, -np.inf)
        np.maximum.at(top, index, terms)
        base, sums = np.where(np.isfinite(top), top, 0), np.zeros(self.size)
        np.add.at(sums, index, np.exp(terms - base[index]))
        with np.errstate(divide="ignore"):
            return base + np.log(sums)

    def _needs(self):
        """For each symbol the least number of words of a sentence that holds it, where it derives some; (size,) float64."""
        rules = [(a, *pair) for pair, parents in self.binary.items() for a, _ in parents]
        rules += [(a, b, self.size) for a, b, _ in self.edges]  # self.size stands for no part
        left, one, other = np.array(rules or np.empty((0, 3)), int).T
        least, outside = np.full((2, self.size + 1), np.inf)
        least[[a for entries in self.lexical.values() for a, _ in entries]] = 1
        least[-1] = outside[0] = 0
        _settle(least, left, lambda: least[one] + least[other])
        rest = np.concatenate([least[other], least[one]])
        _settle(outside, np.concatenate([one, other]), lambda: np.tile(outside[left], 2) + rest)
        return (least + outside)[:-1]

    def _classes(self):
        """Words that no rule tells apart are one class: self.words: {word: class}, self.entries: [[(A, log weight)]]."""
        classes = {}
        self.words = {word: classes.setdefault(tuple(sorted(rules)), len(classes)) for word, rules in self.lexical.items()}
        self.entries = []
        for entries in classes:
            merged = defaultdict(lambda: -np.inf)
            for a, weight in entries:
                merged[a] = np.logaddexp(merged[a], weight)
            self.entries.append(list(merged.items()))

    def __call__(self, sentences):
        patterns = [tuple(self.words.get(word, -1) for word in sentence) for sentence in sentences]
        known = {(): self.null[0]}
        by_length = defaultdict(set)
        for pattern in patterns:
            if -1 in pattern:
                known[pattern] = -np.inf
            elif pattern:
                by_length[len(pattern)].add(pattern)
        for length, group in by_length.items():
            group, most = sorted(group), max(1, _CELLS // length**2)
            for begin in range(0, len(group), most):
                some = group[begin : begin + most]
                known.update(zip(some, self._scores(np.array(some).T), strict=True))
        return np.array([known[pattern] for pattern in patterns], float)

    def _scores(self, patterns):
        """log probabilities of sentences of one length: patterns (length, count) classes of words -> (count,)."""
        length, count = patterns.shape
        useful = self.needs <= length
        binary = [(pair, kept) for pair, parents in self.binary.items() if (kept := [p for p in parents if useful[p[0]]])]
        chart = _Chart(length, count, {symbol for pair, _ in binary for symbol in pair if useful[symbol]})
        spans = {}
        for word in np.unique(patterns):
            at = np.flatnonzero(patterns == word)
            for a, weight in self.entries[word]:
                spans.setdefault(a, np.full(patterns.size, -np.inf))[at] = weight
        for width in range(1, length + 1):
            for pair, parents in binary:
                joined = chart.joined(*pair, width)
                if joined is not None:
                    for a, weight in parents:
                        spans[a] = np.logaddexp(spans[a], joined + weight) if a in spans else joined + weight
            spans = self.closed(spans)
            if width < length:
                chart.keep(spans, width)
                spans = {}
        return spans.get(0, np.full(count, -np.inf))

    def closed(self, direct):
        """Sums over chains of unit rules: the x = direct + edges x, {symbol: array of logarithms}; a missing symbol is 0."""
        found = dict(direct)

        def add(a, b, weight):
            if b in found:
                found[a] = np.logaddexp(found[a], found[b] + weight) if a in found else found[b] + weight

        for a, _, _, users in self.steps:
            for user, weight in users:
                add(user, a, weight)
        for a, loops, parts, _ in reversed(self.steps):
            for part, weight in parts:
                add(a, part, weight)
            if loops and a in found:
                found[a] = found[a] + loops
        return found


class _Chart:
    """log probabilities of the spans of sentences of one length, for some symbols. A symbol's array is (length + 1,
    length * count): row w has its spans of w words, by their first word and then by sentence."""

    def __init__(self, length, count, symbols):
        self.length, self.count, self.symbols = length, count, symbols
        self.rows, self.range, self.held = {}, {}, 0

    def keep(self, spans, width):
        """Take up the spans of ``width`` words: {symbol: ((length - width + 1) * count,) logarithms}."""
        for symbol, values in spans.items():
            if symbol not in self.symbols or values.max() == -np.inf:
                continue
            if symbol not in self.rows:  # only the rows that are written take memory
                try:
                    self.rows[symbol] = np.empty((self.length + 1, self.length * self.count))
                except MemoryError:
                    raise ValueError(self._too_large()) from None
                self.range[symbol] = width, width - 1
            first, last = self.range[symbol]
            self.held += (width - last) * self.length * self.count
            if self.held > _MEMORY:
                raise ValueError(self._too_large())
            self.rows[symbol][last + 1 : width] = -np.inf
            self.rows[symbol][width, : values.size] = values
            self.range[symbol] = first, width

    def _too_large(self):
        return f"the chart of a sentence of {self.length} words is too large; expected shorter sentences"

    def joined(self, one, other, width):
        """log probabilities of the spans of ``width`` words that a span of one and then one of the other make; or None."""
        if one not in self.rows or other not in self.rows:
            return None
        low, high = (max(0, width - self.range[one][1]), width - self.range[one][0])
        low, high = max(low, self.range[other][0]), min(high, self.range[other][1])  # widths of the other
        if low > high:
            return None
        cells = (self.length - width + 1) * self.count
        firsts = self.rows[one][width - high : width - low + 1][::-1, :cells]
        # The other span of v words begins at word i + width - v: from row to row, one word earlier.
        step = (self.length - 1) * self.count
        begin = low * step + width * self.count
        seconds = self.rows[other].reshape(-1)[begin : begin + (high - low + 1) * step].reshape(-1, step)[:, :cells]
        scores = firsts + seconds
        if len(scores) == 1:
            return scores[0]
        top = scores.max(0)
        top[top == -np.inf] = 0
        scores -= top
        with np.errstate(divide="ignore"):
            return np.log(np.exp(scores, out=scores).sum(0)) + top


def _settle(values, index, bounds):
    """Lower the values at ``index`` to bounds(), which falls with them, until they stay."""
    before = None
    while not np.array_equal(values, before):
        before = values.copy()
        np.minimum.at(values, index, bounds())


def _eliminated(edges):
    """Steps that solve x = direct + edges x, for edges (a, b, log weight), by Gaussian elimination with sparse rows.

    A step is (a, log of what its loops multiply it by, its row [(b, log weight)] of symbols that come later, those among
    them that use it [(user, log weight)]). Users come first where there are no cycles, and nothing is then filled in.
    """
    rows, users = defaultdict(dict), defaultdict(set)
    for a, b, weight in edges:
        rows[a][b] = np.logaddexp(rows[a].get(b, -np.inf), weight)
        users[b].add(a)
    steps, done = [], set()
    for a in users_first({a: list(row) for a, row in rows.items()}):
        row = rows.pop(a)
        loops = float(-np.log(-np.expm1(row.pop(a, -np.inf))))
        done.add(a)
        into = []
        for user in sorted(users[a] - done):
            weight = rows[user].pop(a) + loops
            into.append((user, weight))
            for b, more in row.items():
                rows[user][b] = np.logaddexp(rows[user].get(b, -np.inf), weight + more)
                users[b].add(user)
        steps.append((a, loops, list(row.items()), into))
    return steps


def users_first(children):
    """The keys of {a: its children} in an order in which a stands before its children, where there are no cycles."""
    seen, finished = set(), []
    for root in children:
        stack = [(root, iter(children[root]))] if root not in seen else []
        seen.add(root)
        while stack:
            a, rest = stack[-1]
            child = next((b for b in rest if b not in seen and b in children), None)
            if child is None:
                finished.append(a)
                stack.pop()
            else:
                seen.add(child)
                stack.append((child, iter(children[child])))
    return finished[::-1]
