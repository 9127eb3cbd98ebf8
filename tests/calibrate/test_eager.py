import numpy as np
import pytest

import aerogel
from aerogel.architectures import architecture_of
from aerogel.architectures.pooling import Pooling
from aerogel.calibrate import Visitor, walk
from aerogel.checkpoint import open_checkpoint
from aerogel.errors import DataError

from ..conftest import random_ids


class Seeing(Visitor):
    """Hands the model's own weights on, and keeps what it sees."""

    def __init__(self, checkpoint, streams=1, change=None):
        self.streams = streams
        self.seen = []
        self.lacking = []
        self._checkpoint = checkpoint
        self._change = change or (lambda name, weight: weight)

    def visit(self, stack, inputs):
        blocks = list(inputs)
        assert {len(block.x) for block in blocks} == {self.streams}
        self.seen.append((stack, [np.concatenate(parts) for parts in zip(*(block.x for block in blocks))]))
        lacking = [block.lacking for block in blocks if block.lacking is not None]
        self.lacking.append(np.concatenate(lacking) if lacking else None)
        dense = [self._checkpoint.weight(name).dense() for name in stack.names]
        changed = [self._change(name, weight) for name, weight in zip(stack.names, dense)]
        return [dense, changed][-self.streams :]


def batch(architecture, lengths=(7, 1, 12)):
    return [random_ids(architecture.vocab_size, n, seed=n) for n in lengths]


@pytest.mark.parametrize("folder", ["bert_folder", "llama_folder"])
def test_outputs_are_those_of_the_model(folder, request):
    path = request.getfixturevalue(folder)
    checkpoint = open_checkpoint(path)
    architecture = architecture_of(checkpoint)
    ids = batch(architecture)
    visitor = Seeing(checkpoint)
    outputs = walk(architecture, checkpoint, ids, visitor, threads=2)
    model = aerogel.load(path)
    assert set(outputs) == set(model.outputs)
    for name, values in outputs.items():
        np.testing.assert_allclose(values.whole()[0], model.forward(ids, output=name), atol=2e-4, rtol=1e-4)
    stacks = [stack.names for stack, _ in visitor.seen]
    assert stacks == architecture.stacks()
    for stack, (x,) in visitor.seen:
        rows = [checkpoint.shape(name) for name in stack.names]
        assert stack.outputs == tuple(n for n, _ in rows)
        assert x.shape == (sum(map(len, ids)), rows[0][1]) and x.dtype == np.float32


def test_a_head_gets_one_row_a_sequence(tmp_path):
    from .. import tiny_models

    config = {
        **tiny_models.BERT,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "a", "1": "b", "2": "c"},
    }
    path = tiny_models.write(tmp_path / "m", config, tiny_models.bert_weights(config))
    checkpoint = open_checkpoint(path)
    architecture = architecture_of(checkpoint)
    ids = batch(architecture)
    visitor = Seeing(checkpoint)
    outputs = walk(architecture, checkpoint, ids, visitor)
    np.testing.assert_allclose(
        outputs["scores"].whole()[0], aerogel.load(path).forward(ids, output="scores"), atol=1e-4
    )
    assert [len(x) for _, (x,) in visitor.seen[-2:]] == [3, 3]


def test_blocks_of_pooled_values(bert_folder, monkeypatch):
    """A row a sequence, also where all sequences of a block have one token."""
    from aerogel.calibrate import values

    checkpoint = open_checkpoint(bert_folder)
    architecture = architecture_of(checkpoint, Pooling(("mean",), True))
    ids = batch(architecture, (7, 1, 1, 12, 1, 1, 1))
    whole = walk(architecture, checkpoint, ids, Seeing(checkpoint))["embedding"].whole()
    monkeypatch.setattr(values, "TOKENS", 2)
    cut = walk(architecture, checkpoint, ids, Seeing(checkpoint))["embedding"]
    assert cut.blocks == 5 and cut.pooled
    for _ in range(2):  # what is read a second time was kept
        np.testing.assert_allclose(cut.whole(), whole, atol=1e-6)


def test_two_streams(bert_folder):
    checkpoint = open_checkpoint(bert_folder)
    architecture = architecture_of(checkpoint, Pooling(("mean",), True))
    ids = batch(architecture)
    kept = Seeing(checkpoint, 2)
    outputs = walk(architecture, checkpoint, ids, kept)
    assert all(np.array_equal(a, b) for a, b in (value.whole() for value in outputs.values()))
    changed = Seeing(checkpoint, 2, lambda name, weight: weight * (0.5 if "layer.0.output" in name else 1))
    outputs = walk(architecture, checkpoint, ids, changed)
    plain = walk(architecture, checkpoint, ids, Seeing(checkpoint))
    first, second = outputs["hidden"].whole()
    assert np.array_equal(first, plain["hidden"].whole()[0])
    assert not np.array_equal(first, second)
    same = [np.array_equal(a, b) for _, (a, b) in changed.seen]
    assert same == [True] * 4 + [False] * 4  # up to and with the changed linear inputs agree
    # Q, K and V are added to nothing, and what the first block is added to is one and the same
    assert [x is not None for x in changed.lacking] == [False] * 3 + [True, False, True, False, True]
    assert not changed.lacking[3].any()
    np.testing.assert_array_equal(changed.lacking[5], changed.seen[4][1][0] - changed.seen[4][1][1])


@pytest.mark.parametrize("isa", ["scalar", None])
def test_what_is_seen_does_not_depend_on_the_instruction_set(bert_folder, isa):
    import os
    import subprocess
    import sys

    code = (
        "import sys, hashlib, numpy as np; from tests.calibrate.test_eager import *\n"
        "c = open_checkpoint(sys.argv[1]); a = architecture_of(c); v = Seeing(c); walk(a, c, batch(a), v)\n"
        "print(hashlib.sha256(b''.join(x.tobytes() for _, (x,) in v.seen)).hexdigest())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "AEROGEL_ISA"} | ({"AEROGEL_ISA": isa} if isa else {})
    run = subprocess.run(
        [sys.executable, "-c", code, str(bert_folder)], env=environment, capture_output=True, text=True
    )
    checkpoint = open_checkpoint(bert_folder)
    architecture = architecture_of(checkpoint)
    visitor = Seeing(checkpoint)
    walk(architecture, checkpoint, batch(architecture), visitor)
    import hashlib

    mine = hashlib.sha256(b"".join(x.tobytes() for _, (x,) in visitor.seen)).hexdigest()
    assert run.stdout.strip() == mine, run.stderr


def test_bad_sequences(bert_folder):
    checkpoint = open_checkpoint(bert_folder)
    architecture = architecture_of(checkpoint)
    for ids, message in (
        ([], "got none"),
        ([[5], []], "got 0 to 1"),
        ([[5] * 41], "1 to 40 tokens, got 41"),
    ):
        with pytest.raises(DataError, match=message):
            walk(architecture, checkpoint, ids, Seeing(checkpoint))
    with pytest.raises(DataError):
        walk(architecture, checkpoint, [[10**6]], Seeing(checkpoint))


def test_rows_count_in_proportion_to_what_they_are_added_to(bert_folder):
    """1 / (mean r^2 + |W|^2/N mean x^2) where a result is added to a residual r, and nothing elsewhere."""
    checkpoint = open_checkpoint(bert_folder)
    architecture = architecture_of(checkpoint)

    class Weighing(Visitor):
        found = []

        def visit(self, stack, inputs):
            dense = [checkpoint.weight(name).dense() for name in stack.names]
            self.found.append((stack.names, list(inputs), dense[0]))
            return [dense]

    walk(architecture, checkpoint, batch(architecture), Weighing())
    for names, seen, weight in Weighing.found:
        added = names[0].endswith("output.dense.weight")
        assert all((block.weight is not None) == added for block in seen), names
    # what the first block's attention is added to is what its Q, K and V read
    (_, [read], _), (names, [out], weight) = Weighing.found[:2]
    assert names[0].endswith("attention.output.dense.weight")
    gain = float(np.square(weight.astype(np.float64)).sum()) / len(weight)
    expected = 1 / (np.square(read.x[0]).mean(axis=1) + gain * np.square(out.x[0]).mean(axis=1))
    np.testing.assert_allclose(out.weight, expected, rtol=1e-4)


def test_more_texts_than_a_block(bert_folder, monkeypatch):
    """How texts are cut into blocks changes nothing but the order of sums."""
    from aerogel.calibrate import Statistics, values

    checkpoint = open_checkpoint(bert_folder)
    architecture = architecture_of(checkpoint)
    ids = batch(architecture, (7, 1, 12, 30, 2, 9, 17))

    class Looking(Visitor):
        streams = 2

        def __init__(self):
            self.statistics, self.blocks = [], set()

        def visit(self, stack, inputs):
            self.statistics.append(Statistics.over(inputs, 1))
            self.blocks.add(len(list(inputs)))
            dense = [checkpoint.weight(name).dense() for name in stack.names]
            return [dense, [weight * np.float32(0.9) for weight in dense]]

    found = []
    for tokens in (4096, 16, 1):
        monkeypatch.setattr(values, "TOKENS", tokens)
        looking = Looking()
        outputs = walk(architecture, checkpoint, ids, looking)
        found.append((looking, outputs["hidden"].whole()))
    assert [looking.blocks for looking, _ in found] == [{1}, {5}, {7}]
    for looking, hidden in found[1:]:
        for a, b in zip(found[0][0].statistics, looking.statistics):
            assert a.tokens == b.tokens
            np.testing.assert_allclose(a.gram, b.gram, rtol=1e-4, atol=1e-5 * a.gram.max())
            np.testing.assert_allclose(a.largest, b.largest, rtol=1e-4)
        np.testing.assert_allclose(found[0][1], hidden, rtol=1e-4, atol=1e-5)


def test_wide_values_are_not_held(bert_folder, monkeypatch):
    """What an activation gives is made anew for each reader if it is larger than the model."""
    from aerogel.calibrate import values

    checkpoint = open_checkpoint(bert_folder)
    architecture = architecture_of(checkpoint)
    size = sum(int(np.prod(tensor.shape)) for tensor in architecture.tensors())
    few, many = batch(architecture), batch(architecture, [30] * (size // 30 // architecture.hidden_size + 1))
    made = []
    original = values.Value.block

    def counting(self, i):
        streams = original(self, i)
        if streams[0].shape[1] == architecture.ffn[0]:
            made.append(streams[0])
        return streams

    class Reading(Seeing):
        def visit(self, stack, inputs):
            for _ in range(3):
                list(inputs)
            return super().visit(stack, inputs)

    monkeypatch.setattr(values, "TOKENS", 30)
    monkeypatch.setattr(values.Value, "block", counting)
    for ids, held in ((few, True), (many, False)):
        made.clear()
        walk(architecture, checkpoint, ids, Reading(checkpoint))
        assert made and (len({id(array) for array in made}) < len(made) / 2) == held


class Summing(Seeing):
    """Reads blocks as many at a time as there are workers, and what the dense model's linears make of them."""

    def visit(self, stack, inputs):
        def look(seen):
            return seen.x[-1].sum(axis=0), None if seen.made is None else seen.made().sum(axis=0)

        self.lacking.append([part for found in inputs.each(look) for part in found if part is not None])
        return super().visit(stack, inputs)


@pytest.mark.parametrize("folder", ["bert_folder", "llama_folder"])
def test_several_threads_and_sparse_products(folder, request, monkeypatch):
    monkeypatch.setattr("aerogel.calibrate.values.TOKENS", 8)
    monkeypatch.setattr("aerogel.calibrate.linears.SMALLEST", 0)
    checkpoint = open_checkpoint(request.getfixturevalue(folder))
    architecture = architecture_of(checkpoint)
    ids = batch(architecture, (7, 1, 5, 8, 3, 2))

    def sparse(name, weight):
        return np.where(np.abs(weight) >= np.quantile(np.abs(weight), 0.8), weight, np.float32(0))

    found = []
    for threads in (1, 3):
        visitor = Summing(checkpoint, 2, sparse)
        outputs = walk(architecture, checkpoint, ids, visitor, threads)
        found.append(
            [part for of in visitor.lacking[::2] for part in of] + [x for _, pair in visitor.seen for x in pair]
        )
        made = [len(of) > 5 for of in visitor.lacking[::2]]
        assert any(made) and not all(made)  # of those that are no wider than what they read
    assert all(np.array_equal(a, b) for a, b in zip(*found))
    dense, pruned = outputs["hidden"].whole()
    assert np.array_equal(dense, walk(architecture, checkpoint, ids, Seeing(checkpoint))["hidden"].whole()[0])
    monkeypatch.setattr("aerogel.calibrate.linears.DENSEST", -1)
    plain = walk(architecture, checkpoint, ids, Seeing(checkpoint, 2, sparse))["hidden"].whole()
    np.testing.assert_array_equal(dense, plain[0])
    assert not np.array_equal(pruned, plain[1])  # another kernel
    np.testing.assert_allclose(pruned, plain[1], rtol=1e-3, atol=1e-4)
