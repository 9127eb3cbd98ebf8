"""DeepSparse 1.8.0 (Python <= 3.11; withdrawn, licensed for evaluation only): fp32, and static int8 in the form it knows.

Its int8 kernels want QuantizeLinear + MatMulInteger + Add + Cast + Mul for each linear; a QDQ graph falls out of the
engine and runs 15 times slower. It rewrites the shapes in the ONNX file that it is given, so it gets copies.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

os.environ["NM_DISABLE_ANALYTICS"] = "1"

import deepsparse  # noqa: E402  (after it is told not to phone home)
import numpy as np  # noqa: E402

from . import Engine as Base  # noqa: E402
from . import has_vnni, replace  # noqa: E402


class Engine(Base):
    def files(self) -> list[Path]:
        graph = self.cache / self.job["onnx"]
        return [
            graph
            if self.precision == "fp32"
            else graph.with_name(f"{graph.stem}-deepsparse-{'s8' if has_vnni() else 's7'}.onnx")
        ]

    def convert(self) -> None:
        (target,) = self.files()
        with np.load(self.job["calibration"]) as arrays:
            inputs = [self._feed(arrays[name]) for name in arrays.files]
        quantize(self.cache / self.job["onnx"], target, [dict(zip(self._names(), feed)) for feed in inputs])

    def load(self) -> None:
        """It compiles for one shape: that of the first case here, the others' when they come."""
        self.engines: dict[tuple[int, ...], Any] = {}
        self._compile(tuple(self.job["shape"]))

    def run(self, *arrays: np.ndarray) -> np.ndarray:
        feed = self._feed(arrays[0])
        first: np.ndarray = self._compile(feed[0].shape).run(feed)[0]
        return first

    def _compile(self, shape: tuple[int, ...]) -> Any:
        if shape not in self.engines:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "model.onnx"
                copy.write_bytes(self.files()[0].read_bytes())
                shapes = [list(shape) for _ in self._names()]
                self.engines[shape] = deepsparse.Engine(
                    str(copy), batch_size=shape[0], num_cores=self.threads, input_shapes=shapes
                )
        return self.engines[shape]

    def _feed(self, values: np.ndarray) -> list[np.ndarray]:
        values = np.ascontiguousarray(values)
        return [values] if self.kind == "linear" else [values, np.ones_like(values)]

    def _names(self) -> tuple[str, ...]:
        return ("x",) if self.kind == "linear" else ("input_ids", "attention_mask")

    def version(self) -> str:
        return str(deepsparse.__version__)


def quantize(source: Path, target: Path, inputs: list[dict[str, np.ndarray]]) -> None:
    """Each MatMul with constant weights: u8 activations with a range from `inputs`, s8 weights with one scale a column.

    Without VNNI its u8 x s8 products saturate in 16 bits (a cosine of 0.19 on MiniLM), so weights keep 7 bits there.
    """
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(source))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    matmuls = [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in constants]

    watched = onnx.load(str(source))
    names = sorted({node.input[0] for node in matmuls} - {value.name for value in model.graph.input})
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for feed in inputs:
        for name, values in [*zip(names, session.run(names, feed) if names else []), *feed.items()]:
            low[name] = min(low.get(name, 0.0), float(values.min()))
            high[name] = max(high.get(name, 0.0), float(values.max()))

    largest = 127 if has_vnni() else 63
    biases = {}  # the Add behind a MatMul, if one operand is a constant vector
    for node in model.graph.node:
        if node.op_type == "Add":
            for bias, value in ((node.input[0], node.input[1]), (node.input[1], node.input[0])):
                if bias in constants and len(constants[bias].dims) == 1:
                    biases[value] = (node, bias)

    nodes, dropped = [], set()
    for node in model.graph.node:
        if id(node) in dropped or node.name in dropped:
            continue
        if node not in matmuls:
            nodes.append(node)
            continue
        x, w, y = node.input[0], node.input[1], node.output[0]
        scale = max(high[x] - low[x], 1e-8) / 255
        zero = int(np.clip(round(-low[x] / scale), 0, 255))
        weight = numpy_helper.to_array(constants[w])
        w_scale = np.maximum(np.abs(weight).max(axis=0) / largest, 1e-12).astype(np.float32)
        codes = np.rint(weight / w_scale).astype(np.int8)
        add = biases.get(y)
        bias = numpy_helper.to_array(constants[add[1]]) if add else np.zeros(len(w_scale), np.float32)
        if add:
            dropped.add(add[0].name)
        new = {
            f"{y}_scale": np.float32(scale),
            f"{y}_zero": np.uint8(zero),
            f"{y}_codes": codes,
            f"{y}_codes_zero": np.int8(0),
            f"{y}_bias": np.rint(bias / (scale * w_scale)).astype(np.int32),
            f"{y}_scales": (scale * w_scale).astype(np.float32),
        }
        model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), name) for name, v in new.items())
        out = add[0].output[0] if add else y
        nodes += [
            helper.make_node("QuantizeLinear", [x, f"{y}_scale", f"{y}_zero"], [f"{y}_q"]),
            helper.make_node("MatMulInteger", [f"{y}_q", f"{y}_codes", f"{y}_zero", f"{y}_codes_zero"], [f"{y}_i"]),
            helper.make_node("Add", [f"{y}_i", f"{y}_bias"], [f"{y}_b"]),
            helper.make_node("Cast", [f"{y}_b"], [f"{y}_f"], to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{y}_f", f"{y}_scales"], [out]),
        ]
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    for field, values in ((model.graph.node, nodes), (model.graph.initializer, kept)):
        del field[:]
        field.extend(values)
    partial = target.with_suffix(".partial")
    onnx.save(model, str(partial))
    replace(partial, target)
