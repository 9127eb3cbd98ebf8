"""Where chat templates are found, and that packed models keep them."""

from __future__ import annotations

import json
import shutil

import pytest

import aerogel
from aerogel import ChatTemplateError
from aerogel.checkpoint import open_checkpoint
from aerogel.checkpoint.chat import ChatTemplates, folder_templates, gguf_templates

HELLO = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def test_a_text_in_tokenizer_config(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": HELLO, "bos_token": {"content": "<s>"}})
    )
    found = folder_templates(tmp_path)
    assert found.sources == {"default": HELLO} and found.tokens == {"bos_token": "<s>"}


def test_a_list_of_named_ones(tmp_path):
    both = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": both, "bos_token": None}))
    found = folder_templates(tmp_path)
    assert found.sources == {"default": "a", "tool_use": "b"} and found.tokens == {"bos_token": None}
    assert [found.choose(None, False), found.choose(None, True), found.choose("tool_use", False)] == ["a", "b", "b"]
    assert found.choose("{{ own }}", False) == "{{ own }}"


def test_files_win(tmp_path):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "old"}))
    (tmp_path / "chat_template.jinja").write_text("new")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("documents")
    assert folder_templates(tmp_path).sources == {"default": "new", "rag": "documents"}


def test_a_processors_json(tmp_path):
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "x"}))
    assert folder_templates(tmp_path).sources == {"default": "x"}


def test_gguf_metadata(tmp_path):
    metadata = {
        "tokenizer.chat_template": "a",
        "tokenizer.chat_template.rag": "b",
        "tokenizer.chat_templates": ["rag"],
        "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>"],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 9,
    }
    found = gguf_templates(metadata, tmp_path)
    assert found.sources == {"default": "a", "rag": "b"} and found.tokens == {"bos_token": "<s>"}
    with pytest.raises(ChatTemplateError, match="tokenizer.chat_template: expected a text, got 3"):
        gguf_templates({"tokenizer.chat_template": 3}, tmp_path)


@pytest.mark.parametrize("wrong", [3, {"default": 3}, [{"name": "x"}]])
def test_what_is_none(tmp_path, wrong):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": wrong}))
    with pytest.raises(ChatTemplateError, match="tokenizer_config.json: chat_template: expected"):
        folder_templates(tmp_path)


def test_none_to_choose(tmp_path):
    with pytest.raises(ChatTemplateError, match="the model has no chat template"):
        folder_templates(tmp_path).choose(None, False)
    with pytest.raises(ChatTemplateError, match="none is the default: expected the name of one: a, b"):
        ChatTemplates("x", {"a": "", "b": ""}).choose(None, False)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(ChatTemplateError, match="expected UTF-8 text, got byte"):
        folder_templates(tmp_path)


def test_a_packed_model_keeps_them(llama_folder, tmp_path):
    folder = shutil.copytree(llama_folder, tmp_path / "chat")
    (folder / "chat_template.jinja").write_text(HELLO)
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("documents")
    aerogel.compress(folder, tmp_path / "packed", sparsity=0, quant="none")
    assert open_checkpoint(tmp_path / "packed").chat_templates.sources == {"default": HELLO, "rag": "documents"}
    text = aerogel.load(tmp_path / "packed").chat_text([{"role": "user", "content": "hi"}])
    assert text == "<s>user: hi\n"  # bos_token_id of config.json says the token
    (tmp_path / "packed" / "chat_template.jinja").write_text("changed")
    with pytest.raises(aerogel.CheckpointError, match="chat_template.jinja: damaged or changed"):
        aerogel.load(tmp_path / "packed")
