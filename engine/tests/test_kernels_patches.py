"""What the kernels replace in models, and when stock MLX computes after all."""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import pytest
from mlx_lm.models import activations

from built_kernels import built
from mlx_engine import kernels, platform
from mlx_engine.kernels import selftest
from mlx_engine.kernels.ops import NAMES, Ops
from mlx_engine.training.loss import cross_entropy_sum

KERNELS = built()[1]
__test__ = KERNELS.ops is not None
OURS = {"Attention", "Rope", "RMSNorm", "Activation"}


def primitives(*outputs: mx.array, folder: Path) -> set[str]:
    """The names of the operations that these outputs are made by."""
    mx.export_to_dot(str(folder / "graph.dot"), *outputs)
    return set(re.findall(r'label ?= ?"(\w+)"', (folder / "graph.dot").read_text()))


def small_model(architecture: str, **extra) -> nn.Module:
    platform.setup()
    module = importlib.import_module(f"mlx_lm.models.{architecture}")
    config = {
        "model_type": architecture,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-5,
        "vocab_size": 97,
        "max_position_embeddings": 512,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "sliding_window_pattern": 2,  # Gemma 3's
        **extra,
    }
    mx.random.seed(0)
    return module.Model(module.ModelArgs.from_dict(config))


def close(found: mx.array, expected: mx.array, tolerance: float) -> None:
    difference = mx.abs(found.astype(mx.float32) - expected.astype(mx.float32)).max().item()
    assert difference <= tolerance * max(1, mx.abs(expected).max().item())


# ---- the self-test ----


class Skewed(ModuleType):
    """The extension with one kernel whose results are off by 1 in 10,000."""

    def __init__(self, extension: ModuleType, name: str) -> None:
        super().__init__("skewed")
        self._extension, self._name = extension, name

    def __getattr__(self, attribute: str):
        function = getattr(self._extension, attribute)
        if attribute != self._name:
            return function

        def skewed(*arguments, **options):
            result = function(*arguments, **options)
            return (result[0] * 1.0001, result[1]) if isinstance(result, tuple) else result * 1.0001

        return skewed


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_that_computes_wrong_is_not_used_and_the_others_are(name):
    failures = selftest.check(Ops(Skewed(KERNELS.ops._extension, name)))
    assert list(failures) == [name]
    assert re.fullmatch(r"result 0 is off by .*e-0\d of its largest value", failures[name])


# ---- replacing ----


def test_only_what_passed_is_replaced():
    attention, rms_norm = mx.fast.scaled_dot_product_attention, mx.fast.rms_norm
    with kernels.patched(kernels.Kernels(KERNELS.ops, ("rms_norm",))):
        assert mx.fast.scaled_dot_product_attention is attention
        assert mx.fast.rms_norm is not rms_norm
    with kernels.patched(kernels.Kernels(None)):
        assert mx.fast.rms_norm is rms_norm


def test_everything_is_undone_also_after_an_error_and_in_models_imported_meanwhile(monkeypatch):
    monkeypatch.delitem(sys.modules, "mlx_lm.models.olmo2", raising=False)
    names = ("scaled_dot_product_attention", "rms_norm", "rope")
    before = [getattr(mx.fast, name) for name in names] + [activations.swiglu, nn.silu, nn.gelu_approx]
    try:
        with kernels.patched(KERNELS):
            model = importlib.import_module("mlx_lm.models.olmo2")
            llama = importlib.import_module("mlx_lm.models.llama")
            assert model.swiglu is llama.swiglu is activations.swiglu is not before[3]
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    after = [getattr(mx.fast, name) for name in names] + [activations.swiglu, nn.silu, nn.gelu_approx]
    assert after == before
    assert model.swiglu is llama.swiglu is before[3]


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("llama", OURS),
        ("qwen2", OURS),
        ("qwen3", OURS),
        ("gemma2", OURS - {"Attention"}),  # its attention is soft-capped, in its own code
        ("gemma3_text", OURS),
    ],
)
def test_models_compute_the_same_with_them(architecture, expected, tmp_path):
    model = small_model(architecture)
    tokens = mx.random.randint(0, 97, (2, 50), key=mx.random.key(1))
    stock = model(tokens)
    with kernels.patched(KERNELS):
        fused = model(tokens)
    assert primitives(stock, folder=tmp_path) & OURS == set()
    assert primitives(fused, folder=tmp_path) & OURS == expected
    close(fused, stock, 2e-5)


def test_generation_step_by_step_computes_the_same():
    """With a cache: offsets, and one query for many keys."""
    from mlx_lm.models.cache import make_prompt_cache

    model = small_model("llama")
    tokens = mx.random.randint(0, 97, (1, 12), key=mx.random.key(1))
    with kernels.patched(KERNELS):
        cache = make_prompt_cache(model)
        parts = [model(tokens[:, i:j], cache=cache) for i, j in ((0, 8), (8, 11), (11, 12))]
        close(mx.concatenate(parts, axis=1), model(tokens), 2e-5)


def test_llama_3_frequencies_and_gguf_s_pairs_go_through_the_kernel(tmp_path):
    scaling = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 64}
    for extra in ({"rope_scaling": scaling}, {"rope_traditional": True}):
        model = small_model("llama", **extra)
        tokens = mx.random.randint(0, 97, (1, 100), key=mx.random.key(1))
        stock = model(tokens)
        with kernels.patched(KERNELS):
            fused = model(tokens)
        assert "Rope" in primitives(fused, folder=tmp_path)
        close(fused, stock, 5e-5)


@pytest.mark.parametrize("case", range(11))
def test_what_a_kernel_cannot_do_goes_to_stock_mlx(case, tmp_path):
    """To the bit, as if no kernels were there."""
    x = mx.random.normal((1, 2, 6, 8), key=mx.random.key(0))
    half, mask = x.astype(mx.float16), mx.zeros((6, 6), mx.float16)
    turn = {"traditional": False, "base": 1e4, "scale": 1.0}
    call = [
        lambda: mx.fast.scaled_dot_product_attention(half, half, half, scale=1.0, mask="causal"),
        lambda: mx.fast.scaled_dot_product_attention(x, x, x, scale=1.0, mask=mask),
        lambda: mx.fast.scaled_dot_product_attention(x, x, x, scale=1.0, sinks=mx.zeros((2,))),
        lambda: mx.fast.scaled_dot_product_attention(x, x, x[..., :4], scale=1.0),
        lambda: mx.fast.scaled_dot_product_attention(x, x, x, scale=1.0, stream=mx.cpu),
        lambda: mx.fast.rms_norm(half, None, 1e-5),
        lambda: mx.fast.rope(half, 8, **turn, offset=0),
        lambda: mx.fast.rope(x, 8, **turn, offset=mx.array([3])),
        lambda: mx.fast.rope(x[None], 8, **turn, offset=0),
        lambda: activations.swiglu(half, half),
        lambda: nn.silu(half) + nn.gelu_approx(half),
    ][case]
    stock = call()
    with kernels.patched(KERNELS):
        found = call()
    assert primitives(found, folder=tmp_path) & OURS == set()
    np.testing.assert_array_equal(np.array(found), np.array(stock))


def test_swiglu_of_shapes_that_differ_is_broadcast_as_in_stock_mlx():
    x = mx.random.normal((1, 2, 6, 8), key=mx.random.key(0))
    stock = activations.swiglu(x, x[:, :1])
    with kernels.patched(KERNELS):
        close(activations.swiglu(x, x[:, :1]), stock, 1e-6)


@pytest.mark.parametrize("window", [None, 3])
def test_a_packed_mask_reaches_the_kernel_and_becomes_an_array_for_stock_mlx(window):
    q = mx.random.normal((2, 4, 9, 8), key=mx.random.key(0))
    starts = mx.array([[0, 0, 0, 3, 3, 3, 3, 7, 7], [0, 0, 0, 0, 0, 5, 5, 5, 5]], mx.int32)
    mask = SimpleNamespace(starts=starts, window=window)
    with kernels.patched(KERNELS):
        fused = mx.fast.scaled_dot_product_attention(q, q, q, scale=0.3, mask=mask)
        half = q.astype(mx.float16)
        stock = mx.fast.scaled_dot_product_attention(half, half, half, scale=0.3, mask=mask)
    parts = []
    for row, cuts in ((0, (0, 3, 7, 9)), (1, (0, 5, 9))):
        for i, j in itertools.pairwise(cuts):
            part = q[row : row + 1, :, i:j]
            seen = mx.tril(mx.ones((j - i, j - i))) - (mx.tril(mx.ones((j - i, j - i)), -window) if window else 0)
            parts.append(mx.fast.scaled_dot_product_attention(part, part, part, scale=0.3, mask=seen == 1))
    expected = mx.concatenate([mx.concatenate(parts[:3], 2), mx.concatenate(parts[3:], 2)], 0)
    close(fused, expected, 2e-6)
    close(stock, expected, 2e-3)


def curve(fused: bool) -> list[float]:
    model = small_model("llama")
    optimizer = optim.AdamW(learning_rate=3e-3, bias_correction=True)
    data = mx.random.randint(0, 97, (40, 2, 25), key=mx.random.key(2))

    def loss(model: nn.Module, tokens: mx.array) -> mx.array:
        inputs, targets = tokens[:, :-1], tokens[:, 1:].reshape(-1).astype(mx.int32)
        hidden = model.model(inputs).reshape(-1, 64)
        if fused:
            weight = model.model.embed_tokens.weight
            return KERNELS.ops.linear_cross_entropy(hidden, weight, targets, gradient=True)[0].mean()
        return cross_entropy_sum(model.model.embed_tokens.as_linear(hidden), targets) / len(targets)

    step, losses = nn.value_and_grad(model, loss), []
    for i in range(200):
        value, gradients = step(model, data[i % len(data)])
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
        losses.append(value.item())
    return losses


def test_loss_curves_agree_over_200_steps():
    """Full fine-tuning, so that the gradients of norms, embedding and head count too; five times over the data."""
    curves = [curve(False), None]
    with kernels.patched(KERNELS):
        curves[1] = curve(True)
    assert curves[0][-1] < curves[0][0] - 1
    np.testing.assert_allclose(curves[1], curves[0], atol=1e-3)
