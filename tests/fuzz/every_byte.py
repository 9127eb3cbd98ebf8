"""Damages every byte of a packed model's files: python tests/fuzz/every_byte.py [STEP].

Each byte of each file in turn takes a few other values (the lowest bit flipped, the highest, a digit). The model must
then be refused by an AerogelError, or give the same answer. STEP: one byte in so many.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

import aerogel
from tests import tiny_models
from tests.fuzz.kills import CONFIG

TEXTS = ["the cat sat", "a big tree", "b"]
#: Recipes of `compress`: each form that bytes are stored in.
FORMS = (
    {"sparsity": 0.5},
    {"sparsity": 0, "quant": "none"},
    {"sparsity": 0.5, "quant": "bf16"},
    {"sparsity": 0.5, "quant": "int4:g32", "pack": "small"},
)


def others(byte: int) -> set[int]:
    return {byte ^ 1, byte ^ 0x80, ord("1")} - {byte}


def answer(folder: Path) -> np.ndarray:
    model = aerogel.load(folder, threads=1, format="dense")
    return model.encode(TEXTS)


def damage(folder: Path, step: int, found: Counter[str]) -> None:
    """Counts what became of each damaged copy, and names those that answer something else."""
    expected = answer(folder)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        for at in range(0, len(data), step):
            for byte in others(data[at]):
                path.write_bytes(data[:at] + bytes([byte]) + data[at + 1 :])
                try:
                    same = np.array_equal(answer(folder), expected)
                except aerogel.AerogelError:
                    found["refused"] += 1
                    continue
                found["the same answer" if same else "ANOTHER ANSWER"] += 1
                if not same:
                    print(f"{path.name}: byte {at}: {data[at]} -> {byte}: another answer")
        path.write_bytes(data)
    assert np.array_equal(answer(folder), expected)


def main(step: int, forms: int = len(FORMS)) -> None:
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="aerogel-bytes-") as work:
        weights = tiny_models.bert_weights(CONFIG)
        source = tiny_models.write(Path(work) / "source", CONFIG, weights, pooling=("cls", False))
        for i, recipe in enumerate(FORMS[:forms]):
            folder = Path(work) / f"packed-{i}"
            aerogel.compress(source, folder, threads=1, **recipe)
            damage(folder, step, found)
    print(f"{found.total()} damaged bytes in {forms} models:", ", ".join(f"{n} {what}" for what, n in found.items()))
    assert not found["ANOTHER ANSWER"]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
