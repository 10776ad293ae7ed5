"""What a result says of its training is what generation goes by."""

import json
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_engine import platform
from mlx_engine.models.bases import Bases
from mlx_engine.models.load import load_model
from mlx_engine.models.prompts import alpaca_text
from mlx_engine.models.quantized import unpack_on_use
from mlx_engine.models.record import template_sha256, tokenizer_sha256
from serve_client import make_adapter, make_parrot, prompt_length, said
from tiny import CHATML, make_tiny_model

HI = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
TERSE = CHATML.replace("<|im_start|>", "")


def trained(adapter: Path, **says) -> Path:
    """Adds what our trainer writes."""
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | says))
    return adapter


def edit(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_system_prompt_of_all_rows_begins_a_conversation_that_brings_none(client, chat, tmp_path):
    adapter = trained(make_adapter(tmp_path / "a", chat), system_prompt="Be terse.")
    system = "<|im_start|>system\nBe {}.<|im_end|>\n"

    def asked(*turns: tuple[str, str]) -> int:
        messages = [{"role": role, "content": content} for role, content in turns]
        return client.ask(chat, adapter_path=str(adapter), messages=messages)["prompt_tokens"]

    def length(text: str) -> int:
        return prompt_length(chat, text, add_special_tokens=False)

    assert asked(("user", "Hi")) == length(system.format("terse") + HI)
    assert asked(("system", "Be kind and polite."), ("user", "Hi")) == length(system.format("kind and polite") + HI)
    assert asked(("system", ""), ("user", "Hi")) == length(HI)
    assert client.ask(chat, "Hi")["prompt_tokens"] == length(HI)  # the base was not trained with it
    plain = client.ask(chat, None, prompt="Hi", adapter_path=str(adapter))
    assert plain["prompt_tokens"] == prompt_length(chat, "Hi")


def test_a_fully_trained_model_says_it_in_a_file_of_its_own(client, tmp_path):
    model = make_tiny_model(tmp_path / "full")
    (model / "training.json").write_text(json.dumps({"system_prompt": "Be terse."}))
    text = "<|im_start|>system\nBe terse.<|im_end|>\n" + HI
    assert client.ask(model)["prompt_tokens"] == prompt_length(model, text, add_special_tokens=False)


def test_what_trained_rows_end_with_ends_an_answer(client, tmp_path):
    parrot = make_parrot(tmp_path / "parrot", 9)  # no end token of the model's own
    assert client.ask(parrot, max_tokens=3)["finish_reason"] == "length"
    adapter = make_adapter(tmp_path / "a", parrot, keys=["mlp.down_proj"])
    mx.save_safetensors(
        str(adapter / "adapters.safetensors"),
        {name: mx.zeros_like(array) for name, array in mx.load(str(adapter / "adapters.safetensors")).items()},
    )
    done = client.ask(parrot, max_tokens=3, adapter_path=str(trained(adapter, stop_tokens=[{"id": 9, "text": "?"}])))
    assert (done["finish_reason"], done["completion_tokens"]) == ("stop", 1)


def test_a_template_that_changed_since_is_replaced_by_the_one_of_training_or_refused(client, tmp_path):
    base = make_tiny_model(tmp_path / "base")
    says = {"prompt_format": "chat_template", "chat_template_sha256": template_sha256(CHATML)}
    adapter = trained(make_adapter(tmp_path / "a", base), **says)
    before = client.ask(base, adapter_path=str(adapter))
    edit(base / "tokenizer_config.json", chat_template=TERSE)
    kind, message = client.refused(base, adapter_path=str(adapter))
    assert kind == "invalid_model"
    assert f"{adapter}: was trained with another chat template than {base} has now" in message
    (adapter / "chat_template.jinja").write_text(CHATML)
    assert said(client.ask(base, adapter_path=str(adapter))) == said(before)
    assert client.ask(base)["prompt_tokens"] < before["prompt_tokens"]
    (adapter / "chat_template.jinja").write_text(TERSE)
    assert "another chat template" in client.refused(base, adapter_path=str(adapter))[1]


def test_what_was_trained_on_plain_text_stays_with_it(client, tmp_path):
    base = make_tiny_model(tmp_path / "base", chat_template=False)
    adapter = trained(make_adapter(tmp_path / "a", base), prompt_format="alpaca", chat_template_sha256=None)
    edit(base / "tokenizer_config.json", chat_template=CHATML)
    done = client.ask(base, "Say hi", adapter_path=str(adapter))
    assert done["prompt_tokens"] == prompt_length(base, alpaca_text("Say hi"))
    assert client.ask(base)["prompt_tokens"] == prompt_length(base, HI, add_special_tokens=False)


def test_another_tokenizer_is_refused_another_layout_of_its_file_is_not(client, tmp_path):
    base = make_tiny_model(tmp_path / "base")
    adapter = trained(make_adapter(tmp_path / "a", base), tokenizer_sha256=tokenizer_sha256(base))
    before = client.ask(base, adapter_path=str(adapter))["text"]
    file = base / "tokenizer.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"truncation": None}, indent=3))
    assert client.ask(base, adapter_path=str(adapter))["text"] == before
    content["model"]["merges"].pop()
    file.write_text(json.dumps(content))
    kind, message = client.refused(base, adapter_path=str(adapter))
    assert kind == "invalid_model"
    assert f"was trained with another tokenizer than {base} has now" in message
    assert client.ask(base)["type"] == "done"


def test_a_tokenizer_without_tokenizer_json_is_known_by_its_files(tmp_path):
    assert tokenizer_sha256(tmp_path) is None
    (tmp_path / "vocab.json").write_text("{}")
    first = tokenizer_sha256(tmp_path)
    (tmp_path / "merges.txt").write_text("a b")
    assert len({first, tokenizer_sha256(tmp_path), None}) == 3


@pytest.mark.parametrize("says", [{"stop_tokens": 7}, {"serving_verified": {"ok": "yes"}}, {"base_quantize_bits": "x"}])
def test_a_malformed_record_is_told(client, chat, tmp_path, says):
    adapter = trained(make_adapter(tmp_path / "a", chat), **says)
    kind, message = client.refused(chat, adapter_path=str(adapter))
    assert kind == "invalid_model"
    assert "adapter_config.json: Expected" in message


def test_an_adapter_of_a_base_that_was_packed_at_load_is_served_over_the_same_weights(tmp_path):
    base = make_tiny_model(tmp_path / "base")
    adapter = make_adapter(tmp_path / "a", base)
    trained(adapter, base_quantize_bits=4)
    bases = Bases(platform.setup(), lambda *_: None)
    served = bases.serve(str(base), str(adapter))
    as_trained = load_model(base, dtype=mx.float32, quantize_bits=4, keep_quantized=True, adapter_path=adapter)
    unpack_on_use(as_trained.model)
    tokens = mx.array([[1, 5, 9, 11]])
    assert mx.allclose(served.loaded.model(tokens), as_trained.model(tokens), atol=1e-4)
    assert not mx.allclose(
        served.loaded.model(tokens), load_model(base, dtype=mx.float32, adapter_path=adapter).model(tokens), atol=1e-3
    )
    plain = bases.serve(str(base), None)
    assert plain.loaded.model is not served.loaded.model
    assert mx.array_equal(plain.loaded.model(tokens), load_model(base, dtype=mx.float32).model(tokens))
