"""The loss of a language model without its logits.

With a vocabulary of 50,257 words the logits of one batch are larger than the model, and most of a small model's work and
memory. Here they exist in pieces, which become the loss and both gradients at once.
"""

import math

import torch
from torch.autograd.function import once_differentiable

IGNORED = -100  # a target that counts for nothing
PIECE = 2**27  # bytes of logits held at a time; with much less, the output matrix is read and its gradient written too often


def linear_cross_entropy(hidden, head, targets):
    """Sum of the cross-entropies of all targets in nats: sum_i log sum_j exp(w_j h_i + b_j) - (w_{t_i} h_i + b_{t_i}).

    The sum is over the i with t_i != IGNORED; divide by their number for the mean. hidden (..., d_model), targets (...)
    int64, head: a module with weight (vocabulary, d_model) and perhaps a bias -> a float32 scalar. Matrix products are in
    autocast's precision, softmax and losses in float32. Gradients are computed on the way forward and can be taken once.
    """
    weight, bias = head.weight, getattr(head, "bias", None)
    if not torch.is_grad_enabled():
        return token_losses(hidden, head, targets).sum()
    return _LinearCrossEntropy.apply(_flat(hidden, targets), weight, bias, targets.flatten(), _precision(hidden))


@torch.no_grad()
def token_losses(hidden, head, targets):
    """The terms of ``linear_cross_entropy``, 0 where a target is IGNORED, without gradients: (...) float32."""
    dtype, keep = _precision(hidden), targets.flatten() != IGNORED
    index, losses = torch.where(keep, targets.flatten(), 0)[:, None], []
    for rows, z in _logits(_flat(hidden, targets), head.weight, getattr(head, "bias", None), dtype):
        losses += [-log_p.gather(1, t)[:, 0] for _, t, log_p in _log_probabilities(z, index[rows])]
    return torch.where(keep, torch.cat(losses), 0.0).view_as(targets) if losses else hidden.new_zeros(targets.shape)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, targets, dtype):
        keep = targets != IGNORED
        index, losses = torch.where(keep, targets, 0)[:, None], []
        counted = (hidden * keep[:, None]).to(dtype)  # rows that are ignored weigh nothing in the sums over rows
        low = weight.to(dtype)
        d_hidden, d_weight = torch.zeros_like(hidden), torch.zeros_like(weight)
        d_bias = None if bias is None else torch.zeros_like(bias)
        for rows, z in _logits(hidden, weight, bias, dtype):
            for part, t, log_p in _log_probabilities(z, index[rows]):
                losses.append(-log_p.gather(1, t)[:, 0])
                part.copy_(log_p.exp_().scatter_add_(1, t, torch.full_like(t, -1, dtype=log_p.dtype)))
            dz = z[:, : len(weight)]
            d_hidden[rows] = (dz @ low) * keep[rows, None]
            if dz.dtype == weight.dtype:
                d_weight.addmm_(dz.T, counted[rows])
            else:
                d_weight += dz.T @ counted[rows]
            if bias is not None:
                d_bias += keep[rows].to(dtype) @ dz
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        return torch.where(keep, torch.cat(losses), 0.0).sum() if losses else hidden.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return *(None if d is None else d.mul_(gradient) for d in ctx.saved_tensors), None, None


def _flat(hidden, targets):
    if hidden.shape[:-1] != targets.shape:
        raise ValueError(f"targets have shape {tuple(targets.shape)}; expected {tuple(hidden.shape[:-1])}, as hidden states")
    return hidden.flatten(0, -2)


def _precision(hidden):
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def _logits(hidden, weight, bias, dtype):
    """Yield (rows, logits) in pieces of PIECE. One buffer serves all of them: a piece is good until the next.

    Rows are filled up to a multiple of 64 numbers with -inf, probability 0: the product into rows of 50257 is a third slower.
    """
    size, width = len(hidden), -(-len(weight) // 64) * 64
    pieces = -(-size * width * dtype.itemsize // PIECE)
    step = -(-size // max(pieces, 1))
    hidden, weight, bias = hidden.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    buffer = hidden.new_empty(step, width)
    for start in range(0, size, max(step, 1)):
        rows = slice(start, min(start + step, size))
        z = buffer[: rows.stop - start]
        z[:, len(weight) :] = -math.inf
        torch.mm(hidden[rows], weight.T, out=z[:, : len(weight)])
        if bias is not None:
            z[:, : len(weight)] += bias
        yield rows, z


def _log_probabilities(z, index):
    """Yield (rows of z, their targets, log softmax in float32 at least): few rows on the CPU, to stay in its cache."""
    few = 32 if z.device.type == "cpu" else len(z)
    for part, t in zip(z.split(few), index.split(few), strict=True):
        yield part, t, torch.log_softmax(part, 1, dtype=torch.promote_types(z.dtype, torch.float32))
