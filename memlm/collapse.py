"""What memorisation looks like from outside."""

import math


def memoriser_floor(d, tokens_per_sequence):
    """(log d)/T, the least cross-entropy on d distinct equiprobable sequences, in nats per predicted token. [S60]

    Any law q on sequences pays -(1/d) sum_i log q(x_i) >= log d per sequence, with equality iff q(x_i) = 1/d for all i:
    the lookup table. d >= 1 sequences; T > 0 their mean number of predicted tokens.
    """
    if d != int(d) or d < 1:
        raise ValueError(f"d is {d}; expected a whole number >= 1")
    if not 0 < tokens_per_sequence < math.inf:
        raise ValueError(f"tokens_per_sequence is {tokens_per_sequence}; expected a finite number > 0")
    return math.log(d) / tokens_per_sequence
