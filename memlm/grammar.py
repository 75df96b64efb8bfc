"""Probabilistic context-free grammars whose entropy is known exactly: sources for which a plateau can be predicted.

``Grammar`` is general; ``question_formation`` is the language of the paper's second experiment (see ``memlm.question``).
Entropies are in nats.
"""

import math
import random
import re
import warnings
from bisect import bisect
from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from numbers import Rational

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

_LEAST = Fraction(1, 10**308)  # weights below have no logarithm in float64
# A prime belongs to a name where it cannot open a word: S->'a' needs no blanks, and N' is a name.
_NAME = r"""(?:(?!->)[^\s'"\[\]|#\ufeff])+(?:'+(?=[\s\[|]|->|\Z))?"""
_TOKEN = re.compile(
    rf"""(?P<word>'(?:[^']|'')*+'|"(?:[^"]|"")*+")|(?P<weight>\[[^\]]*\])|(?P<bar>\|)|(?P<arrow>->)|(?P<name>{_NAME})"""
    r"|(?P<comment>#.*)|(?P<stray>\S.*)",
    re.DOTALL,
)


def is_terminal(symbol):
    """Terminals are kept with a leading quote, so that 'S' the word and S the symbol cannot be confused."""
    return symbol.startswith("'")


class NeverEnding(ValueError):
    """The derivations of a grammar may go on for ever, or have no finite mean length."""


@dataclass(frozen=True)
class Grammar:
    """A grammar: for each left side its alternatives (weight, right side), the weights of a left side summing to one.

    Build it with ``Grammar.from_text``. ``entropy`` is that of derivations; where a sentence can have several, the entropy
    of sentences is less, and ``memlm.ambiguity`` bounds it.
    """

    start: str
    rules: dict[str, list[tuple[Fraction, tuple[str, ...]]]] = field(hash=False)

    @classmethod
    def from_text(cls, text):
        """Read rules such as ``S -> 'a' S [3/4] | 'b' [1/4]``, one or more per left side; # starts a comment.

        The first left side is the start. Terminals stand in single or double quotes, and a quote of the same kind inside is
        doubled: 'it''s'. Symbols may end in primes (N') and hold anything but blanks, quotes, brackets, |, # and ->. The
        empty string is '' or nothing at all, or ε where that is no left side: ``S -> 'a' S [1/2] | [1/2]``.

        Weights are fractions or decimals and are kept exactly. Those of a left side may miss 1 by the rounding of its
        decimals (of three digits or more after the point): they are then divided by their sum, with a UserWarning.
        Raises ValueError with the line number, the value found and what was expected.
        """
        rules, rounding = defaultdict(list), Counter()
        for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
            tokens = _tokens(line, number)
            if not tokens:
                continue
            if [kind for kind, _ in tokens[:2]] != ["name", "arrow"]:
                raise ValueError(f"line {number} is {line.strip()!r}; expected LEFT -> RIGHT [weight] | ...")
            left = tokens[0][1]
            for weight, error, right in _alternatives(tokens[2:], number):
                rules[left].append((weight, right))
                rounding[left] += error
        if not rules:
            raise ValueError("the grammar has 0 rules; expected at least 1")
        nothing = {"'"} | ({"ε"} - rules.keys())
        rules = {
            left: [(weight, tuple(s for s in right if s not in nothing)) for weight, right in alternatives]
            for left, alternatives in rules.items()
        }
        return cls(next(iter(rules)), _normalised(rules, rounding))

    def __post_init__(self):
        if self.start not in self.rules:
            raise ValueError(f"the start is {self.start!r}; expected one of the {len(self.rules)} left sides")
        for left, alternatives in self.rules.items():
            _check(left, alternatives, self.rules)
        _ = self._visits  # raises NeverEnding

    def text(self):
        """The rules in the notation that ``from_text`` reads, one left side a line, the start first.

        Raises ValueError for what the notation cannot express: an empty word, or one with a line break; a name that is none.
        """
        lines = []
        for left in sorted(self.rules, key=lambda left: left != self.start):
            rights = ((" ".join(map(_written, right)) or "''", weight) for weight, right in self.rules[left])
            lines.append(f"{_written(left)} -> " + " | ".join(f"{right} [{weight}]" for right, weight in rights))
        return "\n".join(lines)

    @cached_property
    def _reachable(self):
        seen, queue = {}, [self.start]
        while queue:
            symbol = queue.pop()
            if symbol not in seen:
                seen[symbol] = len(seen)
                queue += [s for _, right in self.rules[symbol] for s in right if not is_terminal(s)]
        return seen

    @cached_property
    def vocabulary(self):
        """The words that sentences can hold, sorted."""
        rights = [right for left in self._reachable for _, right in self.rules[left]]
        return sorted({symbol[1:] for right in rights for symbol in right if is_terminal(symbol)})

    @cached_property
    def _offspring(self):
        """M[A, B] = mean number of B among the children of A, over the symbols that the start reaches; sparse."""
        index = self._reachable
        entries = [
            (float(weight), row, index[symbol])
            for left, row in index.items()
            for weight, right in self.rules[left]
            for symbol in right
            if not is_terminal(symbol)
        ]
        weights, rows, columns = zip(*entries, strict=True) if entries else ((), (), ())
        return sparse.csc_array((weights, (rows, columns)), shape=(len(index), len(index)), dtype=float)

    @cached_property
    def _components(self):
        """{symbol: the symbols that derive each other with it, or () where it never derives itself again}, as the start
        reaches them."""
        _, labels = connected_components(self._offspring, connection="strong")
        members = defaultdict(list)
        for symbol, label in zip(self._reachable, labels, strict=True):
            members[label].append(symbol)
        own = self._offspring.diagonal()
        return {
            symbol: tuple(members[label]) if own[row] or len(members[label]) > 1 else ()
            for (symbol, row), label in zip(self._reachable.items(), labels, strict=True)
        }

    @cached_property
    def _visits(self):
        """Mean number of nodes of each symbol in a derivation: the solution of (I - M^T) v = (1, 0, 0, ...).

        A matrix M >= 0 has spectral radius < 1 if and only if (I - M) x = 1 has a solution x >= 1: x is then the mean number
        of nodes below a symbol, at least 1 / (1 - radius) somewhere. So eigenvalues are asked for only where x is in doubt.
        """
        size = len(self._reachable)
        try:
            # An M-matrix needs no exchange of rows, and without one nothing cancels outside the diagonal.
            factors = splu(
                sparse.eye_array(size, format="csc") - self._offspring,
                permc_spec="MMD_AT_PLUS_A",
                diag_pivot_thresh=0.0,
                options={"SymmetricMode": True},
            )
            nodes, visits = factors.solve(np.ones(size)), factors.solve(np.eye(1, size)[0], trans="T")
        except RuntimeError:  # a pivot is zero
            nodes = visits = np.full(size, math.inf)
        if not ((nodes >= 1 - 1e-9) & (nodes <= 1e9)).all() and (radius := self._radius()) >= 1 - 1e-9:
            raise NeverEnding(f"mean offspring has spectral radius {radius:.6g}; expected < 1, or sentences may never end")
        if not np.isfinite([nodes, visits]).all():
            raise NeverEnding("a derivation has more nodes on average than float64 can count; expected 1e308 or fewer")
        return visits

    def _radius(self):
        """The spectral radius of M, which is that of its strongly connected parts."""
        parts = [[self._reachable[symbol] for symbol in part] for part in set(self._components.values()) if part]
        return max((abs(np.linalg.eigvals(self._offspring[p][:, p].toarray())).max() for p in parts), default=0.0)

    def _expected(self, value):
        """Mean over derivations of the sum, over their nodes A, of value(alternatives of A)."""
        return float(self._visits @ [value(self.rules[left]) for left in self._reachable])

    def entropy(self):
        """Entropy of a derivation in nats per sentence, exact: sum over symbols A of E[visits to A] H(weights of A).

        In float64: the relative error is of the order of 1e-16 / (1 - r), r the spectral radius of mean offspring.
        It is the entropy of the sentences when no sentence has two derivations, and an upper bound otherwise: see
        ``memlm.ambiguity.sentence_entropy``.
        """
        return self._expected(lambda alternatives: -math.fsum(float(w) * math.log(w) for w, _ in alternatives))

    def mean_length(self):
        """Mean number of terminals of a sentence."""
        return self._expected(lambda alternatives: math.fsum(float(w) * sum(map(is_terminal, r)) for w, r in alternatives))

    @cached_property
    def recursive(self):
        """Whether some symbol derives itself again, so that there are infinitely many derivations."""
        return any(self._components.values())

    def derivations(self, symbol=None):
        """Every derivation of a grammar without recursion, as pairs (words, probability as a Fraction)."""
        grammar = self if symbol is None else replace(self, start=symbol)
        if grammar.recursive:
            raise ValueError("the grammar is recursive and has infinitely many derivations; expected a finite one")
        stack = [((), (grammar.start,), Fraction(1))]  # the words so far, the symbols to come, the probability
        while stack:
            words, symbols, probability = stack.pop()
            while symbols and is_terminal(symbols[0]):
                words, symbols = (*words, symbols[0][1:]), symbols[1:]
            if not symbols:
                yield words, probability
                continue
            for weight, right in reversed(self.rules[symbols[0]]):
                stack.append((words, right + symbols[1:], probability * weight))

    def shapes(self):
        """A finite grammar's derivations up to interchangeable words: triples (probability, sentences, words in each).

        A symbol is taken as one word class when all its alternatives are single words of equal weight; a shape is then a
        sequence of classes and words, and all its sentences are equally likely.
        """
        classes = {}  # every word becomes the number of words that it stands for
        for left, alternatives in self.rules.items():
            if all(w == alternatives[0][0] and len(r) == 1 and is_terminal(r[0]) for w, r in alternatives):
                classes[left] = [(Fraction(1), (f"'{len(alternatives)}",))]
            else:
                classes[left] = [(w, tuple("'1" if is_terminal(s) else s for s in right)) for w, right in alternatives]
        for words, probability in Grammar(self.start, classes).derivations():
            yield probability, math.prod(map(int, words)), len(words)

    def sample(self, n, seed):
        """n independent sentences, each a list of words, from the seed alone. Raises ValueError for n below 0."""
        if n < 0:
            raise ValueError(f"n is {n}; expected 0 or more sentences")
        uniform = random.Random(seed).random
        drawn = {left: ([r for _, r in a], list(accumulate(float(w) for w, _ in a))) for left, a in self.rules.items()}
        sentences = []
        for _ in range(n):
            words, stack = [], [self.start]
            while stack:
                symbol = stack.pop()
                if is_terminal(symbol):
                    words.append(symbol[1:])
                else:
                    rights, cumulative = drawn[symbol]
                    stack.extend(reversed(rights[min(bisect(cumulative, uniform()), len(rights) - 1)]))
            sentences.append(words)
        return sentences

    @cached_property
    def _inside(self):
        from memlm.inside import Inside

        return Inside(self)

    def log_prob(self, sentences):
        """log probability in nats of each sentence (a list of lists of words), summed over its derivations; (m,) float64.

        -inf where the grammar does not derive it, as with a word outside the vocabulary. Inside algorithm in the log domain,
        once per pattern of words that the grammar cannot tell apart. Raises ValueError for a text instead of a list.
        """
        return self._inside(sentences)


def _check(left, alternatives, rules):
    """Refuse what is no left side with its alternatives."""
    if not isinstance(left, str) or is_terminal(left):
        raise ValueError(f"a left side is {left!r}; expected a symbol, a string that does not begin with '")
    for weight, right in alternatives:
        if not isinstance(weight, Rational) or not _LEAST <= weight <= 1:
            raise ValueError(f"a weight of {left} is {weight!r}; expected a Fraction in (0, 1], 1e-308 or more")
        if not isinstance(right, tuple) or not all(isinstance(symbol, str) for symbol in right):
            raise ValueError(f"a right side of {left} is {right!r}; expected a tuple of strings")
        for symbol in right:
            if not is_terminal(symbol) and symbol not in rules:
                raise ValueError(f"{symbol} stands on the right of {left} but on no left side")
    total = sum(weight for weight, _ in alternatives)
    if total != 1:
        shown = total if total.denominator < 10**15 else f"1 {float(total - 1):+.2g}"
        raise ValueError(f"the weights of {left} sum to {shown}; expected 1")


def _written(symbol):
    """A symbol or a word in the notation of ``Grammar.from_text``."""
    if not is_terminal(symbol):
        if not re.fullmatch(_NAME, symbol):
            raise ValueError(f"the symbol {symbol!r} has no notation; expected no blanks, quotes, brackets, |, # and ->")
        return symbol
    word = symbol[1:]
    if not word or "\n" in word:
        raise ValueError(f"the word {word!r} has no notation; expected 1 or more characters and no line break")
    quote = "'" if '"' in word and "'" not in word else '"'
    return quote + word.replace(quote, 2 * quote) + quote


def _tokens(line, number):
    """[(kind, text)] of a line without its comment; ``number`` is the line's, for the errors."""
    tokens = [(match.lastgroup, match[0]) for match in _TOKEN.finditer(line)]
    for kind, token in tokens:
        if kind == "stray":
            raise ValueError(f"line {number} has {token.rstrip()!r}; expected symbols, 'words', [weight] or |")
    return [(kind, token) for kind, token in tokens if kind != "comment"]


def _alternatives(tokens, number):
    """Yield (weight, its rounding, right side) of the tokens after an arrow."""
    groups = [[]]
    for kind, token in tokens:
        if kind == "bar":
            groups.append([])
        else:
            groups[-1].append((kind, token))
    for group in groups:
        *symbols, (kind, weight) = group or [("", "")]
        if kind != "weight" or not {kind for kind, _ in symbols} <= {"word", "name"}:
            shown = " ".join(token for _, token in group)
            raise ValueError(
                f"line {number} has the alternative {shown!r}; expected symbols or 'words' and then one [weight]"
            )
        try:
            share, rounding = _weight(weight[1:-1])
        except (ValueError, ArithmeticError):
            raise ValueError(
                f"line {number} has the weight {weight}; expected a fraction or decimal in (0, 1], 1e-308 or more"
            ) from None
        yield share, rounding, tuple(_word(token) if kind == "word" else token for kind, token in symbols)


def _word(token):
    quote = token[0]
    return "'" + token[1:-1].replace(2 * quote, quote)


def _weight(text):
    """(weight, how far it may be from what was meant) as Fractions; ValueError or ArithmeticError for what is none.

    A decimal of three digits or more after the point is taken as rounded: by half a unit of its last digit, and by one
    unit of float64 besides, as Python prints 17 digits of results such as 1 - 0.9. A shorter one was written by hand, and
    [0.3] with [0.6] is a slip; a fraction has no reason to be rounded.
    """
    if "/" in text:
        share, rounding = Fraction(re.sub(r"\s*/\s*", "/", text.strip())), Fraction(0)
    else:
        decimal = Decimal(text.strip())
        if not -400 < decimal.adjusted() < 1:  # before powers of ten are multiplied out
            raise ValueError
        share, digits = Fraction(decimal), -decimal.as_tuple().exponent
        rounding = Fraction(1, 2 * 10**digits) + Fraction(1, 2**52) if digits >= 3 else Fraction(0)
    if not _LEAST <= share <= 1 + rounding:
        raise ValueError
    return share, rounding


def _normalised(rules, rounding):
    """The rules, the weights of a left side divided by their sum where that misses 1 by no more than ``rounding[left]``."""
    sums = {left: sum(weight for weight, _ in alternatives) for left, alternatives in rules.items()}
    divided = [left for left, total in sums.items() if 0 < abs(total - 1) <= rounding[left]]
    if divided:
        worst = max(divided, key=lambda left: abs(sums[left] - 1))
        warnings.warn(
            f"the weights of {worst} miss 1 by {float(sums[worst] - 1):.2g}, within the rounding of their decimals; "
            f"they were divided by their sum, as in {len(divided)} of {len(sums)} left sides",
            stacklevel=3,
        )
    return rules | {left: [(weight / sums[left], right) for weight, right in rules[left]] for left in divided}


def question_formation(**options):
    """The Question-Formation language as a source with known entropy; options as in ``memlm.question.QuestionFormation``."""
    from memlm.question import QuestionFormation

    return QuestionFormation(**options)
