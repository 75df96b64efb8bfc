"""Grammars that may derive a sentence twice: a proof that one does not, and the entropy of sentences where it might.

The entropy of derivations is H(D) = H(W) + H(D | W), so it exceeds that of sentences by what is unknown of a derivation
once its sentence is known. Whether a grammar is ambiguous is undecidable: ``proved_unambiguous`` is sound and not complete.
"""

import math
from collections import Counter, defaultdict
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np

from memlm.grammar import is_terminal

_LIMIT = 1_000_000  # states, or pairs of states, after which a proof is given up


class AmbiguousGrammar(ValueError):
    """An exact entropy of sentences was asked for, and only bounds are known."""


class _TooLarge(Exception):
    """A computation has reached its limit."""


class SentenceEntropy(NamedTuple):
    """lower <= entropy of a sentence <= upper, in nats, up to the rounding of float64; exact: the two are one number.
    mass: the probability of the sentences that were enumerated, 0 where a proof made that needless."""

    lower: float
    upper: float
    exact: bool
    mass: float


class _Automaton:
    """An NFA that accepts whatever a string of symbols derives, and perhaps more.

    Symbols that derive each other share one entry and one exit each; who called is forgotten among them, and remembered
    otherwise (the regular approximation of Mohri and Nederhof). Nothing is added to a language without such symbols, or
    where those of a right side stand all at its right end, or all at its left.
    """

    def __init__(self, rules, together, symbols):
        self.rules, self.together, self.edges = rules, together, [[]]
        self.before = cache(self._before)
        self.start = self._string(symbols, 0, {})
        closures = [self._silent(state) for state in range(len(self.edges))]
        self.final = {state for state, reached in enumerate(closures) if 0 in reached}
        self.moves = [defaultdict(set) for _ in closures]
        for state, reached in enumerate(closures):
            for word, target in (edge for middle in reached for edge in self.edges[middle]):
                if word:
                    self.moves[state][word].add(target)

    def _new(self, *edges):
        if len(self.edges) >= _LIMIT // 100:
            raise _TooLarge
        self.edges.append(list(edges))
        return len(self.edges) - 1

    def _string(self, symbols, target, doors):
        """The state from which the symbols lead to ``target``; doors: {symbol: (entry, exit)} of those around."""
        for symbol in reversed(symbols):
            if symbol in doors:
                entry, exit = doors[symbol]
                self.edges[exit].append((None, target))
                target = entry
            else:
                target = self.before(symbol, target)
        return target

    def _before(self, symbol, target):
        if is_terminal(symbol):
            return self._new((symbol, target))
        if not self.together[symbol]:
            return self._new(*[(None, self._string(right, target, {})) for right in self.rules[symbol]])
        doors = {member: (self._new(), self._new()) for member in self.together[symbol]}
        self.edges[doors[symbol][1]].append((None, target))
        for member, (entry, exit) in doors.items():
            for right in self.rules[member]:
                self.edges[entry].append((None, self._string(right, exit, doors)))
        return doors[symbol][0]

    def _silent(self, state):
        seen, queue = {state}, [state]
        while queue:
            more = {target for word, target in self.edges[queue.pop()] if word is None} - seen
            seen |= more
            queue += more
        return seen


def _pairs(one, other, starts):
    """The pairs of states of two automata that one or more common words lead to from ``starts``."""
    seen, queue = set(), list(starts)
    while queue:
        p, q = queue.pop()
        moves, others = one.moves[p], other.moves[q]
        for word in moves.keys() & others.keys():
            more = {(a, b) for a in moves[word] for b in others[word]} - seen
            seen |= more
            queue += more
        if len(seen) > _LIMIT:
            raise _TooLarge
    return seen


def _meet(one, other):
    """Whether both automata accept some common string."""
    return any(p in one.final and q in other.final for p, q in _pairs(one, other, {(one.start, other.start)}))


def _overlap(one, other):
    """Whether there are x, a, y with x and xa accepted by ``one``, and ay and y by ``other``, none of them empty."""
    longer = {(q, other.start) for p, q in _pairs(one, one, {(one.start, one.start)}) if p in one.final}
    shorter = {(r, other.start) for q, r in _pairs(one, other, longer) if q in one.final}
    return any(r in other.final and s in other.final for r, s in _pairs(other, other, shorter))


def _plain_rules(grammar):
    """{left: right sides} of what the start reaches, where words that no rule tells apart are one; None where a left side
    has an alternative twice. One word more or less in such a class leaves the number of derivations of a string as it is."""
    rules = {left: [right for _, right in grammar.rules[left]] for left in grammar._reachable}
    if any(len(set(rights)) < len(rights) for rights in rules.values()):
        return None
    places = defaultdict(list)
    for left, rights in rules.items():
        for right in rights:
            for symbol in filter(is_terminal, right):
                places[symbol].append(left if len(right) == 1 else symbol)
    same = {}
    name = {word: same.setdefault(tuple(where), word) for word, where in places.items()}
    return {left: list({tuple(name.get(s, s) for s in right): None for right in rights}) for left, rights in rules.items()}


def proved_unambiguous(grammar):
    """True is a proof that no sentence has two derivations; False leaves it open.

    Two smallest different derivations of one string from one symbol differ in their first rule, or in where the parts of
    one rule's right side meet. So it is enough that the alternatives of every symbol have no string in common, and that
    for every right side X Y... there are no strings x, a, y with x and xa from X, and ay and y from Y... (the two
    conditions of Brabrand, Giegerich and Moeller). Both are decided for regular languages that contain those of the
    grammar. Where these are equal, in a finite language for instance, False means ambiguous, or too large to be decided.
    """
    rules = _plain_rules(grammar)
    if rules is None:
        return False
    names = list(grammar._reachable)
    reach = (grammar._offspring.toarray() > 0).astype(float)
    for _ in range(len(names).bit_length()):
        reach = np.minimum(reach + reach @ reach, 1)
    mutual = (reach * reach.T).astype(bool)
    together = {name: [names[j] for j in np.flatnonzero(row)] for name, row in zip(names, mutual, strict=True)}

    @cache
    def automaton(symbols):
        return _Automaton(rules, together, symbols)

    try:
        for rights in rules.values():
            for right in rights:
                for i in range(1, len(right)):
                    if not is_terminal(right[i - 1]) and _overlap(automaton(right[i - 1 : i]), automaton(right[i:])):
                        return False
            if any(_meet(automaton(one), automaton(other)) for one, other in combinations(rights, 2)):
                return False
    except _TooLarge:
        return False
    return True


def _enumerated(grammar, effort):
    """Yield for length 1, 2, ... the sentences of that length as pairs (p, h): p the probability of the sentence, h the sum
    of -P log P over its derivations. Ends where more than ``effort`` pairs of strings would have been joined; a place
    where there are none to join counts as one.
    """
    names = list(grammar._reachable)
    size, known, spent = len(names), defaultdict(dict), 0
    unit, unit_h = np.zeros((size, size)), np.zeros((size, size))  # h of a product is h1 p2 + p1 h2
    for i, left in enumerate(names):
        for weight, right in grammar.rules[left]:
            if len(right) == 1 and not is_terminal(right[0]):
                unit[i, names.index(right[0])] += float(weight)
                unit_h[i, names.index(right[0])] -= float(weight) * math.log(weight)
    chains = np.maximum(np.linalg.inv(np.eye(size) - unit), 0)

    @cache
    def strings(symbols, length):
        nonlocal spent
        if len(symbols) == 1:
            return {symbols: (1.0, 0.0)} if is_terminal(symbols[0]) and length == 1 else known[symbols[0], length]
        found = defaultdict(lambda: (0.0, 0.0))
        for k in range(1, length - len(symbols) + 2):
            firsts, rests = strings(symbols[:1], k), strings(symbols[1:], length - k)
            spent += 1 + len(firsts) * len(rests)
            if spent > effort:
                raise _TooLarge
            for first, (p1, h1) in firsts.items():
                for rest, (p2, h2) in rests.items():
                    p, h = found[first + rest]
                    found[first + rest] = p + p1 * p2, h + h1 * p2 + p1 * h2
        return found

    length = 0
    while True:
        length += 1
        rows, values = {}, []
        try:
            for i, left in enumerate(names):
                for weight, right in grammar.rules[left]:
                    if len(right) > 1 or is_terminal(right[0]):
                        w, h0 = float(weight), -float(weight) * math.log(weight)
                        for words, (p, h) in strings(right, length).items():
                            values.append((rows.setdefault(words, len(rows)), i, w * p, h0 * p + w * h))
        except _TooLarge:
            return
        spent += len(values)
        table = np.zeros((2, len(rows), size))
        for row, column, p, h in values:
            table[:, row, column] += p, h
        p = table[0] @ chains.T
        h = (table[1] + p @ unit_h.T) @ chains.T
        for i, left in enumerate(names):
            known[left, length] = {w: (p[row, i], h[row, i]) for w, row in rows.items() if p[row, i]}
        yield list(known[grammar.start, length].values())


def _derivation_count(grammar):
    """How many derivations a grammar without recursion has."""

    @cache
    def count(symbol):
        return 1 if is_terminal(symbol) else sum(math.prod(map(count, right)) for _, right in grammar.rules[symbol])

    return count(grammar.start)


def sentence_entropy(grammar, effort=100_000):
    """Entropy of the sentences of a grammar: SentenceEntropy, exact or as two bounds that meet as ``effort`` grows.

    Exact where the grammar is proved unambiguous, and for up to ``effort`` derivations in all, which are added up by
    sentence as Fractions. Otherwise the short sentences are enumerated, each with p its probability, h the sum of
    -P log P over its derivations, and r the mass of the sentences left out. None of these is likelier than r, so

        sum of -p log p  -  r log r  <=  H(W)  <=  sum of -p log p  +  H(D) - sum of h.

    ``effort`` is then how many pairs of strings may be joined to enumerate them.
    """
    derivations = grammar.entropy()
    if proved_unambiguous(grammar):
        return SentenceEntropy(derivations, derivations, True, 0.0)
    if not grammar.recursive and _derivation_count(grammar) <= effort:
        table = Counter()
        for words, probability in grammar.derivations():
            table[words] += probability
        nats = math.fsum(float(p) * -math.log(p) for p in table.values())
        return SentenceEntropy(nats, nats, True, float(sum(table.values())))
    nats, rest, mass = [], [derivations], []
    for sentences in _enumerated(grammar, effort):
        nats += [-p * math.log(p) for p, _ in sentences]
        rest += [-h for _, h in sentences]
        mass += [p for p, _ in sentences]
        if math.fsum(mass) > 1 - 1e-12:
            break
    left = max(1 - math.fsum(mass), 0.0)
    lower = math.fsum(nats) - (left * math.log(left) if left else 0.0)
    return SentenceEntropy(lower, math.fsum(nats + rest), False, math.fsum(mass))


def exact_entropy(grammar):
    """Entropy of the sentences in nats where it is known exactly; raises AmbiguousGrammar, with the bounds, elsewhere."""
    found = sentence_entropy(grammar)
    if not found.exact:
        raise AmbiguousGrammar(
            f"the entropy of sentences is between {found.lower:.6g} and {found.upper:.6g} nats; expected a grammar that is "
            "proved unambiguous, or a finite one"
        )
    return found.lower
