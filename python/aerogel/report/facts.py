"""What a page shows of a compression, out of a CompressReport or its plain values: what a report lacks is left out."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from aerogel._util.checks import items, number, shown, whole_number
from aerogel.errors import DataError

#: Fields of a tensor or a report that may be there, for people.
EXTRAS = {"method": "method", "scheme": "scheme", "quant": "scheme", "pattern": "pattern"}
_LAYER = re.compile(r"(?:^|\.)(?:layers?|h|blocks?)\.(\d+)\.")


@dataclass(frozen=True)
class TensorFacts:
    """One parameter. `layer` is None outside the numbered layers; `kind` is its name within its layer."""

    name: str
    shape: tuple[int, ...]
    role: str
    layer: int | None
    kind: str
    sparsity: float
    bytes: int
    error: float
    bits: float
    predicted_ms: float | None
    extras: dict[str, str]

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)

    @property
    def is_matrix(self) -> bool:
        """Whether it is a matrix of a Transformer layer: what the maps show."""
        return self.role == "linear" and len(self.shape) == 2


@dataclass(frozen=True)
class ReportFacts:
    """A compression. Sizes are bytes of the weights' file."""

    path: str
    recipe: dict[str, Any]
    tensors: list[TensorFacts]
    file_bytes: int
    fp32_bytes: int
    int8_bytes: int
    sparsity: float
    bits: float | None
    error: float | None
    predicted_ms: float | None
    seconds: float | None


def _recipe(value: Any) -> Any:
    if value is not None and not isinstance(value, Mapping) and not is_dataclass(value):
        raise DataError(f"report: recipe: expected keys and values, got {shown(value)}")
    return {} if value is None else value


def facts_of(report: Any) -> ReportFacts:
    """The facts of a CompressReport, or of a mapping such as its `as_dict()`."""
    values = report if isinstance(report, Mapping) else _values(report)
    tensors = [_tensor(_mapping(each)) for each in items("report: tensors", values.get("tensors", ()))]
    matrices = [t for t in tensors if t.is_matrix]
    count = sum(t.size for t in matrices)
    int8 = sum(t.size + 4 * t.shape[0] if len(t.shape) == 2 else 4 * t.size for t in tensors)
    energy = sum(t.error**2 * t.size for t in matrices)
    return ReportFacts(
        path=str(values.get("path", "")),
        recipe=_plain(_recipe(values.get("recipe"))),
        tensors=tensors,
        file_bytes=int(values.get("file_bytes") or sum(t.bytes for t in tensors) or 1),
        fp32_bytes=int(values.get("dense_bytes") or 4 * sum(t.size for t in tensors)),
        int8_bytes=int8,
        sparsity=sum(t.sparsity * t.size for t in matrices) / count if count else 0.0,
        bits=sum(t.bits * t.size for t in matrices) / count if count else None,
        error=math.sqrt(energy / count) if count else None,
        predicted_ms=_number(values.get("predicted_ms")),
        seconds=_number(values.get("seconds")),
    )


def _mapping(each: Any) -> Mapping[str, Any]:
    """A tensor's report, or its fields; raises DataError if some are missing."""
    values = each if isinstance(each, Mapping) else _values(each) if is_dataclass(each) else {}
    missing = [key for key in ("name", "shape", "role", "sparsity", "bytes", "error") if key not in values]
    if missing:
        raise DataError(f"report: tensors: expected reports of tensors, got {shown(each)}")
    number("report: sparsity", values["sparsity"], 0, 1, DataError)
    number("report: error", values["error"], 0, error=DataError)
    whole_number("report: bytes", values["bytes"], 0, error=DataError)
    for size in items("report: shape", values["shape"]):
        whole_number("report: shape", size, 0, error=DataError)
    return values


def _tensor(values: Mapping[str, Any]) -> TensorFacts:
    name, shape = str(values["name"]), tuple(int(n) for n in values["shape"])
    found = _LAYER.search(name)
    kind = name[found.end() :] if found else name
    size, nbytes = max(1, math.prod(shape)), int(values["bytes"])
    bits = _number(values.get("bits_per_weight"))
    return TensorFacts(
        name=name,
        shape=shape,
        role=str(getattr(values["role"], "value", values["role"])),
        layer=int(found[1]) if found else None,
        kind=kind.removesuffix(".weight"),
        sparsity=float(values["sparsity"]),
        bytes=nbytes,
        error=float(values["error"]),
        bits=8 * nbytes / size if bits is None else bits,
        predicted_ms=_number(values.get("predicted_ms")),
        extras={EXTRAS[key]: str(values[key]) for key in EXTRAS if values.get(key)},
    )


def _values(thing: Any) -> dict[str, Any]:
    """A dataclass's fields, and the properties that a report may have beside them."""
    found = {f: getattr(thing, f) for f in vars(thing)} if is_dataclass(thing) else dict(vars(thing))
    for key in ("bits_per_weight", "predicted_ms", *EXTRAS):
        if key not in found and getattr(thing, key, None) is not None:
            found[key] = getattr(thing, key)
    return found


def _number(value: Any) -> float | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None


def _plain(value: Any) -> Any:
    """What YAML writes safely."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
