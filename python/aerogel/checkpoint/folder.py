"""The folder of a packed model: written beside its place, and put there once it is complete."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from aerogel.checkpoint import Checkpoint
from aerogel.checkpoint.packed.format import is_packed
from aerogel.checkpoint.sentence_transformers import PROMPTS, read_sentence_transformer
from aerogel.checkpoint.sentence_writer import WRITTEN as MODULES_WRITTEN
from aerogel.checkpoint.sentence_writer import write_modules
from aerogel.errors import RecipeError, TokenizerError

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


#: Everything that a packed model's folder has from here.
WRITTEN = ("config.json", "model.safetensors", *MODULES_WRITTEN, *KEPT_FILES)


def check_target(target: Path) -> None:
    """Raises RecipeError if writing a packed model to `target` would destroy something else."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise RecipeError(f"{target}: exists and is not a folder")
    if target.is_dir() and any(target.iterdir()) and not is_packed(target):
        raise RecipeError(f"{target}: is not empty and not a packed model, so it is not overwritten")
    check_own_files(target, WRITTEN)


def check_own_files(target: Path, known: Sequence[str]) -> None:
    """Raises RecipeError if the folder holds more than what is written there, which its replacement would lose.

    Args:
        target: a folder, or nothing yet.
        known: patterns of the paths inside it that are written.
    """
    inside = [path.relative_to(target) for path in sorted(target.rglob("*"))] if target.is_dir() else []
    others = [str(path) for path in inside if not any(_matches(path, pattern) for pattern in known)]
    if others:
        shown = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
        raise RecipeError(
            f"{target}: holds what aerogel did not write, so it is not overwritten: {shown}: move it, or name another folder"
        )


def _matches(path: Path, pattern: str) -> bool:
    """A wildcard stands for a part of one name, never for a folder more."""
    return len(path.parts) == pattern.count("/") + 1 and fnmatchcase(path.as_posix(), pattern)


def check_apart(source: Path, target: Path) -> None:
    """Raises RecipeError if `target`, which is going to be replaced, is the source or has it inside."""
    where, place = source.resolve(), target.resolve()
    if where == place or place in where.parents:
        what = "is" if where == place else "is around"
        raise RecipeError(f"{target}: {what} the model that is read: write to another folder")


@contextlib.contextmanager
def replacing(target: Path, check: Callable[[Path], None] = check_target) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its place when the block ends well and disappears when not.

    `check` refuses a target that must not be replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        umask = os.umask(0)
        os.umask(umask)
        folder.chmod(0o777 & ~umask)  # mkdtemp makes private folders
        yield folder
        check(target)  # it may have been filled meanwhile
        if target.exists():
            old = folder.with_suffix(".old")
            target.rename(old)
            folder.rename(target)
            shutil.rmtree(old)
        else:
            folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
    write_modules(checkpoint, folder)
