"""Documents from files, books, the web and installed packages.   ./run_tests.sh tests/test_documents.py"""

import errno
import gzip
import http.server
import json
import os
import re
import threading
import time
import tracemalloc
import zipfile
from functools import partial

import numpy as np
import pyarrow
import pytest

from memlm import documents, text
from memlm.__main__ import main
from memlm.corpora import CorpusError

TEXTS = ["The newt sleeps.", "Two\nlines, \u00e9 and \u4e2d.", "x" * 5000]
LINES = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(TEXTS)).encode()


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = pyarrow.Codec("zstd").compress(data, asbytes=True)
    path.write_bytes(data)
    return path


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("ending", documents._LINES + documents._JSON)
def test_json_lines_plain_and_compressed(tmp_path, ending):
    source = documents.source("jsonl", str(put(tmp_path / f"a{ending}", LINES)), licence="CC0")
    assert list(source.read()) == TEXTS == list(source.read())
    assert source.facts["licence"] == "CC0" and json.loads(json.dumps(source.facts)) == source.facts


def test_a_folder_of_json_lines_is_read_in_the_order_of_names_and_its_hash_sees_every_byte(tmp_path):
    put(tmp_path / "b.jsonl.gz", LINES)
    put(tmp_path / "a.jsonl", b'{"text": "first"}\n')
    (tmp_path / "README.md").write_text("not a document")
    source = documents.jsonl(tmp_path)
    assert list(source.read()) == ["first", *TEXTS]
    put(tmp_path / "a.jsonl", b'{"text": "First"}\n')
    assert source.facts["files"] == 2 and documents.jsonl(tmp_path).facts["sha256"] != source.facts["sha256"]


DAMAGED = {
    "no field": (b'{"txt": "a"}\n', r"line 1 has no text; expected a non-empty string"),
    "empty": (b'{"text": "a"}\n{"text": " \\n"}\n', "line 2 has no text"),
    "no string": (b'{"text": 3}\n', "line 1 has no text"),
    "no object": (b'["text"]\n', "line 1 has no text"),
    "no JSON": (b'{"text": "a"}\n{"text": "b\n', "line 2 is no JSON"),
    "half a character": (b'{"text": "ab\\ud800"}\n', "line 1 has half a character at 2"),
    "bad bytes": (b'{"text": "\xff\xfe"}\n', "line 1 is no JSON"),
}


@pytest.mark.parametrize(("data", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_document_without_text_is_named_with_its_line(tmp_path, data, message):
    with pytest.raises(CorpusError, match=message):
        list(documents.jsonl(put(tmp_path / "a.jsonl", data), strict=True).read())


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
def test_a_compressed_file_that_is_cut_off_is_refused(tmp_path, ending):
    path = put(tmp_path / f"a{ending}", LINES)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CorpusError, match="is cut off or damaged"):
        list(documents.jsonl(path).read())


def test_plain_texts_from_a_folder_a_zip_and_a_file(tmp_path):
    files = {"b.txt": TEXTS[0], "a/c.txt": TEXTS[1]}
    for name, content in files.items():
        put(tmp_path / "texts" / name, content.encode())
    for path in (tmp_path / "texts", zipped(tmp_path / "texts.zip", files)):
        assert list(documents.text(path).read()) == [TEXTS[1], TEXTS[0]]
    assert list(documents.text(tmp_path / "texts" / "b.txt").read()) == [TEXTS[0]]
    put(tmp_path / "texts" / "a.txt", b"")
    with pytest.raises(CorpusError, match=r"a\.txt has no text"):
        list(documents.text(tmp_path / "texts", strict=True).read())
    put(tmp_path / "texts" / "a.txt", "caf\u00e9".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"a\.txt is not UTF-8 .* at byte 3"):
        list(documents.text(tmp_path / "texts").read())


BOOKS = {
    "PG10_tokens.txt": "last\nbook\n",
    "PG2_tokens.txt": "The\nsecond\nbook",
    "PG9_tokens.txt": "\n",
    "PG10_raw.txt": "no",
}


def test_books_in_the_order_of_their_ids_up_to_a_number_of_words(tmp_path):
    for name, content in BOOKS.items():
        put(tmp_path / "spgc" / name, content.encode())
    for path in (
        tmp_path / "spgc",
        zipped(tmp_path / "spgc.zip", {f"SPGC/{name}": content for name, content in BOOKS.items()}),
    ):
        read = {words: list(documents.spgc(path, words).read()) for words in (None, 5, 4, 3, 2, 100)}
        assert read[None] == read[5] == read[100] == ["the second book", "last book"]
        assert (read[4], read[3], read[2]) == (["the second book", "last"], ["the second book"], ["the second"])


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(CorpusError, match="source is 'web'; expected one of jsonl, text, spgc, openwebtext, documentation"):
        documents.source("web")
    with pytest.raises(CorpusError, match=r"none does not exist; expected a file \.jsonl or"):
        documents.jsonl(tmp_path / "none")
    with pytest.raises(CorpusError, match=r"is or holds no file _tokens\.txt or \.zip"):
        documents.spgc(tmp_path)
    put(tmp_path / "a.zip", b"not a zip")
    with pytest.raises(CorpusError, match=r"a\.zip is cut off or damaged"):
        list(documents.text(tmp_path / "a.zip").read())
    with pytest.raises(CorpusError, match="package no_such_package is not installed"):
        documents.documentation(["no_such_package"])


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [("HF_HUB_OFFLINE", "1", "HF_HUB_OFFLINE is set"), ("HF_ENDPOINT", "http://127.0.0.1:9", "out of reach .*refused")],
)
def test_without_the_hub_openwebtext_says_at_once_what_needs_no_network(monkeypatch, variable, value, reason):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv(variable, value)
    begun = time.perf_counter()
    with pytest.raises(CorpusError, match=f"{reason}.*profile smoke and the source documentation need no network"):
        documents.source("openwebtext")
    assert time.perf_counter() - begun < 2


@pytest.fixture
def hub(monkeypatch):
    """A hub on this machine that knows the commit of every branch but those put into ``hub.unknown``."""

    class Hub(http.server.BaseHTTPRequestHandler):
        unknown: tuple[str, ...] = ()
        asked: list[str]  # set below

        def do_GET(self):
            self.asked.append(self.path)
            self.send_response(404 if any(name in self.path for name in self.unknown) else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"sha": f"commit-of-{self.path.rsplit('/', 1)[1]}"}).encode())

        def log_message(self, *arguments):
            pass

    Hub.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield Hub
        server.shutdown()


def test_openwebtext_falls_back_in_order_and_records_the_commit(hub, monkeypatch):
    def rows(dataset, revision):
        if revision == "commit-of-main":
            raise RuntimeError("Dataset scripts are no longer supported, but found openwebtext.py")
        return [{"text": text} for text in TEXTS]

    monkeypatch.setattr(documents, "_rows", rows)
    source = documents.openwebtext()
    assert list(source.read()) == TEXTS == list(source.read())
    assert source.facts["dataset"] == "Skylion007/openwebtext" and source.facts["branch"] == "refs/convert/parquet"
    assert source.facts["revision"] == "commit-of-refs%2Fconvert%2Fparquet"
    assert len(hub.asked) == 2


def test_when_every_copy_fails_all_reasons_are_told(hub, monkeypatch):
    hub.unknown = ("Skylion007",)
    monkeypatch.setattr(documents, "_rows", lambda dataset, revision: iter(()))
    with pytest.raises(
        CorpusError, match=r"main: HTTP Error 404.*parquet: HTTP Error 404.*tokenized-9b at main: StopIteration"
    ):
        documents.openwebtext()
    assert len(hub.asked) == 3


def test_a_stream_that_breaks_says_how_far_it_came(hub, monkeypatch):
    def rows(dataset, revision):
        yield {"text": "one"}
        yield {"text": "two"}
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(documents, "_rows", rows)
    with pytest.raises(CorpusError, match=r"broke after 2 documents \(reset by peer\)"):
        list(documents.openwebtext().read())


def test_the_tokenised_copy_gives_the_documents_back(hub, monkeypatch):
    class Words:  # stands for GPT-2's tokenizer, whose files need not be here
        end = 9

        def decode(self, ids):
            return " ".join("abcdefgh"[i] for i in ids)

    hub.unknown = ("Skylion007",)
    monkeypatch.setattr(documents, "gpt2", Words)
    # Two rows of one stream a b | c d e | f, cut in the middle of a document, each with the end before it.
    monkeypatch.setattr(documents, "_rows", lambda *_: [{"tokens": [9, 0, 1, 9, 2]}, {"tokens": [9, 3, 4, 9, 5]}])
    assert list(documents.openwebtext().read()) == ["a b", "c d e", "f"]


CODE = '''
def f(x):
    """Return the sum of all entries of `x`, as :func:`numpy.sum` does.

    Parameters
    ----------
    x : array
        The entries that are added up, in any order that may suit.

    This sentence about the function has more than enough words.
    >>> f([1, 2, 3, 4, 5, 6, 7, 8]) == 36 and so on and so forth.

    - Each bullet with a whole sentence stands for itself, too.

    x1  x2  x3  1.0 2.0 3.0 4.0 5.0 6.0 7.0 8.0 9.0 10.0 11.0.
    """
    value = """Never a documentation string, although it is one long sentence."""

def g(x):
    """Return the sum of all entries of `x`, as :func:`numpy.sum` does."""
'''


def test_of_documentation_only_sentences_remain_and_each_once():
    assert list(documents._prose(CODE, set())) == [
        "Return the sum of all entries of x, as numpy.sum does.",
        "Each bullet with a whole sentence stands for itself, too.",
    ]


def test_documentation_of_an_installed_package_is_the_same_each_time(tmp_path):
    source = documents.source("documentation", ["mpmath", "networkx"])
    pages = list(source.read())
    assert pages == list(source.read())
    # The beginning is a sample of both packages, where the order of files would put one before the other.
    alone = set(documents.source("documentation", ["mpmath"]).read())
    first, last = (sum(page in alone for page in part) for part in (pages[: len(pages) // 2], pages[len(pages) // 2 :]))
    assert min(first, last) > (first + last) / 4 > 5
    paragraphs = [paragraph for page in pages for paragraph in page.split("\n\n")]
    assert len(set(paragraphs)) == len(paragraphs) > 1000
    assert min(len(page.split()) for page in pages) >= 100
    assert set(source.facts["packages"]) == {"mpmath", "networkx"} and all(source.facts["licence"].values())


def sifted(source):
    """The documents of a source, and what it left out."""
    texts = list(source.read())
    return texts, source.left_out(len(texts))


NOT_DOCUMENTS = {
    "blank": ("blank line", ["", " \r"]),
    "empty": ("empty text", ['{"text": ""}', '{"text": " \\n\\t"}', '{"text": "\\ufeff"}']),
    "no string": ("no string", ['{"text": null}', '{"text": 3}', '{"text": ["a"]}', '{"text": {"a": "b"}}']),
    "half": ("half a character", ['{"text": "a\\ud83d"}', '{"text": "\\ude00 b"}']),
    "no field": ("no field 'text'", ['{"txt": "a"}', "{}"]),
    "no object": ("no object", ["null", "[1]", '"text"', "7"]),
    "no JSON": ("no JSON", ['{"text": "cut of', "\0\0\0", "[" * 100_000, "text", '{"text": "a"} {"text": "b"}']),
    "not UTF-8": (
        "not UTF-8",
        ['{"text": "caf\udce9"}', '{"title": "\udcff", "text": "a"}', "\udc80", '{"text": "\udced\udca0\udc80"}'],
    ),
}


@pytest.mark.parametrize("ending", documents._LINES)
@pytest.mark.parametrize(("reason", "lines"), NOT_DOCUMENTS.values(), ids=NOT_DOCUMENTS)
def test_a_line_that_is_no_document_is_left_out_and_counted_or_refused_when_strict(tmp_path, ending, reason, lines):
    data = "\n".join([LINES.decode() + lines[0], *lines[1:], LINES.decode() + lines[-1]])
    path = put(tmp_path / f"a{ending}", data.encode(errors="surrogateescape"))
    assert sifted(documents.jsonl(path)) == (TEXTS * 2, {reason: len(lines) + 1})
    with pytest.raises(CorpusError, match=rf"^a{ending}, line 4 (is|has) .*(expected|no JSON)"):
        list(documents.jsonl(path, strict=True).read())


def test_where_nothing_is_a_document_the_reasons_are_told(tmp_path):
    for line, message in {
        '{"content": "a", "id": 1}': "field 'text', beside 'content', 'id'$",
        "name,text": "line 1 is no JSON",
        "": "line 1 is blank",
    }.items():
        path = put(tmp_path / "a.jsonl", f"{line}\n".encode() * 3)
        with pytest.raises(CorpusError, match=f"^a.jsonl holds no document; 3 left out: a.jsonl, .*{message}"):
            list(documents.jsonl(path).read())


def test_another_field_is_read_and_is_part_of_what_the_corpus_is(tmp_path):
    path = put(tmp_path / "a.jsonl", b'{"content": "a", "text": "b"}\n{"text": "c"}\n')
    assert sifted(documents.jsonl(path, field="content")) == (["a"], {"no field 'content'": 1})
    assert documents.jsonl(path, field="content").facts == documents.jsonl(path).facts | {"field": "content"}
    assert documents.jsonl(path, field="text").facts == documents.jsonl(path).facts  # digests of old corpora stay


WHOLE = {
    "one line": json.dumps([{"text": text} for text in TEXTS]),
    "indented": json.dumps([{"text": text} for text in TEXTS], indent=1),
    "lines": LINES.decode(),
    "lines after a blank one": "\n" + LINES.decode(),
}


@pytest.mark.parametrize("ending", documents._JSON)
@pytest.mark.parametrize("data", WHOLE.values(), ids=WHOLE)
def test_a_json_file_holds_an_array_or_lines(tmp_path, data, ending):
    assert list(documents.jsonl(put(tmp_path / f"a{ending}", data.encode())).read()) == TEXTS
    assert list(documents.jsonl(put(tmp_path / f"b{ending}", data.encode("utf-16"))).read()) == TEXTS


def test_a_json_file_holds_one_object_and_is_told_where_it_is_broken(tmp_path):
    assert list(documents.jsonl(put(tmp_path / "a.json", b'{\n "text": "a"}')).read()) == ["a"]
    assert sifted(documents.jsonl(put(tmp_path / "a.json", b'[{"text": "a"}, null]'))) == (["a"], {"no object": 1})
    for data, message in {
        b'[{"text": "a"}, {': "a.json is no JSON",
        b'{"data": [{"text": "a"}]}': "beside 'data'",
        b'[{"text": "\xe9"}]': "a.json is not UTF-8",
    }.items():
        with pytest.raises(CorpusError, match=message):
            list(documents.jsonl(put(tmp_path / "a.json", data)).read())


def test_json_in_a_folder_is_read_where_it_is_alone(tmp_path):
    put(tmp_path / "texts" / "b.json", b'{"text": "b"}')
    assert list(documents.jsonl(tmp_path / "texts").read()) == ["b"]
    facts = documents.jsonl(put(tmp_path / "texts" / "A.JSONL", LINES).parent).facts
    put(tmp_path / "texts" / "b.json", b"about the lines, and no JSON")
    assert list(documents.jsonl(tmp_path / "texts").read()) == TEXTS
    assert documents.jsonl(tmp_path / "texts").facts == facts and facts["files"] == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_not_text(tmp_path, encoding):
    data = LINES.decode().encode(encoding)
    for ending in documents._LINES:
        assert list(documents.jsonl(put(tmp_path / f"a{ending}", data)).read()) == TEXTS
        assert list(documents.jsonl(put(tmp_path / f"b{ending}", data), strict=True).read()) == TEXTS
    word = "caf\u00e9".encode(encoding)
    archive = zipped(tmp_path / "a.zip", {"a.txt": word, "b.txt": "".encode(encoding)})
    assert sifted(documents.text(archive)) == (["caf\u00e9"], {"empty text": 1})
    assert list(documents.text(put(tmp_path / "a.txt", word)).read()) == ["caf\u00e9"]
    assert list(documents.spgc(put(tmp_path / "PG1_tokens.txt", word)).read()) == ["caf\u00e9"]


def test_marks_where_files_were_joined_and_within_json_and_utf_16_without_one(tmp_path):
    joined = put(tmp_path / "a.jsonl", ("\ufeff" + LINES.decode()).encode() * 2)
    assert list(documents.jsonl(joined, strict=True).read()) == TEXTS * 2
    assert list(documents.jsonl(put(tmp_path / "a.jsonl", b'{"text": "\\ufeffa\\ufeffb"}')).read()) == ["a\ufeffb"]
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        for kind, name in (("jsonl", "a.jsonl"), ("text", "a.txt"), ("spgc", "PG1_tokens.txt")):
            with pytest.raises(
                CorpusError, match=f"^{name} begins with .*expected UTF-8, or UTF-16 with a byte order mark$"
            ):
                list(documents.source(kind, put(tmp_path / name, LINES.decode().encode(encoding))).read())
    with pytest.raises(CorpusError, match=r"a.jsonl, line 3 is no JSON in utf-16-le"):
        list(documents.jsonl(put(tmp_path / "a.jsonl", LINES.decode().encode("utf-16")[:-1])).read())


def test_hidden_and_empty_files_are_left_out_of_folders_and_zips_and_no_part_of_what_the_corpus_is(tmp_path):
    files = {"b/a.txt": "a", "c.TXT": "c"}
    more = {
        "__MACOSX/b/._a.txt": "\0\5\x16\7",
        "__MACOSX/d.txt": "d",
        "._c.txt": "\0\5",
        ".git/x.txt": "x",
        "b/.DS_Store": "x",
    }
    for name, data in files.items():
        put(tmp_path / "texts" / name, data.encode())
    clean = documents.text(tmp_path / "texts")
    assert sifted(clean) == (["a", "c"], {})
    for name, data in more.items():
        put(tmp_path / "texts" / name, data.encode())
    for path in (tmp_path / "texts", zipped(tmp_path / "texts.zip", more | files)):
        assert sifted(documents.text(path)) == (["a", "c"], {"hidden file": 4})
        with pytest.raises(CorpusError, match="is a hidden file"):
            list(documents.text(path, strict=True).read())
    assert documents.text(tmp_path / "texts").facts == clean.facts
    put(tmp_path / ".corpus" / "a.txt", b"a")
    assert (
        sifted(documents.text(tmp_path / ".corpus")) == sifted(documents.text(tmp_path / ".corpus" / "a.txt")) == (["a"], {})
    )
    assert list(documents.jsonl(put(tmp_path / ".a.jsonl", LINES), strict=True).read()) == TEXTS  # it was named
    with pytest.raises(CorpusError, match=r"is or holds no file \.txt"):
        documents.text(put(tmp_path / "mac" / "._a.txt", b"a").parent)


def test_two_members_of_a_zip_with_one_name_are_two_documents(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("a.txt", "one")
        archive.writestr("a.txt", "two")
    assert list(documents.text(tmp_path / "a.zip").read()) == ["one", "two"]


def test_books_with_odd_names_are_left_out(tmp_path):
    for name in ("PG4-8_tokens.txt", "mine_tokens.txt", "PG_tokens.txt"):
        put(tmp_path / "odd" / name, b"word")
    with pytest.raises(CorpusError, match=r"odd holds no document; 3 left out: PG4-8_tokens.txt is no name of a book"):
        list(documents.spgc(tmp_path / "odd").read())
    put(tmp_path / "odd" / "PG7_tokens.txt", b"A\nbook\n")
    assert sifted(documents.spgc(tmp_path / "odd")) == (["a book"], {"file without PG<id> in its name": 3})
    with pytest.raises(CorpusError, match=r"PG_tokens\.txt is no name of a book|PG4-8_tokens\.txt is no name of a book"):
        list(documents.spgc(tmp_path / "odd", strict=True).read())
    with pytest.raises(CorpusError, match="words is 0; expected at least 1"):
        documents.spgc(tmp_path / "odd", words=0)
    for words in ("9", 1.5, float("nan")):
        with pytest.raises(CorpusError, match=f"words is {words!r}; expected at least 1, a whole number"):
            documents.spgc(tmp_path / "odd", words=words)


def test_files_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    folder = put(tmp_path / "texts" / "a.txt", b"a").parent
    (folder / "folder.txt").mkdir()
    assert list(documents.text(folder).read()) == ["a"]
    for make in (lambda path: path.symlink_to("nowhere"), lambda path: path.symlink_to(path), os.mkfifo):
        make(folder / "b.txt")
        with pytest.raises(CorpusError, match=r"b\.txt cannot be read; expected a file"):
            documents.text(folder)
        with pytest.raises(CorpusError, match=r"b\.txt (does not exist|cannot be read)"):
            documents.text(folder / "b.txt")
        (folder / "b.txt").unlink()
    for path, message in (
        ("folder.txt", "is or holds no file"),
        ("a.txt/b.txt", "does not exist"),
        ("c.zip", "does not exist"),
    ):
        with pytest.raises(CorpusError, match=message):
            documents.text(folder / path)
    (folder / "d.zip").mkdir()
    with pytest.raises(CorpusError, match=r"d\.zip is or holds no file \.txt"):
        documents.text(folder / "d.zip")

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    source = documents.text(folder)
    monkeypatch.setattr("builtins.open", denied)  # whoever runs the tests may be allowed to read all files
    for act in (lambda: documents.text(folder), lambda: list(source.read()), lambda: documents.jsonl(folder / "a.txt")):
        with pytest.raises(CorpusError, match=r"a\.txt (cannot be read \(Permission denied\)|is or holds no file)"):
            act()


def test_a_folder_within_that_cannot_be_read_is_no_empty_one(tmp_path, monkeypatch):
    put(tmp_path / "texts" / "a.txt", b"a")
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda top, onerror: onerror(PermissionError(errno.EACCES, "denied", "b")) or walk(top))
    with pytest.raises(CorpusError, match=r"b cannot be read \(denied\)"):
        documents.text(tmp_path / "texts")


def flagged(path, offsets, value):
    """A zip with a bit set, or a byte put, in the headers of all its members."""
    data = bytearray(path.read_bytes())
    for signature, offset in zip((b"PK\3\4", b"PK\1\2"), offsets, strict=True):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] = value
            at = data.find(signature, at + 1)
    path.write_bytes(data)
    return path


def test_zips_that_cannot_be_read_are_named(tmp_path):
    def archive(name="a.txt"):
        return zipped(tmp_path / "a.zip", {name: "document"})

    content = archive().read_bytes()
    for path, message in (
        (lambda: flagged(archive(), (6, 8), 1), "a.zip cannot be read .*password"),
        (lambda: flagged(archive(), (8, 10), 9), "a.zip cannot be read .*compression method"),
        (lambda: archive("a.md"), r"a.zip holds no file \.txt"),
        (
            lambda: put(tmp_path / "a.zip", content.replace(b"document", b"Document")),
            r"a.zip is cut off or damaged \(Bad CRC",
        ),
        (lambda: put(tmp_path / "a.zip", content[:-30]), "a.zip is cut off or damaged"),
        (lambda: put(tmp_path / "a.zip", b""), "a.zip is cut off or damaged"),
    ):
        with pytest.raises(CorpusError, match=message):
            list(documents.text(path()).read())


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_with_any_byte_changed_is_read_or_refused_in_a_sentence(tmp_path, method):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("\u00fc.txt", "caf\u00e9 " * 9)
    whole, refused = path.read_bytes(), 0
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            list(documents.text(path).read())
        except CorpusError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > len(whole) / 4


@pytest.mark.parametrize(
    "arguments",
    [("jsonl",), ("text",), ("spgc",), ("documentation", "a", "b"), ("openwebtext", "a"), ("jsonl", "a", "b", "c")],
)
def test_a_kind_that_is_called_wrongly_says_how_it_is_called(arguments):
    with pytest.raises(CorpusError, match=rf"^source {arguments[0]}: .*argument.*; expected {arguments[0]}\(.*\)$"):
        documents.source(*arguments)
    with pytest.raises(CorpusError, match=r"source text: .*'field'; expected text"):
        documents.source("text", "a", field="x")


def test_packages_by_one_string_and_what_is_none(tmp_path):
    both = documents.source("documentation", "mpmath, networkx")
    assert both.facts == documents.documentation(["mpmath", "networkx"]).facts
    assert next(both.read()) == next(documents.documentation(("mpmath", "networkx")).read())
    for name in ("", "mpmath,", ".mpmath", "os.path", "six", "no such package", "mpmath.no"):
        with pytest.raises(
            CorpusError, match=r"^package .* is not installed, or no folder; expected packages of constraints.txt"
        ):
            documents.source("documentation", name)


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(documents, "LIMIT", 1000)


def test_a_line_or_file_above_the_limit_is_refused_and_one_at_the_limit_is_read(tmp_path, small_limit):
    line = b'{"text": "' + b"a" * (1000 - 13) + b'"}\n'
    assert len(line) == 1000
    for ending in documents._LINES:
        path = put(tmp_path / f"a{ending}", line * 3)
        assert len(list(documents.jsonl(path).read())) == 3
        path = put(tmp_path / f"a{ending}", line * 2 + b" " + line)
        with pytest.raises(CorpusError, match=rf"^a{ending}, line 3 is longer than 1,000 bytes"):
            list(documents.jsonl(path).read())
    for length in (1000, 1001):
        data = b"a" * length
        put(tmp_path / f"{length}" / "PG1_tokens.txt", data)
        zipped(tmp_path / f"{length}.zip", {"PG1_tokens.txt": data})
        for kind in ("text", "spgc"):
            for path in (tmp_path / f"{length}", tmp_path / f"{length}.zip"):
                if length == 1000:
                    assert list(documents.source(kind, path).read()) == [data.decode()]
                else:
                    with pytest.raises(CorpusError, match=r"^PG1_tokens\.txt is longer than 1,000 bytes"):
                        list(documents.source(kind, path).read())
    with pytest.raises(CorpusError, match=r"^a\.json is longer than 1,000 bytes; expected .* JSON lines"):
        list(documents.jsonl(put(tmp_path / "a.json", b"[\n" + b'{"text": "a"},\n' * 100 + b"1]")).read())


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.json.gz", "a.zip", "a.txt"])
def test_the_memory_for_what_is_too_long_is_bounded_by_the_limit_and_nothing_is_left(tmp_path, monkeypatch, name):
    monkeypatch.setattr(documents, "LIMIT", 1_000_000)
    content = b'{"text": "' + b"a" * 30_000_000
    path = zipped(tmp_path / name, {"a.txt": content}) if name.endswith(".zip") else put(tmp_path / name, content)
    source = documents.source("jsonl" if "json" in name else "text", path)
    tracemalloc.start()
    try:
        with pytest.raises(CorpusError, match="is longer than 1,000,000 bytes"):
            text.tokenise("t", source, into=tmp_path / "made")
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "made").exists()


def spoilt(path):
    """80 documents, a blank line after each and 3 lines that are no JSON after the 40th."""
    lines = [json.dumps({"text": f"Document {i} has {i * i} words."}) + "\n\n" for i in range(80)]
    lines[40] += "{\n" * 3
    return put(path, "".join(lines).encode())


def test_counts_in_the_manifest_depend_on_nothing_but_the_documents(tmp_path):
    source = documents.jsonl(spoilt(tmp_path / "a.jsonl"))
    list(source.read())  # that a source was read before, to its end, changes nothing
    lengths = [len(document) + 1 for document in source.read()]
    bad = {"no JSON": 3}
    for kept, expected in ((80, {"blank line": 80} | bad), (41, {"blank line": 41} | bad), (40, {"blank line": 40})):
        budget, digests = sum(lengths[:kept]), set()
        for workers, shard in ((1, 4_000_000), (1, 200), (3, 200)):
            for again in (source, documents.jsonl(tmp_path / "a.jsonl")):
                name = f"{kept}-{workers}-{shard}-{again is source}"
                made = text.tokenise(name, again, "byte", budget, 0.3, workers=workers, shard=shard, into=tmp_path)
                assert made.manifest["left_out"] == expected
                digests.add(made.digest)
        assert len(digests) == 1 and sum(part["documents"] for part in made.manifest["parts"].values()) == kept


def test_a_tokenisation_that_was_interrupted_counts_the_same(tmp_path, monkeypatch):
    path = spoilt(tmp_path / "a.jsonl")
    whole = text.tokenise("t", documents.jsonl(path), dev_fraction=0.3, workers=1, shard=200, into=tmp_path / "whole")
    save, saved = np.savez, []

    def interrupted(*arguments, **arrays):
        saved.append(1)
        if len(saved) > 5:
            raise KeyboardInterrupt
        save(*arguments, **arrays)

    monkeypatch.setattr(np, "savez", interrupted)
    with pytest.raises(KeyboardInterrupt):
        text.tokenise("t", documents.jsonl(path), dev_fraction=0.3, workers=1, shard=200, into=tmp_path / "half")
    monkeypatch.setattr(np, "savez", save)
    resumed = text.tokenise("t", documents.jsonl(path), dev_fraction=0.3, workers=1, shard=200, into=tmp_path / "half")
    assert resumed.manifest == whole.manifest and resumed.manifest["left_out"] == {"blank line": 80, "no JSON": 3}


def test_digests_by_which_committed_records_find_their_data(tmp_path):
    """A change of these makes every corpus that was tokenised before another one."""
    texts = [f"Doc {i}: a storm in the harbour caf\u00e9 \U0001f600\nnext {i * i}" for i in range(400)]
    put(tmp_path / "clean.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts).encode())
    for i, document in enumerate(texts):
        put(tmp_path / "f" / f"{i}.txt", document.encode())
        put(tmp_path / "s" / f"PG{i}_tokens.txt", document.replace(" ", "\n").encode())
    made = {
        "jsonl": text.tokenise("a", documents.jsonl(tmp_path / "clean.jsonl"), into=tmp_path / "1"),
        "text": text.tokenise("a", documents.text(tmp_path / "f"), into=tmp_path / "2"),
        "spgc": text.tokenise("a", documents.spgc(tmp_path / "s", words=1000), dev_fraction=0.1, into=tmp_path / "3"),
    }
    assert {kind: tokens.digest[:12] for kind, tokens in made.items()} == {
        "jsonl": "efde29fef6bc",
        "text": "b9a450e8854c",
        "spgc": "e2d0af18b8f8",
    }
    assert not any("left_out" in tokens.manifest for tokens in made.values())


@pytest.fixture
def tokenise(tmp_path, monkeypatch, capsys):
    """The sub-command, with its folder among the test's own; gives status, and the last line that it wrote."""
    monkeypatch.setattr(text, "tokenise", partial(text.tokenise, into=tmp_path / "made"))

    def call(*arguments):
        try:
            main(["tokenise", *map(str, arguments), "--tokenizer", "byte"])
        except SystemExit as stop:
            return stop.code
        return capsys.readouterr().out.strip().splitlines()[-1]

    return call


def test_the_command_tells_what_it_left_out_and_takes_field_and_strict(tmp_path, tokenise):
    texts = [f"Document {i} has {i * i} words." for i in range(300)]
    path = put(tmp_path / "a.jsonl", "".join(json.dumps({"body": text}) + "\n\n" for text in texts).encode() + b"null\n")
    assert re.search("left out: .* field 'text', beside 'body'", tokenise("t", "jsonl", path))
    left_out = r"left out \(--strict refuses\): blank line 300, no object 1"
    told = rf"t: train [\d,]+ tokens, dev [\d,]+ tokens, vocabulary 257; {left_out}"
    assert re.fullmatch(told, tokenise("t", "jsonl", path, "--field", "body"))
    assert re.fullmatch(told, tokenise("t", "jsonl", path, "--field", "body"))  # it is there already
    assert tokenise("u", "jsonl", path, "--field", "body", "--strict") == "memlm: a.jsonl, line 2 is blank; expected JSON"
    clean = put(tmp_path / "b.jsonl", "".join(json.dumps({"text": text}) + "\n" for text in texts).encode())
    assert tokenise("u", "jsonl", clean, "--strict").endswith("vocabulary 257")


def test_the_command_refuses_in_one_sentence(tmp_path, tokenise, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for arguments, message in {
        ("jsonl",): r"source jsonl: missing a required argument: 'path'; expected jsonl\(path, .*\)",
        ("text", "a.txt", "--field", "x"): "source text: got an unexpected keyword argument 'field'; expected .*",
        ("openwebtext", "a.txt"): r"source openwebtext: too many positional arguments; expected openwebtext\(.*\)",
        ("documentation", "m"): "package m is not installed.*",
        ("text", tmp_path / "none"): ".*none does not exist; expected .*",
        ("web",): "source is 'web'; expected one of .*",
    }.items():
        assert re.fullmatch(f"memlm: ({message})", tokenise("t", *arguments))
    assert not (tmp_path / "made").exists()
    assert tokenise("t", "documentation", "mpmath").startswith("t: train ")
