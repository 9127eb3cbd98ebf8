"""How texts become prompts."""

from __future__ import annotations

import pytest

from aerogel.checkpoint.chat import ChatTemplates
from aerogel.checkpoint.messages import Messages, PromptWriter, as_jinja, carries_pairs, is_places, takes_parts, written
from aerogel.errors import ChatTemplateError

ROLES = "{% for m in messages %}[{{ m.role }}] {{ m.content }} {% endfor %}end ."
PARTS = "{% for m in messages %}[{{ m.role }}] {{ m.content[0].text }} {% endfor %}"


class Words:
    """A tokenizer: a word is a token."""

    cuts_left = False

    def encode(self, texts: list[str], special: bool) -> list[list[int]]:
        assert not special
        return [ids(text) for text in texts]


def ids(text: str) -> list[int]:
    return [int.from_bytes(word.encode(), "big") for word in text.split()]


def of(source: str, tokens: dict[str, str | None] | None = None) -> ChatTemplates:
    return ChatTemplates("m", {"default": source}, tokens or {})


def pair(templates: ChatTemplates, messages: Messages | None = None, system: str = "") -> str:
    return written(templates, messages or Messages(), [("query", "a?"), ("document", "b.")], system)


def test_what_a_template_gets() -> None:
    assert pair(of(ROLES)) == "[query] a? [document] b. end ."
    assert pair(of(ROLES), system="do") == "[system] do [query] a? [document] b. end ."
    assert takes_parts(PARTS) and not takes_parts(ROLES)
    assert pair(of(PARTS), Messages(structured=True)) == "[query] a? [document] b. "
    said = of("{{ bos_token }}{{ x }}{{ add_generation_prompt }}{{ tools }}", {"bos_token": "<s>", "eos_token": None})
    assert pair(said, Messages(arguments={"x": 3})) == "<s>3FalseNone"
    with pytest.raises(ChatTemplateError, match="has no chat template"):
        pair(ChatTemplates("m"))


def test_whether_both_texts_are_written() -> None:
    assert carries_pairs(of(ROLES), Messages())
    for source in ("{{ messages[0].content }}", "{{ messages[2].content }}", "x{# #}", "{% if %}"):
        assert not carries_pairs(of(source), Messages())


def test_places() -> None:
    text = 'say "{query}"\\n{document}\n{instruction} } 你\n\n'
    templates = of(as_jinja(text, "the default"))
    assert pair(templates) == 'say "a?"\\nb.\nthe default } 你\n\n'
    assert pair(templates, system="do") == 'say "a?"\\nb.\ndo } 你\n\n'
    assert is_places(text) and not is_places("{{query}}{{document}}") and not is_places("{query}")
    found = written(templates, Messages(), [("query", "{document}"), ("document", "{{ 1 }}")])
    assert found.startswith('say "{document}"\\n{{ 1 }}')  # texts are never read as templates


def test_what_stands_behind_a_text_stays_when_it_is_cut() -> None:
    writer = PromptWriter(of(ROLES), Messages(), Words())  # type: ignore[arg-type]
    assert writer.end() == ids("end .")
    prompts = writer.pairs(["a?", "a?"], ["b.", "one two three four"])
    short, long = ids("[query] a? [document] b. end ."), ids("[query] a? [document] one two three four end .")
    assert writer.encode(prompts) == [short, long]
    assert writer.encode(prompts, 6) == [short, ids("[query] a? [document] one end .")]
    assert writer.encode(prompts, 1) == [ids(".")] * 2
    plain = of("{% for m in messages %}{{ m.content }} {% endfor %}")
    alone = PromptWriter(plain, Messages(alone=True), Words())  # type: ignore[arg-type]
    assert alone.end() == [] and alone.encode(alone.alone(["one two"]), 1) == [ids("one")]
