"""A Hugging Face model id to a local folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from aerogel.errors import CheckpointError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_FILE_ID = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/((?:[\w-][\w.-]*/)*[\w-][\w.-]*\.gguf)")

# What a reader here may need; not the same weights in other formats, which model repositories often carry too.
_ALLOW = ["*.json", "*.safetensors", "vocab.txt", "*/vocab.txt", "*.jinja"]
_IGNORE = ["onnx/*", "openvino/*", "original/*", "consolidated*", "*.onnx*", ".*"]


def download(model_id: str, **options: Any) -> Path:
    """Downloads the model unless it is cached, and returns its folder ("owner/name/file.gguf" gives that file).

    huggingface_hub's own settings apply: HF_HUB_OFFLINE, HF_HOME, HF_ENDPOINT, HF_TOKEN; `options` are of its downloads:
    revision, cache_dir, token, local_files_only.

    Raises:
        CheckpointError: it is no model id, or neither cached nor reachable.
    """
    file = _FILE_ID.fullmatch(model_id)
    if not file and not _ID.fullmatch(model_id):
        raise CheckpointError(f"{model_id}: no such file or folder")
    try:
        import huggingface_hub
    except ImportError as error:
        raise CheckpointError(
            f"{model_id}: no such file or folder; to download it as a model id, install huggingface_hub"
        ) from error
    try:
        if file:
            return Path(huggingface_hub.hf_hub_download(file[1], file[2], **options))
        return Path(
            huggingface_hub.snapshot_download(model_id, allow_patterns=_ALLOW, ignore_patterns=_IGNORE, **options)
        )
    # Its errors, the HTTP client's and the file system's have no common base but this one.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{model_id}: no such file or folder, and as a model id neither cached nor reachable "
            f"({type(error).__name__}: {reason:.60})"
        ) from error
