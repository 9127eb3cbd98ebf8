"""Linears that make a vector or a weight of each token, as the files of their authors have them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerogel.architectures import Config
from aerogel.architectures.token_heads import KEY, tensor_of
from aerogel.checkpoint.safetensors_file import SafetensorsFile
from aerogel.checkpoint.sentence_modules import TokenDense
from aerogel.checkpoint.tensor_files import weight_file
from aerogel.errors import CheckpointError, MissingTensorsError, ShapeError

log = logging.getLogger("aerogel")

#: File beside a model, without its ending -> what the linear in it gives, and the rest of its head.
_BESIDE: Mapping[str, tuple[str, dict[str, Any]]] = {
    "colbert_linear": ("colbert", {"activation": None, "normalize": True}),
    "sparse_linear": ("lexical", {"activation": "relu", "normalize": False}),
}
#: The class of a checkpoint whose projection stands among its tensors, under this name.
_COLBERT, _PROJECTION = "HF_ColBERT", "linear.weight"
#: The linear that a module's input goes through where it is added to what the module makes, and is not as wide.
_RESIDUAL = "residual.weight"


@dataclass
class TokenHeads:
    """What was found.

    Attributes:
        entries: of the config, see `aerogel.architectures.token_heads`.
        arrays: tensors that other files have, by their names here.
        renamed: tensors of the model's own files -> their names here; None: another file has the same.
    """

    entries: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    renamed: dict[str, str | None] = field(default_factory=dict)


def read_token_heads(
    folder: Path, config: Mapping[str, Any], names: Mapping[str, tuple[int, ...]], modules: Sequence[TokenDense]
) -> TokenHeads:
    """The heads of a model's folder.

    Args:
        folder: of the model.
        config: of the model. One that lists its heads was written by aerogel: there is nothing to find then.
        names: the model's tensors, and their shapes.
        modules: what modules.json lists of them.

    Raises:
        CheckpointError: a file is broken.
        MissingTensorsError: a file lacks its linear.
    """
    found = TokenHeads()
    if config.get(KEY) is not None:
        return found
    is_colbert = _PROJECTION in names and Config(config).architecture(None) == _COLBERT
    if modules:
        layers = []
        if is_colbert:
            found.renamed[_PROJECTION] = None
        for i, module in enumerate(modules):
            dense = module.dense
            for part, values in _linear_of(module).items():
                found.arrays[f"{tensor_of('tokens', i)}.{part}"] = values
            layers.append({"outputs": dense.outputs, "bias": dense.bias, "activation": dense.activation})
        found.entries.append({"output": "tokens", "normalize": True, "layers": layers})
    elif is_colbert:
        found.renamed[_PROJECTION] = tensor_of("tokens", 0) + ".weight"
        layer = {"outputs": names[_PROJECTION][0], "bias": False, "activation": None}
        found.entries.append({"output": "tokens", "normalize": True, "layers": [layer]})
    for stem, (output, head) in _BESIDE.items():
        linear = _linear_beside(folder / stem)
        if linear is None:
            continue
        weight, bias = linear
        found.arrays[tensor_of(output, 0) + ".weight"] = weight
        if bias is not None:
            found.arrays[tensor_of(output, 0) + ".bias"] = bias
        layer = {"outputs": len(weight), "bias": bias is not None, "activation": head["activation"]}
        found.entries.append({"output": output, "normalize": head["normalize"], "layers": [layer]})
    return found


def _linear_of(module: TokenDense) -> dict[str, NDArray[np.float32]]:
    """Weight and bias of a module's linear. One whose input x is added to what it makes, W x + b + x, is (W + 1) x + b: so
    it is read, whether x is added as it is or through a linear of its own."""
    dense, file = module.dense, SafetensorsFile(weight_file(module.place))
    widens = module.residual and dense.inputs != dense.outputs
    names = ["linear.weight", *(["linear.bias"] if dense.bias else []), *([_RESIDUAL] if widens else [])]
    missing = [name for name in names if name not in file.entries]
    if missing:
        raise MissingTensorsError(file.path, missing)
    arrays = {name: file.float32(name) for name in names}
    weight = arrays["linear.weight"]
    if module.residual:
        added = arrays[_RESIDUAL] if widens else np.eye(dense.outputs, dtype=np.float32)
        if added.shape != weight.shape:
            raise ShapeError(f"{file.path}: {_RESIDUAL}: expected {list(weight.shape)}, got {list(added.shape)}")
        weight = weight + added
    return {"weight": weight, **({"bias": arrays["linear.bias"]} if dense.bias else {})}


def _linear_beside(stem: Path) -> tuple[NDArray[np.float32], NDArray[np.float32] | None] | None:
    """Weight and bias of a lone linear, in safetensors or as PyTorch saves it; None: there is no such file to read."""
    plain, pickled = stem.with_suffix(".safetensors"), stem.with_suffix(".pt")
    if plain.exists():
        file = SafetensorsFile(plain)
        tensors = {name: file.float32(name) for name in file.entries}
    elif pickled.exists():
        read = _read_pickled(pickled)
        if read is None:
            return None
        tensors = read
    else:
        return None
    path = plain if plain.exists() else pickled
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if weight is None or weight.ndim != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        shapes = {name: list(array.shape) for name, array in tensors.items()}
        raise CheckpointError(f"{path}: expected a linear's weight [N, K] and bias [N], got {shapes!s:.200}")
    return weight, bias


def _read_pickled(path: Path) -> dict[str, NDArray[np.float32]] | None:
    """The tensors of PyTorch's own format, by PyTorch, with weights only: no code in the file is run."""
    try:
        import torch
    except ImportError:
        log.warning(
            "%s: PyTorch's pickle format is read by PyTorch only, which is not installed: the model is loaded without what "
            "it is for (pip install torch, and compress or export the model once: that needs it no more)",
            path,
        )
        return None
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): np.array(tensor.float().numpy(), np.float32) for name, tensor in tensors.items()}
    except Exception as error:  # whatever a broken pickle makes of it
        raise CheckpointError(f"{path}: expected the tensors of a linear: {error!s:.300}") from error
