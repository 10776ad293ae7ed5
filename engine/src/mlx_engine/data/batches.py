"""Which rows go together, in which order, and how they become arrays."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlx_engine.data.tokenize import Example

# Rows are sorted by length inside mega-batches of this many batches: enough that a batch's rows are of nearly equal
# length, few enough that the epochs differ.
_MEGA = 50
_SQUARE = 1500  # tokens


@dataclass(frozen=True)
class Batch:
    """R supervised positions, in B rows padded to the longest, T, or in rows laid end to end in a single one. The model
    sees a row without its last token."""

    inputs: np.ndarray  # (B, T) int32
    positions: np.ndarray  # (R,) int32 into the flattened (B·T) outputs
    targets: np.ndarray  # (R,) int32: the token after each position
    rows: int
    tokens: int  # without padding
    segments: tuple[int, ...] | None = None  # lengths of what is laid end to end, T in all; None: each row is its own


def epoch_batches(lengths: Sequence[int], batch_size: int, *, shuffle: bool, seed: int, epoch: int) -> list[np.ndarray]:
    """Row indices of each batch of an epoch (from 0); every row once, the last batch may be smaller.

    Shuffled: batches of similar lengths in random order, a function of `seed` and `epoch` alone. Otherwise file order.
    """
    if not shuffle:
        return _cut(np.arange(len(lengths)), batch_size)
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    sizes = np.asarray(lengths)
    batches = []
    for mega in _cut(order, batch_size * _MEGA):
        batches += _cut(mega[np.argsort(-sizes[mega], kind="stable")], batch_size)
    return [batches[i] for i in generator.permutation(len(batches))]


def evaluation_batches(lengths: Sequence[int], batch_size: int) -> list[np.ndarray]:
    """All rows, longest first, so that a lack of memory shows at once."""
    return _cut(np.argsort(-np.asarray(lengths), kind="stable"), batch_size)


def pieces(rows: np.ndarray, lengths: Sequence[int], *, tokens: int, multiple: int = 1) -> list[np.ndarray]:
    """A step's rows in pieces that are computed one by one: of at most `tokens` tokens, padding included (a longer row
    goes alone), as many as a multiple of `multiple` where there are rows enough, and of nearly equal cost.

    The pieces' gradients are added up, so that memory, padding and time change, not what is computed. The costliest
    comes first.
    """
    widths = {row: int(lengths[row]) for row in rows.tolist()}
    order = sorted(widths, key=lambda row: -widths[row])

    def cost(group: list[int]) -> float:
        return _cost(widths[group[0]], len(group))

    def groups(most: float) -> list[list[int]]:
        """In as few as keep to this cost, one after another."""
        found = [order[:1]]
        for row in order[1:]:
            grown = [*found[-1], row]
            if len(grown) * widths[grown[0]] > tokens or cost(grown) > most:
                found.append([row])
            else:
                found[-1] = grown
        return found

    count = min(len(order), math.ceil(len(groups(math.inf)) / multiple) * multiple)
    low, high = cost(order[:1]), cost(order)
    while high - low > low / 100:
        middle = (low + high) / 2
        low, high = (low, middle) if len(groups(middle)) <= count else (middle, high)
    found = groups(high)
    while len(found) < count:
        largest = max((group for group in found if len(group) > 1), key=cost)
        half = len(largest) // 2
        found.remove(largest)
        found += [largest[:half], largest[half:]]
    return [np.array(group) for group in sorted(found, key=cost, reverse=True)]


def bins(rows: np.ndarray, lengths: Sequence[int], *, tokens: int, multiple: int = 1) -> list[np.ndarray]:
    """The same for rows that are laid end to end: there is no padding, and a row costs the same wherever it is."""
    widths = {row: int(lengths[row]) for row in rows.tolist()}
    count = math.ceil(math.ceil(sum(widths.values()) / tokens) / multiple) * multiple
    found: list[list[int]] = [[] for _ in range(min(len(widths), count))]
    sizes = [0] * len(found)
    least = [(0.0, i) for i in range(len(found))]  # a heap of costs
    for row in sorted(widths, key=lambda row: -widths[row]):
        cost, i = least[0]
        if sizes[i] and sizes[i] + widths[row] > tokens:
            cost, i = 0.0, len(found)
            found.append([])
            sizes.append(0)
            heapq.heappush(least, (0.0, i))
        found[i].append(row)
        sizes[i] += widths[row]
        heapq.heapreplace(least, (cost + _cost(widths[row], 1), i))
    return [np.array(found[i]) for _, i in sorted(least, key=lambda each: (-each[0], each[1]))]


def collate(examples: Sequence[Example], pad: int, multiple: int = 1) -> Batch:
    """Pads on the right, to a multiple of `multiple`. A row's last token is only a target, so T is one less than the
    longest row's length."""
    width = up(max(len(example.tokens) for example in examples) - 1, multiple)
    inputs = np.full((len(examples), width), pad, dtype=np.int32)
    for i, example in enumerate(examples):
        inputs[i, : len(example.tokens) - 1] = example.tokens[:-1]
    return _batch(examples, inputs, [i * width for i in range(len(examples))])


def pack(examples: Sequence[Example], pad: int, multiple: int = 1) -> Batch:
    """Lays rows end to end; what pads them to a multiple of `multiple` is a segment of its own."""
    lengths = [len(example.tokens) - 1 for example in examples]
    starts = np.cumsum([0, *lengths]).tolist()
    inputs = np.full((1, up(starts[-1], multiple)), pad, dtype=np.int32)
    inputs[0, : starts[-1]] = np.concatenate([example.tokens[:-1] for example in examples])
    padding = inputs.size - starts[-1]
    return _batch(examples, inputs, starts[:-1], (*lengths, *([padding] if padding else [])))


def _batch(
    examples: Sequence[Example], inputs: np.ndarray, starts: list[int], segments: tuple[int, ...] | None = None
) -> Batch:
    """`starts`: where each row's first token is in the flattened inputs."""
    at = [np.flatnonzero(example.supervised) for example in examples]
    return Batch(
        inputs,
        np.concatenate([start + places - 1 for start, places in zip(starts, at, strict=True)]).astype(np.int32),
        np.concatenate([example.tokens[places] for example, places in zip(examples, at, strict=True)]),
        rows=len(examples),
        tokens=sum(len(example.tokens) for example in examples),
        segments=segments,
    )


def up(length: int, multiple: int) -> int:
    """To the next multiple."""
    return math.ceil(length / multiple) * multiple


def _cut(indices: np.ndarray, size: int) -> list[np.ndarray]:
    return [indices[i : i + size] for i in range(0, len(indices), size)]


def _cost(width: int, rows: int) -> float:
    """Of rows padded to this width, in tokens: attention grows with the square, and takes as long as all the rest at
    about 1,500 tokens (SmolLM2-135M on two cores: 8 ms a token, 5 µs a pair of tokens)."""
    return rows * width * (1 + width / _SQUARE)
