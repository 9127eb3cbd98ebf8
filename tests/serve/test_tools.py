"""Calls in what a model has written, at once and piece by piece."""

import pytest

pytest.importorskip("msgspec")

from aerogel.serve.failures import Failure  # noqa: E402
from aerogel.serve.messages import for_template  # noqa: E402
from aerogel.serve.tools import BARE, LIST, TAGS, Held, form_of, parsed, schema_of  # noqa: E402

CALL = '{"name": "look", "arguments": {"x": 1}}'


@pytest.mark.parametrize(
    ("form", "text", "said", "count"),
    [
        (TAGS, f"Well. <tool_call>\n{CALL}\n</tool_call><tool_call>{CALL}</tool_call>", "Well.", 2),
        (TAGS, f"<tool_call>{CALL}", "", 1),
        (TAGS, "<tool_call>nothing</tool_call>", "<tool_call>nothing</tool_call>", 0),
        (TAGS, "a < b", "a < b", 0),
        (LIST, f"[TOOL_CALLS] [{CALL}, {CALL}]", "", 2),
        (LIST, f" [{CALL}]", "", 1),
        (LIST, "[1] is a list", "[1] is a list", 0),
        (BARE, '{"name": "look", "parameters": {}}', "", 1),
        (BARE, f"<|python_tag|>{CALL}", "", 1),
        (BARE, '{"other": 1}', '{"other": 1}', 0),
        (BARE, "plain", "plain", 0),
    ],
)
def test_calls(form, text, said, count):
    found, calls = parsed(text, form)
    assert (found, len(calls)) == (said, count)
    assert all(call["type"] == "function" and call["function"]["name"] == "look" for call in calls)
    for size in (1, 3, 1000):
        held = Held(form)
        certain = "".join(held.push(text[i : i + size]) for i in range(0, len(text), size))
        rest, calls = parsed(held.rest(), form) if held.rest() else ("", [])
        assert len(calls) == count and (certain + rest).strip() == said.strip()


def test_what_is_no_call_is_not_held():
    held = Held(TAGS)
    assert [held.push(piece) for piece in ("a <", "b", " <tool", "_x")] == ["a ", "<b", " ", "<tool_x"]
    held = Held(BARE)
    assert [held.push(piece) for piece in (" ", "He", " {")] == ["", " He", " {"]
    assert Held(None).push("{") == "{" and Held(None, True).push("a") == ""


def test_forms_and_choices():
    assert [form_of(x) for x in ("tools <tool_call>", "tools [TOOL_CALLS]", "{{ tools }}")] == [TAGS, LIST, BARE]
    tool = {"type": "function", "function": {"name": "look"}}
    assert schema_of([tool], "auto") is None
    assert schema_of([tool], "required")["properties"]["name"] == {"const": "look"}
    assert len(schema_of([tool, tool], "required")["anyOf"]) == 2
    assert schema_of([tool], {"type": "function", "function": {"name": "look"}})["required"] == ["name", "arguments"]
    for wrong in ("look", {"function": {"name": "other"}}, {}):
        with pytest.raises(Failure):
            schema_of([tool], wrong)
    with pytest.raises(Failure):
        form_of("{{ messages }}")


def test_messages():
    call = {"id": "1", "function": {"name": "f", "arguments": '{"x": 1}'}}
    [one, two] = for_template(
        [{"role": "developer", "content": ["a", {"text": "b"}]}, {"role": "assistant", "tool_calls": [call]}], ""
    )
    assert one == {"role": "system", "content": "a\nb"}
    assert two["tool_calls"][0]["function"]["arguments"] == {"x": 1} and call["function"]["arguments"] == '{"x": 1}'
