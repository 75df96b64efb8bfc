"""Grammars that may derive a sentence twice: a proof that one does not, and the entropy of sentences where it might.

The entropy of derivations is H(D) = H(W) + H(D | W), so it exceeds that of sentences by what is unknown of a derivation
once its sentence is known. Whether a grammar is ambiguous is undecidable: ``proved_unambiguous`` is sound and not complete.
"""

import math
from collections import Counter, defaultdict
from itertools import chain, combinations, count
from typing import NamedTuple

import numpy as np

from memlm.grammar import checked, is_terminal, log, real
from memlm.inside import users_first

_STATES, _STEPS, _FEW = 100_000, 20_000_000, 1_000_000  # states of an automaton, steps: after so many it is given up


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
    """An NFA with a state for any string of symbols, from which it accepts whatever the string derives, and perhaps more.

    Symbols that derive each other share one entry and one exit each; who called is forgotten among them, and remembered
    otherwise (the regular approximation of Mohri and Nederhof). Nothing is added to a language without such symbols, or
    where those of a right side stand all at its right end, or all at its left.

    States are numbers, made when they are first asked for; 0 accepts. The key (symbols, target, copy) is a string to be
    read before the state ``target``. A set of symbols that derive each other is copied for each (symbol, target) from which
    it is entered and to which that symbol's exit leads; the key (symbol, copy) is an exit.
    """

    def __init__(self, rules, group, most):
        self.rules, self.group, self.most, self.steps = rules, group, most, 0
        self.forget()
        self.rests = defaultdict(list)  # of a symbol: (left, what follows it) in the rules of those that it derives
        for left, rights in rules.items():
            for right in rights if group[left] is not None else ():
                for at, symbol in enumerate(right, 1):
                    if group.get(symbol) == group[left]:
                        self.rests[symbol].append((left, right[at:]))

    def forget(self):
        """Drop all states."""
        self.keys, self.numbers, self.known = [None], {}, {}

    def spend(self, steps):
        """Count steps; raises _TooLarge where they are too many."""
        self.steps += steps
        if self.steps > self.most:
            raise _TooLarge

    def _state(self, key):
        number = self.numbers.setdefault(key, len(self.keys))
        if number == len(self.keys):
            if number > _STATES:
                raise _TooLarge
            self.keys.append(key)
        return number

    def string(self, symbols, target=0, copy=None):
        """The state from which the symbols lead to ``target``."""
        return self._state((symbols, target, copy)) if symbols else target

    def _edges(self, state):
        """(word or None, next state) for each edge."""
        if len(self.keys[state]) == 2:
            symbol, copy = self.keys[state]
            inner = [self.string(rest, self._state((left, copy)), copy) for left, rest in self.rests[symbol]]
            return [(None, after) for after in inner + [copy[1]] * (symbol == copy[0])]
        symbols, target, copy = self.keys[state]
        symbol, after = symbols[0], self.string(symbols[1:], target, copy)
        if is_terminal(symbol):
            return [(symbol, after)]
        if self.group[symbol] is None:
            return [(None, self.string(right, after)) for right in self.rules[symbol]]
        if copy is None or self.group[symbol] != self.group[copy[0]]:
            copy = symbol, after
        exit = self._state((symbol, copy))
        return [(None, self.string(right, exit, copy)) for right in self.rules[symbol]]

    def moves(self, state):
        """(whether the empty string is accepted from a state, {word: the states to which it leads})."""
        if state not in self.known:
            moves, seen, queue = defaultdict(set), {state}, [state]
            while queue:
                middle = queue.pop()
                edges = self._edges(middle) if middle else []
                self.spend(len(edges))
                for word, after in edges:
                    if word:
                        moves[word].add(after)
                    elif after not in seen:
                        seen.add(after)
                        queue.append(after)
            self.spend(len(moves))
            self.known[state] = 0 in seen, moves
        return self.known[state]

    def final(self, state):
        """Whether the empty string is accepted from a state."""
        return self.moves(state)[0]


def _pairs(automaton, starts):
    """The pairs of states that one or more common words lead to from the pairs ``starts``."""
    seen, queue = set(), list(starts)
    while queue:
        moves, others = (automaton.moves(state)[1] for state in queue.pop())
        for word in moves.keys() & others.keys():
            automaton.spend(len(moves[word]) * len(others[word]))
            more = {(a, b) for a in moves[word] for b in others[word]} - seen
            if len(seen) > _FEW:
                raise _TooLarge
            seen |= more
            queue += more
    return seen


def _meet(automaton, rights):
    """Whether some string is accepted from two of the strings of symbols."""
    begins = defaultdict(list)
    for start in map(automaton.string, rights):
        accepts, moves = automaton.moves(start)
        automaton.spend(len(moves))
        for word in [*moves, None] if accepts else moves:
            begins[word].append(start)
    for starts in begins.values():
        automaton.spend(5 * len(starts) ** 2)  # of pairs, each of which takes a few steps
    pairs = {pair for starts in begins.values() for pair in combinations(starts, 2)}
    final = automaton.final
    return any(final(p) and final(q) for pair in pairs for p, q in (pair, *_pairs(automaton, [pair])))


def _overlap(automaton, one, other):
    """Whether there are x, a, y with x and xa accepted from the string of symbols ``one``, and ay and y from ``other``,
    a not empty."""
    final, start, then = automaton.final, automaton.string(one), automaton.string(other)
    longer = {(q, then) for p, q in {(start, start), *_pairs(automaton, [(start, start)])} if final(p)}
    shorter = {(r, then) for q, r in _pairs(automaton, longer) if final(q)}
    return any(final(r) and final(s) for r, s in shorter | _pairs(automaton, shorter))


def _limit(name, value):
    return real(name, value, lambda n: n >= 0, "a number >= 0")


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


def proved_unambiguous(grammar, steps=_STEPS):
    """True is a proof that no sentence has two derivations; False leaves it open.

    Two smallest different derivations of one string from one symbol differ in their first rule, or in where the parts of
    one rule's right side meet. So it is enough that the alternatives of every symbol have no string in common, and that
    for every right side X Y... there are no strings x, a, y with a not empty, x and xa from X, and ay and y from Y... (the
    two conditions of Brabrand, Giegerich and Moeller). Both are decided for regular languages that contain those of the
    grammar. Where these are equal, in a finite language for instance, False means ambiguous, or too large to be decided
    with that many ``steps`` of automata. A few steps are also tried on the grammar of the sentences read backwards, which is
    ambiguous with the grammar, and much easier where rules grow at their left.
    """
    rules, steps = _plain_rules(checked(grammar)), _limit("steps", steps)
    if rules is None:
        return False
    label, recursive = grammar._components
    group = {name: int(label[i]) if recursive[i] else None for i, name in enumerate(grammar._reachable)}
    backwards = {left: [right[::-1] for right in rights] for left, rights in rules.items()}
    few = min(steps, _FEW)
    for one, most in ((rules, few), (backwards, few), (rules, steps)):
        try:
            return _proved(_Automaton(one, group, most))
        except _TooLarge:
            pass
    return False


def _proved(automaton):
    done = set()
    for rights in automaton.rules.values():
        for one, other in ((right[i - 1 : i], right[i:]) for right in rights for i in range(1, len(right))):
            fixed = is_terminal(one[0]) or all(map(is_terminal, other))  # one string, so that a would be empty
            if not fixed and (one, other) not in done and _overlap(automaton, one, other):
                return False
            done.add((one, other))
        if _meet(automaton, rights):
            return False
        if len(automaton.keys) > _STATES // 2:  # room for the next
            automaton.forget()
    return True


def _surprises(inside):
    """({symbol: log h of its empty string}, [(a, b, log of what h of a gains from p of b)] for the edges of ``inside``).

    h of a product is h1 p2 + p1 h2, and h of a rule is -w log w.
    """
    null = {a: np.array([value]) for a, value in enumerate(inside.null) if value > -np.inf}

    def own(weight):
        return weight + math.log(-weight) if weight < 0 else -math.inf

    halves = [(a, *pair, w) for pair, parents in inside.binary.items() for a, w in parents]
    edges = [(a, b, own(w)) for a, b, w in inside.unit]
    direct = {}
    for a, w in inside.empty:  # a symbol may have several empty right sides, each a derivation of its own
        direct[a] = np.logaddexp(direct.get(a, -np.inf), np.array([own(w)]))
    direct = _added(direct, edges + [(a, b, own(w) + inside.null[c]) for a, b, c, w in halves if c in null], null)
    empty = inside.closed(direct)
    for a, b, c, w in halves:
        for other, nothing in ((b, c), (c, b)):
            if nothing in null:
                edges.append((a, other, np.logaddexp(own(w) + inside.null[nothing], w + empty[nothing][0])))
    return empty, edges


def _added(direct, edges, found):
    """direct + edges found, of logarithms: {symbol: array}."""
    total = dict(direct)
    for a, b, weight in edges:
        if b in found:
            total[a] = np.logaddexp(total.get(a, -np.inf), found[b] + weight)
    return total


class _Strings:
    """The strings that the symbols of an ``Inside`` derive: known[symbol][length] = {string: (p, h)}, p its probability, h
    the sum of -P log P over its derivations."""

    def __init__(self, inside, effort):
        self.inside, self.left, self.known = inside, effort, defaultdict(dict)
        self.empty, self.edges = _surprises(inside)

    def _spend(self, effort):
        self.left -= effort
        if self.left < 0:
            raise _TooLarge

    def _joined(self, pair, length):
        ones, others = (self.known[symbol] for symbol in pair)
        found = defaultdict(lambda: (0.0, 0.0))
        self._spend(length - 1)
        for k in [k for k in ones if length - k in others]:
            self._spend(len(ones[k]) * len(others[length - k]))
            for first, (p1, h1) in ones[k].items():
                for rest, (p2, h2) in others[length - k].items():
                    p, h = found[first + rest]
                    found[first + rest] = p + p1 * p2, h + h1 * p2 + p1 * h2
        return found

    def grow(self, length):
        """Find the strings of that length, all shorter ones known, and return the pairs (p, h) of the start."""
        self._spend(1)
        rows, found = {}, []  # of a string, its number; (symbol, number, p, h)
        sources = [(self._joined(pair, length), parents) for pair, parents in self.inside.binary.items()]
        if length == 1:
            sources += [({(word,): (1.0, 0.0)}, parents) for word, parents in self.inside.lexical.items()]
        for strings, parents in sources:
            for words, (p, h) in strings.items():
                row = rows.setdefault(words, len(rows))
                found += [(a, row, math.exp(w) * p, math.exp(w) * (h - w * p)) for a, w in parents]
        self._spend(len(found))
        direct = {a: np.zeros((2, len(rows))) for a, *_ in found}
        for a, row, p, h in found:
            direct[a][:, row] += p, h
        with np.errstate(divide="ignore"):
            logs = {a: np.log(table) for a, table in direct.items()}
        p = self.inside.closed({a: table[0] for a, table in logs.items()})
        h = self.inside.closed(_added({a: table[1] for a, table in logs.items()}, self.edges, p))
        for a, values in p.items():
            pairs = np.exp([values, h[a]]).T.tolist()
            self.known[a][length] = {words: pairs[row] for words, row in rows.items() if pairs[row][0]}
        return list(self.known[0].get(length, {}).values())


def _enumerated(grammar, effort):
    """Yield for length 0, 1, ... the sentences of that length as pairs (p, h): p the probability of the sentence, h the sum
    of -P log P over its derivations. Ends where more than ``effort`` pairs of strings would have been joined; a length, and
    a place where there are none to join, counts as one.
    """
    inside = grammar._inside
    strings = _Strings(inside, effort)
    if nothing := math.exp(inside.null[0]):
        yield [(nothing, math.exp(strings.empty[0][0]))]
    try:
        for length in count(1):
            yield strings.grow(length)
    except _TooLarge:
        return


def _derivation_count(grammar, most):
    """How many derivations a grammar without recursion has, counted up to ``most`` + 1."""
    known, parts = {}, {}
    for left in grammar._reachable:
        parts[left] = [[symbol for symbol in right if not is_terminal(symbol)] for _, right in grammar.rules[left]]
    for left in reversed(users_first({left: list(chain(*rights)) for left, rights in parts.items()})):
        known[left] = min(sum(math.prod(known[symbol] for symbol in right) for right in parts[left]), most + 1)
    return known[grammar.start]


def sentence_entropy(grammar, effort=100_000):
    """Entropy of the sentences of a grammar: SentenceEntropy, exact or as two bounds that meet as ``effort`` grows.

    Exact where the grammar is proved unambiguous, and for up to ``effort`` derivations in all, which are added up by
    sentence as Fractions. Otherwise the short sentences are enumerated, each with p its probability, h the sum of
    -P log P over its derivations, and r the mass of the sentences left out. None of these is likelier than r, so

        sum of -p log p  -  r log r  <=  H(W)  <=  sum of -p log p  +  H(D) - sum of h.

    ``effort`` is then how many pairs of strings may be joined to enumerate them.
    """
    effort = _limit("effort", effort)
    proved = proved_unambiguous(grammar, _FEW)
    few = not proved and not grammar.recursive and _derivation_count(grammar, effort) <= effort
    if proved or (not few and proved_unambiguous(grammar)):
        derivations = grammar.entropy()
        return SentenceEntropy(derivations, derivations, True, 0.0)
    if few:
        table = Counter()
        for words, probability in grammar.derivations():
            table[words] += probability
        nats = -math.fsum(float(p) * log(p) for p in table.values())
        return SentenceEntropy(nats, nats, True, float(sum(table.values())))
    nats, rest, mass = [], [grammar.entropy()], []
    for sentences in _enumerated(grammar, effort):
        nats += [-p * math.log(p) for p, _ in sentences]
        rest += [-h for _, h in sentences]
        mass += [p for p, _ in sentences]
        if math.fsum(mass) > 1 - 1e-12:
            break
    left = max(1 - math.fsum(mass), 0.0)
    lower = math.fsum(nats) - (left * math.log(left) if left else 0.0)
    return SentenceEntropy(lower, min(math.fsum(nats + rest), rest[0]), False, math.fsum(mass))


def exact_entropy(grammar):
    """Entropy of the sentences in nats where it is known exactly; raises AmbiguousGrammar, with the bounds, elsewhere."""
    found = sentence_entropy(grammar)
    if not found.exact:
        raise AmbiguousGrammar(
            f"the entropy of sentences is between {found.lower:.6g} and {found.upper:.6g} nats; expected a grammar that is "
            "proved unambiguous, or a finite one"
        )
    return found.lower
