"""Sources of text whose entropy rate is known exactly: what the plateau of a trained model is compared with.

A source has ``vocabulary`` (sorted words), ``sample(n, seed)`` -> n independent lines of text, ``log_prob(lines)`` -> (n,)
float64 nats, -inf for a line that it lacks, ``entropy_rate()`` -> EntropyRate in nats per predicted token, the end of a line
counted, and ``split(line)`` -> (first words, second words). The words after a tab follow from those before it and have no
entropy; in a line without a tab the second list is empty. Any grammar is a source:

    Sentences(Grammar.from_text("S -> 'a' S [3/4] | 'b' [1/4]")).entropy_rate().total
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
from scipy.special import entr, xlogy

from memlm.ambiguity import exact_entropy
from memlm.grammar import Grammar, checked, checked_seed, real, whole, word_list
from memlm.notation import quoted
from memlm.question import LEXICON, EntropyRate, QuestionFormation, text_lines


def split(line):
    """(words before the tab, words after it) of a line of text; the second list is empty where there is no tab."""
    [line] = text_lines([line])
    first, _, second = line.partition("\t")
    return first.split(), second.split()


@dataclass(frozen=True)
class Sentences:
    """Lines that are sentences of a grammar. Raises ValueError for a word that is empty or holds white space."""

    grammar: Grammar

    split = staticmethod(split)

    def __post_init__(self):
        for word in checked(self.grammar).vocabulary:
            if word.split() != [word]:
                raise ValueError(f"the grammar has the word {word!r}; expected words without white space")

    @property
    def vocabulary(self):
        """All words, sorted."""
        return self.grammar.vocabulary

    def sample(self, n, seed):
        """n independent lines of text from the seed."""
        return [" ".join(words) for words in self.grammar.sample(n, seed)]

    def log_prob(self, lines):
        """log probability in nats of each line; -inf for a line that the source lacks, for instance with an unknown word.
        (m,) float64. Raises ValueError for one string in place of a list of lines."""
        lines = text_lines(lines)
        scores = self.grammar.log_prob([self.split(line)[0] for line in lines], strict=False)
        return np.where(["\t" in line for line in lines], -math.inf, scores)

    def entropy_rate(self):
        """EntropyRate, exact: entropy of a sentence over its mean number of words and 1, the end of the line. Any of these
        tokens may be random, so ``before`` is the whole line and ``after`` is nan. Raises AmbiguousGrammar."""
        nats, tokens = exact_entropy(self.grammar), self.grammar.mean_length() + 1
        return EntropyRate(nats / tokens, nats / tokens, math.nan, nats, tokens)


@dataclass(frozen=True)
class Pairs(Sentences):
    """Lines 'sentence<TAB>output' whose output is a function of the sentence: list of words -> list of words, one fewer,
    as the sentence's last word says which output is wanted. more: words of outputs that no sentence has. Raises ValueError
    for a line whose output has another length, on which the entropy rate depends."""

    output: Callable[[list[str]], list[str]]
    more: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        if self.grammar.log_prob([[]])[0] > -math.inf:
            raise ValueError("the grammar has the sentence ''; expected a last word that says which output is wanted")
        if not callable(self.output):
            raise ValueError(f"output is {self.output!r}; expected a function: list of words -> list of words")
        object.__setattr__(self, "more", word_list(self.more, "more"))

    @property
    def vocabulary(self):
        """All words of both halves, sorted."""
        return sorted({*self.grammar.vocabulary, *self.more})

    def _second(self, first):
        second = list(word_list(self.output(first), f"the output of {' '.join(first)!r}"))
        if len(second) != len(first) - 1:
            raise ValueError(f"the output of {' '.join(first)!r} has {len(second)} words; expected {len(first) - 1}")
        return second

    def sample(self, n, seed):
        """n independent lines of text from the seed."""
        return [" ".join(first) + "\t" + " ".join(self._second(first)) for first in self.grammar.sample(n, seed)]

    def log_prob(self, lines):
        """log probability in nats of each line; -inf for a sentence or an output that the source lacks, for instance with
        an unknown word. (m,) float64. Raises ValueError for one string in place of a list of lines."""
        halves = [[half.split() for half in line.split("\t")] for line in text_lines(lines)]
        scores = self.grammar.log_prob([first for first, *_ in halves], strict=False)
        right = [s > -math.inf and [self._second(first)] == rest for s, (first, *rest) in zip(scores, halves, strict=True)]
        return np.where(right, scores, -math.inf)

    def entropy_rate(self):
        """EntropyRate, exact: the output and the end of the line are as many tokens as the sentence, and certain."""
        nats, first = exact_entropy(self.grammar), self.grammar.mean_length()
        return EntropyRate(nats / (2 * first), nats / first, 0.0, nats, 2 * first)


def scaled_lexicon(factor):
    """The lexicon of Question-Formation with ``factor`` times the words in each class of content words (determiners, nouns,
    verbs, prepositions), rounded up.

    A smaller class keeps its first words; a larger one adds words such as newt_2. Auxiliaries and relative pronouns stay,
    since ``question.complete`` looks for them. The shares of the structures stay too: only the words' entropy changes, by
    log(factor) for each content word of the first half.
    """
    factor = real("factor", factor, lambda n: 0 < n <= 10_000, "a number > 0, at most 10000")
    lexicon = {}
    for name, words in LEXICON.items():
        size = len(words) if name.startswith(("Aux", "Rel")) else math.ceil(len(words) * Fraction(factor))
        rounds = range(math.ceil(size / len(words)))
        lexicon[name] = [f"{word}_{k + 1}" if k else word for k in rounds for word in words][:size]
    return lexicon


def _alternatives(words):
    return " | ".join(f"{quoted(word)} [1/{len(words)}]" for word in words)


def _classes(*names):
    return "".join(f"\n{name} -> {_alternatives(LEXICON[name])}" for name in names)


# Phrases within phrases to any depth. A noun has at most one modifier, so that its place in a chain is never in doubt.
_RECURSION = "Line -> NP_s VP_s '.' [1/2] | NP_p VP_p '.' [1/2]\nNP -> NP_s [1/2] | NP_p [1/2]" + _classes(*LEXICON)
for _n in "sp":
    _RECURSION += f"""
NP_{_n} -> Det N_{_n} [7/10] | Det N_{_n} Prep NP [1/5] | Det N_{_n} Rel Clause_{_n} [1/10]
Clause_{_n} -> VP_{_n} [1/2] | NP_s Aux_s V_t [1/4] | NP_p Aux_p V_t [1/4]
VP_{_n} -> Aux_{_n} V_i [1/2] | Aux_{_n} V_t NP [1/2]"""

_STEMS = ["amuse", "admire", "applaud", "confuse", "comfort", "entertain", "remember", "accept"]
_PRESENT = {stem + ("d" if stem.endswith("e") else "ed"): stem for stem in _STEMS}
_TENSE = f"""
Line -> Clause 'past' [1/2] | Clause 'present' [1/2]
Clause -> Subject Verb Object '.' [1]
Subject -> Det N [1/3] | Det N Prep Det N [2/3]
Object -> Det N [2/3] | Det N Prep Det N [1/3]
N -> N_s [1/2] | N_p [1/2]
Verb -> {_alternatives(_PRESENT)}
{_classes("Det", "N_s", "N_p", "Prep")}"""


def reinflect(first_half):
    """The output that a sentence in the past tense and its type token, past or present, call for: the sentence itself, or
    with its verb in the present tense, which agrees in number with the subject, the first noun. List of words -> list.
    Raises ValueError for a string in place of a list, and where there is no type token."""
    *words, kind = word_list(first_half, "first half") or ("",)
    if kind not in ("past", "present") or len(words) < 2:
        raise ValueError(f"first half is {first_half!r}; expected words of which the last is past or present")
    if kind == "past":
        return words
    ending = "s" if words[1] in LEXICON["N_s"] else ""
    return [_PRESENT[word] + ending if word in _PRESENT else word for word in words]


# The k-th of 20 words has probability proportional to 1/k; lengths are geometric.
_HARMONIC = sum(Fraction(1, k) for k in range(1, 21))
_WORDS = "Line -> Word Line [4/5] | Word [1/5]\nWord -> "
_WORDS += " | ".join(f"'w{k}' [{1 / (k * _HARMONIC)}]" for k in range(1, 21))

_CLOCK = "Line -> Beat Beat Beat Beat Beat Beat Beat Beat [1]\n"
_CLOCK += "Beat -> 'tick' 'tock' [3/4] | 'tick' 'chime' [1/8] | 'still' 'still' [1/8]"


@dataclass(frozen=True)
class Copies:
    """Lines that are damaged copies of a few random sequences: each word but the first, which says of which sequence, is
    replaced with probability ``damage`` by one other, which depends on the sequence and the place.

    prototypes <= words: how many sequences; length: words in a line; words: how many there are, at least 2.
    """

    prototypes: int = 16
    length: int = 48
    words: int = 64
    damage: Fraction = Fraction(1, 8)

    split = staticmethod(split)

    def __post_init__(self):
        options = {"length": whole("length", self.length, 1), "words": whole("words", self.words, 2)}
        options["prototypes"] = whole("prototypes", self.prototypes, 1, options["words"])
        options["damage"] = real("damage", self.damage, lambda share: 0 <= share <= 1, "a share in [0, 1]")
        for name, value in options.items():
            object.__setattr__(self, name, value)

    @cached_property
    def _pairs(self):
        """(prototypes, length - 1, 2) numbers of words: the right one, and the one in its place."""
        order = np.random.default_rng(0).random((self.prototypes, self.length - 1, self.words)).argsort(-1)
        return order[..., :2]

    @property
    def vocabulary(self):
        """All words, sorted."""
        return sorted(f"w{k}" for k in range(self.words))

    def sample(self, n, seed):
        """n independent lines of text from the seed."""
        n, draw = whole("n", n, 0), np.random.default_rng(list(str(checked_seed(seed)).encode()))
        which = draw.integers(self.prototypes, size=n)
        wrong = draw.random((n, self.length - 1)) < float(self.damage)
        rest = np.where(wrong, self._pairs[which, :, 1], self._pairs[which, :, 0])
        return [" ".join(f"w{k}" for k in (first, *words)) for first, words in zip(which, rest.tolist(), strict=True)]

    def log_prob(self, lines):
        """log probability in nats of each line; -inf for a line that the source lacks, for instance with an unknown word.
        (m,) float64. Raises ValueError for one string in place of a list of lines."""
        numbers = {f"w{k}": k for k in range(self.words)}
        words = [[] if "\t" in line else line.split() for line in text_lines(lines)]
        return np.array([self._log_prob([numbers.get(word, -1) for word in line]) for line in words], float)

    def _log_prob(self, line):
        if len(line) != self.length or not 0 <= line[0] < self.prototypes:
            return -math.inf
        right, wrong = line[1:] == self._pairs[line[0]].T
        if not (right | wrong).all():
            return -math.inf
        p = float(self.damage)
        return float(-math.log(self.prototypes) + xlogy(right.sum(), 1 - p) + xlogy(wrong.sum(), p))

    def entropy_rate(self):
        """EntropyRate, exact: log prototypes, and for each other word the entropy of a coin; the line's end is certain."""
        p = float(self.damage)
        nats = float(math.log(self.prototypes) + (self.length - 1) * (entr(p) + entr(1 - p)))
        return EntropyRate(nats / (self.length + 1), nats / (self.length + 1), math.nan, nats, self.length + 1)


_SEPARATE = f"Line -> {'Word ' * 48} [1]\nWord -> " + " | ".join(f"'w{k}' [1/64]" for k in range(64))

# To be memorised: lines of one length that are far from each other, and lines that are not.
MEMORISED = {
    "well separated": Sentences(Grammar.from_text(_SEPARATE)),
    "near duplicates": Copies(),
}

SOURCES = {
    "clock": Sentences(Grammar.from_text(_CLOCK)),
    "quarter lexicon": QuestionFormation(lexicon=scaled_lexicon(Fraction(1, 4))),
    "half lexicon": QuestionFormation(lexicon=scaled_lexicon(Fraction(1, 2))),
    "question formation": QuestionFormation(),
    "double lexicon": QuestionFormation(lexicon=scaled_lexicon(2)),
    "fourfold lexicon": QuestionFormation(lexicon=scaled_lexicon(4)),
    "identity": QuestionFormation(quest=Fraction(0)),
    "questions": QuestionFormation(quest=Fraction(1)),
    "tense reinflection": Pairs(Grammar.from_text(_TENSE), reinflect, tuple(stem + s for stem in _STEMS for s in ("", "s"))),
    "deeper recursion": Sentences(Grammar.from_text(_RECURSION)),
    "words": Sentences(Grammar.from_text(_WORDS)),
}


def source(name):
    """The source of that name. Raises ValueError that lists the names."""
    every = SOURCES | MEMORISED
    if not isinstance(name, str) or name not in every:
        raise ValueError(f"source is {name!r}; expected one of {', '.join(every)}")
    return every[name]
