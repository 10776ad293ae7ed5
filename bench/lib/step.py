"""What a training step's CPU time goes into: `step.py [--shape NAME] [--tokens N] [--rounds N]`, on one thread.

LoRA and QLoRA (r 8 on q, k, v, o) over random models of known shapes, with the trainer's own loss: CPU seconds, peak
memory, the share of the time in MKL's matrix products, and their GFLOP/s beside what one core can do at most. Prints
one JSON object.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx_engine  # noqa: F401  (first: it loads MKL)

# isort: split
import mlx.core as mx
import mlx.nn as nn
from shapes import SHAPES, random_model

from mlx_engine import kernels, platform
from mlx_engine.models.load import _quantize
from mlx_engine.models.quantized import unpack_on_use
from mlx_engine.protocol import LoraSpec
from mlx_engine.training.lora import apply_lora
from mlx_engine.training.loss import Loss

_SPEC = LoraSpec(rank=8, alpha=16, dropout=0, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
_CALL = re.compile(r"^MKL_VERBOSE SGEMM\(\w,\w,(\d+),(\d+),(\d+),.*\) ([\d.]+)(ns|us|ms|s) ", re.MULTILINE)
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    platform.setup()
    mkl = ctypes.CDLL(None)
    if not hasattr(mkl, "MKL_Set_Num_Threads"):
        sys.exit("MKL is not loaded: this measures MKL's products")
    mkl.MKL_Set_Num_Threads(1)
    found = kernels.load()
    if found.ops is not None:
        found.ops.threads = 1
    result: dict[str, Any] = {"shape": options.shape, "tokens": options.tokens, "kernels": found.line}
    result["peak_gflops"] = peak()
    with kernels.patched(found):
        for method in ("lora", "qlora"):
            result[method] = measure(mkl, step(options.shape, options.tokens, method), options.rounds)
    result["qlora_speed"] = round(result["lora"]["cpu_seconds"] / result["qlora"]["cpu_seconds"], 2)
    print(json.dumps(result))


def peak() -> float | None:
    """GFLOP/s of one core; None without a compiler."""
    source = Path(__file__).with_name("peak.cpp")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/peak"
        command = [os.environ.get("CXX", "c++"), "-O3", "-march=native", source, "-o", program]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return float(subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()[0])


def step(shape: str, tokens: int, method: str) -> Callable[[], None]:
    """One step's loss and gradients; three quarters of the positions are supervised."""
    model, config = random_model(shape)
    if method == "qlora":
        _quantize(model, 4)
        unpack_on_use(model)
    apply_lora(model, _SPEC, 1)
    mx.eval(model.parameters())
    loss = Loss(model)
    inputs = mx.random.randint(0, config["vocab_size"], (1, tokens))
    positions = mx.arange(tokens // 4, tokens)
    targets = mx.random.randint(0, config["vocab_size"], positions.shape).astype(mx.int32)
    value_and_grad = nn.value_and_grad(model, lambda _: loss(inputs, positions, targets))
    mx.eval(inputs, positions, targets)
    return lambda: mx.eval(value_and_grad(model))


def measure(mkl: ctypes.CDLL, work: Callable[[], None], rounds: int) -> dict[str, Any]:
    mx.clear_cache()
    mx.reset_peak_memory()
    times = []
    for _ in range(rounds + 1):  # the first one warms up
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    memory = mx.get_peak_memory()
    with tempfile.TemporaryFile() as log:
        sys.stdout.flush()
        before = os.dup(1)
        os.dup2(log.fileno(), 1)
        mkl.MKL_Verbose(1)
        start = time.perf_counter()
        try:
            work()
        finally:
            seconds = time.perf_counter() - start
            mkl.MKL_Verbose(0)
            ctypes.CDLL(None).fflush(None)
            os.dup2(before, 1)
            os.close(before)
        log.seek(0)
        calls = _CALL.findall(log.read().decode(errors="replace"))
    products = sum(float(number) * _UNITS[unit] for *_, number, unit in calls)
    gflop = sum(2 * int(m) * int(n) * int(k) for m, n, k, *_ in calls) / 1e9
    # MKL tells wall time. Its share is right also when other processes are there, and of CPU time then.
    share, cpu_seconds = products / seconds, min(times[1:])
    return {
        "cpu_seconds": round(cpu_seconds, 2),
        "peak_memory_mb": round(memory / 1e6),
        "product_share": round(share, 3),
        "product_gflop": round(gflop, 1),
        "product_gflops": round(gflop / (share * cpu_seconds), 1),
    }


if __name__ == "__main__":
    main()
