"""How much the result of each linear moves what the model gives: a `Program` that goes forward and then back.

`Moved` has the methods of a `Program`, on one block of texts in NumPy. Each op leaves what its gradient needs; `_back` then
goes through them from the last to the first, and shows a linear's input x and the gradient g of its result to a function.

With outputs e and random r of variance 1, g = d (r e) / d y has mean g g^T = mean J^T J, J = d e / d y: by how much a small
error of y changes e (Hutchinson 1989). Where the output is the scores of a vocabulary, g is that of the log probability of
a token drawn from them, and mean g g^T is Fisher's information: by how much the distribution changes (the factors of K-FAC,
Martens and Grosse, arXiv 1503.05671).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from aerogel._core import Plan, Program, Rotary, Session, Table
from aerogel.calibrate.attention import Positions, Scores, attention, attention_back
from aerogel.calibrate.derivatives import ACTIVATIONS, normalized, normalized_back, turned
from aerogel.calibrate.eager import MOST_OUTPUTS, EagerParameters, shifted
from aerogel.calibrate.values import Block

#: Shown of each linear: the names of its matrices, its input [rows, K] and the gradient of its result [rows, N].
See: TypeAlias = Callable[[tuple[str, ...], np.ndarray, np.ndarray], None]
#: Which output is looked at: the first of these that there is.
OUTPUTS = ("embedding", "scores", "terms", "hidden")
#: Tokens whose scores over a vocabulary are in memory at once.
ROWS = 256


class Made:
    """A value, the gradient that has come together so far, and where to hand it on to."""

    def __init__(self, value: np.ndarray, back: Callable[[np.ndarray], None] | None = None) -> None:
        self.value = value
        self.back = back
        self.gradient: np.ndarray | None = None

    def take(self, g: np.ndarray) -> None:
        """Adds to the gradient."""
        self.gradient = g if self.gradient is None else self.gradient + g


#: None: not computed, as scores over a vocabulary.
Written: TypeAlias = Made | None


class Moved:
    """A `Program` of one block of texts; see above. A vocabulary's scores are computed only where they are drawn from."""

    def __init__(self, block: Block, weights: EagerParameters) -> None:
        self._block = block
        self._weights = weights
        self._lengths = np.diff(block.offsets)
        self._made: list[Made] = []
        self._linears: list[tuple[tuple[str, ...], Made, Made]] = []
        self._vocabulary: tuple[Made, tuple[str, ...], np.ndarray | None] | None = None
        self._outputs: dict[str, Made] = {}

    def _back(self, rng: np.random.Generator, see: See) -> None:
        """Draws r, or tokens, and shows every linear that moves the output."""
        if self._vocabulary is not None:
            self._draw(*self._vocabulary, rng)
        else:
            self._project(rng)
        seen = {id(y): (names, x) for names, x, y in self._linears}
        for made in reversed(self._made):
            if made.gradient is None or made.back is None:
                continue
            if id(made) in seen:
                names, x = seen[id(made)]
                see(names, x.value, made.gradient)
            made.back(made.gradient)
            made.gradient = None
            made.back = None

    def _draw(self, x: Made, names: tuple[str, ...], bias: np.ndarray | None, rng: np.random.Generator) -> None:
        (weight,) = self._weights.dense(names)
        g = np.empty_like(x.value)
        for begin in range(0, len(g), ROWS):
            rows = x.value[begin : begin + ROWS] @ weight.T
            if bias is not None:
                rows += bias
            share = np.exp(rows - rows.max(axis=1, keepdims=True))
            share /= share.sum(axis=1, keepdims=True)
            drawn = (np.cumsum(share, axis=1) < rng.random((len(share), 1))).sum(axis=1)
            share[np.arange(len(share)), np.minimum(drawn, len(weight) - 1)] -= 1
            g[begin : begin + ROWS] = share @ weight
        x.take(g)

    def _project(self, rng: np.random.Generator) -> None:
        name = next(name for name in OUTPUTS if name in self._outputs)
        output = self._outputs[name]
        r = rng.standard_normal(output.value.shape, np.float32)
        if name != "embedding":  # of rows of any length: what counts is an error beside it
            size = np.sqrt(np.square(output.value).mean(axis=1, keepdims=True))
            r = np.divide(r, size, out=np.zeros_like(r), where=size > 0)
        output.take(r)

    def _add(self, value: np.ndarray, back: Callable[[np.ndarray], None] | None = None) -> Made:
        made = Made(np.ascontiguousarray(value, np.float32), back)
        self._made.append(made)
        return made

    def embed(
        self, tokens: Table, positions: Table | None = None, types: Table | None = None, position_offset: int = 0
    ) -> Made:
        program = Program()
        program.output("y", program.embed(tokens, positions, types, position_offset))
        return self._add(Session(Plan(program, 1, "scalar")).run(self._block.tokens, self._block.offsets, "y"))

    def linear(
        self,
        name: str,
        x: Written,
        weight: tuple[str, ...],
        bias: np.ndarray | None = None,
        terms: int = 1,
        limit: float = 0.0,
    ) -> Written:
        if x is None:
            return None
        if name == "head":  # of a language model
            self._vocabulary = x, weight, bias
            return None
        parts = self._weights.dense(weight)
        if sum(map(len, parts)) > MOST_OUTPUTS:
            return None
        value = np.concatenate([x.value @ part.T for part in parts], axis=1)
        ends = np.cumsum([len(part) for part in parts])[:-1]

        def back(g: np.ndarray) -> None:
            pieces = zip(np.split(g, ends, axis=1), self._weights.dense(weight), strict=True)
            x.take(np.sum([piece @ part for piece, part in pieces], axis=0))

        y = self._add(value if bias is None else value + bias, back)
        self._linears.append((weight, x, y))
        return y

    def add(self, x: Written, y: Written) -> Written:
        if x is None or y is None:
            return None

        def back(g: np.ndarray) -> None:
            x.take(g)
            y.take(g)

        return self._add(x.value + y.value, back)

    def layer_norm(self, name: str, x: Written, gamma: np.ndarray, beta: np.ndarray | None, eps: float) -> Written:
        return self._norm(x, gamma, beta, eps, True)

    def rms_norm(self, name: str, x: Written, gamma: np.ndarray, eps: float) -> Written:
        return self._norm(x, gamma, None, eps, False)

    def _norm(self, x: Written, gamma: np.ndarray, beta: np.ndarray | None, eps: float, centre: bool) -> Written:
        if x is None:
            return None
        n, factor = normalized(x.value, eps, centre)
        value = n * gamma if beta is None else n * gamma + beta
        return self._add(value, lambda g: x.take(normalized_back(g * gamma, n, factor, centre)))

    def activation(self, x: Written, kind: str) -> Written:
        if x is None:
            return None
        value, slope = ACTIVATIONS[kind](x.value)
        return self._add(value, lambda g: x.take(g * slope))

    def gate(self, x: Written, kind: str) -> Written:
        if x is None:
            return None
        gate, up = np.split(x.value, 2, axis=1)
        value, slope = ACTIVATIONS[kind](gate)
        return self._add(value * up, lambda g: x.take(np.concatenate([g * up * slope, g * value], axis=1)))

    def scale(self, x: Written, factor: float) -> Written:
        return None if x is None else self._add(x.value * np.float32(factor), lambda g: x.take(g * np.float32(factor)))

    def qk_norm(
        self,
        name: str,
        x: Written,
        heads: int,
        kv_heads: int,
        head_dim: int,
        query_gamma: np.ndarray,
        key_gamma: np.ndarray,
        eps: float,
    ) -> Written:
        if x is None:
            return None
        ends = [heads * head_dim, (heads + kv_heads) * head_dim]
        *parts, v = np.split(x.value, ends, axis=1)
        gammas = (query_gamma, key_gamma)
        found = [
            normalized(part.reshape(len(v), -1, len(of)), eps, False) for part, of in zip(parts, gammas, strict=True)
        ]

        def back(g: np.ndarray) -> None:
            *pieces, rest = np.split(g, ends, axis=1)
            turned_back = [
                normalized_back(piece.reshape(n.shape) * of, n, factor, False).reshape(piece.shape)
                for piece, of, (n, factor) in zip(pieces, gammas, found, strict=True)
            ]
            x.take(np.concatenate([*turned_back, rest], axis=1))

        rows = [(n * of).reshape(len(v), -1) for (n, _), of in zip(found, gammas, strict=True)]
        return self._add(np.concatenate([*rows, v], axis=1), back)

    def rope(self, x: Written, heads: int, head_dim: int, rotary: Rotary) -> Written:
        if x is None:
            return None
        cos, sin = rotary.turns(self._block.offsets)
        return self._add(
            turned(x.value, heads, head_dim, cos, sin), lambda g: x.take(turned(g, heads, head_dim, cos, -sin))
        )

    def attention(
        self,
        name: str,
        x: Written,
        heads: int,
        kv_heads: int,
        head_dim: int,
        causal: bool,
        scale: float | None = None,
        window: int | None = None,
        softcap: float = 0.0,
        bias: np.ndarray | None = None,
        slopes: np.ndarray | None = None,
    ) -> Written:
        factor = 1 / math.sqrt(head_dim) if scale is None else scale
        return self._attention(x, heads, kv_heads, head_dim, Scores(factor, causal, window, softcap, bias, slopes))

    def disentangled_attention(
        self,
        name: str,
        x: Written,
        heads: int,
        head_dim: int,
        scale: float,
        rows: np.ndarray,
        position_keys: np.ndarray | None = None,
        position_queries: np.ndarray | None = None,
    ) -> Written:
        positions = Positions(rows, position_keys, position_queries)
        return self._attention(x, heads, heads, head_dim, Scores(scale, positions=positions))

    def _attention(self, x: Written, heads: int, kv_heads: int, head_dim: int, by: Scores) -> Written:
        if x is None:
            return None
        shape = (self._block.offsets, heads, kv_heads, head_dim, by)
        return self._add(attention(x.value, *shape), lambda g: x.take(attention_back(x.value, g, *shape)))

    def short_conv(self, name: str, x: Written, kernel: np.ndarray, bias: np.ndarray | None = None) -> Written:
        if x is None:
            return None
        before, after, inner = np.split(x.value, 3, axis=1)
        offsets, taps = self._block.offsets, range(kernel.shape[1])
        late = [kernel.shape[1] - 1 - j for j in taps]
        sum_ = np.sum([kernel[:, j] * shifted(before * inner, offsets, -late[j]) for j in taps], axis=0)
        sum_ = sum_ if bias is None else sum_ + bias

        def back(g: np.ndarray) -> None:
            product = np.sum([shifted(g * after * kernel[:, j], offsets, late[j]) for j in taps], axis=0)
            x.take(np.concatenate([product * inner, g * sum_, product * before], axis=1))

        return self._add(after * sum_, back)

    def join(self, parts: Sequence[Written], shifts: Sequence[int]) -> Written:
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        offsets = self._block.offsets
        ends = np.cumsum([part.value.shape[1] for part in known])[:-1]

        def back(g: np.ndarray) -> None:
            for part, piece, by in zip(known, np.split(g, ends, axis=1), shifts, strict=True):
                part.take(shifted(piece, offsets, -by))

        rows = [shifted(part.value, offsets, by) for part, by in zip(known, shifts, strict=True)]
        return self._add(np.concatenate(rows, axis=1), back)

    def select_last(self, x: Written) -> Written:
        return x

    def pool(self, x: Written, kinds: Sequence[str]) -> Written:
        if x is None:
            return None
        shares = [self._shares(x.value, kind) for kind in kinds]
        starts = self._block.offsets[:-1]
        width = x.value.shape[1]

        def back(g: np.ndarray) -> None:
            pieces = np.split(g, len(kinds), axis=1)
            x.take(
                np.sum(
                    [share * np.repeat(p, self._lengths, axis=0) for share, p in zip(shares, pieces, strict=True)],
                    axis=0,
                ).reshape(-1, width)
            )

        return self._add(
            np.concatenate([np.add.reduceat(share * x.value, starts, axis=0) for share in shares], axis=1), back
        )

    def _shares(self, x: np.ndarray, kind: str) -> np.ndarray:
        """float32 [T, 1 or H]: the part that each token has in what is pooled of its sequence."""
        length = np.repeat(self._lengths, self._lengths)[:, None].astype(np.float32)
        place = (np.arange(len(x)) - np.repeat(self._block.offsets[:-1], self._lengths))[:, None]
        if kind == "cls":
            share = place == 0
        elif kind == "last":
            share = place == length - 1
        elif kind == "max":
            share = x == np.repeat(np.maximum.reduceat(x, self._block.offsets[:-1], axis=0), self._lengths, axis=0)
        elif kind == "weightedmean":
            share = (place + 1) / (length * (length + 1) / 2)
        else:
            share = 1 / (np.sqrt(length) if kind == "mean_sqrt_len" else length)
        return np.asarray(share, np.float32)

    def l2_normalize(self, x: Written) -> Written:
        if x is None:
            return None
        length = np.maximum(np.linalg.norm(x.value, axis=1, keepdims=True), np.float32(1e-12))
        n = x.value / length
        return self._add(n, lambda g: x.take((g - n * (g * n).sum(axis=1, keepdims=True)) / length))

    def output(self, name: str, x: Written) -> None:
        if x is not None:
            self._outputs[name] = x

    def set_max_positions(self, limit: int) -> None:
        pass


def show_gradients(
    build: Callable[[Moved, EagerParameters], object],
    block: Block,
    weights: EagerParameters,
    seed: Sequence[int],
    see: See,
) -> None:
    """Runs a block of texts through a dense model, forward and back."""
    program = Moved(block, weights)
    build(program, weights)
    program._back(np.random.default_rng(seed), see)
