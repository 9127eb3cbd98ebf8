"""Ops against their definitions, in each of the programs that compute: the engine, calibration, training."""

from __future__ import annotations

import math

import numpy as np
import pytest

from aerogel import _core
from aerogel.calibrate.eager import Eager
from aerogel.calibrate.values import blocks_of
from aerogel.calibrate.visitor import Visitor

from ..reference.attention import attention

LENGTHS = [1, 9, 40, 2, 150]
OFFSETS = np.concatenate(([0], np.cumsum(LENGTHS)))


def engine(rows, write):
    program = _core.Program()
    program.output("y", write(program, program.embed(_core.Table("rows", rows))))
    session = _core.Session(_core.Plan(program, 2))
    return session.run(np.arange(len(rows), dtype=np.int32), OFFSETS, "y")


def check_join(run, atol=0.0):
    rows = np.random.default_rng(0).standard_normal((OFFSETS[-1], 6)).astype(np.float32)
    shifts = (-1, 0, 1, 3, -1000)
    expected = []
    for begin, end in zip(OFFSETS, OFFSETS[1:]):
        x = rows[begin:end]
        places = [np.arange(end - begin) + by for by in shifts]
        parts = [
            np.where(((p >= 0) & (p < end - begin))[:, None], x[np.clip(p, 0, end - begin - 1)], 0) for p in places
        ]
        parts[1] = 2 * parts[1]
        expected.append(np.concatenate(parts, axis=1))
    got = run(rows, lambda p, x: p.join([x, p.scale(x, 2.0), x, x, x], shifts))
    np.testing.assert_allclose(got, np.concatenate(expected), atol=atol)


class Seeing(Visitor):
    streams = 1

    def visit(self, stack, inputs):
        raise AssertionError(f"there is no linear: {stack}")


def calibration(rows, write):
    ids = np.arange(len(rows))
    blocks = blocks_of([ids[begin:end].tolist() for begin, end in zip(OFFSETS, OFFSETS[1:])])
    eager = Eager(None, blocks, Seeing(), {})
    eager.output("y", write(eager, eager.embed(_core.Table("rows", rows))))
    return eager.outputs["y"].whole()[0]


def training(rows, write):
    torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
    from aerogel.train.batches import Batch
    from aerogel.train.program import Ragged

    order = sorted(range(len(LENGTHS)), key=lambda s: LENGTHS[s])
    ids = np.concatenate([np.arange(OFFSETS[s], OFFSETS[s + 1]) for s in order])
    lengths = torch.tensor([LENGTHS[s] for s in order])
    program = Ragged(
        Batch(torch.from_numpy(ids), lengths, torch.arange(len(order)), lengths.numpy()), {}, lambda x: x, frozenset()
    )
    y = write(program, program.embed(torch.from_numpy(rows)))
    out = np.empty(tuple(y.shape), np.float32)
    out[ids] = y.numpy()
    return out


PROGRAMS = pytest.mark.parametrize("run", [engine, calibration, training])


def random_rows(width, seed=0):
    return 2 * np.random.default_rng(seed).standard_normal((OFFSETS[-1], width), np.float32)


BIAS = np.random.default_rng(1).standard_normal((4, 2 * 20 + 1), np.float32)
SLOPES = np.float32([0.5, 0.25, 0.125, 0.0625])


@PROGRAMS
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window": 7},
        {"window": 0},
        {"window": 2**63 - 1},
        {"softcap": 3.0},
        {"bias": BIAS},
        {"slopes": SLOPES},
        {"window": 33, "softcap": 5.0, "bias": BIAS, "slopes": SLOPES, "scale": 0.3},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_attention(run, causal, options):
    x = random_rows((4 + 2 * 2) * 8)
    got = run(x, lambda p, v: p.attention("a", v, 4, 2, 8, causal, **options))
    wanted = attention(x, OFFSETS, 4, 2, 8, causal, **{"scale": 1 / math.sqrt(8), **options})
    np.testing.assert_allclose(got, wanted, atol=2e-5)


@PROGRAMS
@pytest.mark.parametrize("together", [False, True])
def test_qk_norm(run, together):
    x, rng = random_rows((6 + 2 * 3) * 5), np.random.default_rng(3)
    q, k, v = np.split(x.astype(np.float64), [30, 45], axis=1)
    query_gamma, key_gamma = (rng.standard_normal(n if together else 5, np.float32) for n in (30, 15))
    got = run(x, lambda p, value: p.qk_norm("n", value, 6, 3, 5, query_gamma, key_gamma, 1e-5))

    def normed(part, gamma):
        slices = part.reshape(len(part), -1, len(gamma))
        return (slices / np.sqrt((slices**2).mean(axis=2, keepdims=True) + 1e-5) * gamma).reshape(part.shape)

    np.testing.assert_allclose(got, np.hstack([normed(q, query_gamma), normed(k, key_gamma), v]), atol=1e-5)


ACTIVATIONS = {
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


@PROGRAMS
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_gate(run, kind):
    x = random_rows(2 * 21)
    got = run(x, lambda p, v: p.gate(v, kind))
    gate, up = np.split(x.astype(np.float64), 2, axis=1)
    np.testing.assert_allclose(got, ACTIVATIONS[kind](gate) * up, atol=2e-5)


@PROGRAMS
@pytest.mark.parametrize(("to_queries", "to_keys"), [(True, True), (True, False), (False, True), (False, False)])
def test_disentangled_attention(run, to_queries, to_keys):
    rng, heads, d = np.random.default_rng(5), 3, 8
    x = random_rows(3 * heads * d) / 2
    rows = np.sort(rng.integers(0, 20, 2 * 30 + 1)).astype(np.int32)
    keys, queries = (rng.standard_normal((20, heads * d), np.float32) if on else None for on in (to_queries, to_keys))
    got = run(x, lambda p, v: p.disentangled_attention("a", v, heads, d, 0.2, rows, keys, queries))

    q, k, v = (part.reshape(-1, heads, d) for part in np.split(x.astype(np.float64), 3, axis=1))
    wanted = np.zeros((len(x), heads, d))
    for begin, end in zip(OFFSETS, OFFSETS[1:]):
        for t in range(begin, end):
            m = rows[np.clip(np.arange(begin, end) - t, -30, 30) + 30]
            for h in range(heads):
                scores = k[begin:end, h] @ q[t, h]
                if keys is not None:
                    scores = scores + keys.reshape(-1, heads, d)[m, h] @ q[t, h]
                if queries is not None:
                    scores = scores + (queries.reshape(-1, heads, d)[m, h] * k[begin:end, h]).sum(1)
                p = np.exp(0.2 * (scores - scores.max()))
                wanted[t, h] = p / p.sum() @ v[begin:end, h]
    np.testing.assert_allclose(got, wanted.reshape(len(x), -1), atol=2e-5)


@PROGRAMS
@pytest.mark.parametrize("taps", [1, 12])
@pytest.mark.parametrize("biased", [False, True])
def test_short_conv(run, taps, biased):
    x, rng = random_rows(3 * 21) / 2, np.random.default_rng(7)
    kernel = rng.standard_normal((21, taps), np.float32)
    bias = rng.standard_normal(21, np.float32) if biased else None
    got = run(x, lambda p, v: p.short_conv("c", v, kernel, bias))
    before, after, values = np.split(x.astype(np.float64), 3, axis=1)
    wanted = np.zeros((len(x), 21)) if bias is None else np.tile(bias, (len(x), 1)).astype(np.float64)
    for begin, end in zip(OFFSETS, OFFSETS[1:]):
        for t in range(begin, end):
            for back in range(min(taps, t - begin + 1)):
                wanted[t] += kernel[:, taps - 1 - back] * (before * values)[t - back]
    np.testing.assert_allclose(got, after * wanted, atol=2e-5)


@PROGRAMS
def test_scale(run):
    x = random_rows(13)
    np.testing.assert_array_equal(run(x, lambda p, v: p.scale(v, 0.3)), x * np.float32(0.3))


def test_a_table_of_biases_may_be_transposed():
    x, table = random_rows((4 + 2 * 2) * 8), np.ascontiguousarray(BIAS.T)
    plain, transposed = (
        engine(x, lambda p, v, bias=bias: p.attention("a", v, 4, 2, 8, False, bias=bias)) for bias in (BIAS, table.T)
    )
    np.testing.assert_array_equal(plain, transposed)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p, v: p.attention("a", v, 4, 2, 8, True, window=-1), "a window: expected a distance, got -1"),
        (lambda p, v: p.attention("a", v, 4, 2, 8, True, softcap=-1), "a softcap: expected a positive number"),
        (lambda p, v: p.attention("a", v, 4, 2, 8, True, bias=BIAS[:3]), "a bias: expected 4 along axis 0, got 3"),
        (
            lambda p, v: p.attention("a", v, 4, 2, 8, True, bias=BIAS[:, 1:]),
            "a bias: expected an odd number of distances",
        ),
        (
            lambda p, v: p.attention("a", v, 4, 2, 8, True, bias=BIAS[:, :0]),
            "a bias: expected an odd number of distances",
        ),
        (lambda p, v: p.attention("a", v, 4, 2, 8, True, slopes=SLOPES[1:]), r"a slopes: expected \[4\], got \[3\]"),
        (lambda p, v: p.qk_norm("n", v, 4, 2, 7, SLOPES, SLOPES, 1e-5), "n: expected 56 columns of q, k and v, got 64"),
        (
            lambda p, v: p.qk_norm("n", v, 4, 2, 8, SLOPES, SLOPES, 1e-5),
            r"n query_gamma: expected \[8\] or \[32\]",
        ),
        (lambda p, v: p.short_conv("c", v, SLOPES), "c kernel: expected 2 dimensions, got 1"),
        (lambda p, v: p.short_conv("c", v, BIAS), "c: expected three parts of one width, got 64 columns"),
        (
            lambda p, v: p.short_conv("c", p.attention("a", v, 6, 1, 8, True), BIAS[:, :8]),
            r"c kernel: expected \[128\], got \[32\]",
        ),
        (
            lambda p, v: p.disentangled_attention("a", v, 4, 8, 1, np.int32([0])),
            "a: expected 96 columns of q, k and v, got 64",
        ),
        (
            lambda p, v: p.disentangled_attention("a", p.scale(v, 1), 1, 8, 1, np.int32([0, 1])),
            "a: expected 24 columns",
        ),
    ],
)
def test_wrong_parameters_are_refused(write, message):
    with pytest.raises(_core.ShapeError, match=message):
        engine(random_rows(64), write)


@pytest.mark.parametrize(
    ("rows", "positions", "message"),
    [
        ([0, 1], 2, "a rows: expected an odd number of distances, got 2"),
        ([], 2, "a rows: expected an odd number of distances, got 0"),
        ([2, 1, 0], 3, "a rows: expected rows that do not decrease"),
        ([-1, 0, 0], 3, "a rows: expected rows that do not decrease"),
        ([0, 1, 2], 2, "a positions: expected more than 2 rows of 16, got 32 elements"),
    ],
)
def test_wrong_positions_are_refused(rows, positions, message):
    table = np.zeros((positions, 16), np.float32)
    with pytest.raises(_core.ShapeError, match=message):
        engine(random_rows(48), lambda p, v: p.disentangled_attention("a", v, 2, 8, 1, np.int32(rows), table, table))


def test_an_unknown_gate_is_refused():
    with pytest.raises(_core.AerogelError, match="unknown gate 'tanh': expected one of gelu, gelu_tanh, relu, silu"):
        engine(random_rows(4), lambda p, v: p.gate(v, "tanh"))
    with pytest.raises(_core.ShapeError, match="gate: expected an even width"):
        engine(random_rows(5), lambda p, v: p.gate(v, "silu"))


@pytest.mark.parametrize(
    "options",
    [{"window": 5}, {"softcap": 3.0}, {"bias": BIAS}, {"slopes": SLOPES}],
    ids=lambda options: "-".join(options),
)
def test_decoding_sees_what_a_whole_text_sees(options):
    """With the keys and values of earlier calls, however these were cut."""
    x = random_rows((4 + 2 * 2) * 8)[:90]
    program = _core.Program()
    value = program.embed(_core.Table("rows", x))
    program.output("y", program.attention("a", value, 4, 2, 8, True, **options))
    session = _core.Session(_core.Plan(program, 2))
    got, at = [], 0
    for count in [1, 1, 30, 1, 1, 1, 40, 5, 1, 1, 8]:
        ids = np.arange(at, at + count, dtype=np.int32)
        got.append(session.run(ids, np.int64([0, count]), "y", slots=[0]))
        at += count
    assert at == len(x)
    wanted = attention(x, [0, at], 4, 2, 8, True, 1 / math.sqrt(8), **options)
    np.testing.assert_allclose(np.concatenate(got), wanted, atol=2e-5)


def test_what_a_window_hides_is_not_read():
    x = random_rows((4 + 2 * 2) * 8)
    for causal in (False, True):
        poisoned = x.copy()
        poisoned[OFFSETS[-2] + 80, 32:] = np.nan  # a key and a value
        y = engine(poisoned, lambda p, v, causal=causal: p.attention("a", v, 4, 2, 8, causal, window=6))
        seeing = np.flatnonzero(np.isnan(y).any(axis=1)) - OFFSETS[-2] - 80
        assert seeing.tolist() == list(range(0 if causal else -6, 7))


@pytest.mark.parametrize("run", [engine, calibration, training])
def test_values_side_by_side_of_shifted_tokens(run):
    check_join(run)


def test_what_cannot_be_joined():
    program = _core.Program()
    x = program.embed(_core.Table("rows", np.ones((3, 4), np.float32)))
    for parts, shifts in (([], []), ([x], [0, 1])):
        with pytest.raises(_core.ShapeError, match="join: expected as many shifts as parts, at least one"):
            program.join(parts, shifts)
    with pytest.raises(_core.ShapeError, match="join: expected values with a row per token"):
        program.join([program.pool(x, ["mean"])], [0])
