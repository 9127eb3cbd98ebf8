"""Weights that are quantized while they are read: what `compress` would write without calibration, with no file between."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence

from aerogel._util.units import megabytes
from aerogel.architectures import Architecture, Role, Tensor
from aerogel.checkpoint import Checkpoint
from aerogel.checkpoint.weight import Weight
from aerogel.errors import AerogelError, RecipeError
from aerogel.quantize import of_tables, scheme
from aerogel.quantize.grid import Rows, block_rows
from aerogel.quantize.stored import quantized_by_rows, to_weight

log = logging.getLogger("aerogel")

#: Where int8 would take less than this part of the memory, weights are floats.
FLOATS = 0.6


class QuantizedWeights:
    """The matrices of a float checkpoint in a scheme of `aerogel.quantize`; embeddings and heads in that which `compress`
    has for them by default.

    A matrix is read and quantized a few rows at a time, so little more than the result is in memory; for a codebook it is
    read ten times. Threads may share it.

    Raises:
        RecipeError: there is no such scheme, or the checkpoint is a packed model.
    """

    def __init__(self, checkpoint: Checkpoint, tensors: Sequence[Tensor], quant: str) -> None:
        linears, tables = scheme(quant), scheme(of_tables(quant))
        if checkpoint.kind == "packed":
            raise RecipeError(
                f"{checkpoint.path}: quant: a packed model is run as it was packed, and cannot be quantized to {quant!r} "
                "while it is loaded: leave quant out, or compress the original model anew"
            )
        self._checkpoint = checkpoint
        self._schemes = {t.name: linears if t.role is Role.LINEAR else tables for t in tensors}
        self._held: dict[str, Weight] = {}
        self._lock = threading.Lock()
        self._whole = threading.Lock()  # one matrix at a time: a thread more would need more memory

    def weight(self, name: str) -> Weight:
        """The matrix as `compress` would store it."""
        with self._lock:
            held = self._held.pop(name, None)
        return self._quantized(name) if held is None else held

    def hold(self, name: str, weight: Weight) -> None:
        """Keeps what `weight` gave for the next one who asks, so that it is not made twice."""
        with self._lock:
            self._held[name] = weight

    def _quantized(self, name: str) -> Weight:
        chosen, checkpoint = self._schemes[name], self._checkpoint
        try:
            n, k = checkpoint.shape(name)
            if not chosen.by_rows:
                with self._whole:
                    return to_weight(chosen.streamed(Rows((n, k), lambda rows: checkpoint.blocks(name, rows))))
            return to_weight(quantized_by_rows(chosen, (n, k), checkpoint.blocks(name, block_rows(k))))
        except AerogelError as error:  # say which tensor it was
            if name in str(error):
                raise
            raise type(error)(f"{checkpoint.path}: {name}: {error}") from error


def say_what_int8_saves(checkpoint: Checkpoint, architecture: Architecture, numbers: str, nbytes: int) -> None:
    """One line in the log where a checkpoint, which takes `nbytes` of these numbers in memory, is one of floats."""
    if checkpoint.kind == "packed":
        return
    shapes = [checkpoint.shape(name) for stack in architecture.stacks() for name in stack]
    shapes += [tensor.shape for tensor in architecture.tensors() if tensor.role is Role.EMBEDDING]
    int8 = sum(math.prod(shape) + 4 * shape[0] for shape in shapes)
    if int8 < FLOATS * nbytes:
        log.info(
            "%s: %s weights as they are, %s; quant='int8' (--quant int8) takes %s less, and is faster",
            checkpoint.path,
            numbers,
            megabytes(nbytes),
            megabytes(nbytes - int8),
        )
