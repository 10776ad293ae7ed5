"""A Llama with LoRA written again in float64 numpy, from the papers' formulas: loss and gradients of the trainer.

Gradients are central differences; in float64 those are good to 1e-9 here.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from harness import train_command
from mlx_engine import kernels, platform
from mlx_engine.data.examples import Example
from mlx_engine.training import compute as compute_module
from mlx_engine.training import loss as loss_module
from mlx_engine.training.compute import Compute
from mlx_engine.training.method import prepare
from test_compute import Rows
from tiny import make_tiny_model

HEADS, KV_HEADS, WIDTH, EPS, THETA, SCALE = 4, 2, 16, 1e-5, 10000.0, 2.0
FUSED = [True, False] if kernels.load().active else [False]
Weights = dict[str, np.ndarray]


def linear(weights: Weights, name: str, x: np.ndarray) -> np.ndarray:
    if f"{name}.lora_a" not in weights:
        return x @ weights[f"{name}.weight"].T
    update = x @ weights[f"{name}.lora_a"] @ weights[f"{name}.lora_b"]
    return x @ weights[f"{name}.linear.weight"].T + SCALE * update


def norm(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * weight


def rotate(x: np.ndarray) -> np.ndarray:
    """x (T, heads, WIDTH); pairs are (i, i + WIDTH/2), as in Hugging Face's Llama."""
    angles = np.arange(len(x))[:, None] * THETA ** (-np.arange(0, WIDTH, 2) / WIDTH)
    cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
    left, right = x[..., : WIDTH // 2], x[..., WIDTH // 2 :]
    return np.concatenate([left * cos - right * sin, right * cos + left * sin], -1)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def logits(weights: Weights, tokens: np.ndarray) -> np.ndarray:
    length = len(tokens)
    causal = np.where(np.tril(np.ones((length, length))) > 0, 0.0, -np.inf)
    x = weights["model.embed_tokens.weight"][tokens]
    for i in range(2):
        layer = f"model.layers.{i}"
        h = norm(x, weights[f"{layer}.input_layernorm.weight"])
        q, k, v = (
            linear(weights, f"{layer}.self_attn.{name}_proj", h).reshape(length, heads, WIDTH)
            for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS))
        )
        k, v = (np.repeat(y, HEADS // KV_HEADS, axis=1) for y in (rotate(k), v))
        scores = np.einsum("thd,shd->hts", rotate(q), k) / np.sqrt(WIDTH) + causal
        mixed = np.einsum("hts,shd->thd", softmax(scores), v).reshape(length, -1)
        x = x + linear(weights, f"{layer}.self_attn.o_proj", mixed)
        h = norm(x, weights[f"{layer}.post_attention_layernorm.weight"])
        gate, up = (linear(weights, f"{layer}.mlp.{name}_proj", h) for name in ("gate", "up"))
        x = x + linear(weights, f"{layer}.mlp.down_proj", gate / (1 + np.exp(-gate)) * up)
    return norm(x, weights["model.norm.weight"]) @ weights["model.embed_tokens.weight"].T


def mean_loss(weights: Weights, rows: list[Example]) -> float:
    total, count = 0.0, 0
    for row in rows:
        probabilities = softmax(logits(weights, row.tokens))
        for i in np.flatnonzero(row.supervised):
            total -= np.log(probabilities[i - 1, row.tokens[i]])
            count += 1
    return total / count


@pytest.mark.parametrize("fused", FUSED, ids=lambda fused: "kernels" if fused else "stock")
@pytest.mark.parametrize("accumulated", [False, True], ids=["one batch", "accumulated"])
@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_loss_and_lora_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: bool, accumulated: bool, fused: bool
) -> None:
    """Of a step as the trainer makes it, on two lanes."""
    monkeypatch.setattr(compute_module, "usable_cores", lambda: 2)
    with kernels.patched(kernels.load()) if fused else nullcontext():
        if not fused:
            monkeypatch.setattr(loss_module, "_can_be_fused", lambda head: False)
        _compare(tmp_path, packing, accumulated)


def _compare(tmp_path: Path, packing: bool, accumulated: bool) -> None:
    command = train_command(
        tmp_path,
        make_tiny_model(tmp_path / "model"),
        [],
        lora__target_modules=["all-linear"],
        dataset__packing=packing,
    )
    found = platform.setup()
    subject = prepare(command, found)
    mx.random.seed(2)
    subject.model.update(tree_map(lambda p: p + 0.1 * mx.random.normal(p.shape), subject.model.trainable_parameters()))
    generator = np.random.default_rng(3)
    rows = [
        Example(i, generator.integers(4, 380, n).astype(np.int32), np.arange(n) >= start)
        for i, (n, start) in enumerate(((7, 3), (12, 5), (4, 1), (9, 8)))
    ]
    compute = Compute(command, subject, found)
    assert compute.packs == packing
    assert compute.responses_only
    batches = [[0, 1], [2, 3]] if accumulated else [[0, 1, 2, 3]]
    computed = compute.step(0, Rows(rows), [np.array(batch) for batch in batches], lambda: None)
    weights = {name: np.array(w).astype(np.float64) for name, w in tree_flatten(subject.model.parameters())}
    assert computed.loss.item() == pytest.approx(mean_loss(weights, rows), rel=1e-6)

    gradients = dict(tree_flatten(computed.gradients))
    assert len(gradients) == 2 * 2 * 7
    step = 1e-5
    for name, gradient in gradients.items():
        place = tuple(generator.integers(0, size) for size in gradient.shape)
        kept = weights[name][place]
        sides = []
        for side in (1, -1):
            weights[name][place] = kept + side * step
            sides.append(mean_loss(weights, rows))
        weights[name][place] = kept
        expected = (sides[0] - sides[1]) / (2 * step)
        scale = mx.abs(gradient).max().item()
        assert gradient[place].item() == pytest.approx(expected, rel=1e-5, abs=1e-5 * scale), name
