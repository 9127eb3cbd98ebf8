"""Steps in white coordinates: that they are what the linear algebra says, row by row, and that masks and runs hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from aerogel.train import Options, distill  # noqa: E402
from aerogel.train.whitening import DAMPING, Basis, _Linear  # noqa: E402

from .. import tiny_models  # noqa: E402
from .test_distillation import QUICK, interrupted, sparsity  # noqa: E402

TEXTS = [" ".join(np.random.default_rng(i).choice(tiny_models.WORDS, 3 + i % 9).tolist()) for i in range(90)]


def inputs(count: int, width: int) -> torch.Tensor:
    """Correlated, and with a mean."""
    draw = torch.Generator().manual_seed(1)
    return torch.randn(count, width, generator=draw) @ torch.randn(width, width, generator=draw) + 3


def test_a_step_is_down_the_inverse_of_the_kept_covariance() -> None:
    """With a plain gradient step in the coordinates, that of a row is C_SS^-1 of its gradient about the mean."""
    draw = torch.Generator().manual_seed(2)
    width, height, rank = 24, 9, 20
    x = inputs(200, width)
    mean, second = x.mean(0), x.T @ x / len(x)
    basis = Basis.of(second, mean, rank)
    kept = torch.rand(height, width, generator=draw) < 0.4
    kept[3] = False
    weight = torch.nn.Parameter(torch.randn(height, width, generator=draw) * kept)
    bias = torch.nn.Parameter(torch.randn(height, generator=draw))
    before, offset = weight.detach().clone(), bias.detach().clone()
    gradient, slope = torch.randn(height, width, generator=draw), torch.randn(height, generator=draw)
    weight.grad, bias.grad = gradient.clone(), slope.clone()
    linear = _Linear(weight, bias, basis, kept)
    linear.enter()
    weight.detach().sub_(weight.grad)
    linear.leave()
    covariance = second - torch.outer(mean, mean)
    covariance /= covariance.diagonal().mean()
    values, vectors = torch.linalg.eigh(covariance)
    low = (vectors[:, -rank:] * values[-rank:]) @ vectors[:, -rank:].T
    taken = low + torch.diag((covariance - low).diagonal() + DAMPING)
    centred = gradient - torch.outer(slope, mean)
    for row in range(height):
        at = kept[row].nonzero()[:, 0]
        expected = torch.zeros(width)
        expected[at] = -torch.linalg.solve(taken[at][:, at], centred[row, at])
        step = weight.detach()[row] - before[row]
        torch.testing.assert_close(step, expected, rtol=2e-3, atol=2e-3 * float(expected.abs().max() + 1e-3))
    step = weight.detach() - before
    torch.testing.assert_close(bias.detach() - offset, -step @ mean, rtol=1e-4, atol=1e-4)
    assert not step[~kept].any()


def test_a_run_keeps_its_zeros_and_learns_faster(bert_folder: Path, tmp_path: Path) -> None:
    """At a high rate, of which plain AdamW loses the fit first (.044 and .029 when this was written)."""
    ends = []
    for rank in (0, 8):
        options = Options(steps=60, sparsity=0.5, whiten=rank, lr=3e-3, augment=0.0, quant=None, **QUICK)
        done = distill(bert_folder, tmp_path / str(rank), TEXTS, options=options)
        assert sparsity(tmp_path / str(rank)) == pytest.approx(0.5, abs=2e-3) == done.sparsity
        ends.append(done.losses["hidden"])
    assert ends[1] < 0.8 * ends[0]


@pytest.mark.parametrize("stages, stop", [(None, 0), (None, 8), (3, 8)])
def test_a_resumed_run_is_the_same_to_the_bit(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: int | None, stop: int
) -> None:
    monkeypatch.setattr("aerogel.train.loop.WHITEN", 5)
    options = Options(steps=14, sparsity=0.6, stages=stages, whiten=8, save_minutes=1e-9, **QUICK)
    distill(bert_folder, tmp_path / "whole", TEXTS, options=options)
    interrupted(monkeypatch, bert_folder, tmp_path / "parts", options, stop)
    distill(bert_folder, tmp_path / "parts", TEXTS, options=options, resume=True)
    for file in ("model.safetensors", "training.json"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
