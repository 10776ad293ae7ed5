"""The device, the back end and the number type that this process computes with."""

from __future__ import annotations

import os
import resource
import sys
import time
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import mlx.core as mx

from mlx_engine import blas, kernels

# Free buffers that MLX keeps for reuse: unbounded by default on a CPU, and not in any memory figure.
_CACHE_SHARE_OF_MEMORY = 1 / 8


@dataclass(frozen=True)
class Platform:
    device: str  # "cpu", "metal: Apple M3 Max", "cuda: NVIDIA H100"
    backend: str  # with the reason: "MKL 2026.2 (preloaded, 226 GFLOP/s)", "reference BLAS: mkl is not installed"
    dtype: mx.Dtype  # of weights and activations, unless the model asks for another
    gflops: float | None  # measured; None: nobody asked
    kernels: str | None  # which fused ones a CPU computes with, or why none; None: nobody asked
    mlx_version: str
    mlx_lm_version: str

    @property
    def on_cpu(self) -> bool:
        return self.device == "cpu"

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("mlx.core.")

    def dtype_for(self, config: dict[str, Any]) -> mx.Dtype:
        """Half precision runs scalar code on CPUs (5 GFLOP/s); on GPUs bfloat16, unless the model says float16."""
        text = config.get("text_config") or {}
        stored = [c.get(key) for c in (config, text) for key in ("dtype", "torch_dtype")]
        return mx.float16 if not self.on_cpu and "float16" in stored else self.dtype


def setup(*, measure: bool = False) -> Platform:
    """Chooses and configures. `measure` adds a GFLOP/s figure, which takes 0.1 to 0.3 s."""
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    device, backend = ("cpu", blas.preload()) if on_cpu else _gpu()
    mx.set_cache_limit(int(memory_bytes() * _CACHE_SHARE_OF_MEMORY))
    if on_cpu:
        # mlx-lm compiles its samplers; on a CPU that needs a C++ compiler, writes to the shared temporary folder
        # and gains nothing.
        mx.disable_compile()
    dtype = mx.float32 if on_cpu else mx.bfloat16
    gflops = _matmul_gflops(dtype) if measure else None
    if gflops is not None:
        figure = f"{gflops:.0f} GFLOP/s"
        backend = backend[:-1] + f", {figure})" if backend.endswith(")") else f"{backend} ({figure})"
    fused = kernels.load().line if measure and on_cpu else None
    return Platform(device, backend, dtype, gflops, fused, version("mlx"), version("mlx-lm"))


def _gpu() -> tuple[str, str]:
    name = mx.device_info(mx.default_device()).get("device_name", "unknown")
    return (f"metal: {name}", "Metal") if mx.metal.is_available() else (f"cuda: {name}", "CUDA")


def memory_bytes() -> int:
    """What models may fill: the GPU's memory (on Apple, the part that may stay wired), or the machine's."""
    info = mx.device_info(mx.default_device())
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(info.get("max_recommended_working_set_size") or info.get("total_memory") or machine)


def _matmul_gflops(dtype: mx.Dtype) -> float:
    """Best of some square matrix products; 1024³ unless 512³ already takes long (60 ms with the reference BLAS)."""
    gflops = 0.0
    for size in (512, 1024):
        a, b = mx.random.normal((2, size, size), key=mx.random.key(0)).astype(dtype)
        mx.eval(a, b, a @ b)
        for _ in range(4):
            start = time.perf_counter()
            mx.eval(a @ b)
            seconds = time.perf_counter() - start
            gflops = max(gflops, 2 * size**3 / seconds / 1e9)
        if seconds > 0.02:
            break
    return round(gflops, 1)


def memory_mb() -> float:
    """Megabytes (10⁶): resident memory of this process on a CPU, the peak of MLX's own allocations on a GPU."""
    if mx.default_device() == mx.Device(mx.gpu):
        return round(mx.get_peak_memory() / 1e6, 1)
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            return round(int(file.read().split()[1]) * _page_size() / 1e6, 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)


@cache
def _page_size() -> int:
    return os.sysconf("SC_PAGE_SIZE")
