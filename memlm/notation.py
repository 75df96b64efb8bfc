"""The notation of grammars: NLTK's, with the empty alternative, any word, and symbols such as N', N-1 or <np>.

    S -> N' 'a' S [3/4]  # quoted words, weights in brackets
    S -> 'b' [1/8] | '' [1/8]

The empty alternative is written '' or ε or nothing. In a quoted word \\u{27} is the character of that number, hexadecimal;
there is no other escape, so a backslash is a backslash.
"""

import re
import warnings
from collections import defaultdict
from decimal import Decimal
from fractions import Fraction

_SYMBOL = r"(?!['\"])(?:(?!->)[^\s\[\]|#\ufeff])+"
_LEFT = re.compile(rf"\s*({_SYMBOL})\s*->")
_NUMBER = re.compile(r"(?P<fraction>\d+(/\d+)?)|(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d{1,3})?")
_ESCAPE = re.compile(r"\\u\{(10[0-9a-fA-F]{4}|[0-9a-fA-F]{1,5})\}")
_MISTAKE = Fraction(1, 1000)  # decimals whose sum is further from 1 are taken for wrong, not for rounded


def is_terminal(symbol):
    """Terminals are kept with a leading quote, so that 'S' the word and S the symbol cannot be confused."""
    return symbol[0] == "'"


def is_symbol(text):
    """Whether a left side can have this name: no white space, bracket, bar, # or ->, and no quote at its beginning."""
    return bool(re.fullmatch(_SYMBOL, text))


def quoted(word):
    """A word as it stands in a rule."""
    quote = "'" if '"' in word and "'" not in word else '"'
    plain = word.replace("\\u{", "\\u{5c}u{")
    return quote + "".join(c if c.isprintable() and c != quote else f"\\u{{{ord(c):x}}}" for c in plain) + quote


def write(rules):
    """Rules {left: [(weight, right side)]} in the notation that ``read`` reads, one left side a line."""
    return "\n".join(f"{left} -> " + " | ".join(map(_written, alternatives)) for left, alternatives in rules.items())


def _written(alternative):
    weight, right = alternative
    return " ".join(quoted(symbol[1:]) if is_terminal(symbol) else symbol for symbol in right or ("'",)) + f" [{weight}]"


def read(text):
    """Rules {left: [(weight as a Fraction, right side)]} of a text, in its order.

    Raises ValueError with the line number, the value found and what was expected. Weights are kept exactly, except where
    decimals sum to 1 only within their rounding: see ``_normalised``.
    """
    lines = text.removeprefix("\ufeff").splitlines()
    lefts = [_LEFT.match(line) for line in lines]
    names = {left[1] for left in lefts if left}
    token, rules = _tokens(names), defaultdict(list)
    for number, (line, left) in enumerate(zip(lines, lefts, strict=True), 1):
        if left:
            rules[left[1]] += _alternatives(line[left.end() :], number, token, names)
        elif line.strip()[:1] not in ("", "#"):
            raise ValueError(f"line {number} is {line.strip()!r}; expected LEFT -> RIGHT [weight] | ...")
    for left, alternatives in rules.items():
        rules[left] = _normalised(left, alternatives)
    return dict(rules)


def _tokens(names):
    """The pattern of a token. A name with quotes, such as N', is one where it is a left side and ends like a name."""
    primed = sorted((re.escape(name) for name in names if {"'", '"'} & {*name}), key=len, reverse=True)
    return re.compile(
        rf"\s*(?:(?P<primed>(?:{'|'.join(primed) or '(?!)'})(?=[\s\[\]|#]|$))|(?P<word>'[^']*'|\"[^\"]*\")"
        r"|(?P<weight>\[[^\]]*\])|(?P<bar>\|)|(?P<comment>#.*)|(?P<name>[^\s'\"\[\]|#]+))"
    )


def _alternatives(text, number, token, names):
    """[(weight as written, right side)] of the text after an arrow; ``number`` is its line, for the errors."""
    groups, position = [[]], 0
    while position < len(text.rstrip()):
        match = token.match(text, position)
        if not match:
            raise ValueError(f"line {number} has {text[position:].strip()!r}; expected symbols, 'words', [weight] or |")
        position = match.end()
        if match["bar"]:
            groups.append([])
        elif not match["comment"]:
            groups[-1].append((match.lastgroup, match[match.lastgroup]))
    return [_alternative(group, number, names) for group in groups]


def _alternative(group, number, names):
    *symbols, (kind, weight) = group or [("", "")]
    # A lone [1] is a right side that was forgotten; an empty one that is meant has other alternatives, or is written ''.
    if kind != "weight" or any(kind == "weight" for kind, _ in symbols) or (not symbols and _share(weight, number) == 1):
        shown = " ".join(token for _, token in group)
        raise ValueError(
            f"line {number} has the alternative {shown!r}; expected symbols or 'words' and then one [weight]; '' is no word"
        )
    _share(weight, number)
    right = ("'" + _ESCAPE.sub(lambda m: chr(int(m[1], 16)), s[1:-1]) if kind == "word" else s for kind, s in symbols)
    return weight[1:-1].replace(" ", ""), tuple(s for s in right if s != "'" and (s != "ε" or s in names))


def _share(weight, number):
    digits = weight[1:-1].replace(" ", "")
    try:
        share = Fraction(digits) if _NUMBER.fullmatch(digits) else Fraction(0)
    except (ValueError, ZeroDivisionError):
        share = Fraction(0)
    if not 0 < share <= 1:
        raise ValueError(f"line {number} has the weight {weight}; expected a fraction or decimal in (0, 1]")
    return share


def _normalised(left, alternatives):
    """[(weight, right side)] with the weights as Fractions.

    Fractions are taken at their word. A decimal stands for a number within half a unit of its last place, as many places
    as the longest of that left side has, significant digits (%g) or decimals (%f) alike, or within 2^-53, the rounding of a
    float. Where decimals leave a sum that differs from 1 by no more than these, nor by more than a thousandth, all weights
    are divided by the sum, with a warning.
    """
    decimals = [Decimal(weight) for weight, _ in alternatives if not _NUMBER.fullmatch(weight)["fraction"]]
    longest = max((len(d.as_tuple().digits) for d in decimals), default=0)
    finest = min((d.as_tuple().exponent for d in decimals), default=0)
    units = [Fraction(10) ** max(finest, d.adjusted() - longest + 1) for d in decimals]
    slack = min(_MISTAKE, sum((max(unit / 2, Fraction(1, 2**53)) for unit in units), Fraction(0)))
    total = sum(Fraction(weight) for weight, _ in alternatives)
    if not 0 < abs(total - 1) <= slack:
        return [(Fraction(weight), right) for weight, right in alternatives]
    warnings.warn(
        f"the weights of {left} sum to 1 {float(total - 1):+.3g}, which is within the rounding of decimals: "
        "each was divided by the sum",
        stacklevel=4,
    )
    return [(Fraction(weight) / total, right) for weight, right in alternatives]
