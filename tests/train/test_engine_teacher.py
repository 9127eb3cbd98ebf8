"""The teacher in the engine against the engine's own model, and against PyTorch's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

import aerogel  # noqa: E402
from aerogel.architectures import pooling_of  # noqa: E402
from aerogel.checkpoint import open_checkpoint  # noqa: E402
from aerogel.errors import RecipeError  # noqa: E402
from aerogel.train import Options, losses  # noqa: E402
from aerogel.train.batches import Sequences  # noqa: E402
from aerogel.train.engine_teacher import EngineTeacher  # noqa: E402
from aerogel.train.teacher import Teacher  # noqa: E402
from aerogel.train.trainee import Outputs, open_trainee  # noqa: E402

ROWS = [[2, 5, 6, 7, 3], [2, 9, 3], [2, 8, 8, 10, 12, 18, 3]]


def outputs(folder: Path, teacher: str, **options: float) -> Outputs:
    checkpoint, sequences = open_checkpoint(folder), Sequences(ROWS)
    model = open_trainee(checkpoint, pooling_of(checkpoint))
    made = Teacher(checkpoint, model, sequences, Options(steps=1, threads=1, teacher=teacher, **options))
    assert not made.cached
    return made(sequences.batch(np.array([1, 0, 2])))


@pytest.mark.parametrize(("model", "output"), [("bert_folder", "pooled"), ("llama_folder", "logits")])
def test_it_gives_what_the_int8_model_gives_and_about_what_pytorch_gives(
    model: str, output: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(model)
    got = outputs(folder, "int8", top_logits=0, augment=0.5)
    exact = outputs(folder, "float32", top_logits=0, augment=0.5)
    rounded = aerogel.load(folder, threads=1, quant="int8", format="dense")
    ids = [ROWS[1], ROWS[0], ROWS[2]]
    assert len(got.hidden) == len(exact.hidden) == open_trainee(open_checkpoint(folder)).architecture.layers
    np.testing.assert_allclose(got.hidden[-1].numpy(), rounded.forward(ids, output="hidden"), atol=1e-5)
    ours = got.embedding if output == "pooled" else got.logits
    assert ours is not None
    np.testing.assert_allclose(ours.numpy(), rounded.forward(ids, output=output), atol=1e-5)
    assert 0 < losses.match(got.hidden, exact.hidden) < 1e-2
    assert all((a != b).any() for a, b in zip(got.hidden, got.hidden[1:], strict=False))


def test_a_packed_model_teaches_what_it_is(bert_folder: Path, tmp_path: Path) -> None:
    aerogel.compress(bert_folder, tmp_path / "packed", quant="none")
    checkpoint = open_checkpoint(tmp_path / "packed")
    batch = Sequences(ROWS).batch(np.arange(3))
    model = open_trainee(checkpoint, pooling_of(checkpoint)).eval()
    got = EngineTeacher(checkpoint, model, 1)(batch)
    with torch.no_grad():
        exact = model(batch)
    for ours, theirs in zip(got.hidden, exact.hidden[1:], strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(got.embedding, exact.embedding, atol=2e-5, rtol=1e-4)


def test_what_attention_gives_is_learned_from_pytorch(bert_folder: Path) -> None:
    assert len(outputs(bert_folder, "int8", attention=1.0, augment=0.5).attention) == 2
    with pytest.raises(RecipeError, match="teacher: expected int8 or float32, got 'int4'"):
        Options(steps=1, teacher="int4")
