"""A trained model as a dense safetensors folder, zeros in place, that aerogel and transformers read."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.checkpoint import Checkpoint
from aerogel.checkpoint.folder import keep_files, write_json
from aerogel.checkpoint.names import saved_name
from aerogel.checkpoint.safetensors_writer import SafetensorsWriter
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
        untrained = [name for name in checkpoint.names() if name not in arrays]
        for name in [*arrays, *untrained]:
            array = arrays[name] if name in arrays else checkpoint.array(name)
            writer.add(saved_name(name, chosen), np.asarray(array, np.float32))
        writer.close({"format": "pt"})
        write_json(folder / "config.json", {**chosen, "torch_dtype": "float32"})
        keep_files(checkpoint, folder)
        if config is not None:
            for file in ["modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"]:
                (folder / file).unlink(missing_ok=True)
            shutil.rmtree(folder / "1_Pooling", ignore_errors=True)
        write_json(folder / RECORD, dict(record))
