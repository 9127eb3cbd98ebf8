"""One application over tiny models of every kind."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from .. import tiny_models

TEMPLATE = (
    "{% for m in messages %}{{ m.role }} {{ m.content }} {% for c in m.tool_calls or [] %}{{ c.function.arguments.x }}"
    "{% endfor %}{% endfor %}{% if tools %}<tool_call> {{ tools | tojson }}{% endif %}"
    "{% if add_generation_prompt %}a{% endif %}"
)
NAMES = ("embedder", "reranker", "classifier", "terms", "writer")


@pytest.fixture(scope="session")
def folders(tmp_path_factory, bert_folder):
    """The folder of each kind of model."""
    pytest.importorskip("starlette")
    pytest.importorskip("msgspec")
    root = tmp_path_factory.mktemp("served")
    shutil.copytree(bert_folder, root / "embedder")
    said = {"prompts": {"query": "the "}, "default_prompt_name": None}
    (root / "embedder" / "config_sentence_transformers.json").write_text(json.dumps(said))
    for name, head, labels in (
        ("reranker", "BertForSequenceClassification", ["score"]),
        ("classifier", "BertForSequenceClassification", ["good", "bad", "neither"]),
        ("terms", "BertForMaskedLM", []),
    ):
        config = {**tiny_models.BERT, "architectures": [head], "id2label": {str(i): x for i, x in enumerate(labels)}}
        tiny_models.write(root / name, config, tiny_models.bert_weights(config), prefix="bert.")
    tiny_models.byte_llama(root / "writer")
    (root / "writer" / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    return {name: str(root / name) for name in NAMES}


@pytest.fixture(scope="session")
def entries(folders):
    from aerogel.serve.catalog import entry_of

    return [entry_of(name, folders[name]) for name in NAMES]


@pytest.fixture(scope="session")
def loaded(folders):
    import aerogel

    return {name: aerogel.load(path, threads=1) for name, path in folders.items()}


@pytest.fixture(scope="session")
def make(entries, loaded):
    """Makes applications: of some of the models, with options of the server and of the scheduler."""
    from aerogel.engine.scheduling import SchedulerOptions
    from aerogel.serve.app import create_app
    from aerogel.serve.options import ServeOptions
    from aerogel.serve.service import Service

    services = []

    def make(names=NAMES, scheduling=None, **options):
        some = [replace(entry) for entry in entries if entry.name in names]
        service = Service(
            some,
            {one.name: loaded[one.name] for one in some},
            ServeOptions(**options),
            scheduling or SchedulerOptions(),
        )
        services.append(service)
        app = create_app(service)
        app.service = service
        return app

    yield make
    for service in services:
        service.scheduler.close()


@pytest.fixture(scope="session")
def app(make):
    return make(max_new_tokens=64, max_client_batch=8, payload_limit=20_000)
