"""What a step's time and memory depend on, from a few that were measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

# Attention takes as long as all the rest at about so many tokens (data/batches.py). Of memory it need not take any.
SQUARE_OF_TIME = 1500.0
SQUARE_OF_MEMORY = math.inf
_ALIKE = 0.1  # widths that differ by less can't tell it


@dataclass(frozen=True)
class Load:
    """What is computed: positions, padding included, and pairs of them that attention looks at."""

    positions: float
    pairs: float

    def __add__(self, other: Load) -> Load:
        return Load(self.positions + other.positions, self.pairs + other.pairs)


@dataclass(frozen=True)
class Cost:
    """Of a load, in seconds or in bytes."""

    position: float
    pair: float

    def of(self, load: Load) -> float:
        return self.position * load.positions + self.pair * load.pairs


def fit(small: tuple[Load, float], large: tuple[Load, float], square: float) -> Cost:
    """The cost that two loads were measured to have. Where they don't tell its parts, neither of which can be negative,
    pairs are taken to cost as much as positions at `square` tokens."""
    (a, b), values = (small[0], large[0]), [small[1], large[1]]
    if 1 - (a.pairs / a.positions) / (b.pairs / b.positions) > _ALIKE:
        position, pair = np.linalg.solve([[a.positions, a.pairs], [b.positions, b.pairs]], values)
        if position > 0 and pair >= 0:
            return Cost(float(position), float(pair))
    position = sum(values) / (a.positions + b.positions + (a.pairs + b.pairs) / square)
    return Cost(position, position / square)
