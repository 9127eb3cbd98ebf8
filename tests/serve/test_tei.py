"""The routes of text-embeddings-inference, beside what the models give when they are called."""

import numpy as np
import pytest

from .client import get, post

TEXTS = ["the cat sat on the mat", "a big dog", "red"]


def test_embed(app, loaded):
    found = post(app, "/embed", {"inputs": TEXTS, "unknown": 1})
    assert found.status == 200 and found.headers["content-type"] == "application/json"
    np.testing.assert_allclose(found.json, loaded["embedder"].encode(TEXTS), atol=1e-6)
    one = post(app, "/embed", {"inputs": TEXTS[0], "normalize": False, "prompt_name": "query"}).json
    np.testing.assert_allclose(one, loaded["embedder"].encode(TEXTS[:1], normalize=False, prompt="the "), atol=1e-6)
    short = post(app, "/embed", {"inputs": TEXTS, "dimensions": 5}).json
    np.testing.assert_allclose(short, loaded["embedder"].encode(TEXTS, truncate_dim=5, normalize=True), atol=1e-6)
    ids = loaded["embedder"].tokenizer.encode(["a big dog"])[0]
    same = post(app, "/embed", {"inputs": ids}).json
    np.testing.assert_allclose(same, loaded["embedder"].encode(["a big dog"]), atol=1e-6)
    np.testing.assert_allclose(post(app, "/embed", {"inputs": [ids, "red"]}).json[0], same[0], atol=1e-6)


def test_all_tokens_and_terms(app, loaded):
    rows = post(app, "/embed_all", {"inputs": TEXTS[:2]}).json
    for row, expected in zip(rows, loaded["embedder"].token_embeddings(TEXTS[:2]), strict=True):
        np.testing.assert_allclose(row, expected, atol=1e-5)
    [terms] = post(app, "/embed_sparse", {"inputs": TEXTS[0], "model": "terms"}).json
    ids, weights = loaded["terms"].encode_sparse(TEXTS[0]).row(0)
    assert [one["index"] for one in terms] == ids.tolist()
    np.testing.assert_allclose([one["value"] for one in terms], weights, rtol=1e-5)


def test_rerank(app, loaded):
    expected = loaded["reranker"].predict([("cat", text) for text in TEXTS])
    found = post(app, "/rerank", {"query": "cat", "texts": TEXTS, "return_text": True}).json
    assert [one["index"] for one in found] == np.argsort(-expected).tolist()
    assert [one["text"] for one in found] == [TEXTS[one["index"]] for one in found]
    np.testing.assert_allclose([one["score"] for one in found], np.sort(expected)[::-1], atol=1e-6)
    raw = post(app, "/rerank", {"query": "cat", "texts": TEXTS[:1], "raw_scores": True}).json
    np.testing.assert_allclose(raw[0]["score"], loaded["reranker"].scores(["cat"], [TEXTS[0]])[0], atol=1e-5)
    assert "text" not in raw[0]
    found = post(
        app, "/v1/rerank", {"query": "cat", "documents": [TEXTS[0], {"text": TEXTS[1]}, TEXTS[2]], "top_n": 2}
    ).json
    assert [one["index"] for one in found["results"]] == np.argsort(-expected)[:2].tolist()
    assert found["usage"]["total_tokens"] == sum(
        len(ids) for ids in loaded["reranker"].tokenizer.encode_pair(["cat"] * 3, TEXTS)[0]
    )


def test_predict(app, loaded):
    raw = loaded["classifier"].scores(TEXTS)
    said = {"model": "classifier", "raw_scores": True}
    found = post(app, "/predict", {"inputs": TEXTS[0], **said}).json
    assert [one["label"] for one in found] == [loaded["classifier"].labels[i] for i in np.argsort(-raw[0])]
    batch = post(app, "/predict", {"inputs": [["cat", "dog"], [TEXTS[0]]], **said}).json
    assert batch[1] == found and len(batch) == 2
    pair = post(app, "/predict", {"inputs": ["cat", "dog"], **said}).json
    np.testing.assert_allclose([one["score"] for one in pair], [one["score"] for one in batch[0]], atol=1e-6)
    likely = post(app, "/predict", {"inputs": TEXTS[0], "model": "classifier"}).json
    np.testing.assert_allclose(sum(one["score"] for one in likely), 1, atol=1e-6)
    for wrong in ([["a", "b", "c"]], [["a"], "b"], ["a", "b", "c"], [[]]):
        assert post(app, "/predict", {"inputs": wrong, **said}).status == 422


def test_similarity(app, loaded):
    rows = loaded["embedder"].encode(TEXTS, normalize=True)
    found = post(app, "/similarity", {"inputs": {"source_sentence": TEXTS[0], "sentences": TEXTS[1:]}})
    np.testing.assert_allclose(found.json, rows[1:] @ rows[0], atol=1e-6)


def test_tokenize_and_decode(app, loaded):
    [tokens] = post(app, "/tokenize", {"inputs": "a big dog"}).json
    assert [one["id"] for one in tokens] == loaded["embedder"].tokenizer.encode(["a big dog"])[0]
    assert tokens[0] == {"id": 2, "text": "[CLS]", "special": True, "start": None, "stop": None}
    assert tokens[2]["text"] == "big" and (tokens[2]["start"], tokens[2]["stop"]) == (2, 5)
    [plain] = post(app, "/tokenize", {"inputs": "a big dog", "add_special_tokens": False}).json
    assert plain == tokens[1:-1]
    ids = [one["id"] for one in tokens]
    assert post(app, "/decode", {"ids": ids}).json == ["a big dog"]
    assert post(app, "/decode", {"ids": [ids, ids[:3]], "skip_special_tokens": False}).json[1] == "[CLS] a big"


def test_info(app):
    found = get(app, "/info").json
    assert found["model_id"] == "embedder" and found["model_type"] == {"embedding": {"pooling": "mean"}}
    assert found["max_input_length"] == 32 and found["max_client_batch_size"] == 8
    assert get(app, "/info?model=classifier").json["model_type"]["classifier"]["id2label"]["1"] == "bad"
    assert get(app, "/health").status == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/embed", b"{", 400, "Validation"),
        ("/embed", b'{"inputs": "\xff"}', 400, "Validation"),
        ("/embed", b'{"x":' + b"[" * 5000, 400, "Validation"),
        ("/embed", {"inputs": 3}, 422, "Validation"),
        ("/embed", {"inputs": ["a", 3]}, 422, "Validation"),
        ("/embed", {}, 422, "Validation"),
        ("/embed", {"inputs": []}, 400, "Empty"),
        ("/embed", {"inputs": ["a"] * 9}, 413, "Validation"),
        ("/embed", {"inputs": "a" * 30_000}, 413, "Validation"),
        ("/embed", {"inputs": "the " * 60, "truncate": False}, 413, "Validation"),
        ("/embed", {"inputs": [[1, 99999]]}, 413, "Validation"),
        ("/embed", {"inputs": "a", "model": "reranker"}, 424, "Backend"),
        ("/embed", {"inputs": "a", "model": "nobody"}, 404, "Validation"),
        ("/embed", {"inputs": "a", "prompt_name": "nobody"}, 413, "Validation"),
        ("/embed", {"inputs": "a", "dimensions": 0}, 413, "Validation"),
        ("/rerank", {"query": "a", "texts": []}, 400, "Empty"),
        ("/nothing", {}, 404, "Validation"),
        ("/metrics", {}, 405, "Validation"),
    ],
)
def test_errors(app, path, body, status, kind):
    found = post(app, path, body)
    assert (found.status, found.json["error_type"]) == (status, kind), found.body
    assert set(found.json) == {"error", "error_type"} and found.json["error"]


def test_json_is_asked_for(app):
    assert post(app, "/embed", {"inputs": "a"}, headers={"content-type": "text/plain"}).status == 415


def test_metrics(make):
    app = make(["embedder"])
    post(app, "/embed", {"inputs": TEXTS})
    post(app, "/embed", {"inputs": 3})
    text = get(app, "/metrics").body.decode()
    for line in (
        'te_request_count{method="batch"} 1.0',
        "te_embed_count 1.0",
        "te_embed_success 1.0",
        "te_request_success 1.0",
        'te_request_failure{err="type"} 1.0',
        "te_queue_size 0.0",
        "te_request_duration_count 1.0",
        "te_batch_next_tokens_sum 16.0",
        "te_batch_next_size_sum 3.0",
    ):
        assert f"\n{line}\n" in text, line
