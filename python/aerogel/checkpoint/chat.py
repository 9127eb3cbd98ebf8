"""The chat templates that come with a model: where they lie, and the special tokens that they write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerogel._util.reading import read_bytes
from aerogel._util.text import not_utf8
from aerogel.checkpoint.config import read_optional_json
from aerogel.errors import ChatTemplateError

#: Files of a folder, as Transformers writes them: the default template, others by name, and both as JSON, as it was once.
TEMPLATE_FILE, TEMPLATE_FOLDER, TEMPLATE_JSON = "chat_template.jinja", "additional_chat_templates", "chat_template.json"
DEFAULT, WITH_TOOLS = "default", "tool_use"
_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_GGUF = "tokenizer.chat_template"
_GGUF_TOKENS = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "sep_token": "seperator",  # llama.cpp's spelling
    "pad_token": "padding",
    "cls_token": "cls",
    "mask_token": "mask",
}


@dataclass(frozen=True)
class ChatTemplates:
    """A model's templates.

    Attributes:
        where: the file or folder, for messages.
        sources: name -> Jinja; empty where the model has none.
        tokens: what templates know special tokens by (`bos_token`) -> their text; None: the files say that there is none.
    """

    where: object
    sources: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, str | None] = field(default_factory=dict)

    def choose(self, template: str | None, tools: bool) -> str:
        """The source to use: `template` is a name, or Jinja itself; unless given that for tools, or the default.

        Raises:
            ChatTemplateError: there is none.
        """
        if template is not None:
            return self.sources.get(template, template)
        for name in ((WITH_TOOLS,) if tools else ()) + (DEFAULT,):
            if name in self.sources:
                return self.sources[name]
        if self.sources:
            names = ", ".join(sorted(self.sources))
            raise ChatTemplateError(
                f"{self.where}: chat template: none is the default: expected the name of one: {names}"
            )
        raise ChatTemplateError(f"{self.where}: the model has no chat template: expected one to be given, as Jinja")


def folder_templates(folder: Path) -> ChatTemplates:
    """The templates of a Hugging Face style folder. Files of their own win over tokenizer_config.json.

    Raises:
        ChatTemplateError: one is no text.
        ConfigError: a JSON file is broken.
    """
    settings = read_optional_json(folder / "tokenizer_config.json")
    special = read_optional_json(folder / "special_tokens_map.json")
    tokens: dict[str, str | None] = {}
    for key in _TOKENS:
        value = settings[key] if key in settings else special.get(key)
        text = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(text, str) or key in settings:
            tokens[key] = text if isinstance(text, str) else None
    return ChatTemplates(folder, _files(folder) or _in_json(folder, settings), tokens)


def _files(folder: Path) -> dict[str, str]:
    found = {}
    if (folder / TEMPLATE_FILE).is_file():
        found[DEFAULT] = _read(folder / TEMPLATE_FILE)
    for path in sorted((folder / TEMPLATE_FOLDER).glob("*.jinja")):
        found[path.stem] = _read(path)
    return found


def _in_json(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    value, path = settings.get("chat_template"), folder / "tokenizer_config.json"
    if value is None:
        path = folder / TEMPLATE_JSON
        value = read_optional_json(path).get("chat_template")
    if isinstance(value, list):
        value = {one.get("name"): one.get("template") for one in value if isinstance(one, Mapping)}
    named = {DEFAULT: value} if isinstance(value, str) else {} if value is None else value
    if not isinstance(named, Mapping) or not all(isinstance(x, str) for pair in named.items() for x in pair):
        raise ChatTemplateError(f"{path}: chat_template: expected a text, or several with names, got {value!r:.80}")
    return dict(named)


def _read(path: Path) -> str:
    try:
        return read_bytes(str(path), path, ChatTemplateError).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ChatTemplateError(not_utf8(path, error)) from error


def gguf_templates(metadata: Mapping[str, Any], path: Path) -> ChatTemplates:
    """The templates in a GGUF file's metadata.

    Raises:
        ChatTemplateError: one is no text.
    """
    sources = {}
    for key, value in metadata.items():
        if key == _GGUF or key.startswith(_GGUF + "."):
            if not isinstance(value, str):
                raise ChatTemplateError(f"{path}: {key}: expected a text, got {value!r:.80}")
            sources[key[len(_GGUF) + 1 :] or DEFAULT] = value
    vocabulary = metadata.get("tokenizer.ggml.tokens")
    tokens: dict[str, str | None] = {}
    for name, key in _GGUF_TOKENS.items():
        index = metadata.get(f"tokenizer.ggml.{key}_token_id")
        if not isinstance(vocabulary, Sequence) or isinstance(vocabulary, str):
            break
        if type(index) is int and 0 <= index < len(vocabulary):
            tokens[name] = str(vocabulary[index])
    return ChatTemplates(path, sources, tokens)


def write_templates(templates: ChatTemplates, folder: Path) -> None:
    """Writes them as files of a folder."""
    for name, source in templates.sources.items():
        path = folder / TEMPLATE_FILE if name == DEFAULT else folder / TEMPLATE_FOLDER / f"{name}.jinja"
        if "/" in name or "\\" in name or name.startswith("."):
            raise ChatTemplateError(f"{templates.where}: chat template: expected the name of a file, got {name!r:.80}")
        path.parent.mkdir(exist_ok=True)
        path.write_text(source, encoding="utf-8")
