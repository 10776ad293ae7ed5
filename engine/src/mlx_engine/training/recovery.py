"""Steps that are not finite: skipped, and when they repeat, done again from further back at a lower learning rate.

Where the run goes back to must not depend on which checkpoints happen to exist: those are written by the clock, and at
every interruption. So a recovery decides from which step on the rate is halved, a function of the steps alone; it goes
on from whatever checkpoint is not after that, and the steps in between come out as they had before.
"""

from __future__ import annotations

from mlx_engine.process import Engine
from mlx_engine.protocol import EngineError, Rollback, Train
from mlx_engine.training.control import Control
from mlx_engine.training.plan import Plan
from mlx_engine.training.run import Run

_ROLLBACKS = 3


class Recovery:
    def __init__(self, command: Train, engine: Engine, control: Control, run: Run, plan: Plan) -> None:
        self._learning_rate = command.learning_rate
        self._engine = engine
        self._control = control
        self._run = run
        self._plan = plan

    def go_back(self, why: str) -> None:
        """Raises EngineError('non_finite') when it has been tried often enough, or can't help: before any update was
        made the model is the base."""
        progress = self._run.progress
        done, halvings = progress.step, progress.rate_halvings
        if progress.non_finite == done or len(halvings) == _ROLLBACKS:
            raise EngineError("non_finite", self._hopeless(why, done, len(halvings)))
        to = max(0, progress.anchor - len(halvings) * self._plan.anchor_steps)  # further back each time
        with self._control.lock:
            self._run.rewind(to, [*(min(at, to) for at in halvings), to])
            progress = self._run.progress
            scale = progress.rate_scale(to)
            where = "the start" if progress.step == 0 else f"step {progress.step}"
            self._run.tell_rewound(
                Rollback(
                    step=progress.step,
                    learning_rate_scale=scale,
                    message=f"After step {done}, {why}: training went back to {where}, and takes {scale:g} of the "
                    f"learning rate from step {to + 1} on",
                )
            )
        self._run.group.same(step=progress.step)  # before rank 0 writes again, all have read

    def _hopeless(self, why: str, done: int, rollbacks: int) -> str:
        again = f", after {rollbacks} returns to earlier steps with half the learning rate each" if rollbacks else ""
        return (
            f"After step {done}, {why}{again}. Lower learning_rate (now {self._learning_rate:g}), keep max_grad_norm "
            "above 0, and check that the base model generates sensible text"
        )
