"""Families of decoders against Transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import aerogel
from aerogel.architectures import FAMILIES
from aerogel.checkpoint import open_checkpoint
from aerogel.exporting.uniform import uniform

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


#: One of each kind, as compression sees them.
KINDS = [
    "llama, biases",
    "qwen2, windows from layer 1",
    "qwen3, windows",
    "mistral, window",
    "smollm3",
    "granite, biases",
    "phi3, a part of each head",
    "gemma",
    "gemma2",
    "gemma3",
    "lfm2, biases",
    "exaone4, windows",
    "starcoder2",
    "gpt_neox",
    "stablelm, side by side",
    "phi",
    "olmo2",
    "olmo3, layer_types",
]


def transformers_logits(folder: Path, ids: list[int]) -> np.ndarray:
    """Of a folder that aerogel wrote, by Transformers' own classes, which must find every tensor."""
    import transformers

    net, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return decoders.logits(net.eval(), ids)


@pytest.mark.parametrize("name", KINDS)
def test_compressed_and_exported(tmp_path: Path, name: str) -> None:
    decoders.made(tmp_path / "m", *decoders.VARIANTS[name])
    (tmp_path / "texts.txt").write_text("\n".join(decoders.texts()))
    batch = decoders.sequences()
    dense = aerogel.load(tmp_path / "m").forward(batch)
    for quant, cosine in (("int8", 0.998), ("int4:g32", 0.85)):
        aerogel.compress(tmp_path / "m", tmp_path / quant, sparsity=0.0, quant=quant)
        assert mean_cosine(aerogel.load(tmp_path / quant).forward(batch), dense) > cosine
    recipes = {
        "sparse": {"sparsity": 0.8, "quant": "none"},
        "folded": {"sparsity": 0.0, "quant": "int8", "recipe": {"fold": {"alpha": 0.5}}},
        "smaller": {"sparsity": 0.0, "quant": "none", "recipe": {"structure": {"ffn": 0.5, "hidden": 40}}},
        "shorter": {"sparsity": 0.0, "quant": "none", "recipe": {"structure": {"layers": [1, 2], "ffn": [64, 24]}}},
    }
    if name.startswith(("stablelm", "gpt_neox")):  # Transformers' heads fill the hidden width there
        recipes["smaller"]["recipe"] = {"structure": {"ffn": 0.5}}
    if "olmo" not in name:
        recipes["fewer heads"] = {"sparsity": 0.0, "quant": "none", "recipe": {"structure": {"heads": [1, 2, 1]}}}
    for kind, options in recipes.items():
        aerogel.compress(tmp_path / "m", tmp_path / kind, calibrate=tmp_path / "texts.txt", **options)
        packed = aerogel.load(tmp_path / kind)
        aerogel.export(tmp_path / kind, tmp_path / (kind + ", plain"))
        plain = transformers_logits(tmp_path / (kind + ", plain"), batch[2])
        got = packed.forward(batch[2])
        if kind == "folded":
            assert mean_cosine(got, plain) > 0.998 and mean_cosine(packed.forward(batch), dense) > 0.997
        else:
            np.testing.assert_allclose(got, plain, atol=1e-4)


def mean_cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean())


def test_heads_under_one_norm_stay(tmp_path: Path) -> None:
    decoders.made(tmp_path / "m", "olmo2", {})
    with pytest.raises(aerogel.RecipeError, match="heads"):
        aerogel.compress(tmp_path / "m", tmp_path / "x", sparsity=0.0, recipe={"structure": {"heads": 1}})


def test_a_width_that_heads_under_one_norm_do_not_divide(tmp_path: Path) -> None:
    """No head is added then, as others get: the norm would see it."""
    decoders.made(tmp_path / "m", "olmo2", {})
    (tmp_path / "texts.txt").write_text("\n".join(decoders.texts()))
    structure = {"hidden": 42, "multiple": 1}
    aerogel.compress(
        tmp_path / "m", tmp_path / "x", calibrate=tmp_path / "texts.txt", sparsity=0.0, quant="none",
        recipe={"structure": structure},
    )  # fmt: skip
    aerogel.export(tmp_path / "x", tmp_path / "plain")
    ids = decoders.sequences()[2]
    np.testing.assert_allclose(
        aerogel.load(tmp_path / "plain").forward(ids), aerogel.load(tmp_path / "x").forward(ids), atol=1e-5
    )
    uneven = json.loads((tmp_path / "x" / "config.json").read_text())
    uneven |= {"attention_heads": [4, 2, 4], "key_value_heads": [2, 1, 2]}
    architecture = FAMILIES["olmo2"](uneven, [], None)
    with pytest.raises(aerogel.UnsupportedModelError, match="expected as many heads in every layer"):
        uniform(open_checkpoint(tmp_path / "x"), architecture)


CLASSIFIERS = [
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "smollm3",
    "phi3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "exaone4",
    "starcoder2",
    "phi",
]


@pytest.mark.parametrize("model_type", CLASSIFIERS)
@pytest.mark.parametrize("labels", [1, 3])
def test_classifiers(tmp_path: Path, model_type: str, labels: int) -> None:
    changed = {
        "num_labels": labels,
        "head_dim": None if model_type == "gpt_neox" else 12,
        **decoders.VARIANTS.get(model_type, ("", {}))[1],
    }
    net = decoders.made(tmp_path / "m", model_type, changed, "SequenceClassification")
    model = aerogel.load(tmp_path / "m")
    batch = decoders.sequences()
    expected = np.stack([decoders.logits(net, ids) for ids in batch])
    np.testing.assert_allclose(model.forward(batch, output="scores"), expected, atol=1e-4)
    ids = model.tokenizer.encode(["the cat sat"])[0]
    np.testing.assert_allclose(model.scores("the cat sat"), decoders.logits(net, ids), atol=1e-4)
    aerogel.compress(tmp_path / "m", tmp_path / "packed", sparsity=0.5, quant="none", method="magnitude")
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    peer = type(net).from_pretrained(tmp_path / "plain").eval()
    np.testing.assert_allclose(
        aerogel.load(tmp_path / "packed").forward([batch[2]], output="scores")[0],
        decoders.logits(peer, batch[2]),
        atol=1e-4,
    )
    with pytest.raises(aerogel.UnsupportedModelError, match="not a generating model"):
        model.generate("the cat")


@pytest.mark.parametrize("name", KINDS)
def test_it_is_trained_as_it_is_run(tmp_path: Path, name: str) -> None:
    import torch

    from aerogel.train.batches import Sequences
    from aerogel.train.trainee import open_trainee

    decoders.made(tmp_path, *decoders.VARIANTS[name])
    rows = decoders.sequences()
    with torch.no_grad():
        ours = open_trainee(open_checkpoint(tmp_path)).eval()(Sequences(rows).batch(np.arange(len(rows))))
    np.testing.assert_allclose(ours.logits.numpy(), aerogel.load(tmp_path).forward(rows), atol=1e-4)


def test_a_language_model_becomes_a_classifier(tmp_path: Path) -> None:
    from aerogel.train import Options, finetune

    decoders.made(tmp_path / "m", *decoders.VARIANTS["qwen3"])
    texts = decoders.texts()
    labels = [int("cat" in text.split()) for text in texts]
    options = Options(steps=60, lr=3e-3, batch_tokens=128, threads=1)
    finetune(tmp_path / "m", tmp_path / "out", texts, labels, options=options)
    scores = aerogel.load(tmp_path / "out").scores(texts)
    assert (scores.argmax(1) == labels).mean() > 0.85
    import transformers

    peer, report = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not report["missing_keys"]
    ids = aerogel.load(tmp_path / "out").tokenizer.encode(texts[:1])[0]
    np.testing.assert_allclose(decoders.logits(peer.eval(), ids), scores[0], atol=1e-4)


def test_classes_of_tokens(tmp_path: Path) -> None:
    net = decoders.made(tmp_path, "qwen3", {"num_labels": 3, "head_dim": 12}, "TokenClassification")
    model = aerogel.load(tmp_path)
    batch = decoders.sequences()
    expected = np.concatenate([decoders.logits(net, ids) for ids in batch])
    np.testing.assert_allclose(model.forward(batch, output="token_scores"), expected, atol=1e-4)


def test_phi3_begins_anew_where_its_long_factors_do(tmp_path: Path) -> None:
    """As Transformers does it: alone, among other texts, and where the prompt is that long already."""
    net = decoders.made(tmp_path, *decoders.VARIANTS["phi3, longrope"])
    model = aerogel.load(tmp_path)
    prompts = decoders.sequences((29, 30, 31, 7, 25))
    expected = [decoders.greedy(net, ids, 30) for ids in prompts]
    assert [list(model.generate_tokens(ids, 30, stop=())) for ids in prompts] == expected
    kept = model.forward([*prompts[0], *expected[0][:-1]])[-1].argmax()  # the whole at once is the same text
    assert int(kept) == expected[0][-1]
    done = model.complete(prompts, max_new_tokens=30, stop_ids=())
    assert [list(one.token_ids) for one in done] == expected
