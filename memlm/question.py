"""The Question-Formation language of McCoy et al. (2020): the source behind the paper's second experiment (X2).

A line is a declarative sentence, a type token, and an output that the first two determine:

    the newt does sleep . decl<TAB>the newt does sleep .
    the newt does sleep . quest<TAB>does the newt sleep ?

The first half is a probabilistic grammar, so its entropy is exact; the second half adds none.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np

from memlm.ambiguity import exact_entropy
from memlm.grammar import Grammar, no_list, real, word_list
from memlm.notation import quoted

NOUNS = "newt orangutan peacock quail raven salamander tyrannosaurus unicorn vulture walrus xylophone yak zebra"
LEXICON = {
    "Det": ["the", "some", "my", "your", "our", "her"],
    "N_s": NOUNS.split(),
    "N_p": [noun + ("es" if noun.endswith("us") else "s") for noun in NOUNS.split()],
    "V_i": ["giggle", "smile", "sleep", "swim", "wait", "move", "change", "read", "eat"],
    "V_t": ["entertain", "amuse", "high_five", "applaud", "confuse", "admire", "accept", "remember", "comfort"],
    "Aux_s": ["does", "doesn't"],
    "Aux_p": ["do", "don't"],
    "Prep": ["around", "near", "with", "upon", "by", "behind", "above", "below"],
    "Rel": ["who", "that"],
}
# Shares of the structures, in simple fractions. McCoy et al. published a grammar file, but their train and test lines do
# not have its shares. These were chosen after a numerical fit, as the best of about a dozen candidates, on the same 31,000
# public lines on which chi-square is then 47 on 41 (train) and 20 on 39 (dev and test) degrees of freedom, duplicates taken
# into account: the agreement that tests/test_question.py asserts is a check of the generator, not of held-out data.
SUBJECT = {"plain": Fraction(15, 29), "preposition": Fraction(6, 29), "relative": Fraction(8, 29)}
OBJECT = {"none": Fraction(3, 13), "plain": Fraction(3, 13), "preposition": Fraction(3, 13), "relative": Fraction(4, 13)}
SUBJECT_RELATIVE = {"intransitive": Fraction(1, 4), "object": Fraction(1, 2), "transitive": Fraction(1, 4)}
OBJECT_RELATIVE = {"intransitive": Fraction(1, 2), "object": Fraction(1, 4), "transitive": Fraction(1, 4)}


def _relative_clause(number, shares):
    return (
        f"Rel Aux_{number} V_i [{shares['intransitive']}] | Rel Aux_{number} V_t Det N [{shares['transitive']}]"
        f" | Rel Det N_s Aux_s V_t [{shares['object'] / 2}] | Rel Det N_p Aux_p V_t [{shares['object'] / 2}]"
    )


def _rules(lexicon, quest, relative_questions):
    """Grammar of 'declarative . decl|quest'. A question whose subject has a relative clause is drawn again (rejected)
    unless relative_questions: the accepted lines follow the same rules with the shares conditioned on acceptance."""
    simple = 1 - SUBJECT["relative"]
    rejected = 0 if relative_questions else quest * SUBJECT["relative"]
    shares = {"decl": (1 - quest) / (1 - rejected), "quest": (quest - rejected) / (1 - rejected)}
    lines = [f"Clause_{kind}_{n} '.' '{kind}' [{share / 2}]" for kind, share in shares.items() if share for n in "sp"]
    text = ["Line -> " + " | ".join(lines)]
    for n in "sp":
        either = f"Simple_{n} VP_{n} [{simple}] | Relative_{n} VP_{n} [{SUBJECT['relative']}]"
        text += [
            f"Clause_decl_{n} -> {either}",
            f"Clause_quest_{n} -> {either if relative_questions else f'Simple_{n} VP_{n} [1]'}",
            f"Simple_{n} -> Det N_{n} [{SUBJECT['plain'] / simple}]"
            f" | Det N_{n} Prep Det N [{SUBJECT['preposition'] / simple}]",
            f"Relative_{n} -> Det N_{n} RC_{n} [1]",
            f"RC_{n} -> " + _relative_clause(n, SUBJECT_RELATIVE),
            f"VP_{n} -> Aux_{n} V_i [{OBJECT['none']}] | Aux_{n} V_t Object [{1 - OBJECT['none']}]",
            f"ObjectRC_{n} -> " + _relative_clause(n, OBJECT_RELATIVE),
        ]
    plain, preposition, relative = (OBJECT[kind] / (1 - OBJECT["none"]) for kind in ("plain", "preposition", "relative"))
    text += [
        f"Object -> Det N [{plain}] | Det N Prep Det N [{preposition}]"
        f" | Det N_s ObjectRC_s [{relative / 2}] | Det N_p ObjectRC_p [{relative / 2}]",
        "N -> N_s [1/2] | N_p [1/2]",
    ]
    text += [f"{left} -> " + " | ".join(f"{quoted(w)} [1/{len(words)}]" for w in words) for left, words in lexicon.items()]
    return "\n".join(text)


class EntropyRate(NamedTuple):
    """Nats per predicted token: over whole lines, before and including the type token, and after it. The end of a line
    counts as a token to predict, the beginning does not. ``nats`` and ``tokens`` are per line."""

    total: float
    before: float
    after: float
    nats: float
    tokens: float


_LINE = "line is {!r}; expected 'declarative . decl<TAB>output' or 'declarative . quest<TAB>output'"


def complete(first_half):
    """The output that a declarative and its type token call for. List of words -> list of words.

    A question fronts the main auxiliary: the second one where the subject has a relative clause, otherwise the first.
    Raises ValueError for a string in place of a list, and where there is no type token or no auxiliary to front.
    """
    *words, kind = word_list(first_half, "first half") or ("",)
    if kind not in ("decl", "quest"):
        raise ValueError(f"first half is {first_half!r}; expected words of which the last is decl or quest")
    if kind == "decl":
        return words
    auxiliaries = [i for i, word in enumerate(words) if word in LEXICON["Aux_s"] + LEXICON["Aux_p"]]
    earlier = 1 if len(words) > 2 and words[2] in LEXICON["Rel"] else 0
    if len(auxiliaries) <= earlier:
        raise ValueError(f"first half is {first_half!r}; expected a main auxiliary, such as {LEXICON['Aux_s'][0]}")
    main = auxiliaries[earlier]
    return [words[main], *words[:main], *words[main + 1 : -1], "?"]


def text_lines(lines):
    """Lines of text as a list. Raises ValueError for one string in place of a list, and for a line that is no string."""
    if no_list(lines):
        raise ValueError(f"lines is {lines!r}; expected a list of lines of text")
    found = list(lines)
    for number, line in enumerate(found):
        if not isinstance(line, str):
            raise ValueError(f"line {number} is {line!r}; expected a string")
    return found


def split_line(line):
    """A line of text as (first half, second half), two lists of words. ValueError where there is no tab or no type."""
    [line] = text_lines([line])
    first, tab, second = line.partition("\t")
    halves = first.split(), second.split()
    if not tab or len(halves[0]) < 2 or halves[0][-1] not in ("decl", "quest"):
        raise ValueError(_LINE.format(line))
    return halves


def _checked_lexicon(lexicon):
    if not isinstance(lexicon, dict) or lexicon.keys() != LEXICON.keys():
        shown = ", ".join(map(str, lexicon)) if isinstance(lexicon, dict) else repr(lexicon)
        raise ValueError(f"the classes of the lexicon are {shown}; expected {', '.join(LEXICON)}")
    fixed = {"Aux_s": {*LEXICON["Aux_s"], *LEXICON["Aux_p"]}, "Rel": {*LEXICON["Rel"]}}
    fixed["Aux_p"] = fixed["Aux_s"]
    lexicon = {name: list(word_list(words, f"class {name} of the lexicon")) for name, words in lexicon.items()}
    for name, found in lexicon.items():
        if not found or len(set(found)) < len(found) or any(word.split() != [word] for word in found):
            raise ValueError(f"class {name} of the lexicon is {found!r}; expected different words without white space")
        # ``complete`` knows the auxiliaries and relative pronouns by name.
        wrong = {*found} - fixed[name] if name in fixed else {*found} & (fixed["Aux_s"] | fixed["Rel"])
        if wrong:
            allowed = f"one of {', '.join(sorted(fixed[name]))}" if name in fixed else "no auxiliary and no relative pronoun"
            raise ValueError(f"class {name} of the lexicon has {min(wrong)!r}; expected {allowed}")
    return lexicon


@dataclass(frozen=True)
class QuestionFormation:
    """The language as a source. quest: share of questions before rejection. relative_questions: keep the questions whose
    subject has a relative clause (the generalisation set is made of these; train, dev and test have none). lexicon: the
    words of each class, by default the 64 of the real files; its auxiliaries and relative pronouns are among those, as
    ``complete`` looks for them. Raises ValueError for another share or lexicon."""

    quest: Fraction = Fraction(1, 2)
    relative_questions: bool = False
    lexicon: dict[str, list[str]] = field(default_factory=lambda: LEXICON)

    def __post_init__(self):
        quest = real("quest", self.quest, lambda share: 0 <= share <= 1, "a share in [0, 1]")
        if not isinstance(self.relative_questions, bool | np.bool):
            raise ValueError(f"relative_questions is {self.relative_questions!r}; expected True or False")
        object.__setattr__(self, "quest", quest)
        object.__setattr__(self, "lexicon", _checked_lexicon(self.lexicon))

    @cached_property
    def grammar(self):
        """The grammar of first halves, type token included. With the lexicon of the real files it is unambiguous."""
        return Grammar.from_text(_rules(self.lexicon, Fraction(self.quest), self.relative_questions))

    @property
    def vocabulary(self):
        """All words of both halves, sorted."""
        return sorted({word for words in self.lexicon.values() for word in words} | {".", "?", "decl", "quest"})

    def _rate(self, nats, first):
        # The second half has the words of the declarative and its full stop or question mark, then the end of the line.
        return EntropyRate(nats / (2 * first), nats / first, 0.0, nats, 2 * first)

    def entropy_rate(self):
        """EntropyRate of independent lines, exact: entropy of the grammar over the mean number of predicted tokens.

        Raises AmbiguousGrammar for a lexicon that lets a line have two derivations.
        """
        return self._rate(exact_entropy(self.grammar), self.grammar.mean_length())

    def heldout_entropy_rate(self, distinct):
        """EntropyRate of a line that is none of the ``distinct`` different lines drawn before it.

        Removing duplicates thins out the short sentences, of which there are few. With lambda draws a line of
        probability p is still unseen with probability exp(-lambda p); lambda is chosen to give ``distinct`` seen lines.
        """
        from scipy.optimize import brentq

        exact_entropy(self.grammar)  # which raises where a line may have two derivations
        probability, sentences, length = (np.array(column, float) for column in zip(*self.grammar.shapes(), strict=True))
        most = float(sentences.sum() / 2)
        distinct = real("distinct", distinct, lambda n: 0 <= n < most, f"0 to {most:.3g}, half the language")
        each = probability / sentences
        draws = brentq(lambda m: -(sentences * np.expm1(-m * each)).sum() - distinct, 0, 100 * distinct + 1)
        unseen = probability * np.exp(-draws * each)
        share = unseen / unseen.sum()
        return self._rate(float(-share @ np.log(each / unseen.sum())), float(share @ length))

    def log_prob(self, lines):
        """log probability in nats of each line of text; -inf for a line that the language does not have, for instance with
        a word that it lacks. (m,) float64. Raises ValueError for a line without a tab, and for a string in place of a list.
        """
        halves = []
        for line in text_lines(lines):
            first, *rest = (half.split() for half in line.split("\t"))
            if not rest:
                raise ValueError(_LINE.format(line))
            halves.append((first, rest))
        scores = self.grammar.log_prob([first for first, _ in halves], strict=False)
        right = [s > -math.inf and [complete(first)] == rest for s, (first, rest) in zip(scores, halves, strict=True)]
        return np.where(right, scores, -math.inf)

    split = staticmethod(split_line)

    def sample(self, n, seed):
        """n independent lines of text from the seed."""
        return [" ".join(first) + "\t" + " ".join(complete(first)) for first in self.grammar.sample(n, seed)]
