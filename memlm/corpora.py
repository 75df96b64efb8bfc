"""Where training lines come from, and what may be in them."""

import hashlib
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np

from memlm import sources
from memlm.grammar import question_formation, whole, word_list
from memlm.paths import RAW, sha256, writing
from memlm.question import LEXICON, split_line, text_lines

QUESTION_FORMATION = RAW / "question-formation"
_ADDRESS = "https://raw.githubusercontent.com/tommccoy1/rnn-hierarchical-biases/master/data/question."
# The first digits of the files' git blob ids (SHA-1 of 'blob <size>\\0' and the bytes) and their number of lines.
_FILES = {
    "train": ("a3e63ea441", 100_000),
    "dev": ("052004271f", 1_000),
    "test": ("9d999b4c13", 10_000),
    "gen": ("adf8cd0b3f", 10_000),
}
SOURCES = ("mccoy", "file", "generator")
END = 0  # id of the token that ends a line; it also stands before the first word
IGNORED = -100  # target of padding


class CorpusError(ValueError):
    """A corpus is missing, out of reach, damaged, or holds what it may not hold."""


@dataclass(frozen=True)
class Corpus:
    """Lines of text in three parts. source: one of SOURCES, whose parts are disjoint, or a name of ``sources.SOURCES``,
    whose parts are independent draws; digest: SHA-256 of all lines, in order."""

    source: str
    digest: str
    vocabulary: tuple[str, ...]
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]
    gen: tuple[str, ...] = ()  # questions whose subject has a relative clause: the generalisation set


def blob_id(data):
    """The id under which git stores these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def fetch_question_formation(folder=QUESTION_FORMATION, address=_ADDRESS, timeout=10):
    """Download McCoy et al.'s train, dev, test and gen files into ``folder``; a file that is not the expected one is
    refused and nothing of it is kept. Raises CorpusError, at once where the host cannot be reached."""
    for part, (prefix, _) in _FILES.items():
        path = folder / f"question.{part}"
        if path.is_file() and blob_id(path.read_bytes()).startswith(prefix):
            continue
        try:
            with urllib.request.urlopen(f"{address}{part}", timeout=timeout) as reply:
                data = reply.read()
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise CorpusError(
                f"question.{part} cannot be downloaded from {address}{part} ({reason}); "
                "profile smoke needs no network, and the other profiles then use the suite's own generator"
            ) from None
        if not blob_id(data).startswith(prefix):
            raise CorpusError(f"question.{part} has git blob id {blob_id(data)[:10]}; expected {prefix}: corrupted download")
        with writing(path) as file:
            file.write(data)


def available_source(folder=QUESTION_FORMATION, download=False):
    """Which source Question-Formation lines come from here: 'mccoy' (their files, checked), 'file' (other files that the
    user put into ``folder``) or 'generator'. With ``download``, McCoy et al.'s files are fetched if there are none."""
    if not (folder / "question.train").is_file() and download:
        try:
            fetch_question_formation(folder)
        except CorpusError as error:
            print(error)
    paths = {part: folder / f"question.{part}" for part in ("train", "dev", "test")}
    if not paths["train"].is_file():
        return "generator"
    for part, path in paths.items():
        if not path.is_file():
            raise CorpusError(f"{folder} has question.train but no question.{part}; expected train, dev and test")
    whole = all(blob_id(path.read_bytes()).startswith(_FILES[part][0]) for part, path in paths.items())
    return "mccoy" if whole else "file"


def load_question_formation(source, train_lines=100_000, seed=0, folder=QUESTION_FORMATION):
    """The corpus from ``source``, with the first ``train_lines`` training lines in an order drawn from ``seed``.

    From 'generator', lines are drawn one after another, duplicates are dropped, and the parts are cut from what remains,
    so that they are disjoint; from files, words outside the vocabulary and overlapping parts are refused (CorpusError).
    """
    if source not in SOURCES:
        raise CorpusError(f"source is {source!r}; expected one of {', '.join(SOURCES)}")
    train_lines, seed = whole("train_lines", train_lines, 1), whole("seed", seed, 0, 2**64 - 1)
    if source == "generator":
        return _generated(train_lines, seed)
    language = question_formation()
    actual = available_source(folder)
    if actual != source:
        raise CorpusError(f"the files in {folder} are of source {actual!r}; expected {source!r}")
    parts = {part: _read(folder / f"question.{part}", language.vocabulary) for part in ("train", "dev", "test")}
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        shared = len(set(parts[one]) & set(parts[other]))
        if shared:
            raise CorpusError(f"question.{one} and question.{other} share {shared} lines; expected 0")
    # The public files are in generation order, short sentences first.
    order = np.random.default_rng(seed).permutation(len(parts["train"]))
    parts["train"] = [parts["train"][i] for i in order[:train_lines]]
    if (folder / "question.gen").is_file():
        parts["gen"] = _read(folder / "question.gen", language.vocabulary)
    return _corpus(source, language, parts)


@lru_cache(maxsize=2)
def _generated(train_lines, seed):
    language = question_formation()
    sizes, lines, drawn = {"train": train_lines, "dev": 1_000, "test": 10_000}, {}, 0
    while len(lines) < sum(sizes.values()):  # a dict keeps the order and drops duplicates
        lines.update(dict.fromkeys(language.sample(sum(sizes.values()), f"{seed}:{drawn}")))
        drawn += 1
    left = iter(lines)
    parts = {part: list(islice(left, size)) for part, size in sizes.items()}
    held_out = question_formation(quest=1, relative_questions=True).sample(5_000, f"{seed}:gen")
    # As in McCoy et al.'s file, the main auxiliary is never the same word as the one before it.
    auxiliaries = {*LEXICON["Aux_s"], *LEXICON["Aux_p"]}
    subjects = [line for line in dict.fromkeys(held_out) if line.split()[2] in LEXICON["Rel"]]
    found = [[word for word in line.split() if word in auxiliaries] for line in subjects]
    parts["gen"] = [line for line, (first, main, *_) in zip(subjects, found, strict=True) if first != main]
    return _corpus("generator", language, parts)


def _corpus(source, language, parts):
    digest = sha256("\n".join(line for part in parts.values() for line in part))
    return Corpus(source, digest, tuple(language.vocabulary), **{part: tuple(lines) for part, lines in parts.items()})


def load(name, train_lines):
    """The corpus of that name: Question-Formation lines from mccoy, file or generator, or a source of ``sources``."""
    return (load_question_formation if name in SOURCES else load_lines)(name, train_lines)


def load_lines(name, train_lines=100_000, seed=0):
    """The corpus of a source of ``sources.SOURCES``: train, dev and test are independent draws from it.

    Lines that occur twice are kept, within a part and between parts: the law of lines that have not occurred before is
    another one, with more long lines and a higher entropy rate, which moreover changes with the number of lines drawn (see
    ``QuestionFormation.heldout_entropy_rate``). Raises ValueError that lists the names.
    """
    train_lines, seed = whole("train_lines", train_lines, 1), whole("seed", seed, 0, 2**64 - 1)
    language, sizes = sources.source(name), {"train": train_lines, "dev": 1_000, "test": 10_000}
    return _corpus(name, language, {part: language.sample(size, f"{seed}:{part}") for part, size in sizes.items()})


def _read(path, vocabulary):
    known, lines = set(vocabulary), path.read_text(encoding="utf8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            unknown = [word for half in split_line(line) for word in half if word not in known]
        except ValueError as error:
            raise CorpusError(f"{path.name}, line {number}: {error}") from None
        if unknown:
            raise CorpusError(f"{path.name}, line {number} has the word {unknown[0]!r}; expected one of {len(known)} words")
    return lines


def encode(lines, vocabulary):
    """Lines as token ids: (inputs, targets, first_half), each (m, T) with T the longest line; numpy int64, int64, bool.

    inputs begin with END, targets end with it; padding is END in inputs and IGNORED in targets. The tab is no token.
    first_half marks the targets that can be random: the words before the tab, so up to and including a type token, and in
    a line without a tab all words and the end of the line, since where it ends is then random too.
    """
    ids = {word: i for i, word in enumerate(word_list(vocabulary, "vocabulary"), END + 1)}
    halves = [sources.split(line) for line in text_lines(lines)]
    width = max(len(first) + len(second) for first, second in halves) + 1
    inputs = np.full((len(halves), width), END)
    targets = np.full((len(halves), width), IGNORED)
    first_half = np.zeros((len(halves), width), bool)
    for row, (first, second) in enumerate(halves):
        tokens = [ids[word] for word in first + second]
        inputs[row, 1 : len(tokens) + 1] = tokens
        targets[row, : len(tokens)] = tokens
        targets[row, len(tokens)] = END
        first_half[row, : len(first) + (not second)] = True
    return inputs, targets, first_half
