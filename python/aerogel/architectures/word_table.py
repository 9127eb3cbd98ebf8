"""Static embeddings: a text's is the mean of its tokens' rows of one table. There are no layers.

sentence-transformers' StaticEmbedding module, and what Model2Vec saves for it. Such folders have no config, or one that
nothing reads; `table_config` makes that of ours from the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from aerogel.architectures.architecture import Architecture
from aerogel.architectures.config import Config
from aerogel.architectures.files import SavedNames
from aerogel.architectures.pooling import Normalize, Pooling, add_pooling, pooling_stacks, pooling_tensors
from aerogel.architectures.settings import CONFIG, Settings
from aerogel.architectures.tensors import Role, Tensor

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program

#: The table's name, in sentence-transformers' files too.
TABLE = "embedding.weight"
_TYPE = "static_embedding"
#: Tokens of a text: none is cut.
_LONGEST = 1 << 30


class WordTable(Architecture):
    """Outputs "hidden" [T, H], the rows themselves, and "embedding" and "pooled" [S, E]."""

    model_types: ClassVar = (_TYPE,)
    layer_prefix: ClassVar = "layers.{}."
    adds_special: ClassVar = False
    is_table: ClassVar = True
    saved: ClassVar = {_TYPE: SavedNames(base_class="WordTable", prefix="", parts=("embedding.",))}
    settings: ClassVar = CONFIG | Settings("config.json", used={"hidden_size": "width of the table"})

    @classmethod
    def default_pooling(cls, config: Mapping[str, Any]) -> Pooling | None:
        return Pooling(("mean",), normalize=False)

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        c = Config(config)
        self.vocab_size, self.hidden_size = c.integer("vocab_size"), c.integer("hidden_size")
        self.layers, self.head_dim = 0, 1
        self.heads = self.kv_heads = self.ffn = ()
        self.max_positions = _LONGEST
        self.pooling = pooling
        self.outputs = ("hidden", *(("embedding", "pooled") if pooling is not None else ()))

    def tensors(self) -> list[Tensor]:
        rows = Tensor.over(
            TABLE, "embeddings.tokens", Role.EMBEDDING, (self.vocab_size, ""), (self.hidden_size, "hidden")
        )
        return [rows, *pooling_tensors(self.pooling, self.hidden_size)]

    def stacks(self) -> list[tuple[str, ...]]:
        return pooling_stacks(self.pooling)

    def build(self, p: Program, w: Parameters) -> None:
        h = p.embed(w.table(TABLE))  # [T, H]
        self._trace(p, 0, h)
        p.output("hidden", h)
        if self.pooling is not None:
            add_pooling(p, w, h, self.pooling)
        p.set_max_positions(self.max_positions)

    @property
    def empty_is_zero(self) -> bool:
        return self.pooling is not None and all(isinstance(step, Normalize) for step in self.pooling.steps)


def table_config(rows: int, width: int) -> dict[str, Any]:
    """The config of a table [rows, width]."""
    return {"model_type": _TYPE, "vocab_size": rows, "hidden_size": width}
