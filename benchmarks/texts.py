"""Texts to embeddings, tokenizing included: aerogel beside sentence-transformers, with PyTorch and with OpenVINO.

    python benchmarks/texts.py MODEL --texts texts.txt [--packed DIR ...] [--openvino FOLDER] [--threads 2] [--rounds 7]

Each contestant in a process of its own, in turns; the embeddings of every one are held against the first one's. MODEL is a
sentence-transformers folder, a packed model is named by its folder. The OpenVINO folder is MODEL again, or one in which
sentence-transformers has saved another form, which --file names.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def _child(kind: str, folder: str, file: str, threads: int) -> None:
    """Loads, then for every line on stdin encodes all texts and answers with the seconds that it took."""
    texts = Path(file).read_text(encoding="utf-8").splitlines()
    model: Any
    if kind == "aerogel":
        import aerogel

        model = aerogel.load(folder, threads=threads)
    elif kind.startswith("aerogel "):
        import aerogel

        model = aerogel.load(folder, threads=threads, quant=kind.split()[1])
    else:
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        backend, _, name = kind.partition(" ")
        options = {"file_name": name} if name else None
        model = SentenceTransformer(folder, device="cpu", backend=backend, model_kwargs=options)
    rows = model.encode(texts)
    print(json.dumps(np.asarray(rows, np.float32)[:50].tolist()), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        model.encode(texts)
        print(time.perf_counter() - begin, flush=True)


class Contestant:
    """A process that encodes when it is told to."""

    def __init__(self, name: str, kind: str, folder: str, file: str, threads: int, python: str) -> None:
        self.name, self.seconds = name, list[float]()
        command = [python, __file__, "--child", kind, folder, file, str(threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.rows = np.array(json.loads(self._read()))

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: it ended with status {self._process.wait()}")
        return line

    def run(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self.seconds.append(float(self._read()))


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        _child(*sys.argv[2:5], int(sys.argv[5]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--texts", required=True)
    parser.add_argument("--packed", nargs="*", default=[])
    parser.add_argument("--openvino")
    parser.add_argument(
        "--file", default="", help="of the OpenVINO folder: openvino/openvino_model_qint8_quantized.xml"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--python", default=sys.executable, help="with sentence-transformers in it")
    options = parser.parse_args()
    kinds = [("sentence-transformers, PyTorch", "torch", options.model), ("aerogel, float32", "aerogel", options.model)]
    kinds.append(("aerogel, int8", "aerogel int8", options.model))
    kinds += [(f"aerogel, {Path(folder).name}", "aerogel", folder) for folder in options.packed]
    if options.openvino:
        name = f"sentence-transformers, OpenVINO {options.file}".rstrip()
        kinds.append((name, f"openvino {options.file}".rstrip(), options.openvino))
    count = len(Path(options.texts).read_text(encoding="utf-8").splitlines())
    contestants = [Contestant(*kind, options.texts, options.threads, options.python) for kind in kinds]
    for _ in range(options.rounds):
        for contestant in contestants:
            contestant.run()
    first = contestants[0]
    for contestant in contestants:
        paired = statistics.median(a / b for a, b in zip(first.seconds, contestant.seconds, strict=True))
        norms = np.linalg.norm(first.rows, axis=1) * np.linalg.norm(contestant.rows, axis=1)
        cosine = float(((first.rows * contestant.rows).sum(axis=1) / norms).mean())
        assert cosine > 0.5, f"{contestant.name}: other embeddings: mean cosine {cosine:.3f}"
        rate = count / statistics.median(contestant.seconds)
        print(f"{contestant.name:40} {rate:8.0f} texts/s  {paired:5.2f}x  mean cosine {cosine:.4f}")


if __name__ == "__main__":
    main()
