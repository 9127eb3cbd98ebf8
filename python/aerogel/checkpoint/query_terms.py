"""Queries of a sparse encoder that need no model: each token has one weight, such as how rare it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerogel.architectures import Refused, Settings
from aerogel.checkpoint.config import read_optional_json, write_json
from aerogel.checkpoint.safetensors_file import SafetensorsFile
from aerogel.checkpoint.safetensors_writer import SafetensorsWriter
from aerogel.checkpoint.tensor_files import weight_file
from aerogel.checkpoint.tokenizer import Tokenizer, load_tokenizer
from aerogel.checkpoint.tokenizer_settings import length_limit
from aerogel.checkpoint.weight import check_finite
from aerogel.errors import MissingTensorsError, ShapeError

QUERY = Settings(
    "query_0_SparseStaticEmbedding/config.json",
    used={},
    harmless={"frozen": "training only"},
    refused={"path": Refused("weights in another file than model.safetensors", ())},
    unknown="refuse",
)

#: The files of such a folder that are written here.
WRITTEN = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class QueryTerms:
    """A table of weights and its tokenizer.

    Attributes:
        weights: float32 [V], of each token.
        tokenizer: of queries.
        max_tokens: queries are cut there; None: nowhere.
    """

    weights: NDArray[np.float32]
    tokenizer: Tokenizer
    max_tokens: int | None

    def of(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[n, V]: the weights of the tokens that each text has; special tokens are not added."""
        found = np.zeros((len(texts), len(self.weights)), np.float32)
        for row, ids in zip(found, self.tokenizer.encode(texts, self.max_tokens, special=False), strict=True):
            row[ids] = self.weights[ids]
        return found


def read_query_terms(folder: Path, config: dict[str, Any]) -> QueryTerms:
    """Reads the folder of such a module.

    Args:
        folder: the module's.
        config: the model's, for its vocabulary.

    Raises:
        MissingTensorsError: there are no weights.
        ShapeError: there are more than the vocabulary has tokens.
        AerogelError: a file is broken.
    """
    QUERY.check(read_optional_json(folder / "config.json"), folder / "config.json")
    file = SafetensorsFile(weight_file(folder))
    if "weight" not in file.entries:
        raise MissingTensorsError(file.path, ["weight"])
    weight, size = file.float32("weight"), config.get("vocab_size", 0)
    if weight.ndim != 1 or len(weight) > size:
        raise ShapeError(f"{file.path}: weight: expected a number for each of {size} tokens, got {list(weight.shape)}")
    check_finite(f"{file.path}: weight", weight)
    weights = np.zeros(size, np.float32)
    weights[: len(weight)] = weight
    return QueryTerms(weights, load_tokenizer(folder, config), length_limit(folder))


def write_query_terms(terms: QueryTerms, folder: Path, pad: int | None) -> None:
    """Writes the folder of such a module, which is made. `pad` fills batches elsewhere; without one the unknown token does,
    since it is masked there."""
    folder.mkdir()
    write_json(folder / "config.json", {"frozen": False})
    writer = SafetensorsWriter(folder / "model.safetensors")
    writer.add("weight", terms.weights[: terms.tokenizer.vocab_size])
    writer.close({"format": "pt"})
    terms.tokenizer.save(folder)
    unknown = terms.tokenizer.token_of(terms.tokenizer.unk_id or 0)
    said = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": unknown,
        "pad_token": (None if pad is None else terms.tokenizer.token_of(pad)) or unknown,
    }
    limit = {} if terms.max_tokens is None else {"model_max_length": terms.max_tokens}
    write_json(folder / "tokenizer_config.json", {**said, **limit})
