"""The page: its parts in order, in one file that needs nothing else."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from importlib import metadata, resources
from pathlib import PurePath
from typing import Any

import yaml

from aerogel._core import cpu_name
from aerogel._core import isa as active_isa
from aerogel._util.units import megabytes, milliseconds
from aerogel._util.version import __version__
from aerogel.evaluate.task import AGREEMENT
from aerogel.report.chart import Dot, scatter
from aerogel.report.facts import ReportFacts
from aerogel.report.maps import byte_bars, heat_maps, tensor_table
from aerogel.sweeps.results import Point, Sweep


def page(facts: ReportFacts | None, sweep: Sweep | None, scores: Sequence[Mapping[str, Any]]) -> str:
    """The whole document."""
    path = facts.path if facts else sweep.source if sweep else ""
    title = PurePath(path).name or "aerogel"
    parts = [f"<h1>{escape(title)}</h1>", _subtitle(facts, sweep)]
    if facts:
        parts.append(_tiles(facts, scores))
    elif sweep:
        parts.append(_sweep_tiles(sweep))
    for score in scores:
        parts.append(_score(score))
    if sweep:
        parts.append(_sweep(sweep))
    if facts:
        maps = heat_maps(facts)
        if maps:
            parts.append(f"<h2>Layer by layer</h2>{maps}")
        parts.append(f'<h2>Where the bytes are</h2><div class="card">{byte_bars(facts)}</div>')
        parts.append(f"<h2>Every tensor</h2>{tensor_table(facts)}")
    parts.append(_provenance(facts, sweep))
    css = resources.files("aerogel.report").joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} · aerogel</title><style>\n{css}</style></head>\n<body><main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main></body></html>\n"
    )


def _subtitle(facts: ReportFacts | None, sweep: Sweep | None) -> str:
    if facts:
        return '<p class="soft">Compressed by aerogel: what was removed, what it cost, and where the bytes are.</p>'
    assert sweep is not None
    count = sum(not p.dense for p in sweep.points)
    return f'<p class="soft">A sweep of {count} compressions of {escape(sweep.source)}: what each costs and brings.</p>'


def _tile(figure: str, text: str) -> str:
    return f'<div class="tile"><b>{escape(figure)}</b><span>{escape(text)}</span></div>'


def _tiles(facts: ReportFacts, scores: Sequence[Mapping[str, Any]]) -> str:
    tiles = [
        _tile(megabytes(facts.file_bytes), "file of weights"),
        _tile(f"{facts.fp32_bytes / facts.file_bytes:.1f}×", f"smaller than float32, {megabytes(facts.fp32_bytes)}"),
        _tile(f"{facts.int8_bytes / facts.file_bytes:.1f}×", f"smaller than dense int8, {megabytes(facts.int8_bytes)}"),
        _tile(f"{facts.sparsity:.1%}", "of the weights in Transformer layers are zero"),
    ]
    if facts.bits is not None:
        tiles.append(_tile(f"{facts.bits:.2f}", "bits per weight there, masks and scales included"))
    if facts.error is not None:
        tiles.append(_tile(f"{facts.error:.3f}", "relative error of those weights (root mean square)"))
    if facts.predicted_ms is not None:
        tiles.append(_tile(f"{milliseconds(facts.predicted_ms)} ms", "predicted time of a forward pass"))
    for score in scores:
        kept = (score.get("against") or {}).get("kept")
        if kept and kept.get("value") is not None:
            what = "of dense's" if score.get("lower_is_better") else "kept of dense's"
            tiles.append(_tile(f"{kept['value']:.1%}", f"{score['metric']} {what}"))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _sweep_tiles(sweep: Sweep) -> str:
    grid = [p for p in sweep.points if not p.dense]
    on_front = sum(a or b for p, a, b in zip(sweep.points, sweep.front("bytes"), sweep.front("ms")) if not p.dense)
    tiles = [_tile(str(len(grid)), "points of the grid"), _tile(str(on_front), "of them on a Pareto front")]
    for p in sweep.points:
        if p.dense and math.isfinite(p.value):
            tiles.append(_tile(_value(p.value), f"{sweep.metric} of {p.name}"))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _score(score: Mapping[str, Any]) -> str:
    rows = []
    against = score.get("against") or {}
    groups = [("", score["figures"]), ("dense ", against.get("dense") or {}), ("", against.get("agreement") or {})]
    if against:
        groups.insert(2, ("", {f"{score['metric']}, over dense's": against["kept"]}))
    for prefix, figures in groups:
        for name, figure in figures.items():
            low, high = figure.get("low"), figure.get("high")
            interval = "" if low is None or high is None else f"{_value(low)} – {_value(high)}"
            cells = f"<td class=n>{_value(figure.get('value'))}</td><td class=n>{interval}</td>"
            rows.append(f"<tr><td>{escape(prefix + AGREEMENT.get(name, name))}</td>{cells}</tr>")
    facts = ", ".join(f"{key} {value}" for key, value in (score.get("facts") or {}).items())
    return (
        f'<h2>Accuracy: {escape(score["task"])}</h2><div class="card scroll"><table class="list"><thead><tr>'
        f"<th>figure</th><th class=n>value</th><th class=n>95 % interval</th></tr></thead><tbody>{''.join(rows)}</tbody>"
        f'</table><p class="soft">{escape(facts)}</p></div>'
    )


def _value(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def _sweep(sweep: Sweep) -> str:
    by_size = _chart(sweep, "bytes", "size of the file, MB", lambda p: p.bytes / 1e6)
    by_time = _chart(sweep, "ms", f"median time, ms ({sweep.case})", lambda p: p.ms)
    charts = "".join(
        f"<figure><figcaption><b>{title}</b></figcaption>{chart}</figure>"
        for title, chart in (("Accuracy against size", by_size), ("Accuracy against time", by_time))
        if chart
    )
    legend = (
        '<p class="legend"><span><svg class="chart" viewBox="0 0 12 12"><g class="best"><circle cx="6" cy="6" r="5"/></g>'
        "</svg>on the Pareto front, with the score's 95 % interval</span>"
        '<span><svg class="chart" viewBox="0 0 12 12"><g class="other"><circle cx="6" cy="6" r="4"/></g></svg>'
        'another is at least as good in both</span><span><svg class="chart" viewBox="0 0 12 12"><g class="other">'
        '<rect x="2.5" y="2.5" width="7" height="7" transform="rotate(45 6 6)"/></g></svg>dense</span></p>'
    )
    notes = "".join(f'<p class="warn">{escape(note)}</p>' for note in sweep.notes)
    return (
        f'<h2>What accuracy costs</h2>{notes}<div class="charts">{charts}</div>{legend}'
        f"<h2>The points</h2>{_points(sweep)}"
    )


def _chart(sweep: Sweep, cost: str, xlabel: str, x: Any) -> str:
    kept = not sweep.lower_is_better and any(math.isfinite(p.kept()) for p in sweep.points)

    def y(p: Point) -> float:
        return 100 * p.kept() if kept else p.value

    dots = []
    for p, front in zip(sweep.points, sweep.front(cost)):
        figures = (p.score or {}).get("figures", {}).get(sweep.metric, {})
        ends = [100 * p.kept(e) for e in ("low", "high")] if kept else [figures.get("low"), figures.get("high")]
        low, high = (math.nan if e is None else e for e in ends)
        tip = f"{p.name}: {sweep.metric} {_value(p.value)}, {p.bytes / 1e6:.2f} MB"
        tip += f", {milliseconds(p.ms)} ms" if math.isfinite(p.ms) else ""
        dots.append(Dot(p.name, x(p), y(p), low, high, front, p.dense, tip))
    several = any(p.sets for p in sweep.points)  # their figure is what is kept
    ylabel = f"{sweep.metric}{'' if several else ' kept'}, % of dense fp32" if kept else sweep.metric
    return scatter(dots, xlabel, ylabel, lambda v: f"{v:g}", lambda v: f"{v:.6g}", sweep.lower_is_better)


def _points(sweep: Sweep) -> str:
    timed = any(p.timing for p in sweep.points)
    sets = list(dict.fromkeys(name for p in sweep.points for name in p.sets))
    kept = not sets and any(math.isfinite(p.kept()) for p in sweep.points)
    cosine = any(row.get("cosine_mean") is not None for row in sweep.rows())
    heads = ["point", "sparsity", "size", "× smaller", sweep.metric, "95 % interval"]
    heads += [escape(name) for name in sets]
    heads += (["of dense" if sweep.lower_is_better else "kept"] if kept else []) + (
        ["cosine to dense"] if cosine else []
    )
    heads += (["ms", "× dense int8"] if timed else []) + ["best at its"]
    base = next((p.bytes for p in sweep.points if p.dense and math.isfinite(p.bytes)), math.nan)
    lines = []
    table = zip(sweep.points, sweep.rows(), sweep.front("bytes"), sweep.front("ms"), sweep.warnings())
    for p, row, small, fast, warned in table:
        low, high = row[f"{sweep.metric}_low"], row[f"{sweep.metric}_high"]
        cells = [
            f"{p.sparsity:.1%}" if math.isfinite(p.sparsity) else "–",
            megabytes(p.bytes) if math.isfinite(p.bytes) else "–",
            f"{base / p.bytes:.1f}" if math.isfinite(base / p.bytes) else "–",
            _value(p.value),
            "" if low is None or high is None else f"{_value(low)} – {_value(high)}",
        ]
        cells += [_value(p.sets.get(name)) for name in sets]
        if kept:
            cells.append(f"{p.kept():.2%}" if math.isfinite(p.kept()) else "–")
        if cosine:
            cells.append(_value(row.get("cosine_mean")))
        if timed:
            cells.append(milliseconds(p.ms) if math.isfinite(p.ms) else "–")
            cells.append(f"{row['speedup']:.2f}" if row["speedup"] else "–")
        marks = "".join(f'<span class="mark">{text}</span>' for text, on in (("size", small), ("time", fast)) if on)
        marks += "".join(f'<span class="mark warn">{escape(text)}</span>' for text in warned)
        if p.error:
            marks += f'<span class="mark warn">{escape(p.error)}</span>'
        kind = " ".join(name for name, on in (("best", small or fast), ("dense", p.dense)) if on)
        numbers = "".join(f"<td class=n>{cell}</td>" for cell in cells)
        lines.append(f'<tr class="{kind}"><td>{escape(p.name)}</td>{numbers}<td>{marks}</td></tr>')
    head = "".join(f"<th{' class=n' if 0 < i < len(heads) - 1 else ''}>{h}</th>" for i, h in enumerate(heads))
    return (
        f'<div class="card scroll"><table class="list"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _provenance(facts: ReportFacts | None, sweep: Sweep | None) -> str:
    here = sweep.machine if sweep else {}
    entries = {
        "aerogel": here.get("aerogel", __version__),
        "Python": here.get("python", platform.python_version()),
        "NumPy": here.get("numpy", metadata.version("numpy")),
        "CPU": here.get("cpu", cpu_name()),
        "instruction set": here.get("isa", active_isa()),
        "threads": here.get("threads", ""),
        "when": here.get("when", datetime.now(timezone.utc).isoformat(timespec="seconds")),
        "seconds": f"{facts.seconds:.1f}" if facts and facts.seconds is not None else "",
        "folder": facts.path if facts else "",
    }
    rows = "".join(f"<dt>{key}</dt><dd>{escape(str(value))}</dd>" for key, value in entries.items() if value != "")
    recipe = ""
    if facts and facts.recipe:
        text = yaml.safe_dump(facts.recipe, sort_keys=False, allow_unicode=True)
        recipe = f'<div class="card"><p><b>Recipe</b></p><pre>{escape(text)}</pre></div>'
    return f'<h2>How it was made</h2><div class="two">{recipe}<div class="card"><dl>{rows}</dl></div></div>'
