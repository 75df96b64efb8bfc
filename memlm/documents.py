"""Where documents come from: files, books, the web, and the packages that are installed anyway."""

import gzip
import hashlib
import io
import itertools
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from memlm.corpora import CorpusError
from memlm.paths import sha256
from memlm.tokenizer import gpt2

_JSONL = (".jsonl", ".jsonl.gz", ".jsonl.zst")
# Tried in this order: the data set, its copy converted by the hub, and GPT-2 tokens of it.
_OPENWEBTEXT = (
    ("Skylion007/openwebtext", "main"),
    ("Skylion007/openwebtext", "refs/convert/parquet"),
    ("NeelNanda/openwebtext-tokenized-9b", "main"),
)
# Packages whose documentation strings are read, with their licences; all are pinned in constraints.txt.
_DOCUMENTED = {
    "datasets": "Apache-2.0",
    "huggingface_hub": "Apache-2.0",
    "matplotlib": "PSF-based",
    "mpmath": "BSD-3-Clause",
    "networkx": "BSD-3-Clause",
    "numpy": "BSD-3-Clause",
    "pandas": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
    "torch": "BSD-3-Clause",
    "transformers": "Apache-2.0",
}


@dataclass(frozen=True)
class Source:
    """Documents in a fixed order. facts: what they are, as JSON values (kind, hash or revision, licence where known);
    read: called without arguments it gives an iterator over their texts, from the first."""

    facts: dict
    read: Callable[[], Iterator[str]]


def source(kind, *arguments, **options):
    """The Source of one of KINDS: jsonl(path), text(path), spgc(path, words=None), openwebtext(), documentation()."""
    if kind not in KINDS:
        raise CorpusError(f"source is {kind!r}; expected one of {', '.join(KINDS)}")
    return KINDS[kind](*arguments, **options)


def jsonl(path, licence=None):
    """Documents from the field ``text`` of a .jsonl, .jsonl.gz or .jsonl.zst file, or of all such files in a folder."""
    path = Path(path)
    files = _files(path, _JSONL)

    def read():
        for file in files:
            for number, line in enumerate(_lines(file), 1):
                try:
                    document = json.loads(line)
                except ValueError as error:
                    raise CorpusError(f"{file.name}, line {number} is no JSON ({error})") from None
                text = document.get("text") if isinstance(document, dict) else None
                yield _checked(text, f"{file.name}, line {number}")

    return Source(_facts("jsonl", path, files, licence), read)


def text(path, licence=None):
    """Documents from the .txt files of a folder or a zip, in the order of their names, or from one such file."""
    path = Path(path)

    def read():
        for name, data in _members(path, ".txt", key=str):
            yield _checked(_decoded(data, name), name)

    return Source(_facts("text", path, _files(path, (".txt", ".zip")), licence), read)


def spgc(path, words=None):
    """Books of the Standardized Project Gutenberg Corpus (Zenodo 2422561): files PG<id>_tokens.txt, one word a line, in a
    folder or zip, in the order of their ids; the first ``words`` words of them, so that the last book may be cut.
    Words are lower-cased and joined by spaces; books without words are left out."""
    path = Path(path)

    def number(name):
        return int(re.search(r"PG(\d+)_tokens\.txt$", name)[1])

    def read():
        left = words
        for name, data in _members(path, "_tokens.txt", key=number):
            book = _decoded(data, name).lower().split()[:left]
            if book:
                yield " ".join(book)
            if left is not None:
                left -= len(book)
                if left == 0:
                    return

    facts = _facts("spgc", path, _files(path, ("_tokens.txt", ".zip")), "public domain in the USA")
    return Source({**facts, "words": words}, read)


def _files(path, endings):
    if not path.exists():
        raise CorpusError(f"{path} does not exist; expected a file {' or '.join(endings)}, or a folder of them")
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    files = [file for file in files if file.is_file() and file.name.endswith(endings)]
    if not files:
        raise CorpusError(f"{path} is or holds no file {' or '.join(endings)}")
    return files


def _facts(kind, path, files, licence):
    """One hash over the names and bytes of all files."""
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            name = file.relative_to(path) if path.is_dir() else file.name
            digest.update(f"{name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return {"kind": kind, "name": path.name, "files": len(files), "sha256": digest.hexdigest(), "licence": licence}


def _lines(file):
    try:
        if file.suffix == ".gz":
            with gzip.open(file) as stream:
                yield from stream
        elif file.suffix == ".zst":
            import pyarrow

            with pyarrow.input_stream(file, compression="zstd") as stream:
                yield from io.BufferedReader(stream)
        else:
            with open(file, "rb") as stream:
                yield from stream
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{file.name} is cut off or damaged ({error})") from None


def _members(path, ending, key):
    """(name, bytes) of the files with this ending in a folder or a zip, sorted by ``key`` of their names."""
    if path.suffix == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                for name in sorted((name for name in archive.namelist() if name.endswith(ending)), key=key):
                    yield name, archive.read(name)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise CorpusError(f"{path.name} is cut off or damaged ({error})") from None
    else:
        files = {file.relative_to(path).as_posix() if path.is_dir() else file.name: file for file in _files(path, (ending,))}
        for name in sorted(files, key=key):
            yield name, files[name].read_bytes()


def _decoded(data, name):
    try:
        return data.decode("utf8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{name} is not UTF-8 ({error.reason} at byte {error.start})") from None


def _checked(value, where):
    if not isinstance(value, str) or not value.strip():
        raise CorpusError(f"{where} has no text; expected a non-empty string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise CorpusError(f"{where} has half a character at {error.start}; expected whole ones") from None
    return value


def openwebtext():
    """OpenWebText, streamed from the hub, at the commit that the hub names now (facts["revision"]).

    Raises CorpusError, at once, where the hub is out of reach or HF_HUB_OFFLINE is set.
    """
    advice = "profile smoke and the source documentation need no network"
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise CorpusError(f"OpenWebText cannot be streamed, HF_HUB_OFFLINE is set; {advice}")
    reasons = []
    for dataset, branch in _OPENWEBTEXT:
        try:
            revision = _commit(dataset, branch)
            next(iter(_rows(dataset, revision)))
        except (TimeoutError, urllib.error.URLError) as error:
            if not isinstance(error, urllib.error.HTTPError):  # the next copy lies behind the same door
                reason = getattr(error, "reason", error)
                raise CorpusError(f"OpenWebText cannot be streamed, the hub is out of reach ({reason}); {advice}") from None
            reasons.append(f"{dataset} at {branch}: {error}")
        except Exception as error:  # the data set library has no common base of what it raises; each reason is told
            reasons.append(f"{dataset} at {branch}: {type(error).__name__}: {error}")
        else:
            facts = {"kind": "openwebtext", "dataset": dataset, "branch": branch, "revision": revision, "licence": "CC0-1.0"}
            return Source(facts, partial(_web_pages, dataset, revision))
    raise CorpusError(f"OpenWebText cannot be streamed ({'; '.join(reasons)}); {advice}")


def _commit(dataset, branch):
    """The commit that a branch of a data set is at. One small request, so that an unreachable hub is found out at once."""
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    address = f"{hub}/api/datasets/{dataset}/revision/{urllib.parse.quote(branch, safe='')}"
    with urllib.request.urlopen(address, timeout=5) as reply:
        return json.load(reply)["sha"]


def _rows(dataset, revision):
    from datasets import load_dataset

    return load_dataset(dataset, revision=revision, split="train", streaming=True)


def _web_pages(dataset, revision):
    rows = iter(_rows(dataset, revision))
    first = next(rows)
    rows = itertools.chain([first], rows)
    pages = (row["text"] for row in rows) if "text" in first else _untokenised(row["tokens"] for row in rows)
    for number in itertools.count(1):
        try:
            page = next(pages, None)
        except Exception as error:  # see openwebtext
            raise CorpusError(f"the stream of {dataset} broke after {number - 1} documents ({error}); start again") from None
        if page is None:
            return
        yield _checked(page, f"{dataset}, document {number}")


def _untokenised(rows):
    """Documents from rows of GPT-2 tokens, each row with ``end`` before it and each document with ``end`` after it."""
    tokenizer, document = gpt2(), []
    for row in rows:
        for token in row[row[0] == tokenizer.end :]:
            if token != tokenizer.end:
                document.append(token)
            elif document:
                yield tokenizer.decode(document)
                document = []
    if document:
        yield tokenizer.decode(document)


def documentation(packages=tuple(_DOCUMENTED)):
    """English prose from the documentation strings of installed packages, one document per source file.

    No download, the same text for the same versions. Kept are paragraphs that read like sentences, each only once. Documents
    come in the order of their SHA-256, so that the beginning of the text is a sample of all packages.
    """
    folders, versions = {}, {}
    for package in packages:
        try:
            versions[package] = version(package).split("+")[0]  # torch says which build it is after a plus sign
            folders[package] = Path(find_spec(package).submodule_search_locations[0])
        except (PackageNotFoundError, AttributeError):
            raise CorpusError(f"package {package} is not installed; expected the packages of constraints.txt") from None

    def read():
        seen, pages = set(), []
        for folder in folders.values():
            for file in sorted(folder.rglob("*.py")):
                if not {"tests", "testing", "_vendor", "_vendored"} & set(file.relative_to(folder).parts):
                    page = "\n\n".join(_prose(file.read_text(encoding="utf8", errors="replace"), seen))
                    if len(page.split()) >= 100:
                        pages.append(page)
        yield from sorted(pages, key=sha256)

    licences = {package: _DOCUMENTED.get(package) for package in packages}
    return Source({"kind": "documentation", "packages": versions, "licence": licences, "order": "sha256"}, read)


_STRING = re.compile(r'^[ \t]*(?:[\w.]+\(\s*)?[rRuU]?("""|\'\'\')(.*?)\1', re.M | re.S)
# Between paragraphs: empty lines, underlines with what they underline, bullets, and before "name: ", "name (type): ".
_BREAK = re.compile(
    r"\n\s*\n|^[^\n]*\n[ \t]*[-=~^*#+]{3,}[ \t]*$|^[ \t]*[-*][ ]+|^[ \t]*(?=[*\w.]+(?: \([^\n]*\))? ?:\s)", re.M
)
_SENTENCES = re.compile(r"[A-Z\"'(].*[.:!?)]")


def _prose(code, seen):
    """Paragraphs of English in the triple-quoted strings that begin a line; new ones are added to ``seen``."""
    for _, string in _STRING.findall(code):
        for paragraph in _BREAK.split(string):
            plain = re.sub(r":[\w:]+:`~?([^`<]*)[^`]*`", r"\1", paragraph).replace("`", "")
            plain = " ".join(plain.split())
            letters = sum(character.isalpha() or character == " " for character in plain)
            english = len(plain.split()) >= 8 and _SENTENCES.fullmatch(plain) and letters > 0.9 * len(plain)
            if english and not re.search(r">>>| : |[\\{}<>|@]", plain) and plain not in seen:
                seen.add(plain)
                yield plain


KINDS = {"jsonl": jsonl, "text": text, "spgc": spgc, "openwebtext": openwebtext, "documentation": documentation}
