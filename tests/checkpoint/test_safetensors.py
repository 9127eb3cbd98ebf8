"""Hugging Face and sentence-transformers folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aerogel.checkpoint import Pooling, open_checkpoint
from aerogel.errors import (
    AerogelError,
    CheckpointError,
    ConfigError,
    DataError,
    MissingTensorsError,
    ShapeError,
    TokenizerError,
    UnsupportedModelError,
)

from .tiny_files import CONFIG, VOCAB, bert_tensors, tensor_bytes, write_bert, write_json, write_tokenizer


def test_folder(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_bert(tmp_path))
    arrays = bert_tensors()
    assert checkpoint.kind == "safetensors" and checkpoint.path == tmp_path
    assert checkpoint.config == CONFIG
    assert checkpoint.names() == sorted(arrays)
    for name, array in arrays.items():
        assert name in checkpoint
        assert checkpoint.shape(name) == array.shape
        np.testing.assert_array_equal(checkpoint.array(name), array, strict=True)
    weight = checkpoint.weight("embeddings.word_embeddings.weight")
    assert weight.shape == (len(VOCAB), 8) and weight.mask is None and weight.scale is None
    assert checkpoint.pooling is None and checkpoint.max_tokens is None
    assert checkpoint.tokenizer() is checkpoint.tokenizer()


def test_prefix_gamma_beta_and_buffers(tmp_path: Path) -> None:
    plain = bert_tensors()
    stored = {
        "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
        for name, array in plain.items()
    }
    stored["bert.embeddings.position_ids"] = np.arange(16)
    stored["cls.predictions.bias"] = np.zeros(len(VOCAB), np.float32)
    checkpoint = open_checkpoint(write_bert(tmp_path, stored))
    assert checkpoint.names() == sorted([*plain, "cls.predictions.bias"])
    name = "embeddings.LayerNorm.weight"
    np.testing.assert_array_equal(checkpoint.array(name), plain[name])


def test_lone_file_and_other_file_name(tmp_path: Path) -> None:
    write_bert(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    for path in (tmp_path, tmp_path / "other.safetensors"):
        assert open_checkpoint(path).names() == sorted(bert_tensors())
    (tmp_path / "second.safetensors").write_bytes(tensor_bytes({}))
    with pytest.raises(CheckpointError, match=r"found other\.safetensors, second\.safetensors"):
        open_checkpoint(tmp_path)


def test_missing_tensors_are_listed_together(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_bert(tmp_path))
    checkpoint.require(checkpoint.names())
    with pytest.raises(MissingTensorsError, match=r"2 tensors are missing: p\.weight, q\.weight") as caught:
        checkpoint.require(["q.weight", "embeddings.LayerNorm.bias", "p.weight"])
    assert caught.value.names == ["p.weight", "q.weight"]
    for read in (checkpoint.array, checkpoint.weight, checkpoint.shape):
        with pytest.raises(MissingTensorsError, match="nothing"):
            read("nothing")


def test_non_finite_weights_name_the_tensor(tmp_path: Path) -> None:
    arrays = bert_tensors()
    name = "encoder.layer.0.output.dense.weight"
    arrays[name][3, 2] = np.nan
    checkpoint = open_checkpoint(write_bert(tmp_path, arrays))
    for read in (checkpoint.array, checkpoint.weight):
        with pytest.raises(DataError, match=name + ": expected finite values, got 1 of 128"):
            read(name)
    checkpoint.weight("encoder.layer.0.intermediate.dense.weight")


def test_a_vector_is_no_matrix(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"embeddings.LayerNorm.bias: expected a matrix \[N, K\], got \[8\]"):
        open_checkpoint(write_bert(tmp_path)).weight("embeddings.LayerNorm.bias")


def shard(folder: Path) -> dict[str, Any]:
    arrays = bert_tensors("bert.")
    names = list(arrays)
    files = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    write_bert(folder)
    (folder / "model.safetensors").unlink()
    for file, members in files.items():
        (folder / file).write_bytes(tensor_bytes({name: arrays[name] for name in members}))
    return {"metadata": {}, "weight_map": {name: file for file, members in files.items() for name in members}}


def test_shards(tmp_path: Path) -> None:
    write_json_index(tmp_path, shard(tmp_path))
    checkpoint = open_checkpoint(tmp_path)
    for name, array in bert_tensors().items():
        np.testing.assert_array_equal(checkpoint.array(name), array)


def test_shard_index_that_does_not_fit(tmp_path: Path) -> None:
    index = shard(tmp_path)
    second = tmp_path / "model-00002-of-00002.safetensors"
    index["weight_map"]["bert.extra.weight"] = second.name
    index["weight_map"]["bert.more.weight"] = second.name
    write_json_index(tmp_path, index)
    with pytest.raises(MissingTensorsError, match=r"2 tensors are missing: bert.extra.weight \(in model-00002"):
        open_checkpoint(tmp_path)
    second.unlink()
    with pytest.raises(CheckpointError, match="1 of 2 shards are missing: model-00002-of-00002"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("weight_map", [None, [], {}, {"a": 1}, {"a": "../model.safetensors"}, {"a": "/etc/passwd"}])
def test_broken_shard_index(tmp_path: Path, weight_map: Any) -> None:
    shard(tmp_path)
    write_json_index(tmp_path, {"weight_map": weight_map})
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json"):
        open_checkpoint(tmp_path)


def write_json_index(folder: Path, index: dict[str, Any]) -> None:
    write_json(folder / "model.safetensors.index.json", index)


def test_folders_without_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="found no weights"):
        open_checkpoint(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin.*save_pretrained"):
        open_checkpoint(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedModelError, match="adapter"):
        open_checkpoint(tmp_path)


def test_neither_path_nor_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file or folder"):
        open_checkpoint(tmp_path / "none" / "at all")
    text = tmp_path / "readme.txt"
    text.write_text("hello")
    with pytest.raises(CheckpointError, match=r"expected a model folder, a \.safetensors or a \.gguf file"):
        open_checkpoint(text)


def test_quantized_by_another_tool(tmp_path: Path) -> None:
    write_bert(tmp_path, config={"quantization_config": {"quant_method": "gptq", "bits": 4}})
    with pytest.raises(UnsupportedModelError, match="gptq"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"a": 1', "\x00", "[" * 100_000])
def test_config_that_is_no_object(tmp_path: Path, text: str) -> None:
    write_bert(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json"):
        open_checkpoint(tmp_path)


def test_config_is_missing(tmp_path: Path) -> None:
    write_bert(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"expected a config\.json"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", None),
        ("model_type", 3),
        ("hidden_size", "8"),
        ("hidden_size", 8.0),
        ("hidden_size", True),
        ("num_hidden_layers", -1),
        ("vocab_size", 2**40),
        ("layer_norm_eps", 0),
        ("layer_norm_eps", float("nan")),
        ("rope_theta", float("inf")),
        ("hidden_act", 3),
        ("tie_word_embeddings", "yes"),
        ("eos_token_id", "2"),
        ("eos_token_id", [1, None]),
        ("bos_token_id", [1]),
    ],
)
def test_config_values_of_the_wrong_type(tmp_path: Path, key: str, value: Any) -> None:
    write_bert(tmp_path, config={key: value})
    with pytest.raises(ConfigError, match=rf"config\.json: {key}: expected"):
        open_checkpoint(tmp_path)


def sentence_transformer(folder: Path, modules: list[str], pooling: dict[str, Any], where: str = "") -> Path:
    write_bert(folder / where)
    types = [{"idx": i, "type": f"sentence_transformers.models.{kind}"} for i, kind in enumerate(modules)]
    for module in types:
        kind = module["type"].rpartition(".")[2]
        module["path"] = {"Transformer": where, "Pooling": "1_Pooling"}.get(kind, "2_" + kind)
    write_json(folder / "modules.json", types)
    (folder / "1_Pooling").mkdir()
    write_json(folder / "1_Pooling" / "config.json", pooling)
    return folder


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": ["lasttoken"]}, "last"),
    ],
)
@pytest.mark.parametrize("where", ["", "0_Transformer"])
def test_sentence_transformers(tmp_path: Path, config: dict[str, Any], mode: str, where: str) -> None:
    folder = sentence_transformer(tmp_path, ["Transformer", "Pooling", "Normalize"], config, where)
    write_json(folder / where / "sentence_bert_config.json", {"max_seq_length": 12, "do_lower_case": True})
    checkpoint = open_checkpoint(folder)
    assert checkpoint.pooling == Pooling((mode,), normalize=True)
    assert checkpoint.max_tokens == 12
    assert checkpoint.tokenizer().encode(["HELLO"]) == [[2, 7, 3]]


def test_sentence_transformers_without_normalize(tmp_path: Path) -> None:
    folder = sentence_transformer(tmp_path, ["Transformer", "Pooling"], {"pooling_mode_cls_token": True})
    assert open_checkpoint(folder).pooling == Pooling(("cls",), normalize=False)


@pytest.mark.parametrize(
    ("modules", "config", "message"),
    [
        (["Transformer", "Pooling", "CNN"], {"pooling_mode_cls_token": True}, "module 'CNN'"),
        (["Transformer", "LayerNorm"], {}, "module 'LayerNorm'"),
        (["Transformer", "Pooling", "Pooling"], {"pooling_mode_cls_token": True}, "module 'Pooling'"),
        (["Transformer", "Pooling"], {"pooling_mode": "attention"}, "attention"),
        (["Transformer", "Pooling"], {"pooling_mode_attention": True}, "pooling_mode_attention"),
    ],
)
def test_unsupported_modules(tmp_path: Path, modules: list[str], config: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        open_checkpoint(sentence_transformer(tmp_path, modules, config))


@pytest.mark.parametrize(
    "modules", [{}, [3], [{"type": 3}], [{"type": "x.Pooling", "path": "../../etc"}], [{"path": ""}]]
)
def test_broken_modules(tmp_path: Path, modules: Any) -> None:
    write_bert(tmp_path)
    write_json(tmp_path / "modules.json", modules)
    with pytest.raises(ConfigError, match=r"modules\.json"):
        open_checkpoint(tmp_path)


def test_tokenizer_is_missing_or_broken(tmp_path: Path) -> None:
    write_bert(tmp_path)
    file = tmp_path / "tokenizer.json"
    for text in ("", "{", "{}", '{"model": {"type": "WordPiece"}}', "[]"):
        file.write_text(text)
        with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
            open_checkpoint(tmp_path).tokenizer()
    file.unlink()
    with pytest.raises(TokenizerError, match=r"expected a tokenizer\.json"):
        open_checkpoint(tmp_path).tokenizer()


def test_vocab_txt_alone_gives_the_same_tokenizer(tmp_path: Path) -> None:
    reference = open_checkpoint(write_bert(tmp_path / "json")).tokenizer()
    folder = write_bert(tmp_path / "txt")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(VOCAB) + "\n", encoding="utf-8")
    texts = ["Hello, worlds!", "ÄB a\u0085b", "", "hello [MASK] 世界"]
    assert open_checkpoint(folder).tokenizer().encode(texts) == reference.encode(texts)
    write_json(folder / "tokenizer_config.json", {"do_lower_case": False})
    assert open_checkpoint(folder).tokenizer().encode(["Hello"]) == [[2, 1, 3]]
    (folder / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(TokenizerError, match=r"\[UNK\], \[CLS\], \[SEP\] missing"):
        open_checkpoint(folder).tokenizer()
    (folder / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(TokenizerError, match="UTF-8"):
        open_checkpoint(folder).tokenizer()


def test_special_ids(tmp_path: Path) -> None:
    write_bert(tmp_path)
    write_tokenizer(tmp_path, bos_token="[CLS]", eos_token={"content": "[SEP]"})
    tokenizer = open_checkpoint(tmp_path).tokenizer()
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (2, (3,))
    write_json(tmp_path / "config.json", {**CONFIG, "bos_token_id": 5, "eos_token_id": 6})
    tokenizer = open_checkpoint(tmp_path).tokenizer()
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (5, (6,))
    write_json(tmp_path / "generation_config.json", {"eos_token_id": [7, 8]})
    tokenizer = open_checkpoint(tmp_path).tokenizer()
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (5, (7, 8))
    for wrong in ("x", ["7"], 1.5, True):
        write_json(tmp_path / "generation_config.json", {"eos_token_id": wrong})
        with pytest.raises(ConfigError, match=r"generation_config\.json: eos_token_id: expected a token id"):
            open_checkpoint(tmp_path).tokenizer()


def test_every_json_file_may_be_broken(tmp_path: Path) -> None:
    folder = sentence_transformer(tmp_path, ["Transformer", "Pooling"], {"pooling_mode_cls_token": True})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 12})
    write_json(folder / "generation_config.json", {})
    for file in [path for path in folder.rglob("*.json")]:
        good = file.read_text()
        for bad in ("", good[: len(good) // 2], "null", "[1]", '"x"', json.dumps({"max_seq_length": "9"})):
            file.write_text(bad)
            try:
                open_checkpoint(folder).tokenizer()
            except AerogelError as error:
                assert str(folder) in str(error)
        file.write_text(good)
    open_checkpoint(folder).tokenizer()


@pytest.mark.parametrize(("said", "limit"), [(16, 16), (16.0, 16), (10**30, None), (1e30, None), (None, None)])
def test_a_limit_in_the_tokenizer_settings(tmp_path: Path, said: Any, limit: int | None) -> None:
    write_bert(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": said})
    assert open_checkpoint(tmp_path).max_tokens == limit


def test_a_limit_of_sentence_transformers_comes_first(tmp_path: Path) -> None:
    folder = sentence_transformer(tmp_path, ["Transformer", "Pooling"], {"pooling_mode_cls_token": True})
    write_json(folder / "tokenizer_config.json", {"model_max_length": 16})
    assert open_checkpoint(folder).max_tokens == 16
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 12})
    assert open_checkpoint(folder).max_tokens == 12


@pytest.mark.parametrize("said", ["16", 0, -1, 1.5, True, [16]])
def test_a_broken_limit(tmp_path: Path, said: Any) -> None:
    write_bert(tmp_path)
    write_json(tmp_path / "tokenizer_config.json", {"model_max_length": said})
    with pytest.raises(ConfigError, match="model_max_length: expected a positive whole number"):
        _ = open_checkpoint(tmp_path).max_tokens


def test_tensors_that_share_memory_have_all_their_names(tmp_path: Path) -> None:
    """`save_model` of the safetensors package stores one of them, and the other name in the metadata."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_model

    net = torch.nn.Module()
    net.embed_tokens, net.lm_head = torch.nn.Embedding(7, 4), torch.nn.Linear(4, 7, bias=False)
    net.lm_head.weight = net.embed_tokens.weight
    write_bert(tmp_path)
    save_model(net, str(tmp_path / "model.safetensors"), metadata={"format": "pt", "note": "nothing that is stored"})
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.names() == ["embed_tokens.weight", "lm_head.weight"]
    for name in checkpoint.names():
        np.testing.assert_array_equal(checkpoint.array(name), net.lm_head.weight.detach().numpy())


def test_float64_is_rounded(tmp_path: Path) -> None:
    plain = bert_tensors()
    checkpoint = open_checkpoint(write_bert(tmp_path, {k: v.astype(np.float64) + 1e-12 for k, v in plain.items()}))
    name = "encoder.layer.0.output.dense.weight"
    np.testing.assert_array_equal(checkpoint.weight(name).values, plain[name], strict=True)
    wide = {**plain, name: plain[name].astype(np.float64) * 1e300}
    with pytest.raises(DataError, match="finite"):
        open_checkpoint(write_bert(tmp_path / "wide", wide)).array(name)


def test_names_of_tools_around_a_model(tmp_path: Path) -> None:
    plain = bert_tensors()
    changes = (
        lambda n: n.replace(".dense.weight", ".dense.module.weight").replace(".dense.bias", ".dense.module.bias"),
        lambda n: "_orig_mod." + n,
        lambda n: "module.bert." + n,
        lambda n: "0.auto_model." + n,
    )
    for i, change in enumerate(changes):
        checkpoint = open_checkpoint(write_bert(tmp_path / str(i), {change(k): v for k, v in plain.items()}))
        assert checkpoint.names() == sorted(plain)


def test_masks_of_torch_prune(tmp_path: Path) -> None:
    plain, name = bert_tensors(), "encoder.layer.0.output.dense.weight"
    mask = (np.arange(plain[name].size).reshape(plain[name].shape) % 3 > 0).astype(np.float32)
    rest = {k: v for k, v in plain.items() if k != name}
    checkpoint = open_checkpoint(write_bert(tmp_path, {**rest, name + "_orig": plain[name], name + "_mask": mask}))
    assert checkpoint.names() == sorted(plain)
    for values in (checkpoint.array(name), checkpoint.weight(name).values):
        np.testing.assert_array_equal(values, plain[name] * mask)
    for broken in ({name + "_orig": plain[name]}, {name + "_orig": plain[name], name + "_mask": mask[:1]}):
        with pytest.raises(CheckpointError, match="_mask|mask of its shape"):
            open_checkpoint(write_bert(tmp_path / "broken", {**rest, **broken}))
    half = {**rest, name + "_orig": plain[name], name + "_mask": mask / 2}
    with pytest.raises(CheckpointError, match="zeros and ones"):
        open_checkpoint(write_bert(tmp_path / "half", half)).array(name)


def test_adapters_are_refused(tmp_path: Path) -> None:
    write_bert(tmp_path)
    write_json(tmp_path / "adapter_config.json", {"peft_type": "LORA"})
    with pytest.raises(UnsupportedModelError, match="adapters are not applied"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("same", [True, False])
def test_a_head_beside_the_embeddings_that_it_is_tied_to(
    tmp_path: Path, same: bool, caplog: pytest.LogCaptureFixture
) -> None:
    plain, head = bert_tensors(), "cls.predictions.decoder.weight"
    words = plain["embeddings.word_embeddings.weight"]
    checkpoint = open_checkpoint(write_bert(tmp_path, {**plain, head: words if same else words + 1}))
    assert checkpoint.config.get("tie_word_embeddings", True) is same
    assert (head in caplog.text) is not same
