"""Encoders of BERT's kind against Transformers: every family, head and variant, whole, compressed and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.architectures import FAMILIES as FAMILY_OF
from aerogel.errors import ConfigError, UnsupportedModelError

from .. import tiny_models
from . import peers
from .test_settings import Recorded

DISTILBERT = {
    "vocab_size": peers.VOCABULARY,
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 48,
    "max_position_embeddings": 40,
}
#: Prefix of the classes -> the configs that models in the wild have.
FAMILIES: dict[str, list[dict[str, Any]]] = {
    "Bert": [{**peers.SIZES}, {**peers.SIZES, "type_vocab_size": 4, "hidden_act": "gelu_new"}],
    "Roberta": [{**peers.SIZES, "type_vocab_size": 1, "layer_norm_eps": 1e-5}, {**peers.SIZES, "pad_token_id": 0}],
    "XLMRoberta": [{**peers.SIZES, "type_vocab_size": 1, "layer_norm_eps": 1e-5}],
    "Camembert": [{**peers.SIZES, "type_vocab_size": 1, "layer_norm_eps": 1e-5}],
    "DistilBert": [DISTILBERT, {**DISTILBERT, "sinusoidal_pos_embds": True, "activation": "relu"}],
    "Electra": [{**peers.SIZES, "embedding_size": 24}, {**peers.SIZES, "embedding_size": 32}],
    "Albert": [
        {**peers.SIZES, "embedding_size": 24, "num_hidden_layers": 3},
        {**peers.SIZES, "embedding_size": 24, "num_hidden_layers": 5, "num_hidden_groups": 3},
        {**peers.SIZES, "embedding_size": 24, "num_hidden_layers": 4, "num_hidden_groups": 2, "inner_group_num": 2},
    ],
}
#: The end of a class's name -> our name of what its head gives, and theirs.
HEADS = {
    "Model": ("hidden", "hidden"),
    "ForSequenceClassification": ("scores", "logits"),
    "ForTokenClassification": ("token_scores", "logits"),
    "ForQuestionAnswering": ("spans", "spans"),
    "ForMaskedLM": ("logits", "logits"),
}
TEXTS = [" ".join(np.random.default_rng(i).choice(tiny_models.WORDS, 3 + i % 9).tolist()) for i in range(40)]
LABELS = {"id2label": {0: "no", 1: "so so", 2: "yes"}, "label2id": {"no": 0, "so so": 1, "yes": 2}}
CASES = [(family, config) for family, configs in FAMILIES.items() for config in configs]


MODEL_TYPES = {
    "Bert": "bert",
    "Roberta": "roberta",
    "XLMRoberta": "xlm-roberta",
    "Camembert": "camembert",
    "DistilBert": "distilbert",
    "Electra": "electra",
    "Albert": "albert",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_family_reads_is_declared(family: str) -> None:
    for head in HEADS:
        values = {**FAMILIES[family][0], **labelled(head), "architectures": [family + head]}
        config = Recorded({**values, "model_type": MODEL_TYPES[family]})
        kind = FAMILY_OF[MODEL_TYPES[family]]
        kind(config, [], None).tensors()
        assert not config.asked - set(kind.settings.used)


def labelled(head: str) -> dict[str, Any]:
    return LABELS if "Classification" in head else {}


@pytest.mark.parametrize(("family", "config"), CASES, ids=[f"{family}{i}" for i, (family, _) in enumerate(CASES)])
def test_every_head_is_as_in_transformers(tmp_path: Path, family: str, config: dict[str, Any]) -> None:
    for head, (ours, theirs) in HEADS.items():
        net = peers.save(tmp_path / head, family + head, **config, **labelled(head))
        expected = peers.outputs(net)
        model = aerogel.load(tmp_path / head)
        np.testing.assert_allclose(model.forward(peers.SEQUENCES, output="hidden"), expected["hidden"], atol=1e-4)
        np.testing.assert_allclose(model.forward(peers.SEQUENCES, output=ours), expected[theirs], atol=1e-4)
        assert ("embedding" in model.outputs) == (head == "Model")
        assert model.labels == (["no", "so so", "yes"] if "Classification" in head else [])


@pytest.mark.parametrize("family", FAMILIES)
def test_compressed_and_exported(tmp_path: Path, family: str) -> None:
    """What Transformers computes with the exported folder is what the packed model computes."""
    head = "ForSequenceClassification"
    name = family + head
    peers.save(tmp_path / "model", name, **FAMILIES[family][0], **LABELS)
    structure = {"ffn": 0.5, "heads": 0.5, "score": "weights", "compensate": False}
    for i, options in enumerate(
        [
            {"sparsity": 0.0, "quant": "int8"},
            {"sparsity": 0.0, "quant": "int4:g32"},
            {"sparsity": 0.8, "quant": "none", "method": "magnitude"},
            {"sparsity": 0.0, "quant": "none", "recipe": {"structure": structure}},
        ]
    ):
        packed, plain = tmp_path / f"packed{i}", tmp_path / f"plain{i}"
        report = aerogel.compress(tmp_path / "model", packed, **options)
        assert report.sparsity >= options["sparsity"] - 0.02
        model = aerogel.load(packed)
        assert model.labels == ["no", "so so", "yes"]
        aerogel.export(packed, plain)
        expected = peers.outputs(peers.reload(plain, name))
        exact = options["quant"] == "none"
        for ours, theirs in (("hidden", "hidden"), HEADS[head]):
            got, wanted = model.forward(peers.SEQUENCES, output=ours), expected[theirs]
            # int8 inputs of the linears are rounded where ours run, and not in theirs
            assert np.abs(got - wanted).max() < (1e-4 if exact else 0.15 * np.abs(wanted).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_smaller_in_every_way(tmp_path: Path, family: str) -> None:
    """Hidden channels, heads, FFN channels and layers removed, and the rest is a model of Transformers again."""
    name = family + "ForMaskedLM"
    net = peers.save(tmp_path / "model", name, **FAMILIES[family][0])
    amounts = {"hidden": 24, "layers": 1, "ffn": 24, "heads": 3}
    structure = {**amounts, "score": "weights", "compensate": False, "multiple": 8}
    aerogel.compress(
        tmp_path / "model", tmp_path / "packed", sparsity=0.0, quant="none", recipe={"structure": structure}
    )
    small = aerogel.load(tmp_path / "packed")
    assert small.hidden_size == 24 and net.config.hidden_size == 32
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    smaller = peers.reload(tmp_path / "plain", name)
    assert smaller.config.num_hidden_layers < net.config.num_hidden_layers and smaller.config.num_attention_heads == 3
    expected = peers.outputs(smaller)["logits"]
    np.testing.assert_allclose(small.forward(peers.SEQUENCES, output="logits"), expected, atol=1e-4)


def test_layers_that_are_one_are_packed_and_compressed_once(tmp_path: Path) -> None:
    peers.save(tmp_path / "one", "AlbertModel", **{**FAMILIES["Albert"][0], "num_hidden_layers": 1})
    peers.save(tmp_path / "six", "AlbertModel", **{**FAMILIES["Albert"][0], "num_hidden_layers": 6})
    one, six = aerogel.load(tmp_path / "one"), aerogel.load(tmp_path / "six")
    assert one.nbytes == six.nbytes
    assert np.abs(one.forward([5, 6, 7]) - six.forward([5, 6, 7])).max() > 0.1
    report = aerogel.compress(tmp_path / "six", tmp_path / "packed", sparsity=0.5, quant="int8", method="magnitude")
    names = [tensor.name for tensor in report.tensors]
    assert len(names) == len(set(names))
    assert aerogel.load(tmp_path / "packed").nbytes < six.nbytes


def test_layers_of_groups_are_compressed_and_exported(tmp_path: Path) -> None:
    """Each group loses channels and heads of its own; no layer can be removed, as the config only counts them."""
    net = {**FAMILIES["Albert"][2], "embedding_size": 24}
    peers.save(tmp_path / "model", "AlbertForMaskedLM", **net)
    model = aerogel.load(tmp_path / "model")
    structure = {"ffn": 0.5, "heads": 0.5, "score": "weights", "compensate": False}
    for i, recipe in enumerate(({}, {"structure": structure})):
        out = tmp_path / f"packed{i}"
        aerogel.compress(tmp_path / "model", out, sparsity=0.5, quant="none", method="magnitude", recipe=recipe)
        packed = aerogel.load(out)
        assert i == 0 or packed.nbytes < model.nbytes
        aerogel.export(out, tmp_path / f"plain{i}")
        again = peers.reload(tmp_path / f"plain{i}", "AlbertForMaskedLM")
        wanted = packed.forward(peers.SEQUENCES, output="logits")
        np.testing.assert_allclose(peers.outputs(again)["logits"], wanted, atol=1e-4)
    recipe = {"structure": {"layers": [0, 1]}}
    with pytest.raises(UnsupportedModelError, match="got groups of them: 4 of 8 layers have tensors of their own"):
        aerogel.compress(tmp_path / "model", tmp_path / "less", sparsity=0.0, quant="none", recipe=recipe)


def test_a_linear_that_is_run_again_is_fitted_to_all_that_it_reads(tmp_path: Path) -> None:
    peers.save(tmp_path / "model", "AlbertModel", **{**FAMILIES["Albert"][0], "num_hidden_layers": 6})
    peers.tokenizer(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    aerogel.compress(
        tmp_path / "model", tmp_path / "packed", sparsity=0.5, quant="int8", calibrate=tmp_path / "texts.txt"
    )
    wanted, got = (np.concatenate(aerogel.load(tmp_path / m).token_embeddings(TEXTS)) for m in ("model", "packed"))
    # fitted to the first layer's inputs alone it is about 0.8
    assert np.linalg.norm(got - wanted) < 0.45 * np.linalg.norm(wanted)


def test_layers_that_are_one_are_calibrated_once(tmp_path: Path) -> None:
    """Where they are run first: what is fitted there is what all of them run with."""
    peers.save(tmp_path / "six", "AlbertModel", **{**FAMILIES["Albert"][0], "num_hidden_layers": 6})
    peers.tokenizer(tmp_path / "six")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    options = {"sparsity": 0.3, "quant": "int8", "calibrate": tmp_path / "texts.txt"}
    for i, recipe in enumerate(({}, {"fold": {"alpha": 0.5}}, {"structure": {"ffn": 0.5, "hidden": 24}})):
        report = aerogel.compress(tmp_path / "six", tmp_path / f"packed{i}", recipe=recipe, **options)
        names = [tensor.name for tensor in report.tensors]
        assert len(names) == len(set(names))
        small, dense = aerogel.load(tmp_path / f"packed{i}"), aerogel.load(tmp_path / "six")
        if small.hidden_size == dense.hidden_size:
            a, b = small.encode(TEXTS, normalize=True), dense.encode(TEXTS, normalize=True)
            assert (a * b).sum(1).mean() > 0.8


@pytest.mark.parametrize(
    ("name", "changed", "error", "message"),
    [
        (
            "AlbertModel",
            {"num_hidden_groups": 3},
            ConfigError,
            "num_hidden_groups: expected at most num_hidden_layers, 2, got 3",
        ),
        ("RobertaModel", {"is_decoder": True}, UnsupportedModelError, "is_decoder"),
        (
            "BertModel",
            {"num_attention_heads": 32, "id2label": None, "hidden_act": "mish"},
            UnsupportedModelError,
            "mish",
        ),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, changed: dict[str, Any], error: type, message: str) -> None:
    peers.save(tmp_path, name, **{**peers.SIZES, **changed})
    with pytest.raises(error, match=message):
        aerogel.load(tmp_path)


def test_positions_that_leave_no_room(tmp_path: Path) -> None:
    peers.save(tmp_path, "RobertaModel", **{**peers.SIZES, "max_position_embeddings": 3, "pad_token_id": 2})
    with pytest.raises(ConfigError, match="max_position_embeddings: expected more than 3"):
        aerogel.load(tmp_path)
