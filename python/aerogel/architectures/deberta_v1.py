"""DeBERTa encoders of the first version (arXiv 2006.03654): each distance is told apart, and queries, keys and values are
one linear, in which heads take turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.deberta import Deberta
from aerogel.architectures.encoder import SETTINGS
from aerogel.architectures.files import SavedNames
from aerogel.architectures.fused import Fused, heads_of
from aerogel.architectures.heads import classes
from aerogel.architectures.settings import Refused, Settings
from aerogel.architectures.tensors import Fold, Role, Tensor

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

_SELF = "encoder.layer.{n}.attention.self."
_OWN = (
    "relative_attention",
    "position_biased_input",
    "type_vocab_size",
    "pos_att_type",
    "max_relative_positions",
    "pooler_hidden_act",
    "pooler_hidden_size",
    "legacy",
)
_SECOND = ("share_att_key", "position_buckets", "norm_rel_ebd", "conv_*")


class DebertaV1(Deberta):
    """Outputs as `Encoder`."""

    model_types: ClassVar = ("deberta",)
    classes: ClassVar = classes("Deberta")
    byte_level: ClassVar = {"cls": "[CLS]", "sep": "[SEP]", "unk": "[UNK]", "pad": "[PAD]", "mask": "[MASK]"}
    saved: ClassVar = {
        "deberta": SavedNames(
            base_class="DebertaModel",
            prefix="deberta.",
            parts=("embeddings.", "encoder."),
            tied={"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight"},
            classifier="DebertaForSequenceClassification",
            fused=(
                Fused(_SELF + "in_proj", tuple(f"{_SELF}{x}_proj" for x in ("query", "key", "value")), turns=heads_of),
            ),
        )
    }
    settings: ClassVar = SETTINGS | Settings(
        "config.json",
        used={key: Deberta.settings.used[key] for key in _OWN},
        harmless={
            **{key: Deberta.settings.harmless[key] for key in ("pooler_dropout", "summary_*")},
            **dict.fromkeys(_SECOND, "the second version's"),
            "padding_idx": "batches are ragged: nothing is padded",
        },
        refused={
            "talking_head": Refused("linears over the scores of heads"),
            "attention_head_size": Deberta.settings.refused["attention_head_size"],
        },
    )

    def read_distances(self, c: Config) -> None:
        self.shared, self.normalized, self.buckets, self.span = False, False, -1, self.far

    def position_projection(self, i: int, kind: str) -> tuple[str, bool]:
        return self.prefix(i) + "attention.self." + {"c2p": "pos_proj", "p2c": "pos_q_proj"}[kind], kind == "p2c"

    def layer_tensors(self, i: int) -> list[Tensor]:
        m, t, n = self.module_names, self.prefix(i), f"layers.{i}.attention."
        without = {f"{t}{name}.bias" for name in (m.query, m.key, m.value)}
        found = [tensor for tensor in super().layer_tensors(i) if tensor.name not in without]
        if self.heads[i]:
            width = self.heads[i] * self.head_dim
            queries, values = self._biases(i)
            found.append(Tensor.over(queries, n + "query.bias", Role.KEPT, (width, n + "queries")))
            found.append(Tensor.over(values, n + "value.bias", Role.KEPT, (width, n + "keys")))
        return found

    def folds(self) -> list[Fold]:
        m = self.module_names
        return [
            Fold((f"{self.prefix(i)}{m.out}.weight",), (f"{self.prefix(i)}{m.value}.weight", self._biases(i)[1]))
            for i in self.own_layers()
            if self.heads[i]
        ]

    def projected(self, p: Program, w: Parameters, i: int, h: Value) -> Value:
        m, t = self.module_names, self.prefix(i)
        names = [f"{t}{name}.weight" for name in (m.query, m.key, m.value)]
        queries, values = self._biases(i)
        bias = w.vectors(queries, self.heads[i] * self.head_dim, values)  # keys have none
        return p.linear(f"layers.{i}.attention.qkv", h, w.linear(*names), bias, limit=w.limit(*names))

    def _biases(self, i: int) -> tuple[str, str]:
        """Of queries and of values."""
        return self.prefix(i) + "attention.self.q_bias", self.prefix(i) + "attention.self.v_bias"
