"""Kinds of tokenizer.json beside BERT's and GPT-2's: Unigram, and BPE that falls back to bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from aerogel.checkpoint import open_checkpoint
from aerogel.checkpoint.tokenizer import Tokenizer
from aerogel.errors import TokenizerError

from .tiny_files import write_bert

SPACE = "\u2581"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
TEXTS = [
    "hello world",
    "  two  spaces\n\tx",
    "naïve 日本語 🙂👩\u200d👧 12345",
    "hello<s>he",
    "\u0000\uffff\U000e0041",
    "",
]


def byte_fallback(prefix: bool) -> tokenizers.Tokenizer:
    """As Llama 2 (`prefix`) and Gemma have it."""
    pieces = ["he", "ll", "hell", "hello", SPACE + "w", "日", *"helowrd", SPACE]
    vocab = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>", *BYTES, *pieces])}
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), (SPACE, "w")]
    backend = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    spaces = normalizers.Replace(" ", SPACE)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefix else spaces
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    backend.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return backend


def unigram() -> tokenizers.Tokenizer:
    """As XLM-R has it."""
    words = ["hello", "world", "he", "ll", "spaces", "1", "2", *"helowrdtsx", SPACE, SPACE + "hello", SPACE + "t"]
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(word, -2.0 - i / 3) for i, word in enumerate(words)]
    backend = tokenizers.Tokenizer(models.Unigram(pieces, 3))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    backend.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    backend.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return backend


KINDS = {"gemma": lambda: byte_fallback(False), "llama2": lambda: byte_fallback(True), "xlm-r": unigram}


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_with_this_tokenizer(tmp_path: Path, kind: str) -> None:
    backend = KINDS[kind]()
    write_bert(tmp_path)
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").unlink(missing_ok=True)
    tokenizer = open_checkpoint(tmp_path).tokenizer()
    assert tokenizer.encode(TEXTS) == [backend.encode(text).ids for text in TEXTS]
    pairs = list(zip(TEXTS, TEXTS[1:], strict=False))
    first, second = ([pair[i] for pair in pairs] for i in (0, 1))
    assert tokenizer.encode_pair(first, second)[0] == [backend.encode(*pair).ids for pair in pairs]
    for text in TEXTS:
        assert tokenizer.encode([text], max_tokens=4)[0] == _cut(backend, text, 4)


def _cut(backend: tokenizers.Tokenizer, text: str, tokens: int) -> list[int]:
    backend.enable_truncation(tokens)
    ids = list(backend.encode(text).ids)
    backend.no_truncation()
    return ids


@pytest.mark.parametrize("kind", KINDS)
def test_one_token_at_a_time(kind: str) -> None:
    """The pieces join to the whole."""
    tokenizer = Tokenizer(KINDS[kind]())
    rng = np.random.default_rng(0)
    ids = [tokenizer.encode([text])[0] for text in TEXTS]
    parts = ["hello", " ", "  w", "é", "日", "本", "🙂", "\u200d", "\U000e0041", "\n", "12"]
    ids += tokenizer.encode(["".join(rng.choice(parts, rng.integers(1, 12))) for _ in range(200)])
    for one in ids:
        stream = tokenizer.stream()
        assert "".join(map(stream.push, one)) + stream.flush() == tokenizer.decode(one)


def test_bytes_that_are_no_text() -> None:
    """Half a character is held back to the end; what was said before it stays said."""
    tokenizer = Tokenizer(byte_fallback(False))
    a, half = 3 + 0x61, [3 + 0xF0, 3 + 0x9F]
    stream = tokenizer.stream()
    assert [stream.push(i) for i in (a, *half)] == ["a", "", ""]
    assert stream.flush().startswith("\ufffd")


@pytest.mark.parametrize("name", ["tokenizer.model", "sentencepiece.bpe.model", "spiece.model"])
def test_a_file_that_has_to_be_converted(tmp_path: Path, name: str) -> None:
    write_bert(tmp_path)
    for file in (*tmp_path.glob("tokenizer*"), *tmp_path.glob("vocab.txt")):
        file.unlink()
    (tmp_path / name).write_bytes(b"\n\x0e\n\x05<unk>")
    with pytest.raises(TokenizerError, match=f"found a {name} alone. .*save_pretrained"):
        open_checkpoint(tmp_path).tokenizer()
