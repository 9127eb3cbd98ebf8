"""Kills writers of packed models at random moments: python tests/fuzz/kills.py [KILLS] [SEED].

A process packs one model over another again and again; it is killed (SIGKILL) 0 to 20 ms after it began. The name must then
stand for the old or the new model, bit for bit, the new one perhaps without its card yet, which loads; after the next write
nothing else may lie beside it. Once in ten times there is no model to begin with: then there may be none afterwards.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import aerogel
from aerogel.checkpoint.card import CARD
from aerogel.checkpoint.target import writing_model
from tests import tiny_models

CONFIG = {
    **tiny_models.BERT,
    **{"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 40},
}
SPARSITIES = (0.5, 0.75)


def content(folder: Path) -> dict[str, bytes]:
    """Every file, by its name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def which(known: list[dict[str, bytes]], found: dict[str, bytes]) -> str:
    """The known model, bit for bit, that a folder holds; its card is written when it is in its place and has been tried."""
    for i, whole in enumerate(known):
        if found == whole:
            return f"model {i}"
        if found == {name: data for name, data in whole.items() if name != CARD}:
            return f"model {i}, not yet its card"
    raise AssertionError(f"neither the old nor the new model: {found}")


def pack(source: Path, out: Path, sparsity: float) -> None:
    aerogel.compress(source, out, sparsity=sparsity, method="magnitude", threads=1, overwrite=True)


def write_until_killed(source: Path, out: Path, begun: int) -> None:
    os.write(begun, b"x")
    while True:
        for sparsity in reversed(SPARSITIES):
            pack(source, out, sparsity)


def killed_after(seconds: float, source: Path, out: Path) -> None:
    ready, begun = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write_until_killed(source, out, begun)
        finally:
            os._exit(1)
    os.read(ready, 1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(ready), os.close(begun)
    assert os.WIFSIGNALED(status), "the writer failed before it was killed"


def main(kills: int, seed: int) -> None:
    rng = random.Random(seed)
    seen: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix="aerogel-kills-") as work:
        source = tiny_models.write(Path(work) / "source", CONFIG, tiny_models.bert_weights(CONFIG), tokenizer=False)
        known = []
        for sparsity in SPARSITIES:
            pack(source, Path(work) / f"known-{sparsity}", sparsity)
            known.append(content(Path(work) / f"known-{sparsity}"))
        place = Path(work) / "place"
        out = place / "model"
        pack(source, out, SPARSITIES[0])
        for _ in range(kills):
            new = rng.random() < 0.1
            if new:
                shutil.rmtree(out)
            killed_after(rng.uniform(0, 0.02), source, out)
            if len(os.listdir(place)) > 1:
                seen["left something beside it"] = seen.get("left something beside it", 0) + 1
            if new and not out.exists():
                state = "no model, as before"
            else:
                aerogel.load(out, threads=1, format="dense").close()
                state = which(known, content(out))
            seen[state] = seen.get(state, 0) + 1
            with writing_model(out, overwrite=True) as folder:
                for name, data in known[0].items():
                    (folder / name).write_bytes(data)
            assert os.listdir(place) == ["model"], os.listdir(place)
    print(
        f"{kills} kills: none lost, none half-written;", ", ".join(f"{state}: {n}" for state, n in sorted(seen.items()))
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10000, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
