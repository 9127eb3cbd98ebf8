"""Tiny models that Transformers makes, and what it computes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aerogel.checkpoint.tokenizer import wordpiece

from .. import tiny_models
from ..conftest import random_ids

VOCABULARY = 60
#: What every tiny encoder has, under the names that most configs know.
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
#: A ragged batch.
SEQUENCES = [[token + 5 for token in random_ids(VOCABULARY - 5, n, n)] for n in (3, 1, 17, 8)]


def save(folder: Path, name: str, **config: Any) -> Any:
    """A model of the class `name` with weights that nothing hides behind: written to the folder, and returned."""
    torch = pytest.importorskip("torch", reason="PyTorch (extra [train]) is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    kind = getattr(transformers, name)
    net = kind(kind.config_class(**config)).eval()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for label, parameter in net.named_parameters():
            norm = "norm" in label.lower() and label.endswith("weight")
            parameter.copy_(float(norm) + (0.1 if norm else 0.25) * torch.randn(parameter.shape, generator=random))
    net.save_pretrained(folder)
    return net


def tokenizer(folder: Path, size: int = VOCABULARY) -> None:
    """BERT's, of words and letters, as a tokenizer.json."""
    tokens = [*"[PAD] [UNK] [CLS] [SEP] [MASK]".split(), *tiny_models.WORDS, *"abcdefghijklmnopqrstuvwxyz"[1:]]
    wordpiece(tokens[:size], True, folder).save(str(folder / "tokenizer.json"))


def unigram(folder: Path, size: int = VOCABULARY) -> None:
    """One of SentencePiece's Unigram kind, as XLM-RoBERTa's tokenizer.json is: words begin with a mark, some in parts."""
    import tokenizers

    pieces = ["▁" + word for word in tiny_models.WORDS] + [*"▁abcdefghijklmnopqrstuvwxyz,.", "at", "un", "▁b"]
    special = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
    vocabulary = [(token, 0.0) for token in special] + [(piece, -2.0 - len(piece) % 3) for piece in pieces]
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary[:size], unk_id=3))
    backend.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.NFKC(), tokenizers.normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 0), ("[SEP]", 2)],
    )
    backend.decoder = tokenizers.decoders.Metaspace()
    backend.add_special_tokens(special)
    backend.save(str(folder / "tokenizer.json"))


def reload(folder: Path, name: str) -> Any:
    """The model of a folder, as Transformers loads it: nothing missing, nothing left over."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    net, report = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    wrong = [str(name) for kind, names in report.items() for name in names if "pooler" not in str(name)]
    assert not wrong, wrong
    return net.eval()


def outputs(net: Any, sequences: list[list[int]] = SEQUENCES, **inputs: Any) -> dict[str, np.ndarray]:
    """By our names: what the model gives for each sequence alone, end to end."""
    import torch

    found: dict[str, list[np.ndarray]] = {}
    with torch.no_grad():
        for ids in sequences:
            result = net(torch.tensor([ids]), output_hidden_states=True, **inputs)
            found.setdefault("hidden", []).append(result.hidden_states[-1][0].numpy())
            if "start_logits" in result:
                both = torch.stack([result.start_logits[0], result.end_logits[0]], dim=1)
                found.setdefault("spans", []).append(both.numpy())
            elif "logits" in result:
                rows = result.logits[0] if result.logits.dim() == 3 else result.logits
                found.setdefault("logits", []).append(rows.numpy())
    return {name: np.concatenate(rows) for name, rows in found.items()}
