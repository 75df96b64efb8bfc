"""What the statements about g, E and the MCHN energy speak of, under one set of names in two arithmetics.

``Floats`` gives each quantity in float64 for a batch of states, ``Balls`` gives it at one rational point as a python-flint
ball, which holds the true value for certain. A statement written over these names can be searched with the one and proved
or refuted with the other. The names, for patterns rho_1 .. rho_d and a state x (M is the largest |rho_i|):

    d, log(d)      number of patterns;  number(beta): a constant > 0 of the statement in this arithmetic
    g, E           eq. (3) and (4)
    M_at(beta)     MCHN energy;  E_at(beta) = -(1/beta) log sum_i exp(-(beta/2) |x - rho_i|^2), so that E = 2 E_at(2)
    spread         M^2 - min |rho_i|^2, the largest of c_i = M^2 - |rho_i|^2
    mean_c         mean of c_i under the weights softmax(-|x - rho_i|^2)
    h              min_i (|x - rho_i|^2 + c_i) = |x|^2 + M^2 - 2 max_i rho_i.x
    k, log_mass    number of nearest patterns; log(k + (d - k) exp(-gap)), gap from g to the next larger |x - rho_i|^2
    log_shell      log(1 + (d - 1) exp(-s (s - 2 r))), r = sqrt(g) and s the least distance of two patterns; log d if s < 2r
    shell          (|x| - M)^2
    steepest       max_i |grad E(rho_i)|, whatever x
    decay          largest u exp(-u^2) with u >= s, which is s exp(-s^2) from s = 1/sqrt(2) on; 0 for d = 1
"""

from fractions import Fraction
from functools import cached_property
from itertools import combinations

import torch

from memlm import energy
from memlm.certified import _short, exact_ball


class Floats:
    """The quantities in float64: x (..., n), patterns (d, n) -> each (...) or (). Computed when first asked for."""

    log = staticmethod(torch.log)
    number = staticmethod(lambda number: energy._positive("beta", number))

    def __init__(self, x, patterns):
        self.x, self.patterns = energy._checked(x, patterns)
        self.d = torch.tensor(float(len(self.patterns)), dtype=torch.float64)

    _sq = cached_property(lambda self: energy._sq_distances(self.x, self.patterns))
    _norms = cached_property(lambda self: self.patterns.square().sum(-1))
    _c = cached_property(lambda self: energy._deficits(self.patterns))
    _nearest = cached_property(lambda self: self._sq == self.g.unsqueeze(-1))
    # nearest_sq_distance and layer_energy to the last bit, from distances that are computed once for both.
    g = cached_property(lambda self: self._sq.amin(-1))
    E = cached_property(lambda self: -energy.log_sum_exp(-self._sq))
    h = cached_property(lambda self: (self._sq + self._c).amin(-1))
    k = cached_property(lambda self: self._nearest.sum(-1).double())
    spread = cached_property(lambda self: self._c.max())
    mean_c = cached_property(lambda self: energy.layer_weights(self.x, self.patterns) @ self._c)
    shell = cached_property(lambda self: (self.x.norm(dim=-1) - self._norms.max().sqrt()).square())

    def M_at(self, beta):  # energy.mchn_energy
        return energy._mchn(self._sq + self._c, energy._positive("beta", beta))

    def E_at(self, beta):
        return -energy.log_sum_exp(-self._sq / 2, beta)

    @cached_property
    def log_mass(self):
        following = self._sq.masked_fill(self._nearest, torch.inf).amin(-1)
        return (self.k + (self.d - self.k) * (self.g - following).exp()).log()

    @cached_property
    def _s_sq(self):
        apart = energy._sq_distances(self.patterns, self.patterns)
        return apart[~torch.eye(len(apart), dtype=torch.bool)].min()

    @cached_property
    def log_shell(self):
        if len(self.patterns) == 1:
            return torch.zeros_like(self.g)
        s = self._s_sq.sqrt()
        return ((self.d - 1) * (-s * (s - 2 * self.g.sqrt())).clamp(max=0).exp()).log1p()

    @cached_property
    def steepest(self):
        return energy.layer_gradient(self.patterns, self.patterns).norm(dim=-1).max()

    @cached_property
    def decay(self):
        if len(self.patterns) == 1:
            return torch.zeros((), dtype=torch.float64)
        far = self._s_sq.clamp(min=0.5)
        return far.sqrt() * (-far).exp()


def _are_lists(x, patterns):
    """Are x a list of numbers and patterns a list of such lists?"""
    rows = [x, *patterns] if isinstance(patterns, list) else [patterns]
    return all(isinstance(row, list) and not any(isinstance(a, list) for a in row) for row in rows)


def ball(number):
    """A whole number, a Fraction or a finite float as a python-flint ball at the precision in force; a ball as it is."""
    return exact_ball("number", number)


def _fractions(name, numbers):
    numbers = numbers.tolist() if hasattr(numbers, "tolist") else numbers
    if isinstance(numbers, list | tuple):
        return [_fractions(name, number) for number in numbers]
    try:
        return Fraction(numbers)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} holds {_short(numbers)!r}; expected finite exact numbers (int, Fraction, float)") from None


def rational_point(x, patterns):
    """x (n,) and patterns (d, n) of whole numbers, Fractions or floats as lists of Fractions, exactly those numbers."""
    x, patterns = _fractions("x", x), _fractions("patterns", patterns)
    lists = _are_lists(x, patterns)
    if not lists or not x or not patterns or any(len(rho) != len(x) for rho in patterns):
        sizes = f"n = {len(x)} and patterns of {[len(rho) for rho in patterns]}" if lists else "no lists of numbers"
        raise ValueError(f"the point has {sizes}; expected (n,) and (d, n) with n >= 1 and d >= 1")
    return x, patterns


def _sq(x, y):
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


class Balls:
    """The quantities at one point, as balls: x a list of n numbers, patterns a list of d such lists, see ``rational_point``.

    All that is rational is computed in rationals, and the largest term is taken out of every sum of exponentials before
    a ball is made; so the balls shrink with the precision, whatever the size of the entries.
    """

    def __init__(self, x, patterns):
        self._x, self._patterns = x, patterns = rational_point(x, patterns)
        self._origin = [Fraction(0)] * len(x)
        self._sq = [_sq(x, rho) for rho in patterns]
        self._norms = [_sq(self._origin, rho) for rho in patterns]
        self._c = [max(self._norms) - norm for norm in self._norms]
        self.d = ball(len(patterns))

    g = cached_property(lambda self: ball(min(self._sq)))
    E = cached_property(lambda self: self._soft_min(self._sq, 1))
    h = cached_property(lambda self: ball(min(a + c for a, c in zip(self._sq, self._c, strict=True))))
    k = cached_property(lambda self: ball(self._sq.count(min(self._sq))))
    spread = cached_property(lambda self: ball(max(self._c)))

    number = staticmethod(ball)

    def log(self, number):
        return ball(number).log()

    def _weights(self, numbers, beta):
        return [ball(_fractions("beta", beta) * (min(numbers) - a)).exp() for a in numbers]

    def _soft_min(self, numbers, beta):
        energy._positive("beta", beta)
        return ball(min(numbers)) - sum(self._weights(numbers, beta)).log() / ball(beta)

    def M_at(self, beta):
        products = [sum(a * b for a, b in zip(self._x, rho, strict=True)) for rho in self._patterns]
        rational = (_sq(self._x, self._origin) + max(self._norms)) / 2
        return self._soft_min([-a for a in products], beta) + ball(rational) + self.d.log() / ball(beta)

    def E_at(self, beta):
        return self._soft_min([a / 2 for a in self._sq], beta)

    @cached_property
    def log_mass(self):
        larger = [a for a in self._sq if a > min(self._sq)]
        return (self.k + (len(larger) * ball(min(self._sq) - min(larger)).exp() if larger else 0)).log()

    @cached_property
    def _s_sq(self):
        return min(_sq(a, b) for a, b in combinations(self._patterns, 2))

    @cached_property
    def log_shell(self):
        if len(self._patterns) == 1:
            return ball(0)
        s = ball(self._s_sq).sqrt()
        return (1 + (self.d - 1) * (-s * (s - 2 * self.g.sqrt())).min(ball(0)).exp()).log()

    @cached_property
    def mean_c(self):
        weights = self._weights(self._sq, 1)
        return sum(w * ball(c) for w, c in zip(weights, self._c, strict=True)) / sum(weights)

    @cached_property
    def shell(self):
        gap = ball(_sq(self._x, self._origin)).sqrt() - ball(max(self._norms)).sqrt()
        return gap * gap

    @cached_property
    def steepest(self):
        steepest = ball(0)
        for rho in self._patterns:
            weights = self._weights([_sq(rho, other) for other in self._patterns], 1)
            axes = zip(rho, zip(*self._patterns, strict=True), strict=True)
            pulls = [sum(w * ball(a - b) for w, b in zip(weights, axis, strict=True)) for a, axis in axes]
            steepest = steepest.max(2 * sum(a * a for a in pulls).sqrt() / sum(weights))
        return steepest

    @cached_property
    def decay(self):
        if len(self._patterns) == 1:
            return ball(0)
        far = max(self._s_sq, Fraction(1, 2))
        return ball(far).sqrt() * ball(-far).exp()
