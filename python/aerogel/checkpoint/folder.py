"""What a model's folder has beside its weights."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

from aerogel.checkpoint import Checkpoint
from aerogel.checkpoint.sentence_transformers import PROMPTS, read_sentence_transformer
from aerogel.errors import TokenizerError

log = logging.getLogger("aerogel")

#: Beside the weights, what else of a source folder a packed model keeps.
KEPT_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "generation_config.json",
    "chat_template.jinja",
    "sentence_*_config.json",
    PROMPTS,
    "LICENSE*",
)


def keep_files(checkpoint: Checkpoint, folder: Path) -> None:
    """Copies the tokenizer's and sentence-transformers' files; a GGUF has its tokenizer inside."""
    if checkpoint.kind != "gguf":
        root = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
        sentence = read_sentence_transformer(root)
        for pattern in KEPT_FILES:
            # A model may be in a subfolder, its prompts never are.
            place = root if sentence is None or pattern == PROMPTS else sentence.model_folder
            for file in sorted(place.glob(pattern)):
                if file.is_file():  # there are folders called LICENSES
                    shutil.copyfile(file, folder / file.name)
    if not (folder / "tokenizer.json").exists():
        try:
            checkpoint.tokenizer().save(folder)
        except TokenizerError as error:
            log.warning("the packed model will have no tokenizer, so it runs on token ids only: %s", error)
    write_pooling(checkpoint, folder)


def write_pooling(checkpoint: Checkpoint, folder: Path) -> None:
    # written rather than copied: a source may keep its Transformer in a subfolder, a packed model never does
    pooling = checkpoint.pooling
    if pooling is None:
        return
    kinds = ["Transformer", "Pooling", *(["Normalize"] if pooling.normalize else [])]
    paths = ["", "1_Pooling", "2_Normalize"]
    write_json(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(zip(kinds, paths, strict=False))
        ],
    )
    flags = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens", "last": "lasttoken"}
    (folder / "1_Pooling").mkdir()
    write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": checkpoint.config.get("hidden_size"),
            **{f"pooling_mode_{flag}": mode == pooling.mode for mode, flag in flags.items()},
            **({} if checkpoint.prompts.pooled else {"include_prompt": False}),
        },
    )


def write_json(path: Path, value: Any) -> None:
    """Writes one of the small files of a folder that is not in its place yet."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
