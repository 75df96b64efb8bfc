"""The energies of the paper, as functions of a state ``x`` (..., n) and of stored patterns (d, n), with values (...).

Everything is float64; energies are in nats. Each energy has a gradient in closed form, each update step is the one that
its energy calls for, and ``gradient_error`` holds the two against each other by automatic differentiation.
"""

import torch

BLOCK = 2**17  # differences held at a time: 1 MiB, in cache, and enough for two threads


def _checked(x, patterns):
    """Both arguments as float64 tensors that fit each other: x (..., n), patterns (d, n), d >= 1, all finite."""
    x = torch.as_tensor(x, dtype=torch.float64)
    patterns = torch.as_tensor(patterns, dtype=torch.float64)
    if patterns.ndim != 2 or 0 in patterns.shape:
        raise ValueError(f"patterns have shape {tuple(patterns.shape)}; expected (d, n) with d >= 1 and n >= 1")
    if x.ndim == 0 or x.shape[-1] != patterns.shape[1]:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (..., {patterns.shape[1]}) to fit the patterns")
    for name, tensor in (("x", x), ("patterns", patterns)):
        if not torch.isfinite(tensor).all():
            bad = tensor[~torch.isfinite(tensor)][0].item()
            raise ValueError(f"{name} holds {bad}; expected finite numbers")
    return x, patterns


def _positive(name, value):
    if not (value > 0 and value < float("inf")):
        raise ValueError(f"{name} is {value}; expected a finite number > 0")
    return value


def _sq_distances(x, patterns):
    # The difference is formed before it is squared: |x|^2 - 2 x.rho + |rho|^2 would lose half the digits near a pattern.
    # Block by block, in the cache: all (..., d, n) differences at once take seven times as long at d = n = 64.
    blocks = x.reshape(-1, x.shape[-1]).split(max(1, BLOCK // patterns.numel()))
    return torch.cat([(b.unsqueeze(-2) - patterns).square().sum(-1) for b in blocks]).reshape(*x.shape[:-1], len(patterns))


def log_sum_exp(y, beta=1.0):
    """LSE(beta, y) = (1/beta) log sum_i exp(beta y_i) over the last axis; its gradient is softmax(beta y). [L1-L4, SM]

    y (..., d) -> (...). The maximum is taken out before exponentials, so entries of +-1e4 are safe.
    Source: the paper's appendix on LSE.
    """
    y = torch.as_tensor(y, dtype=torch.float64)
    if y.ndim == 0 or y.shape[-1] == 0:
        raise ValueError(f"y has shape {tuple(y.shape)}; expected (..., d) with d >= 1")
    return torch.logsumexp(_positive("beta", beta) * y, -1) / beta


def nearest_sq_distance(x, patterns):
    """g(x) = min_i |x - rho_i|^2, eq. (3) of version 2. [E3] x (..., n), patterns (d, n) -> (...)."""
    x, patterns = _checked(x, patterns)
    return _sq_distances(x, patterns).amin(-1)


def layer_energy(x, patterns):
    """E(x) = -log sum_i exp(-|x - rho_i|^2), eq. (4). [E4] x (..., n), patterns (d, n) -> (...)."""
    x, patterns = _checked(x, patterns)
    return -log_sum_exp(-_sq_distances(x, patterns))


def mchn_energy(x, patterns, beta=1.0):
    """E_MCHN(x) = -LSE(beta, M'x) + |x|^2/2 + (log d)/beta + max_i |rho_i|^2/2: Ramsauer et al. 2020. [T1]

    x (..., n), patterns (d, n) the columns of M, beta > 0 the inverse temperature -> (...). Never negative.
    """
    x, patterns = _checked(x, patterns)
    largest = patterns.square().sum(-1).max()
    log_d = torch.tensor(float(len(patterns)), dtype=torch.float64).log()
    return -log_sum_exp(x @ patterns.T, beta) + x.square().sum(-1) / 2 + log_d / beta + largest / 2


def hopfield_energy(x, patterns, bias=None):
    """-x'Wx/2 - b'x with W = sum_i rho_i rho_i' and a zero diagonal: Hopfield 1982. [T1]

    x (..., n) and patterns (d, n) in {-1, 1}; bias (n,) or none -> (...).
    """
    x, patterns = _checked(x, patterns)
    overlaps = (x @ patterns.T).square().sum(-1)
    diagonal = x.square() @ patterns.square().sum(0)
    field = 0 if bias is None else x @ torch.as_tensor(bias, dtype=torch.float64)
    return -(overlaps - diagonal) / 2 - field


def krotov_hopfield_energy(x, patterns, degree):
    """-sum_i (rho_i . x)^degree, the sum over the d patterns: Krotov and Hopfield 2016. [T1]

    The paper's Table 1 prints a sum over i = 1..n. x (..., n), patterns (d, n) in {-1, 1}, degree >= 1 -> (...).
    """
    if degree != int(degree) or degree < 1:
        raise ValueError(f"degree is {degree}; expected a whole number >= 1")
    x, patterns = _checked(x, patterns)
    return -(x @ patterns.T).pow(int(degree)).sum(-1)


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
    return torch.softmax(_positive("beta", beta) * (x @ patterns.T), -1)


def mean_shift_step(x, patterns):
    """x -> sum_i layer_weights_i(x) rho_i, the point where the gradient of E would vanish. (..., n) -> (..., n)."""
    return layer_weights(x, patterns) @ torch.as_tensor(patterns, dtype=torch.float64)


def attention_step(x, patterns, beta=1.0):
    """x -> M softmax(beta M'x), the update of Ramsauer et al. 2020, which never raises E_MCHN. (..., n) -> (..., n)."""
    return attention_weights(x, patterns, beta) @ torch.as_tensor(patterns, dtype=torch.float64)


def layer_gradient(x, patterns):
    """grad E = 2 (x - mean_shift_step(x)). x (..., n), patterns (d, n) -> (..., n)."""
    return 2 * (torch.as_tensor(x, dtype=torch.float64) - mean_shift_step(x, patterns))


def mchn_gradient(x, patterns, beta=1.0):
    """grad E_MCHN = x - attention_step(x). x (..., n), patterns (d, n) -> (..., n)."""
    return torch.as_tensor(x, dtype=torch.float64) - attention_step(x, patterns, beta)


def _covariance(weights, patterns):
    patterns = torch.as_tensor(patterns, dtype=torch.float64)
    centred = patterns - (weights @ patterns).unsqueeze(-2)
    return centred.mT @ (weights.unsqueeze(-1) * centred)


def layer_hessian(x, patterns):
    """Hessian of E: 2 (I - 2 Cov_w(rho)), w = ``layer_weights``. [CV] x (..., n), patterns (d, n) -> (..., n, n)."""
    covariance = _covariance(layer_weights(x, patterns), patterns)
    return 2 * (torch.eye(covariance.shape[-1], dtype=torch.float64) - 2 * covariance)


def mchn_hessian(x, patterns, beta=1.0):
    """Hessian of E_MCHN: I - beta Cov_p(rho), p = ``attention_weights``. [CV] x (..., n) -> (..., n, n)."""
    covariance = _covariance(attention_weights(x, patterns, beta), patterns)
    return torch.eye(covariance.shape[-1], dtype=torch.float64) - beta * covariance


def flip_step(x, patterns, energy=hopfield_energy):
    """One asynchronous sweep over the coordinates of x in {-1, 1}: each takes the sign of lower energy, ties keep theirs.

    energy(x, patterns) is any energy on {-1, 1}^n; it never rises. x (..., n), patterns (d, n) -> (..., n).
    """
    x, patterns = _checked(x, patterns)
    if not (x.abs() == 1).all():
        raise ValueError(f"x holds {x[x.abs() != 1][0].item()}; expected coordinates -1 or 1")
    x = x.clone()
    for i in range(x.shape[-1]):
        flipped = x.clone()
        flipped[..., i] *= -1
        lower = energy(flipped, patterns) < energy(x, patterns)
        x = torch.where(lower.unsqueeze(-1), flipped, x)
    return x


def retrieve(x, patterns, step=mean_shift_step, tol=1e-10, max_steps=10_000):
    """Iterate x -> step(x, patterns) until no state moves by more than tol (Euclidean); the states then reached.

    x (..., n), patterns (d, n) -> (..., n). Raises RuntimeError, with the last movement, after max_steps.
    """
    x, patterns = _checked(x, patterns)
    moved = float("inf")
    for _ in range(max_steps):
        new = step(x, patterns)
        moved = (new - x).norm(dim=-1).max().item() if x.numel() else 0.0
        x = new
        if moved <= tol:
            return x
    raise RuntimeError(f"states still move by {moved:.3g} after {max_steps} steps; expected at most {tol:.3g}")


def distinct(points, tol=1e-6):
    """The points (m, n) less those within tol of an earlier one, in their order. (m, n) -> (k, n), 1 <= k <= m."""
    points = torch.as_tensor(points, dtype=torch.float64)
    close = torch.cdist(points, points) <= tol
    return points[~close.tril(-1).any(-1)]


def gradient_error(energy, gradient, x):
    """Largest |automatic - closed| derivative, relative to 1 + |closed|, over the points x (..., n).

    energy(x) -> (...), gradient(x) -> (..., n). Correct pairs stay near 1e-15 times the condition of the energy.
    """
    x = torch.as_tensor(x, dtype=torch.float64).detach().clone().requires_grad_()
    (automatic,) = torch.autograd.grad(energy(x).sum(), x)
    closed = gradient(x.detach())
    return ((automatic - closed).abs() / (1 + closed.abs())).max().item()
