"""How the files that people have name what a model family reads: Hugging Face's folders and GGUF."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from aerogel.architectures.fused import Fused
from aerogel.architectures.pooling import Pooling


class TensorSource(Protocol):
    """What a family looks at of a checkpoint; `aerogel.checkpoint.Checkpoint` is one."""

    path: Path
    config: dict[str, Any]

    @property
    def pooling(self) -> Pooling | None:
        """How the model's authors make one embedding of a sequence, or None where the checkpoint does not say."""

    def names(self) -> list[str]:
        """The parameters' names."""

    def shape(self, name: str) -> tuple[int, ...]:
        """A parameter's shape."""

    def require(self, names: Iterable[str]) -> None:
        """Raises MissingTensorsError with all of `names` that are not there."""


@dataclass(frozen=True)
class SavedNames:
    """How Transformers names the parameters of one model type when it saves them.

    Attributes:
        base_class: the class of the model without a head: its parameters have no prefix.
        prefix: of the base model's parameters inside any other class.
        parts: how the names of the base model's parameters begin.
        renamed: endings of names that older versions wrote -> those of today.
        tied: a head's tensor -> the embeddings that it is where the config ties them.
        around: what a model of more than text puts before its names, longest first.
        classifier: the class with a classification head that fine-tuning makes, or None where none is offered.
        fused: linears that are saved as one, in GGUF too where the name there translates to that one's.
        transposed: linears whose weights are saved as [inputs, outputs], without .weight, where they are also `fused` under
            the one's name. {n} is the number of a layer.
        convolutions: of tokens, saved as [N, K, taps], which are several matrices [N, K] here: `name`.0.weight and so on.
    """

    base_class: str
    prefix: str
    parts: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    classifier: str | None = None
    around: tuple[str, ...] = ()
    fused: tuple[Fused, ...] = ()
    transposed: tuple[str, ...] = ()
    convolutions: tuple[str, ...] = ()

    def tap(self, name: str) -> tuple[str, int] | None:
        """(the convolution, which of its taps) of a tensor by its name relative to the base model; None: it is none's."""
        found = re.fullmatch(r"(.+)\.(\d+)\.weight", name)
        return (found[1], int(found[2])) if found and found[1] in self.convolutions else None

    def is_transposed(self, name: str) -> bool:
        """Whether the tensor, by its name relative to the base model, is saved transposed."""
        return re.sub(r"(?<=\.)\d+(?=\.)", "{n}", name) in {one + ".weight" for one in self.transposed}


class GGUFSource(Protocol):
    """What `GGUFNames.finish` may look at."""

    @property
    def path(self) -> Path: ...

    @property
    def metadata(self) -> Mapping[str, Any]: ...

    @property
    def tensors(self) -> Mapping[str, Any]:
        """Name in the file -> something with a `shape`."""

    def float32(self, name: str) -> NDArray[np.float32]:
        """A tensor, decoded."""


def _unchanged(file: GGUFSource, config: dict[str, Any]) -> None:
    """Nothing to complete."""


@dataclass(frozen=True)
class GGUFNames:
    """How one `general.architecture` of GGUF translates.

    Attributes:
        keys: config key -> metadata key without the architecture's prefix.
        defaults: config entries that the metadata does not carry.
        tensors: name outside the blocks -> Hugging Face name.
        blocks: name inside block N -> Hugging Face name with {n}.
        interleaved: tensors whose rows stand interleaved for llama.cpp's rotary embedding -> the config key that counts
            their heads.
        finish: completes the config from the file.
        zeros: Hugging Face name of a tensor that a file may lack -> the config keys of its axes: then it is zeros.
        norm_offset: what the file has added to the weights of norms.
        ignored: tensors that `finish` has used up.
        whole: name inside block N -> (another one, Hugging Face name with {n} where the block lacks that one): what is two
            tensors in some files, and one in others.
        per_layer: config keys, of PER_LAYER, that may have an entry a layer.
        with_middle: endings of Hugging Face names: tensors [N, 1, K] there, which files have as [N, K].
    """

    keys: Mapping[str, str]
    defaults: Mapping[str, Any]
    tensors: Mapping[str, str]
    blocks: Mapping[str, str]
    interleaved: Mapping[str, str] = field(default_factory=dict)
    finish: Callable[[GGUFSource, dict[str, Any]], None] = _unchanged
    ignored: tuple[str, ...] = ()
    zeros: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    whole: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    norm_offset: float = 0.0
    with_middle: tuple[str, ...] = ()
    per_layer: tuple[str, ...] = ()
