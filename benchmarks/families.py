"""Encoder families at their real sizes, with random weights: where the time of a pass goes, and what PyTorch takes for the same model.

    python benchmarks/families.py [FAMILY|FOLDER ...] [--shapes 1x16,1x128,1x512,16x128] [--threads 1] [--quant int8] [--rounds 5]

Needs PyTorch and Transformers. Speed does not depend on the weights, so nothing is downloaded; a folder that Transformers reads
stands in for a family. Both run in one process and take turns, and the least of all rounds counts; of one thread it is the
processor's time, so that neighbours count for less. The hidden states of both are compared.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import aerogel

BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
DEBERTA = {
    **BASE,
    "vocab_size": 128100,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "max_relative_positions": -1,
    "position_buckets": 256,
    "norm_rel_ebd": "layer_norm",
    "layer_norm_eps": 1e-7,
}
#: Name -> prefix of the classes in Transformers, and what differs from its defaults in the published model.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert-base": ("Bert", BASE),
    "mpnet-base": ("MPNet", {**BASE, "max_position_embeddings": 514, "layer_norm_eps": 1e-5}),
    "modernbert-base": ("ModernBert", {**BASE, "num_hidden_layers": 22, "intermediate_size": 1152}),
    "nomic-base": ("NomicBert", {**BASE, "max_position_embeddings": 2048}),
    "gte-base": ("Gte", {**BASE, "max_position_embeddings": 8192, "type_vocab_size": 0}),
    "deberta-v3-small": ("DebertaV2", {**DEBERTA, "num_hidden_layers": 6}),
    "deberta-v3-base": ("DebertaV2", DEBERTA),
}
#: int8 against float32, of hidden states: random weights have no outliers.
LEAST_COSINE = 0.99


def make(name: str, folder: Path) -> str:
    """A folder with the model of that name, or the folder that it names."""
    if name not in FAMILIES:
        return name
    prefix, options = FAMILIES[name]
    torch.manual_seed(0)
    config = getattr(transformers, prefix + "Config")(**options)
    getattr(transformers, prefix + "Model")(config).save_pretrained(folder)
    return str(folder)


def sequences(shape: str, vocabulary: int) -> np.ndarray:
    """int32 [batch, tokens]"""
    batch, tokens = (int(number) for number in shape.split("x"))
    return np.random.default_rng(0).integers(10, vocabulary, (batch, tokens)).astype(np.int32)


def shares(rounds: Sequence[Sequence[dict[str, Any]]]) -> dict[str, float]:
    """Of a pass, by op, from the least time of each step."""
    found: Counter[str] = Counter()
    for steps in zip(*rounds, strict=True):
        found[steps[0]["op"]] += min(step["seconds"] for step in steps)
    return {op: seconds / found.total() for op, seconds in found.most_common()}


def measure(ours: aerogel.Model, theirs: Any, shape: str, rounds: int) -> dict[str, Any]:
    """Milliseconds of a pass of both, and the shares of ours by op."""
    ids = sequences(shape, ours.vocab_size)
    flat, offsets = ids.reshape(-1), np.arange(len(ids) + 1, dtype=np.int64) * ids.shape[1]
    tensor = torch.from_numpy(ids.astype(np.int64))
    with torch.inference_mode():
        expected = theirs(tensor).last_hidden_state.numpy().reshape(len(flat), -1)
        got = ours.forward(flat, offsets, output="hidden")
        cosine = (got * expected).sum(1) / np.linalg.norm(got, axis=1) / np.linalg.norm(expected, axis=1)
        assert cosine.mean() > LEAST_COSINE, f"{shape}: other hidden states: mean cosine {cosine.mean():.4f}"
        times: dict[str, float] = {}
        clock = time.process_time if ours.threads == 1 else time.perf_counter
        profiles = []
        for _ in range(rounds):
            for name, run in (
                ("ours", lambda: ours.forward(flat, offsets, output="hidden")),
                ("torch", lambda: theirs(tensor)),
            ):
                begin = clock()
                run()
                times[name] = min(times.get(name, np.inf), clock() - begin)
            profiles.append(ours.profile(flat, offsets, "hidden"))
    ms = {name: 1000 * value for name, value in times.items()}
    return {"shape": shape, "ms": ms, "cosine": float(cosine.mean()), "shares": shares(profiles)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", default=list(FAMILIES), help=", ".join(FAMILIES))
    parser.add_argument("--shapes", default="1x16,1x128,1x512,16x128", help="sequences x tokens")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quant", default="int8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="a file for the figures")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.disable_progress_bar()
    figures = []
    for name in options.families:
        with tempfile.TemporaryDirectory() as folder:
            source = make(name, Path(folder))
            ours = aerogel.load(source, threads=options.threads, quant=options.quant)
            theirs = transformers.AutoModel.from_pretrained(source).float().eval()
            for shape in options.shapes.split(","):
                found = {"family": Path(name).name, **measure(ours, theirs, shape, options.rounds)}
                figures.append(found)
                ms, shares = found["ms"], ", ".join(f"{op} {share:.0%}" for op, share in found["shares"].items())
                print(
                    f"{found['family']:18} {shape:7} ours {ms['ours']:8.2f} ms  torch {ms['torch']:8.2f} ms  "
                    f"{ms['torch'] / ms['ours']:5.2f}x  cosine {found['cosine']:.4f}  {shares}",
                    flush=True,
                )
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
