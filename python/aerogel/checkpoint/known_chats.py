"""Ways to write a conversation that many models share, for those whose files have no template: by name, as llama.cpp names
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class KnownChat:
    """A template.

    Attributes:
        source: Jinja, over texts as the content of messages.
        marks: tokens that a vocabulary for it has; none: any may do.
        end: the token that ends an answer.
    """

    source: str
    marks: tuple[str, ...]
    end: str


#: Where what the system says has no place of its own: before what the user says first.
_SYSTEM_FIRST = """{%- set system = messages[0].content if messages and messages[0].role == "system" else none -%}
{%- set said = messages[1:] if system is not none else messages -%}
{%- for m in said -%}
{%- if (m.role == "user") != (loop.index0 % 2 == 0) -%}
{{- raise_exception("expected what the user and the assistant say in turn, the user first") -}}
{%- endif -%}
"""
_CHATML = """{%- for m in messages -%}
{{- "<|im_start|>" ~ m.role ~ "\\n" ~ m.content ~ "<|im_end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|im_start|>assistant\\n" -}}{%- endif -%}
"""
_GEMMA = (
    "{{- bos_token -}}"
    + _SYSTEM_FIRST
    + """{{- "<start_of_turn>" ~ ("model" if m.role == "assistant" else m.role) ~ "\\n" -}}
{%- if loop.first and system is not none -%}{{- system ~ "\\n\\n" -}}{%- endif -%}
{{- m.content | trim ~ "<end_of_turn>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<start_of_turn>model\\n" -}}{%- endif -%}
"""
)
_LLAMA3 = """{{- bos_token -}}
{%- for m in messages -%}
{{- "<|start_header_id|>" ~ m.role ~ "<|end_header_id|>\\n\\n" ~ (m.content | trim) ~ "<|eot_id|>" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" -}}{%- endif -%}
"""
_MISTRAL = (
    "{{- bos_token -}}"
    + _SYSTEM_FIRST
    + """{%- if m.role == "user" -%}
{{- "[INST] " ~ (system ~ "\\n\\n" if loop.first and system is not none else "") ~ m.content ~ "[/INST]" -}}
{%- else -%}
{{- " " ~ (m.content | trim) ~ eos_token -}}
{%- endif -%}
{%- endfor -%}
"""
)
_PHI3 = """{%- for m in messages -%}
{{- "<|" ~ m.role ~ "|>\\n" ~ m.content ~ "<|end|>\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|assistant|>\\n" -}}{%- endif -%}
"""
_ZEPHYR = """{%- for m in messages -%}
{{- "<|" ~ m.role ~ "|>\\n" ~ m.content ~ eos_token ~ "\\n" -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|assistant|>\\n" -}}{%- endif -%}
"""

#: By name. Of two that a vocabulary has the marks of, the first fits.
CHATS = {
    "gemma": KnownChat(_GEMMA, ("<start_of_turn>", "<end_of_turn>"), "<end_of_turn>"),
    "llama3": KnownChat(_LLAMA3, ("<|start_header_id|>", "<|eot_id|>"), "<|eot_id|>"),
    "chatml": KnownChat(_CHATML, ("<|im_start|>", "<|im_end|>"), "<|im_end|>"),
    "phi3": KnownChat(_PHI3, ("<|user|>", "<|assistant|>", "<|end|>"), "<|end|>"),
    "mistral": KnownChat(_MISTRAL, ("[INST]", "[/INST]"), "</s>"),
    "zephyr": KnownChat(_ZEPHYR, (), "</s>"),
}


def fitting(id_of: Callable[[str], int | None]) -> str | None:
    """The template whose tokens a vocabulary has; None: it has those of none."""
    for name, chat in CHATS.items():
        if chat.marks and all(id_of(mark) is not None for mark in chat.marks):
            return name
    return None
