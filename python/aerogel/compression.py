"""Compression: any supported checkpoint in, a packed model out, tensor by tensor."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aerogel import _core
from aerogel._version import __version__
from aerogel.architectures import Role, Tensor, architecture_of
from aerogel.checkpoint import Checkpoint, Weight, open_checkpoint
from aerogel.checkpoint.pooling import read_sentence_transformer
from aerogel.errors import AerogelError, RecipeError, TokenizerError
from aerogel.packed import SafetensorsWriter, add_weight, is_packed, packed_config, to_weight
from aerogel.prune import Pattern, magnitude, parse_pattern
from aerogel.quantize import quantize, scheme

log = logging.getLogger("aerogel")

#: Called after every tensor with (tensors done, tensors in all, the name of the one just done).
Progress = Callable[[int, int, str], None]

#: Beside the weights, what else of a source folder a packed model keeps.
KEPT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "generation_config.json",
    "chat_template.jinja",
    "sentence_*_config.json",
    "config_sentence_transformers.json",
    "LICENSE*",
)


@dataclass(frozen=True)
class TensorReport:
    """What became of one parameter.

    Attributes:
        name: the parameter's name in the packed model.
        shape: its shape.
        role: "linear", "head", "embedding" or "kept".
        sparsity: fraction of exact zeros.
        bytes: its size in the file.
        error: |w - stored| / |w| in the Frobenius norm, pruning and quantization together.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    sparsity: float
    bytes: int
    error: float


@dataclass(frozen=True)
class CompressReport:
    """What `compress` did."""

    path: str
    recipe: dict[str, Any]
    tensors: list[TensorReport]
    file_bytes: int
    dense_bytes: int
    seconds: float

    @property
    def sparsity(self) -> float:
        """Fraction of zeros over all pruned matrices."""
        linears = [t for t in self.tensors if t.role == Role.LINEAR.value]
        size = sum(_size(t.shape) for t in linears)
        return sum(t.sparsity * _size(t.shape) for t in linears) / size if size else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {**asdict(self), "sparsity": self.sparsity}


def compress(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    sparsity: float | None = None,
    pattern: str = "unstructured",
    quant: str = "int8",
    threads: int | None = None,
    progress: Progress | None = None,
) -> CompressReport:
    """Prunes and quantizes a model and writes it as a packed model.

    Every linear layer inside the Transformer is pruned to the same sparsity by magnitude, with what is already zero
    going first and never coming back; everything but norms and biases is quantized. No data are needed, and nothing is
    trained afterwards: above 50-60 % a model needs fine-tuning to keep its quality.

    Args:
        source: a local folder or file, or a model id on the Hugging Face hub.
        out: the folder to write. An existing packed model is replaced once the new one is complete; any other folder
            that is not empty is left alone and refused.
        sparsity: fraction of weights to remove, 0.8 unless given; 0 gives a dense model.
        pattern: "unstructured", or "Q:64": Q weights stay in each 64 columns of a row (their sparsity is 1 - Q/64).
        quant: "int8" (one scale per output channel), "bf16" (half a float32) or "none" (float32).
        threads: how many tensors are worked on at once; the machine's cores unless given. The result is the same.
        progress: called as progress(done, total, name) after every tensor.

    Returns:
        A report with the sparsity, size and error of every tensor.

    Raises:
        RecipeError: the recipe is unknown or contradictory, or `out` may not be overwritten.
        AerogelError: the source is broken or not supported.
    """
    chosen = parse_pattern(pattern, sparsity)
    scheme(quant)
    if threads is not None and threads < 1:
        raise RecipeError(f"threads: expected at least 1, got {threads}")
    check_target(Path(out))
    return write_packed(open_checkpoint(source), Path(out), chosen, quant, threads=threads, progress=progress)


def write_packed(
    checkpoint: Checkpoint,
    out: Path,
    pattern: Pattern,
    quant: str,
    sparse: bool | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> CompressReport:
    """`compress` of an open checkpoint; `sparse` forces how matrices are stored, else the smaller form is taken."""
    start = time.perf_counter()
    tensors = architecture_of(checkpoint).tensors()
    recipe = {"method": "magnitude", "pattern": str(pattern), "sparsity": pattern.sparsity, "quant": quant}
    reports: list[TensorReport] = []
    with replacing(out) as folder:
        writer = SafetensorsWriter(folder / "model.safetensors")
        results = _in_order(checkpoint, tensors, pattern, quant, sparse, threads or _core.default_threads())
        for done, (tensor, stored, error) in enumerate(results, 1):
            if isinstance(stored, Weight):
                size, zeros = add_weight(writer, tensor.name, stored), stored.sparsity
            else:
                size, zeros = writer.add(tensor.name, stored), 1 - np.count_nonzero(stored) / max(1, stored.size)
            reports.append(TensorReport(tensor.name, tensor.shape, tensor.role.value, float(zeros), size, error))
            if progress is not None:
                progress(done, len(tensors), tensor.name)
        writer.close({"format": "aerogel"})
        _write_json(folder / "config.json", packed_config(checkpoint.config, recipe, __version__))
        _keep_files(checkpoint, folder)
        file_bytes = (folder / "model.safetensors").stat().st_size
    return CompressReport(
        path=str(out),
        recipe=recipe,
        tensors=reports,
        file_bytes=file_bytes,
        dense_bytes=4 * sum(_size(t.shape) for t in tensors),
        seconds=time.perf_counter() - start,
    )


def compress_weight(weight: np.ndarray, pattern: Pattern | None, quant: str, sparse: bool | None = None) -> Weight:
    """One float32 matrix [N,K] pruned by magnitude (unless pattern is None) and quantized, in its stored form."""
    if pattern is not None and pattern.sparsity > 0:
        weight = np.where(magnitude(weight, pattern), weight, np.float32(0))
    return to_weight(quantize(quant, weight), sparse)


def _in_order(
    checkpoint: Checkpoint, tensors: Sequence[Tensor], pattern: Pattern, quant: str, sparse: bool | None, threads: int
) -> Iterator[tuple[Tensor, Weight | np.ndarray, float]]:
    """Compressed tensors in their order; at most `threads` + 1 of them are in memory."""

    def work(tensor: Tensor) -> tuple[Tensor, Weight | np.ndarray, float]:
        try:
            if tensor.role is Role.KEPT:
                return tensor, checkpoint.array(tensor.name), 0.0
            dense = checkpoint.weight(tensor.name).dense()
            stored = compress_weight(dense, pattern if tensor.role is Role.LINEAR else None, quant, sparse)
            return tensor, stored, _error(dense, stored)
        except AerogelError as error:  # say which tensor it was
            if tensor.name in str(error) or tensor.label in str(error):
                raise
            raise type(error)(f"{tensor.name}: {error}") from error

    with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="aerogel-compress") as pool:
        waiting: deque[Future[tuple[Tensor, Weight | np.ndarray, float]]] = deque()
        try:
            for tensor in tensors:
                if len(waiting) > threads:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(work, tensor))
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _error(dense: np.ndarray, stored: Weight) -> float:
    norm = float(np.linalg.norm(dense))
    return float(np.linalg.norm(dense - stored.dense())) / norm if norm else 0.0


def check_target(target: Path) -> None:
    """Raises RecipeError if writing a packed model to `target` would destroy something else."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise RecipeError(f"{target}: exists and is not a folder")
    if target.is_dir() and any(target.iterdir()) and not is_packed(target):
        raise RecipeError(f"{target}: is not empty and not a packed model, so it is not overwritten")


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends well and disappears when not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        umask = os.umask(0)
        os.umask(umask)
        folder.chmod(0o777 & ~umask)  # mkdtemp makes private folders
        yield folder
        check_target(target)  # it may have been filled meanwhile
        if target.exists():
            old = folder.with_suffix(".old")
            target.rename(old)
            folder.rename(target)
            shutil.rmtree(old)
        else:
            folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep_files(checkpoint: Checkpoint, folder: Path) -> None:
    """Copies the tokenizer's and sentence-transformers' files; a GGUF has its tokenizer inside."""
    if checkpoint.kind != "gguf":
        root = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
        sentence = read_sentence_transformer(root)
        for pattern in KEPT_FILES:
            for file in sorted((sentence.model_folder if sentence else root).glob(pattern)):
                shutil.copyfile(file, folder / file.name)
    if not (folder / "tokenizer.json").exists():
        try:
            checkpoint.tokenizer().save(folder)
        except TokenizerError as error:
            log.warning("the packed model will have no tokenizer, so it runs on token ids only: %s", error)
    _write_pooling(checkpoint, folder)


def _write_pooling(checkpoint: Checkpoint, folder: Path) -> None:
    # written rather than copied: a source may keep its Transformer in a subfolder, a packed model never does
    pooling = checkpoint.pooling
    if pooling is None:
        return
    kinds = ["Transformer", "Pooling", *(["Normalize"] if pooling.normalize else [])]
    paths = ["", "1_Pooling", "2_Normalize"]
    _write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(zip(kinds, paths, strict=False))
        ],
    )
    flags = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "last": "lasttoken"}
    (folder / "1_Pooling").mkdir()
    _write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": checkpoint.config.get("hidden_size"),
            **{f"pooling_mode_{flag}": mode == pooling.mode for mode, flag in flags.items()},
        },
    )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))
