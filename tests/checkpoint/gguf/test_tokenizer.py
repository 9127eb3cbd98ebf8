"""Tokenizers out of GGUF metadata, every kind against an implementation that is not ours, and every way to be broken."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aerogel.checkpoint import Tokenizer, open_checkpoint
from aerogel.checkpoint.gguf.splits import SPLITS as KNOWN
from aerogel.checkpoint.gguf.tokenizer import tokenizer_from_metadata
from aerogel.errors import AerogelError, TokenizerError, UnsupportedModelError

from ...reference import tokenizers as reference
from ...reference.gguf_splits import ALIASES, SPLITS
from . import files

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
SPACE = "\u2581"

TEXTS = [
    "",
    " ",
    "a",
    "hello world",
    "end.\n(a) [b]\tdone",
    " hello  world   ",
    "Hello World, it's 12345 o'clock; they'LL've won't",
    "\n",
    "one\ntwo\n\n\nthree \n four\t\tfive\r\nsix",
    "   \n   indented\n\t\tdeeper",
    "1 12 123 1234 12345678 ½ ² Ⅻ ٣٤",
    "naïve café résumé Ångström",
    "cafe\u0301 A\u030angstro\u0308m",  # letters and combining marks: NFC joins them
    "日本語のテキスト 漢字、仮名。",
    "🙂🙃 👩‍👩‍👧‍👦 🇩🇪",
    "مرحبا Привет नमस्ते",
    "a\u00a0b\u2003c\u200bd\ufeffe",
    "x" * 150,
    "!?!... --- *** (a) [b] {c} <d> #e @f $g %h",
    "don't DON'T I'm we're y'all's",
    "\u0000\u0001\u007f",
    "<|end|> and <|start|>",
    "<s>x</s> <unk> <tool>",
    "ﬁ ① Ⅷ ﷺ",
    "tail\u2581underline",
    "helloWorld HTTPServer ÉCOLE École Straße ǅungla OCaml's",
    "漢字 hello漢字hello 한국어 텍스트 ㄅㄆ ไทย देवनागरी",
    "a/b//c/\n://x\n\n  \n 1,234,567.89 (12)34",
    "'tis 'TWAS o'er",
    "a  12 b\n\n\nc  \n\n  3",
    "x         y                 z\t\t  w   ",
    "he said “hello”, it’s—… ok ~~ ``` `` _x_ -y @z #12 'Q",
]


def built(**entries: Any) -> Tokenizer:
    """The tokenizer of these entries; None leaves one out."""
    metadata = {f"tokenizer.ggml.{key}": value for key, value in entries.items() if value is not None}
    return tokenizer_from_metadata(metadata, Path("m.gguf"))


def encoded(tokenizer: Tokenizer, texts: Sequence[str] = TEXTS) -> list[list[int]]:
    return tokenizer.encode(texts)


# -- byte-level BPE

ALPHABET = list(reference.bytes_as_characters().values())
MERGES = (
    "h e|l l|he ll|hell o|Ġ w|Ġw o|r l|Ġwo rl|Ġworl d|1 2|12 3|3 4|Ġ Ġ|ĠĠ Ġ|Ċ Ċ|Ċ Ġ|' s|' t|l d|o n|e r|Ã ©|o '|t er|"
    "ð Ł|ðŁ Ļ|i n|Ġ t|Ġt h|Ġth e|x x|xx xx|. .|.. .|ã ģ|Ġ 1|c a|ca f|caf Ã©|"
    "123 4|. Ċ|.. Ċ|( a|L L|' LL|ĉ d|# e"  # across the borders of one split or another
).split("|")


def bpe_vocabulary(**more: Any) -> dict[str, Any]:
    tokens = ["<|start|>", "<|end|>", *ALPHABET]
    merges = [
        merge for merge in MERGES if all(part in ALPHABET + "".join(MERGES).split() or True for part in merge.split())
    ]
    for merge in merges:
        tokens.append(merge.replace(" ", ""))
    tokens += ["Ġunmerged", "123456"]  # words that no merge makes
    tokens = list(dict.fromkeys(tokens))
    known = set(tokens)
    merges = [merge for merge in merges if set(merge.split()) <= known]
    entries = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": tokens,
        "token_type": [CONTROL, CONTROL] + [NORMAL] * (len(tokens) - 2),
        "merges": list(MERGES),
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    return {**entries, **more}


def expected_bytes(pre: str, entries: dict[str, Any], text: str) -> list[int]:
    patterns, options = SPLITS[pre]
    ids = {token: index for index, token in enumerate(entries["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in entries["merges"]]
    found: list[int] = []
    for i, part in enumerate(reference.split(text, [r"<\|start\|>|<\|end\|>"])):
        special = ids.get(part) if part in ("<|start|>", "<|end|>") else None
        found += [special] if special is not None else reference.byte_level(part, ids, merges, patterns, **options)
    return found


def test_every_split_has_a_reference() -> None:
    assert {*SPLITS, *ALIASES} == set(KNOWN)


@pytest.mark.parametrize(("alias", "pre"), ALIASES.items())
def test_other_names_of_a_split(alias: str, pre: str) -> None:
    assert encoded(built(**bpe_vocabulary(pre=alias))) == encoded(built(**bpe_vocabulary(pre=pre)))


@pytest.mark.parametrize("pre", SPLITS)
def test_byte_level_splits(pre: str) -> None:
    pytest.importorskip("regex")
    entries = bpe_vocabulary(pre=pre, add_bos_token=False)
    texts = [*TEXTS, " unmerged 345 unmerged"]
    expected = [expected_bytes(pre, entries, text) for text in texts]
    tokenizer = built(**entries)
    assert encoded(tokenizer, texts) == expected
    nfc = SPLITS[pre][1].get("nfc", False)
    for text, ids in zip(texts, expected, strict=True):
        assert tokenizer.decode(ids, skip_special=False) == (unicodedata.normalize("NFC", text) if nfc else text)


@pytest.mark.parametrize("pre", SPLITS)
def test_byte_level_on_random_text(pre: str) -> None:
    pytest.importorskip("regex")
    entries = bpe_vocabulary(pre=pre, add_bos_token=False)
    rng = np.random.default_rng(5)
    parts = [
        "hello",
        " world",
        "12",
        "3",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "é",
        "e\u0301",
        "'s",
        "'T",
        "...",
        "漢",
        "🙂",
        "_",
        ".",
    ]
    texts = ["".join(rng.choice(parts, rng.integers(0, 14))) for _ in range(300)]
    assert encoded(built(**entries), texts) == [expected_bytes(pre, entries, text) for text in texts]


def test_the_splits_differ() -> None:
    """Otherwise the tests would not tell them apart."""
    texts = [*TEXTS, " unmerged 345 unmerged", "1234 a1b22 $$x"]
    found = {}
    for pre, (_, options) in SPLITS.items():
        tokenizer = built(**bpe_vocabulary(pre=pre, add_bos_token=False))
        found[pre] = json.dumps([pieces_of(tokenizer, text) for text in texts] + [sorted(options)])
    same = [(a, b) for a in found for b in found if a < b and found[a] == found[b]]
    assert not same


def pieces_of(tokenizer: Tokenizer, text: str) -> list[str]:
    return [piece for piece, _ in tokenizer._backend.pre_tokenizer.pre_tokenize_str(text)]


@pytest.mark.parametrize("pre", SPLITS)
def test_where_text_is_split(pre: str) -> None:
    pytest.importorskip("regex")
    alphabet = reference.bytes_as_characters()
    tokenizer = built(**bpe_vocabulary(pre=pre, add_bos_token=False))
    for text in TEXTS:
        expected = reference.split(text, SPLITS[pre][0])
        assert pieces_of(tokenizer, text) == ["".join(alphabet[b] for b in piece.encode()) for piece in expected], text


@pytest.mark.parametrize("pre", ["gemma4", "superbpe", "chameleon", "GPT-2", "", 3, ["gpt-2"], None])
def test_other_splits_are_refused_by_name(pre: Any) -> None:
    with pytest.raises(
        UnsupportedModelError, match="tokenizer.ggml.pre: expected one of default, gpt-2, .*, laguna, got"
    ):
        built(**bpe_vocabulary(pre=pre))


@pytest.mark.parametrize("merge", ["h", "h e l", "he", " h e", "h  e", "h e ", "", "h é", "q z"])
def test_merges_that_are_none(merge: str) -> None:
    entries = bpe_vocabulary()
    with pytest.raises(TokenizerError, match="tokenizer.ggml.merges: expected two tokens, got "):
        built(**{**entries, "merges": [*entries["merges"], merge]})


def test_merges_are_needed() -> None:
    """Without them every text would be single bytes: plausible, and wrong."""
    with pytest.raises(TokenizerError, match="tokenizer.ggml.merges: expected a list of pairs of tokens, got none"):
        built(**{**bpe_vocabulary(), "merges": None})
    single = {**bpe_vocabulary(), "tokens": ["<|start|>", "<|end|>", *ALPHABET], "merges": []}
    single["token_type"] = [CONTROL] * 2 + [NORMAL] * 256
    assert built(**single).encode(["hé"]) == [[single["tokens"].index(c) for c in "hÃ©"]]


# -- SentencePiece


def pieces(add_bytes: bool = True, **more: Any) -> dict[str, Any]:
    """A vocabulary as SentencePiece trains one: specials, bytes, merges by score, then single characters."""
    merged = [
        "he",
        "ll",
        "hell",
        "hello",
        SPACE + "w",
        "or",
        "ld",
        SPACE + "wor",
        SPACE + "world",
        SPACE * 2,
        SPACE * 4,
    ]
    merged += [
        SPACE + "hello",
        "12",
        "lo",
        "ello",
        "aa",
        "aaaa",
        "xx",
        "xxxx",
        SPACE + "a",
        "oo",
        SPACE * 3,
        "'s",
        SPACE + "t",
    ]
    single = sorted(set("".join(merged)) | set("abcdefghijklmnopqrstuvwxyz.,!é日本"))
    special = ["<unk>", "<s>", "</s>"]
    data = [f"<0x{byte:02X}>" for byte in range(256)] if add_bytes else []
    tokens = [*special, *data, *merged, *single]
    scores = [0.0] * (len(special) + len(data)) + [-float(i) for i in range(len(merged) + len(single))]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * len(data) + [NORMAL] * (len(merged) + len(single))
    entries = {
        "model": "llama",
        "tokens": tokens,
        "scores": scores,
        "token_type": types,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }
    return {**entries, **more}


def with_token(entries: dict[str, Any], token: str, kind: int, score: float = 0.0) -> dict[str, Any]:
    more = {"tokens": token, "token_type": kind, "scores": score}
    return {**entries, **{key: [*entries[key], value] for key, value in more.items() if key in entries}}


def expected_pieces(entries: dict[str, Any], text: str) -> list[int]:
    """What is between special tokens is tokenized as if it stood alone: so does llama.cpp."""
    kinds = entries["token_type"]
    usable = [t if k in (NORMAL, BYTE) else None for t, k in zip(entries["tokens"], kinds, strict=True)]
    special = {t: i for i, t in enumerate(entries["tokens"]) if kinds[i] in (UNKNOWN, CONTROL, USER_DEFINED)}
    found: list[int] = []
    for part in reference.split(text, ["|".join(special)]):
        if part in special:
            found.append(special[part])
        else:
            prefix = entries.get("add_space_prefix", True)
            found += reference.sentencepiece(part, usable, entries["scores"], 0, prefix)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("prefix", [True, False, None])
@pytest.mark.parametrize("add_bytes", [True, False])
def test_sentencepiece(prefix: bool | None, add_bytes: bool) -> None:
    pytest.importorskip("regex")
    entries = pieces(add_bytes, add_bos_token=False)
    entries |= {} if prefix is None else {"add_space_prefix": prefix}
    tokenizer = built(**entries)
    rng = np.random.default_rng(6)
    parts = [
        "hello",
        " world",
        "12",
        "a",
        "aa",
        "x",
        " ",
        "  ",
        "    ",
        "\n",
        "é",
        "ñ",
        "日",
        "🙂",
        "'s",
        "<s>",
        "lo",
        "_",
    ]
    texts = [*TEXTS, *("".join(rng.choice(parts, rng.integers(0, 14))) for _ in range(300))]
    expected = [expected_pieces(entries, text) for text in texts]
    assert encoded(tokenizer, texts) == expected
    if add_bytes:
        for text, ids in zip(texts, expected, strict=True):
            if "<" not in text and SPACE not in text:  # after a special token the space of the prefix stays
                assert tokenizer.decode(ids) == text


def test_pieces_of_the_same_letters_by_score() -> None:
    """The better score wins, not the longer piece nor the lower id."""
    entries = {
        "model": "llama",
        "tokens": ["<unk>", "a", "b", "c", "ab", "bc", "abc", SPACE],
        "token_type": [UNKNOWN] + [NORMAL] * 7,
        "unknown_token_id": 0,
        "add_bos_token": False,
        "add_space_prefix": False,
    }
    for ab, bc, expected in ((-1.0, -2.0, [6]), (-2.0, -1.0, [6]), (-1.0, -9.0, [6])):
        assert built(**entries, scores=[0.0, 0, 0, 0, ab, bc, -3.0, 0]).encode(["abc"]) == [expected]
    assert built(**entries, scores=[0.0, 0, 0, 0, -1.0, -2.0, -3.0, 0]).encode(["ab bc"]) == [[4, 7, 5]]
    entries["tokens"][6] = "zzz"
    assert built(**entries, scores=[0.0, 0, 0, 0, -1.0, -2.0, -3.0, 0]).encode(["abc"]) == [[4, 3]]
    assert built(**entries, scores=[0.0, 0, 0, 0, -2.0, -1.0, -3.0, 0]).encode(["abc"]) == [[1, 5]]


@pytest.mark.parametrize(("kind", "special"), [(USER_DEFINED, False), (CONTROL, True)])
def test_added_tokens(kind: int, special: bool) -> None:
    """Never split; a control token is not text, a user-defined one is."""
    entries = with_token(pieces(add_bos_token=False), "<tool>", kind)
    tokenizer = built(**entries)
    index = tokenizer.id_of("<tool>")
    assert index == len(entries["tokens"]) - 1
    ids = tokenizer.encode(["a<tool>"])[0]
    assert ids[-1] == index
    assert tokenizer.decode(ids) == ("a" if special else "a<tool>")
    assert tokenizer.decode(ids, skip_special=False) == "a<tool>"


def test_unused_and_byte_tokens_are_not_text() -> None:
    entries = with_token(pieces(add_bos_token=False), "worl", UNUSED, 9.0)
    ids = built(**entries).encode(["worl <0x41> world"])[0]
    assert len(entries["tokens"]) - 1 not in ids
    assert entries["tokens"].index("<0x41>") not in ids


def test_scores_are_needed() -> None:
    with pytest.raises(TokenizerError, match="tokenizer.ggml.scores: expected one per token, got none"):
        built(**{**pieces(), "scores": None})
    scores = pieces()["scores"]
    with pytest.raises(TokenizerError, match="tokenizer.ggml.scores: expected numbers, got NaN"):
        built(**{**pieces(), "scores": [float("nan"), *scores[1:]]})


# -- Unigram


def unigram(**more: Any) -> dict[str, Any]:
    """A vocabulary as SentencePiece trains one, with letters that stand for others."""
    words = ["hello", "hell", "he", "lo", "world", "wor", "ld", "fi", "12", "'s", "ll", "oo", "日本", "aaa", "aa"]
    words = [*words, *(SPACE + word for word in ("hello", "world", "a", "the", "t", "1", "日"))]
    single = [SPACE, *"abcdefghijklmnopqrstuvwxyz0123456789'.,!?é日本", "Å"]
    special = ["<pad>", "</s>", "<unk>", "<s>", "<mask>"]
    rng = np.random.default_rng(3)
    tokens = [*special, *words, *single]
    scores = [0.0] * len(special) + [float(np.float32(x)) for x in -rng.uniform(2, 9, len(words) + len(single))]
    types = [CONTROL, CONTROL, UNKNOWN, CONTROL, CONTROL] + [NORMAL] * (len(tokens) - len(special))
    entries = {
        "model": "t5",
        "tokens": tokens,
        "scores": scores,
        "token_type": types,
        "bos_token_id": 3,
        "eos_token_id": 1,
        "unknown_token_id": 2,
        "precompiled_charsmap": list(reference.charsmap(SUBSTITUTES)),
        "remove_extra_whitespaces": True,
    }
    return {**entries, **more}


SUBSTITUTES = {
    "ﬁ": "fi",
    "①": "1",
    "\u00a0": " ",
    "\t": " ",
    "\n": " ",
    "A\u030a": "Å",
    "Å": "Å",
    "ａ": "a",
    "\u200b": "",
}


def expected_unigram(entries: dict[str, Any], text: str) -> list[int]:
    special = {token: index for index, token in enumerate(entries["tokens"][:5])}
    found: list[int] = []
    for part in reference.split(text, [r"\s*<mask>|" + "|".join(token for token in special if token != "<mask>")]):
        if part.strip() in special:
            found.append(special[part.strip()])
            continue
        if entries.get("precompiled_charsmap"):
            for old, new in SUBSTITUTES.items():
                part = part.replace(old, new)
        if entries.get("remove_extra_whitespaces"):
            part = " ".join(word for word in part.split(" ") if word)
        prefix = entries.get("add_space_prefix", True)
        found += reference.unigram(part, entries["tokens"], entries["scores"], 2, prefix)
    return found


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("extra", [True, False])
@pytest.mark.parametrize("substitutes", [True, False])
@pytest.mark.parametrize("across", [False, True])
def test_unigram(prefix: bool, extra: bool, substitutes: bool, across: bool) -> None:
    pytest.importorskip("regex")
    entries = unigram(add_space_prefix=prefix, remove_extra_whitespaces=extra, add_eos_token=False)
    if not substitutes:
        del entries["precompiled_charsmap"]
    if across:  # a piece that goes on into the next word
        entries = with_token(entries, f"lo{SPACE}w", NORMAL, -0.5)
    parts = [
        "hello",
        " world",
        "12",
        "a",
        "x",
        " ",
        "  ",
        "\n",
        "é",
        "ñ",
        "日",
        "本",
        "🙂",
        "'s",
        "<s>",
        " <mask>",
        "lo",
        "ﬁ",
        "①",
    ]
    rng = np.random.default_rng(6)
    texts = [*TEXTS, *("".join(rng.choice(parts, rng.integers(0, 14))) for _ in range(200))]
    texts = [text for text in texts if SPACE not in text]  # a space in disguise: SentencePiece's own affair
    tokenizer = built(**entries)
    for text, ids in zip(texts, encoded(tokenizer, texts), strict=True):
        assert ids == expected_unigram(entries, text), text
    plain = "hello world the lo 12"
    assert tokenizer.decode(tokenizer.encode([plain])[0]) == plain


def test_unigram_as_a_tokenizer_json_has_it() -> None:
    """What XLM-R's own files do, from the same vocabulary."""
    import tokenizers
    from tokenizers import Regex, models, normalizers, pre_tokenizers

    entries = unigram(add_bos_token=True)
    peer = tokenizers.Tokenizer(models.Unigram(list(zip(entries["tokens"], entries["scores"], strict=True)), 2))
    peer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(bytes(entries["precompiled_charsmap"])),
            normalizers.Strip(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    peer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always")
    special = [t for t in entries["tokens"][:5] if t != "<mask>"]
    peer.add_special_tokens([*special, tokenizers.AddedToken("<mask>", lstrip=True, normalized=False, special=True)])
    texts = [text for text in TEXTS if SPACE not in text]
    tokenizer = built(**entries)
    for text, ids in zip(texts, encoded(tokenizer, texts), strict=True):
        assert ids == [3, *peer.encode(text).ids, 1], text


def test_a_separator_between_texts() -> None:
    """As XLM-R's rerankers have it."""
    entries = unigram(add_bos_token=True, add_eos_token=True, add_sep_token=True, seperator_token_id=1)
    tokenizer = built(**entries)
    a, b = (tokenizer.encode([text])[0][1:-1] for text in ("hello", "the world"))
    assert tokenizer.encode_pair(["hello"], ["the world"])[0] == [[3, *a, 1, 1, *b, 1]]


@pytest.mark.parametrize("values", [[1, 300], [-200]])
def test_substitutes_that_are_no_bytes(values: list[int]) -> None:
    with pytest.raises(TokenizerError, match="precompiled_charsmap: expected bytes"):
        built(**unigram(precompiled_charsmap=values))
    with pytest.raises(TokenizerError, match=r"m.gguf: the tokenizer cannot be built"):
        built(**unigram(precompiled_charsmap=[1, 2, 3]))


@pytest.mark.parametrize("key", ["precompiled_charsmap", "remove_extra_whitespaces"])
def test_what_only_unigram_has(key: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"tokenizer.ggml.{key}: expected none with"):
        built(**pieces(**{key: [1] if key == "precompiled_charsmap" else True}))


# -- WordPiece

WORDS = [
    "hello",
    "world",
    "un",
    "able",
    "the",
    "naive",
    "caf",
    "é",
    "e",
    "'",
    "s",
    "t",
    "12",
    "3",
    ",",
    "!",
    "?",
    ".",
    "日",
    "本",
    "-",
]


def bert_vocabulary(cased: bool = False, old: bool = False, **more: Any) -> dict[str, Any]:
    """Words with the mark of GGUF; `old` converters left what stands in brackets as it is, with the type of a word."""
    letters = list("abcdefghijklmnopqrstuvwxyz")
    words = [*WORDS, *letters, *(["Hello", "DON", *"ABCDEFGHIJKLM"] if cased else [])]
    inside = ["##" + x for x in ("able", "ly", "s", "é", *letters, "3", "45")]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    plain = list(dict.fromkeys([*special, "[unused0]", *words, *inside]))
    tokens, types = [], []
    for token in plain:
        bracket = token in special or (old and token.startswith("["))
        tokens.append(token if bracket else token[2:] if token.startswith("##") else SPACE + token)
        types.append(NORMAL if old or not bracket else UNKNOWN if token == "[UNK]" else CONTROL)
    entries = {"model": "bert", "tokens": tokens, "token_type": types, "plain": plain}
    return {**entries, **more}


def test_one_capital_does_not_make_a_vocabulary_cased() -> None:
    entries = bert_vocabulary()
    entries["tokens"][-1] = SPACE + "Qz"
    tokenizer = built(**entries)
    assert tokenizer.encode(["HELLO"]) == tokenizer.encode(["hello"])


@pytest.mark.parametrize("cased", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_wordpiece(tmp_path: Path, cased: bool, old: bool) -> None:
    legacy = pytest.importorskip("transformers.models.bert.tokenization_bert_legacy")
    entries = bert_vocabulary(cased, old)
    plain = entries.pop("plain")
    (tmp_path / "vocab.txt").write_text("\n".join(plain) + "\n")
    peer = legacy.BertTokenizerLegacy(str(tmp_path / "vocab.txt"), do_lower_case=not cased)
    tokenizer = built(**entries)
    texts = [text for text in TEXTS if "\ufeff" not in text] + ["Hello unable, UNABLE cafély 日本 12345 [MASK] [SEP]x"]
    for text in texts:
        # The peer composes letters and their marks first; the tokenizers package, which users have, does not.
        text = unicodedata.normalize("NFC", text) if cased else text
        expected = peer.convert_tokens_to_ids(["[CLS]", *peer.tokenize(text), "[SEP]"])
        assert tokenizer.encode([text]) == [expected], text
    assert tokenizer.vocab_size == len(plain)
    ids, kinds = tokenizer.encode_pair(["hello"], ["the world"])
    assert tokenizer.decode(ids[0], skip_special=False) == "[CLS] hello [SEP] the world [SEP]"
    assert kinds == [[0, 0, 0, 1, 1, 1]]


@pytest.mark.parametrize("token", ["[UNK]", "[CLS]", "[SEP]"])
def test_bert_without_its_special_tokens(token: str) -> None:
    entries = bert_vocabulary()
    del entries["plain"]
    entries["tokens"][entries["tokens"].index(token)] = SPACE + "other"
    with pytest.raises(TokenizerError, match=rf"expected BERT's special tokens, \{token} missing"):
        built(**entries)


# -- beginnings and ends


@pytest.mark.parametrize(
    ("make", "default"),
    [(bpe_vocabulary, False), (lambda **m: bpe_vocabulary(pre="llama-bpe", **m), True), (pieces, True)],
    ids=["gpt-2", "llama-bpe", "llama"],
)
@pytest.mark.parametrize("bos", [None, True, False])
@pytest.mark.parametrize("eos", [None, True, False])
def test_what_is_added(make: Any, default: bool, bos: bool | None, eos: bool | None) -> None:
    flags = {"add_bos_token": bos, "add_eos_token": eos}
    entries = make(**{key: value for key, value in flags.items() if value is not None})
    tokenizer = built(**entries)
    first = [entries["bos_token_id"]] if (default if bos is None else bos) else []
    last = [entries["eos_token_id"]] if eos else []
    bare = built(**{**entries, "add_bos_token": False, "add_eos_token": False})
    for text in ("", "hello world"):
        body = bare.encode([text])[0]
        assert tokenizer.encode([text]) == [first + body + last]
    body, (ids, kinds) = bare.encode(["hello"])[0], tokenizer.encode_pair(["hello"], ["hello"])
    assert ids == [first + body + last + first + body + last]
    if first or last:  # without them nothing tells the texts apart, and nothing that adds none asks
        assert kinds == [[0] * (len(ids[0]) // 2) + [1] * (len(ids[0]) // 2)]
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (entries["bos_token_id"], (entries["eos_token_id"],))
    if first or last:
        room = len(first + last) + 1
        assert tokenizer.encode(["hello world 12"], max_tokens=room)[0][: len(first)] == first


def test_bos_and_eos_may_be_one_token() -> None:
    entries = bpe_vocabulary(bos_token_id=1, add_bos_token=True, add_eos_token=True)
    assert built(**entries).encode(["h"]) == [[1, entries["tokens"].index("h"), 1]]


@pytest.mark.parametrize("token", ["<a:b>", "$A", "$B:1", "A:0", "two words", "äö", "[CLS]", "\n"])
def test_specials_may_be_written_like_a_template(token: str) -> None:
    """The tokenizers package gives a colon and a dollar a meaning there."""
    entries = bpe_vocabulary(add_bos_token=True, add_eos_token=True)
    entries["tokens"][0] = token
    entries["tokens"][1] = token + token
    h = entries["tokens"].index("h")
    assert built(**entries).encode(["h"]) == [[0, h, 1]]


def test_the_end_of_a_turn_ends_too() -> None:
    entries = bpe_vocabulary(eot_token_id=0)
    assert built(**entries).eos_ids == (1, 0)
    assert built(**{**entries, "eot_token_id": 1}).eos_ids == (1,)
    assert built(**{**entries, "eos_token_id": None, "eom_token_id": 5}).eos_ids == (0, 5, 1)


def test_ends_are_found_by_their_text() -> None:
    """As llama.cpp finds them: a converter often names the base model's end of text only."""
    entries = bpe_vocabulary()
    assert entries["tokens"][1] == "<|end|>"
    assert built(**{**entries, "eos_token_id": None}).eos_ids == (1,)
    assert built(**{**entries, "eos_token_id": 0}).eos_ids == (0, 1)
    others = {**entries, "tokens": ["<|start|>", "<|nothing|>", *entries["tokens"][2:]], "eos_token_id": None}
    assert built(**others).eos_ids == ()


@pytest.mark.parametrize("key", ["bos_token_id", "eos_token_id", "eot_token_id"])
def test_minus_one_is_no_token(key: str) -> None:
    """Written unsigned, as some converters do."""
    entries = {**bpe_vocabulary(add_bos_token=False), key: 2**32 - 1}
    assert built(**entries).eos_ids == built(**{**entries, key: None}).eos_ids


@pytest.mark.parametrize("key", ["bos", "eos"])
def test_a_flag_without_its_token(key: str) -> None:
    entries = bpe_vocabulary(**{f"add_{key}_token": True, f"{key}_token_id": None})
    with pytest.raises(
        TokenizerError, match=f"{key}_token_id: expected a token id, as add_{key}_token is true, got none"
    ):
        built(**entries)


def test_a_family_that_adds_what_the_file_does_not_have() -> None:
    tokenizer = built(**pieces(bos_token_id=2**32 - 1))
    assert tokenizer.bos_id is None
    assert tokenizer.encode(["hello"]) == [[tokenizer.id_of(SPACE + "hello")]]


@pytest.mark.parametrize(("make", "bos", "eos"), [(pieces, 1, (2,)), (lambda **m: unigram(**m), None, (1,))])
def test_special_tokens_that_go_without_saying(make: Any, bos: int | None, eos: tuple[int, ...]) -> None:
    """As llama.cpp has them."""
    tokenizer = built(**make(**dict.fromkeys(("bos_token_id", "eos_token_id", "unknown_token_id"))))
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (bos, eos)


def test_the_beginning_stays_in_front_where_no_letter_is_known() -> None:
    """A vocabulary without "a" and without an unknown token drops the text by which the ends are found."""
    entries = {
        "model": "llama",
        "tokens": ["<s>", "</s>", "日", "本", "日本"],
        "scores": [0.0, 0.0, -2.0, -3.0, -1.0],
        "token_type": [CONTROL, CONTROL, NORMAL, NORMAL, NORMAL],
        "bos_token_id": 0,
        "eos_token_id": 1,
        "add_eos_token": True,
        "add_space_prefix": False,
    }
    assert built(**entries).encode(["日本", "本"]) == [[0, 4, 1], [0, 3, 1]]


# -- broken metadata

KINDS = {
    "gpt2": bpe_vocabulary,
    "llama": pieces,
    "t5": unigram,
    "bert": lambda **more: {k: v for k, v in bert_vocabulary(**more).items() if k != "plain"},
}


@pytest.mark.parametrize("model", [None, "plamo2", "rwkv", "no_vocab", "none", 3, ["gpt2"]])
def test_other_families_are_named(model: Any) -> None:
    error = TokenizerError if model is None else UnsupportedModelError
    message = (
        "the file has no tokenizer"
        if model is None
        else "tokenizer.ggml.model: expected one of gpt2, llama, t5, bert, got"
    )
    with pytest.raises(error, match=message):
        built(**bpe_vocabulary(model=model))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tokens", None, "tokenizer.ggml.tokens: expected a list of tokens, got none"),
        ("tokens", [], "tokenizer.ggml.tokens: expected a list of tokens, got none"),
        ("tokens", "abc", "tokenizer.ggml.tokens: expected a list of strings, got 'abc'"),
        ("tokens", [1, 2], r"tokenizer.ggml.tokens: expected a list of strings, got \[1, 2\]"),
        ("tokens", ["a", 2], "tokenizer.ggml.tokens: expected a list of strings"),
        ("token_type", 3, "tokenizer.ggml.token_type: expected a list of whole numbers, got 3"),
        ("token_type", [1.0], "tokenizer.ggml.token_type: expected a list of whole numbers"),
        ("token_type", [True], "tokenizer.ggml.token_type: expected a list of whole numbers"),
        ("token_type", [1, 1], r"tokenizer.ggml.token_type: expected \d+, one per token, got 2"),
        ("scores", ["x"], "tokenizer.ggml.scores: expected a list of numbers"),
        ("scores", [0.5], r"tokenizer.ggml.scores: expected \d+, one per token, got 1"),
        ("merges", [["a", "b"]], "tokenizer.ggml.merges: expected a list of strings"),
        ("merges", "a b", "tokenizer.ggml.merges: expected a list of strings"),
    ],
)
def test_arrays_that_do_not_fit(kind: str, key: str, value: Any, message: str) -> None:
    with pytest.raises(TokenizerError, match="m.gguf: " + message):
        built(**{**KINDS[kind](), key: value})


@pytest.mark.parametrize("kind", KINDS)
def test_duplicate_tokens(kind: str) -> None:
    entries = KINDS[kind]()
    entries["tokens"][-1] = entries["tokens"][-2]
    last = len(entries["tokens"]) - 1
    with pytest.raises(TokenizerError, match=f"tokenizer.ggml.tokens: '.*' is both {last - 1} and {last}"):
        built(**entries)


def test_tokens_that_are_the_same_once_translated() -> None:
    entries = KINDS["bert"]()
    entries["tokens"][-1] = SPACE + "##able"
    with pytest.raises(TokenizerError, match="'##able' is both"):
        built(**entries)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", ["bos_token_id", "eos_token_id", "eot_token_id"])
@pytest.mark.parametrize("value", [-1, 10**6, 2**32 - 2, 1.0, True, "x", [1]])
def test_ids_outside_the_vocabulary(kind: str, key: str, value: Any) -> None:
    with pytest.raises(TokenizerError, match=f"tokenizer.ggml.{key}: expected a token id below"):
        built(**{**KINDS[kind](), key: value})


@pytest.mark.parametrize("kind", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("key", ["add_bos_token", "add_eos_token"])
@pytest.mark.parametrize("value", [1, 0, "true", [True]])
def test_flags_that_are_none(kind: str, key: str, value: Any) -> None:
    with pytest.raises(TokenizerError, match=f"tokenizer.ggml.{key}: expected true or false, got"):
        built(**{**KINDS[kind](), key: value})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("token", ["", " ", "\0", "\ufffd", "a" * 5000, "##", SPACE, "[]", "<0x41", "$A:1"])
@pytest.mark.parametrize("type_", [0, NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE, 99])
def test_odd_tokens_build_or_are_named(kind: str, token: str, type_: int) -> None:
    entries = KINDS[kind]()
    if token not in entries["tokens"]:
        entries = with_token(entries, token, type_)
    try:
        tokenizer = built(**entries)
        for ids in encoded(tokenizer, TEXTS[:8]):
            assert max(ids, default=0) < len(entries["tokens"])
            tokenizer.decode(ids)
    except AerogelError as error:
        assert "m.gguf" in str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_it_survives_being_saved(tmp_path: Path, kind: str) -> None:
    import tokenizers

    entries = KINDS[kind]()
    tokenizer = built(**entries)
    path = tokenizer.save(tmp_path)
    again = Tokenizer(tokenizers.Tokenizer.from_file(str(path)))
    assert encoded(again) == encoded(tokenizer)


@pytest.mark.parametrize("arch", files.CONFIGS)
def test_through_a_file(tmp_path: Path, arch: str) -> None:
    """The same metadata, written and read."""
    entries = files.tokenizer_of(arch, files.CONFIGS[arch]["vocab_size"])
    checkpoint = open_checkpoint(files.write_model(tmp_path / "m.gguf", arch))
    expected = tokenizer_from_metadata(entries, tmp_path)
    assert encoded(checkpoint.tokenizer()) == encoded(expected)
    assert checkpoint.tokenizer() is checkpoint.tokenizer()
