"""What a model's folder has beside its weights."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from aerogel.checkpoint import Checkpoint
from aerogel.checkpoint.chat import TEMPLATE_FILE, TEMPLATE_JSON, folder_templates, write_templates
from aerogel.checkpoint.sentence_transformers import PROMPTS, read_sentence_transformer
from aerogel.checkpoint.sentence_writer import write_modules
from aerogel.errors import ChatTemplateError, TokenizerError

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
    TEMPLATE_FILE,
    TEMPLATE_JSON,
    "sentence_*_config.json",
    PROMPTS,
    "LICENSE*",
)


def keep_files(checkpoint: Checkpoint, folder: Path) -> None:
    """Copies the tokenizer's and sentence-transformers' files; a GGUF has its tokenizer and its chat templates inside."""
    if checkpoint.kind != "gguf":
        root = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
        sentence = read_sentence_transformer(root)
        for pattern in KEPT_FILES:
            # A model may be in a subfolder, its prompts never are.
            place = root if sentence is None or pattern == PROMPTS else sentence.model_folder
            for file in sorted(place.glob(pattern)):
                if file.is_file():  # there are folders called LICENSES
                    shutil.copyfile(file, folder / file.name)
    _keep_templates(checkpoint, folder)
    if not (folder / "tokenizer.json").exists():
        try:
            checkpoint.tokenizer().save(folder)
        except TokenizerError as error:
            log.warning("the packed model will have no tokenizer, so it runs on token ids only: %s", error)
    write_modules(checkpoint, folder)


def _keep_templates(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes the templates that are not in the files copied."""
    try:
        if checkpoint.chat_templates.sources != folder_templates(folder).sources:
            write_templates(checkpoint.chat_templates, folder)
    except ChatTemplateError as error:
        log.warning("the packed model will have no chat template: %s", error)
