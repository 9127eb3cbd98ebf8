"""BERT encoders (arXiv 1810.04805), with every head that they are trained with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from aerogel.architectures.config import Config
from aerogel.architectures.encoder import Encoder
from aerogel.architectures.files import GGUFNames, GGUFSource, SavedNames
from aerogel.architectures.heads import (
    MASKED,
    SEQUENCE,
    TOKENS,
    Head,
    classes,
    decoder,
    masked_head,
    sequence_head,
    span_head,
    token_head,
)
from aerogel.errors import UnsupportedModelError


def _finish_gguf(file: GGUFSource, config: dict[str, Any]) -> None:
    types = file.tensors.get("token_types.weight")
    config["type_vocab_size"] = 1 if types is None else types.shape[0]  # llama.cpp adds none then, which is zeros
    last = file.tensors.get("cls.output.weight")
    if last is None:
        return
    # llama.cpp writes a RoBERTa down as a BERT, without the positions that nothing has; a BERT's classifier it writes
    # without the pooler before it.
    if "cls.weight" not in file.tensors:
        raise UnsupportedModelError(
            f"{file.path}: cls.output.weight: expected cls.weight beside it: the file has a classifier without the linear "
            "that stands before it in the original, so its scores are others"
        )
    labels = file.metadata.get("bert.classifier.output_labels")
    names = labels if isinstance(labels, list) and len(labels) == last.shape[0] else None
    config["id2label"] = {str(i): names[i] if names else f"LABEL_{i}" for i in range(last.shape[0])}
    config.update(model_type="roberta", architectures=["RobertaForSequenceClassification"], pad_token_id=-1)


_GGUF_BLOCKS = {
    "attn_q": "attention.self.query",
    "attn_k": "attention.self.key",
    "attn_v": "attention.self.value",
    "attn_output": "attention.output.dense",
    "attn_output_norm": "attention.output.LayerNorm",
    "ffn_up": "intermediate.dense",
    "ffn_down": "output.dense",
    "layer_output_norm": "output.LayerNorm",
}
GGUF = GGUFNames(
    keys={
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_hidden_layers": "block_count",
        "num_attention_heads": "attention.head_count",
        "max_position_embeddings": "context_length",
        "layer_norm_eps": "attention.layer_norm_epsilon",
    },
    defaults={
        "model_type": "bert",
        "architectures": ["BertModel"],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "position_embedding_type": "absolute",
    },
    tensors={
        "token_embd.weight": "embeddings.word_embeddings.weight",
        "position_embd.weight": "embeddings.position_embeddings.weight",
        "token_types.weight": "embeddings.token_type_embeddings.weight",
        "token_embd_norm.weight": "embeddings.LayerNorm.weight",
        "token_embd_norm.bias": "embeddings.LayerNorm.bias",
        **{
            f"{short}.{part}": f"classifier.{long}.{part}"
            for short, long in {"cls": "dense", "cls.output": "out_proj"}.items()
            for part in ("weight", "bias")
        },
    },
    blocks={
        f"{short}.{part}": f"encoder.layer.{{n}}.{long}.{part}"
        for short, long in _GGUF_BLOCKS.items()
        for part in ("weight", "bias")
    },
    finish=_finish_gguf,
    zeros={"embeddings.token_type_embeddings.weight": ("type_vocab_size", "hidden_size")},
)


class Bert(Encoder):
    """Classifiers read the first token through the pooler."""

    model_types: ClassVar = ("bert",)
    classes: ClassVar = classes("Bert", more={"BertForPreTraining": MASKED, "HF_ColBERT": None, "Contriever": None})
    harmless = {
        **Encoder.harmless,
        r"cls\.seq_relationship\..*": "next sentence prediction is not offered",
    }
    saved: ClassVar = {
        "bert": SavedNames(
            base_class="BertModel",
            prefix="bert.",
            parts=("embeddings.", "encoder.", "pooler."),
            renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},  # BERT's first form
            tied={"cls.predictions.decoder.weight": "embeddings.word_embeddings.weight"},
            classifier="BertForSequenceClassification",
        )
    }
    gguf: ClassVar = {"bert": GGUF}
    wordpiece: ClassVar = True

    def make_head(self, kind: str, c: Config, names: Sequence[str]) -> Head:
        h = (self.hidden_size, "hidden")
        if kind == SEQUENCE:
            return sequence_head(h, self.labels, first="pooler.dense")
        if kind == TOKENS:
            return token_head(h, self.labels)
        if kind != MASKED:
            return span_head(h)
        cls, words, v = "cls.predictions.", self.module_names.words + ".weight", (self.vocab_size, "")
        biases = (cls + "bias", cls + "decoder.bias")
        tied = c.boolean("tie_word_embeddings", True)
        last, unread = decoder(names, cls + "decoder.weight", biases, words, tied, v, h)
        self.harmless.update(unread)
        norm = cls + "transform.LayerNorm"
        return masked_head(h, h, cls + "transform.dense", norm, self.eps, self.activation, last)
