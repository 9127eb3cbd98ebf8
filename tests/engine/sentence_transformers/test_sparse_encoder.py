"""Against sentence-transformers' SparseEncoder, where it is installed."""

import numpy as np
import pytest

from aerogel import SparseEncoder
from aerogel.errors import UnsupportedModelError

from ..test_sparse_embedder import TEXTS, masked_folder, routed_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return masked_folder(tmp_path_factory.mktemp("splade") / "model", "relu")


@pytest.fixture(scope="module")
def ours(folder):
    return SparseEncoder(folder)


@pytest.fixture(scope="module")
def theirs(folder):
    return pytest.importorskip("sentence_transformers").SparseEncoder(str(folder), device="cpu")


CALLS = [{}, {"convert_to_sparse_tensor": False}, {"max_active_dims": 5}, {"batch_size": 2}, {"prompt": "the "}]


@pytest.mark.parametrize("options", CALLS, ids=lambda o: ",".join(o) or "plain")
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[0]], ids=["many", "one"])
def test_encode(ours, theirs, texts, options):
    got, expected = ours.encode(texts, **options), theirs.encode(texts, **options)
    assert type(got) is type(expected) and got.is_sparse == expected.is_sparse and got.shape == expected.shape
    np.testing.assert_allclose(got.to_dense(), expected.to_dense(), atol=2e-5)
    got, expected = (m.encode(TEXTS, convert_to_tensor=False, **options) for m in (ours, theirs))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a.to_dense(), b.to_dense(), atol=2e-5)


@pytest.mark.parametrize("name", [None, "cosine", "euclidean"])
def test_similarity(ours, theirs, name):
    if name is not None:
        ours.similarity_fn_name = theirs.similarity_fn_name = name
    assert ours.similarity_fn_name == theirs.similarity_fn_name
    rows, all_ours = theirs.encode(TEXTS), ours.encode(TEXTS)
    np.testing.assert_allclose(ours.similarity(all_ours, all_ours), theirs.similarity(rows, rows), atol=5e-3)
    np.testing.assert_allclose(
        ours.similarity_pairwise(all_ours, all_ours), theirs.similarity_pairwise(rows, rows), atol=1e-4
    )


def test_terms(ours, theirs):
    got, expected = (m.decode(m.encode(TEXTS), top_k=3) for m in (ours, theirs))
    assert [[term for term, _ in row] for row in got] == [[term for term, _ in row] for row in expected]
    assert ours.decode(ours.encode(TEXTS[0]), top_k=3) == got[0]
    assert ours.sparsity(ours.encode(TEXTS)) == pytest.approx(theirs.sparsity(theirs.encode(TEXTS)))
    assert ours.get_sentence_embedding_dimension() == theirs.get_embedding_dimension()


def test_what_is_refused(bert_folder):
    with pytest.raises(UnsupportedModelError, match="not a masked language model"):
        SparseEncoder(bert_folder)


def test_a_router(tmp_path):
    library = pytest.importorskip("sentence_transformers")
    routed_folder(tmp_path)
    ours, theirs = SparseEncoder(tmp_path), library.SparseEncoder(str(tmp_path), device="cpu")
    for call in ("encode", "encode_query", "encode_document"):
        got, expected = (getattr(m, call)(TEXTS, convert_to_sparse_tensor=False) for m in (ours, theirs))
        width = expected.shape[1]  # the table's has no rows for tokens that the tokenizer lacks
        np.testing.assert_allclose(got[:, :width], expected, atol=2e-5)
