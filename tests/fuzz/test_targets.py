"""The fuzz targets for a moment: their seeds as they are, and with seeded damage."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator

import pytest

from . import targets

ROUNDS = 250
MARKS = (0, 1, 7, 8, 127, 128, 255)
NUMBERS = (0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


def damaged(seed: bytes, rounds: int, rng: random.Random) -> Iterator[bytes]:
    """Copies with some bytes, numbers or digits changed, pieces moved, cut off or taken out; the head most of all."""
    for _ in range(rounds):
        data = bytearray(seed)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(min(len(data), rng.choice([64, 512, 4096, len(data)])) or 1)
            edit = rng.randrange(6)
            if edit == 0:
                data[at : at + 1] = bytes([rng.choice(MARKS)])
            elif edit == 1:
                data[at : at + 1] = bytes([data[at] ^ 1 << rng.randrange(8)]) if at < len(data) else b""
            elif edit == 2:
                data[at : at + 8] = rng.choice(NUMBERS).to_bytes(8, "little")
            elif edit == 3:
                del data[at : at + rng.randint(1, 16)]
            elif edit == 4:
                there = rng.randrange(len(data) or 1)
                data[at:at] = data[there : there + rng.randint(1, 40)]
            else:
                digits = [i for i, byte in enumerate(data[:4096]) if 0x30 <= byte < 0x3A]
                if digits:
                    i = rng.choice(digits)
                    data[i : i + 1] = rng.choice([b"0", b"1", b"9", b"99999999999999999999", b"-", b""])
        yield bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.1 else data)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_seeds_are_sound_and_small(name: str) -> None:
    target, make = targets.TARGETS[name]
    seeds = make()
    assert seeds and make() == seeds
    for seed in seeds:
        assert len(seed) < 64 << 10
        target(seed)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_targets_read_what_is_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that gives up at the first error would find nothing."""
    target, make = targets.TARGETS[name]
    read: list[object] = []
    original = targets._read
    monkeypatch.setattr(targets, "_read", lambda checkpoint: (read.extend(checkpoint.names()), original(checkpoint)))
    for seed in make():
        target(seed)
    assert len(read) > 10 or name == "safetensors"


@pytest.mark.parametrize("name", targets.TARGETS)
def test_damage(name: str) -> None:
    target, make = targets.TARGETS[name]
    rng = random.Random(name)
    seeds = make()
    tracemalloc.start()
    try:
        for seed in seeds:
            for data in damaged(seed, ROUNDS // len(seeds), rng):
                target(data)
        # what a file announces is never taken on trust
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data", [b"", b"\0", b"GGUF", b"{}", bytes(64), b"\xff" * 64])
@pytest.mark.parametrize("name", targets.TARGETS)
def test_hardly_anything(name: str, data: bytes) -> None:
    targets.TARGETS[name][0](data)
