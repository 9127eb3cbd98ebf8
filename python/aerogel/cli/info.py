"""aerogel info."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from aerogel._util.text import middle
from aerogel._util.units import megabytes
from aerogel.cli.console import NAME, loaded, names_column, results
from aerogel.cli.options import Folder, Memory, Threads

if TYPE_CHECKING:
    from aerogel.checkpoint import Checkpoint
    from aerogel.engine.model import Model


def command(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    memory: Memory = None,
    threads: Threads = None,
) -> None:
    """Show a model layer by layer: shape, sparsity, kernel formats, bits per weight."""
    from aerogel.checkpoint import open_checkpoint

    facts = describe(loaded(folder, threads, memory=memory), open_checkpoint(folder))
    if as_json:
        import json

        json.dump(facts, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        show(folder, facts)


def show(folder: str, facts: Mapping[str, Any]) -> None:
    """Prints the layers in a table, and what the model takes on disk and in memory."""
    out = results()
    done = recipe_text(facts["recipe"], facts["quantization"])
    out.print(f"{folder}: {facts['model_type']}, {', '.join(facts['outputs'])}; {done}", markup=False)
    table = Table(
        names_column("layer"), "shape", "sparsity", "formats", "ISA", "bits/weight in memory", box=None, pad_edge=False
    )
    for layer in facts["layers"]:
        table.add_row(
            middle(layer["name"], NAME),
            "x".join(map(str, layer["shape"])),
            f"{layer['sparsity']:.1%}",
            forms_text(layer["forms"]),
            layer["forms"][0]["isa"],
            f"{layer['bits_per_weight']:.2f}",
        )
    out.print(table)
    stored = facts["stored"]
    if stored is not None:
        out.print(
            f"linears on disk: {stored['bits_per_weight']:.2f} bits a weight (entropy {stored['entropy']:.2f}), "
            f"{32 / stored['bits_per_weight']:.1f}x smaller than float32, {8 / stored['bits_per_weight']:.1f}x than int8"
        )
    total = facts["totals"]
    out.print(
        f"on disk {megabytes(total['disk_bytes'])}, packed in memory {megabytes(total['packed_bytes'])}; "
        f"float32 would be {megabytes(total['fp32_bytes'])} ({total['fp32_bytes'] / total['disk_bytes']:.1f}x), "
        f"dense int8 {megabytes(total['int8_bytes'])} ({total['int8_bytes'] / total['disk_bytes']:.1f}x)"
    )
    cache = facts["kv_cache"]
    if cache is not None:
        out.print(
            f"keys and values: {cache['numbers']}, {cache['token_bytes']} bytes a token, "
            f"{megabytes(cache['token_bytes'] * cache['positions'])} for all {cache['positions']} positions"
        )


def recipe_text(recipe: Mapping[str, Any] | None, quantization: str) -> str:
    """What was decided, in a line; recipes of older packed models are shown as they are."""
    if not recipe:
        return f"not compressed, {quantization} weights"
    if "prune" not in recipe:
        return str(dict(recipe))
    prune, quantize = recipe["prune"], recipe["quantize"]
    amount = f"below {prune['threshold']}" if prune.get("threshold") is not None else f"{prune['sparsity']:.1%}"
    parts = [f"{prune['method']} {amount} {prune['pattern']}", f"{quantize['weights']} weights"]
    if recipe.get("structure"):
        parts.insert(0, "structured")
    if recipe["calibration"]["files"]:
        parts.append("calibrated")
    return ", ".join([*parts, f"packed {recipe['pack']}"])


def stored_facts(checkpoint: Checkpoint) -> dict[str, float] | None:
    """Bits a weight of a packed model's linears in the file, and the least that their masks and codes hold."""
    from aerogel.architectures import Role, architecture_of
    from aerogel.checkpoint.entropy import weight_entropy_bits
    from aerogel.checkpoint.packed import PackedCheckpoint

    if not isinstance(checkpoint, PackedCheckpoint):
        return None
    weights = stored = 0
    entropy = 0.0
    for tensor in architecture_of(checkpoint).tensors():
        if tensor.role is Role.LINEAR:
            weight = checkpoint.weight(tensor.name)
            weights += math.prod(tensor.shape)
            stored += checkpoint.stored_bytes(tensor.name)
            entropy += weight_entropy_bits(weight) * math.prod(tensor.shape)
    return {"bits_per_weight": 8 * stored / weights, "entropy": entropy / weights} if weights else None


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
        size = math.prod(shape)
        fp32 += 4 * size
        int8 += size + 4 * shape[0] if len(shape) == 2 else 4 * size
    return {
        "model_type": model.config.get("model_type"),
        "outputs": list(model.outputs),
        "quantization": model.quantization,
        "attention": model.attention,
        "recipe": (model.config.get("quantization_config") or {}).get("recipe"),
        "layers": list(layers.values()),
        "stored": stored_facts(checkpoint),
        "kv_cache": {
            "numbers": model.kv_cache,
            "token_bytes": model.kv_cache_bytes,
            "positions": model.max_positions,
        }
        if model.kv_cache_bytes and model.outputs[0] == "logits"  # others keep none between calls
        else None,
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
