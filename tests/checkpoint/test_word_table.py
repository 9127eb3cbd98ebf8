"""Static embeddings, of sentence-transformers and of Model2Vec: against NumPy, and as they are packed and exported."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import aerogel
from aerogel.errors import (
    CheckpointError,
    DataError,
    MissingTensorsError,
    RecipeError,
    ShapeError,
    UnsupportedModelError,
)

from ..architectures import peers

TEXTS = ["the cat sat on the mat", "a dog", "red tree under small mat and blue cat"]
ROWS = np.random.default_rng(1).standard_normal((40, 24)).astype(np.float32)


def folder_with(folder: Path, place: str = "", *after: str, **tensors: np.ndarray) -> Path:
    inside = folder / place
    inside.mkdir(parents=True, exist_ok=True)
    peers.tokenizer(inside, 40)
    save_file(tensors or {"embedding.weight": ROWS}, inside / "model.safetensors")
    modules = [(place or ".", "StaticEmbedding"), *((f"{i}_{kind}", kind) for i, kind in enumerate(after, 1))]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def expected(model: aerogel.Model, rows: np.ndarray = ROWS) -> np.ndarray:
    return np.stack([rows[ids].mean(axis=0) for ids in model.tokenizer.encode(TEXTS)])


def test_the_mean_of_the_rows_of_a_texts_own_tokens(tmp_path: Path) -> None:
    model = aerogel.load(folder_with(tmp_path / "m", "0_StaticEmbedding"))
    assert [len(ids) for ids in model.tokenizer.encode(TEXTS)] == [6, 2, 8]  # none beside them
    np.testing.assert_allclose(model.encode(TEXTS), expected(model), atol=1e-6)
    assert model.embedding_size == 24 and model.max_tokens > 1 << 20


def test_a_text_without_tokens_is_zeros_as_in_sentence_transformers(tmp_path: Path) -> None:
    model = aerogel.load(folder_with(tmp_path / "m", "", "Normalize"))
    got = model.encode(["", *TEXTS, " "])
    assert not got[0].any() and not got[-1].any()
    rows = expected(model)
    np.testing.assert_allclose(got[1:-1], rows / np.linalg.norm(rows, axis=1, keepdims=True), atol=1e-6)
    assert not model.encode("").any() and model.encode([]).shape == (0, 24)


def test_model2vec(tmp_path: Path) -> None:
    """Its own name of the table, rows that tokens share, and a factor of each token; its config says nothing of use."""
    random = np.random.default_rng(2)
    row_of, factors = random.integers(0, 9, 40), random.random(40)
    folder = folder_with(tmp_path / "m", "", "Normalize", embeddings=ROWS[:9], mapping=row_of, weights=factors)
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "seq_length": 4, "normalize": True}))
    model = aerogel.load(folder)
    rows = expected(model, ROWS[:9][row_of] * factors[:, None].astype(np.float32))
    np.testing.assert_allclose(model.encode(TEXTS, normalize=False), rows, atol=1e-6)
    plain = aerogel.load(folder_with(tmp_path / "plain", "", embeddings=ROWS))
    np.testing.assert_allclose(plain.encode(TEXTS), expected(plain), atol=1e-6)


def test_the_limit_of_the_tokenizer_holds(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "m")
    said = json.loads((folder / "tokenizer.json").read_text())
    said["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(said))
    model = aerogel.load(folder)
    assert model.max_tokens == 3
    [ids] = model.tokenizer.encode(TEXTS[:1])
    np.testing.assert_allclose(model.encode(TEXTS[0]), ROWS[ids[:3]].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("quant", ["none", "int8"])
def test_packed_and_exported(tmp_path: Path, quant: str) -> None:
    folder = folder_with(tmp_path / "m", "0_StaticEmbedding", "Normalize")
    wanted = aerogel.load(folder).encode(TEXTS)
    report = aerogel.compress(folder, tmp_path / "packed", sparsity=0.0, quant=quant)
    with pytest.raises(RecipeError, match="prune: expected a model with linear layers"):
        aerogel.compress(folder, tmp_path / "pruned", sparsity=0.5, quant=quant)
    assert report.file_bytes < (1 if quant == "none" else 0.5) * ROWS.nbytes + 4096
    got = aerogel.load(tmp_path / "packed").encode([*TEXTS, ""])
    np.testing.assert_allclose(got[:-1], wanted, atol=1e-6 if quant == "none" else 5e-3)
    assert not got[-1].any()
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    np.testing.assert_allclose(aerogel.load(tmp_path / "plain").encode([*TEXTS, ""]), got, atol=1e-6)
    kinds = [module["type"].rpartition(".")[2] for module in json.loads((tmp_path / "plain/modules.json").read_text())]
    assert kinds == ["StaticEmbedding", "Normalize"]
    theirs = pytest.importorskip("sentence_transformers").SentenceTransformer(str(tmp_path / "plain"), device="cpu")
    np.testing.assert_allclose(theirs.encode([*TEXTS, ""]), got, atol=1e-6)


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        ({"rows": ROWS}, MissingTensorsError, "embedding.weight"),
        ({"embedding.weight": ROWS[0]}, ShapeError, "expected a matrix, got \\[24\\]"),
        ({"embedding.weight": ROWS, "bias": ROWS[0]}, UnsupportedModelError, "would be ignored.*bias"),
        ({"embeddings": ROWS, "mapping": np.arange(1, 41)}, CheckpointError, "mapping: expected the row of each token"),
        ({"embeddings": ROWS, "weights": ROWS[0]}, ShapeError, "weights: expected \\[40\\], got \\[24\\]"),
        ({"embeddings": ROWS, "weights": np.full(40, np.inf)}, DataError, "embeddings"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else None,
)
def test_what_is_refused(tmp_path: Path, tensors: dict[str, np.ndarray], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        aerogel.load(folder_with(tmp_path / "m", "", **tensors))
