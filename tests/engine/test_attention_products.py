"""What attention multiplies: against the definition in double precision, and which models choose it."""

import numpy as np
import pytest

import aerogel
from aerogel._core import Plan, Program, Session, Table, WeightSource, pack
from aerogel.errors import AerogelError

from ..conftest import random_ids
from ..reference.attention import attention as definition

#: No text is short enough for floats to be used instead.
LENGTHS = (150, 48, 301, 60)

#: What 12 and 8 bits lose of normal random numbers, root mean square, relative.
LOST = {"int16": 1.2e-3, "int8": 2e-2}


def attend(values, offsets, heads, kv_heads, d, products, causal=False, **options):
    """Rows of an embedding table are the queries, keys and values."""
    program = Program()
    x = program.embed(Table("rows", values))
    program.output("y", program.attention("attention", x, heads, kv_heads, d, causal, **options))
    plan = Plan(program, 1, attention=products)
    assert plan.attention == products == plan.describe()[1]["products"]
    return Session(plan).run(np.arange(len(values), dtype=np.int32), offsets, "y")


@pytest.mark.parametrize("products", LOST)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "d", "causal", "window"),
    [(2, 2, 32, False, None), (4, 2, 20, False, 40), (2, 1, 64, True, None), (1, 1, 130, True, 70)],
)
def test_against_the_definition(heads, kv_heads, d, causal, window, products):
    rng = np.random.default_rng(d)
    offsets = np.cumsum([0, *LENGTHS]).astype(np.int64)
    values = rng.standard_normal((offsets[-1], (heads + 2 * kv_heads) * d), np.float32)
    found = attend(values, offsets, heads, kv_heads, d, products, causal, window=window)
    expected = definition(values, offsets, heads, kv_heads, d, causal, d**-0.5, window)
    off = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert off < LOST[products]
    floats = attend(values, offsets, heads, kv_heads, d, "float32", causal, window=window)
    assert np.sqrt(np.mean((floats - expected) ** 2) / np.mean(expected**2)) < 1e-6
    # A text is what it is alone.
    alone = attend(values[: LENGTHS[0]], offsets[:2], heads, kv_heads, d, products, causal, window=window)
    assert np.array_equal(alone, found[: LENGTHS[0]])


@pytest.mark.parametrize("products", LOST)
def test_biases_and_slopes_are_added_and_soft_caps_are_of_floats(products):
    rng = np.random.default_rng(0)
    offsets = np.array([0, 200], np.int64)
    values = rng.standard_normal((200, 3 * 2 * 24), np.float32)
    bias, slopes = rng.standard_normal((2, 31), np.float32), np.array([0.01, 0.1], np.float32)
    found = attend(values, offsets, 2, 2, 24, products, bias=bias, slopes=slopes)
    expected = definition(values, offsets, 2, 2, 24, False, 24**-0.5, None, 0.0, bias, slopes)
    assert np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)) < LOST[products]
    capped = [attend(values, offsets, 2, 2, 24, each, softcap=2.0) for each in (products, "float32")]
    assert np.array_equal(*capped)


def test_who_chooses_what(bert_folder, llama_folder, tmp_path):
    aerogel.compress(bert_folder, tmp_path / "packed", quant="int8")
    assert aerogel.load(bert_folder).attention == "float32"
    assert aerogel.load(tmp_path / "packed").attention == "int8"
    assert aerogel.load(bert_folder, quant="int4:g32").attention == "int8"
    assert aerogel.load(bert_folder, quant="bf16").attention == "float32"
    assert aerogel.load(llama_folder, quant="int8").attention == "float32"  # keys and values are kept
    assert aerogel.load(llama_folder, quant="int8", attention="int16").attention == "int16"
    model = aerogel.load(tmp_path / "packed", attention="float32")
    assert model.attention == "float32"
    assert {step["products"] for step in model.describe() if step["op"] == "attention"} == {"float32"}


@pytest.mark.parametrize(("terms", "products"), [(1, "int8"), (2, "int16")])
def test_inputs_of_two_codes_make_attention_take_sixteen_bits(terms, products):
    source = WeightSource(32)
    source.add_dense_q8("w", np.ones((3 * 32, 32), np.int8), np.ones(3 * 32, np.float32))
    program = Program()
    x = program.embed(Table("rows", np.ones((4, 32), np.float32)))
    qkv = program.linear("qkv", x, pack(source, format="dense_q8"), terms=terms)
    program.output("y", program.attention("attention", qkv, 2, 2, 16, False))
    assert Plan(program, 1, attention="auto").attention == products


def test_long_texts_keep_their_embeddings(long_bert):
    ids = [random_ids(long_bert[0].vocab_size, n, seed=n) for n in (49, 100, 180)]
    exact, *others = (model.forward(ids, output="hidden") for model in long_bert)
    for found, lost in zip(others, (0.005, 0.05), strict=True):
        assert not np.array_equal(exact, found)
        assert np.abs(exact - found).max() < lost * np.abs(exact).max()


@pytest.fixture
def long_bert(tmp_path):
    """A tiny float model with room for long texts, once with each kind of products."""
    from .. import tiny_models

    config = {**tiny_models.BERT, "max_position_embeddings": 200}
    folder = tiny_models.write(tmp_path / "long", config, tiny_models.bert_weights(config))
    return [aerogel.load(folder, attention=products) for products in ("float32", *LOST)]


def test_an_unknown_kind_is_refused(bert_folder):
    with pytest.raises(AerogelError, match="attention"):
        aerogel.load(bert_folder, attention="int4")
