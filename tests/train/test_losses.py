"""Losses: zero for a perfect student, and what the formulas say."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from torch.nn import functional as F  # noqa: E402

from aerogel.train import losses  # noqa: E402


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_perfect_student_has_no_loss() -> None:
    x = random(20, 8)
    assert losses.match([x, x], [x, x]) == 0
    assert losses.cosine(3 * x, x) == pytest.approx(0, abs=1e-6)
    assert losses.relation(2 * x, x) == pytest.approx(0, abs=1e-6)
    assert losses.divergence(x, x + 1, 2.0) == pytest.approx(0, abs=1e-5)


def test_what_the_mean_predicts_costs_one() -> None:
    x = random(500, 8)
    assert losses.match([x.mean(0).expand_as(x)], [x]) == pytest.approx(1, rel=0.01)


def test_divergence_is_kl_whatever_the_pieces() -> None:
    s, t = random(600, 5), random(600, 5, seed=1)
    p, q = torch.softmax(t / 2, 1).double(), torch.softmax(s / 2, 1).double()
    assert float(losses.divergence(s, t, 2.0)) == pytest.approx(float(4 * (p * (p / q).log()).sum(1).mean()), rel=1e-4)


def test_relation_of_a_single_sequence_is_zero_and_has_a_gradient() -> None:
    x = random(1, 4).requires_grad_()
    losses.relation(x, random(1, 4)).backward()
    assert not np.any(x.grad.numpy())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_top_of_a_distribution_and_the_rest_as_one(temperature: float) -> None:
    s, t = random(300, 9), random(300, 9, seed=1)
    p, q = (torch.softmax(x.double() / temperature, 1) for x in (t, s))
    best = p.topk(3, dim=1).indices
    some = [torch.cat([x.gather(1, best), 1 - x.gather(1, best).sum(1, keepdim=True)], 1) for x in (p, q)]
    expected = temperature**2 * (some[0] * (some[0] / some[1]).log()).sum(1).mean()
    top = losses.top_of(t, 3, temperature)
    assert float(losses.top_divergence(s, top, temperature)) == pytest.approx(float(expected), rel=1e-4)
    assert float(losses.top_divergence(t, top, temperature)) == pytest.approx(0, abs=1e-6)
    whole = losses.top_divergence(s, losses.top_of(t, 9, temperature), temperature)
    assert float(whole) == pytest.approx(float(losses.divergence(s, t, temperature)), rel=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("rows", [3, 70])
def test_the_gradient_of_the_top_is_that_of_autograd(temperature: float, rows: int) -> None:
    torch.manual_seed(1)
    teacher = losses.top_of(torch.randn(rows, 50) * 3, 7, temperature)
    logits = (torch.randn(rows, 50) * 3).requires_grad_()
    log = F.log_softmax(logits / temperature, dim=1)
    ours = log.gather(1, teacher.index)
    rests = [1 - part.exp().sum(1) for part in (teacher.log, ours)]
    told, rest = (teacher.log.exp() * (teacher.log - ours)).sum(), (rests[0] * (rests[0] / rests[1]).log()).sum()
    expected = (told + rest) * temperature**2 / rows
    got = losses.top_divergence(logits, teacher, temperature)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    (ours_gradient,) = torch.autograd.grad(3 * got, logits)
    (theirs,) = torch.autograd.grad(3 * expected, logits)
    torch.testing.assert_close(ours_gradient, theirs, atol=1e-6, rtol=1e-4)
