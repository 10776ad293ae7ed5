"""The training loop: steps, what is due between them, and a frame for each step."""

from __future__ import annotations

import math
import time

from mlx_engine.data.tokenize import Dataset
from mlx_engine.failpoints import failpoint
from mlx_engine.process import Engine
from mlx_engine.protocol import Step, Train
from mlx_engine.training.ceding import Ceding
from mlx_engine.training.compute import Compute
from mlx_engine.training.control import Control
from mlx_engine.training.ending import first_rows_loss, worse
from mlx_engine.training.evaluation import Evaluation
from mlx_engine.training.optimizer import global_norm, scaled
from mlx_engine.training.plan import Plan
from mlx_engine.training.recovery import Recovery
from mlx_engine.training.run import Run
from mlx_engine.training.samples import Samples
from mlx_engine.training.schedule import learning_rate, warmup_steps
from mlx_engine.training.speed import Meter, Pace

# Without save_steps. Beside other work, hashing, writing and syncing took 0.05 s for 11 MB (LoRA, r 8) and 16 s for
# 1.6 GB (all of SmolLM2-135M).
_CHECKPOINT_SECONDS = 60.0
_CHECKPOINT_SHARE = 0.02  # of the time
_CHECKPOINT_BYTES_PER_SECOND = 300e6
_NON_FINITE_LIMIT = 5  # steps in a row
_SMOOTHING = 0.95  # of the loss: an exponential mean over about the last 20 steps


class Loop:
    """Drives `run` from where it is to its end."""

    def __init__(
        self,
        command: Train,
        engine: Engine,
        control: Control,
        run: Run,
        plan: Plan,
        data: Dataset,
        held_out: Dataset | None,
        compute: Compute,
        ceding: Ceding,
    ) -> None:
        self._command = command
        self._engine = engine
        self._control = control
        self._run = run
        self._plan = plan
        self._data = data
        self._compute = compute
        self._ceding = ceding
        self._ceded = 0.0  # seconds that steps have told of
        self._evaluation = Evaluation(command, engine, control, run, plan, self._compute, held_out)
        self._samples = Samples(command, engine, control, run, plan)
        self._recovery = Recovery(command, engine, control, run, plan)
        self._warmup = warmup_steps(command.warmup_ratio, plan.total_steps)
        self._meter = Meter()
        self._checkpoints = Pace(
            time.monotonic(),
            pause=_CHECKPOINT_SECONDS,
            share=_CHECKPOINT_SHARE,
            estimate=run.checkpoint_bytes / _CHECKPOINT_BYTES_PER_SECOND,
        )

    def drive(self) -> str | None:
        """Returns why it ended before its last step, if it did. Raises Ended when `control` says so, and
        EngineError('non_finite') when no model can be got out of it."""
        self._run.subject.model.train()
        while True:
            if self._run.progress.non_finite >= _NON_FINITE_LIMIT:
                self._recovery.go_back(f"{_NON_FINITE_LIMIT} steps in a row had a loss or gradient that is not finite")
            self._between_steps()
            if not self._over:
                self._step()
            elif self._ends_well():
                return self._early_stop
            else:
                self._recovery.go_back("the finished model's loss is not finite")

    def _ends_well(self) -> bool:
        """Whether the result has a finite loss; says so when it is no better than the base."""
        progress, validation = self._run.progress, self._run.progress.validation
        if not self._command.load_best_model_at_end or validation.best_step in (None, progress.step):
            # The result is what the model is now.
            loss = first_rows_loss(self._compute, self._plan, self._data, self._control.check)
            if not math.isfinite(loss):
                return progress.first_loss is None  # then the base had none on these rows either
            if told := worse(progress.first_loss, loss):
                self._engine.warn("diverged", told)
        if told := validation.no_gain():
            self._engine.warn("no_gain", told)
        return True

    @property
    def _early_stop(self) -> str | None:
        command = self._command
        return self._run.progress.validation.early_stop(
            command.early_stopping_patience, command.early_stopping_threshold
        )

    @property
    def _over(self) -> bool:
        return self._run.progress.step >= self._plan.total_steps or self._early_stop is not None

    # ---- one step ----

    def _step(self) -> None:
        failpoint("step.begun")
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
        ) * progress.rate_scale(number)
        finite = math.isfinite(loss) and math.isfinite(norm)
        limit = self._command.max_grad_norm
        with self._control.lock:
            if finite:
                run.update(scaled(gradients, limit / norm) if 0 < limit < norm else gradients, rate)
            del gradients
            progress.step += 1
            progress.processed_samples += computed.rows
            if finite:
                progress.add(loss, _SMOOTHING)
                progress.anchor = self._plan.anchor(progress.step)
            else:
                progress.non_finite += 1
            tokens, trained = computed.tokens, computed.trained
            seconds = time.monotonic() - started
            self._meter.add(tokens, seconds)
            if not finite:
                self._engine.warn(
                    "non_finite_step", f"Step {number + 1} was skipped: its loss or gradient is not finite"
                )
            run.told.tell(
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
                    padding_share=round(1 - (tokens - computed.rows) / computed.positions, 4),
                    processed_samples=progress.processed_samples,
                    memory_mb=run.group.memory_mb(),
                    seconds_remaining=self._remaining(progress.step),
                    ceded_seconds=self._newly_ceded(),
                )
            )

    def _newly_ceded(self) -> float:
        """Seconds since the last step told of them, evaluations between the two included."""
        before, self._ceded = self._ceded, self._ceding.seconds
        return round(self._ceded - before, 3)

    # ---- between steps ----

    def _between_steps(self) -> None:
        """What is due after so many steps. Steps are not disturbed by any of it: they draw their random numbers from
        their place in the run."""
        self._evaluation.run_if_due()
        self._samples.run_if_due(ending=self._over)
        validation, step = self._run.progress.validation, self._run.progress.step
        if step > 0 and (validation.best_step == step or self._save_due(step)):
            started = time.monotonic()
            with self._control.lock:
                self._run.save()
            self._checkpoints.done(time.monotonic(), time.monotonic() - started)

    def _save_due(self, step: int) -> bool:
        every = self._command.save_steps
        return step % every == 0 if every else self._checkpoints.due(time.monotonic())

    def _remaining(self, step: int) -> float | None:
        steps = self._meter.remaining((self._plan.total_steps - step) * self._plan.tokens_per_step)
        if steps is None:
            return None
        return round(steps + self._evaluation.seconds_left() + self._samples.seconds_left(), 1)
