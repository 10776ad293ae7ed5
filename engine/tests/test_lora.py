from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from mlx_lm import load as mlx_lm_load
from mlx_lm.tuner.lora import LoRALinear

from mlx_engine.models.quantized import UnpackingEmbedding, UnpackingLinear, unpack_on_use
from mlx_engine.protocol import EngineError, LoraSpec
from mlx_engine.training.lora import apply_lora, target_keys
from tiny import make_tiny_model


def spec(*targets: str, dropout: float = 0.0) -> LoraSpec:
    return LoraSpec(rank=4, alpha=16.0, dropout=dropout, target_modules=list(targets))


def test_targets_go_into_all_layers_at_the_scale_of_alpha_over_rank(tmp_path: Path) -> None:
    model, _ = mlx_lm_load(str(make_tiny_model(tmp_path, num_hidden_layers=3)))
    parameters = apply_lora(model, spec("q_proj", "mlp.down_proj"), seed=1)
    assert parameters == {
        "fine_tune_type": "lora",
        "num_layers": 3,
        "lora_parameters": {
            "rank": 4,
            "scale": 4.0,
            "dropout": 0.0,
            "keys": ["mlp.down_proj", "self_attn.q_proj"],
        },
    }
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}
    assert set(layers) == {
        f"model.layers.{i}.{name}" for i in range(3) for name in ("mlp.down_proj", "self_attn.q_proj")
    }
    assert {module.scale for module in layers.values()} == {4.0}
    assert set(dict(tree_flatten(model.trainable_parameters()))) == {f"{n}.lora_{x}" for n in layers for x in "ab"}


def test_a_is_drawn_from_the_seed(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)

    def drawn(seed: int) -> mx.array:
        model, _ = mlx_lm_load(str(folder))
        apply_lora(model, spec("q_proj"), seed)
        return model.layers[1].self_attn.q_proj.lora_a

    assert mx.array_equal(drawn(1), drawn(1))
    assert not mx.array_equal(drawn(1), drawn(2))


def test_all_linear_leaves_the_head_out(tmp_path: Path) -> None:
    model, _ = mlx_lm_load(str(make_tiny_model(tmp_path, tie_word_embeddings=False)))
    assert target_keys(model, ["all-linear"]) == [
        *(f"mlp.{name}_proj" for name in ("down", "gate", "up")),
        *(f"self_attn.{name}_proj" for name in "koqv"),
    ]
    assert target_keys(model, ["lm_head"]) == ["lm_head"]


def test_a_target_that_matches_nothing(tmp_path: Path) -> None:
    model, _ = mlx_lm_load(str(make_tiny_model(tmp_path)))
    with pytest.raises(EngineError, match=r'"qkv_proj".*there are: down_proj, gate_proj, k_proj, o_proj, q_proj'):
        target_keys(model, ["q_proj", "qkv_proj"])
    with pytest.raises(EngineError):
        target_keys(model, ["proj"])  # a part of a name is not a name


# ---- packed weights on a CPU ----


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_unpacking_gives_the_products_and_gradients_of_the_packed_weights(bits: int) -> None:
    packed = nn.QuantizedLinear.from_linear(nn.Linear(64, 96), group_size=32, bits=bits)
    embedding = nn.QuantizedEmbedding.from_embedding(nn.Embedding(50, 64), group_size=32, bits=bits)
    x = mx.random.normal((2, 7, 64))
    for module, call in ((packed, lambda m, x: m(x)), (embedding, lambda m, x: m.as_linear(x))):
        weight = mx.random.normal(call(module, x).shape)

        def value(x: mx.array, module: nn.Module = module, call=call, weight: mx.array = weight) -> mx.array:
            return (call(module, x) * weight).sum()

        expected = mx.value_and_grad(value)(x)
        names = dict(tree_flatten(module.parameters())).keys()
        owner = nn.Sequential(module)
        unpack_on_use(owner)
        assert type(module) in (UnpackingLinear, UnpackingEmbedding)
        assert dict(tree_flatten(module.parameters())).keys() == names
        found = mx.value_and_grad(value)(x)
        assert mx.allclose(found[0], expected[0], rtol=1e-4)
        assert mx.allclose(found[1], expected[1], rtol=1e-4, atol=1e-4)
    assert mx.array_equal(embedding(mx.array([3])), embedding(mx.array([3])))


def test_an_adapter_over_unpacked_weights_stays_plain(tmp_path: Path) -> None:
    model, _ = mlx_lm_load(str(make_tiny_model(tmp_path, quantized=True)))
    unpack_on_use(model)
    apply_lora(model, spec("q_proj"), 1)
    assert isinstance(model.layers[0].self_attn.q_proj.linear, UnpackingLinear)
    assert set(dict(tree_flatten(model.trainable_parameters()))) == {
        f"model.layers.{i}.self_attn.q_proj.lora_{x}" for i in range(2) for x in "ab"
    }
