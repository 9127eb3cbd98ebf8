"""Language models that score pairs by the logits of "yes" and "no", against sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aerogel
from aerogel.checkpoint.rerank import FORMS

from ..architectures import decoders
from . import rerankers
from .rerankers import CHAT, DOCUMENTS, INSTRUCTION, QUERY, TEMPLATE

sentence_transformers = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")

CLASSIFIER = "SequenceClassification"
PAIRS = [(QUERY, document) for document in DOCUMENTS]


def peer(folder: Path, **options: Any) -> Any:
    return sentence_transformers.CrossEncoder(str(folder), device="cpu", **options)


@pytest.mark.parametrize(
    ("settings", "false", "arguments", "activation"),
    [
        ({}, True, None, "Identity"),
        ({}, False, {"add_generation_prompt": True}, None),
        ({"tie_word_embeddings": False}, True, None, None),
    ],
    ids=["tied", "one token, with arguments", "untied"],
)
def test_a_folder_of_sentence_transformers(
    tmp_path: Path, settings: dict[str, Any], false: bool, arguments: dict[str, Any] | None, activation: str | None
) -> None:
    vocab = rerankers.language_model(tmp_path / "m", **settings)
    rerankers.modules(tmp_path / "m", vocab, false, arguments=arguments, activation=activation)
    ours, theirs = aerogel.CrossEncoder(tmp_path / "m"), peer(tmp_path / "m")
    expected = theirs.predict(PAIRS)  # the last document is cut: what the template ends with stays
    assert np.ptp(expected) > 1e-2
    np.testing.assert_allclose(ours.predict(PAIRS), expected, atol=1e-4)
    for options in ({"prompt_name": "tone"}, {"prompt": "Is it one?"}, {"prompt": INSTRUCTION, "batch_size": 2}):
        changed = theirs.predict(PAIRS, **options)
        np.testing.assert_allclose(ours.predict(PAIRS, **options), changed, atol=1e-4)
        assert abs(changed - expected).max() > 1e-3
    ranked = ours.rank(QUERY, DOCUMENTS, top_k=3, return_documents=True)
    for got, wanted in zip(ranked, theirs.rank(QUERY, DOCUMENTS, top_k=3, return_documents=True), strict=True):
        assert (got["corpus_id"], got["text"]) == (wanted["corpus_id"], wanted["text"])
        assert got["score"] == pytest.approx(wanted["score"], abs=1e-4)
    assert ours.num_labels == theirs.num_labels == 1
    ours.max_seq_length = theirs.max_seq_length = 90
    np.testing.assert_allclose(ours.predict(PAIRS), theirs.predict(PAIRS), atol=1e-4)


def test_structured_messages_and_pairs_without_a_template(tmp_path: Path) -> None:
    parts = TEMPLATE.replace('map(attribute="content") | first }}', 'map(attribute="content") | first | first).text }}')
    parts = parts.replace("{{ messages |", "{{ (messages |").replace("set asked = messages", "set asked = (messages")
    parts = parts.replace("| first | default", "| first | default([{'text': 'x'}]) | first).text | default")
    vocab = rerankers.language_model(tmp_path / "m", parts)
    rerankers.modules(tmp_path / "m", vocab, message="structured")
    np.testing.assert_allclose(
        aerogel.load(tmp_path / "m").predict(PAIRS, prompt="why"),
        peer(tmp_path / "m").predict(PAIRS, prompt="why"),
        atol=1e-4,
    )
    vocab = rerankers.language_model(tmp_path / "plain")
    rerankers.modules(tmp_path / "plain", vocab, message=None)
    np.testing.assert_allclose(
        aerogel.load(tmp_path / "plain").predict(PAIRS, prompt="why "),
        peer(tmp_path / "plain").predict(PAIRS, prompt="why "),
        atol=1e-4,
    )


def test_a_bare_folder(tmp_path: Path) -> None:
    """CrossEncoder asks a language model by its own template; elsewhere that is a word of the caller's."""
    rerankers.language_model(tmp_path / "m")
    expected = peer(tmp_path / "m").predict(PAIRS)
    np.testing.assert_allclose(aerogel.CrossEncoder(tmp_path / "m").predict(PAIRS), expected, atol=1e-4)
    np.testing.assert_allclose(aerogel.load(tmp_path / "m", rerank="model").predict(PAIRS), expected, atol=1e-4)
    assert "logits" in aerogel.load(tmp_path / "m").outputs
    (tmp_path / "t.jinja").write_text(TEMPLATE)
    (tmp_path / "m" / "chat_template.jinja").write_text(CHAT)
    with pytest.raises(ValueError, match="cannot carry"):
        peer(tmp_path / "m").predict(PAIRS)
    with pytest.raises(aerogel.ChatTemplateError, match="rerank='qwen3-reranker'"):
        aerogel.CrossEncoder(tmp_path / "m")
    np.testing.assert_allclose(
        aerogel.load(tmp_path / "m", rerank=str(tmp_path / "t.jinja")).predict(PAIRS), expected, atol=1e-4
    )
    with pytest.raises(aerogel.ChatTemplateError, match="got 'qwen'"):
        aerogel.load(tmp_path / "m", rerank="qwen")
    with pytest.raises(aerogel.UnsupportedModelError, match=r"gives logits, hidden; load\(rerank=\)"):
        aerogel.load(tmp_path / "m").predict(PAIRS)
    long = "{document} {query}" + "." * 300  # longer than a file's name may be
    assert aerogel.load(tmp_path / "m", rerank=long).predict(PAIRS).shape == (len(PAIRS),)


@pytest.mark.parametrize("false", [True, False])
def test_the_known_forms(tmp_path: Path, false: bool) -> None:
    """The probability of "yes" beside "no", of the text that Qwen3-Reranker's page writes."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    vocab = rerankers.language_model(tmp_path / "m", CHAT, max_position_embeddings=700)
    (tmp_path / "m" / "tokenizer_config.json").write_text(json.dumps({"eos_token": rerankers.SPECIAL[2]}))
    net = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    form = FORMS["qwen3-reranker"]
    name = "qwen3-reranker" if false else form.text.replace("{instruction}", "{document}{query}")
    model = aerogel.load(tmp_path / "m", rerank=name)
    for query, document in PAIRS[:3]:
        text = form.text.format(
            instruction=form.instruction if false else document + query, query=query, document=document
        )
        with torch.no_grad():
            last = net(**tokenizer(text, return_tensors="pt", add_special_tokens=False)).logits[0, -1]
        expected = torch.softmax(last[[vocab["no"], vocab["yes"]]], 0)[1]
        assert model.predict((query, document)) == pytest.approx(float(expected), abs=1e-5)


def test_the_form_of_bge_reranker_gemma(tmp_path: Path) -> None:
    """The logit of "Yes" behind the tokens that its authors put together piece by piece."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    rerankers.language_model(tmp_path, None, "gemma", max_position_embeddings=700)
    vocab = rerankers.tokenizer(tmp_path, None, ["<pad>", "<bos>", "<eos>"])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    net = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    model = aerogel.load(tmp_path, rerank="bge-reranker-gemma")
    asked = FORMS["bge-reranker-gemma"].instruction
    for query, document in PAIRS[:3]:
        pieces = [f"A: {query}", "\n", f"B: {document}", "\n", asked]
        ids = [
            model.tokenizer.id_of("<bos>"),
            *(i for row in model.tokenizer.encode(pieces, special=False) for i in row),
        ]
        with torch.no_grad():
            expected = net(torch.tensor([ids])).logits[0, -1, vocab["Yes"]]
        assert float(model.scores(query, document)[0]) == pytest.approx(float(expected), abs=1e-4)


def test_packed_and_exported(tmp_path: Path) -> None:
    """A packed reranker needs no word any more, and the exported folder is one of sentence-transformers'."""
    vocab = rerankers.language_model(tmp_path / "m")
    rerankers.modules(tmp_path / "m", vocab, arguments={"add_generation_prompt": True}, activation=None)
    expected = peer(tmp_path / "m").predict(PAIRS, prompt="why")
    (tmp_path / "t.txt").write_text("\n".join(f"a query {i}\na document about {i * i}" for i in range(40)))
    packs: dict[str, dict[str, Any]] = {"none": {"quant": "none"}, "int8": {"quant": "int8"}}
    packs["sparse"] = {"sparsity": 0.8, "quant": "none", "calibrate": tmp_path / "t.txt"}
    for name, options in packs.items():
        aerogel.compress(tmp_path / "m", tmp_path / name, **options)
        got = aerogel.load(tmp_path / name).predict(PAIRS, prompt="why")
        aerogel.export(tmp_path / name, tmp_path / f"{name}-plain")
        np.testing.assert_allclose(
            peer(tmp_path / f"{name}-plain").predict(PAIRS, prompt="why"), got, atol=1e-4 if name != "int8" else 0.03
        )
        if name != "sparse":
            np.testing.assert_allclose(got, expected, atol=1e-5 if name == "none" else 0.03)
    aerogel.export(tmp_path / "m", tmp_path / "again")
    np.testing.assert_allclose(peer(tmp_path / "again").predict(PAIRS, prompt="why"), expected, atol=1e-4)
    np.testing.assert_allclose(aerogel.load(tmp_path / "again").predict(PAIRS, prompt="why"), expected, atol=1e-4)


def test_a_bare_folder_packed_with_a_known_form(tmp_path: Path) -> None:
    rerankers.language_model(tmp_path / "m", CHAT, max_position_embeddings=700)
    path = tmp_path / "m" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 700}))
    expected = aerogel.load(tmp_path / "m", rerank="qwen3-reranker").predict(PAIRS)
    aerogel.compress(tmp_path / "m", tmp_path / "p", quant="none", rerank="qwen3-reranker")
    assert np.ptp(expected) > 1e-3
    np.testing.assert_allclose(aerogel.load(tmp_path / "p").predict(PAIRS), expected, atol=1e-5)
    aerogel.export(tmp_path / "m", tmp_path / "e", rerank="qwen3-reranker")
    np.testing.assert_allclose(peer(tmp_path / "e").predict(PAIRS), expected, atol=1e-4)


def test_what_the_files_say_is_refused_where_it_cannot_be(tmp_path: Path) -> None:
    vocab = rerankers.language_model(tmp_path / "m", CHAT)
    rerankers.modules(tmp_path / "m", vocab)
    with pytest.raises(aerogel.ChatTemplateError, match="roles query and document"):
        aerogel.load(tmp_path / "m").predict(PAIRS)
    path = tmp_path / "m" / "1_LogitScore" / "config.json"
    path.write_text(json.dumps({"true_token_id": 999}))
    with pytest.raises(aerogel.UnsupportedModelError, match="tokens below 266"):
        aerogel.load(tmp_path / "m")
    path.write_text(json.dumps({"true_token_id": None}))
    with pytest.raises(aerogel.ConfigError, match="true_token_id"):
        aerogel.load(tmp_path / "m")


def test_a_classifier_whose_template_writes_pairs(tmp_path: Path) -> None:
    """As CrossEncoder takes a lone folder. Where the template is one for chats it refuses; here texts are put end to end."""
    decoders.made(
        tmp_path / "m", "qwen3", {"vocab_size": 266, "head_dim": 16, "num_labels": 1, "pad_token_id": 261}, CLASSIFIER
    )
    rerankers.tokenizer(tmp_path / "m", TEMPLATE)
    theirs = peer(tmp_path / "m", max_length=64).predict(PAIRS)
    ours = aerogel.CrossEncoder(tmp_path / "m", max_length=64)
    np.testing.assert_allclose(ours.predict(PAIRS), theirs, atol=1e-4)
    (tmp_path / "m" / "chat_template.jinja").write_text(CHAT)
    plain = aerogel.load(tmp_path / "m")
    ids = plain.tokenizer.encode([QUERY + DOCUMENTS[0]], special=False)[0]
    np.testing.assert_allclose(plain.scores(QUERY, DOCUMENTS[0]), plain.forward(ids, output="scores")[0], atol=1e-5)
