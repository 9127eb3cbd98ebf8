"""The tokenizer inside a GGUF file, rebuilt from its metadata.

`tokenizer.ggml.model` names the family: "gpt2" (byte-level BPE), "llama" (SentencePiece BPE with byte fallback), "bert"
(WordPiece). For "gpt2", `tokenizer.ggml.pre` names how text is split before merging; an unknown name is an error, because
a wrong split gives plausible, wrong tokens. BOS and EOS are added only where the metadata says so, or, where it is silent,
where the family always does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.checkpoint.tokenizer import Tokenizer, named, wordpiece
from aerogel.errors import TokenizerError, UnsupportedModelError

if TYPE_CHECKING:
    import tokenizers

# Token types, as llama.cpp numbers them.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4


@dataclass(frozen=True)
class _Split:
    """How a byte-level BPE splits text. `patterns` are applied one after another; none: GPT-2's own."""

    patterns: tuple[str, ...] = ()
    digits: bool = False  # every digit alone, first
    nfc: bool = False
    add_bos: bool = False  # where add_bos_token is absent
    ignore_merges: bool = False  # a whole word in the vocabulary is one token


_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What llama.cpp falls back to; files that name it were made with it in mind.
_DEFAULT = (
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
)
_GPT2, _DIGITS = _Split(), _Split(digits=True)
_QWEN2 = _Split((_LLAMA3.replace("{1,3}", ""),), nfc=True)
_LLAMA_BPE = _Split((_LLAMA3,), add_bos=True, ignore_merges=True)
#: `tokenizer.ggml.pre` -> split. Many names are one splitting in llama.cpp too.
_SPLITS = {
    "default": _Split(_DEFAULT),
    **dict.fromkeys(("gpt-2", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "gigachat"), _GPT2),
    **dict.fromkeys(("a.x-4.0", "mellum", "exaone4"), _GPT2),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _DIGITS),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "kormo", "megrez"), _QWEN2),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"), _LLAMA_BPE
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe"), _Split((_LLAMA3,))),
}
#: Tokens that end a turn, whatever the metadata says: converters often name the base model's end of text only.
_ENDS = frozenset(
    ("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>")
    + ("<EOT>", "_<EOT>", "<|end_of_text|>", "<end_of_utterance>", "<\uff5cend\u2581of\u2581sentence\uff5c>")
)
#: What some converters write for a token that there is not: -1 as an unsigned number.
_ABSENT = 0xFFFFFFFF


def tokenizer_from_metadata(metadata: dict[str, Any], path: Path) -> Tokenizer:
    """Builds the tokenizer.

    Raises:
        TokenizerError: the metadata has none, or contradicts itself.
        UnsupportedModelError: a family or a pre-tokenizer that aerogel does not have.
    """
    family = metadata.get("tokenizer.ggml.model")
    if family is None:
        raise TokenizerError(f"{path}: the file has no tokenizer (tokenizer.ggml.model)")
    build = _FAMILIES.get(family) if isinstance(family, str) else None
    if build is None:
        raise UnsupportedModelError(
            f"{path}: tokenizer.ggml.model: expected one of {', '.join(_FAMILIES)}, got {family!r:.80}"
        )
    vocabulary = _Vocabulary(metadata, path)
    with named(f"{path}: the tokenizer cannot be built"):
        backend = build(vocabulary)
    eos = [vocabulary.special(key) for key in ("eos_token_id", "eot_token_id", "eom_token_id")]
    eos += [index for index, token in enumerate(vocabulary.tokens) if token in _ENDS]
    return Tokenizer(
        backend,
        bos_id=vocabulary.special("bos_token_id"),
        eos_ids=list(dict.fromkeys(index for index in eos if index is not None)),
        where=path,
    )


class _Vocabulary:
    """The tokenizer's metadata, checked."""

    def __init__(self, metadata: dict[str, Any], path: Path) -> None:
        self.path = path
        self._metadata = metadata
        self.tokens: list[str] = self._list("tokens", (str,), "strings")
        if not self.tokens:
            raise TokenizerError(f"{path}: tokenizer.ggml.tokens: expected a list of tokens, got none")
        self.types: list[int] = self._list("token_type", (int,), "whole numbers") or [1] * len(self.tokens)
        self.scores: list[float] = self._list("scores", (float, int), "numbers")
        self.merges: list[str] = self._list("merges", (str,), "strings")
        for key, values in (("token_type", self.types), ("scores", self.scores)):
            if values and len(values) != len(self.tokens):
                raise TokenizerError(
                    f"{path}: tokenizer.ggml.{key}: expected {len(self.tokens)}, one per token, got {len(values)}"
                )
        if any(math.isnan(score) for score in self.scores):
            raise TokenizerError(f"{path}: tokenizer.ggml.scores: expected numbers, got NaN")

    def get(self, key: str, default: Any = None) -> Any:
        return self._metadata.get(f"tokenizer.ggml.{key}", default)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise TokenizerError(f"{self.path}: tokenizer.ggml.{key}: expected true or false, got {value!r:.80}")
        return value

    def special(self, key: str) -> int | None:
        index = self.get(key)
        if index is None or index == _ABSENT:
            return None
        if type(index) is not int or not 0 <= index < len(self.tokens):
            raise TokenizerError(
                f"{self.path}: tokenizer.ggml.{key}: expected a token id below {len(self.tokens)}, got {index!r:.80}"
            )
        return index

    def ids(self, tokens: list[str] | None = None) -> dict[str, int]:
        """Token -> id, of `tokens` instead of the file's own where they are given."""
        ids: dict[str, int] = {}
        for index, token in enumerate(self.tokens if tokens is None else tokens):
            if ids.setdefault(token, index) != index:
                raise TokenizerError(f"{self.path}: tokenizer.ggml.tokens: {token!r} is both {ids[token]} and {index}")
        return ids

    def _list(self, key: str, kinds: tuple[type, ...], expected: str) -> list[Any]:
        values = self.get(key, [])
        if not isinstance(values, list) or not all(type(value) in kinds for value in values):
            raise TokenizerError(
                f"{self.path}: tokenizer.ggml.{key}: expected a list of {expected}, got {values!r:.80}"
            )
        return values


def _byte_level(vocabulary: _Vocabulary) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

    pre = vocabulary.get("pre")
    split = _SPLITS.get(pre) if isinstance(pre, str) else None
    if split is None:
        raise UnsupportedModelError(
            f"{vocabulary.path}: tokenizer.ggml.pre: expected one of {', '.join(_SPLITS)}, got {pre!r:.80}"
        )
    ids = vocabulary.ids()
    # Without merges every text is single bytes: right only where the vocabulary has nothing longer.
    longer = any(kind == _NORMAL and len(token) > 1 for token, kind in zip(ids, vocabulary.types, strict=True))
    if longer and not vocabulary.merges:
        raise TokenizerError(f"{vocabulary.path}: tokenizer.ggml.merges: expected a list of pairs of tokens, got none")
    backend = tokenizers.Tokenizer(
        models.BPE(ids, _merges(vocabulary, ids), fuse_unk=False, ignore_merges=split.ignore_merges)
    )
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if split.digits else []
    steps += [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in split.patterns]
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not split.patterns))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if split.nfc:
        backend.normalizer = normalizers.NFC()
    backend.decoder = decoders.ByteLevel()
    _add_special(backend, vocabulary)
    _add_ends(backend, vocabulary, bos=split.add_bos)
    return backend


def _sentencepiece(vocabulary: _Vocabulary) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import decoders, models, normalizers

    ids = vocabulary.ids()
    if not vocabulary.scores:
        raise TokenizerError(f"{vocabulary.path}: tokenizer.ggml.scores: expected one per token, got none")
    unknown = vocabulary.special("unknown_token_id")
    backend = tokenizers.Tokenizer(
        models.BPE(
            ids,
            _merges_by_score(vocabulary, ids),
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    space = vocabulary.flag("add_space_prefix", True)
    spaces = normalizers.Replace(" ", "\u2581")
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), spaces]) if space else spaces
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if space else steps)
    _add_special(backend, vocabulary)
    _add_ends(backend, vocabulary, bos=True)
    return backend


def _wordpiece(vocabulary: _Vocabulary) -> tokenizers.Tokenizer:
    # GGUF marks the beginning of a word ("▁word", "piece"), BERT its continuation ("word", "##piece").
    tokens = [
        token
        if kind in (_UNKNOWN, _CONTROL) or (token.startswith("[") and token.endswith("]"))
        else token[1:]
        if token.startswith("\u2581")
        else "##" + token
        for token, kind in zip(vocabulary.tokens, vocabulary.types, strict=True)
    ]
    vocabulary.ids(tokens)  # refuses duplicates
    # Nothing in the file says whether case matters. In vocabularies where it does a third of the words begin with a capital;
    # in others some tokens have one all the same, added later or by mistake.
    words = [
        token
        for token, kind in zip(tokens, vocabulary.types, strict=True)
        if kind == _NORMAL and not token.startswith("[") and token.lower() != token.upper()
    ]
    cased = sum(token != token.lower() for token in words) > len(words) / 10
    return wordpiece(tokens, not cased, vocabulary.path)


_FAMILIES = {"gpt2": _byte_level, "llama": _sentencepiece, "bert": _wordpiece}


def _merges(vocabulary: _Vocabulary, ids: dict[str, int]) -> list[tuple[str, str]]:
    merges = []
    for merge in vocabulary.merges:
        # A space inside a token is written as another character, so the first one after the first character separates.
        left, _, right = merge.partition(" ")
        if not right or left not in ids or right not in ids or left + right not in ids:
            raise TokenizerError(f"{vocabulary.path}: tokenizer.ggml.merges: expected two tokens, got {merge!r:.80}")
        merges.append((left, right))
    return merges


def _merges_by_score(vocabulary: _Vocabulary, ids: dict[str, int]) -> list[tuple[str, str]]:
    """SentencePiece merges the neighbours whose union scores best: every way to cut a token in two, best token first."""
    merges = []
    for token, index in ids.items():
        if vocabulary.types[index] not in (1, _USER_DEFINED):
            continue
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ids and right in ids:
                merges.append((-vocabulary.scores[index], ids[left], ids[right], left, right))
    merges.sort()
    return [(left, right) for *_, left, right in merges]


def _add_special(backend: tokenizers.Tokenizer, vocabulary: _Vocabulary) -> None:
    """Control tokens are special; user-defined ones are only never split."""
    import tokenizers

    for kinds, special in (((_UNKNOWN, _CONTROL), True), ((_USER_DEFINED,), False)):
        added = [
            tokenizers.AddedToken(token, normalized=False, special=special)
            for token, kind in zip(vocabulary.tokens, vocabulary.types, strict=True)
            if kind in kinds and token
        ]
        if special:
            backend.add_special_tokens(added)
        else:
            backend.add_tokens(added)


def _add_ends(backend: tokenizers.Tokenizer, vocabulary: _Vocabulary, bos: bool) -> None:
    from tokenizers import processors

    ids: dict[str, int] = {}
    for key, default in (("bos", bos), ("eos", False)):
        if vocabulary.flag(f"add_{key}_token", default):
            index = vocabulary.special(f"{key}_token_id")
            if index is not None:
                ids[key] = index
            elif vocabulary.get(f"add_{key}_token") is not None:
                raise TokenizerError(
                    f"{vocabulary.path}: tokenizer.ggml.{key}_token_id: expected a token id, "
                    f"as add_{key}_token is true, got none"
                )
    if not ids:
        return

    # The template's own names, as a token may be written with the colon or dollar of its syntax.
    def template(text: str, type_id: int) -> list[str]:
        return [f"{part}:{type_id}" for part in ("bos", text, "eos") if part == text or part in ids]

    backend.post_processor = processors.TemplateProcessing(
        single=template("$A", 0),
        pair=[*template("$A", 0), *template("$B", 1)],
        special_tokens=[
            {"id": key, "ids": [index], "tokens": [vocabulary.tokens[index]]} for key, index in ids.items()
        ],
    )
