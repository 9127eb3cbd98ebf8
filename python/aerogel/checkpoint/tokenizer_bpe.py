"""Byte-level BPE from vocab.json and merges.txt, for folders without a tokenizer.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from aerogel._util.text import not_utf8
from aerogel.checkpoint.config import read_json
from aerogel.checkpoint.tokenizer_settings import TokenizerSettings
from aerogel.errors import TokenizerError

if TYPE_CHECKING:
    import tokenizers

#: The two files.
FILES = ("vocab.json", "merges.txt")


def byte_level_bpe(folder: Path, settings: TokenizerSettings, special: Mapping[str, str]) -> tokenizers.Tokenizer:
    """The tokenizer: texts stand between "cls" and "sep" where these are special, else alone or as add_bos_token and
    add_eos_token say. `special`: see `Architecture.byte_level`.

    Raises:
        TokenizerError: the files are broken, or the vocabulary lacks a special token.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, processors

    vocab, merges = (folder / name for name in FILES)
    ids = read_json(vocab)
    if not all(type(index) is int for index in ids.values()):
        raise TokenizerError(f"{vocab}: expected tokens and their ids")
    backend = tokenizers.Tokenizer(models.BPE(ids, _merges(merges)))
    names = {word: settings.token(f"{word}_token") or token for word, token in special.items()}
    absent = [token for token in names.values() if token not in ids]
    if absent:
        raise TokenizerError(
            f"{vocab}: expected the special tokens {', '.join(names.values())}, {absent[0]} is missing"
        )
    # The mask takes the space before it along, as a word does.
    backend.add_special_tokens(
        [tokenizers.AddedToken(token, lstrip=word == "mask", normalized=False) for word, token in names.items()]
    )
    spaced = settings.flag("add_prefix_space", False) is True
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    if "cls" in special:
        sep, cls = ((names[word], ids[names[word]]) for word in ("sep", "cls"))
        backend.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=True, add_prefix_space=spaced)
    else:
        begin, end = ([names[word]] if settings.flag(f"add_{word}_token") else [] for word in ("bos", "eos"))
        backend.post_processor = processors.TemplateProcessing(
            single=[*begin, "$A", *end],
            pair=[*begin, "$A", *end, *(f"{token}:1" for token in begin), "$B:1", *(f"{token}:1" for token in end)],
            special_tokens=[(token, ids[token]) for token in dict.fromkeys(begin + end)],
        )
    backend.decoder = decoders.ByteLevel()
    settings.add_tokens(backend)
    return backend


def _merges(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(not_utf8(path, error)) from error
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{path}: cannot be read: {error}") from error
    found = []
    for line in lines:
        if not line or line.startswith("#version"):
            continue
        left, space, right = line.partition(" ")
        if not (left and space and right):
            raise TokenizerError(f"{path}: expected two tokens in a line, got {line!r:.80}")
        found.append((left, right))
    return found
