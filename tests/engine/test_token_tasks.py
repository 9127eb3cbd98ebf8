"""Spans of texts and answers out of contexts, as Transformers' pipelines find them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.errors import DataError, TokenizerError, UnsupportedModelError

from ..architectures import peers
from ..checkpoint import test_tokenizer_bpe

NAMES = ["O", "B-PER", "I-PER", "B-LOC", "LOC-X"]
LABELS = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
TEXTS = [
    "the cat sat on the mat, and abc ran",
    "a Big dog; not small. ran under xyz under the tree 7 ü and b",
    "the",
    "",
    " cat  dog cat cat dog " * 3,
]
CONTEXT = "the big cat sat on a red mat and the small dog ran under the blue tree . " * 5


def files(folder: Path, kind: str = "wordpiece") -> Any:
    """The tokenizer, as Transformers has it too."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    if kind == "wordpiece":
        peers.tokenizer(folder)
    else:
        peers.unigram(folder)
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        **special,
        model_max_length=40,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    fast.save_pretrained(folder)
    return fast


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_spans_are_those_of_the_pipeline(tmp_path: Path, kind: str) -> None:
    net = peers.save(tmp_path, "BertForTokenClassification", **peers.SIZES, **LABELS)
    tokenizer = files(tmp_path, kind)
    import transformers

    model = aerogel.load(tmp_path)
    assert model.labels == NAMES
    for aggregation in ("none", "simple", "first", "average", "max"):
        pipeline = transformers.pipeline(
            "token-classification", model=net, tokenizer=tokenizer, aggregation_strategy=aggregation, device="cpu"
        )
        found = model.classify_tokens(TEXTS, aggregation)
        assert sum(map(len, found)) > 8
        for text, spans in zip(TEXTS, found, strict=True):
            expected = pipeline(text) if text else []
            assert [(s.label, s.start, s.end) for s in spans] == [
                (e.get("entity_group", e.get("entity")), e["start"], e["end"]) for e in expected
            ]
            np.testing.assert_allclose([s.score for s in spans], [e["score"] for e in expected], atol=1e-5)
            assert all(s.text == text[s.start : s.end] for s in spans)
        assert model.classify_tokens(TEXTS[0], aggregation) == found[0]


def test_tokens_of_bytes(tmp_path: Path) -> None:
    """RoBERTa's: a token begins with the space before it, which its characters leave out."""
    config = {**peers.SIZES, "vocab_size": 300, "type_vocab_size": 1}
    net = peers.save(tmp_path, "RobertaForTokenClassification", **config, **LABELS)
    import transformers

    test_tokenizer_bpe.files(tmp_path)
    tokenizer = transformers.RobertaTokenizer.from_pretrained(tmp_path, model_max_length=36)
    model = aerogel.load(tmp_path)
    for aggregation in ("none", "simple"):
        pipeline = transformers.pipeline(
            "token-classification", model=net, tokenizer=tokenizer, aggregation_strategy=aggregation, device="cpu"
        )
        for text in ("hello we  hello", "hé 12hello", " hello"):
            expected = [(e["start"], e["end"], pytest.approx(e["score"], abs=1e-5)) for e in pipeline(text)]
            assert [(s.start, s.end, s.score) for s in model.classify_tokens(text, aggregation)] == expected


def expected_answer(net: Any, tokenizer: Any, question: str, longest: int, impossible: bool) -> dict[str, Any]:
    """What the pipeline of Transformers 4 returned, by its description: every span of every window is looked at."""
    import torch

    windows = tokenizer(
        question,
        CONTEXT,
        truncation="only_second",
        max_length=40,
        stride=20,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    found: dict[str, dict[str, Any]] = {}
    nothing = 1.0
    for i, ids in enumerate(windows["input_ids"]):
        encoding = windows.encodings[i]
        with torch.no_grad():
            types = {"token_type_ids": torch.tensor([encoding.type_ids])} if net.config.type_vocab_size > 1 else {}
            result = net(torch.tensor([ids]), **types)
        context = [n for n, source in enumerate(encoding.sequence_ids) if source == 1]
        starts, ends = (
            np.exp(np.float64(logits[0].numpy()))[[0, *context]] for logits in (result.start_logits, result.end_logits)
        )
        starts, ends = starts / starts.sum(), ends / ends.sum()
        nothing = min(nothing, starts[0] * ends[0])
        score, a, b = max(
            (starts[1 + a] * ends[1 + b], a, b)
            for a in range(len(context))
            for b in range(a, min(len(context), a + longest))
        )
        first, last = (
            encoding.word_to_chars(encoding.token_to_word(context[n]), sequence_index=1)[side]
            for n, side in ((a, 0), (b, 1))
        )
        text = CONTEXT[first:last]
        if text.lower() in found:
            found[text.lower()]["score"] += score
        else:
            found[text.lower()] = {"answer": text, "score": score, "start": first, "end": last}
    answers = [*found.values(), *([{"answer": "", "score": nothing, "start": 0, "end": 0}] if impossible else [])]
    return max(answers, key=lambda one: one["score"])


@pytest.mark.parametrize(
    ("family", "longest", "impossible"),
    [("Bert", 15, False), ("Bert", 1, False), ("Bert", 4, True), ("XLMRoberta", 15, True), ("Electra", 15, False)],
)
def test_the_best_answer_of_overlapping_windows(tmp_path: Path, family: str, longest: int, impossible: bool) -> None:
    own = {"Electra": {"embedding_size": 24}, "XLMRoberta": {"type_vocab_size": 1, "pad_token_id": 0}}.get(family, {})
    net = peers.save(tmp_path, family + "ForQuestionAnswering", **{**peers.SIZES, "max_position_embeddings": 42, **own})
    tokenizer = files(tmp_path)
    model = aerogel.load(tmp_path)
    for question in ("the cat", "a dog ran under the red tree", "b"):
        expected = expected_answer(net, tokenizer, question, longest, impossible)
        got = model.answer(question, CONTEXT, longest, impossible)
        assert (got.text, got.start, got.end) == (expected["answer"], expected["start"], expected["end"])
        assert got.score == pytest.approx(expected["score"], abs=1e-5)
    assert model.answer("cat", "", impossible=True) == aerogel.engine.token_tasks.Answer("", 1.0, 0, 0)
    with pytest.raises(TokenizerError, match="max_tokens"):
        model.answer("cat " * 60, CONTEXT)


def test_other_models_are_refused(bert_folder: Path) -> None:
    model = aerogel.load(bert_folder)
    with pytest.raises(UnsupportedModelError, match="not a classifier of tokens"):
        model.classify_tokens("the cat")
    with pytest.raises(UnsupportedModelError, match="not a model for question answering"):
        model.answer("the cat", "the dog")
    with pytest.raises((DataError, UnsupportedModelError)):
        model.answer(3, "the dog")
