"""AdamW with its state as a flat table of arrays, and gradients as trees."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map, tree_reduce, tree_unflatten


def make_optimizer(weight_decay: float) -> optim.Optimizer:
    """AdamW as PyTorch's: betas 0.9 and 0.999, eps 1e-8, bias corrected. Vectors (norms, biases) do not decay."""

    def adamw(decay: float) -> optim.AdamW:
        return optim.AdamW(learning_rate=0.0, weight_decay=decay, bias_correction=True)

    if weight_decay == 0:
        return adamw(0.0)
    return optim.MultiOptimizer([adamw(weight_decay), adamw(0.0)], [lambda _, parameter: parameter.ndim > 1])


def state_arrays(optimizer: optim.Optimizer) -> dict[str, mx.array]:
    return dict(tree_flatten(optimizer.state))


def restore(optimizer: optim.Optimizer, arrays: dict[str, mx.array]) -> None:
    """Takes over what state_arrays gave. KeyError or ValueError when they are of another model or optimiser."""
    expected = state_arrays(optimizer)
    if expected.keys() != arrays.keys():
        raise ValueError(f"optimiser state differs: {sorted(expected.keys() ^ arrays.keys())[:3]}")
    optimizer.state = tree_unflatten(list(arrays.items()))


def add(left: Any, right: Any) -> Any:
    return tree_map(mx.add, left, right)


def global_norm(gradients: Any) -> mx.array:
    return mx.sqrt(tree_reduce(lambda total, g: total + g.astype(mx.float32).square().sum(), gradients, mx.array(0.0)))


def scaled(gradients: Any, factor: float) -> Any:
    return tree_map(lambda gradient: gradient * factor, gradients)


def trainable(model: nn.Module) -> dict[str, mx.array]:
    return dict(tree_flatten(model.trainable_parameters()))
