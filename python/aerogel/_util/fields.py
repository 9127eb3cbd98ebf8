"""Values of a dataclass, checked against its annotations and made plain."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel._util.checks import number, shown, whole_number
from aerogel.errors import AerogelError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_NAMES = {str: "a text", bool: "true or false"}


def check_fields(owner: DataclassInstance, where: str, error: type[AerogelError]) -> None:
    """Checks every field of a frozen dataclass, for its __post_init__; numbers of NumPy become Python's.

    Args:
        owner: the object.
        where: stands before a field's name in errors, such as "prune."; may be empty.
        error: what is raised.
    """
    hints = typing.get_type_hints(type(owner))
    for field in dataclasses.fields(owner):
        value = typed(hints[field.name], getattr(owner, field.name), where + field.name, error)
        object.__setattr__(owner, field.name, value)


def typed(kind: Any, value: Any, where: str, error: type[AerogelError]) -> Any:
    """`value` checked against an annotation; whole numbers pass for floats and stay whole, lists for tuples.

    Annotations of other kinds than numbers, texts, lists, mappings, dataclasses and functions accept anything.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _union(arguments, value, where, error)
    if origin in (tuple, Sequence):
        if not isinstance(value, (list, tuple)):
            raise error(f"{where}: expected a list, got {shown(value)}")
        if origin is tuple and Ellipsis not in arguments:
            if len(value) != len(arguments):
                raise error(f"{where}: expected {len(arguments)} values, got {shown(value)}")
            return tuple(typed(k, v, f"{where}[{i}]", error) for i, (k, v) in enumerate(zip(arguments, value)))
        return tuple(typed(arguments[0], item, f"{where}[{i}]", error) for i, item in enumerate(value))
    if origin is Callable:
        if not callable(value):
            raise error(f"{where}: expected a function, got {shown(value)}")
        return value
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise error(f"{where}: expected keys and values, got {shown(value)}")
        return {key: typed(arguments[1], item, f"{where}.{key}", error) for key, item in value.items()}
    return _single(kind, value, where, error)


def _union(kinds: Sequence[Any], value: Any, where: str, error: type[AerogelError]) -> Any:
    if value is None and type(None) in kinds:
        return None
    some = [kind for kind in kinds if kind is not type(None)]
    if isinstance(value, str) and str in some:
        return value
    lists = [kind for kind in some if typing.get_origin(kind) in (tuple, Sequence)]
    return typed(lists[0] if lists and isinstance(value, (list, tuple)) else some[0], value, where, error)


def _single(kind: Any, value: Any, where: str, error: type[AerogelError]) -> Any:
    if kind is int:
        return whole_number(where, value, -(2**63), 2**63 - 1, error)
    if kind is float:
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            return whole_number(where, value, -(2**63), 2**63 - 1, error)  # 8 heads are not 8.0
        return number(where, value, error=error)
    if isinstance(kind, type) and (kind in _NAMES or dataclasses.is_dataclass(kind)) and not isinstance(value, kind):
        raise error(f"{where}: expected {_NAMES.get(kind, kind.__name__)}, got {shown(value)}")
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as cause:
            raise error(f"{where}: expected a text of Unicode characters, got {shown(value)}") from cause
    return value
