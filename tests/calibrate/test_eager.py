import numpy as np
import pytest

import aerogel
from aerogel.architectures import architecture_of
from aerogel.calibrate import Visitor, walk
from aerogel.checkpoint import open_checkpoint
from aerogel.checkpoint.pooling import Pooling
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
        assert {len(x) for x, _ in blocks} == {self.streams}
        self.seen.append((stack, [np.concatenate(parts) for parts in zip(*(x for x, _ in blocks))]))
        lacking = [part for _, part in blocks if part is not None]
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


def test_two_streams(bert_folder):
    checkpoint = open_checkpoint(bert_folder)
    architecture = architecture_of(checkpoint, Pooling("mean", True))
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
