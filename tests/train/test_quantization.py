"""Rounding in training is the rounding of compression, and leaves the float weights alone."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from aerogel.quantize import scheme  # noqa: E402
from aerogel.train.quantization import fake_quantized, rounded  # noqa: E402


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 40), st.sampled_from([1e-41, 1e-3, 1.0, 1e30]))
@settings(deadline=None)
def test_int8_is_compressions_to_the_bit(seed: int, n: int, k: int, size: float) -> None:
    random = np.random.default_rng(seed)
    weight = (size * random.standard_normal((n, k))).astype(np.float32)
    weight[random.random((n, k)) < 0.5] = 0
    weight[0] = 0
    np.testing.assert_array_equal(rounded(torch.from_numpy(weight), "int8").numpy(), scheme("int8")(weight).dense())


def test_any_scheme() -> None:
    weight = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
    np.testing.assert_array_equal(rounded(torch.from_numpy(weight), "bf16").numpy(), scheme("bf16")(weight).dense())


def test_the_gradient_is_taken_at_the_rounded_weights_and_belongs_to_the_float_ones() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 6, generator=torch.Generator().manual_seed(1)))
    before = weight.detach().clone()
    with fake_quantized([weight], "int8"):
        (weight**2).sum().backward()
    torch.testing.assert_close(weight.grad, 2 * rounded(before, "int8"), atol=0, rtol=0)
    assert torch.equal(weight, before) and not torch.equal(weight.grad, 2 * before)


def test_an_error_restores_the_weights() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 6))
    before = weight.detach().clone()
    with pytest.raises(ZeroDivisionError), fake_quantized([weight], "int8"):
        raise ZeroDivisionError
    assert torch.equal(weight, before)


def test_none_rounds_nothing() -> None:
    weight = torch.nn.Parameter(torch.randn(2, 2))
    with fake_quantized([weight], None):
        inside = weight.detach().clone()
    assert torch.equal(inside, weight)
