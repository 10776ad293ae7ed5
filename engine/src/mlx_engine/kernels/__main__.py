"""`python -m mlx_engine.kernels`: says which kernels this machine's engine uses."""

from mlx_engine.kernels import load

print(load().line)
