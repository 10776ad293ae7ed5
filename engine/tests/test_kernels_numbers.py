"""Each kernel against float64, for every instruction set that this processor has, on one thread and on two."""

from __future__ import annotations

import threading

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from built_kernels import built
from mlx_engine.kernels import reference
from mlx_engine.kernels.ops import Ops

KERNELS = built()[1]
__test__ = KERNELS.ops is not None

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


@pytest.fixture(scope="module", params=KERNELS.ops.instruction_sets if KERNELS.ops else [])
def instruction_set(request):
    before = KERNELS.ops.instruction_set
    KERNELS.ops.use_instruction_set(request.param)
    yield request.param
    KERNELS.ops.use_instruction_set(before)


@pytest.fixture(scope="module", params=[1, 2], ids=["one-thread", "two-threads"])
def ops(request, instruction_set):
    before, KERNELS.ops.threads = KERNELS.ops.threads, request.param
    yield KERNELS.ops
    KERNELS.ops.threads = before


def strided(random: np.random.Generator, shape: tuple[int, ...], scale: float = 1.0, repeated: bool = True) -> mx.array:
    """Normal numbers, in memory as a model may leave them: in order, transposed, with gaps, or repeated."""
    form = random.integers(4 if repeated else 3)
    if form == 1:
        order = random.permutation(len(shape))
        x = mx.array((random.normal(size=[shape[i] for i in order]) * scale).astype(np.float32))
        return x.transpose(*np.argsort(order).tolist())
    if form == 2:
        x = mx.array((random.normal(size=(*shape[:-1], 2 * shape[-1] + 1)) * scale).astype(np.float32))
        return x[..., 1::2]
    if form == 3:
        x = mx.array((random.normal(size=(1, *shape[1:])) * scale).astype(np.float32))
        return mx.broadcast_to(x, shape)
    return mx.array((random.normal(size=shape) * scale).astype(np.float32))


def wide(*arrays: mx.array) -> list[np.ndarray]:
    return [np.array(a).astype(np.float64) for a in arrays]


def agree(found, expected, tolerance: float = 3e-6) -> None:
    """Up to `tolerance` of the largest value, or of 1, the size of the inputs: large terms may cancel."""
    found = np.array(found)
    assert found.shape == expected.shape
    largest = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(largest, 1))


# ---- activations ----


@pytest.mark.parametrize("name", ["silu", "gelu"])
@few
@given(seed=seeds, rows=st.integers(0, 5), columns=st.integers(1, 70), scale=st.sampled_from([0.1, 3, 40]))
def test_activations(ops, name, seed, rows, columns, scale):
    random = np.random.default_rng(seed)
    gate, up, d_out = strided(random, (rows, 3, columns), scale), *(strided(random, (rows, 3, columns)) for _ in "12")
    function, expected = getattr(ops, name), getattr(reference, name)
    (out,), (d_gate, d_up) = mx.vjp(function, [gate, up], [d_out])
    for found, wanted in zip((out, d_gate, d_up), expected(*wide(gate, up, d_out)), strict=True):
        agree(found, wanted)
    (out,), (d_gate,) = mx.vjp(function, [gate], [d_out])
    gate, d_out = wide(gate, d_out)
    for found, wanted in zip((out, d_gate), expected(gate, np.ones_like(gate), d_out), strict=False):
        agree(found, wanted)


@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_activations_at_the_ends_of_float32(ops, name):
    x = np.array([-3e38, -1e30, -100, -88, -0.0, 0, 88, 100, 1e30, 3e38, np.inf, np.nan], np.float32)
    out = np.array(getattr(ops, name)(mx.array(x)))
    assert np.abs(out[:4]).max() <= 1e-30
    assert (out[4:6] == 0).all()
    np.testing.assert_array_equal(out[6:], x[6:])


def test_memory_is_used_again_only_when_nobody_else_has_it(ops):
    """silu(x) may write where x was; not when x is still asked for."""
    x = mx.arange(1000, dtype=mx.float32) * 0.01
    kept = x + 1
    y, z = ops.silu(kept), ops.silu(x + 1)
    mx.eval(y, z, kept)
    np.testing.assert_array_equal(np.array(kept), np.array(x) + 1)
    np.testing.assert_array_equal(np.array(y), np.array(z))


# ---- RMSNorm ----


@few
@given(seed=seeds, rows=st.integers(0, 70), dims=st.integers(1, 300), weighted=st.booleans())
def test_rms_norm(ops, seed, rows, dims, weighted):
    random = np.random.default_rng(seed)
    x, d_out, weight = strided(random, (2, rows, dims)), strided(random, (2, rows, dims)), strided(random, (dims,))
    ones = np.ones(dims)
    expected = reference.rms_norm(*wide(x), *(wide(weight) if weighted else [ones]), 1e-3, *wide(d_out))
    if weighted:
        (out,), gradients = mx.vjp(lambda x, w: ops.rms_norm(x, w, 1e-3), [x, weight], [d_out])
    else:
        (out,), gradients = mx.vjp(lambda x: ops.rms_norm(x, None, 1e-3), [x], [d_out])
    for found, wanted in zip((out, *gradients), expected, strict=False):
        agree(found, wanted, 1e-5)


# ---- RoPE ----


@few
@given(
    seed=seeds,
    rows=st.integers(0, 40),
    half=st.integers(1, 40),
    beyond=st.integers(0, 9),
    offset=st.sampled_from([0, 1, 7000]),
    traditional=st.booleans(),
    named=st.booleans(),
    heads=st.integers(0, 3),
)
def test_rope(ops, seed, rows, half, beyond, offset, traditional, named, heads):
    random = np.random.default_rng(seed)
    shape = (2, *([heads] if heads else []), rows, 2 * half + beyond)
    x, d_out = strided(random, shape), strided(random, shape)
    wavelengths = np.append(random.uniform(0.5, 1e4, half - 1), np.inf) if named else 1e4 ** (np.arange(half) / half)
    freqs = mx.array(wavelengths.astype(np.float32)) if named else None
    angles = (np.arange(rows) + offset)[:, None] * 0.5 / (np.array(freqs, np.float64) if named else wavelengths)

    def turn(x: mx.array) -> mx.array:
        base = None if named else 1e4
        return ops.rope(x, 2 * half, traditional=traditional, base=base, scale=0.5, offset=offset, freqs=freqs)

    (out,), (d_x,) = mx.vjp(turn, [x], [d_out])
    agree(out, reference.rope(*wide(x), angles, traditional))
    agree(d_x, reference.rope(*wide(d_out), -angles, traditional))


# ---- attention ----


@few
@given(
    seed=seeds,
    queries=st.integers(0, 150),
    cached=st.sampled_from([0, 0, 1, 30]),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 4),
    dims=st.sampled_from([1, 5, 64, 80, 96, 128]),
    form=st.sampled_from(["full", "causal", "window", "starts", "starts by row", "starts and window"]),
)
def test_attention(ops, seed, queries, cached, kv_heads, group, dims, form):
    random = np.random.default_rng(seed)
    keys = max(1, queries + cached)
    q, d_out = (strided(random, (2, kv_heads * group, queries, dims)) for _ in "12")
    k, v = (strided(random, (2, kv_heads, keys, dims)) for _ in "12")
    options = {"causal": form != "full", "window": int(random.integers(1, 60)) if "window" in form else 0}
    starts = None
    if "starts" in form:
        # Of segments over the keys, each query's; some outside of what can be.
        cuts = np.sort(random.integers(0, keys, (2 if "row" in form else 1, 4)), axis=1)
        at = np.arange(queries) + keys - queries
        starts = np.array([[max(0, *(c for c in row if c <= i), 0) for i in at] for row in cuts], np.int32)
        starts = starts.reshape(len(cuts), queries) if "row" in form else starts.reshape(queries)
    seen = reference.visible(queries, keys, **options, starts=starts)
    expected = reference.attention(*wide(q, k, v), 0.3, seen, *wide(d_out))
    starts = None if starts is None else mx.array(starts)
    function = lambda q, k, v: ops.attention(q, k, v, scale=0.3, **options, starts=starts)  # noqa: E731
    (out,), gradients = mx.vjp(function, [q, k, v], [d_out])
    for found, wanted in zip((out, *gradients), expected, strict=True):
        agree(found, wanted, 1e-5)


@few
@given(
    seed=seeds,
    queries=st.integers(1, 2),
    keys=st.integers(2, 1100),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 9),
    dims=st.sampled_from([5, 64, 80, 128]),
    layout=st.sampled_from(["a pool's", "heads last", "in order"]),
    window=st.sampled_from([0, 0, 300]),
)
def test_attention_of_few_queries(ops, seed, queries, keys, kv_heads, group, dims, layout, window):
    """Without a BLAS, over several tiles of keys: what a token that is decoded needs."""
    random = np.random.default_rng(seed)
    q, d_out = (strided(random, (2, kv_heads * group, queries, dims)) for _ in "12")
    if layout == "a pool's":
        k, v = (strided(random, (2, kv_heads, keys + 7, dims), repeated=False)[:, :, :keys] for _ in "12")
    elif layout == "heads last":
        k, v = (mx.array(random.normal(size=(2, keys, kv_heads, dims)).astype(np.float32)) for _ in "12")
        k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
    else:
        k, v = (mx.array(random.normal(size=(2, kv_heads, keys, dims)).astype(np.float32)) for _ in "12")
    starts = random.integers(0, keys - queries + 1, (2, queries)).astype(np.int32)
    seen = reference.visible(queries, keys, causal=True, window=window, starts=starts)
    expected, *_ = reference.attention(*wide(q, k, v), 0.3, seen, *wide(d_out))
    out = ops.attention(q, k, v, scale=0.3, window=window, starts=mx.array(starts))
    agree(out, expected, 1e-5)


@few
@given(
    seed=seeds,
    queries=st.integers(1, 90),
    keys=st.sampled_from([1, 7, 64, 600]),
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 3),
    shape=st.sampled_from(["all", "one head", "one row", "keys", "queries", "flat"]),
    boolean=st.booleans(),
)
def test_attention_under_a_mask(ops, seed, queries, keys, kv_heads, group, shape, boolean):
    """Boolean and added, of every shape that broadcasts; each query sees a key at least."""
    random, heads = np.random.default_rng(seed), kv_heads * group
    q, d_out = (strided(random, (2, heads, queries, 16)) for _ in "12")
    k, v = (strided(random, (2, kv_heads, keys, 16)) for _ in "12")
    axes = {
        "all": (2, heads, queries, keys),
        "one head": (2, 1, queries, keys),
        "one row": (heads, queries, keys),
        "keys": (2, 1, 1, keys),
        "queries": (queries, 1),
        "flat": (queries, keys),
    }[shape]
    if boolean:
        mask = random.random(axes) < 0.5
        mask[..., 0] = True
        added = np.where(mask, 0.0, -np.inf)
    else:
        mask = strided(random, axes)
        added = np.array(mask, np.float64)
        if shape == "flat" and keys > 1:  # what a row doesn't see at all, more than a tile of it
            added[:, : keys - 1] = -np.inf
            mask = mx.array(added.astype(np.float32))
    seen = reference.visible(queries, keys, False)
    expected = reference.attention(*wide(q, k, v), 0.3, seen, *wide(d_out), added)
    mask = mx.array(mask)
    (out,), gradients = mx.vjp(
        lambda q, k, v: ops.attention(q, k, v, scale=0.3, causal=False, mask=mask), [q, k, v], [d_out]
    )
    for found, wanted in zip((out, *gradients), expected, strict=True):
        agree(found, wanted, 1e-5)


def test_a_query_that_sees_nothing_gets_what_stock_mlx_gives(ops):
    random = np.random.default_rng(0)
    q, k, v = (mx.array(random.normal(size=(1, 2, 6, 8)).astype(np.float32)) for _ in "123")
    seen = mx.array(np.tril(np.ones((6, 6)), -1) > 0)  # the first query nothing
    for mask in (seen, mx.where(seen, 0.0, -mx.inf)):
        found = ops.attention(q, k, v, scale=0.3, causal=False, mask=mask)
        stock = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3, mask=mask)
        np.testing.assert_allclose(np.array(found), np.array(stock), atol=1e-6)


@pytest.mark.parametrize("form", ["causal", "packed", "window"])
def test_attention_over_long_rows(ops, form):
    """Longer than a tile of keys, with segments and windows that begin in the middle of tiles."""
    random, length = np.random.default_rng(0), 1400
    q, d_out = (mx.array(random.normal(size=(1, 2, length, 16)).astype(np.float32) * 2) for _ in "12")
    k, v = (mx.array(random.normal(size=(1, 1, length, 16)).astype(np.float32)) for _ in "12")
    cuts = np.array([0, 3, 40, 700, 701, 1399])
    starts = cuts[np.searchsorted(cuts, np.arange(length), side="right") - 1].astype(np.int32)
    options = {"causal": {}, "packed": {"starts": starts}, "window": {"window": 600}}[form]
    expected = reference.attention(
        *wide(q, k, v), 0.25, reference.visible(length, length, True, **options), *wide(d_out)
    )
    if form == "packed":
        options = {"starts": mx.array(starts)}
    (out,), gradients = mx.vjp(lambda q, k, v: ops.attention(q, k, v, scale=0.25, **options), [q, k, v], [d_out])
    for found, wanted in zip((out, *gradients), expected, strict=True):
        agree(found, wanted, 1e-5)


def test_packed_rows_are_their_segments_one_by_one(ops):
    """To the bit: what else is in a row changes nothing."""
    random = np.random.default_rng(0)
    q, k, v = (mx.array(random.normal(size=(1, 2, 150, 32)).astype(np.float32)) for _ in "123")
    starts = mx.array(np.repeat([0, 90], [90, 60]).astype(np.int32))
    packed = ops.attention(q, k, v, scale=0.2, starts=starts)
    alone = [ops.attention(*(x[:, :, part] for x in (q, k, v)), scale=0.2) for part in (slice(0, 90), slice(90, 150))]
    np.testing.assert_array_equal(np.array(packed), np.array(mx.concatenate(alone, axis=2)))


def test_starts_beyond_what_can_be_are_kept_within(ops):
    q = mx.random.normal((1, 1, 4, 8), key=mx.random.key(0))
    found = ops.attention(q, q, q, scale=1, starts=mx.array([-5, 9, 1, 2**31 - 1], mx.int32))
    expected = ops.attention(q, q, q, scale=1, starts=mx.array([0, 1, 1, 3], mx.int32))
    np.testing.assert_array_equal(np.array(found), np.array(expected))


# ---- linear + cross-entropy ----


@few
@given(
    seed=seeds,
    rows=st.integers(0, 60),
    vocabulary=st.sampled_from([1, 2, 700, 1024, 1025, 2500]),
    dims=st.integers(1, 40),
    soft_cap=st.sampled_from([0.0, 3.0, 30.0]),
    gradient=st.booleans(),
)
def test_linear_cross_entropy(ops, seed, rows, vocabulary, dims, soft_cap, gradient):
    random = np.random.default_rng(seed)
    hidden, weight = strided(random, (rows, dims), 2), strided(random, (vocabulary, dims), repeated=False)
    d_loss = strided(random, (rows,))
    targets = random.integers(-1, vocabulary + 1, rows)
    expected = reference.linear_cross_entropy(*wide(hidden, weight), targets, soft_cap, *wide(d_loss))
    targets = mx.array(targets.astype(np.int32))

    def loss(hidden: mx.array, weight: mx.array) -> mx.array:
        return ops.linear_cross_entropy(hidden, weight, targets, soft_cap=soft_cap, gradient=gradient)[0]

    (found,), (d_hidden, d_weight) = mx.vjp(loss, [hidden, weight], [d_loss])
    for got, wanted in zip((found, d_hidden, d_weight), (expected.loss, *expected[2:]), strict=True):
        agree(got, wanted, 1e-5)


def test_linear_cross_entropy_over_many_rows_and_words(ops):
    random = np.random.default_rng(0)
    hidden, weight = (mx.array(random.normal(size=(n, 48)).astype(np.float32)) for n in (600, 5000))
    targets = random.integers(0, 5000, 600)
    targets[::3] = wide(hidden @ weight.T)[0].argmax(-1)[::3]
    expected = reference.linear_cross_entropy(*wide(hidden, weight), targets, 0, np.ones(600))

    def loss(hidden: mx.array, weight: mx.array) -> tuple[mx.array, mx.array]:
        return ops.linear_cross_entropy(hidden, weight, mx.array(targets.astype(np.int32)), gradient=True)

    found, correct = loss(hidden, weight)
    agree(found, expected.loss)
    np.testing.assert_array_equal(np.array(correct), expected.correct)
    for got, wanted in zip(mx.grad(lambda *x: loss(*x)[0].sum(), (0, 1))(hidden, weight), expected[2:], strict=True):
        agree(got, wanted)


def test_logits_of_all_rows_never_exist(ops):
    hidden, weight = (mx.random.normal((n, 16), key=mx.random.key(n)) for n in (1000, 40_000))
    targets = mx.zeros((1000,), mx.int32)
    mx.eval(hidden, weight, targets)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(mx.grad(lambda h: ops.linear_cross_entropy(h, weight, targets, gradient=True)[0].sum())(hidden))
    assert mx.get_peak_memory() - before < 1000 * 40_000 * 4 / 100


# ---- all ----


def test_not_a_number_is_passed_on(ops):
    x = mx.array(np.where(np.arange(64) == 40, np.nan, 1).astype(np.float32).reshape(1, 1, 8, 8))
    rows = x.reshape(8, 8)
    bad = np.isnan(np.array(rows)).any(-1)
    for found in (ops.rms_norm(rows, None, 1e-5), ops.silu(rows), ops.gelu(rows)):
        np.testing.assert_array_equal(np.isnan(np.array(found)).any(-1), bad)
    # At least in the rows that see it; a masked NaN may show too, as it does in stock MLX.
    assert np.isnan(np.array(ops.attention(x, x, x, scale=1))).any((0, 1, 3))[5:].all()
    loss, correct = ops.linear_cross_entropy(rows, mx.ones((3, 8)), mx.zeros((8,), mx.int32), gradient=False)
    np.testing.assert_array_equal(np.isnan(np.array(loss)), bad)
    np.testing.assert_array_equal(np.array(correct), ~bad)


def step(ops: Ops, seed: int) -> list[mx.array]:
    """A piece of a model that goes through every kernel: loss and gradients, not yet computed."""
    keys = [mx.random.key(seed * 100 + i) for i in range(5)]
    x = mx.random.normal((2, 70, 48), key=keys[0])
    up, head = mx.random.normal((48, 48), key=keys[1]) * 0.2, mx.random.normal((1500, 48), key=keys[2])
    targets = mx.random.randint(0, 1500, (140,), key=keys[3]).astype(mx.int32)
    starts = mx.array(np.repeat([0, 30], [30, 40]).astype(np.int32))

    def loss(x: mx.array, up: mx.array, weight: mx.array) -> mx.array:
        y = ops.rms_norm(x, weight, 1e-5) @ up
        heads = y.reshape(2, 70, 3, 16).transpose(0, 2, 1, 3)
        q = ops.rope(heads, 16, traditional=False, base=1e4, scale=1.0, offset=0)
        y = x + ops.attention(q, q, heads, scale=0.25, starts=starts).transpose(0, 2, 1, 3).reshape(2, 70, 48)
        y = y + ops.silu(y @ up, ops.gelu(y))
        return ops.linear_cross_entropy(y.reshape(140, 48), head, targets, gradient=True)[0].mean()

    value, gradients = mx.value_and_grad(loss, (0, 1, 2))(x, up, mx.ones((48,)))
    return [value, *gradients]


def test_two_lanes_at_once_compute_what_each_computes_alone(ops):
    """Two threads, each with graphs and a stream of its own."""
    expected = {seed: [np.array(a) for a in step(ops, seed)] for seed in range(8)}
    found: dict[int, list[np.ndarray]] = {}

    def lane(first: int) -> None:
        for _ in range(3):
            for seed in range(first, 8, 2):
                found[seed] = [np.array(a) for a in step(ops, seed)]

    lanes = [threading.Thread(target=lane, args=(first,)) for first in (0, 1)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    for seed, arrays in expected.items():
        for got, wanted in zip(found[seed], arrays, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_checkpointed_layers_have_the_same_gradients(ops):
    x = mx.random.normal((1, 2, 33, 16), key=mx.random.key(1))

    def layer(x: mx.array) -> mx.array:
        return ops.attention(ops.rms_norm(x, None, 1e-5), x, ops.silu(x), scale=0.25)

    plain, again = (mx.grad(lambda x, f=f: f(f(x)).sum())(x) for f in (layer, mx.checkpoint(layer)))
    np.testing.assert_array_equal(np.array(plain), np.array(again))


def test_under_compile(ops):
    mx.enable_compile()
    try:
        x = mx.random.normal((1, 2, 33, 16), key=mx.random.key(1))
        gradient = mx.grad(lambda x: ops.attention(ops.rms_norm(x, None, 1e-5), x, ops.silu(x), scale=0.25).sum())
        compiled = mx.compile(gradient)
        for scaled in (x, 2 * x):
            agree(compiled(scaled), np.array(gradient(scaled)))
    finally:
        mx.disable_compile()
