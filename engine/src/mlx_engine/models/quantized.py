"""Packed weights on CPUs: unpacked for each product, which then is a GEMM.

By the fused kernels where they are there, a tile at a time; what follows is for when they are not, or don't know the
packing. MLX's own quantised product runs scalar code, 5 GFLOP/s: 974 ms for 1024 by 576 by 1536 against 29 this way, 5
of which unpack. The backward pass unpacks again instead of keeping 32-bit weights, so that the model stays as small as
it is packed. What is unpacked at a time is one layer's weight, or the head's.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_engine import kernels
from mlx_engine.kernels.ops import BITS, GROUPS, Packed


def _weight(module: nn.QuantizedLinear | nn.QuantizedEmbedding) -> mx.array:
    return mx.dequantize(
        module["weight"],
        scales=module["scales"],
        biases=module.get("biases"),
        group_size=module.group_size,
        bits=module.bits,
        mode=module.mode,
    )


def known(module: nn.Module) -> Packed | None:
    """A packed layer's weights if the fused kernels take them."""
    if not isinstance(module, nn.QuantizedLinear | nn.QuantizedEmbedding) or "packed_linear" not in kernels.load():
        return None
    packing = (module.group_size, module.bits, module.mode)
    return Packed.of(module["weight"], module["scales"], module.get("biases"), *packing)


def all_known(config: dict[str, Any]) -> bool:
    """Whether the kernels take all packed layers of a model with this config.json, in float32; False without any."""
    active = kernels.load()
    packing = config.get("quantization")
    if not isinstance(packing, dict) or "packed_linear" not in active or "packed_linear_rows" not in active:
        return False
    layers = [layer for layer in packing.values() if isinstance(layer, dict)]
    return all(
        layer.get("mode", "affine") == "affine" and layer.get("bits") in BITS and layer.get("group_size") in GROUPS
        for layer in [packing, *layers]
    )


def _matmul(x: mx.array, module: nn.QuantizedLinear | nn.QuantizedEmbedding) -> mx.array:
    """x (…, in) → (…, out); the gradient goes to x alone, the weights are frozen."""
    packed = known(module)
    if packed is not None and x.dtype == mx.float32:
        return kernels.load().ops.packed_linear(x, packed)

    @mx.custom_function
    def product(x: mx.array) -> mx.array:
        return x @ _weight(module).T

    @product.vjp
    def gradient(x: mx.array, cotangent: mx.array, output: mx.array) -> mx.array:
        return cotangent @ _weight(module)

    return product(x)


class UnpackingLinear(nn.QuantizedLinear):
    def __call__(self, x: mx.array) -> mx.array:
        y = _matmul(x, self)
        return y + self["bias"] if "bias" in self else y

    def with_product(self, x: mx.array, rows: mx.array) -> tuple[mx.array, mx.array]:
        """See the function of that name; without the kernels the weight is unpacked once for both."""
        if known(self) is not None:
            return self(x), mx.stop_gradient(_matmul(rows, self))

        @mx.custom_function
        def products(x: mx.array, rows: mx.array) -> tuple[mx.array, mx.array]:
            weight = _weight(self)
            return x @ weight.T, rows @ weight.T

        @products.vjp
        def gradients(primals: list[mx.array], cotangents: list[mx.array], outputs: list[mx.array]) -> tuple:
            return cotangents[0] @ _weight(self), mx.zeros_like(primals[1])

        y, of_rows = products(x, rows)
        return (y + self["bias"] if "bias" in self else y), of_rows


class UnpackingEmbedding(nn.QuantizedEmbedding):
    def as_linear(self, x: mx.array) -> mx.array:
        return _matmul(x, self)


def unpack_on_use(model: nn.Module) -> None:
    """Changes the model's quantised linears and embeddings in place; names and arrays of its parameters stay."""
    for module in model.modules():
        if type(module) is nn.QuantizedLinear:
            module.__class__ = UnpackingLinear
        elif type(module) is nn.QuantizedEmbedding:
            module.__class__ = UnpackingEmbedding


def with_product(linear: nn.Linear | nn.QuantizedLinear, x: mx.array, rows: mx.array) -> tuple[mx.array, mx.array]:
    """linear(x), and product(linear, rows), through which no gradient goes."""
    if isinstance(linear, UnpackingLinear):
        return linear.with_product(x, rows)
    return linear(x), mx.stop_gradient(product(linear, rows))


def product(linear: nn.Linear | nn.QuantizedLinear, x: mx.array) -> mx.array:
    """x (…, in) → x·Wᵀ (…, out), without the bias, in the type that the layer computes in."""
    if not isinstance(linear, nn.QuantizedLinear):
        return x.astype(linear["weight"].dtype) @ linear["weight"].T
    if isinstance(linear, UnpackingLinear):
        return _matmul(x, linear)
    return mx.quantized_matmul(
        x.astype(linear["scales"].dtype),
        linear["weight"],
        scales=linear["scales"],
        biases=linear.get("biases"),
        transpose=True,
        group_size=linear.group_size,
        bits=linear.bits,
        mode=linear.mode,
    )
