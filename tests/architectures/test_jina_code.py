"""JinaBERT's code model against its equations in NumPy: as it is, compressed, exported."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import aerogel
from aerogel.architectures.jina_code import JinaCode
from aerogel.errors import MissingTensorsError

from . import peers
from .test_settings import Recorded

H, F, HEADS = 32, 48, 4
_CODE = "jinaai/jina-bert-v2-qk-post-norm--"
CONFIG = {
    **peers.SIZES,
    "model_type": "bert",
    "type_vocab_size": 2,
    "architectures": ["JinaBertModel"],
    "position_embedding_type": "alibi",
    "feed_forward_type": "geglu",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "auto_map": {
        "AutoConfig": _CODE + "configuration_bert.JinaBertConfig",
        "AutoModel": _CODE + "modeling_bert.JinaBertModel",
    },
}


def written(folder: Path) -> Path:
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (peers.VOCABULARY, H),
        "embeddings.token_type_embeddings.weight": (2, H),
        "embeddings.LayerNorm.weight": (H,),
    }
    norms = ("attention.self.layer_norm_q", "attention.self.layer_norm_k", "attention.output.LayerNorm")
    for i in range(2):
        t = f"encoder.layer.{i}."
        shapes |= {f"{t}attention.self.{x}.weight": (H, H) for x in ("query", "key", "value")}
        shapes |= {f"{t}{x}.weight": (H,) for x in (*norms, "layer_norm_1", "layer_norm_2")}
        shapes |= {t + "attention.output.dense.weight": (H, H), t + "mlp.down_layer.weight": (H, F)}
        shapes[t + "mlp.up_gated_layer.weight"] = (2 * F, H)
    for name, shape in list(shapes.items()):
        if not name.endswith(("embeddings.weight", "up_gated_layer.weight")):
            shapes[name.replace("weight", "bias")] = shape[:1]
    random = np.random.default_rng(0)
    weights = {n: 0.3 * random.standard_normal(s) + ("norm" in n.lower() and "weight" in n) for n, s in shapes.items()}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file({n: a.astype(np.float32) for n, a in weights.items()}, folder / "model.safetensors")
    return folder


def hidden(folder: Path, ids: list[int]) -> np.ndarray:
    """The hidden states of one sequence in float64."""
    w = {name: array.astype(np.float64) for name, array in load_file(folder / "model.safetensors").items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12) * w[name + ".weight"] + w[name + ".bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    e = "embeddings."
    h = norm(w[e + "word_embeddings.weight"][ids] + w[e + "token_type_embeddings.weight"][0], e + "LayerNorm")
    apart = np.abs(np.subtract.outer(np.arange(len(ids)), np.arange(len(ids))))
    slopes = [2.0 ** (-2 * i) for i in range(1, 5)]
    for i in range(2):
        t = f"encoder.layer.{i}."
        s = t + "attention.self."
        q, k = (norm(linear(h, s + x), f"{s}layer_norm_{x[0]}") for x in ("query", "key"))
        q, k, v = (x.reshape(len(ids), HEADS, -1) for x in (q, k, linear(h, s + "value")))
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1]) - np.multiply.outer(slopes, apart)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        a = np.einsum("hij,jhd->ihd", p / p.sum(-1, keepdims=True), v).reshape(len(ids), -1)
        y = norm(h + linear(a, t + "attention.output.dense"), t + "attention.output.LayerNorm")
        h = norm(h + y, t + "layer_norm_1")
        up, gate = np.split(h @ w[t + "mlp.up_gated_layer.weight"].T, 2, axis=-1)
        f = up * 0.5 * gate * (1 + np.vectorize(math.erf)(gate / math.sqrt(2)))
        h = norm(h + linear(f, t + "mlp.down_layer"), t + "layer_norm_2")
    return h


def test_it_is_as_its_equations(tmp_path: Path) -> None:
    folder = written(tmp_path / "model")
    expected = np.concatenate([hidden(folder, ids) for ids in peers.SEQUENCES])
    got = aerogel.load(folder).forward(peers.SEQUENCES, output="hidden")
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"sparsity": 0.0, "quant": "int8"},
        {"sparsity": 0.7, "quant": "none", "method": "magnitude"},
        {
            "sparsity": 0.0,
            "quant": "none",
            "recipe": {"structure": {"ffn": 0.5, "score": "weights", "compensate": False}},
        },
    ],
    ids=["int8", "sparse", "smaller"],
)
def test_compressed_and_exported(tmp_path: Path, options: dict) -> None:
    folder = written(tmp_path / "model")
    aerogel.compress(folder, tmp_path / "packed", **options)
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    assert "encoder.layer.1.mlp.up_gated_layer.weight" in load_file(tmp_path / "plain" / "model.safetensors")
    expected = np.concatenate([hidden(tmp_path / "plain", ids) for ids in peers.SEQUENCES])
    got = aerogel.load(tmp_path / "plain").forward(peers.SEQUENCES, output="hidden")
    np.testing.assert_allclose(got, expected, atol=1e-4)
    packed = aerogel.load(tmp_path / "packed").forward(peers.SEQUENCES, output="hidden")
    np.testing.assert_allclose(packed, expected, atol=1e-4 if options["quant"] == "none" else 0.2)


def test_with_calibration(tmp_path: Path) -> None:
    folder = written(tmp_path / "model")
    peers.tokenizer(folder)
    (tmp_path / "texts.txt").write_text("\n".join(" ".join("abcdefgh"[i % 5 : i % 5 + 3]) for i in range(30)))
    options = {"sparsity": 0.3, "quant": "int8", "calibrate": tmp_path / "texts.txt"}
    aerogel.compress(folder, tmp_path / "packed", **options)
    a, b = (aerogel.load(path).forward(peers.SEQUENCES, output="hidden") for path in (folder, tmp_path / "packed"))
    assert np.sum(a * b) > 0.8 * np.sqrt(np.sum(a * a) * np.sum(b * b))


def test_which_of_the_two_it_is(tmp_path: Path) -> None:
    """The name of the code says it, in auto_map or as the model's own."""
    folder = written(tmp_path / "model")
    plain = {key: value for key, value in CONFIG.items() if key != "auto_map"}
    (folder / "config.json").write_text(json.dumps({**plain, "_name_or_path": "jinaai/jina-bert-v2-qk-post-norm"}))
    aerogel.load(folder)
    (folder / "config.json").write_text(json.dumps(plain))
    with pytest.raises(MissingTensorsError, match="mlp.layernorm"):
        aerogel.load(folder)
    seen = Recorded(CONFIG)
    JinaCode(seen, [], None).tensors()
    assert not seen.asked - set(JinaCode.settings.used)
