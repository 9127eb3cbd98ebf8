"""The order of hidden units: where it is changed, nothing else is."""

import numpy as np
import pytest

import aerogel
from aerogel.architectures import Group, Part, Role, Tensor
from aerogel.checkpoint.weight import Weight
from aerogel.engine import hidden_order, weights
from aerogel.engine.hidden_order import HiddenOrder, order_of, sorting_gains

from .. import tiny_models
from ..conftest import random_ids


@pytest.fixture
def sorted_or_not(monkeypatch):
    """Loads a model with its hidden units in the order of their nonzeros, and as they are, on any CPU."""

    def load(folder, **arguments):
        models = []
        for gains in (True, False):
            monkeypatch.setattr(weights, "sorting_gains", lambda format, gains=gains: gains)
            models.append(aerogel.load(folder, **arguments))
        return models

    return load


def rows(model, name):
    packed = model.packed_weight(name)
    return np.stack([packed.row(n) for n in range(packed.shape[0])])


@pytest.mark.parametrize(
    ("family", "quant", "format"),
    [
        ("bert", "int8", "gathered_q8"),
        ("bert", "codebook:16", "auto"),
        ("llama", "int8", "auto"),
        ("llama", "int8", "quads_q8"),
        ("llama", "int4", "auto"),  # whose columns share multipliers
    ],
)
def test_it_changes_no_bit(family, quant, format, tmp_path, sorted_or_not):
    changes = {"intermediate_size": 150} | ({"mlp_bias": True} if family == "llama" else {})
    config = {**(tiny_models.BERT if family == "bert" else tiny_models.LLAMA), **changes}
    make = tiny_models.bert_weights if family == "bert" else tiny_models.llama_weights
    folder = tiny_models.write(tmp_path / "dense", config, make(config))
    aerogel.compress(folder, tmp_path / "packed", 0.7, method="magnitude", quant=quant)
    one, two = sorted_or_not(tmp_path / "packed", format=format)
    ids = [random_ids(one.vocab_size, n, seed=n) for n in (1, 9, 20)]
    for output in one.outputs:
        assert np.array_equal(one.forward(ids, output=output), two.forward(ids, output=output))
    assert one.nbytes == two.nbytes or format != "quads_q8"  # rows of others share groups: that is the gain
    names = {step["name"] for step in one.describe() if "forms" in step and "ffn" in step["name"]}
    assert len(names) == 4
    for name in names:
        a, b = rows(one, name), rows(two, name)
        assert np.array_equal(a, b) == (quant == "int4")
        if quant == "int4":
            continue
        if name.endswith("down"):
            assert sorted(map(bytes, a.T)) == sorted(map(bytes, b.T))
            continue
        a, b = (part.reshape(-1, 150, part.shape[1]) for part in (a, b))  # of a gate too
        assert np.array_equal(a, b[:, order_of(np.count_nonzero(b, axis=(0, 2)))])


def test_the_order_sorts_runs_and_deals_them():
    counts = np.random.default_rng(0).integers(0, 1000, 64 * 9 + 5)
    order = order_of(counts)
    assert np.array_equal(np.sort(order), np.arange(counts.size))
    runs = counts[order[: 64 * 9]].reshape(9, 64)
    assert (np.diff(runs, axis=1) <= 0).all() and counts[order[64 * 9 :]].max() <= runs.min()
    falling = np.argsort(np.argsort(-runs[:, 0], kind="stable"))
    assert falling.tolist() == [0, 3, 6, 1, 4, 7, 2, 5, 8]
    sets = order_of(counts[:576], 4).reshape(-1, 4)
    assert (sets == sets[:, :1] + np.arange(4)).all() and (sets[:, 0] % 4 == 0).all()
    sums = counts[sets].sum(axis=1).reshape(9, 16)
    assert (np.diff(sums, axis=1) <= 0).all() and sums[3].max() <= sums[0].min()


def test_it_is_changed_where_a_kernel_gains(monkeypatch):
    for isa in ("avx512vnni", "avx2", "scalar"):
        monkeypatch.setattr(hidden_order, "linear_formats", lambda isa=isa: [{"format": "gathered_q8", "isa": isa}])
        gains = [sorting_gains(format) for format in ("auto", "gathered_q8", "gathered_rows_q8", "dense")]
        assert gains == [isa == "avx512vnni"] * 2 + [False] * 2
    assert order_of(np.array([1, 2, 5])).tolist() == [2, 1, 0]


def block(*more):
    """An FFN of 128 units: up [128, 192], its bias, down [32, 128], and what else is spread over the units."""
    shapes = {"up.weight": (128, 192), "up.bias": (128,), "down.weight": (32, 128), **dict(more)}
    tensors = {n: Tensor(n, s, Role.LINEAR if len(s) == 2 else Role.KEPT, n) for n, s in shapes.items()}
    parts = tuple(Part(n, int(n == "down.weight"), 1, n == "down.weight") for n in shapes)
    return Group("ffn", "ffn", 128, parts, {}), tensors


def codes(shape, mask=None, **others):
    random = np.random.default_rng(shape[0])
    values = random.integers(1, 127, shape).astype(np.int8)
    kept = random.random(shape) < random.random((shape[0], 1)) * 0.8 if mask is None else mask
    return Weight(
        shape, np.where(kept, values, 0).astype(np.int8), **{"scale": np.ones(shape[0], np.float32), **others}
    )


def order(stored, *more):
    group, tensors = block(*more)
    found = HiddenOrder([group], tensors, stored.__getitem__).vector("up.bias", np.arange(128, dtype=np.float32))
    return None if np.array_equal(found, np.arange(128)) else found


def test_it_is_changed_only_where_that_is_exact_and_gains():
    up, down, random = codes((128, 192)), codes((32, 128)), np.random.default_rng(1)
    assert order({"up.weight": up, "down.weight": down}) is not None
    assert order({"up.weight": up, "down.weight": down}, ("up.norm.weight", (128,))) is None
    blocks = np.repeat(random.random((32, 32)) < 0.3, 4, axis=1)
    halves = np.tile([True, True, False, False], (32, 32))
    dense = np.ones((32, 128), bool)
    for mask in (blocks, halves, dense):
        assert order({"up.weight": up, "down.weight": codes((32, 128), mask)}) is None
    four_rows = np.repeat(random.random((32, 192)) < random.random((32, 1)) * 0.6, 4, axis=0)
    sets = order({"up.weight": codes((128, 192), four_rows), "down.weight": down})
    assert np.array_equal(sets.reshape(-1, 4) - sets[::4, None], np.tile([0, 1, 2, 3], (32, 1)))
    grouped = codes((32, 128), group=32, scale=np.ones((32, 4), np.float32))
    assert order({"up.weight": up, "down.weight": grouped}) is None
    floats = Weight((32, 128), down.dense())
    assert order({"up.weight": up, "down.weight": floats}) is None
