"""What is Gemma's own: EmbeddingGemma, the text of models that see images, and the files of llama.cpp."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.architectures import FAMILIES, architecture_of
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import ConfigError, UnsupportedModelError

from ..checkpoint.gguf import files
from . import decoders
from .test_settings import Recorded

pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
pytest.importorskip("transformers", reason="Transformers is not installed")

EMBEDDING = {
    "head_dim": 16,
    "sliding_window": 6,
    "use_bidirectional_attention": True,
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 24,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}


@pytest.mark.parametrize("window", [2, 6, 512])
def test_both_ways(tmp_path: Path, window: int) -> None:
    """The window counts both sides: half of it on each."""
    net = decoders.made(tmp_path, "gemma3_text", {**EMBEDDING, "sliding_window": window}, "Model")
    model = aerogel.load(tmp_path)
    batch = decoders.sequences()
    expected = np.concatenate([decoders.hidden(net, ids) for ids in batch])
    np.testing.assert_allclose(model.forward(batch, output="hidden"), expected, atol=1e-4)


def as_sentence_transformer(folder: Path, width: int, wider: int) -> None:
    """The modules of EmbeddingGemma around a model."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    modules = ["models.Transformer", "models.Pooling", "models.Dense", "models.Dense", "models.Normalize"]
    places = ["", "1_Pooling", "2_Dense", "3_Dense", "4_Normalize"]
    listed = [
        {"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.{module}"}
        for i, (place, module) in enumerate(zip(places, modules, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    prompts = {"query": "the cat ", "document": "a "}
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": prompts}))
    # Transformers' own class for the family would put other tokens into the vocabulary.
    tokens = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 64, "do_lower_case": false}')
    for place in places[1:]:
        (folder / place).mkdir()
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True, "include_prompt": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    for place, inputs, outputs in (("2_Dense", width, wider), ("3_Dense", wider, width)):
        config = {
            "in_features": inputs,
            "out_features": outputs,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }
        (folder / place / "config.json").write_text(json.dumps(config))
        weight = rng.standard_normal((outputs, inputs)).astype(np.float32) / 8
        save_file({"linear.weight": weight}, folder / place / "model.safetensors")


def test_embeddings(tmp_path: Path) -> None:
    peers = pytest.importorskip("sentence_transformers")
    decoders.made(tmp_path / "m", "gemma3_text", EMBEDDING, "Model")
    as_sentence_transformer(tmp_path / "m", 48, 96)
    peer, model = peers.SentenceTransformer(str(tmp_path / "m"), device="cpu"), aerogel.load(tmp_path / "m")
    texts = ["the cat sat on a mat", "a", "the dog and the cat and the dog ran over the mat again and again"]
    np.testing.assert_allclose(model.encode(texts), peer.encode(texts), atol=1e-5)
    np.testing.assert_allclose(
        model.encode(texts, prompt_name="query"), peer.encode(texts, prompt_name="query"), atol=1e-5
    )
    dense = model.encode(texts)
    aerogel.compress(tmp_path / "m", tmp_path / "int8", sparsity=0.0, quant="int8")
    assert (aerogel.load(tmp_path / "int8").encode(texts) * dense).sum(1).min() > 0.99
    aerogel.export(tmp_path / "int8", tmp_path / "plain")
    again = peers.SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    assert (again.encode(texts) * dense).sum(1).min() > 0.99


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3"])
def test_scales_go_into_norms_exactly(tmp_path: Path, family: str) -> None:
    """What is stored is w of 1 + w, and 1 + w is divided."""
    decoders.made(tmp_path / "m", *decoders.VARIANTS[family])
    (tmp_path / "texts.txt").write_text("\n".join(decoders.texts()))
    aerogel.compress(
        tmp_path / "m",
        tmp_path / "folded",
        sparsity=0.0,
        quant="none",
        calibrate=tmp_path / "texts.txt",
        recipe={"fold": {"alpha": 0.7}},
    )
    batch = decoders.sequences()
    dense, folded = aerogel.load(tmp_path / "m"), aerogel.load(tmp_path / "folded")
    np.testing.assert_allclose(folded.forward(batch), dense.forward(batch), atol=1e-4)
    norm = "layers.0.input_layernorm.weight"
    before, after = (open_checkpoint(tmp_path / name).array(norm) for name in ("m", "folded"))
    assert abs(before - after).max() > 0.01


@pytest.mark.parametrize("family", ["gemma", "gemma2", "gemma3"])
def test_training_computes_the_same(tmp_path: Path, family: str) -> None:
    import torch

    from aerogel.train.batches import Batch
    from aerogel.train.program import Ragged, RaggedParameters

    decoders.made(tmp_path, *decoders.VARIANTS[family])
    checkpoint = open_checkpoint(tmp_path)
    architecture = architecture_of(checkpoint)
    named = {t.name: torch.from_numpy(checkpoint.array(t.name).copy()) for t in architecture.tensors()}
    batch = decoders.sequences()
    flat, lengths = torch.tensor([i for ids in batch for i in ids]), torch.tensor([len(ids) for ids in batch])
    program = Ragged(Batch(flat, lengths, torch.arange(len(batch)), lengths.numpy()), named, lambda x: x, frozenset())
    with torch.no_grad():
        architecture.build(program, RaggedParameters(named))
    expected = aerogel.load(tmp_path).forward(batch)
    np.testing.assert_allclose(program.outputs["logits"].numpy(), expected, atol=1e-4)


# -- text and images


@pytest.mark.parametrize("old", [False, True])
def test_the_text_of_a_model_that_sees_images(tmp_path: Path, old: bool, caplog: pytest.LogCaptureFixture) -> None:
    from safetensors.numpy import load_file, save_file

    net = decoders.made(tmp_path / "text", *decoders.VARIANTS["gemma3"])
    config = json.loads((tmp_path / "text" / "config.json").read_text())
    weights = load_file(tmp_path / "text" / "model.safetensors")
    prefix = "language_model.model." if old else "model.language_model."
    named = {prefix + name.removeprefix("model."): array for name, array in weights.items()}
    for name in ("vision_tower.embeddings.weight", "multi_modal_projector.mm_input_projection_weight"):
        named[name if old else "model." + name] = np.zeros((2, 3), np.float32)
    both = tmp_path / "both"
    both.mkdir()
    save_file(named, both / "model.safetensors")
    top = {
        "model_type": "gemma3",
        "architectures": ["Gemma3ForConditionalGeneration"],
        "text_config": config,
        "vision_config": {"model_type": "siglip_vision_model"},
        "mm_tokens_per_image": 4,
        "eos_token_id": [1, 2],
    }
    (both / "config.json").write_text(json.dumps(top))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (tmp_path / "text" / name).exists():
            (both / name).write_bytes((tmp_path / "text" / name).read_bytes())
    with caplog.at_level("INFO", "aerogel"):
        model = aerogel.load(both)
    assert "the part that sees images" in caplog.text
    batch = decoders.sequences()
    expected = np.concatenate([decoders.logits(net, ids) for ids in batch])
    np.testing.assert_allclose(model.forward(batch), expected, atol=1e-4)
    aerogel.compress(both, tmp_path / "packed", sparsity=0.0, quant="none")
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    peer = type(net).from_pretrained(tmp_path / "plain").eval()
    np.testing.assert_allclose(decoders.logits(peer, batch[1]), decoders.logits(net, batch[1]), atol=1e-4)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"text_config": "small"}, "text_config: expected an object, got 'small'"),
        ({"text_config": {}, "architectures": 5}, "architectures: expected a list of class names, got 5"),
        ({"text_config": {"hidden_size": "wide"}}, "hidden_size: expected a whole number, got 'wide'"),
    ],
)
def test_a_text_config_that_is_none(tmp_path: Path, said: dict[str, Any], message: str) -> None:
    decoders.made(tmp_path, *decoders.VARIANTS["gemma3"])
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gemma3", **said}))
    with pytest.raises(ConfigError, match=message):
        aerogel.load(tmp_path)


def test_what_a_config_need_not_say_of_its_text() -> None:
    """As the configs of the models that Google published."""
    found = FAMILIES["gemma3"].text_of(
        {
            "model_type": "gemma3",
            "architectures": ["Gemma3ForConditionalGeneration"],
            "eos_token_id": [1, 106],
            "text_config": {"model_type": "gemma3_text", "hidden_size": 2560, "sliding_window": 1024},
        }
    )
    assert found["num_attention_heads"] == 8 and found["vocab_size"] == 262208 and found["hidden_size"] == 2560
    assert found["eos_token_id"] == [1, 106] and found["architectures"] == ["Gemma3ForCausalLM"]


# -- configs


def changed_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "absent"}))
    return folder


def test_an_older_config(tmp_path: Path) -> None:
    """Transformers 4 has one theta for layers with a window, and scaling for those without."""
    net = decoders.made(tmp_path, *decoders.VARIANTS["gemma3, linear"])
    changed_config(
        tmp_path,
        rope_parameters="absent",
        rope_theta=50000.0,
        rope_local_base_freq=500.0,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
    )
    ids = decoders.sequences()[2]
    np.testing.assert_allclose(aerogel.load(tmp_path).forward(ids), decoders.logits(net, ids), atol=1e-4)


def test_a_pattern_in_place_of_a_list(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    net = decoders.made(
        tmp_path, "gemma3_text", {**EMBEDDING, "use_bidirectional_attention": False, "layer_types": kinds}
    )
    changed_config(tmp_path, layer_types="absent", sliding_window_pattern=2)
    ids = decoders.sequences()[2]
    np.testing.assert_allclose(aerogel.load(tmp_path).forward(ids), decoders.logits(net, ids), atol=1e-4)


@pytest.mark.parametrize(
    ("family", "key", "value", "error"),
    [
        ("gemma", "hidden_activation", "relu", UnsupportedModelError),
        ("gemma", "use_bidirectional_attention", True, UnsupportedModelError),
        ("gemma2", "use_bidirectional_attention", True, UnsupportedModelError),
        ("gemma2", "query_pre_attn_scalar", 0, ConfigError),
        ("gemma2", "attn_logit_softcapping", -3.0, ConfigError),
        ("gemma2", "final_logit_softcapping", 1e40, ConfigError),
        ("gemma3", "attn_logit_softcapping", 50.0, UnsupportedModelError),
        ("gemma3", "sliding_window_pattern", 0, ConfigError),
        ("gemma3", "rope_local_base_freq", "x", ConfigError),
    ],
)
def test_configs_that_are_refused(tmp_path: Path, family: str, key: str, value: Any, error: type[Exception]) -> None:
    decoders.made(tmp_path, *decoders.VARIANTS[family])
    kinds = {"layer_types": "absent"} if key == "sliding_window_pattern" else {}
    with pytest.raises(error, match=key):
        aerogel.load(changed_config(tmp_path, **kinds, **{key: value}))


@pytest.mark.parametrize("name", ["gemma", "gemma2", "gemma3", "gemma3, six layers"])
def test_what_the_family_reads_is_declared(tmp_path: Path, name: str) -> None:
    decoders.made(tmp_path, *decoders.VARIANTS[name])
    checkpoint = open_checkpoint(tmp_path)
    family = type(architecture_of(checkpoint))
    config = Recorded(checkpoint.config)
    family(config, checkpoint.names(), checkpoint.pooling)
    assert not config.asked - set(family.settings.used)


# -- GGUF

LINEARS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
}
NORMS = {
    "gemma": {"post_attention_layernorm": "ffn_norm"},
    "gemma2": {
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    },
}
NORMS["gemma3"] = {**NORMS["gemma2"], "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm"}
NORMS["gemma-embedding"] = NORMS["gemma3"]
WHOLE = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}


def written(path: Path, arch: str, config: Mapping[str, Any], weights: Mapping[str, np.ndarray], **more: Any) -> Path:
    """As llama.cpp's converter writes it: 1 is added to the weights of norms."""
    tensors = {}
    for name, array in weights.items():
        name = name.removeprefix("model.")
        array = array + 1 if name.endswith("norm.weight") else array
        if name in WHOLE:
            tensors[WHOLE[name]] = array
        else:
            _, number, inner = name.removesuffix(".weight").split(".", 2)
            tensors[f"blk.{number}.{({**LINEARS, **NORMS[arch]})[inner]}.weight"] = array
    tensors |= more.pop("tensors", {})
    metadata = {
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "block_count": config["num_hidden_layers"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.value_length": config["head_dim"],
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "context_length": config["max_position_embeddings"],
        **more,
    }
    if arch != "gemma":
        metadata["attention.sliding_window"] = config["sliding_window"]
    for key in ("attn_logit_softcapping", "final_logit_softcapping"):
        if config.get(key):
            metadata[key] = config[key]
    entries = {f"{arch}.{key}": value for key, value in metadata.items()}
    return files.write(path, arch, {**entries, **files.tokenizer_of("llama", config["vocab_size"])}, tensors)


GGUF = {
    "gemma": ("gemma", {"tie_word_embeddings": True, "head_dim": 16}, {}),
    "gemma2": (
        "gemma2",
        {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 16},
        {"rope.freq_base": 10000.0},
    ),
    "gemma2, wide": (
        "gemma2",
        {"num_hidden_layers": 46, "query_pre_attn_scalar": 12},  # the width of heads side by side
        {},
    ),
    "gemma3": ("gemma3_text", {"num_hidden_layers": 7, "query_pre_attn_scalar": 16}, {"rope.freq_base": 1e6}),
    "gemma3, linear": (
        "gemma3_text",
        {
            "num_hidden_layers": 7,
            "query_pre_attn_scalar": 16,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
        {"rope.freq_base": 1e6, "rope.scaling.type": "linear", "rope.scaling.factor": 8.0},
    ),
    "gemma3, newer": (
        "gemma3_text",
        {
            "query_pre_attn_scalar": 16,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 5000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
            },
        },
        {"rope.freq_base": 5000.0, "rope.freq_base_swa": 300.0, "attention.sliding_window_pattern": 2},
    ),
}


@pytest.mark.parametrize("name", GGUF)
def test_a_gguf_file_is_the_folder_that_it_is_made_of(tmp_path: Path, name: str) -> None:
    from safetensors.numpy import load_file

    model_type, changed, metadata = GGUF[name]
    common = {"vocab_size": 264, "head_dim": 16, "tie_word_embeddings": True}
    windowed = {} if model_type == "gemma" else {"sliding_window": 4}
    decoders.made(tmp_path / "m", model_type, {**common, **windowed, **changed})
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    weights = load_file(tmp_path / "m" / "model.safetensors")
    path = written(tmp_path / "m.gguf", name.split(",")[0], config, weights, **metadata)
    file, folder = aerogel.load(path), aerogel.load(tmp_path / "m")
    batch = decoders.sequences()
    np.testing.assert_allclose(file.forward(batch), folder.forward(batch), atol=1e-4, rtol=1e-5)
    aerogel.export(path, tmp_path / "whole")
    again = aerogel.load(tmp_path / "whole")
    np.testing.assert_allclose(again.forward(batch), folder.forward(batch), atol=1e-4, rtol=1e-5)


def test_a_gguf_file_of_embeddinggemma(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    changed = {**EMBEDDING, "vocab_size": 264, "query_pre_attn_scalar": 16, "num_hidden_layers": 7, "layer_types": None}
    decoders.made(tmp_path / "m", "gemma3_text", changed, "Model")
    as_sentence_transformer(tmp_path / "m", 48, 96)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    dense = {
        f"dense_{i}.weight": load_file(tmp_path / "m" / f"{i}_Dense" / "model.safetensors")["linear.weight"]
        for i in (2, 3)
    }
    weights = load_file(tmp_path / "m" / "model.safetensors")
    metadata = {"rope.freq_base": 1e6, "pooling_type": 1, "dense_2_feat_in": 48, "dense_2_feat_out": 96}
    file = aerogel.load(written(tmp_path / "m.gguf", "gemma-embedding", config, weights, tensors=dense, **metadata))
    folder = aerogel.load(tmp_path / "m")
    batch = decoders.sequences()
    np.testing.assert_allclose(
        file.forward(batch, output="embedding"), folder.forward(batch, output="embedding"), atol=1e-5
    )
