import json

import mlx.core as mx

from mlx_engine.models.adapters import Adapters
from mlx_engine.models.load import load_model
from serve_client import expected, make_adapter
from tiny import make_tiny_model


def test_adapters_change_the_answer_as_mlx_lm_has_it_and_leave_the_base_exact(client, chat, models):
    small = make_adapter(models / "small", chat, rank=2, keys=["self_attn.q_proj", "self_attn.v_proj"], seed=1)
    large = make_adapter(models / "large", chat, rank=8, seed=2)
    dora = make_adapter(models / "dora", chat, rank=4, seed=3, dora=True)
    base = client.ask(chat)["text"]
    texts = {"": base}
    for adapter in (small, large, dora, small):
        done = client.ask(chat, adapter_path=str(adapter))
        assert (done["text"], done["completion_tokens"]) == expected(chat, "Hi", 12, adapter)
        texts[adapter.name] = done["text"]
        assert client.ask(chat)["text"] == base
    assert len(set(texts.values())) == 4


def test_adapters_over_a_packed_base_that_stays_packed(tmp_path):
    """As on GPUs; and modules, not only numbers, are the base's own again without one."""
    path = make_tiny_model(tmp_path / "packed", quantized=True)
    adapter = make_adapter(tmp_path / "adapter", path)
    loaded = load_model(path, dtype=mx.bfloat16)
    tokens = mx.array([[1, 5, 9]])
    before, modules = loaded.model(tokens), dict(loaded.model.named_modules())
    adapters = Adapters(loaded.model)
    adapters.use(str(adapter))
    tuned = loaded.model(tokens)
    assert tuned.dtype == mx.bfloat16
    assert not mx.array_equal(tuned, before)
    adapters.use(None)
    assert dict(loaded.model.named_modules()) == modules
    assert mx.array_equal(loaded.model(tokens), before)


def test_an_adapter_that_was_written_anew_is_read_anew(client, chat, models):
    adapter = make_adapter(models / "changing", chat, seed=4)
    first = client.ask(chat, adapter_path=str(adapter))["text"]
    make_adapter(adapter, chat, seed=5)
    second = client.ask(chat, adapter_path=str(adapter))
    assert second["text"] == expected(chat, "Hi", 12, adapter)[0] != first


def test_adapters_that_do_not_fit_are_told_and_harm_nobody(client, chat, models):
    wide = make_tiny_model(models / "wide", hidden_size=96)
    good = make_adapter(models / "good", chat)
    before = client.ask(chat, adapter_path=str(good))["text"]
    for_wide = make_adapter(models / "for-wide", wide)
    kind, message = client.refused(chat, adapter_path=str(for_wide))
    assert kind == "invalid_model"
    assert message.startswith(f"{for_wide}: does not fit this base model: model.layers.")
    deep = make_adapter(models / "deep", make_tiny_model(models / "deep-base", num_hidden_layers=3))
    assert "has no place for model.layers.2." in client.refused(chat, adapter_path=str(deep))[1]
    assert "adapter_config.json is missing" in client.refused(chat, adapter_path=str(models / "nothing"))[1]
    config = good / "adapter_config.json"
    content = json.loads(config.read_text())
    config.write_text(json.dumps(content | {"fine_tune_type": "full"}))
    assert "name the folder as the model instead" in client.refused(chat, adapter_path=str(good))[1]
    config.write_text(json.dumps(content))
    weights = mx.load(str(good / "adapters.safetensors"))
    mx.eval(weights)  # before the file changes
    half = {name: array for name, array in weights.items() if not name.endswith("lora_b")}
    mx.save_safetensors(str(good / "adapters.safetensors"), half)
    assert "has lora_a where lora_a, lora_b are needed" in client.refused(chat, adapter_path=str(good))[1]
    (good / "adapters.safetensors").write_bytes(b"x" * 7)
    assert "cut short" in client.refused(chat, adapter_path=str(good))[1]
    mx.save_safetensors(str(good / "adapters.safetensors"), weights)
    assert client.ask(chat, adapter_path=str(good))["text"] == before
