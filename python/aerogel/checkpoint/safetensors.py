"""Hugging Face folders: config.json, tokenizer files and model.safetensors, in one file or in shards.

sentence-transformers folders are the same with modules.json on top.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerogel.architectures import saved_names, table_config
from aerogel.architectures.fused import Rows
from aerogel.architectures.pooling import Pooling
from aerogel.architectures.token_heads import KEY
from aerogel.checkpoint.chat import ChatTemplates, folder_templates
from aerogel.checkpoint.checkpoint import Checkpoint
from aerogel.checkpoint.config import read_config, read_optional_json
from aerogel.checkpoint.fused import row_count, split_fused, transposed
from aerogel.checkpoint.generation import GenerationSettings, generation_settings
from aerogel.checkpoint.names import normalize_all
from aerogel.checkpoint.query_terms import QueryTerms, read_query_terms
from aerogel.checkpoint.sentence_transformers import (
    Prompts,
    SentenceTransformer,
    read_sentence_transformer,
    score_activation,
)
from aerogel.checkpoint.tensor_files import TensorFiles
from aerogel.checkpoint.token_heads import read_token_heads
from aerogel.checkpoint.tokenizer import Tokenizer, load_tokenizer
from aerogel.checkpoint.tokenizer_settings import length_limit
from aerogel.checkpoint.weight import Weight, check_finite, check_matrix
from aerogel.checkpoint.word_table import table_shape, take_table
from aerogel.errors import CheckpointError, MissingTensorsError, UnsupportedModelError

log = logging.getLogger("aerogel")


def detect(path: Path) -> bool:
    """A folder, or a lone .safetensors file inside one."""
    return path.is_dir() or path.suffix == ".safetensors"


def read(path: Path, verify: bool = True) -> SafetensorsCheckpoint:
    """Opens the folder, or the folder around the file."""
    return SafetensorsCheckpoint(path, verify)


class FolderCheckpoint(Checkpoint):
    """What every Hugging Face style folder has: a tokenizer and, perhaps, sentence-transformers files."""

    def __init__(self, path: Path, folder: Path, sentence: SentenceTransformer | None, config: dict[str, Any]) -> None:
        super().__init__(path, config)
        self._folder = folder
        self._sentence = sentence

    def _load_tokenizer(self) -> Tokenizer:
        return load_tokenizer(self._folder, self.config, self._sentence is not None and self._sentence.lowercase)

    @property
    def prompts(self) -> Prompts:
        return self._sentence.prompts if self._sentence else Prompts()

    @property
    def similarity(self) -> str | None:
        return self._sentence.similarity if self._sentence else None

    @property
    def term_activation(self) -> str | None:
        return self._sentence.terms if self._sentence else None

    @property
    def score_activation(self) -> str | None:
        if self._sentence is not None and self._sentence.activation is not None:
            return self._sentence.activation
        return score_activation(self.config, self._folder / "config.json")

    @cached_property
    def generation(self) -> GenerationSettings:
        path = self._folder / "generation_config.json"
        return generation_settings(read_optional_json(path), path)

    @cached_property
    def chat_templates(self) -> ChatTemplates:
        return folder_templates(self._folder)

    @property
    def pooling(self) -> Pooling | None:
        return self._sentence.pooling if self._sentence else None

    @property
    def max_tokens(self) -> int | None:
        if self._sentence and self._sentence.table:
            return self.tokenizer().limit
        return self._sentence.max_tokens if self._sentence and self._sentence.max_tokens else self._tokenizer_limit

    @cached_property
    def _tokenizer_limit(self) -> int | None:
        return length_limit(self._folder)

    @cached_property
    def query_terms(self) -> QueryTerms | None:
        place = self._sentence.queries if self._sentence else None
        return None if place is None else read_query_terms(place, self.config)


class SafetensorsCheckpoint(FolderCheckpoint):
    """Float weights (F32, F16, BF16, F64) in safetensors, pruned by `torch.nn.utils.prune` or not."""

    kind = "safetensors"

    def __init__(self, path: Path, verify: bool = True) -> None:
        lone = path if path.suffix == ".safetensors" and path.is_file() else None
        root = path.parent if lone else path
        sentence = read_sentence_transformer(root)
        folder = sentence.model_folder if sentence else root
        # Weights first: a folder without any is not a model, whatever else it lacks.
        self._files = TensorFiles(folder, lone, verify)
        if sentence is not None:
            self._files.add(sentence.files)
        table = sentence is not None and sentence.table  # which no config says anything of
        config = table_config(*table_shape(self._files, folder)) if table else read_config(folder)
        super().__init__(path, folder, sentence, config)
        if self._files.packed:
            raise CheckpointError(
                f"{folder / 'config.json'}: quantization_config: expected that of a packed model, which the weights are"
            )
        method = config.get("quantization_config")
        if method is not None:
            name = method.get("quant_method") if isinstance(method, dict) else None
            raise UnsupportedModelError(
                f"{folder / 'config.json'}: the weights are quantized already ({name!r}): give the original model"
            )
        self._stored = normalize_all(self._files, config, folder)
        self._masks = _take_masks(self._stored, self._files, folder)
        self._turned = {name for name in transposed(self._stored, config) if len(self._files.entry(name).shape) == 2}
        self._stored, self._rows = split_fused(self._stored, self._row_count, self.config, folder)
        self._beside = {**self._take_token_heads(folder), **(take_table(self._stored, self._files) if table else {})}
        self._untie()

    def names(self) -> list[str]:
        return self._names

    @cached_property
    def _names(self) -> list[str]:
        return sorted([*self._stored, *self._beside])

    def __contains__(self, name: object) -> bool:
        return name in self._stored or name in self._beside

    def shape(self, name: str) -> tuple[int, ...]:
        if name in self._beside:
            return self._beside[name].shape
        shape = self._shape_of(self._find(name))
        rows = self._rows.get(name)
        return shape if rows is None else (row_count(rows), *shape[1:])

    def array(self, name: str) -> NDArray[np.float32]:
        if name in self._beside:
            return self._beside[name]
        stored = self._find(name)
        rows = self._rows.get(name)
        # the rows of what is turned lie side by side, and those of parts that take turns all over
        read = rows if isinstance(rows, slice) and stored not in self._turned else None
        values = self._files.float32(stored, read)
        check_finite(self._files.where(stored), values)
        mask = self._masks.get(stored)
        values = values if mask is None else self._masked(values, mask, read)
        return self._picked(values, stored, rows)

    def weight(self, name: str) -> Weight:
        if name in self._beside:
            return Weight(check_matrix(name, self.shape(name)), self.array(name))
        stored = self._find(name)
        where = self._files.where(stored)
        entry = self._files.entry(stored)
        shape = check_matrix(where, self.shape(name))
        if (
            entry.dtype in ("BF16", "F16") and stored not in self._masks
        ):  # as it lies in the file: the same numbers in half the memory
            rows = self._rows.get(name)
            read = rows if isinstance(rows, slice) and stored not in self._turned else None
            values = self._files.raw(stored, read)
            check_finite(where, values)
            return Weight(shape, self._picked(values, stored, rows))
        return Weight(shape, self.array(name))

    def _take_token_heads(self, folder: Path) -> dict[str, NDArray[np.float32]]:
        """Enters linears of tokens into the config, and returns the tensors that stand in files of their own."""
        shapes = {name: self._files.entry(stored).shape for name, stored in self._stored.items()}
        found = read_token_heads(folder, self.config, shapes, self._sentence.tokens if self._sentence else ())
        for old, new in found.renamed.items():
            stored = self._stored.pop(old)
            if new is not None:
                self._stored[new] = stored
        if found.entries:
            self.config = {**self.config, KEY: found.entries}
        for name, values in found.arrays.items():
            check_finite(f"{folder}: {name}", values)
        return found.arrays

    def blocks(self, name: str, rows: int) -> Iterator[NDArray[np.float32]]:
        stored = None if name in self._beside else self._find(name)
        part = self._rows.get(name)
        whole = stored in self._masks or stored in self._turned or isinstance(part, np.ndarray)
        if stored is None or whole or self._files.checked(stored):  # what is read is the whole
            yield from super().blocks(name, rows)
            return
        where = self._files.where(stored)
        count, _ = check_matrix(where, self.shape(name))
        first = part.start if isinstance(part, slice) else 0
        for begin in range(0, count, rows):
            block = self._files.float32(stored, slice(first + begin, first + min(begin + rows, count)))
            check_finite(where, block)
            yield block

    def _untie(self) -> None:
        """Where the config ties tensors that are both in the file, and differ, the file counts, as in Transformers 5."""
        saved = saved_names(self.config)
        if self.config.get("tie_word_embeddings") is False or saved is None:
            return
        for head, embeddings in saved.tied.items():
            if head in self._stored and embeddings in self._stored and not self._are_same(head, embeddings):
                self.config = {**self.config, "tie_word_embeddings": False}
                log.warning(
                    "%s: %s: tie_word_embeddings is not false, but it differs from %s: both are used as the file has them",
                    self.path,
                    head,
                    embeddings,
                )

    def _are_same(self, name: str, other: str) -> bool:
        one, two = self._stored[name], self._stored[other]
        alike = self._files.entry(one).shape == self._files.entry(two).shape
        return alike and bool(np.array_equal(self._files.float32(one), self._files.float32(two)))

    def _shape_of(self, stored: str) -> tuple[int, ...]:
        shape = self._files.entry(stored).shape
        return shape[::-1] if stored in self._turned else shape

    def _row_count(self, stored: str) -> int:
        shape = self._shape_of(stored)
        return shape[0] if shape else 0

    def _masked(self, values: NDArray[np.float32], mask: str, rows: slice | None) -> NDArray[np.float32]:
        kept = self._files.float32(mask, rows)
        if not np.isin(kept, (0, 1)).all():
            raise CheckpointError(f"{self._files.where(mask)}: expected a mask of zeros and ones")
        return np.where(kept != 0, values, np.float32(0))

    def _picked(self, values: NDArray[Any], stored: str, rows: Rows | None) -> NDArray[Any]:
        """The rows of what was read: of all of it where they are no slice, or it is turned."""
        if stored in self._turned:
            return np.ascontiguousarray(values.T if rows is None else values.T[rows])
        return values if rows is None or isinstance(rows, slice) else values[rows]

    def _find(self, name: str) -> str:
        stored = self._stored.get(name)
        if stored is None:
            raise MissingTensorsError(self.path, [name])
        return stored


def _take_masks(stored: dict[str, str], files: TensorFiles, where: object) -> dict[str, str]:
    """Renames what `torch.nn.utils.prune` calls `weight_orig` in `stored` to `weight`, and returns the mask that the values
    of each are multiplied by, both under the file's names."""
    masks: dict[str, str] = {}
    for pruned in [name for name in stored if name.endswith("_orig")]:
        name = pruned.removesuffix("_orig")
        mask = stored.get(name + "_mask")
        if mask is None:
            raise MissingTensorsError(where, [name + "_mask"])
        if name in stored or files.entry(mask).shape != files.entry(stored[pruned]).shape:
            raise CheckpointError(f"{where}: {pruned}: expected a mask of its shape, and no {name} beside it")
        stored[name] = stored.pop(pruned)
        masks[stored[name]] = stored.pop(name + "_mask")
    return masks
