"""Text as token ids on the disk: tokenised once, in whole documents, and read through memory maps.

data/cache/text/<name>/ holds train.bin and dev.bin (little-endian ids, ``end`` after every document), tokenizer.json and
manifest.json; while it is being made, shards/ holds finished pieces, from which an interrupted tokenisation goes on.
"""

import fcntl
import hashlib
import io
import itertools
import json
import os
import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from memlm import sources
from memlm.corpora import SOURCES, CorpusError
from memlm.documents import Interrupted
from memlm.paths import CACHE, Damaged, plain_name, read_sealed, seal, shown, write_sealed, writing
from memlm.tokenizer import VOCABULARY, Tokenizer, gpt2, train_bpe, whole

TEXT = CACHE / "text"
PARTS = ("train", "dev")
TOKENIZERS = ("byte", "bpe", "gpt2")
# All that is ever removed from a folder: files with these names (verified.json was ours once), and with those that
# ``writing`` gives them meanwhile.
_TOP, _SHARDS = r"(?:(?:train|dev)\.bin|(?:tokenizer|manifest|verified)\.json)", r"(?:plan\.json|\d{5,}\.npz)"
_WHOLE = rf"{_TOP}|shards/{_SHARDS}"
_HALF = rf"(?:\.{_TOP}|shards/\.{_SHARDS})\.[a-z0-9_]{{8}}"
_MANIFEST = {
    "asked": dict,
    "dtype": str,
    "end": int,
    "vocabulary_size": int,
    "parts": {"train": dict, "dev": dict},
    "sha256": {"train.bin": str, "dev.bin": str},
}
_PLAN = {"asked": dict, "tokenizer": str}
_CANDIDATES = 10_000  # documents from which one is chosen for a part that the hash rule leaves empty
_MOST = 2**62  # tokens, or characters
_SAMPLE = 20_000_000  # bytes of training text from which a vocabulary is made


def in_dev(text, dev_fraction):
    """Is a document in the dev part? Its own hash decides, so equal documents never lie in both parts, and a document's
    part is the same under every budget. (Where that would leave a part empty, see HeldOut.)"""
    return _number(text) < dev_fraction * 2**64


def _number(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


@dataclass(frozen=True)
class HeldOut:
    """Which documents are dev: as in_dev has it. Where that leaves a part empty: alone names the part and the hash, as a
    number, of the one document, with its equals, that it gets. Of a single document: at is the character with which dev
    begins."""

    dev_fraction: float
    alone: tuple[str, int] | None = None
    at: int | None = None

    def facts(self):
        """What plan and manifest say of it: nothing where it is the rule of in_dev."""
        if self.at is not None:
            return {"held_out": {"from_character": self.at}}
        return {"held_out": {f"only_{self.alone[0]}": f"{self.alone[1]:016x}"}} if self.alone else {}

    def texts(self, source):
        """An iterator over (document, whether it is in dev)."""
        if self.at is not None:
            text = next(iter(source.read()))
            return iter([(text[: self.at], False), (text[self.at :], True)])
        if self.alone:
            part, number = self.alone
            return ((text, (_number(text) == number) == (part == "dev")) for text in source.read())
        return ((text, in_dev(text, self.dev_fraction)) for text in source.read())


@dataclass(frozen=True, eq=False)
class Tokens:
    """A tokenised corpus. train, dev: read-only memory maps (t,) of uint16 or uint32; digest: hash of all that it holds."""

    folder: Path
    train: np.ndarray
    dev: np.ndarray
    vocabulary_size: int
    end: int
    digest: str
    manifest: dict

    def tokenizer(self):
        """The Tokenizer that made the ids. CorpusError where its file changed since the corpus was opened."""
        return _read_tokenizer(self.folder, self.manifest["sha256"].get("tokenizer.json", Tokenizer().digest))


def tokenise(
    name, source, kind="byte", budget=None, dev_fraction=0.02, vocabulary=4096, workers=None, shard=4_000_000, into=TEXT
):
    """Tokenise the documents of ``source`` (see memlm.documents) once into ``into/name``; returns its Tokens.

    budget: documents are taken, whole and in order, as long as their tokens, ``end`` included, stay within it, both parts
    together. dev_fraction: share of the documents that is held out (see in_dev); of few documents, the one with the nearest
    share of the characters; of a single document, its end. vocabulary: ids of a tokenizer of kind 'bpe', 257 to 65536.
    workers: threads, by default one a core. shard: characters per piece of work. The last two do not change the result.
    What is there is returned if the same was asked for. CorpusError otherwise, for numbers out of range, for documents that
    are all equal or beyond the budget, and where the folder cannot be written.
    """
    if kind not in TOKENIZERS:
        raise CorpusError(f"tokenizer is {kind!r}; expected one of {', '.join(TOKENIZERS)}")
    if not isinstance(dev_fraction, int | float | np.floating) or not 0 < dev_fraction < 1:
        raise CorpusError(f"dev_fraction is {dev_fraction!r}; expected a number between 0 and 1")
    budget = None if budget is None else whole("budget", budget, 1, _MOST)
    workers, shard = whole("workers", workers or os.cpu_count(), 1, 1024), whole("shard", shard, 1, _MOST)
    asked = {"source": source.facts, "tokenizer": kind, "budget": budget, "dev_fraction": float(dev_fraction)}
    if kind == "bpe":
        asked["vocabulary"] = whole("vocabulary", vocabulary, *VOCABULARY)
    asked = json.loads(json.dumps(asked))
    folder = folder_of(name, into)
    with _named(folder):
        _make(folder, source, asked, workers, shard)
    return open_tokens(folder)


def _make(folder, source, asked, workers, shard):
    _refuse_strange(folder)
    # Before anything is made, let alone removed: an input that cannot be read, or not be held out from, changes nothing.
    held = None if (folder / "manifest.json").is_file() else _hold_out(folder.name, source, asked)
    with _alone(folder):
        _refuse_strange(folder)
        _remove(folder, _HALF)  # what a killed process left
        if (folder / "manifest.json").is_file():
            _refuse_other(folder, open_tokens(folder).manifest["asked"], asked)
        else:
            tokenizer = _begin(folder, source, asked, held)
            with _refusing(folder):
                _write_shards(folder, held.texts(source), tokenizer, asked["budget"], workers, shard)
                if not source.unchanged():
                    raise CorpusError(f"the documents of {folder.name} changed while they were read; expected files at rest")
                _join_shards(folder, tokenizer, asked, held, source.left_out)
        _remove(folder, "shards/.*")


@contextmanager
def _refusing(folder):
    """An input that is refused late will be refused each time, so nothing that was made of it stays."""
    try:
        yield
    except Interrupted:
        raise
    except CorpusError:
        _remove(folder, _WHOLE)
        with suppress(OSError):  # it holds something else
            folder.rmdir()
        raise


@contextmanager
def _named(folder):
    """What the system refuses, such as a full disk, which need not say where, becomes a CorpusError that does."""
    try:
        yield
    except OSError as error:
        place = error.filename if isinstance(error.filename, str | Path) else folder
        raise CorpusError(
            f"{shown(place)}: {error.strerror or error}, while {folder.name} was tokenised; what was finished is kept, "
            "and the same command goes on from there"
        ) from None


def folder_of(name, into=TEXT):
    """The folder of a tokenised text, by its name, which is one plain component of a path, and not that of a source of lines
    (ValueError otherwise)."""
    if name in (taken := (*SOURCES, *sources.SOURCES, *sources.MEMORISED)):
        raise CorpusError(f"the name of a tokenised text is {name!r}; expected none of {', '.join(taken)}")
    return Path(into) / plain_name(name, "the name of a tokenised text")


def _refuse_strange(folder):
    """CorpusError for a folder that holds anything but has no manifest and no plan that we sealed: it is somebody's."""
    shards = folder / "shards"
    if (folder.exists() and not folder.is_dir()) or shards.is_symlink():
        raise CorpusError(f"{shown(folder)} is, or leads to, something else than a folder of a tokenised text")
    for file, shape in ((folder / "manifest.json", _MANIFEST), (shards / "plan.json", _PLAN)):
        with suppress(FileNotFoundError, Damaged):
            read_sealed(file, shape, "")
            return
    found = [path.relative_to(folder).as_posix() for path in (*folder.glob("*"), *shards.glob("*")) if path != shards]
    if strange := [name for name in found if not re.fullmatch(_HALF, name)]:
        raise CorpusError(
            f"{shown(folder)} holds {strange[0]}, and neither a manifest nor a plan of a tokenised text that is whole: take "
            "another name, or delete the folder if nothing in it is wanted"
        )


def _remove(folder, names):
    """Remove the files of a folder whose places in it match ``names`` and are of ours; no link is followed."""
    for path in [*folder.glob("*"), *folder.glob("shards/*")]:
        name = path.relative_to(folder).as_posix()
        ours = re.fullmatch(_WHOLE, name) or re.fullmatch(_HALF, name)
        if ours and re.fullmatch(names, name) and path.is_file() and not path.is_symlink():
            path.unlink()
    with suppress(OSError):  # it holds something else, or is not there
        (folder / "shards").rmdir()


@contextmanager
def _alone(folder):
    """Only one process at a time makes a folder, the others wait; the lock of a killed process is free."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(f".{folder.name}.lock"), "ab") as lock:  # never "w": it may be somebody's file
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _refuse_other(folder, stored, asked):
    for key in sorted(stored | asked):
        if stored.get(key) != asked.get(key):
            raise CorpusError(
                f"{folder.name} was made with {key} {stored.get(key)}; asked for {asked.get(key)}: "
                "take another name or delete the folder"
            )


def _hold_out(name, source, asked):
    """The HeldOut that gives both parts a document out of those within the budget; CorpusError where none does."""
    budget, usual = asked["budget"], HeldOut(asked["dev_fraction"])
    tokenizer = Tokenizer()  # a text has as many bytes as tokens or more, so documents that fit by their bytes do fit
    number, sizes, both = _within(usual, source, budget, tokenizer)
    if not number and next(iter(source.read()), None) is None:
        raise CorpusError(f"{name}: the corpus is empty; expected at least 2 documents, for train and dev")
    if not both and budget is not None and asked["tokenizer"] != "byte":
        try:
            tokenizer = _tokenizer(source, asked, usual)
            number, sizes, both = _within(usual, source, budget, tokenizer)
        except CorpusError:
            if not number:
                raise
    if both:
        return usual
    if len(sizes) > 1:
        empty = "train" if min(sizes) < usual.dev_fraction * 2**64 else "dev"
        share = sum(sizes.values()) * (usual.dev_fraction if empty == "dev" else 1 - usual.dev_fraction)
        return HeldOut(usual.dev_fraction, (empty, min(sizes, key=lambda each: (abs(sizes[each] - share), each))))
    if number > 1:
        raise CorpusError(f"the {number} documents of {name} are equal; expected 2 different ones, for train and dev")
    return _in_two(name, source, asked, tokenizer)


def _within(held, source, budget, tokenizer):
    """Of the documents within the budget, read until both parts have one: their number, {hash: characters} of the different
    ones with their equals, at most _CANDIDATES, and whether both parts have one."""
    number, sizes, seen, used = 0, {}, set(), 0
    for text, dev in held.texts(source):
        used += 0 if budget is None else len(tokenizer.encode(text)) + 1
        if budget is not None and used > budget:
            break
        number, each = number + 1, _number(text)
        if each in sizes or len(sizes) < _CANDIDATES:
            sizes[each] = sizes.get(each, 0) + len(text)
        seen.add(dev)
        if len(seen) == 2:
            break
    return number, sizes, len(seen) == 2


def _in_two(name, source, asked, tokenizer):
    """The HeldOut of the only document within the budget."""
    text, fraction, budget = next(iter(source.read())), asked["dev_fraction"], asked["budget"]
    held = HeldOut(fraction, at=_dev_begins(text, fraction))
    parts = [part for part, _ in held.texts(source)]
    for pieces, what in (([text], "the first document with its end"), (parts, "the only document in two, with their ends")):
        if budget is not None and (least := sum(len(tokenizer.encode(piece)) + 1 for piece in pieces)) > budget:
            raise CorpusError(f"budget is {budget} tokens; expected at least {least}, {what}")
    if not all(part.strip() for part in parts):
        part = "train" if in_dev(text, fraction) else "dev"
        raise CorpusError(f"none of the 1 documents of {name} is in {part} with dev_fraction {fraction}; expected 2")
    if parts[0] == parts[1]:
        raise CorpusError(f"both parts of the only document of {name} are equal; expected a text that does not repeat")
    return held


def _dev_begins(text, dev_fraction):
    """The character with which the last dev_fraction of a text begins: the beginning of a line, or else of a word, near to
    there, and so that neither part is blank if the text has two characters that are seen."""
    first, end = len(text) - len(text.lstrip()), len(text.rstrip())
    exact = min(max(first + 1, round(end - (end - first) * dev_fraction)), end - 1)
    room = min(exact - first, end - exact) // 2
    for mark in ("\n", " "):
        near = [text.rfind(mark, exact - room, exact) + 1, text.find(mark, exact, exact + room) + 1]
        if any(near):
            return min(filter(None, near), key=lambda at: abs(at - exact))
    return exact


def _begin(folder, source, asked, held):
    """The tokenizer of a tokenisation that begins or goes on."""
    shards = folder / "shards"
    plan, stored, facts = shards / "plan.json", None, {"asked": asked, **held.facts()}
    with suppress(FileNotFoundError, Damaged):
        stored = read_sealed(plan, _PLAN, "")
    if stored and (shards / "00000.npz").is_file():
        _refuse_other(folder, stored["asked"], asked)
    if stored and stored == {**facts, "tokenizer": stored["tokenizer"]}:
        with suppress(CorpusError):  # a tokenizer that is damaged is made again, and all that came after it
            return _read_tokenizer(folder, stored["tokenizer"])
    tokenizer = _tokenizer(source, asked, held)
    _remove(folder, _WHOLE)
    write_sealed(plan, {**facts, "tokenizer": tokenizer.digest})  # first, so that all the rest is known to be ours
    if tokenizer.model:
        with writing(folder / "tokenizer.json") as file:
            file.write(tokenizer.model.encode())
    return tokenizer


def _tokenizer(source, asked, held):
    if asked["tokenizer"] == "bpe":
        return train_bpe(_sample(held.texts(source), asked["budget"]), asked["vocabulary"])
    return gpt2() if asked["tokenizer"] == "gpt2" else Tokenizer()


def _read_tokenizer(folder, digest):
    """The tokenizer of this digest; CorpusError where the folder does not hold it."""
    if digest == Tokenizer().digest:
        return Tokenizer()
    _check(folder, "tokenizer.json", digest)
    return Tokenizer((folder / "tokenizer.json").read_text(encoding="utf8"))


def _sample(documents, budget):
    """Training documents to make a vocabulary from. A document of b bytes has at most b + 1 tokens, so those whose bytes
    fit into the budget are documents of the corpus under any tokenizer, and none of dev is among them."""
    texts, read = [], 0
    for text, dev in documents:
        read += len(text.encode()) + 1
        if budget is not None and read > budget:
            break
        if not dev:
            texts.append(text)
        if read > _SAMPLE and texts:
            break
    if not texts:
        within = "" if budget is None else f" within the budget of {budget} bytes"
        raise CorpusError(f"there is no training document to make a vocabulary from{within}")
    return texts


def _write_shards(folder, texts, tokenizer, budget, workers, size):
    from tqdm import tqdm

    documents, tokens, number = _finished(folder / "shards")
    texts = itertools.islice(texts, documents, None)
    work = partial(_encode, tokenizer=tokenizer)
    with (
        closing(_in_order(work, _pieces(texts, size), workers)) as results,
        tqdm(total=budget, initial=tokens, unit="token", unit_scale=True, desc=folder.name, mininterval=1) as bar,
    ):
        for ids, lengths, dev in results:
            ends = np.cumsum(lengths)
            fits = len(lengths) if budget is None else int(np.searchsorted(ends, budget - tokens, side="right"))
            if fits:
                shard = io.BytesIO()  # a zip file that meets a full disk half way does more than to fail
                np.savez(shard, ids=ids[: ends[fits - 1]], lengths=lengths[:fits], dev=dev[:fits], after=documents)
                with writing(folder / "shards" / f"{number:05d}.npz") as file:
                    file.write(shard.getbuffer())
                documents, tokens, number = documents + fits, tokens + int(ends[fits - 1]), number + 1
                bar.update(int(ends[fits - 1]))
            if fits < len(lengths):
                break


def _finished(shards):
    """Documents, tokens and number of the whole shards; the first that is damaged and those after it are made again."""
    documents = tokens = 0
    paths = _shards(shards)
    for number, path in enumerate(paths):
        found = _shard_size(path, documents) if path.stem == f"{number:05d}" else None
        if found is None:
            for later in paths[number:]:
                later.unlink()
            return documents, tokens, number
        documents, tokens = documents + found[0], tokens + found[1]
    return documents, tokens, len(paths)


def _shards(folder):
    return sorted(path for path in folder.glob("*.npz") if path.stem.isdecimal())


def _shard_size(path, after):
    """Documents and tokens of a shard; None if it is damaged (the checksums inside the file tell), or is not the one that
    comes ``after`` so many documents."""
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            ids, lengths, dev = (arrays[name] for name in ("ids", "lengths", "dev"))
            whole = len(ids) == lengths.sum() and len(dev) == len(lengths) and arrays["after"] == after
            return (len(dev), len(ids)) if whole else None
    except Exception:  # zipfile, zlib and NumPy have a dozen kinds for what a changed byte can do
        return None


def _pieces(texts, size):
    """Consecutive documents in lists of at least ``size`` characters (the last may be shorter)."""
    piece, characters = [], 0
    for text, dev in texts:
        piece.append((text, dev))
        characters += len(text)
        if characters >= size:
            yield piece
            piece, characters = [], 0
    if piece:
        yield piece


def _encode(texts, tokenizer):
    """Ids of all texts, each with its end; the length of each; whether it is in dev."""
    end = np.array([tokenizer.end], tokenizer.dtype)
    ids = [np.concatenate([tokenizer.encode(text), end]) for text, _ in texts]
    return np.concatenate(ids), np.array([len(i) for i in ids]), np.array([dev for _, dev in texts])


def _in_order(work, pieces, workers):
    """Results of ``work`` on all pieces, in order, from threads: the tokenizer's own code runs beside Python's."""
    waiting = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for piece in pieces:
                waiting.append(pool.submit(work, piece))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _join_shards(folder, tokenizer, asked, held, left_out):
    """Write train.bin and dev.bin from the shards, and the manifest when they are whole."""
    paths, parts, hashes = _shards(folder / "shards"), {}, {}
    for part in PARTS:
        documents, tokens, digest = 0, 0, hashlib.sha256()
        with writing(folder / f"{part}.bin") as file:
            for path in paths:
                with np.load(path) as arrays:
                    mine = arrays["dev"] == (part == "dev")
                    ids = arrays["ids"][np.repeat(mine, arrays["lengths"])]
                documents, tokens = documents + int(mine.sum()), tokens + len(ids)
                file.write(ids.tobytes())
                digest.update(ids.tobytes())
        parts[part] = {"documents": documents, "tokens": tokens}
        hashes[f"{part}.bin"] = digest.hexdigest()
    total = sum(part["documents"] for part in parts.values())
    for part in PARTS:
        if not parts[part]["documents"]:
            raise CorpusError(
                f"none of the {total} documents of {folder.name} is in {part} with dev_fraction {asked['dev_fraction']}; "
                "choose another dev_fraction, or more documents"
            )
    if tokenizer.model:
        hashes["tokenizer.json"] = tokenizer.digest
    facts = {"end": tokenizer.end, "vocabulary_size": tokenizer.size, "dtype": tokenizer.dtype.name}
    manifest = {"asked": asked, **held.facts(), **facts, "parts": parts, "sha256": hashes}
    if counts := left_out(total if held.at is None else 1):  # one that is cut in two is one document of the source
        manifest["left_out"] = counts
    write_sealed(folder / "manifest.json", manifest)


def open_tokens(folder):
    """The Tokens stored in ``folder``; CorpusError where a file is not the one that the manifest describes.

    Each process hashes the files when it opens them first (18 MB take 20 ms, 18 GB some 20 s), and again when the system has
    noted a change since. Trusted, from then on, is that nothing changes them behind its back, as a failing disk may.
    """
    folder = Path(folder)
    try:
        manifest = read_sealed(folder / "manifest.json", _MANIFEST, "delete the folder and tokenise again")
    except FileNotFoundError:
        raise CorpusError(f"{folder.name} holds no finished tokenised text (no manifest.json); tokenise it first") from None
    except Damaged as error:
        raise CorpusError(f"the manifest is damaged: {error}") from None
    for name, expected in manifest["sha256"].items():
        _check(folder, name, expected)
    train, dev = (np.memmap(folder / f"{part}.bin", np.dtype(manifest["dtype"]).newbyteorder("<"), "r") for part in PARTS)
    return Tokens(folder, train, dev, manifest["vocabulary_size"], manifest["end"], seal(manifest), manifest)


def _check(folder, name, expected):
    path = folder / name
    if not path.is_file():
        raise CorpusError(f"{folder.name}/{name} is missing; delete the folder and tokenise again")
    found = _hash(path.resolve(), path.stat().st_ino, path.stat().st_ctime_ns)
    if found != expected:
        raise CorpusError(
            f"{folder.name}/{name} has SHA-256 {found[:12]}; expected {expected[:12]}: it was changed or damaged; "
            "delete the folder and tokenise again"
        )


@cache
def _hash(path, *_seen):
    """SHA-256 of a file, once in a process for each inode and time of change (which, unlike that of writing, cannot be set
    back) that it is seen with."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
