"""PyTorch on the CPU: fp32 with fused attention, and dynamic int8 of the linear layers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from . import Engine as Base


class Engine(Base):
    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(job)
        if self.kind != "linear":  # imported here: what is timed is loading the model, not Python modules
            from transformers import AutoModel, AutoModelForCausalLM

            self.auto = AutoModel if self.kind == "encoder" else AutoModelForCausalLM

    def load(self) -> None:
        torch.set_num_threads(self.threads)
        if self.kind == "linear":
            with np.load(self.model) as arrays:
                weight = torch.from_numpy(arrays["weight"])
            layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            layer.weight.data = weight
            module: torch.nn.Module = torch.nn.Sequential(layer)
        else:
            module = self.auto.from_pretrained(
                self.model, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
            )
        self.module = module.eval()
        if self.precision == "int8":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # One weight scale per channel, as everyone else has; the default, one per layer, costs much accuracy.
                per_channel = torch.ao.quantization.per_channel_dynamic_qconfig
                quantize = torch.ao.quantization.quantize_dynamic
                self.module = quantize(self.module, {torch.nn.Linear: per_channel})  # type: ignore[no-untyped-call]  # PyTorch gives it no types

    def run(self, *arrays: np.ndarray) -> np.ndarray:
        values = torch.from_numpy(arrays[0])
        with torch.inference_mode():
            if self.kind == "decoder" and len(arrays) > 1:
                return self._greedy(values[None], int(arrays[1][0]))
            y: torch.Tensor
            if self.kind == "linear":
                y = self.module(values)
            elif self.kind == "encoder":
                # No mask: nothing is padded, and the attention kernel without one is the faster.
                y = self.module(input_ids=values).last_hidden_state
            else:
                y = self.module(input_ids=values[None], use_cache=True, logits_to_keep=1).logits[0, -1]
            return y.numpy()

    def _greedy(self, ids: torch.Tensor, count: int) -> np.ndarray:
        cache, picked = None, []
        for _ in range(count):
            step = self.module(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, ids = step.past_key_values, step.logits[:, -1:].argmax(-1)
            picked.append(int(ids))
        return np.array(picked, np.int64)

    def version(self) -> str:
        return str(torch.__version__)
