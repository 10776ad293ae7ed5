import json
import os
import pickle
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlx.utils import tree_flatten

from mlx_engine.models import folder
from mlx_engine.models.load import load_model, total_params, trainable_params
from mlx_engine.protocol import EngineError
from tiny import make_tiny_model


@pytest.fixture
def tiny(tmp_path) -> Path:
    return make_tiny_model(tmp_path / "tiny [v1]*")  # a name that is a pattern to glob


def refusal(path: Path, **options) -> str:
    with pytest.raises(EngineError) as raised:
        load_model(path, **({"dtype": mx.float32} | options))
    assert raised.value.kind == "invalid_model"
    assert "\n" not in str(raised.value)
    return str(raised.value)


def edit(path: Path, **changes) -> None:
    """Sets keys of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def parameters(model: nn.Module) -> dict[str, mx.array]:
    return dict(tree_flatten(model.parameters()))


# ---- types and packing ----


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16, mx.float16])
def test_floating_parameters_get_the_type_that_was_asked_for(tiny, dtype):
    weights = {name: array.astype(mx.float16) for name, array in mx.load(str(tiny / "model.safetensors")).items()}
    mx.save_safetensors(str(tiny / "model.safetensors"), weights)
    loaded = load_model(tiny, dtype=dtype)
    assert {array.dtype for array in parameters(loaded.model).values()} == {dtype}
    for name, array in parameters(loaded.model).items():
        assert mx.array_equal(array, weights[name].astype(dtype))


def test_packed_weights_become_plain_in_float32_and_compute_the_same(tmp_path):
    path = make_tiny_model(tmp_path / "packed", quantized=True)
    plain, packed = load_model(path, dtype=mx.float32), load_model(path, dtype=mx.float32, keep_quantized=True)
    assert "quantization" not in plain.config
    assert not any(isinstance(m, nn.QuantizedLinear | nn.QuantizedEmbedding) for m in plain.model.modules())
    assert packed.config["quantization"] == {"group_size": 32, "bits": 4}
    layer = packed.model.model.layers[0].self_attn.q_proj
    assert isinstance(layer, nn.QuantizedLinear)
    assert layer.scales.dtype == layer.biases.dtype == mx.float32
    assert mx.array_equal(
        plain.model.model.layers[0].self_attn.q_proj.weight,
        mx.dequantize(layer.weight, layer.scales, layer.biases, group_size=32, bits=4),
    )
    tokens = mx.array([[5, 6, 7, 8]])
    assert np.allclose(plain.model(tokens), packed.model(tokens), atol=1e-4)


def test_packed_weights_stay_packed_in_half_precision(tmp_path):
    loaded = load_model(make_tiny_model(tmp_path / "packed", quantized=True), dtype=mx.bfloat16)
    assert isinstance(loaded.model.model.layers[0].mlp.up_proj, nn.QuantizedLinear)
    assert loaded.config["quantization"]["bits"] == 4


def test_quantizing_at_load_packs_linear_layers_and_says_so(tmp_path):
    """Groups of 64, of 32 where the width needs it; what fits neither, the embedding and the head stay as they are."""
    path = make_tiny_model(tmp_path / "m", intermediate_size=96, tie_word_embeddings=False)
    loaded = load_model(path, dtype=mx.float32, quantize_bits=4, keep_quantized=True)
    block = loaded.model.model.layers[1]
    assert (block.self_attn.q_proj.group_size, block.self_attn.q_proj.bits) == (64, 4)
    assert block.mlp.down_proj.group_size == 32
    assert type(loaded.model.model.embed_tokens) is nn.Embedding
    assert type(loaded.model.lm_head) is nn.Linear
    assert loaded.config["quantization"] == {
        "group_size": 64,
        "bits": 4,
        "model.layers.0.mlp.down_proj": {"group_size": 32, "bits": 4},
        "model.layers.1.mlp.down_proj": {"group_size": 32, "bits": 4},
    }
    unpacked = load_model(path, dtype=mx.float32, quantize_bits=4)
    assert "quantization" not in unpacked.config
    assert type(unpacked.model.model.layers[1].mlp.down_proj) is nn.Linear
    tokens = mx.array([[5, 6, 7, 8]])
    assert np.allclose(unpacked.model(tokens), loaded.model(tokens), atol=1e-4)
    assert not np.allclose(unpacked.model(tokens), load_model(path, dtype=mx.float32).model(tokens), atol=1e-4)
    odd = make_tiny_model(tmp_path / "odd", intermediate_size=100)
    odd = load_model(odd, dtype=mx.float32, quantize_bits=4, keep_quantized=True)
    assert type(odd.model.model.layers[0].mlp.down_proj) is nn.Linear


def test_quantizing_leaves_a_packed_model_as_it_is(tmp_path):
    path = make_tiny_model(tmp_path / "packed", quantized=True)
    loaded = load_model(path, dtype=mx.float32, quantize_bits=4, keep_quantized=True)
    assert loaded.model.model.layers[0].self_attn.q_proj.group_size == 32


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_parameters_count_the_same_packed_or_not(tmp_path, bits):
    loaded = load_model(make_tiny_model(tmp_path / "m", model_type="qwen2"), dtype=mx.float32)  # has biases
    expected = total_params(loaded.model)
    assert expected == trainable_params(loaded.model) == sum(a.size for a in parameters(loaded.model).values())
    nn.quantize(loaded.model, group_size=32, bits=bits)
    assert total_params(loaded.model) == expected
    assert trainable_params(loaded.model) < expected


def test_end_tokens_and_context_come_from_the_files(tiny):
    (tiny / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
    loaded = load_model(tiny, dtype=mx.float32)
    assert loaded.tokenizer.eos_token_ids == {0, 2}
    assert loaded.context_length == 4096
    edit(tiny / "config.json", max_position_embeddings=None)
    assert load_model(tiny, dtype=mx.float32).context_length is None


def test_lazy_loading_and_adapters(tiny, tmp_path):
    from mlx_lm.tuner.utils import linear_to_lora_layers

    loaded = load_model(tiny, dtype=mx.float32, lazy=True)
    config = {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": ["self_attn.q_proj"]}
    loaded.model.freeze()
    linear_to_lora_layers(loaded.model, 2, config)
    adapter = {name: mx.random.normal(array.shape) for name, array in tree_flatten(loaded.model.trainable_parameters())}
    path = tmp_path / "adapter"
    path.mkdir()
    mx.save_safetensors(str(path / "adapters.safetensors"), adapter)
    (path / "adapter_config.json").write_text(json.dumps({"num_layers": 2, "lora_parameters": config}))
    tuned = load_model(tiny, dtype=mx.float32, adapter_path=path)
    assert mx.array_equal(
        tuned.model.model.layers[1].self_attn.q_proj.lora_b, adapter["model.layers.1.self_attn.q_proj.lora_b"]
    )
    wide = make_tiny_model(tmp_path / "wide", hidden_size=96)
    assert str(path) in refusal(wide, adapter_path=path)


# ---- no code from models ----


@pytest.mark.parametrize("key", ["auto_map", "model_file"])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_folders_that_want_to_run_code_are_refused_and_do_not(tiny, key, file):
    (tiny / "model.py").write_text(f"open({str(tiny / 'ran')!r}, 'w')")
    edit(tiny / file, **{key: {"AutoModel": "model.Model"} if key == "auto_map" else "model.py"})
    assert f"{file}: asks to run code of its own ({key})" in refusal(tiny)
    assert not (tiny / "ran").exists()


def test_pickled_weights_are_refused_and_never_opened(tiny):
    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tiny}/ran",)

    (tiny / "model.safetensors").unlink()
    (tiny / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    assert "only pickled weights (pytorch_model.bin), which can run code: *.safetensors are needed" in refusal(tiny)
    assert not (tiny / "ran").exists()


@pytest.mark.parametrize(
    ("given_type", "message"),
    [
        ("lama", "model_type 'lama' is not one that mlx-lm knows; closest: llama"),
        ("cache", "model_type 'cache' is not one that mlx-lm knows"),
        ("../llama", "is not one that mlx-lm knows"),
        ("os", "is not one that mlx-lm knows"),
        (7, "model_type is missing"),
        (None, "model_type is missing"),
    ],
)
def test_unknown_architectures_are_refused_with_the_closest_ones(tiny, given_type, message):
    edit(tiny / "config.json", model_type=given_type)
    assert message in refusal(tiny)


def test_known_architectures_are_mlx_lms():
    names = folder.model_types()
    assert {"llama", "mistral", "qwen3", "gemma3_text", "phi3", "mamba"} <= set(names)
    assert not {"base", "cache", "rope_utils", "switch_layers", "ssm"} & set(names)


# ---- incomplete and damaged folders ----


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(tiny, missing):
    (tiny / missing).unlink()
    assert missing.removesuffix(".safetensors") in refusal(tiny)


def test_a_missing_folder_is_told(tmp_path):
    assert refusal(tmp_path / "none") == f"{tmp_path / 'none'}: no such folder"


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize(
    "content", ["", "{", "[1]", "[" * 100_000, "nonsense"], ids=["empty", "cut", "list", "deep", "text"]
)
def test_json_that_is_none_is_told(tiny, file, content):
    (tiny / file).write_text(content)
    assert str(tiny) in refusal(tiny)


def test_missing_shards_are_named(tiny):
    (tiny / "model.safetensors").rename(tiny / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (tiny / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert "1 of its weight files missing, first model-00002-of-00002.safetensors" in refusal(tiny)


def test_wrong_weights_are_told(tiny):
    weights = mx.load(str(tiny / "model.safetensors"))
    name = "model.layers.0.self_attn.q_proj.weight"
    for changed in (
        {**weights, name: mx.zeros((3, 3))},
        {**weights, "model.layers.7.extra": mx.zeros((1,))},
        {other: array for other, array in weights.items() if other != name},
    ):
        mx.save_safetensors(str(tiny / "model.safetensors"), changed)
        message = refusal(tiny)
        assert "q_proj" in message or "layers.7.extra" in message


@pytest.mark.parametrize(
    "changes", [{"hidden_size": None}, {"hidden_size": "wide"}, {"num_attention_heads": 0}, {"rope_scaling": 3}]
)
def test_a_config_that_does_not_fit_its_architecture_is_told(tiny, changes):
    edit(tiny / "config.json", **changes)
    assert str(tiny) in refusal(tiny)


def test_every_truncation_of_the_weights_is_noticed(tiny):
    path = tiny / "model.safetensors"
    data = path.read_bytes()
    for length in [*range(16), *range(16, len(data), 9973), len(data) - 1]:
        path.write_bytes(data[:length])
        assert "model.safetensors: " in refusal(tiny)
    path.write_bytes(data + b"x")
    assert "too long" in refusal(tiny)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 1500), value=st.integers(0, 255))
def test_a_damaged_header_is_refused_or_harmless(tiny, at, value):
    path = tiny / "model.safetensors"
    data = bytearray(path.read_bytes())
    was, data[at] = data[at], value
    path.write_bytes(data)
    try:
        folder.check_safetensors(path)
    except EngineError as refused:
        error = refused
    else:
        mx.eval(mx.load(str(path)))
        return
    finally:
        data[at] = was
        path.write_bytes(data)
    assert error.kind == "invalid_model"
    assert "\n" not in str(error)
