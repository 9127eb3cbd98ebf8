"""Language models side by side: aerogel and llama.cpp (Q8_0), greedy, interleaved on one machine in one run.

    python benchmarks/decode.py MODEL.gguf [--aerogel PACKED ...] [--json OUT]

Both continue the same prompt. A call that makes 1 token and a call that makes 1 + N are timed in turn, and the decode
rate is N over their difference, so the prompt is not in it. Each output is judged by transformers in fp32 on the dense
weights: the share of tokens that it would have picked too, given what came before them, must reach a bound.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

import peers
import references
from contest import CLOCKS, Machine, Skip, Worker, hold, print_results
from side_by_side import thread_environment

PROMPT = "The lighthouse keeper climbed the stairs every evening, and when the storm came he"
MIN_AGREEMENT = 0.9  # 8-bit weights may part from fp32 where two tokens are nearly equal


def build_peer(name: str, precision: str, model: Path, cache: Path, threads: int):
    decoder = peers.load(name).Decoder(threads)
    decoder.prepare(model, precision, cache)
    return lambda case: decoder.run(*case)


def build_aerogel(folder: Path, threads: int):
    import aerogel

    model = aerogel.load(str(folder), threads=threads)

    def run(case) -> np.ndarray:
        prompt, new_tokens = case
        return np.fromiter(model.generate_tokens(prompt, max_new_tokens=new_tokens, stop=[]), np.int32)

    return run


def build_judge(model: Path):
    import torch

    llama, _ = references.load_gguf_llama(model)

    def agreement(case) -> float:
        prompt, made = case
        ids = torch.from_numpy(np.concatenate([prompt, made]).astype(np.int64))[None]
        with torch.inference_mode():
            best = llama(input_ids=ids).logits[0, len(prompt) - 1 : -1].argmax(-1).numpy()
        return float((best == made).mean())

    return agreement


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="GGUF file of a llama model")
    parser.add_argument(
        "--aerogel",
        action="append",
        default=[],
        metavar="PACKED[@AGREEMENT]",
        help="a packed model folder; @AGREEMENT is its own bound (pruned models need one)",
    )
    parser.add_argument("--peers", default="llama_cpp:q8_0")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cache", type=Path, default=Path(".cache/peers"))
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="cpu: for one thread on a shared machine (default: %(default)s)",
    )
    options = parser.parse_args()
    if options.clock == "cpu" and options.threads != 1:
        parser.error("--clock cpu says something only with --threads 1")

    wanted = []
    for entry in options.aerogel:
        folder, _, bound = entry.partition("@")
        name = f"aerogel:{Path(folder).name}"
        wanted.append((name, float(bound) if bound else MIN_AGREEMENT, build_aerogel, (Path(folder), options.threads)))
    for entry in filter(None, options.peers.split(",")):
        name, _, precision = entry.partition(":")
        peer = peers.PEERS.get(name)
        if peer is None or peer.kind != "decoder" or precision not in peer.precisions:
            raise SystemExit(f"{entry}: expected name:precision, as in llama_cpp:q8_0")
        arguments = (name, precision, options.model, options.cache, options.threads)
        wanted.append((entry, MIN_AGREEMENT, build_peer, arguments))

    environment = thread_environment(options.threads)
    workers, skipped = [], []
    for name, bound, build, arguments in wanted:
        try:
            workers.append((Worker(name, build, *arguments, environment=environment), bound))
        except Skip as reason:
            skipped.append(f"{name}: {reason}")
            print(f"SKIP {skipped[-1]}", file=sys.stderr)

    prompt = np.asarray(references.gguf_tokenizer(options.model).encode(PROMPT).ids, np.int32)
    short, long = (prompt, 1), (prompt, 1 + options.new_tokens)
    judge = Worker("judge", build_judge, options.model, environment=environment)
    agreement, wrong = {}, []
    for worker, bound in workers:
        made = worker.output(long)
        if len(made) != 1 + options.new_tokens:
            raise SystemExit(f"{worker.name}: expected {1 + options.new_tokens} tokens, got {len(made)}")
        agreement[worker.name] = judge.output((prompt, made))
        if not agreement[worker.name] >= bound:
            wrong.append(f"{worker.name}: agreement {agreement[worker.name]:.3f}, expected >= {bound}")
    judge.close()

    only = [worker for worker, _ in workers]
    first = hold(only, short, options.rounds, seconds=0.1, max_calls=5, clock=options.clock)
    whole = hold(only, long, options.rounds, seconds=0.0, max_calls=1, clock=options.clock)
    rate = {name: options.new_tokens / (whole[name].median - first[name].median) * 1e3 for name in whole}
    print_results(
        f"{len(prompt)} + {options.new_tokens} tokens, threads: {options.threads}, {options.clock} time",
        [
            (
                name,
                f"{rate[name]:.1f}",
                f"{rate[name] / rate[only[0].name]:.2f}",
                f"{first[name].median:.1f}",
                f"{whole[name].median:.0f}",
                f"{agreement[name]:.3f}",
                f"{r.quiet_turns}/{r.turns}" + ("" if r.only_quiet else " loud"),
            )
            for name, r in whole.items()
        ],
        ["engine", "decode tokens/s", "of first", "first token ms", "all ms", "agreement", "quiet turns"],
    )
    if options.json:
        report = {
            "machine": dataclasses.asdict(Machine.here()),
            "threads": options.threads,
            "clock": options.clock,
            "model": options.model.name,
            "prompt_tokens": len(prompt),
            "new_tokens": options.new_tokens,
            "decode_tokens_per_second": rate,
            "agreement": agreement,
            "skipped": skipped,
            "wrong": wrong,
            "first_token": {name: dataclasses.asdict(r) for name, r in first.items()},
            "all": {name: dataclasses.asdict(r) for name, r in whole.items()},
        }
        options.json.write_text(json.dumps(report, indent=1))
    for worker in only:
        worker.close()
    for line in wrong:
        print(f"WRONG {line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
