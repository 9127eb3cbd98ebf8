"""OpenVINO on the CPU: fp32, and static int8 by NNCF post-training quantization (transformer preset)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import openvino

from . import Encoder as Base
from . import pad, unpad
from .export import export_bert


class Encoder(Base):
    # Fixed shapes let OpenVINO plan its memory once: each [batch, sequence] seen is compiled once and kept.
    static_shapes = False

    def prepare(self, model: Path, precision: str, cache: Path) -> None:
        graph = export_bert(model, cache)
        self.core = openvino.Core()
        self.network = self.core.read_model(_quantized(graph, model) if precision == "int8" else graph)
        self.options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": "f32",  # what is not int8 stays fp32, also where the CPU has bf16
        }
        self.requests = {}

    def _request(self, shape: tuple[int, int]):
        key = shape if self.static_shapes else None
        if key not in self.requests:
            network = self.network
            if self.static_shapes:
                network = network.clone()
                network.reshape({name: list(shape) for name in ("input_ids", "attention_mask")})
            self.requests[key] = self.core.compile_model(network, "CPU", self.options).create_infer_request()
        return self.requests[key]

    def run(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        ids, mask = pad(rows)
        request = self._request(ids.shape)
        states = request.infer({"input_ids": ids, "attention_mask": mask}, share_inputs=True)["hidden"]
        return unpad(states, rows)


def _quantized(graph: Path, model: Path) -> Path:
    """Static int8: u8 activations with ranges from the calibration sentences, s8 weights per channel.

    NNCF is the toolkit's own way and the only int8 that its transformer kernels recognise. Its default keeps the
    matrix products of attention in int8 too, and smooths activations before the range is taken.
    """
    import nncf

    from calibration import calibration_rows

    target = graph.with_name(graph.stem + f"-openvino-{nncf.__version__}-int8.xml")
    if not target.exists():
        inputs = [dict(zip(("input_ids", "attention_mask"), pad([row]))) for row in calibration_rows(model)]
        network = nncf.quantize(
            openvino.Core().read_model(graph),
            nncf.Dataset(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(inputs),
        )
        # The .xml is moved last: its presence says that the pair is whole.
        partial = target.with_name(target.stem + "-partial.xml")
        openvino.save_model(network, partial, compress_to_fp16=False)
        os.replace(partial.with_suffix(".bin"), target.with_suffix(".bin"))
        os.replace(partial, target)
    return target
