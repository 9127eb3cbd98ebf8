"""The tokenizer inside a GGUF file, rebuilt from its metadata.

`tokenizer.ggml.model` names the family: "gpt2" (byte-level BPE), "llama" (SentencePiece BPE with byte fallback), "t5"
(SentencePiece Unigram), "bert" (WordPiece). For "gpt2", `tokenizer.ggml.pre` names how text is split before merging; an
unknown name is an error, because a wrong split gives plausible, wrong tokens. BOS and EOS are added only where the metadata
says so, or, where it is silent, where the family always does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aerogel.checkpoint.gguf.splits import SPLITS
from aerogel.checkpoint.gguf.vocabulary import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, Vocabulary
from aerogel.checkpoint.tokenizer import Tokenizer, named, wordpiece
from aerogel.errors import TokenizerError, UnsupportedModelError

if TYPE_CHECKING:
    import tokenizers

_MASKS = ("<mask>", "[MASK]")
#: Tokens that end a turn, whatever the metadata says: converters often name the base model's end of text only.
_ENDS = frozenset(
    ("<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<|endoftext|>", "<|eom_id|>")
    + ("<EOT>", "_<EOT>", "<|end_of_text|>", "<end_of_utterance>", "<\uff5cend\u2581of\u2581sentence\uff5c>")
)


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
    vocabulary = Vocabulary(metadata, path, _DEFAULTS.get(family, {}))
    if family != "t5":
        for key in ("precompiled_charsmap", "remove_extra_whitespaces"):
            if vocabulary.get(key):
                raise UnsupportedModelError(
                    f"{path}: tokenizer.ggml.{key}: expected none with tokenizer.ggml.model {family!r}"
                )
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


def _byte_level(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    import tokenizers
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

    pre = vocabulary.get("pre")
    split = SPLITS.get(pre) if isinstance(pre, str) else None
    if split is None:
        raise UnsupportedModelError(
            f"{vocabulary.path}: tokenizer.ggml.pre: expected one of {', '.join(SPLITS)}, got {pre!r:.80}"
        )
    ids = vocabulary.ids()
    # Without merges every text is single bytes: right only where the vocabulary has nothing longer.
    longer = any(kind == NORMAL and len(token) > 1 for token, kind in zip(ids, vocabulary.types, strict=True))
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
    _add_ends(backend, vocabulary, bos=split.add_bos, sep=split.add_sep)
    return backend


def _sentencepiece(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
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


def _unigram(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    """The most probable pieces (Kudo, arXiv 1804.10959), after a table of characters that stand for others."""
    import tokenizers
    from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers

    vocabulary.ids()  # refuses duplicates
    if not vocabulary.scores:
        raise TokenizerError(f"{vocabulary.path}: tokenizer.ggml.scores: expected one per token, got none")
    pieces = [(token, float(score)) for token, score in zip(vocabulary.tokens, vocabulary.scores, strict=True)]
    backend = tokenizers.Tokenizer(
        models.Unigram(pieces, vocabulary.special("unknown_token_id"), byte_fallback=BYTE in vocabulary.types)
    )
    space = vocabulary.flag("add_space_prefix", True)
    charsmap = vocabulary.charsmap()
    steps: list[Any] = [normalizers.Precompiled(charsmap)] if charsmap else []
    if vocabulary.flag("remove_extra_whitespaces", False):
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    steps += [normalizers.Prepend("\u2581")] if space else []
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "\u2581")])
    # Word by word is as probable as all at once, and faster, unless a piece goes on into the next word.
    if not any("\u2581" in token[1:] for token in vocabulary.tokens):
        backend.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    spaces = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*spaces, decoders.Strip(" ", 1, 0)] if space else spaces)
    _add_special(backend, vocabulary)
    _add_ends(backend, vocabulary, bos=False, eos=True)
    return backend


def _wordpiece(vocabulary: Vocabulary) -> tokenizers.Tokenizer:
    # GGUF marks the beginning of a word ("▁word", "piece"), BERT its continuation ("word", "##piece").
    tokens = [
        token
        if kind in (UNKNOWN, CONTROL) or (token.startswith("[") and token.endswith("]"))
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
        if kind == NORMAL and not token.startswith("[") and token.lower() != token.upper()
    ]
    cased = sum(token != token.lower() for token in words) > len(words) / 10
    return wordpiece(tokens, not cased, vocabulary.path)


_FAMILIES = {"gpt2": _byte_level, "llama": _sentencepiece, "t5": _unigram, "bert": _wordpiece}
#: What llama.cpp takes for special tokens where a file does not name them.
_DEFAULTS = {
    "llama": {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0},
    "t5": {"eos_token_id": 1, "unknown_token_id": 2},
}


def _merges(vocabulary: Vocabulary, ids: dict[str, int]) -> list[tuple[str, str]]:
    merges = []
    for merge in vocabulary.merges:
        # A space inside a token is written as another character, so the first one after the first character separates.
        left, _, right = merge.partition(" ")
        if not right or left not in ids or right not in ids or left + right not in ids:
            raise TokenizerError(f"{vocabulary.path}: tokenizer.ggml.merges: expected two tokens, got {merge!r:.80}")
        merges.append((left, right))
    return merges


def _merges_by_score(vocabulary: Vocabulary, ids: dict[str, int]) -> list[tuple[str, str]]:
    """SentencePiece merges the neighbours whose union scores best: every way to cut a token in two, best token first."""
    merges = []
    for token, index in ids.items():
        if vocabulary.types[index] not in (NORMAL, USER_DEFINED):
            continue
        for cut in range(1, len(token)):
            left = token[:cut]
            if left in ids and (right := token[cut:]) in ids:
                merges.append((-vocabulary.scores[index], ids[left], ids[right], left, right))
    merges.sort()
    return [(left, right) for *_, left, right in merges]


def _add_special(backend: tokenizers.Tokenizer, vocabulary: Vocabulary) -> None:
    """Control tokens are special; user-defined ones are only never split."""
    import tokenizers

    for kinds, special in (((UNKNOWN, CONTROL), True), ((USER_DEFINED,), False)):
        added = [
            # A mask takes the space before it along: it stands for the word with its space.
            tokenizers.AddedToken(token, normalized=False, special=special, lstrip=token in _MASKS)
            for token, kind in zip(vocabulary.tokens, vocabulary.types, strict=True)
            if kind in kinds and token
        ]
        if special:
            backend.add_special_tokens(added)
        else:
            backend.add_tokens(added)


def _add_ends(
    backend: tokenizers.Tokenizer, vocabulary: Vocabulary, bos: bool, eos: bool = False, sep: bool = False
) -> None:
    """What stands around a text, and between the texts of a pair; `bos`, `eos`, `sep`: where the file is silent."""
    from tokenizers import processors

    ids: dict[str, int] = {}
    for key, default in (("bos", bos), ("eos", eos), ("sep", sep)):
        if vocabulary.flag(f"add_{key}_token", default):
            index = vocabulary.special("seperator_token_id" if key == "sep" else f"{key}_token_id")
            if index is not None:
                ids[key] = index
            elif vocabulary.get(f"add_{key}_token") is not None and key != "sep":
                raise TokenizerError(
                    f"{vocabulary.path}: tokenizer.ggml.{key}_token_id: expected a token id, "
                    f"as add_{key}_token is true, got none"
                )
    if not ids:
        return

    # The template's own names, as a token may be written with the colon or dollar of its syntax.
    def template(parts: str, type_id: int) -> list[str]:
        return [f"{part}:{type_id}" for part in parts.split() if part.startswith("$") or part in ids]

    backend.post_processor = processors.TemplateProcessing(
        single=template("bos $A eos", 0),
        pair=[*template("bos $A eos", 0), *template("sep $B eos" if "sep" in ids else "bos $B eos", 1)],
        special_tokens=[
            {"id": key, "ids": [index], "tokens": [vocabulary.tokens[index]]} for key, index in ids.items()
        ],
    )
