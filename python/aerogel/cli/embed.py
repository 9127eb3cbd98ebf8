"""aerogel embed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from aerogel.cli.console import check_outputs, console
from aerogel.engine.model import load
from aerogel.errors import DataError


def run(folder: str, file: str, as_json: bool, npy: Path | None, threads: int | None) -> None:
    check_outputs(npy)
    texts = read_lines(file)
    embeddings = load(folder, threads).encode(texts)
    if npy is not None:
        with npy.open("wb") as out:  # np.save would add a suffix to a name that has none
            np.save(out, embeddings)
        console.print(f"{npy}: float32 {list(embeddings.shape)}", markup=False)
        return
    for text, embedding in zip(texts, embeddings, strict=True):
        if as_json:
            values = [float(f"{value:.9g}") for value in embedding]  # 9 digits give the same float32 back
            line = json.dumps({"text": text, "embedding": values})
        else:
            line = " ".join(f"{value:.9g}" for value in embedding)
        sys.stdout.write(line + "\n")


def read_lines(file: str) -> list[str]:
    """The file's lines (- is standard input), UTF-8, without their ends."""
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected UTF-8 text: {error}") from error
    lines = text.replace("\r\n", "\n").split("\n")  # not splitlines, which also breaks at form feeds and the like
    return lines[:-1] if lines[-1] == "" else lines
