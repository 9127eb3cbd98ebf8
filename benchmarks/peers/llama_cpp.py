"""llama.cpp through its C interface: no Python between tokens but one ctypes call each for decode and pick.

The source package compiles for the CPU it is built on; `CMAKE_ARGS=-DLLAVA_BUILD=OFF` leaves out what is not measured.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import llama_cpp as api
import numpy as np

from . import Decoder as Base
from . import file_key

FILE_TYPES = {"q8_0": api.LLAMA_FTYPE_MOSTLY_Q8_0}
CONTEXT = 2048


@api.llama_log_callback
def _silent(level, text, user_data):
    pass


class Decoder(Base):
    def prepare(self, model: Path, precision: str, cache: Path) -> None:
        """`model` is a GGUF file of any type; it is quantized again to `precision`."""
        api.llama_log_set(_silent, ctypes.c_void_p(0))
        api.llama_backend_init()
        path = str(_requantized(model, precision, cache, self.threads)).encode()
        self.model = api.llama_model_load_from_file(path, api.llama_model_default_params())
        options = api.llama_context_default_params()
        options.n_ctx = CONTEXT
        options.n_threads = options.n_threads_batch = self.threads
        self.context = api.llama_init_from_model(self.model, options)
        if not self.model or not self.context:
            raise RuntimeError(f"llama.cpp cannot open {model}")
        self.pick = api.llama_sampler_init_greedy()

    def run(self, prompt: np.ndarray, new_tokens: int) -> np.ndarray:
        api.llama_memory_clear(api.llama_get_memory(self.context), True)
        feed = (api.llama_token * len(prompt))(*prompt.tolist())
        picked = []
        for _ in range(new_tokens):
            if api.llama_decode(self.context, api.llama_batch_get_one(feed, len(feed))) != 0:
                raise RuntimeError("llama_decode failed")
            feed = (api.llama_token * 1)(api.llama_sampler_sample(self.pick, self.context, -1))
            picked.append(feed[0])
        return np.asarray(picked, np.int32)


def _requantized(model: Path, precision: str, cache: Path, threads: int) -> Path:
    target = cache / f"{file_key(model)}-{precision}.gguf"
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(".partial")
    options = api.llama_model_quantize_default_params()
    options.ftype = FILE_TYPES[precision]
    options.allow_requantize = True
    options.nthread = threads
    if api.llama_model_quantize(str(model).encode(), str(partial).encode(), ctypes.byref(options)) != 0:
        raise RuntimeError(f"llama.cpp cannot quantize {model} to {precision}")
    os.replace(partial, target)
    return target
