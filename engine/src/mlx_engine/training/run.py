"""A run's state, from its first step or from a checkpoint, and how it is saved."""

from __future__ import annotations

import datetime
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec

from mlx_engine import kernels
from mlx_engine.cores import TURN
from mlx_engine.models.record import template_sha256
from mlx_engine.process import Engine
from mlx_engine.protocol import Checkpoint, EngineError, Rollback, Train
from mlx_engine.training import checkpoint
from mlx_engine.training.checkpoint import Damaged, Manifest, Progress
from mlx_engine.training.initial import weights_sha256
from mlx_engine.training.lease import UNSUPERVISED, Lease
from mlx_engine.training.method import Subject, base_fingerprint, prepare
from mlx_engine.training.optimizer import make_optimizer, restore, state_arrays
from mlx_engine.training.ranks import ALONE, Group
from mlx_engine.training.told import Told

# Parameters that may change between an interrupted run and its continuation: none of them changes a number.
_FREE = {
    "type",
    "job_id",
    "attempt",
    "lease",
    "told_step",
    "told_rollbacks",
    "experiment_name",
    "model_path",
    "model_name",
    "output_dir",
    "resume",
    "save_steps",
    "memory_level",  # pinned
    "initial_adapter",  # by its content
}
_PLACES = {"path", "validation_path", "validation_sha256", "cache_path"}


class Run:
    """Model, optimiser and progress of a run. Not thread-safe: Control's lock guards `update` and `save`.

    With `resume` it starts at the newest good checkpoint in output_dir, if there is one. EngineError when that was
    written with other parameters, data or base. Of several ranks, each has its own and rank 0 alone writes.
    """

    def __init__(
        self,
        command: Train,
        engine: Engine,
        subject: Subject,
        lease: Lease = UNSUPERVISED,
        group: Group = ALONE,
    ) -> None:
        self.subject = subject
        self.group = group
        self.progress = Progress()
        self.date = datetime.date.today()
        self._command = command
        self._engine = engine
        self._output = Path(command.output_dir)
        self._checkpoints = self._output / "checkpoints"
        self._config = _decisive(command, subject)
        # Choices of the engine's own that decide the last bits, such as how a step is cut into pieces: a continued run
        # takes over those that it began with (`pin`). The memory level may rise.
        self.pinned: dict[str, Any] = {}
        self._saved: Path | None = None  # the last checkpoint, and what is known in it besides arrays
        self._known = b""
        self._optimizer = self._new_optimizer()
        self._output.mkdir(parents=True, exist_ok=True)
        self._lease = lease
        self.told = Told(engine.channel)
        if self._writes:
            self._lease.begin()
            checkpoint.sweep(self._output, self._checkpoints, self._lease)
        if command.resume:
            self._resume()
            if self._saved is None:
                engine.warn("no_checkpoint", "no good checkpoint is left to continue from: training begins anew")
        if self._saved is None and self._writes:
            checkpoint.clear(self._checkpoints, self._lease)
        self.pinned["memory_level"] = max(command.memory_level, self.pinned.get("memory_level", 0))
        mx.eval(subject.model.parameters(), self._optimizer.state)
        self._hold()

    def pin(self, name: str, chosen: Any) -> Any:
        """What the run began with; now, if it begins, what rank 0 has chosen."""
        return self.pinned.setdefault(name, self.group.exchange(chosen)[0])

    @property
    def _writes(self) -> bool:
        return self.group.rank == 0

    def update(self, gradients: Any, rate: float) -> None:
        """One optimiser step; evaluated when it returns."""
        self._arrays = {}  # lets MLX reuse the old arrays' memory for the new ones
        self._optimizer.learning_rate = rate
        with TURN:
            self._optimizer.update(self.subject.model, gradients)
            mx.eval(self.subject.model.trainable_parameters(), self._optimizer.state)
        self._hold()

    def _hold(self) -> None:
        """Keeps the evaluated arrays to be saved: the model itself holds tracers while a gradient is being built."""
        self._arrays = {
            self.subject.weights_name: self.subject.weights(),
            checkpoint.OPTIMIZER: state_arrays(self._optimizer),
        }

    @property
    def checkpoint_bytes(self) -> int:
        return sum(array.nbytes for arrays in self._arrays.values() for array in arrays.values())

    def save(self) -> None:
        """A checkpoint of the last step and its frame, unless there is one that knows as much. Does no MLX work."""
        if not self._writes:
            return
        progress = self.progress
        known = self._knowledge()
        if self._saved is not None and known == self._known:
            return
        if self._saved is not None and checkpoint.step_of(self._saved) == progress.step:
            checkpoint.update(self._saved, progress, self.pinned, self.told.lines(), self._lease)
        else:
            manifest = Manifest(
                progress=progress,
                date=self.date.isoformat(),
                config=self._config,
                pinned=self.pinned,
                versions=_versions(),
                told=self.told.lines(),
            )
            self._saved = checkpoint.save(self._checkpoints, manifest, self._arrays, self.subject.files, self._lease)
        self._known = known
        checkpoint.prune(self._checkpoints, progress, self._lease)
        self._tell_saved()

    def tell_again(self) -> None:
        """What came of the run up to now, as far as the server does not know it yet; for one that goes on."""
        if self._saved is None or self._command.told_step is None or not self._writes:
            return
        self.told.tell_again(self._command.told_step, len(self.progress.rate_halvings) - self._command.told_rollbacks)
        self._tell_saved()

    def _tell_saved(self) -> None:
        progress, validation = self.progress, self.progress.validation
        self._engine.channel.send(
            Checkpoint(
                step=progress.step,
                path=str(self._saved),
                loss=progress.loss,
                validation_loss=validation.loss if validation.step == progress.step else None,
                best=validation.best_step == progress.step,
            )
        )

    def publish(self, *, best: bool) -> int:
        """A checkpoint of the last step, and as the run's result in output_dir its model, or with `best` that of the
        lowest validation loss, if there is one. Returns the step of that model."""
        self.save()
        folder = self._saved
        step = self.progress.validation.best_step
        if best and step is not None and step != self.progress.step:
            try:
                folder = checkpoint.folder_of(self._checkpoints, step)
                checkpoint.verify(folder)
            except Damaged as error:
                self._engine.warn("checkpoint_damaged", f"The best checkpoint, {folder.name}, is lost: {error}")
                folder = self._saved
        checkpoint.publish(folder, self._output, self._lease)
        return checkpoint.step_of(folder)

    def rewind(self, to: int, rate_halvings: list[int]) -> None:
        """Back to the newest good checkpoint of at most `to` steps, or to the start; later ones are removed."""
        self._arrays = {}
        self._saved, self._known = None, b""
        for folder in checkpoint.steps(self._checkpoints):
            if checkpoint.step_of(folder) <= to and (manifest := self._verified(folder)):
                self._take(folder, manifest)
                if self._is_finite() and self._has_best():
                    break
            if self._writes:
                with self._lease.held():
                    shutil.rmtree(folder, ignore_errors=True)
        else:
            fresh = prepare(self._command, self._engine.platform, lazy=True)
            self.subject.model.update(fresh.model.trainable_parameters())
            self._optimizer = self._new_optimizer()
            self.progress, self._saved = Progress(), None
            self.told.restore([])
        mx.eval(self.subject.model.trainable_parameters(), self._optimizer.state)
        self._hold()
        self.progress.rate_halvings = rate_halvings

    def tell_rewound(self, rollback: Rollback) -> None:
        """Kept before it is sent, so that the server never knows of a return of which a continued run does not."""
        self.told.keep(rollback)
        if self._saved is not None and self._writes:
            checkpoint.update(self._saved, self.progress, self.pinned, self.told.lines(), self._lease)
            self._known = self._knowledge()
        self._engine.channel.send(rollback)

    def _resume(self) -> None:
        for folder in checkpoint.steps(self._checkpoints):
            if manifest := self._verified(folder):
                self._compare(folder, manifest)
                self._take(folder, manifest)
                return

    def _verified(self, folder: Path) -> Manifest | None:
        try:
            return checkpoint.verify(folder)
        except Damaged as error:
            self._engine.warn("checkpoint_damaged", f"{folder.name} was passed over: {error}")
            return None

    def _take(self, folder: Path, manifest: Manifest) -> None:
        weights = mx.load(str(folder / self.subject.weights_name))
        self.subject.model.load_weights(list(weights.items()), strict=False)
        restore(self._optimizer, mx.load(str(folder / checkpoint.OPTIMIZER)))
        self.progress = manifest.progress
        self.told.restore(manifest.told)
        self.date = datetime.date.fromisoformat(manifest.date)
        self.pinned = manifest.pinned | self.pinned
        self._saved, self._known = folder, self._knowledge()

    def _knowledge(self) -> bytes:
        return msgspec.json.encode((self.progress, self.pinned))

    def _is_finite(self) -> bool:
        arrays = [*self.subject.weights().values(), *state_arrays(self._optimizer).values()]
        return mx.stack([mx.isfinite(array).all() for array in arrays]).all().item()

    def _has_best(self) -> bool:
        """Whether the checkpoint of the best step so far is there: a better one, now gone, may have replaced it."""
        step = self.progress.validation.best_step
        return step is None or checkpoint.folder_of(self._checkpoints, step).exists()

    def _new_optimizer(self) -> Any:
        optimizer = make_optimizer(self._command, self.subject.model)
        optimizer.init(self.subject.model.trainable_parameters())
        return optimizer

    def _compare(self, folder: Path, manifest: Manifest) -> None:
        then, now = manifest.config, msgspec.json.decode(msgspec.json.encode(self._config))
        changed = [
            f"{key} was {then.get(key)}, is {now.get(key)}" for key in then | now if then.get(key) != now.get(key)
        ]
        if changed:
            raise EngineError(
                "invalid_parameters",
                f"{folder.name} in {self._checkpoints} belongs to a run with other parameters ({'; '.join(changed)}); "
                "start with the same ones, or without resume",
            )
        if manifest.versions != _versions():
            then, now = manifest.versions, _versions()
            changed = ", ".join(f"{name} {then.get(name)} → {now[name]}" for name in now if then.get(name) != now[name])
            self._engine.warn(
                "versions_changed", f"continued with other libraries ({changed}): results can differ in the last bits"
            )


def _decisive(command: Train, subject: Subject) -> dict[str, Any]:
    """All that decides the run's numbers, flat."""
    values = {key: value for key, value in msgspec.to_builtins(command).items() if key not in _FREE}
    dataset = values.pop("dataset")
    lora = values.pop("lora") or {}
    return (
        values
        | {f"lora.{key}": value for key, value in lora.items()}
        | {f"dataset.{key}": value for key, value in dataset.items() if key not in _PLACES}
        | {
            "base model": base_fingerprint(command.model_path),
            "initial adapter": command.initial_adapter and weights_sha256(command.initial_adapter),
            "chat template": template_sha256(subject.loaded.tokenizer.chat_template),
        }
    )


def _versions() -> dict[str, str]:
    libraries = {name: version(name) for name in ("mlx", "mlx-lm", "numpy", "transformers", "tokenizers")}
    return libraries | {"kernels": kernels.load().line}
