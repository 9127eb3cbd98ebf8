"""aerogel info."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.table import Table

from aerogel.checkpoint import Checkpoint, open_checkpoint
from aerogel.commands.console import results
from aerogel.model import Model, load
from aerogel.units import megabytes


def run(folder: str, as_json: bool, memory: float | None, threads: int | None) -> None:
    model = load(folder, threads, memory=memory)
    facts = describe(model, open_checkpoint(folder))
    if as_json:
        json.dump(facts, sys.stdout, indent=2)
        sys.stdout.write("\n")
        return
    out = results()
    out.print(
        f"{folder}: {facts['model_type']}, {', '.join(facts['outputs'])}; {facts['recipe'] or 'not compressed'}",
        markup=False,
    )
    table = Table("layer", "shape", "sparsity", "formats", "ISA", "bits/weight in memory", box=None, pad_edge=False)
    for layer in facts["layers"]:
        table.add_row(
            layer["name"],
            " x ".join(map(str, layer["shape"])),
            f"{layer['sparsity']:.1%}",
            forms_text(layer["forms"]),
            layer["forms"][0]["isa"],
            f"{layer['bits_per_weight']:.2f}",
        )
    out.print(table)
    total = facts["totals"]
    out.print(
        f"on disk {megabytes(total['disk_bytes'])}, packed in memory {megabytes(total['packed_bytes'])}; "
        f"float32 would be {megabytes(total['fp32_bytes'])} ({total['fp32_bytes'] / total['disk_bytes']:.1f}x), "
        f"dense int8 {megabytes(total['int8_bytes'])} ({total['int8_bytes'] / total['disk_bytes']:.1f}x)"
    )


def forms_text(forms: list[dict[str, Any]]) -> str:
    """The formats of a layer, and up to how many rows the first of two serves."""
    return ", ".join(
        form["format"] + ("" if form["max_rows"] is None else f" to {form['max_rows']} rows") for form in forms
    )


def describe(model: Model, checkpoint: Checkpoint) -> dict[str, Any]:
    """What `info` shows, as plain values. Bits per weight are those of the packed form that runs."""
    layers: dict[str, dict[str, Any]] = {}
    for step in model.describe():
        if "forms" not in step:
            continue
        n, k = step["shape"]
        layers[step["name"]] = {  # a layer is a step of every output that needs it
            "name": step["name"],
            "shape": [n, k],
            "sparsity": 1 - step["nonzeros"] / (n * k),
            "forms": step["forms"],
            "bytes": step["nbytes"],
            "bits_per_weight": 8 * step["nbytes"] / (n * k),
        }
    fp32 = int8 = 0
    for name in checkpoint.names():
        shape = checkpoint.shape(name)
        size = 1
        for length in shape:
            size *= length
        fp32 += 4 * size
        int8 += size + 4 * shape[0] if len(shape) == 2 else 4 * size
    return {
        "model_type": model.config.get("model_type"),
        "outputs": list(model.outputs),
        "recipe": (model.config.get("quantization_config") or {}).get("recipe"),
        "layers": list(layers.values()),
        "totals": {
            "disk_bytes": disk_bytes(checkpoint),
            "packed_bytes": model.nbytes,
            "fp32_bytes": fp32,
            "int8_bytes": int8,
        },
    }


def disk_bytes(checkpoint: Checkpoint) -> int:
    """Size of the weight files."""
    path = checkpoint.path
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for pattern in ("*.safetensors", "*.gguf") for file in path.rglob(pattern))
