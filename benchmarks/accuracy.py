"""What compression cost: aerogel.evaluate's scores of transformers' own dense fp32 and, beside it, of aerogel's models.

    python benchmarks/accuracy.py --encoder MODEL --stsb dev.csv [--aerogel PACKED ...]
    python benchmarks/accuracy.py --llama MODEL.gguf --text validation.txt [--aerogel PACKED ...]

`aerogel eval` compares with dense fp32 as aerogel runs it; here the reference is another implementation. The scores and
their protocol are aerogel.evaluate's: Spearman of cosines, at most 256 tokens a sentence; perplexity in windows of 512.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

import references
from aerogel.evaluate import Sts, Task, Text

MAX_TOKENS = 256


class ReferenceEncoder:
    """A BERT in transformers behind the face that `sts` asks for."""

    def __init__(self, folder: Path) -> None:
        self._bert, self._tokenizer = references.load_encoder(folder)

    def encode(self, texts: list[str]) -> np.ndarray:
        rows = references.token_ids(self._tokenizer, texts, MAX_TOKENS)
        return references.mean_pooled(references.hidden_states(self._bert, rows))


class ReferenceLanguageModel:
    """A llama in transformers behind the face that `text` asks for."""

    def __init__(self, file: Path) -> None:
        self._llama, tokenizer = references.load_gguf_llama(file)
        self.tokenizer = _Ids(tokenizer)

    def forward(self, ids: np.ndarray, offsets: np.ndarray, output: str) -> np.ndarray:
        import torch

        assert output == "logits" and len(offsets) == 2
        with torch.inference_mode():
            return self._llama(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).logits[0].numpy()


class _Ids:
    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [self._tokenizer.encode(text).ids for text in texts]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", type=Path, help="BERT checkpoint folder")
    parser.add_argument("--stsb", type=Path, help="STS-B rows as csv")
    parser.add_argument("--llama", type=Path, help="GGUF file of a llama model")
    parser.add_argument("--text", type=Path, help="text for the perplexity")
    parser.add_argument(
        "--aerogel",
        action="append",
        default=[],
        type=Path,
        metavar="PACKED",
        help="a packed model of the same kind, scored beside the reference",
    )
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    if not (options.encoder or options.llama):
        parser.error("give --encoder with --stsb, or --llama with --text")
    if options.aerogel and options.encoder and options.llama:
        parser.error("--aerogel needs to know its kind: give --encoder or --llama, not both")

    if options.encoder and _present("STS-B", options.encoder, options.stsb):
        _limit_torch(options.threads)
        _show(Sts(options.stsb), options.encoder.name, ReferenceEncoder(options.encoder), options)
    if options.llama and _present("perplexity", options.llama, options.text):
        _limit_torch(options.threads)
        _show(Text(options.text), options.llama.name, ReferenceLanguageModel(options.llama), options)
    return 0


def _show(task: Task, name: str, reference: Any, options: argparse.Namespace) -> None:
    import aerogel

    print(f"{task.metric} {task.evaluate(reference).value:.5g}  fp32 {name}", flush=True)
    for folder in options.aerogel:
        score = task.evaluate(aerogel.load(folder, threads=options.threads), reference)
        assert score.against is not None
        alike = ", ".join(f"{key} {value.value:.4g}" for key, value in score.against.agreement.items())
        print(
            f"{task.metric} {score.value:.5g}  aerogel {folder.name}: {score.against.kept.value:.4f} of it; {alike}",
            flush=True,
        )


def _present(what: str, *paths: Path | None) -> bool:
    absent = [str(path or "a path that was not given") for path in paths if path is None or not path.exists()]
    if absent:
        print(f"SKIP {what}: no {', '.join(absent)}", file=sys.stderr)
    return not absent


def _limit_torch(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


if __name__ == "__main__":
    sys.exit(main())
