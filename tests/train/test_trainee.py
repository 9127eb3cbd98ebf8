"""The ragged BERT against transformers' and aerogel's own; gradients through padding."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

import aerogel  # noqa: E402
from aerogel.architectures.pooling import MODES, Pooling  # noqa: E402
from aerogel.checkpoint import open_checkpoint  # noqa: E402
from aerogel.train.batches import Sequences  # noqa: E402
from aerogel.train.linear_inputs import inputs_of  # noqa: E402
from aerogel.train.trainee import open_trainee  # noqa: E402

from .. import tiny_models  # noqa: E402

ROWS = [[2, 5, 6, 7, 3], [2, 9, 3], [2, 8, 8, 10, 12, 20, 3]]


def everything() -> np.ndarray:
    return np.arange(len(ROWS))


@pytest.fixture(scope="module")
def model(bert_folder):
    return open_trainee(open_checkpoint(bert_folder)).eval()


def test_hidden_states_and_embeddings_are_those_of_the_engine(model, bert_folder) -> None:
    engine = aerogel.load(bert_folder)
    with torch.no_grad():
        ours = model(Sequences(ROWS).batch(everything()))
    np.testing.assert_allclose(ours.hidden[-1].numpy(), engine.forward(ROWS, output="hidden"), atol=2e-5)
    np.testing.assert_allclose(ours.embedding.numpy(), engine.forward(ROWS, output="pooled"), atol=2e-5)
    assert len(ours.hidden) == 3


def test_every_hidden_state_is_that_of_transformers(model, bert_folder) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    reference = transformers.BertModel.from_pretrained(bert_folder, attn_implementation="eager").eval()
    batch = Sequences(ROWS).batch(everything())
    with torch.no_grad():
        ours = model(batch, attention=True)
        for i, row in enumerate(ROWS):
            theirs = reference(torch.tensor([row]), output_hidden_states=True).hidden_states
            begin = sum(len(r) for r in ROWS[:i])
            for a, b in zip(ours.hidden, theirs, strict=True):
                torch.testing.assert_close(a[begin : begin + len(row)], b[0], atol=2e-5, rtol=1e-4)
    assert [x.shape for x in ours.attention] == [(len(batch.ids), 48)] * 2


def test_gradients_do_not_depend_on_what_else_is_in_the_batch(model) -> None:
    def gradient(rows, weights):
        model.zero_grad()
        out = model(Sequences(rows).batch(np.arange(len(rows)))).embedding
        (out * weights).sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    weights = torch.randn(3, 48, generator=torch.Generator().manual_seed(0))
    together = gradient(ROWS, weights)
    alone = [gradient([row], weights[i : i + 1]) for i, row in enumerate(ROWS)]
    for name, value in together.items():
        torch.testing.assert_close(value, sum(part[name] for part in alone), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_poolings(bert_folder, mode: str) -> None:
    ours = open_trainee(open_checkpoint(bert_folder), Pooling((mode, "mean"), False)).eval()
    with torch.no_grad():
        out = ours(Sequences(ROWS).batch(everything()))
    begin = 0
    for i, row in enumerate(ROWS):
        tokens = out.hidden[-1][begin : begin + len(row)]
        places = torch.arange(1, len(row) + 1)[:, None]
        expected = {
            "mean": tokens.mean(0),
            "cls": tokens[0],
            "max": tokens.amax(0),
            "last": tokens[-1],
            "mean_sqrt_len": tokens.sum(0) / len(row) ** 0.5,
            "weightedmean": (tokens * places).sum(0) / places.sum(),
        }[mode]
        expected = torch.cat([expected, tokens.mean(0)])
        torch.testing.assert_close(out.embedding[i], expected, atol=1e-5, rtol=1e-5)
        begin += len(row)


@pytest.mark.parametrize("head", ["BertForSequenceClassification", "BertForMaskedLM"])
def test_heads_are_those_of_the_engine(tmp_path, head: str) -> None:
    config = {**tiny_models.BERT, "architectures": [head]}
    if head == "BertForSequenceClassification":
        config["id2label"] = {"0": "no", "1": "yes", "2": "maybe"}
    folder = tiny_models.write(tmp_path / "m", config, tiny_models.bert_weights(config), prefix="bert.")
    with torch.no_grad():
        ours = open_trainee(open_checkpoint(folder)).eval()(Sequences(ROWS).batch(everything())).logits
    output = "scores" if head == "BertForSequenceClassification" else "logits"
    np.testing.assert_allclose(ours.numpy(), aerogel.load(folder).forward(ROWS, output=output), atol=5e-5, rtol=1e-4)


def test_statistics_of_inputs(model) -> None:
    batch = Sequences(ROWS).batch(everything())
    names = [f"encoder.layer.1.attention.self.{part}.weight" for part in ("query", "key", "value")]
    names.append("encoder.layer.1.intermediate.dense.weight")
    found = inputs_of(model, names, [batch, batch])
    assert set(found) == set(names)
    assert found[names[0]][1] is found[names[1]][1] is found[names[2]][1], "one input, one matrix"
    assert not np.array_equal(found[names[0]][1], found[names[3]][1])
    tokens, gram, largest = found[names[0]]
    with torch.no_grad():
        x = model(batch).hidden[1].numpy()
    assert tokens == 2 * len(x)
    np.testing.assert_allclose(gram, x.T @ x / len(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(largest, np.abs(x).max(0), rtol=1e-6)
    assert not any(module._forward_pre_hooks for module in model.modules())
