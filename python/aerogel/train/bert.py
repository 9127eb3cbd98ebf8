"""BERT (arXiv 1810.04805) in PyTorch on ragged batches: linears, norms and activations never see padding.

The parameters have Hugging Face's names relative to the base model, as `aerogel.checkpoint` reads them. Only attention
pads, to the longest sequence of a batch of similar lengths.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from aerogel.architectures.bert import Bert
from aerogel.train.batches import Batch
from aerogel.train.trainee import Outputs, Trainee

_ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


class RaggedBert(Trainee):
    """An encoder with its pooling, or with the head that its config names."""

    def __init__(self, architecture: Bert) -> None:
        super().__init__()
        self.architecture = a = architecture
        self.dropout = 0.0
        self._activation = _ACTIVATIONS[a.activation]
        for tensor in a.tensors():
            self._add(tensor.name, tensor.shape)

    def _add(self, name: str, shape: tuple[int, ...]) -> None:
        """A parameter under its dotted name; a matrix belongs to a Linear or an Embedding, so that hooks find it."""
        *path, leaf = name.split(".")
        module: nn.Module = self
        for depth, part in enumerate(path):
            child = module._modules.get(part)
            if child is None:
                if depth < len(path) - 1 or len(shape) != 2:
                    child = nn.Module()
                elif part.endswith("embeddings"):
                    child = skip_init(nn.Embedding, *shape)
                else:
                    child = skip_init(nn.Linear, shape[1], shape[0], bias=self._has_bias(name))
                module.add_module(part, child)
            module = child
        if module._parameters.get(leaf) is None:
            module.register_parameter(leaf, nn.Parameter(torch.empty(shape)))

    def _has_bias(self, weight: str) -> bool:
        """Whether a linear has a bias."""
        bias = weight.removesuffix("weight") + "bias"
        return any(tensor.name == bias for tensor in self.architecture.tensors())

    def forward(self, batch: Batch, attention: bool = False) -> Outputs:
        a = self.architecture
        lengths = batch.lengths
        sequences, longest = len(lengths), int(lengths.max())
        starts = torch.cumsum(lengths, 0) - lengths  # [S]
        row = torch.repeat_interleave(torch.arange(sequences), lengths)  # [T], the sequence of each token
        position = torch.arange(len(batch.ids)) - starts[row]  # [T]
        place = row * longest + position  # [T], where each token is in the padded form
        padded = len(batch.ids) != sequences * longest
        bias = None
        if padded:
            bias = torch.zeros(sequences, longest)
            bias[torch.arange(longest)[None, :] >= lengths[:, None]] = -math.inf

        e = self.embeddings
        types = e.token_type_embeddings.weight[0]
        h = F.embedding(batch.ids, e.word_embeddings.weight) + F.embedding(position, e.position_embeddings.weight)
        h = self._drop(self._norm(e.LayerNorm, h + types))  # [T, H]
        outputs = Outputs([h])
        for layer, A, width in zip(self.encoder.layer.children(), a.heads, a.ffn, strict=True):
            if A:
                s = layer.attention.self
                q, k, v = (
                    self._heads(m(h), A, place, sequences, longest, padded) for m in (s.query, s.key, s.value)
                )  # [S A, L, d]
                scores = torch.bmm(q / math.sqrt(a.head_dim), k.transpose(1, 2))  # [S A, L, L]
                if bias is not None:
                    scores = scores + bias.repeat_interleave(A, 0)[:, None, :]
                x = torch.bmm(torch.softmax(scores, -1), v)  # [S A, L, d]
                x = x.view(sequences, A, longest, a.head_dim).transpose(1, 2).reshape(-1, A * a.head_dim)  # [S L, A d]
                x = x[place] if padded else x  # [T, A d]
                if attention:
                    outputs.attention.append(x)
                x = self._drop(layer.attention.output.dense(x))
            else:  # a block without heads is only its bias
                x = layer.attention.output.dense.bias
            h = self._norm(layer.attention.output.LayerNorm, h + x)  # [T, H]
            if width:
                x = self._activation(layer.intermediate.dense(h))  # [T, F]
                x = self._drop(layer.output.dense(x))
            else:
                x = layer.output.dense.bias
            h = self._norm(layer.output.LayerNorm, h + x)  # [T, H]
            outputs.hidden.append(h)
        if a.pooling is not None:
            outputs.embedding = self._pool(h, row, starts, lengths)
        if a.head == "classifier":
            c = torch.tanh(self.pooler.dense(h[starts]))
            outputs.logits = self.classifier(self._drop(c))  # [S, labels]
        if a.head == "mlm":
            t = self.cls.predictions.transform
            m = self._norm(t.LayerNorm, self._activation(t.dense(h)))
            decoder = e.word_embeddings if a.tied else self.cls.predictions.decoder
            outputs.logits = F.linear(m, decoder.weight, self.cls.predictions.bias)  # [T, V]
        return outputs

    def _heads(
        self, x: torch.Tensor, heads: int, place: torch.Tensor, s: int, longest: int, padded: bool
    ) -> torch.Tensor:
        """[T, A d] -> [S A, L, d]; places without a token are 0."""
        d = self.architecture.head_dim
        if padded:
            x = torch.zeros(s * longest, heads * d).index_copy(0, place, x)
        return x.view(s, longest, heads, d).transpose(1, 2).reshape(s * heads, longest, d)

    def _pool(self, h: torch.Tensor, row: torch.Tensor, starts: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        pooling = self.architecture.pooling
        assert pooling is not None
        if pooling.mode == "cls":
            return h[starts]
        if pooling.mode == "last":
            return h[starts + lengths - 1]
        zeros = torch.zeros(len(lengths), h.shape[1])
        if pooling.mode == "max":
            return zeros.scatter_reduce(0, row[:, None].expand_as(h), h, "amax", include_self=False)
        return zeros.index_add(0, row, h) / lengths[:, None]

    def _norm(self, module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (self.architecture.hidden_size,), module.weight, module.bias, self.architecture.eps)

    def _drop(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x
