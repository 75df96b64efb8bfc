"""Where lines come from, and what is refused.   ./run_tests.sh tests/test_corpora.py"""

import numpy as np
import pytest

from memlm import corpora

LINE = "the newt does sleep . decl\tthe newt does sleep ."
QUESTION = "the newt does sleep . quest\tdoes the newt sleep ?"


def put(folder, **parts):
    folder.mkdir(exist_ok=True)
    for part, lines in parts.items():
        (folder / f"question.{part}").write_text("\n".join(lines) + "\n")
    return folder


def test_the_generator_gives_disjoint_parts_without_duplicates_and_the_same_each_time():
    corpus = corpora.load_question_formation("generator", train_lines=3000)
    every = [*corpus.train, *corpus.dev, *corpus.test]
    assert [len(corpus.train), len(corpus.dev), len(corpus.test)] == [3000, 1000, 10_000]
    assert len(set(every)) == len(every)
    assert corpus == corpora.load_question_formation("generator", train_lines=3000)
    assert corpus.digest != corpora.load_question_formation("generator", train_lines=3000, seed=1).digest


def test_a_users_files_come_first_and_are_recorded_as_such(tmp_path):
    folder = put(tmp_path / "lines", train=[LINE], dev=[QUESTION], test=[LINE.replace("newt", "yak")])
    assert corpora.available_source(folder) == "file"
    corpus = corpora.load_question_formation("file", folder=folder)
    assert (corpus.source, corpus.train, corpus.dev) == ("file", (LINE,), (QUESTION,))
    with pytest.raises(corpora.CorpusError, match="are of source 'file'; expected 'mccoy'"):
        corpora.load_question_formation("mccoy", folder=folder)


def test_the_real_dev_and_test_files_are_recognised(real_lines, tmp_path):
    for part in ("dev", "test", "gen"):
        data = ("\n".join(real_lines(part)) + "\n").encode()
        assert corpora.blob_id(data).startswith(corpora._FILES[part][0])
        assert not corpora.blob_id(data[:-1]).startswith(corpora._FILES[part][0])


REFUSED = {
    "a word outside the vocabulary": (dict(train=[LINE.replace("newt", "gnu")]), "train, line 1 has the word 'gnu'"),
    "no tab": (dict(train=[LINE, "the newt"]), "train, line 2: line is 'the newt'"),
    "shared lines": (dict(dev=[LINE]), r"train and question\.dev share 1 lines; expected 0"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_files(tmp_path, change, message):
    parts = dict(train=[LINE], dev=[QUESTION], test=[LINE.replace("newt", "yak")]) | change
    with pytest.raises(corpora.CorpusError, match=message):
        corpora.load_question_formation("file", folder=put(tmp_path / "lines", **parts))


def test_a_missing_part_and_an_unknown_source_are_named(tmp_path):
    with pytest.raises(corpora.CorpusError, match=r"no question\.dev; expected train, dev and test"):
        corpora.available_source(put(tmp_path / "lines", train=[LINE]))
    with pytest.raises(corpora.CorpusError, match="source is 'web'; expected one of mccoy, file, generator"):
        corpora.load_question_formation("web")


def test_a_corrupted_download_is_refused_and_nothing_is_kept(tmp_path):
    mirror = put(tmp_path / "mirror", train=[LINE])
    with pytest.raises(corpora.CorpusError, match="expected a3e63ea441: corrupted download"):
        corpora.fetch_question_formation(tmp_path / "raw", address=f"file://{mirror}/question.")
    assert not (tmp_path / "raw").exists() or not list((tmp_path / "raw").iterdir())


def test_an_unreachable_host_is_one_sentence_that_names_the_profile(tmp_path):
    with pytest.raises(corpora.CorpusError, match=r"cannot be downloaded .* profile smoke needs no network"):
        corpora.fetch_question_formation(tmp_path, address="http://127.0.0.1:9/question.", timeout=2)


VOCABULARY = tuple(sorted({*LINE.split(), *QUESTION.split()}))


def test_encoding_aligns_inputs_and_targets():
    inputs, targets, first_half = corpora.encode([LINE, QUESTION], VOCABULARY)
    assert inputs.shape == targets.shape == first_half.shape
    for x, y in zip(inputs, targets, strict=True):
        length = (y != corpora.IGNORED).sum()
        assert x[0] == corpora.END == y[length - 1]
        assert np.array_equal(x[1:length], y[: length - 1])
    assert first_half[0].sum() == 6  # the newt does sleep . decl
