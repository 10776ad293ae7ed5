"""Small but complete GGUF files: their keys and tensors."""

import numpy as np

from gguf_writer import random_data

HEADS, KV_HEADS, HEAD_DIM, LAYERS, WIDTH, INNER = 4, 2, 16, 2, 64, 96
ROWS = 288  # of the embedding: vocabularies are padded


def byte_characters() -> dict[int, str]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the rest for 256, 257 …"""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


BYTES = byte_characters()
TOKENS = ["<|end|>", "<|user|>", "<tool>", *BYTES.values(), "he", "Ġt", "Ġthe", "12", "123"]
BPE_KEYS = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": [3, 3, 4] + [1] * (len(TOKENS) - 3),
    "tokenizer.ggml.merges": ["h e", "Ġ t", "Ġt he", "1 2", "12 3"],
    "tokenizer.ggml.eos_token_id": 0,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.chat_template": "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}",
}


def keys(architecture: str = "llama", **changes) -> dict:
    found = {
        "general.architecture": architecture,
        f"{architecture}.block_count": LAYERS,
        f"{architecture}.context_length": 512,
        f"{architecture}.embedding_length": WIDTH,
        f"{architecture}.feed_forward_length": INNER,
        f"{architecture}.attention.head_count": HEADS,
        f"{architecture}.attention.head_count_kv": KV_HEADS,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.rope.freq_base": 10000.0,
        **BPE_KEYS,
        **changes,
    }
    return {key: value for key, value in found.items() if value is not None}


def tensors(architecture: str = "llama", type: str = "Q4_1", embedding: str = "Q8_0", head: str | None = None) -> dict:
    random = np.random.default_rng(7)
    made = {"token_embd.weight": random_data(embedding, (ROWS, WIDTH), random)}
    if head:
        made["output.weight"] = random_data(head, (ROWS, WIDTH), random)
    made["output_norm.weight"] = random_data("F32", (WIDTH,), random)
    rows = {"attn_q": HEADS * HEAD_DIM, "attn_k": KV_HEADS * HEAD_DIM, "attn_v": KV_HEADS * HEAD_DIM}
    shapes = {name: (count, WIDTH) for name, count in rows.items()}
    shapes |= {"attn_output": (WIDTH, WIDTH), "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH)}
    shapes |= {"ffn_down": (WIDTH, INNER)}
    for layer in range(LAYERS):
        for name, shape in shapes.items():
            made[f"blk.{layer}.{name}.weight"] = random_data(type, shape, random)
        norms = {"attn_norm": WIDTH, "ffn_norm": WIDTH}
        norms |= {"attn_q_norm": HEAD_DIM, "attn_k_norm": HEAD_DIM} if architecture == "qwen3" else {}
        for name, width in norms.items():
            made[f"blk.{layer}.{name}.weight"] = random_data("F32", (width,), random)
        if architecture == "qwen2":
            for name, count in rows.items():
                made[f"blk.{layer}.{name}.bias"] = random_data("F32", (count,), random)
    return made
