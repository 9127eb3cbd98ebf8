"""A tiny embedding model with prompts, and a tiny reranker."""

import json
import shutil

from .. import tiny_models


def write_embedder(bert_folder, folder):
    shutil.copytree(bert_folder, folder)
    said = {"prompts": {"query": "the ", "document": "a "}, "default_prompt_name": None}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said))
    return str(folder)


def write_reranker(folder):
    config = {**tiny_models.BERT, "architectures": ["BertForSequenceClassification"], "id2label": {"0": "score"}}
    return str(tiny_models.write(folder, config, tiny_models.bert_weights(config), prefix="bert."))


TEXTS = ["the cat sat on the mat", "a big dog", "red and blue", "not"]
