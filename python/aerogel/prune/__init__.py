"""Pruning: a method chooses the weights to keep and their new values, a pattern says how many and where.

A method is one pure function `(weight [N,K], what it needs, pattern) -> Pruned`; what it needs is nothing (None), the
`Statistics` of its input, or a gradient. A new method is one file and one row in METHODS.
"""

from __future__ import annotations

from aerogel._util.checks import one_of
from aerogel.errors import RecipeError
from aerogel.prune.admm import admm
from aerogel.prune.contract import MethodEntry, Pruned
from aerogel.prune.magnitude import magnitude, magnitude_score
from aerogel.prune.obs import obs
from aerogel.prune.pattern import Blocks, Pattern, Unstructured, Windowed, parse_pattern
from aerogel.prune.schedule import cubic, cubic_steps
from aerogel.prune.target import corrected_target
from aerogel.prune.taylor import taylor, taylor_score
from aerogel.prune.threshold import global_sparsities, global_threshold, sparsity_below
from aerogel.prune.wanda import wanda, wanda_score

__all__ = [
    "METHODS",
    "Blocks",
    "MethodEntry",
    "Pattern",
    "Pruned",
    "Unstructured",
    "Windowed",
    "admm",
    "cubic",
    "cubic_steps",
    "corrected_target",
    "global_sparsities",
    "global_threshold",
    "magnitude",
    "magnitude_score",
    "method",
    "obs",
    "parse_pattern",
    "sparsity_below",
    "taylor",
    "taylor_score",
    "wanda",
    "wanda_score",
]

METHODS: dict[str, MethodEntry] = {
    "magnitude": MethodEntry(
        magnitude, magnitude_score, "nothing", "removes the weights of least magnitude", "Han et al., arXiv 1506.02626"
    ),
    "wanda": MethodEntry(
        wanda, wanda_score, "gram", "|w| times the norm of its input, within a row", "Sun et al., arXiv 2306.11695"
    ),
    "obs": MethodEntry(
        obs,
        None,
        "gram",
        "SparseGPT: the remaining weights compensate for the removed ones, column by column",
        "Frantar and Alistarh, arXiv 2301.00774",
    ),
    "admm": MethodEntry(
        admm,
        None,
        "gram",
        "mask and values together, then least squares on the mask; the smallest error",
        "after Meng et al., arXiv 2406.07831",
    ),
    "taylor": MethodEntry(
        taylor, taylor_score, "gradient", "estimated change of the loss", "Molchanov et al., arXiv 1611.06440"
    ),
}


def method(name: str) -> MethodEntry:
    """The pruning method called `name`."""
    return METHODS[one_of("pruning method", name, METHODS, RecipeError)]
