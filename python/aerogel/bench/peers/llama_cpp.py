"""llama.cpp through its C interface, 8-bit blocks (Q8_0): no Python between tokens but one ctypes call each.

The source package compiles for the CPU it is built on; `CMAKE_ARGS=-DLLAVA_BUILD=OFF` leaves out what is not measured.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp as api
import numpy as np

from . import Engine as Base
from . import replace

CONTEXT = 2048


def _ignore(level: int, text: bytes, user_data: object) -> None:
    pass


_silent = api.llama_log_callback(_ignore)


class Engine(Base):
    def files(self) -> list[Path]:
        return [self.cache / f"{self.job['key']}-q8_0.gguf"]

    def convert(self) -> None:
        """The GGUF file, of whatever type, quantized again."""
        (target,) = self.files()
        partial = target.with_suffix(".partial")
        options = api.llama_model_quantize_default_params()
        options.ftype = api.LLAMA_FTYPE_MOSTLY_Q8_0
        options.allow_requantize = True
        options.nthread = self.threads
        if api.llama_model_quantize(str(self.model).encode(), str(partial).encode(), ctypes.byref(options)) != 0:
            raise RuntimeError(f"llama.cpp cannot quantize {self.model}")
        replace(partial, target)

    def load(self) -> None:
        api.llama_log_set(_silent, ctypes.c_void_p(0))
        api.llama_backend_init()
        path = str(self.files()[0]).encode()
        self.weights = api.llama_model_load_from_file(path, api.llama_model_default_params())
        options = api.llama_context_default_params()
        options.n_ctx = options.n_batch = CONTEXT
        options.n_threads = options.n_threads_batch = self.threads
        self.context = api.llama_init_from_model(self.weights, options)
        if not self.weights or not self.context:
            raise RuntimeError(f"llama.cpp cannot open {self.model}")
        self.pick = api.llama_sampler_init_greedy()

    def run(self, *arrays: np.ndarray) -> np.ndarray:
        ids = arrays[0]
        api.llama_memory_clear(api.llama_get_memory(self.context), True)
        feed = (api.llama_token * len(ids))(*ids.tolist())
        if len(arrays) == 1:
            self._decode(feed)
            logits = api.llama_get_logits_ith(self.context, -1)
            width = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.weights))
            return np.ctypeslib.as_array(logits, (width,)).astype(np.float32)
        picked: list[int] = []
        for _ in range(int(arrays[1][0])):
            self._decode(feed)
            feed = (api.llama_token * 1)(api.llama_sampler_sample(self.pick, self.context, -1))
            picked.append(feed[0])
        return np.array(picked, np.int64)

    def _decode(self, feed: ctypes.Array[ctypes.c_int32]) -> None:
        if api.llama_decode(self.context, api.llama_batch_get_one(feed, len(feed))) != 0:
            raise RuntimeError("llama_decode failed")

    def version(self) -> str:
        return str(api.__version__)
