"""Aerogel itself: the same rules as for everyone else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from aerogel._util.version import __version__
from aerogel.engine.linear import Linear
from aerogel.engine.model import load

from . import Engine as Base


class Engine(Base):
    def files(self) -> list[Path]:
        # A first load measures its kernels and remembers them. It is not the load that is timed: one in another process
        # comes before, always, since this file is never there.
        return [Path(self.model) / "kernels measured"] if self.job["format"] == "auto" else []

    def convert(self) -> None:
        self.load()

    def load(self) -> None:
        if self.kind == "linear":
            quant = "int8" if self.precision == "int8" else "none"
            with np.load(self.model) as arrays:
                self.layer = Linear(arrays["weight"], quant=quant, format=self.job["format"], threads=self.threads)
            return
        self.loaded = load(self.model, self.threads, self.job["format"], kv_cache=self.job.get("kv_cache"))
        self.output = "logits" if self.kind == "decoder" else self.loaded.outputs[0]

    def run(self, *arrays: np.ndarray) -> np.ndarray:
        if self.kind == "linear":
            return self.layer(arrays[0])
        ids = arrays[0]
        if self.kind == "decoder":
            if len(arrays) == 1:
                logits: np.ndarray = self.loaded.forward(ids, output=self.output, last_only=True)[0]
                return logits
            return np.array(list(self.loaded.generate_tokens(ids, int(arrays[1][0]), stop=())), np.int64)
        sequences, tokens = ids.shape
        rows = self.loaded.forward(ids.reshape(-1), np.arange(sequences + 1) * tokens, self.output)
        return rows.reshape(sequences, tokens, -1)

    def version(self) -> str:
        return str(__version__)

    def facts(self) -> dict[str, Any]:
        """Multiply-adds of all linears for one token, and the bytes of weights that one token reads."""
        if self.kind == "linear":
            n, k = self.layer.shape
            zeros = self.layer.sparsity if not self.layer.forms[-1]["format"].startswith("dense") else 0.0
            return {
                "disk_bytes": self.model.stat().st_size,
                "macs": round(n * k * (1 - zeros)),
                "dense_macs": n * k,
                "weight_bytes": self.layer.forms[0]["nbytes"],
                "sparsity": self.layer.sparsity,
                "formats": [form["format"] for form in self.layer.forms],
            }
        steps = [s for s in self.loaded.describe() if s["op"] == "linear" and s["output"] == self.output]
        shapes = [s["shape"][0] * s["shape"][1] for s in steps]
        dense = [s["forms"][-1]["format"].startswith("dense") for s in steps]
        return {
            "disk_bytes": self._disk_bytes(),
            "macs": sum(whole if d else s["nonzeros"] for s, whole, d in zip(steps, shapes, dense)),
            "dense_macs": sum(shapes),
            "weight_bytes": sum(s["forms"][0]["nbytes"] for s in steps),
            "sparsity": 1 - sum(s["nonzeros"] for s in steps) / sum(shapes),
            "formats": sorted({form["format"] for s in steps for form in s["forms"]}),
        }

    def _disk_bytes(self) -> int:
        path = Path(self.model)
        files = path.glob("*.safetensors") if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files)
