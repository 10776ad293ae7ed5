"""The result of a run, loaded as for generation and compared with its base and with the trainer's loss."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from harness import Frame, newest, of, questions, row, train, train_command, write_snapshot
from mlx_engine.models import record
from mlx_engine.protocol import Command, Stop, Suspend
from mlx_engine.training import session, verify
from mlx_engine.training.describe import system_prompt
from serve_client import prompt_length
from tiny import CHATML, make_tiny_model

METHODS = {
    "lora": {"lora__dropout": 0.3},
    "dora": {"lora__use_dora": True, "lora__use_rslora": True, "lora__layers": 1},
    "qlora": {"method": "qlora"},
    "full": {"method": "full", "lora": None, "learning_rate": 1e-3},
}


def run(
    tmp_path: Path, model: Path, on_frame: Callable[[Frame], Command | None] = lambda frame: None, **changes: Any
) -> tuple[list[Frame], Frame]:
    """A whole run, and its verified frame, which comes right before the end."""
    frames = train(train_command(tmp_path, model, changes.pop("rows", questions(12)), **changes), on_frame)
    verified, finished = [frame for frame in frames if frame["type"] != "stage"][-2:]
    assert (verified["type"], finished["type"]) == ("verified", "finished")
    assert not (tmp_path / "out" / ".verifying").exists()
    return frames, verified


def said(folder: Path) -> dict[str, Any]:
    file = next(folder / name for name in (record.ADAPTER_FILE, record.MODEL_FILE) if (folder / name).is_file())
    return json.loads(file.read_text())


@pytest.fixture
def before_loading(monkeypatch) -> Callable[[Callable[[Path], None]], None]:
    """Lets a test change what a run has published before it is loaded."""
    original = session.verify

    def install(change: Callable[[Path], None]) -> None:
        def meddle(command: Any, platform: Any, output: Path, *rest: Any) -> Any:
            change(output)
            return original(command, platform, output, *rest)

        monkeypatch.setattr(session, "verify", meddle)

    return install


# ---- what is alive ----


@pytest.mark.parametrize(
    ("method", "packed"),
    [(method, packed) for method in METHODS for packed in (False, True) if not (packed and method == "full")],
)
def test_a_result_is_served_with_the_loss_that_training_had(tmp_path: Path, method: str, packed: bool) -> None:
    model = make_tiny_model(tmp_path / "model", quantized=packed)
    _, verified = run(tmp_path, model, **METHODS[method])
    assert verified["ok"], verified["message"]
    assert verified["serving_loss"] == pytest.approx(verified["trainer_loss"], rel=2e-6)
    assert verified["logit_difference"] > 0.1
    stored = said(tmp_path / "out")["serving_verified"]
    assert stored | {"type": "verified"} == verified | {"rows": 8, "trained_tokens": stored["trained_tokens"]}
    assert "serving_verified" not in said(newest(tmp_path))


@pytest.mark.parametrize("model_type", ["qwen2", "gemma2"])
def test_other_architectures_and_long_held_out_rows(tmp_path: Path, model_type: str) -> None:
    """Rows of more than a chunk, the first supervised token behind it."""
    model = make_tiny_model(tmp_path / "model", model_type=model_type)
    held = [row(i, ("user", "word " * 90), ("assistant", f"It is {i}. " * 40)) for i in range(3)]
    write_snapshot(tmp_path / "held.jsonl", held)
    changes = {"dataset__validation_path": str(tmp_path / "held.jsonl"), "dataset__max_seq_length": 1024}
    _, verified = run(tmp_path, model, **changes)
    assert verified["ok"], verified["message"]
    assert verified["serving_loss"] == pytest.approx(verified["trainer_loss"], rel=1e-5)
    assert said(tmp_path / "out")["serving_verified"]["trained_tokens"] == 3 * 32


def test_the_best_model_is_what_is_looked_at(tmp_path: Path, chat: Path) -> None:
    """As in test_evaluation: the held-out loss rises from some step on."""
    held = [row(i, ("user", f"Who is {i}?"), ("assistant", "The capital of France is Paris.")) for i in range(3)]
    write_snapshot(tmp_path / "held.jsonl", held)
    frames, verified = run(
        tmp_path,
        chat,
        dataset__validation_path=str(tmp_path / "held.jsonl"),
        lr_scheduler_type="constant",
        eval_steps=1,
        max_grad_norm=0.0,
    )
    losses = [frame["loss"] for frame in of(frames, "eval")]
    assert frames[-1]["best_step"] is not None
    assert verified["ok"], verified["message"]
    assert verified["trainer_loss"] == pytest.approx(min(losses[1:]), rel=1e-5) != losses[-1]


def test_a_stopped_run_is_looked_at_too_a_suspended_one_is_not(tmp_path: Path, chat: Path) -> None:
    def at_step_3(command: Command) -> Callable[[Frame], Command | None]:
        return lambda frame: command if frame["type"] == "step" and frame["step"] == 3 else None

    frames, verified = run(tmp_path, chat, at_step_3(Stop()), epochs=500)
    assert frames[-1]["outcome"] == "stopped"
    assert verified["ok"], verified["message"]
    command = train_command(tmp_path, chat, questions(12), epochs=500)
    frames = train(command, at_step_3(Suspend()))
    assert frames[-1]["outcome"] == "suspended"
    assert not of(frames, "verified")


def test_a_run_that_is_through_gives_way_when_it_is_asked_to_end(tmp_path: Path, chat: Path) -> None:
    def at_its_end(frame: Frame) -> Command | None:
        return Suspend() if frame.get("stage") == "verifying" else None

    frames = train(train_command(tmp_path, chat, questions(300), epochs=1, max_steps=2), at_its_end)
    assert frames[-1]["outcome"] == "completed"
    assert (tmp_path / "out" / "adapters.safetensors").is_file()


def test_the_trainer_is_gone_before_the_result_is_loaded(tmp_path: Path, chat: Path, before_loading) -> None:
    import mlx_lm.models.llama

    def models() -> int:
        return sum(isinstance(thing, mlx_lm.models.llama.Model) for thing in gc.get_objects())

    gc.collect()
    before = models()
    there = []
    before_loading(lambda output: there.append(models()))
    run(tmp_path, chat)
    assert there == [before]


# ---- what is not ----


def test_a_result_that_changes_nothing_is_told(tmp_path: Path, chat: Path, before_loading) -> None:
    def zero(output: Path) -> None:
        weights = mx.load(str(output / "adapters.safetensors"))
        mx.eval(weights)
        (output / "adapters.safetensors").unlink()
        mx.save_safetensors(
            str(output / "adapters.safetensors"), {name: mx.zeros_like(array) for name, array in weights.items()}
        )

    before_loading(zero)
    _, verified = run(tmp_path, chat)
    assert not verified["ok"]
    assert "changes nothing: its logits are the base's" in verified["message"]
    assert verified["logit_difference"] == 0
    assert said(tmp_path / "out")["serving_verified"]["ok"] is False


def test_a_result_that_is_served_otherwise_than_trained_is_told(tmp_path: Path, chat: Path, before_loading) -> None:
    def louder(output: Path) -> None:
        config = said(output)
        config["lora_parameters"]["scale"] *= 1.5
        (output / "adapter_config.json").unlink()
        (output / "adapter_config.json").write_text(json.dumps(config))

    before_loading(louder)
    _, verified = run(tmp_path, chat)
    assert not verified["ok"]
    assert "so it will not answer as trained" in verified["message"]
    assert abs(verified["serving_loss"] - verified["trainer_loss"]) > 1e-3


def test_numbers_that_are_not_finite_are_null(tmp_path: Path, chat: Path, before_loading) -> None:
    def poison(output: Path) -> None:
        weights = mx.load(str(output / "adapters.safetensors"))
        mx.eval(weights)
        (output / "adapters.safetensors").unlink()
        mx.save_safetensors(
            str(output / "adapters.safetensors"), {name: array * float("nan") for name, array in weights.items()}
        )

    before_loading(poison)
    _, verified = run(tmp_path, chat)
    assert (verified["ok"], verified["logit_difference"], verified["serving_loss"]) == (False, None, None)
    assert "not finite" in verified["message"]


def test_a_result_that_cannot_be_loaded_is_told_and_stays(tmp_path: Path, before_loading, monkeypatch) -> None:
    model = make_tiny_model(tmp_path / "model")
    before_loading(lambda output: shutil.rmtree(model))
    _, verified = run(tmp_path, model)
    nothing = {"logit_difference": None, "serving_loss": None, "trainer_loss": None}
    assert verified == {"type": "verified", "ok": False, "message": verified["message"], **nothing}
    assert verified["message"] == f"The result could not be loaded as for generation: {model}: no such folder"
    assert (tmp_path / "out" / "adapters.safetensors").is_file()


def test_no_more_is_loaded_than_there_is_memory_for(tmp_path: Path, chat: Path, monkeypatch) -> None:
    monkeypatch.setattr(verify, "available_bytes", lambda: 1000)
    _, verified = run(tmp_path, chat)
    assert not verified["ok"]
    assert "it takes about 0.0 GB, and 0.0 are available" in verified["message"]


def test_an_attempt_that_ended_the_engine_is_not_made_again(tmp_path: Path, chat: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".verifying").touch()
    _, verified = run(tmp_path, chat)
    assert not verified["ok"]
    assert "an earlier attempt ended in the middle of it" in verified["message"]
    _, verified = run(tmp_path, chat)
    assert verified["ok"]


# ---- what generation is told ----


def test_what_is_stored_is_what_generation_goes_by(tmp_path: Path, client) -> None:
    model = make_tiny_model(tmp_path / "model")
    rows = [row(i, ("system", "Be terse."), ("user", f"What is {i}?"), ("assistant", f"It is {i}.")) for i in range(12)]
    frames, _ = run(tmp_path, model, rows=rows, sample_prompts=["Hi"], sample_max_tokens=8)
    for folder in (tmp_path / "out", newest(tmp_path)):
        told = said(folder)
        assert told["prompt_format"] == "chat_template"
        assert told["chat_template_sha256"] == record.template_sha256(CHATML)
        assert told["tokenizer_sha256"] == record.tokenizer_sha256(model)
        assert told["stop_tokens"] == [{"id": 2, "text": "<|im_end|>"}]
        assert told["system_prompt"] == "Be terse."
        assert told["base_quantize_bits"] is None
        assert (folder / "chat_template.jinja").read_text() == CHATML
    done = client.ask(model, "Hi", adapter_path=str(tmp_path / "out"))
    text = "<|im_start|>system\nBe terse.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert done["prompt_tokens"] == prompt_length(model, text, add_special_tokens=False)
    shown = of(frames, "sample")[-1]
    assert client.ask(model, "Hi", adapter_path=str(tmp_path / "out"), max_tokens=8)["text"] == shown["tuned"]
    system = [{"role": "system", "content": "Be terse."}, {"role": "user", "content": "Hi"}]
    assert client.ask(model, messages=system, max_tokens=8)["text"] == shown["base"] != shown["tuned"]
    content = json.loads((model / "tokenizer.json").read_text())
    content["model"]["merges"].pop()
    (model / "tokenizer.json").write_text(json.dumps(content))
    kind, message = client.refused(model, adapter_path=str(tmp_path / "out"))
    assert (kind, "another tokenizer" in message) == ("invalid_model", True)


def test_a_fully_trained_model_says_it_too(tmp_path: Path, chat: Path) -> None:
    run(tmp_path, chat, **METHODS["full"])
    told = json.loads((tmp_path / "out" / "training.json").read_text())
    assert told["serving_verified"]["ok"]
    assert told["stop_tokens"] == [{"id": 2, "text": "<|im_end|>"}]
    assert (told["method"], told["model"], told["system_prompt"]) == ("full", "tiny", None)


def test_qlora_over_an_unpacked_base_says_how_it_was_packed(tmp_path: Path, chat: Path) -> None:
    run(tmp_path, chat, method="qlora")
    assert said(tmp_path / "out")["base_quantize_bits"] == 4


def test_rows_that_end_without_an_end_token_are_told(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", chat_template=False)
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": None}))
    frames, verified = run(tmp_path, model)
    assert verified["ok"], verified["message"]
    assert "no_stop_token" in [frame["code"] for frame in of(frames, "warning")]
    told = said(tmp_path / "out")
    assert (told["stop_tokens"], told["prompt_format"], told["chat_template_sha256"]) == ([], "sharegpt", None)


@pytest.mark.parametrize(
    ("systems", "shared"),
    [(["a", "a"], "a"), (["a", "b"], None), (["a", None], None), ([None, "a"], None), ([None, None], None), ([], None)],
)
def test_only_a_system_prompt_of_all_rows_is_shared(tmp_path: Path, systems: list[str | None], shared) -> None:
    rows = [
        row(i, *([("system", system)] if system else []), ("user", "?"), ("assistant", "!"))
        for i, system in enumerate(systems)
    ]
    write_snapshot(tmp_path / "rows.jsonl", rows)
    assert system_prompt(tmp_path / "rows.jsonl") == shared
