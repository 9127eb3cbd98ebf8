"""What the settings in a model's files mean: used, harmless, or refused. Nothing is passed over in silence."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from aerogel.errors import UnsupportedModelError

log = logging.getLogger("aerogel")


@dataclass(frozen=True)
class Refused:
    """A setting of which aerogel computes some values only.

    Attributes:
        why: what another value would change, and the remedy where there is one.
        allowed: the values under which nothing changes; null and an empty list or object always are.
    """

    why: str
    allowed: tuple[Any, ...] = (False,)

    def accepts(self, value: Any) -> bool:
        """Whether aerogel computes what this value asks for."""
        # 1 == True in Python, but not in JSON.
        same = any(type(value) is type(known) and value == known for known in self.allowed)
        return same or value is None or value == [] or value == {}


@dataclass(frozen=True)
class Settings:
    """The keys of one kind of file. A name may have a * for any text.

    Attributes:
        file: the file's name, for messages and documentation.
        used: key -> what it decides.
        harmless: key -> why the answer does not depend on it.
        refused: key -> the values that are computed.
        unknown: what becomes of a key that stands in none of them: "warn" where the ecosystem writes all kinds of
            notes into the file, else "refuse".
    """

    file: str
    used: Mapping[str, str]
    harmless: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, Refused] = field(default_factory=dict)
    unknown: str = "warn"

    def __or__(self, more: Settings) -> Settings:
        """These and those of `more`, which wins where both name a key."""
        rest = {key: why for key, why in self.refused.items() if not (key in more.used or key in more.harmless)}
        used = {key: why for key, why in self.used.items() if not (key in more.refused or key in more.harmless)}
        harmless = {key: why for key, why in self.harmless.items() if key not in more.refused and key not in more.used}
        return Settings(
            more.file, {**used, **more.used}, {**harmless, **more.harmless}, {**rest, **more.refused}, more.unknown
        )

    def check(self, values: Mapping[str, Any], where: object) -> None:
        """Refuses what would change the answer unseen, and warns, once a file, of what nobody knows.

        Raises:
            UnsupportedModelError: a setting asks for what aerogel does not compute.
        """
        unknown = []
        for key, value in values.items():
            refused = _find(self.refused, key)
            if refused is None:
                if _find(self.used, key) is None and _find(self.harmless, key) is None and value is not None:
                    unknown.append(key)
            elif not refused.accepts(value):
                raise UnsupportedModelError(f"{where}: {key}: {value!r:.80} is not supported: {refused.why}")
        if unknown and self.unknown == "refuse":
            raise UnsupportedModelError(
                f"{where}: expected settings that aerogel knows, got {', '.join(sorted(unknown))!s:.300}: the model may "
                "compute something else with them; remove those that do not matter"
            )
        if unknown:
            _warn(str(where), ", ".join(sorted(unknown)))


def _find(table: Mapping[str, Any], key: str) -> Any:
    """What the table says of the key: by its name, else by the first pattern that it matches; None: nothing."""
    if key in table:
        return table[key]
    return next((value for name, value in table.items() if "*" in name and fnmatchcase(key, name)), None)


@lru_cache(maxsize=1024)  # a model is opened more than once in a run
def _warn(where: str, keys: str) -> None:
    log.warning(
        "%s: not read, as aerogel does not know these settings: %.500s (if the model computes something else with them, the "
        "answers are wrong)",
        where,
        keys,
    )


_TRAINING = "training only"
_OUTPUT = "the form of Transformers' own results"
_GENERATION = "arguments of generate decide; aerogel's defaults are greedy"
_ORIGIN = "where the file comes from"
_SPEED = "how fast, not what"

#: config.json: what no family computes differently by.
CONFIG = Settings(
    "config.json",
    used={
        "model_type": "the family",
        "architectures": "the head",
        "vocab_size": "rows of the token embeddings",
        "tie_word_embeddings": "whether the head is the token embeddings",
        "bos_token_id": "where generation_config.json is silent",
        "eos_token_id": "where generation_config.json is silent",
        "quantization_config": "how weights are stored; other methods than aerogel's and compressed-tensors are refused",
        "intermediate_sizes": "aerogel's: widths of pruned layers",
        "attention_heads": "aerogel's: heads of pruned layers",
        "key_value_heads": "aerogel's: heads of pruned layers",
    },
    harmless={
        **dict.fromkeys(
            ("*dropout*", "*_pdrop", "initializer_*", "gradient_checkpointing*", "layerdrop", "*_layerdrop"), _TRAINING
        ),
        **dict.fromkeys(("label_smoothing*", "neftune*", "unsloth_*", "*_loss_coef", "tf_legacy_loss"), _TRAINING),
        **dict.fromkeys(("output_*", "return_dict*", "use_return_dict", "torchscript", "keys_to_ignore*"), _OUTPUT),
        **dict.fromkeys(
            ("_name_or_path", "name_or_path", "_commit_hash", "transformers_version", "finetuning_task", "_num_labels"),
            _ORIGIN,
        ),
        **dict.fromkeys(("task_specific_params", "model_name", "directionality", "pooler_*", "language*"), _ORIGIN),
        **dict.fromkeys(
            ("use_cache", "pretraining_tp", "chunk_size_feed_forward", "_attn_implementation*", "attn_implementation"),
            _SPEED,
        ),
        **dict.fromkeys(("use_flash_attn*", "use_memory_efficient_attention", "unpad_inputs", "use_bfloat16"), _SPEED),
        **dict.fromkeys(("torch_dtype", "dtype"), "weights are read in the type that they are stored in"),
        **dict.fromkeys(("do_sample", "temperature", "top_k", "top_p", "typical_p", "min_length"), _GENERATION),
        **dict.fromkeys(("num_beams", "num_beam_groups", "num_return_sequences", "early_stopping"), _GENERATION),
        **dict.fromkeys(("length_penalty", "repetition_penalty", "diversity_penalty", "epsilon_cutoff"), _GENERATION),
        **dict.fromkeys(("*no_repeat_ngram_size", "eta_cutoff", "exponential_decay_length_penalty"), _GENERATION),
        **dict.fromkeys(("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "max_length"), _GENERATION),
        **dict.fromkeys(("forced_*_token_id", "decoder_start_token_id", "remove_invalid_values"), _GENERATION),
        **dict.fromkeys(("pad_token_id", "pad_token"), "batches are ragged: nothing is padded"),
        **dict.fromkeys(("sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id"), "the tokenizer says them"),
        **dict.fromkeys(("tokenizer_class", "prefix", "model_max_length"), "the tokenizer's own files say it"),
        **dict.fromkeys(("label2id", "id2label", "num_labels", "problem_type"), "heads without labels"),
        **dict.fromkeys(("tie_encoder_decoder",), "there is no decoder beside"),
        "transformers.js_config": "another runtime's",
        "sentence_transformers": "another file says it",
    },
    refused={
        "is_encoder_decoder": Refused("a decoder beside the encoder"),
        "add_cross_attention": Refused("attention to another model's output"),
        "cross_attention_hidden_size": Refused("attention to another model's output", ()),
        "pruned_heads": Refused(
            "Transformers 5 does not read it either: say what is left instead, as head_dim and as attention_heads, a list "
            "with one number of heads a layer",
            (),
        ),
        "use_mrope": Refused("rotary embeddings of images"),
        "adapters": Refused("adapters are not merged: merge them into the weights first", ()),
        "auto_map": Refused(
            "the model comes with Python code of its own, which is not run: if it computes as the family does, remove "
            "auto_map from config.json",
            (),
        ),
        **{
            key: Refused("another function of the hidden states")
            for key in ("use_qk_norm", "qk_norm", "qk_layernorm", "use_parallel_residual", "parallel_attn", "alibi")
        },
        **{
            key: Refused("scores or logits are capped", ())
            for key in ("attn_logit_softcapping", "final_logit_softcapping", "clip_qkv")
        },
        **{
            key: Refused("a factor that is not applied", (1, 1.0))
            for key in ("embedding_multiplier", "residual_multiplier", "logits_scaling", "logit_scale", "scale_emb")
        },
        **{
            key: Refused("attention is scaled otherwise", ())
            for key in ("attention_multiplier", "query_pre_attn_scalar", "scale_depth", "dim_model_base")
        },
        **{
            key: Refused("experts", (0, 1))
            for key in ("num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size")
        },
        **{key: Refused("layers that differ", (0, [])) for key in ("no_rope_layers", "no_rope_layer_interval")},
    },
)
