"""PyTorch on the CPU: fp32 with fused attention, and dynamic int8 of the linear layers."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from . import Encoder as Base
from . import pad, unpad


class Encoder(Base):
    def prepare(self, model: Path, precision: str, cache: Path) -> None:
        from transformers import AutoModel

        torch.set_num_threads(self.threads)
        self.model = AutoModel.from_pretrained(
            model, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
        ).eval()
        if precision == "int8":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                # One weight scale per channel, as everyone else has; the default, one per layer, costs much accuracy.
                per_channel = torch.ao.quantization.per_channel_dynamic_qconfig
                self.model = torch.ao.quantization.quantize_dynamic(self.model, {torch.nn.Linear: per_channel})

    def run(self, rows: list[np.ndarray]) -> list[np.ndarray]:
        ids, mask = pad(rows)
        # Without padding no mask is passed: the attention kernel without one is the faster.
        ragged = not mask.all()
        with torch.inference_mode():
            states = self.model(
                input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask) if ragged else None
            ).last_hidden_state
        return unpad(states.numpy(), rows)
