"""Two attempts at one run: the older one, stopped wherever it may be, writes nothing when it wakes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from engine_process import EngineProcess
from harness import files, newest, of, questions, start, train, train_command
from mlx_engine.protocol import EngineError, Train
from mlx_engine.training import checkpoint, lease
from mlx_engine.training.lease import Lease
from tiny import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("lease") / "model")


def grant(folder: Path, token: str) -> None:
    """As the server does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".lease.new").write_text(token)
    (folder / ".lease.new").rename(folder / lease.FILE)


def command(folder: Path, model: Path, token: str, **changes: object) -> Train:
    grant(folder / "out", token)
    return train_command(folder, model, questions(20), save_steps=2, epochs=1, lease=token, **changes)


def stop_at(failpoint: str, given: Train, monkeypatch: pytest.MonkeyPatch) -> EngineProcess:
    """A process that has stopped itself there."""
    monkeypatch.setenv("MLX_TRAINING_FAILPOINTS", f"{failpoint}=stop")
    process = start(given)
    monkeypatch.delenv("MLX_TRAINING_FAILPOINTS")
    while not stopped(process.pid):
        time.sleep(0.02)
    return process


def stopped(pid: int) -> bool:
    if os.path.exists(f"/proc/{pid}/stat"):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T")
    return os.popen(f"ps -o state= -p {pid}").read().startswith("T")


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "failpoint",
    ["tensors.write@3", "tensors.synced@4", "checkpoint.written@2", "checkpoint.renamed@2", "result.written@2"],
)
def test_a_stale_process_changes_nothing(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, failpoint: str
) -> None:
    with stop_at(failpoint, command(tmp_path, model, "first"), monkeypatch) as stale:
        train(command(tmp_path, model, "second", resume=True))
        before = everything(tmp_path / "out")
        os.kill(stale.pid, signal.SIGCONT)
        errors = of(list(stale.frames()), "error")
        assert stale.wait() == 1
        assert [error["kind"] for error in errors] == ["lease_lost"] or "FileNotFoundError" in stale.log
        assert everything(tmp_path / "out") == before
    straight = tmp_path / "straight"
    train(train_command(straight, model, questions(20), save_steps=2, epochs=1))
    result = {name: data for name, data in files(tmp_path / "out").items() if name != lease.FILE}
    assert result == files(straight / "out")
    assert files(newest(tmp_path)) == files(newest(straight))


def test_a_new_attempt_waits_for_a_write_that_has_begun(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stop_at("lease.checked@3", command(tmp_path, model, "first"), monkeypatch) as stale:
        grant(tmp_path / "out", "second")
        monkeypatch.setattr(lease, "_WAIT_SECONDS", 0.2)
        with pytest.raises(EngineError, match="An earlier process still writes"):
            Lease(tmp_path / "out", "second").begin()
        os.kill(stale.pid, signal.SIGCONT)
        monkeypatch.undo()
        Lease(tmp_path / "out", "second").begin()
        assert of(list(stale.frames()), "error")[0]["kind"] == "lease_lost"


@pytest.mark.parametrize("content", [None, "", "second"])
def test_without_its_token_a_run_does_not_begin(tmp_path: Path, model: Path, content: str | None) -> None:
    given = command(tmp_path, model, "first")
    path = tmp_path / "out" / lease.FILE
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(EngineError, match="lost its lease") as raised:
        train(given)
    assert raised.value.kind == "lease_lost"
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_an_interrupted_write_is_swept_away(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for attempt, place in enumerate(("tensors.write@3", "checkpoint.written@2", "result.written@1")):
        monkeypatch.setenv("MLX_TRAINING_FAILPOINTS", f"{place}=kill")
        with start(command(tmp_path, model, str(attempt), resume=attempt > 0)) as process:
            assert process.wait() == -signal.SIGKILL
        assert list((tmp_path / "out").rglob(".*.tmp"))
    train(command(tmp_path, model, "last", resume=True))
    assert not list((tmp_path / "out").rglob(".*.tmp"))
    assert all(checkpoint.verify(path) for path in checkpoint.steps(tmp_path / "out" / "checkpoints"))
