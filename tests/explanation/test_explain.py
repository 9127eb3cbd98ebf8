"""`aerogel explain`: the facts it gives are those of the model, and its advice follows from them."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import aerogel
from aerogel.cli.app import app
from aerogel.errors import AerogelError
from aerogel.explanation import LayerReport
from aerogel.explanation import plot as explanation_plot
from aerogel.explanation.advice import advice as advice_of
from aerogel.tuning import Curve


@pytest.fixture
def packed(bert_folder, tmp_path, monkeypatch):
    """A small packed model, measured into a cache of the test's own."""
    monkeypatch.setenv("AEROGEL_TUNE", "on")
    monkeypatch.setenv("AEROGEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aerogel.engine.steps.SECONDS", 0.1)
    monkeypatch.setattr("aerogel.tuning.curves.SPARSITIES", (0.5, 0.9))
    aerogel.compress(bert_folder, tmp_path / "packed", sparsity=0.75, method="magnitude")
    return tmp_path / "packed"


def test_the_facts_are_the_models(packed):
    found = aerogel.explain(packed, batch=2, tokens=8, threads=1)
    model = aerogel.load(packed)
    steps = {step["name"]: step for step in model.describe() if "forms" in step}
    assert [layer.name for layer in found.layers] == list(steps)
    for layer in found.layers:
        assert layer.shape == tuple(steps[layer.name]["shape"])
        assert layer.sparsity == pytest.approx(0.75, abs=0.01)
        assert layer.numbers == "int8" and layer.pattern == "unstructured"
        assert layer.format in [form["format"] for form in layer.forms]
        assert layer.measured_ms > 0 and layer.dense_ms > 0 and layer.predicted_ms > 0
    assert found.total_ms == pytest.approx(found.linear_ms + sum(found.rest_ms.values()))
    assert "attention" in found.rest_ms and "linear" not in found.rest_ms
    assert "linear layers take" in found.advice[-1]


def test_a_generating_model_and_one_token(llama_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("AEROGEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aerogel.engine.steps.SECONDS", 0.1)
    monkeypatch.setattr("aerogel.tuning.curves.SPARSITIES", (0.5, 0.9))
    found = aerogel.explain(llama_folder, tokens=1, threads=1)
    assert all(layer.numbers == "float32" and layer.pattern == "dense" for layer in found.layers)
    assert "compress with --quant int8" in found.advice[0]


def test_too_many_tokens(packed):
    with pytest.raises(AerogelError, match="positions, too few for 100000"):
        aerogel.explain(packed, tokens=100_000)
    with pytest.raises(AerogelError, match="expected at least 1"):
        aerogel.explain(packed, batch=0)


def layer(name, sparsity, wins_from, ms=1.0, dense=2.0, numbers="int8"):
    return LayerReport(name, (64, 64), sparsity, "unstructured", numbers, [], "x", 1, ms, dense, ms, wins_from)


CURVES = {("int8", 64, 64): Curve((0.3, 0.5, 0.7, 0.8, 0.9, 0.95), (1,) * 6, (1.5, 1.1, 0.7, 0.5, 0.25, 0.2))}
SHARED = {("int8", 64, 64): Curve((0.8, 0.9), (1,) * 2, (0.25, 0.15))}


def test_the_curve_tells_where_sparse_wins():
    found = CURVES["int8", 64, 64]
    assert 0.5 < found.wins_from < 0.6
    assert found.gain(0.8) == 2 and found.gain(0.9) == 4
    assert Curve((0.3, 0.9), (1, 1), (2, 1.1)).wins_from is None
    assert Curve((0.3, 0.9), (1, 1), (0.9, 0.5)).wins_from == 0.3


@pytest.mark.parametrize(
    "layers, said",
    [
        ([layer("a", 0.4, 0.55, ms=2)], "40% zeros are too few: at this shape sparse wins from 55%; prune to 75%"),
        ([layer("a", 0.0, 0.55)], "dense: pruned to 80 % this shape is 2.0x faster"),
        ([layer("a", 0.8, 0.55)], "90 % would be 2.0x faster"),
        ([layer(f"layers.{i}.ffn.up", 0.8, 0.55) for i in range(3)], "ffn.up (3 layers): 80% zeros"),
        ([layer("a", 0.95, 0.55, numbers="float32")], "float32 weights"),
    ],
)
def test_advice_follows_from_the_facts(layers, said):
    advice = advice_of(layers, {"attention": 1.0}, sum(each.measured_ms for each in layers) + 1.0, CURVES, {})
    assert any(said in line for line in advice), advice


@pytest.mark.parametrize("zeros, at, said", [(0.0, "80%", "0.50"), (0.82, "80%", "0.50"), (0.88, "90%", "0.60")])
def test_advice_on_shared_masks(zeros, at, said):
    advice = advice_of([layer("a", zeros, 0.55)], {"attention": 1.0}, 2.0, CURVES, SHARED)
    line = next(line for line in advice if "4x1" in line)
    assert f"4x1 at {at} would take {said} of the time of as many unstructured zeros, at a loss of accuracy" in line


def test_no_advice_on_masks_that_bring_little():
    little = {shape: Curve((0.8, 0.9), (1,) * 2, (0.4, 0.2)) for shape in SHARED}
    for layers, shared in (
        ([layer("a", 0.8, 0.55)], little),
        ([dataclasses.replace(layer("a", 0.8, 0.55), pattern="4x1")], SHARED),
    ):
        advice = advice_of(layers, {"attention": 1.0}, 2.0, CURVES, shared)
        assert not any("4x1" in line for line in advice), advice


def test_no_advice_where_there_is_nothing_to_gain():
    advice = advice_of([layer("a", 0.95, 0.55)], {"attention": 9.0}, 10.0, CURVES, SHARED)
    assert len(advice) == 1 and "pruning can gain at most 1.1x" in advice[0]


def test_the_command_prints_and_writes(packed, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    out = CliRunner().invoke(
        app,
        [
            "explain",
            str(packed),
            "-s",
            "8",
            "-t",
            "1",
            "--json",
            str(tmp_path / "e.json"),
            "--plot",
            str(tmp_path / "e.png"),
        ],
    )
    assert out.exit_code == 0, out.output
    assert "layers.0.attention.qkv" in out.stdout and "sparse wins from" in out.stdout
    stored = json.loads((tmp_path / "e.json").read_text())
    assert stored["tokens"] == 8 and stored["layers"][0]["pattern"] == "unstructured"
    assert (tmp_path / "e.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "not shown" not in out.stdout
    monkeypatch.setattr("aerogel.cli.explain.WIDE", 10**6)
    narrow = CliRunner().invoke(app, ["explain", str(packed), "-s", "8", "-t", "1"])
    assert "not shown: pattern, alone ms, sparse wins from, memory" in " ".join(narrow.stdout.split())


def test_a_plot_without_matplotlib_is_refused_before_the_work(packed, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(AerogelError, match="plots need matplotlib"):
        CliRunner().invoke(app, ["explain", str(packed), "--plot", str(tmp_path / "e.png")], catch_exceptions=False)


@pytest.mark.parametrize(
    "flag, name, said",
    [
        ("--plot", "none/e.png", "there is no folder"),
        ("--json", "none/e.json", "there is no folder"),
        ("--plot", "e.banana", "expected a picture's name such as e.png, not .banana"),
    ],
)
def test_files_that_cannot_be_written_are_refused_before_the_work(packed, tmp_path, monkeypatch, flag, name, said):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("aerogel.explanation.explain", lambda *_: pytest.fail("measured"))
    with pytest.raises(AerogelError, match=said):
        CliRunner().invoke(app, ["explain", str(packed), flag, str(tmp_path / name)], catch_exceptions=False)


def test_a_layer_with_few_zeros_is_dense(llama_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("AEROGEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aerogel.engine.steps.SECONDS", 0.1)
    monkeypatch.setattr("aerogel.tuning.curves.SPARSITIES", (0.5, 0.9))
    aerogel.compress(llama_folder, tmp_path / "packed", sparsity=1.0, method="magnitude")
    layers = aerogel.explain(tmp_path / "packed", tokens=1, threads=1).layers
    assert {layer.pattern for layer in layers if layer.sparsity == 1} == {"empty"}
    assert {layer.pattern for layer in layers if layer.sparsity < 0.25} == {"dense"}  # the head: codes that round to 0


def test_a_cpu_whose_only_sparse_kernel_is_for_blocks(packed, monkeypatch):
    monkeypatch.setattr("aerogel.tuning.layers.candidates", lambda numbers: ["dense_q8", "blocks_q8"])
    found = aerogel.explain(packed, tokens=8, threads=1)
    assert all(layer.wins_from is None and layer.format == "dense_q8" for layer in found.layers)


def test_density_maps_are_those_of_the_weights(packed):
    weight = aerogel.load(packed)._plan.weight("layers.0.ffn.up")
    cells = explanation_plot.density_map(weight)
    rows = np.array([weight.row(n) != 0 for n in range(weight.shape[0])])
    assert cells.shape == (48, 48) and (cells >= 0).all() and (cells <= 1).all()
    assert cells.mean() == pytest.approx(rows.mean(), abs=0.02)
