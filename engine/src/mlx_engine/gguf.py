"""`python -m mlx_engine.gguf`: makes a model folder of a GGUF file. One Import command; stage frames, then Imported.

Weights keep their bits: Q4_0, Q4_1 and Q8_0 blocks become MLX's packed form (groups of 32, float16 scale and bias),
F32, F16 and BF16 stay as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlx_engine.models import gguf_file, gguf_model, gguf_tokenizer
from mlx_engine.models.folder import invalid
from mlx_engine.models.gguf_file import GGUFFile, Tensor
from mlx_engine.process import Engine, run
from mlx_engine.protocol import EngineError, Import, Imported
from mlx_engine.training.tensors import sync

_PACKED_BITS = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}
_PLAIN = ("F32", "F16", "BF16")


def main(engine: Engine) -> None:
    command = engine.expect(Import)
    total = convert(Path(command.gguf_path), Path(command.output_path), engine.stage)
    engine.channel.send(Imported(path=command.output_path, total_params=total))


def convert(source: Path, target: Path, stage: Callable[[str, int, int], None] = lambda *_: None) -> int:
    """Creates the folder `target` by rename when it is complete. Returns the number of parameters.

    EngineError: 'invalid_model' for the file, 'invalid_parameters' when target exists.
    """
    if target.exists():
        raise EngineError("invalid_parameters", f"{target} exists already")
    stage("reading", 0, 0)
    gguf = gguf_file.read(source)
    _check_types(gguf)
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f".{target.name}.*.partial"):
        shutil.rmtree(leftover, ignore_errors=True)  # of an import that was killed
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        stage("tokenizer", 0, 0)
        ids = gguf_tokenizer.write(gguf, folder)
        config, places = gguf_model.describe(gguf)
        if (rows := config["vocab_size"]) < (tokens := len(gguf.metadata["tokenizer.ggml.tokens"])):
            raise invalid(source, f"{tokens} tokens but {rows} rows in token_embd.weight")
        stage("weights", 0, len(places))
        weights, quantization = _weights(gguf, places)
        config |= ids | ({"quantization": quantization} if quantization else {})
        _write_json(folder / "config.json", config)
        _write_json(folder / "generation_config.json", ids)
        with (folder / "model.safetensors").open("wb") as file:
            mx.save_safetensors(file, weights, {"format": "mlx"})
        stage("weights", len(places), len(places))
        _settle(folder)
        folder.chmod(0o755)  # mkdtemp's 0700 is for secrets
        os.rename(folder, target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return sum(int(np.prod(gguf.tensors[name].shape)) for name in places)


def _check_types(gguf: GGUFFile) -> None:
    """mx.load turns every type that it doesn't pack into float16 without a word: only those that keep their bits."""
    for tensor in gguf.tensors.values():
        if tensor.type not in _PACKED_BITS and tensor.type not in _PLAIN:
            supported = ", ".join([*_PACKED_BITS, *_PLAIN])
            raise invalid(gguf.path, f"tensor {tensor.name} is {tensor.type}; {supported} are read")


def _weights(gguf: GGUFFile, places: dict[str, gguf_model.Place]) -> tuple[dict[str, mx.array], dict[str, Any] | None]:
    """Arrays by their names in the MLX model, and config.json's `quantization` (None: nothing is packed)."""
    loaded = mx.load(str(gguf.path), format="gguf")
    arrays: dict[str, mx.array] = {}
    bits: dict[str, int] = {}
    for name, place in places.items():
        tensor = gguf.tensors[name]
        stem = place.name.removesuffix(".weight")
        if tensor.type in _PACKED_BITS:
            bits[stem] = _PACKED_BITS[tensor.type]
            for part in ("weight", "scales", "biases"):
                arrays[f"{stem}.{part}"] = place.rows(loaded[f"{name.removesuffix('.weight')}.{part}"])
        else:
            arrays[place.name] = place.rows(_bfloat16(gguf, tensor) if tensor.type == "BF16" else loaded[name])
    if not bits:
        return arrays, None
    common = Counter(bits.values()).most_common(1)[0][0]
    others = {stem: {"group_size": 32, "bits": n} for stem, n in bits.items() if n != common}
    return arrays, {"group_size": 32, "bits": common} | others


def _bfloat16(gguf: GGUFFile, tensor: Tensor) -> mx.array:
    """mx.load would make it float16, which has other bits."""
    words = np.memmap(gguf.path, np.uint16, "r", tensor.offset, tensor.shape)
    return mx.array(np.ascontiguousarray(words)).view(mx.bfloat16)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), "utf-8")


def _settle(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        sync(path)


if __name__ == "__main__":
    run(main)
