"""A model family that exists in this file only: everything works with it, and nothing else had to change.

The toy is a pre-norm encoder with its own names in every kind of file: it is loaded, calibrated, pruned, made narrower,
packed, exported, retrained and read from GGUF.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

import aerogel
from aerogel.architectures import (
    FAMILIES,
    Architecture,
    Config,
    GGUFNames,
    GGUFSource,
    Pooling,
    Role,
    SavedNames,
    Tensor,
    register,
)
from aerogel.architectures.pooling import add_pooling
from aerogel.architectures.program import Parameters, Program
from aerogel.checkpoint import open_checkpoint

from .. import tiny_models
from ..conftest import random_ids


def finish(file: GGUFSource, config: dict[str, Any]) -> None:
    config["shout"] = file.metadata["toy.shout"]


class Toy(Architecture):
    """h += W_o attention(W_qkv norm(h)); h += W_d relu(W_u norm(h)); the embeddings are scaled by `shout`, a vector."""

    model_types: ClassVar = ("toy",)
    layer_prefix: ClassVar = "trunk.{}."
    saved: ClassVar = {"toy": SavedNames("ToyModel", "toybox.", ("words.", "trunk.", "last."))}
    gguf: ClassVar = {
        "toy": GGUFNames(
            keys={
                "hidden_size": "embedding_length",
                "intermediate_size": "feed_forward_length",
                "num_hidden_layers": "block_count",
                "num_attention_heads": "attention.head_count",
                "max_position_embeddings": "context_length",
            },
            defaults={"model_type": "toy", "architectures": ["ToyModel"]},
            tensors={"token_embd.weight": "words.weight", "output_norm.weight": "last.norm.weight"},
            blocks={
                f"{short}.weight": f"trunk.{{n}}.{long}.weight"
                for short, long in {
                    "attn_norm": "look.norm",
                    "attn_q": "look.q",
                    "attn_k": "look.k",
                    "attn_v": "look.v",
                    "attn_output": "look.o",
                    "ffn_norm": "think.norm",
                    "ffn_up": "think.up",
                    "ffn_down": "think.down",
                }.items()
            },
            finish=finish,
        )
    }

    @classmethod
    def default_pooling(cls, config: Mapping[str, Any]) -> Pooling:
        return Pooling(("max",), normalize=True)

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        c = Config(config)
        self.layers, self.hidden_size = c.integer("num_hidden_layers"), c.integer("hidden_size")
        self.heads = self.kv_heads = c.per_layer("num_attention_heads", self.layers)
        self.head_dim = c.head_dim(self.hidden_size)
        self.ffn = c.per_layer("intermediate_size", self.layers)
        self.vocab_size, self.max_positions = c.integer("vocab_size"), c.integer("max_position_embeddings")
        self.shout = c.number("shout")
        self.pooling = pooling
        self.outputs = ("hidden", "embedding", "pooled") if pooling else ("hidden",)

    def tensors(self) -> list[Tensor]:
        h = (self.hidden_size, "hidden")
        found = [Tensor.over("words.weight", "words", Role.EMBEDDING, (self.vocab_size, ""), h)]
        for i in range(self.layers):
            t, n = f"trunk.{i}.", f"layers.{i}."
            q = (self.heads[i] * self.head_dim, n + "attention.queries")
            k = (self.heads[i] * self.head_dim, n + "attention.keys")
            f = (self.ffn[i], n + "ffn")
            found += [
                Tensor.over(t + "look.norm.weight", n + "attention.norm", Role.KEPT, h),
                Tensor.over(t + "look.q.weight", n + "attention.query", Role.LINEAR, q, h),
                Tensor.over(t + "look.k.weight", n + "attention.key", Role.LINEAR, k, h),
                Tensor.over(t + "look.v.weight", n + "attention.value", Role.LINEAR, k, h),
                Tensor.over(t + "look.o.weight", n + "attention.out", Role.LINEAR, h, q),
                Tensor.over(t + "think.norm.weight", n + "ffn.norm", Role.KEPT, h),
                Tensor.over(t + "think.up.weight", n + "ffn.up", Role.LINEAR, f, h),
                Tensor.over(t + "think.down.weight", n + "ffn.down", Role.LINEAR, h, f),
            ]
        return [*found, Tensor.over("last.norm.weight", "norm", Role.KEPT, h)]

    def stacks(self) -> list[tuple[str, ...]]:
        return [
            stack
            for t in (f"trunk.{i}." for i in range(self.layers))
            for stack in (
                tuple(t + f"look.{x}.weight" for x in "qkv"),
                (t + "look.o.weight",),
                (t + "think.up.weight",),
                (t + "think.down.weight",),
            )
        ]

    def least_width(self, block: str) -> int:
        return 1

    def build(self, p: Program, w: Parameters) -> None:
        def linear(name: str, x: Any, *tensors: str) -> Any:
            return p.linear(name, x, w.linear(*tensors), limit=w.limit(*tensors))

        def norm(name: str, x: Any, tensor: str) -> Any:
            return p.rms_norm(name, x, w.vector(tensor), 1e-6)

        h = p.rms_norm("shout", p.embed(w.table("words.weight")), np.full(self.hidden_size, self.shout, "f4"), 1e-6)
        for i, heads in enumerate(self.heads):
            t, n = f"trunk.{i}.", f"layers.{i}."
            self._trace(p, i, h)
            x = norm(n + "attention.norm", h, t + "look.norm.weight")
            qkv = linear(n + "attention.qkv", x, *[t + f"look.{part}.weight" for part in "qkv"])
            a = p.attention(n + "attention", qkv, heads, heads, self.head_dim, causal=False)
            h = p.add(h, linear(n + "attention.out", a, t + "look.o.weight"))
            x = norm(n + "ffn.norm", h, t + "think.norm.weight")
            f = p.activation(linear(n + "ffn.up", x, t + "think.up.weight"), "relu")
            h = p.add(h, linear(n + "ffn.down", f, t + "think.down.weight"))
        self._trace(p, self.layers, h)
        h = norm("norm", h, "last.norm.weight")
        p.output("hidden", h)
        if self.pooling is not None:
            add_pooling(p, w, h, self.pooling)
        p.set_max_positions(self.max_positions)


CONFIG = {
    "model_type": "toy",
    "architectures": ["ToyForSomething"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": 3 + len(tiny_models.WORDS),
    "max_position_embeddings": 32,
    "shout": 1.5,
}
TEXTS = [" ".join(np.random.default_rng(i).choice(tiny_models.WORDS, 3 + i % 9).tolist()) for i in range(60)]
IDS = [random_ids(CONFIG["vocab_size"], n, n) for n in (3, 9, 5)]


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Path]:
    register(Toy)
    try:
        random = np.random.default_rng(0)
        weights = {
            "toybox." + t.name: (0.2 * random.standard_normal(t.shape) + ("norm" in t.name)).astype("f4")
            for t in Toy(CONFIG, [], None).tensors()
        }
        yield tiny_models.write(tmp_path / "toy", CONFIG, weights)
    finally:
        del FAMILIES["toy"]


def rms_norm(x: np.ndarray, gamma: np.ndarray | float) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * gamma


def reference(folder: Path, ids: Sequence[int]) -> np.ndarray:
    """The hidden states of one sequence in float64, from the equations."""
    w = {n.removeprefix("toybox."): a.astype(np.float64) for n, a in load_file(folder / "model.safetensors").items()}
    h = rms_norm(w["words.weight"][list(ids)], CONFIG["shout"])
    for i in range(2):
        t = f"trunk.{i}."
        x = rms_norm(h, w[t + "look.norm.weight"])
        q, k, v = ((x @ w[t + f"look.{part}.weight"].T).reshape(len(ids), -1, 16) for part in "qkv")
        scores = np.einsum("ihd,jhd->hij", q, k) / 4
        p = np.exp(scores - scores.max(-1, keepdims=True))
        a = np.einsum("hij,jhd->ihd", p / p.sum(-1, keepdims=True), v).reshape(len(ids), -1)
        h = h + a @ w[t + "look.o.weight"].T
        x = rms_norm(h, w[t + "think.norm.weight"])
        h = h + np.maximum(x @ w[t + "think.up.weight"].T, 0) @ w[t + "think.down.weight"].T
    return rms_norm(h, w["last.norm.weight"])


def test_it_loads_and_its_own_pooling_is_used(toy: Path) -> None:
    model = aerogel.load(toy)
    expected = [reference(toy, ids) for ids in IDS]
    np.testing.assert_allclose(model.forward(IDS), np.concatenate(expected), atol=2e-5)
    pooled = np.stack([hidden.max(0) for hidden in expected])
    np.testing.assert_allclose(
        model.forward(IDS, output="embedding"), pooled / np.linalg.norm(pooled, axis=1)[:, None], atol=1e-5
    )
    assert model.encode(TEXTS[:3]).shape == (3, 64)


@pytest.mark.parametrize(
    "options",
    [
        {"sparsity": 0.0},
        {"sparsity": 0.5, "quant": "int4:g64", "pack": "small"},
        {"sparsity": 0.5, "method": "admm", "calibrate": True},
        {"sparsity": 0.3, "calibrate": True, "recipe": {"structure": {"ffn": 0.5, "heads": 0.5}}},
    ],
)
def test_it_is_calibrated_pruned_packed_and_exported(toy: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    if options.get("calibrate"):
        (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
        options = {**options, "calibrate": tmp_path / "texts.txt"}
    report = aerogel.compress(toy, tmp_path / "packed", **options)
    assert report.sparsity == pytest.approx(options["sparsity"], abs=0.03)
    packed, dense = aerogel.load(tmp_path / "packed"), aerogel.load(toy)
    a, b = packed.forward(IDS, output="embedding"), dense.forward(IDS, output="embedding")
    assert (a * b).sum(1).min() > (0.99 if options["sparsity"] == 0 else 0.5)
    aerogel.export(tmp_path / "packed", tmp_path / "plain")
    names = load_file(tmp_path / "plain" / "model.safetensors").keys()
    assert names == load_file(toy / "model.safetensors").keys()  # under the names of the class that the config names
    cosine = (aerogel.load(tmp_path / "plain").forward(IDS, output="embedding") * a).sum(1)
    assert cosine.min() > 0.999


def test_it_is_read_from_gguf(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "toy.gguf"
    writer = gguf.GGUFWriter(path, "toy")
    names, checkpoint = Toy.gguf["toy"], open_checkpoint(toy)
    for key, suffix in names.keys.items():
        writer.add_uint32(f"toy.{suffix}", CONFIG[key])
    writer.add_float32("toy.shout", CONFIG["shout"])
    stored = dict(names.tensors)
    stored |= {f"blk.{i}.{short}": long.format(n=i) for i in range(2) for short, long in names.blocks.items()}
    for name, target in stored.items():
        writer.add_tensor(name, np.ascontiguousarray(checkpoint.array(target)))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert open_checkpoint(path).names() == checkpoint.names()
    np.testing.assert_array_equal(aerogel.load(path).forward(IDS), aerogel.load(toy).forward(IDS))


def test_it_is_retrained(toy: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
    from aerogel.train import Options, distill

    options = Options(steps=40, sparsity=0.7, stages=4, lr=3e-3, batch_tokens=96, threads=1)
    done = distill(toy, tmp_path / "trained", TEXTS, options=options)
    assert done.sparsity == pytest.approx(0.7, abs=0.01)
    aerogel.compress(toy, tmp_path / "untrained", sparsity=0.7, quant="none", method="magnitude")
    dense = aerogel.load(toy).forward(IDS, output="embedding")

    def kept(folder: Path) -> float:
        return float((aerogel.load(folder).forward(IDS, output="embedding") * dense).sum(1).mean())

    assert kept(tmp_path / "trained") > kept(tmp_path / "untrained") + 0.02
    config = json.loads((tmp_path / "trained" / "config.json").read_text())
    assert config["model_type"] == "toy"


def test_without_it_the_model_is_refused_by_name(toy: Path) -> None:
    del FAMILIES["toy"]
    with pytest.raises(aerogel.UnsupportedModelError, match="model_type 'toy' is not supported, only .*bert.*llama"):
        aerogel.load(toy)
    register(Toy)
