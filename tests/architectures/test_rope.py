"""Rotary settings: each kind against its formula and against Transformers, and what cannot be meant is refused."""

import json
import math
import re

import numpy as np
import pytest

import aerogel
from aerogel.architectures.config import Config
from aerogel.architectures.rope import rotary
from aerogel.errors import ConfigError, ShapeError, UnsupportedModelError

from .. import tiny_models
from ..conftest import random_ids

THETA = 10000.0
#: Of tiny models: 48 columns in 6 heads.
D = tiny_models.LLAMA["hidden_size"] // tiny_models.LLAMA["num_attention_heads"]
POSITIONS = tiny_models.LLAMA["max_position_embeddings"]
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.25, 1.5],
    "long_factor": [1.0, 2.0, 3.5, 4.25],
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
KINDS = {
    "default": {},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "yarn": YARN,
    "yarn, all settings": {**YARN, "attention_factor": 0.7, "beta_fast": 8, "beta_slow": 0.5, "truncate": False},
    "yarn, mscale": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.5},
    "yarn, null": {**YARN, "factor": None},
    "longrope": LONGROPE,
    "longrope, factor": {**LONGROPE, "factor": 2.0},
    "longrope, attention": {**LONGROPE, "attention_factor": 1.3},
    "llama3": LLAMA3,
    "proportional": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "factor": 2.0},
    "M-RoPE of texts": {"rope_type": "default", "mrope_section": [2, 1, 1]},
}


def made(head_dim=D, partial=False, **config):
    return rotary(Config({"max_position_embeddings": POSITIONS, **config}), head_dim, partial)


def scale_of(turns):
    """By how much cos and sin are larger than those of an angle."""
    cos, sin = turns.turns(np.array([0, 2], np.int64))
    return np.hypot(cos, sin)[1].mean()


def plain(d=D, theta=THETA):
    return theta ** (-np.arange(0, d, 2) / d)


# -- each kind, by its formula


def test_default():
    np.testing.assert_allclose(made().frequencies(9), plain(), rtol=1e-6)
    np.testing.assert_allclose(made(rope_theta=5e5).frequencies(9), plain(theta=5e5), rtol=1e-6)


def test_linear():
    found = made(rope_scaling=KINDS["linear"])
    np.testing.assert_allclose(found.frequencies(9), plain() / 4, rtol=1e-6)
    assert found.positions == 4 * POSITIONS


def test_dynamic():
    found = made(rope_scaling=KINDS["dynamic"])
    assert found.positions == 2 * POSITIONS
    np.testing.assert_allclose(found.frequencies(POSITIONS), plain(), rtol=1e-6)
    for length in (POSITIONS + 1, 2 * POSITIONS):
        theta = THETA * (2 * length / POSITIONS - 1) ** (D / (D - 2))
        np.testing.assert_allclose(found.frequencies(length), plain(theta=theta), rtol=1e-6)


def test_yarn():
    """A pair that turns more than beta_fast times within the original length stays, one below beta_slow is slowed."""
    original, factor = 4096, 4.0
    settings = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    d = 64
    found = made(d, rope_scaling=settings)
    frequencies, turns = found.frequencies(9), original * plain(d) / (2 * math.pi)
    fast, slow = turns > 40, turns < 0.8
    assert 5 < fast.sum() < 20 and 5 < slow.sum() < 20
    np.testing.assert_allclose(frequencies[fast], plain(d)[fast], rtol=1e-6)
    np.testing.assert_allclose(frequencies[slow], plain(d)[slow] / factor, rtol=1e-6)
    between = frequencies[~fast & ~slow] / plain(d)[~fast & ~slow]
    assert np.all(np.diff(between) <= 1e-6) and between[-1] >= 1 / factor - 1e-6
    assert scale_of(found) == pytest.approx(0.1 * math.log(factor) + 1, rel=1e-6)
    assert found.positions == factor * original
    assert scale_of(made(d, rope_scaling={**settings, "attention_factor": 1.5})) == pytest.approx(1.5)
    ratio = (0.1 * math.log(4) + 1) / (0.05 * math.log(4) + 1)
    assert scale_of(made(d, rope_scaling={**settings, "mscale": 1, "mscale_all_dim": 0.5})) == pytest.approx(ratio)


def test_longrope():
    found = made(rope_scaling=LONGROPE)
    np.testing.assert_allclose(found.frequencies(32), plain() / LONGROPE["short_factor"], rtol=1e-6)
    np.testing.assert_allclose(found.frequencies(33), plain() / LONGROPE["long_factor"], rtol=1e-6)
    assert scale_of(found) == pytest.approx(math.sqrt(1 + math.log(POSITIONS / 32) / math.log(32)))


def test_proportional():
    np.testing.assert_allclose(
        made(rope_scaling=KINDS["proportional"]).frequencies(9), [*plain()[:2] / 2, 0, 0], rtol=1e-6
    )


def test_a_part_of_a_head_turns_where_the_family_can():
    found = made(16, partial=True, partial_rotary_factor=0.25)
    assert found.pairs == 2
    np.testing.assert_allclose(found.frequencies(9), plain(4), rtol=1e-6)
    for factor in (1.5, 0.05):
        with pytest.raises(ConfigError, match="partial_rotary_factor: expected a part of 16 columns"):
            made(16, partial=True, partial_rotary_factor=factor)
    with pytest.raises(ConfigError, match="3 columns turn, which is odd"):
        made(12, partial=True, partial_rotary_factor=0.25)


@pytest.mark.parametrize("kind", KINDS)
def test_older_and_newer_configs_say_it_in_their_places(kind):
    settings = {("type" if key == "rope_type" else key): value for key, value in KINDS[kind].items()}
    old = made(rope_scaling=settings, rope_theta=500.0)
    new = made(rope_parameters={**KINDS[kind], "rope_theta": 500.0})
    for length in (9, 33, POSITIONS, new.positions):
        np.testing.assert_array_equal(old.frequencies(length), new.frequencies(length))
    assert old.positions == new.positions and scale_of(old) == scale_of(new)


def test_the_original_length_may_stand_at_the_top():
    """As Phi-3 writes it."""
    scaling = {key: value for key, value in LONGROPE.items() if key != "original_max_position_embeddings"}
    found = made(rope_scaling=scaling, original_max_position_embeddings=32)
    np.testing.assert_array_equal(found.frequencies(33), made(rope_scaling=LONGROPE).frequencies(33))


def test_tables_hold_what_is_used():
    found = rotary(Config({"max_position_embeddings": 2**30}), 64)
    assert found.table_bytes == 0
    found.turns(np.array([0, 10], np.int64))
    assert found.table_bytes < 2**18
    cos, sin = found.turns(np.array([0, 3, 900], np.int64))
    angles = (np.r_[0:3, 0:897].astype(np.float32)[:, None] * found.frequencies(1)).astype(np.float64)
    np.testing.assert_array_equal(cos, np.cos(angles).astype(np.float32))
    np.testing.assert_array_equal(sin, np.sin(angles).astype(np.float32))


# -- against Transformers


@pytest.fixture(scope="module")
def peer():
    """config -> (folder, the Transformers model), all with the same weights."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    transformers = pytest.importorskip("transformers", minversion="5", reason="Transformers 5 is not installed")

    def make(folder, **changed):
        config = {**tiny_models.LLAMA, **changed}
        tiny_models.write(folder, config, tiny_models.llama_weights(config), prefix="model.")
        return transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    return make


def expected_logits(net, ids):
    import torch

    net.model.rotary_emb = type(net.model.rotary_emb)(net.config)  # dynamic ones remember the longest sequence
    with torch.no_grad():
        return net(torch.tensor([ids])).logits[0].numpy()


@pytest.mark.parametrize("name", KINDS)
def test_logits_are_those_of_transformers(tmp_path, peer, name):
    net = peer(tmp_path, rope_scaling=KINDS[name], rope_theta=500.0)
    model = aerogel.load(tmp_path)
    reach = min(model.max_positions, 2 * POSITIONS)
    sequences = [random_ids(net.config.vocab_size, n, seed=n) for n in {5, 32, 33, POSITIONS, reach}]
    expected = np.concatenate([expected_logits(net, ids) for ids in sequences])
    np.testing.assert_allclose(model.forward(sequences), expected, atol=1e-4)


@pytest.mark.parametrize("name, start", [("dynamic", POSITIONS - 4), ("longrope", 28)])
def test_a_cache_keeps_its_keys_where_frequencies_change(tmp_path, peer, name, start):
    """As Transformers' does, but for Phi-3: what was turned before the original length is passed stays as it is."""
    torch = pytest.importorskip("torch")
    net = peer(tmp_path, rope_scaling=KINDS[name])
    ids = random_ids(net.config.vocab_size, start)
    with torch.no_grad():
        expected = net.generate(torch.tensor([ids]), max_new_tokens=10, do_sample=False, eos_token_id=None)[0, start:]
    assert list(aerogel.load(tmp_path).generate_tokens(ids, 10, stop=())) == expected.tolist()


def test_training_turns_as_the_engine_does(tmp_path, peer):
    torch = pytest.importorskip("torch")
    from aerogel.architectures import architecture_of
    from aerogel.checkpoint import open_checkpoint
    from aerogel.train.batches import Batch
    from aerogel.train.program import Ragged, RaggedParameters

    for name in ("dynamic", "longrope", "yarn"):
        peer(tmp_path / name, rope_scaling=KINDS[name])
        model, checkpoint = aerogel.load(tmp_path / name), open_checkpoint(tmp_path / name)
        architecture = architecture_of(checkpoint)
        named = {t.name: torch.from_numpy(checkpoint.array(t.name).copy()) for t in architecture.tensors()}
        lengths = [3, 33, min(model.max_positions, POSITIONS + 9)]
        ids = [random_ids(tiny_models.LLAMA["vocab_size"], n, seed=n) for n in lengths]
        flat = torch.tensor([i for sequence in ids for i in sequence])
        ragged = Ragged(
            Batch(flat, torch.tensor(lengths), torch.arange(3), np.array(lengths)), named, lambda x: x, frozenset()
        )
        with torch.no_grad():
            architecture.build(ragged, RaggedParameters(named))
        np.testing.assert_allclose(ragged.outputs["logits"].numpy(), model.forward(ids), atol=1e-4)


# -- what is kept, and what is refused


def test_a_compressed_model_keeps_its_settings(tmp_path):
    config = {**tiny_models.LLAMA, "rope_scaling": LONGROPE}
    folder = tiny_models.write(tmp_path / "m", config, tiny_models.llama_weights(config), prefix="model.")
    aerogel.compress(folder, tmp_path / "packed", sparsity=0)
    assert json.loads((tmp_path / "packed/config.json").read_text())["rope_scaling"] == LONGROPE
    ids = random_ids(config["vocab_size"], 50)
    got, expected = (aerogel.load(tmp_path / name).forward(ids) for name in ("packed", "m"))
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.99


def test_no_sequence_is_longer_than_the_settings_reach(tmp_path):
    config = {**tiny_models.LLAMA, "rope_scaling": KINDS["dynamic"]}
    model = aerogel.load(tiny_models.write(tmp_path, config, tiny_models.llama_weights(config), prefix="model."))
    assert model.max_positions == 2 * POSITIONS
    model.forward([1] * 2 * POSITIONS)
    with pytest.raises(ShapeError, match=f"expected at most {2 * POSITIONS} positions, got {2 * POSITIONS + 1}"):
        model.forward([1] * (2 * POSITIONS + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_null_says_nothing(kind):
    nulls = dict.fromkeys(("alpha", "type", "attention_factor", "factor", "mrope_section"))
    found = made(rope_scaling={**nulls, **KINDS[kind]})
    np.testing.assert_array_equal(found.frequencies(40), made(rope_scaling=KINDS[kind]).frequencies(40))


@pytest.mark.parametrize("kind", KINDS)
def test_an_unknown_setting_is_refused_by_name(kind):
    with pytest.raises(ConfigError, match="'alpha' is not known for type"):
        made(rope_scaling={**KINDS[kind], "alpha": 1000.0})


@pytest.mark.parametrize(
    "config, message",
    [
        ({"rope_scaling": "linear"}, "rope_scaling: expected an object"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor is missing"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "factor: expected a positive number"),
        ({"rope_scaling": {"rope_type": "linear", "factor": "4"}}, "factor: expected a number"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 0.5}}, "factor: expected at least 1, got 0.5"),
        ({"rope_scaling": {"rope_type": "default", "factor": 2.0}}, "'factor' is not known for type 'default'"),
        ({"rope_scaling": {**YARN, "beta_fast": 1, "beta_slow": 2}}, "beta_fast 1.0 is below beta_slow 2.0"),
        ({"rope_scaling": {**YARN, "attention_factor": 0}}, "attention_factor: expected a positive number"),
        ({"rope_scaling": {**YARN, "truncate": 1}}, "truncate: expected true or false"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "factor is missing"),
        ({"rope_scaling": YARN, "rope_theta": 1.0}, "rope_theta: expected more than 1 for type 'yarn'"),
        ({"rope_scaling": {**LONGROPE, "long_factor": [1.0]}}, "long_factor: expected 4 numbers, one a pair, got 1"),
        ({"rope_scaling": {**LONGROPE, "short_factor": [1, 1, 1, -1]}}, "short_factor: expected a list of positive"),
        ({"rope_scaling": {**LONGROPE, "short_factor": None}}, "short_factor: expected a list of positive"),
        ({"rope_scaling": {**LONGROPE, "long_factor": [1, 1, 1, 10**400]}}, "long_factor: expected a list of positive"),
        ({"rope_scaling": {**LLAMA3, "high_freq_factor": 1.0}}, "high_freq_factor 1.0 is not above"),
        ({"rope_scaling": {"mrope_section": [9, 9, 9]}}, "mrope_section: expected whole numbers that sum to 4"),
        ({"rope_scaling": {"rope_type": "yarn", "type": "linear"}}, "expected type 'yarn' as rope_type, got 'linear'"),
        ({"rope_scaling": {"rope_theta": 5.0}, "rope_theta": 6.0}, "rope_theta: expected 6.0 as at the top"),
        (
            {"rope_scaling": YARN, "original_max_position_embeddings": 16},
            "expected 16 as at the top of the config, got 32",
        ),
        (
            {"rope_scaling": YARN, "rope_parameters": {**YARN, "factor": 2.0}},
            "expected factor 2.0 as in rope_parameters",
        ),
        (
            {"rope_scaling": {"type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 32}},
            "original_max_position_embeddings: expected 64 as max_position_embeddings for type 'dynamic', got 32",
        ),
        ({"rope_scaling": {"rope_type": "linear", "factor": 1e-300}}, "expected finite frequencies"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 1e300}}, "factor: expected a number that float32 can hold"),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": 10**400}},
            "factor: expected a number that float32 can hold",
        ),
        (
            {"rope_scaling": {"rope_type": "linear", "factor": math.nan}},
            "factor: expected a number that float32 can hold",
        ),
        ({"rope_theta": 1e300}, "rope_theta: expected a positive number that float32 can hold"),
        ({"rope_scaling": {**YARN, "mscale": 1e38, "mscale_all_dim": 1e-38, "factor": 3e38}}, "attention factor"),
        (
            {"rope_scaling": YARN, "rope_parameters": {"original_max_position_embeddings": 10**9}},
            "expected original_max",
        ),
        ({"rope_scaling": LLAMA3 | {"original_max_position_embeddings": 10**20}}, "expected at most 2147483647"),
    ],
)
def test_settings_that_cannot_be_meant(config, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        made(**config)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"rope_scaling": {"type": "axial"}}, "type 'axial' is not supported, only default, dynamic, linear, llama3"),
        ({"rope_scaling": {"type": ["yarn"]}}, "is not supported, only"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor: 0.5 is not supported"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor: 0.5 is not supported"),
    ],
)
def test_what_cannot_be_done(config, message):
    with pytest.raises(UnsupportedModelError, match=re.escape(message)):
        made(**config)
