"""The optimisers against their papers' formulas in float64 numpy, and in whole runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm import load as mlx_lm_load
from mlx_lm.models.switch_layers import SwitchLinear

from harness import files, newest, numbers, of, questions, train, train_command
from mlx_engine.protocol import EngineError, LoraSpec, Suspend, Train
from mlx_engine.training.lora import apply_lora
from mlx_engine.training.muon import orthogonal
from mlx_engine.training.optimizer import make_optimizer, restore, state_arrays
from tiny import make_tiny_model

OPTIMIZERS = get_args(get_type_hints(Train)["optimizer"])
Array = np.ndarray
Rule = Callable[[Array, Array, dict[str, Any], float, float], Array]


# ---- the formulas: parameter, gradient, state, learning rate, weight decay → parameter ----


def adamw(p: Array, g: Array, s: dict[str, Any], rate: float, decay: float) -> Array:
    """arXiv 1711.05101, algorithm 2, with torch.optim's default betas and epsilon."""
    t = s["t"] = s.get("t", 0) + 1
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g**2
    step = (s["m"] / (1 - 0.9**t)) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-8)
    return p - rate * step - rate * decay * p


def adam(p: Array, g: Array, s: dict[str, Any], rate: float, decay: float) -> Array:
    return adamw(p, g + decay * p, s, rate, 0.0)


def sgd(p: Array, g: Array, s: dict[str, Any], rate: float, decay: float) -> Array:
    s["v"] = 0.9 * s.get("v", 0) + g + decay * p
    return p - rate * s["v"]


def lion(p: Array, g: Array, s: dict[str, Any], rate: float, decay: float) -> Array:
    """arXiv 2302.06675, program 1."""
    m = s.get("m", np.zeros_like(p))
    s["m"] = 0.99 * m + 0.01 * g
    return p - rate * (np.sign(0.9 * m + 0.1 * g) + decay * p)


def adafactor(p: Array, g: Array, s: dict[str, Any], rate: float, decay: float) -> Array:
    """arXiv 1804.04235, algorithms 4 and 5, without relative step sizes."""
    t = s["t"] = s.get("t", 0) + 1
    beta = 1 - t**-0.8
    square = g**2 + 1e-30
    if p.ndim > 1:
        s["r"] = beta * s.get("r", 0) + (1 - beta) * square.sum(-1)
        s["c"] = beta * s.get("c", 0) + (1 - beta) * square.sum(-2)
        v = s["r"][..., :, None] * s["c"][..., None, :] / s["r"].sum(-1)[..., None, None]
    else:
        v = s["v"] = beta * s.get("v", 0) + (1 - beta) * square
    u = g / np.sqrt(v)
    u = u / max(1.0, np.sqrt((u**2).mean()))
    return p - rate * u - rate * decay * p


def muon(p: Array, g: Array, s: dict[str, Any], rate: float, decay: float) -> Array:
    """arXiv 2502.16982, algorithm 1 and equation 4, its iteration as what it does to the singular values."""
    s["m"] = 0.95 * s.get("m", 0) + 0.05 * g
    u, values, v = np.linalg.svd(0.95 * s["m"] + 0.05 * g, full_matrices=False)
    values = values / np.sqrt((values**2).sum(-1, keepdims=True))
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    size = 0.2 * np.sqrt(max(p.shape[-2:]))
    return p - rate * size * (u * values[..., None, :]) @ v - rate * decay * p


RULES: dict[str, Rule] = {
    "adamw": adamw,
    "adam": adam,
    "sgd": sgd,
    "adafactor": adafactor,
    "muon": muon,
    "lion": lion,
}


# ---- against the formulas ----


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(12, 5)
        self.tall = nn.Linear(4, 9, bias=False)
        self.experts = SwitchLinear(6, 4, 3, bias=False)
        self.norm = nn.RMSNorm(7)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 4)
        self.layers = [Layer()]
        self.lm_head = nn.Linear(4, 11, bias=False)


NOT_HIDDEN = ("embed.weight", "lm_head.weight")


def command(tmp_path: Path, model: Path | None = None, **changes: Any) -> Train:
    full = {"method": "full", "lora": None}
    return train_command(tmp_path, model or tmp_path, questions(2), **(full | changes))


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_formula_of_the_paper(tmp_path: Path, name: str, decay: float) -> None:
    mx.random.seed(1)
    model = Model()
    optimizer = make_optimizer(command(tmp_path, optimizer=name, weight_decay=decay), model)
    optimizer.init(model.trainable_parameters())
    expected = {key: np.array(p).astype(np.float64) for key, p in tree_flatten(model.parameters())}
    states: dict[str, dict[str, Any]] = {key: {} for key in expected}
    generator = np.random.default_rng(2)
    for step in range(6):
        rate = 0.05 / (step + 1)
        gradients = {key: generator.normal(size=p.shape).astype(np.float32) for key, p in expected.items()}
        for key, p in expected.items():
            rule = RULES[name]
            if name == "muon" and (p.ndim == 1 or key in NOT_HIDDEN):
                rule = adamw
            kept = decay if p.ndim > 1 else 0.0
            expected[key] = rule(p, gradients[key].astype(np.float64), states[key], rate, kept)
        optimizer.learning_rate = rate
        optimizer.update(model, tree_unflatten([(key, mx.array(g)) for key, g in gradients.items()]))
        mx.eval(model.parameters(), optimizer.state)
    for key, found in tree_flatten(model.parameters()):
        assert np.abs(np.array(found) - expected[key]).max() < 2e-5, key


def test_a_gradient_of_zero_moves_nothing_but_by_decay(tmp_path: Path) -> None:
    """As A's at the first step of LoRA, where B is still zero."""
    for name in OPTIMIZERS:
        model = Model()
        optimizer = make_optimizer(command(tmp_path, optimizer=name), model)
        before = dict(tree_flatten(model.parameters()))
        optimizer.learning_rate = 1.0
        optimizer.update(model, tree_unflatten([(key, mx.zeros(p.shape)) for key, p in before.items()]))
        for key, p in tree_flatten(model.parameters()):
            assert mx.array_equal(p, before[key]), (name, key)


def test_orthogonal_matrices_and_their_stacks() -> None:
    mx.random.seed(3)
    stack = mx.random.normal((3, 8, 20))
    singly = mx.stack([orthogonal(one) for one in stack])
    assert mx.allclose(orthogonal(stack), singly, atol=1e-5)
    assert mx.allclose(orthogonal(stack.swapaxes(1, 2)), singly.swapaxes(1, 2), atol=1e-5)
    values = np.linalg.svd(np.array(singly), compute_uv=False)
    assert values.min() > 0.6
    assert values.max() < 1.3


def lora_model(tmp_path: Path) -> nn.Module:
    model, _ = mlx_lm_load(str(make_tiny_model(tmp_path / "model", num_hidden_layers=3)))
    targets = ["q_proj", "v_proj"]
    apply_lora(model, LoraSpec(rank=4, alpha=8.0, dropout=0.0, target_modules=targets, use_dora=True, layers=2), 1)
    return model


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_lora_plus_gives_b_a_rate_of_its_own(tmp_path: Path, name: str) -> None:
    """Of two parameters that are alike in all else, B goes 16 times as far."""
    moved = {}
    for ratio in (1.0, 16.0):
        model = lora_model(tmp_path)
        changes = {"method": "lora", "lora": vars_of(plus_ratio=ratio), "optimizer": name}
        optimizer = make_optimizer(command(tmp_path, **changes), model)
        optimizer.learning_rate = 1e-3
        assert optimizer.learning_rate.item() == pytest.approx(1e-3)
        before = dict(tree_flatten(model.trainable_parameters()))
        gradients = [(key, mx.random.normal(p.shape, key=mx.random.key(4))) for key, p in before.items()]
        optimizer.update(model, tree_unflatten(gradients))
        after = dict(tree_flatten(model.trainable_parameters()))
        assert after.keys() == before.keys()
        moved[ratio] = {key: mx.abs(after[key] - before[key]).mean().item() for key in before}
    assert {key.rpartition(".")[2] for key in moved[1.0]} == {"lora_a", "lora_b", "m"}
    for key, distance in moved[1.0].items():
        assert moved[16.0][key] == pytest.approx(distance * (16 if key.endswith("lora_b") else 1), rel=1e-3), key


def vars_of(**changes: Any) -> dict[str, Any]:
    return {"rank": 4, "alpha": 8.0, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"], **changes}


# ---- state ----


def test_state_of_another_optimizer_or_model_is_refused(tmp_path: Path) -> None:
    model = lora_model(tmp_path)

    def made(name: str) -> Any:
        optimizer = make_optimizer(command(tmp_path, optimizer=name), model)
        optimizer.init(model.trainable_parameters())
        return optimizer

    with pytest.raises(EngineError, match=r"of another optimizer or model: states\.0\.model.*\.m is nothing|not there"):
        restore(made("adamw"), state_arrays(made("sgd")))
    with pytest.raises(EngineError, match="another optimizer or model") as error:
        restore(made("lion"), state_arrays(made("adafactor")))
    assert error.value.kind == "invalid_parameters"
    other = state_arrays(made("lion"))
    name = next(key for key in other if key.endswith(".m"))
    with pytest.raises(EngineError, match=r"float32 \(1, 2\) where mlx.core.float32 \("):
        restore(made("lion"), other | {name: mx.zeros((1, 2))})


# ---- whole runs ----

# Rates that are usual for each, scaled to a tiny model.
RATES = {"adamw": 1e-2, "adam": 1e-2, "sgd": 1.0, "adafactor": 1e-2, "muon": 1e-2, "lion": 2e-3}
FULL_RATES = {"adamw": 3e-3, "adam": 3e-3, "sgd": 0.1, "adafactor": 3e-3, "muon": 3e-3, "lion": 3e-4}
LORA = {"lora__dropout": 0.3, "lora__plus_ratio": 4.0, "lora__use_dora": True, "weight_decay": 0.01}
FULL = {"method": "full", "lora": None, "weight_decay": 0.01}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"), tie_word_embeddings=False)


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_learns_and_goes_on_bit_for_bit(tmp_path: Path, model: Path, name: str, full: bool) -> None:
    changes = (FULL if full else LORA) | {"learning_rate": (FULL_RATES if full else RATES)[name], "optimizer": name}
    changes |= {"epochs": 3}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = train(train_command(whole, model, questions(12), **changes))
    losses = [step["loss"] for step in of(expected, "step")]
    assert sum(losses[-4:]) < 0.9 * sum(losses[:4])

    def suspend(frame: dict) -> Suspend | None:
        return Suspend() if frame["type"] == "step" and frame["step"] == 5 else None

    before = train(train_command(parts, model, questions(12), **changes), suspend)
    after = train(train_command(parts, model, questions(12), resume=True, **changes))
    assert 5 <= before[-1]["step"] == of(after, "prepared")[0]["resumed_from_step"] < len(losses)
    assert numbers(before) + numbers(after) == numbers(expected)
    assert files(newest(parts)) == files(newest(whole))
    assert files(parts / "out") == files(whole / "out")


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path: Path, model: Path) -> None:
    train(train_command(tmp_path, model, questions(4), epochs=1))
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "out", kept)
    with pytest.raises(EngineError, match=r"optimizer was adamw, is lion.*start with the same ones") as error:
        train(train_command(tmp_path, model, questions(4), epochs=1, optimizer="lion", resume=True))
    assert error.value.kind == "invalid_parameters"
    assert files(newest(tmp_path)) == files(max((kept / "checkpoints").iterdir()))
