"""Which formats serve a linear layer best: measured on this CPU, and remembered.

A sparse kernel that wins on one CPU, shape and number of rows loses on another, so nothing is assumed: the formats that
may serve a layer are packed and run against each other, once for every kind of layer, and the times are kept in a file.
`choose` then picks one form of the weights, or two (one for few rows, one for many), so that none of the measured numbers of
rows is slower than dense.

AEROGEL_TUNE=off goes by the sparsity alone, without measuring. AEROGEL_CACHE names the folder of the file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import sys
import tempfile
import threading
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from aerogel import _core
from aerogel._version import __version__
from aerogel.errors import AerogelError

log = logging.getLogger("aerogel")

#: Row counts that are measured; between them times are interpolated.
ROWS = (1, 4, 16, 32, 128)
#: How much each row count matters to a model that reads texts, and to one that writes token by token.
PURPOSES: Mapping[str, Mapping[int, float]] = {
    "encode": {1: 0.25, 4: 0.5, 16: 1, 32: 1, 128: 1.5},
    "generate": {1: 2, 4: 0.5, 16: 0.5, 32: 0.5, 128: 1},
}
#: Below this sparsity no sparse kernel has won anywhere, so nothing is measured.
WORTH_MEASURING = 0.25
#: A form that takes as much memory as the dense one must save this part of the time to be worth it.
MEMORY_WORTH = 0.04
#: Noise that a choice looks away from.
NOISE = 0.03

#: Formats that can hold a kind of numbers; the dense one first.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "int8": ("dense_q8", "gathered_q8", "quads_q8", "masked_q8", "blocks_q8"),
    "bf16": ("dense_bf16", "masked_bf16", "csr_f32"),
    "float32": ("dense_f32", "csr_f32"),
}
Forms = list[tuple[str, "int | None"]]


@dataclass(frozen=True)
class Layer:
    """A kind of layer: layers that agree in this share their measurement.

    Attributes:
        numbers: "int8", "bf16" or "float32".
        n: outputs.
        k: inputs.
        sparsity: fraction of zeros, rounded.
        pattern: how the zeros lie, see `pattern_name`.
        threads: of the team that runs it.
        streamed: the model does not fit in the caches, so that weights come from DRAM whenever few tokens are run.
    """

    numbers: str
    n: int
    k: int
    sparsity: float
    pattern: str
    threads: int
    streamed: bool = False

    def __str__(self) -> str:
        where = "streamed" if self.streamed else "cached"
        return f"{self.numbers} {self.n}x{self.k} {self.sparsity:.1%} {self.pattern} {self.threads} threads {where}"


@dataclass
class Times:
    """What was measured of one kind of layer: seconds by format and number of rows, and bytes by format."""

    seconds: dict[str, dict[int, float]] = field(default_factory=dict)
    nbytes: dict[str, int] = field(default_factory=dict)

    def at(self, format: str, rows: int) -> float:
        """Seconds of a call with `rows` rows, interpolated between those measured, beyond them in proportion."""
        measured = self.seconds[format]
        known = sorted(measured)
        if rows >= known[-1]:
            return measured[known[-1]] * rows / known[-1]
        points = np.log([measured[r] for r in known])
        return float(np.exp(np.interp(math.log(max(rows, known[0])), np.log(known), points)))

    def of(self, forms: Forms, rows: int) -> float:
        """Seconds of a call with `rows` rows in the form that serves them."""
        return self.at(serving(forms, rows), rows)


def serving(forms: Forms, rows: int) -> str:
    """The format that runs a call with so many rows."""
    return next(format for format, most in forms if most is None or rows <= most)


def dense_format(numbers: str) -> str:
    """The dense format of a kind of numbers."""
    return FORMATS[numbers][0]


def candidates(numbers: str) -> list[str]:
    """Formats that can serve such values here; the scalar reference is no rival of vectors, so it is left out."""
    isas = {row["format"]: row["isa"] for row in _core.linear_formats()}
    dense = dense_format(numbers)
    return [format for format in FORMATS[numbers] if isas[format] != "scalar" or isas[dense] == "scalar"]


def formats_of(layer: Layer) -> list[str]:
    """The formats that are measured for a kind of layer."""
    return [f for f in candidates(layer.numbers) if layer.pattern == "1x4" or not f.startswith("blocks")]


def pattern_name(facts: Mapping[str, int], n: int, k: int) -> str:
    """ "Q:64", "2:4", "4:8", "1x4" or "unstructured", from `WeightSource.pattern`.

    A pattern has its name if it is also filled: 5 % more zeros than it asks for are overlooked.
    """
    nonzeros = facts["nonzeros"]
    if not nonzeros:
        return "empty"
    if nonzeros >= 0.9 * 4 * facts["blocks4"]:
        return "1x4"
    for name, most, width in (("2:4", 2, 4), ("4:8", 4, 8)):
        if facts[f"most_in_{width}"] == most and nonzeros >= 0.95 * most * n * k / width:
            return name
    most = facts["most_in_64"]
    if most < 64 and nonzeros >= 0.95 * most * n * k / 64:
        return f"{most}:64"
    return "unstructured"


def layer_of(source: _core.WeightSource, threads: int, streamed: bool = False) -> Layer:
    """The kind of layer that a source makes."""
    facts = source.pattern() if source.sparsity >= WORTH_MEASURING else None
    return layer_named(source.numbers, source.n, source.k, source.sparsity, facts, threads, streamed)


def layer_named(
    numbers: str, n: int, k: int, sparsity: float, facts: Mapping[str, int] | None, threads: int, streamed: bool
) -> Layer:
    """The kind of a layer with such zeros; `facts` are those of its pattern."""
    if sparsity < WORTH_MEASURING or facts is None:
        return Layer(numbers, n, k, 0.0, "dense", threads, streamed)
    step = 0.05 if sparsity < 0.875 else 0.025
    rounded = min(1.0, round(round(sparsity / step) * step, 3))
    return Layer(numbers, n, k, rounded, pattern_name(facts, n, k), threads, streamed)


def choose(times: Times, weights: Mapping[int, float], dense: str, memory: float | None = None) -> Forms:
    """The forms of least time over the row counts that matter.

    Every form and pair of forms is a choice. Those that are slower than dense at some number of rows, or take more than
    `memory`, are only taken if nothing else is left.

    Args:
        times: of every candidate, the dense one included.
        weights: how much each measured row count matters.
        dense: name of the dense format.
        memory: most bytes that the layer may take, as a multiple of its dense form; None: no limit.

    Returns:
        (format, max_rows) by rising max_rows; the last one serves any number, None.
    """
    rows = sorted(weights)
    best = {r: min(times.seconds[f][r] for f in times.seconds) for r in rows}
    unit = times.nbytes[dense]

    def cost(forms: Forms) -> tuple[bool, bool, float, int]:
        nbytes = sum(times.nbytes[format] for format, _ in forms)
        over = memory is not None and nbytes > memory * unit
        taken = {r: times.seconds[serving(forms, r)][r] for r in rows}
        slower = any(taken[r] > (1 + NOISE) * times.seconds[dense][r] for r in rows)
        relative = sum(weights[r] * taken[r] / best[r] for r in rows) / sum(weights.values())
        # Over the limit, the smallest; else the fastest of those that beat dense everywhere, if there are any.
        return (over, slower, nbytes if over else relative + MEMORY_WORTH * nbytes / unit, len(forms))

    options: list[Forms] = [[(format, None)] for format in times.seconds]
    for few in times.seconds:
        for many in times.seconds:
            if few != many:
                options += [
                    [(few, _crossing(times, few, many, low, high)), (many, None)]
                    for low, high in zip(rows, rows[1:], strict=False)
                ]
    return min(options, key=cost)


def _crossing(times: Times, few: str, many: str, low: int, high: int) -> int:
    """The number of rows in [low, high) up to which `few` is the faster one, from the times at both ends."""
    ahead = math.log(times.seconds[many][low] / times.seconds[few][low])
    behind = math.log(times.seconds[few][high] / times.seconds[many][high])
    if ahead <= 0 or behind <= 0:  # they do not cross here: the choice may still be the best one
        return low
    share = ahead / (ahead + behind)
    return min(high - 1, int(math.exp(math.log(low) + share * math.log(high / low))))


class Tuner:
    """Measures kinds of layers and remembers them, in memory and in the cache folder.

    Args:
        threads: of the team that will run the layers.
        streamed: see `Layer`.
        memory: see `choose`.
        purpose: "encode" or "generate".
    """

    def __init__(
        self, threads: int, streamed: bool = False, memory: float | None = None, purpose: str = "encode"
    ) -> None:
        if memory is not None and not memory > 0:
            raise AerogelError(f"memory: expected a positive multiple of the dense layer's bytes, got {memory}")
        self.threads = threads
        self.streamed = streamed
        self.memory = memory
        self.weights = PURPOSES[purpose]
        self.measured: list[Layer] = []  # by this tuner, not found in the cache
        if memory is not None and not enabled():
            log.warning("AEROGEL_TUNE=off: formats go by the sparsity alone, the limit of memory is not kept")

    def known(self, source: _core.WeightSource) -> Forms | str | None:
        """The forms for these weights, or None if their kind of layer has to be measured first."""
        if source.sparsity < WORTH_MEASURING:
            return dense_format(source.numbers)
        if not enabled():
            return "auto"
        times = remembered(layer_of(source, self.threads, self.streamed))
        return None if times is None else self._choose(source, times)

    def measure(self, source: _core.WeightSource) -> Forms:
        """The forms for these weights, measured on them. Nothing else of this process should run meanwhile."""
        layer = layer_of(source, self.threads, self.streamed)
        times = measured(source, layer)
        self.measured.append(layer)
        return self._choose(source, times)

    def _choose(self, source: _core.WeightSource, times: Times) -> Forms:
        return choose(times, self.weights, dense_format(source.numbers), self.memory)


def enabled() -> bool:
    """Whether AEROGEL_TUNE allows measuring."""
    value = os.environ.get("AEROGEL_TUNE", "on")
    if value not in ("on", "off"):
        raise AerogelError(f"AEROGEL_TUNE: expected on or off, got {value!r}")
    return value == "on"


def remembered(layer: Layer) -> Times | None:
    """The times of a kind of layer, if they are known."""
    return _Cache.shared().get(layer)


def measured(source: _core.WeightSource, layer: Layer) -> Times:
    """The times of a kind of layer: remembered ones, or measured on these weights and remembered."""
    times = remembered(layer)
    if times is None:
        times = _measure(source, layer)
        _Cache.shared().put(layer, times)
    return times


@dataclass(frozen=True)
class Curve:
    """Dense against the best sparse format of one shape, over sparsities of random patterns; seconds of a call."""

    sparsities: tuple[float, ...]
    dense: tuple[float, ...]
    sparse: tuple[float, ...]

    def gain(self, sparsity: float) -> float:
        """How many times faster than dense the best sparse format is, interpolated."""
        gains = [d / s for d, s in zip(self.dense, self.sparse, strict=True)]
        return float(np.interp(sparsity, self.sparsities, gains))

    @property
    def wins_from(self) -> float | None:
        """The sparsity from which on sparse wins; None if it never does. At most the lowest one measured."""
        ahead = [s < d for d, s in zip(self.dense, self.sparse, strict=True)]
        if not ahead[-1]:
            return None
        last = max((i for i, won in enumerate(ahead) if not won), default=-1)  # dense wins here for the last time
        if last < 0:
            return self.sparsities[0]
        low, high = self.sparsities[last], self.sparsities[last + 1]
        behind, gained = self.sparse[last] / self.dense[last] - 1, 1 - self.sparse[last + 1] / self.dense[last + 1]
        return low + (high - low) * behind / (behind + gained)


#: Where curves are measured.
SPARSITIES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
#: Curves of larger layers are measured on fewer outputs: their course is the same.
CURVE_WEIGHTS = 1 << 22


def curve(numbers: str, n: int, k: int, rows: int, threads: int, streamed: bool = False) -> Curve | None:
    """The curve of a shape at a number of rows, measured now or remembered; None if no sparse format serves here."""
    part = min(n, max(64, CURVE_WEIGHTS // k // 64 * 64))
    dense, sparse = [], []
    for sparsity in SPARSITIES:
        layer = Layer(numbers, part, k, sparsity, "unstructured", threads, streamed)
        if len(formats_of(layer)) == 1:
            return None
        source, alive = random_source(numbers, part, k, sparsity)
        times = measured(source, layer)
        del alive
        dense.append(n / part * times.at(dense_format(numbers), rows))
        sparse.append(n / part * min(times.at(f, rows) for f in times.seconds if f != dense_format(numbers)))
    return Curve(SPARSITIES, tuple(dense), tuple(sparse))


def random_source(
    numbers: str, n: int, k: int, sparsity: float, seed: int = 0
) -> tuple[_core.WeightSource, list[np.ndarray]]:
    """Gaussian weights [n, k] without the smallest, as magnitude pruning leaves them, and what must be kept alive."""
    w = np.random.default_rng(seed).standard_normal((n, k), np.float32)
    if sparsity:
        w[np.abs(w) < np.quantile(np.abs(w[: max(1, 2**20 // k)]), sparsity)] = 0
    source = _core.WeightSource(k)
    if numbers == "bf16":
        codes = (w.view(np.uint32) >> 16).astype(np.uint16)
        source.add_dense("random", codes)
        return source, [codes]
    if numbers == "float32":
        source.add_dense("random", w)
        return source, [w]
    scale = np.full(n, 0.03, np.float32)
    codes = np.clip(np.rint(w / 0.03), -127, 127).astype(np.int8)
    codes[(codes == 0) & (w != 0)] = 1
    source.add_dense_q8("random", codes, scale)
    return source, [codes, scale]


def _measure(source: _core.WeightSource, layer: Layer) -> Times:
    formats = formats_of(layer)
    packed = [_core.pack(source, format) for format in formats]
    times = Times({f: {} for f in formats}, {f: w.nbytes for f, w in zip(formats, packed, strict=True)})
    for rows in ROWS:
        # Few rows on a big model: the weights come from DRAM, so what they find in the caches is thrown out.
        evict = 2 * cache_bytes() if layer.streamed and rows <= 16 else 0
        samples = _core.time_linears(packed, rows, layer.threads, rounds=25, seconds=0.03, evict_bytes=evict)
        for format, row in zip(formats, samples, strict=True):
            times.seconds[format][rows] = float(np.quantile(row, 0.25))
    return times


def cache_bytes() -> int:
    """Bytes of this CPU's largest cache; 32 MB where the system does not say."""
    sizes = [0]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        try:
            text = file.read_text(encoding="ascii").strip()
            sizes.append(int(text[:-1]) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[text[-1]])
        except (OSError, ValueError, KeyError):
            continue
    return max(sizes) or 32 << 20


def cache_folder() -> Path:
    """Where measurements are kept: AEROGEL_CACHE, or the user's cache folder."""
    if os.environ.get("AEROGEL_CACHE"):
        return Path(os.environ["AEROGEL_CACHE"])
    try:
        if sys.platform == "darwin":
            return Path.home() / "Library/Caches/aerogel"
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aerogel"
    except RuntimeError:  # a user without a home, as in some containers
        return Path(tempfile.gettempdir()) / f"aerogel-{os.getuid()}"


class _Cache:
    """Times by layer: one file for each CPU, instruction set and build, `kernels-<hash>.json`."""

    _shared: dict[Path, _Cache] = {}
    _lock = threading.Lock()

    @classmethod
    def shared(cls) -> _Cache:
        """The cache of this process and cache folder."""
        with cls._lock:
            file = cache_folder() / f"kernels-{_fingerprint()}.json"
            if file not in cls._shared:
                cls._shared[file] = cls(file)
            return cls._shared[file]

    def __init__(self, file: Path) -> None:
        self._file = file
        self._times = self._read()
        self._writing = threading.Lock()

    def get(self, layer: Layer) -> Times | None:
        times = self._times.get(str(layer))
        # Of other formats: from another version of this file, or not from aerogel.
        return times if times is not None and set(times.seconds) == set(formats_of(layer)) else None

    def put(self, layer: Layer, times: Times) -> None:
        with self._writing:
            # Another process may have written meanwhile: its layers are kept.
            self._times = {**self._read(), **self._times, str(layer): times}
            self._write()

    def _read(self) -> dict[str, Times]:
        try:
            layers = json.loads(self._file.read_text(encoding="utf-8"))["layers"]
            return {name: _times_of(values) for name, values in layers.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            log.warning("%s: not usable (%s), kernels are measured again", self._file, error)
            return {}

    def _write(self) -> None:
        content = {
            "aerogel": __version__,
            "cpu": _core.cpu_name(),
            "isa": _core.isa(),
            "layers": {name: asdict(times) for name, times in self._times.items()},
        }
        # A name that nobody else has: containers that share the folder may share their process numbers too.
        partial = self._file.with_name(f"{self._file.name}.{uuid.uuid4().hex}")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            os.replace(partial, self._file)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink()
            log.info("%s: cannot be written (%s): kernels are measured again next time", self._file, error)


def _times_of(values: Mapping[str, Any]) -> Times:
    seconds = {f: {int(r): float(s) for r, s in by_rows.items()} for f, by_rows in values["seconds"].items()}
    nbytes = {f: int(values["nbytes"][f]) for f in seconds}
    if not seconds or any(set(by_rows) != set(ROWS) for by_rows in seconds.values()):
        raise ValueError("times are missing")
    if not all(0 < s < math.inf for by_rows in seconds.values() for s in by_rows.values()) or min(nbytes.values()) <= 0:
        raise ValueError("times or bytes are not positive numbers")
    return Times(seconds, nbytes)


def _fingerprint() -> str:
    """Changes with everything that a measurement depends on and that a layer does not say."""
    build = os.stat(_core.__file__)
    facts = [__version__, _core.cpu_name(), _core.isa(), build.st_size, build.st_mtime_ns, *ROWS]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
