"""How a sentence-transformers model makes one embedding of a text: modules.json, 1_Pooling/config.json and the prompts of
config_sentence_transformers.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aerogel.architectures import MODES, Pooling
from aerogel.checkpoint.config import read_json, read_json_list, read_optional_json
from aerogel.errors import ConfigError, UnsupportedModelError

#: The file of the prompts, beside modules.json.
PROMPTS = "config_sentence_transformers.json"
_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}


@dataclass(frozen=True)
class Prompts:
    """What stands before a text, such as "query: ".

    Attributes:
        texts: by their names.
        default: the name of the one that is used where the caller names none; None: none is.
        pooled: whether the tokens of a prompt count in the embedding.
    """

    texts: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None
    pooled: bool = True


@dataclass(frozen=True)
class SentenceTransformer:
    """What a sentence-transformers folder says beside the model itself."""

    model_folder: Path
    pooling: Pooling | None
    max_tokens: int | None
    lowercase: bool
    prompts: Prompts


def read_sentence_transformer(folder: Path) -> SentenceTransformer | None:
    """Reads modules.json and what it points to; None if there is no modules.json.

    Raises:
        ConfigError: a file is broken.
        UnsupportedModelError: a module or a pooling mode that aerogel does not have, such as Dense.
    """
    path = folder / "modules.json"
    if not path.exists():
        return None
    model_folder, mode, normalize, pooled = folder, None, False, True
    for module in read_json_list(path):
        kind, module_folder = _module(path, folder, module)
        if kind == "Transformer":
            model_folder = module_folder
        elif kind == "Pooling":
            mode = _mode(module_folder / "config.json")
            pooled = read_json(module_folder / "config.json").get("include_prompt") is not False
        elif kind == "Normalize":
            normalize = True
        else:
            raise UnsupportedModelError(
                f"{path}: module {kind!r}: expected Transformer, Pooling and Normalize modules only"
            )
    settings = _settings(model_folder)
    max_tokens = settings.get("max_seq_length")
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise ConfigError(f"{model_folder}: max_seq_length: expected a positive whole number, got {max_tokens!r:.80}")
    return SentenceTransformer(
        model_folder,
        Pooling(mode, normalize) if mode else None,
        max_tokens,
        settings.get("do_lower_case") is True,
        _prompts(folder / PROMPTS, pooled),
    )


def _prompts(path: Path, pooled: bool) -> Prompts:
    settings = read_optional_json(path)
    texts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise ConfigError(f"{path}: prompts: expected an object of strings, got {texts!r:.80}")
    if default is not None and (not isinstance(default, str) or default not in texts):
        raise ConfigError(
            f"{path}: default_prompt_name: expected one of {', '.join(texts) or 'none'}, got {default!r:.80}"
        )
    return Prompts(texts, default, pooled)


def _module(path: Path, folder: Path, module: Any) -> tuple[str, Path]:
    kind = module.get("type") if isinstance(module, dict) else None
    name = module.get("path", "") if isinstance(module, dict) else None
    if not isinstance(kind, str) or not isinstance(name, str):
        raise ConfigError(f"{path}: expected modules with a type and a path, got {module!r:.80}")
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ConfigError(f"{path}: expected the path of a module inside the folder, got {name!r}")
    return kind.rpartition(".")[2], folder / name


def _settings(folder: Path) -> dict[str, Any]:
    # Older versions of sentence-transformers named this file after the architecture.
    for path in (folder / "sentence_bert_config.json", *sorted(folder.glob("sentence_*_config.json"))):
        if path.exists():
            return read_json(path)
    return {}


def _mode(path: Path) -> str:
    config = read_json(path)
    modes = [mode for flag, mode in _FLAGS.items() if config.get(flag) is True]
    named = config.get("pooling_mode")  # since version 5 of sentence-transformers: a name or a list of them
    if named is not None:
        modes = [str(mode).removesuffix("token") for mode in (named if isinstance(named, list) else [named])]
    if len(modes) != 1 or modes[0] not in MODES:
        raise UnsupportedModelError(f"{path}: expected one pooling mode of {', '.join(MODES)}, got {modes or 'none'}")
    return modes[0]
