"""What tokenizer_config.json, special_tokens_map.json and added_tokens.json change of a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.architectures import Settings
from aerogel.checkpoint.config import read_optional_json
from aerogel.errors import ConfigError, TokenizerError

if TYPE_CHECKING:
    import tokenizers

#: A `model_max_length` beyond it says that there is none: Transformers writes 10^30 then.
_LONGEST = 1 << 30
_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LISTS = ("additional_special_tokens", "extra_special_tokens")
#: BERT's tokenizer, by the names that other families give it too.
_BERT = tuple(
    name + end for name in ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer") for end in ("", "Fast")
)
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_SLOW = "read by Transformers' tokenizers in Python only, not by those that read tokenizer.json"
_PADDED = "batches are ragged: nothing is padded"
_CUT = "texts are cut at the model's own limit"
_JSON = "tokenizer.json says it"
_SPECIAL = {
    **dict.fromkeys(("bos_token", "eos_token"), "ends of a text, where the configs give no ids"),
    **dict.fromkeys(_TOKENS[2:], "never split"),
    **dict.fromkeys(_LISTS, "never split"),
}

TOKENIZER_CONFIG = Settings(
    "tokenizer_config.json",
    used={
        **_SPECIAL,
        "chat_template": "how a conversation is written, where there is no chat_template.jinja",
        "added_tokens_decoder": "tokens beside the vocabulary, and how they match",
        "do_lower_case": "BERT's normalizer; true where tokenizer_class is BERT's and the key is absent",
        "strip_accents": "BERT's normalizer",
        "tokenize_chinese_chars": "BERT's normalizer",
        "truncation_side": "which end of a long text is cut",
        "model_max_length": "the most tokens of a text",
        "model_input_names": "without token_type_ids, or with Transformers 5's TokenizersBackend and without the key, both "
        "texts of a pair are of type 0",
        "add_prefix_space": "with vocab.json and merges.txt: whether a text begins as after a space",
        **dict.fromkeys(
            ("add_bos_token", "add_eos_token"),
            "with vocab.json and merges.txt, but for RoBERTa: whether a text begins or ends so; else tokenizer.json says it",
        ),
        "split_special_tokens": "whether special tokens in a text are plain text",
        "tokenizer_class": "BERT's lower-case by default; without a tokenizer.json only they are known",
    },
    harmless={
        **dict.fromkeys(("padding_side", "pad_to_multiple_of", "pad_token_type_id", "padding"), _PADDED),
        **dict.fromkeys(("max_length", "stride", "truncation", "truncation_strategy", "max_len"), _CUT),
        **dict.fromkeys(("do_basic_tokenize", "never_split", "sp_model_kwargs", "legacy", "from_slow"), _SLOW),
        **dict.fromkeys(("use_fast", "errors", "keep_accents", "remove_space", "wordpieces_prefix"), _SLOW),
        "clean_text": _JSON,
        **dict.fromkeys(("vocab_file", "merges_file", "tokenizer_file", "special_tokens_map_file"), _JSON),
        **dict.fromkeys(("name_or_path", "processor_class", "backend", "is_local", "local_files_only"), "notes"),
        **dict.fromkeys(("init_inputs", "_commit_hash", "full_tokenizer_file", "return_tensors"), "notes"),
        "clean_up_tokenization_spaces": "generated text is what the tokens spell",
        "spaces_between_special_tokens": "generated text is what the tokens spell",
        "use_default_system_prompt": "the chat template says it",
        "auto_map": "tokenizer.json says how it works, no code of the model's is run",
        "*_token": "names for special tokens of this model",
        "*_token_id": "the configs give the ids",
    },
)
SPECIAL_TOKENS_MAP = Settings("special_tokens_map.json", used=_SPECIAL, harmless={"*_token": "names of tokens"})
#: tokenizer.json is read whole by the tokenizers package, which refuses what it does not know; from here on:
TOKENIZER_JSON = Settings(
    "tokenizer.json",
    used={
        **dict.fromkeys(("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "model"), "text to tokens"),
        "decoder": "tokens to text",
        "truncation": "its direction, unless tokenizer_config.json has truncation_side",
    },
    harmless={"padding": _PADDED, "version": "there is one"},
    unknown="refuse",
)


class TokenizerSettings:
    """The settings beside a folder's tokenizer.json or vocab.txt, checked.

    Attributes:
        values: tokenizer_config.json, with the special tokens of special_tokens_map.json where it has none.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tokenizer_config.json"
        self._folder = folder
        own = read_optional_json(self.path)
        TOKENIZER_CONFIG.check(own, self.path)
        special = read_optional_json(folder / "special_tokens_map.json")
        SPECIAL_TOKENS_MAP.check(special, folder / "special_tokens_map.json")
        self.values: dict[str, Any] = {**{k: v for k, v in special.items() if v is not None}, **own}

    def flag(self, key: str, default: bool | None = None) -> bool | None:
        """A setting that is true, false or null."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise TokenizerError(f"{self.path}: {key}: expected true or false, got {value!r:.80}")
        return default if value is None else value

    def token(self, key: str) -> str | None:
        """The text of a special token."""
        value = self.values.get(key)
        content = value.get("content") if isinstance(value, Mapping) else value
        if content is not None and not isinstance(content, str):
            raise TokenizerError(f"{self.path}: {key}: expected a token, got {value!r:.80}")
        return content

    def cuts_left(self, truncation: Mapping[str, Any] | None) -> bool:
        """Whether long texts lose their beginning. `truncation` is what tokenizer.json has."""
        side = self.values.get("truncation_side")
        if side is None:
            side = str((truncation or {}).get("direction", "right")).lower()
        if side not in ("left", "right"):
            raise TokenizerError(f"{self.path}: truncation_side: expected left or right, got {side!r:.80}")
        return bool(side == "left")

    def types(self) -> bool:
        """Whether the model tells the texts of a pair apart by type ids."""
        names = self.values.get("model_input_names")
        if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise TokenizerError(f"{self.path}: model_input_names: expected a list of names, got {names!r:.80}")
        if names is None:  # what the class does then: the one that only Transformers 5 names makes no type ids
            return self.values.get("tokenizer_class") != "TokenizersBackend"
        return "token_type_ids" in names

    def check_class(self) -> None:
        """Raises unless vocab.txt alone says how the tokenizer works."""
        name = self.values.get("tokenizer_class")
        if name not in (None, "PreTrainedTokenizerFast", "TokenizersBackend", *_BERT):
            raise TokenizerError(
                f"{self.path}: tokenizer_class: expected BertTokenizer beside a vocab.txt, got {name!r:.80}. "
                "transformers.AutoTokenizer.from_pretrained(...).save_pretrained(...) writes a tokenizer.json"
            )

    def lowercases(self) -> bool | None:
        """Whether BERT's normalizer lower-cases; None: as tokenizer.json says."""
        return self.flag("do_lower_case", True if self.values.get("tokenizer_class") in _BERT else None)

    def apply(self, backend: tokenizers.Tokenizer) -> None:
        """Changes the tokenizer of tokenizer.json as Transformers does when it loads both."""
        normalizer = backend.normalizer
        if type(normalizer).__name__ == "BertNormalizer":
            settings = {
                "lowercase": self.lowercases(),
                "handle_chinese_chars": self.flag("tokenize_chinese_chars"),
                "strip_accents": self.flag("strip_accents"),
            }
            for key, value in settings.items():
                if value is not None:
                    setattr(normalizer, key, value)
        self.add_tokens(backend)
        if self.flag("split_special_tokens"):
            backend.encode_special_tokens = True

    def add_tokens(self, backend: tokenizers.Tokenizer) -> None:
        """Adds the tokens that the files name and tokenizer.json does not have, or has otherwise.

        Raises:
            TokenizerError: a token would get another id than the file says.
        """
        known = {str(token.content): token for token in backend.get_added_tokens_decoder().values()}
        for index, token in sorted(self._added().items()):
            if token.content in known and repr(known[token.content]) == repr(token):
                continue
            backend.add_tokens([token])
            known[str(token.content)] = token
            got = backend.token_to_id(token.content)
            if got != index:
                raise TokenizerError(
                    f"{self._folder}: added token {token.content!r:.80}: expected id {index}, got {got}"
                )
        # Special tokens that no row of the embeddings stands for are never met: those are left alone.
        names = [self.token(key) for key in _TOKENS] + [name for key in _LISTS for name in self._names(key)]
        missing = [n for n in dict.fromkeys(names) if n and n not in known and backend.token_to_id(n) is not None]
        backend.add_special_tokens(missing)

    def _names(self, key: str) -> list[str]:
        value = self.values.get(key) or []
        items = list(value.values()) if isinstance(value, Mapping) else value
        if not isinstance(items, list):
            raise TokenizerError(f"{self.path}: {key}: expected a list of tokens, got {value!r:.80}")
        names = [item.get("content") if isinstance(item, Mapping) else item for item in items]
        found = [name for name in names if isinstance(name, str)]
        if len(found) < len(names):
            raise TokenizerError(f"{self.path}: {key}: expected a list of tokens, got {value!r:.80}")
        return found

    def _added(self) -> dict[int, tokenizers.AddedToken]:
        """Id -> token: added_tokens_decoder of tokenizer_config.json, or, where that is silent, added_tokens.json."""
        import tokenizers

        found: dict[int, tokenizers.AddedToken] = {}
        listed = self.values.get("added_tokens_decoder")
        if listed is not None:
            if not isinstance(listed, Mapping):
                raise TokenizerError(f"{self.path}: added_tokens_decoder: expected an object, got {listed!r:.80}")
            return {self._id(index): self._token(token) for index, token in listed.items()}
        path = self._folder / "added_tokens.json"
        special = {self.token(key) for key in _TOKENS} | {name for key in _LISTS for name in self._names(key)}
        for content, index in read_optional_json(path).items():
            if type(index) is not int or index < 0:
                raise TokenizerError(f"{path}: {content!r:.80}: expected a token id, got {index!r:.80}")
            named = content in special
            found[index] = tokenizers.AddedToken(content, normalized=not named, special=named)
        return found

    def _id(self, index: str) -> int:
        if not (index.isascii() and index.isdecimal() and len(index) < 10):
            raise TokenizerError(f"{self.path}: added_tokens_decoder: expected token ids, got {index!r:.80}")
        return int(index)

    def _token(self, token: Any) -> tokenizers.AddedToken:
        import tokenizers

        content = token.get("content") if isinstance(token, Mapping) else None
        flags = {flag: token[flag] for flag in _FLAGS if flag in token} if isinstance(token, Mapping) else {}
        if not isinstance(content, str) or not all(isinstance(flag, bool) for flag in flags.values()):
            raise TokenizerError(f"{self.path}: added_tokens_decoder: expected tokens, got {token!r:.80}")
        return tokenizers.AddedToken(content, **flags)


def length_limit(folder: Path) -> int | None:
    """`model_max_length` of the tokenizer's settings: where sentence-transformers writes its limit since version 3.

    Raises:
        ConfigError: it is no positive whole number.
    """
    path = folder / "tokenizer_config.json"
    value = read_optional_json(path).get("model_max_length")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is not None and (type(value) is not int or value < 1):
        raise ConfigError(f"{path}: model_max_length: expected a positive whole number, got {value!r:.80}")
    return value if value is not None and value <= _LONGEST else None
