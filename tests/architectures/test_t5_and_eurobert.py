"""T5's encoder and EuroBERT against Transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.architectures.buckets import distance_buckets
from aerogel.errors import ConfigError, UnsupportedModelError

from . import peers

T5 = {"vocab_size": 60, "d_model": 32, "num_layers": 3, "num_heads": 4, "d_kv": 10, "d_ff": 48}
NARROW = {
    "feed_forward_proj": "gated-gelu",
    "relative_attention_num_buckets": 16,
    "relative_attention_max_distance": 20,
}
EURO = {
    **peers.SIZES,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CASES: list[tuple[str, dict[str, Any], str]] = [
    ("T5EncoderModel", T5, "hidden"),
    ("T5EncoderModel", {**T5, **NARROW}, "hidden"),
    ("T5ForConditionalGeneration", T5, "hidden"),
    ("MT5EncoderModel", T5, "hidden"),
    ("EuroBertModel", EURO, "hidden"),
    ("EuroBertForMaskedLM", EURO, "logits"),
    ("EuroBertForMaskedLM", {**EURO, "mlp_bias": True, "tie_word_embeddings": True}, "logits"),
    ("EuroBertForSequenceClassification", {**EURO, "num_labels": 3}, "scores"),
    ("EuroBertForSequenceClassification", {**EURO, "num_labels": 1, "classifier_pooling": "mean"}, "scores"),
    ("EuroBertForSequenceClassification", {**EURO, "classifier_pooling": "bos"}, "scores"),
    ("EuroBertForTokenClassification", EURO, "token_scores"),
]
SEQUENCES = [*peers.SEQUENCES, [5 + i % 50 for i in range(38)]]


def expected(net: Any, output: str) -> np.ndarray:
    torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
    run = net.get_encoder() if hasattr(net, "get_encoder") else net
    found = []
    with torch.no_grad():
        for ids in SEQUENCES:
            result = run(torch.tensor([ids]))
            rows = result.last_hidden_state if output == "hidden" else result.logits
            found.append(rows.reshape(-1, rows.shape[-1]).numpy())
    return np.concatenate(found)


@pytest.mark.parametrize(
    ("name", "config", "output"), CASES, ids=[f"{i}-{name}" for i, (name, _, _) in enumerate(CASES)]
)
def test_as_in_transformers(tmp_path: Path, name: str, config: dict[str, Any], output: str) -> None:
    net = peers.save(tmp_path, name, **config)
    got = aerogel.load(tmp_path).forward(SEQUENCES, output=output)
    np.testing.assert_allclose(got, expected(net, output), atol=1e-4)


@pytest.mark.parametrize("name", ["T5EncoderModel", "EuroBertForSequenceClassification"])
def test_compressed_and_exported(tmp_path: Path, name: str) -> None:
    peers.save(tmp_path / "model", name, **({**T5, **NARROW} if name.startswith("T5") else {**EURO, "num_labels": 3}))
    output = "hidden" if name.startswith("T5") else "scores"
    scored = {"score": "weights", "compensate": False}
    heads = {} if name.startswith("T5") else {"heads": 0.5}
    for i, options in enumerate(
        [
            {"sparsity": 0.0, "quant": "int8"},
            {"sparsity": 0.0, "quant": "int4:g32"},
            {"sparsity": 0.8, "quant": "none", "method": "magnitude"},
            {
                "sparsity": 0.0,
                "quant": "none",
                "recipe": {"structure": {"ffn": 24, "hidden": 24, "multiple": 8, **scored}},
            },
            {"sparsity": 0.0, "quant": "none", "recipe": {"structure": {"layers": [0, 2], **heads, **scored}}},
        ]
    ):
        packed, plain = tmp_path / f"packed{i}", tmp_path / f"plain{i}"
        aerogel.compress(tmp_path / "model", packed, **options)
        got = aerogel.load(packed).forward(SEQUENCES, output=output)
        aerogel.export(packed, plain)
        wanted = expected(peers.reload(plain, name), output)
        assert np.abs(got - wanted).max() < (1e-4 if options["quant"] == "none" else 0.2 * np.abs(wanted).max())


def test_distances() -> None:
    found = distance_buckets(32, 128)
    assert len(found) == 257 and found[128] == 0
    np.testing.assert_array_equal(found[128:120:-1], np.arange(8))  # before the query
    np.testing.assert_array_equal(found[129:136], 16 + np.arange(1, 8))
    assert found[0] == 15 and found[-1] == 31 and np.all(np.diff(found[129:]) >= 0)


def test_what_is_refused(tmp_path: Path) -> None:
    peers.save(tmp_path / "a", "T5EncoderModel", **T5, feed_forward_proj="gated-tanh")
    with pytest.raises(UnsupportedModelError, match="feed_forward_proj: 'gated-tanh'"):
        aerogel.load(tmp_path / "a")
    peers.save(tmp_path / "b", "T5EncoderModel", **T5, relative_attention_num_buckets=6)
    with pytest.raises(ConfigError, match="a multiple of 4"):
        aerogel.load(tmp_path / "b")
