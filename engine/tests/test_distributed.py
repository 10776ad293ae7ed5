"""Training on several ranks: the result of one, the same bits each time, and an end that loses nothing.

Rank 0 is a process of its own here, since MLX forms one group in the life of a process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.numpy

from engine_process import EngineProcess
from harness import Frame, files, newest, numbers, of, questions, row, train, train_command, write_snapshot
from mlx_engine import platform
from mlx_engine.cores import usable_cores
from mlx_engine.protocol import EngineError, Train
from mlx_engine.training import compute
from test_ranks import wait_until_gone
from tiny import make_tiny_model

PROGRAM = str(Path(__file__).with_name("train_program.py"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    platform.setup()
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def start(command: Train) -> EngineProcess:
    process = EngineProcess(PROGRAM)
    process.send_line(msgspec.json.encode(command).decode())
    return process


def train_on_ranks(command: Train) -> list[Frame]:
    with start(command) as process:
        frames = list(process.frames())
        assert process.wait() == 0, (of(frames, "error"), process.log)
    return frames


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
    return [int(child) for child in found.split()]


def adapter(folder: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load_file(folder / "out" / "adapters.safetensors")


def command_in(tmp_path: Path, name: str, model: Path, rows: list[dict[str, Any]], **changes: Any) -> Train:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    if held_out := changes.pop("held_out", None):
        write_snapshot(folder / "held_out.jsonl", held_out)
        changes["dataset__validation_path"] = str(folder / "held_out.jsonl")
    return train_command(folder, model, rows, **changes)


# Eleven rows: a last batch of three, and with accumulation a last step of one batch.
RUNS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "accumulated, evaluated": (
        (2, 3),
        {
            "dataset__batch_size": 4,
            "gradient_accumulation_steps": 2,
            "held_out": questions(5),
            "weight_decay": 0.1,
        },
    ),
    "dropout, padded": ((2,), {"dataset__batch_size": 5, "lora__dropout": 0.3, "dataset__packing": False}),
    "dropout, packed": ((3,), {"dataset__batch_size": 5, "lora__dropout": 0.3, "dataset__packing": True}),
    "more ranks than rows": ((3,), {"dataset__batch_size": 1}),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_number_of_ranks_does_not_matter(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    numbers_of_ranks, changes = RUNS[name]
    commands = {
        ranks: command_in(tmp_path, str(ranks), model, questions(11), ranks=ranks, **dict(changes))
        for ranks in (1, *numbers_of_ranks)
    }
    monkeypatch.setattr(compute, "usable_cores", lambda: 4)  # as in PROGRAM
    alone = train(commands[1])
    for ranks in numbers_of_ranks:
        together = train_on_ranks(commands[ranks])
        assert of(together, "prepared")[0]["ranks"] == ranks
        np.testing.assert_allclose(numbers(together), numbers(alone), rtol=1e-5, atol=1e-6)
        for frame, expected in zip(of(together, "eval"), of(alone, "eval"), strict=True):
            assert frame["loss"] == pytest.approx(expected["loss"], rel=1e-5)
            assert frame["token_accuracy"] == expected["token_accuracy"]
        found, wanted = adapter(tmp_path / str(ranks)), adapter(tmp_path / "1")
        assert found.keys() == wanted.keys()
        for key in wanted:
            np.testing.assert_allclose(found[key], wanted[key], atol=1e-5)


def interrupt(command: Train, at_step: int, how: Callable[[EngineProcess], None]) -> list[Frame]:
    """Frames of a run that is broken off, by `how`, once it has done `at_step`."""
    with start(command) as process:
        frames = process.until("step", step=at_step)
        ranks = children(process.pid)
        assert len(ranks) == command.ranks - 1
        how(process)
        frames += list(process.frames())
        process.wait()
        wait_until_gone(ranks)
    return frames


def kill_a_follower(process: EngineProcess) -> None:
    os.kill(children(process.pid)[-1], signal.SIGKILL)


TWO = {"ranks": 2, "lora__dropout": 0.2, "dataset__batch_size": 4, "save_steps": 2, "epochs": 4}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path) -> tuple[Path, list[Frame]]:
    """The folder and frames of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = command_in(folder, "run", model, questions(19), held_out=questions(3), **TWO)
    return folder / "run", train_on_ranks(command)


@pytest.mark.parametrize(
    ("how", "ends"),
    [
        (lambda process: process.send("suspend"), "finished"),
        (kill_a_follower, "error"),
        (lambda process: process.interrupt(signal.SIGKILL), None),
    ],
    ids=["suspended", "a rank is killed", "rank 0 is killed"],
)
def test_an_interrupted_run_equals_an_uninterrupted_one(
    tmp_path: Path,
    model: Path,
    undisturbed: tuple[Path, list[Frame]],
    how: Callable[[EngineProcess], None],
    ends: str | None,
) -> None:
    broken = command_in(tmp_path, "broken", model, questions(19), held_out=questions(3), **TWO)
    frames = interrupt(broken, 7, how)
    if ends == "finished":
        assert frames[-1]["outcome"] == "suspended"
    elif ends == "error":
        assert frames[-1]["type"] == "error"
        assert frames[-1]["kind"] == "internal"
        assert "Rank 1 was killed by SIGKILL" in frames[-1]["message"]
    continued = train_on_ranks(msgspec.structs.replace(broken, resume=True))
    resumed = of(continued, "prepared")[0]["resumed_from_step"]
    assert resumed > 0
    folder, expected = undisturbed
    assert numbers(continued) == numbers(expected)[resumed:]
    assert files(newest(tmp_path / "broken")) == files(newest(folder))


def test_the_number_of_ranks_stays(tmp_path: Path, model: Path) -> None:
    command = command_in(tmp_path, "run", model, questions(8), ranks=2, save_steps=1, epochs=1)
    interrupt(command, 2, lambda process: process.send("suspend"))
    with pytest.raises(EngineError, match="ranks was 2, is 1") as caught:
        train(msgspec.structs.replace(command, ranks=1, resume=True))
    assert caught.value.kind == "invalid_parameters"


def test_a_long_step_is_left_by_all_ranks(tmp_path: Path) -> None:
    """The thread that takes over ends rank 0 with the last whole step, and the others end by themselves."""
    model = make_tiny_model(tmp_path / "model", num_hidden_layers=16)
    rows = [row(i, ("user", "Count."), ("assistant", " so" * (2000 if i > 1 else 4))) for i in range(20)]
    changes = {"dataset__batch_size": 2, "dataset__shuffle": False, "dataset__max_seq_length": 4096, "epochs": 1}
    frames = interrupt(
        command_in(tmp_path, "run", model, rows, ranks=2, **changes), 1, lambda process: process.send("stop")
    )
    assert frames[-1]["type"] == "finished"
    assert frames[-1]["outcome"] == "stopped"
    assert of(frames, "checkpoint")[-1]["step"] == frames[-1]["step"]


def test_a_token_weighs_the_same_on_every_rank(tmp_path: Path, model: Path) -> None:
    """mlx-lm takes the mean of the ranks' means, in which the 2 tokens of one rank's row weigh as much as the 40 of the
    other's."""
    rows = [row(0, ("user", "Count."), ("assistant", "b")), row(1, ("user", "Count."), ("assistant", " so" * 40))]
    each = []
    for i, single in enumerate(rows):
        frames = train(command_in(tmp_path, f"row {i}", model, [single], max_steps=1))
        (step,) = of(frames, "step")
        each.append((step["loss"], step["trained_tokens"]))
    (step,) = of(train_on_ranks(command_in(tmp_path, "both", model, rows, ranks=2, max_steps=1)), "step")
    tokens = sum(count for _, count in each)
    assert step["trained_tokens"] == tokens
    assert step["loss"] == pytest.approx(sum(loss * count for loss, count in each) / tokens, rel=1e-5)
    assert abs(step["loss"] - sum(loss for loss, _ in each) / 2) > 1e-3


def test_more_ranks_than_there_are_cores(tmp_path: Path, model: Path) -> None:
    command = command_in(tmp_path, "run", model, questions(2), ranks=usable_cores() + 1)
    with pytest.raises(EngineError, match=rf"ranks is \d+, but there are {usable_cores()} CPU cores") as caught:
        train(command)
    assert caught.value.kind == "invalid_parameters"


def test_one_ranks_error_is_told_once(tmp_path: Path, model: Path) -> None:
    command = command_in(tmp_path, "run", model, questions(4), ranks=2)
    Path(command.dataset.path).write_text(json.dumps({"not": "a row"}) + "\n")
    with start(command) as process:
        errors = of(list(process.frames()), "error")
        assert process.wait() == 1
    assert len(errors) == 1
    assert errors[0]["kind"] == "invalid_dataset"
