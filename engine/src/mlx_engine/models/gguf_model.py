"""What a GGUF file's tensors and keys are in an MLX model of the Llama family: config.json, names, order of rows.

Names: https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/tensor_mapping.py.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_engine.models.folder import invalid
from mlx_engine.models.gguf_file import GGUFFile

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NAME = re.compile(r"(?:blk\.(?P<layer>\d+)\.)?(?P<part>[a-z_]+)\.(?P<kind>weight|bias)")
_ARCHITECTURES = ("llama", "qwen2", "qwen3")
_ROPE_FREQUENCIES = "rope_freqs.weight"


@dataclass(frozen=True)
class Place:
    name: str  # of the parameter in the MLX model
    heads: int | None  # of an interleaved q or k projection, whose rows must be put back

    def rows(self, array: mx.array) -> mx.array:
        """Undoes llama.cpp's interleaving of the rotary halves, (heads, 2, d/2) → (heads, d/2, 2) on the rows.

        Scales and biases of packed weights go row by row like the words, so that no value changes.
        """
        if self.heads is None:
            return array
        halves = array.reshape(self.heads, -1, 2, *array.shape[1:])
        return mx.contiguous(halves.swapaxes(1, 2).reshape(array.shape))


def describe(gguf: GGUFFile) -> tuple[dict[str, Any], dict[str, Place]]:
    """config.json without token ids and quantization, and for every tensor of the file its place in the model."""
    architecture = gguf.require("general.architecture", str)
    if architecture not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise invalid(gguf.path, f"architecture {architecture[:80]!r}; {known} are read (SmolLM and Mistral are llama)")
    config = _config(gguf, architecture)
    places = {}
    for name, tensor in gguf.tensors.items():
        if name == _ROPE_FREQUENCIES:
            continue
        places[name] = _place(gguf, name, config)
        if places[name].heads and tensor.shape[0] != places[name].heads * config["head_dim"]:
            raise invalid(gguf.path, f"tensor {name} has shape {tensor.shape}, not {config['head_dim']} rows a head")
    return config, places


def _config(gguf: GGUFFile, architecture: str) -> dict[str, Any]:
    def key(name: str, kind: type = int) -> Any:
        return gguf.require(f"{architecture}.{name}", kind)

    def optional(name: str, default: Any) -> Any:
        return gguf.metadata.get(f"{architecture}.{name}", default)

    if optional("expert_count", 0):
        raise invalid(gguf.path, "a mixture of experts, which is not read from GGUF files")
    heads, width, layers = key("attention.head_count"), key("embedding_length"), key("block_count")
    if not (0 < heads <= width and 0 < layers <= 10_000):
        raise invalid(gguf.path, f"{layers} layers of {heads} heads and width {width}")
    head_dim = optional("attention.key_length", width // heads)
    if "token_embd.weight" not in gguf.tensors:
        raise invalid(gguf.path, "no tensor token_embd.weight")
    config = {
        "model_type": architecture,
        "architectures": [{"llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}[architecture] + "ForCausalLM"],
        "hidden_size": width,
        "intermediate_size": key("feed_forward_length"),
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": optional("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": key("context_length"),
        "rms_norm_eps": _shortest(key("attention.layer_norm_rms_epsilon", float)),
        "rope_theta": _shortest(optional("rope.freq_base", 10000.0)),
        "vocab_size": gguf.tensors["token_embd.weight"].shape[0],
        "tie_word_embeddings": "output.weight" not in gguf.tensors,
        "hidden_act": "silu",
        "torch_dtype": "bfloat16" if any(t.type == "BF16" for t in gguf.tensors.values()) else "float16",
    }
    if optional("rope.dimension_count", head_dim) != head_dim:
        raise invalid(gguf.path, f"rotates {optional('rope.dimension_count', 0)} of {head_dim} dimensions of a head")
    if architecture == "llama":
        config |= {
            "attention_bias": "blk.0.attn_q.bias" in gguf.tensors,
            "mlp_bias": "blk.0.ffn_up.bias" in gguf.tensors,
        }
    if scaling := _rope_scaling(gguf, architecture, config):
        config["rope_scaling"] = scaling
    return config


def _place(gguf: GGUFFile, name: str, config: dict[str, Any]) -> Place:
    match = _NAME.fullmatch(name)
    part = match["part"] if match else ""
    if match and match["layer"] is None and part in _TOP:
        return Place(f"{_TOP[part]}.{match['kind']}", None)
    if not (match and match["layer"] and part in _LAYER and int(match["layer"]) < config["num_hidden_layers"]):
        raise invalid(gguf.path, f"tensor {name[:80]!r} has no place in a {config['model_type']} model")
    interleaved = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    heads = interleaved.get(part) if config["model_type"] == "llama" else None
    return Place(f"model.layers.{int(match['layer'])}.{_LAYER[part]}.{match['kind']}", heads)


def _rope_scaling(gguf: GGUFFile, architecture: str, config: dict[str, Any]) -> dict[str, Any] | None:
    kind = gguf.metadata.get(f"{architecture}.rope.scaling.type", "none")
    if kind == "linear":
        return {"rope_type": "linear", "factor": gguf.require(f"{architecture}.rope.scaling.factor", float)}
    if kind != "none":
        raise invalid(gguf.path, f"rope scaling {kind!r}; none, linear and Llama 3's are read")
    if (tensor := gguf.tensors.get(_ROPE_FREQUENCIES)) is None:
        return None
    if tensor.type != "F32" or tensor.shape != (config["head_dim"] // 2,):
        raise invalid(gguf.path, f"tensor {_ROPE_FREQUENCIES} is {tensor.type} of shape {tensor.shape}")
    stored = np.memmap(gguf.path, np.float32, "r", tensor.offset, tensor.shape)
    for factor in (8.0, 32.0, 16.0, 4.0):  # Llama 3.1, 3.2 …
        scaling = {"factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
        scaling |= {"original_max_position_embeddings": 8192, "rope_type": "llama3"}
        if np.allclose(stored, _llama3_factors(config["head_dim"], config["rope_theta"], scaling), rtol=1e-4):
            return scaling
    raise invalid(gguf.path, f"{_ROPE_FREQUENCIES} are not the factors of any Llama 3")


def _llama3_factors(dims: int, base: float, scaling: dict[str, Any]) -> list[float]:
    """What convert_hf_to_gguf.py writes: the divisor of each rotary frequency (Llama 3.1 model card)."""
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    original = scaling["original_max_position_embeddings"]
    factors = []
    for i in range(0, dims, 2):
        turns = original / (2 * math.pi * base ** (i / dims))
        smooth = min(max((turns - low) / (high - low), 0.0), 1.0)
        factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors


def _shortest(value: float) -> float:
    """The shortest decimal of a float32: 1e-05 rather than 9.999999747378752e-06."""
    return float(str(np.float32(value)))
