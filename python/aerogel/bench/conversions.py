"""A model in the files that other engines read, kept in the cache folder."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aerogel._util.cache import cache_folder
from aerogel.bench import serve
from aerogel.compression import KEPT_FILES
from aerogel.errors import AerogelError

#: What exporting a kind of model to ONNX needs.
_EXPORTERS = {"encoder": ("torch", "transformers", "onnx"), "linear": ("onnx",)}


def peer_cache() -> Path:
    """Where conversions for peers stay, named by the weights' content."""
    folder = cache_folder() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def export_onnx(job: Mapping[str, Any]) -> None:
    """The graph that ONNX engines start from; made here, so that their environments need no exporter."""
    if (Path(job["cache"]) / job["onnx"]).exists():
        return
    missing = [name for name in _EXPORTERS[job["kind"]] if importlib.util.find_spec(name) is None]
    if missing:
        raise AerogelError(f"the export to ONNX needs {', '.join(missing)}: pip install {' '.join(missing)}")
    command = [sys.executable, serve.__file__, "convert", "export", json.dumps(dict(job))]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    if result.returncode:
        raise AerogelError(f"the export to ONNX failed: {(result.stderr.strip().splitlines() or ['no message'])[-1]}")


def plain_folder(packed: Path) -> Path:
    """The dense fp32 form as transformers reads it: the same file, and a config that does not say "aerogel"."""
    folder = packed.parent / "plain"
    if not folder.exists():
        folder.mkdir()
        config = json.loads((packed / "config.json").read_text(encoding="utf-8"))
        config.pop("quantization_config", None)
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        _with_format(packed / "model.safetensors", folder / "model.safetensors")
        for pattern in KEPT_FILES:
            for file in packed.glob(pattern):
                os.link(file, folder / file.name)
    return folder


def _with_format(source: Path, target: Path) -> None:
    """The same tensors with the note that transformers looks for."""
    with source.open("rb") as file, target.open("wb") as out:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header["__metadata__"] = {"format": "pt"}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(len(text) + 8) % 64)
        out.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(file, out, 1 << 20)


def gguf_file(source: Path) -> Path:
    """The file itself, for engines that read no other."""
    if source.suffix != ".gguf":
        raise AerogelError("takes a .gguf file, and this model is none")
    return source
