"""How prompts are cut: what is written must not depend on who else is there.

A row of attention is the same to the bit however many queries are run with it, except that fewer than five (`kSharedQueries`
in csrc/runtime/ops/attention.cpp) add up in another order. That is a last bit, which rounding to int8 makes a hundredth of a
logit, and now and then another token. So a prompt is never cut so that fewer are left.
"""

from __future__ import annotations

#: Tokens of a prompt that are run together at least, if it has so many.
FEWEST = 8


def part_of(left: int, most: int) -> int:
    """How many of `left` tokens are run next: `most`, or all where fewer than FEWEST would stay behind."""
    return left if left < most + FEWEST else most
