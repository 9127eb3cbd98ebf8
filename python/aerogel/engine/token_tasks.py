"""What token classifiers and question answerers say of texts, computed as Transformers' pipelines for them do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from aerogel.checkpoint.pieces import Pieces
from aerogel.checkpoint.tokenizer import Tokenizer

#: How tokens become spans; see `classify_tokens`.
AGGREGATIONS = ("none", "simple", "first", "average", "max")
#: Label of a token that is of no interest.
OUTSIDE = "O"
#: Tokens of one window over a long context, and how many of them two windows share, at most.
WINDOW, STRIDE = 384, 128

#: Runs token ids and types: float32 [t, width] of each sequence.
Run = Callable[[list[list[int]], list[list[int]]], list[np.ndarray]]


@dataclass(frozen=True)
class TokenSpan:
    """A part of a text, and what it is.

    Attributes:
        label: of the model's, without B- or I- where tokens were aggregated.
        score: the probability.
        start: the first character.
        end: behind the last one.
        text: what stands there.
    """

    label: str
    score: float
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Answer:
    """A part of a context that answers a question; empty: nothing does.

    Attributes:
        text: what stands there.
        score: the probability.
        start: its first character in the context.
        end: behind the last one.
    """

    text: str
    score: float
    start: int
    end: int


@dataclass
class _Token:
    """A token, or a word, on its way to a span; `scores` are the probabilities of all labels."""

    scores: np.ndarray
    start: int
    end: int
    inside: bool
    label: str = ""
    score: float = 0.0

    def decide(self, scores: np.ndarray, labels: Sequence[str]) -> None:
        best = int(scores.argmax())
        self.label, self.score = labels[best], float(scores[best])


def classify_tokens(
    texts: Sequence[str], tokenizer: Tokenizer, run: Run, labels: Sequence[str], aggregation: str, max_tokens: int
) -> list[list[TokenSpan]]:
    """The labelled spans of each text; see `Model.classify_tokens`."""
    pieces = [tokenizer.pieces(text, max_tokens=max_tokens)[0] for text in texts]
    shown = [i for i, piece in enumerate(pieces) if piece.ids]
    rows = run([pieces[i].ids for i in shown], [pieces[i].types for i in shown])
    found: list[list[TokenSpan]] = [[] for _ in texts]
    for i, logits in zip(shown, rows, strict=True):
        tokens = _tokens(texts[i], pieces[i], softmax(logits), tokenizer)
        if aggregation not in ("none", "simple"):
            tokens = [_word(word, aggregation, labels) for word in _words(tokens)]
        else:
            for token in tokens:
                token.decide(token.scores, labels)
        groups = [[token] for token in tokens] if aggregation == "none" else _groups(tokens)
        spans = [_span(texts[i], group, aggregation != "none") for group in groups]
        found[i] = [span for span in spans if span.label != OUTSIDE]
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: np.ndarray = powers / powers.sum(axis=-1, keepdims=True)
    return result


def _tokens(text: str, pieces: Pieces, scores: np.ndarray, tokenizer: Tokenizer) -> list[_Token]:
    found = []
    for i, (start, end) in enumerate(pieces.offsets):
        if pieces.sources[i] is None:
            continue
        if pieces.ids[i] == tokenizer.unk_id:
            inside = False
        elif tokenizer.marks_parts:
            inside = len(pieces.tokens[i]) != end - start
        else:  # no vocabulary says it: what no space stands before
            inside = start > 0 and " " not in text[start - 1 : start + 1]
        found.append(_Token(scores[i], start, end, inside))
    return found


def _words(tokens: Sequence[_Token]) -> list[list[_Token]]:
    found: list[list[_Token]] = []
    for token in tokens:
        if token.inside and found:
            found[-1].append(token)
        else:
            found.append([token])
    return found


def _word(tokens: Sequence[_Token], aggregation: str, labels: Sequence[str]) -> _Token:
    """A word, by its first token, by the surest, or by the mean of all."""
    word = _Token(tokens[0].scores, tokens[0].start, tokens[-1].end, False)
    if aggregation == "max":
        word.scores = max(tokens, key=lambda token: float(token.scores.max())).scores
    elif aggregation == "average":
        word.scores = np.mean([token.scores for token in tokens], axis=0)
    word.decide(word.scores, labels)
    return word


def _groups(tokens: Sequence[_Token]) -> list[list[_Token]]:
    """Neighbours of one label are a span; B- begins another one."""
    found: list[list[_Token]] = []
    for token in tokens:
        begins, tag = token.label.startswith("B-"), _tag(token.label)
        if found and not begins and tag == _tag(found[-1][-1].label):
            found[-1].append(token)
        else:
            found.append([token])
    return found


def _tag(label: str) -> str:
    return label[2:] if label.startswith(("B-", "I-")) else label


def _span(text: str, tokens: Sequence[_Token], grouped: bool) -> TokenSpan:
    label = tokens[0].label.split("-", 1)[-1] if grouped else tokens[0].label
    start, end = tokens[0].start, tokens[-1].end
    return TokenSpan(label, float(np.mean([token.score for token in tokens])), start, end, text[start:end])


def answer(
    question: str, context: str, tokenizer: Tokenizer, run: Run, max_answer: int, impossible: bool, max_tokens: int
) -> Answer:
    """The best answer; see `Model.answer`."""
    window = min(max_tokens, WINDOW)
    windows = tokenizer.pieces(question, context, window, min(window // 2, STRIDE))
    rows = run([pieces.ids for pieces in windows], [pieces.types for pieces in windows])
    found: dict[str, Answer] = {}
    nothing = 1.0
    for pieces, logits in zip(windows, rows, strict=True):
        best, none = _best(pieces, logits, max_answer)
        nothing = min(nothing, none)
        if best is None:
            continue
        score, first, last = best
        start, end = pieces.words[first][0], pieces.words[last][1]
        text = context[start:end]
        before = found.get(text.lower())  # windows overlap: what is found twice is as likely as both say
        found[text.lower()] = (
            Answer(text, score, start, end)
            if before is None
            else Answer(before.text, before.score + score, before.start, before.end)
        )
    answers = list(found.values())
    if impossible or not answers:
        answers.append(Answer("", nothing if impossible else 0.0, 0, 0))
    return max(answers, key=lambda one: one.score)


def _best(pieces: Pieces, logits: np.ndarray, longest: int) -> tuple[tuple[float, int, int] | None, float]:
    """(score, first token, last token) of the likeliest span of the context, if there is any, and how likely there is none:
    that is what the first token stands for."""
    allowed = np.array([source == 1 for source in pieces.sources])
    if not allowed.any():
        return None, 1.0
    allowed[0] = True
    p = softmax(np.where(allowed[:, None], logits, -10000.0).T)  # [2, t]
    nothing = float(p[0, 0] * p[1, 0])
    p[:, 0] = 0
    spans = np.tril(np.triu(np.outer(p[0], p[1])), longest - 1)  # [first, last]
    first, last = np.unravel_index(int(spans.argmax()), spans.shape)
    score = float(spans[first, last])
    return ((score, int(first), int(last)) if score > 0 else None), nothing
