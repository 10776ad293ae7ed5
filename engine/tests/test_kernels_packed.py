"""The kernels over packed weights: against float64, where they are used, and where stock MLX is."""

from __future__ import annotations

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from mlx_engine import platform
from mlx_engine.kernels import patched, reference
from mlx_engine.kernels.ops import Packed
from mlx_engine.models.bases import Bases
from mlx_engine.models.load import load_model, stays_packed
from mlx_engine.models.quantized import UnpackingLinear, product, unpack_on_use, with_product
from test_kernels_numbers import KERNELS, agree, instruction_set, ops, strided, wide  # noqa: F401 (fixtures)
from tiny import make_tiny_model

__test__ = KERNELS.ops is not None

seeds = st.integers(0, 2**32 - 1)
packings = st.tuples(st.sampled_from([4, 8]), st.sampled_from([32, 64, 128]))
few = settings(max_examples=25, deadline=None)


def packed(random: np.random.Generator, outs: int, dims: int, bits: int, group: int) -> tuple[Packed, np.ndarray]:
    """Packed weights of size 1 (outs, dims) in memory as it comes, and what they stand for in float64."""
    words = mx.array(random.integers(0, 2**32, (outs, dims * bits // 32), np.uint32))
    if outs > 1 and random.integers(2):
        words = mx.array(np.repeat(np.array(words), 2, axis=0))[::2]
    scales = strided(random, (outs, dims // group), 2.0**-bits, repeated=False)
    biases = strided(random, (outs, dims // group), repeated=False)
    expected = reference.unpack(np.array(words), *wide(scales, biases), bits)
    return Packed(words, scales, biases, group, bits), expected


def as_layer(bits: int, group: int, dims: int = 256, bias: bool = False, mode: str = "affine") -> nn.QuantizedLinear:
    mx.random.seed(0)
    plain = nn.Linear(dims, 24, bias=bias)
    plain.weight = mx.random.normal((24, dims))
    layer = nn.QuantizedLinear.from_linear(plain, group, bits, mode=mode)
    if bias:
        layer.bias = mx.random.normal((24,))
    layer.freeze()
    return layer


# ---- numbers ----


@few
@given(seed=seeds, packing=packings, rows=st.integers(0, 9), groups=st.integers(1, 19), outs=st.integers(0, 90))
def test_packed_linear(ops, seed, packing, rows, groups, outs):  # noqa: F811
    random, (bits, group) = np.random.default_rng(seed), packing
    weight, expected = packed(random, outs, groups * group, bits, group)
    x, d_out = strided(random, (2, rows, groups * group)), strided(random, (2, rows, outs))
    (out,), (d_x,) = mx.vjp(lambda x: ops.packed_linear(x, weight), [x], [d_out])
    agree(out, reference.linear(*wide(x), expected), 1e-5)
    agree(d_x, *[d @ expected for d in wide(d_out)], 1e-5)


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (8, 128)])
def test_packed_linear_of_more_than_a_tile(ops, bits, group):  # noqa: F811
    random = np.random.default_rng(0)
    weight, expected = packed(random, 1100, 2304, bits, group)
    x, d_out = strided(random, (70, 2304), repeated=False), strided(random, (70, 1100), repeated=False)
    (out,), (d_x,) = mx.vjp(lambda x: ops.packed_linear(x, weight), [x], [d_out])
    agree(out, reference.linear(*wide(x), expected), 3e-6)
    agree(d_x, wide(d_out)[0] @ expected, 3e-6)


@few
@given(seed=seeds, packing=packings, rows=st.integers(1, 19), groups=st.integers(1, 19), outs=st.integers(0, 40))
def test_packed_linear_rows(ops, seed, packing, rows, groups, outs):  # noqa: F811
    """And each row has the bits that it has alone."""
    random, (bits, group) = np.random.default_rng(seed), packing
    weight, expected = packed(random, outs, groups * group, bits, group)
    x = strided(random, (rows, 1, groups * group))
    found = ops.packed_linear_rows(x, weight)
    agree(found, reference.linear(*wide(x), expected), 1e-5)
    for row in range(rows):
        np.testing.assert_array_equal(np.array(found[row]), np.array(ops.packed_linear_rows(x[row], weight)))
    some = weight._replace(**{name: getattr(weight, name)[outs // 3 :] for name in ("words", "scales", "biases")})
    np.testing.assert_array_equal(np.array(found[..., outs // 3 :]), np.array(ops.packed_linear_rows(x, some)))


def test_products_of_few_rows_are_as_exact_as_of_float32_weights(ops):  # noqa: F811
    """Weights whose bias is half of their range, as mx.quantize makes them: its two terms nearly cancel."""
    random = np.random.default_rng(0)
    plain = mx.array(random.normal(size=(300, 1536)).astype(np.float32))
    x = mx.array(random.normal(size=(4, 1536)).astype(np.float32))
    for bits in (4, 8):
        weight = Packed(*mx.quantize(plain, 32, bits), 32, bits)
        exact = reference.linear(*wide(x), reference.unpack(np.array(weight.words), *wide(*weight[1:3]), bits))

        def error(found: mx.array, exact: np.ndarray = exact) -> float:
            return float(np.sqrt(np.square(np.array(found) - exact).mean()))

        stock = error(x @ mx.dequantize(*weight[:3], 32, bits).T)
        assert error(ops.packed_linear_rows(x, weight)) <= 2 * stock
        assert error(ops.packed_linear(x, weight)) <= 2 * stock


@few
@given(
    seed=seeds,
    packing=packings,
    rows=st.integers(0, 40),
    groups=st.integers(1, 3),
    vocabulary=st.integers(1, 1300),
    soft_cap=st.sampled_from([0.0, 3.0]),
    gradient=st.booleans(),
)
def test_packed_cross_entropy(ops, seed, packing, rows, groups, vocabulary, soft_cap, gradient):  # noqa: F811
    random, (bits, group) = np.random.default_rng(seed), packing
    dims = groups * group
    weight, expected = packed(random, vocabulary, dims, bits, group)
    hidden, d_loss = strided(random, (rows, dims), dims**-0.5), strided(random, (rows,), repeated=False)
    targets = random.integers(-1, vocabulary + 1, rows).astype(np.int32)
    exact = reference.linear_cross_entropy(*wide(hidden), expected, targets, soft_cap, *wide(d_loss))
    options = {"soft_cap": soft_cap, "gradient": gradient}

    def loss(hidden: mx.array) -> mx.array:
        return ops.packed_cross_entropy(hidden, weight, mx.array(targets), **options)[0]

    (found,), (d_hidden,) = mx.vjp(loss, [hidden], [d_loss])
    agree(found, exact.loss, 1e-5)
    agree(d_hidden, exact.d_hidden, 1e-5)


def test_neither_logits_nor_unpacked_weights_ever_exist(ops):  # noqa: F811
    weight, hidden = Packed(*mx.quantize(mx.random.normal((20_000, 128)), 32, 4), 32, 4), mx.random.normal((500, 128))
    targets = mx.zeros((500,), mx.int32)
    mx.eval(weight, hidden)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(mx.grad(lambda h: ops.packed_cross_entropy(h, weight, targets, gradient=True)[0].sum())(hidden))
    mx.eval(mx.grad(lambda h: ops.packed_linear(ops.packed_linear(h, weight)[..., :128], weight).max())(hidden[:1]))
    assert mx.get_peak_memory() - before < 20_000 * 128 * 4 / 10


def test_the_number_of_threads_changes_no_bits():
    random = np.random.default_rng(0)
    weight, _ = packed(random, 700, 1152, 4, 32)
    x, d_out = strided(random, (90, 1152), repeated=False), strided(random, (90, 700), repeated=False)
    before, found = KERNELS.ops.threads, []
    try:
        for KERNELS.ops.threads in (1, 2, 3):
            out, gradients = mx.vjp(lambda x: KERNELS.ops.packed_linear(x, weight), [x], [d_out])
            found.append([np.array(a) for a in (*out, *gradients, KERNELS.ops.packed_linear_rows(x[:5], weight))])
    finally:
        KERNELS.ops.threads = before
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_packed_linear_under_compile_and_layer_checkpointing(ops):  # noqa: F811
    weight, _ = packed(np.random.default_rng(0), 64, 64, 4, 32)
    x = mx.random.normal((3, 64), key=mx.random.key(0))

    def layer(x: mx.array) -> mx.array:
        return ops.packed_linear(ops.silu(x), weight)

    plain, again = (mx.grad(lambda x, f=f: f(f(x)).sum())(x) for f in (layer, mx.checkpoint(layer)))
    np.testing.assert_array_equal(np.array(plain), np.array(again))
    mx.enable_compile()
    try:
        compiled = mx.compile(mx.grad(lambda x: layer(layer(x)).sum()))
        for scaled in (x, 2 * x):
            agree(compiled(scaled), np.array(mx.grad(lambda x: layer(layer(x)).sum())(scaled)))
    finally:
        mx.disable_compile()


def test_what_does_not_fit_is_told():
    words, groups, x = mx.zeros((5, 8), mx.uint32), mx.zeros((5, 2)), mx.zeros((3, 64))
    for message, weight, more in [
        ("4 or 8 bits", Packed(words, groups, groups, 32, 2), x),
        ("4 or 8 bits", Packed(words, groups, groups, 16, 4), x),
        ("must be uint32", Packed(words.astype(mx.int32), groups, groups, 32, 4), x),
        ("must be float32", Packed(words, groups.astype(mx.float16), groups, 32, 4), x),
        ("need scales", Packed(words, groups[:4], groups[:4], 32, 4), x),
        ("as many dims", Packed(words, groups, groups, 32, 4), x[:, :32]),
        ("is for float32", Packed(words, groups, groups, 32, 4), x.astype(mx.float16)),
    ]:
        with pytest.raises(ValueError, match=message):
            KERNELS.ops.packed_linear(more, weight)
    with pytest.raises(ValueError, match="no gradient"):
        mx.grad(lambda x: KERNELS.ops.packed_linear_rows(x, Packed(words, groups, groups, 32, 4)).sum())(x)


# ---- where they are used ----


def names(output: mx.array, folder) -> str:
    """The operations that are to compute it, which are there no more once they have."""
    mx.export_to_dot(str(folder / "graph.dot"), output)
    return (folder / "graph.dot").read_text()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_packed_layers_of_models_compute_by_them(bits, group, tmp_path):
    layer, x = as_layer(bits, group, bias=True), mx.random.normal((2, 3, 256), key=mx.random.key(1))
    exact = wide(x)[0] @ wide(mx.dequantize(*(layer[n] for n in ("weight", "scales", "biases")), group, bits))[0].T
    exact = exact + wide(layer.bias)[0]
    with patched(KERNELS):
        found, gradient = layer(x), mx.grad(lambda x: layer(x).sum())(x)
        KERNELS.ops.decoding = True
        try:
            decoded = layer(x)
        finally:
            KERNELS.ops.decoding = False
    assert "PackedLinearRows" in names(decoded, tmp_path)
    both = names(found.sum() + gradient, tmp_path)
    assert both.count('"PackedLinear"') == 2
    assert "QuantizedMatmul" not in both
    assert "QuantizedMatmul" in names(layer(x), tmp_path)
    agree(found, exact)
    agree(decoded, exact)
    agree(gradient, np.array(mx.grad(lambda x: layer(x).sum())(x)), 1e-5)


def test_a_packed_embedding_as_the_head_computes_by_them_too(tmp_path):
    words = nn.QuantizedEmbedding(90, 64, 32, 4)
    x = mx.random.normal((3, 64), key=mx.random.key(1))
    with patched(KERNELS):
        found = words.as_linear(x)
    assert "PackedLinear" in names(found, tmp_path)
    agree(found, np.array(words.as_linear(x)), 1e-5)


@pytest.mark.parametrize("case", range(5))
def test_other_packed_weights_stay_with_stock_mlx(case, tmp_path):
    x = mx.random.normal((3, 256), key=mx.random.key(0))
    half = as_layer(4, 32)
    half.scales, half.biases = half.scales.astype(mx.float16), half.biases.astype(mx.float16)
    layer = [as_layer(2, 32), as_layer(4, 32, mode="mxfp4"), half, as_layer(4, 32), as_layer(6, 64)][case]
    if case == 3:
        x = x.astype(mx.float16)
    stock = layer(x)
    with patched(KERNELS):
        found = layer(x)
    assert "PackedLinear" not in names(found, tmp_path)
    np.testing.assert_array_equal(np.array(found), np.array(stock))


def test_keys_that_are_packed_in_a_cache_stay_with_stock_mlx():
    q, k = mx.random.normal((1, 2, 3, 64), key=mx.random.key(0)), mx.random.normal((1, 2, 9, 64), key=mx.random.key(1))
    packed_keys = mx.quantize(k, 32, 4)
    stock = mx.quantized_matmul(q, *packed_keys, transpose=True, group_size=32, bits=4)
    with patched(KERNELS):
        found = mx.quantized_matmul(q, *packed_keys, transpose=True, group_size=32, bits=4)
    np.testing.assert_array_equal(np.array(found), np.array(stock))


def test_training_over_packed_weights_unpacks_nothing_outside_of_the_kernel(tmp_path):
    layer, x = as_layer(4, 32, bias=True), mx.random.normal((5, 256), key=mx.random.key(1))
    rows = mx.random.normal((2, 256), key=mx.random.key(2))
    plain = wide(mx.dequantize(*(layer[n] for n in ("weight", "scales", "biases")), 32, 4))[0]
    unpack_on_use(nn.Sequential(layer))
    assert type(layer) is UnpackingLinear
    y, of_rows = with_product(layer, x, rows)
    for found, expected in (
        (y, wide(x)[0] @ plain.T + wide(layer.bias)[0]),
        (of_rows, wide(rows)[0] @ plain.T),
        (product(layer, rows), wide(rows)[0] @ plain.T),
        (mx.grad(lambda x: with_product(layer, x, rows)[0].sum())(x), np.ones((5, 24)) @ plain),
    ):
        graph = names(found, tmp_path)
        assert "PackedLinear" in graph
        assert "QuantizedMatmul" not in graph
        assert "Multiply" not in graph  # by a scale
        agree(found, expected)


def test_generation_keeps_what_the_kernels_know_packed_and_answers_the_same(tmp_path):
    path = make_tiny_model(tmp_path / "packed", quantized=True)
    bases = Bases(platform.setup(), lambda *_: None)
    tokens = mx.array([[5, 9, 2, 6, 5, 3]])
    with patched(KERNELS):
        base = bases.get(str(path))
        found = base.loaded.model(tokens)
    plain = load_model(path, dtype=mx.float32)
    kinds = {type(module) for module in base.loaded.model.modules()}
    assert {nn.QuantizedLinear, nn.QuantizedEmbedding} <= kinds
    assert nn.Linear not in kinds
    assert base.nbytes < sum(array.nbytes for _, array in tree_flatten(plain.model.parameters())) / 4
    agree(found, np.array(plain.model(tokens)), 1e-5)


@pytest.mark.parametrize(
    ("packing", "expected"),
    [
        (None, False),
        ({"group_size": 32, "bits": 4}, True),
        ({"group_size": 64, "bits": 4, "head": {"group_size": 128, "bits": 8}, "gate": False}, True),
        ({"group_size": 64, "bits": 4, "head": {"group_size": 64, "bits": 6}}, False),
        ({"group_size": 16, "bits": 4}, False),
        ({"group_size": 32, "bits": 4, "mode": "mxfp4"}, False),
    ],
)
def test_which_models_stay_packed(packing, expected):
    assert stays_packed({"quantization": packing} if packing else {}) is expected
