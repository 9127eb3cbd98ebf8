"""Every public call with arguments that are right, for `run` to replace some of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import aerogel
from aerogel import budget, calibrate, evaluate, prune, quantize, report, structure, sweeps
from aerogel.calibrate import Moments, Statistics
from aerogel.checkpoint import open_checkpoint
from aerogel.compression.recipe import Calibration, Fold, Prune, Quantize

from .world import TEXTS, World

MESSAGES = [{"role": "system", "content": "a dog"}, {"role": "user", "content": "the cat"}]
TEMPLATE = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}{{ tools }}{{ documents }}{{ x }}"


@dataclass(frozen=True)
class Call:
    """A function, arguments that it takes gladly, and those of which large numbers ask for nothing but long work."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    slow: tuple[str, ...] = ()
    weight: int = 4


def _drained(tokens: Any) -> list[Any]:
    return list(tokens)


def _model_calls(w: World) -> dict[str, Call]:
    e, s, g = w.encoder, w.scorer, w.generator
    sampling = {"max_new_tokens": 3, "temperature": 0.7, "top_k": 3, "top_p": 0.9, "seed": 1}
    ids = [[5, 6, 7], [8, 9]]
    tokenizer = e.tokenizer
    return {
        "Model.encode": Call(
            e.encode,
            {"texts": TEXTS, "batch_tokens": 16, "normalize": True, "prompt": None, "prompt_name": None},
            weight=8,
        ),
        "Model.encode words": Call(
            e.encode,
            {
                "texts": TEXTS,
                "batch_size": 2,
                "truncate_dim": 3,
                "precision": "ubinary",
                "normalize_embeddings": True,
                "convert_to_tensor": False,
                "show_progress_bar": False,
            },
        ),
        "Model.encode_query": Call(e.encode_query, {"texts": TEXTS, "prompt": "a ", "normalize": True}, weight=1),
        "Model.token_embeddings": Call(e.token_embeddings, {"texts": TEXTS, "prompt": None, "batch_size": 1}, weight=2),
        "Model.similarity": Call(e.similarity, {"embeddings1": w.weight, "embeddings2": w.weight[:3]}, weight=2),
        "Model.similarity_pairwise": Call(
            e.similarity_pairwise, {"embeddings1": w.weight, "embeddings2": w.weight}, weight=2
        ),
        "Model.predict": Call(
            s.predict,
            {
                "pairs": [("the cat", "a dog"), ("not", "")],
                "activation_fn": "sigmoid",
                "apply_softmax": True,
                "prompt": None,
                "batch_size": 1,
            },
        ),
        "SentenceTransformer": Call(
            aerogel.SentenceTransformer,
            {
                "model_name_or_path": w.bert,
                "device": "cpu",
                "prompts": {"query": "a "},
                "similarity_fn_name": "dot",
                "truncate_dim": 3,
            },
            weight=2,
        ),
        "SentenceTransformer.encode": Call(
            aerogel.SentenceTransformer(w.bert).encode,
            {"inputs": TEXTS, "prompt": None, "batch_size": 2, "output_value": "sentence_embedding", "device": None},
        ),
        "CrossEncoder.predict": Call(
            aerogel.CrossEncoder(w.classifier).predict, {"inputs": [("a", "b")], "prompt": None, "batch_size": 2}
        ),
        "Model.scores": Call(s.scores, {"texts": TEXTS, "pairs": TEXTS, "batch_tokens": 16}, weight=8),
        "Model.forward": Call(
            e.forward, {"token_ids": [5, 6, 7], "offsets": [0, 1, 3], "output": "hidden", "last_only": False}, weight=8
        ),
        "Model.forward lists": Call(g.forward, {"token_ids": ids, "output": "logits", "last_only": True}),
        "Model.profile": Call(e.profile, {"token_ids": ids, "offsets": None, "output": "embedding"}),
        "Model.generate": Call(g.generate, {"text": "the cat", "stream": False, **sampling}, weight=8),
        "Model.generate_tokens": Call(
            lambda **a: _drained(g.generate_tokens(**a)), {"token_ids": [3, 4], "stop": [2], **sampling}
        ),
        "Model.complete": Call(
            g.complete,
            {
                "text": ["the cat", [3, 4]],
                "chat": False,
                "max_new_tokens": 3,
                "min_p": 0.1,
                "typical_p": 0.9,
                "repetition_penalty": 1.1,
                "presence_penalty": 0.1,
                "frequency_penalty": 0.1,
                "logit_bias": {3: 1.0},
                "stop": [["a"], ["b"]],
                "stop_ids": [2],
                "seed": [1, 2],
                "logprobs": 2,
                "lookup": 3,
                "regex": None,
                "draft": g,
            },
            weight=8,
        ),
        "Model.stream": Call(
            lambda **a: _drained(g.stream(**a)), {"text": "the cat", "chat": False, "max_new_tokens": 3}
        ),
        "Model.chat": Call(g.chat, {"messages": MESSAGES, "template": TEMPLATE, "max_new_tokens": 3, "stream": False}),
        "Model.chat_text": Call(
            g.chat_text,
            {
                "messages": MESSAGES,
                "tools": [{"name": "f"}],
                "documents": [{"title": "t", "text": "x"}],
                "template": TEMPLATE,
                "template_arguments": {"x": 1},
                "continue_final_message": False,
                "add_generation_prompt": True,
            },
        ),
        "Model.conversation": Call(
            lambda message, **a: g.conversation(**a).say(message),
            {"message": "the cat", "system": "a dog", "template": TEMPLATE, "max_new_tokens": 3},
        ),
        "Model.packed_weight": Call(e.packed_weight, {"name": "layers.0.ffn.up"}, weight=1),
        "Model.describe": Call(e.describe, {}, weight=1),
        "Tokenizer.encode": Call(tokenizer.encode, {"texts": TEXTS, "max_tokens": 8}),
        "Tokenizer.encode_pair": Call(tokenizer.encode_pair, {"first": TEXTS, "second": TEXTS, "max_tokens": 8}),
        "Tokenizer.decode": Call(tokenizer.decode, {"ids": [5, 6, 7], "skip_special": True}),
        "Tokenizer.stream": Call(
            lambda skip_special, token: tokenizer.stream(skip_special).push(token), {"skip_special": True, "token": 5}
        ),
        "Tokenizer.id_of": Call(tokenizer.id_of, {"token": "cat"}, weight=1),
        "Tokenizer.save": Call(tokenizer.save, {"folder": w.root / "here"}, weight=1),
        "load": Call(
            aerogel.load, {"path": w.bert, "threads": 1, "format": "auto", "memory": None, "pooling": "cls"}, weight=8
        ),
        "load packed": Call(aerogel.load, {"path": w.packed, "threads": 1, "memory": 1.0, "attention": "int16"}),
        "load gguf": Call(
            aerogel.load, {"path": w.gguf, "threads": 1, "quant": "int4:g32", "kv_cache": "int8", "rerank": None}
        ),
        "open_checkpoint": Call(open_checkpoint, {"path_or_id": w.bert}),
        "explain": Call(
            aerogel.explain,
            {"folder": w.packed, "batch": 1, "tokens": 4, "threads": 1, "memory": None},
            ("batch", "tokens"),
            1,
        ),
        "isa": Call(aerogel.isa, {}, weight=1),
        "kernels": Call(aerogel.kernels, {}, weight=1),
    }


def _layer_calls(w: World) -> dict[str, Call]:
    x = w.weight
    csr = (np.array([0, 1, 2]), np.array([0, 1]), np.array([1.0, 2.0], np.float32))
    linear = aerogel.Linear(x, threads=1)
    return {
        "Linear": Call(
            aerogel.Linear,
            {"weight": x, "bias": np.zeros(16, np.float32), "quant": "int8", "format": "dense", "threads": 1},
            weight=6,
        ),
        "Linear.__call__": Call(linear, {"x": x}),
        "csr_matmul": Call(aerogel.csr_matmul, {"csr": csr, "x": x[:4, :5], "threads": 1}),
    }


def _recipe_calls(w: World) -> dict[str, Call]:
    plain = aerogel.Recipe().as_dict()
    prunes = {
        "method": "magnitude",
        "sparsity": 0.5,
        "pattern": "unstructured",
        "budget": "uniform",
        "threshold": None,
        "steps": 1,
        "correct": True,
        "layers": {"x": 0.5},
    }
    quantizes = {
        "weights": "int8",
        "head": "int8",
        "embeddings": "int8",
        "rounding": "nearest",
        "activations": "dynamic",
    }
    structures = {
        "ffn": 0.5,
        "heads": [0.5, 1],
        "queries": None,
        "hidden": 0.5,
        "layers": [0, 1],
        "score": "contribution",
        "scope": "layer",
        "compensate": True,
        "damping": 0.01,
        "multiple": 8,
    }
    return {
        "Recipe.of": Call(lambda values: aerogel.Recipe.of(values).as_yaml(), {"values": plain}),
        "Recipe.of parts": Call(
            lambda **parts: aerogel.Recipe.of(parts),
            {
                "prune": prunes,
                "quantize": quantizes,
                "structure": structures,
                "calibration": {"files": ["x"], "total": 3, "samples": 1, "tokens": 2},
                "fold": {"alpha": 0.5},
                "pack": "small",
                "seed": 3,
                "version": 1,
            },
        ),
        "Recipe": Call(
            aerogel.Recipe,
            {
                "prune": Prune(),
                "quantize": Quantize(),
                "calibration": Calibration(),
                "structure": None,
                "fold": Fold(),
                "pack": "plain",
                "seed": 0,
                "version": 1,
            },
        ),
        "Recipe.read": Call(aerogel.Recipe.read, {"path": w.root / "recipe.yaml"}),
        "Prune": Call(Prune, prunes),
        "Quantize": Call(Quantize, quantizes),
        "Fold": Call(Fold, {"alpha": 0.5}, weight=1),
        "Calibration": Call(Calibration, {"files": ("x",), "total": 8, "samples": 2, "tokens": 4}),
        "StructureRecipe": Call(structure.StructureRecipe, structures),
        "StructureRecipe.of": Call(structure.StructureRecipe.of, {"values": structures}),
        "Target": Call(
            aerogel.Target, {"size": None, "latency": 1.5, "drop": None, "tokens": 8, "score": None, "steps": 2}
        ),
        "parse_grid": Call(sweeps.parse_grid, {"text": "sparsity=0.5,0.8;quant=int8,none"}),
        "points_of": Call(sweeps.points_of, {"grid": {"sparsity": [0.5], "quant": ["int8"]}}),
        "pareto": Call(sweeps.pareto, {"costs": [1.0, 2.0], "scores": [1.0, 2.0]}),
        "contradictions": Call(
            sweeps.contradictions,
            {"points": [{"point": {"quant": "int8"}, "sparsity": s, "bytes": 9, "timing": None} for s in (0.5, 0.8)]},
            weight=1,
        ),
    }


def _writer_calls(w: World) -> dict[str, Call]:
    texts = [w.root / "texts.txt"]
    whole = {
        "source": w.bert,
        "sparsity": 0.5,
        "pattern": None,
        "quant": "int8",
        "threads": 1,
        "recipe": None,
        "method": "magnitude",
        "budget": None,
        "calibrate": None,
        "pack": None,
        "seed": 1,
        "target": None,
        "progress": None,
        "check": False,
    }

    def compress(**arguments: Any) -> Any:
        return aerogel.compress(**{"out": w.out(), **arguments})

    def export(**arguments: Any) -> Any:
        return aerogel.export(**{"out": w.out(), **arguments})

    return {
        "compress": Call(compress, whole),
        "compress calibrated": Call(
            compress,
            {
                "source": w.bert,
                "sparsity": 0.5,
                "calibrate": texts,
                "method": "wanda",
                "recipe": {"calibration": {"total": 64, "tokens": 8}},
                "threads": 1,
            },
            weight=1,
        ),
        "compress out": Call(
            compress, {"source": w.bert, "sparsity": 0.5, "method": "magnitude", "threads": 1, "out": "new"}, weight=2
        ),
        "export": Call(export, {"source": w.packed, "dtype": "float16", "max_shard_bytes": 4096, "progress": None}),
        "export out": Call(export, {"source": w.packed, "out": "exported"}, weight=2),
        "write_report": Call(
            report.write_report,
            {"report": {"recipe": {}, "tensors": []}, "folder": w.root / "out" / "page", "sweep": None, "scores": []},
            weight=2,
        ),
    }


def _number_calls(w: World) -> dict[str, Call]:
    x, stats, pattern = w.weight, w.statistics, prune.parse_pattern("unstructured", 0.5)
    gram, half = stats.gram, np.arange(64) % 2 == 0
    found = {
        "parse_pattern": Call(prune.parse_pattern, {"text": "8:64", "sparsity": None}),
        "Unstructured": Call(prune.Unstructured, {"sparsity": 0.5}, weight=1),
        "Windowed": Call(prune.Windowed, {"q": 8, "window": 64, "rows": 4}, weight=2),
        "Blocks": Call(prune.Blocks, {"rows": 1, "columns": 4, "sparsity": 0.5, "combine": "l2"}),
        "Pattern.keep": Call(pattern.keep, {"score": np.abs(x), "per_row": True}),
        "Pattern.at": Call(pattern.at, {"sparsity": 0.3}, weight=1),
        "prune.method": Call(prune.method, {"name": "obs"}, weight=1),
        "magnitude": Call(prune.magnitude, {"weight": x, "statistics": None, "pattern": pattern}),
        "wanda": Call(prune.wanda, {"weight": x, "statistics": stats, "pattern": pattern, "per_row": True}),
        "obs": Call(prune.obs, {"weight": x, "statistics": stats, "pattern": pattern, "damping": 0.01}),
        "admm": Call(
            prune.admm, {"weight": x, "statistics": stats, "pattern": pattern, "damping": 0.01, "steps": 2}, ("steps",)
        ),
        "taylor": Call(prune.taylor, {"weight": x, "gradient": x, "pattern": pattern}),
        "magnitude_score": Call(prune.magnitude_score, {"weight": x, "statistics": None}, weight=2),
        "wanda_score": Call(prune.wanda_score, {"weight": x, "statistics": stats}, weight=2),
        "taylor_score": Call(prune.taylor_score, {"weight": x, "gradient": x}, weight=2),
        "cubic": Call(prune.cubic, {"t": 0.5, "initial": 0.0, "final": 0.8, "duration": 1.0}),
        "cubic_steps": Call(prune.cubic_steps, {"initial": 0.0, "final": 0.8, "count": 4}, ("count",)),
        "global_sparsities": Call(prune.global_sparsities, {"scores": [np.abs(x), np.abs(x)], "sparsity": 0.5}),
        "global_threshold": Call(prune.global_threshold, {"scores": [np.abs(x)], "sparsity": 0.5}),
        "sparsity_below": Call(prune.sparsity_below, {"score": np.abs(x), "threshold": 0.5}),
        "corrected_target": Call(
            prune.corrected_target, {"weight": x, "gram": gram, "cross": gram, "lacking": None, "damping": 0.01}
        ),
        "quantize": Call(quantize.quantize, {"name": "int8", "weight": x}, weight=6),
        "of_tables": Call(quantize.of_tables, {"name": "int8"}, weight=1),
        "scheme": Call(quantize.scheme, {"name": "int4:g64:asym"}),
        "Scheme.grid": Call(quantize.scheme("codebook:16").grid, {"weight": x, "importance": np.ones(64, np.float32)}),
        "Statistics": Call(Statistics, {"tokens": 3, "gram": gram, "largest": stats.largest}),
        "Statistics.of": Call(Statistics.of, {"x": x}),
        "Moments.add": Call(lambda **a: Moments().add(**a), {"x": x, "weight": np.ones(16, np.float32)}),
        "read_texts": Call(calibrate.read_texts, {"path": w.root / "texts.txt"}),
        "sequences": Call(
            calibrate.sequences,
            {
                "texts": TEXTS,
                "tokenizer": w.encoder.tokenizer,
                "tokens": 8,
                "total": 64,
                "running": False,
                "samples": 3,
                "seed": 0,
            },
        ),
        "compensate": Call(
            structure.compensate, {"weight": x, "gram": gram, "kept": np.flatnonzero(half), "damping": 0.01}
        ),
        "structure.score": Call(structure.score, {"name": "contribution"}, weight=1),
    }
    for name in budget.BUDGETS:
        found[f"budget {name}"] = Call(
            _budget, {"name": name, "label": "x", "weight": x, "statistics": stats, "sparsity": 0.5}
        )
    return found


def _budget(name: str, label: str, weight: Any, statistics: Any, sparsity: float) -> Any:
    kind = budget.budget(name)
    kind.look(label, weight, statistics)
    return kind.share(sparsity)


def _score_calls(w: World) -> dict[str, Call]:
    e, r = w.encoder, w.root
    y = np.arange(5.0)
    sequences = [[5, 6, 7], [8, 9, 10, 11]]
    recipe = structure.StructureRecipe(ffn=0.5)
    return {
        "sts": Call(evaluate.sts, {"model": e, "file": r / "sts.csv", "against": None}, weight=2),
        "classify": Call(evaluate.classify, {"model": w.scorer, "file": r / "labels.csv", "against": None}, weight=2),
        "retrieval": Call(
            evaluate.retrieval,
            {
                "model": e,
                "corpus": r / "corpus.jsonl",
                "queries": r / "queries.jsonl",
                "qrels": r / "qrels.tsv",
                "against": None,
            },
            weight=1,
        ),
        "text": Call(
            evaluate.text, {"model": w.generator, "file": r / "texts.txt", "against": None, "context": 16}, weight=1
        ),
        "alike": Call(evaluate.alike, {"model": e, "file": r / "many.txt", "against": e}, weight=2),
        "evaluate_all": Call(
            lambda tasks, model, against: evaluate.evaluate_all(model, tasks, against),
            {"model": e, "tasks": [evaluate.Sts(r / "sts.csv")], "against": e},
            weight=2,
        ),
        "pearson": Call(evaluate.pearson, {"x": y, "y": y}),
        "spearman": Call(evaluate.spearman, {"x": y, "y": y}),
        "ranks": Call(evaluate.ranks, {"values": y}, weight=2),
        "influence": Call(
            structure.influence, {"checkpoint": w.checkpoint, "sequences": sequences, "threads": 1}, weight=2
        ),
        "observe": Call(
            structure.observe,
            {"checkpoint": w.checkpoint, "kinds": ["ffn", "heads"], "sequences": sequences, "threads": 1},
            weight=2,
        ),
        "prune_on_texts": Call(
            structure.prune_on_texts,
            {"checkpoint": w.checkpoint, "recipe": recipe, "sequences": sequences, "threads": 1},
            weight=2,
        ),
        "prune_structure": Call(
            structure.prune_structure,
            {
                "checkpoint": w.checkpoint,
                "recipe": structure.StructureRecipe(ffn=0.5, score="weights", compensate=False),
                "statistics": None,
                "influence": None,
                "means": None,
            },
            weight=2,
        ),
    }


def calls(w: World) -> dict[str, Call]:
    """All of them by name."""
    found: dict[str, Call] = {}
    for group in (_model_calls, _layer_calls, _recipe_calls, _writer_calls, _number_calls, _score_calls):
        found.update(group(w))
    try:
        import torch  # noqa: F401
    except ImportError:
        return found
    from .train_calls import train_calls

    return {**found, **train_calls(w)}
