"""Evaluations of a run on its held-out rows: the whole set, in a fixed order, without a trace in the training."""

from __future__ import annotations

import math
import time

from mlx_engine.data.tokenize import Dataset
from mlx_engine.process import Engine
from mlx_engine.protocol import Eval, Train
from mlx_engine.training.compute import Compute
from mlx_engine.training.control import Control
from mlx_engine.training.plan import Plan
from mlx_engine.training.run import Run

_LARGEST_EXPONENT = 700.0  # e^709 is the end of float64


class Evaluation:
    """Before the first step, every eval_steps and at the end; nothing at all without held-out rows."""

    def __init__(
        self,
        command: Train,
        engine: Engine,
        control: Control,
        run: Run,
        plan: Plan,
        compute: Compute,
        held_out: Dataset | None,
    ) -> None:
        self._threshold = command.early_stopping_threshold
        self._engine = engine
        self._control = control
        self._run = run
        self._compute = compute
        self._held_out = held_out
        self._cadence = plan.cadence(command.eval_steps)
        self._seconds = 0.0  # that the last one took

    def run_if_due(self) -> None:
        """Once for every step that it is due at. Raises Ended when `control` says so."""
        progress = self._run.progress
        validation = progress.validation
        if self._held_out is None or validation.step == progress.step or not self._cadence.due(progress.step):
            return
        started = time.monotonic()
        found = self._compute.evaluate(self._held_out, self._check)
        self._seconds = time.monotonic() - started
        with self._control.lock:
            best = validation.add(progress.step, found.loss, self._threshold)
            if validation.loss is None:
                self._engine.warn("non_finite_eval", f"The validation loss after step {progress.step} is not finite")
                return
            self._run.told.tell(
                Eval(
                    step=progress.step,
                    loss=found.loss,
                    trained_tokens=found.trained,
                    perplexity=math.exp(min(found.loss, _LARGEST_EXPONENT)),
                    token_accuracy=found.token_accuracy,
                    best=best,
                )
            )

    def seconds_left(self) -> float:
        """Of the evaluations to come, that at the present step among them."""
        if self._held_out is None:
            return 0.0
        progress = self._run.progress
        due_now = progress.validation.step != progress.step and self._cadence.due(progress.step)
        return (due_now + self._cadence.left(progress.step)) * self._seconds

    def _check(self, done: int, total: int) -> None:
        self._control.check()
        self._engine.stage("evaluating", done, total)
