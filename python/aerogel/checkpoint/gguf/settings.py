"""What the metadata of a GGUF file means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aerogel.architectures import GGUFNames, Refused, Settings

_NOTES = "notes"
#: What stands below `<architecture>.`, beside the keys that become a family's config.
MODEL = Settings(
    "GGUF, <architecture>.*",
    used={
        "pooling_type": "how hidden states become an embedding",
        "rope.*": "rotary embeddings",
        "attention.causal": "false: each token also attends to what comes after it",
        "classifier.output_labels": "names of a classifier's scores",
    },
    harmless={
        "vocab_size": "the tensors say it",
        "attention.value_length": "the tensors say it",
        "leading_dense_block_count": "there are no experts",
        "dense_*_feat_*": "the tensors say it",
    },
    refused={
        "attention.sliding_window": Refused("windowed attention", (0,)),
        "attention.scale": Refused("attention is scaled otherwise", (0.0,)),
        "attention.clamp_kqv": Refused("queries and keys are capped", (0.0,)),
        "attention.max_alibi_bias": Refused("a bias by distance", (0.0,)),
        "attn_logit_softcapping": Refused("scores are capped", (0.0,)),
        "final_logit_softcapping": Refused("logits are capped", (0.0,)),
        "logit_scale": Refused("logits are scaled", (0.0, 1.0)),
        "embedding_scale": Refused("embeddings are scaled", (0.0, 1.0)),
        "residual_scale": Refused("residuals are scaled", (0.0, 1.0)),
        "use_parallel_residual": Refused("attention and feed-forward side by side"),
        "expert_count": Refused("experts", (0,)),
        "expert_used_count": Refused("experts", (0,)),
        "tensor_data_layout": Refused("another layout of the weights", ("Meta AI original pth",)),
    },
)
FILE = Settings(
    "GGUF",
    used={
        "general.architecture": "the family",
        "general.alignment": "where tensors begin",
        "split.count": "files in parts are refused",
        "tokenizer.ggml.model": "the kind of tokenizer",
        "tokenizer.ggml.pre": "how text is split",
        **dict.fromkeys(
            (f"tokenizer.ggml.{key}" for key in ("tokens", "token_type", "scores", "merges")), "the vocabulary"
        ),
        **dict.fromkeys(
            (f"tokenizer.ggml.{key}" for key in ("*_token_id", "add_bos_token", "add_eos_token")), "special tokens"
        ),
        "tokenizer.ggml.add_space_prefix": "whether a text begins with a space",
        "tokenizer.ggml.add_sep_token": "a separator between the texts of a pair",
        "tokenizer.ggml.remove_extra_whitespaces": "whether spaces in a row become one, in a Unigram vocabulary",
        "tokenizer.ggml.precompiled_charsmap": "characters that stand for others, in a Unigram vocabulary",
    },
    harmless={
        "general.*": _NOTES,
        "split.*": _NOTES,
        "quantize.*": _NOTES,
        "imatrix.*": _NOTES,
        "tokenizer.chat_template*": "texts are taken as they are",
        "tokenizer.huggingface.json": "the vocabulary says the same",
        "tokenizer.rwkv.world": "another kind of tokenizer",
        "tokenizer.ggml.token_type_count": "the tensors say it",
        "tokenizer.ggml.added_tokens": "the vocabulary says the same",
    },
    refused={
        "general.type": Refused("this is no model: merge an adapter into its base model first", ("model",)),
    },
)


def check_metadata(metadata: Mapping[str, Any], names: GGUFNames, architecture: str, where: object) -> None:
    """Raises UnsupportedModelError for what would change the answer, and warns of what nobody knows."""
    prefix = architecture + "."
    own = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    known = dict.fromkeys(names.keys.values(), "a config entry")
    (MODEL | Settings(MODEL.file, used=known)).check(own, f"{where}: {architecture}")
    # Other architectures' keys are left over from a conversion, and mean nothing here.
    common = ("general.", "split.", "quantize.", "imatrix.", "tokenizer.", "adapter.")
    FILE.check({key: value for key, value in metadata.items() if key.startswith(common)}, where)
