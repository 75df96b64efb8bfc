"""Two sets of sequences that a model is asked about: their ids checked, their padding known, none of them twice."""

import warnings
from bisect import bisect_left

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from memlm.corpora import IGNORED
from memlm.grammar import whole


class BadSequences(ValueError):
    """Not sequences of at least 2 int64 token ids of the model's vocabulary, of like lengths in both sets."""


class EmptyHeldOut(ValueError):
    """Without held-out sequences memorising cannot be told from modelling."""


class Overlap(ValueError):
    """Too many held-out sequences are training sequences."""


def odd(tensor):
    """What keeps a tensor from holding a number for each place: "meta", "nested" or a sparse layout; "" if nothing."""
    if tensor.is_meta or tensor.is_nested:
        return "meta" if tensor.is_meta else "nested"
    return "" if tensor.layout == torch.strided else str(tensor.layout).removeprefix("torch.")


def real_tokens(train, heldout, pad=None, lengths=None):
    """Both sets as (n, T) int64 on the CPU, IGNORED after the end of every sequence, and how many ids were padding.

    The arguments are those of ``collapse.collapse_report``. Raises BadSequences, EmptyHeldOut.
    """
    lists = all(isinstance(part, list | tuple) for part in (train, heldout))
    parts = {name: _matrix(name, part, lists) for name, part in (("train", train), ("heldout", heldout))}
    given = sum(int(there.sum()) for _, there in parts.values())
    if lengths is None and pad is None and all(there.all() for _, there in parts.values()):
        pad = _found_pad([ids for ids, _ in parts.values()])
    if lengths is not None:
        parts = _cut_to(parts, lengths, pad, lists)
    elif pad is not None:
        pad = _id("pad", pad)
        parts = {name: (ids, _before_pad(name, ids, there, pad)) for name, (ids, there) in parts.items()}
    sizes = [_sizes(name, *part) for name, part in parts.items()]
    if max(sizes)[0] > min(sizes)[1]:
        x, y = (f"{least}" if least == most else f"{least} to {most}" for least, most in sizes)
        raise BadSequences(f"train has sequences of {x} tokens and heldout of {y}; expected equal lengths")
    width = max(most for _, most in sizes)
    x, y = (F.pad(ids.where(there, IGNORED), (0, width - ids.shape[1]), value=IGNORED) for ids, there in parts.values())
    return x, y, given - sum(int(there.sum()) for _, there in parts.values())


def _matrix(name, part, lists):
    """The ids of a tensor or a list of sequences as (n, T) on the CPU, and which of them there are."""
    if lists:
        rows = [_row(name, row) for row in part]
        there = pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in rows], batch_first=True) if rows else None
        part = pad_sequence(rows, batch_first=True) if rows else torch.zeros(0, 2, dtype=torch.int64)
    if isinstance(part, torch.Tensor) and odd(part):
        raise BadSequences(f"{name} is a {odd(part)} tensor; expected a dense torch.int64 tensor (sequences, tokens)")
    if not isinstance(part, torch.Tensor) or part.dtype != torch.int64 or part.dim() != 2:
        got = f"{part.dtype} of shape {tuple(part.shape)}" if isinstance(part, torch.Tensor) else type(part).__name__
        raise BadSequences(f"{name} is {got}; expected a torch.int64 tensor (sequences, tokens)")
    if not len(part):
        raise (EmptyHeldOut if name == "heldout" else BadSequences)(f"{name} has 0 sequences; expected at least 1")
    if part.shape[1] < 2:
        raise BadSequences(f"{name} has sequences of {part.shape[1]} tokens; expected at least 2")
    return part.cpu(), there if lists else torch.ones(part.shape, dtype=torch.bool)


def _row(name, row):
    try:
        found = torch.as_tensor(row).cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        found = None
    if found is None or odd(found) or found.dtype != torch.int64 or found.dim() != 1:
        got = type(row).__name__ if found is None else odd(found) or f"{found.dtype} of shape {tuple(found.shape)}"
        raise BadSequences(f"{name} has a sequence that is {got}; expected token ids, torch.int64 of shape (tokens,)")
    return found


def _before_run(ids, there, pad):
    """Which ids stand before the run of ``pad``, one id or one for each sequence (n, 1), that their sequence ends in."""
    return (there & (ids != pad)).flip(1).cumsum(1).flip(1) > 0


def _before_pad(name, ids, there, pad):
    before = _before_run(ids, there, pad)
    inside = int(((ids == pad) & before)[:, int((ids[:, 0] == pad).all()) :].any(1).sum())  # it may be a begin token too
    if inside:
        raise BadSequences(
            f"{name} has the pad id {pad} before other tokens in {inside} of {len(ids)} sequences; expected it behind them "
            "alone, or lengths"
        )
    return before


def _found_pad(parts):
    """The id that pads full matrices of ids behind, with a warning, or None; BadSequences where one pads them in front."""
    before, behind = _run_alone([ids.flip(1) for ids in parts]), _run_alone(parts)
    if behind is not None:
        pad, rows, count = behind
        warnings.warn(
            f"the id {pad} stands in runs at the ends of {rows} sequences and nowhere else: {count} ids are left out as "
            f"padding (pad={pad} says that they are, lengths that they are not)",
            stacklevel=4,
        )
        return pad
    if before is not None:
        pad, rows, _ = before
        raise BadSequences(
            f"the id {pad} stands in runs at the beginnings of {rows} sequences and nowhere else; expected padding behind "
            "them, or lengths that say that it is none"
        )
    return None


def _run_alone(parts):
    """An id that stands nowhere but in runs at the ends of sequences, of two or more of them, and one run has two or more;
    it may also begin all sequences, as where one id is begin, end and padding.

    With the number of these sequences and ids; None where there is none, or sequences are nothing else.
    """
    ends = []
    for ids in parts:
        last = ids[:, -1:]
        run = ids.shape[1] - _before_run(ids, torch.ones_like(ids, dtype=torch.bool), last).sum(1)
        ends.append(torch.stack([last[:, 0], run, torch.full_like(run, ids.shape[1])]))
    last, run, width = torch.cat(ends, 1)
    for pad in last[(run > 1) & (run < width)].unique().tolist():
        here = last == pad
        count = int(run[here].sum())
        first = all((ids[:, 0] == pad).all() for ids in parts)
        if (here & (run < width)).sum() > 1 and count == sum(int((ids == pad)[:, first:].sum()) for ids in parts):
            return pad, int(here.sum()), count
    return None


def _cut_to(parts, lengths, pad, lists):
    if pad is not None or lists:
        raise BadSequences("lengths are given beside pad or lists of sequences; expected one of the three")
    both = (lengths, lengths) if isinstance(lengths, torch.Tensor) and lengths.dim() == 1 else lengths
    if not hasattr(both, "__len__") or len(both) != 2:
        raise BadSequences(f"lengths are {type(both).__name__}; expected a pair, those of train and those of heldout")
    cut = {}
    for (name, (ids, _)), some in zip(parts.items(), both, strict=True):
        some, (n, width) = _row(f"lengths of {name}", some), ids.shape
        if some.shape != (n,) or not 0 <= some.min() <= some.max() <= width:
            raise BadSequences(
                f"lengths of {name} are {len(some)} numbers from {some.min()} to {some.max()}; expected {n} up to {width}"
            )
        cut[name] = ids, torch.arange(width) < some[:, None]
    return cut


def _sizes(name, ids, there):
    """(least, most) tokens of a sequence, once there are at least 2 and none is negative."""
    sizes, real = there.sum(1), ids[there]
    if sizes.min() < 2:
        raise BadSequences(f"{name} has sequences of {sizes.min()} tokens; expected at least 2")
    if real.min() < 0:
        raise BadSequences(f"{name} has ids from {real.min()} to {real.max()}; expected at least 0")
    return int(sizes.min()), int(sizes.max())


def _id(name, value):
    try:
        return whole(name, value, -(2**63), 2**63 - 1)
    except ValueError:
        raise BadSequences(f"{name} is {value!r}; expected a token id") from None


def begin_token(begin, x, y):
    """begin as an int, once it is known not to begin more than nine in ten sequences of a set already."""
    begin = _id("begin", begin)
    for name, ids in (("train", x), ("heldout", y)):
        already = int((ids[:, 0] == begin).sum())
        if 10 * already > 9 * len(ids):
            which = "every sequence begins" if already == len(ids) else f"{already} of {len(ids)} sequences of {name} begin"
            raise BadSequences(f"{which} with {begin} already; expected begin=None, or sequences without it")
    return begin


def distinct(x, y, max_shared):
    """Training sequences that neither repeat nor begin another, held-out ones that neither are nor begin one of them.

    So no two training sequences can happen at once. Also how many were left out of each.
    """
    rows, held = ([row[row != IGNORED].astype(">i8").tobytes() for row in part.numpy()] for part in (x, y))
    once = {row: i for i, row in reversed(list(enumerate(rows)))}
    order = sorted(once)  # as big-endian bytes a sequence is followed by those that it begins
    whole = [row for row, after in zip(order, [*order[1:], b""], strict=True) if not after.startswith(row)]
    places = [bisect_left(whole, row) for row in held]
    new = torch.tensor([i == len(whole) or not whole[i].startswith(row) for row, i in zip(held, places, strict=True)])
    shared = int((~new).sum())
    if shared > max_shared * len(y):
        raise Overlap(f"{shared} of {len(y)} held-out sequences are training sequences; expected at most {max_shared:.2%}")
    if shared == len(y):
        raise EmptyHeldOut("every held-out sequence is a training sequence; expected at least 1 that is not")
    return x[sorted(once[row] for row in whole)], y[new], len(x) - len(whole), shared
