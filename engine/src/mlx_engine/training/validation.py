"""What the evaluations of a run have come to: its best step, and whether it pays to go on."""

from __future__ import annotations

import math

import msgspec


class Validation(msgspec.Struct):
    """Losses are means over the supervised tokens of the held-out rows. Part of Progress, so that it survives."""

    step: int = -1  # of the last evaluation
    loss: float | None = None  # its loss; None: not finite
    base_loss: float | None = None  # before the first step
    best_loss: float | None = None  # the lowest of a trained model, so not of step 0
    best_step: int | None = None
    mark: float | None = None  # early stopping: the loss to fall below
    mark_step: int = 0
    waited: int = 0  # evaluations in a row that did not

    def add(self, step: int, loss: float, threshold: float) -> bool:
        """Takes in the evaluation after `step` steps. Returns whether this is the best trained model so far.

        The best is simply the lowest. Patience waits for a loss that is lower by more than `threshold` than the last
        one that was, the base's to begin with: so a slow fall counts once it has come to that much.
        """
        finite = math.isfinite(loss)
        self.step, self.loss = step, loss if finite else None
        if step == 0:
            self.base_loss = self.loss
        if finite and (self.mark is None or loss < self.mark - threshold):
            self.mark, self.mark_step, self.waited = loss, step, 0
        else:
            self.waited += 1
        best = finite and step > 0 and (self.best_loss is None or loss < self.best_loss)
        if best:
            self.best_loss, self.best_step = loss, step
        return best

    def early_stop(self, patience: int | None, threshold: float) -> str | None:
        """Why to end here; None: go on."""
        if patience is None or self.waited < patience:
            return None
        if self.mark is None:
            return f"Early stopping: the validation loss was not finite in {_evaluations(self.waited)}"
        margin = f" by more than {threshold:g}" if threshold else ""
        return (
            f"Early stopping: the validation loss has not fallen below {self.mark:.4g} (step {self.mark_step}){margin} "
            f"in {_evaluations(self.waited)}"
        )

    def no_gain(self) -> str | None:
        """What to tell of a finished run that never got better than its base."""
        if self.base_loss is None or self.best_loss is None or self.best_loss < self.base_loss:
            return None
        return (
            f"Training did not help: the validation loss was {self.base_loss:.4g} before it and {self.best_loss:.4g} "
            f"at best (step {self.best_step}). Lower learning_rate, and check that the training rows are of the same "
            "kind as the validation rows"
        )


def _evaluations(count: int) -> str:
    return "1 evaluation" if count == 1 else f"{count} evaluations"
