"""Encoders of BERT's kind are distilled and fine-tuned under the names and classes that Transformers has for them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

import aerogel  # noqa: E402
from aerogel.checkpoint import open_checkpoint  # noqa: E402
from aerogel.train import Options, distill, finetune, losses  # noqa: E402
from aerogel.train.batches import Sequences  # noqa: E402
from aerogel.train.trainee import open_trainee  # noqa: E402

from .. import tiny_models  # noqa: E402
from ..architectures import peers  # noqa: E402
from ..architectures.test_deberta import V1, V3  # noqa: E402
from ..architectures.test_encoders import FAMILIES  # noqa: E402

RANDOM = np.random.default_rng(3)
TEXTS = [" ".join(RANDOM.choice(tiny_models.WORDS, 4).tolist()) for _ in range(60)]
QUICK = {"batch_tokens": 192, "threads": 1, "lr": 3e-3}


@pytest.mark.parametrize("family", ["Bert", "Roberta", "Camembert", "DistilBert", "Electra", "Albert"])
def test_a_classifier_is_made_and_a_student_keeps_its_zeros(tmp_path: Path, family: str) -> None:
    peers.save(tmp_path / "base", family + "Model", **FAMILIES[family][0])
    peers.tokenizer(tmp_path / "base")
    labels = [i % 3 for i in range(len(TEXTS))]
    options = Options(steps=4, sparsity=0.0, quant=None, **QUICK)
    done = finetune(tmp_path / "base", tmp_path / "task", TEXTS, labels, options=options)
    name = family + "ForSequenceClassification"
    assert done.steps == 4
    assert json.loads((tmp_path / "task" / "config.json").read_text())["architectures"] == [name]
    expected = peers.outputs(peers.reload(tmp_path / "task", name))["logits"]
    got = aerogel.load(tmp_path / "task").forward(peers.SEQUENCES, output="scores")
    np.testing.assert_allclose(got, expected, atol=1e-4)
    done = distill(
        tmp_path / "base", tmp_path / "out", TEXTS, options=Options(steps=6, sparsity=0.5, stages=2, **QUICK)
    )
    assert done.sparsity == pytest.approx(0.5, abs=2e-3)
    hidden = peers.outputs(peers.reload(tmp_path / "out", family + "Model"))["hidden"]
    np.testing.assert_allclose(aerogel.load(tmp_path / "out").forward(peers.SEQUENCES), hidden, atol=1e-4)


@pytest.mark.parametrize(
    "config", [("DebertaV2Model", V3), ("DebertaModel", V1), ("BertModel", FAMILIES["Bert"][0])], ids=str
)
def test_linears_in_bfloat16_and_attention_beside_them(tmp_path: Path, config: tuple[str, dict]) -> None:
    name, sizes = config
    peers.save(tmp_path, name, **sizes)
    checkpoint = open_checkpoint(tmp_path)
    model = open_trainee(checkpoint)
    batch = Sequences(peers.SEQUENCES).batch(np.arange(len(peers.SEQUENCES)))
    exact = model(batch).hidden[-1]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(batch, attention=True)
    assert {x.dtype for x in rounded.attention} == {torch.float32}
    assert 0 < losses.match([rounded.hidden[-1]], [exact.detach()]) < 1e-2
    rounded.hidden[-1].float().square().mean().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "query" in n or "in_proj" in n)
