"""A loaded model without its tasks: what it is, and running it on token ids."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from aerogel._core import PackedWeight, Plan, Session
from aerogel._util.checks import flag, one_of, text, whole_number
from aerogel.architectures import Architecture
from aerogel.architectures.heads import label_names
from aerogel.architectures.pooling import Pooling
from aerogel.budget.bits import bits_of
from aerogel.engine.sessions import Sessions
from aerogel.engine.text_runner import TextRunner
from aerogel.engine.token_ids import is_split, ragged
from aerogel.errors import AerogelError, DataError, UnsupportedModelError
from aerogel.quantize import scheme
from aerogel.tuning import Tuner

if TYPE_CHECKING:
    from aerogel.checkpoint import Checkpoint
    from aerogel.checkpoint.tokenizer import Tokenizer


C = TypeVar("C", bound="Core")


class Arguments(NamedTuple):
    """What `load` was called with, so that another process can do the same."""

    path: str
    threads: int | None
    format: str
    memory: float | None
    pooling: str | None
    verify: bool
    quant: str | None
    kv_cache: str | None
    rerank: str | None
    attention: str = "auto"


@dataclass(frozen=True)
class Loaded:
    """What `load` made: immutable, shared by the copies of a model, given up when the last of them is closed."""

    checkpoint: Checkpoint
    architecture: Architecture
    pooling: Pooling | None
    plan: Plan
    tuner: Tuner
    table_bytes: int
    kv_cache: str


class Core:
    """What a loaded model is, and running it on token ids."""

    def __init__(self, loaded: Loaded, arguments: Arguments) -> None:
        self._loaded: Loaded | None = loaded
        self._arguments = arguments
        self._idle = Sessions(loaded.kv_cache)
        self._warned_long = False
        self._said: set[str] = set()
        self._max_tokens: int | None = None

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
    def _open(self) -> Loaded:
        """What was loaded; raises where it was given up."""
        loaded = self._loaded
        if loaded is None:
            raise AerogelError(f"{self._arguments.path}: the model is closed")
        return loaded

    def __enter__(self: C) -> C:
        self._open  # noqa: B018  (raises if it is closed)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
    def quantization(self) -> str:
        """How the weights of linears are stored: the scheme of `quant` or of a packed model's recipe, or its "auto:4.5bits";
        or else the numbers that they are, such as "float32", "float16", "bf16" or "int8"; "mixed" where they differ."""
        if self._arguments.quant not in (None, "none"):
            return str(self._arguments.quant)
        packed = self.config.get("quantization_config")
        recipe = packed.get("recipe") if isinstance(packed, dict) and self._checkpoint.kind == "packed" else None
        said = recipe["quantize"].get("weights") if isinstance(recipe, dict) and "quantize" in recipe else None
        if isinstance(said, str) and said != "none":
            return said if bits_of(said) else scheme(said).name
        numbers = {str(step["numbers"]) for step in self.describe() if "numbers" in step}
        return numbers.pop() if len(numbers) == 1 else "mixed"

    @property
    def attention(self) -> str:
        """What attention multiplies: "float32", "int16" or "int8", see `load`."""
        return str(self._plan.attention)

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
        limit = self._max_tokens or self._checkpoint.max_tokens
        return min(limit, self._architecture.max_positions) if limit else self._architecture.max_positions

    @max_tokens.setter
    def max_tokens(self, value: int) -> None:
        self._max_tokens = whole_number("max_tokens", value, 1)

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
        """The weight of one linear as it runs; `name` as in `describe`. The hidden units of an FFN may be in another order
        than in the file."""
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
        ids, ends = ragged(token_ids, offsets)
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

    @property
    def default_prompt_name(self) -> str | None:
        """The one of `prompts` that stands before texts unless `encode` is told otherwise; None: none does."""
        return self._checkpoint.prompts.default

    def prompt_text(self, prompt: str | None, name: str | None) -> str:
        """What stands before each text: `prompt`, or the one of `prompts` that is called `name`, or the default one."""
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
        one scale a token; of attention the `products`."""
        return list(self._plan.describe())

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
        ids, ends = ragged(token_ids, offsets)
        if output == "scores" and self._architecture.pad_id is not None and is_split(ids, ends):
            rows = np.split(ids, [int(end) for end in ends[1:-1]])
            ids, ends = ragged([self._architecture.scored(row.tolist()) for row in rows], None)
        with self._session() as session:
            return session.run(ids, ends, output, last_only=last_only)

    def run_sequences(
        self,
        output: str,
        ids: Sequence[Sequence[int]],
        types: Sequence[Sequence[int]] | None = None,
        each_token: bool = False,
        batch_tokens: int | None = None,
    ) -> list[np.ndarray]:
        """Runs sequences in one batch, or in as many as `batch_tokens` asks for; see `Work`, whose parts the arguments are.

        Returns:
            Of each sequence float32 [1, width], or [t, width], a row of each token.
        """
        rows: list[np.ndarray] = []
        most = batch_tokens or sum(map(len, ids))
        for begin, end, found, ends in self._texts().run(ids, types, output, most):
            rows += np.split(found, ends[1:-1] if each_token else end - begin)
        return rows

    def _output(self, output: str | None) -> str:
        return self.outputs[0] if output is None else one_of("output", output, self.outputs)

    def _known_types(self, types: list[list[int]]) -> list[list[int]] | None:
        """Token types for the engine: None where the model does not tell the texts of a pair apart."""
        return types if self._architecture.types > 1 else None

    def _texts(self) -> TextRunner:
        zero = self._architecture.empty_is_zero
        return TextRunner(self.tokenizer, self.max_tokens, self._session, self._warn_long, zero)

    def _warn_long(self) -> bool:
        """Whether nobody was told yet that texts are cut; from now on somebody was."""
        told, self._warned_long = self._warned_long, True
        return not told

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
        size = f"{self.quantization}, {self.nbytes / 1e6:.1f} MB"
        return f"<aerogel model {str(self._checkpoint.path)!r}: {', '.join(self.outputs)}; {size}>"
