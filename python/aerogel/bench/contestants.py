"""Who takes part: a model's dense and sparse forms, and the installed peers with the same weights."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from aerogel._core import default_threads as process_threads
from aerogel._util.cache import cache_folder
from aerogel.bench import serve
from aerogel.bench.peers import PEERS, file_key
from aerogel.checkpoint import Checkpoint, open_checkpoint
from aerogel.checkpoint.packed.format import is_packed
from aerogel.compression import KEPT_FILES, pack
from aerogel.compression.recipe import Prune, Quantize, Recipe
from aerogel.errors import AerogelError, TokenizerError

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


@dataclass(frozen=True)
class Variant:
    """A packed model under a name, with the kernel format it is loaded in."""

    name: str
    path: str
    format: str = "auto"
    precision: str = "int8"


@dataclass
class Peers:
    """Which peers were asked for.

    Attributes:
        names: "none", "auto" (all that are installed), or names, each perhaps with its precision: "torch,openvino:int8".
        pythons: interpreters of other environments, by peer.
        skipped: why some do not take part, one line each.
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


def kind_of(checkpoint: Checkpoint) -> str:
    from aerogel.architectures import architecture_of

    architecture = architecture_of(checkpoint)
    return "decoder" if architecture.generates else "encoder"


def dense_variants(source: str | os.PathLike[str], work: Path, threads: int | None) -> list[Variant]:
    """Dense fp32 and dense int8 forms of a model, written under `work`."""
    checkpoint = open_checkpoint(source)
    variants = []
    for name, quant, precision in (("dense fp32", "none", "fp32"), ("dense int8", "int8", "int8")):
        path = work / name.replace(" ", "-")
        pack(checkpoint, path, _unpruned(quant), sparse=False, threads=threads)
        variants.append(Variant(name, str(path), "dense", precision))
    return variants


def model_variants(
    folder: str | os.PathLike[str], dense: str | os.PathLike[str] | None, work: Path, threads: int | None
) -> list[Variant]:
    """Dense fp32, dense int8 and the packed model itself, "sparse" or named by its scheme, or int8 of a checkpoint with
    the zeros that it has."""
    variants = dense_variants(dense or folder, work, threads)
    checkpoint = open_checkpoint(folder)
    if is_packed(checkpoint.path):
        recipe = checkpoint.config["quantization_config"].get("recipe") or {}
        weights = recipe.get("quant") or (recipe.get("quantize") or {}).get(
            "weights"
        )  # older packed models, and newer ones
        precision = "fp32" if weights == "none" else "int8"  # of the products; 4 bits and codebooks run as int8
        name = "sparse" if weights in (None, "int8", "none") else f"packed {weights}"
        return [*variants, Variant(name, os.fspath(folder), "auto", precision)]
    path = work / "sparse"
    pack(checkpoint, path, _unpruned("int8"), threads=threads)
    return [*variants, Variant("sparse", str(path))]


def _unpruned(quant: str) -> Recipe:
    return Recipe(prune=Prune(sparsity=0.0), quantize=Quantize(weights=quant))


def own_contestants(variants: Sequence[Variant], kind: str, threads: int) -> list[Contestant]:
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
    job = {"kind": kind, "threads": threads, "cache": str(cache), "key": f"{kind}-{file_key(weights)}"}
    job["onnx"] = f"{job['key']}.onnx"
    job["calibration"] = str(cache / f"{job['key']}-calibration.npz")
    np.savez(job["calibration"], *inputs)
    return _prepared(
        peers,
        chosen,
        job,
        {
            "folder": lambda: _plain_folder(Path(variants[0].path)),
            "gguf": lambda: _gguf(source),
            "onnx": lambda: _plain_folder(Path(variants[0].path)),
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
    random = np.random.default_rng(0)
    if weights is None:
        weights = random.standard_normal((n, k), np.float32) / np.float32(np.sqrt(k))
    files = {}
    for sparsity in sparsities:
        files[sparsity] = work / f"{n}x{k}-{sparsity:g}.npz"
        np.savez(files[sparsity], weight=pruned(weights, sparsity))
    np.savez(work / "calibration.npz", random.standard_normal((256, k), np.float32))

    def job(sparsity: float, precision: str, format: str = "auto") -> dict[str, Any]:
        return {
            "kind": "linear",
            "precision": precision,
            "threads": threads,
            "model": str(files[sparsity]),
            "cache": str(work),
            "format": format,
            "key": files[sparsity].stem,
            "onnx": f"{files[sparsity].stem}.onnx",
            "calibration": str(work / "calibration.npz"),
        }

    first = sparsities[0]
    found = [
        Contestant("dense fp32", "aerogel", job(first, "fp32", "dense_f32"), str(first)),
        Contestant("dense int8", "aerogel", job(first, "int8", "dense_q8"), str(first)),
    ]
    for precision in ("int8", "fp32"):
        found += [Contestant(f"sparse {precision} {s:.0%}", "aerogel", job(s, precision), str(s)) for s in sparsities]
    for name, precision in peers.choose("linear"):
        peer = PEERS[name]
        for sparsity in sparsities if peer.sparse else [first]:
            at = f" {sparsity:.0%}" if peer.sparse else ""
            entry = job(sparsity, precision)
            try:
                if peer.needs == "onnx":
                    _export(entry)
            except AerogelError as error:
                peers.skipped.append(f"{name}: {error}")
                continue
            found.append(
                Contestant(f"{name} {precision}{at}", name, entry, str(sparsity), True, peers.pythons.get(name))
            )
    return found


def pruned(weights: np.ndarray, sparsity: float) -> np.ndarray:
    """The weights with the smallest of them removed."""
    weights = weights.copy()
    drop = round(sparsity * weights.size)
    if drop:
        weights.reshape(-1)[np.argpartition(np.abs(weights).reshape(-1), drop - 1)[:drop]] = 0
    return weights


def sentences() -> dict[str, list[str]]:
    """The sentences that come with the package, by topic."""
    found: dict[str, list[str]] = {}
    topic = ""
    for line in (
        resources.files("aerogel.bench").joinpath("data/sentences.txt").read_text(encoding="utf-8").splitlines()
    ):
        if line.startswith("# "):
            topic = line[2:]
        elif line:
            found.setdefault(topic, []).append(line)
    return found


def text_ids(checkpoint: Checkpoint, vocab_size: int, sequences: int, tokens: int) -> np.ndarray:
    """int64 [sequences, tokens]: running text, each row from another place; random ids without a tokenizer."""
    try:
        tokenizer = checkpoint.tokenizer()
    except TokenizerError:
        return np.random.default_rng(0).integers(0, vocab_size, (sequences, tokens))
    lines = [line for group in sentences().values() for line in group]
    around = tokenizer.encode([""])[0]  # special tokens, if the model has some
    head, tail = around[: len(around) // 2], around[len(around) // 2 :]
    if len(around) + 1 > tokens:
        head = tail = []
    end = -len(tail) or None
    text = np.concatenate([np.asarray(ids[len(head) : end], np.int64) for ids in tokenizer.encode(lines)])
    rows = []
    for i in range(sequences):
        body = text[(29 * i + np.arange(tokens - len(head) - len(tail))) % len(text)]
        rows.append(np.concatenate([np.asarray(head, np.int64), body, np.asarray(tail, np.int64)]))
    return np.stack(rows)


def peer_cache() -> Path:
    """Where conversions for peers stay, named by the weights' content."""
    folder = cache_folder() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
                _export(entry)
        except AerogelError as error:
            peers.skipped.append(f"{name}: {error}")
            continue
        found.append(Contestant(f"{name} {precision}", name, entry, reference, True, peers.pythons.get(name)))
    return found


def _export(job: Mapping[str, Any]) -> None:
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


_EXPORTERS = {"encoder": ("torch", "transformers", "onnx"), "linear": ("onnx",)}


def _plain_folder(packed: Path) -> Path:
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
    import shutil

    with source.open("rb") as file, target.open("wb") as out:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        header["__metadata__"] = {"format": "pt"}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(len(text) + 8) % 64)
        out.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(file, out, 1 << 20)


def _gguf(source: Path) -> Path:
    if source.suffix != ".gguf":
        raise AerogelError("takes a .gguf file, and this model is none")
    return source


def default_threads(threads: int | None) -> int:
    return threads or process_threads()
