"""The check that ends a compression, the card that tells of it, and what calibration keeps aside."""

import json
import logging
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import aerogel
from aerogel.calibrate.aside import split
from aerogel.calibrate.general import general_documents, general_texts
from aerogel.checkpoint.card import is_signed
from aerogel.cli.app import app
from aerogel.compression import Target
from aerogel.compression.check import Checker, check
from aerogel.compression.recipe import Calibration
from aerogel.compression.texts import shares
from aerogel.errors import RecipeError
from aerogel.evaluate.neighbours import overlap

from .. import tiny_models


@pytest.fixture
def texts(tmp_path):
    random = np.random.default_rng(0)
    file = tmp_path / "mine.txt"
    file.write_text("\n".join(f"{i} " + " ".join(random.choice(tiny_models.WORDS, 6)) for i in range(300)))
    return file


def test_a_tenth_is_kept_aside():
    texts = [str(i) for i in range(205)]
    fitted, aside = split(texts)
    assert aside == [str(i) for i in range(9, 205, 10)] and sorted(fitted + aside) == sorted(texts)
    fitted, aside = split(texts, running=True)
    assert fitted == texts[:185] and aside == texts[185:]
    assert split(texts[:99]) == (texts[:99], [])


@pytest.mark.parametrize("of", [general_documents, general_texts])
def test_the_mix_keeps_some_of_every_domain_aside(of):
    fitted, aside = of(), of(aside=True)
    assert list(fitted) == list(aside)
    for domain in fitted:
        assert not set(fitted[domain]) & set(aside[domain]) or of is general_texts  # a line may be in two documents
        assert 0.03 < sum(map(len, aside[domain])) / sum(map(len, fitted[domain])) < 0.3, domain


def test_embeddings_on_texts_of_every_kind(bert_folder, tmp_path, texts):
    done = aerogel.compress(bert_folder, tmp_path / "out", 0.5, calibrate=texts, check=True)
    found = done.check
    assert found.main == "cosine_mean" and [d.name for d in found.domains if d.seen] == ["mine.txt"]
    cosines = [d.figures["cosine_mean"].value for d in found.domains]
    assert cosines == sorted(cosines) and found.worst is found.domains[0]
    # by hand: the file's texts, among all others
    checker = Checker(bert_folder, Calibration(files=(str(texts),)))
    every = [text for texts in checker._sets.values() for text in texts]
    own, dense = aerogel.load(tmp_path / "out").encode(every), aerogel.load(bert_folder).encode(every)
    mine = next(d for d in found.domains if d.name == "mine.txt")
    assert mine.texts == 30 and every[:30] == split(texts.read_text().split("\n"))[1]
    assert mine.figures["cosine_mean"].value == pytest.approx((own * dense).sum(1)[:30].mean(), abs=1e-6)
    assert mine.figures["overlap10"].value == pytest.approx(overlap(own, dense)[:30].mean())
    json.dumps(done.as_dict(), allow_nan=False)
    card = (tmp_path / "out" / "README.md").read_text()
    assert re.search(r"One text of \d+ tokens on .* threads\): [\d.]+ ms, .* [\d.]+ ms\. `aerogel bench", card)
    assert "| mine.txt | yes | " in card and "`mine.txt`" in card and "cannot share a search index" in card
    itself = check(bert_folder, bert_folder)
    assert itself.shares_index is True and itself.worst.figures["cosine_mean"].value == pytest.approx(1)
    assert not any(d.seen for d in itself.domains) and not itself.warnings


def test_what_is_far_from_the_calibration_is_warned_of(bert_folder, tmp_path, texts):
    found = aerogel.compress(bert_folder, tmp_path / "out", 0.5, calibrate=texts, check=True).check
    seen = next(d for d in found.domains if d.seen)
    gap = seen.figures["cosine_mean"].value - found.worst.figures["cosine_mean"].value
    assert bool(found.warnings) == (gap > 0.05)
    if found.warnings:
        assert found.worst.name in found.warnings[0]


def test_language_models_and_classifiers(llama_folder, tmp_path):
    found = aerogel.compress(llama_folder, tmp_path / "llama", quant="int4:g32", check=True).check
    assert found.main == "perplexity / dense" and set(found.worst.figures) == {
        "perplexity / dense",
        "kl_mean",
        "same_top",
    }
    ratios = [d.figures["perplexity / dense"].value for d in found.domains]
    assert ratios == sorted(ratios, reverse=True) and found.shares_index is None
    config = {
        **tiny_models.BERT,
        "architectures": ["BertForSequenceClassification"],
        "id2label": {str(i): str(i) for i in range(3)},
    }
    folder = tiny_models.write(tmp_path / "c", config, tiny_models.bert_weights(config, 3), prefix="bert.")
    found = aerogel.compress(folder, tmp_path / "classifier", check=True).check
    assert found.main == "same_label" and all(0 <= d.figures["same_label"].value <= 1 for d in found.domains)


def test_what_cannot_be_compared_is_not(bert_folder, tmp_path, caplog):
    config = {**tiny_models.BERT, "architectures": ["BertForQuestionAnswering"]}
    weights = {k: v for k, v in tiny_models.bert_weights(config).items() if not k.startswith("pooler.")}
    width = config["hidden_size"]
    weights["qa_outputs.weight"], weights["qa_outputs.bias"] = np.ones((2, width), "f4"), np.zeros(2, "f4")
    folder = tiny_models.write(tmp_path / "qa", config, weights, prefix="bert.")
    with caplog.at_level(logging.INFO, "aerogel"):
        done = aerogel.compress(folder, tmp_path / "out", check=True)
    assert done.check is None and "not checked on other texts" in caplog.text
    assert "What it kept" not in (tmp_path / "out" / "README.md").read_text()


def test_a_drop_without_data_is_of_the_worst_kind_of_text(bert_folder, tmp_path):
    found = aerogel.compress(bert_folder, tmp_path / "out", 0.1, method="magnitude", target=Target(drop=0.2, steps=4))
    worst = check(bert_folder, tmp_path / "out").worst.figures["cosine_mean"].value
    assert found.sparsity >= 0.1 and worst >= 0.8


def test_a_card_that_somebody_changed_is_not_overwritten(bert_folder, tmp_path):
    out = tmp_path / "out"
    aerogel.compress(bert_folder, out)
    assert is_signed(out / "README.md")
    aerogel.compress(bert_folder, out, overwrite=True)
    with open(out / "README.md", "a") as file:
        file.write("my notes\n")
    assert not is_signed(out / "README.md")
    with pytest.raises(RecipeError, match=r"holds what aerogel did not write.*README\.md"):
        aerogel.compress(bert_folder, out, overwrite=True)


def test_the_command_shows_it(bert_folder, tmp_path):
    command = ["compress", str(bert_folder), "-o", str(tmp_path / "out"), "--quant", "int4:g32"]
    done = CliRunner().invoke(app, [*command, "--json", str(tmp_path / "x.json")], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "beside the source, on" in done.stderr and "encyclopedia" in done.stderr
    assert json.loads((tmp_path / "x.json").read_text())["check"]["main"] == "cosine_mean"
    done = CliRunner().invoke(app, [*command, "--no-check", "--overwrite"], env={"COLUMNS": "200"})
    assert done.exit_code == 0 and "beside the source" not in done.stderr


def test_shares_of_the_calibration_say_what_was_seen():
    assert shares(Calibration()) == {} and "general" in shares(Calibration(files=("general",)))
