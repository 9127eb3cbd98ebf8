"""Texts that calibration never sees, so that a compressed model can be checked on them."""

from __future__ import annotations

from collections.abc import Sequence

#: One text in so many is kept aside, of collections of at least LEAST.
EVERY, LEAST = 10, 100


def split(texts: Sequence[str], running: bool = False, least: int = LEAST) -> tuple[list[str], list[str]]:
    """(to calibrate on, kept aside): every tenth text; of a running text, which windows are cut from, the last tenth.

    Nothing is kept aside of fewer than `least` texts.
    """
    if len(texts) < least:
        return list(texts), []
    if running:
        cut = len(texts) - len(texts) // EVERY
        return list(texts[:cut]), list(texts[cut:])
    fitted = [text for i, text in enumerate(texts) if i % EVERY != EVERY - 1]
    return fitted, list(texts[EVERY - 1 :: EVERY])
