"""The loss of a language model without its logits.

With a vocabulary of 50,257 words the logits of one batch are larger than the model, and most of a small model's work and
memory. Here they exist in pieces, which become the loss and both gradients at once.
"""

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from memlm.corpora import IGNORED

# Bytes of logits held at a time; with much less, the output matrix is read and its gradient written too often.
PIECE, ON_GPU = 2**27, 8  # on a GPU so many times as much


def linear_cross_entropy(hidden, head, targets):
    """Sum of the cross-entropies of all targets in nats: sum_i log sum_j exp(w_j h_i + b_j) - (w_{t_i} h_i + b_{t_i}).

    The sum is over the i with t_i != IGNORED; divide by their number for the mean. hidden (..., d_model), targets (...)
    int64, head: a module with weight (vocabulary, d_model) and perhaps a bias -> a float32 scalar. Matrix products are in
    autocast's precision, softmax and losses in float32. Gradients are computed on the way forward and can be taken once.
    """
    if not torch.is_grad_enabled():
        return token_losses(hidden, head, targets).sum()
    weight, bias, flat = head.weight, getattr(head, "bias", None), _flat(hidden, targets, len(head.weight))
    return _LinearCrossEntropy.apply(flat, weight, bias, targets.flatten(), _precision(hidden))


@torch.no_grad()
def token_losses(hidden, head, targets):
    """The terms of ``linear_cross_entropy``, 0 where a target is IGNORED, without gradients: (...) float32."""
    losses = targets.new_zeros(targets.numel(), dtype=torch.promote_types(hidden.dtype, torch.float32))
    flat = _flat(hidden, targets, len(head.weight))
    weight, dtype = head.weight, _precision(hidden)
    for rows, z in _logits(flat, _filled(weight.to(dtype)), getattr(head, "bias", None), dtype, len(weight)):
        _softmax_minus_one_hot_(z, targets.flatten()[rows], losses[rows])
    return losses.view_as(targets)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, dtype):
        keep, low, whole = (targets != IGNORED)[:, None], _filled(weight.to(dtype)), len(weight)
        softmax = _compiled() if hidden.is_cuda else _softmax_minus_one_hot_
        counted = (hidden * keep).to(dtype)  # a row that is ignored weighs nothing in the sums over rows
        d_hidden, d_weight = torch.empty_like(hidden), weight.new_zeros(low.shape)
        d_bias = None if bias is None else torch.zeros_like(bias)
        losses = targets.new_zeros(len(targets), dtype=torch.promote_types(hidden.dtype, torch.float32))
        for rows, z in _logits(hidden, low, bias, dtype, whole):
            softmax(z, targets[rows], losses[rows])
            dz = z[:, : len(low)]
            d_hidden[rows] = (dz @ low) * keep[rows]
            if dz.dtype == weight.dtype:
                d_weight.addmm_(dz.T, counted[rows])
            else:
                d_weight += dz.T @ counted[rows]
            if bias is not None:
                d_bias += keep[rows, 0].to(dtype) @ dz[:, :whole]
        ctx.save_for_backward(d_hidden, d_weight[:whole], d_bias)
        return losses.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return *(None if d is None else d.mul_(gradient) for d in ctx.saved_tensors), None, None


def _flat(hidden, targets, vocabulary):
    """Hidden states (tokens, d_model), once they are known to fit the targets."""
    if hidden.shape[:-1] != targets.shape:
        raise ValueError(f"targets have shape {tuple(targets.shape)}; expected {tuple(hidden.shape[:-1])}, as hidden states")
    if targets.device.type == "cpu":  # elsewhere looking would mean waiting; there the loss becomes infinite
        outside = targets[(targets != IGNORED) & ((targets < 0) | (targets >= vocabulary))]
        if len(outside):
            raise ValueError(
                f"target is {int(outside[0])}; expected 0 <= target < {vocabulary}, or {IGNORED} to leave it out"
            )
    return hidden.flatten(0, -2)


def _precision(hidden):
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def _filled(weight):
    """On a GPU, the output matrix with zeros up to a multiple of 128 rows, in which its matrix units work."""
    return F.pad(weight, (0, 0, 0, -len(weight) % 128)) if weight.is_cuda else weight


def _logits(hidden, weight, bias, dtype, whole):
    """Yield (rows, logits) in pieces of PIECE. One buffer serves all of them: a piece is good until the next.

    weight: the output matrix, of which the first ``whole`` rows are words. Rows of logits are filled up to a multiple of 64
    numbers with -inf, probability 0: a product into rows of 50257 takes half as long again.
    """
    size, width = len(hidden), -(-len(weight) // 64) * 64
    pieces = -(-size * width * dtype.itemsize // (PIECE * ON_GPU if hidden.is_cuda else PIECE))
    step = max(-(-size // max(pieces, 1)), 1)
    hidden, bias = hidden.to(dtype), None if bias is None else bias.to(dtype)
    buffer = hidden.new_empty(step, width)
    for start in range(0, size, step):
        rows = slice(start, min(start + step, size))
        z = buffer[: rows.stop - start]
        torch.mm(hidden[rows], weight.T, out=z[:, : len(weight)])
        z[:, whole:] = -math.inf
        if bias is not None:
            z[:, :whole] += bias
        yield rows, z


def _softmax_minus_one_hot_(z, targets, losses):
    """Turn logits z (k, width) into softmax - one-hot, the loss's gradient, and write the k losses; both through float32.

    log sum_j exp(z_j) = z_top - log(softmax_top) for the greatest logit, whose probability cannot underflow. Few rows at a
    time on the CPU, so that what is between stays in its cache; not fewer, because threads meet after every operation.
    """
    few = max(PIECE // 64 // z.shape[1], 1) if z.device.type == "cpu" else len(z)
    for part, t, loss in zip(z.split(few), targets.split(few), losses.split(few), strict=True):
        index = t.where(t != IGNORED, 0)[:, None]
        below = part.amax(1, keepdim=True).to(loss.dtype) - part.gather(1, index)  # how far the target is below the top
        p = torch.softmax(part, 1, dtype=loss.dtype)
        loss[:] = (below - p.amax(1, keepdim=True).log())[:, 0].masked_fill(t == IGNORED, 0.0)
        part.copy_(p.scatter_add_(1, index, p.new_full((), -1.0).expand_as(index)))


@cache
def _compiled():
    """The same for pieces of one shape, as all are in training: read twice and written once, where the above reads and
    writes them five times."""
    return torch.compile(_softmax_minus_one_hot_, dynamic=False)
