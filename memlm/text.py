"""Text as token ids on the disk: tokenised once, in whole documents, and read through memory maps.

data/cache/text/<name>/ holds train.bin and dev.bin (little-endian ids, ``end`` after every document), tokenizer.json and
manifest.json; while it is being made, shards/ holds finished pieces, from which an interrupted tokenisation goes on.
"""

import fcntl
import hashlib
import itertools
import json
import os
import re
import threading
import zipfile
import zlib
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np

from memlm.corpora import CorpusError
from memlm.paths import CACHE, Damaged, plain_name, read_sealed, seal, shown, write_sealed, writing
from memlm.tokenizer import Tokenizer, gpt2, train_bpe

TEXT = CACHE / "text"
PARTS = ("train", "dev")
TOKENIZERS = ("byte", "bpe", "gpt2")
# All that is ever removed from a folder: files with these names, and with those that ``writing`` gives them meanwhile.
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
_SAMPLE = 20_000_000  # bytes of training text from which a vocabulary is made


def in_dev(text, dev_fraction):
    """Is a document in the dev part? Its own hash decides, so equal documents never lie in both parts, and a document's
    part is the same under every budget."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") < dev_fraction * 2**64


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
        """The Tokenizer that made the ids."""
        return _read_tokenizer(self.folder)


def tokenise(
    name, source, kind="byte", budget=None, dev_fraction=0.02, vocabulary=4096, workers=None, shard=4_000_000, into=TEXT
):
    """Tokenise the documents of ``source`` (see memlm.documents) once into ``into/name``; returns its Tokens.

    budget: documents are taken, whole and in order, as long as their tokens, ``end`` included, stay within it, both parts
    together. dev_fraction: share of the documents that is held out (see in_dev). vocabulary: ids of a tokenizer of kind
    'bpe'. workers: processes, by default one a core. shard: characters per piece of work. The last two do not change the
    result. What is there is returned if the same was asked for, and refused otherwise (CorpusError).
    """
    if kind not in TOKENIZERS:
        raise CorpusError(f"tokenizer is {kind!r}; expected one of {', '.join(TOKENIZERS)}")
    if not 0 < dev_fraction < 1:
        raise CorpusError(f"dev_fraction is {dev_fraction}; expected a number between 0 and 1")
    asked = {"source": source.facts, "tokenizer": kind, "budget": budget, "dev_fraction": dev_fraction}
    asked = json.loads(json.dumps(asked | ({"vocabulary": vocabulary} if kind == "bpe" else {})))
    folder = folder_of(name, into)
    _refuse_strange(folder)
    if next(iter(source.read()), None) is None:  # nothing is made, let alone removed, for an input that cannot be read
        raise CorpusError(f"{name}: the corpus is empty; expected at least 2 documents, for train and dev")
    with _alone(folder):
        _refuse_strange(folder)
        _remove(folder, _HALF)  # what a killed process left
        if (folder / "manifest.json").is_file():
            _refuse_other(folder, open_tokens(folder).manifest["asked"], asked)
        else:
            tokenizer = _begin(folder, source, asked)
            _write_shards(folder, source, tokenizer, asked, workers or os.cpu_count(), shard)
            _join_shards(folder, tokenizer, asked, source.left_out)
        _remove(folder, "shards/.*")
    return open_tokens(folder)


def folder_of(name, into=TEXT):
    """The folder of a tokenised text, by its name, which is one plain component of a path (ValueError otherwise)."""
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
    with open(folder.with_name(f".{folder.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _refuse_other(folder, stored, asked):
    for key in sorted(stored | asked):
        if stored.get(key) != asked.get(key):
            raise CorpusError(
                f"{folder.name} was made with {key} {stored.get(key)}; asked for {asked.get(key)}: "
                "take another name or delete the folder"
            )


def _begin(folder, source, asked):
    """The tokenizer of a tokenisation that begins or goes on."""
    shards = folder / "shards"
    plan = shards / "plan.json"
    with suppress(FileNotFoundError, Damaged):
        stored = read_sealed(plan, _PLAN, "")
        if (shards / "00000.npz").is_file():
            _refuse_other(folder, stored["asked"], asked)
        tokenizer = _read_tokenizer(folder)
        if stored == {"asked": asked, "tokenizer": tokenizer.digest}:
            return tokenizer
    tokenizer = Tokenizer()
    if asked["tokenizer"] == "gpt2":
        tokenizer = gpt2()
    elif asked["tokenizer"] == "bpe":
        tokenizer = train_bpe(_sample(source, asked["budget"], asked["dev_fraction"]), asked["vocabulary"])
    _remove(folder, _WHOLE)
    write_sealed(plan, {"asked": asked, "tokenizer": tokenizer.digest})  # first, so that all the rest is known to be ours
    if tokenizer.model:
        with writing(folder / "tokenizer.json") as file:
            file.write(tokenizer.model.encode())
    return tokenizer


def _read_tokenizer(folder):
    path = folder / "tokenizer.json"
    return Tokenizer(path.read_text(encoding="utf8") if path.is_file() else "")


def _sample(source, budget, dev_fraction):
    """Training documents to make a vocabulary from. A document of b bytes has at most b + 1 tokens, so those whose bytes
    fit into the budget are documents of the corpus under any tokenizer, and none of dev is among them."""
    texts, read = [], 0
    for text in source.read():
        read += len(text.encode()) + 1
        if budget is not None and read > budget:
            break
        if not in_dev(text, dev_fraction):
            texts.append(text)
        if read > _SAMPLE:
            break
    if not texts:
        within = "" if budget is None else f" within the budget of {budget} bytes"
        raise CorpusError(f"there is no training document to make a vocabulary from{within}")
    return texts


def _write_shards(folder, source, tokenizer, asked, workers, size):
    from tqdm import tqdm

    documents, tokens, number = _finished(folder / "shards")
    budget, texts = asked["budget"], itertools.islice(source.read(), documents, None)
    work = partial(_encode, tokenizer=tokenizer, dev_fraction=asked["dev_fraction"])
    with (
        closing(_in_order(work, _pieces(texts, size), workers)) as results,
        tqdm(total=budget, initial=tokens, unit="token", unit_scale=True, desc=folder.name, mininterval=1) as bar,
    ):
        for ids, lengths, dev in results:
            ends = np.cumsum(lengths)
            fits = len(lengths) if budget is None else int(np.searchsorted(ends, budget - tokens, side="right"))
            if fits:
                with writing(folder / "shards" / f"{number:05d}.npz") as file:
                    np.savez(file, ids=ids[: ends[fits - 1]], lengths=lengths[:fits], dev=dev[:fits])
                documents, tokens, number = documents + fits, tokens + int(ends[fits - 1]), number + 1
                bar.update(int(ends[fits - 1]))
            if fits < len(lengths):
                break
    if not documents:
        first = next(iter(source.read()), None)
        if first is None:
            raise CorpusError(f"{folder.name}: the corpus is empty; expected at least 2 documents, for train and dev")
        length = len(tokenizer.encode(first)) + 1
        raise CorpusError(f"budget is {budget} tokens; expected at least {length}, the first document with its end")


def _finished(shards):
    """Documents, tokens and number of the whole shards; the first that is damaged and those after it are made again."""
    documents = tokens = 0
    paths = _shards(shards)
    for number, path in enumerate(paths):
        found = _shard_size(path) if path.stem == f"{number:05d}" else None
        if found is None:
            for later in paths[number:]:
                later.unlink()
            return documents, tokens, number
        documents, tokens = documents + found[0], tokens + found[1]
    return documents, tokens, len(paths)


def _shards(folder):
    return sorted(path for path in folder.glob("*.npz") if path.stem.isdecimal())


def _shard_size(path):
    """Documents and tokens of a shard; None if it is damaged (the checksums inside the file tell)."""
    try:
        with open(path, "rb") as file, np.load(file) as arrays:
            sizes = len(arrays["dev"]), len(arrays["ids"])
            return sizes if sizes[1] == arrays["lengths"].sum() else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def _pieces(texts, size):
    """Consecutive documents in lists of at least ``size`` characters (the last may be shorter)."""
    piece, characters = [], 0
    for text in texts:
        piece.append(text)
        characters += len(text)
        if characters >= size:
            yield piece
            piece, characters = [], 0
    if piece:
        yield piece


def _encode(texts, tokenizer, dev_fraction):
    """Ids of all texts, each with its end; the length of each; whether it is in dev."""
    end = np.array([tokenizer.end], tokenizer.dtype)
    ids = [np.concatenate([tokenizer.encode(text), end]) for text in texts]
    return np.concatenate(ids), np.array([len(i) for i in ids]), np.array([in_dev(text, dev_fraction) for text in texts])


def _in_order(work, pieces, workers):
    """Results of ``work`` on all pieces, in order; from ``workers`` processes, if there is more than one piece."""
    first = list(itertools.islice(pieces, 2))
    pieces = itertools.chain(first, pieces)
    if workers == 1 or len(first) < 2:
        yield from map(work, pieces)
        return
    waiting = deque()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
        try:
            for piece in pieces:
                waiting.append(pool.submit(work, piece))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def end_with_parent():
    """Without this, the workers of a killed process would wait for work for ever."""
    threading.Thread(target=lambda: (parent_process().join(), os._exit(1)), daemon=True).start()


def _join_shards(folder, tokenizer, asked, left_out):
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
    manifest = {"asked": asked, **facts, "parts": parts, "sha256": hashes}
    if counts := left_out(total):
        manifest["left_out"] = counts
    write_sealed(folder / "manifest.json", manifest)


def open_tokens(folder):
    """The Tokens stored in ``folder``. A file that changed since it was hashed last is hashed again (its size and time
    of change tell); CorpusError where it is not the file that the manifest describes."""
    folder = Path(folder)
    try:
        manifest = read_sealed(folder / "manifest.json", _MANIFEST, "delete the folder and tokenise again")
    except FileNotFoundError:
        raise CorpusError(f"{folder.name} holds no finished tokenised text (no manifest.json); tokenise it first") from None
    except Damaged as error:
        raise CorpusError(f"the manifest is damaged: {error}") from None
    _verify(folder, manifest["sha256"])
    train, dev = (np.memmap(folder / f"{part}.bin", np.dtype(manifest["dtype"]).newbyteorder("<"), "r") for part in PARTS)
    return Tokens(folder, train, dev, manifest["vocabulary_size"], manifest["end"], seal(manifest), manifest)


def _verify(folder, hashes):
    memory, known = folder / "verified.json", {}
    with suppress(OSError, Damaged):
        known = read_sealed(memory, {}, "")
    seen = {}
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            raise CorpusError(f"{folder.name}/{name} is missing; delete the folder and tokenise again")
        seen[name] = [path.stat().st_size, path.stat().st_mtime_ns, expected]
        if known.get(name) != seen[name]:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected:
                raise CorpusError(
                    f"{folder.name}/{name} has SHA-256 {found[:12]}; expected {expected[:12]}: it was changed or damaged; "
                    "delete the folder and tokenise again"
                )
    if seen != known:
        with suppress(OSError):  # a folder that cannot be written is hashed each time
            write_sealed(memory, seen)
