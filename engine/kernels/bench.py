"""Each kernel against stock MLX, in turn: `python engine/kernels/bench.py [threads]`. Prints a table.

Shapes of SmolLM2-135M on a batch of 4 x 512 tokens, of which 768 are supervised. MKL uses as many threads as the
kernels.
A time is the best of several, because other work on the machine only ever adds to it; with one thread, of its CPU time.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

import mlx_engine  # noqa: F401  (first: it loads MKL)

# isort: split
import mlx.core as mx
import mlx.nn as nn

from mlx_engine import kernels

_ROUNDS, _SECONDS = 3, 0.5
Function = Callable[..., mx.array]


def main(threads: int) -> None:
    found = kernels.load()
    print(found.line)
    if found.ops is None:
        return
    mx.disable_compile()
    found.ops.threads = threads
    process = ctypes.CDLL(None)
    if hasattr(process, "MKL_Set_Num_Threads"):
        process.MKL_Set_Num_Threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    print(f"\n{threads} thread{'s' if threads > 1 else ''}; milliseconds of forward, and of forward and backward\n")
    print("| | stock MLX | kernel | times as fast |\n|---|---|---|---|")
    for name, stock, fused, inputs in cases(found.ops):
        mx.eval(inputs)
        stock_ms, fused_ms = measure([stock, fused], inputs, clock)
        ratio = " ".join(f"{s / f:.1f}" for s, f in zip(stock_ms, fused_ms, strict=True))
        print(f"| {name} | {_text(stock_ms)} | {_text(fused_ms)} | {ratio} |", flush=True)


def cases(ops: kernels.Ops) -> list[tuple[str, Function, Function, list[mx.array]]]:
    def normal(*shape: int, scale: float = 1.0) -> mx.array:
        return mx.random.normal(shape) * scale

    gate, up, x = normal(4, 512, 1536), normal(4, 512, 1536), normal(4, 512, 576)
    q, k, v = (normal(4, 512, heads, 64).transpose(0, 2, 1, 3) for heads in (9, 3, 3))
    packed = [normal(1, 2048, heads, 64).transpose(0, 2, 1, 3) for heads in (9, 3, 3)]
    starts = (mx.arange(2048) // 128 * 128).astype(mx.int32)
    key = mx.arange(2048)
    mask = (key <= key[:, None]) & (key >= starts[:, None])
    hidden, head = normal(768, 576), normal(49152, 576, scale=0.05)
    targets = mx.random.randint(0, 49152, (768,)).astype(mx.int32)
    turn = {"traditional": False, "base": 1e5, "scale": 1.0, "offset": 0}
    mx.eval(starts, mask, head, targets)

    def attend(mask: str | mx.array) -> Function:
        return lambda q, k, v: mx.fast.scaled_dot_product_attention(q, k, v, scale=0.125, mask=mask)

    return [
        ("attention, 4 rows of 512, causal", attend("causal"), lambda *x: ops.attention(*x, scale=0.125), [q, k, v]),
        (
            "attention, 2048 in segments of 128",
            attend(mask),
            lambda *x: ops.attention(*x, scale=0.125, starts=starts),
            packed,
        ),
        (
            "linear + cross-entropy, 768 rows of 49,152",
            lambda h: nn.losses.cross_entropy(h @ head.T, targets),
            lambda h: ops.linear_cross_entropy(h, head, targets, gradient=True)[0],
            [hidden],
        ),
        ("swiglu, 2048 rows of 1536", lambda g, u: nn.silu(g) * u, ops.silu, [gate, up]),
        ("geglu, 2048 rows of 1536", lambda g, u: nn.gelu_approx(g) * u, ops.gelu, [gate, up]),
        (
            "RMSNorm, 2048 rows of 576",
            lambda x: mx.fast.rms_norm(x, mx.ones(576), 1e-5),
            lambda x: ops.rms_norm(x, mx.ones(576), 1e-5),
            [x],
        ),
        (
            "RoPE, 4 rows of 512, 9 heads of 64",
            lambda q: mx.fast.rope(q, 64, **turn),
            lambda q: ops.rope(q, 64, **turn),
            [q],
        ),
    ]


def measure(functions: list[Function], inputs: list[mx.array], clock: Callable[[], float]) -> list[list[float]]:
    """For each function the milliseconds of its value, and of its value and gradients."""

    def value(function: Function) -> None:
        mx.eval(function(*inputs))

    def gradients(function: Function) -> None:
        mx.eval(mx.vjp(function, inputs, [mx.ones_like(function(*inputs))]))

    times = [[float("inf")] * 2 for _ in functions]
    for _ in range(_ROUNDS):
        for function, best in zip(functions, times, strict=True):
            for i, work in enumerate((value, gradients)):
                work(function)
                end = time.perf_counter() + _SECONDS
                while time.perf_counter() < end:
                    start = clock()
                    work(function)
                    best[i] = min(best[i], (clock() - start) * 1000)
    return times


def _text(milliseconds: list[float]) -> str:
    return " ".join(f"{ms:.3g}" for ms in milliseconds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else kernels.load().ops.threads)
