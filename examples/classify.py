"""Labels of texts, with their probabilities.

python examples/classify.py --model CLASSIFIER TEXT [TEXT ...]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

import aerogel


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", nargs="+")
    parser.add_argument(
        "--model", required=True, help="such as distilbert/distilbert-base-uncased-finetuned-sst-2-english"
    )
    given = parser.parse_args(arguments)

    model = aerogel.load(given.model, quant="int8")
    logits = model.scores(given.texts)  # float32 [texts, labels]
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    for text, row in zip(given.texts, weights / weights.sum(axis=1, keepdims=True), strict=True):
        shown = ", ".join(f"{model.labels[i]} {row[i]:.1%}" for i in np.argsort(-row)[:3])
        print(f"{shown}  {text[:100]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
