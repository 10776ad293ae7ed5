"""Our import of a model → a plain float32 Hugging Face folder for the peers.

    python export_base.py MODEL OUTPUT PROMPT

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

from mlx_engine.models.load import load_model  # noqa: E402

source, output, prompt = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
loaded = load_model(source, dtype=mx.float32)
output.mkdir(parents=True, exist_ok=True)
weights = dict(tree_flatten(loaded.model.parameters()))
mx.save_safetensors(str(output / "model.safetensors"), weights, metadata={"format": "pt"})
config = {k: v for k, v in loaded.config.items() if not k.startswith("quantization")} | {"torch_dtype": "float32"}
(output / "config.json").write_text(json.dumps(config, indent=1))
for pattern in ("tokenizer*", "generation_config.json", "*.jinja"):
    for file in source.glob(pattern):
        shutil.copy(file, output)
tokens = mx.array(loaded.tokenizer.encode(prompt))
mx.save_safetensors(
    str(output / "logits.safetensors"),
    {"tokens": tokens, "logits": loaded.model(tokens[None])[0]},
)
