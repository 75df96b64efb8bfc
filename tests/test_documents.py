"""Documents from files, books, the web and installed packages.   ./run_tests.sh tests/test_documents.py"""

import gzip
import http.server
import json
import threading
import time
import zipfile

import pyarrow
import pytest

from memlm import documents
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
    for name, text in files.items():
        put(tmp_path / "texts" / name, text.encode())
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
    for name, text in BOOKS.items():
        put(tmp_path / "spgc" / name, text.encode())
    for path in (tmp_path / "spgc", zipped(tmp_path / "spgc.zip", {f"SPGC/{name}": text for name, text in BOOKS.items()})):
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
