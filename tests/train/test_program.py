"""Gradients of ops, whose values tests/architectures/test_ops.py compares: padding leaves no trace in them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from aerogel.train.batches import Batch  # noqa: E402
from aerogel.train.program import Ragged  # noqa: E402

LENGTHS = [1, 3, 20]


def ragged(lengths):
    lengths = torch.tensor(lengths)
    return Ragged(
        Batch(torch.arange(int(lengths.sum())), lengths, torch.arange(len(lengths)), lengths.numpy()),
        {},
        lambda x: x,
        frozenset(),
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("options", [{}, {"window": 2}, {"softcap": 2.0}, {"window": 2, "softcap": 2.0}])
def test_gradients_of_attention_are_those_of_single_texts(options, causal):
    torch.manual_seed(0)
    x = torch.randn(sum(LENGTHS), (4 + 2 * 2) * 8)
    table = torch.randn(2 * 5 + 1, 4)  # heads last, as files have it
    wanted_of = torch.randn(len(x), 32)
    gradients = []
    for pieces in ([LENGTHS], [[length] for length in LENGTHS]):
        rows, biases, begin = x.clone().requires_grad_(), table.clone().requires_grad_(), 0
        for lengths in pieces:
            count = sum(lengths)
            y = ragged(lengths).attention(
                "a",
                rows[begin : begin + count],
                4,
                2,
                8,
                causal,
                bias=biases.T,
                slopes=torch.full((4,), 0.1),
                **options,
            )
            (y * wanted_of[begin : begin + count]).sum().backward()
            begin += count
        gradients.append((rows.grad, biases.grad))
    for together, apart in zip(*gradients, strict=True):
        assert together.abs().max() > 0.1
        torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-4)


def test_what_a_window_hides_has_no_gradient():
    x = torch.randn(20, (4 + 2 * 2) * 8, requires_grad=True)
    y = ragged([20]).attention("a", x, 4, 2, 8, False, window=3)
    y[10].sum().backward()
    assert x.grad[:, 32:].abs().sum(1).nonzero().flatten().tolist() == list(range(7, 14))


def test_norms_gates_and_factors_have_gradients():
    x, gammas = torch.randn(5, 8 * 4, requires_grad=True), [torch.rand(4, requires_grad=True) for _ in range(2)]
    program = ragged([5])
    program.scale(program.gate(program.qk_norm("n", x, 4, 2, 4, *gammas, 1e-6), "gelu_tanh"), 3.0).sum().backward()
    assert all(t.grad.isfinite().all() and t.grad.abs().max() > 0 for t in (x, *gammas))
