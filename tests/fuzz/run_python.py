"""Fuzzes a reader that is written in Python, guided by its coverage (atheris: libFuzzer for Python).

    python tests/fuzz/run_python.py TARGET SECONDS CORPUS

TARGET is gguf, safetensors or packed: fuzz_TARGET(data) in targets.py raises where the reader does not either read the
bytes or refuse them as it should; seeds_TARGET() gives files to begin with. What is found goes into the folder CORPUS, which
may be there from a run before. Ends with a status other than 0 if an input made the target raise, hang or eat memory; the
input is kept beside CORPUS and named.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import atheris

sys.path.insert(1, str(Path(__file__).resolve().parents[2]))


def main() -> None:
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    name, seconds, corpus = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    # Only our own code is guided through: NumPy and gguf would cost most of the time.
    with atheris.instrument_imports(include=["aerogel"]):
        from tests.fuzz import targets
    target = getattr(targets, f"fuzz_{name}")
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in getattr(targets, f"seeds_{name}")():
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)

    def once(data: bytes) -> None:
        try:
            target(data)
        except BaseException:
            print(f"fuzz_{name}: the input is kept as {corpus.parent}/{name}-*", file=sys.stderr)
            raise

    options = [f"-max_total_time={seconds}", f"-artifact_prefix={corpus.parent}/{name}-", "-print_final_stats=1"]
    # A reader that allocates what a header claims is found by the limit of memory, one that loops by that of time.
    options += ["-timeout=20", "-rss_limit_mb=2048", "-max_len=65536", "-verbosity=1"]
    atheris.Setup([sys.argv[0], str(corpus), *options], once)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
