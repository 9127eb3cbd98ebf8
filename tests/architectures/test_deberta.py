"""DeBERTa of the second and third version against Transformers: heads, variants, compressed and exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.architectures.deberta import Deberta, bucket_of
from aerogel.architectures.deberta_v1 import DebertaV1
from aerogel.errors import AerogelError, ConfigError, UnsupportedModelError

from . import peers
from .test_settings import Recorded

V3 = {
    **peers.SIZES,
    "relative_attention": True,
    "position_buckets": 8,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "type_vocab_size": 0,
}
V1 = {
    **peers.SIZES,
    "relative_attention": True,
    "max_relative_positions": -1,
    "pos_att_type": "c2p|p2c",
    "position_biased_input": False,
    "type_vocab_size": 0,
}
HEADS = {
    "DebertaV2Model": ("hidden", "hidden"),
    "DebertaV2ForSequenceClassification": ("scores", "logits"),
    "DebertaV2ForTokenClassification": ("token_scores", "logits"),
    "DebertaV2ForQuestionAnswering": ("spans", "spans"),
    "DebertaV2ForMaskedLM": ("logits", "logits"),
}
LABELS = {"id2label": {0: "no", 1: "so so", 2: "yes"}, "label2id": {"no": 0, "so so": 1, "yes": 2}}


def test_what_it_reads_is_declared() -> None:
    config = Recorded({**V3, "model_type": "deberta-v2", "architectures": ["DebertaV2ForSequenceClassification"]})
    model = Deberta(config, [], None)
    assert {"hidden_size", "position_buckets", "pooler_hidden_act"} <= config.asked
    assert not config.asked - set(Deberta.settings.used)
    assert "encoder.rel_embeddings.weight" in {tensor.name for tensor in model.tensors()}


@pytest.mark.parametrize("head", HEADS)
def test_every_head_is_as_in_transformers(tmp_path: Path, head: str) -> None:
    net = peers.save(tmp_path, head, **V3, **(LABELS if "Classification" in head else {}))
    expected = peers.outputs(net)
    model = aerogel.load(tmp_path)
    ours, theirs = HEADS[head]
    np.testing.assert_allclose(model.forward(peers.SEQUENCES, output="hidden"), expected["hidden"], atol=1e-4)
    np.testing.assert_allclose(model.forward(peers.SEQUENCES, output=ours), expected[theirs], atol=1e-4)


@pytest.mark.parametrize(
    ("head", "changed"),
    [
        ("DebertaModel", {"max_relative_positions": 12}),
        ("DebertaModel", {"pos_att_type": ["c2p"], "num_hidden_layers": 1}),
        ("DebertaModel", {"relative_attention": False, "position_biased_input": True, "type_vocab_size": 2}),
        ("DebertaForTokenClassification", LABELS),
        ("DebertaForQuestionAnswering", {"pos_att_type": ["p2c"]}),
        ("DebertaForMaskedLM", {"legacy": False}),
        ("DebertaForMaskedLM", {}),
    ],
    ids=str,
)
def test_the_first_version(tmp_path: Path, head: str, changed: dict[str, Any]) -> None:
    expected = peers.outputs(peers.save(tmp_path, head, **{**V1, **changed}))
    model = aerogel.load(tmp_path)
    ours, theirs = HEADS[head.replace("Deberta", "DebertaV2")]
    for name, wanted in (("hidden", "hidden"), (ours, theirs)):
        np.testing.assert_allclose(model.forward(peers.SEQUENCES, output=name), expected[wanted], atol=1e-4)


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_the_first_version_compressed_and_exported(tmp_path: Path, dtype: str | None) -> None:
    """Queries, keys and values are one tensor in which heads take turns: apart in what is packed, and joined again."""
    name = "DebertaForSequenceClassification"
    net = peers.save(tmp_path / "model", name, **V1, **LABELS)
    if dtype == "float16":
        net.half().save_pretrained(tmp_path / "model")
        net.float()
    expected = peers.outputs(net)["logits"]
    got = aerogel.load(tmp_path / "model").forward(peers.SEQUENCES, output="scores")
    np.testing.assert_allclose(got, expected, atol=1e-4)
    structure = {"ffn": 0.5, "heads": 0.5, "score": "weights", "compensate": False}
    for i, recipe in enumerate(({}, {"structure": structure})):
        options = {"sparsity": 0.3, "quant": "none", "method": "magnitude", "recipe": recipe}
        aerogel.compress(tmp_path / "model", tmp_path / f"packed{i}", **options)
        aerogel.export(tmp_path / f"packed{i}", tmp_path / f"plain{i}")
        again = peers.reload(tmp_path / f"plain{i}", name)
        got = aerogel.load(tmp_path / f"packed{i}").forward(peers.SEQUENCES, output="scores")
        np.testing.assert_allclose(peers.outputs(again)["logits"], got, atol=1e-4)


def test_what_the_first_version_reads_is_declared() -> None:
    config = Recorded({**V1, "model_type": "deberta", "architectures": ["DebertaForMaskedLM"]})
    DebertaV1(config, [], None).tensors()
    assert not config.asked - set(DebertaV1.settings.used)
    with pytest.raises(UnsupportedModelError, match="talking_head: True is not supported"):
        DebertaV1.settings.check({"talking_head": True}, "config")


def test_the_masked_language_model_head_of_the_published_models(tmp_path: Path) -> None:
    """legacy: false; where the config is silent, as theirs, the tensors say it."""
    name = "DebertaV2ForMaskedLM"
    net = peers.save(tmp_path / "model", name, **V3, legacy=False)
    expected = peers.outputs(net)["logits"]
    config = json.loads((tmp_path / "model/config.json").read_text())
    for said in ({"legacy": False}, {}):
        rest = {key: value for key, value in config.items() if key != "legacy"}
        (tmp_path / "model/config.json").write_text(json.dumps({**rest, **said}))
        got = aerogel.load(tmp_path / "model").forward(peers.SEQUENCES, output="logits")
        np.testing.assert_allclose(got, expected, atol=1e-4)
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    aerogel.compress(tmp_path / "model", tmp_path / "packed", sparsity=0.5, quant="none", method="magnitude")
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    got = aerogel.load(tmp_path / "packed").forward(peers.SEQUENCES, output="logits")
    np.testing.assert_allclose(peers.outputs(peers.reload(tmp_path / "plain", name))["logits"], got, atol=1e-4)


@pytest.mark.parametrize(
    "changed",
    [
        {"position_buckets": -1},
        {"position_buckets": 16, "max_relative_positions": 12},
        {"position_buckets": 30, "num_hidden_layers": 1},
        {"share_att_key": False},
        {"pos_att_type": ["c2p"], "norm_rel_ebd": "none"},
        {"pos_att_type": ["p2c"], "hidden_act": "gelu_new"},
        {"pos_att_type": []},
        {"relative_attention": False, "position_biased_input": True},
        {"position_biased_input": True, "type_vocab_size": 2},
    ],
    ids=str,
)
def test_variants(tmp_path: Path, changed: dict[str, Any]) -> None:
    net = peers.save(tmp_path, "DebertaV2Model", **{**V3, **changed})
    got = aerogel.load(tmp_path).forward(peers.SEQUENCES, output="hidden")
    np.testing.assert_allclose(got, peers.outputs(net)["hidden"], atol=1e-4)


def test_buckets_of_distances_are_those_of_transformers() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
    reference = pytest.importorskip("transformers.models.deberta_v2.modeling_deberta_v2", reason="no transformers")
    for buckets, far in ((256, 512), (8, 40), (32, 128), (64, 1024), (256, 1000)):
        distance = np.arange(2 * far + 1)
        wanted = reference.make_log_bucket_position(torch.from_numpy(distance), buckets, far).to(torch.long).numpy()
        np.testing.assert_array_equal(bucket_of(distance, buckets, far), wanted)
        assert wanted[-1] >= buckets - 1  # all beyond are cut to the last


@pytest.mark.parametrize(
    "options",
    [
        {"sparsity": 0.0, "quant": "int8"},
        {"sparsity": 0.8, "quant": "none", "method": "magnitude"},
        {
            "sparsity": 0.0,
            "quant": "none",
            "recipe": {"structure": {"ffn": 0.5, "heads": 0.5, "score": "weights", "compensate": False}},
        },
    ],
    ids=["int8", "sparse", "smaller"],
)
def test_compressed_and_exported(tmp_path: Path, options: dict[str, Any]) -> None:
    """What Transformers computes with the exported folder is what the packed model computes."""
    name = "DebertaV2ForSequenceClassification"
    peers.save(tmp_path / "model", name, **V3, **LABELS)
    report = aerogel.compress(tmp_path / "model", tmp_path / "packed", **options)
    assert report.sparsity >= options["sparsity"] - 0.02
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    net = peers.reload(tmp_path / "plain", name)
    got = aerogel.load(tmp_path / "packed").forward(peers.SEQUENCES, output="scores")
    wanted = peers.outputs(net)["logits"]
    assert np.abs(got - wanted).max() < (1e-4 if options["quant"] == "none" else 0.15 * np.abs(wanted).max())


def test_with_calibration_and_narrower(tmp_path: Path) -> None:
    peers.save(tmp_path / "model", "DebertaV2Model", **V3)
    peers.tokenizer(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("\n".join(" ".join("abcdefgh"[i % 5 : i % 5 + 3]) for i in range(30)))
    options = {"quant": "int8", "calibrate": tmp_path / "texts.txt"}
    dense = aerogel.load(tmp_path / "model")
    for i, structure in enumerate((None, {"hidden": 24, "ffn": 24, "multiple": 8})):
        recipe = {} if structure is None else {"structure": structure}
        aerogel.compress(tmp_path / "model", tmp_path / f"packed{i}", sparsity=0.3, recipe=recipe, **options)
        small = aerogel.load(tmp_path / f"packed{i}")
        y = small.forward(peers.SEQUENCES, output="hidden")
        assert np.isfinite(y).all() and y.shape[1] == (32 if structure is None else 24)
        if structure is None:
            wanted = dense.forward(peers.SEQUENCES, output="hidden")
            assert np.sum(y * wanted) > 0.8 * np.sqrt(np.sum(y * y) * np.sum(wanted * wanted))


@pytest.mark.parametrize(("name", "config"), [("DebertaV2Model", V3), ("DebertaModel", V1)])
def test_training_computes_the_same_with_gradients(tmp_path: Path, name: str, config: dict[str, Any]) -> None:
    net = peers.save(tmp_path, name, **config)
    import torch

    from aerogel.checkpoint import open_checkpoint
    from aerogel.train.batches import Sequences
    from aerogel.train.trainee import open_trainee

    model = open_trainee(open_checkpoint(tmp_path)).eval()
    rows = sorted(peers.SEQUENCES, key=len)
    hidden = model(Sequences(rows).batch(np.arange(len(rows)))).hidden[-1]
    expected = peers.outputs(net, rows)["hidden"]
    np.testing.assert_allclose(hidden.detach().numpy(), expected, atol=1e-4)
    hidden.square().sum().backward()
    positions = [p for name, p in model.named_parameters() if "rel_embeddings" in name]
    assert len(positions) == 1 and torch.isfinite(positions[0].grad).all() and positions[0].grad.abs().max() > 0


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"conv_kernel_size": 3}, UnsupportedModelError, "conv_kernel_size: 3 is not supported: a convolution"),
        ({"pos_att_type": "p2p"}, UnsupportedModelError, "pos_att_type: expected some of c2p, p2c"),
        ({"position_buckets": 2}, ConfigError, "position_buckets: expected at least 4"),
        ({"position_buckets": 80}, ConfigError, "position_buckets: expected at least 4, and fewer"),
    ],
    ids=str,
)
def test_what_is_refused(tmp_path: Path, changed: dict[str, Any], error: type[AerogelError], message: str) -> None:
    config = {**V3, "model_type": "deberta-v2", "architectures": ["DebertaV2Model"], **changed}
    with pytest.raises(error, match=message):
        Deberta.settings.check(config, "config.json: config")
        Deberta(config, [], None)


def test_cut_among_threads_it_computes_the_same(tmp_path: Path) -> None:
    """More threads than heads: the queries of a text are cut."""
    peers.save(tmp_path, "DebertaV2Model", **{**V3, "max_position_embeddings": 400, "position_buckets": 32})
    text = [[5 + i % 50 for i in range(300)]]
    rows = [aerogel.load(tmp_path, threads=threads).forward(text, output="hidden") for threads in (1, 5)]
    np.testing.assert_array_equal(*rows)
