"""`aerogel explain --what-if`: what pruning would bring, from the curves of kernels."""

import json

import pytest
from typer.testing import CliRunner

import aerogel
from aerogel.cli.app import app
from aerogel.errors import RecipeError
from aerogel.explanation.whatif import Base, Scenario, scenarios, what_if
from aerogel.tuning import Curve


@pytest.mark.parametrize(
    "asked, sparsity, pattern, quant",
    [
        ("sparsity=0.8,pattern=4x1", 0.8, "4x1", None),
        ({"sparsity": 0.8, "pattern": "4x1"}, 0.8, "4x1", None),
        ("pattern=8:64x4", 0.875, "8:64x4", None),
        ("sparsity=.5, quant=int4", 0.5, "unstructured", "int4:g32:asym"),
        ("quant=int8", 0.0, "unstructured", "int8"),
    ],
)
def test_scenarios(asked, sparsity, pattern, quant):
    (found,) = scenarios([asked])
    assert (found.sparsity, found.pattern, found.quant) == (sparsity, pattern, quant)


@pytest.mark.parametrize(
    "asked, said",
    [
        ("sparsity=0.8", "what_if: expected a list, got 'sparsity=0.8'"),
        (["sparsity"], "what-if: expected some of sparsity=X, .* got 'sparsity'"),
        (["sparsity=0.8,"], "what-if: expected some of"),
        ([{}], "what-if: expected some of .*, got {}"),
        ([0.8], "what-if: expected some of .*, got 0.8"),
        (["sparsity=0.8,sparsity=0.9"], "each once, got 'sparsity=0.8,sparsity=0.9'"),
        (["zeros=0.8"], "what-if: expected some of .*, got 'zeros=0.8'"),
        (["sparsity=80"], "what-if 'sparsity=80': sparsity: expected a number from 0 to 1, got 80"),
        (["sparsity=many"], "what-if 'sparsity=many': sparsity: expected a number from 0 to 1, got 'many'"),
        (["sparsity=0.8,pattern=banana"], "what-if .*: pattern: expected unstructured, .* got 'banana'"),
        ([{"pattern": 4}], "what-if .*: pattern: expected a string, got 4"),
        (["pattern=4x1"], "what-if 'pattern=4x1': expected a sparsity beside the pattern 4x1, .* got none"),
        (
            ["sparsity=0.5,pattern=8:64"],
            "what-if .*: sparsity: 0.5 contradicts the pattern 8:64, which is 0.875 sparse",
        ),
        (["quant=int3"], "what-if 'quant=int3': quantization scheme 'int3' is unknown"),
        (["quant=bf16"], "what-if 'quant=bf16': quant: expected int8 or int4:g64 or int4:g32:asym, got bf16"),
    ],
)
def test_what_is_no_scenario_is_refused_before_the_work(asked, said):
    with pytest.raises(RecipeError, match=said):
        aerogel.explain("none", what_if=asked)


STEP = {"numbers": "int8", "shape": (64, 64), "terms": 1}
BASE = Base(
    [{"name": "layers.0.up", **STEP}, {"name": "layers.1.up", **STEP}],
    [("linear", "layers.0.up", 2e-3), ("linear", "layers.1.up", 2e-3), ("linear", "head", 1e-3), ("norm", "n", 1e-3)],
    8,
    1,
    False,
)


@pytest.fixture
def curves(monkeypatch):
    """Half of the dense time at 80 % zeros, a quarter in 4x1; nothing below 60 %."""
    seen = []

    def made_up(numbers, n, k, rows, threads, streamed, pattern, sparsities):
        seen.append((numbers, n, k, rows, pattern))
        times = {"4x1": (1.5, 1.2, 0.8, 0.25), "1x4": (2.0, 2.0, 2.0, 2.0)}.get(pattern, (1.5, 1.2, 0.8, 0.5))
        return (
            None
            if pattern == "2:4"
            else Curve((0.3, 0.5, 0.7, 0.8), (1.0,) * 4, times, 0.5 if numbers == "int4" else 9)
        )

    monkeypatch.setattr("aerogel.tuning.forecasts.curve", made_up)
    return seen


def test_the_linears_inside_are_replaced_and_the_rest_stays(curves):
    found = what_if(BASE, *scenarios(["sparsity=0.8,pattern=4x1"]))
    assert found.layers == pytest.approx({"layers.0.up": 0.5, "layers.1.up": 0.5, "head": 1})
    assert (found.linear_ms, found.total_ms) == pytest.approx((2, 3))
    assert (found.dense_linear_ms, found.dense_total_ms, found.gain) == pytest.approx((5, 6, 2))
    assert found.notes == ["up (2 layers): 4x1 at 80% would take 0.25 of the time of dense"]
    assert curves == [("int8", 64, 64, 8, "4x1")]  # of one shape once


@pytest.mark.parametrize(
    "asked, linear, said",
    [
        ("sparsity=0.5", 5, "up (2 layers): below 60% zeros nothing is gained here"),
        ("sparsity=0.8,pattern=1x4", 5, "up (2 layers): zeros in 1x4 gain nothing here"),
        ("pattern=2:4", 5, "up (2 layers): no kernel of this CPU gains from zeros in 2:4"),
        ("quant=int4", 3, "up (2 layers): int4:g32:asym dense would take 0.50 of the time of dense"),
        ("sparsity=0.1", 5, "up (2 layers): below 60% zeros nothing is gained here"),
    ],
)
def test_what_gains_nothing_is_named(curves, asked, linear, said):
    found = what_if(BASE, *scenarios([asked]))
    assert found.linear_ms == pytest.approx(linear) and found.notes == [said]


def test_other_numbers_are_seen_against_the_form_that_there_is(monkeypatch):
    """A float form takes 4 s where int8 takes 1."""

    def made_up(numbers, n, k, rows, threads, streamed, pattern, sparsities):
        return Curve((0.5,), (4.0,), (2.0,)) if numbers == "float32" else Curve((0.5,), (1.0,), (0.5,))

    monkeypatch.setattr("aerogel.tuning.forecasts.curve", made_up)
    floats = Base([{**BASE.linears[0], "numbers": "float32"}], [("linear", "layers.0.up", 8e-3)], 8, 1, False)
    assert what_if(floats, Scenario("", 0.5, "unstructured", "int8")).linear_ms == pytest.approx(1)
    assert what_if(floats, Scenario("", 0.5, "unstructured", None)).linear_ms == pytest.approx(4)


def test_the_command_predicts_for_a_checkpoint_of_floats(bert_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("AEROGEL_TUNE", "on")
    monkeypatch.setenv("AEROGEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("aerogel.engine.steps.SECONDS", 0.1)
    monkeypatch.setattr("aerogel.tuning.curves.SPARSITIES", (0.5, 0.9))
    asked = ["-w", "sparsity=0.8,pattern=4x1", "-w", "pattern=8:64x4,quant=int4"]
    out = CliRunner().invoke(
        app, ["explain", str(bert_folder), "-s", "8", "-t", "1", *asked, "--json", str(tmp_path / "e.json")]
    )
    assert out.exit_code == 0, out.output
    said = " ".join(out.stdout.split())
    assert "what if sparsity=0.8,pattern=4x1: linear layers" in said and "faster than dense int8" in said
    first, second = json.loads((tmp_path / "e.json").read_text())["what_if"]
    assert first["pattern"] == "4x1" and second["quant"] == "int4:g32:asym" and second["sparsity"] == 0.875
    model = aerogel.load(bert_folder, 1)
    assert set(first["layers"]) == {step["name"] for step in model.describe() if "forms" in step}
    assert 0 < first["total_ms"] and first["dense_total_ms"] == second["dense_total_ms"]
