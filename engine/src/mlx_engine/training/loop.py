"""The training loop: steps, evaluations, checkpoints, and a frame for each of them."""

from __future__ import annotations

import math
import time
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_engine.data.batches import Batch, collate, evaluation_batches, pieces
from mlx_engine.data.tokenize import Dataset
from mlx_engine.platform import memory_mb
from mlx_engine.process import Engine
from mlx_engine.protocol import EngineError, Eval, Step, Train
from mlx_engine.training.control import Control
from mlx_engine.training.loss import Loss, arrays
from mlx_engine.training.optimizer import add, global_norm, scaled
from mlx_engine.training.plan import Plan
from mlx_engine.training.run import Run
from mlx_engine.training.schedule import learning_rate, warmup_steps
from mlx_engine.training.speed import Meter

_CHECKPOINT_SECONDS = 60.0
_CHECKPOINT_SHARE = 0.05  # of the time at most, when save_steps is not given
_NON_FINITE_LIMIT = 5  # steps in a row
# On a CPU a batch is computed in pieces of this many tokens, because it costs no time there (SmolLM2-135M: 9.2 CPU
# seconds per 1,000 tokens with 1 row of 256, 9.8 with 4 in one piece) and much less memory (4 rows of 512: 1.5 GB for
# 4.5; 4 of 2048: 8 for 30).
_CPU_PIECE_TOKENS = 1024


class Loop:
    """Drives `run` from where it is to its end. Raises Ended when `control` says so."""

    def __init__(
        self,
        command: Train,
        engine: Engine,
        control: Control,
        run: Run,
        plan: Plan,
        data: Dataset,
        held_out: Dataset | None,
    ) -> None:
        self._command = command
        self._engine = engine
        self._control = control
        self._run = run
        self._plan = plan
        self._data = data
        self._held_out = held_out
        self._model = run.subject.model
        self._pad = run.subject.loaded.tokenizer.pad_token_id or 0
        self._loss = Loss(self._model)
        self._gradients = nn.value_and_grad(self._model, lambda batch, share: self._loss(*batch) * share)
        self._warmup = warmup_steps(command.warmup_ratio, plan.total_steps)
        self._meter = Meter()
        self._piece_tokens = _CPU_PIECE_TOKENS if engine.platform.on_cpu else None
        self._saved_at = time.monotonic()
        if not self._loss.responses_only:
            engine.warn("full_logits", "this model's head cannot be run on its own, so logits are computed everywhere")

    def drive(self) -> None:
        self._model.train()
        self._evaluate()
        while self._run.progress.step < self._plan.total_steps:
            self._step()
            step = self._run.progress.step
            if self._plan.ends_epoch(step):
                self._evaluate()
                self._save()
            elif self._due(step):
                self._save()

    # ---- one step ----

    def _step(self) -> None:
        run, progress = self._run, self._run.progress
        number = progress.step
        started = time.monotonic()
        batches = [batch for rows in self._plan.micro_batches(number) for batch in self._collate(self._data, rows)]
        trained = sum(len(batch.targets) for batch in batches)
        loss, norm, gradients = self._accumulate(number, batches, trained)
        rate = learning_rate(
            number,
            peak=self._command.learning_rate,
            total_steps=self._plan.total_steps,
            warmup=self._warmup,
            kind=self._command.lr_scheduler_type,
        )
        finite = math.isfinite(loss) and math.isfinite(norm)
        limit = self._command.max_grad_norm
        with self._control.lock:
            if finite:
                run.update(scaled(gradients, limit / norm) if 0 < limit < norm else gradients, rate)
            del gradients
            progress.step += 1
            progress.processed_samples += sum(batch.rows for batch in batches)
            progress.loss = loss if finite else progress.loss
            progress.non_finite = 0 if finite else progress.non_finite + 1
            tokens = sum(batch.tokens for batch in batches)
            seconds = time.monotonic() - started
            self._meter.add(tokens, seconds)
            if not finite:
                self._engine.warn(
                    "non_finite_step", f"Step {number + 1} was skipped: its loss or gradient is not finite"
                )
            self._engine.channel.send(
                Step(
                    step=progress.step,
                    epoch=self._plan.place(number).epoch + 1,
                    loss=loss if finite else None,
                    learning_rate=rate,
                    grad_norm=norm if finite else None,
                    tokens=tokens,
                    trained_tokens=trained,
                    tokens_per_second=round(tokens / seconds, 2),
                    trained_tokens_per_second=round(trained / seconds, 2),
                    processed_samples=progress.processed_samples,
                    memory_mb=memory_mb(),
                    seconds_remaining=self._remaining(progress.step),
                )
            )
        if progress.non_finite >= _NON_FINITE_LIMIT:
            raise EngineError(
                "non_finite",
                f"{_NON_FINITE_LIMIT} steps in a row, up to {progress.step}, had a loss or gradient that isn't finite. "
                f"Lower learning_rate (now {self._command.learning_rate:g}), keep max_grad_norm above 0, and check "
                "that the base model generates sensible text",
            )

    def _accumulate(self, step: int, batches: list[Batch], trained: int) -> tuple[float, float, Any]:
        """Loss (mean over the step's supervised tokens), norm of its gradient, and the gradient, not clipped.

        Every token weighs the same, whichever micro-batch it is in. Dropout is drawn from the seed and the place in
        the run, so that a step done again is the same step.
        """
        total, gradients = mx.array(0.0), None
        for i, batch in enumerate(batches):
            self._control.check()
            mx.random.seed(_derived_seed(self._command.seed, step, i))
            loss, gradient = self._gradients(arrays(batch), 1 / trained)
            total = total + loss
            gradients = gradient if gradients is None else add(gradients, gradient)
            mx.eval(total, gradients)
        norm = global_norm(gradients).item()
        self._control.check()
        return total.item(), norm, gradients

    # ---- evaluation and checkpoints ----

    def _evaluate(self) -> None:
        """Loss over the held-out rows, at the start and where an epoch or the run ends, once for each."""
        progress = self._run.progress
        if (
            self._held_out is None
            or progress.evaluated_step == progress.step
            or not self._plan.ends_epoch(progress.step)
        ):
            return
        started = time.monotonic()
        batches = evaluation_batches(self._held_out.lengths, self._command.dataset.batch_size)
        total = 0.0
        self._model.eval()
        for done, rows in enumerate(batches):
            self._control.check()
            self._engine.stage("evaluating", done, len(batches))
            for batch in self._collate(self._held_out, rows):
                total += self._loss(*arrays(batch)).item()
        self._model.train()
        self._meter.evaluation_seconds = time.monotonic() - started
        trained = self._held_out.trained_tokens
        progress.evaluated_step = progress.step
        if math.isfinite(total):
            self._engine.channel.send(Eval(step=progress.step, loss=total / trained, trained_tokens=trained))
        else:
            self._engine.warn("non_finite_eval", f"The held-out loss after step {progress.step} is not finite")

    def _due(self, step: int) -> bool:
        if self._command.save_steps is not None:
            return step % self._command.save_steps == 0
        pause = max(_CHECKPOINT_SECONDS, self._run.save_seconds / _CHECKPOINT_SHARE)
        return time.monotonic() - self._saved_at >= pause

    def _save(self) -> None:
        with self._control.lock:
            self._run.save()
        self._saved_at = time.monotonic()

    def _remaining(self, step: int) -> float | None:
        tokens = (self._plan.total_steps - step) * self._plan.tokens_per_step
        evaluations = 0 if self._held_out is None else self._plan.evaluations_left(step)
        return self._meter.remaining(tokens, evaluations)

    def _collate(self, data: Dataset, rows: np.ndarray) -> list[Batch]:
        """A batch, in the pieces that are computed at a time."""
        parts = pieces(rows, data.lengths, self._piece_tokens)
        return [collate([data.examples[i] for i in part], self._pad) for part in parts]


def _derived_seed(*position: int) -> int:
    """64 bits for mx.random.seed from the run's seed and a place in it."""
    return int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0])
