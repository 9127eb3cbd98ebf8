"""How decoders differ from each other, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from aerogel._core import Rotary
from aerogel.architectures.config import Config
from aerogel.architectures.windows import Windows

#: hidden_act -> a kind of `Program.gate`.
_GATES = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


def gate_kind(c: Config, key: str = "hidden_act", default: str = "silu") -> str:
    """The activation of a gated feed-forward block, by the words of a config."""
    return c.choice(key, _GATES, default)


class Modules(NamedTuple):
    """What a family calls its modules; those of a layer behind `layer_prefix`. Llama's names, unless said."""

    words: str = "embed_tokens"
    norm: str = "norm"
    queries_keys_values: tuple[str, str, str] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    out: str = "self_attn.o_proj"
    query_norm: str = "self_attn.q_norm"
    key_norm: str = "self_attn.k_norm"
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
    head: str = "lm_head"


@dataclass(frozen=True)
class Details:
    """What a config asks of a decoder. The defaults are Llama's.

    Attributes:
        rotaries: of each layer: how heads turn; None: they do not.
        windows: of each layer: how many positions away a token still sees another one; None: all of them.
        attention_norms: the names of the norms before and after attention; None: there is none.
        ffn_norms: the same of the feed-forward block.
        norm_offset: what is added to the weight of every norm.
        layer_norm: whether norms take the mean away too, and have biases.
        parallel: whether the feed-forward block does not see what attention adds. Without a norm of its own it reads that of
            attention.
        gated: whether the feed-forward block has a gate.
        qk_norm: RMS norm of queries and keys: "head" (each head alone), "heads" (all of them together), None.
        qkv_bias, out_bias, ffn_bias: which linears have biases.
        gate: the activation, a kind of `Program.gate`, or of `Program.activation` where there is no gate.
        head_bias: whether the logits have biases.
        causal: whether a token sees only what stands before it.
        attention_scale: of the scores; None: 1 / sqrt(head_dim).
        attention_cap: scores are cap * tanh(scores / cap); 0: as they are.
        embedding_scale: of the token embeddings.
        residual_scale: of what each block adds.
        logit_scale: of the logits.
        logit_cap: as attention_cap, of the logits.
    """

    rotaries: tuple[Rotary | None, ...]
    windows: Windows
    attention_norms: tuple[str | None, str | None] = ("input_layernorm", None)
    ffn_norms: tuple[str | None, str | None] = ("post_attention_layernorm", None)
    norm_offset: float = 0.0
    layer_norm: bool = False
    parallel: bool = False
    gated: bool = True
    qk_norm: str | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    ffn_bias: bool = False
    head_bias: bool = False
    gate: str = "silu"
    causal: bool = True
    attention_scale: float | None = None
    attention_cap: float = 0.0
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    logit_cap: float = 0.0

    @property
    def shares_norm(self) -> bool:
        """Whether both blocks read one norm."""
        return self.parallel and self.ffn_norms[0] is None
