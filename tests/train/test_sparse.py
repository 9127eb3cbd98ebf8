"""Products that skip what is pruned: the dense ones, forward and backward."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")

from torch.nn import functional as F  # noqa: E402

from aerogel.train.sparse import DENSEST, DENSEST_BESIDE_BF16, FEWEST_ROWS, SparseProducts  # noqa: E402


@pytest.mark.parametrize("shapes", [[(48, 40)], [(24, 33), (8, 33), (7, 33)], [(1, 7)], [(70, 1)]])
def test_the_dense_product_and_its_gradients(shapes: list[tuple[int, int]]) -> None:
    torch.manual_seed(0)
    names = tuple(f"w{i}" for i in range(len(shapes)))
    masks = {name: torch.rand(shape) < 0.2 for name, shape in zip(names, shapes, strict=True)}
    masks["w0"][0] = False  # a row of nothing
    weights = [torch.nn.Parameter(torch.randn(mask.shape) * mask) for mask in masks.values()]
    x = torch.randn(FEWEST_ROWS + 3, shapes[0][1], requires_grad=True)
    towards = torch.randn(len(x), sum(n for n, _ in shapes))
    products, bias = SparseProducts(masks, threads=1), torch.randn(towards.shape[1], requires_grad=True)
    y = products(names, x, weights, bias)
    assert y is not None
    found = torch.autograd.grad((y * towards).sum(), [x, bias, *weights])
    dense = F.linear(x, torch.cat(weights), bias)
    expected = list(torch.autograd.grad((dense * towards).sum(), [x, bias, *weights]))
    expected[2:] = [gradient * mask for gradient, mask in zip(expected[2:], masks.values(), strict=True)]
    for got, wanted in zip([y, *found], [dense, *expected], strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-5)
    with torch.no_grad():  # values that change at places that stay
        weights[0] *= 2
    again = products(names, x.detach(), weights, None)
    torch.testing.assert_close(again, F.linear(x, torch.cat(weights)), atol=1e-4, rtol=1e-5)


def test_what_is_dense_few_or_in_another_precision_is_pytorchs() -> None:
    weight, x = torch.zeros(8, 8), torch.randn(FEWEST_ROWS, 8)
    weight[0] = 1
    products = SparseProducts({"sparse": weight != 0, "dense": weight == 0}, threads=1)
    assert products(("sparse",), x, [weight], None) is not None
    assert products(("sparse",), x[1:], [weight], None) is None
    assert products(("sparse",), x.double(), [weight], None) is None
    assert products(("dense",), x, [weight], None) is None and products(("other",), x, [weight], None) is None
    assert products(("sparse", "dense"), x, [weight, weight], None) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert products(("sparse",), x, [weight], None) is not None
        assert products(("sparse",), x.double(), [weight], None) is None


def test_beside_bfloat16_fewer_weights_are_worth_it_and_gradients_have_the_types_of_what_they_are_of() -> None:
    torch.manual_seed(0)
    masks = {"few": torch.rand(64, 96) < DENSEST_BESIDE_BF16 - 0.05, "more": torch.rand(64, 96) < DENSEST - 0.02}
    weights = {name: torch.nn.Parameter(torch.randn(mask.shape) * mask) for name, mask in masks.items()}
    products = SparseProducts(masks, threads=1)
    x = torch.randn(FEWEST_ROWS, 96).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        assert products(("more",), x, [weights["more"]], None) is None
        y = products(("few",), x, [weights["few"]], None)
    assert y is not None and y.dtype == torch.float32
    torch.testing.assert_close(y, F.linear(x.float(), weights["few"]), atol=1e-4, rtol=1e-4)
    below, gradient = torch.autograd.grad(y.square().sum(), [x, weights["few"]])
    assert below.dtype == torch.bfloat16 and gradient.dtype == torch.float32
    torch.testing.assert_close(below.float(), 2 * y.detach() @ weights["few"].detach(), atol=0.5, rtol=1e-2)
