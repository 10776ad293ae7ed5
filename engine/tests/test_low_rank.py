"""LoRA and DoRA layers against mlx-lm's and against numpy; what is trained with them against mlx-lm's own loader."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm import load as mlx_lm_load
from mlx_lm.models.switch_layers import SwitchLinear
from mlx_lm.tuner import dora, lora

from harness import of, questions, train, train_command
from mlx_engine import platform
from mlx_engine.models.adapters import Adapters
from mlx_engine.models.load import load_model
from mlx_engine.models.low_rank import DoRALinear, cheapen, settle
from mlx_engine.models.quantized import unpack_on_use
from mlx_engine.protocol import EngineError
from tiny import make_tiny_model


def plain(bias: bool = False) -> nn.Module:
    return nn.Linear(64, 96, bias=bias)


def packed() -> nn.Module:
    return plain(bias=True).to_quantized(group_size=32, bits=4)


def unpacking() -> nn.Module:
    linear = packed()
    unpack_on_use(nn.Sequential(linear))
    return linear


BASES: dict[str, Callable[[], nn.Module]] = {
    "plain": plain,
    "bias": lambda: plain(bias=True),
    "packed": packed,
    "unpacking": unpacking,
}


def pair(base: nn.Module, kind: type = dora.DoRALinear, dropout: float = 0.0) -> tuple[nn.Module, nn.Module]:
    """mlx-lm's layer and ours around the same base, with the same weights, away from where they begin."""
    base.freeze()
    theirs, ours = (kind.from_base(base, r=4, scale=2.0, dropout=dropout) for _ in range(2))
    cheapen(ours)
    assert type(ours) is not type(theirs)
    assert isinstance(ours, kind)
    for name, array in tree_flatten(theirs.trainable_parameters()):
        value = array * (1 + 0.2 * mx.random.normal(array.shape)) if name == "m" else mx.random.normal(array.shape)
        theirs[name] = ours[name] = value
    return theirs, ours


# ---- the layers ----


@pytest.mark.parametrize("kind", [lora.LoRALinear, dora.DoRALinear])
@pytest.mark.parametrize("base", BASES)
def test_layers_are_mlx_lms_to_rounding(base: str, kind: type) -> None:
    mx.random.seed(1)
    theirs, ours = pair(BASES[base](), kind)
    assert dict(tree_flatten(ours.parameters())).keys() == dict(tree_flatten(theirs.parameters())).keys()
    x, weight = mx.random.normal((2, 5, 64)), mx.random.normal((2, 5, 96))

    def gradients(layer: nn.Module) -> tuple[mx.array, dict[str, mx.array]]:
        value, of_x = mx.value_and_grad(lambda x: (layer(x) * weight).sum())(x)
        _, tree = nn.value_and_grad(layer, lambda x: (layer(x) * weight).sum())(x)
        return value, {"x": of_x, **dict(tree_flatten(tree))}

    assert mx.allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    (_, expected), (_, found) = gradients(theirs), gradients(ours)
    assert found.keys() == expected.keys() == {"x", "lora_a", "lora_b"} | ({"m"} if "m" in ours else set())
    for name in found:
        assert mx.allclose(found[name], expected[name], rtol=1e-4, atol=1e-4), name


@pytest.mark.parametrize("bias", [False, True])
def test_dora_by_the_papers_formula_with_finite_differences(bias: bool) -> None:
    """m ⊙ (W + s·BA) / ‖W + s·BA‖ in float64; the norm is held where it is, as the paper's section 4.3 does."""
    mx.random.seed(2)
    _, layer = pair(plain(bias))
    x, weight = mx.random.normal((7, 64)), mx.random.normal((7, 96))
    value, tree = nn.value_and_grad(layer, lambda x: (layer(x) * weight).sum())(x)
    p = {name: np.array(array).astype(np.float64) for name, array in tree_flatten(layer.parameters())}
    x, weight = np.array(x).astype(np.float64), np.array(weight).astype(np.float64)

    def adapted() -> np.ndarray:
        return p["linear.weight"] + 2.0 * (p["lora_a"] @ p["lora_b"]).T

    norms = np.linalg.norm(adapted(), axis=1)

    def loss() -> float:
        return ((x @ (p["m"][:, None] * adapted() / norms[:, None]).T + p.get("linear.bias", 0)) * weight).sum()

    assert np.allclose(np.array(layer.norms()), norms, rtol=1e-6)
    assert value.item() == pytest.approx(loss(), rel=1e-5)
    generator = np.random.default_rng(3)
    for name in ("lora_a", "lora_b", "m"):
        for _ in range(5):
            place = tuple(generator.integers(0, size) for size in p[name].shape)
            kept, sides = p[name][place], []
            for side in (1e-4, -1e-4):
                p[name][place] = kept + side
                sides.append(loss())
            p[name][place] = kept
            expected = (sides[0] - sides[1]) / 2e-4
            assert tree[name][place].item() == pytest.approx(expected, rel=1e-4, abs=1e-4), name


def test_norms_of_weights_that_the_update_almost_cancels() -> None:
    """The hardest case for a norm out of three terms: off by no more than rounding of the terms."""
    base = nn.Linear(64, 96, bias=False)
    base.weight = mx.random.normal((96, 1)) @ mx.random.normal((1, 64))
    _, layer = pair(base)
    layer.lora_a = mx.zeros((64, 4)).at[:, 0].add(base.weight[0])
    layer.lora_b = mx.zeros((4, 96)).at[0].add(-0.49 * base.weight[:, 0] / base.weight[0, 0])
    adapted = np.array(base.weight) + 2.0 * np.array(layer.lora_a @ layer.lora_b).T.astype(np.float64)
    assert np.allclose(np.array(layer.norms()), np.linalg.norm(adapted, axis=1), rtol=1e-3)


@pytest.mark.parametrize("base", ["plain", "packed"])
def test_dora_makes_no_matrix_of_the_weights_size(base: str) -> None:
    linear = nn.Linear(2048, 2048, bias=False)
    linear = linear.to_quantized(group_size=64, bits=4) if base == "packed" else linear
    x = mx.random.normal((4, 2048))

    def peak(layer: nn.Module) -> int:
        mx.eval(layer, x)
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        mx.eval(layer(x))
        return mx.get_peak_memory() - before

    theirs, ours = pair(linear)
    assert peak(theirs) > 16e6
    assert peak(ours) < 1e6


@pytest.mark.parametrize("kind", [lora.LoRALinear, dora.DoRALinear])
def test_half_precision_stays_half(kind: type) -> None:
    mx.random.seed(4)
    base = plain(bias=True)
    base.set_dtype(mx.bfloat16)
    theirs, ours = pair(base, kind)
    x = mx.random.normal((3, 64)).astype(mx.bfloat16)
    assert ours.lora_a.dtype == mx.float32
    assert ours(x).dtype == mx.bfloat16
    error = mx.abs(ours(x).astype(mx.float32) - theirs(x.astype(mx.float32))).max()
    assert error < 0.03 * mx.abs(theirs(x.astype(mx.float32))).max()
    gradient = mx.grad(lambda a: (ours.update({"lora_a": a})(x) ** 2).sum())(ours.lora_a)
    assert gradient.dtype == mx.float32


def test_experts_are_mlx_lms_to_rounding() -> None:
    mx.random.seed(5)
    theirs, ours = pair(SwitchLinear(64, 96, 3, bias=True), lora.LoRASwitchLinear)
    x, indices = mx.random.normal((2, 5, 1, 1, 64)), mx.random.randint(0, 3, (2, 5, 2))
    assert mx.allclose(ours(x, indices), theirs(x, indices), rtol=1e-5, atol=1e-5)
    ours.linear.set_dtype(mx.bfloat16)
    assert ours(x.astype(mx.bfloat16), indices).dtype == mx.bfloat16


@pytest.mark.parametrize("kind", [lora.LoRALinear, dora.DoRALinear])
def test_dropout_reaches_the_update_only_while_training(kind: type) -> None:
    _, layer = pair(plain(), kind, dropout=0.5)
    x = mx.random.normal((3, 64))
    layer.eval()
    still = layer(x)
    assert mx.array_equal(layer(x), still)
    layer.train()
    assert not mx.array_equal(layer(x), layer(x))
    layer.lora_b = mx.zeros(layer.lora_b.shape)
    assert mx.array_equal(layer(x), layer(x))


@pytest.mark.parametrize("base", BASES)
def test_a_settled_layer_gives_the_same_without_its_norms(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, layer = pair(BASES[base]())
    x = mx.random.normal((3, 64))
    expected = layer(x)
    settle(layer, mx.float32)
    monkeypatch.setattr(DoRALinear, "norms", None)
    assert mx.allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


# ---- whole runs ----

VARIANTS: dict[str, dict[str, Any]] = {
    "rslora": {"lora__use_rslora": True, "lora__rank": 16},
    "dora": {"lora__use_dora": True, "lora__dropout": 0.2},
    "last layers": {"lora__layers": 2, "lora__target_modules": ["all-linear"]},
    "dora of last layers and head": {
        "lora__use_dora": True,
        "lora__layers": 1,
        "lora__target_modules": ["up_proj", "lm_head"],
    },
    "qdora": {"lora__use_dora": True, "method": "qlora"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_mlx_lm_and_our_serving_load_what_was_trained(tmp_path: Path, variant: str) -> None:
    changes = VARIANTS[variant]
    quantized = changes.get("method") == "qlora"
    model = make_tiny_model(
        tmp_path / "model", num_hidden_layers=3, tie_word_embeddings=False, quantized=quantized, attention_bias=True
    )
    frames = train(train_command(tmp_path, model, questions(8), **changes))
    losses = [step["loss"] for step in of(frames, "step")]
    assert losses[-1] < losses[0]
    out = tmp_path / "out"
    config = json.loads((out / "adapter_config.json").read_text())
    weights = mx.load(str(out / "adapters.safetensors"))
    layers = changes.get("lora__layers", 3)
    assert config["fine_tune_type"] == ("dora" if "dora" in variant else "lora")
    assert config["num_layers"] == layers
    assert config["lora_parameters"]["scale"] == (2.0 if variant == "rslora" else 8.0 / changes.get("lora__rank", 4))
    assert any(name.endswith(".m") for name in weights) == ("dora" in variant)
    assert {name.split(".")[2] for name in weights if name.startswith("model.layers.")} == {
        str(i) for i in range(3 - layers, 3)
    }
    assert of(frames, "prepared")[0]["trainable_params"] == sum(array.size for array in weights.values())

    theirs, tokenizer = mlx_lm_load(str(model), adapter_path=str(out))
    prompt = mx.array([tokenizer.encode("What is 3 and 21?")])
    expected = theirs(prompt)
    base, _ = mlx_lm_load(str(model))
    assert mx.abs(expected - base(prompt)).max() > 1e-2
    served = load_model(model, dtype=mx.float32).model
    Adapters(served).use(str(out))
    assert mx.allclose(served(prompt), expected, rtol=1e-4, atol=1e-4)


MIXTURE = {
    "model_type": "qwen3_moe",
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
}


def test_a_mixture_of_experts(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", **MIXTURE)
    changes = {"lora__target_modules": ["q_proj", "gate_proj", "down_proj"]}
    frames = train(train_command(tmp_path, model, questions(8), optimizer="muon", **changes))
    assert of(frames, "step")[-1]["loss"] < of(frames, "step")[0]["loss"]
    assert mx.load(str(tmp_path / "out" / "adapters.safetensors"))[
        "model.layers.0.mlp.switch_mlp.gate_proj.lora_a"
    ].shape == (4, 4, 64)
    theirs, tokenizer = mlx_lm_load(str(model), adapter_path=str(tmp_path / "out"))
    served = load_model(model, dtype=platform.setup().dtype).model
    Adapters(served).use(str(tmp_path / "out"))
    prompt = mx.array([tokenizer.encode("What is 3?")])
    assert mx.allclose(served(prompt), theirs(prompt), rtol=1e-4, atol=1e-4)
    with pytest.raises(EngineError, match=r"down_proj, gate_proj are this model's stacked experts") as error:
        train(train_command(tmp_path, model, questions(2), lora__use_dora=True, **changes))
    assert error.value.kind == "invalid_parameters"
    frames = train(train_command(tmp_path, model, questions(2), lora__use_dora=True, epochs=1))
    assert frames[-1]["outcome"] == "completed"


def test_more_layers_than_there_are(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    with pytest.raises(EngineError, match="lora_layers is 3, but this model has 2 layers") as error:
        train(train_command(tmp_path, model, questions(2), lora__layers=3))
    assert error.value.kind == "invalid_parameters"
