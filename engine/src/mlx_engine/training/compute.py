"""Loss and gradients of a step, and the loss over held-out rows: all that the device is busy with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_engine.data.batches import Batch, collate, evaluation_batches, pieces
from mlx_engine.data.tokenize import Dataset
from mlx_engine.platform import Platform
from mlx_engine.protocol import Train
from mlx_engine.training.loss import Loss, arrays
from mlx_engine.training.method import Subject
from mlx_engine.training.optimizer import add

# On a CPU a batch is computed in pieces of this many tokens, because it costs no time there (SmolLM2-135M: 9.2 CPU
# seconds per 1,000 tokens with 1 row of 256, 9.8 with 4 in one piece) and much less memory (4 rows of 512: 1.5 GB for
# 4.5; 4 of 2048: 8 for 30).
_CPU_PIECE_TOKENS = 1024


@dataclass
class Computed:
    """Of one step, before clipping. The loss is the mean over its supervised tokens, and so is what the gradients are
    of: every token weighs the same, whichever micro-batch, piece or rank it is in."""

    loss: mx.array
    gradients: Any
    rows: int
    tokens: int  # without padding
    trained: int
    positions: int  # computed, padding included


@dataclass
class Evaluated:
    loss: float  # mean over the supervised tokens
    token_accuracy: float  # share of them that are the most likely ones
    trained: int


class Compute:
    def __init__(self, command: Train, subject: Subject, platform: Platform) -> None:
        self._command = command
        self._model = subject.model
        self._pad = subject.loaded.tokenizer.pad_token_id or 0
        self._loss = Loss(subject.model)
        self._gradients = nn.value_and_grad(subject.model, lambda batch, share: self._loss(*batch) * share)
        self._piece_tokens = _CPU_PIECE_TOKENS if platform.on_cpu else None

    @property
    def responses_only(self) -> bool:
        return self._loss.responses_only

    def step(
        self, number: int, data: Dataset, micro_batches: Sequence[np.ndarray], check: Callable[[], None]
    ) -> Computed:
        """Of step `number`, from 0, made of these rows of `data`. Calls `check` between pieces, which may raise.

        Dropout is drawn from the seed and the place in the run, so that a step done again is the same step.
        """
        batches = [batch for rows in micro_batches for batch in self._collate(data, rows)]
        trained = sum(len(batch.targets) for batch in batches)
        total, gradients = mx.array(0.0), None
        for i, batch in enumerate(batches):
            check()
            mx.random.seed(_derived_seed(self._command.seed, number, i))
            loss, gradient = self._gradients(arrays(batch), 1 / trained)
            total = total + loss
            gradients = gradient if gradients is None else add(gradients, gradient)
            mx.eval(total, gradients)
        check()
        return Computed(
            loss=total,
            gradients=gradients,
            rows=sum(batch.rows for batch in batches),
            tokens=sum(batch.tokens for batch in batches),
            trained=trained,
            positions=sum(batch.inputs.size for batch in batches),
        )

    def evaluate(self, data: Dataset, check: Callable[[int, int], None]) -> Evaluated:
        """Over all rows in a fixed order, without dropout. Calls `check` with batches done and in all."""
        batches = evaluation_batches(data.lengths, self._command.dataset.batch_size)
        total = 0.0
        correct = 0
        self._model.eval()
        try:
            for done, rows in enumerate(batches):
                check(done, len(batches))
                for batch in self._collate(data, rows):
                    loss, hits = self._loss.evaluate(*arrays(batch))
                    total += loss.item()
                    correct += hits.item()
        finally:
            self._model.train()
        return Evaluated(total / data.trained_tokens, correct / data.trained_tokens, data.trained_tokens)

    def _collate(self, data: Dataset, rows: np.ndarray) -> list[Batch]:
        """A batch, in the pieces that are computed at a time."""
        parts = pieces(rows, data.lengths, self._piece_tokens)
        return [collate([data.examples[i] for i in part], self._pad) for part in parts]


def _derived_seed(*position: int) -> int:
    """64 bits for mx.random.seed from the run's seed and a place in it."""
    return int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0])
