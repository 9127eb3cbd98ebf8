"""Conversations as prompts."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from aerogel._util.checks import flag, items, shown, text
from aerogel.checkpoint.known_chats import CHATS, fitting
from aerogel.engine.generation.source import Source
from aerogel.errors import ChatTemplateError, DataError, TokenizerError

log = logging.getLogger("aerogel")

#: Where a message may have its reasoning, in the order in which they count; the first is what templates read.
_REASONING = ("reasoning_content", "thinking", "reasoning")
#: Put behind the last message to find where it ends in the prompt. The space shows whether the template trims.
_MARK = "CONTINUE_FINAL_MESSAGE_TAG "


def chat_text(
    source: Source,
    messages: Any,
    tools: Any = None,
    documents: Any = None,
    template: str | None = None,
    template_arguments: Mapping[str, Any] | None = None,
    continue_final_message: bool = False,
    add_generation_prompt: bool | None = None,
) -> str:
    """`Model.chat_text`."""
    from aerogel.checkpoint.sandbox import render

    conversation = _messages(messages)
    if template is not None:
        text("template", template, ChatTemplateError)
    continued = flag("continue_final_message", continue_final_message)
    begun = not continued if add_generation_prompt is None else flag("add_generation_prompt", add_generation_prompt)
    if continued and begun:
        raise DataError("expected one of continue_final_message and add_generation_prompt, got both")
    templates = source.checkpoint.chat_templates
    if template is None and not templates.sources:
        _name_one(source)
    jinja = templates.choose(template, tools is not None)
    if template in CHATS and template not in templates.sources:
        _say_unfit(source, str(template))
        conversation = _as_texts(conversation)
    last = _mark_last(conversation, jinja) if continued else ""
    values = {
        **_special_tokens(source),
        "messages": conversation,
        "tools": _objects("tools", tools),
        "documents": _objects("documents", documents),
        "add_generation_prompt": begun,
        **_arguments(template_arguments),
    }
    rendered = render(jinja, values, templates.where)
    return _until_mark(rendered, last) if continued else rendered


def chat_tokens(source: Source, *args: Any, **kwargs: Any) -> list[int]:
    """`chat_text` as token ids: with the special tokens that the template has written, and no others."""
    [ids] = source.tokenizer.encode([chat_text(source, *args, **kwargs)], special=False)
    return ids


def _name_one(source: Source) -> None:
    """Refuses a conversation without a template with the name of one that fits the vocabulary, if one does."""
    try:
        name = fitting(source.tokenizer.id_of)
    except TokenizerError:
        return
    if name is not None:
        raise ChatTemplateError(
            f"{source.checkpoint.path}: the model has no chat template: expected one to be given, as Jinja or by name: "
            f"{name!r} fits its vocabulary"
        )


def _say_unfit(source: Source, name: str) -> None:
    """Says once that a known template is written with marks that are no tokens of the model."""
    try:
        missing = [mark for mark in CHATS[name].marks if source.tokenizer.id_of(mark) is None]
    except TokenizerError:
        return
    if missing and name not in source.said:
        source.said.add(name)
        log.warning(
            "%s: the chat template %r is not the model's: expected its marks among the tokens, got none for %s",
            source.checkpoint.path,
            name,
            ", ".join(missing),
        )


def _as_texts(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with a text as the content, where it came in parts: the known templates write nothing else."""
    found = []
    for number, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, list):
            texts = [part.get("text") if isinstance(part, dict) else part for part in content]
            if not all(isinstance(one, str) for one in texts):
                raise DataError(
                    f"messages: expected a text, or parts of texts, as the content, got {shown(content)} at {number}"
                )
            message = {**message, "content": "\n".join(map(str, texts))}
        found.append(message)
    return found


def with_end(source: Source, template: Any, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of an answer by one of the known templates: what ends it there ends it, too."""
    if not isinstance(template, str) or template not in CHATS or options.get("stop_ids") is not None:
        return options
    end = source.tokenizer.id_of(CHATS[template].end)
    return options if end is None else {**options, "stop_ids": sorted({*source.ends(), end})}


def _messages(messages: Any) -> list[dict[str, Any]]:
    """The messages as plain data, without keys that are None; reasoning stands under the name that templates know."""
    found = []
    for number, message in enumerate(items("messages", messages)):
        plain = _plain(message)
        if not isinstance(plain, dict):
            raise DataError(
                f"messages: expected dicts such as {{'role': 'user', 'content': ...}}, got {shown(message)} at {number}"
            )
        plain = {key: value for key, value in plain.items() if value is not None}
        if not isinstance(plain.get("role"), str):
            raise DataError(f"messages: expected a role, a string, in each, got {shown(message)} at {number}")
        thought = next((plain[key] for key in _REASONING if key in plain), None)
        found.append(plain if thought is None else {"thinking": thought, **plain, _REASONING[0]: thought})
    if not found:
        raise DataError("messages: expected at least one, got none")
    return found


def _objects(name: str, values: Any) -> list[Any] | None:
    if values is None:
        return None
    given = items(name, values)
    found = [_plain(value) for value in given]
    for number, value in enumerate(found):
        if not isinstance(value, dict):
            raise DataError(f"{name}: expected dicts, got {shown(given[number])} at {number}")
    return found


def _arguments(values: Any) -> dict[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise DataError(f"template_arguments: expected a dict, got {shown(values)}")
    return {text("template_arguments", key, DataError): _plain(value) for key, value in values.items()}


def _plain(value: Any, depth: int = 0) -> Any:
    """JSON's types only, so that a template reaches no object with methods of its own; others are named by their type."""
    if depth > 100:
        raise DataError("messages: expected at most 100 levels")
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, np.generic):
        return _plain(value.item(), depth + 1)
    if isinstance(value, str):  # of a class of its own, such as an enumeration
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {_plain(key, depth + 1): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth + 1) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name), depth + 1) for field in dataclasses.fields(value)}
    if callable(getattr(value, "model_dump", None)):  # Pydantic's, as OpenAI's client has them
        return _plain(value.model_dump(), depth + 1)
    return f"<{type(value).__name__}>"


def _special_tokens(source: Source) -> dict[str, str]:
    """bos_token and the others; where the files do not say their texts, those of the ids that begin and end a text."""
    said = source.checkpoint.chat_templates.tokens
    found = {key: value for key, value in said.items() if value is not None}
    try:
        tokenizer = source.tokenizer
    except TokenizerError:
        return found
    for key, ids in (("bos_token", [tokenizer.bos_id]), ("eos_token", list(tokenizer.eos_ids))):
        if key not in said and ids and ids[0] is not None:
            token = tokenizer.token_of(ids[0])
            if token is not None:
                found[key] = token
    return found


def _mark_last(conversation: list[dict[str, Any]], jinja: str) -> str:
    """Puts the mark behind the last message's text, which it returns."""
    content = conversation[-1].get("content")
    if "content" not in jinja:
        raise ChatTemplateError("continue_final_message: expected a template that writes the content of messages")
    if isinstance(content, str):
        conversation[-1]["content"] = content + _MARK
        return content
    for block in reversed(content if isinstance(content, list) else []):
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            said = str(block["text"])
            block["text"] = said + _MARK
            return said
    raise DataError(f"continue_final_message: expected a text in the last message, got {shown(conversation[-1])}")


def _until_mark(rendered: str, last: str) -> str:
    at = rendered.rfind(_MARK.strip())
    if at < 0 or last.strip() not in rendered:
        raise ChatTemplateError("continue_final_message: the template does not write the last message as it is")
    kept = rendered[:at]
    return kept if rendered.startswith(_MARK, at) else kept.rstrip()  # the template trims its messages
