"""RoBERTa's and GPT-2's tokenizers from vocab.json and merges.txt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aerogel.checkpoint.tokenizer import load_tokenizer
from aerogel.errors import TokenizerError

from .tiny_files import byte_level_vocabulary

TEXTS = ["hello world 12", " hello  he", "", "a<mask> we </s>x", "déjà vu!\n3.14<mask>", "HELLO"]


def files(folder: Path) -> dict[str, object]:
    tokens, _, merges = byte_level_vocabulary()
    listed = ["<s>", "<pad>", "</s>", "<unk>", *tokens[2:], "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(listed)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    return {"model_type": "roberta"}


@pytest.mark.parametrize("settings", [{}, {"add_prefix_space": True}, {"tokenizer_class": "RobertaTokenizer"}])
def test_it_is_that_of_transformers(tmp_path: Path, settings: dict[str, object]) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = files(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ours = load_tokenizer(tmp_path, config)
    peer = transformers.RobertaTokenizer.from_pretrained(tmp_path)
    assert ours.encode(TEXTS) == peer(TEXTS)["input_ids"]
    # The mask takes the space before it along, as in Transformers 4 and in the tokenizer.json of such models.
    assert ours.encode(["12 <mask>"]) == ours.encode(["12<mask>"])
    ids, types = ours.encode_pair(TEXTS[:2], TEXTS[2:4])
    assert ids == peer(TEXTS[:2], TEXTS[2:4])["input_ids"]
    assert not any(map(any, types))
    assert ours.decode(ours.encode(["he well"])[0]).strip() == "he well"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"add_prefix_space": True},
        {"add_bos_token": True, "bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"},
        {"add_bos_token": True, "add_eos_token": True, "bos_token": "<s>", "eos_token": "</s>"},
    ],
)
@pytest.mark.parametrize("model_type", ["gpt2", "opt"])
def test_that_of_gpt2_too(tmp_path: Path, model_type: str, settings: dict[str, object]) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    files(tmp_path)
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    (tmp_path / "vocab.json").write_text(json.dumps({**vocab, "<|endoftext|>": len(vocab)}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer", **settings}))
    ours = load_tokenizer(tmp_path, {"model_type": model_type})
    peer = transformers.GPT2Tokenizer.from_pretrained(tmp_path)
    texts = ["hello world 12", " hello  he", "", "we </s>x", "a<|endoftext|> b", "déjà vu!\n3.14", "HELLO"]
    assert ours.encode(texts) == peer(texts)["input_ids"]
    assert ours.encode_pair(texts[:2], texts[3:5])[0] == peer(texts[:2], texts[3:5])["input_ids"]
    assert ours.decode(ours.encode(["he well"])[0]).strip() == "he well"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    config = files(tmp_path)
    merges = (tmp_path / "merges.txt").read_text()
    (tmp_path / "merges.txt").write_text(merges + "alone\n")
    with pytest.raises(TokenizerError, match=r"merges\.txt: expected two tokens in a line, got 'alone'"):
        load_tokenizer(tmp_path, config)
    (tmp_path / "merges.txt").write_text(merges)
    vocab = json.loads((tmp_path / "vocab.json").read_text())
    del vocab["<mask>"]
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    with pytest.raises(TokenizerError, match=r"vocab\.json: expected the special tokens .*, <mask> is missing"):
        load_tokenizer(tmp_path, config)
    (tmp_path / "vocab.json").unlink()
    (tmp_path / "sentencepiece.bpe.model").write_bytes(b"?")
    with pytest.raises(
        TokenizerError, match=r"found a sentencepiece\.bpe\.model alone\. .*save_pretrained.* writes one"
    ):
        load_tokenizer(tmp_path, config)
