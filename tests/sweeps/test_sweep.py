"""Sweeps of a tiny model. Times come from a stub but for one run, since each contestant is a process."""

import csv
import json
import math
import shutil
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import aerogel
from aerogel import evaluate, sweeps
from aerogel.bench import run as bench_run
from aerogel.cli.app import app
from aerogel.errors import AerogelError, RecipeError

from .. import tiny_models

RUN = sys.modules["aerogel.sweeps.run"]
GRID = "sparsity=0.5,0.8 quant=int8 method=magnitude"


@pytest.fixture
def task(tmp_path):
    random = np.random.default_rng(0)
    lines = [" ".join(random.choice(tiny_models.WORDS, 4)) for _ in range(24)]
    rows = [f"{a},{b},{random.integers(0, 6)}" for a, b in zip(lines[::2], lines[1::2])]
    (tmp_path / "sts.csv").write_text("\n".join(rows))
    return evaluate.Sts(tmp_path / "sts.csv")


@pytest.fixture
def clock(monkeypatch, tmp_path):
    """Times without measuring: sparser is faster; and which models were timed, run by run."""
    monkeypatch.setenv("AEROGEL_CACHE", str(tmp_path / "cache"))
    runs = []

    def timed(variants, **options):
        runs.append([v.name for v in variants])
        found = []
        for v in variants:
            ms = {"dense fp32": 8.0, "dense int8": 2.0}.get(v.name, 1.0) * len(runs)
            figures = {"median": ms, "min": ms, "q1": ms, "q3": ms, "speedup": 2.0 * len(runs) / ms}
            found.append({"name": v.name, "latency_ms": {"case": figures}})
        return {"variants": found, "noise": {"warning": "noisy" if len(runs) > 1 else None}}

    monkeypatch.setattr(RUN, "bench_variants", timed)
    return runs


def test_a_sweep(bert_folder, tmp_path, task, clock):
    steps = []
    found = sweeps.sweep(
        bert_folder, tmp_path / "out", GRID, task, seq=8, keep="all", progress=lambda *step: steps.append(step)
    )
    assert [p.name for p in found.points] == ["dense fp32", "dense int8", "0.5", "0.8"]
    assert clock == [["dense int8", "dense fp32", "0.5", "0.8"]]
    assert steps[-1][0] == steps[-1][1]
    dense = aerogel.load(bert_folder)
    for point in found.points[2:]:
        expected = evaluate.sts(aerogel.load(point.folder), task.files["sts"], against=dense)
        assert point.score == json.loads(json.dumps(expected.as_dict(values=False)))
        assert point.value == expected.value and point.kept() == pytest.approx(expected.against.kept.value)
        assert point.sparsity == pytest.approx(point.point["sparsity"], abs=0.02) and point.ms == 1
    assert found.points[0].kept() == 1 and found.points[0].ms == 8
    assert found.points[0].bytes == found.points[3].report["dense_bytes"] > found.points[1].bytes
    rows = list(csv.DictReader((tmp_path / "out" / "sweep.csv").open()))
    assert [row["name"] for row in rows] == [p.name for p in found.points] and rows[3]["arg_sparsity"] == "0.8"
    written = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert [p["spearman"] for p in written["points"]] == [p.value for p in found.points]


def test_it_goes_on_where_it_was(bert_folder, tmp_path, task, clock, monkeypatch):
    out = tmp_path / "out"
    first = sweeps.sweep(bert_folder, out, "sparsity=0.5", task, seq=8, keep="all")
    made = []
    compress = RUN.compress
    monkeypatch.setattr(RUN, "compress", lambda *a, **k: made.append(k) or compress(*a, **k))
    again = sweeps.sweep(bert_folder, out, "sparsity=0.5", task, seq=8, keep="all")
    assert not made and len(clock) == 1
    assert again.points == first.points
    with pytest.raises(RecipeError, match=r"sweep\.json: is the table of other points too \(1\): give overwrite"):
        sweeps.sweep(bert_folder, out, GRID, task, seq=8, keep="all")
    more = sweeps.sweep(bert_folder, out, GRID, task, seq=8, keep="all", overwrite=True)
    assert [k["sparsity"] for k in made] == [0.5, 0.8], "the same point under other arguments is another"
    assert clock[1] == ["dense int8", "0.5", "0.8"]
    # everything takes twice as long in the second run; dense int8 says so
    assert [p.ms for p in more.points] == [8, 2, 1, 1] and more.points[3].timing["scale"] == 0.5
    assert more.notes == ["noisy"]
    assert sweeps.sweep(bert_folder, out, GRID, task, seq=8, keep="all").notes == ["noisy"], "also of earlier runs"
    made.clear()
    (out / "points" / "sparsity=0.8,quant=int8,method=magnitude" / "result.json").write_text('{"key": ')
    sweeps.sweep(bert_folder, out, GRID, task, seq=8, keep="all")
    assert [k["sparsity"] for k in made] == [0.8], "half a file is no result"
    made.clear()
    with pytest.raises(RecipeError, match="is the table of another model or task"):
        sweeps.sweep(shutil.copytree(bert_folder, tmp_path / "other"), out, GRID, task, seq=8)
    assert not made
    task.files["sts"].write_text("a,b,1\nthe cat,the dog,2\ncat,tree,5\n")
    sweeps.sweep(bert_folder, out, GRID, evaluate.Sts(task.files["sts"]), seq=8)
    assert len(made) == 3, "other data, other scores"


def test_other_lengths_are_timed_without_scoring_again(bert_folder, tmp_path, task, clock, monkeypatch):
    sweeps.sweep(bert_folder, tmp_path / "out", GRID, task, seq=8, keep="all")
    monkeypatch.setattr(RUN, "compress", None)
    sweeps.sweep(bert_folder, tmp_path / "out", GRID, task, seq=16, keep="all")
    assert len(clock) == 2


def test_only_what_is_worth_having_is_kept(bert_folder, tmp_path, task, clock):
    found = sweeps.sweep(bert_folder, tmp_path / "out", GRID, task, seq=8)
    for point, small, fast in list(zip(found.points, found.front("bytes"), found.front("ms")))[2:]:
        assert (point.folder is not None) == (small or fast)
        name = f"sparsity={point.point['sparsity']},quant=int8,method=magnitude"
        assert (tmp_path / "out" / "points" / name / "model").exists() == (small or fast)
    assert any(p.folder for p in found.points[2:])
    gone = [p.name for p in found.points[2:] if not p.folder]
    everything = sweeps.sweep(bert_folder, tmp_path / "out", GRID, task, seq=8, keep="all")
    assert all(p.folder for p in everything.points[2:]) and len(clock) == 1, f"{gone} again, but not timed again"
    assert sweeps.sweep(bert_folder, tmp_path / "out", GRID, task, seq=8, keep="all").points == everything.points
    assert len(clock) == 1


def test_a_point_that_fails_does_not_stop_the_others(bert_folder, tmp_path, task, clock, monkeypatch):
    compress = RUN.compress

    def fails(source, out, **arguments):
        if arguments["sparsity"] == 0.8:
            raise RecipeError("cannot be done")
        return compress(source, out, **arguments)

    monkeypatch.setattr(RUN, "compress", fails)
    found = sweeps.sweep(bert_folder, tmp_path / "out", GRID, task, seq=8)
    assert found.points[3].error == "cannot be done" and math.isnan(found.points[3].value)
    assert found.points[2].error is None and found.points[2].ms == 1
    assert not found.front("bytes")[3] and found.rows()[3]["error"] == "cannot be done"


def test_the_command_says_where_nothing_succeeds(bert_folder, tmp_path, task, clock):
    options = ["-o", tmp_path / "out", "--sts", task.files["sts"], "--seq", 8, "--threads", 1]
    result = CliRunner().invoke(app, [str(x) for x in ["sweep", bert_folder, *options, "--grid", "pattern=4x1"]])
    assert result.exit_code == 1, result.output
    assert "\n4x1: prune.pattern: 4x1 prunes nothing without a sparsity" in result.stdout
    [head] = [line for line in result.stdout.splitlines() if "x dense int8" in line]
    assert len(head) < 120, "no column is as wide as an error"


def test_groups_have_the_baseline_each(bert_folder, tmp_path, task, clock, monkeypatch):
    monkeypatch.setattr(RUN, "GROUP", 3)
    found = sweeps.sweep(bert_folder, tmp_path / "out", GRID, task, seq=8)
    assert clock == [["dense int8", "dense fp32", "0.5"], ["dense int8", "0.8"]]
    assert [p.ms for p in found.points] == [8, 2, 1, 1]


def test_what_is_refused_before_the_work(bert_folder, tmp_path, task, monkeypatch):
    monkeypatch.setattr(RUN, "compress", None)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    for message, out, grid, options in (
        ("sparsty: unknown", "out", "sparsty=0.5", {}),
        ("keep: expected best or all", "out", GRID, {"keep": "none"}),
        ("no sweep's folder", "other", GRID, {}),
        ("seq: expected 1 to 40 tokens", "out", GRID, {"seq": 41}),
    ):
        with pytest.raises(AerogelError, match=message):
            sweeps.sweep(bert_folder, tmp_path / out, grid, task, **options)
    assert not (tmp_path / "out").exists()


def test_a_language_model(llama_folder, tmp_path, clock):
    (tmp_path / "a.txt").write_text(" ".join(np.random.default_rng(0).choice(tiny_models.WORDS, 60)))
    task = evaluate.Text(tmp_path / "a.txt", context=16)
    found = sweeps.sweep(llama_folder, tmp_path / "out", "sparsity=0.5 quant=int8,bf16", task)
    assert found.case == "decode 32" and found.lower_is_better and found.metric == "perplexity"
    assert found.points[1].ms == 2 / 32, "of one token"
    values = [p.value for p in found.points]
    best = found.front("bytes")[values.index(min(values))]
    assert best, "the lowest perplexity is on the front"


def test_the_command_measures(bert_folder, tmp_path, task, monkeypatch):
    monkeypatch.setenv("AEROGEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(bench_run, "TURN_SECONDS", 0.0)
    arguments = [
        "sweep",
        bert_folder,
        "-o",
        tmp_path / "out",
        "--grid",
        "sparsity=0.8 method=magnitude",
        "--sts",
        task.files["sts"],
    ]
    arguments += ["--seq", 8, "--rounds", 1, "-t", 1]
    result = CliRunner().invoke(app, [str(word) for word in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "on the Pareto front" in result.stdout and "dense int8" in result.stdout
    assert "<svg" in (tmp_path / "out" / "index.html").read_text()
    points = json.loads((tmp_path / "out" / "sweep.json").read_text())["points"]
    assert all(p["ms"] > 0 and p["speedup"] > 0 for p in points)


def test_of_several_sets_the_worst_counts(bert_folder, tmp_path, task, clock):
    texts = tmp_path / "words.txt"
    texts.write_text("\n".join(f"{a} {b}" for a in tiny_models.WORDS for b in tiny_models.WORDS[:2]))
    arguments = ["sweep", bert_folder, "-o", tmp_path / "out", "--grid", "sparsity=0.8 method=magnitude", "--seq", 8]
    arguments += ["--sts", task.files["sts"], "--alike", texts]
    result = CliRunner().invoke(app, [str(word) for word in arguments], catch_exceptions=False)
    assert result.exit_code == 0 and "mean" in result.stdout, result.output
    table = json.loads((tmp_path / "out" / "sweep.json").read_text())
    dense, _, sparse = table["points"]
    sets = [sparse["set sts.csv"], sparse["set words.txt"]]
    assert sparse["worst kept"] == min(sets) and sparse["set mean"] == pytest.approx(sum(sets) / 2)
    folder = tmp_path / "out" / "points"
    [model] = [path for path in folder.glob("*/model") if "sparsity" in path.parent.name or "0.8" in path.parent.name]
    domains = evaluate.evaluate_all(aerogel.load(model), [task, evaluate.Alike(texts)], aerogel.load(bert_folder))
    assert sparse["set words.txt"] == pytest.approx(domains.scores["words.txt"].value)
    assert sparse["cosine_mean"] == pytest.approx(domains.worst()["cosine_mean"][1].value)
    assert dense["worst kept"] == pytest.approx(1) and table["metric"] == "worst kept"
    page = (tmp_path / "out" / "index.html").read_text()
    assert "worst kept, % of dense fp32" in page and "words.txt" in page


def test_the_command_needs_a_task(bert_folder, tmp_path):
    result = CliRunner().invoke(app, ["sweep", str(bert_folder), "-o", str(tmp_path), "--grid", GRID])
    assert result.exit_code == 2 and "expected one or more of" in result.stderr


def test_nothing_is_best_that_its_interval_does_not_separate():
    def point(name, size, value, low, high):
        score = {"metric": "spearman", "figures": {"spearman": {"value": value, "low": low, "high": high}}}
        return sweeps.Point(name, {}, {"file_bytes": size, "sparsity": 0.5}, score)

    points = [point("a", 1, 0.5, 0.4, 0.6), point("b", 2, 0.55, 0.45, 0.65), point("c", 3, 0.8, 0.7, 0.9)]
    found = sweeps.Sweep("m", "sts", "spearman", False, "1x8", {}, points)
    assert found.front("bytes") == [True, True, True] and found.best("bytes") == [True, False, True]
