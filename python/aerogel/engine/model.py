"""A loaded model: text or token ids in, embeddings, scores, logits or text out."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from aerogel._core import PackedWeight, Plan, Program, Session, cpu_name
from aerogel._core import isa as active_isa
from aerogel._util.checks import (
    array,
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
from aerogel.architectures.heads import label_names
from aerogel.architectures.pooling import MODES, Pooling
from aerogel.checkpoint import open_checkpoint
from aerogel.engine.penalties import Penalties
from aerogel.engine.sampling import Sampling
from aerogel.engine.sessions import Sessions
from aerogel.engine.token_tasks import AGGREGATIONS, Answer, Run, TokenSpan, answer, classify_tokens
from aerogel.engine.token_vectors import LEXICAL, VECTORS, lexical_weights
from aerogel.engine.weights import PackedParameters
from aerogel.errors import AerogelError, CheckpointError, DataError, ShapeError, TokenizerError, UnsupportedModelError
from aerogel.tuning import Tuner, cache_bytes

if TYPE_CHECKING:
    from aerogel.checkpoint import Checkpoint
    from aerogel.checkpoint.tokenizer import Tokenizer

log = logging.getLogger("aerogel")

#: Tokens of one call into the engine: enough to fill the kernels, few enough that activations stay in the caches.
BATCH_TOKENS = 2048

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
    arguments = _Arguments(_lasting(path), None if threads is None else workers, format, memory, pooling, verify)
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
    return Model(_Loaded(checkpoint, architecture, used, plan, tuner, weights.table_bytes), arguments)


def _lasting(path: str | os.PathLike[str]) -> str:
    """The path for use from any folder: absolute, if it is one; a model id stays as it is."""
    said = path_like("path", path, CheckpointError)
    local = os.path.expanduser(said)
    return os.path.join(os.getcwd(), local) if os.path.exists(local) else said


def _is_streamed(architecture: Architecture, checkpoint: Checkpoint) -> bool:
    """Whether the linears are too big for the caches, taken as dense int8."""
    weights = sum(math.prod(checkpoint.shape(name)) for stack in dict.fromkeys(architecture.stacks()) for name in stack)
    return weights > cache_bytes()


class _Arguments(NamedTuple):
    """What `load` was called with, so that another process can do the same."""

    path: str
    threads: int | None
    format: str
    memory: float | None
    pooling: str | None
    verify: bool


@dataclass(frozen=True)
class _Loaded:
    """What `load` made: immutable, shared by the copies of a model, given up when the last of them is closed."""

    checkpoint: Checkpoint
    architecture: Architecture
    pooling: Pooling | None
    plan: Plan
    tuner: Tuner
    table_bytes: int


class Model:
    """A model ready to run. Made by `load`; one may be called from several threads at once.

    `close`, or the end of a `with` block, gives its memory back. A pickled model is loaded again where it is unpickled,
    with the arguments of `load`: the files must be there. A copy shares the weights, and is closed on its own.
    """

    def __init__(self, loaded: _Loaded, arguments: _Arguments) -> None:
        self._loaded: _Loaded | None = loaded
        self._arguments = arguments
        self._idle = Sessions()
        self._warned_long = False

    def close(self) -> None:
        """Gives back the memory: packed weights, tables, sessions. Calls that are running in other threads
        keep what they need until they end; every later use raises an AerogelError. Closing twice is fine."""
        self._loaded = None
        self._idle.clear()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._loaded is None

    @property
    def _open(self) -> _Loaded:
        """What was loaded; raises where it was given up."""
        loaded = self._loaded
        if loaded is None:
            raise AerogelError(f"{self._arguments.path}: the model is closed")
        return loaded

    def __enter__(self) -> Model:
        self._open  # noqa: B018  (raises if it is closed)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[Any, ...]]:
        self._open  # noqa: B018
        return load, tuple(self._arguments)

    def __copy__(self) -> Model:
        return Model(self._open, self._arguments)

    def __deepcopy__(self, memo: object) -> Model:
        return self.__copy__()

    @property
    def _checkpoint(self) -> Checkpoint:
        return self._open.checkpoint

    @property
    def _architecture(self) -> Architecture:
        return self._open.architecture

    @property
    def _plan(self) -> Plan:
        return self._open.plan

    @property
    def _tuner(self) -> Tuner:
        return self._open.tuner

    @property
    def config(self) -> dict[str, Any]:
        """The model's config.json."""
        return self._checkpoint.config

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._checkpoint.tokenizer()

    @property
    def threads(self) -> int:
        """Threads that one call uses."""
        return int(self._plan.threads)

    @property
    def nbytes(self) -> int:
        """Bytes of weights: packed linears and embedding tables."""
        return int(self._plan.nbytes) + self._open.table_bytes

    @property
    def outputs(self) -> tuple[str, ...]:
        """What `forward` can return; the first is its default."""
        return self._architecture.outputs

    @property
    def labels(self) -> list[str]:
        """The names of a classifier's scores, in their order; none of other models."""
        return list(label_names(self.config)) if self._architecture.labels else []

    @property
    def hidden_size(self) -> int:
        """The width of hidden states."""
        return self._architecture.hidden_size

    @property
    def embedding_size(self) -> int:
        """The width of embeddings: that of hidden states, unless the model pools in several ways, has linears after the
        pooling, or keeps the first numbers only."""
        pooling = self._open.pooling
        if pooling is None:
            return self.hidden_size
        width = pooling.width(self.hidden_size)
        return width if pooling.dimensions is None else min(pooling.dimensions, width)

    @property
    def max_tokens(self) -> int:
        """The most tokens of a text, longer ones are cut: what the model was trained for, or all its positions."""
        limit = self._checkpoint.max_tokens
        return min(limit, self._architecture.max_positions) if limit else self._architecture.max_positions

    @property
    def max_positions(self) -> int:
        """Tokens that a sequence may have."""
        return self._architecture.max_positions

    @property
    def vocab_size(self) -> int:
        """Token ids are below it."""
        return self._architecture.vocab_size

    @property
    def streamed(self) -> bool:
        """Whether the linears are too large for the caches, so that weights are read from memory in every pass."""
        return self._tuner.streamed

    def packed_weight(self, name: str) -> PackedWeight:
        """The weight of one linear as it runs; `name` as in `describe`."""
        return self._plan.weight(one_of("name", name, [step["name"] for step in self.describe() if "forms" in step]))

    def profile(
        self,
        token_ids: Sequence[int] | Sequence[Sequence[int]] | np.ndarray,
        offsets: Sequence[int] | np.ndarray | None = None,
        output: str | None = None,
    ) -> list[dict[str, Any]]:
        """Runs the model once, logits of the last tokens only, and times each step, in the order of computation.

        Args:
            token_ids: as `forward`.
            offsets: as `forward`.
            output: as `forward`.

        Returns:
            `op`, `name` and `seconds` of every step.
        """
        output = self._output(output)
        ids, ends = _ragged(token_ids, offsets)
        with self._session() as session:
            session.profile(True)
            try:
                session.run(ids, ends, output, last_only=True)
                return list(session.timings())
            finally:
                session.profile(False)

    @property
    def prompts(self) -> dict[str, str]:
        """What the model's authors put before texts, by name: for `encode(..., prompt_name=)`."""
        return dict(self._checkpoint.prompts.texts)

    def _prompt(self, prompt: str | None, name: str | None) -> str:
        """What stands before each text."""
        known = self._checkpoint.prompts
        if prompt is not None and name is not None:
            raise AerogelError("expected one of prompt and prompt_name, got both")
        if prompt is not None:
            text("prompt", prompt, DataError)
        if name is not None:
            one_of("prompt_name", name, known.texts or ["none, as the model has none"])
        chosen = known.default if name is None else name
        found = prompt if prompt is not None else known.texts[chosen] if chosen is not None else ""
        if found and not known.pooled:
            raise UnsupportedModelError(
                f"{self._checkpoint.path}: include_prompt is false: prompts outside the pooling are not supported"
            )
        return found

    def describe(self) -> list[dict[str, Any]]:
        """The steps of a forward pass: op and name; of linears also shape, nonzeros, bytes and the forms of the weights:
        format, ISA, bytes, and the most rows that a form serves; and the `limit` of an int8 input with a fixed scale, 0 with
        one scale a token."""
        return list(self._plan.describe())

    def encode(
        self,
        texts: str | Sequence[str],
        batch_tokens: int = BATCH_TOKENS,
        normalize: bool | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
    ) -> np.ndarray:
        """Embeds texts.

        Texts of any lengths mix: they are run end to end without padding. A text longer than `max_tokens` is cut there,
        as sentence-transformers does; the log says so once.

        Args:
            texts: one text or many; the empty text is fine.
            batch_tokens: tokens that are run at once. It limits memory, and does not change the result.
            normalize: scale embeddings to length 1 or not; None: as the model's authors do.
            prompt: stands before each text, such as "query: "; "" is none. Unless given the model's default, if it has one.
            prompt_name: one of the model's own, see `prompts`.

        Returns:
            float32 [n, embedding_size], or [embedding_size] for a single string.
        """
        if isinstance(texts, str):
            embedding: np.ndarray = self.encode([texts], batch_tokens, normalize, prompt, prompt_name)[0]
            return embedding
        if "embedding" not in self.outputs:
            raise UnsupportedModelError(f"{self._checkpoint.path}: not an embedding model: it has no pooling")
        texts = check_texts("texts", texts)
        batch_tokens = whole_number("batch_tokens", batch_tokens, 1)
        if normalize is not None:
            normalize = flag("normalize", normalize)
        pooling = self._open.pooling
        assert pooling is not None
        output = "pooled" if normalize is False else "embedding"
        result = np.empty((len(texts), pooling.width(self.hidden_size)), np.float32)
        before = self._prompt(prompt, prompt_name)
        if texts:
            self._run_batches(self._tokenize([before + text for text in texts]), None, output, batch_tokens, result)
        if self.embedding_size < result.shape[1]:
            result = result[:, : self.embedding_size].copy()
        if normalize and (pooling.dimensions is not None or not pooling.normalize):
            result /= np.maximum(np.linalg.norm(result, axis=1, keepdims=True), 1e-12)
        return result

    def scores(
        self, texts: str | Sequence[str], pairs: str | Sequence[str] | None = None, batch_tokens: int = BATCH_TOKENS
    ) -> np.ndarray:
        """Runs a classifier: its raw scores (logits), before any softmax or sigmoid.

        Args:
            texts: one text or many.
            pairs: for a reranker, the text that goes with each of `texts`, or one for all of them.
            batch_tokens: tokens that are run at once.

        Returns:
            float32 [n, labels], or [labels] for a single string.
        """
        if isinstance(texts, str):
            scores: np.ndarray = self.scores([texts], pairs, batch_tokens)[0]
            return scores
        if "scores" not in self.outputs:
            raise UnsupportedModelError(f"{self._checkpoint.path}: not a classifier")
        texts = check_texts("texts", texts)
        batch_tokens = whole_number("batch_tokens", batch_tokens, 1)
        width = self._architecture.labels
        result = np.empty((len(texts), width), np.float32)
        if not texts:
            return result
        if pairs is None:
            self._run_batches(self._tokenize(texts), None, "scores", batch_tokens, result)
            return result
        pairs = [pairs] * len(texts) if isinstance(pairs, str) else check_texts("pairs", pairs)
        ids, types = self.tokenizer.encode_pair(texts, pairs, self.max_tokens)
        known = self._architecture.types > 1  # others do not tell the texts of a pair apart
        self._run_batches(ids, types if known else None, "scores", batch_tokens, result)
        return result

    @overload
    def classify_tokens(  # type: ignore[overload-overlap]  # a str is a sequence of them too
        self, texts: str, aggregation: str = ..., batch_tokens: int = ...
    ) -> list[TokenSpan]: ...

    @overload
    def classify_tokens(
        self, texts: Sequence[str], aggregation: str = ..., batch_tokens: int = ...
    ) -> list[list[TokenSpan]]: ...

    def classify_tokens(
        self, texts: str | Sequence[str], aggregation: str = "simple", batch_tokens: int = BATCH_TOKENS
    ) -> list[TokenSpan] | list[list[TokenSpan]]:
        """Runs a token classifier, such as one of named entities, as Transformers' pipeline of that name does.

        Args:
            texts: one text or many; what is behind `max_tokens` of a text is not looked at.
            aggregation: "none": a span is a token. "simple": neighbours of one label are one span, and B- begins another.
                "first", "max", "average": words first, by their first token, their surest, or the mean of all; then spans.
            batch_tokens: tokens that are run at once.

        Returns:
            The spans of each text, in its order, without those of the label O: label, score, and which characters; a list
            of them for a single string.
        """
        if isinstance(texts, str):
            return self.classify_tokens([texts], aggregation, batch_tokens)[0]
        run = self._token_runner("token_scores", "not a classifier of tokens", batch_tokens)
        known, texts = one_of("aggregation", aggregation, AGGREGATIONS), check_texts("texts", texts)
        return classify_tokens(texts, self.tokenizer, run, self.labels, known, self.max_tokens)

    def answer(self, question: str, context: str, max_answer_tokens: int = 15, impossible: bool = False) -> Answer:
        """Answers a question with a part of the context, as Transformers' pipeline for question answering does.

        Args:
            question: a text.
            context: a text of any length: it is read in windows that overlap.
            max_answer_tokens: the most tokens of an answer.
            impossible: whether there may be no answer, which a model has to be trained for; then the text is empty.

        Returns:
            The likeliest answer: text, score, and which characters of the context.

        Raises:
            DataError: no text.
            TokenizerError: the question leaves no room for the context.
        """
        run = self._token_runner("spans", "not a model for question answering", BATCH_TOKENS)
        question, context = check_texts("question and context", [question, context])
        longest = whole_number("max_answer_tokens", max_answer_tokens, 1)
        may = flag("impossible", impossible)
        return answer(question, context, self.tokenizer, run, longest, may, self.max_tokens)

    def encode_tokens(
        self,
        texts: str | Sequence[str],
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> Any:
        """A vector of each token of texts, for late interaction (ColBERT; see `token_vectors.maxsim`).

        Markers of queries and documents are the caller's, as prompts; queries are not filled up with mask tokens, and no
        token of a text is left out (BGE-M3's first, which it does not use, excepted).

        Args:
            texts: one text or many; longer ones than `max_tokens` are cut there.
            prompt: as `encode`.
            prompt_name: as `encode`.
            batch_tokens: tokens that are run at once.

        Returns:
            float32 [t, d] of each text, rows of length 1; one such array for a single string.
        """
        if isinstance(texts, str):
            return self.encode_tokens([texts], prompt, prompt_name, batch_tokens)[0]
        output = next((name for name in VECTORS if name in self.outputs), next(iter(VECTORS)))
        run = self._token_runner(output, "not a model that makes a vector of each token", batch_tokens)
        before = self._prompt(prompt, prompt_name)
        ids = self._tokenize([before + text for text in check_texts("texts", texts)])
        return [rows[VECTORS[output] :] for rows in run(ids, [[0] * len(one) for one in ids])]

    def lexical_weights(self, texts: str | Sequence[str], batch_tokens: int = BATCH_TOKENS) -> Any:
        """How much each token of a text counts in a search by words (BGE-M3, arXiv 2402.03216).

        Args:
            texts: one text or many.
            batch_tokens: tokens that are run at once.

        Returns:
            Of each text {token id: weight above 0}; one such mapping for a single string.
        """
        if isinstance(texts, str):
            return self.lexical_weights([texts], batch_tokens)[0]
        run = self._token_runner(LEXICAL, "not a model that weighs tokens", batch_tokens)
        ids = self._tokenize(check_texts("texts", texts))
        rest = {self.tokenizer.unk_id, self.tokenizer.bos_id, *self.tokenizer.eos_ids, self.config.get("pad_token_id")}
        unused = self.tokenizer.around | {token for token in rest if token is not None}
        return lexical_weights(ids, run(ids, [[0] * len(one) for one in ids]), unused)

    def _token_runner(self, output: str, otherwise: str, batch_tokens: int) -> Run:
        """Runs sequences for what `output` says of their tokens."""
        if output not in self.outputs:
            raise UnsupportedModelError(f"{self._checkpoint.path}: {otherwise}")
        most = whole_number("batch_tokens", batch_tokens, 1)

        def run(ids: list[list[int]], types: list[list[int]]) -> list[np.ndarray]:
            known = types if self._architecture.types > 1 else None
            found: list[np.ndarray] = []
            with self._session() as session:
                for begin, end in batches([len(sequence) for sequence in ids], most):
                    flat, ends = _ragged(ids[begin:end], None)
                    kinds = None if known is None else _ragged(known[begin:end], None)[0]
                    found += np.split(session.run(flat, ends, output, type_ids=kinds), ends[1:-1])
            return found

        return run

    def forward(
        self,
        token_ids: Sequence[int] | Sequence[Sequence[int]] | np.ndarray,
        offsets: Sequence[int] | np.ndarray | None = None,
        output: str | None = None,
        last_only: bool = False,
    ) -> np.ndarray:
        """Runs the model on token ids.

        Args:
            token_ids: the tokens of all sequences end to end with `offsets`; or one sequence; or a list of sequences.
            offsets: [S+1]; sequence s is token_ids[offsets[s]:offsets[s+1]].
            output: one of `outputs`; the first unless given.
            last_only: logits of each sequence's last token only.

        Returns:
            float32 [T, width], one row a token, sequences end to end; [S, width] for embeddings, scores and last_only.
        """
        output, last_only = self._output(output), flag("last_only", last_only)
        ids, ends = _ragged(token_ids, offsets)
        with self._session() as session:
            return session.run(ids, ends, output, last_only=last_only)

    def _output(self, output: str | None) -> str:
        return self.outputs[0] if output is None else one_of("output", output, self.outputs)

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
        ids, ends = _ragged(token_ids, None)
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

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        ids = self.tokenizer.encode(texts)
        long = [i for i, sequence in enumerate(ids) if len(sequence) > self.max_tokens]
        if long:
            if not self._warned_long:
                self._warned_long = True
                log.warning(
                    "texts longer than %d tokens are cut there (%d of these %d)", self.max_tokens, len(long), len(texts)
                )
            for i, sequence in zip(long, self.tokenizer.encode([texts[i] for i in long], self.max_tokens), strict=True):
                ids[i] = sequence
        for i, sequence in enumerate(ids):
            if not sequence:  # an empty text, and a tokenizer without special tokens
                begin = [self.tokenizer.bos_id, *self.tokenizer.eos_ids]
                ids[i] = [token for token in begin if token is not None][:1]
                if not ids[i]:
                    raise DataError(f"text {i} has no tokens, and the model none to stand for an empty text")
        return ids

    def _run_batches(
        self,
        ids: list[list[int]],
        types: list[list[int]] | None,
        output: str,
        batch_tokens: int,
        result: np.ndarray,
    ) -> None:
        """Fills result [n, width], one row a sequence, some sequences at a time."""
        with self._session() as session:
            for begin, end in batches([len(sequence) for sequence in ids], batch_tokens):
                flat, ends = _ragged(ids[begin:end], None)
                kinds = None if types is None else _ragged(types[begin:end], None)[0]
                result[begin:end] = session.run(flat, ends, output, type_ids=kinds)

    @contextlib.contextmanager
    def _session(self) -> Iterator[Session]:
        """A session that is this caller's own until the block ends."""
        try:
            with self._idle.take(self._plan) as session:
                yield session
        finally:
            if self.closed:  # since the session was taken
                self._idle.clear()

    def __repr__(self) -> str:
        if self.closed:
            return f"<aerogel model {self._arguments.path!r}: closed>"
        return f"<aerogel model {str(self._checkpoint.path)!r}: {', '.join(self.outputs)}; {self.nbytes / 1e6:.1f} MB>"


def batches(lengths: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of sequences with `most` tokens together, or one sequence that is longer."""
    begin = 0
    while begin < len(lengths):
        end, tokens = begin + 1, lengths[begin]
        while end < len(lengths) and tokens + lengths[end] <= most:
            tokens += lengths[end]
            end += 1
        yield begin, end
        begin = end


def _ragged(
    token_ids: Sequence[int] | Sequence[Sequence[int]] | np.ndarray, offsets: Sequence[int] | np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """int32 [T] and int64 [S+1] out of what `forward` accepts. The engine checks ranges and empty sequences."""
    if offsets is None and not isinstance(token_ids, np.ndarray):
        rows = items("token_ids", token_ids)
        if rows and not isinstance(rows[0], (int, np.integer)):
            sequences = [_integers("token_ids", sequence) for sequence in rows]
            lengths = [len(sequence) for sequence in sequences]
            return np.concatenate(sequences).astype(np.int32), np.concatenate(([0], np.cumsum(lengths))).astype(
                np.int64
            )
        token_ids = rows
    ids = _integers("token_ids", token_ids)
    if not len(ids):
        raise ShapeError("token_ids: expected at least one token, got none")
    ends = np.array([0, len(ids)]) if offsets is None else _integers("offsets", offsets)
    return ids.astype(np.int32), ends.astype(np.int64)


def _integers(name: str, values: Any) -> np.ndarray:
    found = array(name, values, 1)
    if not len(found):
        return found.astype(np.int64)
    if found.dtype.kind not in "iu":
        raise DataError(f"{name}: expected integers, got {found.dtype}")
    if found.min() < 0 or found.max() > np.iinfo(np.int32).max:
        raise DataError(
            f"{name}: expected none below 0 or above {np.iinfo(np.int32).max}, got {found.min()} to {found.max()}"
        )
    return found


def _print_piece(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()
