"""A trained model as a dense safetensors folder, zeros in place, that aerogel and transformers read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.checkpoint import Checkpoint
from aerogel.checkpoint.config import write_json
from aerogel.checkpoint.folder import WRITTEN, check_own_files, keep_files, replacing
from aerogel.checkpoint.names import saved_name
from aerogel.checkpoint.safetensors_writer import SafetensorsWriter
from aerogel.checkpoint.sentence_writer import WRITTEN as MODULES_WRITTEN
from aerogel.checkpoint.sentence_writer import plain_names, write_steps
from aerogel.errors import RecipeError

#: Written beside the weights: how the model was trained. Its presence says that a folder may be replaced.
RECORD = "training.json"


def check_out(out: Path) -> None:
    """Raises RecipeError if writing a trained model to `out` would destroy something else."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise RecipeError(f"{out}: exists and is not a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / RECORD).exists():
        raise RecipeError(f"{out}: is not empty and not a trained model, so it is not overwritten")
    check_own_files(out, (*WRITTEN, RECORD))


def save(
    checkpoint: Checkpoint,
    arrays: Mapping[str, np.ndarray],
    out: Path,
    record: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
) -> None:
    """Writes `out` whole or not at all.

    Args:
        checkpoint: where the model came from: its config, tokenizer, pooling, and parameters that were not trained.
        arrays: float32, by their names in a checkpoint.
        out: a new or empty folder, or one that was written here.
        record: what training.json says.
        config: the config, where training changed it: then the pooling is not kept.
    """
    check_out(out)
    with replacing(out, check_out) as folder:
        chosen = {k: v for k, v in (config or checkpoint.config).items() if k != "quantization_config"}
        writer = SafetensorsWriter(folder / "model.safetensors", checksums=True)

        def values(name: str) -> np.ndarray:
            return np.asarray(arrays[name] if name in arrays else checkpoint.array(name), np.float32)

        own = plain_names(checkpoint)
        others = set(checkpoint.names()) - set(own)  # of modules after the pooling
        for name in [*(n for n in arrays if n not in others), *(n for n in own if n not in arrays)]:
            writer.add(saved_name(name, chosen), values(name))
        writer.close({"format": "pt"})
        write_json(folder / "config.json", {**chosen, "torch_dtype": "float32"})
        keep_files(checkpoint, folder)
        if config is None:
            write_steps(checkpoint, folder, values)
        else:
            for pattern in (*MODULES_WRITTEN, "config_sentence_transformers.json", "sentence_bert_config.json"):
                for path in sorted(folder.glob(pattern)):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        write_json(folder / RECORD, dict(record))
