"""What to change about a training that does not fit into memory, or takes its time: sentences for its user."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from mlx.utils import tree_flatten

from mlx_engine.platform import Platform
from mlx_engine.protocol import Train
from mlx_engine.training.forecast import Cost, Load
from mlx_engine.training.method import Subject

_BYTES_OF_4_BIT = 0.5 + 2 * 2 / 64  # a weight, with a scale and a bias for 64 of them
_SHORTER = (0.75, 0.5, 0.375, 0.25, 0.125)
_THRESHOLDS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_FEW_ROWS = 0.1
_LARGE_SHARE = 0.25
_MUCH_PADDING = 0.15


def least_bytes(subject: Subject) -> int:
    """What there is before the first step: weights, their gradients, and state of the optimiser as AdamW has it."""
    weights = [array.nbytes for _, array in tree_flatten(subject.model.parameters())]
    trained = [array.nbytes for _, array in tree_flatten(subject.model.trainable_parameters())]
    return sum(weights) + 3 * sum(trained)


def lighter_methods(command: Train, subject: Subject, needed: float, available: float) -> list[str]:
    """Methods that would take less than the `needed` bytes."""
    trained = sum(array.nbytes for _, array in tree_flatten(subject.model.trainable_parameters()))
    weights = least_bytes(subject) - 3 * trained
    if command.method == "full":
        name, saved = "LoRA (lora.use_lora)", 3 * trained
    elif command.method == "lora" and (less := weights - subject.total_params * _BYTES_OF_4_BIT) > weights / 4:
        name, saved = "QLoRA (lora.use_qlora)", less
    else:
        return []
    verdict = ", which would fit" if needed - saved <= available else ""
    return [f"{name} would take about {gigabytes(saved)} less{verdict}"]


def smaller_batches(
    command: Train, lengths: np.ndarray, predict: Callable[[int, int], float], available: float
) -> list[str]:
    """`predict`: bytes needed with this max_seq_length and this batch_size."""
    said = []
    longest, size = int(lengths.max()), command.dataset.batch_size
    halves = [size >> i for i in range(1, size.bit_length())]
    if (fitting := next((half for half in halves if predict(longest, half) <= available), None)) is not None:
        accumulation = command.gradient_accumulation_steps * size // fitting
        said.append(
            f"batch_size {fitting} with gradient_accumulation_steps {accumulation} would fit, and gives the same result"
        )
    shorter = [int(longest * share) // 32 * 32 for share in _SHORTER]
    if (fitting := next((n for n in shorter if n > 0 and predict(n, size) <= available), None)) is not None:
        cut = int((lengths > fitting).sum())
        said.append(f"max_seq_length {fitting} would fit; it cuts {cut} of {len(lengths)} rows")
    return said


def long_rows(lengths: np.ndarray, cost: Cost) -> list[str]:
    """When few rows take much of the time: which, and what it would save to cut them. `cost`: in seconds."""
    seconds = cost.position * lengths + cost.pair * lengths.astype(np.float64) ** 2
    for threshold in _THRESHOLDS:
        long = lengths > threshold
        count, share = int(long.sum()), seconds[long].sum() / seconds.sum()
        if 0 < count <= _FEW_ROWS * len(lengths) and share >= _LARGE_SHARE:
            saved = share - count * cost.of(Load(threshold, threshold**2)) / seconds.sum()
            rows = f"{count} of {len(lengths)} rows, longer than {threshold} tokens, take{'s' if count == 1 else ''}"
            return [f"{rows} {share:.0%} of the time: max_seq_length {threshold} would save {saved:.0%} of it"]
    return []


def padding(command: Train, share: float) -> list[str]:
    if share < _MUCH_PADDING:
        return []
    cure = "packing would do without" if command.dataset.shuffle else "shuffle puts rows of like length together"
    return [f"{share:.0%} of what is computed is padding: {cure}"]


def slow_machine(platform: Platform) -> list[str]:
    if not platform.backend.startswith("reference BLAS"):
        return []
    return [f"Matrix products run many times slower here than they could ({platform.backend})"]


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
