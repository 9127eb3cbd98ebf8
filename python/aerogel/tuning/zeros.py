"""Where the zeros of a pattern lie, at random."""

from __future__ import annotations

import re

import numpy as np

from aerogel.errors import AerogelError

_BLOCKS = re.compile(r"([0-9]+)x([0-9]+)(?::sum)?")
_WINDOWS = re.compile(r"([0-9]+):([0-9]+)(?:x([0-9]+))?")


def own_sparsity(pattern: str) -> float | None:
    """The sparsity that a pattern of windows has ("8:64": 0.875); None for the others, which go with any."""
    windows = _WINDOWS.fullmatch(pattern)
    return None if windows is None else 1 - int(windows[1]) / int(windows[2])


def random_kept(n: int, k: int, sparsity: float, pattern: str, random: np.random.Generator) -> np.ndarray:
    """bool [n, k]: the weights that stay where all places that the pattern allows are as likely.

    Args:
        sparsity: fraction that goes; not used where the pattern has its own.
        pattern: "unstructured", "RxC" or "N:M" or "N:MxR", as pruning names them.

    Raises:
        AerogelError: it is none of these.
    """
    if windows := _WINDOWS.fullmatch(pattern):
        most, width, rows = int(windows[1]), int(windows[2]), int(windows[3] or 1)
        places = random.random((-(-n // rows), -(-k // width), width), np.float32)
        kept = (places <= np.partition(places, most - 1, axis=2)[..., most - 1, None]).reshape(len(places), -1)
        return kept.repeat(rows, axis=0)[:n, :k]
    blocks = _BLOCKS.fullmatch("1x1" if pattern == "unstructured" else pattern)
    if blocks is None:
        raise AerogelError(f"pattern: expected unstructured, RxC, N:M or N:MxR, got {pattern!r:.80}")
    rows, columns = int(blocks[1]), int(blocks[2])
    whole = random.random((-(-n // rows), -(-k // columns)), np.float32) >= sparsity
    return whole.repeat(rows, axis=0)[:n].repeat(columns, axis=1)[:, :k]
