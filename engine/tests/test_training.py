"""Whole runs on tiny models: frames, results, exact resume, errors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm import load as mlx_lm_load

from harness import newest, of, questions, row, train, train_command
from mlx_engine.protocol import EngineError, Stop
from tiny import make_tiny_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def test_frames_of_a_run(tmp_path: Path, model: Path) -> None:
    frames = train(train_command(tmp_path, model, questions(7), dataset__batch_size=2, epochs=2))
    assert [f["type"] for f in frames if f["type"] not in ("stage", "alive")] == (
        ["prepared"] + ["step"] * 8 + ["checkpoint", "verified", "finished"]
    )
    (prepared,) = of(frames, "prepared")
    assert prepared["steps_per_epoch"] == 4  # the last batch has one row, and is not dropped
    assert prepared["total_steps"] == 8
    assert prepared["samples"] == 7
    assert prepared["target_modules"] == ["q_proj", "v_proj"]
    assert prepared["trainable_params"] == 2 * 4 * (64 + 64 + 64 + 32)
    steps = of(frames, "step")
    assert [s["step"] for s in steps] == list(range(1, 9))
    assert [s["epoch"] for s in steps] == [1] * 4 + [2] * 4
    assert steps[-1]["processed_samples"] == 14
    assert sum(s["tokens"] for s in steps) == 2 * prepared["tokens"]
    assert sum(s["trained_tokens"] for s in steps) == 2 * prepared["trained_tokens"]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert all(s["seconds_remaining"] >= 0 and s["memory_mb"] > 0 and s["tokens_per_second"] > 0 for s in steps)
    assert frames[-1] == {
        "type": "finished",
        "outcome": "completed",
        "step": 8,
        "loss": steps[-1]["loss"],
        "best_step": None,
        "reason": None,
    }


def test_mlx_lm_loads_the_adapter(tmp_path: Path, model: Path) -> None:
    train(train_command(tmp_path, model, questions(6), lora__target_modules=["all-linear"]))
    adapted, tokenizer = mlx_lm_load(str(model), adapter_path=str(tmp_path / "out"))
    base, _ = mlx_lm_load(str(model))
    prompt = mx.array([tokenizer.encode("What is 3?")])
    assert mx.abs(adapted(prompt) - base(prompt)).max().item() > 1e-2
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["lora_parameters"]["scale"] == 2.0
    assert config["num_layers"] == 2
    weights = mx.load(str(tmp_path / "out" / "adapters.safetensors"))
    assert weights["model.layers.0.mlp.down_proj.lora_a"].shape == (128, 4)
    assert weights["model.layers.0.mlp.down_proj.lora_b"].shape == (4, 64)
    assert not any("lm_head" in name for name in weights)


def test_full_fine_tuning_gives_a_whole_model(tmp_path: Path, model: Path) -> None:
    command = train_command(
        tmp_path, model, questions(6), method="full", lora=None, learning_rate=1e-3, weight_decay=0.1
    )
    frames = train(command)
    (prepared,) = of(frames, "prepared")
    assert prepared["trainable_params"] == prepared["total_params"]
    losses = [s["loss"] for s in of(frames, "step")]
    assert losses[-1] < losses[0]
    tuned, tokenizer = mlx_lm_load(str(tmp_path / "out"))
    base, _ = mlx_lm_load(str(model))
    prompt = mx.array([tokenizer.encode("What is 3?")])
    assert mx.abs(tuned(prompt) - base(prompt)).max().item() > 1e-3
    assert not mx.array_equal(tuned.model.norm.weight, base.model.norm.weight)


def test_full_fine_tuning_refuses_a_quantised_base(tmp_path: Path) -> None:
    packed = make_tiny_model(tmp_path / "packed", quantized=True)
    with pytest.raises(EngineError, match=r"use_lora or lora\.use_qlora") as error:
        train(train_command(tmp_path, packed, questions(2), method="full", lora=None))
    assert error.value.kind == "invalid_parameters"


@pytest.mark.parametrize("quantized", [True, False])
def test_qlora_trains_over_packed_weights(tmp_path: Path, quantized: bool) -> None:
    base = make_tiny_model(tmp_path / "base", quantized=quantized)
    frames = train(train_command(tmp_path, base, questions(6), method="qlora"))
    losses = [s["loss"] for s in of(frames, "step")]
    assert losses[-1] < losses[0]
    (prepared,) = of(frames, "prepared")
    plain = of(train(train_command(tmp_path, base, questions(6), epochs=1)), "prepared")[0]
    assert prepared["total_params"] == plain["total_params"]
    assert set(mx.load(str(tmp_path / "out" / "adapters.safetensors"))) == {
        f"model.layers.{i}.self_attn.{name}.lora_{x}" for i in range(2) for name in ("q_proj", "v_proj") for x in "ab"
    }


@pytest.mark.parametrize("model_type", ["qwen2", "gemma", "gemma2", "qwen3"])
def test_other_architectures(tmp_path: Path, model_type: str) -> None:
    base = make_tiny_model(tmp_path / "base", model_type=model_type)
    frames = train(train_command(tmp_path, base, questions(4)))
    losses = [s["loss"] for s in of(frames, "step")]
    assert losses[-1] < losses[0]
    assert not of(frames, "warning")


# ---- what can go wrong ----


def test_a_model_whose_logits_are_more_than_its_head_s_trains_by_its_own_and_says_so(tmp_path: Path) -> None:
    """Cohere scales them, as Granite does."""
    extra = {"logit_scale": 0.25, "layer_norm_eps": 1e-5}
    base = make_tiny_model(tmp_path / "base", model_type="cohere", **extra)
    frames = train(train_command(tmp_path, base, questions(7)))
    assert [w["code"] for w in of(frames, "warning")] == ["full_logits"]
    (prepared,) = of(frames, "prepared")
    assert prepared["packing"]
    assert of(frames, "verified")[0]["ok"]
    steps = of(frames, "step")
    assert steps[-1]["loss"] < steps[0]["loss"]


def test_a_folder_whose_name_would_be_a_pattern(tmp_path: Path, model: Path) -> None:
    named = Path(shutil.copytree(model, tmp_path / "a[b]*"))
    before = Path.cwd()
    assert of(train(train_command(tmp_path, named, questions(3), max_steps=1)), "verified")[0]["ok"]
    assert Path.cwd() == before


def test_unknown_target_module_lists_what_there_is(tmp_path: Path, model: Path) -> None:
    with pytest.raises(EngineError, match=r'"c_attn".*down_proj, gate_proj.*"all-linear"') as error:
        train(train_command(tmp_path, model, questions(2), lora__target_modules=["q_proj", "c_attn"]))
    assert error.value.kind == "invalid_parameters"


def test_stop_before_the_first_step_leaves_the_initial_adapter(tmp_path: Path, model: Path) -> None:
    frames = train(
        train_command(tmp_path, model, questions(400)),
        lambda frame: Stop() if frame.get("stage") == "tokenizing" and frame["done"] == 0 else None,
    )
    assert frames[-1]["type"] == "finished"
    assert frames[-1]["outcome"] == "stopped"
    base, tokenizer = mlx_lm_load(str(model))
    adapted, _ = mlx_lm_load(str(model), adapter_path=str(tmp_path / "out"))
    prompt = mx.array([tokenizer.encode("What is 3?")])
    if frames[-1]["step"] == 0:
        assert mx.array_equal(adapted(prompt), base(prompt))
    assert newest(tmp_path).name == f"step-{frames[-1]['step']:08d}"


def test_a_row_with_nothing_to_learn_is_dropped(tmp_path: Path, model: Path) -> None:
    rows = [*questions(3), row(3, ("user", "Hello?"))]
    frames = train(train_command(tmp_path, model, rows, epochs=1))
    assert of(frames, "prepared")[0]["samples_dropped"] == 1
    assert of(frames, "warning")[0]["message"] == "1 row (sample 3) dropped: it has no assistant turn"
    with pytest.raises(EngineError, match="no row can be trained on") as error:
        train(train_command(tmp_path, model, rows[3:]))
    assert error.value.kind == "invalid_dataset"
