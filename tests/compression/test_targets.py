import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

import aerogel
from aerogel.cli.app import app
from aerogel.cli.options import amount, recipe_values
from aerogel.compression import Target
from aerogel.compression.search import least
from aerogel.engine.kinds import prunable
from aerogel.errors import RecipeError


@pytest.mark.parametrize("pack", ["plain", "small"])
def test_the_least_sparsity_that_fits(bert_folder, tmp_path, pack):
    dense = aerogel.compress(bert_folder, tmp_path / "dense", 0.0, pack=pack).file_bytes
    sparse = aerogel.compress(bert_folder, tmp_path / "sparse", 0.95, method="magnitude", pack=pack).file_bytes
    goal = (dense + sparse) // 2
    report = aerogel.compress(bert_folder, tmp_path / "out", method="magnitude", pack=pack, target=Target(size=goal))
    assert 0.95 * goal < report.file_bytes <= goal
    assert (tmp_path / "out" / "model.safetensors").stat().st_size == report.file_bytes
    assert 0.1 < report.sparsity < 0.95
    before = (tmp_path / "out" / "model.safetensors").read_bytes()
    with pytest.raises(RecipeError, match="out of reach"):  # what is there stays
        aerogel.compress(bert_folder, tmp_path / "out", target=Target(size=100), overwrite=True)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == before
    larger = aerogel.compress(
        bert_folder, tmp_path / "out", target=Target(size=10 * dense), overwrite=True, method="magnitude"
    )
    assert larger.sparsity < 0.05 and larger.path == str(tmp_path / "out")


def test_a_size_out_of_reach_says_what_is_in_reach(bert_folder, tmp_path):
    with pytest.raises(RecipeError, match=r"target size: 0\.0 MB is out of reach: 98% sparse the file has"):
        aerogel.compress(bert_folder, tmp_path / "out", target=Target(size=100))
    assert not (tmp_path / "out").exists()


def test_the_last_model_within_the_drop_is_kept(bert_folder, tmp_path):
    scored = []

    def score(path):
        packed = aerogel.checkpoint.open_checkpoint(path)
        w = np.concatenate([packed.array(n).ravel() for n in packed.names() if "dense.weight" in n])
        scored.append(1 - np.count_nonzero(w == 0) / w.size)
        return scored[-1]

    report = aerogel.compress(
        bert_folder, tmp_path / "out", 0.3, target=Target(drop=0.6, score=(score, False), steps=6), method="magnitude"
    )
    assert 0.5 < report.sparsity <= 0.6
    assert report.path == str(tmp_path / "out")
    good = [1 - s for s in scored[1:] if 1 - s / scored[0] <= 0.6]
    assert report.sparsity == pytest.approx(max(good), abs=0.01)
    assert report.notes[-len(scored) : -len(scored) + 1] == [f"dense: {scored[0]:.4f}"]
    assert aerogel.load(tmp_path / "out").outputs


def test_lower_may_be_better(bert_folder, tmp_path):
    values = iter([10.0, 10.5, 10.9, 11.5, 10.95, 11.2])
    target = Target(drop=0.1, score=(lambda path: next(values), True), steps=8)
    report = aerogel.compress(bert_folder, tmp_path / "out", 0.2, target=target, method="magnitude")
    assert "10.9500, +9.50% lost" in report.notes[-2] and "+12.00% lost" in report.notes[-1]


def test_a_first_step_that_drops_too_much(bert_folder, tmp_path):
    values = iter([1.0, 0.5])
    with pytest.raises(
        RecipeError, match=r"max drop: 1\.00% is exceeded at once: 30\.\d% sparse: 0\.5000, \+50\.00% lost"
    ):
        aerogel.compress(
            bert_folder,
            tmp_path / "out",
            0.3,
            target=Target(drop=0.01, score=(lambda path: next(values), False)),
            method="magnitude",
        )
    assert not (tmp_path / "out").exists() and list(tmp_path.iterdir()) == []


@pytest.fixture
def made_up(monkeypatch):
    """The kernels' curves and the clock: 1 ms of others, and linears that fall with the zeros, more so in 4x1."""
    from aerogel.compression import latency as latencies
    from aerogel.tuning import Curve

    sparsities = (0.3, 0.5, 0.7, 0.9)

    def curves(steps, tokens, threads, streamed, pattern="unstructured", **_):
        faster = 2 if pattern == "4x1" else 1
        course = Curve(sparsities, (1e-3,) * 4, tuple(1e-3 * (1 - s) / faster for s in sparsities))
        return {step["name"]: course for step in steps}

    def steps_of(models, batch, tokens):
        steps = [step["name"] for step in models[0].describe() if "forms" in step]
        return [[("norm", "", 1e-3), *(("linear", name, 1e-3) for name in dict.fromkeys(steps))]]

    def latency(path, tokens, threads):
        model = aerogel.load(path, 1, "dense")
        architecture = aerogel.architectures.architecture_of(aerogel.checkpoint.open_checkpoint(path))
        steps = prunable(model.describe(), architecture)
        shared = [model.packed_weight(step["name"]).pattern() for step in steps]
        zeros = [1 - step["nonzeros"] / np.prod(step["shape"]) for step in steps]
        faster = [2 if z > 0.25 and f["rows4"] * 4 < 1.1 * f["nonzeros"] else 1 for z, f in zip(zeros, shared)]
        return 1e-3 + sum(1e-3 * (1 - z) / f for z, f in zip(zeros, faster))

    monkeypatch.setattr("aerogel.tuning.forecasts.curves_of", curves)
    monkeypatch.setattr(latencies, "step_times", steps_of)
    monkeypatch.setattr(latencies, "latency", latency)
    return latency


def test_a_latency(bert_folder, tmp_path, made_up):
    report = aerogel.compress(bert_folder, tmp_path / "out", method="magnitude", target=Target(latency=4e-3, tokens=8))
    assert made_up(tmp_path / "out", 8, None) <= 4e-3 and report.sparsity == pytest.approx(5 / 8, abs=0.05)
    assert "1x8 tokens: " in report.notes[-1] and "dense int8" in report.notes[-1]
    with pytest.raises(
        RecipeError, match=r"target latency: 1\.00 ms is out of reach: .* of which 0\.9\d\d ms are not linears"
    ):
        aerogel.compress(bert_folder, tmp_path / "no", target=Target(latency=1e-3, tokens=8))


def test_a_latency_in_a_pattern(bert_folder, tmp_path, made_up):
    target = Target(latency=4e-3, tokens=8)
    report = aerogel.compress(bert_folder, tmp_path / "out", pattern="4x1", method="magnitude", target=target)
    assert made_up(tmp_path / "out", 8, None) <= 4e-3 and report.sparsity == pytest.approx(0.3, abs=0.05)
    with pytest.raises(RecipeError, match="contradicts the pattern 8:64"):
        aerogel.compress(bert_folder, tmp_path / "no", pattern="8:64", method="magnitude", target=target)


def test_a_real_latency_is_measured(bert_folder, tmp_path):
    from aerogel.compression.latency import latency

    aerogel.compress(bert_folder, tmp_path / "out", 0.5, method="magnitude")
    assert 0 < latency(tmp_path / "out", 8, 1, seconds=0.01) < 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "expected one of size, latency and drop"),
        ({"size": 1, "latency": 1.0}, "expected one of"),
        ({"size": 0}, "expected a positive number, got 0"),
        ({"latency": math.nan}, "latency: expected a number, got nan"),
        ({"size": 1, "tokens": 0}, "at least one token"),
    ],
)
def test_impossible_targets(values, message):
    with pytest.raises(RecipeError, match=message):
        Target(**values)


def test_what_leaves_nothing_to_choose(bert_folder, tmp_path):
    for recipe in ({"prune": {"pattern": "8:64"}}, {"prune": {"threshold": 0.1}}):
        with pytest.raises(RecipeError):
            aerogel.compress(bert_folder, tmp_path / "out", recipe=recipe, target=Target(size=10**6))


def test_search():
    assert least(lambda s: s >= 0.4321, lambda s: False) == pytest.approx(0.4321, abs=1.1e-3)
    assert least(lambda s: True, lambda s: True) == 0


def test_amounts():
    units = {"": 1, "kB": 1e3, "MB": 1e6}
    assert (
        amount("12MB", units, "--x") == 12e6
        and amount("1.5 kb", units, "--x") == 1500
        and amount(".5", units, "--x") == 0.5
    )
    for text in ("", "MB", "12 parsecs", "-1MB", "0MB", "1,5MB"):
        with pytest.raises(RecipeError, match="--x: expected a positive number with one of kB, MB"):
            amount(text, units, "--x")


def test_values_of_the_command_line():
    assert recipe_values(["structure.ffn=0.5", "prune.correct=false", "prune.layers={a: 1}"]) == {
        "structure.ffn": 0.5,
        "prune.correct": False,
        "prune.layers": {"a": 1},
    }
    for text in ("structure", "=1", "a=[1"):
        with pytest.raises(RecipeError, match="--set"):
            recipe_values([text])


def run(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args], env={"COLUMNS": "200"})


def test_commands(bert_folder, tmp_path):
    texts = tmp_path / "t.txt"
    texts.write_text("the cat sat on the mat\na dog ran under the big tree\n" * 20)
    sts = tmp_path / "sts.csv"
    sts.write_text("".join(f"the cat sat,the {w} ran,{i}\n" for i, w in enumerate(["cat", "dog", "mat", "tree"])))
    result = run(
        "compress", bert_folder, "-o", tmp_path / "out", "--sparsity", 0.5, "-c", texts, "--set", "prune.method=wanda",
        "--pack", "small", "--sts", sts, "--json", tmp_path / "r.json", "--report", tmp_path / "page",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["recipe"]["prune"]["method"] == "wanda" and report["score"]["metric"] == "spearman"
    assert (tmp_path / "page" / "index.html").stat().st_size > 10_000
    result = run("compress", bert_folder, "-o", tmp_path / "fit", "--target-size", "30kB", "--method", "magnitude")
    assert result.exit_code == 0 and (tmp_path / "fit" / "model.safetensors").stat().st_size <= 30_000
    for options in (
        ["--target-size", "1MB", "--target-latency", "1ms"],
        ["--sts", sts, "--text", texts],
    ):
        assert run("compress", bert_folder, "-o", tmp_path / "no", *options).exit_code == 2
