"""CTranslate2 on the CPU: fp32, and int8 (weights per row, activations per token, at run time)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import ctranslate2
import numpy as np

from . import Engine as Base


class Engine(Base):
    def files(self) -> list[Path]:
        return [self.cache / f"{self.job['key']}-ctranslate2-{self.precision}"]

    def convert(self) -> None:
        from ctranslate2.converters import TransformersConverter

        (target,) = self.files()
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        quantization = "int8" if self.precision == "int8" else "float32"
        TransformersConverter(str(self.model)).convert(str(partial), quantization=quantization)
        os.replace(partial, target)

    def load(self) -> None:
        compute = "int8" if self.precision == "int8" else "float32"
        self.encoder = ctranslate2.Encoder(
            str(self.files()[0]), device="cpu", compute_type=compute, inter_threads=1, intra_threads=self.threads
        )

    def run(self, *arrays: np.ndarray) -> np.ndarray:
        # Read in place: their StorageView speaks the array interface.
        ids = np.ascontiguousarray(arrays[0], np.int32)
        lengths = np.full(len(ids), ids.shape[1], np.int32)
        view = ctranslate2.StorageView.from_array
        return np.array(self.encoder.forward_batch(view(ids), view(lengths)).last_hidden_state)

    def version(self) -> str:
        return str(ctranslate2.__version__)
