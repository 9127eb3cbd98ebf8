"""Qwen2 (arXiv 2407.10671), which has biases of queries, keys and values, and Qwen3 (arXiv 2505.09388), which norms each
head of queries and keys instead.
"""

from __future__ import annotations

from typing import Any, ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import PRE_NORMS, QK_NORMS, decoder_names
from aerogel.architectures.decoder_settings import DECODER, WINDOWS
from aerogel.architectures.details import Details, gate_kind
from aerogel.architectures.files import GGUFSource
from aerogel.architectures.rope import rotary
from aerogel.architectures.settings import Settings
from aerogel.architectures.windows import Windows, windows

_SETTINGS = (
    DECODER
    | WINDOWS
    | Settings(
        "config.json",
        used={
            "use_sliding_window": "whether sliding_window counts",
            "max_window_layers": "the first layer with a window, where layer_types does not say it",
        },
    )
)


def _windows(c: Config, layers: int) -> Windows:
    used = c.boolean("use_sliding_window", False)
    first = c.integer("max_window_layers", 28, minimum=0) if used else 0
    return windows(c, layers, [i >= first for i in range(layers)], used, default=4096)


def _finish_gguf(file: GGUFSource, config: dict[str, Any]) -> None:
    """A reranker's file has the head's two rows that score a pair, those of "yes" and "no", as a classifier."""
    rows = file.tensors.get("cls.output.weight")
    if rows is None:
        return
    labels = file.metadata.get("qwen3.classifier.output_labels")
    count = rows.shape[0]
    names = labels if isinstance(labels, list) and len(labels) == count else [f"LABEL_{i}" for i in range(count)]
    config["architectures"] = ["Qwen3ForSequenceClassification"]
    config["id2label"] = {str(i): name for i, name in enumerate(names)}


class Qwen2(Decoder):
    """Llama with biases of queries, keys and values."""

    model_types: ClassVar = ("qwen2",)
    saved: ClassVar = {"qwen2": saved_names("Qwen2Model")}
    settings: ClassVar = _SETTINGS | Settings(
        "config.json", used={}, harmless={"attention_bias": "queries, keys and values have biases, the output has none"}
    )
    gguf: ClassVar = {"qwen2": decoder_names("qwen2", "Qwen2ForCausalLM")}

    def details_of(self, c: Config) -> Details:
        return Details(
            rotaries=(rotary(c, self.head_dim),) * self.layers,
            windows=_windows(c, self.layers),
            qkv_bias=True,
            gate=gate_kind(c),
            causal=c.boolean("is_causal", True),
        )


class Qwen3(Decoder):
    """Llama with an RMS norm of each head of queries and keys."""

    model_types: ClassVar = ("qwen3",)
    saved: ClassVar = {"qwen3": saved_names("Qwen3Model")}
    settings: ClassVar = _SETTINGS | Settings(
        "config.json", used={"attention_bias": "biases of the attention's linears"}
    )
    gguf: ClassVar = {
        "qwen3": decoder_names(
            "qwen3",
            "Qwen3ForCausalLM",
            {**PRE_NORMS, **QK_NORMS},
            tensors={"cls.output.weight": "score.weight"},
            finish=_finish_gguf,
        )
    }
    default_head_dim: ClassVar = 128

    def details_of(self, c: Config) -> Details:
        biases = c.boolean("attention_bias", False)
        return Details(
            rotaries=(rotary(c, self.head_dim),) * self.layers,
            windows=_windows(c, self.layers),
            qk_norm="head",
            qkv_bias=biases,
            out_bias=biases,
            gate=gate_kind(c),
            causal=c.boolean("is_causal", True),
        )
