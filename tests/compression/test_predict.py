"""What compress says of the speed of its layers."""

from __future__ import annotations

from pathlib import Path

import pytest

import aerogel
from aerogel.compression import predict as predicting
from aerogel.tuning import Layer, dense_format
from aerogel.tuning.choice import ROWS, Times
from aerogel.tuning.layers import formats_of


def test_each_layer_counts_once(bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def two_seconds_if_dense(layer: Layer) -> Times:
        dense = dense_format(layer.numbers)
        return Times({f: dict.fromkeys(ROWS, 2.0 if f == dense else 1.0) for f in formats_of(layer)}, {})

    monkeypatch.setattr(predicting, "estimated", two_seconds_if_dense)
    report = aerogel.compress(bert_folder, tmp_path / "out", sparsity=0.5, method="magnitude")
    found = predicting.predict(report, threads=1)
    assert found is not None
    layers = {step["name"] for step in aerogel.load(tmp_path / "out", threads=1).describe() if "forms" in step}
    assert found.layers.keys() == layers
    assert found.dense == 2.0 * len(layers)  # though a layer stands in the description of three outputs
    assert found.seconds == sum(found.layers.values()) <= found.dense
