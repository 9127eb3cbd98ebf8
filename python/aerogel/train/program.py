"""A model family in PyTorch: the ops that an architecture writes down, on ragged batches, with gradients.

`Ragged` has the methods of a `Program` (aerogel.architectures.program), but what would be the number of a value is a tensor
with a row a token. So every family that runs can be trained, and is trained as it runs. Linears, norms and activations never
see padding; only attention pads, to the longest sequence of a batch of similar lengths.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from aerogel._core import Rotary
from aerogel.train.batches import Batch

#: A linear of a program: the names of its parts, stacked along N.
Parts = tuple[str, ...]

#: (names of a linear's parts, x [rows, K], their weights, bias [N] or None) -> x W^T + bias, or None.
Products = Callable[[Parts, torch.Tensor, Sequence[torch.Tensor], torch.Tensor | None], torch.Tensor | None]

_ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def _tensor(vector: torch.Tensor | NDArray[np.float32], like: torch.Tensor) -> torch.Tensor:
    """A parameter as it is; a constant of the family, which is an array, where `like` is."""
    return vector if isinstance(vector, torch.Tensor) else torch.from_numpy(vector).to(like.device)


def _rms_of_slices(x: torch.Tensor, gamma: torch.Tensor, eps: float) -> torch.Tensor:
    """RMS norms of slices of a row that are as wide as gamma."""
    slices = x.view(len(x), -1, len(gamma))
    return (slices * torch.rsqrt(slices.square().mean(2, keepdim=True) + eps) * gamma).reshape(x.shape)


def _single_on_cpu(attend: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """In float32 on a CPU whatever linears are computed in: there PyTorch's attention in bfloat16 takes four times as long,
    for the way back (2.13.0, Zen 5)."""

    @functools.wraps(attend)
    def single(self: Ragged, name: str, x: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        if x.device.type != "cpu":
            return attend(self, name, x, *args, **options)
        with torch.autocast("cpu", enabled=False):
            return attend(self, name, x.float(), *args, **options)

    return single


class RaggedParameters:
    """What `Architecture.build` takes its weights from: the parameters of a module, by their names in a checkpoint."""

    def __init__(self, named: Mapping[str, torch.Tensor]) -> None:
        self._named = named

    def linear(self, *names: str) -> Parts:
        return names

    def limit(self, *names: str) -> float:
        return 0.0  # training is in float32

    def table(self, name: str) -> torch.Tensor:
        return self._named[name]

    def vector(self, name: str) -> torch.Tensor:
        return self._named[name]

    def vectors(self, *names: str | int) -> torch.Tensor:
        device = next(iter(self._named.values())).device
        return torch.cat(
            [self._named[name] if isinstance(name, str) else torch.zeros(name, device=device) for name in names]
        )

    def product(self, rows: torch.Tensor, *names: str) -> torch.Tensor:
        return F.linear(rows, torch.cat([self._named[name] for name in names]))


class Ragged:
    """A `Program` that computes what it is told, for one batch.

    Args:
        batch: the tokens.
        named: the parameters, by their names in a checkpoint.
        drop: dropout, of what is added to the hidden states and of what a head reads.
        heads: the linears that are a head.
        see: called with the names of a linear's parts and its input [rows, K] before each linear.
        products: gives x W^T + bias of the parts of a linear, or None, where PyTorch shall compute it.

    Attributes:
        outputs: what was named so, by name.
        attention_outputs: what each attention gives, [T, heads * head_dim].
    """

    def __init__(
        self,
        batch: Batch,
        named: Mapping[str, torch.Tensor],
        drop: Callable[[torch.Tensor], torch.Tensor],
        heads: frozenset[str],
        see: Callable[[Parts, torch.Tensor], None] | None = None,
        products: Products | None = None,
    ) -> None:
        self.outputs: dict[str, torch.Tensor] = {}
        self.attention_outputs: list[torch.Tensor] = []
        self._batch, self._named, self._drop, self._heads, self._see = batch, named, drop, heads, see
        self._products = products
        lengths = batch.lengths
        self._sequences, self._longest = len(lengths), int(batch.counts.max())
        self._starts = torch.cumsum(lengths, 0) - lengths  # [S]
        device = batch.ids.device
        row = torch.arange(self._sequences, device=device)
        self._row = torch.repeat_interleave(row, lengths, output_size=len(batch.ids))  # [T], its sequence
        self._positions = torch.arange(len(batch.ids), device=device) - self._starts[self._row]  # [T]
        self._place = self._row * self._longest + self._positions  # [T], where a token is in the padded form
        self._padded = len(batch.ids) != self._sequences * self._longest
        self._bias: torch.Tensor | None = None
        self._turns: tuple[Rotary, torch.Tensor, torch.Tensor] | None = None

    def embed(
        self,
        tokens: torch.Tensor,
        positions: torch.Tensor | None = None,
        types: torch.Tensor | None = None,
        position_offset: int = 0,
    ) -> torch.Tensor:
        h = F.embedding(self._batch.ids, tokens)
        if positions is not None:
            h = h + F.embedding(self._positions + position_offset, positions)
        if types is not None:
            h = h + types[0]
        return self._drop(h)

    def linear(
        self,
        name: str,
        x: torch.Tensor,
        weight: Parts,
        bias: torch.Tensor | None = None,
        terms: int = 1,
        limit: float = 0.0,
    ) -> torch.Tensor:
        if self._see is not None:
            self._see(weight, x)
        if not self._heads.isdisjoint(weight):
            x = self._drop(x)
        parts = [self._named[part] for part in weight]
        added = None if bias is None else _tensor(bias, x)
        if self._products is not None and (product := self._products(weight, x, parts, added)) is not None:
            return product
        return F.linear(x, parts[0] if len(parts) == 1 else torch.cat(parts), added)

    def add(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + self._drop(y)

    def layer_norm(
        self, name: str, x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor | None, eps: float
    ) -> torch.Tensor:
        return F.layer_norm(x, (x.shape[1],), _tensor(gamma, x), None if beta is None else _tensor(beta, x), eps)

    def rms_norm(self, name: str, x: torch.Tensor, gamma: torch.Tensor, eps: float) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + eps) * _tensor(gamma, x)

    def activation(self, x: torch.Tensor, kind: str) -> torch.Tensor:
        return _ACTIVATIONS[kind](x)

    def gate(self, x: torch.Tensor, kind: str) -> torch.Tensor:
        gate, up = x.chunk(2, dim=1)
        return _ACTIVATIONS[kind](gate) * up

    def scale(self, x: torch.Tensor, factor: float) -> torch.Tensor:
        return x * factor

    def qk_norm(
        self,
        name: str,
        x: torch.Tensor,
        heads: int,
        kv_heads: int,
        head_dim: int,
        query_gamma: torch.Tensor,
        key_gamma: torch.Tensor,
        eps: float,
    ) -> torch.Tensor:
        q, k, v = torch.split(x, [heads * head_dim, kv_heads * head_dim, kv_heads * head_dim], dim=1)
        parts = [_rms_of_slices(part, _tensor(gamma, x), eps) for part, gamma in ((q, query_gamma), (k, key_gamma))]
        return torch.cat([*parts, v], dim=1)

    def rope(self, x: torch.Tensor, heads: int, head_dim: int, rotary: Rotary) -> torch.Tensor:
        c, s = self._turns_of(rotary, x)  # [T, 1, pairs]
        pairs = c.shape[2]
        by_head = x[:, : heads * head_dim].view(len(x), heads, head_dim)
        a, b = by_head[:, :, :pairs], by_head[:, :, pairs : 2 * pairs]  # [T, heads, pairs] each
        turned = torch.cat([a * c - b * s, b * c + a * s, by_head[:, :, 2 * pairs :]], dim=2).view(len(x), -1)
        return torch.cat([turned, x[:, heads * head_dim :]], dim=1)

    def _turns_of(self, rotary: Rotary, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin of all tokens, where `like` is: one pair of tables for all layers that turn alike."""
        if self._turns is None or self._turns[0] is not rotary:
            offsets = np.concatenate(([0], np.cumsum(self._batch.counts)))
            cos, sin = (torch.from_numpy(table).to(like.device)[:, None, :] for table in rotary.turns(offsets))
            self._turns = rotary, cos, sin
        return self._turns[1:]

    @_single_on_cpu
    def attention(
        self,
        name: str,
        x: torch.Tensor,
        heads: int,
        kv_heads: int,
        head_dim: int,
        causal: bool,
        scale: float | None = None,
        window: int | None = None,
        softcap: float = 0.0,
        bias: torch.Tensor | None = None,
        slopes: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if self._padded:  # places without a token are 0
            x = x.new_zeros(self._sequences * self._longest, x.shape[1]).index_copy(0, self._place, x)
        by_head = x.view(self._sequences, self._longest, heads + 2 * kv_heads, head_dim).transpose(
            1, 2
        )  # [S, .., L, d]
        q, k, v = torch.split(by_head, [heads, kv_heads, kv_heads], dim=1)
        if heads != kv_heads:
            k, v = (part.repeat_interleave(heads // kv_heads, dim=1) for part in (k, v))
        scale = 1 / math.sqrt(head_dim) if scale is None else scale
        if window is None and not softcap and bias is None and slopes is None:
            # A token of a causal model sees none of the padding, which stands behind it.
            mask = self._padding_bias(x) if self._padded and not causal else None
            y = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=causal, scale=scale
            )  # [S, heads, L, d]
        else:
            added = self._added(x, causal, window, bias, slopes)  # [S or 1, heads or 1, L, L]
            if softcap:
                scores = softcap * torch.tanh(q @ k.transpose(2, 3) * (scale / softcap)) + added
                y = torch.softmax(scores, dim=3) @ v
            else:
                y = F.scaled_dot_product_attention(q, k, v, attn_mask=added, scale=scale)
        y = y.transpose(1, 2).reshape(-1, heads * head_dim)  # [S L, heads d]
        y = y[self._place] if self._padded else y
        self.attention_outputs.append(y)
        return y

    @_single_on_cpu
    def disentangled_attention(
        self,
        name: str,
        x: torch.Tensor,
        heads: int,
        head_dim: int,
        scale: float,
        rows: NDArray[np.int32],
        position_keys: torch.Tensor | None = None,
        position_queries: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if self._padded:
            x = x.new_zeros(self._sequences * self._longest, x.shape[1]).index_copy(0, self._place, x)
        by_head = x.view(self._sequences, self._longest, 3 * heads, head_dim).transpose(1, 2)
        q, k, v = torch.split(by_head, heads, dim=1)  # [S, heads, L, d]
        place = np.arange(self._longest)
        reach = len(rows) // 2
        picked = rows[np.clip(place[None, :] - place[:, None], -reach, reach) + reach].astype(np.int64)
        index = torch.from_numpy(picked).to(x.device)[None, None].expand(self._sequences, heads, -1, -1)  # query, key
        scores = q @ k.transpose(2, 3)
        if position_keys is not None:
            by_query = q @ _tensor(position_keys, x).to(x.dtype).view(-1, heads, head_dim).permute(
                1, 2, 0
            )  # [S, heads, L, P]
            scores = scores + by_query.gather(3, index)
        if position_queries is not None:
            by_key = k @ _tensor(position_queries, x).to(x.dtype).view(-1, heads, head_dim).permute(1, 2, 0)
            scores = scores + by_key.gather(3, index.transpose(2, 3)).transpose(2, 3)
        added = self._added(x, False, None, None, None)
        y = torch.softmax(scores * scale + added, dim=3) @ v
        y = y.transpose(1, 2).reshape(-1, heads * head_dim)
        y = y[self._place] if self._padded else y
        self.attention_outputs.append(y)
        return y

    def short_conv(
        self, name: str, x: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        before, after, inner = x.chunk(3, dim=1)
        product, taps = before * inner, _tensor(kernel, x)
        y = product * taps[:, -1]
        for back in range(1, min(taps.shape[1], self._longest)):
            earlier = F.pad(product, (0, 0, back, 0))[: len(x)]  # what stands before it may be another text's
            y = y + earlier * (self._positions >= back)[:, None] * taps[:, -1 - back]
        return after * (y if bias is None else y + _tensor(bias, x))

    def select_last(self, x: torch.Tensor) -> torch.Tensor:
        return x  # every token is learned from

    def join(self, parts: Sequence[torch.Tensor], shifts: Sequence[int]) -> torch.Tensor:
        return torch.cat([self._shifted(part, by) for part, by in zip(parts, shifts, strict=True)], dim=1)

    def _shifted(self, x: torch.Tensor, by: int) -> torch.Tensor:
        place = self._positions + by
        there = (place >= 0) & (place < self._batch.lengths[self._row])
        source = (torch.arange(len(x), device=x.device) + by).clamp(0, len(x) - 1)
        return x[source] * there[:, None]

    def pool(self, x: torch.Tensor, kinds: Sequence[str]) -> torch.Tensor:
        return torch.cat([self._pool(x, kind) for kind in kinds], dim=1)

    def _pool(self, x: torch.Tensor, kind: str) -> torch.Tensor:
        lengths = self._batch.lengths
        if kind == "cls":
            return x[self._starts]
        if kind == "last":
            return x[self._starts + lengths - 1]
        zeros = x.new_zeros(len(lengths), x.shape[1])
        if kind == "max":
            return zeros.scatter_reduce(0, self._row[:, None].expand_as(x), x, "amax", include_self=False)
        if kind == "weightedmean":
            return (
                zeros.index_add(0, self._row, x * (self._positions + 1)[:, None])
                / (lengths * (lengths + 1) / 2)[:, None]
            )
        mean = zeros.index_add(0, self._row, x) / lengths[:, None]
        return mean * lengths[:, None].sqrt() if kind == "mean_sqrt_len" else mean

    def l2_normalize(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(x, dim=1, eps=1e-12)

    def output(self, name: str, x: torch.Tensor) -> None:
        self.outputs[name] = x

    def set_max_positions(self, limit: int) -> None:
        pass  # whoever tokenizes sees to it

    def _added(
        self,
        x: torch.Tensor,
        causal: bool,
        window: int | None,
        bias: torch.Tensor | None,
        slopes: torch.Tensor | None,
    ) -> torch.Tensor:
        """[S or 1, heads or 1, L, L]: what is added to scores; -inf where a token does not see another."""
        place = torch.arange(self._longest, device=x.device)
        away = place[None, :] - place[:, None]  # [L, L]: key - query
        seen = away <= 0 if causal else torch.ones_like(away, dtype=torch.bool)
        if window is not None:
            seen = seen & (away.abs() <= window)
        seen = seen[None]
        if self._padded:
            present = place[None, :] < self._batch.lengths[:, None]  # [S, L]
            # What is padding sees itself: a softmax of nothing would have no gradient.
            seen = seen & present[:, None, :] | (away == 0)[None]
        added = x.new_zeros(seen.shape).masked_fill_(~seen, -math.inf)[:, None]  # [S or 1, 1, L, L]
        if bias is not None:
            by_distance = _tensor(bias, x)
            reach = by_distance.shape[1] // 2
            added = added + by_distance[:, away.clamp(-reach, reach) + reach]
        if slopes is not None:
            added = added - _tensor(slopes, x)[:, None, None] * away.abs()
        return added

    def _padding_bias(self, x: torch.Tensor) -> torch.Tensor:
        """[S, 1, 1, L]: -inf where there is no token."""
        if self._bias is None:
            absent = torch.arange(self._longest, device=x.device)[None, :] >= self._batch.lengths[:, None]
            self._bias = x.new_zeros(self._sequences, 1, 1, self._longest).masked_fill_(
                absent[:, None, None, :], -math.inf
            )
        return self._bias
