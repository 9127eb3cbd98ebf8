"""OLMo 2 (arXiv 2501.00656), whose norms stand behind the blocks, and OLMo 3, of which most layers have a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from aerogel._core import Rotary
from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_gguf import QK_NORMS, decoder_names
from aerogel.architectures.decoder_settings import DECODER, NO_WINDOWS, WINDOWS
from aerogel.architectures.details import Details, gate_kind
from aerogel.architectures.rope import of_layers, rotary
from aerogel.architectures.settings import Settings
from aerogel.architectures.windows import Windows, layer_kinds, no_windows, windows

_BIASES = Settings("config.json", used={"attention_bias": "biases of the attention's linears"})
_NORMS = {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm", **QK_NORMS}


class Olmo2(Decoder):
    """Norms behind attention and the feed-forward block, and over all heads of queries and of keys."""

    default_pad: ClassVar = 1
    model_types: ClassVar = ("olmo2",)
    saved: ClassVar = {"olmo2": saved_names("Olmo2Model")}
    settings: ClassVar = DECODER | _BIASES | NO_WINDOWS
    gguf: ClassVar = {"olmo2": decoder_names("olmo2", "Olmo2ForCausalLM", _NORMS)}
    default_eps: ClassVar = 1e-5

    def details_of(self, c: Config) -> Details:
        return _details(c, (rotary(c, self.head_dim),) * self.layers, no_windows(c, self.layers))


class Olmo3(Decoder):
    """OLMo 2 with windows in most layers; the others' rotary embeddings may be stretched. GGUF calls it olmo2."""

    default_pad: ClassVar = 1
    model_types: ClassVar = ("olmo3",)
    saved: ClassVar = {"olmo3": saved_names("Olmo3Model")}
    settings: ClassVar = DECODER | _BIASES | WINDOWS
    default_eps: ClassVar = 1e-5

    def details_of(self, c: Config) -> Details:
        kinds = _kinds(c, self.layers)
        ropes = {kind: rotary(of_layers(_by_kind(c), kind), self.head_dim, theta=500000.0) for kind in set(kinds)}
        found = windows(c, self.layers, [kind == "sliding_attention" for kind in kinds], default=4096)
        return _details(c, tuple(ropes[kind] for kind in kinds), found)

    def layer_settings(self, config: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
        # Also where no layer has a window: the word says how it turns.
        kinds = _kinds(Config(config), self.layers)
        return {"layer_types": [kinds[i] for i in kept]}


def _kinds(c: Config, layers: int) -> list[str]:
    every_fourth = ["full_attention" if (i + 1) % 4 == 0 else "sliding_attention" for i in range(layers)]
    return layer_kinds(c, layers) or every_fourth


def _details(c: Config, rotaries: tuple[Rotary | None, ...], found: Windows) -> Details:
    biases = c.boolean("attention_bias", False)
    return Details(
        rotaries=rotaries,
        windows=found,
        attention_norms=(None, "post_attention_layernorm"),
        ffn_norms=(None, "post_feedforward_layernorm"),
        qk_norm="heads",
        qkv_bias=biases,
        out_bias=biases,
        gate=gate_kind(c),
        causal=c.boolean("is_causal", True),
    )


def _by_kind(c: Config) -> Config:
    """The config with its rotary settings by the kind of layer: what stands in rope_scaling is for full attention only."""
    values = dict(c.values)
    scaling = values.pop("rope_scaling", None)
    if scaling is None:
        return c
    return Config({**values, "rope_parameters": {"full_attention": scaling, "sliding_attention": {}}})
