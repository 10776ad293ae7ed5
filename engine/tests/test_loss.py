"""The loss against references of its own: float64 numpy for the values, MLX's stock functions for gradients."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map
from mlx_lm import load as mlx_lm_load

from mlx_engine.data.batches import collate
from mlx_engine.data.tokenize import Example
from mlx_engine.protocol import LoraSpec
from mlx_engine.training import loss as module
from mlx_engine.training.lora import apply_lora
from mlx_engine.training.loss import Loss, arrays, cross_entropy_sum
from tiny import make_tiny_model

SPEC = LoraSpec(rank=4, alpha=8.0, dropout=0.0, target_modules=["all-linear"])


def examples(*lengths: int) -> list[Example]:
    """Random rows whose second half carries loss."""
    generator = np.random.default_rng(3)
    rows = []
    for length in lengths:
        mask = np.arange(length) >= length // 2
        rows.append(Example(0, generator.integers(4, 380, length).astype(np.int32), mask & (np.arange(length) > 0)))
    return rows


def tiny(folder: Path, lora: bool = True, **options: object) -> nn.Module:
    model, _ = mlx_lm_load(str(make_tiny_model(folder, **options)))
    if lora:
        apply_lora(model, SPEC, 1)
        mx.random.seed(2)
        # B is zero at first, which would hide A's gradient.
        model.update(tree_map(lambda p: p + 0.05 * mx.random.normal(p.shape), model.trainable_parameters()))
    else:
        model.unfreeze()
    return model


def reference(model: nn.Module, rows: list[Example]) -> float:
    """Row by row and token by token, in float64, from the model's own full logits."""
    total = 0.0
    for example in rows:
        logits = np.array(model(mx.array(example.tokens[None])))[0].astype(np.float64)
        for i in np.flatnonzero(example.supervised):
            before = logits[i - 1]
            shifted = before - before.max()
            total += np.log(np.exp(shifted).sum()) - shifted[example.tokens[i]]
    return total


def gradients(model: nn.Module, loss: Loss, rows: list[Example]) -> dict[str, mx.array]:
    _, tree = nn.value_and_grad(model, lambda *batch: loss(*batch))(*arrays(collate(rows, 0)))
    return dict(tree_flatten(tree))


def close(left: dict[str, mx.array], right: dict[str, mx.array], tolerance: float = 1e-5) -> None:
    assert left.keys() == right.keys()
    for name in left:
        scale = max(mx.abs(left[name]).max().item(), 1e-3)
        assert mx.abs(left[name] - right[name]).max().item() <= tolerance * scale, name


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gemma", "gemma2"])
def test_padded_batch_against_each_row_alone(tmp_path: Path, model_type: str) -> None:
    """No pad token is trained, none is off by one, and padding does not leak into other rows."""
    model = tiny(tmp_path, model_type=model_type)
    rows = examples(5, 17, 2, 9)
    loss = Loss(model)
    assert loss.responses_only
    assert loss(*arrays(collate(rows, 0))).item() == pytest.approx(reference(model, rows), rel=1e-5)
    assert loss(*arrays(collate(rows, 377))).item() == pytest.approx(reference(model, rows), rel=1e-5)


HEADS = {"tied": {}, "lm_head": {"tie_word_embeddings": False}, "capped": {"model_type": "gemma2"}}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_gradients_against_full_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: dict, lora: bool) -> None:
    model = tiny(tmp_path, lora, **head)
    if head.get("model_type") == "gemma2":
        cap_tightly(model)
    rows = examples(5, 17, 9, 150)
    batch = collate(rows, 0)

    def stock(inputs: mx.array, positions: mx.array, targets: mx.array) -> mx.array:
        logits = model(inputs)
        return nn.losses.cross_entropy(logits.reshape(-1, logits.shape[-1])[positions], targets).sum()

    _, tree = nn.value_and_grad(model, stock)(*arrays(batch))
    expected = dict(tree_flatten(tree))
    loss = Loss(model)
    assert loss.responses_only
    close(gradients(model, loss, rows), expected)
    monkeypatch.setattr(module, "_can_be_fused", lambda head: False)
    close(gradients(model, Loss(model), rows), expected)  # all positions at once
    close(gradients(model, Loss(model, logits_bytes=4 * 384 * 3), rows), expected)  # three at a time, or 64 of them


def cap_tightly(model: nn.Module) -> None:
    """Half of the highest logit, so that the cap bends what it is applied to."""
    model.final_logit_softcapping = 1e6
    model.final_logit_softcapping = mx.abs(model(mx.arange(4, 20)[None])).max().item() / 2


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "chunks"])
def test_soft_capped_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool, fused: bool) -> None:
    model = tiny(tmp_path, model_type="gemma2")
    if packed:
        nn.quantize(model, 32, 4, class_predicate=lambda name, _: name == "model.embed_tokens")
    cap_tightly(model)
    if not fused:
        monkeypatch.setattr(module, "_can_be_fused", lambda head: False)
    rows = examples(5, 17, 9)
    batch = arrays(collate(rows, 0))
    loss = Loss(model, logits_bytes=4 * 384 * 3)
    assert loss.responses_only
    expected = pytest.approx(reference(model, rows), rel=1e-5)
    logits = model(batch[0]).reshape(-1, 384)[batch[1]]
    for one in (loss, loss.twin()):
        assert one(*batch).item() == expected
        losses, hits = one.evaluate(*batch)
        assert losses.sum().item() == expected
        assert hits.tolist() == (logits.argmax(axis=-1) == batch[2]).tolist()
    best = logits.argmax(axis=-1).astype(mx.int32)
    assert loss.evaluate(batch[0], batch[1], best)[1].all().item()


def test_a_cap_that_a_model_names_but_does_not_apply(tmp_path: Path) -> None:
    model = tiny(tmp_path)
    model.final_logit_softcapping = 0.5
    rows = examples(5, 17)
    loss = Loss(model)
    assert loss.responses_only
    assert loss(*arrays(collate(rows, 0))).item() == pytest.approx(reference(model, rows), rel=1e-5)


def test_a_twin_has_a_capped_head_of_its_own(tmp_path: Path) -> None:
    loss = Loss(tiny(tmp_path, model_type="gemma2"))
    twin = loss.twin()
    assert twin._parts.owner is twin.model.model.embed_tokens is not loss.model.model.embed_tokens
    assert twin._parts.head.args[0].__self__ is twin._parts.owner


def test_cross_entropy_of_extreme_logits() -> None:
    logits = mx.array([[1e4, 0.0, -1e4], [0.0, 0.0, 0.0], [-1e30, 5.0, 5.0]])
    targets = mx.array([2, 1, 2])
    value, gradient = mx.value_and_grad(cross_entropy_sum)(logits, targets)
    assert value.item() == pytest.approx(2e4 + np.log(3) + np.log(2))
    assert np.allclose(np.array(gradient), [[1, 0, -1], [1 / 3, -2 / 3, 1 / 3], [0, 0.5, -0.5]], atol=1e-6)


def test_bfloat16_logits_are_summed_in_float32() -> None:
    logits = mx.random.normal((300, 384), key=mx.random.key(0)).astype(mx.bfloat16)
    targets = mx.arange(300)
    wide = np.array(logits.astype(mx.float32)).astype(np.float64)
    expected = (np.log(np.exp(wide).sum(-1)) - wide[np.arange(300), np.arange(300)]).sum()
    value, gradient = mx.value_and_grad(cross_entropy_sum)(logits, targets)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert gradient.dtype == mx.bfloat16


def test_accumulating_weighs_tokens_as_one_batch_does(tmp_path: Path) -> None:
    """Two micro-batches of very different sizes: sums of sums, not means of means."""
    model = tiny(tmp_path)
    loss = Loss(model)
    long, short = examples(40, 36), examples(4)
    together = gradients(model, loss, [*long, *short])
    parts = [gradients(model, loss, rows) for rows in (long, short)]
    close({name: parts[0][name] + parts[1][name] for name in together}, together)
