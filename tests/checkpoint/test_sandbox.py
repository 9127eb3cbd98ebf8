"""Templates that want too much, and those that are none: each a named error, soon."""

from __future__ import annotations

import time

import pytest

from aerogel import ChatTemplateError
from aerogel.checkpoint import sandbox


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    monkeypatch.setattr(sandbox, "SECONDS", 0.1)
    monkeypatch.setattr(sandbox, "LARGEST", 1 << 20)


ENDLESS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}",
    "{% macro f() %}{% for i in range(9) %}{{ f() }}{% endfor %}{% endmacro %}{{ f() }}",
    "{% for a in range(99999) %}{% set x = messages|map('string')|list %}{% set y = range(99999)|sort|list %}{% endfor %}",
]
HUGE = [
    "{{ 'a' * 10**10 }}",
    "{{ 10**100000 }}",
    "{% set n = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "{% set n = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "{% set n = namespace(x=[1]) %}{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "{% set n = namespace(x=3) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "{% set b = 'a' * 1000000 %}{% set s %}{% for i in range(99999) %}{{ b }}{% endfor %}{% endset %}",
    "{% set b = 'a' * 1000000 %}{% for i in range(99999) %}{{ b }}{% endfor %}",
    "{{ 'x'.center(10**9) }}",
    "{{ 'x'|center(10**9) }}",
    "{{ 'x\n'|indent(10**9, true) }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (10**9, 1) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
    "{{ ('a' * 1000000)|replace('a', 'b' * 1000000) }}",
    "{{ ('b' * 1000000).join(['a'] * 1000000) }}",
    "{{ (['a'] * 1000000)|join('b' * 1000000) }}",
    "{{ ('\t' * 1000000).expandtabs(1000000) }}",
    "{{ [[1]]|tojson(indent=10**9) }}",
    "{{ range(10**9)|list }}",
    "{{ [1]|batch(10**9, 'x')|list }}",
    "x" * (sandbox.LONGEST_SOURCE + 1),
]
BROKEN = [
    "{% for %}",
    "{{ 1 +",
    "{% if x %}",
    "{{ 1 / 0 }}",
    "{{ undefined_name.attribute }}",
    "{{ 'a' + 1 }}",
    "{{ messages.append(1) }}",
    "{{ ().__class__.__bases__[0].__subclasses__() }}",
    "{% set n = namespace(_x=1) %}",
    "{{ messages|unknown_filter }}",
    "{% include 'other' %}",
    "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
    "{{ raise_exception('Roles must alternate') }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
]


@pytest.mark.parametrize("source", ENDLESS + HUGE + BROKEN, ids=lambda s: s[:60])
def test_it_ends_with_a_named_error(source):
    start = time.monotonic()
    with pytest.raises(ChatTemplateError, match="somewhere: chat template: "):
        sandbox.render(source, {"messages": [{"role": "user"}]}, "somewhere")
    assert time.monotonic() - start < 30  # and not for ever


def test_what_is_refused_says_its_own_words():
    with pytest.raises(ChatTemplateError, match="somewhere: chat template: Roles must alternate"):
        sandbox.render("{{ raise_exception('Roles must alternate') }}", {}, "somewhere")
    with pytest.raises(ChatTemplateError, match="line 2: "):
        sandbox.render("\n{% for %}", {}, "somewhere")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ '-' * 20 }}", "-" * 20),
        ("{% for m in messages %}{{ loop.index }}{{ loop.last }}{{ loop.length }}{% endfor %}", "1True1"),
        ("{% for m in messages|selectattr('role') %}{{ loop.length }}{{ loop.last }}{% endfor %}", "1True"),
        ("{{ 'a%sc%d' % ('b', 7) }}{{ '{}-{:>4}'.format(1, 2) }}", "abc71-   2"),
        ("{{ 'a' ~ 1 ~ missing ~ none }}", "a1None"),
        ("{{ {'a': '<&\\'>', 'b': 'é'}|tojson }}", '{"a": "<&\'>", "b": "é"}'),
        ("{{ {'b': 1, 'a': [2]}|tojson(indent=2, sort_keys=true) }}", '{\n  "a": [\n    2\n  ],\n  "b": 1\n}'),
        ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}"
         "{% endfor %}", "02"),
        ("{% generation %}x{{ 1 + 1 }}{% endgeneration %}", "x2"),
        ("{% set n = namespace(x=1) %}{% for i in range(3) %}{% set n.x = n.x + i %}{% endfor %}{{ n.x }}", "4"),
        ("{% for x in [[1, [2]], [3]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}"
         "{% endfor %}", "(1(2))(3)"),
        ("{{ strftime_now('%Y') | length }}", "4"),
        ("{{ ['x', 'y'] | join(', ') }}{{ 'a b' | replace(' ', '_') }}{{ 'x' | indent(4, true) }}", "x, ya_b    x"),
        ("{{ 'a{' ~ '1234567' ~ '}' }}", "a{1234567}"),
    ],
)  # fmt: skip
def test_what_templates_do(source, text):
    assert sandbox.render(source, {"messages": [{"role": "user"}]}, "") == text


def test_long_conversations_are_quick(monkeypatch):
    monkeypatch.undo()
    sandbox.render("{{ 1 }}", {}, "")
    messages = [{"role": "user", "content": "word " * 500}] * 400
    found = sandbox.render(
        "{% for m in messages %}{{ m.role ~ m.content|trim + '\n' }}{% endfor %}", {"messages": messages}, ""
    )
    assert len(found) > 900_000
    source = "{{ messages|map(attribute='content')|join('\\n\\n') }}{{ messages|length }}"
    assert len(sandbox.render(source, {"messages": messages}, "")) > 900_000
