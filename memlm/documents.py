"""Where documents come from: files, books, the web, and the packages that are installed anyway."""

import codecs
import gzip
import hashlib
import inspect
import io
import itertools
import json
import lzma
import os
import re
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path, PurePosixPath

from memlm.corpora import CorpusError
from memlm.paths import sha256
from memlm.tokenizer import gpt2

LIMIT = 64_000_000  # bytes of one line or file: what is held in memory while it is read
_LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst")
_JSON = (".json", ".json.gz", ".json.zst")
# UTF-16's mark begins that of UTF-32, which therefore comes first.
_MARKS = {
    "utf-8": codecs.BOM_UTF8,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}
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


class Interrupted(CorpusError):
    """The documents broke off, as a stream may, and may be read further the next time."""


@dataclass(frozen=True)
class Source:
    """Documents in a fixed order. facts: what they are, as JSON values (kind, hash or revision, licence where known);
    read: called without arguments it gives an iterator over their texts, from the first; left_out: called with a number n
    after at least n + 1 documents or all were read, it gives {reason: count} of what stands before document n + 1 and is
    none, such as blank lines; unchanged: are the facts still those that they were?"""

    facts: dict
    read: Callable[[], Iterator[str]]
    left_out: Callable[[int], dict] = lambda documents: {}
    unchanged: Callable[[], bool] = lambda: True


@dataclass(frozen=True)
class _NoText:
    """Why something among the documents is none: in short, and as the end of a sentence that begins with its place."""

    reason: str
    sentence: str


def source(kind, *arguments, **options):
    """The Source of one of KINDS: jsonl(path), text(path), spgc(path, words=None), openwebtext(), documentation().

    Options of the first four: strict=True raises CorpusError for what is left out otherwise: blank lines, lines that are no
    JSON or have no string with text, halves of characters, empty and hidden files.
    """
    if kind not in KINDS:
        raise CorpusError(f"source is {kind!r}; expected one of {', '.join(KINDS)}")
    try:
        inspect.signature(KINDS[kind]).bind(*arguments, **options)
    except TypeError as error:
        raise CorpusError(f"source {kind}: {error}; expected {kind}{inspect.signature(KINDS[kind])}") from None
    return KINDS[kind](*arguments, **options)


def jsonl(path, licence=None, *, field="text", strict=False):
    """Documents from a field of each line of a JSON lines file (.jsonl or .ndjson, plain, .gz or .zst), or of all such files
    in a folder. A .json file holds lines, or one object or array of objects of at most LIMIT bytes; in a folder, .json files
    are read where there is none of the others. A line has at most LIMIT bytes."""
    path = Path(path)
    files = _files(path, _LINES + _JSON)
    if any(name.lower().endswith(_LINES) and not _hidden(name) for name in files):  # .json beside them describes them
        files = {name: file for name, file in files.items() if name.lower().endswith(_LINES)}

    def entries():
        yield from _others(path, _LINES + _JSON)
        for name, file in files.items():
            if _hidden(name):
                yield name, _HIDDEN
            else:
                yield from ((place, _field(value, field)) for place, value in _values(file))

    named = {} if field == "text" else {"field": field}
    return _source(lambda: _facts("jsonl", path, files, licence) | named, entries, strict)


def text(path, licence=None, *, strict=False):
    """Documents from the .txt files of a folder or a zip, in the order of their names, or from one such file; each has at
    most LIMIT bytes."""
    path = Path(path)

    def entries():
        yield from _others(path, (".txt",))
        for name, data in _members(path, ".txt", key=str):
            yield name, data if isinstance(data, _NoText) else _decoded(data, name)

    return _source(lambda: _facts("text", path, _files(path, (".txt", ".zip")), licence), entries, strict)


_BOOK = re.compile(r"PG(\d+)_tokens\.txt$")


def spgc(path, words=None, *, strict=False):
    """Books of the Standardized Project Gutenberg Corpus (Zenodo 2422561): files PG<id>_tokens.txt, one word a line, in a
    folder or zip, in the order of their ids; the first ``words`` words of them, so that the last book may be cut.
    Words are lower-cased and joined by spaces; books without words are left out."""
    path = Path(path)
    if words is not None and not (isinstance(words, int) and words >= 1):
        raise CorpusError(f"words is {words!r}; expected at least 1, a whole number, or None for all")
    odd = _NoText("file without PG<id> in its name", "is no name of a book; expected PG<id>_tokens.txt")

    def number(name):
        found = _BOOK.search(name)
        return int(found[1]) if found else -1

    def entries():
        left = words
        yield from _others(path, ("_tokens.txt",))
        for name, data in _members(path, "_tokens.txt", key=number):
            if isinstance(data, _NoText) or number(name) < 0:
                yield name, data if isinstance(data, _NoText) else odd
                continue
            book = _decoded(data, name).lower().split()[:left]
            yield name, " ".join(book)
            if left is not None:
                left -= len(book)
                if left == 0:
                    return

    def facts():
        return _facts("spgc", path, _files(path, ("_tokens.txt", ".zip")), "public domain in the USA") | {"words": words}

    return _source(facts, entries, strict)


def _source(facts_now, entries, strict):
    """The Source of (place, text or _NoText) pairs. What is left out is kept as the number of documents before it, of the
    reading that came furthest: it is the same in all, so the counts do not depend on how often or how far one reads."""
    places, facts = {}, facts_now()

    def read():
        documents = left = 0
        for place, value in entries():
            value = _checked(value)
            if isinstance(value, str):
                documents += 1
                yield value
            elif strict:
                raise CorpusError(f"{place} {value.sentence}")
            else:
                if left == sum(len(before) for before, _ in places.values()):
                    places.setdefault(value.reason, (array("q"), f"{place} {value.sentence}"))[0].append(documents)
                left += 1
        if left and not documents:
            first = "; ".join(sentence for _, sentence in places.values())
            raise CorpusError(f"{facts.get('name', facts['kind'])} holds no document; {left} left out: {first}")

    def left_out(documents):
        counts = {reason: bisect_right(before, documents) for reason, (before, _) in sorted(places.items())}
        return {reason: count for reason, count in counts.items() if count}

    return Source(facts, read, left_out, lambda: facts_now() == facts)


_OTHER = _NoText("file of another kind", "is of another kind than what is read; expected none beside the documents")
_HIDDEN = _NoText("hidden file", "is a hidden file, such as systems add to folders and zips; expected none")


def _checked(value):
    """The text itself, without a byte order mark, or why it is none."""
    if isinstance(value, _NoText):
        return value
    if not isinstance(value, str):
        return _NoText("no string", "has no text; expected a non-empty string")
    value = value.lstrip("\ufeff")
    if not value.strip():
        return _NoText("empty text", "has no text; expected a non-empty string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return _NoText("half a character", f"has half a character at {error.start}; expected whole ones")
    return value


def _field(value, field):
    """What a JSON value has in a field, or why it has none."""
    if isinstance(value, _NoText):
        return value
    expected = f"has no text; expected a non-empty string in the field {field!r}"
    if not isinstance(value, dict):
        return _NoText("no object", f"{expected} of an object")
    if field not in value:
        return _NoText(f"no field {field!r}", f"{expected}, beside {', '.join(map(repr, islice(value, 10))) or 'nothing'}")
    return value[field]


def _hidden(name):
    """Is this a file that a system put there, such as __MACOSX/._a.txt? name: from the folder or zip that was named."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _walk(folder):
    """Names of all files of a folder, from there, in their order. CorpusError for a folder that cannot be read."""

    def refuse(error):
        raise CorpusError(f"{error.filename} cannot be read ({error.strerror})")

    files = []
    for place, folders, names in os.walk(folder, onerror=refuse):
        files += [Path(place, name) for name in names]
        for name in (Path(place, name) for name in folders):
            if name.is_symlink() and not _hidden(name.relative_to(folder).as_posix()):
                raise CorpusError(
                    f"{name} leads to another folder; expected none within a folder: name that one, or copy it"
                )
    return [file.relative_to(folder).as_posix() for file in sorted(files)]


def _others(path, endings):
    """(name, _NoText) of the files in a folder that have none of the endings and are not hidden."""
    for name in _walk(path) if path.is_dir() else []:
        if not name.lower().endswith(endings) and not _hidden(name):
            yield name, _OTHER


def _files(path, endings):
    """{name: Path} of the file, or of the files of a folder, with these endings."""
    if not path.exists():
        raise CorpusError(f"{path} does not exist; expected a file {' or '.join(endings)}, or a folder of them")
    one = {path.name.lstrip("."): path}  # a file that is named is wanted, hidden or not
    files = {name: path / name for name in _walk(path)} if path.is_dir() else one
    files = {name: file for name, file in files.items() if file.name.lower().endswith(endings)}
    if all(map(_hidden, files)):
        raise CorpusError(f"{path} is or holds no file {' or '.join(endings)}")
    for name, file in files.items():
        if not _hidden(name) and not file.is_file():
            raise CorpusError(f"{file} cannot be read; expected a file, and no link to nothing, pipe or device")
    return files


def _facts(kind, path, files, licence):
    """One hash over the names and bytes of all files that are not hidden."""
    digest = hashlib.sha256()
    files = {name: file for name, file in files.items() if not _hidden(name)}
    for name, file in files.items():
        with _told(file), open(file, "rb") as stream:
            name, content = name if path.is_dir() else file.name, hashlib.file_digest(stream, "sha256").hexdigest()
            digest.update(f"{name} {content}\n".encode(errors="surrogateescape"))
    # The name of ".", too, and of a file whose name is no UTF-8.
    called = os.fsencode(path.resolve().name).decode(errors="backslashreplace")
    return {"kind": kind, "name": called, "files": len(files), "sha256": digest.hexdigest(), "licence": licence}


@contextmanager
def _told(file):
    """What the system, or the library of a compressed file, raises while it is read becomes a CorpusError."""
    try:
        yield
    except (PermissionError, IsADirectoryError) as error:
        raise CorpusError(f"{file} cannot be read ({error.strerror})") from None
    except RuntimeError as error:  # a password, a method of compression that zipfile lacks
        raise CorpusError(f"{file.name} cannot be read ({error})") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise CorpusError(f"{file.name} is cut off or damaged ({error})") from None


@contextmanager
def _opened(file):
    """A binary stream of what a file holds, decompressed."""
    ending = file.suffix.lower()
    with _told(file):
        if ending == ".zst":
            import pyarrow

            with pyarrow.input_stream(file, compression="zstd") as stream:
                yield io.BufferedReader(stream)
        else:
            with gzip.open(file) if ending == ".gz" else open(file, "rb") as stream:
                yield stream


def _marked(head, name):
    """(encoding, length of the byte order mark) of a file that begins with the four bytes ``head``."""
    for encoding, mark in _MARKS.items():
        if head.startswith(mark):
            return encoding, len(mark)
    if b"\0" in head[:2]:
        raise CorpusError(f"{name} begins with {head!r}; expected UTF-8, or UTF-16 with a byte order mark")
    return "utf-8", 0


def _lines(file):
    """(number, line or _NoText) of all lines of a file. A line that is too long is not read to its end."""
    with _opened(file) as stream:
        encoding, skipped = _marked(stream.read(4), file.name)
    with _opened(file) as stream:
        stream.read(skipped)
        if encoding != "utf-8":
            stream = io.TextIOWrapper(stream, encoding, newline="\n")
        for number in itertools.count(1):
            try:
                line = stream.readline(LIMIT + 1)
            except UnicodeDecodeError as error:  # not of UTF-8, where the next line can be found
                raise CorpusError(f"{file.name}, line {number} is no JSON in {encoding} ({error.reason})") from None
            if len(line) > LIMIT:
                raise CorpusError(f"{file.name}, line {number} is longer than {LIMIT:,} bytes; expected shorter ones")
            if not line:
                return
            yield number, line if isinstance(line, str) else _utf8(line)


def _utf8(line):
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        return _NoText("not UTF-8", f"is no JSON in UTF-8 ({error.reason} at byte {error.start})")


def _values(file):
    """(place, JSON value or _NoText) of all documents of a file."""
    if file.name.lower().endswith(_JSON):
        first = next((value for _, line in _lines(file) if (value := _parsed(line)) != _BLANK), _BLANK)
        if first != _BLANK and not isinstance(first, dict):
            with _opened(file) as stream:
                whole = _parsed(_decoded(_whole(stream, file.name), file.name))
            if isinstance(whole, _NoText):
                raise CorpusError(f"{file.name} {whole.sentence}")
            items = whole if isinstance(whole, list) else [whole]
            yield from ((f"{file.name}, item {number}", item) for number, item in enumerate(items, 1))
            return
    for number, line in _lines(file):
        yield f"{file.name}, line {number}", _parsed(line)


_BLANK = _NoText("blank line", "is blank; expected JSON")


def _parsed(line):
    if isinstance(line, _NoText):
        return line
    line = line.lstrip("\ufeff")  # in the middle, too, where files were joined
    if not line.strip():
        return _BLANK
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        return _NoText("no JSON", f"is no JSON ({error})")


def _whole(stream, name):
    """All bytes of a stream; one that is too long is not read to its end."""
    data = stream.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise CorpusError(f"{name} is longer than {LIMIT:,} bytes; expected documents in shorter files, or as JSON lines")
    return data


def _members(path, ending, key):
    """(name, bytes or _NoText) of the files with this ending in a folder or a zip, sorted by ``key`` of their names."""
    if path.suffix.lower() == ".zip" and path.is_file():
        with _told(path), zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if member.filename.lower().endswith(ending)]
            if not members:
                raise CorpusError(f"{path.name} holds no file {ending}")
            for member in sorted(members, key=lambda member: key(member.filename)):
                name = member.filename
                if _hidden(name):
                    yield name, _HIDDEN
                else:
                    with archive.open(member) as stream:
                        yield name, _whole(stream, name)
    else:
        files = _files(path, (ending,))
        for name in sorted(files, key=key):
            if _hidden(name):
                yield name, _HIDDEN
            else:
                with _told(files[name]), open(files[name], "rb") as stream:
                    yield name, _whole(stream, name)


def _decoded(data, name):
    encoding, skipped = _marked(data[:4], name)
    try:
        return data[skipped:].decode(encoding)
    except UnicodeDecodeError as error:
        raise CorpusError(f"{name} is not {encoding.upper()} ({error.reason} at byte {error.start + skipped})") from None


def openwebtext(*, strict=False):
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
            return _source(lambda facts=facts: facts, partial(_web_pages, dataset, revision), strict)
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
            raise Interrupted(f"the stream of {dataset} broke after {number - 1} documents ({error}); start again") from None
        if page is None:
            return
        yield f"{dataset}, document {number}", page


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
    packages: their names, or one string with commas between them.

    No download, the same text for the same versions. Kept are paragraphs that read like sentences, each only once. Documents
    come in the order of their SHA-256, so that the beginning of the text is a sample of all packages.
    """
    folders, versions = {}, {}
    packages = [package.strip() for package in (packages.split(",") if isinstance(packages, str) else packages)]
    for package in packages:
        try:
            versions[package] = version(package).split("+")[0]  # torch says which build it is after a plus sign
            folders[package] = Path(find_spec(package).submodule_search_locations[0])
        except (ImportError, ValueError, AttributeError, TypeError):  # no such package, no name of one, or a single file
            raise CorpusError(
                f"package {package} is not installed, or no folder; expected packages of constraints.txt"
            ) from None

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
