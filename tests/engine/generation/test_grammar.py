"""Texts of a given form."""

from __future__ import annotations

import json
import re
import sys

import pytest

import aerogel
from aerogel import AerogelError, DataError, UnsupportedModelError

from ... import tiny_models

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "count": {"type": "integer", "minimum": 1, "maximum": 99},
    },
    "required": ["name", "count"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def byte_model(tmp_path_factory):
    """A random model whose tokens are bytes."""
    pytest.importorskip("llguidance")
    return aerogel.load(tiny_models.byte_llama(tmp_path_factory.mktemp("bytes")))


def test_json(byte_model):
    for seed in range(3):
        text = byte_model.generate("x", 200, temperature=1.0, seed=seed, json_schema=SCHEMA)
        value = json.loads(text)
        assert set(value) == {"name", "count"} and 1 <= value["count"] <= 99 and len(value["name"]) <= 8
    assert byte_model.generate("x", 200, json_schema=json.dumps(SCHEMA), lookup=4) == byte_model.generate(
        "x", 200, json_schema=SCHEMA
    )


def test_an_expression(byte_model):
    found = byte_model.complete("x", max_new_tokens=50, regex="(yes|no), [0-9]{3}")
    assert re.fullmatch("(yes|no), [0-9]{3}", found.text) and found.finish_reason == "stop"
    many = byte_model.generate(["x", "y", "z"], 50, regex="[ab]{4}", temperature=1.0, seed=1)
    assert all(re.fullmatch("[ab]{4}", one) for one in many)


def test_a_grammar(byte_model):
    text = byte_model.generate("x", 50, grammar='start: "a" item "c"\nitem: /b{2,3}/ | "d"')
    assert re.fullmatch("a(bb|bbb|d)c", text)


def test_what_is_no_grammar(byte_model, llama_folder, monkeypatch):
    for wrong in ({"json_schema": "{"}, {"json_schema": {"type": "nothing"}}, {"regex": "("}, {"grammar": "start: ("}):
        with pytest.raises(DataError, match=f"{next(iter(wrong))}: "):
            byte_model.generate("x", **wrong)
    with pytest.raises(DataError, match="json_schema: expected a dict or JSON, got 3"):
        byte_model.generate("x", json_schema=3)


def test_a_tokenizer_that_spells_nothing(byte_model, llama_folder):
    with pytest.raises(UnsupportedModelError, match="llguidance cannot use the tokenizer"):
        aerogel.load(llama_folder).generate("the", regex="cat")


def test_without_the_package(llama_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(AerogelError, match="need llguidance: pip install"):
        aerogel.load(llama_folder).generate("x", regex="a")
