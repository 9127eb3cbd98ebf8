"""OpenVINO on the CPU: fp32, and static int8 by NNCF post-training quantization (transformer preset)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino

from . import Engine as Base
from . import replace


class Engine(Base):
    def files(self) -> list[Path]:
        graph = self.cache / self.job["onnx"]
        if self.precision == "fp32":
            return [graph]
        target = graph.with_name(f"{graph.stem}-openvino-int8.xml")
        return [target, target.with_suffix(".bin")]

    def convert(self) -> None:
        """Static int8: u8 activations with ranges from the calibration inputs, s8 weights per channel.

        NNCF is the toolkit's own way and the only int8 that its transformer kernels recognise. Its default keeps the
        matrix products of attention in int8 too, and smooths activations before the range is taken.
        """
        import nncf

        target, weights = self.files()
        with np.load(self.job["calibration"]) as arrays:
            inputs = [self._feed(arrays[name]) for name in arrays.files]
        preset = {} if self.kind == "linear" else {"model_type": nncf.ModelType.TRANSFORMER}
        network = nncf.quantize(
            openvino.Core().read_model(self.cache / self.job["onnx"]),
            nncf.Dataset(inputs),
            subset_size=len(inputs),
            **preset,
        )
        # The .xml is moved last: its presence says that the pair is whole.
        partial = target.with_name(target.stem + "-partial.xml")
        openvino.save_model(network, partial, compress_to_fp16=False)
        replace(partial.with_suffix(".bin"), weights)
        replace(partial, target)

    def load(self) -> None:
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": "f32",  # what is not int8 stays fp32, also where the CPU has bf16
        }
        core = openvino.Core()
        self.request = core.compile_model(core.read_model(self.files()[0]), "CPU", options).create_infer_request()

    def run(self, *arrays: np.ndarray) -> np.ndarray:
        first: np.ndarray = self.request.infer(self._feed(arrays[0]), share_inputs=True)[0]
        return first

    def _feed(self, values: np.ndarray) -> dict[str, np.ndarray]:
        if self.kind == "linear":
            return {"x": values}
        return {"input_ids": values, "attention_mask": np.ones_like(values)}

    def version(self) -> str:
        return str(openvino.__version__.split("-")[0])
