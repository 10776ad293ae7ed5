"""Decides, kernel by kernel, whether it computes what it should on this machine. Every engine process does this."""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import numpy as np

from mlx_engine.kernels import reference
from mlx_engine.kernels.ops import NAMES, Ops, Packed

# Of the largest absolute value of a result. float32 rounds at 6e-8; the sums here are short.
_TOLERANCE = 2e-5


def check(ops: Ops) -> dict[str, str]:
    """Name → what is wrong, for each kernel that fails. At most 0.3 s."""
    failures = {}
    for name in NAMES:
        try:
            problem = _CHECKS[name](ops, np.random.default_rng(0))
        except Exception as error:  # whatever goes wrong in foreign code: stock MLX is still there
            problem = f"{type(error).__name__}: {error}".splitlines()[0]
        if problem is not None:
            failures[name] = problem
    return failures


def difference(found: list[mx.array], expected: list[np.ndarray]) -> str | None:
    """Names the first result that is off, or None."""
    for i, (got, wanted) in enumerate(zip(found, expected, strict=True)):
        got = np.array(got)
        if got.shape != wanted.shape:
            return f"result {i} has the shape {got.shape}, not {wanted.shape}"
        largest = max(float(np.abs(wanted).max(initial=0)), 1e-30)
        error = float(np.abs(got - wanted).max(initial=0)) / largest
        if not error <= _TOLERANCE:
            return f"result {i} is off by {error:.1e} of its largest value"
    return None


def with_gradients(function: Callable[..., mx.array], inputs: list[np.ndarray], d_out: np.ndarray) -> list[mx.array]:
    """function's value and its gradients with respect to `inputs`, weighted by d_out."""
    outputs, gradients = mx.vjp(function, [mx.array(x, mx.float32) for x in inputs], [mx.array(d_out, mx.float32)])
    return [outputs[0], *gradients]


def _activation(name: str) -> Callable[[Ops, np.random.Generator], str | None]:
    def check(ops: Ops, random: np.random.Generator) -> str | None:
        gate, up, d_out = random.normal(size=(3, 7, 65)).astype(np.float32) * 3
        function, expected = getattr(ops, name), getattr(reference, name)
        wide = [x.astype(np.float64) for x in (gate, up, d_out)]
        gated = difference(with_gradients(function, [gate, up], d_out), list(expected(*wide)))
        alone = expected(wide[0], np.ones_like(wide[1]), wide[2])[:2]
        return gated or difference(with_gradients(function, [gate], d_out), list(alone))

    return check


def _rms_norm(ops: Ops, random: np.random.Generator) -> str | None:
    x, d_out = random.normal(size=(2, 41, 67)).astype(np.float32)
    weight = random.normal(size=67).astype(np.float32)
    expected = reference.rms_norm(x.astype(np.float64), weight.astype(np.float64), 1e-5, d_out.astype(np.float64))
    return difference(with_gradients(lambda x, w: ops.rms_norm(x, w, 1e-5), [x, weight], d_out), list(expected))


def _rope(ops: Ops, random: np.random.Generator) -> str | None:
    x, d_out = random.normal(size=(2, 2, 3, 17, 24)).astype(np.float32)
    angles = (np.arange(17) + 5)[:, None] * 10000.0 ** (-np.arange(8) / 8)
    for traditional in (False, True):
        expected = [
            reference.rope(x.astype(np.float64), angles, traditional),
            reference.rope(d_out.astype(np.float64), -angles, traditional),
        ]

        def turn(x: mx.array, traditional: bool = traditional) -> mx.array:
            return ops.rope(x, 16, traditional=traditional, base=10000.0, scale=1.0, offset=5)

        if problem := difference(with_gradients(turn, [x], d_out), expected):
            return problem
    return None


def _attention(ops: Ops, random: np.random.Generator) -> str | None:
    q, d_out = random.normal(size=(2, 2, 4, 90, 16)).astype(np.float32)
    k, v = random.normal(size=(2, 2, 2, 90, 16)).astype(np.float32)
    starts = np.repeat([0, 70], [70, 20]).astype(np.int32)
    mask = random.normal(size=(4, 90, 90)).astype(np.float32)
    everything = reference.visible(90, 90, False)
    for options, seen, added in (
        ({"starts": mx.array(starts)}, reference.visible(90, 90, True, starts=starts), 0.0),
        ({"window": 33}, reference.visible(90, 90, True, window=33), 0.0),
        ({"causal": False}, everything, 0.0),
        ({"causal": False, "mask": mx.array(mask)}, everything, mask),
    ):
        wide = [x.astype(np.float64) for x in (q, k, v)]
        expected = reference.attention(*wide, 0.25, seen, d_out.astype(np.float64), added)

        def attend(q: mx.array, k: mx.array, v: mx.array, options: dict = options) -> mx.array:
            return ops.attention(q, k, v, scale=0.25, **options)

        if problem := difference(with_gradients(attend, [q, k, v], d_out), list(expected)):
            return problem
    return None


def _linear_cross_entropy(ops: Ops, random: np.random.Generator) -> str | None:
    hidden, weight = random.normal(size=(37, 24)).astype(np.float32), random.normal(size=(1300, 24)).astype(np.float32)
    targets, d_loss = random.integers(-1, 1300, 37).astype(np.int32), random.normal(size=37).astype(np.float32)
    for soft_cap in (0.0, 5.0):
        wide = [x.astype(np.float64) for x in (hidden, weight)]
        expected = reference.linear_cross_entropy(*wide, targets, soft_cap, d_loss.astype(np.float64))

        def loss(hidden: mx.array, weight: mx.array, soft_cap: float = soft_cap) -> mx.array:
            return ops.linear_cross_entropy(hidden, weight, mx.array(targets), soft_cap=soft_cap, gradient=True)[0]

        wanted = [expected.loss, expected.d_hidden, expected.d_weight]
        if problem := difference(with_gradients(loss, [hidden, weight], d_loss), wanted):
            return problem
    return None


# (bits, group size, dims): of blocks of words that are whole and that are not, for every instruction set
_PACKINGS = ((4, 32, 352), (4, 64, 192), (8, 32, 96), (8, 128, 256))


def packed(random: np.random.Generator, outs: int, dims: int, bits: int, group: int) -> tuple[Packed, np.ndarray]:
    """Random packed weights (outs, dims), and what they stand for in float64."""
    words = random.integers(0, 2**32, (outs, dims * bits // 32), np.uint32)
    scales, biases = random.normal(size=(2, outs, dims // group)).astype(np.float32)
    wide = reference.unpack(words, scales.astype(np.float64), biases.astype(np.float64), bits)
    return Packed(mx.array(words), mx.array(scales), mx.array(biases), group, bits), wide


def _packed_linear(ops: Ops, random: np.random.Generator) -> str | None:
    for bits, group, dims in _PACKINGS:
        weight, wide = packed(random, 37, dims, bits, group)
        x, d_out = random.normal(size=(5, dims)).astype(np.float32), random.normal(size=(5, 37)).astype(np.float32)
        expected = [reference.linear(x.astype(np.float64), wide), d_out.astype(np.float64) @ wide]
        found = with_gradients(lambda x, weight=weight: ops.packed_linear(x, weight), [x], d_out)
        if problem := difference(found, expected):
            return problem
    return None


def _packed_linear_rows(ops: Ops, random: np.random.Generator) -> str | None:
    for bits, group, dims in _PACKINGS:
        weight, wide = packed(random, 37, dims, bits, group)
        x = random.normal(size=(7, 1, dims)).astype(np.float32)
        found = ops.packed_linear_rows(mx.array(x), weight)
        if problem := difference([found], [reference.linear(x.astype(np.float64), wide)]):
            return problem
    return None


def _packed_cross_entropy(ops: Ops, random: np.random.Generator) -> str | None:
    for bits, group, dims in _PACKINGS[1:3]:
        weight, wide = packed(random, 1100, dims, bits, group)
        wide, scale = wide * 0.1, mx.array(0.1)
        weight = weight._replace(scales=weight.scales * scale, biases=weight.biases * scale)
        hidden, targets = random.normal(size=(7, dims)).astype(np.float32) * 0.1, random.integers(-1, 1100, 7)
        d_loss = random.normal(size=7).astype(np.float32)
        expected = reference.linear_cross_entropy(
            hidden.astype(np.float64), wide, targets, 0.0, d_loss.astype(np.float64)
        )

        def loss(hidden: mx.array, weight: Packed = weight, targets: np.ndarray = targets) -> mx.array:
            return ops.packed_cross_entropy(hidden, weight, mx.array(targets.astype(np.int32)), gradient=True)[0]

        if problem := difference(with_gradients(loss, [hidden], d_loss), [expected.loss, expected.d_hidden]):
            return problem
    return None


def _linear_rows(ops: Ops, random: np.random.Generator) -> str | None:
    x, weight = random.normal(size=(7, 1, 67)).astype(np.float32), random.normal(size=(37, 67)).astype(np.float32)
    found = ops.linear_rows(mx.array(x), mx.array(weight))
    return difference([found], [reference.linear(x.astype(np.float64), weight.astype(np.float64))])


def _low_rank_rows(ops: Ops, random: np.random.Generator) -> str | None:
    y, x = random.normal(size=(5, 1, 37)).astype(np.float32), random.normal(size=(5, 1, 67)).astype(np.float32)
    a, b = random.normal(size=(3, 67, 11)).astype(np.float32), random.normal(size=(3, 11, 37)).astype(np.float32)
    slots = np.array([2, 0, 1, 2, 1], np.uint32)
    found = ops.low_rank_rows(*map(mx.array, (y, x, a, b, slots)))
    wide = [array.astype(np.float64) for array in (y, x, a, b)]
    return difference([found], [reference.low_rank(*wide, slots)])


_CHECKS: dict[str, Callable[[Ops, np.random.Generator], str | None]] = {
    "attention": _attention,
    "linear_cross_entropy": _linear_cross_entropy,
    "silu": _activation("silu"),
    "gelu": _activation("gelu"),
    "rms_norm": _rms_norm,
    "rope": _rope,
    "linear_rows": _linear_rows,
    "packed_linear": _packed_linear,
    "packed_linear_rows": _packed_linear_rows,
    "packed_cross_entropy": _packed_cross_entropy,
    "low_rank_rows": _low_rank_rows,
}
