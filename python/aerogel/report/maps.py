"""Maps of a model, layers down and kinds of matrices across, and where its bytes are; as HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from aerogel._util.units import megabytes
from aerogel.report.facts import ReportFacts, TensorFacts

#: Cells carry their number up to so many columns; the tooltip has it always.
WIDEST_WITH_NUMBERS = 16
#: Bars of the chart of bytes, at most; the rest is summed up.
BARS = 14


def heat_maps(facts: ReportFacts) -> str:
    """Sparsity, error and bits per weight of every matrix; and predicted milliseconds, where all are known."""
    matrices = [t for t in facts.tensors if t.is_matrix and t.layer is not None]
    if not matrices:
        return ""
    parts = [
        _map("Sparsity", "share of weights that are zero", matrices, lambda t: t.sparsity, lambda v: f"{v:.0%}", 1.0),
        _map("Error", "‖w − stored‖ / ‖w‖", matrices, lambda t: t.error, lambda v: f"{v:.2f}"),
        _map("Bits per weight", "in the file, with masks and scales", matrices, lambda t: t.bits, lambda v: f"{v:.1f}"),
    ]
    if all(t.predicted_ms is not None for t in matrices):
        parts.append(
            _map("Time", "predicted milliseconds", matrices, lambda t: t.predicted_ms or 0.0, lambda v: f"{v:.2f}")
        )
    return f'<div class="maps">{"".join(parts)}</div>'


def _map(
    title: str,
    what: str,
    matrices: Sequence[TensorFacts],
    value: Callable[[TensorFacts], float],
    form: Callable[[float], str],
    most: float | None = None,
) -> str:
    kinds = list(dict.fromkeys(t.kind for t in matrices))
    layers = sorted({t.layer for t in matrices if t.layer is not None})
    cells = {(t.layer, t.kind): t for t in matrices}
    top = most or max(value(t) for t in matrices) or 1.0
    rows = []
    for layer in layers:
        row = [f"<th scope=row>{layer}</th>"]
        for kind in kinds:
            tensor = cells.get((layer, kind))
            if tensor is None:
                row.append("<td></td>")
                continue
            share = min(1.0, max(0.0, value(tensor) / top))
            tip = f"{tensor.name}: {form(value(tensor))}"
            text = form(value(tensor)) if len(kinds) <= WIDEST_WITH_NUMBERS else ""
            dark = " class=hot" if share > 0.55 else ""
            row.append(f'<td{dark} style="--v:{100 * share:.1f}%" title="{escape(tip)}">{text}</td>')
        rows.append(f"<tr>{''.join(row)}</tr>")
    heads = "".join(f"<th scope=col><span>{escape(short_kind(kind))}</span></th>" for kind in kinds)
    scale = f"0 <i></i> {form(top)}"
    return (
        f"<figure><figcaption><b>{title}</b> <small>{what}</small></figcaption>"
        f'<div class="scroll"><table class="heat"><thead><tr><th>layer</th>{heads}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table></div><p class="scale">{scale}</p></figure>'
    )


def short_kind(kind: str) -> str:
    """A kind of matrix in few letters: words that all have are dropped."""
    words = [w for w in kind.split(".") if w not in ("self", "dense", "attention", "self_attn", "mlp")]
    prefix = "attn " if kind.startswith("attention.output") else "ffn " if kind == "output.dense" else ""
    return prefix + (" ".join(words) or kind).removesuffix("_proj")


def byte_bars(facts: ReportFacts) -> str:
    """Bytes by kind of parameter over all layers, the largest first."""
    sums: dict[str, list[float]] = {}
    for t in facts.tensors:
        name = "norms and biases" if t.role == "kept" else t.kind
        entry = sums.setdefault(name, [0.0, 0.0, 0.0])
        entry[0] += t.bytes
        entry[1] += 1
        entry[2] += 4 * t.size
    ranked = sorted(sums.items(), key=lambda pair: -pair[1][0])
    if len(ranked) > BARS:
        rest = [sum(column) for column in zip(*(entry for _, entry in ranked[BARS - 1 :]))]
        ranked = [*ranked[: BARS - 1], ("all others", rest)]
    top = max((entry[0] for _, entry in ranked), default=0) or 1
    rows = []
    for name, (size, count, dense) in ranked:
        times = f" × {count:.0f}" if count > 1 else ""
        rows.append(
            f'<div class="bar" title="{escape(name)}: {size:,.0f} bytes, float32 {dense:,.0f}">'
            f'<span class="what">{escape(name)}<small>{times}</small></span>'
            f'<span class="track"><i style="width:{100 * size / top:.2f}%"></i></span>'
            f'<span class="figure">{megabytes(size)} <small>{size / max(1, facts.file_bytes):.0%}</small></span></div>'
        )
    return f'<div class="bars">{"".join(rows)}</div>'


def tensor_table(facts: ReportFacts) -> str:
    """Every parameter."""
    extras = list(dict.fromkeys(key for t in facts.tensors for key in t.extras))
    timed = any(t.predicted_ms is not None for t in facts.tensors)
    heads = ["tensor", "shape", "role", *extras, "sparsity", "error", "bits per weight", "bytes"]
    rows = []
    for t in facts.tensors:
        cells = [escape(t.name), " × ".join(map(str, t.shape)), t.role, *(escape(t.extras.get(k, "")) for k in extras)]
        numbers = [f"{t.sparsity:.1%}", f"{t.error:.4f}", f"{t.bits:.2f}", f"{t.bytes:,}"]
        if timed:
            numbers.append("" if t.predicted_ms is None else f"{t.predicted_ms:.3f}")
        rows.append(
            f"<tr>{''.join(f'<td>{c}</td>' for c in cells)}{''.join(f'<td class=n>{c}</td>' for c in numbers)}</tr>"
        )
    if timed:
        heads.append("predicted ms")
    first = len(heads) - 4 - timed
    head = "".join(f"<th{' class=n' if i >= first else ''}>{h}</th>" for i, h in enumerate(heads))
    return (
        f"<details><summary>All {len(facts.tensors)} tensors</summary>"
        f'<div class="scroll"><table class="list"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></details>"
    )
