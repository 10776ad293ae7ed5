"""The one process that touches MLX: training, generation, model import. Driven over pipes, see protocol.py."""

from mlx_engine import blas

# Before any module of ours imports mlx.core, which binds its BLAS symbols as it loads.
blas.preload()
