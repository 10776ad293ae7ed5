"""The training loop: steps, evaluations, checkpoints, and a frame for each of them."""

from __future__ import annotations

import math
import time

from mlx_engine.data.tokenize import Dataset
from mlx_engine.platform import memory_mb
from mlx_engine.process import Engine
from mlx_engine.protocol import EngineError, Eval, Step, Train
from mlx_engine.training.compute import Compute
from mlx_engine.training.control import Control
from mlx_engine.training.optimizer import global_norm, scaled
from mlx_engine.training.plan import Plan
from mlx_engine.training.run import Run
from mlx_engine.training.schedule import learning_rate, warmup_steps
from mlx_engine.training.speed import Meter

_CHECKPOINT_SECONDS = 60.0
_CHECKPOINT_SHARE = 0.05  # of the time at most, when save_steps is not given
_NON_FINITE_LIMIT = 5  # steps in a row
_SMOOTHING = 0.95  # of the loss: an exponential mean over about the last 20 steps


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
        self._compute = Compute(command, run.subject, engine.platform)
        self._warmup = warmup_steps(command.warmup_ratio, plan.total_steps)
        self._meter = Meter()
        self._saved_at = time.monotonic()
        if not self._compute.responses_only:
            engine.warn("full_logits", "this model's head cannot be run on its own, so logits are computed everywhere")

    def drive(self) -> None:
        self._run.subject.model.train()
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
        computed = self._compute.step(number, self._data, self._plan.micro_batches(number), self._control.check)
        gradients = computed.gradients
        computed.gradients = None
        loss, norm = computed.loss.item(), global_norm(gradients).item()
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
            progress.processed_samples += computed.rows
            progress.loss = loss if finite else progress.loss
            progress.non_finite = 0 if finite else progress.non_finite + 1
            if finite:
                progress.smooth(loss, _SMOOTHING)
            tokens, trained = computed.tokens, computed.trained
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
                    smoothed_loss=progress.smoothed_loss,
                    learning_rate=rate,
                    grad_norm=norm if finite else None,
                    tokens=tokens,
                    trained_tokens=trained,
                    tokens_per_second=round(tokens / seconds, 2),
                    trained_tokens_per_second=round(trained / seconds, 2),
                    padding_share=round(1 - tokens / computed.positions, 4),
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

        def check(done: int, total: int) -> None:
            self._control.check()
            self._engine.stage("evaluating", done, total)

        found = self._compute.evaluate(self._held_out, check)
        self._meter.evaluation_seconds = time.monotonic() - started
        progress.evaluated_step = progress.step
        if math.isfinite(found.loss):
            self._engine.channel.send(
                Eval(
                    step=progress.step,
                    loss=found.loss,
                    trained_tokens=found.trained,
                    perplexity=math.exp(min(found.loss, 700)),
                    token_accuracy=found.token_accuracy,
                    best=False,
                )
            )
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
