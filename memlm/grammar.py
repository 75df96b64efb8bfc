"""Probabilistic context-free grammars whose entropy is known exactly: sources for which a plateau can be predicted.

``Grammar`` is general; ``question_formation`` is the language of the paper's second experiment (see ``memlm.question``).
Entropies are in nats.
"""

import math
import operator
import random
from bisect import bisect
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from numbers import Real

import numpy as np
from scipy.sparse import coo_array, csc_array, eye_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from memlm import notation
from memlm.notation import is_symbol, is_terminal


class NeverEnding(ValueError):
    """The derivations of a grammar may go on for ever, or have no finite mean length."""


def log(weight):
    """Natural logarithm of a Fraction in (0, 1], however small."""
    return math.log(weight) if weight > 1e-300 else math.log(weight.numerator) - math.log(weight.denominator)


def sums_over_paths(mean):
    """The solver of (1 - mean) x = b for a sparse matrix without negative entries. Its pivots are those of the diagonal, so
    that nothing is subtracted but from the diagonal. RuntimeError where one is 0."""
    return splu(csc_array(eye_array(mean.shape[0]) - mean), diag_pivot_thresh=0).solve


def checked(grammar):
    """``grammar``, if it is one: a text of rules is not."""
    if not isinstance(grammar, Grammar):
        raise ValueError(f"the grammar is {grammar!r}; expected a Grammar, as Grammar.from_text makes it")
    return grammar


def whole(name, value, least, most=10**9):
    """``value`` as an int, one of numpy's too. Raises ValueError, with its name, for any other or one out of range."""
    try:
        found = operator.index(value)
    except TypeError:
        found = None
    if found is None or isinstance(value, bool) or not least <= found <= most:
        raise ValueError(f"{name} is {value!r}; expected a whole number from {least} to {most}")
    return found


def checked_seed(seed):
    """``seed``, if it always draws the same: None does not, nor does nan."""
    if isinstance(seed, str):
        return seed
    try:
        return whole("seed", seed, -math.inf, math.inf)
    except ValueError:
        raise ValueError(f"seed is {seed!r}; expected a whole number or a string, to draw the same again") from None


def real(name, value, fits, expected):
    """``value`` as a float, an int or a Fraction, one of numpy's too. Raises ValueError, with its name, for what is none or
    does not fit; nan fits nothing, because no comparison holds of it."""
    if not isinstance(value, Real) or isinstance(value, bool) or not fits(value):
        raise ValueError(f"{name} is {value!r}; expected {expected}")
    return value if isinstance(value, int | Fraction) else float(value)


def no_list(value):
    """Is it a string, or something without an order of its own, or nothing to go through?"""
    return isinstance(value, str | bytes | Set | Mapping) or not np.iterable(value)


def word_lists(sentences):
    """Sentences as tuples of words. Raises ValueError for a string where a list is expected: its letters are no words."""
    if no_list(sentences):
        raise ValueError(f"sentences is {sentences!r}; expected a list of sentences, each a list of words")
    return [word_list(sentence, f"sentence {number}") for number, sentence in enumerate(sentences)]


def word_list(sentence, what):
    """A sentence as a tuple of words. Raises ValueError that names it as ``what`` where it is a string, or no words."""
    if no_list(sentence):
        raise ValueError(f"{what} is {sentence!r}; expected a list of words")
    found = tuple(sentence)
    for word in found:
        if not isinstance(word, str):
            raise ValueError(f"{what} holds {word!r}; expected a list of words, each a string")
    return found


@dataclass(frozen=True)
class Grammar:
    """A grammar: for each left side its alternatives (weight, right side), the weights of a left side summing to one.

    Build it with ``Grammar.from_text``. A right side may be empty. What the start does not reach has to be well formed and
    matters to no method. ``entropy`` is that of derivations; where a sentence can have several, the entropy of sentences is
    less, and ``memlm.ambiguity`` bounds it.
    """

    start: str
    rules: dict[str, list[tuple[Fraction, tuple[str, ...]]]] = field(hash=False)

    @classmethod
    def from_text(cls, text):
        """Read rules such as ``S -> 'a' S [3/4] | 'b' [1/4]``, one or more per left side; # starts a comment.

        Terminals are quoted, weights are fractions or decimals, the first left side is the start, and '', ε or nothing
        is the empty alternative; the notation in full is in ``memlm.notation``. Weights are kept exactly; where decimals
        sum to 1 only within their rounding they are divided by their sum, with a warning. Raises ValueError with the line
        number, the value found and what was expected.
        """
        if not isinstance(text, str):
            raise ValueError(f"the grammar is a {type(text).__name__}; expected a text of rules")
        rules = notation.read(text)
        if not rules:
            raise ValueError("the grammar has 0 rules; expected at least 1")
        return cls(next(iter(rules)), rules)

    def __post_init__(self):
        if not isinstance(self.rules, dict):
            raise ValueError(f"the rules are {self.rules!r}; expected a dict of the alternatives of each left side")
        if not isinstance(self.start, str) or self.start not in self.rules:
            raise ValueError(f"the start is {self.start!r}; expected a left side")
        for left, alternatives in self.rules.items():
            if not isinstance(left, str) or not is_symbol(left):
                raise ValueError(f"a left side is {left!r}; expected no space, bracket, bar, #, -> or leading quote")
            # What is drawn depends on their order, so that no set will do.
            pairs = isinstance(alternatives, list | tuple) and all(isinstance(a, list | tuple) for a in alternatives)
            if not pairs or any(len(alternative) != 2 for alternative in alternatives):
                raise ValueError(f"{left} has the alternatives {alternatives!r}; expected a list of (weight, right side)")
            for weight, right in alternatives:
                self._check(left, weight, right)
            total = sum(weight for weight, _ in alternatives)
            if total != 1:
                shown = total if total.denominator < 10**9 else f"1 {float(total - 1):+.3g}"
                raise ValueError(f"the weights of {left} sum to {shown}; expected 1")
        self._check_end()

    def _check(self, left, weight, right):
        if not isinstance(weight, Fraction | int) or isinstance(weight, bool) or not 0 < weight <= 1:
            raise ValueError(f"{left} has the weight {weight!r}; expected a Fraction in (0, 1]")
        if not isinstance(right, tuple) or not all(isinstance(symbol, str) and symbol not in ("", "'") for symbol in right):
            raise ValueError(f"{left} has the right side {right!r}; expected a tuple of symbols and of words after a quote")
        for symbol in right:
            if not is_terminal(symbol) and symbol not in self.rules:
                raise ValueError(f"{symbol} stands on the right of {left} but on no left side")

    def _check_end(self):
        """Raise NeverEnding unless the spectral radius of the mean offspring is below 1 - 1e-9.

        It is, if some y > 0 has (I - B) y = x > 0 and y < 1e9 x, as B y is then less than (1 - 1e-9) y. B is the mean
        offspring within the sets of symbols that derive each other, which has the same spectrum but for zeros.
        """
        label, recursive = self._components
        mean = self._offspring.tocoo()
        kept = label[mean.row] == label[mean.col]
        within = csc_array((mean.data[kept], (mean.row[kept], mean.col[kept])), mean.shape)
        x = np.ones(len(label))
        try:
            solve = sums_over_paths(within)
            for _ in range(8):
                y = solve(x)
                if not (y > (1 - 1e-9) * x).all():
                    break
                if (y < 1e9 * x).all():
                    return
                x = y
        except RuntimeError:  # SciPy's word for a matrix that is singular
            pass
        blocks = [np.flatnonzero(label == part) for part in np.unique(label[recursive])]
        if max(map(len, blocks)) > 300:  # all eigenvalues of so large a matrix would take minutes
            raise NeverEnding("mean offspring is not found to have a spectral radius < 1; sentences may never end")
        radius = max(abs(np.linalg.eigvals(within[block][:, block].toarray())).max() for block in blocks)
        if radius >= 1 - 1e-9:
            raise NeverEnding(f"mean offspring has spectral radius {radius:.6g}; expected < 1, or sentences may never end")

    def text(self):
        """The rules in the notation that ``from_text`` reads, one left side a line, the start first."""
        return notation.write({self.start: self.rules[self.start], **self.rules})

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
        index, entries = self._reachable, []
        for left, row in index.items():
            for weight, right in self.rules[left]:
                mean = max(float(weight), math.ulp(0.0))  # a rule is a rule, however small its weight
                entries += [(row, index[symbol], mean) for symbol in right if not is_terminal(symbol)]
        rows, columns, values = zip(*entries, strict=True) if entries else ((), (), ())
        return coo_array((np.array(values, float), (np.array(rows, int), np.array(columns, int))), (len(index),) * 2).tocsc()

    @cached_property
    def _components(self):
        """For each symbol that the start reaches the number of the set of symbols that derive each other, and whether it
        derives itself."""
        _, label = connected_components(self._offspring, connection="strong")
        return label, (np.bincount(label)[label] > 1) | (self._offspring.diagonal() > 0)

    def _expected(self, value):
        """Mean over derivations of the sum, over their nodes A, of value(alternatives of A)."""
        visits = sums_over_paths(self._offspring.T)(np.eye(1, len(self._reachable))[0])
        values = [value(self.rules[left]) for left in self._reachable]
        found = float(visits @ values) if np.isfinite(visits).all() else math.inf
        if not math.isfinite(found):
            raise ValueError(f"a mean over derivations is {found}; expected sentences whose mean length float64 can hold")
        return found

    def entropy(self):
        """Entropy of a derivation in nats per sentence, exact: sum over symbols A of E[visits to A] H(weights of A).

        It is the entropy of the sentences when no sentence has two derivations, and an upper bound otherwise: see
        ``memlm.ambiguity.sentence_entropy``.
        """
        return self._expected(lambda alternatives: -math.fsum(float(w) * log(w) for w, _ in alternatives))

    def mean_length(self):
        """Mean number of terminals of a sentence."""
        return self._expected(lambda alternatives: math.fsum(float(w) * sum(map(is_terminal, r)) for w, r in alternatives))

    @cached_property
    def recursive(self):
        """Whether some symbol derives itself again, so that there are infinitely many derivations."""
        return bool(self._components[1].any())

    def derivations(self, symbol=None):
        """Every derivation of a grammar without recursion, as pairs (words, probability as a Fraction), from its start or
        from ``symbol``."""
        if symbol not in (None, self.start):
            yield from Grammar(symbol, self.rules).derivations()
            return
        if self.recursive:
            raise ValueError("the grammar is recursive and has infinitely many derivations; expected a finite one")
        words, agenda = [], [((self.start, None), 0, Fraction(1))]
        while agenda:  # what is still to be derived is (first, rest), so that alternatives share it
            todo, length, probability = agenda.pop()
            del words[length:]
            while todo and is_terminal(todo[0]):
                words.append(todo[0][1:])
                todo = todo[1]
            if not todo:
                yield tuple(words), probability
                continue
            left, rest = todo
            for weight, right in reversed(self.rules[left]):
                after = rest
                for part in reversed(right):
                    after = part, after
                agenda.append((after, len(words), probability if weight == 1 else probability * weight))

    def shapes(self):
        """A finite grammar's derivations up to interchangeable words: triples (probability, sentences, words in each).

        A symbol is taken as one word class when all its alternatives are single words of equal weight; a shape is then a
        sequence of classes and words, and all its sentences are equally likely.
        """
        sizes = {
            left: len(alternatives)
            for left, alternatives in self.rules.items()
            if all(w == alternatives[0][0] and len(r) == 1 and is_terminal(r[0]) for w, r in alternatives)
        }
        # Words keep a quote of their own, so that none is taken for a class.
        rules = {left: [(Fraction(1), (f"'{left}",))] for left in sizes}
        for left, alternatives in self.rules.items():
            apart = [(w, tuple(f"'{s}" if is_terminal(s) else s for s in right)) for w, right in alternatives]
            rules.setdefault(left, apart)
        for words, probability in Grammar(self.start, rules).derivations():
            yield probability, math.prod(sizes.get(word, 1) for word in words), len(words)

    def sample(self, n, seed):
        """n independent sentences, each a list of words, from the seed alone."""
        n, uniform = whole("n", n, 0), random.Random(checked_seed(seed)).random
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

    def log_prob(self, sentences, strict=True):
        """log probability in nats of each sentence (a list of lists of words), summed over its derivations; (m,) float64.

        -inf where the grammar does not derive it. Inside algorithm in the log domain, once per pattern of words that the
        grammar cannot tell apart; the time grows with the third power of a sentence's length, and 400 words take seconds.
        Raises ValueError for a string in place of a list, and one that names a word outside the vocabulary, which with
        ``strict=False`` gives its sentence -inf.
        """
        sentences = word_lists(sentences)
        if strict:
            unknown = {word for sentence in sentences for word in sentence}.difference(self.vocabulary)
            if unknown:
                raise ValueError(f"word {min(unknown)!r} is not in the vocabulary of {len(self.vocabulary)} words")
        return self._inside(sentences)


def question_formation(**options):
    """The Question-Formation language as a source with known entropy; options as in ``memlm.question.QuestionFormation``."""
    from memlm.question import QuestionFormation

    return QuestionFormation(**options)
