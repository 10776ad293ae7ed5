"""Runs the trainer on tiny models, in this process or as the one that the server starts."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from engine_process import EngineProcess
from mlx_engine import platform
from mlx_engine.process import Engine
from mlx_engine.protocol import Channel, Command, Train
from mlx_engine.training.session import Training

Frame = dict[str, Any]


def row(sample: int, *turns: tuple[str, str], **extra: Any) -> dict[str, Any]:
    return {"sample": sample, "messages": [{"role": role, "content": content} for role, content in turns], **extra}


def questions(count: int) -> list[dict[str, Any]]:
    """Rows of differing lengths."""
    return [
        row(i, ("user", f"What is {i} and {i * 7}?"), ("assistant", "It is" + " so" * (1 + i * 3 % 17)))
        for i in range(count)
    ]


def write_snapshot(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def train_command(folder: Path, model: Path, rows: list[dict[str, Any]], **changes: Any) -> Train:
    """A run over `rows` with output in folder/out. Changes by name: `seed=1`, `lora__dropout=0.5`, `dataset__…`."""
    folder.mkdir(exist_ok=True)
    values: dict[str, Any] = {
        "type": "train",
        "job_id": "job_1",
        "attempt": 1,
        "experiment_name": "tiny",
        "model_path": str(model),
        "model_name": "tiny",
        "dataset": {
            "path": str(folder / "rows.jsonl"),
            "sha256": write_snapshot(folder / "rows.jsonl", rows),
            "format": "sharegpt",
            "validation_path": None,
            "validation_split": None,
            "batch_size": 2,
            "max_seq_length": 128,
            "shuffle": True,
            "loss_on": "completions",
            "truncation": "truncate",
            "packing": None,
            "cache_path": None,
        },
        "method": "lora",
        "lora": {
            "rank": 4,
            "alpha": 8.0,
            "dropout": 0.0,
            "target_modules": ["q_proj", "v_proj"],
            "use_rslora": False,
            "use_dora": False,
            "plus_ratio": 1.0,
            "layers": None,
        },
        "epochs": 2,
        "max_steps": None,
        "learning_rate": 1e-2,
        "optimizer": "adamw",
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0.1,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "gradient_accumulation_steps": 1,
        "seed": 7,
        "eval_steps": None,
        "early_stopping_patience": None,
        "early_stopping_threshold": 0.0,
        "load_best_model_at_end": True,
        "sample_prompts": [],
        "sample_steps": None,
        "sample_max_tokens": 16,
        "save_steps": None,
        "ranks": 1,
        "memory_level": 0,
        "output_dir": str(folder / "out"),
        "resume": False,
    }
    for name, value in changes.items():
        *path, last = name.split("__")
        target = values
        for part in path:
            target = target[part]
        target[last] = value
    return msgspec.convert(values, Train)


class Frames(Channel):
    """Keeps the frames instead of writing them, and asks on the sender's thread what to answer."""

    def __init__(self, answer: Callable[[Frame], None]) -> None:
        super().__init__()
        self._answer = answer
        self.frames: list[Frame] = []

    def send(self, frame: Any) -> None:
        with self._lock:
            self.frames.append(json.loads(msgspec.json.encode(frame)))
            self._answer(self.frames[-1])


def train(command: Train, on_frame: Callable[[Frame], Command | None] = lambda frame: None) -> list[Frame]:
    """Trains in this process and returns the frames. What `on_frame` returns is sent as a command."""

    def answer(frame: Frame) -> None:
        if (command := on_frame(frame)) is not None:
            engine.commands.put(command)
            for _ in range(1000):  # so that it is heard before the run goes on
                if engine.commands.empty():
                    break
                time.sleep(0.001)

    channel = Frames(answer)
    engine = Engine(channel, platform.setup())
    # No take-over, which would end this very process.
    Training(command, engine, grace=3600).run()
    return channel.frames


def start(command: Train) -> EngineProcess:
    """`python -m mlx_engine.train` as the server starts it."""
    process = EngineProcess("-m", "mlx_engine.train")
    process.send_line(msgspec.json.encode(command).decode())
    return process


def files(folder: Path) -> dict[str, bytes]:
    """What a checkpoint or result holds, by name; of a checkpoint without its manifest."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != "state.json"}


def newest(folder: Path) -> Path:
    """The last checkpoint of a run with output in folder/out."""
    return max((folder / "out" / "checkpoints").iterdir())


def of(frames: list[Frame], kind: str) -> list[Frame]:
    return [frame for frame in frames if frame["type"] == kind]


def numbers(frames: list[Frame]) -> list[tuple[Any, ...]]:
    """What training computed, step by step, without timings."""
    names = ("step", "epoch", "loss", "learning_rate", "grad_norm", "tokens", "trained_tokens", "processed_samples")
    return [tuple(frame[name] for name in names) for frame in of(frames, "step")]
