"""The Question-Formation language against brute force and against the real lines.   ./run_tests.sh tests/test_question.py"""

import math
from collections import Counter, defaultdict
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from memlm.ambiguity import AmbiguousGrammar
from memlm.grammar import question_formation
from memlm.question import LEXICON, QuestionFormation, complete, split_line

SOURCE = question_formation()
TINY = {name: words[:1] for name, words in LEXICON.items()}


def entropy(probabilities):
    return -math.fsum(float(p) * math.log(p) for p in probabilities)


@pytest.mark.parametrize("quest", [Fraction(1, 2), Fraction(1, 5), Fraction(1)])
def test_S2_entropy_equals_brute_force_with_rejection(quest):
    everything = list(QuestionFormation(quest, relative_questions=True, lexicon=TINY).grammar.derivations())
    kept = {w: p for w, p in everything if not (w[-1] == "quest" and w[2] in LEXICON["Rel"])}
    assert len(kept) == len([w for w, _ in everything if w in kept])  # no sentence has two derivations
    mass = sum(kept.values())
    assert mass == 1 - quest * Fraction(8, 29)
    found = QuestionFormation(quest, lexicon=TINY).entropy_rate()
    assert found.nats == pytest.approx(entropy(p / mass for p in kept.values()), abs=1e-12)
    assert found.tokens == pytest.approx(float(sum(p / mass * 2 * len(w) for w, p in kept.items())), abs=1e-12)


def test_S2_a_planted_entropy_without_rejection_is_told_apart():
    assert abs(question_formation(relative_questions=True).entropy_rate().nats - SOURCE.entropy_rate().nats) > 0.1


def test_S2_rates_by_half():
    rate = SOURCE.entropy_rate()
    assert rate.total == pytest.approx(0.992, abs=5e-4)
    assert rate.before == pytest.approx(2 * rate.total, rel=1e-12)
    assert rate.after == 0
    lines = SOURCE.sample(3000, seed=0)
    # every predicted token, end of line included, belongs to one half
    assert np.mean([len(line.split()) + 1 for line in lines]) == pytest.approx(rate.tokens, abs=0.5)
    for first, second in map(split_line, lines):
        assert len(first) == len(second) + 1


def test_heldout_rate_without_earlier_lines_is_the_rate_and_grows_with_them():
    rates = [SOURCE.heldout_entropy_rate(n) for n in (0, 1_000, 20_000, 100_000)]
    assert rates[0] == pytest.approx(SOURCE.entropy_rate(), rel=1e-9)
    assert all(a.total < b.total and a.tokens < b.tokens for a, b in pairwise(rates))
    with pytest.raises(ValueError, match=r"distinct is -1; expected 0 to"):
        SOURCE.heldout_entropy_rate(-1)


def test_complete_moves_the_main_auxiliary():
    cases = {
        "the newt does sleep . decl": "the newt does sleep .",
        "the newt by my yaks doesn't sleep . quest": "doesn't the newt by my yaks sleep ?",
        "my yaks who do eat don't admire her newt . quest": "don't my yaks who do eat admire her newt ?",
        "my yaks that some newt does amuse do read . quest": "do my yaks that some newt does amuse read ?",
    }
    for first, second in cases.items():
        assert complete(first.split()) == second.split()


def test_log_prob_refuses_a_wrong_output():
    line = SOURCE.sample(1, seed=0)[0]
    swapped = line.replace("\tdo ", "\tdoes ") if "\tdo " in line else line + " ."
    right, wrong = SOURCE.log_prob([line, swapped])
    assert right < 0
    assert wrong == -math.inf
    with pytest.raises(ValueError, match="line is 'the newt'; expected 'declarative"):
        SOURCE.log_prob(["the newt"])


def test_log_prob_of_words_and_types_that_the_language_lacks():
    line = "the newt does sleep . decl\tthe newt does sleep ."
    wrong = [
        line.replace("newt", "dog"),
        line.replace("decl", "zzz"),
        line.replace("decl", "quest"),
        "\t",
        "x\ty",
        line + "\t",
    ]
    found = SOURCE.log_prob([line, *wrong, line])
    assert np.isfinite(found[[0, -1]]).all() and (found[1:-1] == -math.inf).all()
    with pytest.raises(ValueError, match="line is 'x'; expected 'declarative"):
        SOURCE.log_prob([line, "x"])


def test_halves_are_lists_of_words():
    for half in ("the newt does sleep . decl", "decl", b"decl", None):
        with pytest.raises(ValueError, match=r"first half is .*; expected a list of words"):
            complete(half)
    for half in ([], ["the", "newt"], ["the", "newt", "past"]):
        with pytest.raises(ValueError, match=r"first half is .*; expected words of which the last is decl or quest"):
            complete(half)
    for half in (["quest"], ["the", "newt", "quest"], ["the", "newt", "who", "does", "sleep", "quest"]):
        with pytest.raises(ValueError, match=r"first half is .*; expected a main auxiliary"):
            complete(half)
    with pytest.raises(ValueError, match=r"line 0 is .*; expected a string"):
        split_line(["the", "newt"])


WRONG_LEXICONS = {
    "a class too few": ({"Det": ["the"]}, "classes of the lexicon are Det; expected Det, N_s"),
    "a list": (["the"], r"classes of the lexicon are \['the'\]; expected"),
    "a string for a class": (LEXICON | {"Det": "the"}, "class Det of the lexicon is 'the'; expected a list of words"),
    "an empty class": (LEXICON | {"Det": []}, r"class Det of the lexicon is \[\]; expected different words"),
    "a word twice": (LEXICON | {"Det": ["the", "the"]}, "class Det .*; expected different words"),
    "white space": (LEXICON | {"Det": ["all the"]}, "class Det .*; expected different words without white space"),
    "an unknown auxiliary": (LEXICON | {"Aux_s": ["can"]}, "class Aux_s of the lexicon has 'can'; expected one of do, does"),
    "an unknown pronoun": (LEXICON | {"Rel": ["which"]}, "class Rel of the lexicon has 'which'; expected one of that, who"),
    "an auxiliary as a verb": (LEXICON | {"V_i": ["do"]}, "class V_i of the lexicon has 'do'; expected no auxiliary"),
}


@pytest.mark.parametrize(("lexicon", "message"), WRONG_LEXICONS.values(), ids=WRONG_LEXICONS)
def test_lexicons_in_which_complete_would_go_wrong_are_refused(lexicon, message):
    with pytest.raises(ValueError, match=message):
        QuestionFormation(lexicon=lexicon)


@pytest.mark.parametrize("quest", [-0.1, math.nan, math.inf, 2, "1/2", None])
def test_a_share_of_questions_is_a_share(quest):
    with pytest.raises(ValueError, match=r"quest is .*; expected a share in \[0, 1\]"):
        QuestionFormation(quest)


def shape(line):
    """Length, type and the structures of subject and object of a line: what the shares are compared on."""
    first, _ = split_line(line)
    words, auxiliaries = first[:-1], LEXICON["Aux_s"] + LEXICON["Aux_p"]
    at = [i for i, word in enumerate(words) if word in auxiliaries]
    main = at[1] if words[2] in LEXICON["Rel"] else at[0]

    def kind(phrase):
        if len(phrase) < 3:
            return "plain"
        if phrase[2] in LEXICON["Prep"]:
            return "preposition"
        after = phrase[3:]
        return ("intransitive" if len(after) == 2 else "transitive") if after[0] in auxiliaries else "object"

    rest = words[main + 2 : -1]
    return first[-1], kind(words[:main]), kind(rest) if rest else "none"


def test_every_real_line_parses(real_lines):
    for name in ("test", "dev", "train-first20k"):
        assert np.isfinite(SOURCE.log_prob(real_lines(name))).all(), name
    generalisation = real_lines("gen")
    assert np.isfinite(question_formation(relative_questions=True).log_prob(generalisation)).all()
    assert not np.isfinite(SOURCE.log_prob(generalisation)).any()


def test_the_generator_has_the_vocabulary_and_the_shares_of_the_real_test_file(real_lines):
    real = real_lines("test")
    assert {word for line in real for word in line.split()} == set(SOURCE.vocabulary)
    # The real file holds none of the 100,000 training lines and no line twice: so does this sample of the generator.
    drawn = list(dict.fromkeys(SOURCE.sample(125_000, seed=0)))[100_000:110_000]
    assert len(drawn) == 10_000
    groups = {
        "type": lambda line: shape(line)[0],
        "subject": lambda line: shape(line)[1],
        "object": lambda line: shape(line)[2],
        "length": lambda line: len(split_line(line)[0]),
    }
    for name, of in groups.items():
        ours, theirs = Counter(map(of, drawn)), Counter(map(of, real))
        assert len(ours) >= 2, name
        for key in ours.keys() | theirs.keys():
            # Four standard errors of the difference of two shares of 10,000 lines (21 shares are compared), at the least
            # for a share of 0.01, below which the normal law is a poor guide.
            p = max(theirs[key] / 10_000, 0.01)
            assert abs(ours[key] - theirs[key]) / 10_000 < 4 * math.sqrt(2 * p * (1 - p) / 10_000), (name, key)


def plug_in(counts):
    """Plug-in entropy with the correction of Miller and Madow."""
    n = sum(counts.values())
    return entropy(c / n for c in counts.values()) + (len(counts) - 1) / (2 * n)


def test_S2_plug_in_entropy_of_the_real_lines(real_lines):
    """The entropy rate of the real test file without any grammar: the entropy of the sequence of word classes, and for each
    class its mean number per line times the entropy of its words."""
    classes = {word: name for name, words in LEXICON.items() for word in words}
    templates, words, tokens = Counter(), defaultdict(Counter), 0
    lines = real_lines("test")
    for line in lines:
        first, second = split_line(line)
        templates[tuple(classes.get(word, word) for word in first)] += 1
        for word in first:
            words[classes.get(word, word)][word] += 1
        tokens += len(first) + len(second) + 1
    nats = plug_in(templates) + sum(sum(c.values()) / len(lines) * plug_in(c) for c in words.values())
    rate = nats * len(lines) / tokens
    assert rate == pytest.approx(0.996, abs=1e-3)  # what an independent count found, to three decimals
    # The exact rate of what is left after 100,000 lines. The surprise of a line has a standard deviation of 6.7 nats, 0.29
    # per token, so that of a mean over 10,000 lines is 0.003, and three of these are 0.009.
    assert rate == pytest.approx(SOURCE.heldout_entropy_rate(100_000).total, abs=0.009)
    # and the source's own model pays the same on these lines, up to what it does not know of removed duplicates
    paid = -SOURCE.log_prob(lines).sum() / tokens
    assert paid == pytest.approx(rate, abs=0.01)


def test_no_rate_of_held_out_lines_where_a_line_has_two_derivations():
    same = QuestionFormation(lexicon={**LEXICON, "N_s": ["sheep", "fish"], "N_p": ["sheep", "fish"]})
    for rate in (same.entropy_rate, lambda: same.heldout_entropy_rate(0)):
        with pytest.raises(AmbiguousGrammar):
            rate()
