"""Language models as rerankers: the score of a pair is read off the logits behind it (arXiv 2310.14122).

That is a linear with one output, whose row is that of a token, such as "yes", in the head of the language model, less that
of another, such as "no": a classifier with one label. As such the model is run, compressed and exported. The probability of
"yes" among the two is the sigmoid of the score.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aerogel.architectures import Config, architecture_of, saved_names
from aerogel.checkpoint.blocks import Blocks
from aerogel.checkpoint.chat import DEFAULT, ChatTemplates
from aerogel.checkpoint.checkpoint import Checkpoint
from aerogel.checkpoint.derived import Derived
from aerogel.checkpoint.messages import (
    Messages,
    PromptWriter,
    as_jinja,
    carries_pairs,
    is_places,
    takes_parts,
)
from aerogel.checkpoint.sentence_modules import LogitScore
from aerogel.checkpoint.weight import Weight
from aerogel.errors import ChatTemplateError, TokenizerError, UnsupportedModelError

#: The word for the template that the model has.
OWN = "model"
#: The name of llama.cpp's template for pairs.
_PLACES = "rerank"
_HEAD, _EMBEDDINGS, _SCORE = "lm_head.weight", "embed_tokens.weight", "score.weight"
#: Rows of a head that are read at once, until those are found that are wanted.
_ROWS = 4096
_LANGUAGE = "ForCausalLM"


@dataclass(frozen=True)
class Form:
    """A known way to ask a language model for a score.

    Attributes:
        text: what it reads, with places: see `as_jinja`.
        instruction: where the caller gives none.
        true, false: the tokens whose logits are the score; no false: the logit of the one.
    """

    text: str
    instruction: str = ""
    true: str = "yes"
    false: str | None = "no"


#: By name: what `load(rerank=)` takes.
FORMS = {
    "qwen3-reranker": Form(
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: {instruction}\n'
        "<Query>: {query}\n<Document>: {document}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "Given a web search query, retrieve relevant passages that answer the query",
    ),
    "bge-reranker-gemma": Form(
        "<bos>A: {query}\nB: {document}\n{instruction}",
        "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
        "prediction of either 'Yes' or 'No'.",
        "Yes",
        None,
    ),
}


def as_reranker(checkpoint: Checkpoint, form: str | None) -> Checkpoint:
    """The checkpoint as its files, or the caller, want it scored: itself, where it is not a language model.

    Args:
        checkpoint: any.
        form: None: as the files say; OWN: by the model's own template, where it is a language model; else a name of FORMS, a
            template's source, or the path of its file.

    Raises:
        ChatTemplateError: a template does not write both texts of a pair.
        UnsupportedModelError: the family has no classifier, or the tokenizer not the tokens; or a form other than OWN is
            named for what is no language model.
    """
    labels, score = checkpoint.config.get("id2label") or {}, checkpoint.logit_score
    if score is None and checkpoint.kind == "gguf" and sorted(labels.values()) == ["no", "yes"]:
        by_name = {name: int(index) for index, name in labels.items()}
        score = LogitScore(by_name["yes"], by_name["no"])
    declared = Config(checkpoint.config).architecture(None) or ""
    if score is None and form not in (None, OWN) and not declared.endswith(_LANGUAGE):
        raise UnsupportedModelError(
            f"{checkpoint.path}: rerank: expected a language model, which is made a reranker, got "
            f"{declared or checkpoint.config.get('model_type')}, which stays what it is: leave rerank out"
        )
    if score is None and (form is None or not declared.endswith(_LANGUAGE)):
        return checkpoint
    templates, messages, known = _template(checkpoint, form)
    if score is None:
        false = None if known.false is None else _token(checkpoint, known.false)
        score = LogitScore(_token(checkpoint, known.true), false)
    return Reranker(checkpoint, score, templates, messages)


def _template(checkpoint: Checkpoint, form: str | None) -> tuple[ChatTemplates, Messages | None, Form]:
    """The templates, how pairs are put into them, and the form that was named."""
    templates, said = checkpoint.chat_templates, checkpoint.messages
    own = templates.sources.get(_PLACES)
    if form is None or form == OWN:
        if said is None and own is not None and is_places(own):
            return _with_default(templates, as_jinja(own)), Messages(), Form("")
        if form is None:
            return templates, said, Form("")
        source = templates.sources.get(DEFAULT, "")
        messages = said or Messages(takes_parts(source))
        if not source or not carries_pairs(templates, messages):
            raise ChatTemplateError(
                f"{templates.where}: chat template: expected one that writes messages of the roles query and document, to "
                "score pairs by, got "
                + ("one that does not" if source else "none")
                + f": name a known form, rerank={' or '.join(map(repr, FORMS))}, or give a template as Jinja"
            )
        return templates, messages, Form("")
    if form in FORMS:
        known = FORMS[form]
        return _with_default(templates, as_jinja(known.text, known.instruction)), Messages(), known
    source = _source(form)
    given = _with_default(templates, as_jinja(source) if is_places(source) else source)
    messages = Messages(takes_parts(source))
    if not carries_pairs(given, messages):
        raise ChatTemplateError(
            f"rerank: expected {OWN!r}, {', '.join(map(repr, FORMS))}, or a template, or the path of one, that writes "
            f"messages of the roles query and document, got {form!r:.80}"
        )
    return given, messages, Form("")


def _source(form: str) -> str:
    path = Path(os.path.expanduser(form))
    if os.path.isfile(path):  # False, not an error, for a template that is too long for a name
        try:
            return path.read_text(encoding="utf-8-sig")
        except (OSError, ValueError) as error:
            raise ChatTemplateError(f"{path}: cannot be read as UTF-8: {error}") from error
    return form


def _with_default(templates: ChatTemplates, source: str) -> ChatTemplates:
    return replace(templates, sources={**templates.sources, DEFAULT: source})


def _token(checkpoint: Checkpoint, token: str) -> int:
    found = checkpoint.tokenizer().id_of(token)
    if found is None:
        raise UnsupportedModelError(
            f"{checkpoint.path}: expected the token {token!r}, whose logit would be the score, in the vocabulary"
        )
    return found


class Reranker(Derived):
    """A language model as a classifier with one label, see the top of this file."""

    def __init__(
        self, source: Checkpoint, score: LogitScore, templates: ChatTemplates, messages: Messages | None
    ) -> None:
        saved = saved_names(source.config)
        if saved is None or saved.classifier is None or _EMBEDDINGS not in source:
            raise UnsupportedModelError(
                f"{source.path}: a score by the logits of tokens: expected a family with a classifier, got "
                f"{source.config.get('model_type')!r}"
            )
        self._row = _score_row(source, score)
        self._templates, self._said = templates, messages
        config = {
            **source.config,
            "architectures": [saved.classifier],
            "id2label": {"0": "LABEL_0"},
            "label2id": {"LABEL_0": 0},
        }
        config["pad_token_id"] = self._pad(source)
        super().__init__(source, config, {*source.names(), _SCORE} - {_HEAD})

    def _pad(self, source: Checkpoint) -> int | None:
        """The token that fills batches elsewhere, without which Transformers has no batches of classifiers. It passes over
        such tokens at the end of a text, so it must not be what the template ends with."""
        pad = source.config.get("pad_token_id")
        try:
            if pad is None and self._templates.tokens.get("pad_token") is not None:
                pad = source.tokenizer().id_of(str(self._templates.tokens["pad_token"]))
            if self._said is not None and carries_pairs(self._templates, self._said):
                end = PromptWriter(self._templates, self._said, source.tokenizer()).end()
                return None if end[-1:] == [pad] else pad
        except TokenizerError:  # token ids alone can be scored without a tokenizer
            pass
        return pad

    @property
    def chat_templates(self) -> ChatTemplates:
        return self._templates

    @property
    def messages(self) -> Messages | None:
        return self._said

    @property
    def logit_score(self) -> LogitScore | None:
        return None

    def __contains__(self, name: object) -> bool:
        return name == _SCORE or (name != _HEAD and name in self._source)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._row.shape if name == _SCORE else self._source.shape(name)

    def array(self, name: str) -> NDArray[np.float32]:
        return self._row if name == _SCORE else self._source.array(name)

    def weight(self, name: str) -> Weight:
        return Weight(self._row.shape, self._row) if name == _SCORE else self._source.weight(name)

    def blocks(self, name: str, rows: int) -> Iterator[NDArray[np.float32]]:
        if name == _SCORE:
            yield self._row
        else:
            yield from self._source.blocks(name, rows)

    def stored(self, name: str) -> Weight | Blocks:
        return self.weight(name) if name == _SCORE else self._source.stored(name)

    def block_type(self, name: str) -> str | None:
        return None if name == _SCORE else self._source.block_type(name)

    def input_limit(self, name: str) -> float | None:
        return None if name == _SCORE else self._source.input_limit(name)


def _score_row(source: Checkpoint, score: LogitScore) -> NDArray[np.float32]:
    """float32 [1, H]."""
    if _SCORE in source:  # of the head only the rows that matter
        name, scale = _SCORE, 1.0
    else:
        untied = _HEAD in source and source.config.get("tie_word_embeddings") is not True
        name, scale = _HEAD if untied else _EMBEDDINGS, _logit_scale(source)
    wanted = [score.true] if score.false is None else [score.true, score.false]
    count = source.shape(name)[0]
    if max(wanted) >= count or min(wanted) < 0:
        raise UnsupportedModelError(
            f"{source.path}: expected tokens below {count}, whose logits are the score: {wanted}"
        )
    found: dict[int, NDArray[np.float32]] = {}
    begin = 0
    for block in source.blocks(name, _ROWS):
        found.update({i: block[i - begin].copy() for i in wanted if begin <= i < begin + len(block)})
        begin += len(block)
        if len(found) == len(set(wanted)):
            break
    row = found[score.true] if score.false is None else found[score.true] - found[score.false]
    result: NDArray[np.float32] = (row * np.float32(scale))[None]
    return result


def _logit_scale(source: Checkpoint) -> float:
    """What logits are multiplied by."""
    details: Any = getattr(architecture_of(source), "details", None)
    if getattr(details, "logit_cap", None):
        raise UnsupportedModelError(
            f"{source.path}: a score by the logits of tokens: expected logits without a softcap, which no linear has"
        )
    return float(getattr(details, "logit_scale", 1.0))
