"""NomicBERT encoders (arXiv 2402.01613): BERT with rotary embeddings and SwiGLU.

nomic-embed-text-v1, v1.5 and what is built on nomic-bert-2048 have configs in GPT-2's words and code of their own, which is
not run; Transformers 5 writes the same tensors with a config in BERT's words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from aerogel._core import Rotary
from aerogel.architectures.config import Config
from aerogel.architectures.encoder import SETTINGS, Names
from aerogel.architectures.files import GGUFNames, GGUFSource, SavedNames
from aerogel.architectures.fused import Fused
from aerogel.architectures.gated import GATES, GatedEncoder, check_code
from aerogel.architectures.heads import (
    MASKED,
    SEQUENCE,
    TOKENS,
    Activation,
    Head,
    Linear,
    Norm,
    classes,
    linear,
    sequence_head,
    span_head,
    token_head,
)
from aerogel.architectures.pooling import Pooling
from aerogel.architectures.rope import rotary
from aerogel.architectures.rope_gguf import add_rope_scaling
from aerogel.architectures.settings import Refused, Settings
from aerogel.errors import ConfigError

_ATTENTION = "encoder.layers.{n}.attn."
_GGUF_BLOCKS = {
    "attn_qkv": "attn.Wqkv",
    "attn_output": "attn.out_proj",
    "attn_output_norm": "norm1",
    "ffn_up": "mlp.fc11",
    "ffn_gate": "mlp.fc12",
    "ffn_down": "mlp.fc2",
    "layer_output_norm": "norm2",
}


def _finish_gguf(file: GGUFSource, config: dict[str, Any]) -> None:
    types = file.tensors.get("token_types.weight")
    config["type_vocab_size"] = 0 if types is None else types.shape[0]
    for key, tensor in (("qkv_proj_bias", "attn_qkv"), ("mlp_fc1_bias", "ffn_up"), ("mlp_fc2_bias", "ffn_down")):
        config[key] = f"blk.0.{tensor}.bias" in file.tensors
    heads, hidden = config["num_attention_heads"], config["hidden_size"]
    if heads < 1 or hidden % heads:
        raise ConfigError(f"{file.path}: expected a width that {heads} heads divide, got {hidden}")
    config["head_dim"] = hidden // heads
    add_rope_scaling(file, config)


GGUF = GGUFNames(
    keys={
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "max_position_embeddings": "context_length",
        "layer_norm_eps": "attention.layer_norm_epsilon",
        "rope_theta": "rope.freq_base",
    },
    defaults={
        "model_type": "nomic_bert",
        "architectures": ["NomicBertModel"],
        "hidden_act": "silu",
        "layer_norm_eps": 1e-12,
        "rope_theta": 10000.0,
    },
    tensors={
        "token_embd.weight": "embeddings.word_embeddings.weight",
        "token_types.weight": "embeddings.token_type_embeddings.weight",
        "token_embd_norm.weight": "emb_ln.weight",
        "token_embd_norm.bias": "emb_ln.bias",
    },
    blocks={
        f"{short}.{part}": f"encoder.layers.{{n}}.{long}.{part}"
        for short, long in _GGUF_BLOCKS.items()
        for part in ("weight", "bias")
    },
    finish=_finish_gguf,
)
#: Transformers' keys -> those of the configs with code of their own.
_GPT2_WORDS = {
    "num_hidden_layers": "n_layer",
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
    "layer_norm_eps": "layer_norm_epsilon",
    "hidden_act": "activation_function",
}


def _saved(prefix: str) -> SavedNames:
    return SavedNames(
        base_class="NomicBertModel",
        prefix=prefix,
        parts=("embeddings.", "encoder.", "emb_ln.", "pooler."),
        tied={"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight"},
        classifier="NomicBertForSequenceClassification",
        fused=(Fused(_ATTENTION + "Wqkv", tuple(_ATTENTION + f"{x}_proj" for x in "qkv")),),
    )


class NomicBert(GatedEncoder):
    """Outputs as `Encoder`."""

    model_types: ClassVar = ("nomic_bert",)
    classes: ClassVar = {**classes("NomicBert"), "NomicBertForPreTraining": MASKED}
    modules: ClassVar = Names(
        norm="emb_ln",
        query="attn.q_proj",
        key="attn.k_proj",
        value="attn.v_proj",
        out="attn.out_proj",
        attention_norm="norm1",
        up="mlp.fc11",
        down="mlp.fc2",
        ffn_norm="norm2",
    )
    gate: ClassVar = "mlp.fc12"
    layer_prefix: ClassVar = "encoder.layers.{}."
    activations: ClassVar = {**GATES, "swiglu": "silu", "geglu": "gelu"}
    type_counts: ClassVar = (2, 0)
    wordpiece: ClassVar = True
    saved: ClassVar = {"nomic_bert": _saved("nomic_bert."), "nomic_bert in GPT-2's words": _saved("bert.")}
    gguf: ClassVar = {"nomic-bert": GGUF}
    settings: ClassVar = SETTINGS | Settings(
        "config.json",
        used={
            **{theirs: f"as {ours}" for ours, theirs in _GPT2_WORDS.items()},
            "hidden_act": "the gate's activation",
            "activation_function": "the gate's activation: swiglu or geglu",
            "max_position_embeddings": "the longest sequence",
            "qkv_proj_bias": "biases of the attention's linears",
            "mlp_fc1_bias": "biases of the feed-forward linears",
            "mlp_fc2_bias": "biases of the feed-forward linears",
            "rotary_emb_base": "rotary embeddings",
            "rotary_scaling_factor": "rotary embeddings: from max_trained_positions on they are stretched by the length",
            "max_trained_positions": "rotary embeddings",
            "rope_parameters": "rotary embeddings, as Transformers 5 writes them",
            "rope_theta": "rotary embeddings",
            "rope_scaling": "rotary embeddings",
            "original_max_position_embeddings": "rotary embeddings",
            "partial_rotary_factor": "rotary embeddings",
            "auto_map": "only NomicBERT's own classes, which are not run: what they compute is known",
        },
        harmless={
            "dense_seq_output": "every token's output is given",
            "fused_*": "how fast, not what",
            "use_xentropy": "training only",
            "pad_vocab_size_multiple": "the rows are padded already",
            "summary_*": "heads that GPT-2 has",
            "reorder_and_upcast_attn": "how fast, not what",
            "mlp_multiple_of": "n_inner says it",
            "norm_position": "prenorm says it",
        },
        refused={
            "prenorm": Refused("norms before the blocks"),
            "parallel_block": Refused("blocks side by side"),
            "parallel_block_tied_norm": Refused("blocks side by side"),
            "causal": Refused("attention to what stands before only"),
            "use_rms_norm": Refused("another norm"),
            "norm_mlp": Refused("a norm inside the feed-forward blocks"),
            "rotary_emb_fraction": Refused("heads that turn in part, or not at all", (1, 1.0)),
            "rotary_emb_interleaved": Refused("pairs that stand side by side"),
            "rotary_emb_scale_base": Refused("xPos", ()),
            "scale_attn_weights": Refused("attention that is not scaled", (True,)),
            "scale_attn_by_inverse_layer_idx": Refused("attention scaled by the layer"),
            "moe_every_n_layers": Refused("experts", (0,)),
        },
    )

    @classmethod
    def claims(cls, config: Mapping[str, Any]) -> str | None:
        kind = super().claims(config)
        return "nomic_bert in GPT-2's words" if kind is not None and "n_embd" in config else kind

    def __init__(self, config: Mapping[str, Any], names: Sequence[str], pooling: Pooling | None) -> None:
        self.config_names = _GPT2_WORDS if "n_embd" in config else {}
        super().__init__(config, names, pooling)

    def configure(self, c: Config) -> None:
        check_code(c, ("NomicBert",))
        own = bool(self.config_names)
        self.qkv_bias = self.out_bias = c.boolean("qkv_proj_bias", own)
        self.up_bias, self.down_bias = c.boolean("mlp_fc1_bias", own), c.boolean("mlp_fc2_bias", own)
        self.rotary = self._own_rotary(c) if own else _rotary(c, self.head_dim)
        self.positions = self.rotary.positions

    def _own_rotary(self, c: Config) -> Rotary:
        values: dict[str, Any] = {
            "rope_theta": c.number("rotary_emb_base", 10000.0),
            "max_position_embeddings": self.positions,
        }
        factor = c.number("rotary_scaling_factor", 0.0)
        if not factor:
            return rotary(Config(values), self.head_dim)
        trained = c.integer("max_trained_positions", 2048)
        turning = rotary(Config({**values, "max_position_embeddings": trained}), self.head_dim)
        return Rotary(turning.frequencies(1), self.positions, after=trained, growth=(values["rope_theta"], factor))

    def make_head(self, kind: str, c: Config, names: Sequence[str]) -> Head:
        h = (self.hidden_size, "hidden")
        if kind == SEQUENCE:
            return sequence_head(h, self.labels, first="pooler.dense")
        if kind == TOKENS:
            return token_head(h, self.labels)
        if kind != MASKED:
            return span_head(h)
        cls, words = "cls.predictions.", self.module_names.words + ".weight"
        first = linear(cls + "transform.dense", "head.transform", h, h, cls + "transform.dense.bias" in names)
        norm = Norm(cls + "transform.layer_norm", "head.norm", h, self.eps)
        tied = c.boolean("tie_word_embeddings", True) or cls + "decoder.weight" not in names
        bias = next((name for name in (cls + "bias", cls + "decoder.bias") if name in names), None)
        weight = words if tied else cls + "decoder.weight"
        last = Linear(weight, bias, "head.decoder", (self.vocab_size, ""), h, tied)
        self.harmless[r"cls\.predictions\.(decoder\.weight|decoder\.bias)"] = (
            "tied to the word embeddings, or to the bias"
        )
        return Head("logits", (first, Activation(self.activation), norm, last))


def _rotary(c: Config, head_dim: int) -> Rotary:
    keys = (
        "rope_theta",
        "rope_scaling",
        "rope_parameters",
        "max_position_embeddings",
        "original_max_position_embeddings",
    )
    values = {key: c.values.get(key) for key in (*keys, "partial_rotary_factor")}
    if values["rope_theta"] is None and not values["rope_parameters"]:
        values["rope_theta"] = 1000.0
    return rotary(Config(values), head_dim)
