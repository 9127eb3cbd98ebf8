"""Tensors that files have in another form than families: fused ones, which a family knows as several, are split where they
are read and joined where they are written, and transposed ones turned.

A family says which (`SavedNames.fused`, `SavedNames.transposed`).
Packed models have what it knows, so nothing is split or turned there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerogel.architectures import saved_names
from aerogel.architectures.fused import Rows
from aerogel.checkpoint.names import normalize, saved_name
from aerogel.errors import CheckpointError, MissingTensorsError, UnsupportedModelError


def split_fused(
    stored: Mapping[str, str], rows: Callable[[str], int], config: Mapping[str, Any], where: object
) -> tuple[dict[str, str], dict[str, Rows]]:
    """Names the parts of fused tensors.

    Args:
        stored: each parameter's name -> its name in the file.
        rows: how many a tensor of the file has, as the family knows it.
        config: the model's.
        where: for messages.

    Returns:
        `stored` with the parts in place of what is fused, each under the file's name of the whole; and each part's rows.

    Raises:
        CheckpointError: a part stands in the file by itself too.
        ConfigError: the config shares the rows out in another way than the file can have.
    """
    saved = saved_names(config)
    names: dict[str, str] = {}
    slices: dict[str, Rows] = {}
    for name, place in stored.items():
        fused, found = next(
            ((one, match) for one in (saved.fused if saved else ()) if (match := one.match(name))), (None, None)
        )
        if fused is None or found is None:
            names[name] = place
            continue
        parts = fused.names(*found)
        twice = next((part for part in parts if part in stored), None)
        if twice is not None:
            raise CheckpointError(f"{where}: {stored[twice]!r} and {place!r} both hold the parameter {twice!r}")
        names.update(dict.fromkeys(parts, place))
        slices.update(zip(parts, fused.rows(rows(place), config, found[0]), strict=True))
    return names, slices


def end_to_end(found: tuple[dict[str, str], dict[str, Rows]], where: object) -> tuple[dict[str, str], dict[str, slice]]:
    """What `split_fused` gave, for files that are read in slices only.

    Raises:
        UnsupportedModelError: parts take turns.
    """
    names, rows = found
    slices = {name: part for name, part in rows.items() if isinstance(part, slice)}
    if len(slices) < len(rows):
        raise UnsupportedModelError(
            f"{where}: expected fused tensors whose parts stand end to end in this kind of file"
        )
    return names, slices


def row_count(rows: Rows) -> int:
    """How many they are."""
    return rows.stop - rows.start if isinstance(rows, slice) else len(rows)


def saved_parts(names: Iterable[str], config: Mapping[str, Any]) -> dict[str, list[str]]:
    """The tensors that Transformers saves for the class that the config names: name -> the parameters whose rows it has.

    Raises:
        MissingTensorsError: a part of a fused tensor is lacking.
        UnsupportedModelError: the config names no family.
    """
    saved = saved_names(config)
    names = list(names)
    joined: dict[str, tuple[str, list[str]]] = {}
    for fused in saved.fused if saved else ():
        for name in names:
            found = fused.match_part(name)
            if found is not None and name not in joined:
                parts, whole = fused.names(*found), saved_name(fused.stored(*found), config)
                missing = sorted(set(parts) - set(names))
                if missing:
                    raise MissingTensorsError(whole, missing)
                joined.update(dict.fromkeys(parts, (whole, parts)))
    return dict(joined[name] if name in joined else (saved_name(name, config), [name]) for name in names)


def transposed(stored: Mapping[str, str], config: Mapping[str, Any]) -> frozenset[str]:
    """The tensors that the file has transposed, by its names of them. `stored`: as `split_fused` takes it."""
    saved = saved_names(config)
    return frozenset(place for name, place in stored.items() if saved is not None and saved.is_transposed(name))


def saved_form(name: str, arrays: Sequence[NDArray[np.float32]], config: Mapping[str, Any]) -> NDArray[np.float32]:
    """The tensor that Transformers saves as `name`, of the parameters that `saved_parts` names for it."""
    saved = saved_names(config)
    short = normalize(name, saved)
    fused = ((one, one.match(short)) for one in (saved.fused if saved and len(arrays) > 1 else ()))
    one, found = next(((one, match) for one, match in fused if match), (None, None))
    whole = arrays[0] if one is None or found is None else one.joined(arrays, config, found[0])
    turned = saved is not None and saved.is_transposed(short)
    return np.ascontiguousarray(whole.T) if turned else whole
