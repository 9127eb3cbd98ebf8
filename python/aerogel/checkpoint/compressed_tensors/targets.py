"""Which modules a list of targets means.

A target is a module's exact name, `re:` and a regular expression that matches from the name's start (its end may be
anywhere), or the name of a class. Names are those in the file, such as `model.layers.0.mlp.up_proj`. The more specific
target wins: a name over an expression over a class; among equals the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from aerogel.checkpoint.compressed_tensors.config import Compression, Group
from aerogel.errors import ConfigError

_EXACT, _REGEX, _CLASS = 3, 2, 1


def group_of(module: str, compression: Compression, where: object) -> Group | None:
    """The group that says how the module is quantized; None if none does, or `ignore` names it."""
    if specificity(module, compression.ignore, where):
        return None
    best, found = 0, None
    for group in compression.groups:
        rank = specificity(module, group.targets, where)
        if rank > best:
            best, found = rank, group
    return found


def specificity(module: str, targets: Iterable[str], where: object) -> int:
    """How specifically the targets mean the module: 0 is not at all."""
    best = 0
    for target in targets:
        if target == module:
            return _EXACT
        if target.startswith("re:"):
            try:
                if re.match(target[3:], module):
                    best = max(best, _REGEX)
            except (re.error, OverflowError, RecursionError) as error:
                raise ConfigError(f"{where}: target {target!r:.80}: expected a regular expression: {error}") from error
        elif target == _class_of(module):
            best = max(best, _CLASS)
    return best


def _class_of(module: str) -> str:
    # A file does not say the classes of its modules; of those with a quantized matrix, tables are called embeddings.
    last = module.rpartition(".")[2]
    return "Embedding" if "embed" in last or last in ("wte", "wpe") else "Linear"
