"""The scripts of examples/, each run with a tiny model."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

from .. import tiny_models

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name, *arguments):
    """The exit status of the script."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(argument) for argument in arguments])


def classifier(folder, labels):
    config = {
        **tiny_models.BERT,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(i): label for i, label in enumerate(labels)},
    }
    return tiny_models.write(folder, config, tiny_models.bert_weights(config), prefix="bert.")


def test_semantic_search(bert_folder, tmp_path, capsys):
    (tmp_path / "below").mkdir()
    (tmp_path / "one.md").write_text("the cat sat\non the mat\n\nbig red tree\n")
    (tmp_path / "below" / "two.txt").write_text("\n\na dog ran under the tree")
    (tmp_path / "other.bin").write_bytes(b"the cat sat on the mat")
    assert run("semantic_search", tmp_path, "the cat sat on the mat", "--model", bert_folder, "--top", 2) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(("1.000", "0.99")) and f"{tmp_path / 'one.md'}:1  the cat sat on the mat" in first
    assert float(second.split()[0]) < float(first.split()[0])
    assert run("semantic_search", tmp_path / "nothing", "tree", "--model", bert_folder) == 1


def test_rerank(bert_folder, tmp_path, capsys):
    passages = tmp_path / "passages.txt"
    passages.write_text("the cat sat\n\na dog\nran\n\n\n\nred tree\n\nblue mat\n")
    reranker = classifier(tmp_path / "reranker", ["score"])
    options = ("--reranker", reranker, "--model", bert_folder, "--candidates", 3, "--top", 2)
    assert run("rerank", "the big cat", passages, *options) == 0
    lines = capsys.readouterr().out.splitlines()
    scores = [float(line.split()[0]) for line in lines]
    assert len(lines) == 2 and scores == sorted(scores, reverse=True)
    assert all(re.search(r"\(was [123]\.\)  (the cat sat|a dog ran|red tree|blue mat)$", line) for line in lines)


def test_classify(tmp_path, capsys):
    model = classifier(tmp_path / "model", ["good", "bad", "neither"])
    assert run("classify", "--model", model, "the cat sat", "a dog") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == ["the cat sat", "a dog"]
    for line in lines:
        shares = [float(share) for share in re.findall(r"([\d.]+)%", line)]
        assert len(shares) == 3 and abs(sum(shares) - 100) < 0.3 and shares == sorted(shares, reverse=True)
        assert set(re.findall(r"good|bad|neither", line)) == {"good", "bad", "neither"}


def test_structured_chat(tmp_path, capsys):
    pytest.importorskip("llguidance")
    model = tiny_models.byte_llama(tmp_path)
    template = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
    (model / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    assert run("structured_chat", "Ada owes Bob 30 euros.", "--model", model) == 0
    assert re.fullmatch(r"(?s).{0,20} owes .{0,20} \d{1,6} (EUR|USD|GBP)\n", capsys.readouterr().out)


def test_compress_and_compare(bert_folder, tmp_path, capsys):
    out = tmp_path / "out"
    options = ("--model", bert_folder, "--sparsity", 0.5, "--method", "magnitude", "--out", out)
    assert run("compress_and_compare", *options) == 0
    said = capsys.readouterr().out
    assert re.search(r"[\d.]+ ms dense int8, [\d.]+ ms compressed", said)
    assert 0.3 < float(re.search(r"embeddings ([\d.]+), least", said)[1]) < 1
    assert (out / "model.safetensors").exists()
