"""Writes docs/settings.md from the tables in the code: what aerogel makes of every key in a model's files.

python tools/settings_page.py           # writes it
python tools/settings_page.py --check   # fails if it is not what the tables say
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from aerogel.architectures import FAMILIES, Settings
from aerogel.architectures.settings import CONFIG
from aerogel.checkpoint.generation import GENERATION_CONFIG
from aerogel.checkpoint.gguf.settings import FILE, MODEL
from aerogel.checkpoint.query_terms import QUERY
from aerogel.checkpoint.sentence_modules import DENSE, MODULES, NORM, NORMALIZE, POOLING, SPLADE, TOKEN_DENSE
from aerogel.checkpoint.sentence_router import PARAMETERS, ROUTER
from aerogel.checkpoint.sentence_transformers import SENTENCE_TRANSFORMERS, TRANSFORMER
from aerogel.checkpoint.tokenizer_settings import SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG, TOKENIZER_JSON

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"
BEGIN = """# Settings in a model's files

What aerogel makes of every key: it is **used**, or **harmless**, as the answer does not depend on it, or **refused**
with any other value than those named (null, and an empty list or object, are always fine). A key that stands in no
table is named in a warning, once a file; where a file has nothing but settings of the model (tokenizer.json, a
pooling, a `Dense`) it is refused. Written by `tools/settings_page.py` from the tables that the code uses.

Other files: `vocab.txt`, or `vocab.json` with `merges.txt`, is the vocabulary where there is no tokenizer.json;
`added_tokens.json` has the ids of tokens beside it, where tokenizer_config.json has no `added_tokens_decoder`;
`chat_template.jinja`, `chat_template.json` and `additional_chat_templates/*.jinja` are how a conversation is written; a
folder with an `adapter_config.json` is refused, as the adapter would have to be merged first; weights in PyTorch's
pickle format are refused.
"""


def lines(settings: Settings, title: str) -> Iterable[str]:
    """A section of the page."""
    yield f"\n## {title}\n"
    for kind, table in (("used", settings.used), ("harmless", settings.harmless)):
        grouped: dict[str, list[str]] = {}
        for key, why in table.items():
            grouped.setdefault(why, []).append(key)
        if grouped:
            yield f"\n| {kind} | {'for' if kind == 'used' else 'because'} |\n|---|---|\n"
        for why, keys in grouped.items():
            yield f"| {_keys(keys)} | {why} |\n"
    refused: dict[tuple[str, str], list[str]] = {}
    for key, refusal in settings.refused.items():
        values = ", ".join(dict.fromkeys(_json(value) for value in refusal.allowed)) or "none"
        refused.setdefault((refusal.why, values), []).append(key)
    if refused:
        yield "\n| refused | values that are fine | what another would ask for |\n|---|---|---|\n"
    for (why, values), keys in refused.items():
        yield f"| {_keys(keys)} | {values} | {why} |\n"


def _keys(keys: Iterable[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)


def _json(value: object) -> str:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _own(settings: Settings) -> Settings:
    """What a family says beyond what is common to all."""
    return Settings(
        settings.file,
        {key: why for key, why in settings.used.items() if CONFIG.used.get(key) != why},
        {key: why for key, why in settings.harmless.items() if CONFIG.harmless.get(key) != why},
        {key: why for key, why in settings.refused.items() if CONFIG.refused.get(key) != why},
    )


def page() -> str:
    """The whole page."""
    parts = [BEGIN, *lines(CONFIG, "config.json, all families")]
    for family in dict.fromkeys(FAMILIES.values()):
        parts += lines(_own(family.settings), f"config.json, {family.__name__} ({', '.join(family.model_types)})")
    others = (TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP, TOKENIZER_JSON, GENERATION_CONFIG, MODULES, TRANSFORMER, POOLING)
    modules = (TOKEN_DENSE, DENSE, NORM, NORMALIZE, SPLADE, ROUTER, PARAMETERS, QUERY)
    for settings in (*others, *modules, SENTENCE_TRANSFORMERS, FILE, MODEL):
        parts += lines(settings, settings.file)
    return "".join(parts)


def main() -> int:
    text = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        print(f"{PAGE}: not what the tables say: run python tools/settings_page.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
