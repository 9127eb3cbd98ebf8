"""Conversations as prompts: as Transformers writes them, and what a model answers."""

from __future__ import annotations

import dataclasses
import enum
import json
import logging
import shutil

import numpy as np
import pytest

import aerogel
from aerogel import AerogelError, ChatTemplateError, DataError
from aerogel.checkpoint import open_checkpoint
from aerogel.checkpoint.sandbox import render

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TRIMMING = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content|trim + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set first = '' %}{% endif %}\n"
    "{%- for m in messages %}\n    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}\n"
    "        {{- raise_exception('Conversation roles must alternate') }}\n    {%- endif %}\n"
    "    {%- if loop.first %}{{ first }}{% endif %}<turn>{{ m.role }}\n{{ m.content | trim }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
TOOLS = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- endif %}
    {{- "\\n# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}
            {{- tool_call.arguments | tojson(indent=2) }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}{{- message.content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""
THINKING = """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- macro content_of(message) -%}
    {%- if message.content is string %}{{ message.content }}{% else -%}
    {%- for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% else %}<image>{% endif %}{% endfor %}
    {%- endif %}
{%- endmacro %}
{%- for message in messages %}
    {%- set reasoning = message.reasoning_content if message.reasoning_content is string else '' %}
    {%- if message.role == "assistant" %}{% generation %}
        {{- '<a>' + ('<think>' + reasoning.strip('\\n') + '</think>' if loop.index0 > ns.last_query_index else '') }}
        {{- content_of(message).split('</think>')[-1].lstrip('\\n') + '</a>' }}{% endgeneration %}
    {%- else %}{{- '<' ~ message.role ~ loop.index0 ~ '>' ~ content_of(message) }}{% endif %}
{%- endfor %}
{%- for document in documents or [] %}[{{ document.title }}: {{ document['text'] }}]{% endfor %}
{%- if add_generation_prompt %}<a>{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}
{%- endif %}"""
TEMPLATES = {"chatml": CHATML, "trimming": TRIMMING, "tools": TOOLS, "thinking": THINKING}

HI = {"role": "user", "content": " hi <&> 'é' "}
TALK = [HI, {"role": "assistant", "content": "hello\n"}, {"role": "user", "content": "bye"}]
CALLS = [
    HI,
    {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"x": [1, "<"]}}}]},
    {"role": "tool", "content": "3"},
    {"role": "tool", "content": "4"},
]
THOUGHTS = [HI, {"role": "assistant", "content": "a</think>\nb", "reasoning": "because\n"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "look "}, {"type": "image"}]}]
TOOL = {"type": "function", "function": {"name": "f", "description": "é <x>", "parameters": {"type": "object"}}}
ALL = [
    ([HI], {}),
    ([{"role": "system", "content": "be kind"}, *TALK], {}),
    (TALK, {"add_generation_prompt": False}),
    (CALLS, {"tools": [TOOL]}),
    (THOUGHTS, {"add_generation_prompt": False}),
    (THOUGHTS, {"continue_final_message": True, "add_generation_prompt": False}),
    (TALK[:2], {"continue_final_message": True, "add_generation_prompt": False}),
    (PARTS, {}),
    (PARTS, {"continue_final_message": True, "add_generation_prompt": False}),
    ([HI], {"documents": [{"title": "t", "text": "x"}], "enable_thinking": False}),
]


@pytest.fixture
def with_template(llama_folder, tmp_path):
    def make(template, **settings):
        folder = shutil.copytree(llama_folder, tmp_path / "chat", dirs_exist_ok=True)
        said = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", **settings}
        (folder / "tokenizer_config.json").write_text(json.dumps({**said, "chat_template": template}))
        return aerogel.load(folder)

    return make


@pytest.mark.parametrize("name", TEMPLATES)
def test_as_transformers_writes_it(with_template, tmp_path, name):
    transformers = pytest.importorskip("transformers")
    model = with_template(TEMPLATES[name])
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path / "chat")
    compared = 0
    for messages, options in ALL:
        options = {"add_generation_prompt": True, **options}
        try:
            wanted = reference.apply_chat_template(messages, tokenize=False, **options)
        except Exception:  # it refuses them, or its operators do
            with pytest.raises(AerogelError):
                model.chat_text(messages, **_ours(options))
            continue
        assert model.chat_text(messages, **_ours(options)) == wanted
        ids = reference.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
        assert model.chat_tokens(messages, **_ours(options)) == ids
        compared += 1
    assert compared >= 3


def _ours(options):
    named = {"tools", "documents", "add_generation_prompt", "continue_final_message"}
    rest = {key: value for key, value in options.items() if key not in named}
    return {**{key: options[key] for key in options if key in named}, "template_arguments": rest}


def test_no_second_beginning(with_template):
    model = with_template("<s>{% for m in messages %}{{ m.content }}{% endfor %}")
    bos = model.tokenizer.bos_id
    ids = model.chat_tokens([{"role": "user", "content": "the cat"}])
    assert ids[0] == bos and bos not in ids[1:]
    assert model.chat_text([{"role": "user", "content": "x"}], template="{{ bos_token }}!") == "<s>!"


def test_a_model_answers(with_template, capsys):
    model = with_template("{% for m in messages %}{{ m.content }} {% endfor %}on")
    messages = [{"role": "user", "content": "the cat sat"}]
    answer = model.chat(messages, 8)
    assert answer == model.generate("the cat sat", 8, chat=True) == model.generate("the cat sat on", 8)
    pieces: list[str] = []
    assert model.chat(messages, 8, stream=pieces.append) == "".join(pieces) == answer
    assert model.chat(messages, 8, stream=True) == capsys.readouterr().out


def test_plain_generation_says_so_once(with_template, llama_folder, caplog):
    with caplog.at_level(logging.WARNING, "aerogel"):
        aerogel.load(llama_folder).generate("the cat", 1)
        model = with_template(CHATML)
        model.generate("the cat", 1, chat=True)
        assert not caplog.records
        model.generate("the cat", 1)
        model.generate("the cat", 1)
    assert caplog.text.count("has a chat template") == 1


def test_named_templates(with_template):
    model = with_template(
        [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T{{ tools|length }}"}]
    )
    assert model.chat_text([HI]) == "D" and model.chat_text([HI], tools=[TOOL]) == "T1"
    assert model.chat_text([HI], template="tool_use", tools=[]) == "T0"


def test_messages_of_other_kinds(with_template):
    class Role(str, enum.Enum):
        USER = "user"

    @dataclasses.dataclass
    class Message:
        role: Role
        content: str

    class Dumped:
        def model_dump(self):
            return {"role": "user", "content": np.str_("b"), "count": np.int64(3), "image": object()}

    model = with_template("{% for m in messages %}{{ m.role }}:{{ m.content }}{{ m.count }}{{ m.image }}{% endfor %}")
    assert model.chat_text([Message(Role.USER, "a"), Dumped()]) == "user:auser:b3<object>"


@pytest.mark.parametrize(
    ("messages", "options", "error", "said"),
    [
        ([], {}, DataError, "messages: expected at least one"),
        ("hi", {}, DataError, "messages: expected a list, got 'hi'"),
        (["hi"], {}, DataError, "messages: expected dicts such as .*, got 'hi' at 0"),
        ([{"content": "hi"}], {}, DataError, "messages: expected a role"),
        ([HI], {"tools": [3]}, DataError, "tools: expected dicts, got 3 at 0"),
        ([HI], {"template_arguments": [3]}, DataError, "template_arguments: expected a dict, got"),
        ([HI], {"template_arguments": {3: 3}}, DataError, "template_arguments: expected a string, got 3"),
        ([HI], {"template": 3}, ChatTemplateError, "template: expected a string"),
        ([HI], {"template": "{{ raise_exception('no') }}"}, ChatTemplateError, "chat template: no"),
        ([HI], {"continue_final_message": True, "add_generation_prompt": True}, DataError, "expected one of"),
        ([HI], {"continue_final_message": True, "template": "x content{# #}"}, ChatTemplateError, "does not write the last"),
        ([HI], {"continue_final_message": True, "template": "x{# #}"}, ChatTemplateError, "expected a template that writes"),
        ([{"role": "user"}], {"continue_final_message": True}, DataError, "expected a text in the last message"),
    ],
)  # fmt: skip
def test_what_is_no_conversation(with_template, messages, options, error, said):
    with pytest.raises(error, match=said):
        with_template(CHATML).chat_text(messages, **options)


def test_a_broken_template_harms_chat_only(with_template, tmp_path):
    model = with_template(3)
    assert model.generate("the cat", 2)
    with pytest.raises(ChatTemplateError, match="tokenizer_config.json: chat_template: expected a text"):
        model.chat([HI])
    aerogel.compress(tmp_path / "chat", tmp_path / "packed", sparsity=0, quant="none")


def test_a_model_without_a_template(llama_folder):
    with pytest.raises(ChatTemplateError, match="the model has no chat template"):
        aerogel.load(llama_folder).chat([HI])


def test_templates_by_name(llama_folder, tmp_path):
    """One is named where the vocabulary has its tokens; what ends an answer there ends it."""
    folder = tmp_path / "m"
    shutil.copytree(llama_folder, folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab["<|im_start|>"], vocab["<|im_end|>"] = vocab.pop("red"), vocab.pop("blue")
    path.write_text(json.dumps(tokenizer))
    model = aerogel.load(folder)
    with pytest.raises(ChatTemplateError, match="'chatml' fits its vocabulary"):
        model.chat([HI])
    with pytest.raises(ChatTemplateError, match="expected Jinja or one of gemma.*, got 'ChatML'"):
        model.chat([HI], template="ChatML")
    assert (
        model.chat_text([HI], template="chatml")
        == f"<|im_start|>user\n{HI['content']}<|im_end|>\n<|im_start|>assistant\n"
    )
    end, written = vocab["<|im_end|>"], []
    prompt = model.chat_tokens([{"role": "user", "content": "the cat"}], template="chatml")
    for seed in range(40):  # until one comes that the token would end
        written = list(model.generate_tokens(prompt, 8, temperature=1.0, seed=seed))
        if end in written[1:]:
            break
    options = {"temperature": 1.0, "seed": seed, "max_new_tokens": 8}
    expected = model.tokenizer.decode(written[: written.index(end)])
    assert model.generate("the cat", chat="chatml", **options) == expected
    assert model.chat([{"role": "user", "content": "the cat"}], template="chatml", **options) == expected
    assert model.conversation(template="chatml", **options).say("the cat") == expected
    ids = model.complete("the cat", chat="chatml", stop_ids=[], **options).token_ids
    assert list(ids) == written


def test_what_known_templates_are_given(llama_folder, caplog):
    """Parts of texts are a text there, as other servers take them; marks that are no tokens are said once."""
    model = aerogel.load(llama_folder)
    parts = [{"type": "text", "text": "the cat"}, {"type": "text", "text": "sat"}]
    with caplog.at_level(logging.WARNING, "aerogel"):
        said = model.chat_text([{"role": "user", "content": parts}], template="chatml")
        assert said == model.chat_text([{"role": "user", "content": "the cat\nsat"}], template="chatml")
        model.chat_text([HI], template="zephyr")
    assert caplog.text.count("expected its marks among the tokens") == 1 and "<|im_start|>, <|im_end|>" in caplog.text
    with pytest.raises(DataError, match="messages: expected a text, or parts of texts, as the content.*at 0"):
        model.chat_text([{"role": "user", "content": [{"type": "image", "url": "a"}]}], template="chatml")


def test_smollm2(smollm2):
    jinja = open_checkpoint(smollm2).chat_templates.choose(None, False)
    text = render(jinja, {"messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": True}, "")
    assert text.startswith("<|im_start|>system\n")
    assert text.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
