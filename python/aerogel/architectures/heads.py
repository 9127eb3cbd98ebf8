"""What stands on an encoder: classifiers of texts and of tokens, question answering, masked language models.

A head is a list of steps, read from the hidden states of every token or of one row a text. Families differ in the names of
the tensors and in what stands before the last linear; that is all they have to say.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aerogel.architectures.config import Config
from aerogel.architectures.tensors import Role, Tensor
from aerogel.errors import ConfigError, UnsupportedModelError

if TYPE_CHECKING:
    from aerogel.architectures.program import Parameters, Program, Value

log = logging.getLogger("aerogel")

#: The size of an axis, and what it runs over (`Tensor.axes`).
Axis = tuple[int, str]

SEQUENCE, TOKENS, SPANS, MASKED = "sequence", "tokens", "spans", "masked"
#: How a class's name ends -> the kind of its head.
KINDS: Mapping[str, str | None] = {
    "Model": None,
    "ForSequenceClassification": SEQUENCE,
    "ForTokenClassification": TOKENS,
    "ForQuestionAnswering": SPANS,
    "ForMaskedLM": MASKED,
}


@dataclass(frozen=True)
class Linear:
    """x W^T + b.

    Attributes:
        weight: the tensor's name.
        bias: the tensor's name, or None.
        label: in messages and reports.
        rows: the outputs.
        columns: the inputs.
        tied: the weight is the token embeddings, which the family lists.
    """

    weight: str
    bias: str | None
    label: str
    rows: Axis
    columns: Axis
    tied: bool = False


@dataclass(frozen=True)
class Norm:
    """A layer norm; `tensor` is what the names of weight and bias begin with."""

    tensor: str
    label: str
    width: Axis
    eps: float
    bias: bool = True


@dataclass(frozen=True)
class Activation:
    """One of the engine's functions, of each number."""

    kind: str


@dataclass(frozen=True)
class Normalized:
    """Every row to length 1."""


@dataclass(frozen=True)
class Pool:
    """[T, n] -> [S, n], by one of the engine's poolings."""

    kind: str


Step = Pool | Linear | Norm | Activation | Normalized


@dataclass(frozen=True)
class Head:
    """Steps from hidden states [T, H] to one output.

    Attributes:
        output: its name: "scores" [S, labels], "token_scores" [T, labels], "spans" [T, 2] (of start and end) or "logits"
            [T, V], beside which "terms" [S, V] are each text's largest.
        steps: in the order of use.
        pool: how each text's hidden states become the one row that is read; None: every token's are.
    """

    output: str
    steps: tuple[Step, ...]
    pool: str | None = None

    def tensors(self) -> list[Tensor]:
        """The parameters that are the head's own."""
        found: list[Tensor] = []
        for step in self.steps:
            if isinstance(step, Linear):
                if not step.tied:
                    found.append(Tensor.over(step.weight, step.label, Role.HEAD, step.rows, step.columns))
                if step.bias is not None:
                    found.append(Tensor.over(step.bias, step.label + ".bias", Role.KEPT, step.rows))
            elif isinstance(step, Norm):
                found.append(Tensor.over(step.tensor + ".weight", step.label, Role.KEPT, step.width))
                if step.bias:
                    found.append(Tensor.over(step.tensor + ".bias", step.label + ".bias", Role.KEPT, step.width))
        return found

    def add(self, p: Program, w: Parameters, hidden: Value) -> None:
        """Writes the head into `p`."""
        x = hidden if self.pool is None else p.pool(hidden, (self.pool,))
        for step in self.steps:
            x = _add(p, w, x, step)
        p.output(self.output, x)
        if self.output == "logits":
            p.output("terms", p.pool(x, ("max",)))  # [S, V]

    @property
    def outputs(self) -> tuple[str, ...]:
        """All that it gives."""
        return (self.output, "terms") if self.output == "logits" else (self.output,)


def _add(p: Program, w: Parameters, x: Value, step: Step) -> Value:
    if isinstance(step, Activation):
        return p.activation(x, step.kind)
    if isinstance(step, Normalized):
        return p.l2_normalize(x)
    if isinstance(step, Pool):
        return p.pool(x, (step.kind,))
    if isinstance(step, Norm):
        beta = w.vector(step.tensor + ".bias") if step.bias else None
        return p.layer_norm(step.label, x, w.vector(step.tensor + ".weight"), beta, step.eps)
    bias = None if step.bias is None else w.vector(step.bias)
    return p.linear(step.label, x, w.linear(step.weight), bias, limit=w.limit(step.weight))


def linear(tensor: str, label: str, rows: Axis, columns: Axis, bias: bool = True) -> Linear:
    """A linear whose tensors are `tensor`.weight and, with a bias, `tensor`.bias."""
    return Linear(tensor + ".weight", tensor + ".bias" if bias else None, label, rows, columns)


def sequence_head(
    hidden: Axis,
    labels: int,
    last: str = "classifier",
    first: str | None = None,
    activation: str = "tanh",
    between: Sequence[Step] = (),
    pool: str = "cls",
    bias: bool = True,
) -> Head:
    """Scores of a text: pool, then act(x W^T + b) where there is a `first` linear, `between`, and the `last` linear.

    Args:
        hidden: the axis of the hidden states.
        labels: how many scores.
        last: the tensors of the last linear.
        first: the tensors of the linear before it.
        activation: what follows that.
        between: what stands before the last linear, such as a norm.
        pool: of what row: "cls", "mean" or "last".
        bias: whether the first linear has one.
    """
    steps: list[Step] = []
    if first is not None:
        steps += [linear(first, "pooler", hidden, hidden, bias), Activation(activation)]
    return Head("scores", (*steps, *between, linear(last, "classifier", (labels, ""), hidden)), pool)


def token_head(hidden: Axis, labels: int, last: str = "classifier", before: Sequence[Step] = ()) -> Head:
    """Scores of every token."""
    return Head("token_scores", (*before, linear(last, "classifier", (labels, ""), hidden)))


def span_head(hidden: Axis, last: str = "qa_outputs", before: Sequence[Step] = ()) -> Head:
    """Of every token, how well an answer would begin and end there."""
    return Head("spans", (*before, linear(last, "spans", (2, ""), hidden)))


def masked_head(
    hidden: Axis,
    width: Axis,
    transform: str,
    norm: str,
    eps: float,
    activation: str,
    decoder: Linear,
    bias: bool = True,
    norm_bias: bool = True,
) -> Head:
    """Logits of every token: norm(act(x W^T + b)) and the decoder, which is mostly the token embeddings of width `width`."""
    first = linear(transform, "head.transform", width, hidden, bias)
    return Head("logits", (first, Activation(activation), Norm(norm, "head.norm", width, eps, norm_bias), decoder))


def decoder(
    names: Sequence[str], weight: str, biases: Sequence[str], embeddings: str, tied: bool, vocab: Axis, width: Axis
) -> tuple[Linear, dict[str, str]]:
    """The last linear of a masked language model, and the tensors that may stand unread beside it, with the reason.

    Transformers ties its weight to the embeddings unless the config says otherwise. Its bias is one tensor under two names,
    of which a file may have either; an untied decoder has a bias of its own, under the last of them.

    Args:
        names: the checkpoint's tensors.
        weight: the decoder's own.
        biases: what its bias may be called.
        embeddings: the token embeddings' name.
        tied: what the config says.
        vocab: the axis of the tokens.
        width: the axis of the embeddings' columns.
    """
    tied = tied or weight not in names
    bias = biases[0]
    if biases[-1] in names and (not tied or biases[0] not in names):
        bias = biases[-1]
    unread = {re.escape(b): f"the same as {bias}, or not used where that is there" for b in biases if b != bias}
    if tied:
        unread[re.escape(weight)] = "tied to the word embeddings"
    return Linear(embeddings if tied else weight, bias, "head.decoder", vocab, width, tied), unread


def classes(*prefixes: str, more: Mapping[str, str | None] | None = None) -> dict[str, str | None]:
    """Class name -> kind of head, for what Transformers calls so with one of these prefixes, and `more`."""
    return {**{prefix + end: kind for prefix in prefixes for end, kind in KINDS.items()}, **(more or {})}


def head_kind(c: Config, known: Mapping[str, str | None], pooled: bool = False) -> str | None:
    """The kind of head that a config's class has; the first of `known` is that of a config that names none.

    `pooled`: the model is used for its embeddings, as sentence-transformers does, which loads the base model whatever class
    the config names. Tensors that only that class has are refused then.

    Raises:
        UnsupportedModelError: a class with another head.
    """
    declared = c.architecture(next(iter(known)))
    if pooled and declared not in known:
        log.info(
            "config: architectures: %s is not known; the model has a pooling, so its base model is loaded", declared
        )
        return None
    if declared is None or declared not in known:
        raise UnsupportedModelError(f"config: architectures: {declared!r} is not supported, only {', '.join(known)}")
    return known[declared]


def label_count(config: Mapping[str, Any]) -> int:
    """How many scores a classifier has: as id2label lists, or as num_labels says."""
    named = config.get("id2label")
    return len(named) if isinstance(named, Mapping) and named else Config(config).integer("num_labels", 2)


def label_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a classifier's labels, in the order of their scores: those of id2label, or LABEL_0 and so on.

    Raises:
        ConfigError: id2label does not number its labels from 0 on.
    """
    named = config.get("id2label")
    if not isinstance(named, Mapping) or not named:
        return tuple(f"LABEL_{i}" for i in range(label_count(config)))
    numbered = {str(key): value for key, value in named.items()}
    wanted = [str(i) for i in range(len(named))]
    if set(numbered) != set(wanted):
        raise ConfigError(
            f"config: id2label: expected the labels 0 to {len(named) - 1}, got {', '.join(numbered)!s:.80}"
        )
    return tuple(str(numbered[key]) for key in wanted)
