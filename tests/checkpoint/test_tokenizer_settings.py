"""What stands beside tokenizer.json changes the tokenizer as Transformers lets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import processors

from aerogel.checkpoint import open_checkpoint
from aerogel.checkpoint.tokenizer import Tokenizer
from aerogel.errors import AerogelError, TokenizerError

from .tiny_files import VOCAB, write_bert, write_json, write_tokenizer


def tokenizer_of(folder: Path, settings: dict[str, Any], **files: Any) -> Tokenizer:
    write_bert(folder)
    write_tokenizer(folder, **settings)
    for name, value in files.items():
        write_json(folder / f"{name}.json", value)
    return open_checkpoint(folder).tokenizer()


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({}, [7]),
        ({"do_lower_case": True}, [7]),
        ({"do_lower_case": False}, [1]),
        ({"tokenizer_class": "BertTokenizer"}, [7]),
        ({"tokenizer_class": "BertTokenizer", "do_lower_case": False}, [1]),
    ],
)
def test_case(tmp_path: Path, settings: dict[str, Any], ids: list[int]) -> None:
    assert tokenizer_of(tmp_path, settings).encode(["HELLO"]) == [[2, *ids, 3]]


def test_a_class_that_lowers_by_default(tmp_path: Path) -> None:
    write_bert(tmp_path)
    file = tmp_path / "tokenizer.json"
    stored = json.loads(file.read_text())
    stored["normalizer"]["lowercase"] = False
    file.write_text(json.dumps(stored))
    assert open_checkpoint(tmp_path).tokenizer().encode(["HELLO"]) == [[2, 1, 3]]
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "BertTokenizerFast"})
    assert open_checkpoint(tmp_path).tokenizer().encode(["HELLO"]) == [[2, 7, 3]]


@pytest.mark.parametrize(
    ("settings", "ids"), [({}, [1]), ({"strip_accents": True}, [5]), ({"strip_accents": False}, [12])]
)
def test_accents(tmp_path: Path, settings: dict[str, Any], ids: list[int]) -> None:
    # BERT strips accents where it lowers, unless told; VOCAB has "a" and the umlaut.
    assert tokenizer_of(tmp_path, settings).encode(["\u00e4"])[0][1:-1] == ([5] if not settings else ids)


@pytest.mark.parametrize(("side", "kept"), [("right", [5, 6]), ("left", [7, 8])])
def test_the_end_that_is_cut(tmp_path: Path, side: str, kept: list[int]) -> None:
    tokenizer = tokenizer_of(tmp_path / "config", {"truncation_side": side})
    assert tokenizer.encode(["a b hello world"], 4) == [[2, *kept, 3]]
    [ids], _ = tokenizer.encode_pair(["a b hello world"], ["a"], 6)
    assert ids == [2, *kept, 3, 5, 3]
    write_bert(tmp_path / "json")
    backend = tokenizers.Tokenizer.from_file(str(tmp_path / "json" / "tokenizer.json"))
    backend.enable_truncation(4, direction=side)
    backend.save(str(tmp_path / "json" / "tokenizer.json"))
    assert open_checkpoint(tmp_path / "json").tokenizer().encode(["a b hello world"], 4) == [[2, *kept, 3]]


@pytest.mark.parametrize(
    ("settings", "types"),
    [
        ({}, [0, 0, 0, 1, 1]),
        ({"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}, [0, 0, 0, 1, 1]),
        ({"model_input_names": ["input_ids", "attention_mask"]}, [0] * 5),
        ({"tokenizer_class": "TokenizersBackend"}, [0] * 5),
    ],
)
def test_types_of_pairs(tmp_path: Path, settings: dict[str, Any], types: list[int]) -> None:
    assert tokenizer_of(tmp_path, settings).encode_pair(["a"], ["b"]) == ([[2, 5, 3, 6, 3]], [types])


def test_added_tokens(tmp_path: Path) -> None:
    new = {"content": "<new>", "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    listed = tokenizer_of(tmp_path / "a", {"added_tokens_decoder": {"13": new}})
    assert listed.encode(["a <new>b"]) == [[2, 5, 13, 6, 3]] and listed.decode([5, 13]) == "a"
    legacy = tokenizer_of(tmp_path / "b", {}, added_tokens={"<new>": 13})
    assert legacy.encode(["a <new>b"]) == [[2, 5, 13, 6, 3]]
    with pytest.raises(TokenizerError, match="expected id 15, got 13"):
        tokenizer_of(tmp_path / "c", {}, added_tokens={"<new>": 15})
    plain = tokenizer_of(tmp_path / "d", {}, special_tokens_map={"bos_token": "world", "eos_token": {"content": "!"}})
    assert (plain.bos_id, plain.eos_ids) == (8, (11,))
    assert plain.encode(["aworld"]) == [[2, 5, 8, 3]]  # a special token is found inside words


def test_special_tokens_as_text(tmp_path: Path) -> None:
    assert tokenizer_of(tmp_path / "a", {}).encode(["[SEP]"]) == [[2, 3, 3]]
    assert tokenizer_of(tmp_path / "b", {"split_special_tokens": True}).encode(["[SEP]"]) == [[2, 1, 1, 1, 3]]


@pytest.mark.parametrize(
    ("processor", "ids"),
    [
        (None, [5]),
        (processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)), [2, 5, 3]),
        (processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2)), [2, 5, 3]),
        (processors.ByteLevel(), [5]),
        (processors.TemplateProcessing("[CLS] [CLS] $A", "$A $B", [("[CLS]", 2)]), [2, 2, 5]),
        (
            processors.Sequence(
                [processors.ByteLevel(), processors.TemplateProcessing("$A [SEP]", "$A $B", [("[SEP]", 3)])]
            ),
            [5, 3],
        ),
    ],
)
def test_special_tokens_of_every_post_processor(processor: Any, ids: list[int]) -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(VOCAB)}, "[UNK]"))
    if processor is not None:
        backend.post_processor = processor
    assert Tokenizer(backend).encode(["a"]) == [ids] == [backend.encode("a").ids]


def test_a_template_without_its_text() -> None:
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(VOCAB)}, "[UNK]"))
    backend.post_processor = processors.TemplateProcessing("[CLS]", "$A $B", [("[CLS]", 2)])
    with pytest.raises(TokenizerError, match="expected the text once"):
        Tokenizer(backend)


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": "yes"},
        {"truncation_side": "middle"},
        {"model_input_names": "input_ids"},
        {"added_tokens_decoder": [1]},
        {"added_tokens_decoder": {"x": {"content": "a"}}},
        {"added_tokens_decoder": {"13": "a"}},
        {"added_tokens_decoder": {"13": {"content": "q", "special": 1}}},
        {"additional_special_tokens": 3},
        {"additional_special_tokens": [None]},
        {"eos_token": 3},
    ],
)
def test_nonsense_is_named(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(AerogelError, match=next(iter(settings))):
        tokenizer_of(tmp_path, settings)


def test_vocab_txt_of_another_tokenizer(tmp_path: Path) -> None:
    write_bert(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("\n".join(VOCAB) + "\n")
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"})
    with pytest.raises(TokenizerError, match="BertJapaneseTokenizer"):
        open_checkpoint(tmp_path).tokenizer()
