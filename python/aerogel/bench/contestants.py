"""Who takes part: aerogel with a model's variants or a layer's, and the installed peers with the same weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aerogel.bench.conversions import export_onnx, gguf_file, peer_cache, plain_folder
from aerogel.bench.peers import PEERS, file_key
from aerogel.bench.variants import Variant
from aerogel.errors import AerogelError

#: Least cosine to dense fp32 of the same weights. It tells another model's answers, not poor ones: the table shows the
#: figure itself. Measured on MiniLM without VNNI: ONNX Runtime int8 0.98, OpenVINO 0.99, PyTorch 0.95.
MIN_COSINE = {"fp32": 0.999, "int8": 0.85}


@dataclass(frozen=True)
class Contestant:
    """One row of the tables.

    Attributes:
        name: how it is called.
        engine: a file in `peers`.
        job: see `peers.Engine`.
        reference: the contestant whose answers it must give, or None.
        foreign: a peer: if its answers are another model's it is not timed.
        python: the interpreter that has the engine; None: this one.
    """

    name: str
    engine: str
    job: Mapping[str, Any]
    reference: str | None = None
    foreign: bool = False
    python: str | None = None


@dataclass
class Peers:
    """The other engines to compare with.

    Attributes:
        names: "none", "auto" (all that are installed), or names, each perhaps with its precision: "torch,openvino:int8".
        pythons: interpreters of other environments, by peer.
        skipped: why some are left out, one line each.
    """

    names: str = "none"
    pythons: Mapping[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        asked = [] if self.names in ("none", "auto") else self.names.split(",")
        self._asked = [entry.strip().partition(":") for entry in asked]
        for name in [*(name for name, _, _ in self._asked), *self.pythons]:
            if name not in PEERS:
                raise AerogelError(f"peer {name!r} is unknown: expected none, auto or some of {', '.join(PEERS)}")
        for name, _, precision in self._asked:
            known = sorted({p for precisions in PEERS[name].kinds.values() for p in precisions})
            if precision and precision not in known:
                raise AerogelError(f"peer {name}: expected a precision of {', '.join(known)}, got {precision!r}")

    def choose(self, kind: str) -> list[tuple[str, str]]:
        """(peer, precision) of those that run models of this kind and are there."""
        if self.names == "none":
            return []
        chosen = []
        for name, _, wanted in self._asked or [(name, "", "") for name in PEERS]:
            peer = PEERS[name]
            if kind not in peer.kinds:
                if self._asked:
                    self.skipped.append(f"{name}: does not run {kind} models here")
            elif name not in self.pythons and importlib.util.find_spec(name) is None:
                if self._asked:
                    raise AerogelError(f"peer {name} is not installed: pip install {peer.distribution}")
                self.skipped.append(f"{name}: not installed ({peer.distribution})")
            else:
                chosen += [(name, p) for p in peer.kinds[kind] if wanted in ("", p)]
        return chosen


def own_contestants(
    variants: Sequence[Variant], kind: str, threads: int, kv_cache: str | None = None
) -> list[Contestant]:
    """Aerogel with each of them; cosines are taken to the first."""
    return [
        Contestant(
            v.name,
            "aerogel",
            {
                "kind": kind,
                "precision": v.precision,
                "threads": threads,
                "model": v.path,
                "cache": "",
                "format": v.format,
                "kv_cache": kv_cache,
            },
            variants[0].name,
        )
        for v in variants
    ]


def peer_contestants(
    peers: Peers, variants: Sequence[Variant], source: Path, kind: str, threads: int, inputs: Sequence[np.ndarray]
) -> list[Contestant]:
    """The peers, with the weights of the first variant, which is dense fp32."""
    chosen = peers.choose(kind)
    if not chosen:
        return []
    weights = Path(variants[0].path) / "model.safetensors"
    cache = peer_cache()
    job: dict[str, Any] = {"kind": kind, "threads": threads, "cache": str(cache), "key": f"{kind}-{file_key(weights)}"}
    job["onnx"] = f"{job['key']}.onnx"
    job["calibration"] = str(cache / f"{job['key']}-calibration.npz")
    np.savez(job["calibration"], *inputs)
    return _prepared(
        peers,
        chosen,
        job,
        {
            "folder": lambda: plain_folder(Path(variants[0].path)),
            "gguf": lambda: gguf_file(source),
            "onnx": lambda: plain_folder(Path(variants[0].path)),
        },
        variants[0].name,
    )


def linear_contestants(
    n: int,
    k: int,
    sparsities: Sequence[float],
    peers: Peers,
    work: Path,
    threads: int,
    weights: np.ndarray | None = None,
) -> list[Contestant]:
    """One linear layer: dense forms with the first sparsity's weights, and sparse ones with each sparsity's."""
    jobs = _LinearJobs(n, k, sparsities, work, threads, weights)
    first = sparsities[0]
    found = [
        Contestant("dense fp32", "aerogel", jobs.of(first, "fp32", "dense_f32"), str(first)),
        Contestant("dense int8", "aerogel", jobs.of(first, "int8", "dense_q8"), str(first)),
    ]
    for precision in ("int8", "fp32"):
        found += [
            Contestant(f"sparse {precision} {s:.0%}", "aerogel", jobs.of(s, precision), str(s)) for s in sparsities
        ]
    for name, precision in peers.choose("linear"):
        peer = PEERS[name]
        for sparsity in sparsities if peer.sparse else [first]:
            at = f" {sparsity:.0%}" if peer.sparse else ""
            job = jobs.of(sparsity, precision)
            try:
                if peer.needs == "onnx":
                    export_onnx(job)
            except AerogelError as error:
                peers.skipped.append(f"{name}: {error}")
                continue
            found.append(Contestant(f"{name} {precision}{at}", name, job, str(sparsity), True, peers.pythons.get(name)))
    return found


class _LinearJobs:
    """What each contestant gets of one layer: weights at each sparsity, and inputs for calibration, in files."""

    def __init__(
        self, n: int, k: int, sparsities: Sequence[float], work: Path, threads: int, weights: np.ndarray | None
    ) -> None:
        random = np.random.default_rng(0)
        if weights is None:
            weights = random.standard_normal((n, k), np.float32) / np.float32(np.sqrt(k))
        self._work, self._threads = work, threads
        self._files = {}
        for sparsity in sparsities:
            self._files[sparsity] = work / f"{n}x{k}-{sparsity:g}.npz"
            np.savez(self._files[sparsity], weight=pruned(weights, sparsity))
        np.savez(work / "calibration.npz", random.standard_normal((256, k), np.float32))

    def of(self, sparsity: float, precision: str, format: str = "auto") -> dict[str, Any]:
        """See `peers.Engine`."""
        file = self._files[sparsity]
        return {
            "kind": "linear",
            "precision": precision,
            "threads": self._threads,
            "model": str(file),
            "cache": str(self._work),
            "format": format,
            "key": file.stem,
            "onnx": f"{file.stem}.onnx",
            "calibration": str(self._work / "calibration.npz"),
        }


def pruned(weights: np.ndarray, sparsity: float) -> np.ndarray:
    """The weights with the smallest of them removed."""
    weights = weights.copy()
    drop = round(sparsity * weights.size)
    if drop:
        weights.reshape(-1)[np.argpartition(np.abs(weights).reshape(-1), drop - 1)[:drop]] = 0
    return weights


def _prepared(
    peers: Peers, chosen: Sequence[tuple[str, str]], job: dict[str, Any], models: Mapping[str, Any], reference: str
) -> list[Contestant]:
    found = []
    for name, precision in chosen:
        needs = PEERS[name].needs
        entry = {**job, "precision": precision}
        try:
            entry["model"] = str(models[needs]())
            if needs == "onnx":
                export_onnx(entry)
        except AerogelError as error:
            peers.skipped.append(f"{name}: {error}")
            continue
        found.append(Contestant(f"{name} {precision}", name, entry, reference, True, peers.pythons.get(name)))
    return found
