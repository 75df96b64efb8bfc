"""The checkers of proofs, checked: they accept what is true and refuse near-misses.

./run_tests.sh tests/test_symbolic.py
"""

from functools import partial

import pytest
import sympy as sp
import torch

from memlm import energy, symbolic
from memlm.symbolic import (
    counterexample,
    decide,
    identical,
    nonnegative,
    nonnegative_for_every_n,
    positive,
    zero_for_every_n,
)

x, y, z = sp.symbols("x y z", real=True)
a, b, c, t, r, T, N, S, A, B, K, k, n, w, beta = sp.symbols("a b c t r T N S A B K k n w beta", positive=True)
u, m, R = sp.symbols("u m R", nonnegative=True)
v, e, S0, S1, S2, P, Q, V, W = sp.symbols("v e S0 S1 S2 P Q V W", real=True)
TOLERANCE = 1e-12  # relative beyond 1: double precision 1e-16, a handful of operations


def refuses(checker, planted):
    """How many planted near-misses the checker refuses; there must be at least three, and all must go."""
    refused = sum(not checker(wrong) for wrong in planted)
    assert refused == len(planted) >= 3, [wrong for wrong in planted if checker(wrong)]
    return refused


# --- the checkers themselves


def test_identical_splits_exponentials_and_compares_matrices():
    assert identical(sp.exp(x + y), sp.exp(x) * sp.exp(y))
    assert identical(sp.exp(-x) / (sp.exp(-x) + sp.exp(-y)), sp.exp(y) / (sp.exp(x) + sp.exp(y)))
    assert identical((x + 1) ** 2, x**2 + 2 * x + 1)
    assert identical(sp.Matrix([[sp.exp(2 * x)]]), sp.Matrix([[sp.exp(x) ** 2]]))


def test_identical_is_never_talked_into_it():
    never = 1 / ((x + 1) ** 2 - x**2 - 2 * x - 1)  # defined nowhere
    tiny = sp.exp(-1000)
    pairs = [
        (x, y),
        (sp.log(1 + tiny), 0),  # SymPy evaluates it to 0
        (x + sp.Rational(1, 10**40), x),
        (never, 0),
        (sp.nan, sp.nan),
        (sp.zoo * x, 0),
        (sp.Matrix([x]), sp.Matrix([[x, x]])),
        (sp.Matrix([x]), x),
        (sp.sqrt(x**2), x),
    ]
    assert refuses(lambda pair: identical(*pair), pairs) == 9


def test_certificates_of_sign():
    assert nonnegative(0, []) and nonnegative(0, [a]) and nonnegative(3 * a * u + u**2, [a, u])
    assert nonnegative((a + u) ** 3 - a**3, [a, u])
    assert nonnegative(sp.exp(2 * x) + sp.exp(x + y), [sp.exp(x), sp.exp(y)])
    assert nonnegative(v**2 * a + sp.pi * k * a + sp.sqrt(2) * a + sp.log(2) * a**2, [a])  # coefficients known to be >= 0
    assert positive(a * u + a, [a, u]) and not positive(a * u, [a, u]) and not positive(0, [a])
    assert positive(a * u + a * m, [a, u, m], at_least_one=[u, m])
    assert not positive(a * u + u * m, [a, u, m], at_least_one=[u, m])  # 0 where only m > 0


def test_certificates_refuse_what_has_none():
    tiny = sp.exp(-1000)
    planted = [
        a - u,
        (a - b) ** 2,  # true, but there is no certificate of this kind
        v * a,
        1 / a - a,
        sp.sin(x) * a,
        tiny / 2 - sp.log(1 + tiny),  # negative; SymPy 1.14 says is_positive
        sp.log(1 - tiny),  # negative; likewise
        sp.nan,
    ]
    assert refuses(partial(nonnegative, generators=[a, b, u]), planted) == 8
    for generator in (v, v - v**2, sp.Symbol("q"), tiny / 2 - sp.log(1 + tiny)):
        with pytest.raises(ValueError, match=r"is not known to be >= 0; expected a symbol declared so"):
            nonnegative(a, [generator])


def test_induction_says_what_is_left_and_refuses_misuse():
    assert symbolic.induction(n * T - S, {n: 1, S: T}, {n: 1, S: t}, {T: t + u}) == (0, u)
    # 1 + 3 + 5 + .. = n^2, in the usual form
    assert zero_for_every_n(S - n**2, base={n: 1, S: 1}, terms={n: 1, S: 2 * n + 1})
    planted = [S - n**2 - n + 1, S - n, S - n**3, S - n**2 - 1]
    assert refuses(partial(zero_for_every_n, base={n: 1, S: 1}, terms={n: 1, S: 2 * n + 1}), planted) == 4
    assert not nonnegative_for_every_n(3 - n, [n], base={n: 1}, terms={n: 1})  # true for n <= 3 only
    with pytest.raises(ValueError, match=r"difference holds \{t\}; expected sums and constants only"):
        symbolic.induction(n * t - S, {n: 0, S: 0}, {n: 1, S: t})
    with pytest.raises(ValueError, match="expected the same"):
        symbolic.induction(n * T - S, {n: 1}, {n: 1, S: t})


TRUE = [
    (a + b) ** 2 >= 4 * a * b,
    (a + b + c) ** 3 >= 27 * a * b * c,
    x**2 + y**2 - 2 * x * y >= 0,
    sp.Eq(sp.Max(x, y) + sp.Min(x, y), x + y),
    sp.Abs(x + y) <= sp.Abs(x) + sp.Abs(y),
    sp.Implies(x > y, x**3 > y**3),
    sp.Or(x >= y, sp.Not(x > y)),
    a + u > 0,
    sp.true,
]
FALSE = [
    (a + b) ** 2 > 4 * a * b,
    (a + b + c) ** 3 >= 28 * a * b * c,
    x**2 + y**2 - 2 * x * y > 0,
    sp.Max(x, y) <= x,
    sp.Abs(x + y) < sp.Abs(x) + sp.Abs(y),
    sp.Implies(x > y, x**2 > y**2),
    a * u > 0,
    sp.Ne(x**2, 2),
    sp.Ne(x**5 - x, 1),  # its only counterexample has no closed form
    a >= sp.Rational(1, 10**30),
]


def test_decide_knows_true_from_false_and_shows_exact_numbers():
    assert [decide(statement) for statement in TRUE] == [True] * 9
    assert all(counterexample(statement) is None for statement in TRUE)
    assert refuses(lambda statement: decide(statement) is not False, FALSE) == 10
    for statement in FALSE:
        point = counterexample(statement)
        assert statement.subs(point) == sp.false and not any(number.has(sp.Float) for number in point.values())
        assert all(number > 0 for symbol, number in point.items() if symbol.is_positive)
    assert counterexample(sp.Ne(x**2, 2))[x] ** 2 == 2


def test_decide_uses_assumptions_and_admits_ignorance(monkeypatch):
    assert decide(x <= 1, [x**2 <= 1]) is True and decide(x < 1, [x**2 <= 1]) is False
    assert counterexample(x < 1, [x**2 <= 1]) == {x: 1}
    assert decide(x > 0, [sp.Eq(x**2, -1)]) is True  # nothing satisfies the assumption
    monkeypatch.setattr(symbolic, "Z3_MILLISECONDS", 1)
    form = lambda power: sum(p * q**power for p, q in zip(sp.symbols("w1:6", positive=True), sp.symbols("v1:6", real=True)))  # noqa
    hard = form(0) * form(2) - form(1) ** 2 >= 0
    assert decide(hard) is None and counterexample(hard) is None


BAD = [
    (lambda: decide(sp.exp(x) > 0 * y + x), r"exp\(x\) has no place in a polynomial statement"),
    (lambda: decide(sp.sqrt(2) * x > y), r"sqrt\(2\) has no place"),
    (lambda: decide(1 / x > y), r"1/x has no place in a polynomial statement; expected sums, products and powers >= 1"),
    (lambda: decide(sp.Symbol("j", integer=True) > x), r"symbol j has the assumptions .*; expected a real symbol"),
    (lambda: decide(sp.Ne(sp.Symbol("j"), x)), "symbol j has the assumptions"),
    (lambda: decide(sp.Symbol("a", real=True) * y > a), "share a name; expected one set of assumptions"),
    (lambda: symbolic.log_sum_exp([]), "y holds 0 entries; expected at least 1"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- the lemmas


def test_sympy_and_torch_agree():
    generator = torch.Generator().manual_seed(0)
    rows = [row for size in (1, 2, 5) for row in (torch.randint(-640, 641, (4, size), generator=generator) / 16).tolist()]
    rows += [[1e4, 1e4], [-1e4, -1e4], [1e4, -1e4, 9999.5], [0.0, 0.0, 0.0]]
    for row in rows:
        for inverse in (1, sp.Rational(1, 2), 4):
            exact = symbolic.log_sum_exp([sp.Rational(entry) for entry in row], inverse).evalf(30, maxn=20_000)
            error = abs(energy.log_sum_exp(row, float(inverse)).item() - exact)
            assert error <= TOLERANCE * max(1, abs(exact)), row


def test_sympy_and_torch_agree_on_gradient_and_hessian():
    f = symbolic.log_sum_exp([x, y, z])
    point = {x: sp.Rational(1, 2), y: -2, z: sp.Rational(9, 4)}
    state = torch.tensor([float(point[s]) for s in (x, y, z)], dtype=torch.float64)
    gradient = torch.tensor([float(sp.diff(f, s).subs(point).evalf(30)) for s in (x, y, z)], dtype=torch.float64)
    hessian = torch.tensor(sp.hessian(f, (x, y, z)).subs(point).evalf(30).tolist(), dtype=torch.float64)
    p = state.softmax(-1)
    assert (p - gradient).abs().max() < TOLERANCE
    assert (torch.autograd.functional.hessian(energy.log_sum_exp, state) - hessian).abs().max() < TOLERANCE
    assert (torch.diag(p) - p[:, None] * p - hessian).abs().max() < TOLERANCE


def test_SM_softmax_is_the_gradient_and_near_misses_are_not():
    gradient = sp.diff(sp.log(R + sp.exp(beta * x)) / beta, x)
    softmax = sp.exp(beta * x) / (R + sp.exp(beta * x))
    assert identical(gradient, softmax)
    planted = [beta * softmax, -softmax, softmax.subs(beta, 1), sp.exp(beta * x) / R, 1, 1 - softmax]  # 1: true at n = 1
    assert refuses(partial(identical, gradient), planted) == 6


def test_L1_S10_lagrange_and_gershgorin_identities_and_their_near_misses():
    sums = {S0: w, S1: w * v, S2: w * v**2}
    spread = e**2 * S0 - 2 * e * S1 + S2
    inner = partial(zero_for_every_n, base=dict.fromkeys((*sums, P), 0), constants=[e])
    assert inner(P - spread, terms=sums | {P: w * (e - v) ** 2})
    assert inner(P - spread.subs(e, -e), terms=sums | {P: w * (e + v) ** 2})
    assert not inner(P - spread, terms=sums | {P: w * (e + v) ** 2})
    lagrange = partial(zero_for_every_n, base=dict.fromkeys((*sums, Q), 0), terms=sums | {Q: w * spread.subs(e, v)})
    variance = S0 * S2 - S1**2
    assert lagrange(variance - Q)
    assert refuses(lagrange, [variance - Q / 2, variance + 2 * S1**2 - Q, S2 - S1**2 - Q, variance, variance + Q]) == 5
    pairs = sums | {V: v**2, W: w**2 * v**2, Q: w * spread.subs(e, -v)}
    gershgorin = partial(zero_for_every_n, base=dict.fromkeys(pairs, 0), terms=pairs)
    upper, squares = V * S0**2 / 2 - variance, V * S0**2 / 2 - 2 * S0 * S2 + 2 * W
    assert gershgorin(upper - squares - Q)
    planted = [upper - V * S0**2 / 6, upper + V * S0**2 / 2, upper + 2 * variance, upper - Q]
    assert refuses(gershgorin, [wrong - squares - Q for wrong in planted]) == 4


def test_L1_S10_polynomial_cores_at_n_2():
    (p, q), (g, h) = sp.symbols("w1:3", positive=True), sp.symbols("v1:3", real=True)
    variance = (p + q) * (p * g**2 + q * h**2) - (p * g + q * h) ** 2
    norm = (p + q) ** 2 * (g**2 + h**2)
    assert decide(variance >= 0) is True and decide(norm / 2 >= variance) is True
    assert decide(variance > 0, [sp.Ne(g, h)]) is True
    planted = [variance > 0, variance <= 0, norm / 3 >= variance, norm * sp.Rational(499, 1000) >= variance]
    assert refuses(lambda statement: decide(statement) is not False, planted) == 4


def test_S10_eigenvalues_of_the_hessian():
    assert sp.hessian(symbolic.log_sum_exp([x, y]), (x, y)).subs({x: 0, y: 0}).eigenvals() == {0: 1, sp.Rational(1, 2): 1}
    for size in (1, 2, 3):
        entries = sp.symbols(f"x1:{size + 1}", real=True)
        hessian = sp.hessian(symbolic.log_sum_exp(entries), entries)
        assert identical(hessian * sp.ones(size, 1), sp.zeros(size, 1))


def test_L2_bounds_for_every_n_and_their_near_misses():
    checker = partial(nonnegative_for_every_n, generators=[t, u], base={n: 1, S: T}, terms={n: 1, S: t})
    below, above = checker, partial(checker, where={T: t + u})
    assert below(S - T) and above(n * T - S)
    start, gain = symbolic.induction(S - T, {S: T}, {S: t})
    assert start == 0 and positive(gain, [t])  # an equality at n = 1, strict from n = 2 on
    assert refuses(above, [n * T / 2 - S, (n - 1) * T - S, T - S, S - n * T, n * T - S - T / 10**6]) == 5
    assert refuses(below, [S - 2 * T, T - S, S - n * T, 2 * S - 3 * T]) == 4
    at_3 = {n: 3, S: T + t + r}
    planted = [n * T / 2 - S, (n - 1) * T - S, T - S, S - n * T, S - 2 * T]
    assert refuses(lambda d: decide(d.subs(at_3) >= 0, [t <= T, r <= T]) is not False, planted) == 5
    assert decide((n * T - S).subs(at_3) >= 0, [t <= T, r <= T]) is True


def test_L2_L3_are_equalities_at_n_1():
    assert symbolic.log_sum_exp([x]) == x and -symbolic.log_sum_exp([-x]) == x
    for value in (-1e4, -0.0, 0.3, 1e4):
        assert energy.log_sum_exp([value]).item() == value
    assert energy.log_sum_exp([0.0, -1000.0]).item() == 0.0  # truly above 0, which no float can say


def test_L3_the_mirror_image_and_its_near_misses():
    assert decide(sp.Eq(sp.Max(-x, -y), -sp.Min(x, y))) is True
    least, pairs, product = sp.Min(a, b, c), a * b + b * c + c * a, a * b * c
    soft = sp.exp(-symbolic.log_sum_exp([-x, -y, -z])).subs({x: sp.log(a), y: sp.log(b), z: sp.log(c)})
    assert identical(soft, product / pairs)
    assert decide(least * pairs <= 3 * product) is True and decide(least * pairs > product) is True
    planted = [
        least * pairs <= product,
        3 * least * pairs <= product,
        least * pairs <= 2 * product,
        least * pairs > 2 * product,
    ]
    assert refuses(lambda statement: decide(statement) is not False, planted) == 4


def test_L4_S13_lipschitz_for_every_n_and_its_near_misses():
    checker = partial(nonnegative_for_every_n, generators=[b, u], base={A: 0, B: 0}, terms={A: a, B: b})
    below, above = partial(checker, where={a: k * b + u}), partial(checker, where={a: K * b - u})
    assert above(K * B - A) and below(A - k * B)
    _, gain = symbolic.induction(K * B - A, {A: 0, B: 0}, {A: a, B: b}, {a: K * b - u})
    assert positive(gain, [u], at_least_one=[u])  # strict unless all slacks vanish
    assert refuses(above, [B - A, K * B**2 - A**2, A - K * B, K * B - A - B, K * B * sp.Rational(999, 1000) - A]) == 5
    assert refuses(below, [k * B - A, A - B, A - k * B - B]) == 3
    c, d = sp.symbols("c d", positive=True)
    bounded = [a <= K * b, c <= K * d, a >= k * b, c >= k * d]
    planted = [b + d >= a + c, K * (b + d) ** 2 >= (a + c) ** 2, k * (b + d) >= a + c, a + c >= K * (b + d)]
    assert refuses(lambda statement: decide(statement, bounded) is not False, planted) == 4
    assert decide(sp.And(a + c <= K * (b + d), a + c >= k * (b + d)), bounded) is True


def test_S11_ties_and_gaps_for_every_n_and_their_near_misses():
    above = partial(
        nonnegative_for_every_n, generators=[t, u, T], base={m: 0, S: k * T}, terms={m: 1, S: t}, where={N: t + u}
    )
    assert above(k * T + m * N - S)
    assert nonnegative_for_every_n(S - k * T, [t], base={S: k * T}, terms={S: t})
    assert nonnegative_for_every_n(S - k * T - N, [t], base={S: k * T + N}, terms={S: t})
    planted = [k * T + (m - 1) * N - S, T + m * N - S, (k + m) * N - S, k * T - S, k * T + m * N / 2 - S]
    assert refuses(above, planted) == 5
    others, bounded = {S: k * T + t + r, m: 2}, [t <= N, r <= N, N < T, k >= 1]
    assert refuses(lambda d: decide(d.subs(others) >= 0, bounded) is not False, planted) == 5


def test_S12_mean_and_its_near_misses():
    tilt = sp.diff(sp.log(R + sp.exp(x)), x).subs({R: n - 1, x: 0})
    assert identical(tilt, 1 / n) and refuses(partial(identical, tilt), [1, 1 / (n - 1), 1 / (n + 1), 1 / n**2]) == 4
    assert decide((a + b + c) ** 3 > 27 * a * b * c, [sp.Ne(a, b)]) is True
    total, product = (a + b + c) ** 3, a * b * c
    planted = [total >= 64 * product, total > 27 * product, total <= 27 * product, a + b + c >= 3 * sp.Max(a, b, c)]
    assert refuses(lambda statement: decide(statement) is not False, planted) == 4


def test_S14_slope_and_bend_along_a_line_and_near_misses():
    s = sp.Symbol("s", real=True)
    F0, F1, F2 = (sp.Function(f"F{power}")(s) for power in range(3))
    walk = {sp.Derivative(F0, s): F1, sp.Derivative(F1, s): F2}
    assert identical(sp.diff(w * sp.exp(s * v), s), v * w * sp.exp(s * v))
    slope = sp.diff(sp.log(F0), s).subs(walk)
    bend = sp.diff(slope, s).subs(walk)
    assert identical(slope, F1 / F0) and identical(bend, (F0 * F2 - F1**2) / F0**2)
    assert refuses(partial(identical, slope), [F1 / n, -F1 / F0, F1, F0 / F1]) == 4
    assert refuses(partial(identical, bend), [F2 / F0, (F0 * F2 + F1**2) / F0**2, F0 * F2 - F1**2]) == 3


def test_floats_are_no_proofs():
    planted = (
        lambda: identical(sp.Float(1e17) + r, sp.Float(1e17) + r),
        lambda: identical(0.1 + 0.2, 0.3),
        lambda: identical(sp.Matrix([[0.5]]), sp.Matrix([[sp.Rational(1, 2)]])),
        lambda: nonnegative(0.5 * r, [r]),
        lambda: positive(r + 1e-17, [r]),
        lambda: decide(x * x > -0.5 * x),
        lambda: decide(x > 0, [x > 0.1]),
        lambda: symbolic.induction(S + 0.5, {S: 1}, {S: 1}),
    )
    for wrong in planted:
        with pytest.raises(ValueError, match=r"the expression holds the float .*; expected whole numbers"):
            wrong()
    with pytest.raises(ValueError, match="beta is 0; expected"):
        symbolic.log_sum_exp([x], 0)
