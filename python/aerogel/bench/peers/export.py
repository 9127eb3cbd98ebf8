"""The fp32 ONNX graph that several engines start from: a BERT, or one linear layer."""

from __future__ import annotations

import warnings

import numpy as np

from . import Engine as Base
from . import replace


class Engine(Base):
    """Not a contestant: `convert` writes job["onnx"]."""

    def convert(self) -> None:
        (_linear if self.kind == "linear" else _encoder)(self)

    def load(self) -> None:
        raise NotImplementedError

    def run(self, *arrays: np.ndarray) -> np.ndarray:
        raise NotImplementedError


def _linear(engine: Engine) -> None:
    """x [M,K] -> y [M,N], M free."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    with np.load(engine.model) as arrays:
        weight = np.ascontiguousarray(arrays["weight"].T)  # ONNX multiplies from the right
    k, n = weight.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["M", k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["M", n])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    target = engine.cache / engine.job["onnx"]
    onnx.save(model, target.with_suffix(".partial"))
    replace(target.with_suffix(".partial"), target)


def _encoder(engine: Engine) -> None:
    """input_ids, attention_mask int64 [batch, sequence] -> hidden [batch, sequence, hidden]."""
    import torch
    from transformers import AutoModel

    class LastHidden(torch.nn.Module):
        def __init__(self, encoder: torch.nn.Module) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return hidden

    # Eager attention through the TorchScript exporter gives the graph whose attention, GELU and layer norms both
    # engines recognise and fuse; onnxruntime.transformers finds no attention to fuse in the newer exporter's graph.
    encoder = AutoModel.from_pretrained(
        engine.model, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()
    ids, mask = torch.full((2, 16), min(1000, encoder.config.vocab_size - 1)), torch.ones(2, 16, dtype=torch.int64)
    free = {0: "batch", 1: "sequence"}
    target = engine.cache / engine.job["onnx"]
    partial = target.with_suffix(".partial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecation and tracing notes
        torch.onnx.export(
            LastHidden(encoder),
            (ids, mask),
            str(partial),
            input_names=["input_ids", "attention_mask"],
            output_names=["hidden"],
            dynamic_axes={"input_ids": free, "attention_mask": free, "hidden": free},
            opset_version=17,
            dynamo=False,
        )
    replace(partial, target)
