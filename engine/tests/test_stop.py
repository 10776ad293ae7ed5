"""Stopping a process whose steps take far longer than the five seconds it has."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import pytest
from mlx_lm import load as mlx_lm_load

from harness import of, row, start, train_command
from mlx_engine.training import checkpoint
from tiny import make_tiny_model


@pytest.mark.parametrize(("command", "outcome"), [("stop", "stopped"), ("suspend", "suspended")])
def test_ends_in_the_middle_of_a_long_step(tmp_path: Path, command: str, outcome: str) -> None:
    """Long steps: 4,000 tokens through 16 layers, half a minute on two cores, without a look at the commands."""
    model = make_tiny_model(tmp_path / "model", num_hidden_layers=16)
    rows = [row(i, ("user", "Count."), ("assistant", " so" * (2000 if i else 4))) for i in range(20)]
    changes = {"dataset__batch_size": 1, "dataset__shuffle": False, "dataset__max_seq_length": 4096, "epochs": 1}
    with start(train_command(tmp_path, model, rows, **changes)) as process:
        before = process.until("step")
        process.send(command)
        after = list(process.frames())
        assert process.wait() == 0
    assert before[-1]["step"] == 1
    assert after[-1]["type"] == "finished"
    assert after[-1]["outcome"] == outcome
    step = after[-1]["step"]
    assert of(after, "checkpoint")[-1]["step"] == step
    if mx.default_device() == mx.Device(mx.cpu):
        assert step == 1  # the long step was left where it was

    folder = checkpoint.steps(tmp_path / "out" / "checkpoints")[0]
    assert checkpoint.verify(folder).progress.step == step
    adapted, tokenizer = mlx_lm_load(str(model), adapter_path=str(tmp_path / "out"))
    base, _ = mlx_lm_load(str(model))
    prompt = mx.array([tokenizer.encode("Count.")])
    assert not mx.array_equal(adapted(prompt), base(prompt))


def test_the_middle_of_a_step_leaves_no_trace(tmp_path: Path) -> None:
    """What is saved then is, byte for byte, what the run saves after its last whole step."""
    model = make_tiny_model(tmp_path / "model", num_hidden_layers=16)
    rows = [row(i, ("user", "Count."), ("assistant", " so" * (2000 if i else 4))) for i in range(20)]
    changes = {"dataset__batch_size": 1, "dataset__shuffle": False, "dataset__max_seq_length": 4096, "epochs": 1}
    saved = {}
    for name, save_steps in (("stopped", None), ("undisturbed", 1)):
        folder = tmp_path / name
        folder.mkdir()
        with start(train_command(folder, model, rows, save_steps=save_steps, lora__dropout=0.2, **changes)) as process:
            if name == "stopped":
                process.until("step")
                process.send("stop")
            path = Path(process.until("checkpoint")[-1]["path"])
            saved[name] = {f.name: f.read_bytes() for f in path.iterdir() if f.name != checkpoint.MANIFEST}
    if mx.default_device() == mx.Device(mx.cpu):
        assert saved["stopped"] == saved["undisturbed"]
