"""Conversations that go on: the answers of `chat`, without computing what is known."""

from __future__ import annotations

import json
import shutil

import pytest

import aerogel
from aerogel import AerogelError

TEMPLATE = "<s>{% for m in messages %}{{ m.role[0] }} {{ m.content }} </s>{% endfor %}on"


@pytest.fixture
def model(llama_folder, tmp_path):
    folder = shutil.copytree(llama_folder, tmp_path / "chat")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return aerogel.load(folder)


def test_answers_are_those_of_chat(model):
    talk = model.conversation("the big tree", max_new_tokens=5)
    messages = [{"role": "system", "content": "the big tree"}]
    computed = []
    for said in ("the cat sat", "not a dog", "red"):
        messages.append({"role": "user", "content": said})
        wanted = model.chat(messages, 5)
        assert talk.say(said) == wanted
        messages.append({"role": "assistant", "content": wanted})
        assert talk.messages == messages
        computed.append((talk.computed, len(model.chat_tokens(messages[:-1]))))
    assert computed[0][0] == computed[0][1]
    assert all(new < whole for new, whole in computed[1:]), computed
    talk.reset()
    assert talk.messages == messages[:1] and talk.say("the cat sat") == messages[2]["content"]


def test_messages_may_be_changed(model):
    talk = model.conversation(max_new_tokens=5)
    talk.say("the cat sat")
    talk.messages[0] = {"role": "user", "content": "the dog ran"}
    wanted = model.chat([*talk.messages, {"role": "user", "content": "red"}], 5)
    assert talk.say("red") == wanted
    talk.close()
    wanted = model.chat([*talk.messages, {"role": "user", "content": "blue"}], 5)
    assert talk.say({"role": "user", "content": "blue"}) == wanted


def test_an_answer_that_is_not_read_to_its_end(model):
    talk = model.conversation(max_new_tokens=9)
    pieces = talk.stream("the cat")
    first = next(pieces)
    with pytest.raises(AerogelError, match="in the middle of an answer"):
        talk.say("dog")
    pieces.close()
    assert talk.messages[-1] == {"role": "assistant", "content": first}
    wanted = model.chat([*talk.messages, {"role": "user", "content": "red"}], 9)
    assert talk.say("red") == wanted


def test_guesses_ahead(model):
    for said in ("the cat sat on the cat sat on",):
        assert model.conversation(max_new_tokens=12, lookup=4).say(said) == model.conversation(max_new_tokens=12).say(
            said
        )


def test_a_closed_model(model):
    talk = model.conversation()
    model.close()
    with pytest.raises(AerogelError, match="the model is closed"):
        talk.say("the cat")


def test_arguments(model, bert_folder):
    with pytest.raises(AerogelError, match="system: expected a string"):
        model.conversation(3)
    with pytest.raises(AerogelError, match="top_k"):
        model.conversation(top_k=0)
    with pytest.raises(AerogelError, match="message: expected a string"):
        model.conversation().say(3)
    with pytest.raises(AerogelError, match="not a generating model"):
        aerogel.load(bert_folder).conversation()
    with model.conversation(template="{{ raise_exception('no') }}") as talk:
        with pytest.raises(aerogel.ChatTemplateError):
            talk.say("x")
        assert talk.messages == []
