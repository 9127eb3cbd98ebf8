import numpy as np
import pytest

import aerogel
from aerogel.errors import ConfigError, DataError, MissingTensorsError, ShapeError, UnsupportedModelError

from .. import tiny_models
from ..conftest import random_ids
from ..reference import bert as reference

LENGTHS = [1, 2, 7, 40, 15]


def written(tmp_path, change=None, **config):
    config = {**tiny_models.BERT, **config}
    weights = tiny_models.bert_weights(config)
    if change:
        change(weights)
    return tiny_models.write(tmp_path / "model", config, weights), config, weights


@pytest.mark.parametrize("act", ["gelu", "gelu_new", "relu", "silu", "tanh"])
def test_hidden_states_of_a_ragged_batch(tmp_path, act):
    folder, config, weights = written(tmp_path, hidden_act=act)
    sequences = [random_ids(config["vocab_size"], n, seed=n) for n in LENGTHS]
    expected = np.concatenate([reference.hidden(config, weights, ids) for ids in sequences])
    got = aerogel.load(folder).forward(sequences, output="hidden")
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_names_with_the_prefix_of_a_head(tmp_path):
    config = tiny_models.BERT
    weights = tiny_models.bert_weights(config)
    folder = tiny_models.write(tmp_path / "model", config, weights, prefix="bert.")
    ids = random_ids(config["vocab_size"], 9)
    np.testing.assert_allclose(aerogel.load(folder).forward(ids), reference.hidden(config, weights, ids), atol=2e-5)


@pytest.mark.parametrize("mode", ["mean", "cls", "max", "last"])
@pytest.mark.parametrize("normalize", [False, True])
def test_pooling(tmp_path, mode, normalize):
    config, weights = tiny_models.BERT, tiny_models.bert_weights(tiny_models.BERT)
    folder = tiny_models.write(tmp_path / "model", config, weights, pooling=(mode, normalize))
    ids = random_ids(config["vocab_size"], 11)
    hidden = reference.hidden(config, weights, ids)
    expected = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.max(0), "last": hidden[-1]}[mode]
    model = aerogel.load(folder)
    np.testing.assert_allclose(model.forward(ids, output="pooled")[0], expected, atol=2e-5)
    if normalize:
        expected = expected / np.linalg.norm(expected)
    np.testing.assert_allclose(model.forward(ids, output="embedding")[0], expected, atol=2e-5)


def test_a_class_that_is_unknown_does_not_matter_where_there_is_a_pooling(tmp_path):
    """sentence-transformers loads the base model, whatever class wrote it."""
    config, weights = (
        {**tiny_models.BERT, "architectures": ["SomebodysBert"]},
        tiny_models.bert_weights(tiny_models.BERT),
    )
    folder = tiny_models.write(tmp_path / "model", config, weights, pooling=("mean", False))
    ids = random_ids(config["vocab_size"], 11)
    wanted = reference.hidden(config, weights, ids).mean(0)
    np.testing.assert_allclose(aerogel.load(folder).forward(ids, output="pooled")[0], wanted, atol=2e-5)
    tiny_models.write(tmp_path / "plain", config, weights)
    with pytest.raises(UnsupportedModelError, match="'SomebodysBert' is not supported"):
        aerogel.load(tmp_path / "plain")
    weights["extra.weight"] = np.zeros((2, 2), np.float32)
    tiny_models.write(tmp_path / "more", config, weights, pooling=("mean", False))
    with pytest.raises(UnsupportedModelError, match="would be ignored.*extra.weight"):
        aerogel.load(tmp_path / "more")


def test_sequence_classification_with_pairs(tmp_path):
    folder, config, weights = written(
        tmp_path, architectures=["BertForSequenceClassification"], id2label={"0": "a", "1": "b", "2": "c"}
    )
    model = aerogel.load(folder)
    assert model.outputs == ("hidden", "scores")
    ids = model.tokenizer.encode(["the cat sat"])[0]
    np.testing.assert_allclose(model.scores("the cat sat"), reference.scores(config, weights, ids), atol=2e-5)
    ids, types = model.tokenizer.encode_pair(["the cat"], ["a dog ran"])
    assert 1 in types[0]
    expected = reference.scores(config, weights, ids[0], types[0])
    np.testing.assert_allclose(model.scores(["the cat"], ["a dog ran"])[0], expected, atol=2e-5)
    assert model.scores([]).shape == (0, 3)
    with pytest.raises(UnsupportedModelError, match="not an embedding model"):
        model.encode("the cat")


def test_masked_language_model(tmp_path):
    folder, config, weights = written(tmp_path, architectures=["BertForMaskedLM"])
    model = aerogel.load(folder)
    ids = random_ids(config["vocab_size"], 6)
    got = model.forward(ids, output="logits")
    np.testing.assert_allclose(got, reference.masked_logits(config, weights, ids), atol=1e-4)


def test_the_bias_of_a_masked_language_model(tmp_path):
    """One tensor under two names, but where the decoder is not tied to the embeddings: then it has its own."""
    bias, own = "cls.predictions.bias", "cls.predictions.decoder.bias"
    head = {"architectures": ["BertForMaskedLM"]}
    ids = [5, 6, 7]

    def logits(change, **config):
        return aerogel.load(written(tmp_path, change, **head, **config)[0]).forward(ids, output="logits")

    def renamed(weights):
        weights[own] = weights.pop(bias)

    def untied(weights):
        weights["cls.predictions.decoder.weight"] = weights["embeddings.word_embeddings.weight"].copy()
        weights[own] = weights[bias] + 1

    def both(weights):
        weights[own] = weights[bias] + 1

    plain = logits(None)
    np.testing.assert_array_equal(logits(renamed), plain)
    np.testing.assert_array_equal(logits(both), plain)
    np.testing.assert_allclose(logits(untied, tie_word_embeddings=False), plain + 1, atol=1e-4)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"position_embedding_type": "relative_key"}, "position_embedding_type: 'relative_key' is not supported"),
        ({"hidden_act": "mish"}, "hidden_act: 'mish' is not supported"),
        ({"is_decoder": True}, "is_decoder: True is not supported"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"architectures": ["BertForMultipleChoice"]}, "'BertForMultipleChoice' is not supported"),
        ({"model_type": "banana"}, "model_type 'banana' is not supported, only .*bert"),
    ],
)
def test_unsupported_configs(tmp_path, changed, message):
    folder = tiny_models.write(tmp_path, {**tiny_models.BERT, **changed}, tiny_models.bert_weights(tiny_models.BERT))
    with pytest.raises(UnsupportedModelError, match=message):
        aerogel.load(folder)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "48"}, "hidden_size: expected"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: expected at least 1, got 0"),
        ({"num_attention_heads": 5}, "hidden_size 48 is not a multiple of num_attention_heads 5"),
        ({"architectures": "BertModel"}, "architectures: expected a list"),
    ],
)
def test_broken_configs(tmp_path, changed, message):
    folder = tiny_models.write(tmp_path, {**tiny_models.BERT, **changed}, tiny_models.bert_weights(tiny_models.BERT))
    with pytest.raises(ConfigError, match=message):
        aerogel.load(folder)


def test_all_missing_tensors_are_named_at_once(tmp_path):
    gone = ["encoder.layer.0.output.dense.weight", "encoder.layer.1.attention.self.key.bias"]

    def change(weights):
        for name in gone:
            del weights[name]

    with pytest.raises(MissingTensorsError) as error:
        aerogel.load(written(tmp_path, change)[0])
    assert error.value.names == gone


def test_wrong_shapes_are_named_by_layer(tmp_path):
    def change(weights):
        weights["encoder.layer.1.intermediate.dense.weight"] = np.zeros((100, 47), np.float32)
        weights["embeddings.LayerNorm.bias"] = np.zeros(49, np.float32)

    with pytest.raises(ShapeError) as error:
        aerogel.load(written(tmp_path, change)[0])
    assert "layers.1.ffn.up: expected [100, 48], got [100, 47]" in str(error.value)
    assert "embeddings.norm.bias: expected [48], got [49]" in str(error.value)


def test_tensors_that_would_be_ignored(tmp_path):
    def change(weights):
        weights["encoder.layer.0.adapter.weight"] = np.zeros((4, 4), np.float32)

    with pytest.raises(UnsupportedModelError, match=r"encoder\.layer\.0\.adapter\.weight"):
        aerogel.load(written(tmp_path, change)[0])


def test_more_layers_than_the_config_says(tmp_path):
    folder = tiny_models.write(
        tmp_path, {**tiny_models.BERT, "num_hidden_layers": 1}, tiny_models.bert_weights(tiny_models.BERT)
    )
    with pytest.raises(
        UnsupportedModelError, match=r"encoder\.layer\.1\..*would be ignored|would be ignored.*encoder\.layer\.1"
    ):
        aerogel.load(folder)


@pytest.mark.parametrize(
    "name",
    [
        "embeddings.word_embeddings.weight",
        "encoder.layer.0.output.dense.weight",
        "encoder.layer.0.output.dense.bias",
        "encoder.layer.0.output.LayerNorm.weight",
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(tmp_path, name, value):
    def change(weights):
        weights[name].reshape(-1)[3] = value

    with pytest.raises(DataError, match="NaN|finite"):
        aerogel.load(written(tmp_path, change)[0])


def test_minilm_agrees_with_transformers(minilm):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    texts = ["A short one.", "Numbers like 3.14159 and accents: déjà vu, naïve.", "word " * 100, ""]
    model = aerogel.load(minilm)
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    peer = transformers.AutoModel.from_pretrained(minilm).eval()
    ids = model.tokenizer.encode(texts)
    assert ids == tokenizer(texts, truncation=False, padding=False)["input_ids"]
    with torch.no_grad():
        expected = np.concatenate([peer(torch.tensor([row])).last_hidden_state[0].numpy() for row in ids])
    assert np.abs(model.forward(ids, output="hidden") - expected).max() <= 1e-4
