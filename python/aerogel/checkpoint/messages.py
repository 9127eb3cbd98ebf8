"""Texts and pairs of texts as a chat template writes them, for models that score or embed what they read so.

A pair is a message of role "query" and one of role "document"; a text alone, to be embedded, is one of role "user"; before
them stands perhaps one of role "system", which is the instruction: sentence-transformers' words, and vLLM's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aerogel.checkpoint.chat import ChatTemplates
from aerogel.errors import ChatTemplateError, TokenizerError

if TYPE_CHECKING:
    from aerogel.checkpoint.checkpoint import Checkpoint
    from aerogel.checkpoint.tokenizer import Tokenizer

#: In a template's source these mean that it takes the content of a message apart.
_PARTS = ("content[0]", ".type", "'type'", '"type"', "message.content[")
#: A pair, and the same with another query and with another document: what a template writes of them differs, or it is no
#: template for pairs.
_PROBES = (("alpha", "bravo"), ("charlie", "bravo"), ("alpha", "foxtrot"))
#: The roles of a pair, and of a text alone.
_PAIR, _ALONE = ("query", "document"), ("user",)
#: Texts of which no token is the same: what the ends of two prompts have in common is the template's.
_FILLERS = ("0", "1 2 3 4")
_PLACE = re.compile(r"\{(query|document|instruction)\}")


@dataclass(frozen=True)
class Messages:
    """How texts become messages.

    Attributes:
        alone: they are embedded, each by itself, and not scored in pairs.
        structured: the content of a message is a list of parts, [{"type": "text", "text": ...}], and not a text.
        arguments: what the template gets beside the messages.
    """

    structured: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False


def takes_parts(template: str) -> bool:
    """Whether a template wants the content of messages in parts, as sentence-transformers decides it."""
    return any(part in template for part in _PARTS)


def as_jinja(text: str, instruction: str = "") -> str:
    """A template with messages, out of a text with the places {query}, {document} and {instruction}.

    Args:
        text: as llama.cpp's files have it.
        instruction: what stands in its place where there is no system message.
    """
    chosen = [
        f'{{%- set {name} = messages | selectattr("role", "eq", "{role}") | map(attribute="content") | first{rest} -%}}'
        for name, role, rest in (
            ("instruction", "system", f" | default({_literal(instruction)})"),
            ("query", "query", ""),
            ("document", "document", ""),
        )
        if f"{{{name}}}" in text
    ]
    parts = _PLACE.split(text)  # texts and names in turn
    written = [part if i % 2 else _literal(part) for i, part in enumerate(parts) if part]
    return "\n".join([*chosen, f"{{{{- {' ~ '.join(written)} -}}}}"])


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def is_places(text: str) -> bool:
    """Whether a template is a text with places, and no Jinja."""
    return "{query}" in text and "{document}" in text and "{{" not in text and "{%" not in text


def carries_pairs(templates: ChatTemplates, messages: Messages) -> bool:
    """Whether what the template writes depends on both texts of a pair."""
    try:
        base, *others = [written(templates, messages, zip(_PAIR, pair, strict=True)) for pair in _PROBES]
    except ChatTemplateError:
        return False
    return all(other != base for other in others)


def written(templates: ChatTemplates, messages: Messages, texts: Iterable[tuple[str, str]], system: str = "") -> str:
    """The prompt of one pair, or of a text. `texts`: with their roles; `system`: the instruction; "": the template's own.

    Raises:
        ChatTemplateError: there is no template, or it refuses such messages.
    """
    from aerogel.checkpoint.sandbox import render

    said = list(texts)
    if system:
        said.insert(0, ("system", system))
    values = {
        **{key: value for key, value in templates.tokens.items() if value is not None},
        "messages": [{"role": role, "content": _content(messages, text)} for role, text in said],
        "tools": None,
        "documents": None,
        "add_generation_prompt": False,
        **messages.arguments,
    }
    return render(templates.choose(None, tools=False), values, templates.where)


def _content(messages: Messages, text: str) -> Any:
    return [{"type": "text", "text": text}] if messages.structured else text


class PromptWriter:
    """Writes texts by a template, and makes tokens of them."""

    def __init__(self, templates: ChatTemplates, messages: Messages, tokenizer: Tokenizer) -> None:
        self._templates, self._messages, self._tokenizer = templates, messages, tokenizer
        self._ends: dict[str, list[int]] = {}

    def pairs(self, first: Sequence[str], second: Sequence[str], system: str = "") -> list[str]:
        """The prompts of the pairs (first[i], second[i]).

        Raises:
            ChatTemplateError: the template refuses such messages.
            TokenizerError: the lists differ in length.
        """
        if len(first) != len(second):
            raise TokenizerError(f"pairs: expected as many texts, got {len(first)} and {len(second)}")
        pairs = zip(first, second, strict=True)
        return [written(self._templates, self._messages, zip(_PAIR, pair, strict=True), system) for pair in pairs]

    def alone(self, texts: Sequence[str], system: str = "") -> list[str]:
        """The prompts of texts.

        Raises:
            ChatTemplateError: the template refuses such messages.
        """
        return [written(self._templates, self._messages, [(_ALONE[0], text)], system) for text in texts]

    def encode(self, texts: Sequence[str], max_tokens: int | None = None, system: str = "") -> list[list[int]]:
        """The tokens of prompts, without any that the template has not written.

        A longer one is cut, and what the template writes behind every text takes the place of its last tokens: the model
        reads its answer off them.
        """
        found = self._tokenizer.encode(texts, special=False)
        for i, ids in enumerate(found):
            if max_tokens is not None and len(ids) > max_tokens:
                kept = ids[len(ids) - max_tokens :] if self._tokenizer.cuts_left else ids[:max_tokens]
                end = self.end(system)[-max_tokens:]
                found[i] = kept[: max_tokens - len(end)] + end
        return found

    def end(self, system: str = "") -> list[int]:
        """The tokens that the template writes behind every text."""
        if system not in self._ends:
            roles = _ALONE if self._messages.alone else _PAIR
            fillers = [[(role, text) for role in roles] for text in _FILLERS]
            prompts = [written(self._templates, self._messages, said, system) for said in fillers]
            one, other = (ids[::-1] for ids in self._tokenizer.encode(prompts, special=False))
            shorter = min(len(one), len(other))
            common = next((i for i in range(shorter) if one[i] != other[i]), shorter)
            self._ends[system] = one[:common][::-1] if common < shorter else []
        return self._ends[system]


def text_prompts(checkpoint: Checkpoint) -> PromptWriter | None:
    """What writes the texts that the model embeds; None: nothing stands around them.

    Raises:
        ChatTemplateError: the model's files say that a template does, and there is none.
        TokenizerError: there is no tokenizer.
    """
    messages = checkpoint.messages
    if messages is None or not messages.alone:
        return None
    templates = checkpoint.chat_templates
    templates.choose(None, tools=False)  # raises where there is none
    return PromptWriter(templates, messages, checkpoint.tokenizer())


def pair_prompts(checkpoint: Checkpoint) -> PromptWriter | None:
    """What writes pairs for the model; None: its tokenizer puts one text behind the other.

    Raises:
        ChatTemplateError: the model's files say that a template does, and theirs does not.
        TokenizerError: there is no tokenizer.
    """
    messages = checkpoint.messages
    if messages is None or messages.alone:
        return None
    templates = checkpoint.chat_templates
    if not carries_pairs(templates, messages):
        raise ChatTemplateError(
            f"{templates.where}: chat template: expected one that writes messages of the roles query and document, as pairs "
            "are such messages for this model: put one into chat_template.jinja, or name a known one: load(rerank=)"
        )
    return PromptWriter(templates, messages, checkpoint.tokenizer())


class _Texts:
    """A tokenizer for prompts that are written already."""

    def __init__(self, prompts: PromptWriter) -> None:
        self.encode = prompts.encode


def calibration_texts(checkpoint: Checkpoint, texts: Sequence[str]) -> tuple[list[str], Any]:
    """Texts as the model reads them, and what makes tokens of them: two texts that follow each other are a pair for a model
    with a template for pairs, as the columns of a table of pairs do; the last of an odd number goes with the first."""
    prompts = text_prompts(checkpoint)
    if prompts is not None:
        return prompts.alone(texts), _Texts(prompts)
    prompts = pair_prompts(checkpoint)
    if prompts is None or not texts:
        return list(texts), checkpoint.tokenizer()
    even = [*texts, texts[0]] if len(texts) % 2 else list(texts)
    return prompts.pairs(even[::2], even[1::2]), _Texts(prompts)
