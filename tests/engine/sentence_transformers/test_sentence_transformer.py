"""Against sentence-transformers itself, where it is installed: the same calls, the same results."""

import json
import shutil

import numpy as np
import pytest

from aerogel import CrossEncoder, SentenceTransformer
from aerogel.errors import AerogelError, DataError, UnsupportedModelError

from ... import tiny_models

TEXTS = ["the cat sat on the mat", "a big dog", "xyzzy and the small red tree", "not"]


@pytest.fixture(scope="module")
def folder(bert_folder, tmp_path_factory):
    """With prompts and a kind of similarity."""
    copy = tmp_path_factory.mktemp("prompted") / "model"
    shutil.copytree(bert_folder, copy)
    said = {"prompts": {"query": "the ", "document": "a "}, "default_prompt_name": None, "similarity_fn_name": "dot"}
    (copy / "config_sentence_transformers.json").write_text(json.dumps(said))
    _declare_tokenizer(copy)
    return copy


def _declare_tokenizer(folder):
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
    )


@pytest.fixture(scope="module")
def ours(folder):
    return SentenceTransformer(folder)


@pytest.fixture(scope="module")
def theirs(folder):
    return pytest.importorskip("sentence_transformers").SentenceTransformer(str(folder), device="cpu")


CALLS = [
    {},
    {"batch_size": 1},
    {"prompt_name": "query"},
    {"prompt": "big "},
    {"truncate_dim": 5},
    {"truncate_dim": 5, "normalize_embeddings": True},
    {"normalize_embeddings": True},
    {"precision": "binary"},
    {"precision": "ubinary"},
    {"convert_to_tensor": True},
    {"convert_to_numpy": False},
    {"output_value": "token_embeddings"},
    {"show_progress_bar": False, "device": "cpu"},
]


@pytest.mark.parametrize("options", CALLS, ids=lambda o: ",".join(o) or "plain")
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[0]], ids=["many", "one"])
def test_encode(ours, theirs, texts, options):
    got, expected = ours.encode(texts, **options), theirs.encode(texts, **options)
    assert type(got) is type(expected)
    if isinstance(expected, list):
        assert all(type(a) is type(b) for a, b in zip(got, expected, strict=True))
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)
    else:
        assert got.dtype == expected.dtype and got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=2e-5)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_codes_are_at_most_one_apart(ours, theirs, precision):
    got, expected = (m.encode(TEXTS, precision=precision) for m in (ours, theirs))
    assert got.dtype == expected.dtype
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 1  # a number on the border of two codes


def test_queries_and_documents(ours, theirs):
    for call in ("encode_query", "encode_document"):
        np.testing.assert_allclose(getattr(ours, call)(TEXTS), getattr(theirs, call)(TEXTS), atol=2e-5)
    assert not np.allclose(ours.encode_query(TEXTS), ours.encode_document(TEXTS))


@pytest.mark.parametrize("name", [None, "cosine", "dot", "euclidean", "manhattan"])
def test_similarity(folder, ours, theirs, name):
    if name is not None:
        ours.similarity_fn_name = theirs.similarity_fn_name = name
    assert ours.similarity_fn_name == theirs.similarity_fn_name
    rows = theirs.encode(TEXTS) * np.float32(2)
    for call in ("similarity", "similarity_pairwise"):
        got, expected = getattr(ours, call)(rows, rows[::-1].copy()), getattr(theirs, call)(rows, rows[::-1].copy())
        assert type(got) is type(expected)
        np.testing.assert_allclose(got, expected, atol=2e-5)


def test_what_programs_ask(ours, theirs):
    assert ours.get_sentence_embedding_dimension() == theirs.get_sentence_embedding_dimension() == 48
    assert ours.max_seq_length == theirs.max_seq_length == 32 and ours.get_max_seq_length() == 32
    assert ours.device == theirs.device
    with ours.truncate_sentence_embeddings(7), theirs.truncate_embeddings(7):
        assert ours.encode(TEXTS).shape == theirs.encode(TEXTS).shape == (4, 7)
        assert ours.get_embedding_dimension() == 7
    pool = ours.start_multi_process_pool()
    np.testing.assert_array_equal(ours.encode_multi_process(TEXTS, pool), ours.encode(TEXTS))
    ours.stop_multi_process_pool(pool)
    assert ours.eval().to("cpu").cpu() is ours


def test_their_evaluators_run(ours, theirs):
    from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

    evaluator = EmbeddingSimilarityEvaluator(TEXTS, TEXTS[::-1], [0.1, 0.9, 0.9, 0.1], write_csv=False)
    got, expected = ours.evaluate(evaluator), theirs.evaluate(evaluator)
    assert got.keys() == expected.keys()
    np.testing.assert_allclose(list(got.values()), list(expected.values()), atol=1e-6)


def test_a_shorter_limit(folder, theirs):
    ours = SentenceTransformer(folder)
    ours.max_seq_length = theirs.max_seq_length = 4
    try:
        np.testing.assert_allclose(ours.encode(TEXTS), theirs.encode(TEXTS), atol=2e-5)
    finally:
        theirs.max_seq_length = 32


def test_arguments_of_the_constructor(folder):
    model = SentenceTransformer(
        str(folder),
        device="cpu",
        prompts={"x": "red "},
        default_prompt_name="x",
        truncate_dim=3,
        similarity_fn_name="dot",
    )
    assert model.prompts == {"query": "the ", "document": "a ", "x": "red "} and model.similarity_fn_name == "dot"
    plain = SentenceTransformer(folder)
    np.testing.assert_array_equal(model.encode(TEXTS), plain.encode(TEXTS, prompt="red ", truncate_dim=3))
    np.testing.assert_array_equal(plain.encode(sentences=TEXTS), plain.encode(TEXTS))
    assert "SentenceTransformer(" in repr(plain)
    with plain:
        pass
    with pytest.raises(AerogelError, match="closed"):
        plain.encode(TEXTS)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"device": "cuda"}, "device: expected 'cpu'"),
        ({"backend": "onnx"}, "backend"),
        ({"model_kwargs": {"num_labels": 3}}, "model_kwargs: expected none of num_labels"),
        ({"default_prompt_name": "z"}, "default_prompt_name: expected one of query"),
        ({"similarity_fn_name": "hamming"}, "similarity_fn_name"),
        ({"truncate_dim": 0}, "truncate_dim"),
        ({"prompts": ["a"]}, "prompts: expected a mapping"),
        ({"model_kwargs": 3}, "model_kwargs: expected a mapping"),
    ],
)
def test_arguments_that_are_refused(folder, options, said):
    with pytest.raises(AerogelError, match=said):
        SentenceTransformer(folder, **options)
    SentenceTransformer(folder, model_kwargs={"torch_dtype": "auto"})


def test_calls_that_are_refused(ours):
    with pytest.raises(AerogelError, match="bach_size"):
        ours.encode(TEXTS, bach_size=3)
    with pytest.raises(AerogelError, match="prompt_name: expected one of query, document, got 'z'"):
        ours.encode(TEXTS, prompt_name="z")
    with pytest.raises(AerogelError, match="output_value"):
        ours.encode(TEXTS, output_value=None)
    with pytest.raises(DataError, match="inputs: expected texts"):
        ours.encode()


def _classifier(folder, labels, **more):
    config = {
        **tiny_models.BERT,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(i): f"L{i}" for i in range(labels)},
        "label2id": {f"L{i}": i for i in range(labels)},
        **more,
    }
    tiny_models.write(folder, config, tiny_models.bert_weights(config), prefix="bert.")
    _declare_tokenizer(folder)
    return folder


PAIRS = [("the cat", "a dog sat"), ("big", "the red tree"), ("not", "a")]


def _stacked(scores):
    return np.stack([np.asarray(score) for score in scores]) if isinstance(scores, list) else np.asarray(scores)


@pytest.mark.parametrize("labels", [1, 3])
def test_cross_encoder(tmp_path, labels):
    library = pytest.importorskip("sentence_transformers")
    import torch

    path = _classifier(tmp_path, labels)
    ours, theirs = CrossEncoder(str(path)), library.CrossEncoder(str(path), device="cpu")
    assert ours.num_labels == theirs.num_labels == labels
    calls = [{}, {"activation_fn": torch.nn.Identity()}, {"apply_softmax": True}, {"convert_to_tensor": True}]
    for options in [*calls, {"convert_to_numpy": False}, {"batch_size": 1}]:
        for pairs in (PAIRS, PAIRS[0]):
            got, expected = ours.predict(pairs, **options), theirs.predict(pairs, **options)
            assert type(got) is type(expected)
            for a, b in (
                zip(np.atleast_1d(got), np.atleast_1d(expected), strict=True) if np.ndim(got) < 2 else [(got, expected)]
            ):
                np.testing.assert_allclose(a, b, atol=2e-5)
    if labels == 1:
        got, expected = (m.rank("big cat", TEXTS, top_k=3, return_documents=True) for m in (ours, theirs))
        assert [(r["corpus_id"], r["text"]) for r in got] == [(r["corpus_id"], r["text"]) for r in expected]
        np.testing.assert_allclose([r["score"] for r in got], [r["score"] for r in expected], atol=2e-5)


def test_cross_encoder_arguments(tmp_path, bert_folder):
    path = _classifier(tmp_path, 1)
    model = CrossEncoder(path, num_labels=1, max_length=8, default_activation_function=lambda x: x * 0)
    assert model.max_length == 8 and (model.predict(PAIRS) == 0).all()
    model.max_length = 6
    assert model.max_seq_length == 6
    with pytest.raises(AerogelError, match="num_labels: expected 1"):
        CrossEncoder(path, num_labels=2)
    with pytest.raises(UnsupportedModelError, match="not a classifier"):
        CrossEncoder(bert_folder)
    with pytest.raises(UnsupportedModelError, match="not an embedding model"):
        SentenceTransformer(path)
