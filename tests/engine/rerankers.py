"""Tiny language models as rerankers, in the files that Qwen3-Reranker's folder has."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..architectures import decoders

#: With the roles that sentence-transformers gives the texts of a pair.
TEMPLATE = """{%- set asked = messages | selectattr("role", "eq", "system") | map(attribute="content") | first \
| default("Find what answers the query") -%}
<|im_start|>system
Answer "yes" or "no".<|im_end|>
<|im_start|>user
<Instruct>: {{ asked }}
<Query>: {{ messages | selectattr("role", "eq", "query") | map(attribute="content") | first }}
<Document>: {{ messages | selectattr("role", "eq", "document") | map(attribute="content") | first }}<|im_end|>
<|im_start|>assistant
{% if add_generation_prompt %}<think>

</think>

{% endif %}
"""
#: Of a chat, in which such messages leave nothing.
CHAT = """{%- for m in messages %}{%- if m.role in ("user", "assistant") %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endif %}{%- endfor %}{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QUERY = "what is the capital of France?"
DOCUMENTS = ["Paris is the capital.", "Bananas are yellow\n", "", "Berlin, naïve: <|im_end|> " * 3, "x" * 300]
INSTRUCTION = "Judge the tone"


def tokenizer(folder: Path, template: str | None, special: Sequence[str] = SPECIAL) -> dict[str, int]:
    """Byte-level BPE in which "yes", "no" and "Yes" are tokens; returns the vocabulary. `special`: what fills batches,
    one more, and the one that ends a text."""
    from tokenizers.pre_tokenizers import ByteLevel

    vocab = {byte: i for i, byte in enumerate(sorted(ByteLevel.alphabet()))}
    merges = [["y", "e"], ["ye", "s"], ["n", "o"], ["e", "s"], ["Y", "es"]]
    for pair in merges:
        vocab["".join(pair)] = len(vocab)
    added = [
        {"id": len(vocab) + i, "content": token, "special": True, "normalized": False, "single_word": False}
        | {"lstrip": False, "rstrip": False}
        for i, token in enumerate(special)
    ]
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    (folder / "tokenizer.json").write_text(
        json.dumps(
            {
                "version": "1.0",
                "added_tokens": added,
                "pre_tokenizer": bytes_,
                "post_processor": bytes_,
                "decoder": bytes_,
                "model": {"type": "BPE", "vocab": vocab, "merges": merges},
            }
        )
    )
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": special[0], "eos_token": special[2]}
    said |= {"padding_side": "left", "model_max_length": 256}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return vocab


def language_model(
    folder: Path, template: str | None = TEMPLATE, kind: str = "qwen3", **changed: Any
) -> dict[str, int]:
    """A folder with nothing but a language model, its tokenizer and a template; returns the vocabulary."""
    settings = {"vocab_size": 266, "max_position_embeddings": 300, "tie_word_embeddings": True, **changed}
    decoders.made(folder, kind, {"head_dim": 16, "eos_token_id": 263, "bos_token_id": 261, **settings})
    return tokenizer(folder, template)


def modules(
    folder: Path,
    vocab: dict[str, int],
    false: bool = True,
    message: str | None = "flat",
    arguments: dict[str, Any] | None = None,
    activation: str | None = "Identity",
) -> None:
    """What sentence-transformers writes beside such a model."""
    listed = [("", "sentence_transformers.base.modules.transformer.Transformer")]
    listed.append(("1_LogitScore", "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"))
    (folder / "modules.json").write_text(
        json.dumps([{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(listed)])
    )
    (folder / "1_LogitScore").mkdir()
    score = {"true_token_id": vocab["yes"], "false_token_id": vocab["no"] if false else None}
    (folder / "1_LogitScore" / "config.json").write_text(json.dumps({**score, "module_input_name": "causal_logits"}))
    entry = {"method": "forward", "method_output_name": "logits"}
    config: dict[str, Any] = {"transformer_task": "text-generation", "modality_config": {"text": entry}}
    if message is not None:
        config["modality_config"]["message"] = {**entry, "format": message}
    config["module_output_name"] = "causal_logits"
    if arguments is not None:
        config["processing_kwargs"] = {"chat_template": arguments}
    (folder / "sentence_bert_config.json").write_text(json.dumps(config))
    said: dict[str, Any] = {"__version__": {"sentence_transformers": "5.4.0"}, "model_type": "CrossEncoder"}
    said |= {"prompts": {"tone": INSTRUCTION}, "default_prompt_name": None}
    if activation is not None:
        said["activation_fn"] = f"torch.nn.modules.linear.{activation}"
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said))
