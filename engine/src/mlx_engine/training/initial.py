"""A run that begins with the weights of an earlier adapter: the same modules, with other numbers in them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_engine.models.folder import check_safetensors, invalid, read_json
from mlx_engine.models.record import ADAPTER_FILE
from mlx_engine.protocol import EngineError
from mlx_engine.training.optimizer import trainable

WEIGHTS_FILE = "adapters.safetensors"
_NAMED = 3


def begin_with(model: nn.Module, adapter: dict[str, Any], folder: str) -> None:
    """Gives the adapter's weights in `folder` to a model that `apply_lora` has prepared, whose description of itself is
    `adapter`. EngineError('invalid_parameters') when the two are not of one shape; it names both."""
    path = Path(folder)
    if not (path / WEIGHTS_FILE).is_file():
        raise invalid(path, f"no adapter to begin with: {WEIGHTS_FILE} is missing")
    there = read_json(path / ADAPTER_FILE)
    check_safetensors(path / WEIGHTS_FILE)
    weights = mx.load(str(path / WEIGHTS_FILE))
    wanted = trainable(model)
    if differences := [*_described(there, adapter), *_shapes(weights, wanted)]:
        raise EngineError(
            "invalid_parameters",
            f"the run cannot begin with the adapter in {path}: {'; '.join(differences)}. Ask for the same as there",
        )
    model.load_weights([(name, array.astype(wanted[name].dtype)) for name, array in weights.items()], strict=False)


def weights_sha256(folder: str) -> str:
    """Tells one adapter from another: the hash of its weights."""
    with (Path(folder) / WEIGHTS_FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _described(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """The scale is part of what the weights mean: with another one they are another model."""
    then, now = (each.get("lora_parameters") or {} for each in (there, here))
    pairs = [
        ("its kind", there.get("fine_tune_type", "lora"), here["fine_tune_type"]),
        ("its rank", then.get("rank"), now["rank"]),
        ("its scale (lora_alpha over the rank, or over its root)", then.get("scale"), now["scale"]),
    ]
    return [f"{what} is {old}, the run's is {new}" for what, old, new in pairs if old != new]


def _shapes(weights: dict[str, mx.array], wanted: dict[str, mx.array]) -> list[str]:
    found = []
    for what, names in (
        ("it has weights for", sorted(weights.keys() - wanted.keys())),
        ("it has no weights for", sorted(wanted.keys() - weights.keys())),
    ):
        if names:
            found.append(f"{what} {', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''}")
    differing = [name for name in sorted(weights.keys() & wanted.keys()) if weights[name].shape != wanted[name].shape]
    return found + [
        f"{name} has the shape {tuple(weights[name].shape)}, the run's {tuple(wanted[name].shape)}"
        for name in differing[:_NAMED]
    ]
