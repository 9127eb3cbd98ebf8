"""A loaded model: text or token ids in, embeddings, scores, logits or text out."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
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
from aerogel.architectures.pooling import MODES, Pooling
from aerogel.checkpoint import open_checkpoint
from aerogel.engine.generation.calls import Prompt, acomplete, astream, complete, stream, tokens
from aerogel.engine.generation.chat import chat_text, chat_tokens
from aerogel.engine.generation.completion import Completion
from aerogel.engine.generation.conversation import Conversation
from aerogel.engine.generation.source import Source
from aerogel.engine.sessions import Sessions
from aerogel.engine.weights import PackedParameters
from aerogel.errors import AerogelError, CheckpointError, DataError, ShapeError, UnsupportedModelError
from aerogel.tuning import Tuner, cache_bytes

if TYPE_CHECKING:
    from aerogel.checkpoint import Checkpoint
    from aerogel.checkpoint.tokenizer import Tokenizer

log = logging.getLogger("aerogel")

#: Tokens of one call into the engine: enough to fill the kernels, few enough that activations stay in the caches.
BATCH_TOKENS = 2048

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
    weights = sum(math.prod(checkpoint.shape(name)) for stack in architecture.stacks() for name in stack)
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
        self._said: set[str] = set()

    def close(self) -> None:
        """Gives back the memory: packed weights, tables, sessions. Calls that are running in other threads
        keep what they need until they end; every later use raises an AerogelError. Closing twice is fine."""
        self._loaded = None
        self._idle.clear()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._loaded is None

    def _check_open(self) -> None:
        """Raises where `close` was called."""
        self._open  # noqa: B018

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
        self._run_batches(ids, types, "scores", batch_tokens, result)
        return result

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

    @overload
    def generate(self, text: Prompt, *args: Any, **options: Any) -> str: ...
    @overload
    def generate(self, text: Sequence[Prompt], *args: Any, **options: Any) -> list[str]: ...
    def generate(
        self,
        text: Any,
        max_new_tokens: int = 64,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | Sequence[int] | None = None,
        stream: bool | Callable[[str], None] = False,
        repetition_penalty: float | None = None,
        *,
        chat: bool = False,
        stop: str | Sequence[str] | Sequence[Sequence[str]] = (),
        min_p: float | None = None,
        typical_p: float | None = None,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        logit_bias: Mapping[int, float] | None = None,
        json_schema: Mapping[str, Any] | str | None = None,
        regex: str | None = None,
        grammar: str | None = None,
        lookup: int = 0,
        draft: Model | None = None,
    ) -> Any:
        """Continues a text, or many at once.

        Many texts are run together, which takes little longer than one alone: each step reads the weights once for all.

        Args:
            text: the prompt, as it is; or its token ids; or a list of prompts.
            max_new_tokens: the most tokens to generate; the model's end token, or its last position, ends the text earlier.
            temperature: 0 always takes the most likely token; higher values are more random. The options below choose the
                tokens that are sampled from, one after another in the order top_k, top_p, min_p, typical_p.
            top_k: the k most likely tokens.
            top_p: the most likely tokens whose probabilities add up to p.
            seed: the random seed; the same seed gives the same text. Of many texts number i has seed + i, or its own.
            stream: True prints pieces to stdout as they come; a callable receives them. For one text.
            repetition_penalty: logits of tokens that are in the text already are divided by it (multiplied below 0); 1:
                none. Unless given what the model's generation_config.json says. What else that says about which tokens
                may come (no_repeat_ngram_size, suppress_tokens, min_new_tokens ...) is done too; its temperature, top_k
                and top_p are not used: these are the caller's.
            chat: the text is what a user says to the model: the model's chat template is put around it (see `chat`).
            stop: strings that end the text, and are not in it; or a list of them for each text.
            min_p: tokens at least so likely as this part of the most likely one.
            typical_p: the tokens nearest to the expected information whose probabilities add up to p.
            presence_penalty: subtracted from the logits of tokens that were generated already.
            frequency_penalty: subtracted from them once for each time.
            logit_bias: {token id: what is added to its logit}; 100 or -100 as good as forces or forbids it.
            json_schema: the text is JSON of this schema (a dict, or JSON); "{}": any JSON. Needs `aerogel[grammar]`.
            regex: the text matches this regular expression as a whole.
            grammar: the text is of this grammar, in Lark's syntax as llguidance reads it.
            lookup: guess up to so many tokens ahead from what is in the text already, and check them in one pass. The text
                stays the same; it comes sooner where it repeats itself or the prompt, as in code and summaries.
            draft: a smaller model with the same tokens that guesses ahead; the text stays the same.

        Returns:
            The new text, without the prompt; a list of texts for a list of prompts.
        """
        found = complete(
            self.as_source(),
            text,
            chat,
            {
                "max_new_tokens": max_new_tokens,
                "temperature": temperature,
                "top_k": top_k,
                "top_p": top_p,
                "seed": seed,
                "repetition_penalty": repetition_penalty,
                "stop": stop,
                "min_p": min_p,
                "typical_p": typical_p,
                "presence_penalty": presence_penalty,
                "frequency_penalty": frequency_penalty,
                "logit_bias": logit_bias,
                "json_schema": json_schema,
                "regex": regex,
                "grammar": grammar,
                "lookup": lookup,
                "draft": draft,
            },
            stream,
        )
        return [one.text for one in found] if isinstance(found, list) else found.text

    @overload
    def complete(self, text: Prompt, *, chat: bool = False, **options: Any) -> Completion: ...
    @overload
    def complete(self, text: Sequence[Prompt], *, chat: bool = False, **options: Any) -> list[Completion]: ...
    def complete(self, text: Any, *, chat: bool = False, **options: Any) -> Any:
        """`generate` with all that is known of the text: tokens, why it has ended, and with `logprobs=n` how likely each
        token was, and the n likeliest in its place.

        Args:
            text: as `generate`.
            chat: as `generate`.
            **options: `logprobs`, and those of `generate` but `stream`.
        """
        return complete(self.as_source(), text, chat, options)

    def stream(self, text: Prompt, *, chat: bool = False, **options: Any) -> Iterator[str]:
        """The text of `generate`, piece by piece as it is written; the options are `generate`'s. Nothing is computed that
        is not asked for."""
        return stream(self.as_source(), text, chat, options)

    async def agenerate(self, text: Any, *, chat: bool = False, **options: Any) -> Any:
        """`generate` for asyncio: in a thread, and ended before the next token where the task is cancelled."""
        found = await acomplete(self.as_source(), text, chat, options)
        return [one.text for one in found] if isinstance(found, list) else found.text

    def astream(self, text: Prompt, *, chat: bool = False, **options: Any) -> AsyncIterator[str]:
        """`stream` for asyncio: in a thread, and ended before the next token where the iterator is closed or the task
        cancelled."""
        return astream(self.as_source(), text, chat, options)

    def conversation(
        self,
        system: str | None = None,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Conversation:
        """A conversation that goes on: `say` gives an answer, and what was said before is not computed again.

        Args:
            system: what the model is told first.
            tools: as `chat`.
            template: as `chat`.
            template_arguments: as `chat`.
            **options: as `generate`; 512 new tokens unless given.
        """
        chat = {"tools": tools, "template": template, "template_arguments": template_arguments}
        return Conversation(
            self.as_source, lambda: Session(self._plan), system, chat, {"max_new_tokens": 512, **options}
        )

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        max_new_tokens: int = 512,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        **options: Any,
    ) -> str:
        """The model's answer in a conversation, as its chat template writes it.

        Args:
            messages: [{"role": "user", "content": "..."}], and whatever else the template reads of them.
            max_new_tokens: the most tokens of the answer.
            tools: JSON schemas of functions that the model may call.
            documents: texts to answer from, where the template knows them: [{"title": "...", "text": "..."}].
            template: the name of one of the model's templates, or Jinja; unless given "tool_use" with tools, or the default.
            template_arguments: what else the template reads, such as {"enable_thinking": False}.
            continue_final_message: go on with the last message instead of answering it.
            **options: as `generate`: temperature, stream ...

        Returns:
            The answer. Tool calls are in it as the model writes them.

        Raises:
            ChatTemplateError: the model has no template, or it is broken, or refuses the messages.
        """
        prompt = self.chat_tokens(
            messages,
            tools=tools,
            documents=documents,
            template=template,
            template_arguments=template_arguments,
            continue_final_message=continue_final_message,
        )
        return self.generate(prompt, max_new_tokens, **options)

    def chat_text(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        template: str | None = None,
        template_arguments: Mapping[str, Any] | None = None,
        continue_final_message: bool = False,
        add_generation_prompt: bool | None = None,
    ) -> str:
        """A conversation as the model's chat template writes it: the prompt of `chat`, whose arguments these are.

        `add_generation_prompt`: end with what begins an answer; unless given yes, if the last message is not continued.
        """
        return chat_text(
            self.as_source(),
            messages,
            tools,
            documents,
            template,
            template_arguments,
            continue_final_message,
            add_generation_prompt,
        )

    def chat_tokens(self, messages: Sequence[Mapping[str, Any]], *args: Any, **options: Any) -> list[int]:
        """The token ids of `chat_text`, whose arguments these are. They can be given to `generate`."""
        return chat_tokens(self.as_source(), messages, *args, **options)

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
        options = {
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "seed": seed,
            "repetition_penalty": repetition_penalty,
        }
        return tokens(self.as_source(), token_ids, stop, options)

    def as_source(self) -> Source:
        """This model as generations see it."""
        return Source(self._checkpoint, self._architecture, self._session, self._check_open, self._said)

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
            begin = 0
            while begin < len(ids):
                end, tokens = begin + 1, len(ids[begin])
                while end < len(ids) and tokens + len(ids[end]) <= batch_tokens:
                    tokens += len(ids[end])
                    end += 1
                flat, ends = _ragged(ids[begin:end], None)
                kinds = None if types is None else _ragged(types[begin:end], None)[0]
                result[begin:end] = session.run(flat, ends, output, type_ids=kinds)
                begin = end

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
