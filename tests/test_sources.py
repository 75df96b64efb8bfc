"""Sources against closed forms, sampling and wrong lines.   ./run_tests.sh tests/test_sources.py"""

import math
import time
from collections import Counter
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest

from memlm import batches, corpora, sources
from memlm.ambiguity import AmbiguousGrammar, proved_unambiguous, sentence_entropy
from memlm.configs import DataConfig
from memlm.grammar import Grammar
from memlm.question import LEXICON, QuestionFormation, complete, split_line, text_lines
from memlm.sources import MEMORISED, SOURCES, Copies, Pairs, Sentences, reinflect, scaled_lexicon, source

EVERY = pytest.mark.parametrize("name", SOURCES)
LINES = {name: source(name).sample(10_000, seed=0) for name in SOURCES}
PAIRED = [name for name, lines in LINES.items() if "\t" in lines[0]]


@EVERY
def test_the_entropy_of_a_source_is_proved_and_is_what_sampled_lines_cost(name):
    language = source(name)
    assert proved_unambiguous(language.grammar)
    start = time.process_time()
    nats = -language.log_prob(LINES[name])
    assert time.process_time() - start < 4  # at most 1.5 s on an idle core
    rate = language.entropy_rate()
    tokens = np.array([len(line.split()) + 1 for line in LINES[name]])
    for values, mean in ((nats, rate.nats), (tokens, rate.tokens)):
        assert abs(values.mean() - mean) <= 3 * values.std() / 100 + 1e-9  # 10,000 lines; three standard errors
    assert rate.total == pytest.approx(rate.nats / rate.tokens, rel=1e-12)
    assert tokens.max() <= 60
    assert {word for line in LINES[name] for word in line.split()} <= set(language.vocabulary)
    assert language.vocabulary == sorted(set(language.vocabulary))
    assert language.sample(50, seed=0) == LINES[name][:50] != language.sample(50, seed=1)


def test_the_rates_are_spread_around_1():
    rates = sorted(language.entropy_rate().total for language in SOURCES.values())
    assert len(rates) >= 8
    assert rates[0] < 0.4 and rates[-1] > 2.5
    assert sum(rate < 0.8 for rate in rates) >= 3 and sum(rate > 1.2 for rate in rates) >= 4


def test_closed_forms():
    geometric = Sentences(Grammar.from_text("S -> 'a' S [3/4] | 'a' [1/4]")).entropy_rate()
    h = -math.log(1 / 4) / 4 - math.log(3 / 4) * 3 / 4
    assert geometric[:2] == pytest.approx((4 * h / 5,) * 2, rel=1e-12)  # four words and an end, h for each word
    assert math.isnan(geometric.after)
    assert source("clock").entropy_rate().total == pytest.approx(8 * (math.log(8) / 4 - math.log(3 / 4) * 3 / 4) / 17)
    zipf = [1 / k / sum(1 / i for i in range(1, 21)) for k in range(1, 21)]
    stop = -math.log(1 / 5) / 5 - math.log(4 / 5) * 4 / 5
    exact = 5 * (stop - math.fsum(p * math.log(p) for p in zipf)) / 6
    assert source("words").entropy_rate().total == pytest.approx(exact, rel=1e-12)


def test_tense_by_enumeration_of_a_grammar_of_two_words_a_class():
    text = source("tense reinflection").grammar.text()
    few = {"Det": ["the"], "N_s": ["newt"], "N_p": ["newts"], "Prep": ["by"], "Verb": ["amused", "admired"]}
    lines = [line for line in text.splitlines() if line.split()[0] not in few]
    lines += [f"{left} -> " + " | ".join(f"'{w}' [1/{len(words)}]" for w in words) for left, words in few.items()]
    small = Pairs(Grammar.from_text("\n".join(lines)), reinflect)
    table = dict(small.grammar.derivations())
    assert len(table) == 2 * 2 * (2 + 4) ** 2 and sum(table.values()) == 1
    rate = small.entropy_rate()
    assert rate.nats == pytest.approx(-math.fsum(float(p) * math.log(p) for p in table.values()), rel=1e-12)
    assert rate.tokens == pytest.approx(float(sum(2 * p * len(words) for words, p in table.items())), rel=1e-12)


@pytest.mark.parametrize("factor", [Fraction(1, 4), Fraction(1, 2), 2, 4])
def test_a_scaled_lexicon_changes_the_words_entropy_alone(factor):
    lexicon = scaled_lexicon(factor)
    for name, words in LEXICON.items():
        fixed = name.startswith(("Aux", "Rel"))
        assert len(set(lexicon[name])) == (len(words) if fixed else math.ceil(len(words) * factor)), name
        assert set(words) & set(lexicon[name])
    every = [word for words in lexicon.values() for word in words]
    assert len(every) == len(set(every))  # so that no word is in two classes
    assert scaled_lexicon(1) == LEXICON


def test_multiplying_the_lexicon_adds_the_logarithm_for_each_content_word():
    once, twice, four = (source(f"{n}").entropy_rate() for n in ("question formation", "double lexicon", "fourfold lexicon"))
    assert once.tokens == twice.tokens == four.tokens
    content = {word for name, words in LEXICON.items() if not name.startswith(("Aux", "Rel")) for word in words}
    counts = np.array([sum(w in content for w in line.split("\t")[0].split()) for line in LINES["question formation"]])
    mean = (twice.nats - once.nats) / math.log(2)
    assert four.nats - twice.nats == pytest.approx(twice.nats - once.nats, rel=1e-12)
    assert abs(counts.mean() - mean) < 3 * counts.std() / 100


def test_reinflection_agrees_with_the_subject():
    cases = {
        "the newt admired some yaks . past": "the newt admired some yaks .",
        "the newt by my yaks admired some yak . present": "the newt by my yaks admires some yak .",
        "her vultures near my yak accepted the newt . present": "her vultures near my yak accept the newt .",
    }
    for first, second in cases.items():
        assert reinflect(first.split()) == second.split()
        log_prob = source("tense reinflection").log_prob([f"{first}\t{second}", f"{first}\t{second} ."])
        assert log_prob[0] > -30 and log_prob[1] == -math.inf


@pytest.mark.parametrize("name", PAIRED)
def test_outputs_are_a_function_of_the_first_half_and_any_other_is_refused(name):
    assert len(PAIRED) >= 8
    language, known = source(name), {}
    for line in LINES[name]:
        first, second = line.split("\t")
        assert known.setdefault(first, second) == second
        assert len(second.split()) == len(first.split()) - 1
    # Some first halves came twice, except among the 3e20 of the largest source.
    assert len(known) < len(LINES[name]) or name == "fourfold lexicon"
    halves = [line.split("\t") for line in LINES[name][:40]]
    wrong = {
        "backwards": [f"{first}\t{' '.join(second.split()[::-1])}" for first, second in halves],
        "without the last word": [f"{first}\t{second.rsplit(' ', 1)[0]}" for first, second in halves],
        "another line's": [f"{first}\t{second}" for (first, _), (_, second) in pairwise(halves)],
        "none": [f"{first}\t" for first, _ in halves],
    }
    altered = {kind: [line for line in lines if line not in LINES[name]] for kind, lines in wrong.items()}
    assert all(len(lines) > 30 for lines in altered.values())
    assert (language.log_prob([line for lines in altered.values() for line in lines]) == -math.inf).all()


@EVERY
def test_lines_that_a_source_lacks(name):
    language, paired = source(name), name in PAIRED
    cut = [
        " ".join(language.split(line)[0][1:]) + ("\t" + line.split("\t")[1] if paired else "") for line in LINES[name][:50]
    ]
    if name != "words":  # there any string of words is a line
        assert (language.log_prob(cut) == -math.inf).all()
    if not paired:
        assert language.log_prob([LINES[name][0] + "\t" + LINES[name][0]]).tolist() == [-math.inf]


@pytest.mark.parametrize("name", [*SOURCES, *MEMORISED])
def test_an_unknown_word_takes_no_other_line_with_it_and_a_text_is_no_list_of_lines(name):
    language = source(name)
    line = language.sample(1, seed=0)[0]
    words = line.split(" ")
    strange = [line.replace(words[0], "zzz", 1), " ".join([*words[:-1], "zzz"]), line]
    found = language.log_prob(strange)
    assert found[:2].tolist() == [-math.inf] * 2 and found[2] == language.log_prob([line])[0] > -math.inf
    with pytest.raises(ValueError, match=r"lines is .*; expected a list of lines"):
        language.log_prob(line)


def test_a_grammar_of_unknown_entropy_is_refused_with_its_bounds():
    bracketing = Sentences(Grammar.from_text("S -> S S [1/3] | 'a' [2/3]"))
    with pytest.raises(AmbiguousGrammar, match=r"between 1\.25282 and 1\.25282 nats"):
        bracketing.entropy_rate()
    assert np.isfinite(bracketing.log_prob(bracketing.sample(100, seed=0))).all()
    with pytest.raises(ValueError, match="the grammar has the word 'New York'; expected words without white space"):
        Sentences(Grammar.from_text("S -> 'New York' [1]"))
    halved = Pairs(Grammar.from_text("S -> 'a' S [3/4] | 'b' [1/4]"), lambda first: first[::2])
    with pytest.raises(ValueError, match=r"the output of '.*' has \d words; expected \d"):
        halved.sample(10, seed=0)


@EVERY
def test_a_corpus_of_any_source_is_encoded_and_loaded(name):
    corpus = corpora.load_lines(name, train_lines=300)
    assert (corpus.source, len(corpus.train), len(corpus.dev), len(corpus.test)) == (name, 300, 1000, 10_000)
    inputs, targets, first_half = corpora.encode(corpus.train, corpus.vocabulary)
    kept = targets != corpora.IGNORED
    assert kept.sum(1).tolist() == [len(line.split()) + 1 for line in corpus.train]
    # The marked targets are as many as the rate's: half of them, or all.
    assert first_half.sum() == (kept.sum() / 2 if name in PAIRED else kept.sum())
    assert not (first_half & ~kept).any()
    names = ("", *corpus.vocabulary)
    assert " ".join(names[i] for i in inputs[0] if i) == " ".join(corpus.train[0].split())
    data = batches.load(DataConfig(name, corpus.digest, 300), context=64)
    assert len(data) == 300 and set(data.held()["dev"][2]) == ({"before", "after"} if name in PAIRED else set())


def test_a_corpus_depends_on_the_seed_alone_and_another_one_is_refused():
    corpus = corpora.load_lines("clock", train_lines=300)
    assert corpus == corpora.load_lines("clock", train_lines=300) != corpora.load_lines("clock", train_lines=300, seed=1)
    assert corpora.load_lines("clock", train_lines=400).train[:300] == corpus.train
    with pytest.raises(corpora.CorpusError, match=r"the data of 'clock' have digest .*; expected 000"):
        batches.load(DataConfig("clock", "0" * 64, 300), context=64)
    with pytest.raises(ValueError, match="source is 'wiki'; expected one of clock"):
        corpora.load_lines("wiki")


def test_parts_are_draws_from_the_source_where_distinct_lines_would_not_be():
    language, corpus = source("clock"), corpora.load_lines("clock", train_lines=20_000)
    nats = language.entropy_rate().nats
    for part in (corpus.train, corpus.dev, corpus.test):
        paid = -language.log_prob(part)
        assert len(set(part)) < len(part)
        assert abs(paid.mean() - nats) < 3 * paid.std() / math.sqrt(len(part))
    assert -language.log_prob(sorted(set(corpus.train))).mean() > nats + 2
    assert set(corpus.train) & set(corpus.dev)


def test_copies_against_every_line_and_against_a_grammar():
    few = Copies(prototypes=2, length=4, words=5, damage=Fraction(1, 3))
    lines = [" ".join(words) for words in product(few.vocabulary, repeat=4)]
    p = np.exp(few.log_prob(lines))
    assert p.sum() == pytest.approx(1, abs=1e-12) and (p > 0).sum() == 2 * 2**3
    assert -(p[p > 0] * np.log(p[p > 0])).sum() == pytest.approx(few.entropy_rate().nats, rel=1e-12)
    assert few.log_prob(["", "w0 w1", "x w1 w2 w3", f"{lines[0]} w0"]).tolist() == [-math.inf] * 4
    counts = Counter(few.sample(20_000, seed=0))
    # 38: 99.9 % of chi-square with 15 degrees of freedom
    assert sum((counts[line] - 20_000 * q) ** 2 / (20_000 * q) for line, q in zip(lines, p, strict=True) if q) < 38
    assert few.sample(50, seed=0) == few.sample(50, seed=0) != few.sample(50, seed=1)


def test_one_of_the_two_kinds_of_lines_to_be_memorised_is_well_separated():
    apart = {}
    for name in MEMORISED:
        lines = np.array([line.split() for line in corpora.load(name, 64).train])
        assert lines.shape == (64, 48)
        apart[name] = ((lines[:, None] != lines).sum(-1) + 48 * np.eye(64, dtype=int)).min(1)
    assert apart["well separated"].min() > 38
    assert np.median(apart["near duplicates"]) < 10 and (apart["near duplicates"] < 15).sum() >= 62


ANY = ["clock", "question formation", "tense reinflection", "words", "well separated", "near duplicates"]


@pytest.mark.parametrize("name", ANY)
def test_an_unknown_word_is_minus_infinity_and_leaves_the_other_lines_alone(name):
    language = source(name)
    lines = language.sample(4, seed=0)
    known = language.log_prob(lines)
    assert np.isfinite(known).all()
    for place in range(3):
        words = lines[1].replace("\t", " \t ").split(" ")
        words[place] = "zzz"
        wrong = [lines[0], " ".join(words), *lines[2:], lines[3].replace(lines[3].split()[-1], "Zz")]
        found = language.log_prob(wrong)
        assert found[[0, 2, 3]].tolist() == known[[0, 2, 3]].tolist() and found[[1, 4]].tolist() == [-math.inf] * 2
    assert language.log_prob([]).shape == (0,)


@pytest.mark.parametrize("name", ANY)
def test_one_string_is_no_list_of_lines(name):
    language = source(name)
    line = language.sample(1, seed=0)[0]
    for lines in (line, line.encode(), None, 7):
        with pytest.raises(ValueError, match=r"lines is .*; expected a list of lines"):
            language.log_prob(lines)
    for lines in ([line, None], [line, line.split()], [line, b""]):
        with pytest.raises(ValueError, match=r"line 1 is .*; expected a string"):
            language.log_prob(lines)
    with pytest.raises(ValueError, match=r"line 0 is .*; expected a string"):
        language.split(line.split())
    assert language.log_prob((line, line)).shape == language.log_prob(np.array([line, line])).shape == (2,)


@pytest.mark.parametrize("name", ANY)
def test_a_tab_too_many_is_no_line(name):
    language = source(name)
    line = language.sample(1, seed=0)[0]
    first, *words = line.split(" ")
    found = language.log_prob([line, line + "\t", line + "\t" + line, "\t".join([first, " ".join(words)])])
    assert found[0] > -math.inf and (found[1:] == -math.inf).all()


def test_functions_of_a_first_half_take_no_string():
    for function in (reinflect, source("tense reinflection").output):
        for first in ("the newt admired some yaks . past", "past", b"past"):
            with pytest.raises(ValueError, match=r"first half is .*; expected a list of words"):
                function(first)
        for first in ([], ["past"], ["the", "newt", "decl"]):
            with pytest.raises(ValueError, match=r"first half is .*; expected words of which the last is past or present"):
                function(first)
    with pytest.raises(ValueError, match="the output of 'a b' is 'a'; expected a list of words"):
        Pairs(Grammar.from_text("S -> 'a' 'b' [1]"), lambda first: first[0]).sample(1, 0)
    with pytest.raises(ValueError, match="more is 'words'; expected a list of words"):
        Pairs(Grammar.from_text("S -> 'a' 'b' [1]"), lambda first: first[:1], "words")


def test_a_source_with_empty_lines():
    language = Sentences(Grammar.from_text("S -> 'a' S [1/2] | '' [1/2]"))
    assert "" in language.sample(10, seed=0)
    assert language.log_prob(["", " ", "a", "a a", "b"]).tolist() == [
        *[-math.log(2)] * 2,
        *(pytest.approx(-k * math.log(2)) for k in (2, 3)),
        -math.inf,
    ]
    assert language.entropy_rate().total == pytest.approx(math.log(2), rel=1e-12)  # 2 log 2 over a word and an end
    with pytest.raises(ValueError, match="the grammar has the sentence ''; expected a last word"):
        Pairs(language.grammar, lambda first: first[:-1])
    with pytest.raises(ValueError, match=r"the grammar is .*; expected a Grammar"):
        Sentences("S -> 'a [1]")


def test_words_with_quotes_make_a_lexicon():
    lexicon = {name: list(words) for name, words in LEXICON.items()}
    lexicon["Det"] = ["o'", 'my"', "\"'", "#", "|", "->", "[1]", "\\u{27}"]
    language = QuestionFormation(lexicon=lexicon)
    assert {*lexicon["Det"]} < {word for line in language.sample(200, seed=0) for word in line.split()}
    assert np.isfinite(language.log_prob(language.sample(50, seed=0))).all()


@pytest.mark.parametrize("damage", [0, Fraction(1, 8), 0.3, 1])
def test_copies_of_any_damage(damage):
    few = Copies(prototypes=2, length=4, words=5, damage=damage)
    p = np.exp(few.log_prob([" ".join(words) for words in product(few.vocabulary, repeat=4)]))
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert -(p[p > 0] * np.log(p[p > 0])).sum() == pytest.approx(few.entropy_rate().nats, abs=1e-12)
    assert np.isfinite(few.log_prob(few.sample(50, seed=0))).all()


GRAMMAR = Grammar.from_text("S -> 'a' S [1/2] | 'b' [1/2]")
WHOLE = {
    "Copies.prototypes": lambda value: Copies(prototypes=value),
    "Copies.length": lambda value: Copies(length=value),
    "Copies.words": lambda value: Copies(prototypes=2, words=value),
    "Copies.sample": lambda value: Copies().sample(value, 0),
    "Sentences.sample": lambda value: Sentences(GRAMMAR).sample(value, 0),
    "QuestionFormation.sample": lambda value: QuestionFormation().sample(value, 0),
    "load_lines": lambda value: corpora.load_lines("clock", value),
    "load_question_formation": lambda value: corpora.load_question_formation("generator", value),
}
REAL = {
    "Copies.damage": lambda value: Copies(damage=value),
    "QuestionFormation.quest": lambda value: QuestionFormation(quest=value).grammar,
    "QuestionFormation.heldout_entropy_rate": lambda value: QuestionFormation().heldout_entropy_rate(value),
    "scaled_lexicon": scaled_lexicon,
}
LIMIT = {
    "sentence_entropy": lambda value: sentence_entropy(GRAMMAR, value),
    "proved_unambiguous": lambda value: proved_unambiguous(GRAMMAR, value),
}
OTHER = {
    "Copies.sample's seed": lambda value: Copies().sample(1, value),
    "QuestionFormation.sample's seed": lambda value: QuestionFormation().sample(1, value),
    "QuestionFormation.relative_questions": lambda value: QuestionFormation(relative_questions=value),
    "QuestionFormation.lexicon": lambda value: QuestionFormation(lexicon=value),
    "a class of the lexicon": lambda value: QuestionFormation(lexicon=LEXICON | {"Det": value}),
    "Copies.log_prob": Copies().log_prob,
    "QuestionFormation.log_prob": QuestionFormation().log_prob,
    "Sentences": Sentences,
    "Sentences.log_prob": Sentences(GRAMMAR).log_prob,
    "Pairs": lambda value: Pairs(value, reinflect),
    "Pairs.output": lambda value: Pairs(GRAMMAR, value),
    "Pairs.more": lambda value: Pairs(GRAMMAR, reinflect, value),
    "encode's lines": lambda value: corpora.encode(value, ["a"]),
    "encode's vocabulary": lambda value: corpora.encode(["a"], value),
    **{function.__name__: function for function in (source, reinflect, complete, split_line, sources.split, text_lines)},
}
NO_LIMITS = ("1", None, [1], 1j, math.nan, -1, -math.inf, np.float32("nan"), np.array([1]), {"the"}, True)
NO_NUMBERS = (*NO_LIMITS, 10**400, math.inf)
NO_WHOLES = (*NO_NUMBERS, 2.5, 4.0, Fraction(4), np.float32(4))
NO_TEXTS = (
    None,
    [1],
    1j,
    math.nan,
    2.5,
    -math.inf,
    np.float32(0.5),
    np.array([1]),
    {"the"},
    frozenset({"a"}),
    {"the": 1}.keys(),
)
KINDS = ((LIMIT, NO_LIMITS), (REAL, NO_NUMBERS), (WHOLE, NO_WHOLES), (OTHER, NO_TEXTS))
REFUSED = {name: (function, values) for functions, values in KINDS for name, function in functions.items()}


@pytest.mark.parametrize(("function", "values"), REFUSED.values(), ids=REFUSED)
def test_a_value_of_a_wrong_kind_is_refused_in_a_sentence(function, values):
    for value in values:
        with pytest.raises(ValueError, match=r"^.*; expected .*$"):
            pytest.fail(f"{value!r} gives {function(value)!r:.200}")


@pytest.mark.parametrize("function", [*REAL.values(), *LIMIT.values()], ids=[*REAL, *LIMIT])
def test_numbers_of_numpy_are_numbers(function):
    assert function(np.float32(0.5)) == function(0.5)
    assert function(np.int64(1)) == function(1)


@pytest.mark.parametrize("function", WHOLE.values(), ids=WHOLE)
def test_whole_numbers_of_numpy_are_whole_numbers(function):
    assert function(np.int64(3)) == function(3)


WRONG_COPIES = [{"prototypes": 0}, {"prototypes": 65}, {"length": 0}, {"words": 1}, {"damage": -0.1}, {"damage": math.nan}]


@pytest.mark.parametrize("options", WRONG_COPIES, ids=str)
def test_other_copies_are_refused(options):
    with pytest.raises(ValueError, match=rf"{min(options)} is .*; expected a (whole number from|share in)"):
        Copies(**options)


@pytest.mark.parametrize("factor", [0, -1, math.nan, math.inf])
def test_a_lexicon_cannot_be_scaled_by(factor):
    with pytest.raises(ValueError, match=f"factor is {factor}; expected a number > 0, at most 10000"):
        scaled_lexicon(factor)


def test_words_that_can_be_gone_through_once_make_a_lexicon_too():
    once = QuestionFormation(lexicon={name: iter(words) for name, words in LEXICON.items()})
    assert once == QuestionFormation() and once.sample(20, 0) == QuestionFormation().sample(20, 0)
    assert Pairs(GRAMMAR, lambda first: first[:-1], iter("xy")).vocabulary == ["a", "b", "x", "y"]
