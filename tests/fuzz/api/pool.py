"""Values that no function asked for."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HUGE = 10**400


class Odd:
    """An object of no use, whose text is no help either."""

    def __repr__(self) -> str:
        return "<odd>"


def _numbers() -> list[Any]:
    small = [0, 1, -1, 2, 3, 7, 0.0, -0.0, 0.5, 1.0, 1.5, -0.5, 1e-320, 1e308, math.nan, math.inf, -math.inf]
    large = [2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63), HUGE, -HUGE]
    other = [
        True,
        False,
        1j,
        np.int64(3),
        np.int8(-1),
        np.uint64(2**64 - 1),
        np.float32(0.5),
        np.float64("nan"),
        np.bool_(True),
    ]
    return [*small, *large, *other]


def _texts() -> list[Any]:
    return [
        *(
            "",
            " ",
            "\0",
            "a\0b",
            "\ud800",
            "x\udfff",
            "\ufeffx",
            "a" * 4096,
            "a/" * 600,
            "~nosuchuser",
            "~nosuchuser/x",
            "../..",
            ".",
        ),
        *(
            "nan",
            "1e999",
            "-1",
            "0x10",
            "true",
            "null",
            "%s%n",
            "{}",
            "[",
            "8:64",
            "1x4",
            "int8",
            "auto",
            "mean",
            "é\u0301",
            "\n\r\t",
        ),
        *(
            "int8:g0",
            "int4:g64:asym",
            "codebook:999",
            "int8:g٣",
            "١:٢",
            "unstructured",
            "hf://x",
            "--help",
            "[CLS]",
            "\U0001f600" * 50,
        ),
    ]


def _arrays() -> list[Any]:
    whole = np.arange(12, dtype=np.float32).reshape(3, 4)
    frozen = whole.copy()
    frozen.setflags(write=False)
    return [
        *(
            np.zeros(0),
            np.zeros((0, 4), np.float32),
            np.zeros((3, 0)),
            np.zeros((2, 2, 2)),
            np.array(1.0),
            np.zeros((1, 1)),
        ),
        *(
            whole,
            whole.T,
            whole[:, ::2],
            whole[::-1],
            frozen,
            whole.astype(np.float16),
            whole.astype(">f4"),
            whole.astype(int),
        ),
        *(
            whole.astype(complex),
            whole.astype(bool),
            whole.astype(object),
            whole.astype("U3"),
            np.array(["x", None], object),
        ),
        *(np.full((3, 4), np.nan), np.full((3, 4), np.inf), np.full((3, 4), 1e300), np.array([2**64 - 1], np.uint64)),
        *(
            np.array(["2020-01-01"], "datetime64[D]"),
            np.zeros(2, [("a", int), ("b", float)]),
            np.broadcast_to(np.float32(1), (3, 4)),
        ),
        np.ma.masked_array(whole, whole > 3),
    ]


def _containers() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    return [
        *(
            [],
            [None],
            [[]],
            [1, "a"],
            ["a", 1],
            [1.5],
            [-1],
            [HUGE],
            [math.nan],
            ["\ud800"],
            ["a", "b"],
            [[1, 2], [3]],
            [b"x"],
            loop,
            deep,
        ),
        *(
            (),
            (1,),
            (None,),
            {},
            {1: 2},
            {"": None},
            {"a": []},
            {None: None},
            set(),
            {1},
            frozenset({"a"}),
            range(3),
            range(10**12),
        ),
        *([True, False], ["a"] * 50, {"a": HUGE}, [0, 0], [5, 3], [0, 2**31]),
    ]


def _objects(scratch: Path) -> list[Any]:
    return [
        *(
            None,
            Odd(),
            ...,
            NotImplemented,
            object(),
            b"",
            b"x\xff",
            bytearray(b"x"),
            memoryview(b"abc"),
            lambda *a, **k: None,
        ),
        *(
            ValueError("x"),
            scratch,
            scratch / "nothing" / "here",
            scratch / "fifo",
            scratch / "folder",
            scratch / "empty",
            scratch / "locked",
        ),
        *(
            str(scratch / "folder"),
            str(scratch / "fifo"),
            str(scratch / "x\0y"),
            str(scratch / ("n" * 300)),
            scratch / "noise.bin",
        ),
    ]


def _one_use() -> list[Callable[[], Any]]:
    """Values that a call uses up."""
    found: list[Callable[[], Any]] = [lambda: iter([1, 2]), lambda: (x for x in ("a", None)), lambda: map(str, [1])]
    try:
        import torch
    except ImportError:
        return found
    found += [
        lambda: torch.ones(3, 4, requires_grad=True),
        lambda: torch.ones(3, dtype=torch.bfloat16),
        lambda: torch.ones(3, 4).to_sparse(),
        lambda: torch.ones(3, 4, device="meta"),
        lambda: torch.tensor(3),
    ]
    return found


class Pool:
    """Draws hostile values; `scratch` has files that are not what their names promise."""

    def __init__(self, scratch: Path) -> None:
        self._kinds = [_numbers(), _texts(), _arrays(), _containers(), _objects(scratch)]
        self._one_use = _one_use()

    def draw(self, random: random.Random, valid: Any = None, small: bool = False) -> Any:
        """Any of them, or the valid value with damage; `small`: no number that only asks for long work."""
        while True:
            value = self._draw(random, valid)
            if not (small and _is_large(value)):
                return value

    def _draw(self, random: random.Random, valid: Any) -> Any:
        chance = random.random()
        if chance < 0.3:
            damaged = damage(valid, random, self)
            if damaged is not valid:
                return damaged
        if chance < 0.4:
            return random.choice(self._one_use)()
        if chance < 0.5:
            return None
        return random.choice(random.choice(self._kinds))


def damage(value: Any, random: random.Random, pool: Pool) -> Any:
    """The value with a part of it wrong; the value itself where it has no parts."""
    if isinstance(value, (list, tuple)) and value:
        copy = list(value)
        copy[random.randrange(len(copy))] = pool.draw(random, small=True)
        return type(value)(copy) if random.random() < 0.7 else tuple(copy)
    if isinstance(value, dict) and value:
        copy = dict(value)
        copy[random.choice([*copy, *_texts(), 3, None])] = pool.draw(random, small=True)
        return copy
    if isinstance(value, str) and value:
        at = random.randrange(len(value))
        return value[:at] + random.choice(_texts()) + value[at + random.randrange(2) :]
    if isinstance(value, np.ndarray) and value.size:
        return _damaged_array(value, random)
    return value


def _damaged_array(value: np.ndarray, random: random.Random) -> Any:
    change: Callable[[np.ndarray], Any] = random.choice(
        [
            lambda a: a.astype(np.float64),
            lambda a: a.astype(np.float16),
            lambda a: a.astype(object),
            lambda a: a.astype(np.int32),
            lambda a: a.astype(complex),
            lambda a: np.asfortranarray(a),
            lambda a: a[..., ::-1],
            lambda a: a[:-1],
            lambda a: a[..., :-1],
            lambda a: a[None],
            lambda a: a.ravel(),
            lambda a: a.tolist(),
            lambda a: np.where(np.arange(a.size).reshape(a.shape) == a.size // 2, np.nan, a),
            lambda a: -a if a.dtype != bool else a,
            lambda a: a * 0 if a.dtype != bool else a,
            lambda a: a[:0],
            lambda a: a.astype(np.float64) * 1e200,
            lambda a: np.broadcast_to(a, (2, *a.shape)),
        ]
    )
    return change(value)


def _is_large(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_is_large(item) for item in value if item is not value)
    if isinstance(value, range):
        return len(value) > 100
    if isinstance(value, (int, float, np.integer, np.floating)):
        return not (abs(value) <= 64)
    return False
