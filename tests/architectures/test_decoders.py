"""Families of decoders against Transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import aerogel

from . import decoders

pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
pytest.importorskip("transformers", reason="Transformers is not installed")


@pytest.mark.parametrize("name", decoders.VARIANTS)
def test_logits_hidden_states_and_tokens(tmp_path: Path, name: str) -> None:
    net = decoders.made(tmp_path, *decoders.VARIANTS[name])
    model = aerogel.load(tmp_path)
    batch = decoders.sequences()
    expected = [decoders.logits(net, ids) for ids in batch]
    np.testing.assert_allclose(model.forward(batch), np.concatenate(expected), atol=1e-4)
    np.testing.assert_allclose(model.forward(batch, last_only=True), np.stack([e[-1] for e in expected]), atol=1e-4)
    states = np.concatenate([decoders.hidden(net, ids) for ids in batch])
    np.testing.assert_allclose(model.forward(batch, output="hidden"), states, atol=1e-4)
    assert abs(states).max() > 0.5
    ids = batch[1]
    assert list(model.generate_tokens(ids, 20, stop=())) == decoders.greedy(net, ids, 20)
