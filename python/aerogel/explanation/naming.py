"""Names of several layers in a line."""

from __future__ import annotations

from collections.abc import Sequence


def group_name(names: Sequence[str]) -> str:
    """The name of one layer; of several, their common kinds and number."""
    if len(names) == 1:
        return names[0]
    kinds = list(dict.fromkeys(name.split(".", 2)[-1] for name in names))
    return f"{', '.join(kinds)} ({len(names)} layers)"
