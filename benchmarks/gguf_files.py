"""GGUF files in their own blocks: aerogel beside llama.cpp (`pip install xllamacpp`), prefill and decoding.

    python benchmarks/gguf_files.py FILE... [--threads 2] [--rounds 5] [--prompt 128] [--tokens 40] [--peer-python PYTHON]

Each in a process of its own, in turns, with the same token ids. A turn is one prefill and one greedy text after it. Decoding
counts from the second token on. How many characters of their texts are the same, from the first one on, is printed:
llama.cpp rounds activations in blocks of 32, aerogel a row at a time, so long texts part. The first ones have to agree.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

TEXT = """The lighthouse keeper wrote in his book every evening: the wind, the state of the sea, the ships that had passed,
and what the birds had done. Nobody had asked him to note the birds. After forty years the books filled a wall, and a young
woman from the university came to read them, because nothing else told when the terns had begun to arrive two weeks earlier.
She stayed for a month. When she left, the keeper asked her what she had found, and she said: """


def _aerogel(file: str, ids: list[int], tokens: int, threads: int) -> Any:
    import aerogel

    model = aerogel.load(file, threads=threads)

    def turn() -> dict[str, Any]:
        begin = time.perf_counter()
        model.forward(ids, last_only=True)
        prefill = time.perf_counter() - begin
        times, picked = [], []
        for token in model.generate_tokens(ids, tokens, stop=()):
            times.append(time.perf_counter())
            picked.append(int(token))
        return {
            "prefill": len(ids) / prefill,
            "decode": (len(times) - 1) / (times[-1] - times[0]),
            "text": model.tokenizer.decode(picked),
        }

    return turn


def _llama(file: str, ids: list[int], tokens: int, threads: int) -> Any:
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.n_gpu_layers = file, 4096, 1, 0
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(options)
    request = {
        "prompt": ids,
        "n_predict": tokens,
        "temperature": 0,
        "cache_prompt": False,
        "ignore_eos": True,
        "return_tokens": True,
    }

    def turn() -> dict[str, Any]:
        answer = server.handle_completions(request)
        answer = answer if isinstance(answer, dict) else json.loads(answer)
        times = answer["timings"]
        # The first of its tokens comes with the prompt.
        return {
            "prefill": times["prompt_per_second"],
            "decode": times["predicted_per_second"],
            "text": answer["choices"][0]["text"],
        }

    return turn


def _child(kind: str, file: str, threads: str, prompt: str, tokens: str) -> None:
    """Loads, then for every line on stdin takes a turn and answers with its speeds."""
    ids = json.loads(prompt)
    turn = {"aerogel": _aerogel, "llama.cpp": _llama}[kind](file, ids, int(tokens), int(threads))
    turn()  # the first one warms up
    print("ready", flush=True)
    for _ in sys.stdin:
        print("ANSWER " + json.dumps(turn()), flush=True)


class Contestant:
    """A process that takes a turn when it is told to."""

    def __init__(self, kind: str, file: str, ids: list[int], options: argparse.Namespace) -> None:
        self.kind, self.turns = kind, list[dict[str, Any]]()
        python = options.peer_python if kind == "llama.cpp" else sys.executable
        numbers = [str(options.threads), json.dumps(ids), str(options.tokens)]
        self._process = subprocess.Popen(
            [python, __file__, "--child", kind, file, *numbers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if kind == "llama.cpp" else None,  # it tells a lot
            text=True,
        )
        self._line("ready")

    def _line(self, start: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(start):
                return line[len(start) :]
        raise SystemExit(f"{self.kind}: it ended with status {self._process.wait()}")

    def turn(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self.turns.append(json.loads(self._line("ANSWER ")))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def median(self, what: str) -> float:
        return statistics.median(turn[what] for turn in self.turns)


def _same(a: str, b: str) -> int:
    return next((i for i, pair in enumerate(zip(a, b, strict=False)) if pair[0] != pair[1]), min(len(a), len(b)))


def _compare(file: str, options: argparse.Namespace) -> None:
    from aerogel.checkpoint import open_checkpoint

    ids = open_checkpoint(file).tokenizer().encode([TEXT * 8])[0][: options.prompt]
    ours, theirs = (Contestant(kind, file, ids, options) for kind in ("aerogel", "llama.cpp"))
    for _ in range(options.rounds):
        ours.turn()
        theirs.turn()
    ours.close()
    theirs.close()
    mine, its = (contestant.turns[0]["text"].strip() for contestant in (ours, theirs))
    same = _same(mine, its)
    assert same > 0, f"{file}: other texts: {mine[:60]!r} and {its[:60]!r}"
    print(f"{file}: the first {same} of {len(mine)} characters are the same")
    for what in ("prefill", "decode"):
        ratio = statistics.median(a[what] / b[what] for a, b in zip(ours.turns, theirs.turns, strict=True))
        print(f"  {what:8} {ours.median(what):8.1f} tokens/s, llama.cpp {theirs.median(what):8.1f}: {ratio:.2f}x")


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        _child(*sys.argv[2:7])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--peer-python", default=sys.executable, help="with xllamacpp in it")
    options = parser.parse_args()
    for file in options.files:
        _compare(file, options)


if __name__ == "__main__":
    main()
