"""The optimisers, which parameters each of them is for, their state as a flat table of arrays; gradients as trees.

mlx.optimizers' own where they are the papers' (AdamW with bias correction, Adafactor, Lion) or PyTorch's (SGD).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
from mlx.utils import tree_flatten, tree_map, tree_reduce, tree_unflatten
from mlx_lm.models.switch_layers import SwitchLinear

from mlx_engine.protocol import EngineError, Train
from mlx_engine.training.muon import Muon

_SGD_MOMENTUM = 0.9  # the usual one; PyTorch's default is none


class Adam(optim.Adam):
    """With weight decay, which MLX's has not: a part of the gradient (L2), as in PyTorch's."""

    def __init__(self, weight_decay: float) -> None:
        super().__init__(learning_rate=0.0, bias_correction=True)
        self.weight_decay = weight_decay

    def apply_single(self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]) -> mx.array:
        return super().apply_single(gradient + self.weight_decay * parameter, parameter, state)


@dataclass(frozen=True)
class Group:
    """What parameters that are treated alike have in common."""

    rule: str
    weight_decay: float
    rate: float  # times the run's learning rate


class Grouped(optim.MultiOptimizer):
    def __init__(self, groups: dict[str, Group]) -> None:
        """`groups`: of each trainable parameter by its name."""
        self._groups = list(dict.fromkeys(groups.values()))
        filters = [lambda name, _, group=group: groups[name] == group for group in self._groups[:-1]]
        super().__init__([_rule(group) for group in self._groups], filters)

    @property
    def learning_rate(self) -> mx.array:
        return self.optimizers[0].learning_rate / self._groups[0].rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        for optimizer, group in zip(self.optimizers, self._groups, strict=True):
            optimizer.learning_rate = rate * group.rate


def make_optimizer(command: Train, model: nn.Module) -> Grouped:
    """For the model's trainable parameters; set `learning_rate` before each update.

    Vectors (norms, biases, DoRA's magnitudes) do not decay. Muon has the matrices of the hidden layers, of LoRA all;
    the rest (embeddings, head, vectors) goes by AdamW, as its paper says. LoRA+ (arXiv 2402.12354) is for B alone;
    PEFT gives B's rate to DoRA's magnitudes too, of which the paper says nothing.
    """
    hidden = _hidden_matrices(model)
    ratio = command.lora.plus_ratio if command.lora else 1.0

    def group(name: str, parameter: mx.array) -> Group:
        return Group(
            rule="adamw" if command.optimizer == "muon" and name not in hidden else command.optimizer,
            weight_decay=command.weight_decay if parameter.ndim > 1 else 0.0,
            rate=ratio if name.endswith(".lora_b") else 1.0,
        )

    return Grouped({name: group(name, parameter) for name, parameter in trainable(model).items()})


def _rule(group: Group) -> optim.Optimizer:
    decay = group.weight_decay
    match group.rule:
        case "adamw":
            return optim.AdamW(learning_rate=0.0, weight_decay=decay, bias_correction=True)
        case "adam":
            return Adam(decay)
        case "sgd":
            return optim.SGD(learning_rate=0.0, momentum=_SGD_MOMENTUM, weight_decay=decay)
        case "adafactor":
            # As transformers' Trainer has it. MLX's default scales each step by the size of its parameter, and B
            # begins at zero.
            return optim.Adafactor(learning_rate=0.0, weight_decay=decay, scale_parameter=False, relative_step=False)
        case "muon":
            return Muon(decay)
        case "lion":
            return optim.Lion(learning_rate=0.0, weight_decay=decay)
    raise EngineError("invalid_parameters", f"there is no optimizer {group.rule}")


def _hidden_matrices(model: nn.Module) -> set[str]:
    inside = {id(module) for layer in model.layers for module in layer.modules()}
    names = set()
    for name, module in model.named_modules():
        if "lora_a" in module:
            names |= {f"{name}.lora_a", f"{name}.lora_b"}
        elif isinstance(module, nn.Linear | SwitchLinear) and id(module) in inside:
            names.add(f"{name}.weight")
    return names


def state_arrays(optimizer: optim.Optimizer) -> dict[str, mx.array]:
    return dict(tree_flatten(optimizer.state))


def restore(optimizer: optim.Optimizer, arrays: dict[str, mx.array]) -> None:
    """Takes over what state_arrays gave. EngineError when it is of another optimiser or of another model."""
    expected, given = (
        {name: f"{array.dtype} {array.shape}" for name, array in table.items()}
        for table in (state_arrays(optimizer), arrays)
    )
    differing = sorted(name for name in expected | given if expected.get(name) != given.get(name))
    if differing:
        first = differing[0]
        raise EngineError(
            "invalid_parameters",
            f"the checkpoint's optimizer state is of another optimizer or model: {first} is "
            f"{given.get(first, 'not there')} where {expected.get(first, 'nothing')} is needed",
        )
    optimizer.state = tree_unflatten(list(arrays.items()))


def add(left: Any, right: Any) -> Any:
    return tree_map(mx.add, left, right)


def global_norm(gradients: Any) -> mx.array:
    return mx.sqrt(tree_reduce(lambda total, g: total + g.astype(mx.float32).square().sum(), gradients, mx.array(0.0)))


def scaled(gradients: Any, factor: float) -> Any:
    return tree_map(lambda gradient: gradient * factor, gradients)


def trainable(model: nn.Module) -> dict[str, mx.array]:
    return dict(tree_flatten(model.trainable_parameters()))
