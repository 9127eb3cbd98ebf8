"""Products in pieces."""

import numpy as np
import pytest

from aerogel._util.workers import workers
from aerogel.prune import products
from aerogel.prune.products import product


@pytest.mark.parametrize("shape", [(1, 1, 1), (9, 5, 3), (3, 5, 9), (2, 4, 2), (7, 3, 7)])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_pieces_are_the_product(shape, kind, monkeypatch):
    monkeypatch.setattr(products, "SMALL", 0)
    n, k, m = shape
    random = np.random.default_rng(n)
    a, b = random.standard_normal((n, k)).astype(kind), random.standard_normal((k, m)).astype(kind)
    found = [product(a, b)]
    for threads in (1, 3):
        with workers(threads):
            found.append(product(a, b, np.empty((n, m), kind)))
    assert all(np.array_equal(one, found[0]) and one.dtype == kind for one in found)
    np.testing.assert_allclose(found[0], np.einsum("nk,km->nm", a, b), rtol=1e-4, atol=1e-5)
