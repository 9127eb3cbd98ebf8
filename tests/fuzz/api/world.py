"""What the fuzzed calls work on: tiny models, files, and paths that are not what they seem."""

from __future__ import annotations

import os
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

import aerogel

from ... import tiny_models
from ...checkpoint.gguf import files as gguf_files

TEXTS = ["the cat sat on the mat", "a dog ran", "", "big red tree and small blue mat " * 4]


class World:
    """A folder of models and files. Calls write into `out()`, which is empty each time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scratch = root / "scratch"
        self._outputs = 0
        for folder in (self.scratch / "folder", root / "cache", root / "here", root / "out"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.scratch / "empty").write_bytes(b"")
        (self.scratch / "noise.bin").write_bytes(bytes(range(256)) * 8)
        (self.scratch / "locked").write_bytes(b"x")
        (self.scratch / "locked").chmod(0)
        os.mkfifo(self.scratch / "fifo")
        self._texts()
        self._models()
        os.chdir(root / "here")  # a relative path that is written lands here

    def _texts(self) -> None:
        root = self.root
        (root / "many.txt").write_text("\n".join(f"the cat sat {i}" for i in range(24)))
        (root / "texts.txt").write_text("\n".join([*TEXTS, "not a cat"] * 8))
        (root / "sts.csv").write_text("the cat,a dog,1\nbig mat,small mat,3\nred tree,tree,5\nthe,a,2\n")
        (root / "labels.csv").write_text("the cat,0\na dog,1\nbig mat,0\nred tree,1\n")
        (root / "corpus.jsonl").write_text(
            '{"_id": "1", "title": "", "text": "the cat"}\n{"_id": "2", "text": "a dog"}\n'
        )
        (root / "queries.jsonl").write_text('{"_id": "q", "text": "cat"}\n{"_id": "r", "text": "dog"}\n')
        (root / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\t1\t1\nr\t2\t1\n")
        (root / "recipe.yaml").write_text("prune: {sparsity: 0.5}\nquantize: {weights: int8}\n")

    def _models(self) -> None:
        bert, llama = dict(tiny_models.BERT, hidden_size=16, intermediate_size=32), dict(tiny_models.LLAMA)
        self.bert = tiny_models.write(self.root / "bert", bert, tiny_models.bert_weights(bert), pooling=("mean", True))
        labels = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}
        config = {**bert, **labels}
        self.classifier = tiny_models.write(self.root / "classifier", config, tiny_models.bert_weights(config))
        llama.update(hidden_size=16, intermediate_size=24, num_attention_heads=2, num_key_value_heads=1)
        self.llama = tiny_models.write(self.root / "llama", llama, tiny_models.llama_weights(llama), prefix="model.")
        small = {"hidden_size": 8, "intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2}
        more = {"num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 8, "vocab_size": 9}
        self.gguf = gguf_files.write_model(
            self.root / "m.gguf", "llama", {**gguf_files.CONFIGS["llama"], **small, **more}
        )
        self.packed = self.root / "packed"
        aerogel.compress(self.bert, self.packed, sparsity=0.5, method="magnitude")

    @cached_property
    def encoder(self) -> aerogel.Model:
        return aerogel.load(self.bert, threads=1)

    @cached_property
    def scorer(self) -> aerogel.Model:
        return aerogel.load(self.classifier, threads=1)

    @cached_property
    def generator(self) -> aerogel.Model:
        return aerogel.load(self.llama, threads=1)

    @cached_property
    def weight(self) -> np.ndarray:
        return np.random.default_rng(0).standard_normal((16, 64)).astype(np.float32)

    @cached_property
    def statistics(self) -> Any:
        from aerogel.calibrate import Statistics

        return Statistics.of(np.random.default_rng(1).standard_normal((80, 64)).astype(np.float32))

    @cached_property
    def checkpoint(self) -> Any:
        from aerogel.checkpoint import open_checkpoint

        return open_checkpoint(self.bert)

    def out(self) -> Path:
        """A place for what a call writes, which is not there yet."""
        shutil.rmtree(self.root / "out", ignore_errors=True)
        (self.root / "out").mkdir()
        return self.root / "out" / "model"
