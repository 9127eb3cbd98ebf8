"""Vectors and weights of tokens: ColBERT as PyLate and Stanford write it, and BGE-M3's heads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import aerogel
from aerogel.engine.token_vectors import maxsim
from aerogel.errors import CheckpointError, ConfigError, MissingTensorsError, UnsupportedModelError

from ..architectures import peers

TEXTS = ["the cat sat on the mat", "a dog", "", "red red blue cat red"]
RANDOM = np.random.default_rng(0)
WIDE, NARROW = (RANDOM.standard_normal(shape).astype(np.float32) / 6 for shape in ((24, 32), (16, 24)))


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def base(folder: Path, name: str = "BertModel", **config: Any) -> Any:
    net = peers.save(folder, name, **{**peers.SIZES, **config})
    peers.tokenizer(folder)
    return net


def hidden(net: Any, ids: list[list[int]]) -> list[np.ndarray]:
    return np.split(peers.outputs(net, ids)["hidden"], np.cumsum([len(one) for one in ids])[:-1])


def check_written(folder: Path, tmp_path: Path, expected: list[np.ndarray]) -> None:
    """Packed and exported it says the same."""
    aerogel.compress(folder, tmp_path / "packed", sparsity=0.0, quant="none")
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    for written in ("packed", "plain"):
        for got, wanted in zip(aerogel.load(tmp_path / written).encode_tokens(TEXTS), expected, strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-4)


def test_pylate(tmp_path: Path) -> None:
    """Linears without a pooling before them, as modules."""
    folder = tmp_path / "model"
    net = base(folder)
    modules = [("", "sentence_transformers.models.Transformer"), ("1_Dense", "pylate.models.Dense.Dense")]
    modules += [("2_Dense", "pylate.models.Dense.Dense")]
    listed = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20, "do_lower_case": False}))
    said = {"query_prefix": "[Q] ", "query_length": 32, "prompts": {"query": "a "}, "skiplist_words": ["!"]}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said))
    for i, (weight, function) in enumerate(((WIDE, "activation.GELU"), (NARROW, "linear.Identity")), 1):
        (folder / f"{i}_Dense").mkdir()
        save_file({"linear.weight": weight}, folder / f"{i}_Dense" / "model.safetensors")
        config = {"in_features": weight.shape[1], "out_features": len(weight), "bias": False, "use_residual": False}
        config["activation_function"] = f"torch.nn.modules.{function}"
        (folder / f"{i}_Dense" / "config.json").write_text(json.dumps(config))
    model = aerogel.load(folder)
    assert model.outputs == ("hidden", "tokens") and model.max_tokens == 20
    import torch

    def expected(texts: list[str]) -> list[np.ndarray]:
        rows = [torch.from_numpy(h) @ torch.from_numpy(WIDE.T) for h in hidden(net, model.tokenizer.encode(texts, 20))]
        return [unit((torch.nn.functional.gelu(row) @ torch.from_numpy(NARROW.T)).numpy()) for row in rows]

    found, wanted = model.encode_tokens(TEXTS), expected(TEXTS)
    assert [len(rows) for rows in found] == [len(rows) for rows in wanted]
    for got, row in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, row, atol=1e-4)
    np.testing.assert_allclose(model.encode_tokens("dog", prompt_name="query"), expected(["a dog"])[0], atol=1e-4)
    check_written(folder, tmp_path, wanted)
    assert aerogel.load(tmp_path / "packed").prompts == {"query": "a "}
    assert maxsim(found[0], found[0]) == pytest.approx(len(found[0]), abs=1e-4)
    assert maxsim(found[1], found[0]) < len(found[1])


def test_modules_that_add_their_input(tmp_path: Path) -> None:
    """PyLate's use_residual: the input as it is, or through a linear of its own. Files name MaxSim as the similarity."""
    folder = tmp_path / "model"
    net = base(folder, architectures=["HF_ColBERT"])
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, "linear.weight": NARROW}, folder / "model.safetensors")  # which the modules have, too
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}))
    square, beside = WIDE[:16, :16].copy(), WIDE[:16]
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for i, (weights, inputs) in enumerate(
        (({"linear.weight": WIDE[8:], "residual.weight": beside}, 32), ({"linear.weight": square}, 16)), 1
    ):
        path = folder / f"{i}_Dense"
        path.mkdir()
        save_file(weights, path / "model.safetensors")
        said = {"in_features": inputs, "out_features": 16, "bias": False, "use_residual": True}
        said["activation_function"] = "torch.nn.modules.linear.Identity"
        (path / "config.json").write_text(json.dumps(said))
        listed.append({"idx": i, "name": str(i), "path": path.name, "type": "pylate.models.Dense.Dense"})
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": "MaxSim"}))
    model = aerogel.load(folder)
    assert model.similarity_fn_name == "cosine" and not model.says_similarity
    rows = [h @ WIDE[8:].T + h @ beside.T for h in hidden(net, model.tokenizer.encode(TEXTS))]
    wanted = [unit(row @ square.T + row) for row in rows]
    for got, row in zip(model.encode_tokens(TEXTS), wanted, strict=True):
        np.testing.assert_allclose(got, row, atol=1e-4)
    check_written(folder, tmp_path, wanted)
    said["activation_function"] = "torch.nn.modules.activation.Tanh"
    (path / "config.json").write_text(json.dumps(said))
    with pytest.raises(
        UnsupportedModelError, match="use_residual: expected the activation Identity beside it, got tanh"
    ):
        aerogel.load(folder)


def test_sentence_transformers_multi_vector_encoder(tmp_path: Path) -> None:
    """What the library's own class saves; it gives the same vectors of documents."""
    library = pytest.importorskip(
        "sentence_transformers", minversion="6.0", reason="sentence-transformers is not installed"
    )
    import transformers

    base(tmp_path / "bert")
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "bert" / "tokenizer.json"), **special
    ).save_pretrained(tmp_path / "bert")
    peer = library.MultiVectorEncoder(str(tmp_path / "bert"), device="cpu")
    peer.save(str(tmp_path / "model"))
    model = aerogel.load(tmp_path / "model")
    expected = peer.encode_document(TEXTS, convert_to_numpy=True)
    for got, row in zip(model.encode_tokens(TEXTS), expected, strict=True):
        np.testing.assert_allclose(got, row, atol=1e-4)
    check_written(tmp_path / "model", tmp_path, expected)
    again = library.MultiVectorEncoder(str(tmp_path / "plain"), device="cpu").encode_document(
        TEXTS, convert_to_numpy=True
    )
    for got, row in zip(again, expected, strict=True):
        np.testing.assert_allclose(got, row, atol=1e-4)


def test_stanfords(tmp_path: Path) -> None:
    """A projection among the tensors of the model."""
    folder = tmp_path / "model"
    net = base(folder)
    weights = {"bert." + name: array for name, array in load_file(folder / "model.safetensors").items()}
    save_file({**weights, "linear.weight": WIDE}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}))
    model = aerogel.load(folder)
    assert model.outputs == ("hidden", "tokens")
    expected = [unit(rows @ WIDE.T) for rows in hidden(net, model.tokenizer.encode(TEXTS))]
    for got, wanted in zip(model.encode_tokens(TEXTS), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    check_written(folder, tmp_path, expected)


def test_bge_m3(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

    folder = tmp_path / "model"
    net = base(folder, "XLMRobertaModel", type_vocab_size=1)
    torch.manual_seed(1)
    vectors, weights = torch.nn.Linear(32, 32), torch.nn.Linear(32, 1)
    torch.nn.init.constant_(weights.bias, 0.3)
    torch.save(vectors.half().state_dict(), folder / "colbert_linear.pt")
    torch.save(weights.half().state_dict(), folder / "sparse_linear.pt")
    model = aerogel.load(folder)
    assert model.outputs == ("hidden", "colbert", "lexical", "embedding", "pooled")
    ids = model.tokenizer.encode(TEXTS)
    states = [torch.from_numpy(rows) for rows in hidden(net, ids)]
    with torch.no_grad():
        expected = [unit(vectors.float()(rows)[1:].numpy()) for rows in states]
        relu = [torch.relu(weights.float()(rows))[:, 0].tolist() for rows in states]
    for got, wanted in zip(model.encode_tokens(TEXTS), expected, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    found = model.lexical_weights(TEXTS)
    assert sum(map(len, found)) > 2 and model.lexical_weights(TEXTS[0]) == found[0]
    for got, tokens, values in zip(found, ids, relu, strict=True):
        words = {t: max(v for u, v in zip(tokens, values, strict=True) if u == t) for t in tokens if t >= 5}
        assert got == pytest.approx({token: value for token, value in words.items() if value > 0}, abs=1e-4)
    check_written(folder, tmp_path, expected)
    packed = aerogel.load(tmp_path / "packed")
    assert packed.lexical_weights(TEXTS)[0] == pytest.approx(found[0], abs=1e-4)
    np.testing.assert_allclose(packed.encode(TEXTS), model.encode(TEXTS), atol=1e-4)


def test_broken_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    from .. import tiny_models

    folder = tiny_models.write(tmp_path, tiny_models.BERT, tiny_models.bert_weights(tiny_models.BERT))
    plain = aerogel.load(folder)
    with pytest.raises(UnsupportedModelError, match="not a model that makes a vector of each token"):
        plain.encode_tokens("the cat")
    with pytest.raises(UnsupportedModelError, match="not a model that weighs tokens"):
        plain.lexical_weights("the cat")
    save_file({"weight": np.ones((3, 48), np.float32)}, folder / "sparse_linear.safetensors")
    assert "lexical" in aerogel.load(folder).outputs
    save_file({"weight": np.ones(3, np.float32)}, folder / "sparse_linear.safetensors")
    with pytest.raises(CheckpointError, match=r"sparse_linear\.safetensors: expected a linear's weight"):
        aerogel.load(folder)
    (folder / "sparse_linear.safetensors").unlink()
    (folder / "colbert_linear.pt").write_bytes(b"no pickle")
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    assert aerogel.load(folder).outputs == plain.outputs
    assert "read by PyTorch only" in caplog.text


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("tokens", "expected a list"),
        ([{"output": "cats", "layers": []}], "an output of tokens, colbert, lexical"),
        ([{"output": "tokens", "layers": [{"outputs": 3}]}], "layer 0: expected outputs, bias, activation"),
        (
            [{"output": "tokens", "layers": [{"outputs": 3, "bias": False, "activation": None}]}] * 2,
            "every output once",
        ),
    ],
)
def test_a_config_that_says_it_otherwise(tmp_path: Path, entry: Any, message: str) -> None:
    from .. import tiny_models

    config = {**tiny_models.BERT, "token_heads": entry}
    folder = tiny_models.write(tmp_path, config, tiny_models.bert_weights(tiny_models.BERT))
    with pytest.raises(ConfigError, match=message):
        aerogel.load(folder)
    config["token_heads"] = [{"output": "tokens", "layers": [{"outputs": 3, "bias": False, "activation": None}]}]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(MissingTensorsError, match=r"token_heads\.tokens\.0\.weight"):
        aerogel.load(folder)
