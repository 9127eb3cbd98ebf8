"""What people write themselves: FastAPI around sentence-transformers with OpenVINO's int8. Needs nothing of aerogel.

    python benchmarks/peer_server.py FOLDER --export MODEL --calibrate sentences.txt
    python benchmarks/peer_server.py FOLDER --batching threads|queue [--threads 2] [--port 0]

The first makes FOLDER, as sentence-transformers documents it (`export_static_quantized_openvino_model`: weights and
activations in int8 by a static quantization with SmoothQuant, its own defaults), calibrated with sentences of a file.
The second serves it at POST /embed, {"inputs": text or texts}, and says "serving on PORT". Its two ways:

threads: a plain `def` endpoint, which FastAPI runs in its thread pool, calls `model.encode`. Under a lock: without
one the calls of several threads share one request of OpenVINO, and answers come out as somebody else's.
queue: a loop takes what has come within `--wait` milliseconds, 32 texts at most, and encodes it together.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

FILE = "openvino/openvino_model_qint8_quantized.xml"


def export(folder: str, source: str, sentences: str) -> None:
    """Quantizes a model."""
    from sentence_transformers import SentenceTransformer, export_static_quantized_openvino_model

    model = SentenceTransformer(source, device="cpu", backend="openvino")
    model.save_pretrained(folder)
    lines = Path(sentences).read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory() as place:
        with open(f"{place}/train.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["sentence"], *([line] for line in lines)])
        export_static_quantized_openvino_model(
            model,
            None,
            folder,
            dataset_name=place,
            dataset_config_name="default",
            dataset_split="train",
            column_name="sentence",
        )


def load(folder: str, file: str, threads: int) -> Any:
    """The model, with as many threads as all contestants have."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    options = {"file_name": file, "ov_config": {"INFERENCE_NUM_THREADS": threads}}
    return SentenceTransformer(folder, device="cpu", backend="openvino", model_kwargs=options)


class Queue:
    """Encodes together what comes within some milliseconds."""

    def __init__(self, model: Any, wait: float, most: int) -> None:
        self._model, self._wait, self._most = model, wait, most
        self._waiting: asyncio.Queue[tuple[str, asyncio.Future[list[float]]]] = asyncio.Queue()

    async def encode(self, texts: list[str]) -> list[list[float]]:
        futures = [asyncio.get_running_loop().create_future() for _ in texts]
        for pair in zip(texts, futures, strict=True):
            self._waiting.put_nowait(pair)
        return [await future for future in futures]

    async def run(self) -> None:
        """For ever. While a batch is encoded the next one gathers, so waiting more than for the first is rare."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            end = loop.time() + self._wait
            while len(batch) < self._most and (self._waiting.qsize() or loop.time() < end):
                try:
                    batch.append(await asyncio.wait_for(self._waiting.get(), max(0.0, end - loop.time())))
                except asyncio.TimeoutError:
                    break
            rows = await asyncio.to_thread(self._model.encode, [text for text, _ in batch], batch_size=self._most)
            for (_, future), row in zip(batch, rows.tolist(), strict=True):
                if not future.cancelled():
                    future.set_result(row)


def application(model: Any, batching: str, wait: float, most: int) -> Any:
    """The FastAPI application."""
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Body(BaseModel):
        inputs: str | list[str]

    app = FastAPI()
    if batching == "threads":
        turn = threading.Lock()

        def embed(body: Body) -> list[list[float]]:
            texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
            with turn:
                return model.encode(texts).tolist()

        embed.__annotations__["body"] = Body  # a name of this function, which FastAPI cannot look up
        app.post("/embed")(embed)
        return app

    queue = Queue(model, wait, most)
    tasks = []

    async def embed_queued(body: Body) -> list[list[float]]:
        if not tasks:
            tasks.append(asyncio.create_task(queue.run()))
        return await queue.encode([body.inputs] if isinstance(body.inputs, str) else body.inputs)

    embed_queued.__annotations__["body"] = Body
    app.post("/embed")(embed_queued)
    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--export", metavar="MODEL")
    parser.add_argument("--calibrate", metavar="FILE", help="a sentence a line")
    parser.add_argument("--file", default=FILE)
    parser.add_argument("--batching", choices=("threads", "queue"), default="threads")
    parser.add_argument("--wait", type=float, default=3.0, help="milliseconds")
    parser.add_argument("--most", type=int, default=32, help="texts of a batch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--port", type=int, default=0)
    said = parser.parse_args()
    if said.export:
        export(said.folder, said.export, said.calibrate)
        return
    import uvicorn

    model = load(said.folder, said.file, said.threads)
    app = application(model, said.batching, said.wait / 1e3, said.most)
    with socket.create_server(("127.0.0.1", said.port)) as place:
        print(f"serving on {place.getsockname()[1]}", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run([place])


if __name__ == "__main__":
    main()
