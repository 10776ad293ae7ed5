"""Runs that begin with the weights of an earlier adapter."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from harness import Frame, Frames, files, newest, numbers, of, questions, train, train_command, write_snapshot
from mlx_engine import platform
from mlx_engine.process import Engine
from mlx_engine.protocol import EngineError, Suspend, Train
from mlx_engine.training.method import prepare
from mlx_engine.training.run import Run

METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"lora__use_dora": True},
    "qlora": {"method": "qlora"},
    "rslora": {"lora__use_rslora": True, "lora__layers": 1},
}


def make(folder: Path, model: Path, **changes: Any) -> Train:
    folder.mkdir(exist_ok=True)
    write_snapshot(folder / "held.jsonl", questions(7))
    changes = {"dataset__validation_path": str(folder / "held.jsonl"), "load_best_model_at_end": False} | changes
    return train_command(folder, model, questions(13), **changes)


@pytest.fixture(scope="module")
def adapter(chat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    train(make(folder, chat))
    return folder / "out"


@pytest.mark.parametrize("method", METHODS)
def test_it_begins_where_the_other_ended(tmp_path: Path, chat: Path, method: str) -> None:
    first = train(make(tmp_path / "first", chat, **METHODS[method]))
    again = train(
        make(tmp_path / "again", chat, initial_adapter=str(tmp_path / "first" / "out"), seed=8, **METHODS[method])
    )
    began, ended = of(again, "eval")[0], of(first, "eval")[-1]
    assert (began["step"], began["loss"]) == (0, ended["loss"])
    assert ended["loss"] < 0.9 * of(first, "eval")[0]["loss"]  # it had learned something
    assert all(frame["ok"] for frame in of(again, "verified"))


def test_its_first_step_has_the_adapters_loss(tmp_path: Path, chat: Path, adapter: Path) -> None:
    """Over all rows at once, as the evaluation of the adapter is."""
    shutil.copy(adapter.parent / "rows.jsonl", tmp_path / "rows.jsonl")
    whole = {"dataset__batch_size": 13, "epochs": 1, "initial_adapter": str(adapter)}
    frames = train(make(tmp_path, chat, dataset__validation_path=str(tmp_path / "rows.jsonl"), **whole))
    step, evaluated = of(frames, "step")[0], of(frames, "eval")[0]
    assert evaluated["step"] == 0
    assert step["loss"] == pytest.approx(evaluated["loss"], rel=1e-5)
    fresh = train(make(tmp_path, chat, dataset__batch_size=13, epochs=1))
    assert step["loss"] < 0.9 * of(fresh, "step")[0]["loss"]


def test_interrupted_it_comes_to_the_same(tmp_path: Path, chat: Path, adapter: Path) -> None:
    options = {"initial_adapter": str(adapter), "lora__dropout": 0.3, "save_steps": 3}
    expected = train(make(tmp_path / "whole", chat, **options))

    def suspend(frame: Frame) -> Suspend | None:
        return Suspend() if frame["type"] == "step" and frame["step"] == 5 else None

    began = train(make(tmp_path / "parts", chat, **options), suspend)
    moved = shutil.copytree(adapter, tmp_path / "moved")  # its content counts, not its place
    options["initial_adapter"] = str(moved)
    frames = began + train(make(tmp_path / "parts", chat, **options, resume=True))
    assert numbers(frames) == numbers(expected)
    assert files(newest(tmp_path / "parts")) == files(newest(tmp_path / "whole"))


def test_it_is_not_resumed_with_other_weights(tmp_path: Path, chat: Path, adapter: Path) -> None:
    train(make(tmp_path / "run", chat, initial_adapter=str(adapter), epochs=1))
    with pytest.raises(EngineError, match=r"initial adapter was [0-9a-f]{64}, is None") as error:
        train(make(tmp_path / "run", chat, epochs=1, resume=True))
    assert error.value.kind == "invalid_parameters"
    with pytest.raises(EngineError, match=r"initial adapter was [0-9a-f]{64}, is [0-9a-f]{64}"):
        train(make(tmp_path / "run", chat, initial_adapter=str(tmp_path / "run" / "out"), epochs=1, resume=True))


def test_a_recovery_to_the_start_goes_back_to_it(tmp_path: Path, chat: Path, adapter: Path) -> None:
    engine = Engine(Frames(lambda frame: None), platform.setup())
    command = make(tmp_path, chat, initial_adapter=str(adapter))
    run = Run(command, engine, prepare(command, engine.platform))
    weights = mx.load(str(adapter / "adapters.safetensors"))
    for name, array in run.subject.weights().items():
        assert mx.array_equal(array, weights[name])
    run.subject.model.load_weights([(name, array + 1) for name, array in weights.items()], strict=False)
    run.rewind(0, [])
    for name, array in run.subject.weights().items():
        assert mx.array_equal(array, weights[name])


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"lora__rank": 8, "lora__alpha": 16.0}, r"its rank is 4, the run's is 8; .*lora_a has the shape \(64, 4\)"),
        ({"lora__alpha": 16.0}, r"its scale .* is 2\.0, the run's is 4\.0"),
        ({"lora__use_dora": True}, r"its kind is lora, the run's is dora; it has no weights for .*q_proj\.m"),
        ({"lora__target_modules": ["q_proj"]}, r"it has weights for model\.layers\.0\.self_attn\.v_proj"),
        ({"lora__layers": 1}, r"it has weights for model\.layers\.0"),
    ],
)
def test_adapters_of_another_shape_are_refused(
    tmp_path: Path, chat: Path, adapter: Path, changes: dict[str, Any], differs: str
) -> None:
    with pytest.raises(EngineError, match=differs) as error:
        train(make(tmp_path, chat, initial_adapter=str(adapter), **changes))
    assert error.value.kind == "invalid_parameters"
    assert str(adapter) in str(error.value)


def test_what_is_no_adapter_is_refused(tmp_path: Path, chat: Path, adapter: Path) -> None:
    with pytest.raises(EngineError, match=r"adapters\.safetensors is missing") as error:
        train(make(tmp_path, chat, initial_adapter=str(chat)))
    assert error.value.kind == "invalid_model"
    with pytest.raises(EngineError, match="begins with a whole model"):
        train(make(tmp_path, chat, initial_adapter=str(adapter), method="full", lora=None))
