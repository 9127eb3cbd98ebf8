"""The byte-level BPE of RoBERTa's kind from vocab.json and merges.txt, for folders without a tokenizer.json."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aerogel.checkpoint.config import read_json
from aerogel.checkpoint.tokenizer_settings import TokenizerSettings
from aerogel.errors import TokenizerError

if TYPE_CHECKING:
    import tokenizers

#: The two files.
FILES = ("vocab.json", "merges.txt")
#: The special tokens, where the settings do not name others.
_SPECIAL = {"cls": "<s>", "sep": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}


def byte_level_bpe(folder: Path, settings: TokenizerSettings) -> tokenizers.Tokenizer:
    """The tokenizer: texts stand between <s> and </s>.

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
    names = {kind: settings.token(f"{kind}_token") or token for kind, token in _SPECIAL.items()}
    absent = [token for token in names.values() if token not in ids]
    if absent:
        raise TokenizerError(
            f"{vocab}: expected the special tokens {', '.join(names.values())}, {absent[0]} is missing"
        )
    # The mask takes the space before it along, as a word does.
    backend.add_special_tokens(
        [tokenizers.AddedToken(token, lstrip=kind == "mask", normalized=False) for kind, token in names.items()]
    )
    spaced = settings.flag("add_prefix_space", False) is True
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    sep, cls = ((names[kind], ids[names[kind]]) for kind in ("sep", "cls"))
    backend.post_processor = processors.RobertaProcessing(sep, cls, trim_offsets=True, add_prefix_space=spaced)
    backend.decoder = decoders.ByteLevel()
    settings.add_tokens(backend)
    return backend


def _merges(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{path}: cannot be read as UTF-8: {error}") from error
    found = []
    for line in lines:
        if not line or line.startswith("#version"):
            continue
        left, space, right = line.partition(" ")
        if not (left and space and right):
            raise TokenizerError(f"{path}: expected two tokens in a line, got {line!r:.80}")
        found.append((left, right))
    return found
