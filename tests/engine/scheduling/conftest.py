"""Tiny models of every kind that is served."""

from __future__ import annotations

import pytest

import aerogel

from ... import tiny_models


@pytest.fixture(scope="package")
def bert(bert_folder):
    return aerogel.load(bert_folder, threads=1, quant="int8")


@pytest.fixture(scope="package")
def llama(tmp_path_factory):
    return aerogel.load(tiny_models.byte_llama(tmp_path_factory.mktemp("served") / "llama"), threads=1, quant="int8")


@pytest.fixture(scope="package")
def headed(tmp_path_factory):
    """Loads a model with a head, of so many labels where it has any."""

    def load(head, labels=1):
        config = {**tiny_models.BERT, "architectures": [head]}
        if head == "BertForSequenceClassification":
            config["id2label"] = {str(i): f"label {i}" for i in range(labels)}
        folder = tmp_path_factory.mktemp("headed") / f"{head}{labels}"
        tiny_models.write(folder, config, tiny_models.bert_weights(config), prefix="bert.")
        return aerogel.load(folder, threads=1, quant="int8")

    return load
