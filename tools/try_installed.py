"""Uses the aerogel that is installed, away from its sources: embeds with a tiny model, as it is and packed.

    python tools/try_installed.py

Needs only what the package itself needs: what a wheel is tried with, also on machines that are emulated.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1]
TEXTS = ["the cat sat on the mat", "a dog"]


def main() -> int:
    started = time.monotonic()
    import numpy as np

    import aerogel

    place = Path(aerogel.__file__).resolve()
    assert not place.is_relative_to(SOURCES / "python"), f"{place}: the sources, not what is installed"
    extras = {"torch", "transformers", "matplotlib"} & set(sys.modules)
    assert not extras, f"imported without need: {extras}"
    sys.path.append(str(SOURCES))  # for tests/, which can write tiny models
    from tests import tiny_models

    config = tiny_models.BERT
    with tempfile.TemporaryDirectory(prefix="aerogel-try-") as scratch:
        model = tiny_models.write(
            Path(scratch) / "tiny", config, tiny_models.bert_weights(config), pooling=("mean", True)
        )
        dense = aerogel.load(model).encode(TEXTS)
        first = time.monotonic() - started
        aerogel.compress(model, Path(scratch) / "packed", sparsity=0.0, pack="small")
        packed = aerogel.load(Path(scratch) / "packed")
        again = packed.encode(TEXTS)
        assert dense.shape == again.shape == (2, config["hidden_size"]), (dense.shape, again.shape)
        alike = np.sum(dense * again, axis=1)
        assert (alike > 0.98).all(), alike
        where = f"Python {sys.version.split()[0]}, {aerogel.isa()}"
        print(f"aerogel {aerogel.__version__} on {where}: first embedding after {first:.1f} s; {packed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
