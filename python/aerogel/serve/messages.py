"""Messages as clients send them, and as chat templates read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from aerogel.checkpoint.messages import takes_parts
from aerogel.serve.failures import Failure


def for_template(messages: Sequence[dict[str, Any]], template: str) -> list[dict[str, Any]]:
    """The messages: content in parts as one text, unless the template takes parts; arguments of calls as objects; what
    developers say as what the system says, unless the template knows them.

    Raises:
        Failure: a message has something else than texts.
    """
    if not messages:
        raise Failure("empty", "messages: expected one or more, got none", "messages")
    parts, developers = takes_parts(template), "developer" in template
    found = []
    for number, message in enumerate(messages):
        one = dict(message)
        if not isinstance(one.get("role"), str):
            raise Failure("value", f"messages[{number}].role: expected a text", "messages")
        if one["role"] == "developer" and not developers:
            one["role"] = "system"
        if isinstance(one.get("content"), list):
            texts = _texts(one["content"], number)
            one["content"] = [{"type": "text", "text": text} for text in texts] if parts else "\n".join(texts)
        elif one.get("content") is not None and not isinstance(one["content"], str):
            raise Failure("value", f"messages[{number}].content: expected a text, or parts of text", "messages")
        if isinstance(one.get("tool_calls"), list):
            one["tool_calls"] = [_call(call) for call in one["tool_calls"]]
            one.setdefault("content", "")
        found.append(one)
    return found


def _texts(content: Sequence[Any], number: int) -> list[str]:
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    found = [text for text in texts if isinstance(text, str)]
    if len(found) != len(texts):
        raise Failure(
            "value", f"messages[{number}].content: expected parts of text, as the model reads nothing else", "messages"
        )
    return found


def _call(call: Any) -> Any:
    """A call with its arguments as an object: clients send them as JSON in a text, templates want what is in it."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return call
    return {**call, "function": {**function, "arguments": arguments}}
