"""Steps whose loss or gradient is not finite, provoked by real overflow and by broken weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
import numpy as np
import pytest
from mlx_lm import load as mlx_lm_load

from harness import Frames, files, newest, numbers, of, questions, train, train_command, write_snapshot
from mlx_engine import platform
from mlx_engine.process import Engine
from mlx_engine.protocol import EngineError, Suspend
from mlx_engine.training import checkpoint
from mlx_engine.training.method import prepare
from mlx_engine.training.run import Run
from tiny import alter


@pytest.fixture(scope="module")
def model(chat: Path) -> Path:
    return chat


@pytest.fixture(scope="module")
def gap(model: Path, models: Path) -> Path:
    """A model that gives NaN for what holds a "~", and for nothing else."""

    def tear(weights: dict[str, mx.array]) -> None:
        _, tokenizer = mlx_lm_load(str(model))
        embedding = np.array(weights["model.embed_tokens.weight"])
        weights["lm_head.weight"] = mx.array(embedding)
        embedding[tokenizer.encode("~")[-1]] = math.nan
        weights["model.embed_tokens.weight"] = mx.array(embedding)

    return alter(model, models / "gap", tear, tie_word_embeddings=False)


def one_by_one(gaps: range, count: int = 20) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of which those in `gaps` hold a "~", and parameters that take them one a step in their order."""
    rows = questions(count)
    for i in gaps:
        rows[i]["messages"][0]["content"] = "~"
    return rows, {"dataset__batch_size": 1, "dataset__shuffle": False, "epochs": 1}


OVERSHOOT = {"learning_rate": 0.2, "lora__target_modules": ["gate_proj", "q_proj"], "epochs": 1}


def test_too_high_a_rate_is_halved_until_it_is_not(tmp_path: Path, edge: Path) -> None:
    """20 rows, 10 steps, so that it is the start that the run goes back to."""
    frames = train(train_command(tmp_path / "recovered", edge, questions(20), **OVERSHOOT))
    rollbacks = of(frames, "rollback")
    assert len(rollbacks) in (1, 2, 3)
    assert [r["step"] for r in rollbacks] == [0] * len(rollbacks)
    assert [r["learning_rate_scale"] for r in rollbacks] == [0.5, 0.25, 0.125][: len(rollbacks)]
    at = frames.index(rollbacks[0])
    assert [s["loss"] for s in of(frames[:at], "step")][-5:] == [None] * 5
    last = of(frames[:at], "step")[-1]["step"]
    assert rollbacks[0]["message"] == (
        f"After step {last}, 5 steps in a row had a loss or gradient that is not finite: training went back to the "
        "start, and takes 0.5 of the learning rate from step 1 on"
    )
    assert frames[-1]["outcome"] == "completed"

    # What has come out is what that rate would have given from the start.
    scale = rollbacks[-1]["learning_rate_scale"]
    gentle = OVERSHOOT | {"learning_rate": OVERSHOOT["learning_rate"] * scale}
    expected = train(train_command(tmp_path / "gentle", edge, questions(20), **gentle))
    assert numbers(frames[frames.index(rollbacks[-1]) :]) == numbers(expected)
    assert files(newest(tmp_path / "recovered")) == files(newest(tmp_path / "gentle"))


def test_a_run_that_keeps_failing_is_given_up(tmp_path: Path, model: Path) -> None:
    seen: list[dict[str, Any]] = []
    changes = {"method": "full", "lora": None, "learning_rate": 1e22, "warmup_ratio": 0.0}
    with pytest.raises(EngineError, match=r"after 3 returns to earlier steps.*learning_rate \(now 1e\+22\)") as error:
        train(train_command(tmp_path, model, questions(20), **changes), seen.append)
    assert error.value.kind == "non_finite"
    assert [r["learning_rate_scale"] for r in of(seen, "rollback")] == [0.5, 0.25, 0.125]
    assert [s["step"] for s in of(seen, "step")] == [1, 2, 3, 4, 5, 6] * 4
    assert len({s["loss"] for s in of(seen, "step") if s["step"] == 1}) == 1  # the base is back each time


def test_a_base_that_is_broken_is_given_up_at_once(tmp_path: Path, model: Path) -> None:
    def tear(weights: dict[str, mx.array]) -> None:
        weights["model.norm.weight"] = mx.full(weights["model.norm.weight"].shape, math.nan)

    seen: list[dict[str, Any]] = []
    with pytest.raises(EngineError, match=r"5 steps in a row.*generates sensible text") as error:
        train(train_command(tmp_path, alter(model, tmp_path / "broken", tear), questions(20)), seen.append)
    assert error.value.kind == "non_finite"
    assert [s["loss"] for s in of(seen, "step")] == [None] * 5
    assert [w["code"] for w in of(seen, "warning") if w["code"] != "full_logits"] == ["non_finite_step"] * 5
    assert not of(seen, "rollback")


def test_a_skipped_step_leaves_the_adapter_as_it_was(tmp_path: Path, gap: Path) -> None:
    rows, changes = one_by_one(range(1, 2), count=4)
    frames = train(train_command(tmp_path, gap, rows, save_steps=1, **changes))
    assert [s["loss"] is None for s in of(frames, "step")] == [False, True, False, False]
    assert frames[-1]["outcome"] == "completed"
    adapter = mx.load(str(tmp_path / "out" / "adapters.safetensors"))
    assert all(mx.isfinite(array).all().item() for array in adapter.values())


@pytest.mark.parametrize("save_steps", [1, 4, 7, None])
def test_where_it_goes_on_does_not_depend_on_checkpoints(tmp_path: Path, gap: Path, save_steps: int | None) -> None:
    """Five rows in a row that can't be learned, at the 24th step: back to the 20th, then to the 10th and the start."""
    rows, changes = one_by_one(range(23, 28), count=30)
    changes |= {"save_steps": save_steps, "learning_rate": 1e-2, "lr_scheduler_type": "constant", "warmup_ratio": 0.0}
    seen: list[dict[str, Any]] = []
    with pytest.raises(EngineError, match=r"After step 28, 5 steps in a row") as error:
        train(train_command(tmp_path, gap, rows, **changes), seen.append)
    assert error.value.kind == "non_finite"
    places = [at for at, frame in enumerate(seen) if frame["type"] == "rollback"]
    parts = [seen[start:end] for start, end in zip([0, *places], [*places, len(seen)], strict=True)]
    rates = [{s["step"]: s["learning_rate"] / 1e-2 for s in of(part, "step")} for part in parts]
    for part, halvings in zip(rates[1:], [[20], [10, 10], [0, 0, 0]], strict=True):
        assert part == {step: 0.5 ** sum(at < step for at in halvings) for step in part}
        assert max(part) == 28
    begins = [min(part) - 1 for part in rates[1:]]
    assert begins == [frame["step"] for frame in of(seen, "rollback")]
    # From a checkpoint where there is one: at most one more interval back.
    for begin, to in zip(begins, [20, 10, 0], strict=True):
        assert begin == (to if save_steps == 1 and to == 20 else begin) <= to
    if save_steps:
        assert begins[0] == 20 // save_steps * save_steps


def test_a_return_that_the_server_had_not_read_is_told_again(tmp_path: Path, gap: Path) -> None:
    """It died with the frames of the return, and of the two steps after, in the pipe."""
    rows, changes = one_by_one(range(23, 28), count=30)
    seen: list[dict[str, Any]] = []

    def suspend_after_the_return(frame: dict[str, Any]) -> Suspend | None:
        seen.append(frame)
        return Suspend() if frame["type"] == "step" and frame["step"] == 22 and of(seen, "rollback") else None

    command = train_command(tmp_path, gap, rows, save_steps=4, **changes)
    train(command, suspend_after_the_return)
    after = [frame for frame in seen[seen.index(of(seen, "rollback")[0]) :] if frame["type"] in ("rollback", "step")]
    assert [(frame["type"], frame["step"]) for frame in after] == [("rollback", 20), ("step", 21), ("step", 22)]

    for step, rollbacks, expected in [(26, 0, after), (15, 0, after), (21, 1, after[2:]), (22, 1, [])]:
        resumed = msgspec.structs.replace(command, resume=True, told_step=step, told_rollbacks=rollbacks)
        frames = train(resumed, lambda frame: Suspend() if frame["type"] == "prepared" else None)
        told = [frame for frame in frames if frame["type"] in ("rollback", "step")]
        earlier = [frame for frame in told if frame["type"] == "step" and step < frame["step"] <= 20]
        assert len(earlier) == max(0, 20 - step)
        assert told[len(earlier) :] == expected


def test_checkpoints_with_infinities_are_passed_over(tmp_path: Path, gap: Path) -> None:
    rows, changes = one_by_one(range(23, 28), count=30)
    spoiled = []

    def spoil() -> None:
        """The checkpoint of step 20, which the run would go back to, comes to hold an infinity."""
        folder = checkpoint.folder_of(tmp_path / "out" / "checkpoints", 20)
        manifest = checkpoint.verify(folder)
        weights = dict(mx.load(str(folder / "adapters.safetensors")))
        name = next(iter(weights))
        weights[name] = mx.full(weights[name].shape, math.inf)
        others = {"adapter_config.json": (folder / "adapter_config.json").read_bytes()}
        state = dict(mx.load(str(folder / checkpoint.OPTIMIZER)))
        mx.eval(weights, state)
        checkpoint.save(folder.parent, manifest, {"adapters.safetensors": weights, checkpoint.OPTIMIZER: state}, others)
        spoiled.append(folder)

    seen: list[dict[str, Any]] = []

    def watch(frame: dict[str, Any]) -> None:
        seen.append(frame)
        if frame["type"] == "step" and frame["step"] == 26 and not spoiled:
            spoil()

    with pytest.raises(EngineError):
        train(train_command(tmp_path, gap, rows, save_steps=10, **changes), watch)
    assert spoiled
    assert [r["step"] for r in of(seen, "rollback")] == [10, 10, 0]


@pytest.mark.parametrize(("best", "step"), [(2, 0), (3, 3), (None, 3)])
def test_goes_further_back_where_the_best_of_then_is_gone(
    tmp_path: Path, model: Path, best: int | None, step: int
) -> None:
    """Of 4 steps the newest two checkpoints are there. That of step 3 knows a best one, which a later has replaced."""
    command = train_command(tmp_path, model, questions(8), epochs=1, save_steps=1)
    train(command)
    folder = checkpoint.folder_of(tmp_path / "out" / "checkpoints", 3)
    progress = checkpoint.verify(folder).progress
    progress.validation.best_step = best
    checkpoint.update(folder, progress, {}, [])
    engine = Engine(Frames(lambda frame: None), platform.setup())
    run = Run(msgspec.structs.replace(command, resume=True), engine, prepare(command, engine.platform))
    assert run.progress.step == 4
    run.rewind(3, [3])
    assert (run.progress.step, run.progress.rate_halvings) == (step, [3])
    assert newest(tmp_path) == folder if step else not checkpoint.steps(folder.parent)


# ---- how a run has ended ----


def test_a_model_that_has_become_worse_is_told(tmp_path: Path, model: Path) -> None:
    full = {"method": "full", "lora": None, "learning_rate": 3e-3}
    base = of(train(train_command(tmp_path / "base", model, questions(20), **full)), "step")[-1]["loss"]
    changes = {"learning_rate": 300.0, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}
    frames = train(train_command(tmp_path / "tuned", tmp_path / "base" / "out", questions(20), **changes))
    assert of(frames, "step")[-1]["loss"] > 2 * base
    (warning,) = [w["message"] for w in of(frames, "warning") if w["code"] == "diverged"]
    assert f"the loss was {of(frames, 'step')[0]['loss']:.4g} before it" in warning
    assert frames[-1]["outcome"] == "completed"

    # With validation it is the best checkpoint that counts. Which step that is depends on the processor here:
    # if it is the last one, both are told of it.
    write_snapshot(tmp_path / "held.jsonl", questions(3))
    changes |= {"dataset__validation_path": str(tmp_path / "held.jsonl"), "eval_steps": 1}
    frames = train(train_command(tmp_path / "held", tmp_path / "base" / "out", questions(20), **changes))
    last_is_best = frames[-1]["best_step"] is None
    assert [w["code"] for w in of(frames, "warning")] == (["diverged", "no_gain"] if last_is_best else ["no_gain"])


def test_a_model_that_has_learned_is_not(tmp_path: Path, model: Path) -> None:
    frames = train(train_command(tmp_path, model, questions(20)))
    assert not of(frames, "warning")


def test_a_model_that_ends_with_no_finite_loss_goes_back(tmp_path: Path, edge: Path) -> None:
    """The last update is the one that is too large, so that no step is left to tell."""
    changes = OVERSHOOT | {"learning_rate": 1e4, "warmup_ratio": 0.0, "max_steps": 1}
    seen: list[dict[str, Any]] = []
    with pytest.raises(EngineError, match=r"After step 1, the finished model's loss is not finite, after 3 returns"):
        train(train_command(tmp_path, edge, questions(20), **changes), seen.append)
    assert [r["step"] for r in of(seen, "rollback")] == [0, 0, 0]
