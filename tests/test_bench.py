import json

import numpy as np
import pytest

import aerogel
from aerogel import bench, demo
from aerogel.errors import AerogelError, UnsupportedModelError

from . import tiny_models


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(bench, "SECONDS", 0.0)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Long enough for 128 tokens."""
    config = {**tiny_models.BERT, "max_position_embeddings": 128}
    folder = tmp_path_factory.mktemp("bench") / "source"
    return tiny_models.write(folder, config, tiny_models.bert_weights(config), pooling=("mean", True))


def test_bench_against_the_uncompressed_model(source, tmp_path):
    aerogel.compress(source, tmp_path / "packed", sparsity=0.9)
    steps = []
    result = bench.bench(tmp_path / "packed", dense=source, threads=1, progress=lambda *step: steps.append(step))
    json.dumps(result)
    assert steps[-1][0] == steps[-1][1] == len(steps)
    fp32, int8, packed = result["variants"]
    assert [fp32["name"], int8["name"], packed["name"]] == ["dense fp32", "dense int8", "packed"]
    assert fp32["disk_bytes"] > int8["disk_bytes"] > packed["disk_bytes"]
    assert fp32["cosine_mean"] == pytest.approx(1) and int8["cosine_mean"] > 0.99
    for variant in result["variants"]:
        assert set(variant["latency_ms"]) == set(bench.SHAPES) and min(variant["latency_ms"].values()) > 0
        assert variant["load_ms"] > 0 and variant["tokenizer_ms"] > 0 and variant["sentences_per_s"] > 0
    assert result["isa"] == aerogel.isa() and result["threads"] == 1


def test_bench_of_a_decoder_without_its_source(tmp_path):
    config = {**tiny_models.LLAMA, "max_position_embeddings": 128}
    source = tiny_models.write(tmp_path / "source", config, tiny_models.llama_weights(config))
    aerogel.compress(source, tmp_path / "packed", sparsity=0.9)
    fp32, int8, packed = bench.bench(tmp_path / "packed")["variants"]
    assert packed["decode_tokens_per_s"] > 0
    assert fp32["disk_bytes"] > int8["disk_bytes"] > packed["disk_bytes"], "the dense forms are stored densely"
    assert packed["cosine_mean"] == pytest.approx(int8["cosine_mean"], abs=1e-3)


def test_too_few_positions(bert_folder, tmp_path):
    aerogel.compress(bert_folder, tmp_path / "packed")
    with pytest.raises(AerogelError, match="only 40 positions, too few for 128"):
        bench.bench(tmp_path / "packed")


def test_the_demo_finds_the_nearest_sentences(source, llama_folder, tmp_path):
    variants = demo.prepare(source, tmp_path, None, lambda *_: None)
    assert [v.name for v in variants] == ["dense fp32", "dense int8", "sparse int8, 80%", "sparse int8, 90%"]
    model = aerogel.load(source)
    everything = [line for lines in bench.sentences().values() for line in lines]
    assert len(everything) == len(set(everything)) >= 40
    [hits] = demo.search(model, [everything[7]], top=5)
    assert hits[0].sentence == everything[7] and hits[0].cosine == pytest.approx(1, abs=1e-5)
    assert [hit.cosine for hit in hits] == sorted((hit.cosine for hit in hits), reverse=True)
    with pytest.raises(UnsupportedModelError, match="needs an embedding model"):
        demo.search(aerogel.load(llama_folder), ["a"])


def test_the_demo_command(source, tmp_path):
    pytest.importorskip("typer")
    from typer.testing import CliRunner

    from aerogel.cli import app

    result = CliRunner().invoke(
        app, ["demo", "--model", str(source), "--json", str(tmp_path / "out.json")], catch_exceptions=False
    )
    assert result.exit_code == 0 and "sentences/s" in result.stdout and "How do I bake a loaf?" in result.stdout
    figures = json.loads((tmp_path / "out.json").read_text())
    assert len(figures["variants"]) == 4 and np.isfinite(figures["variants"][3]["cosine_mean"])


def test_minilm_finds_the_right_topics(minilm):
    model = aerogel.load(minilm)
    topics = [hits[0].topic for hits in demo.search(model, demo.QUERIES)]
    assert topics == ["cooking", "astronomy", "computers", "medicine", "sport", "money"]
