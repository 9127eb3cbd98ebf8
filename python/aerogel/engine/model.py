"""A loaded model: text or token ids in, embeddings, scores, logits or text out."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from aerogel._core import Plan, Program, cpu_name
from aerogel._core import isa as active_isa
from aerogel._util.checks import (
    flag,
    function,
    items,
    number,
    one_of,
    path_like,
    text,
    thread_count,
    whole_number,
)
from aerogel._util.checks import texts as check_texts
from aerogel._util.progress import Progress
from aerogel.architectures import Architecture, architecture_of, pooling_of
from aerogel.architectures.pooling import MODES, Pooling
from aerogel.checkpoint import open_checkpoint
from aerogel.engine.core import Arguments, Loaded
from aerogel.engine.embedder import Embedder
from aerogel.engine.penalties import Penalties
from aerogel.engine.sampling import Sampling
from aerogel.engine.scorer import Scorer
from aerogel.engine.token_ids import ragged
from aerogel.engine.weights import PackedParameters
from aerogel.errors import CheckpointError, DataError, ShapeError, TokenizerError, UnsupportedModelError
from aerogel.tuning import Tuner, cache_bytes

if TYPE_CHECKING:
    from aerogel.checkpoint import Checkpoint

log = logging.getLogger("aerogel")

_SLOT = 0  # every generation has a session, and so a KV cache, of its own
_announced = threading.Event()


def load(
    path: str | os.PathLike[str],
    threads: int | None = None,
    format: str = "auto",
    memory: float | None = None,
    pooling: str | None = None,
    verify: bool = True,
    progress: Progress | None = None,
) -> Model:
    """Loads a packed model, or any supported checkpoint as it is (uncompressed).

    Args:
        path: a packed model, a Hugging Face or sentence-transformers folder, a .gguf file, or a model id on the hub.
        threads: worker threads; unless given AEROGEL_THREADS, or else OMP_NUM_THREADS up to the cores that the process
            may use (container quotas included), or else those.
        format: "auto" picks each layer's kernel formats by measurement on this CPU, once for every kind of layer (the
            times are kept in the user's cache folder); "dense", or the name of one format (see `aerogel.kernels`),
            forces it on every layer.
        memory: memory limit of each layer, as a multiple of its dense form, where a format can keep it; without it, the
            fastest format is used.
        pooling: how hidden states become an embedding: "mean", "cls", "max", "last", "mean_sqrt_len" (the sum over the root
            of the number of tokens) or "weightedmean" (token t counts t times); unless given as the model's files say, and
            where they are silent as its family does by default, which a warning says.
        verify: hold a packed model's files against their checksums while they are read, which costs next to nothing; False
            loads them as they are.
        progress: called as progress(done, total, kind of layer) while kernels are measured.

    A loaded model does not depend on its files: they may be replaced, changed or removed.

    Raises:
        AerogelError: a subclass that names what is wrong with the files or not supported.
    """
    workers = thread_count(threads)
    verify = flag("verify", verify)
    function("progress", progress)
    text("format", format)
    if memory is not None:
        number("memory", memory, 0, above=True)
    if pooling is not None:
        one_of("pooling", pooling, MODES)
    arguments = Arguments(_lasting(path), None if threads is None else workers, format, memory, pooling, verify)
    checkpoint = open_checkpoint(arguments.path, verify)  # the tokenizer may be read after a change of folder
    said = checkpoint.pooling
    used = pooling_of(checkpoint) if pooling is None else replace(said or Pooling((), False), modes=(pooling,))
    architecture = architecture_of(checkpoint, used)
    program = Program()
    purpose = "generate" if architecture.generates else "encode"
    tuner = Tuner(workers, _is_streamed(architecture, checkpoint), memory, purpose)
    start = time.perf_counter()
    with PackedParameters(checkpoint, architecture.tensors(), tuner, format, progress) as weights:
        weights.prepare(architecture.stacks())
        architecture.build(program, weights)
    if tuner.measured:
        log.info(
            "%s: measured the kernels of %d kinds of layers on this CPU (loading took %.1f s; next time they are known)",
            checkpoint.path,
            len(tuner.measured),
            time.perf_counter() - start,
        )
    plan = Plan(program, workers)
    if not _announced.is_set():
        _announced.set()
        log.info("aerogel runs on %s with %d threads (%s)", active_isa(), plan.threads, cpu_name())
    return Model(Loaded(checkpoint, architecture, used, plan, tuner, weights.table_bytes), arguments)


def _lasting(path: str | os.PathLike[str]) -> str:
    """The path for use from any folder: absolute, if it is one; a model id stays as it is."""
    said = path_like("path", path, CheckpointError)
    local = os.path.expanduser(said)
    return os.path.join(os.getcwd(), local) if os.path.exists(local) else said


def _is_streamed(architecture: Architecture, checkpoint: Checkpoint) -> bool:
    """Whether the linears are too big for the caches, taken as dense int8."""
    weights = sum(math.prod(checkpoint.shape(name)) for stack in architecture.stacks() for name in stack)
    return weights > cache_bytes()


class Model(Embedder, Scorer):
    """A model ready to run. Made by `load`; one may be called from several threads at once.

    `close`, or the end of a `with` block, gives its memory back. A pickled model is loaded again where it is unpickled,
    with the arguments of `load`: the files must be there. A copy shares the weights, and is closed on its own.
    """

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[Any, ...]]:
        self._open  # noqa: B018
        return load, tuple(self._arguments)

    def __copy__(self) -> Model:
        return Model(self._open, self._arguments)

    def __deepcopy__(self, memo: object) -> Model:
        return self.__copy__()

    def generate(
        self,
        text: str,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stream: bool | Callable[[str], None] = False,
        repetition_penalty: float | None = None,
    ) -> str:
        """Continues a text.

        Args:
            text: the prompt, as it is: no chat template is applied.
            max_new_tokens: the most tokens to generate; the model's end token, or its last position, ends the text earlier.
            temperature: 0 always takes the most likely token; higher values are more random.
            top_k: sample from the k most likely tokens.
            top_p: sample from the most likely tokens whose probabilities add up to p.
            seed: the random seed; the same seed gives the same text.
            stream: True prints pieces to stdout as they come; a callable receives them.
            repetition_penalty: logits of tokens that are in the text already are divided by it (multiplied below 0); 1:
                none. Unless given what the model's generation_config.json says. What else that says about which tokens
                may come (no_repeat_ngram_size, suppress_tokens, min_new_tokens ...) is done too; its temperature, top_k
                and top_p are not used: these are the caller's.

        Returns:
            The new text, without the prompt.
        """
        [text] = check_texts("text", [text])
        ids = self.tokenizer.encode([text])[0]
        if not ids and self.tokenizer.bos_id is not None:
            ids = [self.tokenizer.bos_id]
        if not ids:
            raise DataError("the prompt is empty and the model has no token to begin a text with")
        show = stream if callable(stream) else _print_piece if flag("stream", stream) else None
        decoder = self.tokenizer.stream()
        pieces: list[str] = []

        def take(piece: str) -> None:
            pieces.append(piece)
            if piece and show is not None:
                show(piece)

        for token in self.generate_tokens(
            ids, max_new_tokens, temperature, top_k, top_p, seed, None, repetition_penalty
        ):
            take(decoder.push(token))
        take(decoder.flush())
        return "".join(pieces)

    def generate_tokens(
        self,
        token_ids: Sequence[int] | np.ndarray,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stop: Sequence[int] | None = None,
        repetition_penalty: float | None = None,
    ) -> Iterator[int]:
        """Yields new tokens one by one, without the token that ended the text.

        `stop` are those that do: the model's own unless given, none if empty. The other arguments are `generate`'s.
        """
        if not self._architecture.generates:
            raise UnsupportedModelError(f"{self._checkpoint.path}: not a generating model")
        max_new_tokens = whole_number("max_new_tokens", max_new_tokens, 0)
        if seed is not None:
            seed = whole_number("seed", seed, 0)
        sampling = Sampling(temperature, top_k, top_p)
        ids, ends = ragged(token_ids, None)
        if len(ids) > self._architecture.max_positions:
            raise ShapeError(f"prompt: expected at most {self._architecture.max_positions} tokens, got {len(ids)}")
        settings = self._checkpoint.generation
        if repetition_penalty is not None:
            settings = replace(
                settings, repetition_penalty=number("repetition_penalty", repetition_penalty, 0, 1e6, above=True)
            )
        ending = self._stop_ids(stop)
        penalties = Penalties(settings, ids.tolist(), ending)
        return self._generate(ids, ends, max_new_tokens, sampling, np.random.default_rng(seed), ending, penalties)

    def _generate(
        self,
        ids: np.ndarray,
        ends: np.ndarray,
        max_new_tokens: int,
        sampling: Sampling,
        random: np.random.Generator,
        stop: frozenset[int],
        penalties: Penalties,
    ) -> Iterator[int]:
        room = self._architecture.max_positions - len(ids) + 1  # the last token chosen needs no position
        if max_new_tokens > room:
            log.warning("the model has positions for %d new tokens, not %d", room, max_new_tokens)
        with self._session() as session:
            try:
                for _ in range(min(max_new_tokens, room)):
                    self._open  # noqa: B018  (the model may have been closed since the last token)
                    logits = session.run(ids, ends, "logits", last_only=True, slots=[_SLOT])  # [1, V]
                    token = sampling.choose(penalties.apply(logits[0]), random)
                    if token in stop:
                        return
                    yield token
                    penalties.add(token)
                    ids, ends = np.array([token], np.int32), np.array([0, 1], np.int64)
            finally:
                session.free_slot(_SLOT)

    def _stop_ids(self, stop: Sequence[int] | None) -> frozenset[int]:
        if stop is not None:
            return frozenset(whole_number("stop", token, 0) for token in items("stop", stop))
        try:
            return frozenset(self.tokenizer.eos_ids)
        except TokenizerError:  # token ids alone can be run without a tokenizer
            ids = self.config.get("eos_token_id")
            return frozenset(ids if isinstance(ids, list) else [] if ids is None else [ids])


def _print_piece(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()
