"""What the kernels compute, in float64 numpy: values and gradients, written for clarity.

The measure for the self-test and the tests. Stock MLX is none: its cross-entropy is less exact than the kernel's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

Array = np.ndarray


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(x / 2))


def silu(gate: Array, up: Array, d_out: Array) -> tuple[Array, Array, Array]:
    """→ out, d_gate, d_up"""
    s = _sigmoid(gate)
    return gate * s * up, d_out * up * (s + gate * s * (1 - s)), d_out * gate * s


def gelu(gate: Array, up: Array, d_out: Array) -> tuple[Array, Array, Array]:
    """By the tanh approximation → out, d_gate, d_up"""
    a = math.sqrt(2 / math.pi)
    t = np.tanh(a * (gate + 0.044715 * gate**3))
    value = gate * (1 + t) / 2
    slope = (1 + t) / 2 + gate / 2 * (1 - t**2) * a * (1 + 3 * 0.044715 * gate**2)
    return value * up, d_out * up * slope, d_out * value


def rms_norm(x: Array, weight: Array, eps: float, d_out: Array) -> tuple[Array, Array, Array]:
    """→ out, d_x, d_weight"""
    r = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    g = d_out * weight
    d_x = g * r - x * r**3 * (g * x).mean(-1, keepdims=True)
    return x * r * weight, d_x, (d_out * x * r).reshape(-1, x.shape[-1]).sum(0)


def rope(x: Array, angles: Array, traditional: bool) -> Array:
    """x (…, rows, dims), angles (rows, half). The gradient is the same with -angles."""
    half = angles.shape[1]
    first, second = (
        (slice(0, 2 * half, 2), slice(1, 2 * half, 2)) if traditional else (slice(0, half), slice(half, 2 * half))
    )
    a, b, out = x[..., first], x[..., second], x.copy()
    out[..., first] = a * np.cos(angles) - b * np.sin(angles)
    out[..., second] = a * np.sin(angles) + b * np.cos(angles)
    return out


def visible(queries: int, keys: int, causal: bool, window: int = 0, starts: Array | None = None) -> Array:
    """(1 or batch, queries, keys): which keys a query sees. starts (queries) or (batch, queries)."""
    positions, key = np.arange(queries)[:, None] + keys - queries, np.arange(keys)
    seen = np.ones((1, queries, keys), bool)
    if causal:
        seen = seen & (key <= positions)
    if window:
        seen = seen & (key > positions - window)
    if starts is not None:
        seen = seen & (key >= np.atleast_2d(starts)[..., None])
    return seen


class Attended(NamedTuple):
    out: Array
    d_q: Array
    d_k: Array
    d_v: Array


def attention(
    q: Array, k: Array, v: Array, scale: float, seen: Array, d_out: Array, mask: Array | float = 0.0
) -> Attended:
    """q (B, H, Q, D), k and v (B, H/G, K, D), seen (1 or B, Q, K); mask, to be added, like (B, H, Q, K)"""
    group = q.shape[1] // k.shape[1]
    shape = (*k.shape[:2], group, *k.shape[2:])
    keys, values = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = np.where(seen[:, None], scale * q @ keys.swapaxes(-1, -2) + mask, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    d_p = d_out @ values.swapaxes(-1, -2)
    d_s = p * (d_p - (d_p * p).sum(-1, keepdims=True)) * scale
    return Attended(
        p @ values,
        d_s @ keys,
        (d_s.swapaxes(-1, -2) @ q).reshape(shape).sum(2),
        (p.swapaxes(-1, -2) @ d_out).reshape(shape).sum(2),
    )


def linear(x: Array, weight: Array) -> Array:
    """x (…, D), weight (O, D)"""
    return x @ weight.T


def unpack(words: Array, scales: Array, biases: Array, bits: int) -> Array:
    """words (O, D · bits / 32) uint32, scales and biases (O, groups) → (O, D)"""
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    values = (words[..., None] >> shifts & np.uint32(2**bits - 1)).astype(np.float64)
    values = values.reshape(len(words), words.shape[1] * len(shifts))
    group = values.shape[1] // scales.shape[1]
    return values * np.repeat(scales, group, axis=1) + np.repeat(biases, group, axis=1)


def low_rank(y: Array, x: Array, a: Array, b: Array, slots: Array) -> Array:
    """y (R, 1, O), x (R, 1, D), a (S, D, r), b (S, r, O), slots (R); slot 0 adds nothing"""
    return y + np.where(slots == 0, 0.0, 1.0)[:, None, None] * (x @ a[slots] @ b[slots])


class CrossEntropy(NamedTuple):
    loss: Array
    correct: Array
    d_hidden: Array
    d_weight: Array


def linear_cross_entropy(hidden: Array, weight: Array, targets: Array, soft_cap: float, d_loss: Array) -> CrossEntropy:
    """hidden (R, D), weight (V, D), targets (R): without a label outside of [0, V)"""
    logits = hidden @ weight.T
    slope = np.ones_like(logits)
    if soft_cap:
        logits = soft_cap * np.tanh(logits / soft_cap)
        slope = 1 - (logits / soft_cap) ** 2
    labelled = (targets >= 0) & (targets < len(weight))
    rows, at = np.arange(len(targets)), np.where(labelled, targets, 0)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    total = p.sum(-1, keepdims=True)
    loss = np.log(total[:, 0]) + logits.max(-1, initial=-np.inf) - logits[rows, at]
    d_logits = p / total
    d_logits[rows, at] -= 1
    d_logits *= slope * (d_loss * labelled)[:, None]
    return CrossEntropy(
        np.where(labelled, loss, 0),
        labelled & (logits[rows, at] >= logits.max(-1, initial=-np.inf)),
        d_logits @ weight,
        d_logits.T @ hidden,
    )
