"""What of MLX and mlx-lm the kernels replace while a model computes, and when the original is called after all.

- mx.fast.scaled_dot_product_attention by attention. Original: not float32; sinks; values of another width than the
  keys; a mask that is neither None, 'causal', packed, boolean nor float32; causal with more queries than keys.
- mx.fast.rms_norm by rms_norm. Original: not float32.
- mx.fast.rope by rope. Original: not float32; an array as offset for more than one token a row; neither 3 nor 4 axes.
- mlx_lm.models.activations.swiglu, wherever a model has imported it, by silu. Original: not float32; shapes differ.
- mlx.nn.silu by silu, mlx.nn.gelu_approx by gelu. Original: not float32.
- mx.quantized_matmul, by which packed layers compute, by packed_linear, while ops.decoding by packed_linear_rows.
  Original: not float32, scales neither; not affine; other than 4 and 8 bits in groups of 32, 64 or 128; weights that
  are not transposed or have other than 2 axes.
- mlx.nn.Linear's and Embedding.as_linear's products by linear_rows, while ops.decoding. Original: not float32.

The original is also called with a `stream`, or with an argument that this version of MLX doesn't have.

A mask is packed when it has `starts`: int32 (T) or (B, T), for each position the first of its segment; `window`, unless
0 or None, further limits how many keys a query sees. Attention over it is causal inside of each segment. When the
original has to be called, it gets the same as an array.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_engine.kernels.loading import Kernels
from mlx_engine.kernels.ops import Ops, Packed

Function = Callable[..., mx.array]


@contextlib.contextmanager
def patched(kernels: Kernels) -> Iterator[None]:
    """Inside, models compute with the kernels that are active. For the whole process: whoever comes first replaces, for
    all that come meanwhile on whatever thread, and the last one to leave undoes it. RuntimeError for other kernels than
    those in place."""
    _IN_PLACE.enter(kernels)
    try:
        yield
    finally:
        _IN_PLACE.leave()


class _InPlace:
    """What is replaced, as long as anybody is inside of `patched`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._kernels: Kernels | None = None
        self._replaced = contextlib.ExitStack()

    def enter(self, kernels: Kernels) -> None:
        with self._lock:
            if self._inside == 0:
                self._replace(kernels)
            elif kernels != self._kernels:
                raise RuntimeError("other kernels are in place")
            self._inside += 1

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._replaced.close()

    def _replace(self, kernels: Kernels) -> None:
        with contextlib.ExitStack() as stack:
            for owner, attribute, kernel, make in _replaced_functions():
                if all(name in kernels for name in kernel.split()):
                    stack.enter_context(_replaced(owner, attribute, make(kernels.ops, getattr(owner, attribute))))
            self._kernels, self._replaced = kernels, stack.pop_all()


_IN_PLACE = _InPlace()


@contextlib.contextmanager
def _replaced(owner: Any, attribute: str, replacement: Function) -> Iterator[None]:
    original = getattr(owner, attribute)
    _exchange(owner, attribute, original, replacement)
    try:
        yield
    finally:
        _exchange(owner, attribute, replacement, original)


def _exchange(owner: Any, attribute: str, old: Function, new: Function) -> None:
    setattr(owner, attribute, new)
    for name, module in list(sys.modules.items()):
        if name.startswith("mlx_lm.models.") and getattr(module, attribute, None) is old:
            setattr(module, attribute, new)


def _attention(ops: Ops, original: Function) -> Function:
    def scaled_dot_product_attention(
        q: mx.array, k: mx.array, v: mx.array, *, scale: float, mask: Any = None, sinks: Any = None, **more: Any
    ) -> mx.array:
        starts, window = getattr(mask, "starts", None), getattr(mask, "window", None) or 0
        causal = (isinstance(mask, str) and mask == "causal") or starts is not None
        array = mask if isinstance(mask, mx.array) and mask.dtype in (mx.bool_, mx.float32) else None
        known = mask is None or array is not None or (causal and q.shape[2] <= k.shape[2])
        if known and sinks is None and not more and _float32(q, k, v) and k.shape == v.shape:
            return ops.attention(q, k, v, scale=scale, causal=causal, window=window, starts=starts, mask=array)
        if starts is not None:
            mask = _dense(starts, window, q.shape[2], k.shape[2])
        return original(q, k, v, scale=scale, mask=mask, sinks=sinks, **more)

    return scaled_dot_product_attention


def _dense(starts: mx.array, window: int, queries: int, keys: int) -> mx.array:
    """(1 or B, 1, queries, keys) bool"""
    position, key = mx.arange(keys - queries, keys)[:, None], mx.arange(keys)
    seen = (key <= position) & (key >= starts[..., None])
    if window:
        seen = seen & (key > position - window)
    return seen.reshape(-1, 1, queries, keys)


def _rms_norm(ops: Ops, original: Function) -> Function:
    def rms_norm(x: mx.array, weight: mx.array | None, eps: float, **more: Any) -> mx.array:
        if not more and (_float32(x) if weight is None else _float32(x, weight)):
            return ops.rms_norm(x, weight, eps)
        return original(x, weight, eps, **more)

    return rms_norm


def _rope(ops: Ops, original: Function) -> Function:
    def rope(
        a: mx.array,
        dims: int,
        *,
        traditional: bool,
        base: float | None,
        scale: float,
        offset: int | mx.array,
        freqs: mx.array | None = None,
        **more: Any,
    ) -> mx.array:
        options = {"traditional": traditional, "base": base, "scale": scale, "offset": offset, "freqs": freqs}
        if not more and _float32(a):
            if a.ndim in (3, 4) and isinstance(offset, int):
                return ops.rope(a, dims, **options)
            if a.ndim == 4 and a.shape[2] == 1 and isinstance(offset, mx.array) and offset.shape == a.shape[:1]:
                return ops.rope_rows(a, dims, **options)
        return original(a, dims, **options, **more)

    return rope


def _swiglu(ops: Ops, original: Function) -> Function:
    def swiglu(gate: mx.array, x: mx.array) -> mx.array:
        return ops.silu(gate, x) if _float32(gate, x) and gate.shape == x.shape else original(gate, x)

    return swiglu


def _quantized_matmul(ops: Ops, original: Function) -> Function:
    def quantized_matmul(
        x: mx.array,
        w: mx.array,
        /,
        scales: mx.array,
        biases: mx.array | None = None,
        transpose: bool = True,
        group_size: int | None = None,
        bits: int | None = None,
        mode: str = "affine",
        **more: Any,
    ) -> mx.array:
        packed = (
            Packed.of(w, scales, biases, group_size, bits, mode) if transpose and _float32(x) and not more else None
        )
        if packed is not None:
            return (ops.packed_linear_rows if ops.decoding else ops.packed_linear)(x, packed)
        return original(x, w, scales, biases, transpose, group_size, bits, mode, **more)

    return quantized_matmul


def _linear(ops: Ops, original: Function) -> Function:
    def linear(self: nn.Linear, x: mx.array) -> mx.array:
        if not ops.decoding or not _float32(x, self.weight):
            return original(self, x)
        y = ops.linear_rows(x, self.weight)
        return y + self.bias if "bias" in self else y

    return linear


def _as_linear(ops: Ops, original: Function) -> Function:
    def as_linear(self: nn.Embedding, x: mx.array) -> mx.array:
        decoding = ops.decoding and _float32(x, self.weight)
        return ops.linear_rows(x, self.weight) if decoding else original(self, x)

    return as_linear


def _silu(ops: Ops, original: Function) -> Function:
    def silu(x: mx.array) -> mx.array:
        return ops.silu(x) if _float32(x) else original(x)

    return silu


def _gelu(ops: Ops, original: Function) -> Function:
    def gelu_approx(x: mx.array) -> mx.array:
        return ops.gelu(x) if _float32(x) else original(x)

    return gelu_approx


def _float32(*arrays: mx.array) -> bool:
    return all(a.dtype == mx.float32 for a in arrays)


def _replaced_functions() -> list[tuple[Any, str, str, Callable[[Ops, Function], Function]]]:
    """(module, name of the function, kernels, what makes the replacement)"""
    from mlx_lm.models import activations  # takes a second, because it imports transformers

    return [
        (mx.fast, "scaled_dot_product_attention", "attention", _attention),
        (mx.fast, "rms_norm", "rms_norm", _rms_norm),
        (mx.fast, "rope", "rope", _rope),
        (activations, "swiglu", "silu", _swiglu),
        (nn, "silu", "silu", _silu),
        (nn, "gelu_approx", "gelu", _gelu),
        (mx, "quantized_matmul", "packed_linear packed_linear_rows", _quantized_matmul),
        (nn.Linear, "__call__", "linear_rows", _linear),
        (nn.Embedding, "as_linear", "linear_rows", _as_linear),
    ]
