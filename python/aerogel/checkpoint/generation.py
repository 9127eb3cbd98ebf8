"""generation_config.json: what a model's authors want done to logits before a token is chosen.

Every key that Transformers reads is in one of the tables here: it is used, or it has no part in the text that `generate`
gives, or a text made without it would be another one and it is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aerogel._util.checks import number, whole_number
from aerogel.errors import ConfigError, UnsupportedModelError

log = logging.getLogger("aerogel")

#: Keys that do not change which token is the likeliest, and why.
HARMLESS: Mapping[str, str] = {
    **dict.fromkeys(("do_sample", "temperature", "top_k", "top_p"), "the caller of generate says how it samples"),
    **dict.fromkeys(("min_p", "typical_p", "top_h", "epsilon_cutoff", "eta_cutoff"), "for sampling only"),
    **dict.fromkeys(("max_length", "max_new_tokens", "max_time"), "the caller says how long"),
    **dict.fromkeys(("eos_token_id", "bos_token_id", "pad_token_id"), "the tokenizer's"),
    **dict.fromkeys(("decoder_start_token_id", "encoder_no_repeat_ngram_size"), "of models with an encoder"),
    **dict.fromkeys(("length_penalty", "early_stopping", "diversity_penalty"), "of beams, which are refused"),
    **dict.fromkeys(("renormalize_logits", "remove_invalid_values"), "the order of tokens stays"),
    **dict.fromkeys(("use_cache", "cache_implementation", "cache_config", "return_legacy_cache"), "how, not what"),
    **dict.fromkeys(("disable_compile", "compile_config", "prefill_chunk_size", "low_memory"), "how, not what"),
    **dict.fromkeys(("max_cache_len", "continuous_batching_config"), "how, not what"),
    **dict.fromkeys(("num_return_sequences", "return_dict_in_generate", "output_attentions"), "what else is returned"),
    **dict.fromkeys(("output_hidden_states", "output_scores", "output_logits"), "what else is returned"),
    **dict.fromkeys(("transformers_version", "_from_model_config", "generation_kwargs"), "where it comes from"),
    **dict.fromkeys(("is_assistant", "assistant_early_exit", "assistant_confidence_threshold"), "of drafts"),
    **dict.fromkeys(("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_lookbehind"), "of drafts"),
    **dict.fromkeys(("prompt_lookup_num_tokens", "max_matching_ngram_size", "target_lookbehind"), "of drafts"),
    **dict.fromkeys(("assistant_ensemble_weight", "speculation_type", "use_mtp"), "of drafts"),
}
#: Keys that change the text -> the values that do not.
REFUSED: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(("num_beams", "num_beam_groups"), (None, 1)),
    **dict.fromkeys(("encoder_repetition_penalty", "guidance_scale"), (None, 1)),
    **dict.fromkeys(("penalty_alpha", "dola_layers", "constraints", "force_words_ids", "sequence_bias"), (None,)),
    **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "forced_decoder_ids"), (None,)),
    **dict.fromkeys(("exponential_decay_length_penalty", "watermarking_config"), (None,)),
    **dict.fromkeys(("stop_strings", "custom_generate"), (None, [], "")),
    **dict.fromkeys(("token_healing",), (None, False)),
}


@dataclass(frozen=True)
class GenerationSettings:
    """What is done to logits, in Transformers' words.

    Attributes:
        repetition_penalty: logits of tokens that are in the text already are divided by it, those below 0 multiplied.
        no_repeat_ngram_size: so many tokens in a row come only once in a text; 0: no limit.
        bad_words: sequences of tokens that never come.
        suppressed, first_suppressed: tokens that never come, or not as the first new one.
        min_length, min_new_tokens: tokens with and without the prompt, before which no text ends.
        refused: why `generate` cannot do what the file asks for; empty: it can.
    """

    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words: tuple[tuple[int, ...], ...] = ()
    suppressed: tuple[int, ...] = ()
    first_suppressed: tuple[int, ...] = ()
    min_length: int = 0
    min_new_tokens: int = 0
    refused: str = ""

    def check(self) -> None:
        """Raises UnsupportedModelError where something is refused."""
        if self.refused:
            raise UnsupportedModelError(self.refused)


#: Keys that are used -> fields.
USED: Mapping[str, str] = {
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
    "bad_words_ids": "bad_words",
    "suppress_tokens": "suppressed",
    "begin_suppress_tokens": "first_suppressed",
    "min_length": "min_length",
    "min_new_tokens": "min_new_tokens",
}


def generation_settings(values: Mapping[str, Any], path: Path) -> GenerationSettings:
    """What the file says, its keys looked up in the tables.

    Raises:
        ConfigError: a value has the wrong type.
    """
    unknown = [key for key in values if key not in USED and key not in HARMLESS and key not in REFUSED]
    if unknown:
        log.warning("%s: these keys are not known, and not used: %s", path, ", ".join(sorted(unknown)))
    refused = [key for key, neutral in REFUSED.items() if key in values and not _is_one_of(values[key], neutral)]
    reason = ""
    if refused:
        said = ", ".join(f"{key}: {values[key]!r:.60}" for key in refused)
        reason = f"{path}: not supported: {said}: take it out of the file to generate without it"
    read: dict[str, Any] = {}
    for key, field in USED.items():
        value = values.get(key)
        if value is not None:
            read[field] = _READERS[field](f"{path}: {key}", value)
    return GenerationSettings(**read, refused=reason)


def _is_one_of(value: Any, neutral: tuple[Any, ...]) -> bool:
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in neutral)


def _count(where: str, value: Any) -> int:
    return whole_number(where, value, 0, 2**31, ConfigError)


def _penalty(where: str, value: Any) -> float:
    return number(where, value, 0, 1e6, ConfigError, above=True)


def _tokens(where: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{where}: expected a list of token ids, got {value!r:.80}")
    return tuple(_count(where, token) for token in value)


def _words(where: str, value: Any) -> tuple[tuple[int, ...], ...]:
    if not isinstance(value, list) or not all(isinstance(word, list) and word for word in value):
        raise ConfigError(f"{where}: expected a list of lists of token ids, got {value!r:.80}")
    return tuple(_tokens(where, word) for word in value)


_READERS = {
    "repetition_penalty": _penalty,
    "no_repeat_ngram_size": _count,
    "bad_words": _words,
    "suppressed": _tokens,
    "first_suppressed": _tokens,
    "min_length": _count,
    "min_new_tokens": _count,
}
