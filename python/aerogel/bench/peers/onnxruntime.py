"""ONNX Runtime on the CPU: fp32, and dynamic int8 (weights per channel, activations u8 per tensor, at run time)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from . import Engine as Base
from . import has_vnni, replace


class Engine(Base):
    """Its threads spin between operators, which is fastest on a quiet machine; it is stopped while others are measured."""

    def files(self) -> list[Path]:
        graph = self.cache / self.job["onnx"]
        # Without VNNI the u8 x s8 product saturates in 16 bits, so weights keep 7 bits there (reduce_range), as the
        # documentation advises. Measured on MiniLM, AVX2, worst cosine of 20 sentences against fp32: per channel 7 bits
        # 0.984, per channel 8 bits 0.974, u8 weights 0.962, per tensor 0.907, all fused by onnxruntime.transformers
        # first. Not fusing first was no slower, so the plain graph is used: 0.981.
        self.seven_bits = not has_vnni()
        if self.precision == "fp32":
            return [graph]
        return [graph.with_name(f"{graph.stem}-ort-{onnxruntime.__version__}-s{7 if self.seven_bits else 8}.onnx")]

    def convert(self) -> None:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        (target,) = self.files()
        partial = target.with_suffix(".partial")
        quantize_dynamic(
            self.cache / self.job["onnx"],
            partial,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=self.seven_bits,
        )
        replace(partial, target)

    def load(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        (graph,) = self.files()
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def run(self, *arrays: np.ndarray) -> np.ndarray:
        (values,) = arrays
        feed = {"x": values}
        if self.kind != "linear":
            feed = {"input_ids": values, "attention_mask": np.ones_like(values)}
        first: np.ndarray = self.session.run(None, feed)[0]
        return first

    def version(self) -> str:
        return str(onnxruntime.__version__)
