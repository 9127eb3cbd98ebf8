"""What the keys of a decoder's config.json mean; a family adds its own to them."""

from __future__ import annotations

from aerogel.architectures.settings import CONFIG, Refused, Settings

DECODER = CONFIG | Settings(
    "config.json",
    used={
        "num_hidden_layers": "layers",
        "hidden_size": "width",
        "num_attention_heads": "query heads",
        "num_key_value_heads": "key and value heads",
        "head_dim": "width of a head",
        "intermediate_size": "width of the feed-forward blocks",
        "max_position_embeddings": "the longest sequence",
        "rms_norm_eps": "RMS norm",
        "hidden_act": "the activation of the gate",
        "rope_theta": "rotary embeddings",
        "rope_scaling": "rotary embeddings",
        "rope_parameters": "rotary embeddings, as Transformers 5 writes them",
        "original_max_position_embeddings": "rotary embeddings",
        "partial_rotary_factor": "rotary embeddings",
        "is_causal": "false: each token also attends to what comes after it",
        "id2label": "how many scores a classifier has",
        "num_labels": "how many scores a classifier has",
        "label2id": "names of classes in evaluations",
    },
    harmless={
        "rope_interleaved": "the layout of another runtime's weights",
        "bias": "the tensors say it",
        "qkv_bias": "the tensors say it",
    },
    refused={
        "use_bidirectional_attention": Refused("attention to what comes after", ()),
        "is_decoder": Refused("attention to what comes after", (True, False)),
        "attention_chunk_size": Refused("chunked attention", ()),
        "num_nextn_predict_layers": Refused("layers that predict more than one token", (0,)),
        "attention_bias": Refused("biases that the family does not have"),
        "mlp_bias": Refused("biases that the family does not have"),
    },
)

#: For families with these biases where the config says so.
BIASES = Settings(
    "config.json",
    used={"attention_bias": "biases of the attention's linears", "mlp_bias": "biases of the feed-forward linears"},
)

#: For families in which some layers may see a window of the text only.
WINDOWS = Settings(
    "config.json",
    used={
        "sliding_window": "how many tokens a layer with a window sees, the token itself among them",
        "layer_types": "which layers have the window",
    },
)

#: For families that have no windows.
NO_WINDOWS = Settings(
    "config.json",
    used={
        "sliding_window": "refused where use_sliding_window does not switch it off",
        "use_sliding_window": "only false, or without a window",
        "layer_types": "only full_attention",
    },
    harmless={"max_window_layers": "without windows"},
)
