"""Our import of a model → a plain float32 Hugging Face folder for the peers.

    python export_base.py MODEL OUTPUT PROMPT [SHAPE]

With SHAPE (shapes.py) only the tokenizer is the model's, and the weights are random.

Also writes OUTPUT/logits.safetensors: the prompt's tokens and our logits, which bench/peers/check_base.py compares
with PyTorch's.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from mlx_engine import platform

found = platform.setup()

import mlx.core as mx  # noqa: E402  after the BLAS
from mlx.utils import tree_flatten  # noqa: E402
from shapes import random_model  # noqa: E402

from mlx_engine.models.load import load_model  # noqa: E402

source, output, prompt, *shape = Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:]
loaded = load_model(source, dtype=mx.float32)
model, config = loaded.model, loaded.config
if shape:
    model, config = random_model(shape[0])
    config |= {name: loaded.config.get(name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
output.mkdir(parents=True, exist_ok=True)
weights = dict(tree_flatten(model.parameters()))
mx.save_safetensors(str(output / "model.safetensors"), weights, metadata={"format": "pt"})
config = {k: v for k, v in config.items() if not k.startswith("quantization")} | {"torch_dtype": "float32"}
(output / "config.json").write_text(json.dumps(config, indent=1))
for pattern in ("tokenizer*", "generation_config.json", "*.jinja"):
    for file in source.glob(pattern):
        shutil.copy(file, output)
tokens = mx.array(loaded.tokenizer.encode(prompt))
mx.save_safetensors(
    str(output / "logits.safetensors"),
    {"tokens": tokens, "logits": model(tokens[None])[0]},
)
