"""Writing linears of tokens as sentence-transformers and PyLate read them: as modules without a pooling before them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aerogel.architectures.token_heads import KEY, tensor_of
from aerogel.checkpoint.checkpoint import Checkpoint
from aerogel.checkpoint.config import write_json
from aerogel.checkpoint.sentence_modules import ACTIVATIONS

_PACKAGE = "sentence_transformers.models."
#: What the modules read and write.
_INPUT = {"module_input_name": "token_embeddings"}


def write_token_modules(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes modules.json and the modules' configs into the folder; nothing if the checkpoint has no such linears."""
    layers = _layers(checkpoint)
    if not layers:
        return
    paths = ["", *(_folder_of(i) for i in range(len(layers))), f"{len(layers) + 1}_Normalize"]
    kinds = ["Transformer", *["Dense"] * len(layers), "Normalize"]
    listed = zip(kinds, paths, strict=True)
    write_json(
        folder / "modules.json",
        [{"idx": i, "name": str(i), "path": path, "type": _PACKAGE + kind} for i, (kind, path) in enumerate(listed)],
    )
    for path in paths[1:]:
        (folder / path).mkdir()
    for i, layer in enumerate(layers):
        outputs, inputs = checkpoint.shape(tensor_of("tokens", i) + ".weight")
        function = next(name for name, kind in ACTIVATIONS.items() if kind == layer["activation"])
        module = "linear" if function == "Identity" else "activation"
        config = {
            "in_features": inputs,
            "out_features": outputs,
            "bias": layer["bias"],
            "activation_function": f"torch.nn.modules.{module}.{function}",
            **_INPUT,
        }
        write_json(folder / _folder_of(i) / "config.json", config)
    write_json(folder / paths[-1] / "config.json", _INPUT)


def token_weights(checkpoint: Checkpoint) -> Iterator[tuple[str, str, list[str]]]:
    """Of every such linear: its folder, what its tensors begin with there, and their names here."""
    for i, layer in enumerate(_layers(checkpoint)):
        parts = ("weight", "bias") if layer["bias"] else ("weight",)
        yield _folder_of(i), "linear", [f"{tensor_of('tokens', i)}.{part}" for part in parts]


def without_token_modules(checkpoint: Checkpoint, config: dict[str, Any]) -> dict[str, Any]:
    """The config without what the checkpoint's modules say."""
    if not _layers(checkpoint):
        return config
    left = [entry for entry in config.get(KEY) or [] if entry["output"] != "tokens"]
    rest = {key: value for key, value in config.items() if key != KEY}
    return {**rest, KEY: left} if left else rest


def _layers(checkpoint: Checkpoint) -> list[dict[str, Any]]:
    if checkpoint.pooling is not None or tensor_of("tokens", 0) + ".weight" not in checkpoint:
        return []
    [layers] = [entry["layers"] for entry in checkpoint.config[KEY] if entry["output"] == "tokens"]
    return list(layers)


def _folder_of(index: int) -> str:
    """The folder of a linear; the Transformer stands before the first."""
    return f"{index + 1}_Dense"
