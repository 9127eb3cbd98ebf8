"""A trained model as a dense safetensors folder, zeros in place, that aerogel and transformers read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.checkpoint import Checkpoint
from aerogel.checkpoint.config import write_json
from aerogel.checkpoint.folder import keep_files
from aerogel.checkpoint.fused import saved_form, saved_parts
from aerogel.checkpoint.safetensors_writer import SafetensorsWriter
from aerogel.checkpoint.sentence_writer import WRITTEN as MODULES_WRITTEN
from aerogel.checkpoint.sentence_writer import plain_names, write_steps
from aerogel.checkpoint.target import RECORD, writing_model


def save(
    checkpoint: Checkpoint,
    arrays: Mapping[str, np.ndarray],
    out: Path,
    record: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes `out` whole or not at all.

    Args:
        checkpoint: where the model came from: its config, tokenizer, pooling, and parameters that were not trained.
        arrays: float32, by their names in a checkpoint.
        out: a new or empty folder.
        record: what training.json says.
        config: the config, where training changed it: then the pooling is not kept.
        overwrite: see `check_target`.
    """
    with writing_model(out, overwrite) as folder:
        chosen = {k: v for k, v in (config or checkpoint.config).items() if k != "quantization_config"}
        writer = SafetensorsWriter(folder / "model.safetensors", checksums=True)

        def values(name: str) -> np.ndarray:
            return np.asarray(arrays[name] if name in arrays else checkpoint.array(name), np.float32)

        own = plain_names(checkpoint)
        others = set(checkpoint.names()) - set(own)  # of modules after the pooling
        plain = [*(n for n in arrays if n not in others), *(n for n in own if n not in arrays)]
        for name, parts in saved_parts(plain, chosen).items():
            writer.add(name, saved_form(name, [values(part) for part in parts], chosen))
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
