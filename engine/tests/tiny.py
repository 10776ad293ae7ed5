"""Tiny random models with a real tokenizer, in the folder layout that mlx-lm loads."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Gemma's manners: BOS in the text, no system role, strict alternation, "model" for the assistant, contents trimmed.
STRICT = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "<|im_start|>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{{ message['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
# Qwen3's manners: thinking is shown in the last turn only.
THINKING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['role'] == 'assistant' and not loop.last %}{{ message['content'].split('</think>')[-1].lstrip() }}"
    "{% else %}{{ message['content'] }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_CORPUS = [
    "Give three tips for staying healthy. Eat a balanced diet, sleep enough and take a walk every day.",
    "What is the capital of France? The capital of France is Paris.",
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.",
    "### Instruction: ### Input: ### Response: user assistant system tool model",
] * 4


@cache
def _tokenizer_json() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=380,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[
            AddedToken(text, special=True, normalized=False)
            for text in ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|bos|>")
        ],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer.to_str()


def make_tokenizer(folder: Path, *, chat_template: str | bool = True, bos: bool = False) -> None:
    """Byte-level BPE of 380 tokens. `chat_template`: True is ChatML. `bos`: a post-processor adds one."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = json.loads(_tokenizer_json())
    if bos:
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|bos|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|bos|>": {"id": "<|bos|>", "ids": [3], "tokens": ["<|bos|>"]}},
        }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|bos|>",
        "eos_token": "<|im_end|>" if chat_template else "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    if chat_template:
        config["chat_template"] = CHATML if chat_template is True else chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def make_tiny_model(
    folder: Path,
    *,
    model_type: str = "llama",
    vocab: int = 384,
    quantized: bool = False,
    chat_template: str | bool = True,
    seed: int = 0,
    **config_extra: Any,
) -> Path:
    """Writes config.json, model.safetensors and the tokenizer: 2 layers, hidden 64, 4 heads of 16, 2 of them key/value.

    `model_type` is any of mlx-lm's whose config has Llama's names (llama, qwen2, qwen3, gemma, gemma2, …);
    `config_extra` goes into config.json. `quantized` packs every linear and the embedding to 4 bits in groups of 32.
    """
    folder = Path(folder)
    make_tokenizer(folder, chat_template=chat_template)
    config: dict[str, Any] = {
        "model_type": model_type,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-5,
        "vocab_size": vocab,
        "max_position_embeddings": 4096,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "eos_token_id": 2 if chat_template else 0,
        **config_extra,
    }
    architecture = importlib.import_module(f"mlx_lm.models.{model_type}")
    high, low = mx.random.state[0].tolist()
    mx.random.seed(seed)
    model = architecture.Model(architecture.ModelArgs.from_dict(config))
    if quantized:
        nn.quantize(model, group_size=32, bits=4)
        config["quantization"] = {"group_size": 32, "bits": 4}
    weights = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    mx.random.seed(high << 32 | low)  # a test's own random numbers go on as if nothing had happened
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder


def alter(model: Path, folder: Path, change: Callable[[dict[str, mx.array]], None], **config: Any) -> Path:
    """A copy of a model folder with other weights: `change` gets them by name, to replace some."""
    shutil.copytree(model, folder)
    weights = dict(mx.load(str(model / "model.safetensors")))
    change(weights)
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    (folder / "config.json").write_text(json.dumps(json.loads((folder / "config.json").read_text()) | config))
    return folder


def make_edge_model(model: Path, folder: Path) -> Path:
    """The same function as `model`, with activations near the end of float32, as deep models' are near float16's: an
    update that makes them a few times larger gives infinities."""

    def scale(weights: dict[str, mx.array]) -> None:
        for name in weights:
            if "up_proj" in name:
                weights[name] = weights[name] * 3e37
            elif "down_proj" in name:
                weights[name] = weights[name] / 3e37

    return alter(model, folder, scale)
