import csv
import json
import os
import sys

import numpy as np
import pytest

import aerogel
from aerogel import bench
from aerogel.bench import cases, contestants, demo, layer, noise, run, serve, tables
from aerogel.bench.contestants import Peers
from aerogel.bench.limits import rates
from aerogel.bench.noise import Turn
from aerogel.bench.peers import PEERS, Engine
from aerogel.cli.bench import command as bench_command
from aerogel.cli.bench import shape_of
from aerogel.errors import AerogelError, RecipeError, UnsupportedModelError

from .. import tiny_models


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(run, "TURN_SECONDS", 0.0)
    monkeypatch.setattr(cases, "ENCODER_CASES", ((1, 8), (2, 16)))
    monkeypatch.setenv("AEROGEL_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    config = {**tiny_models.BERT, "max_position_embeddings": 128}
    folder = tmp_path_factory.mktemp("bench") / "source"
    return tiny_models.write(folder, config, tiny_models.bert_weights(config), pooling=("mean", True))


@pytest.fixture(scope="module")
def packed(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "packed"
    aerogel.compress(source, out, sparsity=0.9, method="magnitude")
    return out


@pytest.fixture(scope="module")
def result(source, packed):
    steps = []
    found = bench.bench_model(
        packed,
        dense=source,
        batches=[1, 3],
        lengths=[8],
        threads=1,
        rounds=3,
        progress=lambda *step: steps.append(step),
    )
    assert steps[-1][0] == steps[-1][1] == len(steps)
    return found


def test_a_model_beside_its_dense_forms(result):
    json.dumps(result)
    fp32, int8, sparse = result["variants"]
    assert [v["name"] for v in result["variants"]] == ["dense fp32", "dense int8", "sparse"]
    assert fp32["disk_bytes"] > int8["disk_bytes"] > sparse["disk_bytes"]
    assert fp32["cosine_min"] == pytest.approx(1) and int8["cosine_min"] > 0.99
    assert fp32["formats"] == ["dense_f32"] and int8["formats"] == ["dense_q8"] and sparse["sparsity"] > 0.85
    assert fp32["macs"] == int8["macs"] == 2 * (4 * 48 * 48 + 2 * 48 * 100)
    for v in result["variants"]:
        assert list(v["latency_ms"]) == ["1x8", "3x8"] and v["load_ms"] > 0 and v["peak_bytes"] >= 0
        for figures in v["latency_ms"].values():
            assert 0 < figures["min"] <= figures["q1"] <= figures["median"] <= figures["q3"]
            assert figures["turns"] == 3 and figures["gmacs"] > 0 and 0 < figures["share"] < 2
    assert all(figures["speedup"] == 1 for figures in int8["latency_ms"].values())
    assert result["machine"]["isa"] == aerogel.isa() and result["threads"] == 1 and result["skipped"] == []
    assert result["noise"]["turns"] == 18


def test_tables_markdown_and_csv(result, tmp_path):
    [what, one, three] = tables.blocks(result)
    assert one[0] == "1x8 tokens, ms" and [row[0] for row in one[1]] == ["", "dense fp32", "dense int8", "sparse"]
    assert all(len(row) == len(what[1][0]) for row in what[1])
    assert tables.markdown(result).count("| dense int8 |") == 3
    tables.write_csv(tmp_path / "out.csv", result)
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and float(rows[0]["median_ms"]) > 0 and rows[-1]["case"] == "3x8"


def test_a_plot(result, tmp_path):
    pytest.importorskip("matplotlib")
    from aerogel.bench import plot

    plot.plot(tmp_path / "out.png", result)
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(AerogelError, match="out.banana"):
        plot.plot(tmp_path / "out.banana", result)


def test_a_decoder_that_is_no_packed_model(llama_folder):
    found = bench.bench_model(llama_folder, prompts=[8], news=[4], threads=1, rounds=1)
    fp32, int8, sparse = found["variants"]
    assert list(int8["latency_ms"]) == ["prefill 8", "decode 4"]
    decode = int8["latency_ms"]["decode 4"]
    assert decode["tokens_per_s"] == pytest.approx(4000 / decode["median"]) and decode["gbs"] > 0
    assert any("of the weights are zero" in line for line in tables.notes(found))


def test_one_layer():
    found = bench.bench_linear(64, 96, [0.5, 0.9], tokens=[1, 5], threads=1, rounds=1)
    names = [v["name"] for v in found["variants"]]
    assert names[:4] == ["dense fp32", "dense int8", "sparse int8 50%", "sparse int8 90%"]
    assert [v["cosine_min"] > 0.999 for v in found["variants"]] == [True] * 6
    nine = found["variants"][3]
    assert nine["macs"] <= 615 and nine["dense_macs"] == 64 * 96
    assert "gbs" in nine["latency_ms"]["1x1"] and "gbs" not in nine["latency_ms"]["1x5"]


def test_scipy_takes_part_at_each_sparsity():
    pytest.importorskip("scipy")
    found = bench.bench_linear(32, 64, [0.5, 0.9], tokens=[2], threads=1, rounds=1, peers="scipy")
    peers = [v for v in found["variants"] if v["engine"] == "scipy"]
    assert [v["name"] for v in peers] == ["scipy fp32 50%", "scipy fp32 90%"]
    assert all(v["cosine_min"] > 0.9999 and v["version"] for v in peers)


def _peer(monkeypatch, tmp_path, code, python=sys.executable):
    """A peer "banana" whose file has this code; the worker finds it where the others are."""
    folder = tmp_path / "bench"
    (folder / "peers").mkdir(parents=True)
    here = os.path.dirname(serve.__file__)
    for name in ("serve.py", "peers/__init__.py", "peers/aerogel.py"):
        (folder / name).write_text(open(os.path.join(here, name)).read())
    (folder / "peers" / "banana.py").write_text(
        "import os, sys\nimport numpy as np\nfrom . import Engine as Base\nclass Engine(Base):\n" + code
    )
    monkeypatch.setattr(run, "_environment", lambda threads, python: {**os.environ, "PYTHONPATH": _root()})
    monkeypatch.setattr(serve, "__file__", str(folder / "serve.py"))
    monkeypatch.setitem(PEERS, "banana", type(PEERS["scipy"])("banana", {"linear": ("fp32",)}))
    every = layer.linear_contestants
    few = ("dense int8", "banana fp32")  # a process each: no more than it takes
    monkeypatch.setattr(layer, "linear_contestants", lambda *args: [c for c in every(*args) if c.name in few])
    return Peers("banana", {"banana": python})


def _root():
    return os.path.dirname(os.path.dirname(aerogel.__file__))


@pytest.mark.parametrize(
    "code, why",
    [
        ("  def load(self): raise ValueError('no\\nluck')\n  def run(self, x): pass", "ValueError: no"),
        ("  def load(self): os._exit(3)\n  def run(self, x): pass", "ended with code 3"),
        ("  def load(self): pass\n  def run(self, x): os._exit(4)", "ended with code 4"),
        ("  def load(self): pass\n  def run(self, x): return np.ones((len(x), 32), np.float32)", "not this model's"),
        ("  def load(self): pass\n  def run(self, x): return np.ones((1, 1), np.float32)", "not this model's"),
        ("  def load(self): import no_such_thing\n  def run(self, x): pass", "No module named 'no_such_thing'"),
    ],
)
def test_a_peer_that_fails_says_why_and_the_run_goes_on(monkeypatch, tmp_path, code, why):
    peers = _peer(monkeypatch, tmp_path, code)
    found = bench.bench_linear(32, 64, [0.9], tokens=[2], threads=1, rounds=1, peers=peers)
    assert len(found["variants"]) == 1
    [line] = found["skipped"]
    assert line.startswith("banana fp32: ") and why in line and "\n" not in line


def test_a_peer_that_fails_later(monkeypatch, tmp_path):
    code = "  def load(self): self.calls = 0; self.w = np.load(self.model)['weight']\n  def run(self, x):\n"
    code += "    self.calls += 1\n    if self.calls > 3: raise MemoryError('too much')\n    return x @ self.w.T"
    found = bench.bench_linear(32, 64, [0.9], tokens=[2], threads=1, rounds=3, peers=_peer(monkeypatch, tmp_path, code))
    assert len(found["variants"]) == 1 and found["skipped"] == ["banana fp32: MemoryError: too much"]


def test_another_interpreter_that_is_not_there(monkeypatch, tmp_path):
    peers = _peer(monkeypatch, tmp_path, "  def load(self): pass\n  def run(self, x): pass", "/no/such/python")
    found = bench.bench_linear(32, 64, [0.9], tokens=[2], threads=1, rounds=1, peers=peers)
    assert "/no/such/python: cannot be started" in found["skipped"][0]


def test_peers_that_cannot_be_asked():
    with pytest.raises(AerogelError, match="peer 'banana' is unknown: expected none, auto or some of onnxruntime"):
        Peers("torch,banana")
    with pytest.raises(AerogelError, match="expected a precision of fp32, int8, got 'int3'"):
        Peers("torch:int3")
    with pytest.raises(AerogelError, match="peer 'banana' is unknown"):
        Peers("none", {"banana": "python"})
    assert Peers("none").choose("linear") == []


def test_a_peer_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(contestants.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AerogelError, match="pip install llama-cpp-python"):
        Peers("llama_cpp").choose("decoder")
    absent = Peers("auto")
    assert absent.choose("decoder") == [] and "torch: not installed (torch)" in absent.skipped


def test_every_row_has_its_file():
    folder = os.path.join(os.path.dirname(serve.__file__), "peers")
    assert {name + ".py" for name in PEERS} <= set(os.listdir(folder))
    assert issubclass(serve.engine_class("aerogel"), object) and Engine.__abstractmethods__ == {"load", "run"}


def test_messages_survive():
    value, arrays = serve.unpack(serve.pack(["a", {"b": 1.5}], np.arange(3), np.zeros((2, 0), np.float32)))
    assert value == ["a", {"b": 1.5}] and arrays[0].tolist() == [0, 1, 2] and arrays[1].shape == (2, 0)


def test_positions_and_flags_of_the_other_kind(bert_folder, llama_folder):
    with pytest.raises(AerogelError, match="only 40 positions, too few for 41"):
        bench.bench_model(bert_folder, lengths=[41])
    with pytest.raises(AerogelError, match="--new: this is an encoder: use --batch"):
        bench.bench_model(bert_folder, news=[4])
    with pytest.raises(AerogelError, match="--batch: this is a language model: use --prompt"):
        bench.bench_model(llama_folder, batches=[4])


def test_noise_is_found():
    quiet = [Turn([1e-3] * 4, 0.0, 0.0, 1e-3) for _ in range(9)]
    noise.mark(quiet)
    assert noise.judge(quiet, {"a": 0.01}).warning is None
    loud = quiet + [Turn([2e-3], foreign, steal, work) for foreign, steal, work in ((0.9, 0, 1e-3), (0, 0.5, 1e-3))]
    loud += [Turn([9e-3], None, None, 2e-3), Turn([9e-3], None, None, 3e-3)]
    noise.mark(loud)
    assert [turn.disturbed for turn in loud] == [False] * 9 + [True] * 4
    warning = noise.judge(loud, {"a": 0.01, "b at 1x8": 0.5}).warning
    assert "31% of the turns were disturbed; others kept" in warning and "quartiles of b at 1x8 are 50%" in warning
    assert run.summary(loud)["median"] == 1 and run.summary(loud)["disturbed"] == 4, "disturbed turns are left out"
    assert run.summary(loud[-2:])["median"] == 9, "unless too few others remain"
    assert run.speedup(loud, [Turn([5e-4], 0, 0, 1e-3)] * 13) == 2


def test_rates():
    limits = {"int8_gmacs": 100, "fp32_gmacs": 50, "l2_gbs": 100, "l3_gbs": 50, "dram_gbs": 10}
    limits |= {"l2_bytes": 1e5, "l3_bytes": 1e6, "threads": 1}
    assert rates(limits, "int8", 5e7, 0, 1.0, False) == {"gmacs": 50, "share": 0.5}
    assert rates(limits, "fp32", 5e7, 2e6, 1.0, True) == {
        "gmacs": 50,
        "share": 1,
        "gbs": 2,
        "gbs_share": 0.2,
        "from": "dram",
    }
    assert [rates(limits, "int8", 1, b, 1.0, True)["from"] for b in (5e4, 5e5)] == ["l2", "l3"]


def test_the_machine_says_what_it_can_do():
    here = aerogel.machine(1)
    assert here["limits"] == here["limits_1"] and here["limits"]["int8_gmacs"] > 0 and here["cpu"]
    assert "limits" not in aerogel.machine(limits=False)


@pytest.mark.parametrize("text, shape", [("768x512", (768, 512)), ("8×16", (8, 16)), ("a/folder", None), ("x", None)])
def test_shapes(text, shape):
    assert shape_of(text) == shape


@pytest.mark.parametrize("text", ["0x5", "768x", "768x768x2", "70000x1", "60000x60000", "-1x5", "3*4", "1,2"])
def test_shapes_that_are_none(text):
    with pytest.raises(AerogelError, match="expected"):
        shape_of(text)


def _command(*args, code=0):
    from typer.testing import CliRunner

    from aerogel.cli.app import app

    result = CliRunner().invoke(app, ["bench", *map(str, args)])
    assert result.exit_code == code, result.output
    return result


def test_the_command(tmp_path):
    out = tmp_path / "out.json"
    printed = _command(
        "32x64", "--sparsity", "0.9", "-b", "1", "-s", "1,4", "-r", 1, "-t", 1, "--peers", "none", "--json", out
    )
    assert "x dense int8" in printed.stdout and "sparse int8 90%" in printed.stdout and "GMAC/s" in printed.stdout
    assert json.loads(out.read_text())["target"] == "32x64"
    assert "DRAM" in _command("--limits", "-t", 1).stdout


@pytest.mark.parametrize(
    "flags",
    [
        ["-b", "0"],
        ["-b", "1;2"],
        ["-s", ""],
        ["-r", "0"],
        ["-t", "0"],
        ["--sparsity", "1.5"],
        ["--sparsity", "nan"],
        ["--python", "deepsparse"],
    ],
)
def test_flags_that_are_wrong(flags):
    _command("32x64", *flags, code=2)


def test_no_target():
    assert "768x768" in _command(code=2).output


@pytest.mark.parametrize(
    "args, message",
    [
        (["32x64", "--peers", "banana"], "peer 'banana' is unknown"),
        (["32x64", "--prompt", "4"], "--prompt goes with a model"),
        (["32x64", "--json", "no/such/folder/a.json"], "there is no folder"),
        (["32y64"], None),
    ],
)
def test_what_cannot_be_measured(args, message, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error = _command(*args, "-r", 1, code=1).exception
    assert isinstance(error, AerogelError) and (message is None or message in str(error))


def test_a_folder_that_is_no_model(tmp_path, packed):
    assert isinstance(_command(tmp_path, code=1).exception, AerogelError)
    error = _command(packed, "--sparsity", "0.5", code=1).exception
    assert "--sparsity goes with a shape" in str(error)


def test_no_matplotlib(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    error = _command("32x64", "--plot", tmp_path / "a.png", code=1).exception
    assert "pip install 'aerogel[bench]'" in str(error)


@pytest.fixture
def few_tokens(monkeypatch):
    monkeypatch.setattr(demo, "TOKENS", 256)


def test_the_demo_finds_the_nearest_sentences(source, llama_folder, tmp_path, few_tokens):
    variants, check = demo.prepare(source, tmp_path, None, lambda *_: None)
    assert [v.name for v in variants] == ["dense fp32", "dense int8", "sparse int8, 70%"]
    assert {"cosine_mean", "overlap10"} <= set(check.worst.figures) and all(domain.seen for domain in check.domains)
    model = aerogel.load(source)
    everything = [line for lines in bench.sentences().values() for line in lines]
    assert len(everything) == len(set(everything)) >= 40
    [hits] = demo.search(model, [everything[7]], top=5)
    assert hits[0].sentence == everything[7] and hits[0].cosine == pytest.approx(1, abs=1e-5)
    assert [hit.cosine for hit in hits] == sorted((hit.cosine for hit in hits), reverse=True)
    with pytest.raises(UnsupportedModelError, match="needs an embedding model"):
        demo.search(aerogel.load(llama_folder), ["a"])


def test_the_demo_command(source, tmp_path, few_tokens):
    from typer.testing import CliRunner

    from aerogel.cli.app import app

    result = CliRunner().invoke(
        app, ["demo", "--model", str(source), "--json", str(tmp_path / "out.json")], catch_exceptions=False
    )
    assert result.exit_code == 0 and "tokens/s" in result.stdout and "How do I bake a loaf?" in result.stdout
    figures = json.loads((tmp_path / "out.json").read_text())
    assert len(figures["variants"]) == 3 and np.isfinite(figures["variants"][2]["cosine_mean"])
    assert "of 6 queries" in result.stdout and figures["check"]["main"] == "cosine_mean"


def test_agreement_of_what_two_models_find():
    def hits(*lines):
        return [demo.Hit("", line, 1.0) for line in lines]

    dense = [hits("a", "b", "c"), hits("d", "e", "f")]
    assert demo.agreement(dense, dense) == (2, 6, 6)
    assert demo.agreement([hits("b", "a", "x"), hits("d", "y", "f")], dense) == (1, 4, 6)


def test_minilm_finds_the_right_topics(minilm):
    model = aerogel.load(minilm)
    topics = [hits[0].topic for hits in demo.search(model, demo.QUERIES)]
    assert topics == ["cooking", "astronomy", "computers", "medicine", "sport", "money"]


@pytest.mark.parametrize("quant, name", [("int4:g32", "packed int4:g32"), ("int8", "sparse"), ("none", "sparse")])
def test_a_packed_model_is_named_by_its_scheme(source, tmp_path, quant, name):
    from aerogel.bench.variants import model_variants

    aerogel.compress(source, tmp_path / "m", quant=quant, sparsity=0.5)
    (tmp_path / "work").mkdir()
    *_, packed = model_variants(tmp_path / "m", source, tmp_path / "work", 1)
    assert packed.name == name and packed.precision == ("fp32" if quant == "none" else "int8")


def test_a_checkpoint_is_measured_in_the_scheme_that_was_asked_for(bert_folder, tmp_path):
    from aerogel.bench.variants import model_variants

    *_, asked = model_variants(bert_folder, None, tmp_path, 1, "int4:g32")
    assert (asked.name, asked.precision, asked.format) == ("int4:g32", "int8", "auto")
    assert aerogel.load(asked.path).quantization == "int4:g32"
    with pytest.raises(RecipeError, match="'int3' is unknown"):
        model_variants(bert_folder, None, tmp_path, 1, "int3")
    with pytest.raises(RecipeError, match="packed model is run as it was packed"):
        model_variants(asked.path, None, tmp_path, 1, "int8")
    with pytest.raises(AerogelError, match="--quant goes with a model"):
        bench_command("32x64", quant="int8")
