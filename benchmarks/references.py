"""Dense fp32 references, computed by transformers from the same files that everyone else is given."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def load_encoder(folder: Path):
    """(BertModel in fp32 eval mode, tokenizer without the truncation and padding that tokenizer.json may carry)."""
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModel

    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True)
    return model.eval(), tokenizer


def token_ids(tokenizer, sentences: list[str], max_tokens: int) -> list[np.ndarray]:
    """Ragged ids with special tokens, cut to max_tokens; the closing special token survives the cut."""
    rows = []
    for encoding in tokenizer.encode_batch(list(sentences)):
        ids = np.asarray(encoding.ids, np.int32)
        rows.append(ids if len(ids) <= max_tokens else np.append(ids[: max_tokens - 1], ids[-1]))
    return rows


def hidden_states(model, rows: list[np.ndarray]) -> list[np.ndarray]:
    """Last hidden states [len(ids), hidden] of each row, run alone: nothing is padded."""
    import torch

    with torch.inference_mode():
        return [
            model(input_ids=torch.from_numpy(ids.astype(np.int64))[None]).last_hidden_state[0].numpy() for ids in rows
        ]


def mean_pooled(states: list[np.ndarray]) -> np.ndarray:
    """Sentence embeddings [S, hidden]: the mean over tokens, special ones included, scaled to length one."""
    pooled = np.stack([s.mean(axis=0, dtype=np.float64) for s in states])
    return (pooled / np.linalg.norm(pooled, axis=1, keepdims=True)).astype(np.float32)


def gguf_tokenizer(path: Path):
    """The byte-level BPE that the GGUF file describes. It adds no BOS; special tokens written in the text become ids.

    Only the pre-tokenizers that are known here are accepted: a wrong split changes the ids silently.
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    fields = GGUFReader(str(path)).fields

    def field(key):
        return fields[f"tokenizer.ggml.{key}"].contents()

    if (field("model"), field("pre")) != ("gpt2", "smollm"):
        raise ValueError(
            f"{path}: expected the tokenizer gpt2 with pre-tokenizer smollm, got {field('model')}/{field('pre')}"
        )
    tokens = field("tokens")
    merges = [tuple(merge.split(" ")) for merge in field("merges")]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3  # the token type of GGUF that is never produced by merges
    special = [token for token, kind in zip(tokens, field("token_type")) if kind == control]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def gguf_tensors(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a llama GGUF, dequantized to fp32 and under its transformers name.

    The converter to GGUF interleaves the two halves of each rotary head in the rows of Q and K; this undoes it.
    """
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(str(path))
    heads = {
        "attn_q": reader.fields["llama.attention.head_count"].contents(),
        "attn_k": reader.fields["llama.attention.head_count_kv"].contents(),
    }
    layer_names = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    top_names = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
    tensors = {}
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if tensor.name in top_names:
            tensors[top_names[tensor.name]] = values
            continue
        _, layer, part, kind = tensor.name.split(".")
        if part in heads:
            rows, columns = values.shape
            values = values.reshape(heads[part], -1, 2, columns).swapaxes(1, 2).reshape(rows, columns)
        tensors[f"model.layers.{layer}.{layer_names[part]}.{kind}"] = values
    return tensors


def load_gguf_llama(path: Path):
    """(LlamaForCausalLM in fp32 on the dequantized weights, tokenizer)."""
    import torch
    from gguf import GGUFReader
    from transformers import LlamaConfig, LlamaForCausalLM

    fields = GGUFReader(str(path)).fields

    def field(key):
        return fields[f"llama.{key}"].contents()

    state = {name: torch.from_numpy(values) for name, values in gguf_tensors(path).items()}
    tied = "lm_head.weight" not in state
    config = LlamaConfig(
        vocab_size=state["model.embed_tokens.weight"].shape[0],
        hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=field("attention.head_count"),
        num_key_value_heads=field("attention.head_count_kv"),
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_theta=field("rope.freq_base"),
        max_position_embeddings=field("context_length"),
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    if tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    # A rotary table made on the meta device holds nothing: make it again.
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval(), gguf_tokenizer(path)


def greedy(model, prompt: np.ndarray, new_tokens: int) -> np.ndarray:
    """The new_tokens most likely next ids, one by one; an end-of-text token does not stop it."""
    import torch

    ids, cache, out = torch.from_numpy(prompt.astype(np.int64))[None], None, []
    with torch.inference_mode():
        for _ in range(new_tokens):
            step = model(input_ids=ids, past_key_values=cache, use_cache=True)
            cache, ids = step.past_key_values, step.logits[:, -1:].argmax(-1)
            out.append(int(ids))
    return np.asarray(out, np.int32)
