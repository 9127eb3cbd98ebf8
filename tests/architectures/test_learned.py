"""OPT and GPT-2 against Transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.architectures import FAMILIES
from aerogel.errors import AerogelError, ConfigError, UnsupportedModelError

from . import decoders
from .test_settings import Recorded

#: name -> model type, what its config has besides `decoders.made`'s
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "opt": ("opt", {"ffn_dim": 64, "tie_word_embeddings": True}),
    "opt, gelu, own head": ("opt", {"ffn_dim": 40, "activation_function": "gelu"}),
    "gpt2": ("gpt2", {"tie_word_embeddings": True}),
    "gpt2, own head": ("gpt2", {"n_inner": 64, "activation_function": "relu", "layer_norm_epsilon": 1e-3}),
}
KEYS = {"opt": "ffn_dim", "gpt2": "n_inner"}


def made(folder: Path, name: str, head: str = "CausalLM", **more: Any) -> Any:
    pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    model_type, changed = VARIANTS[name]
    return decoders.made(folder, model_type, {**changed, **more}, head)


def reloaded(folder: Path) -> Any:
    """What Transformers makes of a folder, which must have every tensor that it looks for."""
    import transformers

    net, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return net.eval()


def changed_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_hidden_states_and_tokens(tmp_path: Path, name: str) -> None:
    net = made(tmp_path, name)
    model = aerogel.load(tmp_path)
    batch = decoders.sequences()
    expected = [decoders.logits(net, ids) for ids in batch]
    np.testing.assert_allclose(model.forward(batch), np.concatenate(expected), atol=1e-4)
    np.testing.assert_allclose(model.forward(batch, last_only=True), np.stack([e[-1] for e in expected]), atol=1e-4)
    states = np.concatenate([decoders.hidden(net, ids) for ids in batch])
    np.testing.assert_allclose(model.forward(batch, output="hidden"), states, atol=1e-4)
    assert list(model.generate_tokens(batch[1], 20, stop=())) == decoders.greedy(net, batch[1], 20)


@pytest.mark.parametrize("name", ["opt", "gpt2"])
def test_without_a_head(tmp_path: Path, name: str) -> None:
    net = made(tmp_path / "m", name, "Model")
    ids = decoders.sequences()[2]
    expected = decoders.hidden(net, ids)
    model = aerogel.load(tmp_path / "m")
    np.testing.assert_allclose(model.forward(ids), expected, atol=1e-4)
    with pytest.raises(AerogelError):
        model.generate_tokens(ids, 3)
    aerogel.export(tmp_path / "m", tmp_path / "plain")
    again = type(net).from_pretrained(tmp_path / "plain").eval()
    np.testing.assert_array_equal(decoders.hidden(again, ids), expected)


@pytest.mark.parametrize("name", VARIANTS)
def test_compressed_and_exported(tmp_path: Path, name: str) -> None:
    made(tmp_path / "m", name)
    (tmp_path / "texts.txt").write_text("\n".join(decoders.texts()))
    batch = decoders.sequences()
    dense = aerogel.load(tmp_path / "m").forward(batch)
    plain: dict[str, Any] = {"sparsity": 0.0, "quant": "none"}
    runs = {
        "int8": {"sparsity": 0.0, "quant": "int8"},
        "folded": {"sparsity": 0.0, "quant": "int8", "recipe": {"fold": {"alpha": 0.5}}},
        "sparse": {"sparsity": 0.8, "quant": "none"},
        # hidden states that heads of 12 fill
        "smaller": plain | {"recipe": {"structure": {"ffn": 0.5, "hidden": 36, "heads": 3, "multiple": 4}}},
        "shorter": plain | {"recipe": {"structure": {"layers": [1, 2], "ffn": [40, 24], "heads": [4, 2]}}},
    }
    for kind, options in runs.items():
        aerogel.compress(tmp_path / "m", tmp_path / kind, calibrate=tmp_path / "texts.txt", **options)
        packed = aerogel.load(tmp_path / kind)
        aerogel.export(tmp_path / kind, tmp_path / (kind + ", plain"))
        peer = decoders.logits(reloaded(tmp_path / (kind + ", plain")), batch[2])
        got = packed.forward(batch[2])
        if options["quant"] == "int8":  # activations are, too
            assert cosine(got, peer) > 0.999 and cosine(packed.forward(batch), dense) > 0.998
        else:
            np.testing.assert_allclose(got, peer, atol=1e-4)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean())


@pytest.mark.parametrize("name", VARIANTS)
def test_trained(tmp_path: Path, name: str) -> None:
    """Training computes what the engine does, and writes what Transformers reads."""
    made(tmp_path / "m", name)
    from aerogel.train.distillation import distill
    from aerogel.train.options import Options

    distill(tmp_path / "m", tmp_path / "out", decoders.texts(), options=Options(sparsity=0.5, steps=2, lr=1e-2))
    ids = decoders.sequences()[2]
    got = aerogel.load(tmp_path / "out").forward(ids)
    np.testing.assert_allclose(got, decoders.logits(reloaded(tmp_path / "out"), ids), atol=1e-4)


@pytest.mark.parametrize("model_type", KEYS)
def test_what_is_read_is_declared(model_type: str) -> None:
    family = FAMILIES[model_type]
    plain = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 32}
    values = {family.config_names.get(key, key): value for key, value in plain.items()}
    values |= {"vocab_size": 40, KEYS[model_type]: 64}
    config = Recorded(values)
    family(config, [], None)
    assert KEYS[model_type] in config.asked
    assert not config.asked - set(family.settings.used) - set(family.settings.harmless)


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        ("opt", {"do_layer_norm_before": False}, UnsupportedModelError, "do_layer_norm_before: False"),
        ("opt", {"word_embed_proj_dim": 24}, UnsupportedModelError, "word_embed_proj_dim: 24"),
        ("opt", {"enable_bias": False}, UnsupportedModelError, "enable_bias: False"),
        ("opt", {"architectures": ["OPTForTokenClassification"]}, UnsupportedModelError, "only OPTForCausalLM"),
        ("opt", {"intermediate_sizes": [64, 0, 64]}, ConfigError, "at least 1 in every layer"),
        ("gpt2", {"scale_attn_weights": False}, UnsupportedModelError, "scale_attn_weights: False"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, UnsupportedModelError, "by the layer"),
        ("gpt2", {"activation_function": "quick_gelu"}, UnsupportedModelError, "activation_function: 'quick_gelu'"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, name: str, changes: dict[str, Any], error: type[AerogelError], message: str
) -> None:
    made(tmp_path, name)
    changed_config(tmp_path, **changes)
    with pytest.raises(error, match=message):
        aerogel.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "head", "output"),
    [
        ("gpt2", "SequenceClassification", "scores"),
        ("opt", "SequenceClassification", "scores"),
        ("gpt2", "TokenClassification", "token_scores"),
        ("gpt2", "QuestionAnswering", "spans"),
        ("opt", "QuestionAnswering", "spans"),
    ],
)
def test_with_another_head(tmp_path: Path, name: str, head: str, output: str) -> None:
    net = made(tmp_path / "m", name, head, **({} if head == "QuestionAnswering" else {"num_labels": 3}))
    import torch

    def of(net: Any, ids: list[int]) -> np.ndarray:
        with torch.no_grad():
            found = net(torch.tensor([ids]))
        if output == "spans":
            return np.stack([found.start_logits[0].numpy(), found.end_logits[0].numpy()], 1)
        return found.logits[0].numpy() if output == "token_scores" else found.logits.numpy()

    batch = decoders.sequences()
    model = aerogel.load(tmp_path / "m")
    assert model.outputs == ("hidden", output)
    np.testing.assert_allclose(
        model.forward(batch, output=output), np.concatenate([of(net, ids) for ids in batch]), atol=1e-4
    )
    aerogel.compress(tmp_path / "m", tmp_path / "packed", sparsity=0.5, quant="none")
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    again, report = type(net).from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    got = aerogel.load(tmp_path / "packed").forward(batch[2], output=output)
    np.testing.assert_allclose(got, of(again.eval(), batch[2]), atol=1e-4)
