"""generation_config.json: what a model's authors want done to logits before a token is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from aerogel._util.checks import number, shown, whole_number
from aerogel.architectures import Refused, Settings
from aerogel.errors import ConfigError

#: Keys that are used -> fields of GenerationSettings.
FIELDS: Mapping[str, str] = {
    "repetition_penalty": "repetition_penalty",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
    "bad_words_ids": "bad_words",
    "suppress_tokens": "suppressed",
    "begin_suppress_tokens": "first_suppressed",
    "min_length": "min_length",
    "min_new_tokens": "min_new_tokens",
    "stop_strings": "stops",
    "bos_token_id": "begins",
    "eos_token_id": "ends",
}
_HOW, _DRAFTS, _RETURNED = "how, not what", "of drafts of another model", "what is returned besides"
_ENDS = "take it out of the file, or stop where the text ends for you"

GENERATION_CONFIG = Settings(
    "generation_config.json",
    used={
        **dict.fromkeys(FIELDS, "logits while a text is generated"),
        "stop_strings": "texts that end a generation",
        "bos_token_id": "the token that begins a text",
        "eos_token_id": "the tokens that end a generation",
    },
    harmless={
        **dict.fromkeys(("do_sample", "temperature", "top_k", "top_p"), "the caller of generate says how it samples"),
        **dict.fromkeys(("min_p", "typical_p", "top_h", "epsilon_cutoff", "eta_cutoff"), "for sampling only"),
        **dict.fromkeys(("max_length", "max_new_tokens", "max_time"), "the caller says how long"),
        "pad_token_id": "nothing is padded",
        **dict.fromkeys(("decoder_start_token_id", "encoder_no_repeat_ngram_size"), "of models with an encoder"),
        **dict.fromkeys(("length_penalty", "early_stopping", "diversity_penalty"), "of beams, which are refused"),
        **dict.fromkeys(("renormalize_logits", "remove_invalid_values"), "the order of tokens stays"),
        **dict.fromkeys(("use_cache", "cache_implementation", "cache_config", "return_legacy_cache"), _HOW),
        **dict.fromkeys(("disable_compile", "compile_config", "prefill_chunk_size", "low_memory"), _HOW),
        **dict.fromkeys(("max_cache_len", "continuous_batching_config"), _HOW),
        **dict.fromkeys(("num_return_sequences", "return_dict_in_generate", "output_*"), _RETURNED),
        **dict.fromkeys(("transformers_version", "_from_model_config", "generation_kwargs"), "where it comes from"),
        **dict.fromkeys(("is_assistant", "assistant_*", "num_assistant_*", "prompt_lookup_num_tokens"), _DRAFTS),
        **dict.fromkeys(("max_matching_ngram_size", "target_lookbehind", "speculation_type", "use_mtp"), _DRAFTS),
    },
    refused={
        **dict.fromkeys(("num_beams", "num_beam_groups"), Refused("a search with beams gives another text", (1,))),
        "guidance_scale": Refused("a second pass without the prompt", (1, 1.0)),
        "encoder_repetition_penalty": Refused("a penalty on what is not in the prompt", (1, 1.0)),
        **dict.fromkeys(("penalty_alpha", "dola_layers", "custom_generate"), Refused("another way to choose", ())),
        **dict.fromkeys(("constraints", "force_words_ids", "sequence_bias"), Refused("words that are wanted", ())),
        **dict.fromkeys(("forced_bos_token_id", "forced_eos_token_id", "forced_decoder_ids"), Refused(_ENDS, ())),
        "exponential_decay_length_penalty": Refused("texts end sooner with it", ()),
        "watermarking_config": Refused("logits are changed by a secret key", ()),
        "token_healing": Refused("the end of the prompt is rewritten"),
    },
)


@dataclass(frozen=True)
class GenerationSettings:
    """What is done to logits, in Transformers' words.

    Attributes:
        repetition_penalty: logits of tokens that are in the text already are divided by it, those below 0 multiplied.
        no_repeat_ngram_size: so many tokens in a row come only once in a text; 0: no limit.
        bad_words: sequences of tokens that never come.
        suppressed, first_suppressed: tokens that never come, or not as the first new one.
        stops: texts that end a generation, and are not in it.
        min_length, min_new_tokens: tokens with and without the prompt, before which no text ends.
        begins, ends: tokens that begin and end a text, as this file says.
    """

    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words: tuple[tuple[int, ...], ...] = ()
    suppressed: tuple[int, ...] = ()
    first_suppressed: tuple[int, ...] = ()
    min_length: int = 0
    min_new_tokens: int = 0
    stops: tuple[str, ...] = ()
    begins: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def check_ids(self, vocabulary: int, where: Path) -> None:
        """Raises ConfigError where a token of the file, which is in the folder `where`, is beyond the vocabulary."""
        for key, field in FIELDS.items():
            value = getattr(self, field)
            ids = chain.from_iterable(value) if field == "bad_words" else value if field in _IDS else ()
            beyond = next((id for id in ids if id >= vocabulary), None)
            if beyond is not None:
                raise ConfigError(
                    f"{where / 'generation_config.json'}: {key}: expected token ids below {vocabulary}, the size of the "
                    f"vocabulary, got {beyond}"
                )


def token_ids(where: str, value: Any) -> tuple[int, ...]:
    """The ids of special tokens: a whole number or a list of them; -1 stands for none, as some files have it.

    Raises:
        ConfigError: it is something else.
    """
    given = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(i) is int and i >= -1 for i in given):
        raise ConfigError(f"{where}: expected a token id or a list of them, got {shown(value)}")
    return tuple(i for i in given if i >= 0)


def generation_settings(values: Mapping[str, Any], path: Path) -> GenerationSettings:
    """What the file says.

    Raises:
        ConfigError: a value has the wrong type.
        UnsupportedModelError: it asks for what `generate` does not do.
    """
    GENERATION_CONFIG.check(values, path)
    read: dict[str, Any] = {}
    for key, field in FIELDS.items():
        value = values.get(key)
        if value is not None:
            read[field] = _READERS[field](f"{path}: {key}", value)
    return GenerationSettings(**read)


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


def _stops(where: str, value: Any) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if (
        not isinstance(found, list)
        or len(found) > 64
        or not all(isinstance(x, str) and 0 < len(x) <= 1024 for x in found)
    ):
        raise ConfigError(f"{where}: expected up to 64 texts of 1 to 1024 characters, got {value!r:.80}")
    return tuple(found)


#: Fields that are token ids.
_IDS = ("suppressed", "first_suppressed", "begins", "ends")
_READERS = {
    "begins": token_ids,
    "ends": token_ids,
    "repetition_penalty": _penalty,
    "no_repeat_ngram_size": _count,
    "bad_words": _words,
    "suppressed": _tokens,
    "first_suppressed": _tokens,
    "min_length": _count,
    "min_new_tokens": _count,
    "stops": _stops,
}
