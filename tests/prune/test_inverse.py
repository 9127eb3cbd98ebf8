"""Inverses by halves."""

import numpy as np
import pytest

from aerogel.prune.inverse import SMALL, inverse


@pytest.mark.parametrize("size", [0, 1, 5, SMALL + 1, 301])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_it_is_the_inverse(size, kind):
    random = np.random.default_rng(size)
    x = random.standard_normal((2 * size, size)) * np.exp(random.standard_normal(size))
    h = (x.T @ x / max(1, len(x)) + 0.1 * np.eye(size)).astype(kind)
    before = h.copy()
    found = inverse(h)
    np.testing.assert_array_equal(h, before)
    assert found.dtype == kind
    # as near as LAPACK's: the residual is that of rounding, times the condition
    residual = np.abs(found @ h - np.eye(size)).max(initial=0)
    assert residual < 20 * np.finfo(kind).eps * np.linalg.cond(h.astype(np.float64)) if size else residual == 0
    np.testing.assert_allclose(found, found.T, rtol=0, atol=1e3 * np.finfo(kind).eps * np.abs(found).max(initial=0))


def test_inputs_that_depend_on_each_other(size=900):
    """Few directions hold nearly everything: in float32 what elimination leaves would be rounding, and not definite."""
    random = np.random.default_rng(0)
    x = random.standard_normal((4000, 6)) @ random.standard_normal((6, size)) + 0.01 * random.standard_normal(
        (4000, size)
    )
    h = x.T @ x
    norms = np.sqrt(h.diagonal())
    h = (h / norms / norms[:, None] + 0.01 * np.eye(size)).astype(np.float32)
    found = inverse(h)
    assert np.linalg.eigvalsh(found.astype(np.float64)).min() > 0
    np.testing.assert_allclose(found @ h, np.eye(size), atol=2e-3)
