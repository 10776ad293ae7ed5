"""How many steps a run has, and which batches each of them takes. A function of data, parameters and seed alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mlx_engine.data.batches import epoch_batches
from mlx_engine.data.tokenize import Dataset
from mlx_engine.protocol import Train

# Between the steps that a recovery can go back to: a loss takes a while to get out of hand, and nothing must be left
# of that.
_ANCHOR_STEPS = 10
_ANCHOR_SHARE = 1 / 20  # of the run, if that is more


@dataclass(frozen=True)
class Place:
    epoch: int  # from 0
    batch: int  # micro-batches of the epoch done


@dataclass(frozen=True)
class Cadence:
    """Every so many steps, and when the run is over."""

    every: int
    total: int

    def due(self, step: int) -> bool:
        """Whether it is time after `step` steps; 0 is, too."""
        return step % self.every == 0 or step == self.total

    def left(self, step: int) -> int:
        """How many times it will be after that."""
        return 0 if step >= self.total else math.ceil(self.total / self.every) - step // self.every


class Plan:
    def __init__(self, command: Train, data: Dataset) -> None:
        self._command = command
        self._lengths = data.lengths
        self._accumulation = command.gradient_accumulation_steps
        batches = math.ceil(len(self._lengths) / command.dataset.batch_size)
        self.steps_per_epoch = math.ceil(batches / self._accumulation)  # the last step of an epoch may be smaller
        steps = command.epochs * self.steps_per_epoch
        self.total_steps = steps if command.max_steps is None else min(steps, command.max_steps)
        self.anchor_steps = max(_ANCHOR_STEPS, math.ceil(self.total_steps * _ANCHOR_SHARE))
        self.tokens_per_step = data.tokens / self.steps_per_epoch
        self._batches = lru_cache(maxsize=1)(self._epoch)

    def place(self, step: int) -> Place:
        """Where a run is after `step` steps."""
        epoch, at = divmod(step, self.steps_per_epoch)
        return Place(epoch, at * self._accumulation)

    def micro_batches(self, step: int) -> list[np.ndarray]:
        """Row indices of the batches whose gradients make up step number `step`, from 0."""
        place = self.place(step)
        return self._batches(place.epoch)[place.batch : place.batch + self._accumulation]

    def anchor(self, step: int) -> int:
        """Where to go back to when the steps after `step` went wrong: it has been left behind by at least one."""
        return max(0, step - 1) // self.anchor_steps * self.anchor_steps

    def cadence(self, steps: int | None) -> Cadence:
        """Every `steps` steps; None: at the end of each epoch."""
        return Cadence(steps or self.steps_per_epoch, self.total_steps)

    def _epoch(self, epoch: int) -> list[np.ndarray]:
        dataset = self._command.dataset
        return epoch_batches(
            self._lengths, dataset.batch_size, shuffle=dataset.shuffle, seed=self._command.seed, epoch=epoch
        )
