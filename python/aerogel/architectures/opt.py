"""OPT (arXiv 2205.01068). The one of 350 million parameters, which has norms behind its blocks, is not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from aerogel.architectures.files import SavedNames
from aerogel.architectures.heads import SEQUENCE, SPANS
from aerogel.architectures.learned import LearnedDecoder, Names
from aerogel.architectures.pooling import Pooling
from aerogel.architectures.settings import CONFIG, Refused, Settings
from aerogel.errors import UnsupportedModelError


class OPT(LearnedDecoder):
    """The position embeddings have two rows before that of the first token."""

    model_types: ClassVar = ("opt",)
    classes: ClassVar = ("OPTForCausalLM", "OPTModel")
    headed: ClassVar = {"OPTForSequenceClassification": SEQUENCE, "OPTForQuestionAnswering": SPANS}
    default_pad: ClassVar = 1
    layer_prefix: ClassVar = "decoder.layers.{}."
    modules: ClassVar = Names(
        words="decoder.embed_tokens",
        positions="decoder.embed_positions",
        norm="decoder.final_layer_norm",
        attention_norm="self_attn_layer_norm",
        queries_keys_values=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        out="self_attn.out_proj",
        ffn_norm="final_layer_norm",
        up="fc1",
        down="fc2",
    )
    offset: ClassVar = 2
    default_activation: ClassVar = "relu"
    fixed_eps: ClassVar = 1e-5
    config_names = {"intermediate_size": "ffn_dim"}
    saved: ClassVar = {
        "opt": SavedNames(
            base_class="OPTModel",
            prefix="model.",
            parts=("decoder.",),
            tied={"lm_head.weight": "decoder.embed_tokens.weight"},
            classifier="OPTForSequenceClassification",
        )
    }
    settings: ClassVar = CONFIG | Settings(
        "config.json",
        used={
            "num_hidden_layers": "layers",
            "hidden_size": "width",
            "num_attention_heads": "heads",
            "head_dim": "aerogel's: width of a head where heads were pruned",
            "ffn_dim": "width of the feed-forward blocks",
            "max_position_embeddings": "rows of the position embeddings, but for two",
            "activation_function": "feed-forward blocks",
            "word_embed_proj_dim": "only hidden_size: the width of the embeddings",
        },
        harmless={
            "init_std": "training only",
            "intermediate_size": "ffn_dim says it",
            "num_key_value_heads": "no heads share keys and values",
        },
        refused={
            "do_layer_norm_before": Refused("norms behind the blocks", (True,)),
            "_remove_final_layer_norm": Refused("no norm behind the layers"),
            "layer_norm_elementwise_affine": Refused("norms without weights", (True,)),
            "enable_bias": Refused("linears without biases", (True,)),
        },
    )

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        super().__init__(config, names, pooling)
        width = config.get("word_embed_proj_dim")
        if width not in (None, self.hidden_size):
            raise UnsupportedModelError(
                f"config: word_embed_proj_dim: {width!r:.80} is not supported, only hidden_size, {self.hidden_size}: "
                "linears between embeddings and hidden states are not run"
            )

    def default_ffn(self) -> int | None:
        return None

    def hidden_widths(self) -> dict[str, int]:
        return {**super().hidden_widths(), "word_embed_proj_dim": 1}
