"""Measuring a model beside its dense forms."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aerogel._util.checks import one_of, thread_count
from aerogel._util.progress import Progress
from aerogel.architectures import architecture_of
from aerogel.bench.cases import model_cases
from aerogel.bench.contest import hold
from aerogel.bench.contestants import Peers, own_contestants, peer_contestants
from aerogel.bench.run import ROUNDS
from aerogel.bench.texts import text_ids
from aerogel.bench.variants import Variant, kind_of, model_variants
from aerogel.checkpoint import open_checkpoint
from aerogel.engine.sessions import KV_CACHES
from aerogel.errors import DataError


def bench_model(
    folder: str | os.PathLike[str],
    dense: str | os.PathLike[str] | None = None,
    *,
    batches: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    prompts: Sequence[int] | None = None,
    news: Sequence[int] | None = None,
    threads: int | None = None,
    rounds: int = ROUNDS,
    peers: str | Peers = "none",
    progress: Progress | None = None,
    quant: str | None = None,
    kv_cache: str | None = None,
) -> dict[str, Any]:
    """Measures a model beside dense fp32 and dense int8.

    Args:
        folder: a packed model, or any other checkpoint (the zeros that it has are then skipped).
        dense: the uncompressed model, for the dense forms and for the peers. Without it they use the model's own weights,
            zeros included: the speed is the same, but the cosine then only shows the error of int8.
        batches, lengths: of an encoder: sequences, and tokens of each; every combination is measured.
        prompts, news: of a language model: tokens of a prompt, and tokens to generate, starting from one token.
        threads: worker threads of every engine.
        rounds: interleaved rounds in each case.
        peers: see `Peers`.
        progress: called as progress(done, total, what).
        quant: a scheme of `aerogel.quantize`, which a checkpoint is measured in; int8 unless given. Not for packed models.
        kv_cache: of a language model, see `aerogel.load`.
    """
    if kv_cache is not None:
        one_of("kv_cache", kv_cache, KV_CACHES, DataError)
        checkpoint = open_checkpoint(folder)
        if kind_of(checkpoint) == "encoder":
            raise DataError(f"kv_cache: goes with a language model; {checkpoint.path} keeps no keys and values")
    workers = thread_count(threads)
    with tempfile.TemporaryDirectory(prefix="aerogel-bench-") as work:
        variants = model_variants(folder, dense, Path(work), threads, quant)
        return bench_variants(
            variants,
            batches=batches,
            lengths=lengths,
            prompts=prompts,
            news=news,
            threads=workers,
            rounds=rounds,
            peers=peers,
            progress=progress,
            target=os.fspath(folder),
            source=open_checkpoint(dense or folder).path,
            kv_cache=kv_cache,
        )


def bench_variants(
    variants: Sequence[Variant],
    *,
    batches: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    prompts: Sequence[int] | None = None,
    news: Sequence[int] | None = None,
    threads: int | None = None,
    rounds: int = ROUNDS,
    peers: str | Peers = "none",
    progress: Progress | None = None,
    target: str = "",
    source: Path | None = None,
    kv_cache: str | None = None,
) -> dict[str, Any]:
    """`bench_model` for existing packed models; the first is dense fp32, and the peers use its weights."""
    asked = peers if isinstance(peers, Peers) else Peers(peers)
    workers = thread_count(threads)
    checkpoint = open_checkpoint(variants[0].path)
    architecture = architecture_of(checkpoint)
    kind, limit = kind_of(checkpoint), architecture.max_positions

    def ids(sequences: int, tokens: int) -> np.ndarray:
        return text_ids(checkpoint, architecture.vocab_size, sequences, tokens)

    cases = model_cases(kind, limit, ids, batches=batches, lengths=lengths, prompts=prompts, news=news)
    contestants = own_contestants(variants, kind, workers, kv_cache)
    calibration = [ids(24, s)[i : i + 1] for s in (4, 16, min(64, limit)) for i in range(24)]
    contestants += peer_contestants(asked, variants, source or checkpoint.path, kind, workers, calibration)
    return hold(
        contestants,
        cases,
        kind,
        threads=workers,
        rounds=rounds,
        peers=asked,
        target=target,
        progress=progress,
    )
