"""Proofs that a machine can check: identities, signs of polynomials, induction on n, and z3 for polynomials of fixed size.

SymPy is good at identities and poor at inequalities, so inequalities are brought to a form in which nothing is left to
guess: exponentials become positive generators, a <= b becomes b = a + u with u >= 0, and the difference has to be a
polynomial whose coefficients are all >= 0. A True from here is a proof, and floats, which are rounded, are refused. A False
of ``identical``, ``nonnegative`` and ``positive`` means only that no proof was found; a False of ``decide`` is a disproof,
with an exact ``counterexample``.
"""

from functools import reduce

import sympy as sp

Z3_MILLISECONDS = 20_000  # the longest fixed polynomial statement of this suite takes 3 s


def log_sum_exp(y, beta=1):
    """LSE(beta, y) = (1/beta) log sum_i exp(beta y_i) as a SymPy expression. [L1-L4] y: one or more expressions."""
    if len(y) == 0:
        raise ValueError("y holds 0 entries; expected at least 1")
    if beta == 0:
        raise ValueError("beta is 0; expected another number or a symbol")
    return sp.log(sum(sp.exp(beta * entry) for entry in y)) / beta


def exact(expression):
    """``expression`` as SymPy has it. ValueError if it holds a float: 0.1 + 0.2 is not 0.3, and 1e17 + 1.0 is 1e17."""
    expression = sp.sympify(expression)
    for rounded in expression.atoms(sp.Float):
        raise ValueError(f"the expression holds the float {rounded}; expected whole numbers, Rationals and symbols")
    return expression


def identical(a, b=0):
    """Whether two expressions, or two matrices of one shape, are equal wherever both are defined.

    The numerator of the difference must expand to 0, exponentials of sums being split. No number is ever put in.
    """
    a, b = exact(a), exact(b)
    if isinstance(a, sp.MatrixBase) or isinstance(b, sp.MatrixBase):
        shapes = [getattr(side, "shape", None) for side in (a, b)]
        return shapes[0] == shapes[1] and all(identical(left, right) for left, right in zip(a, b, strict=True))
    numerator, denominator = sp.fraction(sp.together(sp.expand(a - b)))
    if sp.expand(denominator) == 0 or numerator.has(sp.nan, sp.zoo, sp.oo):
        return False
    return sp.expand(numerator) == 0


def _above_zero(e):
    """Whether e > 0 follows from its form. SymPy's own is_positive puts numbers in, and 1.14 has wrong signs that way:
    it takes log(1 + exp(-1000)) < exp(-1000)/2 for true."""
    if e.is_Rational:
        return bool(e > 0)
    if e.is_Symbol or e.is_NumberSymbol:
        return e.is_positive is True
    if e.is_Add:
        return all(map(_at_least_zero, e.args)) and any(map(_above_zero, e.args))
    if e.is_Mul:
        return all(map(_above_zero, e.args))
    if isinstance(e, sp.exp):
        return e.args[0].is_real is True
    if isinstance(e, sp.log):
        return e.args[0].is_Rational and bool(e.args[0] > 1)
    return e.is_Pow and _above_zero(e.base) and e.exp.is_real is True


def _at_least_zero(e):
    if e == 0 or _above_zero(e):
        return True
    if e.is_Add or e.is_Mul:
        return all(map(_at_least_zero, e.args))
    if e.is_Pow:
        even = e.exp.is_Integer and e.exp % 2 == 0 and e.base.is_real
        return bool(e.exp.is_Rational and e.exp > 0 and (even or _at_least_zero(e.base)))
    return e.is_Symbol and e.is_nonnegative is True


def _terms(expression, generators):
    """[(exponents, coefficient)] of a polynomial in the generators, or None if it is none."""
    for generator in generators:
        if not _at_least_zero(generator):
            raise ValueError(f"generator {generator} is not known to be >= 0; expected a symbol declared so or exp(real)")
    expression = sp.expand(exact(expression))
    try:
        return sp.Poly(expression, *generators).terms() if generators else [((), expression)]
    except sp.PolynomialError:
        return None


def nonnegative(expression, generators):
    """Whether ``expression`` is a polynomial in the generators with coefficients >= 0, and hence >= 0.

    generators: symbols declared >= 0, or exponentials of reals (ValueError otherwise). Coefficients: numbers >= 0,
    and sums, products and powers of them and of symbols declared >= 0. False: no certificate found.
    """
    terms = _terms(expression, generators)
    return terms is not None and all(_at_least_zero(coefficient) for _, coefficient in terms)


def positive(expression, generators, at_least_one=()):
    """Whether ``nonnegative`` holds and some term is > 0 because its coefficient and each of its generators are.

    at_least_one: generators, declared >= 0, of which at least one is > 0: then each of them needs such a term.
    """
    if not nonnegative(expression, generators):
        return False
    terms = [(powers, c) for powers, c in _terms(expression, generators) if _above_zero(c)]
    supports = [{g for g, power in zip(generators, powers, strict=True) if power} for powers, _ in terms]
    return all(any(all(_above_zero(g) or g == one for g in s) for s in supports) for one in at_least_one or [None])


def induction(difference, base, terms, where=None, constants=()):
    """What is left to show for a statement about sums of n entries: (its first case, its gain from one more entry).

    If the first case and every gain are >= 0 (or 0), so is ``difference`` for every n from the first case on.
    difference: in symbols that stand for sums over the entries, n itself being one, and in constants.
    base: {sum: its value in the first case}. terms: {sum: what one more entry adds}, in symbols of that entry, in old sums
    and in ``constants``, which are the same for all entries.
    where: {symbol: expression}, an equation that holds for the added entry, such as {largest: t + u} with u >= 0.
    ValueError if a symbol of the new entry occurs in ``difference``: it would stand for one and the same entry always.
    """
    difference = exact(difference)
    if base.keys() != terms.keys():
        raise ValueError(f"base has the sums {set(base)} and terms {set(terms)}; expected the same")
    new = set().union(*(sp.sympify(term).free_symbols for term in terms.values())) - terms.keys() - set(constants)
    if new & difference.free_symbols:
        raise ValueError(f"difference holds {new & difference.free_symbols}; expected sums and constants only")
    after = difference.subs({total: total + term for total, term in terms.items()}, simultaneous=True)
    gain = sp.expand(after - difference).subs(where or {}, simultaneous=True)
    return sp.expand(difference.subs(base, simultaneous=True)), sp.expand(gain)


def nonnegative_for_every_n(difference, generators, base, terms, where=None, constants=()):
    """Whether ``induction`` leaves two ``nonnegative`` expressions: then difference >= 0 for every n."""
    return all(nonnegative(left, generators) for left in induction(difference, base, terms, where, constants))


def zero_for_every_n(difference, base, terms, where=None, constants=()):
    """Whether ``induction`` leaves two expressions ``identical`` to 0: then difference = 0 for every n."""
    return all(identical(left) for left in induction(difference, base, terms, where, constants))


SIGNS = {
    "is_positive": lambda v: v > 0,
    "is_negative": lambda v: v < 0,
    "is_nonnegative": lambda v: v >= 0,
    "is_nonpositive": lambda v: v <= 0,
    "is_nonzero": lambda v: v != 0,
}
OPERATIONS = {
    sp.Eq: lambda a, b: a == b,
    sp.Ne: lambda a, b: a != b,
    sp.StrictLessThan: lambda a, b: a < b,
    sp.LessThan: lambda a, b: a <= b,
    sp.StrictGreaterThan: lambda a, b: a > b,
    sp.GreaterThan: lambda a, b: a >= b,
    sp.Add: lambda *terms: sum(terms[1:], terms[0]),
    sp.Mul: lambda *factors: reduce(lambda a, b: a * b, factors),
}


def _variable(symbol):
    import z3

    if not symbol.is_real or symbol.is_rational is not None or symbol.is_algebraic is not None:
        raise ValueError(f"symbol {symbol} has the assumptions {symbol.assumptions0}; expected a real symbol")
    return z3.Real(symbol.name)


def _to_z3(expression):
    """A polynomial statement with max, min, absolute values and logical connectives, as z3 has it."""
    import z3

    if expression.is_Symbol:
        return _variable(expression)
    if expression.is_Rational:
        return z3.RealVal(str(expression))
    logic = {sp.And: z3.And, sp.Or: z3.Or, sp.Not: z3.Not, sp.Implies: z3.Implies}
    parts = [_to_z3(part) for part in expression.args]
    if expression in (sp.true, sp.false):
        return z3.BoolVal(expression == sp.true)
    if expression.is_Pow and expression.exp.is_Integer and expression.exp > 0:
        return reduce(lambda a, b: a * b, [parts[0]] * int(expression.exp))
    if isinstance(expression, sp.Max | sp.Min):
        keeps = (lambda a, b: a >= b) if isinstance(expression, sp.Max) else (lambda a, b: a <= b)
        return reduce(lambda a, b: z3.If(keeps(a, b), a, b), parts)
    if isinstance(expression, sp.Abs):
        return z3.If(parts[0] >= 0, parts[0], -parts[0])
    translate = (logic | OPERATIONS).get(expression.func)
    if translate is None:
        raise ValueError(f"{expression} has no place in a polynomial statement; expected sums, products and powers >= 1")
    return translate(*parts)


def _exact(value):
    """A z3 number as a SymPy number: rational, or a root of a polynomial with whole coefficients."""
    if hasattr(value, "as_fraction"):
        return sp.Rational(value.as_fraction())
    x = sp.Symbol("x")
    coefficients = [sp.Rational(c.as_fraction()) for c in value.poly()]
    return sp.rootof(sum(c * x**power for power, c in enumerate(coefficients)), value.index() - 1)


def _refute(statement, assumptions):
    """("unsat" | "sat" | "unknown", counterexample or None) of the assumptions and the negated statement."""
    import z3

    statement, assumptions = exact(statement), [exact(a) for a in assumptions]
    symbols = sorted(set().union(*(part.free_symbols for part in (statement, *assumptions))), key=str)
    if len({s.name for s in symbols}) < len(symbols):
        raise ValueError(f"symbols {symbols} share a name; expected one set of assumptions for each name")
    solver = z3.Solver()
    solver.set("timeout", Z3_MILLISECONDS)
    solver.add(*(_to_z3(a) for a in assumptions), z3.Not(_to_z3(statement)))
    solver.add(*(sign(_variable(s)) for s in symbols for name, sign in SIGNS.items() if getattr(s, name)))
    outcome = str(solver.check())
    if outcome != "sat":
        return outcome, None
    model = solver.model()
    point = {s: _exact(model.eval(_variable(s), model_completion=True)) for s in symbols}
    # SymPy puts the numbers in again: a counterexample that it does not confirm decides nothing.
    fails = statement.subs(point) == sp.false and all(a.subs(point) == sp.true for a in assumptions)
    return ("sat", point) if fails else ("unknown", None)


def decide(statement, assumptions=()):
    """True if z3 proves the statement for all real values of its symbols, False if it has a counterexample, else None.

    statement, assumptions: SymPy relations between polynomials (also Max, Min, Abs, And, Or, Not, Implies) in real
    symbols, whose declared signs count as assumptions. Needs the package z3-solver; anything else raises ValueError.
    """
    return {"unsat": True, "sat": False}.get(_refute(statement, assumptions)[0])


def counterexample(statement, assumptions=()):
    """{symbol: exact number} where the assumptions hold and the statement fails, as SymPy confirms; else None."""
    return _refute(statement, assumptions)[1]
