"""Export to a plain folder: names, types, shards, filled-up widths; and what transformers makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

import aerogel
from aerogel.architectures import FAMILIES
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import DataError, RecipeError, UnsupportedModelError
from aerogel.numbers.bf16 import narrow, widen

from .. import tiny_models
from ..conftest import random_ids
from ..reference import compressed_tensors as ct

LABELS = {"0": "no", "1": "yes", "2": "perhaps"}
QWEN = {**tiny_models.LLAMA, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": False}
MODELS: dict[str, dict[str, Any]] = {
    "bert": tiny_models.BERT,
    "classifier": {**tiny_models.BERT, "architectures": ["BertForSequenceClassification"], "id2label": LABELS},
    "mlm": {**tiny_models.BERT, "architectures": ["BertForMaskedLM"]},
    "llama": tiny_models.LLAMA,
    "bare llama": {**tiny_models.LLAMA, "architectures": ["LlamaModel"]},
    "qwen2": QWEN,
}
PREFIX = {"bert": "", "classifier": "bert.", "mlm": "bert.", "llama": "model.", "bare llama": "", "qwen2": "model."}


def written(folder: Path, kind: str) -> Path:
    config = MODELS[kind]
    make = tiny_models.bert_weights if config["model_type"] == "bert" else tiny_models.llama_weights
    return tiny_models.write(folder, config, make(config), prefix=PREFIX[kind])


def stored(folder: Path, file: str = "model.safetensors") -> dict[str, np.ndarray]:
    with safe_open(folder / file, "numpy") as opened:
        assert opened.metadata() == {"format": "pt", "writer": "aerogel"}
        return {name: opened.get_tensor(name) for name in opened.keys()}


def in_transformers(folder: Path, ids: list[int], complete: bool = True) -> dict[str, np.ndarray]:
    """ "hidden" and, of a model with a head, "logits" of one sequence, by the class that the config names."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = json.loads((folder / "config.json").read_text())
    model, info = getattr(transformers, config["architectures"][0]).from_pretrained(folder, output_loading_info=True)
    assert not info["unexpected_keys"] and not info["mismatched_keys"]
    if complete:
        assert not [key for key in info["missing_keys"] if "decoder" not in key]  # tied ones may be listed
    model.eval()
    with torch.no_grad():
        result = model(torch.tensor([ids]), output_hidden_states=True)
    found = {"hidden": result.hidden_states[-1][0].float().numpy()}
    if hasattr(result, "logits"):
        found["logits"] = result.logits[0].float().numpy()
    return found


def close(a: np.ndarray, b: np.ndarray) -> None:
    assert a.shape == b.shape and np.abs(a - b).max() <= 1e-4 * max(1, np.abs(b).max())


@pytest.mark.parametrize("kind", list(MODELS))
def test_names_and_values_are_those_of_the_class(tmp_path: Path, kind: str) -> None:
    source = written(tmp_path / "source", kind)
    report = aerogel.export(source, tmp_path / "out")
    before, after = (stored_plain(path) for path in (source, tmp_path / "out"))
    assert before.keys() == after.keys()
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, strict=True)
    assert report.files == ["model.safetensors"] and report.dtype == "float32" and report.sparsity == 0
    assert report.file_bytes == (tmp_path / "out" / "model.safetensors").stat().st_size
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == {**MODELS[kind], "torch_dtype": "float32"}


def stored_plain(folder: Path) -> dict[str, np.ndarray]:
    with safe_open(folder / "model.safetensors", "numpy") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}


@pytest.mark.parametrize("kind", list(MODELS))
def test_transformers_runs_it_as_aerogel_does(tmp_path: Path, kind: str) -> None:
    aerogel.compress(written(tmp_path / "source", kind), tmp_path / "packed", sparsity=0.7, method="magnitude")
    report = aerogel.export(tmp_path / "packed", tmp_path / "out")
    assert report.sparsity == pytest.approx(0.7, abs=0.02)
    ids = random_ids(MODELS[kind]["vocab_size"], 17)
    found = in_transformers(tmp_path / "out", ids, complete=kind != "bert")  # no pooler in a packed model
    model = aerogel.load(tmp_path / "out")
    if "hidden" in model.outputs and "llama" not in kind and kind != "qwen2":
        close(model.forward(ids, output="hidden"), found["hidden"])
    if kind == "classifier":
        close(model.forward(ids, output="scores")[0], found["logits"])
    elif "logits" in found:
        close(model.forward(ids, output="logits"), found["logits"])
    else:
        close(model.forward(ids, output="hidden"), found["hidden"])


def test_minilm_80_percent_in_transformers(minilm: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    aerogel.compress(minilm, tmp_path / "packed", sparsity=0.8, method="magnitude")
    report = aerogel.export(tmp_path / "packed", tmp_path / "out")
    assert report.sparsity == pytest.approx(0.8, abs=0.001)
    model, ours = transformers.AutoModel.from_pretrained(tmp_path / "out"), aerogel.load(tmp_path / "out")
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")("Zeros in place: nobody is locked in.")[
        "input_ids"
    ]
    with torch.no_grad():
        hidden = model(torch.tensor([ids])).last_hidden_state[0].numpy()
    assert np.abs(ours.forward(ids, output="hidden") - hidden).max() <= 1e-4
    sentence = pytest.importorskip("sentence_transformers").SentenceTransformer(str(tmp_path / "out"), device="cpu")
    text = ["A folder of sentence-transformers, too."]
    np.testing.assert_allclose(sentence.encode(text), ours.encode(text), rtol=0, atol=1e-5)


def test_zeros_survive_the_round_trip(tmp_path: Path, bert_folder: Path) -> None:
    first = aerogel.compress(bert_folder, tmp_path / "packed", sparsity=0.8, method="magnitude")
    aerogel.export(tmp_path / "packed", tmp_path / "out")
    second = aerogel.compress(tmp_path / "out", tmp_path / "again", sparsity=0)
    assert second.sparsity == first.sparsity > 0.79
    a, b = open_checkpoint(tmp_path / "packed"), open_checkpoint(tmp_path / "again")
    for name in a.names():
        np.testing.assert_array_equal(a.array(name) == 0, b.array(name) == 0)
    assert a.pooling == b.pooling == open_checkpoint(tmp_path / "out").pooling
    assert a.max_tokens == b.max_tokens == 32
    assert aerogel.load(tmp_path / "out").encode("the cat").shape == (48,)


@pytest.mark.parametrize(("dtype", "step"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_half_the_bytes(tmp_path: Path, bert_folder: Path, dtype: str, step: float) -> None:
    aerogel.export(bert_folder, tmp_path / "out", dtype)
    before, after = open_checkpoint(bert_folder), open_checkpoint(tmp_path / "out")
    for name in before.names():
        w = before.array(name)
        expected = widen(narrow(w)) if dtype == "bfloat16" else w.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(after.array(name), expected)
        assert np.abs(expected - w).max() <= step * np.abs(w).max()
    assert after.config["torch_dtype"] == dtype


def test_too_large_for_float16(tmp_path: Path) -> None:
    weights = tiny_models.bert_weights(tiny_models.BERT)
    weights["encoder.layer.1.output.dense.weight"][3, 4] = 1e6
    source = tiny_models.write(tmp_path / "source", tiny_models.BERT, weights)
    with pytest.raises(DataError, match=r"layer\.1\.output\.dense\.weight: expected at most 65504.*got 1e\+06"):
        aerogel.export(source, tmp_path / "out", "float16")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]  # nothing half written stays


def test_shards(tmp_path: Path, llama_folder: Path) -> None:
    limit = 30_000
    seen: list[tuple[int, int, str]] = []
    report = aerogel.export(llama_folder, tmp_path / "out", max_shard_bytes=limit, progress=lambda *a: seen.append(a))
    assert len(report.files) > 2 and report.files[0] == f"model-00001-of-{len(report.files):05}.safetensors"
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    total = 0
    for file in report.files:
        tensors = stored(tmp_path / "out", file)
        assert tensors.keys() == {name for name, at in index["weight_map"].items() if at == file}
        size = sum(array.nbytes for array in tensors.values())
        assert size <= limit or len(tensors) == 1
        total += size
    assert index["metadata"]["total_size"] == total
    count = len(index["weight_map"])
    assert [done for done, _, _ in seen] == list(range(1, count + 1)) and seen[-1][1] == count
    ids = random_ids(19, 9)
    a, b = aerogel.load(llama_folder).forward(ids), aerogel.load(tmp_path / "out").forward(ids)
    np.testing.assert_array_equal(a, b)
    close(in_transformers(tmp_path / "out", ids)["logits"], a)


def test_gguf(tmp_path: Path) -> None:
    from ..checkpoint import tiny_files as files

    files.write_gguf(tmp_path / "m.gguf")
    aerogel.export(tmp_path / "m.gguf", tmp_path / "out")
    ids = [5, 6, 7, 8, 30]
    expected = aerogel.load(tmp_path / "m.gguf").forward(ids)
    np.testing.assert_array_equal(aerogel.load(tmp_path / "out").forward(ids), expected)
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "hello world, 12 <|end|>"
    assert tokenizer(text)["input_ids"] == aerogel.load(tmp_path / "m.gguf").tokenizer.encode([text])[0]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.model_max_length) == (0, 1, 128)
    close(in_transformers(tmp_path / "out", ids)["logits"], expected)


def test_a_tokenizer_without_a_config(tmp_path: Path, bert_folder: Path, llama_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    for source in (bert_folder, llama_folder):
        out = tmp_path / source.name
        aerogel.export(source, out)
        tokenizer = transformers.AutoTokenizer.from_pretrained(out)
        for text in ("the cat sat on a mat", "zebra, the"):
            assert tokenizer(text)["input_ids"] == aerogel.load(source).tokenizer.encode([text])[0]


def test_compressed_tensors(tmp_path: Path) -> None:
    config, tensors = MODELS["mlm"], {}
    for name, w in tiny_models.bert_weights(config).items():
        name = name if name.startswith("cls.") else "bert." + name
        w = np.where(np.abs(w) < 0.2, np.float32(0), w)
        tensors.update(ct.behind_mask(name, w, old=True))
    entry = ct.compression(None, version="0.8.1", sparsity_config={"format": "sparse-bitmask"})
    source = tiny_models.write(tmp_path / "source", {**config, "compression_config": entry}, {})
    (source / "model.safetensors").write_bytes(ct.safetensors(tensors))
    assert aerogel.export(source, tmp_path / "out").sparsity > 0.4
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert written == {**config, "torch_dtype": "float32"}
    ids = random_ids(60, 12)
    close(in_transformers(tmp_path / "out", ids)["logits"], aerogel.load(source).forward(ids, output="logits"))


def random_model(folder: Path, config: dict[str, Any], prefix: str) -> Path:
    """Every tensor of the architecture that the config describes, drawn at random."""
    rng = np.random.default_rng(4)
    family = FAMILIES[config["model_type"]]
    weights = {
        t.name: (rng.standard_normal(t.shape) * 0.2 + ("norm" in t.label and not t.name.endswith("bias"))).astype("f4")
        for t in family(config, [], None).tensors()
    }
    return tiny_models.write(folder, config, weights, prefix=prefix)


WIDTHS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "bert": (
        {"attention_heads": [3, 2], "intermediate_sizes": [7, 90], "num_attention_heads": 3, "intermediate_size": 90},
        {"num_attention_heads": 4, "intermediate_size": 90},
    ),
    "bert without blocks": (
        {"attention_heads": [0, 4], "intermediate_sizes": [0, 33], "num_attention_heads": 4, "intermediate_size": 33},
        {"num_attention_heads": 4, "intermediate_size": 33},
    ),
    "bert, all layers the same": ({"num_attention_heads": 2}, {"num_attention_heads": 4, "intermediate_size": 100}),
    "llama": (
        {
            "attention_heads": [4, 2],
            "key_value_heads": [2, 2],
            "intermediate_sizes": [7, 90],
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 90,
        },
        {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 90},
    ),
    "llama, shared differently": (
        {
            "attention_heads": [3, 4],
            "key_value_heads": [1, 4],
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
        },
        {"num_attention_heads": 12, "num_key_value_heads": 4, "intermediate_size": 100},
    ),
    "llama without blocks": (
        {
            "attention_heads": [0, 5],
            "key_value_heads": [0, 5],
            "intermediate_sizes": [33, 0],
            "num_attention_heads": 5,
            "num_key_value_heads": 5,
            "intermediate_size": 33,
        },
        {"num_attention_heads": 6, "num_key_value_heads": 6, "intermediate_size": 33},
    ),
}


@pytest.mark.parametrize("kind", list(WIDTHS))
def test_layers_of_different_widths_are_filled_up(tmp_path: Path, kind: str) -> None:
    widths, expected = WIDTHS[kind]
    base = tiny_models.BERT if kind.startswith("bert") else tiny_models.LLAMA
    config = {**base, **widths, "head_dim": 12 if kind.startswith("bert") else 8}
    source = random_model(tmp_path / "source", config, "" if kind.startswith("bert") else "model.")
    aerogel.export(source, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "config.json").read_text())
    assert {key: written[key] for key in expected} == expected
    assert not {"attention_heads", "key_value_heads", "intermediate_sizes"} & written.keys()
    assert ("head_dim" in written) == kind.startswith("llama")
    ids = random_ids(19, 11)
    before = aerogel.load(source).forward(ids, output="hidden")
    close(aerogel.load(tmp_path / "out").forward(ids, output="hidden"), before)
    found = in_transformers(tmp_path / "out", ids, complete=kind.startswith("llama"))
    if kind.startswith("llama"):
        close(found["logits"], aerogel.load(source).forward(ids, output="logits"))
    else:
        close(found["hidden"], before)


def test_fewer_hidden_channels_stay_fewer(tmp_path: Path) -> None:
    # 36 = 3 heads of 12: transformers has such a model
    config = {
        **tiny_models.BERT,
        "hidden_size": 36,
        "num_attention_heads": 3,
        "attention_heads": [3, 2],
        "head_dim": 12,
    }
    source = random_model(tmp_path / "source", config, "")
    aerogel.export(source, tmp_path / "out")
    ids = random_ids(19, 11)
    before = aerogel.load(source).forward(ids, output="hidden")
    close(in_transformers(tmp_path / "out", ids, complete=False)["hidden"], before)
    assert before.shape == (11, 36)
    config = {**config, "hidden_size": 24}  # 3 heads of 12 do not fit
    source = random_model(tmp_path / "narrow", config, "")
    with pytest.raises(UnsupportedModelError, match="3 heads of 12 in a hidden width of 24"):
        aerogel.export(source, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_nothing_is_overwritten(tmp_path: Path, bert_folder: Path) -> None:
    aerogel.compress(bert_folder, tmp_path / "packed", sparsity=0.5, method="magnitude")
    (tmp_path / "file").write_text("x")
    for target, message in (
        (bert_folder, "is not empty and not a model that aerogel wrote"),
        (tmp_path / "file", "exists and is not a folder"),
    ):
        for overwrite in (False, True):
            with pytest.raises(RecipeError, match=message):
                aerogel.export(tmp_path / "packed", target, overwrite=overwrite)
    with pytest.raises(RecipeError, match="packed: is the model that is read"):
        aerogel.export(tmp_path / "packed", tmp_path / "packed", overwrite=True)
    (tmp_path / "empty").mkdir()
    aerogel.export(tmp_path / "packed", tmp_path / "empty")
    assert (tmp_path / "empty" / "config.json").exists()


def test_an_exported_model_is_replaced_where_that_is_said(tmp_path: Path, bert_folder: Path) -> None:
    for shard_bytes in (None, 100_000):  # sharded or not
        aerogel.export(bert_folder, tmp_path / "out", max_shard_bytes=shard_bytes, overwrite=True)
        with pytest.raises(RecipeError, match="out: a model stands there: .* replace it with --overwrite"):
            aerogel.export(bert_folder, tmp_path / "out")
    aerogel.compress(bert_folder, tmp_path / "out", overwrite=True)  # whoever wrote it
    assert not list((tmp_path / "out").glob("model-*"))


def test_unknown_settings(tmp_path: Path, bert_folder: Path) -> None:
    with pytest.raises(RecipeError, match="dtype: expected one of float32, bfloat16, float16, got 'int8'"):
        aerogel.export(bert_folder, tmp_path / "out", "int8")
    with pytest.raises(RecipeError, match="max_shard_bytes: expected at least 1, got 0"):
        aerogel.export(bert_folder, tmp_path / "out", max_shard_bytes=0)


def test_the_function_is_not_hidden_by_its_module() -> None:
    import aerogel.exporting

    assert callable(aerogel.export) and aerogel.export is aerogel.exporting.export


def test_command(tmp_path: Path, bert_folder: Path) -> None:
    from typer.testing import CliRunner

    from aerogel.cli.app import app

    result = CliRunner().invoke(app, ["export", str(bert_folder), "-o", str(tmp_path / "out"), "--dtype", "bfloat16"])
    said = " ".join(result.stderr.split())
    assert result.exit_code == 0 and result.stdout == "" and "MB of bfloat16; 0.0% of the linear" in said
    assert open_checkpoint(tmp_path / "out").names() == open_checkpoint(bert_folder).names()
