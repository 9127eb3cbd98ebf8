"""PyTorch on the CPU: fp32 with fused attention, and dynamic int8 of the linear layers."""

from __future__ import annotations

import warnings

import numpy as np
import torch

from . import Engine as Base


class Engine(Base):
    def __init__(self, job: dict) -> None:
        super().__init__(job)
        if self.kind != "linear":  # imported here: what is timed is loading the model, not Python modules
            from transformers import AutoModel, AutoModelForCausalLM

            self.auto = AutoModel if self.kind == "encoder" else AutoModelForCausalLM

    def load(self) -> None:
        torch.set_num_threads(self.threads)
        if self.kind == "linear":
            with np.load(self.model) as arrays:
                weight = torch.from_numpy(arrays["weight"])
            module = torch.nn.Sequential(torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False))
            module[0].weight.data = weight
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
                self.module = torch.ao.quantization.quantize_dynamic(self.module, {torch.nn.Linear: per_channel})

    def run(self, *arrays: np.ndarray) -> np.ndarray:
        values = torch.from_numpy(arrays[0])
        with torch.inference_mode():
            if self.kind == "linear":
                return self.module(values).numpy()
            if self.kind == "encoder":
                # No mask: nothing is padded, and the attention kernel without one is the faster.
                return self.module(input_ids=values).last_hidden_state.numpy()
            if len(arrays) == 1:
                return self.module(input_ids=values[None], use_cache=True, logits_to_keep=1).logits[0, -1].numpy()
            return self._greedy(values[None], int(arrays[1][0]))

    def _greedy(self, ids: torch.Tensor, count: int) -> np.ndarray:
        cache, picked = None, []
        for _ in range(count):
            step = self.module(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, ids = step.past_key_values, step.logits[:, -1:].argmax(-1)
            picked.append(int(ids))
        return np.array(picked, np.int64)

    def version(self) -> str:
        return torch.__version__
