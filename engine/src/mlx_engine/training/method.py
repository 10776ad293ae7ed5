"""LoRA, QLoRA and full fine-tuning: how the base is loaded, what is trained, and what files the result is made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_engine.models import record
from mlx_engine.models.load import LoadedModel, load_model, total_params, trainable_params
from mlx_engine.models.quantized import unpack_on_use
from mlx_engine.platform import Platform
from mlx_engine.protocol import EngineError, Train
from mlx_engine.training.initial import begin_with
from mlx_engine.training.lora import apply_lora
from mlx_engine.training.optimizer import trainable

_QLORA_BITS = 4
_TOKENIZER_FILES = (
    "tokenizer*",
    "*.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "generation_config.json",
)


@dataclass(frozen=True)
class Subject:
    """The model in training."""

    loaded: LoadedModel
    weights_name: str  # file that holds the result's arrays
    files: dict[str, bytes]  # the result's other files
    total_params: int
    trainable_params: int
    target_modules: list[str] = field(default_factory=list)

    @property
    def model(self) -> nn.Module:
        return self.loaded.model

    def weights(self) -> dict[str, mx.array]:
        """What the result holds: the adapter, or all parameters after full fine-tuning."""
        if self.weights_name == "adapters.safetensors":
            return trainable(self.model)
        return dict(tree_flatten(self.model.parameters()))


def prepare(command: Train, platform: Platform, *, lazy: bool = False) -> Subject:
    """Loads the base for the method; `lazy`: its arrays are read and computed when they are needed.

    EngineError for a model or parameters that don't go together.
    """
    config = _config(Path(command.model_path))
    if command.method == "full":
        return _full(command, config, lazy)
    if (lora := command.lora) is None:
        raise EngineError("invalid_parameters", f"method {command.method} needs LoRA parameters")
    quantized = command.method == "qlora"
    loaded = load_model(
        command.model_path,
        dtype=platform.dtype_for(config),
        keep_quantized=quantized,
        quantize_bits=_QLORA_BITS if quantized else None,
        lazy=lazy,
    )
    total = total_params(loaded.model)
    if platform.on_cpu:
        unpack_on_use(loaded.model)
    adapter = apply_lora(loaded.model, lora, command.seed)
    if command.initial_adapter is not None:
        begin_with(loaded.model, adapter, command.initial_adapter)
    if not lazy:
        mx.eval(loaded.model)  # more than its parameters: DoRA keeps norms of the base
    return Subject(
        loaded,
        weights_name="adapters.safetensors",
        # Besides what mlx-lm reads, what PEFT's users know; describe.py adds how it was trained.
        files={record.ADAPTER_FILE: _json(adapter | {"lora_alpha": lora.alpha, "use_rslora": lora.use_rslora})},
        total_params=total,
        trainable_params=trainable_params(loaded.model),
        target_modules=sorted({key.rsplit(".", 1)[-1] for key in adapter["lora_parameters"]["keys"]}),
    )


def _full(command: Train, config: dict[str, Any], lazy: bool) -> Subject:
    if command.initial_adapter is not None:
        raise EngineError("invalid_parameters", "full fine-tuning begins with a whole model, not with an adapter")
    if "quantization" in config or "quantization_config" in config:
        raise EngineError(
            "invalid_parameters",
            f"{command.model_name} is quantised, and packed weights cannot be trained: set lora.use_lora or "
            "lora.use_qlora to true, or name the model's unquantised version",
        )
    base = Path(command.model_path)
    if base.resolve() == Path(command.output_dir).resolve():
        raise EngineError("invalid_parameters", "output_dir is the base model's own folder; choose another")
    # float32 on GPUs as well: an update of 1e-5 of a weight is below bfloat16's resolution and would be lost.
    loaded = load_model(base, dtype=mx.float32, lazy=lazy)
    loaded.model.unfreeze()
    files = {path.name: path.read_bytes() for pattern in _TOKENIZER_FILES for path in base.glob(pattern)}
    files["config.json"] = _json(config | {"dtype" if "dtype" in config else "torch_dtype": "float32"})
    return Subject(
        loaded,
        weights_name="model.safetensors",
        files=files,
        total_params=total_params(loaded.model),
        trainable_params=trainable_params(loaded.model),
    )


def base_fingerprint(model_path: str) -> str:
    """Tells bases apart without reading gigabytes: hash of config.json and of the weight files' names and sizes."""
    folder = Path(model_path)
    weights = sorted((path.name, path.stat().st_size) for path in folder.glob("*.safetensors"))
    return hashlib.sha256((folder / "config.json").read_bytes() + json.dumps(weights).encode()).hexdigest()


def _config(folder: Path) -> dict[str, Any]:
    """config.json, for what must be known before loading; load_model tells what is wrong with a folder."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()
