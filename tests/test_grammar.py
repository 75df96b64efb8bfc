"""Grammars against closed forms, enumeration and sampling.   ./run_tests.sh tests/test_grammar.py"""

import math
import random
import time
from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from memlm.grammar import Grammar, is_terminal

FINITE = """
# a finite language with a shared end, a unit rule and a word inside a longer rule
S -> A 'x' B [1/2] | 'y' B [0.25] | A [1/4]
A -> 'a' [1/3] | 'b' [2/3]
B -> A A [3/5] | 'c' [2/5]
"""


def enumerate_probabilities(grammar):
    table = Counter()
    for words, probability in grammar.derivations():
        table[words] += probability
    return table


def test_entropy_and_length_of_a_finite_language_by_enumeration():
    grammar = Grammar.from_text(FINITE)
    table = enumerate_probabilities(grammar)
    assert sum(table.values()) == 1
    assert all(isinstance(p, Fraction) for p in table.values())
    assert grammar.entropy() == pytest.approx(-math.fsum(float(p) * math.log(p) for p in table.values()), abs=1e-12)
    assert grammar.mean_length() == pytest.approx(float(sum(p * len(words) for words, p in table.items())), abs=1e-12)
    found = grammar.log_prob([list(words) for words in table])
    assert np.abs(found - [math.log(p) for p in table.values()]).max() < 1e-12


def test_planted_wrong_entropies_are_told_apart():
    grammar = Grammar.from_text(FINITE)
    exact = -math.fsum(float(p) * math.log(p) for p in enumerate_probabilities(grammar).values())
    wrong = {
        "one weight moved": Grammar.from_text(FINITE.replace("[1/3] | 'b' [2/3]", "[1/4] | 'b' [3/4]")).entropy(),
        "in bits": grammar.entropy() / math.log(2),
        "each rule counted once": sum(
            -math.fsum(float(w) * math.log(w) for w, _ in alternatives) for alternatives in grammar.rules.values()
        ),
        "per token": grammar.entropy() / grammar.mean_length(),
    }
    assert len(wrong) == 4
    for name, value in wrong.items():
        assert abs(value - exact) > 1e-3, name
    assert abs(grammar.entropy() - exact) < 1e-12


@pytest.mark.parametrize("stop", [Fraction(1, 4), Fraction(1, 2), Fraction(9, 10)])
def test_geometric_lengths_have_the_entropy_of_the_geometric_law(stop):
    grammar = Grammar.from_text(f"S -> 'a' S [{1 - stop}] | 'b' [{stop}]")
    h = -float(stop) * math.log(stop) - float(1 - stop) * math.log(1 - stop)
    assert grammar.entropy() == pytest.approx(h / float(stop), rel=1e-12)
    assert grammar.mean_length() == pytest.approx(1 / float(stop), rel=1e-12)


def test_inside_sums_over_all_derivations_of_an_ambiguous_sentence():
    grammar = Grammar.from_text("S -> S S [1/3] | 'a' [2/3]")
    found = np.exp(grammar.log_prob([["a"] * k for k in range(1, 9)]))
    catalan = [math.comb(2 * k, k) / (k + 1) * (1 / 3) ** k * (2 / 3) ** (k + 1) for k in range(8)]
    assert found == pytest.approx(catalan, rel=1e-12)


def test_inside_sums_chains_of_unit_rules_and_repeated_alternatives():
    loop = Grammar.from_text("S -> A [1]\nA -> B [1/2] | 'a' [1/2]\nB -> A [1/2] | 'b' [1/2]")
    assert np.exp(loop.log_prob([["a"], ["b"]])) == pytest.approx([2 / 3, 1 / 3], rel=1e-12)
    twice = Grammar.from_text("S -> 'a' 'b' [1/4] | 'a' 'b' [1/4] | 'c' 'b' [1/2]")
    assert np.exp(twice.log_prob([["a", "b"], ["c", "b"]])) == pytest.approx([0.5, 0.5], rel=1e-12)


def test_log_prob_of_what_the_grammar_cannot_say():
    grammar = Grammar.from_text("S -> 'a' S [1/2] | 'b' [1/2]")
    assert grammar.log_prob([["a"], ["b", "b"], []]).tolist() == [-math.inf] * 3
    # An unknown word takes neither the batch nor its neighbours with it.
    found = grammar.log_prob([["a", "z"], ["b"], ["z"], ["b", "z"], ["a", "b"]])
    assert found.tolist() == [-math.inf, math.log(0.5), -math.inf, -math.inf, math.log(0.25)]


@pytest.mark.parametrize("sentences", ["aab", ["aab"], ("a", "b"), [["a"], "b"], [b"ab"]])
def test_a_text_is_no_list_of_words(sentences):
    with pytest.raises(ValueError, match=r"is the text .*; expected a list of"):
        Grammar.from_text("S -> 'a' S [1/2] | 'b' [1/2]").log_prob(sentences)


def test_log_prob_does_not_underflow():
    grammar = Grammar.from_text("S -> 'a' S [1/1000] | 'b' [999/1000]")
    assert grammar.log_prob([["a"] * 200 + ["b"]])[0] == pytest.approx(-200 * math.log(1000) + math.log(0.999), rel=1e-12)


def by_hand(grammar, words, symbol=None):
    """The probability that a symbol derives words, by trying all rules and all ways to cut the words: no empty sides."""
    if symbol and is_terminal(symbol):
        return Fraction(words == (symbol[1:],))
    return sum(w * cut(grammar, words, right) for w, right in grammar.rules[symbol or grammar.start])


def cut(grammar, words, right):
    if len(right) == 1:
        return by_hand(grammar, words, right[0])
    places = range(1, len(words) - len(right) + 2)
    return sum(by_hand(grammar, words[:k], right[0]) * cut(grammar, words[k:], right[1:]) for k in places)


@pytest.mark.parametrize("seed", range(5))
def test_inside_of_random_grammars_is_what_all_rules_and_cuts_come_to(seed):
    random_ = random.Random(seed)
    symbols = ["'a'", "'b'", *(f"N{i}" for i in range(4))]
    text = ""
    for i in range(4):
        rights = {" ".join(random_.choices(symbols, k=random_.randint(2, 4))) for _ in range(3)}
        text += f"N{i} -> " + " | ".join(f"{right} [1/12]" for right in sorted(rights))
        text += f" | 'a' [{Fraction(3, 4) - Fraction(len(rights), 12)}] | 'b' [1/4]\n"
    grammar = Grammar.from_text(text)
    sentences = [list(words) for n in range(1, 6) for words in product("ab", repeat=n)]
    expected = [float(by_hand(grammar, tuple(words))) for words in sentences]
    assert np.exp(grammar.log_prob(sentences)) == pytest.approx(expected, rel=1e-12, abs=0)


EMPTY = {  # with probabilities of the empty sentence, a, aa by hand
    "right end": ({"S": [(1, 2, "'a S"), (1, 2, "")]}, [1 / 2, 1 / 4, 1 / 8]),
    "two that may be empty": ({"S": [(1, 1, "A A")], "A": [(1, 3, "'a"), (2, 3, "")]}, [4 / 9, 4 / 9, 1 / 9]),
    "a longer side": ({"S": [(1, 1, "A A A")], "A": [(1, 2, "'a"), (1, 2, "")]}, [1 / 8, 3 / 8, 3 / 8]),
    # p = 1/4 p^2 + 1/2 has the least root 2 - sqrt 2; then a solves x = 2/4 p x + 1/4, and aa y = 2/4 p y + 1/4 x^2
    "recursive": (
        {"S": [(1, 4, "S S"), (1, 2, ""), (1, 4, "'a")]},
        [2 - 2**0.5, (x := 1 / 4 / (2**0.5 / 2)), x * x / 4 / (2**0.5 / 2)],
    ),
    "only empty": ({"S": [(1, 1, "A")], "A": [(1, 1, "")]}, [1, 0, 0]),
}


@pytest.mark.parametrize(("rules", "expected"), EMPTY.values(), ids=EMPTY)
def test_inside_with_empty_right_sides(rules, expected):
    rules = {s: [(Fraction(n, d), tuple(right.split())) for n, d, right in rights] for s, rights in rules.items()}
    found = np.exp(Grammar("S", rules).log_prob([[], ["a"], ["a", "a"]]))
    assert found == pytest.approx(expected, rel=1e-12, abs=0)


def test_inside_of_chains_loops_and_unreachable_rules():
    chain = "\n".join(f"Q{i} -> Q{i + 1} [1/2] | 'b' [1/2]" for i in range(3000)) + "\nQ3000 -> 'c' [1]"
    found = Grammar.from_text(chain).log_prob([["b"], ["c"], ["b", "c"]])
    assert found[:2] == pytest.approx([0, -3000 * math.log(2)], rel=1e-12, abs=1e-12) and found[2] == -math.inf
    loops = "S -> A [1/2] | B 'x' [1/2]\nA -> B [1/3] | A [1/3] | 'a' [1/3]\nB -> A [1/2] | 'b' [1/2]\nU -> U [1]"
    # A = (A/2 + 'b'/2)/3 + A/3 + 'a'/3, so A = 2/3 'a' + 1/3 'b', and B = A/2 + 'b'/2 = 1/3 'a' + 2/3 'b'
    found = Grammar.from_text(loops).log_prob([["a"], ["b"], ["a", "x"], ["b", "x"]])
    assert np.exp(found) == pytest.approx([1 / 3, 1 / 6, 1 / 6, 1 / 3], rel=1e-12)


def test_a_sentence_of_400_words_takes_seconds():
    grammar = Grammar.from_text("S -> S S [1/3] | 'a' [2/3]")
    begun = time.perf_counter()
    (found,) = grammar.log_prob([["a"] * 400])
    assert time.perf_counter() - begun < 10  # 0.1 s on two quiet cores, where it took minutes
    log_catalan = math.lgamma(799) - 2 * math.lgamma(400) - math.log(400)
    assert found == pytest.approx(log_catalan + 399 * math.log(1 / 3) + 400 * math.log(2 / 3), rel=1e-11)


def test_a_sentence_that_takes_too_much_memory_is_refused():
    with pytest.raises(ValueError, match="a sentence has 20000 words and the grammar 2 symbols; expected at most"):
        Grammar.from_text("S -> 'a' S [1/2] | 'b' [1/2]").log_prob([["a"] * 19_999 + ["b"]])


def test_samples_have_the_probabilities_of_the_grammar_and_depend_on_the_seed_alone():
    grammar = Grammar.from_text(FINITE)
    drawn = grammar.sample(20_000, seed=1)
    assert drawn == grammar.sample(20_000, seed=1) != grammar.sample(20_000, seed=2)
    table, counts = enumerate_probabilities(grammar), Counter(map(tuple, drawn))
    chi_square = sum((counts[w] - 20_000 * float(p)) ** 2 / (20_000 * float(p)) for w, p in table.items())
    assert chi_square < len(table) - 1 + 5 * math.sqrt(2 * len(table))  # five standard deviations of chi-square
    surprise = -grammar.log_prob(drawn)
    assert abs(surprise.mean() - grammar.entropy()) < 3 * surprise.std() / math.sqrt(len(drawn))


def test_shapes_count_interchangeable_words():
    grammar = Grammar.from_text("S -> N V [2/3] | N [1/3]\nN -> 'a' [1/2] | 'b' [1/2]\nV -> 'x' [1/3] | 'y' [2/3]")
    shapes = sorted(grammar.shapes())
    assert shapes == sorted([(Fraction(2, 9), 2, 2), (Fraction(4, 9), 2, 2), (Fraction(1, 3), 2, 1)])


def test_text_round_trip():
    grammar = Grammar.from_text(FINITE)
    assert Grammar.from_text(grammar.text()) == grammar


BAD = [
    ("S -> 'a' [1/2]", "the weights of S sum to 1/2; expected 1"),
    ("S -> 'a' [0.3] | 'b' [0.6]", "the weights of S sum to 9/10; expected 1"),
    ("S -> S S [1/2] | 'a' [1/2]", "spectral radius 1; expected < 1"),
    ("S -> S [1]", "spectral radius 1; expected < 1"),
    ("S -> A [1]", "A stands on the right of S but on no left side"),
    ("# nothing\n", "the grammar has 0 rules; expected at least 1"),
    ("S -> 'a' [1]\nT 'b' [1]", "line 2 is .*; expected LEFT -> RIGHT"),
    ("S -> 'a' | 'b' [1]", "line 1 has the alternative \"'a'\"; expected symbols"),
    ("S -> 'a' [1] |", "line 1 has the alternative ''; expected symbols"),
    ("S -> 'a' [1/2] 'b' [1/2]", "line 1 has the alternative .*; expected symbols or 'words' and then one"),
    ("S -> 'a' [0]", r"line 1 has the weight \[0\]; expected a fraction or decimal in"),
    ("S -> 'a' [x]", r"line 1 has the weight \[x\]"),
    ("S -> 'a' [3/2]", r"line 1 has the weight \[3/2\]"),
    ("S -> [1]", "line 1 has the alternative"),
    ("S -> 'a [1]", "line 1 has .*; expected symbols, 'words'"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_bad_grammars_are_named_with_their_line(text, message):
    with pytest.raises(ValueError, match=message):
        Grammar.from_text(text)


def test_a_recursive_grammar_is_not_enumerated():
    with pytest.raises(ValueError, match="recursive and has infinitely many derivations"):
        list(Grammar.from_text("S -> 'a' S [1/2] | 'b' [1/2]").derivations())


def test_comments_and_quotes():
    grammar = Grammar.from_text("S -> '#' \"don't\" [1] # a comment with 'quotes'")
    assert grammar.sample(1, 0) == [["#", "don't"]]
