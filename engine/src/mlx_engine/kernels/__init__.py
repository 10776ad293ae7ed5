"""Fused float32 kernels for MLX on Linux CPUs: an optional C++ extension (engine/kernels), and what uses it.

    found = kernels.load()          # once per process, never raises; found.line says what is used, or why nothing is
    with kernels.threads(1):        # when several threads compute at once; else all cores
        ...
    with kernels.patched(found):    # mlx-lm's models compute with attention, rms_norm, rope, silu, gelu: patches.py
        ...
    if "linear_cross_entropy" in found:
        loss, correct = found.ops.linear_cross_entropy(hidden, weight, targets, gradient=True)

For /health: `found.line`, or `found.active`, `found.inactive` (name → reason) and `found.ops.instruction_set`.
`python -m mlx_engine.kernels` prints the line.
"""

from mlx_engine.kernels.loading import Kernels, load, threads
from mlx_engine.kernels.ops import Ops
from mlx_engine.kernels.patches import patched

__all__ = ["Kernels", "Ops", "load", "patched", "threads"]
