"""The code model of JinaBERT (jina-embeddings-v2-base-code): layer norms of queries and keys, and one more in each layer.

Its configs differ from those of the family by the name of the code alone, jina-bert-v2-qk-post-norm, which is not run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from aerogel.architectures.encoder import Names, norm_tensors
from aerogel.architectures.files import SavedNames
from aerogel.architectures.fused import Fused
from aerogel.architectures.jina_bert import JinaBert
from aerogel.architectures.settings import Settings
from aerogel.architectures.tensors import Tensor

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

_MLP = "encoder.layer.{n}.mlp."
_KIND = "jina_bert_code"
#: What stands in the name of its code.
_CODE = "qk-post-norm"


class JinaCode(JinaBert):
    """Outputs as `Encoder`."""

    model_types: ClassVar = (_KIND,)
    modules: ClassVar = Names(up="mlp.up", down="mlp.down_layer", ffn_norm="layer_norm_2")
    saved: ClassVar = {
        _KIND: SavedNames(
            base_class="JinaBertModel",
            prefix="bert.",
            parts=("embeddings.", "encoder.", "pooler."),
            tied={"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight"},
            classifier="JinaBertForSequenceClassification",
            fused=(Fused(_MLP + "up_gated_layer", (_MLP + "up", _MLP + "gate")),),
        )
    }
    gguf: ClassVar = {}
    settings: ClassVar = JinaBert.settings | Settings(
        "config.json", used={"_name_or_path": "the name of the code that it comes with says which of two it is"}
    )

    @classmethod
    def claims(cls, config: Mapping[str, Any]) -> str | None:
        code = [config.get("_name_or_path"), *_texts(config.get("auto_map"))]
        ours = JinaBert.claims(config) is not None and any(_CODE in name for name in code if isinstance(name, str))
        return _KIND if ours or config.get("model_type") == _KIND else None

    def layer_tensors(self, i: int) -> list[Tensor]:
        n, width = f"layers.{i}.", self.heads[i] * self.head_dim
        found = [*super().layer_tensors(i), *self.norm(self.prefix(i) + "layer_norm_1", n + "attention.outer_norm")]
        for short, axis in (("q", "queries"), ("k", "keys")):
            tensor = f"{self.prefix(i)}attention.self.layer_norm_{short}"
            found += norm_tensors(tensor, (width, f"{n}attention.{axis}"), f"{n}attention.{axis}_norm")
        return found

    def stacks(self) -> list[tuple[str, ...]]:
        together = {f"{self.prefix(i)}{self.module_names.query}.weight" for i in range(self.layers)}
        found: list[tuple[str, ...]] = []
        for stack in super().stacks():
            found += [(name,) for name in stack] if together.intersection(stack) else [stack]
        return found

    def projected(self, p: Program, w: Parameters, i: int, h: Value) -> Value:
        m, t, n = self.module_names, self.prefix(i), f"layers.{i}.attention."
        parts = [
            self._product(p, w, n + label, h, True, t + module)  # [T, A d]
            for label, module in (("query", m.query), ("key", m.key), ("value", m.value))
        ]
        for j, (short, axis) in enumerate((("q", "queries"), ("k", "keys"))):
            tensor = f"{t}attention.self.layer_norm_{short}."
            gamma, beta = w.vector(tensor + "weight"), w.vector(tensor + "bias")
            parts[j] = p.layer_norm(f"{n}{axis}_norm", parts[j], gamma, beta, self.eps)
        return p.join(parts, (0, 0, 0))  # [T, 3 A d]

    def attended(self, p: Program, w: Parameters, i: int, h: Value) -> Value:
        y = super().attended(p, w, i, h)  # [T, H]
        tensor = self.prefix(i) + "layer_norm_1"
        return self._normed(p, w, f"layers.{i}.attention.outer_norm", p.add(h, y), tensor)

    def least_width(self, block: str) -> int:
        return (
            1 if block == "ffn" else super().least_width(block)
        )  # what is left of a block goes into the norm before it


def _texts(auto_map: Any) -> list[Any]:
    return list(auto_map.values()) if isinstance(auto_map, dict) else [auto_map]
