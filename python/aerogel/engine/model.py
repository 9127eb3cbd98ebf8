"""A loaded model: text or token ids in, embeddings, scores, logits or text out."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from aerogel._core import Plan, Program, cpu_name, release_memory
from aerogel._core import isa as active_isa
from aerogel._util.checks import (
    flag,
    function,
    number,
    one_of,
    path_like,
    text,
    thread_count,
)
from aerogel._util.progress import Progress
from aerogel.architectures import Architecture, architecture_of, pooling_of
from aerogel.architectures.pooling import MODES, Pooling
from aerogel.checkpoint import open_checkpoint
from aerogel.engine.core import Arguments, Loaded
from aerogel.engine.embedder import Embedder
from aerogel.engine.generator import Generator
from aerogel.engine.quantized import say_what_int8_saves
from aerogel.engine.scorer import Scorer
from aerogel.engine.sessions import KV_CACHES
from aerogel.engine.sparse_embedder import SparseEmbedder
from aerogel.engine.token_reader import TokenReader
from aerogel.engine.weights import PackedParameters
from aerogel.errors import AerogelError, CheckpointError, DataError
from aerogel.quantize import scheme
from aerogel.tuning import Tuner, cache_bytes

if TYPE_CHECKING:
    from aerogel.checkpoint import Checkpoint

log = logging.getLogger("aerogel")

_announced = threading.Event()


def load(
    path: str | os.PathLike[str],
    threads: int | None = None,
    format: str = "auto",
    memory: float | None = None,
    pooling: str | None = None,
    verify: bool = True,
    progress: Progress | None = None,
    quant: str | None = None,
    kv_cache: str | None = None,
    rerank: str | None = None,
    attention: str = "auto",
) -> Model:
    """Loads a packed model, or any supported checkpoint: as it is (exact), or quantized on the way with `quant`.

    Args:
        path: a packed model, a Hugging Face or sentence-transformers folder, a .gguf file, or a model id on the hub.
        threads: worker threads; unless given AEROGEL_THREADS, or else OMP_NUM_THREADS up to the cores that the process
            may use (container quotas included), or else those.
        format: "auto" picks each layer's kernel formats by measurement on this CPU, once for every kind of layer (the
            times are kept in the user's cache folder); "dense", or the name of one format (see `aerogel.kernels`),
            forces it on every layer.
        memory: memory limit of each layer, as a multiple of its dense form; where no format keeps it, the smallest is used
            and a warning says so. Without it, the fastest is.
        pooling: how hidden states become an embedding: "mean", "cls", "max", "last", "mean_sqrt_len" (the sum over the root
            of the number of tokens) or "weightedmean" (token t counts t times); unless given as the model's files say, and
            where they are silent as its family does by default, which a warning says.
        verify: hold a packed model's files against their checksums while they are read, which costs next to nothing; False
            loads them as they are.
        progress: called as progress(done, total, kind of layer) while kernels are measured.
        quant: a scheme of `aerogel.quantize` ("int8", "int4:g64", "codebook:16", "bf16" ...): weights are quantized while
            they are read, a few rows at a time, to the very values that `compress` with this scheme and without
            calibration texts would write, embeddings and heads as by its default. Unless given, or with "none", they stay
            what the file has. Not for packed models, whose weights are quantized already.
        kv_cache: as what keys and values are kept while a text is written: "float32", which changes nothing; "float16", half
            of the memory; "int8", a quarter, with a scale for each token and head. Unless given "float32" where all linears
            are, and "float16" otherwise: weights of fewer bits have moved the answers by much more. `forward` and embeddings
            keep nothing.
        rerank: makes a language model score pairs of texts (`scores`, `predict`, `rank`) by the logits of "yes" and "no"
            behind them. It says what writes a pair: "model", the model's own chat template; "qwen3-reranker" or
            "bge-reranker-gemma", as these are asked; or a template, or the path of its file: Jinja over messages of the
            roles "query" and "document", or a text with {query} and {document}. A model whose files say it (LogitScore of
            sentence-transformers, a reranker's GGUF) needs no word.
        attention: what attention multiplies: "float32", or codes of queries, keys, weights and values, which are faster for
            texts of 48 tokens and more: "int16", of 12 or 13 bits, off by under 1e-3, or "int8", by under 2e-2
            (docs/numerics.md); "auto": codes where at least nine tenths of the linears' weights are quantized and the model
            writes no text, of 8 bits where these are enough for the inputs of all its linears too, else float32.

    A loaded model does not depend on its files: they may be replaced, changed or removed.

    Raises:
        AerogelError: a subclass that names what is wrong with the files or not supported.
        RecipeError: there is no such scheme, or the model is a packed one.
    """
    function("progress", progress)
    workers = thread_count(threads)
    count = None if threads is None else workers
    said = (_lasting(path), count, format, memory, pooling, verify, quant, kv_cache, rerank, attention)
    arguments = _checked(Arguments(*said))
    # By the whole path: the tokenizer may be read after a change of folder.
    checkpoint = open_checkpoint(arguments.path, arguments.verify, rerank)
    own = checkpoint.pooling
    used = pooling_of(checkpoint) if pooling is None else replace(own or Pooling((), False), modes=(pooling,))
    architecture = architecture_of(checkpoint, used)
    program = Program()
    purpose = "generate" if architecture.generates else "encode"
    tuner = Tuner(workers, _is_streamed(architecture, checkpoint), memory, purpose)
    start = time.perf_counter()
    rounded = None if quant == "none" else arguments.quant
    groups = architecture.groups()
    with PackedParameters(checkpoint, architecture.tensors(), tuner, format, progress, rounded, groups) as weights:
        weights.prepare(architecture.stacks())
        architecture.build(program, weights)
    if tuner.measured:
        log.info(
            "%s: measured the kernels of %d kinds of layers on this CPU (loading took %.1f s; next time they are known)",
            checkpoint.path,
            len(tuner.measured),
            time.perf_counter() - start,
        )
    release_memory()  # of what was read, and packed since
    tuner.say_what_is_over(str(checkpoint.path))
    plan = Plan(program, workers, attention=attention)
    if not _announced.is_set():
        _announced.set()
        log.info("aerogel runs on %s with %d threads (%s)", active_isa(), plan.threads, cpu_name())
    kept = kv_cache or _kept_as(plan)
    model = Model(Loaded(checkpoint, architecture, used, plan, tuner, weights.table_bytes, kept), arguments)
    if quant is None:
        say_what_int8_saves(checkpoint, architecture, model.quantization, model.nbytes)
    return model


def _checked(said: Arguments) -> Arguments:
    """The arguments of `load`, refused before any work if they are none."""
    text("format", said.format)
    if said.memory is not None:
        number("memory", said.memory, 0, above=True)
        if said.format != "auto":
            raise AerogelError(f"memory: goes with format 'auto', which chooses; got format {said.format!r}")
    if said.pooling is not None:
        one_of("pooling", said.pooling, MODES)
    one_of("attention", said.attention, ("auto", "float32", "int16", "int8"))
    if said.kv_cache is not None:
        one_of("kv_cache", said.kv_cache, KV_CACHES, DataError)
    quant = None if said.quant is None else scheme(said.quant).name
    return said._replace(verify=flag("verify", said.verify), quant=quant)


def _kept_as(plan: Plan) -> str:
    """As what keys and values are kept unless somebody says so."""
    exact = all(step["numbers"] == "float32" for step in plan.describe() if "numbers" in step)
    return "float32" if exact else "float16"


def _lasting(path: str | os.PathLike[str]) -> str:
    """The path for use from any folder: absolute, if it is one; a model id stays as it is."""
    said = path_like("path", path, CheckpointError)
    local = os.path.expanduser(said)
    return os.path.join(os.getcwd(), local) if os.path.exists(local) else said


def _is_streamed(architecture: Architecture, checkpoint: Checkpoint) -> bool:
    """Whether the linears are too big for the caches, taken as dense int8."""
    weights = sum(math.prod(checkpoint.shape(name)) for stack in dict.fromkeys(architecture.stacks()) for name in stack)
    return weights > cache_bytes()


class Model(Embedder, SparseEmbedder, Scorer, TokenReader, Generator):
    """A model ready to run. Made by `load`; one may be called from several threads at once.

    `close`, or the end of a `with` block, gives its memory back. A pickled model is loaded again where it is unpickled,
    with the arguments of `load`: the files must be there. A copy shares the weights, and is closed on its own.
    """

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[Any, ...]]:
        self._open  # noqa: B018
        return partial(load, **self._arguments._asdict()), ()

    def __copy__(self) -> Model:
        return Model(self._open, self._arguments)

    def __deepcopy__(self, memo: object) -> Model:
        return self.__copy__()
