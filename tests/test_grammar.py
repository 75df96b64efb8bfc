"""Grammars against closed forms, enumeration and sampling.   ./run_tests.sh tests/test_grammar.py"""

import math
import random
import time
import warnings
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memlm.grammar import Grammar, NeverEnding
from memlm.notation import is_symbol

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
    with pytest.raises(ValueError, match="word 'z' is not in the vocabulary of 2 words"):
        grammar.log_prob([["a", "z"]])


def test_log_prob_does_not_underflow():
    grammar = Grammar.from_text("S -> 'a' S [1/1000] | 'b' [999/1000]")
    assert grammar.log_prob([["a"] * 200 + ["b"]])[0] == pytest.approx(-200 * math.log(1000) + math.log(0.999), rel=1e-12)


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


@pytest.mark.parametrize(
    "sentences", ["aab", b"aab", ["a", "a", "b"], [["a"], "b"], [["a"], None], None, [["a", 1]]], ids=repr
)
def test_a_string_is_no_sentence(sentences):
    grammar = Grammar.from_text("S -> 'a' S [1/2] | 'b' [1/2]")
    with pytest.raises(ValueError, match=r"^sentence(s is| \d is| \d holds) .*; expected a list of"):
        grammar.log_prob(sentences)
    assert grammar.log_prob([["a", "b"], ("b",), np.array(["b"])]).tolist() == [math.log(1 / 4), *[math.log(1 / 2)] * 2]
    assert grammar.log_prob([]).shape == (0,)


def test_an_unknown_word_is_named_or_leaves_the_other_sentences_alone():
    grammar = Grammar.from_text("S -> 'a' S [1/2] | 'b' [1/2]\nUnused -> 'z' [1]")
    found = grammar.log_prob([["b"], ["z"], ["a", "y"], ["", "b"], ["a", "b"]], strict=False)
    assert found.tolist() == [math.log(1 / 2), -math.inf, -math.inf, -math.inf, math.log(1 / 4)]
    for word in ("z", "y", ""):
        with pytest.raises(ValueError, match=f"word '{word}' is not in the vocabulary of 2 words"):
            grammar.log_prob([["b"], ["a", word]])


EMPTY = ["| [1/2]", "| '' [1/2]", "| ε [1/2]", '| "" [1/2]', "| '' ε [1/2]", "\nS -> [1/2]", "| E [1/2]\nE -> '' [1]"]


@pytest.mark.parametrize("empty", EMPTY)
def test_the_empty_alternative(empty):
    grammar = Grammar.from_text(f"S -> 'a' S [1/2] {empty}")
    assert grammar.log_prob([["a"] * n for n in range(50)]) == pytest.approx(-math.log(2) * np.arange(1, 51), rel=1e-14)
    assert grammar.entropy() == pytest.approx(2 * math.log(2), rel=1e-14)
    assert grammar.mean_length() == pytest.approx(1, rel=1e-14)
    assert Counter(map(len, grammar.sample(4000, 0)))[0] == pytest.approx(2000, abs=4 * math.sqrt(1000))
    assert Grammar.from_text(grammar.text()) == grammar


def test_epsilon_is_a_symbol_where_it_is_a_left_side():
    grammar = Grammar.from_text("S -> 'a' ε [1/2] | 'b' [1/2]\nε -> 'c' [1]")
    assert np.exp(grammar.log_prob([["a", "c"], ["b"], []])).tolist() == pytest.approx([1 / 2, 1 / 2, 0])
    assert Grammar.from_text(grammar.text()) == grammar


def test_symbols_that_derive_nothing_in_many_ways():
    p = 0.4  # S dies out: the probability v of no word solves v = p v^2 + (1 - p) / 2
    grammar = Grammar.from_text("S -> S S [2/5] | 'a' [3/10] | '' [3/10]")
    v = (1 - math.sqrt(1 - 4 * p * (1 - p) / 2)) / (2 * p)
    one = (1 - p) / 2 / (1 - 2 * p * v)  # and of one word: x = (1 - p) / 2 + 2 p v x
    two = p * one**2 / (1 - 2 * p * v)
    assert np.exp(grammar.log_prob([[], ["a"], ["a", "a"]])) == pytest.approx([v, one, two], rel=1e-13)
    critical = Grammar.from_text("S -> S S [499999/1000000] | '' [500001/1000000]")
    assert critical.log_prob([[]])[0] == pytest.approx(0, abs=1e-9)


def by_iteration(grammar, longest):
    """The probabilities of all strings of at most ``longest`` words, by adding up deeper and deeper derivations."""
    known = {left: Counter() for left in grammar.rules}
    for _ in range(400):
        after = {left: Counter() for left in grammar.rules}
        for left, alternatives in grammar.rules.items():
            for weight, right in alternatives:
                strings = {(): float(weight)}
                for symbol in right:
                    longer, ends = Counter(), {(symbol[1:],): 1.0} if symbol[0] == "'" else known[symbol]
                    for one, p in strings.items():
                        for other, q in ends.items():
                            if len(one) + len(other) <= longest:
                                longer[one + other] += p * q
                    strings = longer
                after[left].update(strings)
        done, known = all(abs(p - known[s][w]) < 1e-17 for s in after for w, p in after[s].items()), after
        if done:
            break
    return known[grammar.start]


def random_grammar(draw, lengths):
    """A grammar of up to three symbols and two words with right sides of these lengths."""
    names, lines = "ABC"[: draw.randint(1, 3)], []
    for left in names:
        rights = [draw.choices([*names, "'a'", "'b'"], k=draw.choice(lengths)) for _ in range(draw.choice([2, 3]))]
        weights = [draw.randint(1, 5) for _ in rights]
        alternatives = (f"{' '.join(r) or 'ε'} [{w}/{sum(weights)}]" for r, w in zip(rights, weights, strict=True))
        lines.append(f"{left} -> {' | '.join(alternatives)}")
    return Grammar.from_text("\n".join(lines))


@pytest.mark.parametrize(("lengths", "seed"), [([1, 1, 2, 3], 0), ([0, 1, 1, 2, 2, 3], 1)])
def test_log_prob_of_all_short_strings_of_random_grammars_by_brute_force(lengths, seed):
    draw, found = random.Random(seed), 0
    while found < 60:
        try:
            grammar = random_grammar(draw, lengths)
        except NeverEnding:
            continue
        table = by_iteration(grammar, 4)
        scores = grammar.log_prob([list(words) for words in table])
        assert scores == pytest.approx([math.log(p) for p in table.values()], abs=1e-10), grammar.text()
        strings = [[*map("ab".__getitem__, map(int, f"{k:b}"[1:]))] for k in range(1, 32)]
        lacking = [words for words in strings if tuple(words) not in table]
        assert (grammar.log_prob(lacking, strict=False) == -math.inf).all(), grammar.text()
        found += 1


def test_what_is_not_reachable_matters_to_no_method():
    plain = Grammar.from_text("S -> T [1]\nT -> 'a' [1/2] | 'b' [1/2]")
    useless = ["U -> U [1]", "U -> U U [1]", "U -> V [1]\nV -> U [1]", "U -> 'c' [1]", "U -> '' [1]", "U -> S U [1]"]
    for lines in useless:
        grammar = Grammar.from_text(f"{plain.text()}\n{lines}")
        assert grammar.log_prob([["a"]]) == plain.log_prob([["a"]])
        assert (grammar.entropy(), grammar.mean_length()) == (plain.entropy(), plain.mean_length())
        assert (grammar.vocabulary, grammar.recursive) == (plain.vocabulary, False)
        assert list(grammar.derivations()) == list(plain.derivations()) and list(grammar.shapes()) == list(plain.shapes())
        assert grammar.sample(5, 0) == plain.sample(5, 0)
    with pytest.raises(NeverEnding):
        Grammar.from_text("S -> 'a' [1/2] | U [1/2]\nU -> U [1]")  # and this loop is reached


CHAINS = {
    "right": ("Q{0} -> 'a' Q{1} [1/2] | 'b' [1/2]", "Q{0} -> 'b' [1]"),
    "left": ("Q{0} -> Q{1} 'a' [1/2] | 'b' [1/2]", "Q{0} -> 'b' [1]"),
    "units": ("Q{0} -> Q{1} [1/2] | 'b' [1/2]", "Q{0} -> 'a' [1]"),
    "empty": ("Q{0} -> Q{1} E [1]", "Q{0} -> 'b' [1/2] | '' [1/2]\nE -> '' [1]"),
}


@pytest.mark.parametrize("rule", CHAINS.values(), ids=CHAINS)
def test_no_method_recurses(rule):
    lines = [rule[0].format(i, i + 1) for i in range(3000)]
    grammar = Grammar.from_text("\n".join([*lines, rule[1].format(3000)]))
    assert grammar.text().count("\n") >= 3000 and not grammar.recursive
    assert grammar.entropy() == pytest.approx(math.log(2) * (1 if rule == CHAINS["empty"] else 2), rel=1e-12)
    assert grammar.log_prob([["b"]])[0] > -1
    assert len(grammar.sample(1, 0)) == 1
    assert sum(p for _, p in grammar.derivations()) == 1
    assert sum(p for p, _, _ in grammar.shapes()) == 1


def test_a_cycle_of_units_does_not_underflow():
    lines = [f"Q{i} -> Q{(i + 1) % 1500} [1/2] | 'w{i}' [1/2]" for i in range(1500)]
    found = Grammar.from_text("\n".join(lines)).log_prob([[f"w{i}"] for i in range(1500)])
    assert found == pytest.approx(-math.log(2) * np.arange(1, 1501), rel=1e-13)


def test_log_prob_where_what_a_sentence_needs_is_far_below_what_it_does_not():
    grammar = Grammar.from_text(
        "S -> A 'x' [1/2] | B 'y' [1/2]\nA -> 'a' A [1/1000] | 'a' [999/1000]\nB -> 'a' B [999/1000] | 'a' [1/1000]"
    )
    rare = math.log(1 / 2) + 299 * math.log(1 / 1000) + math.log(999 / 1000)
    assert grammar.log_prob([["a"] * 300 + ["x"]])[0] == pytest.approx(rare, rel=1e-12)  # e-2066: 0 in float64
    tiny = Grammar.from_text("S -> 'a' [1e-500] | 'b' [" + "0." + "9" * 500 + "]")
    assert tiny.log_prob([["a"], ["b"]]) == pytest.approx([-500 * math.log(10), 0], rel=1e-12)
    assert tiny.entropy() == pytest.approx(0, abs=1e-15)
    squares = Grammar.from_text(
        "A -> B B [1/2] | 'x' [1/2]\nB -> C C [1/2] | 'x' [1/2]\nC -> '' [1e-200] | 'x' [" + "0." + "9" * 200 + "]"
    )
    assert squares.log_prob([[]])[0] == pytest.approx(-3 * math.log(2) - 800 * math.log(10), rel=1e-12)


def test_sentences_of_400_words_take_seconds():
    grammar = Grammar.from_text("S -> S S [1/3] | 'a' [2/3]")
    start = time.process_time()
    found = grammar.log_prob([["a"] * 400])[0]
    assert time.process_time() - start < 2  # 0.1 s on an idle core
    n = 399
    catalan = math.lgamma(2 * n + 1) - math.lgamma(n + 1) - math.lgamma(n + 2)
    assert found == pytest.approx(catalan - n * math.log(3) + (n + 1) * math.log(2 / 3), rel=1e-10)


def test_shapes_do_not_take_a_word_for_a_class():
    grammar = Grammar.from_text("S -> N 'N' [1/2] | 'N' [1/2]\nN -> 'a' [1/2] | 'b' [1/2]")
    assert sorted(grammar.shapes()) == [(Fraction(1, 2), 1, 1), (Fraction(1, 2), 2, 2)]


SYMBOLS = st.text(st.sampled_from("SN'\"_-<>\\.ε²1{}u") | st.characters(), min_size=1, max_size=4).filter(is_symbol)
WORDS = st.text(st.sampled_from("aN'\"#|[]->\\ u{27}\n\u2028\ufeff") | st.characters(), min_size=1, max_size=8)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_text_round_trip_of_any_symbols_and_words(data):
    names = data.draw(st.lists(SYMBOLS, min_size=1, max_size=4, unique=True))
    rules = {}
    for i, left in enumerate(names):
        parts = [*names[i + 1 :], *("'" + word for word in data.draw(st.lists(WORDS, min_size=1, max_size=4)))]
        rights = data.draw(st.lists(st.lists(st.sampled_from(parts), max_size=4).map(tuple), min_size=1, max_size=3))
        weights = [data.draw(st.integers(1, 9)) for _ in rights]
        rules[left] = [(Fraction(w, sum(weights)), right) for w, right in zip(weights, rights, strict=True)]
    grammar = Grammar(data.draw(st.sampled_from(names)), rules)
    assert Grammar.from_text(grammar.text()) == grammar
    assert Grammar.from_text("\ufeff# a mark and a comment\n" + grammar.text()) == grammar


def test_symbols_of_linguists_and_escapes():
    text = "S' -> N' V_2 <np> N-1 [1]\nN' -> N'' [1]\nN'' -> 'n' [1]\nV_2 -> 'v' [1]\n<np> -> 'p' [1]\nN-1->'q'[1] # don't"
    assert Grammar.from_text(text).sample(1, 0) == [["n", "v", "p", "q"]]
    assert Grammar.from_text("N -> N'a' [1/2] | 'b' [1/2]").vocabulary == ["a", "b"]  # N and 'a': N'a' is no left side
    words = Grammar.from_text(r"""S -> '\' '\\alpha' "it\u{22}s 'it'" '\u{1F600}' [1]""").sample(1, 0)[0]
    assert words == ["\\", r"\\alpha", "it\"s 'it'", "\N{GRINNING FACE}"]


ROUNDED = {
    "thirds": ("'a' [0.333333] | 'b' [0.333333] | 'c' [0.333333]", [Fraction(1, 3)] * 3),
    "as Python prints them": ("'a' [0.16666666666666666] | 'b' [0.3333333333333333] | 'c' [0.5]", None),
    "cut off": ("'a' [0.6666666666666666] | 'b' [0.3333333333333333]", None),
    "too many": ("'a' [0.667] | 'b' [0.334]", [Fraction(667, 1001), Fraction(334, 1001)]),
    "as NLTK prints them": (
        " | ".join([f"'a{i}' [0.111111]" for i in range(6)] + [f"'b{i}' [0.0333333]" for i in range(10)]),
        None,
    ),
    "small ones": ("'a' [1e-05] | 'b' [0.99999] | 'c' [1.0e-17]", None),
}


@pytest.mark.parametrize(("right", "weights"), ROUNDED.values(), ids=ROUNDED)
def test_decimals_that_sum_to_1_within_rounding_are_divided_by_their_sum_and_said_to_be(right, weights):
    with pytest.warns(UserWarning, match="the weights of S sum to 1 .*, which is within the rounding of decimals"):
        grammar = Grammar.from_text(f"S -> {right}")
    found = [weight for weight, _ in grammar.rules["S"]]
    assert sum(found) == 1 and (weights is None or found == weights)
    assert Grammar.from_text(grammar.text()) == grammar  # without a warning


WRONG_SUMS = [
    "'a' [33333333/100000000] | 'b' [2/3]",  # fractions are taken at their word
    "'a' [0.3333] | 'b' [0.3333] | 'c' [0.3332]",  # off by more than three roundings
    "'a' [0.3] | 'b' [0.3] | 'c' [0.3]",  # off by more than a thousandth
    "'a' [0.5] | 'b' [0.49]",
    "'a' [0.50000002] | 'b' [0.5]",
    "'a' [0.25] | 'b' [0.75002]",
    "'a' [0.333333] | 'b' [0.333333]",
]


@pytest.mark.parametrize("right", WRONG_SUMS)
def test_near_misses_of_rounded_weights_are_refused(right):
    with pytest.raises(ValueError, match=r"the weights of S sum to .*; expected 1$"):
        Grammar.from_text(f"S -> {right}")


def test_exact_decimals_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for right in (
            "'a' [0.1] | 'b' [0.2] | 'c' [.7]",
            "'a' [1.] | 'b' [1e-2]".replace("1.", "99e-2"),
            "'a' [1]",
            "'a' [1.0]",
        ):
            assert sum(weight for weight, _ in Grammar.from_text(f"S -> {right}").rules["S"]) == 1


HALF = Fraction(1, 2)
MADE_BY_HAND = {
    "no rules": ("S", None),
    "a text for rules": ("S", "S -> 'a' [1]"),
    "a list for a start": (["S"], {"S": [(1, ("'a",))]}),
    "a number for a left side": ("S", {"S": [(1, ("'a",))], 2: [(1, ("'a",))]}),
    "None for alternatives": ("S", {"S": None}),
    "None for an alternative": ("S", {"S": [None]}),
    "an alternative without a weight": ("S", {"S": [("'a",)]}),
    "a set of alternatives": ("S", {"S": {(HALF, ("'a",)), (HALF, ("'b",))}}),
    "True for a weight": ("S", {"S": [(True, ("'a",))]}),
    "start": ("T", {"S": [(1, ("'a",))]}),
    "no alternative": ("S", {"S": []}),
    "a float": ("S", {"S": [(1.0, ("'a",))]}),
    "nan": ("S", {"S": [(math.nan, ("'a",))]}),
    "a negative weight": ("S", {"S": [(-HALF, ("'a",)), (3 * HALF, ("'b",))]}),
    "a string for a right side": ("S", {"S": [(1, "'a'")]}),
    "the empty word": ("S", {"S": [(1, ("'",))]}),
    "the empty symbol": ("S", {"S": [(1, ("",))]}),
    **{f"symbol {name!r}": (name, {name: [(1, ("'a",))]}) for name in ("a b", "", "#", "a->b", "'a", '"', "a|b", "[")},
}


@pytest.mark.parametrize(("start", "rules"), MADE_BY_HAND.values(), ids=MADE_BY_HAND)
def test_grammars_made_by_hand_are_checked_too(start, rules):
    with pytest.raises(ValueError, match="; expected "):
        Grammar(start, rules)


MORE_BAD = [
    ("S -> 'a' [-1/2] | 'b' [3/2]", r"line 1 has the weight \[-1/2\]"),
    ("S -> 'a' [nan]", r"line 1 has the weight \[nan\]"),
    ("S -> 'a' [inf]", r"line 1 has the weight \[inf\]"),
    ("S -> 'a' [1/0]", r"line 1 has the weight \[1/0\]"),
    ("S -> 'a' [1e-999999999]", r"line 1 has the weight"),
    ("S -> 'a' [1/" + "9" * 5000 + "]", r"line 1 has the weight"),
    ("S -> 'a'", "line 1 has the alternative \"'a'\"; expected symbols"),
    ("S ->", "line 1 has the alternative ''; expected symbols"),
    ("S -> N' [1]", "line 1 has .*; expected symbols, 'words'"),
    ("\ufeff", "the grammar has 0 rules"),
    ("S -> S 'a' [2/3] | 'a' S [1/3]", "spectral radius 1; expected < 1"),
    ("S -> A [1]\nA -> B B [1/2] | '' [1/2]\nB -> A [1]", "spectral radius 1; expected < 1"),
    ("\n".join(f"Q{i} -> Q{(i + 1) % 1000} [1]" for i in range(1000)), "not found to have a spectral radius < 1"),
    (
        "\n".join([f"S{i} -> S{i + 1} S{i + 1} [1]" for i in range(1100)] + ["S1100 -> 'a' [1]"]),
        "mean over derivations is inf",
    ),
    (b"S -> 'a' [1]", "the grammar is a bytes; expected a text of rules"),
]


@pytest.mark.parametrize(("text", "message"), MORE_BAD)
def test_more_bad_grammars_are_named(text, message):
    with pytest.raises(ValueError, match=message):
        Grammar.from_text(text).entropy()


def test_near_the_end_of_never():
    grammar = Grammar.from_text("S -> S [99999999/100000000] | 'a' [1/100000000]")
    assert grammar.log_prob([["a"]])[0] == pytest.approx(0, abs=1e-7)
    with pytest.raises(NeverEnding):
        Grammar.from_text("S -> S [99999999999/100000000000] | 'a' [1/100000000000]")
    growing = [f"A{i} -> A{i + 1} A{i + 1} [1]" for i in range(39)]  # 2^40 times 1e-13, once around
    around = Grammar.from_text("\n".join([*growing, "A39 -> A0 A0 [1e-13] | 'a' [0.9999999999999]"]))
    assert around.mean_length() == pytest.approx(2**39 * (1 - 1e-13) / (1 - 2**40 * 1e-13), rel=1e-9)


@pytest.mark.parametrize("sentences", [[{"a", "b"}], {"a": 1}, [{"a": 1}], {("a", "b")}])
def test_what_has_no_order_is_no_sentence(sentences):
    with pytest.raises(ValueError, match=r"expected a list of"):
        Grammar.from_text("S -> 'a' S [1/2] | 'b' [1/2]").log_prob(sentences)


@pytest.mark.parametrize(
    ("n", "seed", "message"),
    [
        *((n, 0, r"n is .*; expected a whole number from 0 to 1000000000") for n in (2.5, "3", None, math.nan, -1, True)),
        *((3, seed, "seed is .*; expected a whole number or a string") for seed in (None, math.nan, 2.5, [1], b"1", True)),
    ],
)
def test_a_sample_has_a_size_and_a_seed_that_draws_the_same_again(n, seed, message):
    grammar = Grammar.from_text("S -> 'a' S [1/2] | 'b' [1/2]")
    assert grammar.sample(np.int64(3), np.int64(2)) == grammar.sample(3, 2) != grammar.sample(3, -(2**99))
    with pytest.raises(ValueError, match=message):
        grammar.sample(n, seed)


def test_a_sentence_whose_chart_no_memory_holds_is_refused():
    grammar = Grammar.from_text("S -> 'a' S [1/2] | 'b' [1/2]")
    with pytest.raises(ValueError, match="the chart of a sentence of 400001 words is too large; expected shorter sentences"):
        grammar.log_prob([["a"] * 400_000 + ["b"]])
