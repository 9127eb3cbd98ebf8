import numpy as np
import pytest

import aerogel
from aerogel.errors import ConfigError, MissingTensorsError, UnsupportedModelError

from .. import tiny_models
from ..conftest import random_ids
from ..reference import llama as reference

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
CONFIGS = {
    "tied": {},
    "own head": {"tie_word_embeddings": False},
    "theta": {"rope_theta": 500000.0},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}},
    "llama3": {"rope_scaling": LLAMA3},
    "no groups": {"num_key_value_heads": 6},
    "one group": {"num_key_value_heads": 1},
    "wide heads": {"head_dim": 16},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "qwen2": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]},
    "qwen3": {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"]},
    "mistral": {"model_type": "mistral", "sliding_window": 6, "windows": [5, 5]},
    "smollm3": {"model_type": "smollm3", "no_rope_layers": [1, 0], "sliding_window": 3, "use_sliding_window": True}
    | {"windows": [None, 2]},
    "granite": {"model_type": "granite", "embedding_multiplier": 3.0, "residual_multiplier": 0.3}
    | {"attention_multiplier": 0.2, "logits_scaling": 4.0},
    "olmo2": {"model_type": "olmo2", "architectures": ["Olmo2ForCausalLM"]},
}


def written(tmp_path, **changed):
    config = {**tiny_models.LLAMA, **changed}
    weights = tiny_models.llama_weights(config)
    return tiny_models.write(tmp_path / "model", config, weights, prefix="model."), config, weights


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_of_a_ragged_batch(tmp_path, name):
    folder, config, weights = written(tmp_path, **CONFIGS[name])
    model = aerogel.load(folder)
    sequences = [random_ids(config["vocab_size"], n, seed=n) for n in (1, 5, 64, 2)]
    expected = [reference.logits(config, weights, ids) for ids in sequences]
    np.testing.assert_allclose(model.forward(sequences), np.concatenate(expected), atol=1e-4)
    last = model.forward(sequences, last_only=True)
    np.testing.assert_allclose(last, np.stack([rows[-1] for rows in expected]), atol=1e-4)
    hidden = np.concatenate([reference.hidden(config, weights, ids) for ids in sequences])
    np.testing.assert_allclose(model.forward(sequences, output="hidden"), hidden, atol=1e-4)


def test_newer_configs_keep_rope_in_one_place(tmp_path):
    _, config, weights = written(tmp_path)
    old = {**config, "rope_theta": 1e6, "rope_scaling": LLAMA3}
    new = {key: value for key, value in old.items() if not key.startswith("rope")}
    new["rope_parameters"] = {**LLAMA3, "rope_theta": 1e6}
    ids = random_ids(config["vocab_size"], 40)
    got = [
        aerogel.load(tiny_models.write(tmp_path / str(i), c, weights)).forward(ids) for i, c in enumerate((old, new))
    ]
    assert np.array_equal(*got)
    np.testing.assert_allclose(got[0], reference.logits(old, weights, ids), atol=1e-4)


def test_greedy_tokens(llama_folder):
    config, weights = tiny_models.LLAMA, tiny_models.llama_weights(tiny_models.LLAMA)
    model = aerogel.load(llama_folder)
    for seed in range(4):
        ids = random_ids(config["vocab_size"], 3 + seed, seed)
        assert list(model.generate_tokens(ids, 24, stop=())) == reference.greedy(config, weights, ids, 24)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"hidden_act": "tanh"}, "hidden_act: 'tanh' is not supported"),
        ({"rope_scaling": {"rope_type": "axial"}}, "type 'axial' is not supported"),
        ({"sliding_window": 16}, "sliding_window: 16"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "only full_attention"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: 0.5 is not supported"),
        ({"architectures": ["LlamaForQuestionAnswering"]}, "'LlamaForQuestionAnswering' is not supported"),
    ],
)
def test_unsupported_configs(tmp_path, changed, message):
    with pytest.raises(UnsupportedModelError, match=message):
        aerogel.load(written(tmp_path, **changed)[0])


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"num_key_value_heads": 4}, "num_attention_heads 6 is not a multiple of num_key_value_heads 4"),
        ({"head_dim": 7}, "head_dim 7 is odd"),
    ],
)
def test_broken_configs(tmp_path, changed, message):
    with pytest.raises(ConfigError, match=message):
        aerogel.load(written(tmp_path, **changed)[0])


def test_a_window_that_is_switched_off(tmp_path):
    folder, _, _ = written(
        tmp_path, model_type="qwen2", architectures=["Qwen2ForCausalLM"], sliding_window=16, use_sliding_window=False
    )
    aerogel.load(folder)


def test_a_head_that_is_not_there(tmp_path):
    config = {**tiny_models.LLAMA, "tie_word_embeddings": False}
    weights = tiny_models.llama_weights(tiny_models.LLAMA)
    with pytest.raises(MissingTensorsError, match=r"lm_head\.weight"):
        aerogel.load(tiny_models.write(tmp_path, config, weights))


def test_biases_that_the_config_does_not_know(tmp_path):
    config = tiny_models.LLAMA
    weights = tiny_models.llama_weights(config)
    weights["lm_head.bias"] = np.zeros(config["vocab_size"], np.float32)
    with pytest.raises(UnsupportedModelError, match=r"lm_head\.bias"):
        aerogel.load(tiny_models.write(tmp_path, config, weights))


def test_the_bare_model_has_no_logits(tmp_path):
    folder, _, _ = written(tmp_path, architectures=["LlamaModel"])
    model = aerogel.load(folder)
    assert model.outputs == ("hidden",)
    with pytest.raises(UnsupportedModelError, match="not a generating model"):
        model.generate("the cat")


def test_an_embedding_model_made_of_a_decoder(tmp_path):
    config = {**tiny_models.LLAMA, "architectures": ["LlamaModel"]}
    weights = tiny_models.llama_weights(config)
    model = aerogel.load(tiny_models.write(tmp_path, config, weights, pooling=("last", True)))
    ids = model.tokenizer.encode(["the cat sat"])[0]
    expected = reference.hidden(config, weights, ids)[-1]
    np.testing.assert_allclose(model.encode("the cat sat"), expected / np.linalg.norm(expected), atol=2e-5)


def test_smollm2_agrees_with_transformers(smollm2):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from pathlib import Path

    path = Path(smollm2)
    model = aerogel.load(path, format="dense_f32")  # decoded: its own blocks have int8 inputs
    peer = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    ).eval()
    for prompt in ("The capital of France is", "Once upon a time"):
        ids = model.tokenizer.encode([prompt])[0]
        with torch.no_grad():
            expected = peer(torch.tensor([ids])).logits[0].numpy()
            tokens = peer.generate(torch.tensor([ids]), max_new_tokens=64, do_sample=False)[0, len(ids) :].tolist()
        assert np.abs(model.forward(ids) - expected).max() <= 2e-3
        got = list(model.generate_tokens(ids, 64))
        assert got == tokens[: len(got)] and (len(got) == 64 or tokens[len(got)] in model.tokenizer.eos_ids)


def test_a_decoder_that_is_not_causal(tmp_path):
    """As embedding models made of decoders are: every token sees every other, and nothing is generated."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = {**tiny_models.LLAMA, "architectures": ["LlamaModel"], "is_causal": False}
    folder = tiny_models.write(tmp_path / "m", config, tiny_models.llama_weights(config), pooling=("mean", True))
    ids = random_ids(config["vocab_size"], 9)
    with torch.no_grad():
        peer = transformers.LlamaModel.from_pretrained(folder).eval()
        expected = peer(torch.tensor([ids])).last_hidden_state[0].numpy()
    model = aerogel.load(folder)
    np.testing.assert_allclose(model.forward(ids, output="hidden"), expected, atol=2e-4)
    assert abs(model.forward(ids, output="hidden")[0] - model.forward(ids[:-1], output="hidden")[0]).max() > 1e-3
    with pytest.raises(aerogel.UnsupportedModelError, match="not a generating model"):
        next(model.generate_tokens(ids))


def test_a_language_model_without_its_head_gives_embeddings(tmp_path):
    config = {**tiny_models.LLAMA, "tie_word_embeddings": False}
    weights = tiny_models.llama_weights(config)
    del weights["lm_head.weight"]
    folder = tiny_models.write(tmp_path / "m", config, weights, prefix="model.", pooling=("last", True))
    assert aerogel.load(folder).outputs == ("hidden", "embedding", "pooled")
    aerogel.compress(folder, tmp_path / "packed", sparsity=0)
    assert aerogel.load(tmp_path / "packed").encode("the cat").shape == (48,)
    plain = tiny_models.write(tmp_path / "plain", config, weights, prefix="model.")
    with pytest.raises(aerogel.CheckpointError, match=r"lm_head\.weight"):
        aerogel.load(plain)
