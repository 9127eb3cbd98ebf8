"""Mistral (arXiv 2310.06825), whose layers see a window of the text, and Ministral, of which some layers do."""

from __future__ import annotations

from typing import ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.decoder import Decoder, saved_names
from aerogel.architectures.decoder_settings import DECODER, WINDOWS
from aerogel.architectures.details import Details, gate_kind
from aerogel.architectures.rope import rotary
from aerogel.architectures.windows import layer_kinds, windows
from aerogel.errors import UnsupportedModelError


class Mistral(Decoder):
    """Llama with windows and without biases. In GGUF it is called llama."""

    model_types: ClassVar = ("mistral", "ministral")
    saved: ClassVar = {"mistral": saved_names("MistralModel"), "ministral": saved_names("MinistralModel")}
    settings: ClassVar = DECODER | WINDOWS

    def details_of(self, c: Config) -> Details:
        found = windows(c, self.layers, [True] * self.layers, default=4096)
        # Transformers passes over layer_types of mistral: all layers have the window.
        if c.values["model_type"] == "mistral" and c.values.get("sliding_window", 4096) is not None and None in found:
            raise UnsupportedModelError(
                f"config: layer_types: {', '.join(sorted(set(layer_kinds(c, self.layers) or ())))}: only sliding_attention "
                "is supported beside sliding_window for model_type mistral; ministral has both"
            )
        return Details(
            rotaries=(rotary(c, self.head_dim),) * self.layers,
            windows=found,
            gate=gate_kind(c),
            causal=c.boolean("is_causal", True),
        )
