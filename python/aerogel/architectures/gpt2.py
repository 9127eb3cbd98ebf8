"""GPT-2, and what has its form (DistilGPT2, DialoGPT)."""

from __future__ import annotations

from typing import ClassVar

from aerogel.architectures.files import SavedNames
from aerogel.architectures.fused import Fused
from aerogel.architectures.heads import SEQUENCE, SPANS, TOKENS
from aerogel.architectures.learned import LearnedDecoder, Names
from aerogel.architectures.settings import CONFIG, Refused, Settings

_LAYER = "h.{n}."
_PARTS = ("attn.q_proj", "attn.k_proj", "attn.v_proj")


class GPT2(LearnedDecoder):
    """Files have queries, keys and values as one linear, and the weights of all linears in layers transposed."""

    model_types: ClassVar = ("gpt2",)
    classes: ClassVar = ("GPT2LMHeadModel", "GPT2Model")
    headed: ClassVar = {
        "GPT2ForSequenceClassification": SEQUENCE,
        "GPT2ForTokenClassification": TOKENS,
        "GPT2ForQuestionAnswering": SPANS,
    }
    layer_prefix: ClassVar = "h.{}."
    modules: ClassVar = Names(
        words="wte",
        positions="wpe",
        norm="ln_f",
        attention_norm="ln_1",
        queries_keys_values=_PARTS,
        out="attn.c_proj",
        ffn_norm="ln_2",
        up="mlp.c_fc",
        down="mlp.c_proj",
    )
    harmless = {r"h\.\d+\.attn\.bias": "the causal mask"}
    default_activation: ClassVar = "gelu_new"
    config_names = {
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "intermediate_size": "n_inner",
        "max_position_embeddings": "n_positions",
    }
    saved: ClassVar = {
        "gpt2": SavedNames(
            base_class="GPT2Model",
            prefix="transformer.",
            parts=("wte.", "wpe.", "h.", "ln_f."),
            tied={"lm_head.weight": "wte.weight"},
            classifier="GPT2ForSequenceClassification",
            fused=(Fused(_LAYER + "attn.c_attn", tuple(_LAYER + part for part in _PARTS)),),
            transposed=tuple(_LAYER + name for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")),
        )
    }
    settings: ClassVar = CONFIG | Settings(
        "config.json",
        used={
            "n_layer": "layers",
            "n_embd": "width",
            "n_head": "heads",
            "head_dim": "aerogel's: width of a head where heads were pruned",
            "n_inner": "width of the feed-forward blocks; four times n_embd where it is null",
            "n_positions": "rows of the position embeddings",
            "layer_norm_epsilon": "layer norms",
            "activation_function": "feed-forward blocks",
        },
        harmless={
            "n_ctx": "n_positions says it",
            "summary_*": "of a class that chooses between answers",
            "reorder_and_upcast_attn": "how training keeps its precision",
            "hidden_size": "n_embd says it",
            "num_hidden_layers": "n_layer says it",
            "num_attention_heads": "n_head says it",
            "intermediate_size": "n_inner says it",
            "max_position_embeddings": "n_positions says it",
            "num_key_value_heads": "no heads share keys and values",
        },
        refused={
            "scale_attn_weights": Refused("attention that is not scaled", (True,)),
            "scale_attn_by_inverse_layer_idx": Refused("attention scaled by the layer"),
        },
    )

    def default_ffn(self) -> int | None:
        return 4 * self.hidden_size
