"""Gradient checkpointing: layers that keep nothing but their inputs, and compute the rest again for the gradient.

That is a third more work for a fraction of the memory, so it is for what does not fit otherwise. It is done to the
instances it is given and undone afterwards; no class is patched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import mlx.core as mx
import mlx.nn as nn


@contextmanager
def recomputed(layers: Sequence[nn.Module]) -> Iterator[None]:
    """Meanwhile these layers compute like that. The same gradients as without, dropout's random numbers included."""
    kinds = {id(layer): (layer, type(layer)) for layer in layers}
    for layer, kind in kinds.values():
        layer.__class__ = _recomputing(kind)
    try:
        yield
    finally:
        for layer, kind in kinds.values():
            layer.__class__ = kind


@cache
def _recomputing(kind: type[nn.Module]) -> type[nn.Module]:
    def call(self: nn.Module, *arguments: Any, **options: Any) -> Any:
        places = dict(enumerate(arguments)) | options
        arrays = {str(place): value for place, value in places.items() if isinstance(value, mx.array)}
        high, low = mx.random.state[0].tolist()

        def layer(parameters: Any, arrays: dict[str, mx.array]) -> Any:
            self.update(parameters)
            mx.random.seed(high << 32 | low)  # as when it was first computed
            values = {place: arrays.get(str(place), value) for place, value in places.items()}
            return kind.__call__(
                self, *(values[i] for i in range(len(arguments))), **{name: values[name] for name in options}
            )

        return mx.checkpoint(layer)(self.trainable_parameters(), arrays)

    return type(kind.__name__, (kind,), {"__call__": call})
