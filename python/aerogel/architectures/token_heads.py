"""One vector, or one weight, a token: ColBERT (arXiv 2004.12832), and the heads of BGE-M3 (arXiv 2402.03216).

Linears on the hidden states of every token, whatever the family and the model's other head. Where files say so differs;
whoever reads them writes it into the config in this form:

    "token_heads": [{"output": "tokens", "normalize": true, "layers": [{"outputs": 128, "bias": false, "activation": null}]}]

The tensors of layer i are token_heads.<output>.<i>.weight and .bias.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aerogel.architectures.heads import Activation, Axis, Head, Normalized, Step, linear
from aerogel.errors import ConfigError

KEY = "token_heads"
#: What such a head may give, and a word on it.
OUTPUTS: Mapping[str, str] = {
    "tokens": "ColBERT's vectors",
    "colbert": "BGE-M3's vectors, of which the first token's is not used",
    "lexical": "BGE-M3's weights of tokens",
}
ACTIVATIONS = ("gelu", "relu", "silu", "tanh")


def tensor_of(output: str, layer: int) -> str:
    """What the names of a layer's tensors begin with."""
    return f"{KEY}.{output}.{layer}"


def token_heads(config: Mapping[str, Any], hidden: Axis) -> list[Head]:
    """The heads that the config lists; `hidden` is the axis of the hidden states.

    Raises:
        ConfigError: they are written otherwise.
    """
    listed = config.get(KEY) or []
    if not isinstance(listed, list):
        raise ConfigError(f"config: {KEY}: expected a list, got {listed!r:.80}")
    found = [_head(entry, hidden) for entry in listed]
    names = [head.output for head in found]
    if len(set(names)) < len(names):
        raise ConfigError(f"config: {KEY}: expected every output once, got {', '.join(names)}")
    return found


def _head(entry: Any, hidden: Axis) -> Head:
    output, layers = (entry.get(key) if isinstance(entry, Mapping) else None for key in ("output", "layers"))
    if output not in OUTPUTS or not isinstance(layers, list) or not layers:
        raise ConfigError(
            f"config: {KEY}: expected objects with layers and an output of {', '.join(OUTPUTS)}, got {entry!r:.80}"
        )
    steps: list[Step] = []
    columns = hidden
    for i, layer in enumerate(layers):
        outputs, bias, activation = (
            layer.get(key) if isinstance(layer, Mapping) else None for key in ("outputs", "bias", "activation")
        )
        known = activation is None or activation in ACTIVATIONS
        if type(outputs) is not int or not 0 < outputs < 2**20 or not isinstance(bias, bool) or not known:
            raise ConfigError(
                f"config: {KEY}: {output}: layer {i}: expected outputs, bias, activation, got {layer!r:.80}"
            )
        tensor = tensor_of(str(output), i)
        steps.append(linear(tensor, tensor, (outputs, ""), columns, bias))
        if activation is not None:
            steps.append(Activation(activation))
        columns = (outputs, "")
    return Head(str(output), (*steps, *([Normalized()] if entry.get("normalize") is True else [])))
