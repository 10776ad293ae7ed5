"""Evaluation, the best checkpoint, early stopping and samples on whole runs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from harness import files, newest, numbers, of, questions, row, train, train_command, write_snapshot
from mlx_engine.protocol import EngineError, Stop, Train
from mlx_engine.training import checkpoint
from mlx_engine.training.plan import Cadence
from mlx_engine.training.validation import Validation

# Held-out rows of another kind than the training rows: their loss falls for a few steps and rises from then on.
OTHER = [row(i, ("user", f"Who is {i}?"), ("assistant", "The capital of France is Paris.")) for i in range(3)]
WORSENING = {"held": OTHER, "lr_scheduler_type": "constant", "eval_steps": 1, "max_grad_norm": 0.0}


@pytest.fixture(scope="module")
def model(chat: Path) -> Path:
    return chat


def command(folder: Path, model: Path, held: list[dict[str, Any]] | None = None, **changes: Any) -> Train:
    folder.mkdir(exist_ok=True)
    write_snapshot(folder / "held.jsonl", held or questions(3))
    changes = {"dataset__validation_path": str(folder / "held.jsonl"), **changes}
    return train_command(folder, model, questions(8), **changes)


def saved_steps(folder: Path) -> list[int]:
    return [checkpoint.step_of(path) for path in checkpoint.steps(folder / "out" / "checkpoints")]


def adapter(folder: Path) -> bytes:
    return (folder / "adapters.safetensors").read_bytes()


def result(folder: Path) -> bytes:
    return adapter(folder / "out")


# ---- when ----


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [0, 4, 8]),
        ({"eval_steps": 3}, [0, 3, 6, 8]),
        ({"max_steps": 3}, [0, 3]),
        ({"eval_steps": 100}, [0, 8]),
    ],
)
def test_evaluates_at_the_start_in_between_and_at_the_end(
    tmp_path: Path, model: Path, changes: dict[str, Any], expected: list[int]
) -> None:
    frames = train(command(tmp_path, model, held=questions(1), **changes))  # fewer rows than a batch
    evaluations = of(frames, "eval")
    assert [e["step"] for e in evaluations] == expected
    assert evaluations[-1]["loss"] < evaluations[0]["loss"]
    for e in evaluations:
        assert e["perplexity"] == pytest.approx(math.exp(e["loss"]))
        assert 0 <= e["token_accuracy"] <= 1
    assert of(frames, "prepared")[0]["validation_samples"] == 1


def test_evaluations_and_samples_change_no_bit_of_the_training(tmp_path: Path, model: Path) -> None:
    results = []
    for name, changes in {
        "none": {"dataset__validation_path": None},
        "epochs": {},
        "often": {
            "eval_steps": 1,
            "sample_prompts": ["What is 3?"],
            "sample_steps": 2,
            "load_best_model_at_end": False,
        },
    }.items():
        frames = train(command(tmp_path / name, model, lora__dropout=0.3, **changes))
        results.append((numbers(frames), files(newest(tmp_path / name))))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(("every", "total"), [(1, 7), (3, 7), (7, 7), (10, 7), (2, 8)])
def test_a_cadence_knows_how_often_it_is_still_due(every: int, total: int) -> None:
    cadence = Cadence(every, total)
    for step in range(total + 1):
        assert cadence.left(step) == sum(cadence.due(later) for later in range(step + 1, total + 1))


# ---- the best ----


def test_the_best_checkpoint_is_kept_and_published(tmp_path: Path, model: Path) -> None:
    frames = train(command(tmp_path, model, **WORSENING))
    evaluations = of(frames, "eval")
    trained = {e["step"]: e["loss"] for e in evaluations if e["step"] > 0}
    best = min(trained, key=trained.__getitem__)
    assert best < 6  # neither the last nor among the newest
    lowest = math.inf
    for e in evaluations[1:]:
        assert e["best"] == (e["loss"] < lowest)
        lowest = min(lowest, e["loss"])
    assert not evaluations[0]["best"]
    assert frames[-1]["best_step"] == best
    assert best in saved_steps(tmp_path)
    saved = [c for c in of(frames, "checkpoint") if c["best"]]
    assert [c["step"] for c in saved] == [e["step"] for e in evaluations if e["best"]]
    assert all(c["validation_loss"] == trained[c["step"]] for c in saved)
    assert result(tmp_path) == adapter(checkpoint.folder_of(tmp_path / "out" / "checkpoints", best))

    last = tmp_path / "last"
    frames = train(command(last, model, load_best_model_at_end=False, **WORSENING))
    assert frames[-1]["best_step"] is None
    assert result(last) == adapter(newest(last)) != result(tmp_path)


def test_a_lost_best_checkpoint_leaves_the_last(tmp_path: Path, model: Path) -> None:
    best = train(command(tmp_path, model, **WORSENING))[-1]["best_step"]
    folder = checkpoint.folder_of(tmp_path / "out" / "checkpoints", best)
    (folder / "adapters.safetensors").write_bytes(b"")
    frames = train(command(tmp_path, model, resume=True, **WORSENING))
    assert frames[-1]["best_step"] is None
    assert [w["code"] for w in of(frames, "warning")].count("checkpoint_damaged") == 1
    assert result(tmp_path) == adapter(newest(tmp_path))


def test_a_stopped_run_publishes_what_it_last_was(tmp_path: Path, model: Path) -> None:
    changes = WORSENING | {"epochs": 100}  # the command takes a moment to be heard
    frames = train(command(tmp_path, model, **changes), lambda f: Stop() if f.get("step") == 6 else None)
    assert frames[-1]["outcome"] == "stopped"
    assert frames[-1]["best_step"] is None


def test_a_run_that_did_not_help_says_so(tmp_path: Path, model: Path) -> None:
    frames = train(command(tmp_path, model, held=OTHER, learning_rate=0.3, max_grad_norm=0.0))
    base, *trained = [e["loss"] for e in of(frames, "eval")]
    assert base < min(trained)
    (warning,) = [w["message"] for w in of(frames, "warning") if w["code"] == "no_gain"]
    assert f"{base:.4g} before it and {min(trained):.4g} at best" in warning


# ---- early stopping ----


def test_early_stopping_ends_a_run_as_completed(tmp_path: Path, model: Path) -> None:
    changes = WORSENING | {"epochs": 3, "early_stopping_patience": 3, "sample_prompts": ["What is 3?"]}
    frames = train(command(tmp_path, model, **changes))
    losses = {e["step"]: e["loss"] for e in of(frames, "eval")}
    best, last = min(losses, key=losses.__getitem__), max(losses)
    assert last == best + 3 < of(frames, "prepared")[0]["total_steps"]
    finished = frames[-1]
    assert (finished["outcome"], finished["step"], finished["best_step"]) == ("completed", last, best)
    assert finished["reason"] == (
        f"Early stopping: the validation loss has not fallen below {losses[best]:.4g} (step {best}) in 3 evaluations"
    )
    assert of(frames, "sample")[-1]["step"] == last

    again = train(command(tmp_path, model, resume=True, **changes))
    assert of(again, "step") == []
    assert again[-1] == finished


def record(losses: list[float], threshold: float = 0.0) -> Validation:
    validation = Validation()
    for step, loss in enumerate(losses):
        validation.add(step, loss, threshold)
    return validation


def test_patience_wants_more_than_the_threshold_and_counts_the_base() -> None:
    assert record([2.0, 2.1, 2.2]).waited == 2
    assert record([2.0, 1.95, 1.93], threshold=0.1).waited == 2
    slow = record([2.0, 1.95, 1.89], threshold=0.1)
    assert (slow.waited, slow.mark) == (0, 1.89)  # a slow fall counts once it has come to that much
    text = record([2.0, 1.95], threshold=0.1).early_stop(1, 0.1)
    assert text == (
        "Early stopping: the validation loss has not fallen below 2 (step 0) by more than 0.1 in 1 evaluation"
    )
    assert record([2.0, 1.9]).early_stop(1, 0.0) is None


def test_losses_that_are_not_finite_are_never_the_best() -> None:
    validation = record([math.nan, math.inf, math.nan])
    assert (validation.best_step, validation.mark, validation.waited) == (None, None, 3)
    assert "was not finite in 3 evaluations" in (validation.early_stop(3, 0.0) or "")
    assert validation.no_gain() is None
    validation = record([2.0, math.nan, 1.5])
    assert (validation.best_step, validation.best_loss) == (2, 1.5)


# ---- samples ----


def test_samples_show_the_base_beside_the_model_in_training(tmp_path: Path, model: Path) -> None:
    prompts = ["What is 3 and 21?", "What is 1 and 7?"]
    changes = {"sample_prompts": prompts, "learning_rate": 0.05, "epochs": 6, "sample_max_tokens": 8}
    frames = train(train_command(tmp_path, model, questions(8), **changes))
    samples = of(frames, "sample")
    assert [(s["step"], s["prompt"]) for s in samples] == [(e, p) for e in range(4, 25, 4) for p in prompts]
    assert len({s["base"] for s in samples if s["prompt"] == prompts[0]}) == 1
    assert samples[-1]["base"] != samples[-1]["tuned"]
    assert " so so" in samples[-1]["tuned"]


def test_sample_steps(tmp_path: Path, model: Path) -> None:
    changes = {"sample_prompts": ["Hello?"], "sample_steps": 3, "sample_max_tokens": 2}
    frames = train(train_command(tmp_path, model, questions(8), **changes))
    assert [s["step"] for s in of(frames, "sample")] == [3, 6, 8]


def test_a_prompt_that_does_not_fit_is_refused_by_its_number(tmp_path: Path, model: Path) -> None:
    changes = {"sample_prompts": ["Hello?", "so " * 4000]}
    with pytest.raises(EngineError, match=r"sample_prompts\[1\].*context window") as error:
        train(train_command(tmp_path, model, questions(2), **changes))
    assert error.value.kind == "context_length"
