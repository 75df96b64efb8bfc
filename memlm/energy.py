"""The energies of the paper, as functions of a state ``x`` (..., n) and of stored patterns (d, n), with values (...).

Everything is float64; energies are in nats. Each energy has a gradient in closed form, each update step is the one that
its energy calls for, and ``gradient_error`` holds the two against each other by automatic differentiation.
"""

import math
from functools import reduce

import numpy as np
import torch

from memlm.certified import _short

BLOCK = 2**17  # differences held at a time: 1 MiB, in cache, and enough for two threads
LARGEST = 1e150  # coordinates up to here: their squared distances stay finite for n up to 1e7; below 1e-150 squares vanish
SMALLEST = 2.0**-1022  # the least positive number with all its digits


def _reals(name, value):
    """``value`` as a float64 tensor, whatever numbers it holds; ValueError if it holds none, complex or masked ones, or
    whole numbers beyond 2^53, of which float64 holds only some."""
    if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
        return value
    try:
        if isinstance(value, np.ma.MaskedArray):
            raise TypeError("a masked array")
        given = torch.as_tensor(value)
        if given.is_complex():
            raise TypeError("complex numbers")
        reals = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name} is no array of real numbers ({reason}); expected numbers") from None
    long = _long(value if isinstance(value, list | tuple) else given)
    if long is not None:
        raise ValueError(f"{name} holds the whole number {long}; expected whole numbers up to 2^53 in size, or floats")
    return reals


def _long(value):
    """The first whole number beyond 2^53 among numbers, tensors and lists of them; None if there is none."""
    if isinstance(value, list | tuple):
        return next((long for long in map(_long, value) if long is not None), None)
    if isinstance(value, int):
        return _short(value) if abs(value) > 2**53 else None
    value = torch.as_tensor(value)
    if value.is_floating_point() or value.is_complex() or value.numel() == 0:
        return None
    rounded = value.double()
    long = (rounded.abs() > 2**53) | (rounded.long() != value.long())  # 2^53 + 1 rounds to 2^53
    return value[long].tolist()[0] if long.any() else None


def _slacks(name, value, shape, each, point):
    """What a search compares, as a float64 tensor of ``shape``: one float ``each``, none of them nan or +inf.

    A comparison would drop a nan and acquit; +inf is an overflow; a truth value or a whole number is never below 0 by
    accident of its type. ValueError with point(i) for the first bad one.
    """
    values = _reals(name, value)
    if values.shape != shape:
        raise ValueError(f"{name} has shape {tuple(values.shape)}; expected {tuple(shape)}, one number for each {each}")
    if not torch.as_tensor(value).is_floating_point():
        kind = str(torch.as_tensor(value).dtype).removeprefix("torch.")
        raise ValueError(f"{name} has the dtype {kind}; expected floating-point numbers, below 0 where it is violated")
    bad = values.isnan() | (values == torch.inf)
    if bad.any():
        i = bad.nonzero()[0, 0]
        raise ValueError(f"{name} is {values[i].item()} at {point(i)}; expected a number")
    return values


def _callable(name, value):
    if not callable(value):
        raise ValueError(f"{name} is {value!r}; expected a function")
    return value


def _generator(value):
    if not isinstance(value, torch.Generator):
        raise ValueError(f"generator is {_short(value)}; expected a torch.Generator")
    return value


def _rows(name, value, columns, each="entries"):
    """``value`` as a list of tuples of one entry for each of the ``columns``, at least one; else a ValueError."""
    try:
        rows = [tuple(row) for row in value]
    except TypeError:
        rows = [()]
    wrong = [row for row in rows if len(row) != len(columns)]
    if wrong or not rows:
        held = f"is {_short(value)}" if wrong else f"holds 0 {each}"
        raise ValueError(f"{name} {held}; expected at least one ({', '.join(columns)})")
    return rows


def _numbers(name, value, largest=math.inf):
    """``value`` as a float64 tensor of finite numbers, at most ``largest`` in size; else a ValueError that names one."""
    value = _reals(name, value)
    fine = value.abs() <= largest if largest < math.inf else value.isfinite()  # nan is not below anything
    if not fine.all():
        limit = f" of at most {largest:g} in size" if largest < math.inf else ""
        raise ValueError(f"{name} holds {value[~fine][0].item()}; expected finite numbers{limit}")
    return value


def _checked(x, patterns):
    """Both arguments as float64 tensors that fit each other: x (..., n), patterns (d, n), d >= 1, |coordinates| <= 1e150."""
    x, patterns = _numbers("x", x, LARGEST), _numbers("patterns", patterns, LARGEST)
    if patterns.ndim != 2 or 0 in patterns.shape:
        raise ValueError(f"patterns have shape {tuple(patterns.shape)}; expected (d, n) with d >= 1 and n >= 1")
    if x.ndim == 0 or x.shape[-1] != patterns.shape[1]:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (..., {patterns.shape[1]}) to fit the patterns")
    return x, patterns


def _positive(name, value):
    """``value`` as a float. ValueError unless it is one number that a float holds with all its digits, finite and > 0."""
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    if not SMALLEST <= number < math.inf:
        raise ValueError(f"{name} is {_short(value)}; expected a finite number > 0, from 2.3e-308 to 1.7e308")
    return number


def _tolerance(tol):
    return 0.0 if isinstance(tol, int | float) and tol == 0 else _positive("tol", tol)


def whole(name, value, least=1):
    """``value`` as an int. ValueError unless it is a whole number from ``least`` to 2^63 - 1."""
    try:
        number = int(value)
        fine = number == value and least <= number < 2**63
    except (TypeError, ValueError, RuntimeError, OverflowError):
        fine = False
    if not fine:
        raise ValueError(f"{name} is {_short(value)}; expected a whole number >= {least}")
    return number


def seeded(seed):
    """A torch generator that starts from ``seed``, a whole number >= 0."""
    return torch.Generator().manual_seed(whole("seed", seed, 0))


def _blocks(x, patterns):
    # States in blocks whose differences to all patterns fit the cache: all (..., d, n) at once take seven times as long at
    # d = n = 64.
    return x.reshape(-1, x.shape[-1]).split(max(1, BLOCK // patterns.numel()))


def _sq_distances(x, patterns):
    # The difference is formed before it is squared: |x|^2 - 2 x.rho + |rho|^2 would lose half the digits near a pattern.
    squares = [(block.unsqueeze(-2) - patterns).square().sum(-1) for block in _blocks(x, patterns)]
    return torch.cat(squares).reshape(*x.shape[:-1], len(patterns))


def log_sum_exp(y, beta=1.0):
    """LSE(beta, y) = (1/beta) log sum_i exp(beta y_i) over the last axis; its gradient is softmax(beta y). [L1-L4, SM]

    y (..., d) -> (...), right to a few units in the last place of max|y| + (log d)/beta. The maximum is taken out before
    anything is multiplied or exponentiated, so entries of +-1e308 are safe. Source: the paper's appendix on LSE.
    """
    y, beta = _numbers("y", y), _positive("beta", beta)
    if y.ndim == 0 or y.shape[-1] == 0:
        raise ValueError(f"y has shape {tuple(y.shape)}; expected (..., d) with d >= 1")
    top = y.detach().amax(-1, keepdim=True)
    value = top.squeeze(-1) + torch.logsumexp(beta * (y - top), -1) / beta
    if not value.isfinite().all():
        raise ValueError(
            f"LSE is infinite at beta = {beta:g}, d = {y.shape[-1]}; expected max y + (log d)/beta below 1.8e308"
        )
    return value


def nearest_sq_distance(x, patterns):
    """g(x) = min_i |x - rho_i|^2, eq. (3) of version 2. [E3] x (..., n), patterns (d, n) -> (...)."""
    x, patterns = _checked(x, patterns)
    return _sq_distances(x, patterns).amin(-1)


def layer_energy(x, patterns):
    """E(x) = -log sum_i exp(-|x - rho_i|^2), eq. (4). [E4] x (..., n), patterns (d, n) -> (...)."""
    x, patterns = _checked(x, patterns)
    return -log_sum_exp(-_sq_distances(x, patterns))


def _deficits(patterns):
    # c_i = M^2 - |rho_i|^2 as a product of difference and sum, for norms that are large and almost equal; never negative
    top = patterns[patterns.square().sum(-1).argmax()]
    c = ((top - patterns) * (top + patterns)).sum(-1)
    return c - c.min()


def _mchn(sq, beta):
    """-LSE(beta, -sq/2) + (log d)/beta for sq >= 0, sq (..., d) -> (...): from half the least of sq to half their mean."""
    least = sq.detach().amin(-1, keepdim=True)
    ways = beta * (least - sq) / 2
    mean, less_one = ways.exp().mean(-1), ways.expm1().mean(-1)
    # each logarithm where it keeps its digits: after division by a small beta any that are lost would be all there are
    log_mean = torch.where(mean < 0.5, mean.log(), less_one.log1p())
    return least.squeeze(-1) / 2 - log_mean / beta


def mchn_energy(x, patterns, beta=1.0):
    """E_MCHN(x) = -LSE(beta, M'x) + |x|^2/2 + (log d)/beta + max_i |rho_i|^2/2: Ramsauer et al. 2020. [T1]

    x (..., n), patterns (d, n) the columns of M, beta > 0 the inverse temperature -> (...). Never negative, nor in floats:
    computed as -LSE(beta, -(|x - rho_i|^2 + c_i)/2) + (log d)/beta with c_i = max_j |rho_j|^2 - |rho_i|^2, which is the
    same number. Right to 1e-15 (n + d + 8) of itself, or, where norms are large and almost equal, of the sizes that make up
    the c_i, |rho_j - rho_i| |rho_j + rho_i| with rho_j the longest pattern.
    """
    x, patterns = _checked(x, patterns)
    return _mchn(_sq_distances(x, patterns) + _deficits(patterns), _positive("beta", beta))


def _finite(name, energies):
    if not energies.isfinite().all():
        bad = energies[~energies.isfinite()][0].item()
        raise ValueError(f"{name} is {bad} at one of the states; expected a finite number, below 1.8e308 in size")
    return energies


def hopfield_energy(x, patterns, bias=None):
    """-x'Wx/2 - b'x with W = sum_i rho_i rho_i' and a zero diagonal: Hopfield 1982. [T1]

    x (..., n) and patterns (d, n) in {-1, 1}, where it is exact; bias (n,) or none -> (...).
    """
    x, patterns = _checked(x, patterns)
    bias = torch.zeros_like(patterns[0]) if bias is None else _numbers("bias", bias)
    if bias.shape != patterns[0].shape:
        raise ValueError(f"bias has shape {tuple(bias.shape)}; expected {tuple(patterns[0].shape)} to fit the patterns")
    overlaps = (x @ patterns.T).square().sum(-1)
    diagonal = x.square() @ patterns.square().sum(0)
    return _finite("the Hopfield energy", -(overlaps - diagonal) / 2 - x @ bias)


def krotov_hopfield_energy(x, patterns, degree):
    """-sum_i (rho_i . x)^degree, the sum over the d patterns: Krotov and Hopfield 2016. [T1]

    The paper's Table 1 prints a sum over i = 1..n. x (..., n), patterns (d, n) in {-1, 1}, degree >= 1 -> (...). ValueError
    where the sum leaves the range of floats, at n = 784 from degree 107 on: -inf would make all states equal.
    """
    degree = whole("degree", degree)
    x, patterns = _checked(x, patterns)
    return _finite(f"the energy of degree {degree}", -(x @ patterns.T).pow(degree).sum(-1))


def demircigil_energy(x, patterns):
    """-log sum_i exp(rho_i . x): Demircigil et al. 2017 as Table 1 quotes it. [T1]

    The source has no logarithm; the logarithm is increasing, so it orders states alike and every sign update is the same,
    while exp(n) alone would overflow from n = 710. x (..., n), patterns (d, n) in {-1, 1} -> (...).
    """
    x, patterns = _checked(x, patterns)
    return -log_sum_exp(x @ patterns.T)


def global_energy(x, groups):
    """E_global(x) = -LSE(-E_1(x), ..., -E_l(x)) of l layers that each store their own patterns, eq. (7). [E7]

    groups: l tensors (d_t, n). With E_t = ``layer_energy`` this is the layer energy of all patterns together, exactly.
    """
    if len(groups) == 0:
        raise ValueError("groups holds 0 layers; expected at least 1")
    return -log_sum_exp(-torch.stack([layer_energy(x, group) for group in groups], -1))


def layer_weights(x, patterns):
    """softmax_i(-|x - rho_i|^2), the responsibility of each pattern for x. x (..., n), patterns (d, n) -> (..., d)."""
    x, patterns = _checked(x, patterns)
    return torch.softmax(-_sq_distances(x, patterns), -1)


def attention_weights(x, patterns, beta=1.0):
    """softmax_i(beta rho_i . x), attention of the query x over the patterns. x (..., n), patterns (d, n) -> (..., d)."""
    x, patterns = _checked(x, patterns)
    overlaps = x @ (patterns - patterns[0]).T  # a shift of all logits changes nothing; this one keeps digits far from 0
    return torch.softmax(_positive("beta", beta) * (overlaps - overlaps.amax(-1, keepdim=True)), -1)


def mean_shift_step(x, patterns):
    """x -> sum_i layer_weights_i(x) rho_i, the point where the gradient of E would vanish. (..., n) -> (..., n)."""
    return layer_weights(x, patterns) @ torch.as_tensor(patterns, dtype=torch.float64)


def attention_step(x, patterns, beta=1.0):
    """x -> M softmax(beta M'x), the update of Ramsauer et al. 2020, which never raises E_MCHN. (..., n) -> (..., n)."""
    return attention_weights(x, patterns, beta) @ torch.as_tensor(patterns, dtype=torch.float64)


def _pull(x, patterns, weights):
    """sum_i w_i (x - rho_i), which is x - sum_i w_i rho_i, with no more rounding than its terms. -> (..., n)"""
    x, patterns = _checked(x, patterns)
    blocks = _blocks(x, patterns)
    pairs = zip(blocks, weights.reshape(-1, len(patterns)).split(len(blocks[0]) or 1), strict=True)
    pulls = [(w.unsqueeze(-2) @ (block.unsqueeze(-2) - patterns)).squeeze(-2) for block, w in pairs]
    return torch.cat(pulls).reshape(x.shape)


def layer_gradient(x, patterns):
    """grad E = 2 (x - mean_shift_step(x)). x (..., n), patterns (d, n) -> (..., n)."""
    return 2 * _pull(x, patterns, layer_weights(x, patterns))


def mchn_gradient(x, patterns, beta=1.0):
    """grad E_MCHN = x - attention_step(x). x (..., n), patterns (d, n) -> (..., n)."""
    return _pull(x, patterns, attention_weights(x, patterns, beta))


def _covariance(weights, patterns):
    patterns = torch.as_tensor(patterns, dtype=torch.float64)
    patterns = patterns - patterns[0]  # the covariance is the same, and far from 0 the mean keeps its digits
    centred = patterns - (weights @ patterns).unsqueeze(-2)
    return centred.mT @ (weights.unsqueeze(-1) * centred)


def layer_hessian(x, patterns):
    """Hessian of E: 2 (I - 2 Cov_w(rho)), w = ``layer_weights``. [CV] x (..., n), patterns (d, n) -> (..., n, n)."""
    covariance = _covariance(layer_weights(x, patterns), patterns)
    return 2 * (torch.eye(covariance.shape[-1], dtype=torch.float64) - 2 * covariance)


def mchn_hessian(x, patterns, beta=1.0):
    """Hessian of E_MCHN: I - beta Cov_p(rho), p = ``attention_weights``. [CV] x (..., n) -> (..., n, n)."""
    covariance = _covariance(attention_weights(x, patterns, beta), patterns)
    return torch.eye(covariance.shape[-1], dtype=torch.float64) - _positive("beta", beta) * covariance


def flip_step(x, patterns, energy=hopfield_energy):
    """One asynchronous sweep over the coordinates of x in {-1, 1}: each takes the sign of lower energy, ties keep theirs.

    energy(x, patterns) is any energy on {-1, 1}^n, one finite number a state (ValueError otherwise: of two infinite ones
    neither is lower); it never rises. x (..., n), patterns (d, n) -> (..., n).
    """
    x, patterns = _checked(x, patterns)
    if not (x.abs() == 1).all():
        raise ValueError(f"x holds {x[x.abs() != 1][0].item()}; expected coordinates -1 or 1")

    _callable("energy", energy)

    def at(state):
        value = _reals("energy", energy(state, patterns))
        if value.shape != x.shape[:-1]:
            raise ValueError(f"energy has shape {tuple(value.shape)}; expected {tuple(x.shape[:-1])}, one number a state")
        return _finite("energy", value)

    x = x.clone()
    for i in range(x.shape[-1]):
        flipped = x.clone()
        flipped[..., i] *= -1
        x = torch.where((at(flipped) < at(x)).unsqueeze(-1), flipped, x)
    return x


def retrieve(x, patterns, step=mean_shift_step, tol=1e-10, max_steps=10_000):
    """Iterate x -> step(x, patterns) until no state moves by more than tol (Euclidean); the states then reached.

    x (..., n), patterns (d, n) -> (..., n). Raises RuntimeError, with the last movement, after max_steps; ValueError where
    a step leaves the finite numbers or the shape of x.
    """
    x, patterns = _checked(x, patterns)
    tol, step = _tolerance(tol), _callable("step", step)
    for _ in range(whole("max_steps", max_steps)):
        new = _numbers("the state after a step", step(x, patterns))
        if new.shape != x.shape:
            raise ValueError(f"step returns shape {tuple(new.shape)}; expected that of x, {tuple(x.shape)}")
        moved = (new - x).norm(dim=-1).max().item() if x.numel() else 0.0
        x = new
        if moved <= tol:
            return x
    raise RuntimeError(f"states still move by {moved:.3g} after {max_steps} steps; expected at most {tol:.3g}")


def distances(points):
    """|p_i - p_j| of all pairs of points (m, n) -> (m, m), by hypot from differences: nothing cancels or overflows."""
    points = _numbers("points", points)
    if points.ndim != 2:
        raise ValueError(f"points have shape {tuple(points.shape)}; expected (m, n)")
    zero = points.new_zeros(len(points), len(points))
    return reduce(torch.hypot, (column.unsqueeze(-1) - column for column in points.T), zero)


def distinct(points, tol=1e-6):
    """The points (m, n) less those within tol >= 0 of an earlier one, in their order. (m, n) -> (k, n), k >= 1 if m >= 1."""
    close = distances(points) <= _tolerance(tol)
    return torch.as_tensor(points, dtype=torch.float64)[~close.tril(-1).any(-1)]


def gradient_error(energy, gradient, x):
    """Largest |automatic - closed| derivative, relative to 1 + |closed|, over the points x (..., n).

    energy(x) -> (...), gradient(x) -> (..., n). Correct pairs stay near 1e-15 times the condition of the energy. ValueError
    unless there is a point, both derivatives are finite there and the closed one has the shape of x.
    """
    x = _numbers("x", x).detach().clone().requires_grad_()
    closed = _numbers("the closed gradient", gradient(x.detach()))
    if x.numel() == 0 or closed.shape != x.shape:
        raise ValueError(
            f"x and its gradient have shapes {tuple(x.shape)} and {tuple(closed.shape)}; expected both (..., n)"
        )
    total = energy(x).sum()
    if not total.requires_grad:
        raise ValueError("energy does not depend on x through torch; expected a function that can be differentiated")
    automatic = _numbers("the automatic gradient", torch.autograd.grad(total, x)[0])
    return ((automatic - closed).abs() / (1 + closed.abs())).max().item()
