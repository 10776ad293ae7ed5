"""The learning rate of each step."""

from __future__ import annotations

import math
from typing import Literal


def warmup_steps(ratio: float, total_steps: int) -> int:
    return math.ceil(ratio * total_steps)


def learning_rate(
    step: int, *, peak: float, total_steps: int, warmup: int, kind: Literal["linear", "cosine", "constant"]
) -> float:
    """Of the step number `step`, from 0. Rises linearly over `warmup` steps, the first of which already has
    peak / warmup, then stays (constant) or falls towards 0, which it would reach at `total_steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    match kind:
        case "linear":
            return peak * (1 - done)
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * done))
        case "constant":
            return peak
