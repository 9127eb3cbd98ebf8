"""Steps whose batch is shared out to threads against those of one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from aerogel.architectures import pooling_of  # noqa: E402
from aerogel.checkpoint import open_checkpoint  # noqa: E402
from aerogel.train import Options  # noqa: E402
from aerogel.train.batches import Batch, Sequences  # noqa: E402
from aerogel.train.loop import Loop, threads  # noqa: E402
from aerogel.train.trainee import Outputs, Trainee, open_trainee  # noqa: E402
from aerogel.train.updates import PART_TOKENS, Terms, Updates  # noqa: E402

RANDOM = np.random.default_rng(5)
ROWS = [RANDOM.integers(5, 18, RANDOM.integers(5, 40)).tolist() for _ in range(60)]


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=30),
    most=st.integers(1, 5),
    least=st.integers(1, 60),
)
@settings(max_examples=200, deadline=None)
def test_parts_are_the_batch_cut_between_sequences(lengths: list[int], most: int, least: int) -> None:
    rows = [np.full(length, i) for i, length in enumerate(lengths)]
    batch = Sequences(rows).batch(np.arange(len(rows)))
    parts = batch.parts(most, least)
    assert 1 <= len(parts) <= max(1, min(most, len(rows), sum(lengths) // least))
    for name in ("ids", "lengths", "index"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    assert all(len(part.ids) == part.counts.sum() == int(part.lengths.sum()) > 0 for part in parts)
    spread = [len(part.ids) for part in parts]
    assert len(parts) == 1 or max(spread) <= sum(lengths) / len(parts) + 2 * max(lengths) * max(
        1, most - len(parts) + 1
    )


def objective(batch: Batch) -> Terms:

    def terms(outputs: Outputs) -> dict[str, torch.Tensor]:  # a mean over tokens, so that parts add up to the whole
        return {"last": outputs.hidden[-1].square().mean(), "first": outputs.hidden[1].abs().mean()}

    return terms


@pytest.fixture
def two_threads() -> Iterator[None]:
    with threads(2):
        yield


def steps(folder: Path, **options: float) -> tuple[Trainee, list[dict[str, float]], Updates]:
    checkpoint = open_checkpoint(folder)
    student = open_trainee(checkpoint, pooling_of(checkpoint))
    updates = Updates(student, objective, Options(steps=1, precision="float32", **options))
    batch = Sequences(ROWS).batch(np.arange(len(ROWS)))
    assert len(batch.ids) > 3 * PART_TOKENS
    return student, [updates.update([batch], 1e-2, None) for _ in range(3)], updates


def test_two_threads_take_the_steps_of_one(bert_folder: Path, two_threads: None) -> None:
    student, losses, updates = steps(bert_folder)
    assert updates.threads_of_part == 1
    with threads(1):
        alone, expected, lonely = steps(bert_folder)
    assert lonely.threads_of_part == 1 and lonely._pool is None and updates._pool is not None
    for ours, theirs in zip(losses, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)
    assert losses[-1]["last"] < losses[0]["last"]
    again, same, _ = steps(bert_folder)
    assert same == losses
    for name, parameter in student.named().items():
        assert torch.equal(parameter, again.named()[name]), name
        torch.testing.assert_close(parameter, alone.named()[name], atol=2e-2, rtol=0)


def test_batches_of_a_step_add_up_and_parameters_may_share_a_gradient(bert_folder: Path, two_threads: None) -> None:
    batches = [Sequences(ROWS).batch(np.arange(begin, begin + 30)) for begin in (0, 30)]
    gradients = []
    for count in (2, 1):
        with threads(count):
            student = open_trainee(open_checkpoint(bert_folder))
            twin = torch.nn.Parameter(torch.zeros(48))
            other = torch.nn.Parameter(torch.zeros(48))
            student.register_parameter("twin", twin)
            student.register_parameter("other", other)

            def shifted(batch: Batch, twin=twin, other=other) -> Terms:
                return lambda outputs: {"sum": (outputs.hidden[-1] + (twin + other)).square().mean()}

            updates = Updates(student, shifted, Options(steps=1, precision="float32", clip=0.0))
            updates.update(batches, 0.0, None)
            gradients.append([p.grad.clone() for p in updates.trained if p.grad is not None])
            assert torch.equal(twin.grad, other.grad) and twin.grad.data_ptr() != other.grad.data_ptr()
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)


def test_dropout_is_drawn_by_one(bert_folder: Path, two_threads: None) -> None:
    _, _, updates = steps(bert_folder, dropout=0.1)
    assert updates._pool is None and updates.threads_of_part == 2


def test_what_is_pruned_has_no_gradient(bert_folder: Path, two_threads: None) -> None:
    checkpoint = open_checkpoint(bert_folder)
    student = open_trainee(checkpoint, pooling_of(checkpoint))
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.ndim == 2:
                parameter[:, ::2] = 0
    loop = Loop(student, Sequences(ROWS), objective, Options(steps=4, sparsity=0.0, batch_tokens=800, threads=2), {})
    loop.run()  # verifies
    assert loop.finished and loop.sparsity == pytest.approx(0.5, abs=1e-3)
    weight = student.get_parameter("encoder.layer.0.output.dense.weight")
    assert not weight[:, ::2].any() and weight[:, 1::2].all() and weight.grad is not None
    assert not weight.grad[:, ::2].any()
