"""Decoders through transformers: any causal language model that aerogel runs (Llama, Qwen2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from aerogel.checkpoint.names import normalize
from aerogel.errors import AerogelError
from aerogel.train.batches import Batch
from aerogel.train.trainee import Outputs, Trainee

if TYPE_CHECKING:
    from aerogel.architectures import Architecture


class Causal(Trainee):
    """A model of transformers on batches that are padded to their longest sequence."""

    def __init__(self, architecture: Architecture, config: Mapping[str, Any]) -> None:
        super().__init__()
        try:
            from transformers import AutoConfig, AutoModelForCausalLM
        except ModuleNotFoundError as absent:
            if absent.name != "transformers":
                raise
            raise AerogelError("training a decoder needs transformers: pip install 'aerogel[train]'") from absent
        self.architecture = architecture
        self.dropout = 0.0  # these families have none
        left_out = ("model_type", "quantization_config", "torch_dtype", "dtype")  # training is in float32
        values = {key: value for key, value in config.items() if key not in left_out}
        values["tie_word_embeddings"] = getattr(architecture, "tied", False)
        with torch.device("cpu"):
            self.model = AutoModelForCausalLM.from_config(
                AutoConfig.for_model(config["model_type"], **values), attn_implementation="sdpa"
            )
        self.model.config.use_cache = False

    def named(self) -> dict[str, nn.Parameter]:
        return {normalize(name): parameter for name, parameter in self.model.named_parameters()}

    def forward(self, batch: Batch, attention: bool = False) -> Outputs:
        if attention:
            raise AerogelError("training a decoder: the loss on attention is for encoders only")
        sequences, longest = len(batch.lengths), int(batch.lengths.max())
        kept = torch.arange(longest)[None, :] < batch.lengths[:, None]  # [S, L]
        ids = torch.zeros(sequences, longest, dtype=torch.int64)
        ids[kept] = batch.ids
        mask = None if bool(kept.all()) else kept.long()
        done = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        # padding is dropped, so that losses see the ragged form: [S, L, width] -> [T, width]
        return Outputs(hidden=[h[kept] for h in done.hidden_states], logits=done.logits[kept])
