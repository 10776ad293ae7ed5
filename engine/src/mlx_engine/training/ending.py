"""What has come of a finished run, which is not always a better model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mlx_engine.data.tokenize import Dataset
from mlx_engine.training.compute import Compute
from mlx_engine.training.plan import Plan

_WORSE = 0.1  # of a loss, or of 1: more than rounding or forgetting explains


class _Few:
    """Some rows of a data set, to be evaluated as one."""

    def __init__(self, data: Dataset, rows: Sequence[int]) -> None:
        self.examples = [data.examples[row] for row in rows]
        self.lengths = np.array([len(example.tokens) for example in self.examples])
        self.trained_tokens = sum(example.trained for example in self.examples)


def first_rows_loss(compute: Compute, plan: Plan, data: Dataset, check: Callable[[], None]) -> float:
    """The present model's on the rows of the first step, whose loss then was the base's. They have been learned since,
    so that a higher one is no accident."""
    rows = np.concatenate(plan.micro_batches(0)).tolist()
    return compute.evaluate(_Few(data, rows), lambda done, total: check()).loss


def worse(before: float | None, now: float) -> str | None:
    """What to tell when that loss has risen."""
    if before is None or now <= before + _WORSE * max(1.0, before):
        return None
    return (
        f"Training made the model worse: on the rows of its first step the loss was {before:.4g} before it and is "
        f"{now:.4g} after it. Lower learning_rate, and keep max_grad_norm above 0"
    )
