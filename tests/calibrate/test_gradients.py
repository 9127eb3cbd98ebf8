"""Gradients against small differences of what the engine computes."""

import numpy as np
import pytest

from aerogel._core import Plan, Program, Rotary, Session, Table
from aerogel.architectures import Role, architecture_of
from aerogel.calibrate import moves
from aerogel.calibrate.eager import EagerParameters
from aerogel.calibrate.gradients import Moved, show_gradients
from aerogel.calibrate.moves import moves_of, squares_of
from aerogel.calibrate.values import Block, blocks_of
from aerogel.checkpoint import open_checkpoint

from ..conftest import random_ids

OFFSETS = np.array([0, 5, 6, 13], np.int64)
BLOCK = Block(np.arange(13, dtype=np.int32), OFFSETS)
RNG = np.random.default_rng(4)
GAMMA = RNG.uniform(0.5, 1.5, 24).astype(np.float32)
HEAD = RNG.uniform(0.5, 1.5, 4).astype(np.float32)
POSITIONS = RNG.standard_normal((5, 12)).astype(np.float32)
BIAS = RNG.standard_normal((2, 7)).astype(np.float32)

OPS = {
    "layer_norm": lambda p, x: p.layer_norm("n", x, GAMMA, GAMMA, 1e-5),
    "rms_norm": lambda p, x: p.rms_norm("n", x, GAMMA, 1e-5),
    **{kind: lambda p, x, kind=kind: p.activation(x, kind) for kind in ("gelu", "gelu_tanh", "tanh", "silu")},
    "gate": lambda p, x: p.gate(x, "silu"),
    "scale": lambda p, x: p.scale(x, 0.3),
    "qk_norm": lambda p, x: p.qk_norm("n", x, 2, 2, 4, HEAD, np.repeat(HEAD, 2), 1e-5),
    "rope": lambda p, x: p.rope(x, 2, 6, Rotary(np.array([1.0, 0.3], np.float32), 20)),
    "attention": lambda p, x: p.attention("a", x, 2, 2, 4, False),
    "grouped": lambda p, x: p.attention("a", x, 4, 1, 4, True, softcap=2.0, slopes=HEAD),
    "window": lambda p, x: p.attention("a", x, 2, 2, 4, False, scale=0.7, window=2, bias=BIAS),
    "disentangled": lambda p, x: p.disentangled_attention(
        "a", x, 2, 4, 0.5, np.array([0, 0, 1, 2, 3, 4, 4], np.int32), POSITIONS[:, :8].copy(), POSITIONS[:, 4:].copy()
    ),
    "short_conv": lambda p, x: p.short_conv("c", x, POSITIONS.T[:8, :3].copy(), HEAD.repeat(2)),
    "join": lambda p, x: p.join([x, x], [-1, 2]),
    "pool": lambda p, x: p.pool(x, ("mean", "cls", "max", "last", "mean_sqrt_len", "weightedmean")),
    "l2_normalize": lambda p, x: p.l2_normalize(x),
    "add": lambda p, x: p.add(x, p.scale(x, 2.0)),
}


@pytest.mark.parametrize("op", OPS)
def test_each_op(op):
    x = RNG.standard_normal((13, 24)).astype(np.float32)
    way = RNG.standard_normal(x.shape).astype(np.float32)

    def run(rows):
        program = Program()
        program.output("y", OPS[op](program, program.embed(Table("x", rows))))
        return Session(Plan(program, 1, "scalar")).run(BLOCK.tokens, OFFSETS, "y").astype(np.float64)

    seen = []
    moved = Moved(BLOCK, None)
    start = moved.embed(Table("x", x))
    start.back = seen.append
    y = OPS[op](moved, start)
    np.testing.assert_allclose(y.value, run(x), atol=2e-5)
    moved.output("embedding", y)
    moved._back(np.random.default_rng(0), None)
    r = np.random.default_rng(0).standard_normal(y.value.shape, np.float32)
    step = 1e-3
    difference = ((run(x + step * way) - run(x - step * way)) * r).sum() / (2 * step)
    assert (seen[0] * way).sum() == pytest.approx(difference, rel=1e-2, abs=2e-2)


@pytest.mark.parametrize("folder", ["bert_folder", "llama_folder"])
def test_gradients_of_a_model(folder, request):
    """A change of a matrix moves the output by what its inputs and gradients say."""
    checkpoint = open_checkpoint(request.getfixturevalue(folder))
    architecture = architecture_of(checkpoint)
    tensors = {tensor.name: tensor for tensor in architecture.tensors()}
    found = {}

    def see(names, x, g):
        found[names] = x, g

    show_gradients(architecture.build, BLOCK, EagerParameters(checkpoint, tensors), [3], see)
    assert set(found) == {names for names in architecture.stacks() if tensors[names[0]].role is Role.LINEAR}
    names = architecture.stacks()[0]
    x, g = found[names]
    way = np.random.default_rng(1).standard_normal((g.shape[1], x.shape[1])).astype(np.float32)

    class Changed(EagerParameters):
        def dense(self, wanted):
            parts = super().dense(wanted)
            if wanted != names:
                return parts
            ends = np.cumsum([len(part) for part in parts])[:-1]
            return [part + step * w for part, w in zip(parts, np.split(way, ends))]

    gains = []
    for step in map(np.float32, (2e-3, 0, -2e-3)):
        program = Moved(BLOCK, Changed(checkpoint, tensors))
        architecture.build(program, Changed(checkpoint, tensors))
        rng = np.random.default_rng([3])
        if program._vocabulary is None:  # r times the embeddings
            value = program._outputs["embedding"].value
            gains.append((value * rng.standard_normal(value.shape, np.float32)).sum(dtype=np.float64))
            continue
        h, head, _ = program._vocabulary
        (weight,) = program._weights.dense(head)
        share = np.exp((h.value @ weight.T).astype(np.float64))
        share /= share.sum(axis=1, keepdims=True)
        gains.append(share)
    if gains[0].ndim:
        middle = gains[1].astype(np.float32)
        drawn = (np.cumsum(middle, axis=1) < rng.random((len(middle), 1))).sum(axis=1)
        gains = [-np.log(share[np.arange(len(share)), drawn]).sum() for share in gains]
    assert ((g.T @ x) * way).sum() == pytest.approx((gains[0] - gains[2]) / 4e-3, rel=2e-2)


@pytest.mark.parametrize("folder", ["bert_folder", "llama_folder"])
def test_how_much_results_move_the_output(folder, request, monkeypatch):
    checkpoint = open_checkpoint(request.getfixturevalue(folder))
    architecture = architecture_of(checkpoint)
    wanted = {tensor.name: tensor for tensor in architecture.tensors() if tensor.role is Role.LINEAR}
    sequences = [random_ids(architecture.vocab_size, 9, seed=seed) for seed in range(12)]
    found = moves_of(architecture, checkpoint, sequences, set(wanted))
    assert set(found) == set(wanted)
    for name, matrix in found.items():
        rows = wanted[name].shape[0]
        assert matrix.shape == (rows, rows) and matrix.dtype == np.float32
        assert np.linalg.eigvalsh(matrix.astype(np.float64)).min() > -1e-6 * matrix.trace()
    monkeypatch.setattr(moves, "MOST_ROWS", 1)
    for name, matrix in moves_of(architecture, checkpoint, sequences, set(wanted)).items():
        np.testing.assert_allclose(matrix, found[name].diagonal(), rtol=1e-3, atol=1e-9)
    few = dict.fromkeys(list(wanted)[:1])
    monkeypatch.setattr(moves, "TOKENS", 20)
    assert set(moves_of(architecture, checkpoint, sequences, set(few))) == set(few)


def test_squares_are_those_of_each_weight(llama_folder):
    checkpoint = open_checkpoint(llama_folder)
    architecture = architecture_of(checkpoint)
    tensors = {tensor.name: tensor for tensor in architecture.tensors()}
    wanted = {
        name for name, tensor in tensors.items() if tensor.role is Role.LINEAR and "v_proj" in name or "down" in name
    }
    sequences = [random_ids(architecture.vocab_size, 9, seed=seed) for seed in range(3)]
    found = squares_of(architecture, checkpoint, sequences, wanted, seed=5)
    assert set(found) == wanted
    rows, total = [np.array(sequences[i]) for i in np.random.default_rng(5).permutation(3)], {}

    def see(names, x, g):
        parts = np.split(g, np.cumsum([tensors[name].shape[0] for name in names])[:-1], axis=1)
        for name, part in zip(names, parts, strict=True):
            total[name] = sum(np.square(np.outer(one, row)) for one, row in zip(part, x, strict=True))

    show_gradients(architecture.build, *blocks_of(rows, 512), EagerParameters(checkpoint, tensors), (5, 0), see)
    for name in wanted:
        np.testing.assert_allclose(found[name], total[name] / 27, rtol=1e-3, atol=1e-12)
