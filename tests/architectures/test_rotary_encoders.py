"""Encoders with other positions than BERT's: MPNet's buckets, ModernBERT's, GTE's and NomicBERT's rotations, Jina's slopes.

Against Transformers where it has the family, else against a reference in plain PyTorch (`alibi`, and NTK scaling).
"""

from __future__ import annotations

import json
import math
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import aerogel
from aerogel.architectures import architecture_of
from aerogel.architectures.jina_bert import JinaBert
from aerogel.architectures.nomic_bert import NomicBert
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import ConfigError, RecipeError, UnsupportedModelError

from ..checkpoint.gguf import files
from . import peers
from .test_encoders import HEADS, LABELS, TEXTS, labelled
from .test_settings import Recorded

MODERN = {**peers.SIZES, "num_hidden_layers": 4, "local_attention": 8, "pad_token_id": 0, "classifier_pooling": "mean"}
ROPE = {
    "full_attention": {"rope_type": "default", "rope_theta": 80000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
}
BIASES = dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), True)
#: Prefix of the classes -> the configs that models in the wild have.
FAMILIES: dict[str, list[dict[str, Any]]] = {
    "MPNet": [{**peers.SIZES, "max_position_embeddings": 300, "layer_norm_eps": 1e-5}],
    "ModernBert": [
        MODERN,
        {
            **MODERN,
            **BIASES,
            "rope_parameters": ROPE,
            "layer_types": ["full_attention", "sliding_attention"] * 2,
            "classifier_pooling": "cls",
            "decoder_bias": False,
            "hidden_activation": "silu",
        },
    ],
    "Gte": [{**peers.SIZES, "pad_token_id": 0}, {**peers.SIZES, "pad_token_id": 0, "type_vocab_size": 0}],
    "NomicBert": [{**peers.SIZES}, {**peers.SIZES, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}],
}
LACKING = {("Gte", "ForQuestionAnswering"), ("NomicBert", "ForQuestionAnswering")}
CASES = [(family, config) for family, configs in FAMILIES.items() for config in configs]


@pytest.mark.parametrize(("family", "config"), CASES, ids=[f"{family}{i}" for i, (family, _) in enumerate(CASES)])
def test_every_head_is_as_in_transformers(tmp_path: Path, family: str, config: dict[str, Any]) -> None:
    for head, (ours, theirs) in HEADS.items():
        if (family, head) in LACKING:
            continue
        net = peers.save(tmp_path / head, family + head, **config, **labelled(head))
        expected = peers.outputs(net)
        model = aerogel.load(tmp_path / head)
        np.testing.assert_allclose(model.forward(peers.SEQUENCES, output="hidden"), expected["hidden"], atol=1e-4)
        np.testing.assert_allclose(model.forward(peers.SEQUENCES, output=ours), expected[theirs], atol=1e-4)
        assert ("embedding" in model.outputs) == (head == "Model")
        assert model.labels == (["no", "so so", "yes"] if "Classification" in head else [])


def test_distances_beyond_the_last_bucket(tmp_path: Path) -> None:
    net = peers.save(tmp_path, "MPNetModel", **FAMILIES["MPNet"][0])
    long = [[5 + i % 50 for i in range(290)]]
    expected = peers.outputs(net, long)["hidden"]
    np.testing.assert_allclose(aerogel.load(tmp_path).forward(long), expected, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_compressed_and_exported(tmp_path: Path, family: str) -> None:
    """What Transformers computes with the exported folder is what the packed model computes."""
    head = "ForSequenceClassification"
    name = family + head
    peers.save(tmp_path / "model", name, **FAMILIES[family][-1], **LABELS)
    heads = {} if family == "MPNet" else {"heads": 0.5}
    structure = {"ffn": 0.5, **heads, "score": "weights", "compensate": False}
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
        aerogel.export(packed, plain)
        assert (
            load_file(plain / "model.safetensors").keys() == load_file(tmp_path / "model" / "model.safetensors").keys()
        )
        expected = peers.outputs(peers.reload(plain, name))
        exact = options["quant"] == "none"
        for ours, theirs in (("hidden", "hidden"), HEADS[head]):
            got, wanted = model.forward(peers.SEQUENCES, output=ours), expected[theirs]
            # int8 inputs of the linears are rounded where ours run, and not in theirs
            assert np.abs(got - wanted).max() < (1e-4 if exact else 0.2 * np.abs(wanted).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_smaller_in_every_way(tmp_path: Path, family: str) -> None:
    """Hidden channels, FFN channels and layers removed, and fewer layers exported as Transformers reads them."""
    head = family + "Model"
    peers.save(tmp_path / "model", head, **{**FAMILIES[family][0], "num_hidden_layers": 4})
    structure = {"hidden": 24, "ffn": 24, "score": "weights", "compensate": False, "multiple": 8}
    options: dict[str, Any] = {"sparsity": 0.0, "quant": "none"}
    aerogel.compress(tmp_path / "model", tmp_path / "narrow", recipe={"structure": structure}, **options)
    assert aerogel.load(tmp_path / "narrow").forward(peers.SEQUENCES).shape == (29, 24)
    recipe = {"structure": {"layers": [0, 2, 3], "score": "weights", "compensate": False}}
    aerogel.compress(tmp_path / "model", tmp_path / "short", recipe=recipe, **options)
    aerogel.export(tmp_path / "short", tmp_path / "plain")
    expected = peers.outputs(peers.reload(tmp_path / "plain", head))["hidden"]
    np.testing.assert_allclose(aerogel.load(tmp_path / "short").forward(peers.SEQUENCES), expected, atol=1e-4)


def test_modernberts_first_layer_stays(tmp_path: Path) -> None:
    """It has no norm before its attention, which is no place for another layer."""
    peers.save(tmp_path / "model", "ModernBertModel", **MODERN)
    recipe = {"structure": {"layers": [1, 2], "score": "weights", "compensate": False}}
    with pytest.raises(UnsupportedModelError, match="first layer has no norm"):
        aerogel.compress(tmp_path / "model", tmp_path / "packed", recipe=recipe)


@pytest.mark.parametrize("family", FAMILIES)
def test_calibrated_with_scales_moved(tmp_path: Path, family: str) -> None:
    peers.save(tmp_path / "model", family + "Model", **FAMILIES[family][-1])
    peers.tokenizer(tmp_path / "model")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    recipe = {"fold": {"alpha": 0.5}, "structure": {"ffn": 0.75}}
    aerogel.compress(
        tmp_path / "model",
        tmp_path / "packed",
        sparsity=0.3,
        quant="int8",
        calibrate=tmp_path / "texts.txt",
        recipe=recipe,
    )
    small, dense = aerogel.load(tmp_path / "packed"), aerogel.load(tmp_path / "model")
    a, b = (model.encode(TEXTS, normalize=True) for model in (small, dense))
    assert (a * b).sum(1).mean() > 0.9


def test_heads_that_are_told_apart_stay(tmp_path: Path) -> None:
    peers.save(tmp_path / "model", "MPNetModel", **FAMILIES["MPNet"][0])
    recipe = {"structure": {"heads": 0.5, "score": "weights", "compensate": False}}
    with pytest.raises(RecipeError, match="heads: the model has no"):
        aerogel.compress(tmp_path / "model", tmp_path / "packed", recipe=recipe)


def rewrite(folder: Path, dropped: tuple[str, ...] = (), **values: Any) -> None:
    """Changes config.json."""
    path = folder / "config.json"
    config = {key: value for key, value in json.loads(path.read_text()).items() if key not in dropped}
    path.write_text(json.dumps({**config, **values}))


def rename(folder: Path, old: str, new: str) -> None:
    """Other beginnings of tensors' names."""
    path = folder / "model.safetensors"
    tensors = {new + n.removeprefix(old) if n.startswith(old) else n: a for n, a in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})


def code_of(prefix: str, *ends: str) -> dict[str, str]:
    return {f"Auto{end}": f"someone/somewhere--modeling.{prefix}{end}" for end in ("Config", "Model", *ends)}


def test_modernberts_older_configs(tmp_path: Path) -> None:
    """Before Transformers 5: a rule for the layers and two bases at the top."""
    config = {**MODERN, "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 50000.0}}}
    expected = peers.outputs(peers.save(tmp_path, "ModernBertModel", **config))["hidden"]
    rewrite(tmp_path, ("layer_types", "rope_parameters"), global_rope_theta=50000.0, local_rope_theta=10000.0)
    rewrite(tmp_path, global_attn_every_n_layers=3, layer_norm_eps=1e-5, position_embedding_type="absolute")
    np.testing.assert_allclose(aerogel.load(tmp_path).forward(peers.SEQUENCES), expected, atol=1e-4)
    recipe = {"structure": {"layers": [0, 3], "score": "weights", "compensate": False}}  # both see everything
    aerogel.compress(tmp_path, tmp_path / "packed", sparsity=0.0, quant="none", recipe=recipe)
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    expected = peers.outputs(peers.reload(tmp_path / "plain", "ModernBertModel"))["hidden"]
    np.testing.assert_allclose(aerogel.load(tmp_path / "packed").forward(peers.SEQUENCES), expected, atol=1e-4)


GPT2 = {
    "n_layer": 2,
    "n_embd": 32,
    "n_head": 4,
    "n_inner": 48,
    "layer_norm_epsilon": 1e-12,
    "activation_function": "swiglu",
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "prenorm": False,
    "causal": False,
    "dense_seq_output": True,
    "summary_type": "cls_index",
    "use_flash_attn": True,
    "scale_attn_weights": True,
}


@pytest.mark.parametrize("head", ["Model", "ForSequenceClassification", "ForPreTraining"])
def test_nomic_in_gpt2s_words(tmp_path: Path, head: str) -> None:
    """As nomic-embed-text says it, with its own code beside; packed and exported it still does."""
    theirs = "ForMaskedLM" if head == "ForPreTraining" else head
    net = peers.save(tmp_path / "model", "NomicBert" + theirs, **peers.SIZES, **labelled(head))
    expected = peers.outputs(net)
    values = {
        "n_positions": 40,
        "architectures": ["NomicBert" + head],
        "auto_map": code_of("NomicBert", "ForPreTraining"),
    }
    values |= {"model_type": "nomic_bert", "vocab_size": peers.VOCABULARY, "type_vocab_size": 2, **GPT2}
    if "Classification" in head:
        values["id2label"] = LABELS["id2label"]
    (tmp_path / "model" / "config.json").write_text(json.dumps(values))
    rename(tmp_path / "model", "nomic_bert.", "bert.")
    ours, name = HEADS[theirs]
    model = aerogel.load(tmp_path / "model")
    np.testing.assert_allclose(model.forward(peers.SEQUENCES, output=ours), expected[name], atol=1e-4)
    recipe = {"structure": {"ffn": 0.5, "heads": 0.5, "layers": [0, 1], "score": "weights", "compensate": False}}
    aerogel.compress(tmp_path / "model", tmp_path / "packed", sparsity=0.0, quant="none", recipe=recipe)
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert config["n_inner"] == 24 and config["auto_map"] == values["auto_map"] and "hidden_size" not in config
    small = [aerogel.load(tmp_path / folder).forward(peers.SEQUENCES, output=ours) for folder in ("packed", "plain")]
    np.testing.assert_allclose(*small, atol=1e-5)
    names = [load_file(tmp_path / folder / "model.safetensors").keys() for folder in ("model", "plain")]
    assert names[0] == names[1]


def test_nomics_positions_grow_with_the_sequence(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "rope_theta": 1000.0, "factor": 2.0}
    net = peers.save(
        tmp_path, "NomicBertModel", **{**peers.SIZES, "max_position_embeddings": 12, "rope_parameters": rope}
    )
    values = {
        "n_positions": 48,
        "max_trained_positions": 12,
        "rotary_scaling_factor": 2,
        "architectures": ["NomicBertModel"],
    }
    values |= {"model_type": "nomic_bert", "vocab_size": peers.VOCABULARY, "type_vocab_size": 2, **GPT2}
    (tmp_path / "config.json").write_text(json.dumps(values))
    model = aerogel.load(tmp_path)
    for length in (5, 12, 13, 47):
        ids = [[5 + i for i in range(length)]]
        np.testing.assert_allclose(model.forward(ids), peers.outputs(net, ids)["hidden"], atol=1e-4)


@pytest.mark.parametrize("factor", [None, 2.0, 8.0])
def test_gte_as_alibaba_wrote_it(tmp_path: Path, factor: float | None) -> None:
    """model_type "new", its code beside, and NTK scaling: one base and one factor for all lengths."""
    torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

    net = peers.save(tmp_path, "GteModel", **peers.SIZES, pad_token_id=0)
    scaling = None if factor is None else {"type": "ntk", "factor": factor}
    rewrite(tmp_path, ("rope_parameters",), model_type="new", architectures=["NewModel", "NewForTokenClassification"])
    rewrite(
        tmp_path, rope_theta=20000, rope_scaling=scaling, position_embedding_type="rope", layer_norm_type="layer_norm"
    )
    rewrite(tmp_path, pack_qkv=True, unpad_inputs=False, logn_attention_scale=False, logn_attention_clip1=False)
    rewrite(tmp_path, auto_map=code_of("New", "ForMaskedLM"), use_memory_efficient_attention=False)
    tensors = {"new." + name: array for name, array in load_file(tmp_path / "model.safetensors").items()}
    tensors |= {"classifier.weight": np.ones((1, 32), np.float32), "classifier.bias": np.ones(1, np.float32)}
    save_file(tensors, tmp_path / "model.safetensors")
    base = 20000 * (factor or 1.0)
    turns = base ** (-torch.arange(0, 8, 2, dtype=torch.float64) / 8) / (factor or 1.0) ** (2 / 8)
    net.rotary_emb.inv_freq.copy_(turns)
    expected = peers.outputs(net)["hidden"]
    np.testing.assert_allclose(aerogel.load(tmp_path).forward(peers.SEQUENCES), expected, atol=1e-4)


def alibi(folder: Path, ids: list[int], slopes: list[float]) -> np.ndarray:
    """The hidden states of one sequence of JinaBERT in float64, from its equations."""
    w = {n.removeprefix("bert."): a.astype(np.float64) for n, a in load_file(folder / "model.safetensors").items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12) * w[name + ".weight"] + w[name + ".bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    e = "embeddings."
    h = norm(w[e + "word_embeddings.weight"][ids] + w[e + "token_type_embeddings.weight"][0], e + "LayerNorm")
    apart = np.abs(np.subtract.outer(np.arange(len(ids)), np.arange(len(ids))))
    for i in range(2):
        t, heads = f"encoder.layer.{i}.", len(slopes)
        s = t + "attention.self."
        q, k, v = (linear(h, s + x).reshape(len(ids), heads, -1) for x in ("query", "key", "value"))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1]) - np.multiply.outer(slopes, apart)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        a = np.einsum("hij,jhd->ihd", p / p.sum(-1, keepdims=True), v).reshape(len(ids), -1)
        h = norm(h + linear(a, t + "attention.output.dense"), t + "attention.output.LayerNorm")
        gate, up = np.split(h @ w[t + "mlp.gated_layers.weight"].T, 2, axis=-1)
        erf = np.vectorize(math.erf)
        f = 0.5 * gate * (1 + erf(gate / math.sqrt(2))) * up
        h = norm(h + linear(f, t + "mlp.wo"), t + "mlp.layernorm")
    return h


#: 6 heads: the slopes of 4, and every second one of 8.
SLOPES = [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]
JINA = {
    **{**peers.SIZES, "hidden_size": 48, "num_attention_heads": 6},
    "model_type": "bert",
    "type_vocab_size": 2,
    "architectures": ["JinaBertForMaskedLM"],
    "position_embedding_type": "alibi",
    "feed_forward_type": "geglu",
    "emb_pooler": "mean",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "auto_map": code_of("JinaBert", "ForMaskedLM", "ForSequenceClassification"),
}


def jina(folder: Path, head: str = "Model") -> Path:
    h, f, v = 48, 48, peers.VOCABULARY
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (v, h),
        "bert.embeddings.token_type_embeddings.weight": (2, h),
        "bert.embeddings.LayerNorm.weight": (h,),
        "cls.predictions.transform.dense.weight": (h, h),
        "cls.predictions.transform.LayerNorm.weight": (h,),
        "cls.predictions.decoder.weight": (v, h),
    }
    for i in range(2):
        t = f"bert.encoder.layer.{i}."
        shapes |= {t + f"attention.self.{x}.weight": (h, h) for x in ("query", "key", "value")}
        shapes |= {t + "attention.output.dense.weight": (h, h), t + "attention.output.LayerNorm.weight": (h,)}
        shapes |= {
            t + "mlp.gated_layers.weight": (2 * f, h),
            t + "mlp.wo.weight": (h, f),
            t + "mlp.layernorm.weight": (h,),
        }
    for name, shape in list(shapes.items()):
        if not name.endswith(("embeddings.weight", "gated_layers.weight")):
            shapes[name.replace("weight", "bias")] = shape[:1]
    random = np.random.default_rng(0)
    weights = {
        n: (0.2 * random.standard_normal(s) + ("norm" in n.lower() and "weight" in n)) for n, s in shapes.items()
    }
    weights["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"]
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**JINA, "architectures": ["JinaBert" + head]}))
    save_file({n: a.astype(np.float32).copy() for n, a in weights.items()}, folder / "model.safetensors")
    return folder


def test_jina_is_as_its_equations(tmp_path: Path) -> None:
    folder = jina(tmp_path / "model", "ForMaskedLM")
    expected = np.concatenate([alibi(folder, ids, SLOPES) for ids in peers.SEQUENCES])
    model = aerogel.load(folder)
    assert model.outputs == ("hidden", "logits", "terms")
    np.testing.assert_allclose(model.forward(peers.SEQUENCES, output="hidden"), expected, atol=1e-4)
    for i, options in enumerate(
        [
            {"sparsity": 0.0, "quant": "int8"},
            {"sparsity": 0.0, "quant": "int4:g32"},
            {"sparsity": 0.8, "quant": "none", "method": "magnitude"},
            {
                "sparsity": 0.0,
                "quant": "none",
                "recipe": {"structure": {"ffn": 0.5, "score": "weights", "compensate": False}},
            },
        ]
    ):
        aerogel.compress(folder, tmp_path / f"packed{i}", **options)
        aerogel.export(tmp_path / f"packed{i}", tmp_path / f"plain{i}")
        packed = aerogel.load(tmp_path / f"packed{i}").forward(peers.SEQUENCES, output="logits")
        plain = aerogel.load(tmp_path / f"plain{i}").forward(peers.SEQUENCES, output="logits")
        tolerance = 1e-4 if options["quant"] == "none" else 0.2 * np.abs(packed).max()
        np.testing.assert_allclose(packed, plain, atol=tolerance)
        written = load_file(tmp_path / f"plain{i}" / "model.safetensors")
        assert "bert.encoder.layer.0.mlp.gated_layers.weight" in written
        if i != 3:
            exact = np.concatenate([alibi(tmp_path / f"plain{i}", ids, SLOPES) for ids in peers.SEQUENCES])
            hidden = aerogel.load(tmp_path / f"plain{i}").forward(peers.SEQUENCES, output="hidden")
            np.testing.assert_allclose(hidden, exact, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "changed", "error", "message"),
    [
        ("MPNetModel", {"relative_attention_num_buckets": 16}, UnsupportedModelError, "relative_attention_num_buckets"),
        (
            "ModernBertModel",
            {"layer_types": ["full_attention"]},
            ConfigError,
            "layer_types: expected full_attention or",
        ),
        ("ModernBertModel", {"hidden_activation": "tanh"}, UnsupportedModelError, "hidden_activation: 'tanh'"),
        ("ModernBertModel", {"rope_parameters": [1]}, ConfigError, "rope_parameters: expected an object for each kind"),
        ("GteModel", {"pack_qkv": False}, UnsupportedModelError, "pack_qkv"),
        ("GteModel", {"logn_attention_scale": True}, UnsupportedModelError, "logn_attention_scale"),
        ("GteModel", {"auto_map": {"AutoModel": "x--y.EvilModel"}}, UnsupportedModelError, "auto_map: EvilModel"),
        ("GteModel", {"rope_scaling": {"type": "ntk", "factor": 2, "mixed_b": 0.5}}, UnsupportedModelError, "mixed_b"),
        ("NomicBertModel", {"num_experts": 8}, UnsupportedModelError, "num_experts"),
        ("NomicBertModel", {"rotary_emb_fraction": 0.5}, UnsupportedModelError, "rotary_emb_fraction"),
    ],
)
def test_what_is_refused(tmp_path: Path, name: str, changed: dict[str, Any], error: type, message: str) -> None:
    peers.save(tmp_path, name, **peers.SIZES, pad_token_id=0)
    rewrite(tmp_path, **changed)
    with pytest.raises(error, match=message):
        aerogel.load(tmp_path)


def test_jinas_other_code_is_refused(tmp_path: Path) -> None:
    folder = jina(tmp_path / "model")
    rewrite(folder, feed_forward_type="original")
    with pytest.raises(UnsupportedModelError, match="feed_forward_type: 'original'"):
        aerogel.load(folder)
    rewrite(folder, feed_forward_type="reglu")
    tensors = load_file(folder / "model.safetensors")
    tensors["bert.encoder.layer.0.attention.self.layer_norm_q.weight"] = np.ones(48, np.float32)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UnsupportedModelError, match="layer_norm_q"):
        aerogel.load(folder)


def in_gguf(folder: Path, arch: str, metadata: dict[str, Any], prefix: str = "") -> Path:
    """The folder's model by the gguf package: its names of tensors, and what llama.cpp's converter says of the config."""
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == arch)
    table = gguf.get_tensor_name_map(kind, 4)
    config = json.loads((folder / "config.json").read_text())
    keys = {
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "block_count": config["num_hidden_layers"],
        "attention.head_count": config["num_attention_heads"],
        "context_length": config["max_position_embeddings"],
        "attention.layer_norm_epsilon": config.get("layer_norm_eps") or config["norm_eps"],
        "attention.causal": False,
        **metadata,
    }
    tensors = {}
    for name, array in load_file(folder / "model.safetensors").items():
        stored = table.get_name(name.removeprefix(prefix), try_suffixes=(".weight", ".bias"))
        if not name.startswith(("cls.", "classifier.")):  # heads are not converted
            assert stored is not None, name
            tensors[stored] = array
    return files.write(folder / "m.gguf", arch, {f"{arch}.{key}": value for key, value in keys.items()}, tensors)


def check_same(path: Path, folder: Path) -> None:
    model, peer = aerogel.load(path), aerogel.load(folder)
    np.testing.assert_array_equal(
        model.forward(peers.SEQUENCES, output="hidden"), peer.forward(peers.SEQUENCES, output="hidden")
    )


@pytest.mark.parametrize("pattern", [3, None])
def test_modernbert_in_gguf(tmp_path: Path, pattern: int | None) -> None:
    peers.save(tmp_path, "ModernBertModel", **{**MODERN, "rope_parameters": ROPE})
    metadata = {"attention.sliding_window": 8, "attention.sliding_window_pattern": pattern, "rope.scaling.type": "none"}
    metadata |= {"rope.freq_base": 80000.0, "rope.freq_base_swa": 5000.0}
    check_same(in_gguf(tmp_path, "modern-bert", metadata), tmp_path)


def test_nomic_in_gguf(tmp_path: Path) -> None:
    peers.save(tmp_path, "NomicBertModel", **peers.SIZES)
    check_same(in_gguf(tmp_path, "nomic-bert", {"rope.freq_base": 1000.0}), tmp_path)


@pytest.mark.parametrize("split", [True, False])
def test_jina_in_gguf(tmp_path: Path, split: bool) -> None:
    """Older converters split the gate off."""
    folder = jina(tmp_path / "model")
    path = in_gguf(folder, "jina-bert-v2", {}, prefix="bert.")
    if split:
        tensors = {}
        checkpoint = open_checkpoint(path)
        for name in checkpoint.names():
            stem = name.removeprefix("encoder.layer.").partition(".mlp.")
            other = {"gate.weight": "ffn_gate", "up.weight": "ffn_up"}.get(stem[2])
            if other is not None:
                tensors[f"blk.{stem[0]}.{other}.weight"] = checkpoint.array(name)
        whole = gguf.GGUFReader(path)
        tensors = {**{t.name: np.array(t.data) for t in whole.tensors}, **tensors}
        metadata = {key: field.contents() for key, field in whole.fields.items() if key.startswith("jina")}
        path = files.write(tmp_path / "split.gguf", "jina-bert-v2", metadata, tensors)
    check_same(path, folder)


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"attention.sliding_window_pattern": 0}, ConfigError, "sliding_window_pattern: expected a positive number"),
        ({"rope.scaling.type": "yarn"}, UnsupportedModelError, "rope.scaling.type: expected none"),
        ({"attention.sliding_window_pattern": [True]}, ConfigError, "layer_types: expected"),
    ],
)
def test_modernberts_gguf_that_is_refused(tmp_path: Path, metadata: dict[str, Any], error: type, message: str) -> None:
    peers.save(tmp_path, "ModernBertModel", **MODERN)
    path = in_gguf(tmp_path, "modern-bert", {"attention.sliding_window": 8, **metadata})
    with pytest.raises(error, match=message):
        aerogel.load(path)


@pytest.mark.parametrize(("family", "config"), CASES, ids=[f"{family}{i}" for i, (family, _) in enumerate(CASES)])
def test_what_is_read_is_declared(tmp_path: Path, family: str, config: dict[str, Any]) -> None:
    for head in HEADS:
        if (family, head) in LACKING:
            continue
        peers.save(tmp_path / head, family + head, **config)
        checkpoint = open_checkpoint(tmp_path / head)
        kind = type(architecture_of(checkpoint))
        seen = Recorded(checkpoint.config)
        kind(seen, checkpoint.names(), checkpoint.pooling)
        assert not seen.asked - set(kind.settings.used)


def test_what_other_words_say_is_declared(tmp_path: Path) -> None:
    seen = Recorded({**JINA})
    JinaBert(seen, [], None)
    assert not seen.asked - set(JinaBert.settings.used)
    values = {"n_positions": 40, "rotary_scaling_factor": 2, "max_trained_positions": 20, "vocab_size": 60, **GPT2}
    seen = Recorded({**values, "model_type": "nomic_bert"})
    NomicBert(seen, [], None)
    assert not seen.asked - set(NomicBert.settings.used)
    for key in values:
        assert key in {**NomicBert.settings.used, **NomicBert.settings.refused} or any(
            fnmatchcase(key, name) for name in NomicBert.settings.harmless
        )


def test_finetuned_as_transformers_saves_it(tmp_path: Path) -> None:
    """A classifier on top of an encoder that had none, fused tensors joined again; slopes and biases have gradients."""
    pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
    from aerogel.train import Options, distill, finetune

    peers.save(tmp_path / "modern", "ModernBertModel", **MODERN)
    peers.tokenizer(tmp_path / "modern")
    options = Options(steps=2, sparsity=0.0, batch_tokens=64, threads=1)
    finetune(tmp_path / "modern", tmp_path / "tuned", TEXTS[:12], [i % 3 for i in range(12)], options=options)
    net = peers.reload(tmp_path / "tuned", "ModernBertForSequenceClassification")
    scores = aerogel.load(tmp_path / "tuned").forward(peers.SEQUENCES, output="scores")
    np.testing.assert_allclose(scores, peers.outputs(net)["logits"], atol=1e-4)
    peers.save(tmp_path / "mpnet", "MPNetModel", **FAMILIES["MPNet"][0])
    for folder in (tmp_path / "mpnet", jina(tmp_path / "jina")):
        peers.tokenizer(folder)
        out = tmp_path / f"{folder.name} trained"
        distill(folder, out, TEXTS[:12], options=Options(steps=2, sparsity=0.5, batch_tokens=64, threads=1))
        before, after = (load_file(place / "model.safetensors") for place in (folder, out))
        before = {name.removeprefix("bert."): array for name, array in before.items()}
        assert before.keys() >= after.keys()
        changed = {name for name in after if not np.array_equal(after[name], before[name])}
        assert any("relative_attention_bias" in name or "gated_layers" in name for name in changed)
        assert aerogel.load(out).forward(peers.SEQUENCES).shape[0] == 29
