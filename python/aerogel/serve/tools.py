"""Calls of functions in what a model writes, in the forms that chat templates teach."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from aerogel.serve.failures import Failure

#: <tool_call>{"name": ..., "arguments": {...}}</tool_call>, once for each call.
TAGS = "tags"
#: [TOOL_CALLS] [{"name": ..., "arguments": {...}}, ...]
LIST = "list"
#: The whole answer is {"name": ..., "parameters": {...}}.
BARE = "bare"

_TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
_PYTHON = "<|python_tag|>"
_BEGINS = {TAGS: "<tool_call>", LIST: "[TOOL_CALLS]"}


def form_of(template: str) -> str:
    """The form in which a template's model calls functions.

    Raises:
        Failure: the template has no place for tools.
    """
    if not re.search(r"\btools\b", template):
        raise Failure("value", "tools: the model's chat template takes none", "tools")
    if "<tool_call>" in template:
        return TAGS
    return LIST if "[TOOL_CALLS]" in template else BARE


def schema_of(tools: Sequence[Mapping[str, Any]], choice: Any) -> dict[str, Any] | None:
    """The JSON schema of a call that a request insists on; None: the model may call what it wants, or nothing.

    Raises:
        Failure: the choice is none, or names a function that is not among the tools.
    """
    if choice is None or choice == "auto":
        return None
    functions = [tool["function"] for tool in tools]
    if choice != "required":
        wanted = choice.get("function") if isinstance(choice, dict) else None
        name = wanted.get("name") if isinstance(wanted, dict) else None
        functions = [function for function in functions if function["name"] == name]
        if not functions:
            raise Failure("value", "tool_choice: expected auto, none, required, or one of the tools", "tool_choice")
    calls = [
        {
            "type": "object",
            "properties": {"name": {"const": one["name"]}, "arguments": one.get("parameters") or {"type": "object"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for one in functions
    ]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def check_tools(tools: Sequence[Any]) -> None:
    """Refuses what are no functions with names."""
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise Failure("value", "tools: expected {type: function, function: {name, ...}}", "tools")
        if not isinstance(function.get("parameters", {}), dict):
            raise Failure("value", "tools: expected a JSON schema as the parameters of a function", "tools")


def parsed(text: str, form: str) -> tuple[str, list[dict[str, Any]]]:
    """What a model said beside its calls, and the calls as OpenAI gives them. What is no call stays in the text."""
    if form == TAGS:
        found = [call for match in _TAGGED.finditer(text) for call in _calls(match[1])]
        return (_TAGGED.sub("", text).strip(), found) if found else (text, [])
    if form == LIST and _BEGINS[LIST] in text:
        before, _, rest = text.partition(_BEGINS[LIST])
        found = _calls(rest)
        return (before.strip(), found) if found else (text, [])
    stripped = text.strip().removeprefix(_PYTHON)
    found = _calls(stripped) if stripped[:1] in ("{", "[") else []
    return ("", found) if found else (text, [])


def _calls(text: str) -> list[dict[str, Any]]:
    """The calls in JSON: one, or a list of them; none where it is anything else."""
    try:
        value, _ = json.JSONDecoder().raw_decode(text.strip())
    except (ValueError, RecursionError):
        return []
    found = []
    for one in value if isinstance(value, list) else [value]:
        arguments = one.get("arguments", one.get("parameters")) if isinstance(one, dict) else None
        if not isinstance(one, dict) or not isinstance(one.get("name"), str) or not isinstance(arguments, (dict, str)):
            return []
        said = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        function = {"name": one["name"], "arguments": said}
        found.append({"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function})
    return found


class Held:
    """Holds back what may be a call of a text that is streamed.

    Args:
        form: one of those above; None: nothing is.
        forced: the text is a call as a whole.
    """

    def __init__(self, form: str | None, forced: bool = False) -> None:
        self._form, self._kept, self._holding, self._begun = form, "", forced, False

    def push(self, piece: str) -> str:
        """What is no call for certain."""
        if self._form is None and not self._holding:
            return piece
        self._kept += piece
        if self._holding or (self._form != TAGS and self._may_be_bare()):
            return ""
        begin = _BEGINS.get(self._form or "")
        at = self._kept.find(begin) if begin else len(self._kept)
        if begin and at < 0:
            at = len(self._kept) - _overlap(self._kept, begin)
        else:
            self._holding = begin is not None
        certain, self._kept = self._kept[:at], self._kept[at:]
        return certain

    def _may_be_bare(self) -> bool:
        """Whether the text begins as JSON does; a mark before it may have been taken away with the special tokens."""
        if self._begun:
            return False
        head = self._kept.lstrip()
        self._begun = bool(head) and head[0] not in "{[" and not _PYTHON.startswith(head[: len(_PYTHON)])
        return not self._begun

    def rest(self) -> str:
        """What was held back."""
        return self._kept


def _overlap(text: str, begin: str) -> int:
    """How much of the end of a text is how `begin` begins."""
    return next((n for n in range(min(len(text), len(begin) - 1), 0, -1) if text.endswith(begin[:n])), 0)
