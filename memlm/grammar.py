"""Probabilistic context-free grammars whose entropy is known exactly: sources for which a plateau can be predicted.

``Grammar`` is general; ``question_formation`` is the language of the paper's second experiment (see ``memlm.question``).
Entropies are in nats.
"""

import math
import random
import re
from bisect import bisect
from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import accumulate

import numpy as np

_TOKEN = re.compile(r"""\s*(?:(?P<word>'[^']+'|"[^"]+")|(?P<weight>\[[^\]]*\])|(?P<bar>\|)|(?P<name>[^\s'"\[\]|#]+))""")


def is_terminal(symbol):
    """Terminals are kept with a leading quote, so that 'S' the word and S the symbol cannot be confused."""
    return symbol[0] == "'"


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

        Terminals are quoted, weights are fractions or decimals and are kept exactly; the first left side is the start.
        Raises ValueError with the line number, the value found and what was expected.
        """
        rules = defaultdict(list)
        for number, line in enumerate(text.splitlines(), 1):
            line = re.sub(r"""('[^']*'|"[^"]*")|#.*""", lambda match: match[1] or "", line).strip()
            if not line:
                continue
            left, arrow, right = line.partition("->")
            left = left.strip()
            if not arrow or not re.fullmatch(r"[^\s'\"\[\]|#]+", left):
                raise ValueError(f"line {number} is {line!r}; expected LEFT -> RIGHT [weight] | ...")
            rules[left].extend(_alternatives(right, number))
        if not rules:
            raise ValueError("the grammar has 0 rules; expected at least 1")
        return cls(next(iter(rules)), dict(rules))

    def __post_init__(self):
        for left, alternatives in self.rules.items():
            total = sum(weight for weight, _ in alternatives)
            if total != 1:
                raise ValueError(f"the weights of {left} sum to {total}; expected 1")
            for _, right in alternatives:
                for symbol in right:
                    if not is_terminal(symbol) and symbol not in self.rules:
                        raise ValueError(f"{symbol} stands on the right of {left} but on no left side")
        radius = max(abs(np.linalg.eigvals(self._offspring)))
        if radius >= 1 - 1e-9:
            raise NeverEnding(f"mean offspring has spectral radius {radius:.6g}; expected < 1, or sentences may never end")

    def text(self):
        """The rules in the notation that ``from_text`` reads, one left side a line."""
        lines = []
        for left, alternatives in self.rules.items():
            rights = (" ".join(f'"{s[1:]}"' if is_terminal(s) else s for s in right) for _, right in alternatives)
            lines.append(f"{left} -> " + " | ".join(f"{r} [{w}]" for r, (w, _) in zip(rights, alternatives, strict=True)))
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
        """M[A, B] = mean number of B among the children of A, over the symbols that the start reaches."""
        index = self._reachable
        mean = np.zeros((len(index), len(index)))
        for left, row in index.items():
            for weight, right in self.rules[left]:
                for symbol in right:
                    if not is_terminal(symbol):
                        mean[row, index[symbol]] += float(weight)
        return mean

    def _expected(self, value):
        """Mean over derivations of the sum, over their nodes A, of value(alternatives of A)."""
        visits = np.linalg.solve(np.eye(len(self._reachable)) - self._offspring.T, np.eye(len(self._reachable))[0])
        return float(visits @ [value(self.rules[left]) for left in self._reachable])

    def entropy(self):
        """Entropy of a derivation in nats per sentence, exact: sum over symbols A of E[visits to A] H(weights of A).

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
        return bool(np.linalg.matrix_power(self._offspring > 0, len(self._reachable)).any())

    def derivations(self, symbol=None):
        """Every derivation of a grammar without recursion, as pairs (words, probability as a Fraction)."""
        if self.recursive:
            raise ValueError("the grammar is recursive and has infinitely many derivations; expected a finite one")
        for weight, right in self.rules[symbol or self.start]:
            partial = [((), weight)]
            for part in right:
                ends = [((part[1:],), Fraction(1))] if is_terminal(part) else list(self.derivations(part))
                partial = [(words + more, p * q) for words, p in partial for more, q in ends]
            yield from partial

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
        classes = {left: [(Fraction(1), (f"'{left}",))] if left in sizes else a for left, a in self.rules.items()}
        for words, probability in Grammar(self.start, classes).derivations():
            yield probability, math.prod(sizes.get(word, 1) for word in words), len(words)

    def sample(self, n, seed):
        """n independent sentences, each a list of words, from the seed alone."""
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


def _alternatives(text, number):
    """[(weight, right side)] of the text after an arrow; ``number`` is its line, for the errors."""
    groups, position = [[]], 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if not match:
            raise ValueError(f"line {number} has {text[position:].strip()!r}; expected symbols, 'words', [weight] or |")
        position = match.end()
        if match["bar"]:
            groups.append([])
        else:
            groups[-1].append((match.lastgroup, match[match.lastgroup]))
    found = []
    for group in groups:
        *symbols, (kind, weight) = group or [("", "")]
        if kind != "weight" or not symbols or any(kind == "weight" for kind, _ in symbols):
            shown = " ".join(token for _, token in group)
            raise ValueError(
                f"line {number} has the alternative {shown!r}; expected symbols or 'words' and then one [weight]"
            )
        try:
            share = Fraction(weight[1:-1].replace(" ", ""))
        except (ValueError, ZeroDivisionError):
            share = Fraction(0)
        if not 0 < share <= 1:
            raise ValueError(f"line {number} has the weight {weight}; expected a fraction or decimal in (0, 1]")
        found.append((share, tuple("'" + token[1:-1] if kind == "word" else token for kind, token in symbols)))
    return found


def question_formation(**options):
    """The Question-Formation language as a source with known entropy; options as in ``memlm.question.QuestionFormation``."""
    from memlm.question import QuestionFormation

    return QuestionFormation(**options)
