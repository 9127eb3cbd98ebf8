"""Templates that models share, against the texts that their authors describe."""

from __future__ import annotations

from typing import Any

import pytest

from aerogel.checkpoint.chat import ChatTemplates
from aerogel.checkpoint.known_chats import CHATS, fitting
from aerogel.checkpoint.sandbox import render
from aerogel.errors import ChatTemplateError

TALK = [("user", " Hi\n"), ("assistant", "Hello. "), ("user", "Bye")]
EXPECTED = {
    "chatml": "<|im_start|>system\nBe.<|im_end|>\n"
    "<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\nHello. <|im_end|>\n"
    "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n",
    "gemma": "<s><start_of_turn>user\nBe.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
    "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi"
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    "Bye<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s>[INST] Be.\n\n Hi\n[/INST] Hello.</s>[INST] Bye[/INST]",
    "phi3": "<|system|>\nBe.<|end|>\n"
    "<|user|>\n Hi\n<|end|>\n<|assistant|>\nHello. <|end|>\n<|user|>\nBye<|end|>\n<|assistant|>\n",
    "zephyr": "<|system|>\nBe.</s>\n<|user|>\n Hi\n</s>\n<|assistant|>\nHello. </s>\n<|user|>\nBye</s>\n<|assistant|>\n",
}


def written(name: str, talk: list[tuple[str, str]], begun: bool = True) -> str:
    messages = [{"role": role, "content": content} for role, content in talk]
    values: dict[str, Any] = {"messages": messages, "add_generation_prompt": begun}
    return render(CHATS[name].source, {**values, "bos_token": "<s>", "eos_token": "</s>"}, name)


@pytest.mark.parametrize("name", CHATS)
def test_a_conversation(name: str) -> None:
    assert written(name, [("system", "Be."), *TALK]) == EXPECTED[name]
    without = written(name, TALK)
    assert "Be." not in without and without.endswith(EXPECTED[name][-12:])
    assert EXPECTED[name].startswith(written(name, [("system", "Be."), TALK[0]], begun=False))


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_turns_that_a_model_never_saw_are_refused(name: str) -> None:
    with pytest.raises(ChatTemplateError, match="in turn"):
        written(name, TALK[1:])


def test_which_fits() -> None:
    for name, chat in CHATS.items():
        assert fitting(dict.fromkeys(chat.marks, 1).get) == (name if chat.marks else None)
    assert fitting({"<|im_start|>": 3}.get) is None


def test_names_and_words_that_are_none() -> None:
    templates = ChatTemplates("m", {"chatml": "its own {{x}}"})
    assert (
        templates.choose("chatml", False) == "its own {{x}}" and templates.choose("phi3", False) == CHATS["phi3"].source
    )
    with pytest.raises(ChatTemplateError, match="expected Jinja or one of chatml, gemma, .* got 'phi-3'"):
        templates.choose("phi-3", False)
