"""Hostile files: a sound one with some of its values replaced, read as a user would."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors.numpy import load_file, save_file

import aerogel
from aerogel import calibrate, evaluate
from aerogel.tuning.cache import Cache

from ...checkpoint.gguf import files as gguf_files
from .pool import HUGE
from .world import TEXTS, World

Run = tuple[str, Callable[..., Any], dict[str, Any], str]

_DEEP: list[Any] = []
for _ in range(60):
    _DEEP = [_DEEP]
#: What JSON can say.
JSON_VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        3,
        2**31,
        2**63,
        2**64,
        HUGE,
        -HUGE,
        0.5,
        1e-320,
        1e308,
        1.0,
        float("nan"),
        float("inf"),
    ),
    *(
        "",
        "x",
        "\0",
        "\ud800",
        "a" * 5000,
        "int8",
        "mean",
        "cls",
        "bert",
        "llama",
        "1e-12",
        "../x",
        "/",
        "<s>",
        "[CLS]",
        "NFC",
    ),
    *(
        [],
        [[]],
        [1],
        [-1],
        [None],
        ["x"],
        ["x", "x"],
        [HUGE],
        [0.5, 1],
        ["\ud800"],
        {},
        {"x": 1},
        {"type": "Sequence"},
        {"content": 3},
    ),
    *([0] * 200, _DEEP, [{}], {"": {}}, ["full_attention"], ["sliding_attention"] * 2, {"type": "linear", "factor": 0}),
]
#: Entries that a file need not have, for each file.
EXTRA_KEYS = {
    "config.json": (
        "architectures layer_types rope_scaling rope_parameters rope_theta sliding_window "
        "use_sliding_window head_dim tie_word_embeddings attention_bias mlp_bias pruned_heads is_decoder "
        "is_causal quantization_config compression_config num_labels id2label label2id torch_dtype dtype "
        "eos_token_id bos_token_id pad_token_id partial_rotary_factor position_embedding_type "
        "intermediate_sizes attention_heads key_value_heads add_cross_attention hidden_act auto_map "
        "text_config num_experts token_heads num_hidden_groups embedding_size"
    ),
    "tokenizer_config.json": (
        "model_max_length do_lower_case strip_accents tokenize_chinese_chars truncation_side "
        "added_tokens_decoder bos_token eos_token unk_token add_bos_token add_eos_token chat_template "
        "tokenizer_class clean_up_tokenization_spaces model_input_names"
    ),
    "generation_config.json": (
        "eos_token_id bos_token_id repetition_penalty no_repeat_ngram_size suppress_tokens "
        "begin_suppress_tokens bad_words_ids temperature do_sample top_k top_p min_new_tokens min_length "
        "max_length stop_strings forced_eos_token_id forced_bos_token_id sequence_bias"
    ),
    "special_tokens_map.json": ("bos_token eos_token unk_token pad_token additional_special_tokens"),
    "added_tokens.json": ("<x> [MASK] cat"),
    "config_sentence_transformers.json": (
        "prompts default_prompt_name similarity_fn_name truncate_dim __version__ model_type"
    ),
    "sentence_bert_config.json": ("max_seq_length do_lower_case query_prefix"),
    "1_Pooling/config.json": (
        "pooling_mode pooling_mode_mean_tokens pooling_mode_cls_token include_prompt word_embedding_dimension"
    ),
    "adapter_config.json": ("peft_type base_model_name_or_path"),
    "tokenizer.json": ("truncation padding added_tokens normalizer pre_tokenizer post_processor decoder model"),
    "modules.json": (""),
    "model.safetensors.index.json": ("weight_map metadata"),
}


def _value(rng: random.Random) -> Any:
    return copy.deepcopy(rng.choice(JSON_VALUES))


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a value."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(pairs):
        found.append((value, key))
        _places(item, found)
    return found


def damaged_json(value: Any, rng: random.Random, extra: str = "") -> Any:
    """A copy with one to three values replaced, taken out, doubled or added."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if extra and isinstance(value, dict) and rng.random() < 0.5:
            value[rng.choice(extra.split())] = _value(rng)
            continue
        places = _places(value, [])
        if not places or rng.random() < 0.03:
            value = _value(rng)
            continue
        shallow = [place for place in places if place[0] is value]
        where, key = rng.choice(shallow if rng.random() < 0.5 else places)
        edit = rng.random()
        if edit < 0.75:
            where[key] = _value(rng)
        elif edit < 0.85:
            del where[key]
        elif isinstance(where, list):
            where.insert(rng.randrange(len(where) + 1), copy.deepcopy(where[key]))
        else:
            where[rng.choice(["x", "type", "", "\ud800", str(key) + "x"])] = copy.deepcopy(where[key])
    return value


def _json_bytes(value: Any, rng: random.Random) -> bytes:
    text = json.dumps(value).encode()
    edit = rng.random()
    if edit < 0.02:
        return b"\xef\xbb\xbf" + text
    if edit < 0.03:
        return text[: rng.randrange(len(text) + 1)]
    if edit < 0.04:
        return b"[" * 100_000
    if edit < 0.05:
        return text.replace(b'"', b'"\xff', 1)
    return text


def _texts_of_models(w: World) -> dict[str, Path]:
    """Template folders, with every JSON file that a model may bring."""
    found = {
        "bert": w.bert,
        "llama": w.llama,
        "classifier": w.classifier,
        "packed": w.packed,
        "quantized": quantized(w),
    }
    for name, folder in found.items():
        for file in ("tokenizer_config.json", "generation_config.json", "special_tokens_map.json"):
            if not (folder / file).exists():
                (folder / file).write_text("{}")
        if name == "bert" and not (folder / "config_sentence_transformers.json").exists():
            (folder / "config_sentence_transformers.json").write_text(
                '{"prompts": {"query": "the "}, "default_prompt_name": null}'
            )
    return found


def quantized(w: World) -> Path:
    """The Llama as compressed-tensors keeps it."""
    folder = w.root / "quantized"
    shutil.copytree(w.llama, folder, dirs_exist_ok=True)
    tensors: dict[str, np.ndarray] = {}
    for name, array in load_file(w.llama / "model.safetensors").items():
        if "_proj" in name:
            scale = np.abs(array).max(axis=1, keepdims=True) / 127
            tensors[name], tensors[name + "_scale"] = np.rint(array / scale).astype(np.int8), scale.astype(np.float32)
        else:
            tensors[name] = array
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    weights = {
        "num_bits": 8,
        "type": "int",
        "symmetric": True,
        "strategy": "channel",
        "group_size": None,
        "actorder": None,
    }
    inputs = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs, "output_activations": None}
    config["quantization_config"] = {
        **{
            "quant_method": "compressed-tensors",
            "format": "int-quantized",
            "version": "0.9.4",
            "quantization_status": "compressed",
        },
        **{"config_groups": {"group_0": group}, "ignore": ["lm_head"], "kv_cache_scheme": None, "sparsity_config": {}},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def use(path: Path, out: Path | None = None) -> None:
    """Everything that people do with a model that they have been given."""
    model = aerogel.load(path, threads=1)
    model.describe(), repr(model), model.max_tokens, model.nbytes  # noqa: B018
    try:
        if "embedding" in model.outputs:
            model.encode(TEXTS)
        elif "scores" in model.outputs:
            model.scores(TEXTS, TEXTS)
        elif model.outputs[0] == "logits" and model.max_positions > 4:
            model.generate("the cat", max_new_tokens=3)
    finally:
        model.close()
    if out is not None:
        aerogel.compress(path, out, sparsity=0.5, method="magnitude", threads=1)
        aerogel.export(out, out.with_name("exported"))


def _model_run(w: World, folders: dict[str, Path], rng: random.Random, seed: str) -> Run:
    folder = folders[rng.choice(list(folders))]
    place = w.out()
    shutil.copytree(folder, place, copy_function=os.link)
    names = [name for name in EXTRA_KEYS if (folder / name).exists()]
    name = "config.json" if rng.random() < 0.4 else rng.choice([*names, rng.choice(list(EXTRA_KEYS))])
    file = place / name
    value = json.loads(file.read_text()) if file.exists() else {}
    data = _json_bytes(damaged_json(value, rng, EXTRA_KEYS[name]), rng)
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    file.write_bytes(data)
    out = place.with_name("compressed") if rng.random() < 0.1 else None
    shown = {"folder": folder.name, "file": name, "json": _difference(value, data)}
    return f"{folder.name}/{name}", lambda **_: use(place, out), shown, seed


def _difference(value: Any, data: bytes) -> str:
    try:
        changed = json.loads(data)
    except (ValueError, RecursionError):
        return repr(data[:80])
    if not isinstance(value, dict) or not isinstance(changed, dict):
        return json.dumps(changed)[:300]
    return str(
        {key: repr(item)[:200] for key, item in changed.items() if key not in value or repr(value[key]) != repr(item)}
    )


def _header_run(w: World, folders: dict[str, Path], rng: random.Random, seed: str) -> Run:
    folder = folders[rng.choice(list(folders))]
    place = w.out()
    shutil.copytree(folder, place, copy_function=os.link)
    file = place / "model.safetensors"
    data = file.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(damaged_json(json.loads(data[8 : 8 + size]), rng, "__metadata__ x")).encode()
    header += b" " * (-len(header) % 8)
    file.unlink()
    file.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + size :])
    return f"{folder.name}/model.safetensors", lambda **_: use(place), {"header": header[:300]}, seed


#: What GGUF metadata can hold.
GGUF_VALUES: list[Any] = [
    "",
    "x",
    "llama",
    "bert",
    "\0",
    0,
    1,
    -1,
    3,
    2**31,
    2**32 - 1,
    2**63 - 1,
    0.0,
    0.5,
    -1.5,
    1e30,
    float("nan"),
    True,
]
GGUF_VALUES += [[1], [1, 2], ["x"], ["x", "x"], [0.5], [True], ["<s>"] * 9, list(range(9))]


def _gguf_run(w: World, rng: random.Random, seed: str) -> Run:
    arch = rng.choice(["llama", "bert", "qwen2"])
    small = {
        "hidden_size": 8,
        "intermediate_size": 6,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 8,
    }
    more = {"num_key_value_heads": 1, "head_dim": 4} if arch != "bert" else {}
    config = {**gguf_files.CONFIGS[arch], **small, **more, "vocab_size": 9}
    keys = [
        *(
            "general.architecture",
            "general.alignment",
            "general.file_type",
            "general.name",
            "general.type",
            "split.count",
            "pooling_type",
        ),
        *(
            "rope.scaling.type",
            "rope.scaling.factor",
            "rope.freq_base",
            "rope.dimension_count",
            "block_count",
            "embedding_length",
        ),
        *(
            "attention.head_count",
            "attention.head_count_kv",
            "attention.key_length",
            "feed_forward_length",
            "context_length",
            "vocab_size",
        ),
        *(
            "attention.layer_norm_rms_epsilon",
            "attention.layer_norm_epsilon",
            "attention.causal",
            "expert_count",
            "rope.scale_linear",
        ),
        *(
            f"tokenizer.ggml.{key}"
            for key in "model pre tokens token_type scores merges bos_token_id eos_token_id add_bos_token".split()
        ),
        *(
            f"tokenizer.ggml.{key}"
            for key in "unknown_token_id add_eos_token eot_token_id add_space_prefix padding_token_id".split()
        ),
    ]
    changed = {}
    for _ in range(rng.choice([1, 1, 2])):
        key = rng.choice(keys)
        changed[key if key.startswith(("general", "tokenizer", "split")) else f"{arch}.{key}"] = rng.choice(GGUF_VALUES)
    path = w.out().with_suffix(".gguf")

    def run(**_: Any) -> None:
        use(path)

    try:
        gguf_files.write_model(path, arch, config, metadata=changed)
    except Exception:  # what the writer cannot say
        path.write_bytes(b"GGUF")
    return f"gguf {arch}", run, {"metadata": changed}, seed


YAML_TEXTS = [
    "a: &a [x]\nb: *a\n",
    "prune: 2020-13-45\n",
    "prune: 2020-01-01\n",
    "!!python/object:x {}\n",
    "? [a]\n: b\n",
    "seed: 0o17\n",
    "\xff",
]
YAML_TEXTS += [
    "prune: {sparsity: .nan}\n",
    "prune: {sparsity: .inf}\n",
    "seed: 1e400\n",
    "- 1\n",
    "---\n---\n",
    "<<: x\n",
    "x: !!binary aa\n",
    "{",
]


def _recipe_run(w: World, rng: random.Random, seed: str) -> Run:
    text = rng.choice(YAML_TEXTS)
    if rng.random() < 0.8:
        value = damaged_json(aerogel.Recipe().as_dict(), rng, "prune quantize structure fold calibration seed pack")
        text = yaml.safe_dump(value, allow_unicode=rng.random() < 0.5)
    path = w.out().with_suffix(".yaml")
    path.write_text(text, encoding="utf-8", errors="surrogatepass")

    def run(**_: Any) -> None:
        aerogel.Recipe.read(path).as_yaml()
        if rng.random() < 0.2:
            aerogel.compress(w.bert, path.with_suffix(""), recipe=path, threads=1)

    return "recipe.yaml", run, {"text": text[:400]}, seed


def _cache_run(w: World, rng: random.Random, seed: str) -> Run:
    rows = {str(n): 1e-5 for n in (1, 8, 32, 128)}
    layer = {"seconds": {"dense_q8": rows, "quads_q8": rows}, "nbytes": {"dense_q8": 100, "quads_q8": 50}}
    value = damaged_json({"aerogel": "1", "layers": {"x": layer, "y": layer}}, rng, "layers")
    path = w.out().with_suffix(".json")
    path.write_bytes(_json_bytes(value, rng))
    return "tuning cache", lambda **_: Cache(path), {"json": json.dumps(value)[:400]}, seed


LINES = [
    b"the cat,a dog,1",
    b"a,b,2.5",
    b"a\tb\t3",
    b'"a',
    b'a"b,c,1',
    b"",
    b",,",
    b"1,2,3",
    b"a,b,nan",
    b"a,b,1e999",
    b"\xff\xfe",
    b"\xef\xbb\xbfa,b,1",
]
LINES += [
    b"a\0b,c,1",
    b'{"_id": "1", "text": "the cat"}',
    b'{"_id": 1, "text": null}',
    b"[]",
    b"null",
    b'{"text": "\\ud800"}',
    b"q\t1\t1",
    b"query-id\tcorpus-id\tscore",
]
LINES += [
    b"x" * 200_000,
    b"[" * 5000,
    b'{"a": 1' + b"0" * 5000 + b"}",
    b"the cat,99999999999999999999",
    b"the cat,1",
    b"a dog,0",
    b"\r",
    "a\u2028b,c,1".encode(),
]


def _data_run(w: World, rng: random.Random, seed: str) -> Run:
    path = w.out().with_name("data" + rng.choice([".csv", ".tsv", ".jsonl", ".txt", ".CSV", ""]))
    lines = [rng.choice(LINES) for _ in range(rng.choice([0, 1, 2, 3, 5]))]
    path.write_bytes(rng.choice([b"\n", b"\r\n"]).join(lines))
    readers: dict[str, Callable[[], Any]] = {
        "sts": lambda: evaluate.sts(w.encoder, path),
        "classify": lambda: evaluate.classify(w.scorer, path),
        "text": lambda: evaluate.text(w.generator, path, context=16),
        "corpus": lambda: evaluate.retrieval(w.encoder, path, w.root / "queries.jsonl", w.root / "qrels.tsv"),
        "queries": lambda: evaluate.retrieval(w.encoder, w.root / "corpus.jsonl", path, w.root / "qrels.tsv"),
        "qrels": lambda: evaluate.retrieval(w.encoder, w.root / "corpus.jsonl", w.root / "queries.jsonl", path),
        "read_texts": lambda: calibrate.read_texts(path),
        "labelled": lambda: _labelled(path),
        "vocab.txt": lambda: _vocabulary(w, path),
    }
    name = rng.choice(list(readers))
    return (
        f"data {name}",
        lambda **_: readers[name](),
        {"suffix": path.suffix, "lines": [line[:60] for line in lines]},
        seed,
    )


def _labelled(path: Path) -> None:
    from aerogel.train.texts import read_labelled, read_texts

    read_texts([path])
    read_labelled(path)


def _vocabulary(w: World, path: Path) -> None:
    place = path.with_name("model")
    shutil.copytree(w.bert, place, copy_function=os.link)
    words = (w.bert / "vocab.txt").read_bytes()
    (place / "vocab.txt").unlink()
    (place / "vocab.txt").write_bytes(words[: len(words) // 2] + path.read_bytes() + words[len(words) // 2 :])
    use(place)


def file_runs(world: World, seed: int, only: str | None = None) -> Iterator[Run]:
    """Reading hostile files, without end."""
    folders = _texts_of_models(world)
    kinds: dict[str, Callable[[random.Random, str], Run]] = {
        "model": lambda rng, seed: _model_run(world, folders, rng, seed),
        "header": lambda rng, seed: _header_run(world, folders, rng, seed),
        "gguf": lambda rng, seed: _gguf_run(world, rng, seed),
        "recipe": lambda rng, seed: _recipe_run(world, rng, seed),
        "cache": lambda rng, seed: _cache_run(world, rng, seed),
        "data": lambda rng, seed: _data_run(world, rng, seed),
    }
    names = ["model"] * 6 + ["header", "gguf", "gguf", "recipe", "cache", "data", "data"]
    number = 0
    while True:
        number += 1
        rng = random.Random(f"files/{seed}/{number}")
        yield kinds[only or rng.choice(names)](rng, f"{seed}/{number}")
