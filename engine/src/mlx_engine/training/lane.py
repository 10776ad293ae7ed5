"""What computes a piece of a step: a model of its own over the same arrays, so that several can at the same time."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_map

from mlx_engine.data.batches import Batch
from mlx_engine.training.loss import Loss, arrays
from mlx_engine.training.recomputed import recomputed


class Lane:
    """Used by one thread at a time. `parameters`: the trainable ones, which others may hold, too."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss.twin()
        self._model = self._loss.model
        self._value_and_grad = mx.value_and_grad(self._share)
        self._nothing = tree_map(lambda _: mx.array(0.0), self._model.trainable_parameters())
        self.release()

    def gradients(
        self, parameters: Any, batch: Batch, caches: list[Any] | None, *, share: float, recompute: bool
    ) -> tuple[mx.array, Any]:
        """The loss times `share`, and its gradients, evaluated. `recompute`: with less memory, see recomputed.py."""
        self._model.train()
        parameters = tree_map(lambda array: array, parameters)  # tracers stand in this very tree meanwhile
        with recomputed(self._model.layers) if recompute else nullcontext():
            loss, gradients = self._value_and_grad(parameters, batch, caches, share)
        mx.eval(loss, gradients)
        return loss, gradients

    def evaluate(self, parameters: Any, batch: Batch, caches: list[Any] | None) -> tuple[np.ndarray, np.ndarray]:
        """Of each supervised position its loss, float32, and whether the target is the most likely token, bool."""
        self._model.update(parameters)
        self._model.eval()
        losses, hits = self._loss.evaluate(*arrays(batch), caches)
        return np.array(losses), np.array(hits).astype(bool)

    def release(self) -> None:
        """Lets go of the parameters, which the optimiser is about to replace."""
        self._model.update(self._nothing)

    def _share(self, parameters: Any, batch: Batch, caches: list[Any] | None, share: float) -> mx.array:
        self._model.update(parameters)
        return self._loss(*arrays(batch), caches) * share
