"""A training process from start to end: load, tokenise, train, finish."""

from __future__ import annotations

import time
from pathlib import Path

import mlx.core as mx

from mlx_engine.data.rows import read_rows
from mlx_engine.data.tokenize import Dataset, tokenize
from mlx_engine.process import Engine
from mlx_engine.protocol import Finished, Prepared, Train
from mlx_engine.training import checkpoint
from mlx_engine.training.control import GRACE_SECONDS, Control, Ended, Outcome
from mlx_engine.training.loop import Loop
from mlx_engine.training.method import prepare
from mlx_engine.training.plan import Plan
from mlx_engine.training.run import Run

_STAGE_SECONDS = 0.5
# Keeping freed buffers buys nothing on a CPU: the same steps took 17 CPU seconds with 3 GB, 256 MB and none of them.
_CPU_CACHE_BYTES = 256 << 20


class Training:
    """`run` it once, on the main thread. It ends with a Finished frame, or raises."""

    def __init__(self, command: Train, engine: Engine, grace: float = GRACE_SECONDS) -> None:
        self._command = command
        self._engine = engine
        self._run: Run | None = None
        self._reason: str | None = None  # why it ended before its last step
        self._control = Control(engine, self._finish, grace)

    def run(self) -> None:
        outcome: Outcome = "completed"
        try:
            self._train()
        except Ended as ended:
            outcome = ended.outcome
        self._control.end(outcome)

    def _train(self) -> None:
        """The model and the checkpoint to continue from come before the data, so that a stop while a large data set
        is tokenised has something to save."""
        command, engine = self._command, self._engine
        if engine.platform.on_cpu:
            mx.set_cache_limit(_CPU_CACHE_BYTES)
        engine.stage("loading_model")
        subject = prepare(command, engine.platform)
        run = Run(command, engine, subject)
        self._run = run
        data = self._tokenize(command.dataset.path, command.dataset.sha256)
        path = command.dataset.validation_path
        held_out = self._tokenize(path, None) if path else None
        plan = Plan(command, data)
        engine.channel.send(
            Prepared(
                total_steps=plan.total_steps,
                steps_per_epoch=plan.steps_per_epoch,
                resumed_from_step=run.progress.step,
                samples=len(data.examples),
                samples_dropped=len(data.dropped),
                samples_truncated=len(data.truncated),
                tokens=data.tokens,
                trained_tokens=data.trained_tokens,
                validation_samples=len(held_out.examples) if held_out else 0,
                trainable_params=subject.trainable_params,
                total_params=subject.total_params,
                target_modules=subject.target_modules,
                packing=False,
                lanes=1,
                ranks=1,
            )
        )
        self._reason = Loop(command, engine, self._control, run, plan, data, held_out).drive()

    def _tokenize(self, path: str, sha256: str | None) -> Dataset:
        told = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal told
            self._control.check()
            if done == total or time.monotonic() - told > _STAGE_SECONDS:
                told = time.monotonic()
                self._engine.stage("tokenizing", done, total)

        loaded = self._run.subject.loaded
        limit = min(self._command.dataset.max_seq_length, loaded.context_length or self._command.dataset.max_seq_length)
        data = tokenize(
            read_rows(path, sha256),
            loaded.tokenizer,
            max_seq_length=limit,
            date=self._run.date,
            progress=progress,
        )
        for code, message in data.warnings:
            self._engine.warn(code, message)
        return data

    def _finish(self, outcome: Outcome) -> None:
        """Also on Control's thread. Before the model is there, nothing is written."""
        step, loss, best_step = 0, None, None
        if self._run is not None:
            step, loss = self._run.progress.step, self._run.progress.loss
            published = self._run.publish(best=outcome == "completed" and self._command.load_best_model_at_end)
            best_step = published if published != step else None
        elif self._command.resume and (folders := checkpoint.steps(Path(self._command.output_dir) / "checkpoints")):
            step = checkpoint.step_of(folders[0])
        self._engine.channel.send(
            Finished(outcome=outcome, step=step, loss=loss, best_step=best_step, reason=self._reason)
        )
