"""The kernels for rows that are decoded side by side: against float64, and each row by itself to the bit."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlx_engine.kernels import patched, reference
from test_kernels_numbers import KERNELS, agree, instruction_set, ops, strided, wide  # noqa: F401 (fixtures)

__test__ = KERNELS.ops is not None

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def same(found: mx.array, other: mx.array) -> None:
    np.testing.assert_array_equal(np.array(found), np.array(other))


@few
@given(seed=seeds, rows=st.integers(1, 19), dims=st.integers(0, 150), outs=st.integers(0, 90))
def test_linear_rows(ops, seed, rows, dims, outs):  # noqa: F811
    random = np.random.default_rng(seed)
    x, weight = strided(random, (rows, 1, dims)), strided(random, (outs, dims))
    found = ops.linear_rows(x, weight)
    agree(found, reference.linear(*wide(x, weight)))
    for row in range(rows):
        same(found[row], ops.linear_rows(x[row], weight))
    some = outs // 3
    same(found[..., some:], ops.linear_rows(x, weight[some:]))


@few
@given(seed=seeds, rows=st.integers(1, 9), dims=st.integers(1, 70), outs=st.integers(1, 90), rank=st.integers(1, 27))
def test_low_rank_rows(ops, seed, rows, dims, outs, rank):  # noqa: F811
    random = np.random.default_rng(seed)
    x, y = strided(random, (rows, 1, dims)), strided(random, (rows, 1, outs))
    a, b = strided(random, (4, dims, rank), repeated=False), strided(random, (4, rank, outs), repeated=False)
    slots = random.integers(0, 4, rows).astype(np.uint32)
    found = ops.low_rank_rows(y, x, a, b, mx.array(slots))
    agree(found, reference.low_rank(*wide(y, x, a, b), slots))
    for row in range(rows):
        same(found[row], ops.low_rank_rows(y[row], x[row], a, b, mx.array(slots[row : row + 1])))
        if slots[row] == 0:
            same(found[row], y[row])
    for more in (1, 16):  # of rank, all zeros, as beside an adapter of a larger one
        padded = mx.pad(a, [(0, 0), (0, 0), (0, more)]), mx.pad(b, [(0, 0), (0, more), (0, 0)])
        same(found, ops.low_rank_rows(y, x, *padded, mx.array(slots)))


@pytest.mark.parametrize("traditional", [False, True])
def test_rope_of_rows_is_that_of_each_row(ops, traditional):  # noqa: F811
    x = mx.random.normal((5, 3, 1, 24), key=mx.random.key(0))
    offsets = [0, 7, 511, 512, 3000]
    options = {"traditional": traditional, "base": 10000.0, "scale": 0.5}
    found = ops.rope_rows(x, 16, offset=mx.array(offsets), **options)
    for row, offset in enumerate(offsets):
        same(found[row : row + 1], ops.rope(x[row : row + 1], 16, offset=offset, **options))


def test_what_does_not_fit_is_told():
    f = mx.zeros
    for message, refused, arguments in [
        ("is for float32", "linear_rows", [f((2, 8), mx.float16), f((4, 8))]),
        ("needs x", "linear_rows", [f((2, 7)), f((4, 8))]),
        ("needs slots", "low_rank_rows", [f((2, 4)), f((2, 8)), f((3, 8, 2)), f((3, 2, 4)), f(2)]),
        ("one token a row", "low_rank_rows", [f((2, 4)), f((2, 8)), f((3, 8, 2)), f((3, 2, 4)), f(3, mx.uint32)]),
        ("needs a", "low_rank_rows", [f((2, 4)), f((2, 8)), f((3, 8, 2)), f((3, 1, 4)), f(2, mx.uint32)]),
    ]:
        with pytest.raises(ValueError, match=message):
            getattr(KERNELS.ops, refused)(*arguments)


def test_linear_layers_use_them_only_while_decoding():
    import mlx.nn as nn

    layer, words = nn.Linear(24, 8), nn.Embedding(9, 24)
    x = mx.random.normal((3, 1, 24), key=mx.random.key(1))
    with patched(KERNELS):
        stock = (layer(x), words.as_linear(x))
        gradient = mx.grad(lambda x: layer(x).sum())(x)  # stock MLX's, as training needs it
        KERNELS.ops.decoding = True
        try:
            found = (layer(x), words.as_linear(x))
        finally:
            KERNELS.ops.decoding = False
    assert gradient.shape == x.shape
    for ours, theirs in zip(found, stock, strict=True):
        np.testing.assert_allclose(np.array(ours), np.array(theirs), atol=1e-5)
    same(found[0][1], KERNELS.ops.linear_rows(x[1], layer.weight) + layer.bias)
