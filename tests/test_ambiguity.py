"""Proofs of unambiguity and bounds on entropies against enumeration.   ./run_tests.sh tests/test_ambiguity.py"""

import math
import random
import time
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from memlm.ambiguity import AmbiguousGrammar, exact_entropy, proved_unambiguous, sentence_entropy
from memlm.grammar import Grammar, NeverEnding, is_terminal
from memlm.question import LEXICON, QuestionFormation

UNAMBIGUOUS = {
    "right-linear": "S -> 'a' S [1/2] | 'b' [1/2]",
    "left-linear": "S -> S 'a' [1/2] | T 'b' [1/4] | 'b' [1/4]\nT -> S 'c' [1]",
    "nested": "S -> 'a' S 'b' [1/2] | 'a' 'b' [1/2]",
    "palindromes with a centre": "S -> 'a' S 'a' [1/4] | 'b' S 'b' [1/4] | 'c' [1/2]",
    "told apart by the last word": "S -> A 'x' [1/2] | A 'y' [1/2]\nA -> 'a' A [1/2] | 'a' [1/2]",
    "equal words in different places": "S -> A A [1]\nA -> 'a' [1/2] | 'b' [1/2]",
    "an ambiguous symbol out of reach": "S -> 'a' [1]\nT -> 'b' [1/2] | 'b' [1/2]",
    "a loop out of reach": "S -> 'a' [1]\nT -> T [1]",
    "an empty end": "S -> 'a' S [1/2] | '' [1/2]",
    "an empty start": "S -> S 'a' [1/2] | '' [1/2]",
    "empty centres": "S -> 'a' S 'b' [1/2] | '' [1/2]",
    "an optional word": "S -> O 'b' [1]\nO -> 'a' [1/2] | '' [1/2]",
    "two optional words": "S -> O P [1]\nO -> 'a' O [1/3] | '' [2/3]\nP -> 'b' P [1/2] | '' [1/2]",
    "nothing but the empty sentence": "S -> E E [1]\nE -> '' [1]",
}
AMBIGUOUS = {
    "an alternative given twice": "S -> 'a' 'b' [1/2] | 'a' 'b' [1/2]",
    "a word given twice": "S -> 'a' S [1/2] | 'b' [1/4] | 'b' [1/4]",
    "alternatives with a common word": "S -> A [1/2] | B [1/2]\nA -> 'x' [1]\nB -> 'x' [1/2] | 'y' [1/2]",
    "a border that may move": "S -> A A [1]\nA -> 'a' [1/2] | 'a' 'a' [1/2]",
    "dangling else": "S -> 'if' S [1/4] | 'if' S 'else' S [1/4] | 'x' [1/2]",
    "any bracketing": "S -> S S [1/3] | 'a' [2/3]",
    "cycle of unit rules": "S -> A [1]\nA -> B [1/2] | 'a' [1/2]\nB -> A [1/2] | 'b' [1/2]",
    "the empty alternative given twice": "S -> 'a' S [1/2] | '' [1/4] | '' [1/4]",
    "two places for an optional word": "S -> O O [1]\nO -> 'a' [1/2] | '' [1/2]",
    "empty brackets": "S -> 'a' S 'b' S [1/8] | S S [1/8] | '' [3/4]",
    "a cycle through what is empty": "S -> E S [1/2] | 'a' [1/2]\nE -> '' [1]",
    "two ways to say nothing": "S -> A [1/2] | B [1/2]\nA -> 'a' [1/2] | '' [1/2]\nB -> 'b' [1/2] | '' [1/2]",
    "two modifiers": "N -> 'n' [1/2] | N P [1/2]\nP -> 'p' N [1/3] | 'p' [2/3]",
}


@pytest.mark.parametrize("text", UNAMBIGUOUS.values(), ids=UNAMBIGUOUS)
def test_unambiguous_grammars_are_proved_and_their_entropy_is_that_of_derivations(text):
    grammar = Grammar.from_text(text)
    assert proved_unambiguous(grammar)
    assert exact_entropy(grammar) == grammar.entropy()


@pytest.mark.parametrize("text", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_planted_ambiguous_grammars_are_not_proved_unambiguous(text):
    grammar = Grammar.from_text(text)
    assert not proved_unambiguous(grammar)
    if grammar.recursive:
        with pytest.raises(AmbiguousGrammar, match=r"is between [\d.]+ and [\d.]+ nats; expected a grammar that is proved"):
            exact_entropy(grammar)
    else:
        assert exact_entropy(grammar) < grammar.entropy() - 0.1


def test_an_unambiguous_grammar_whose_proof_is_not_found_is_refused_too():
    arithmetic = Grammar.from_text("E -> E '+' T [1/3] | T [2/3]\nT -> '(' E ')' [1/3] | 'n' [2/3]")
    found = sentence_entropy(arithmetic)
    assert not found.exact and found.lower < arithmetic.entropy()
    assert found.upper == pytest.approx(arithmetic.entropy(), rel=1e-12)  # nothing is unknown of a derivation


def test_a_chain_of_many_positions_is_proved():
    chain = "S{0} -> 'a' S{1} [1/2] | 'b' T{1} [1/2]\nT{0} -> 'a' S{1} [1/4] | 'b' T{1} [3/4]"
    lines = [chain.format(i, i + 1) for i in range(60)]
    grammar = Grammar.from_text("\n".join([*lines, "S60 -> 'a' [1]", "T60 -> 'b' [1]"]))
    assert proved_unambiguous(grammar)
    assert 60 * 0.5 < exact_entropy(grammar) < 60 * math.log(2)


def test_a_word_in_two_classes_makes_question_formation_ambiguous():
    sheep = {name: [*words, "sheep"] if name in ("N_s", "N_p") else words for name, words in LEXICON.items()}
    with pytest.raises(AmbiguousGrammar, match="the entropy of sentences is between"):
        QuestionFormation(lexicon=sheep).entropy_rate()
    # An adposition that is a verb too is harmless: its place tells which it is.
    harmless = {name: [*words, "near"] if name == "V_i" else words for name, words in LEXICON.items()}
    assert QuestionFormation(lexicon=harmless).entropy_rate().nats > QuestionFormation().entropy_rate().nats


def random_grammar(draw, recursive, lengths=(1, 1, 2, 2, 3)):
    """A grammar with symbols A, B, C and one or two words; without recursion, a symbol calls later ones only."""
    names, lines = "ABC", []
    for i, left in enumerate(names):
        callable = names if recursive else names[i + 1 :]
        rights = []
        for _ in range(draw.choice([1, 2, 2, 3])):
            rights.append([draw.choice([*callable, "'a'", "'b'", "'a'"]) for _ in range(draw.choice(lengths))])
        lines.append(f"{left} -> " + " | ".join(f"{' '.join(right) or 'ε'} [1/{len(rights)}]" for right in rights))
    return Grammar.from_text("\n".join(lines))


def test_for_finite_languages_the_proof_decides():
    draw, decided = random.Random(0), Counter()
    for _ in range(400):
        grammar = random_grammar(draw, recursive=False)
        words = [words for words, _ in grammar.derivations()]
        unambiguous = len(set(words)) == len(words)
        assert proved_unambiguous(grammar) == unambiguous, grammar.text()
        decided[unambiguous] += 1
    assert min(decided.values()) > 50


def short_derivations(grammar, longest):
    """The sentence of every derivation with at most ``longest`` words, once per derivation; chains of units up to 6."""
    found, forms = Counter(), [((grammar.start,), 0)]
    while forms:
        form, units = forms.pop()
        at = next((i for i, symbol in enumerate(form) if not is_terminal(symbol)), None)
        if at is None:
            found[form] += 1
            continue
        for _, right in grammar.rules[form[at]]:
            chain = units + 1 if len(right) == 1 and not is_terminal(right[0]) else 0
            if len(form) + len(right) - 1 <= longest and chain <= 6:
                forms.append((form[:at] + right + form[at + 1 :], chain))
    return found


def test_no_recursive_grammar_proved_unambiguous_derives_a_short_sentence_twice():
    draw, proved, refused = random.Random(1), 0, 0
    while proved < 100:
        try:
            grammar = random_grammar(draw, recursive=True)
        except NeverEnding:
            continue
        if not grammar.recursive:
            continue
        if proved_unambiguous(grammar):
            assert max(short_derivations(grammar, 7).values(), default=0) <= 1, grammar.text()
            proved += 1
        else:
            refused += 1
    assert refused > 100


def test_for_finite_languages_with_empty_alternatives_the_proof_decides_and_the_bounds_hold():
    draw, decided = random.Random(3), Counter()
    for _ in range(400):
        grammar, table = random_grammar(draw, recursive=False, lengths=(0, 1, 1, 2, 2, 3)), Counter()
        sentences = list(grammar.derivations())
        for words, probability in sentences:
            table[words] += probability
        assert proved_unambiguous(grammar) == (len(table) == len(sentences)), grammar.text()
        decided[len(table) == len(sentences)] += 1
        exact = math.fsum(-float(p) * math.log(p) for p in table.values())
        for effort in (1, 10, 1000):
            found = sentence_entropy(grammar, effort)
            assert found.lower - 1e-12 <= exact <= found.upper + 1e-12, grammar.text()
        assert found.exact
    assert min(decided.values()) > 50


def derivation_counts(grammar, longest, depth):
    """How many derivations of at most that depth the short strings have."""
    known = {left: Counter() for left in grammar.rules}
    for _ in range(depth):
        after = {left: Counter() for left in grammar.rules}
        for left, alternatives in grammar.rules.items():
            for _, right in alternatives:
                strings = Counter({(): 1})
                for symbol in right:
                    longer = Counter()
                    for one, n in strings.items():
                        for other, m in ({(symbol[1:],): 1} if is_terminal(symbol) else known[symbol]).items():
                            if len(one) + len(other) <= longest:
                                longer[one + other] += n * m
                    strings = longer
                after[left].update(strings)
        known = after
    return known[grammar.start]


def test_no_recursive_grammar_with_empty_alternatives_that_is_proved_derives_a_short_sentence_twice():
    draw, proved, refused = random.Random(4), 0, 0
    while proved < 100:
        try:
            grammar = random_grammar(draw, recursive=True, lengths=(0, 1, 1, 2, 2, 3))
        except NeverEnding:
            continue
        if not grammar.recursive:
            continue
        if proved_unambiguous(grammar):
            assert max(derivation_counts(grammar, 5, 8).values(), default=0) <= 1, grammar.text()
            proved += 1
        else:
            refused += 1
    assert refused > 100


def test_bounds_where_a_sentence_has_infinitely_many_derivations():
    grammar = Grammar.from_text("S -> S S [2/5] | 'a' [3/10] | '' [3/10]")
    logs = grammar.log_prob([["a"] * n for n in range(300)])
    series = -math.fsum(np.exp(logs) * logs)
    assert math.fsum(np.exp(logs)) == pytest.approx(1, abs=1e-12)
    found = [sentence_entropy(grammar, effort) for effort in (10, 100, 1000, 10_000)]
    for bounds in found:
        assert not bounds.exact
        assert bounds.lower - 1e-11 <= series <= bounds.upper + 1e-11 and bounds.upper < grammar.entropy() - 0.1
    gaps = [bounds.upper - bounds.lower for bounds in found]
    assert all(after < before for before, after in pairwise(gaps)) and gaps[-1] < 1e-3
    one = sentence_entropy(Grammar.from_text("S -> E S [1/2] | 'a' [1/2]\nE -> '' [1]"))  # one sentence, many derivations
    assert (one.lower, one.upper) == pytest.approx((0, 0), abs=1e-9)
    none = sentence_entropy(Grammar.from_text("S -> S S [1/4] | '' [3/4]"))
    assert (none.lower, none.upper) == pytest.approx((0, 0), abs=1e-9)


RINGS = {
    "right": "Q{0} -> 'a' Q{1} [1/2] | 'b' [1/2]",
    "left": "Q{0} -> Q{1} 'a' [1/2] | 'b' [1/2]",
    "with an empty end": "Q{0} -> 'a' Q{1} [1/2] | '' [1/2]",
    "two turns": "Q{0} -> 'a' Q{1} [1/4] | 'c' Q{2} [1/4] | 'b' [1/2]",
}


@pytest.mark.parametrize("rule", RINGS.values(), ids=RINGS)
def test_rings_and_chains_of_a_thousand_symbols_are_proved_in_seconds(rule):
    start = time.process_time()
    ring = Grammar.from_text("\n".join(rule.format(i, (i + 1) % 1000, (7 * i + 3) % 1000) for i in range(1000)))
    assert exact_entropy(ring) == ring.entropy() and ring.recursive
    lines = [rule.format(i, i + 1, min(i + 7, 1000)) for i in range(1000)]
    chain = Grammar.from_text("\n".join([*lines, "Q1000 -> 'd' [1]"]))
    assert exact_entropy(chain) == chain.entropy() and not chain.recursive
    assert time.process_time() - start < 8  # at most 1.5 s on an idle core


def test_the_work_of_a_proof_grows_with_the_grammar_where_words_close_what_is_embedded():
    for n in (20, 400):
        ring = [f"Q{i} -> 'a' Q{(i + 1) % n} 'b' [1/2] | 'c' [1/2]" for i in range(n)]
        assert proved_unambiguous(Grammar.from_text("\n".join(ring)), steps=40 * n)
    for n in (5, 20):
        every = [" | ".join(f"'a{j}' Q{j} 'b{i}' [1/{2 * n}]" for j in range(n)) for i in range(n)]
        net = [f"Q{i} -> {rights} | 'c' [1/2]" for i, rights in enumerate(every)]
        assert proved_unambiguous(Grammar.from_text("\n".join(net)), steps=40 * n**2)
    crossed = "S -> 'a' Q 'b' 'b' [1/2] | 'c' [1/2]\nQ -> S 'b' [1/2] | S [1/2]"
    assert not proved_unambiguous(Grammar.from_text(crossed))  # a a c b b b b b, whose Q differ in either order


def test_a_planted_ambiguity_far_down_a_chain_is_found():
    lines = [f"Q{i} -> 'a' Q{i + 1} [1/2] | 'b' [1/2]" for i in range(1000)]
    for end in ("Q1000 -> 'a' [1/2] | 'a' [1/2]", "Q1000 -> 'a' Q1001 [1/2] | Q1001 'a' [1/2]\nQ1001 -> 'a' [1]"):
        grammar = Grammar.from_text("\n".join([*lines, end]))
        assert not proved_unambiguous(grammar)
        assert sentence_entropy(grammar)[2:] == (True, 1.0)  # not by a proof: a finite language was added up by sentence


def test_unit_chains_of_thousands_are_added_up_where_a_proof_is_too_large():
    lines = [f"Q{i} -> Q{i + 1} [1/2] | 'b{i}' [1/2]" for i in range(1500)]
    chain = Grammar.from_text("\n".join([*lines, "Q1500 -> 'c' [1]"]))
    assert sentence_entropy(chain) == pytest.approx((2 * math.log(2), 2 * math.log(2), True, 1), rel=1e-12)


@pytest.mark.parametrize("function", [proved_unambiguous, sentence_entropy, exact_entropy])
def test_a_text_of_rules_is_no_grammar(function):
    with pytest.raises(ValueError, match=r"the grammar is .*; expected a Grammar, as Grammar.from_text makes it"):
        function("S -> 'a' [1]")


@pytest.mark.parametrize("p", [Fraction(1, 5), Fraction(1, 3), Fraction(9, 20)])
def test_bracketings_have_the_entropy_of_the_catalan_series(p):
    grammar = Grammar.from_text(f"S -> S S [{p}] | 'a' [{1 - p}]")
    n = np.arange(1, 20_000)  # P(a^(n + 1)) = P(a^n) p (1 - p) (4 n - 2) / (n + 1), as the Catalan numbers grow
    logs = np.cumsum(np.log([float(1 - p), *(float(p * (1 - p)) * (4 * n - 2) / (n + 1))]))
    catalan = [math.comb(2 * k, k) // (k + 1) for k in range(30)]
    assert logs[:30] == pytest.approx([math.log(c * p**k * (1 - p) ** (k + 1)) for k, c in enumerate(catalan)], rel=1e-12)
    assert grammar.log_prob([["a"] * n for n in range(1, 31)]) == pytest.approx(logs[:30], rel=1e-12)
    # What is left of the series: its terms fall by at least 4 p (1 - p) <= 0.99 each, to e^-200 at its end.
    series = -math.fsum(np.exp(logs) * logs)
    found = [sentence_entropy(grammar, effort) for effort in (100, 1000, 10_000)]
    for bounds in found:
        assert not bounds.exact
        assert bounds.lower <= series <= bounds.upper < grammar.entropy() - 0.1
    gaps = [bounds.upper - bounds.lower for bounds in found]
    assert all(after < 0.95 * before for before, after in pairwise(gaps))


def test_bounds_enclose_the_entropy_of_finite_ambiguous_languages_and_tighten():
    draw, checked, strict = random.Random(2), 0, 0
    while checked < 100:
        grammar = random_grammar(draw, recursive=False)
        table = Counter()
        for words, probability in grammar.derivations():
            table[words] += probability
        if len(table) < 3 or proved_unambiguous(grammar):
            continue
        exact = math.fsum(-float(p) * math.log(p) for p in table.values())
        assert exact_entropy(grammar) == pytest.approx(exact, abs=1e-12)
        found = [sentence_entropy(grammar, effort) for effort in range(1, 30, 2)]
        bounds = [b for b in found if not b.exact]
        for b in bounds:  # 1e-12: rounding, where all is enumerated
            assert b.lower - 1e-12 <= exact <= b.upper + 1e-12, grammar.text()
        assert all(a.lower <= b.lower + 1e-12 and b.upper <= a.upper + 1e-12 for a, b in pairwise(bounds))
        strict += any(b.lower < exact - 1e-3 and exact + 1e-3 < b.upper for b in bounds)
        checked += bool(bounds)
    assert strict > 20


def test_bounds_with_chains_of_unit_rules():
    loop = Grammar.from_text(AMBIGUOUS["cycle of unit rules"])  # a with 2/3, b with 1/3, each after any number of rounds
    found = sentence_entropy(loop)
    exact = math.log(3) - 2 / 3 * math.log(2)
    assert (found.lower, found.upper) == pytest.approx((exact, exact), abs=1e-9)
    assert loop.entropy() > exact + 0.5


def test_planted_bounds_are_refused_by_the_series():
    """What a careless bound would say: derivations counted as sentences, or the rest left out of the upper bound."""
    grammar = Grammar.from_text(AMBIGUOUS["any bracketing"])
    found = sentence_entropy(grammar)
    assert found.lower == pytest.approx(found.upper, abs=1e-6)
    assert not found.lower <= grammar.entropy() <= found.upper
    few = sentence_entropy(grammar, effort=20)
    short = grammar.log_prob([["a"], ["a"] * 2, ["a"] * 3])
    assert not found.lower <= -sum(math.exp(x) * x for x in short) <= found.upper
    assert few.lower < found.lower and found.upper < few.upper


def test_several_empty_alternatives_are_as_many_derivations():
    grammar = Grammar.from_text("S -> S 'b' [5/8] | '' [1/8] | '' [1/4]")
    few, many = (sentence_entropy(grammar, effort) for effort in (1_000, 100_000))
    # lengths are geometric, and of each sentence only which empty side it began with is unknown
    exact = -math.log(3 / 8) - 5 / 3 * math.log(5 / 8)
    assert many.lower == pytest.approx(exact, abs=1e-9) and many.upper == pytest.approx(exact, abs=1e-9)
    assert few.lower <= exact + 1e-9 and exact - 1e-9 <= few.upper <= grammar.entropy()


def test_a_rule_counts_however_small_its_weight():
    tiny = 10**400
    grammar = Grammar.from_text(f"S -> S 'b' S [1/{tiny}] | 'a' [{tiny - 1}/{tiny}]")
    assert grammar.recursive and not proved_unambiguous(grammar)
    assert 0 <= sentence_entropy(grammar).lower <= 1e-12


def test_a_list_of_lines_is_added_up_instead_of_compared_pair_by_pair():
    grammar = Grammar.from_text("S -> " + " | ".join(f"'the' 'w{i}' 'x' [1/3000]" for i in range(3000)))
    begun = time.perf_counter()
    found = sentence_entropy(grammar)
    assert found.exact and found.lower == pytest.approx(math.log(3000), rel=1e-12)
    assert time.perf_counter() - begun < 20  # it took 37 s
