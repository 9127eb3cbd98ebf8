"""BERT as an fp32 ONNX graph with free batch and sequence axes: what ONNX Runtime and OpenVINO start from."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from . import file_key


def export_bert(model: Path, cache: Path) -> Path:
    """Path of the graph input_ids, attention_mask int64 [batch, sequence] -> hidden [batch, sequence, hidden]."""
    target = cache / f"{file_key(model / 'model.safetensors')}-fp32.onnx"
    if target.exists():
        return target

    import torch
    from transformers import AutoModel

    class LastHidden(torch.nn.Module):
        def __init__(self, bert):
            super().__init__()
            self.bert = bert

        def forward(self, input_ids, attention_mask):
            return self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    # Eager attention through the TorchScript exporter gives the graph whose attention, GELU and layer norms both
    # engines recognise and fuse; onnxruntime.transformers finds no attention to fuse in the newer exporter's graph.
    bert = AutoModel.from_pretrained(
        model, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()
    ids, mask = torch.full((2, 16), 1000), torch.ones(2, 16, dtype=torch.int64)
    free = {0: "batch", 1: "sequence"}
    partial = target.with_suffix(".partial")
    cache.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecation and tracing notes
        torch.onnx.export(
            LastHidden(bert),
            (ids, mask),
            str(partial),
            input_names=["input_ids", "attention_mask"],
            output_names=["hidden"],
            dynamic_axes={"input_ids": free, "attention_mask": free, "hidden": free},
            opset_version=17,
            dynamo=False,
        )
    os.replace(partial, target)
    return target
