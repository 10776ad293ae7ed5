"""A training process from start to end: load, tokenise, train, finish."""

from __future__ import annotations

import gc
import time
import traceback
from pathlib import Path

import mlx.core as mx

from mlx_engine import kernels
from mlx_engine.data.load import load_data, told
from mlx_engine.data.tokenize import Dataset, Example
from mlx_engine.hang import WATCH
from mlx_engine.models.record import ServingVerified
from mlx_engine.process import Engine, one_line
from mlx_engine.protocol import Finished, Memory, Prepared, Train, Verified
from mlx_engine.training import checkpoint
from mlx_engine.training.ceding import Ceding
from mlx_engine.training.compute import Compute
from mlx_engine.training.control import GRACE_SECONDS, Control, Ended, Outcome
from mlx_engine.training.describe import describe, store
from mlx_engine.training.lease import Lease
from mlx_engine.training.loop import Loop
from mlx_engine.training.method import prepare
from mlx_engine.training.optimizer import global_norm
from mlx_engine.training.peers import Leader
from mlx_engine.training.plan import Plan
from mlx_engine.training.ranks import ALONE, Group
from mlx_engine.training.run import Run
from mlx_engine.training.verify import attempt, choose, probe, unverified, verify

_STAGE_SECONDS = 0.5
# Keeping freed buffers buys nothing on a CPU: the same steps took 17 CPU seconds with 3 GB, 256 MB and none of them.
CPU_CACHE_BYTES = 256 << 20
# For evaluating some rows before the result is loaded for generation; a run that is to stop has little time.
_PROBE_SECONDS = {"completed": 2.0, "stopped": 0.3}
_VERIFYING = ".verifying"  # is in output_dir meanwhile


class Training:
    """`run` it once, on the main thread. It ends with a Finished frame, or raises.

    `group`: of a rank that another one started, which computes its share and nothing else.
    """

    def __init__(self, command: Train, engine: Engine, grace: float = GRACE_SECONDS, group: Group = ALONE) -> None:
        self._command = command
        self._engine = engine
        self._group = group
        self._lease = Lease(Path(command.output_dir), command.lease)
        self._run: Run | None = None
        self._reason: str | None = None  # why it ended before its last step
        self._rows: list[Example] = []  # to verify the result on
        self._finished: Finished | None = None  # what the run came to, once its result is published
        self._ceding = Ceding.of_environment()
        self._control = Control(engine, self._finish, grace, self._answering)

    def run(self) -> None:
        outcome: Outcome = "completed"
        with kernels.patched(kernels.load()):
            try:
                self._train()
            except Ended as ended:
                outcome = ended.outcome
            if self._group.rank > 0:
                return
            self._group.close()
            if outcome != "suspended":
                self._conclude(outcome)
            self._control.end(outcome)

    def _train(self) -> None:
        """The model and the checkpoint to continue from come before the data, so that a stop while a large data set
        is tokenised has something to save."""
        command, engine = self._command, self._engine
        if engine.platform.on_cpu:
            mx.set_cache_limit(CPU_CACHE_BYTES)
        if command.ranks > 1 and self._group is ALONE:
            self._group = Leader(command, engine)
        group = self._group
        engine.stage("loading_model")
        subject = prepare(command, engine.platform)
        run = Run(command, engine, subject, self._lease, group)
        self._run = run
        data, held_out = self._load_data()
        plan = Plan(command, data)
        if group.size > 1:
            group.same(
                step=run.progress.step,
                date=str(run.date),
                samples=len(data.examples),
                tokens=data.tokens,
                weights=global_norm(subject.model.trainable_parameters()).item(),
            )
            group.join()
        if not describe(command, subject, data):
            engine.warn("no_stop_token", "no row ends with an end token, so that answers will go on to max_tokens")
        self._rows = choose(held_out or data)
        compute = self._compute(run)
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
                packing=compute.packs,
                lanes=compute.lanes,
                ranks=group.size,
            )
        )
        run.tell_again()
        self._reason = Loop(command, engine, self._control, run, plan, data, held_out, compute, self._ceding).drive()

    def _compute(self, run: Run) -> Compute:
        engine = self._engine
        compute = Compute(self._command, run.subject, engine.platform, run.group, run.pin, self._ceding.holds)
        if not compute.responses_only:
            engine.warn("full_logits", "this model's head cannot be run on its own, so logits are computed everywhere")
        if compute.packing_fault:
            engine.warn(
                "not_packed", f"rows are padded, not packed: this model does not allow it ({compute.packing_fault})"
            )

        def raised(level: int, message: str) -> None:
            run.pinned["memory_level"] = level
            engine.channel.send(Memory(level=level, message=message))

        compute.on_memory_level = raised
        return compute

    def _load_data(self) -> tuple[Dataset, Dataset | None]:
        """What is trained on, and what is held out."""
        tokenized = 0.0

        def progress(done: int, total: int) -> None:
            nonlocal tokenized
            WATCH.moved()
            self._control.check()
            if done == total or time.monotonic() - tokenized > _STAGE_SECONDS:
                tokenized = time.monotonic()
                self._engine.stage("tokenizing", done, total)

        data, held_out = load_data(self._command.dataset, self._run.subject.loaded, self._run.date, progress)
        for code, message in told(data, held_out):
            self._engine.warn(code, message)
        return data, held_out

    def _conclude(self, outcome: Outcome) -> None:
        """Publishes the result, then looks at it as generation will see it. Nothing of that can lose the result."""
        with self._control.lock:
            self._publish(outcome)
            self._control.saved.set()
        if not self._rows or self._finished.step == 0:
            return
        try:
            with attempt(Path(self._command.output_dir) / _VERIFYING):
                verified = self._verified(outcome)
        except Ended:
            return
        except Exception as error:
            traceback.print_exc()
            verified = unverified(one_line(error))
        with self._control.lock:
            store(Path(self._command.output_dir), verified, self._lease)
            self._engine.channel.send(
                Verified(
                    ok=verified.ok,
                    message=verified.message,
                    logit_difference=verified.logit_difference,
                    serving_loss=verified.serving_loss,
                    trainer_loss=verified.trainer_loss,
                )
            )

    def _verified(self, outcome: Outcome) -> ServingVerified:
        """A run that is to stop is held to its time by Control; one that is through gives way when it is asked to."""

        def check() -> None:
            WATCH.moved()
            if outcome == "completed":
                self._control.check()

        output = Path(self._command.output_dir)
        self._engine.stage("verifying")
        subject, self._run = self._run.subject, None
        if self._finished.best_step is not None:  # the model in memory is that of the last step
            subject.model.load_weights(str(output / subject.weights_name), strict=False)
        probed = probe(subject.loaded, self._rows, _PROBE_SECONDS[outcome], check)
        del subject
        gc.collect()
        mx.clear_cache()
        return verify(self._command, self._engine.platform, output, probed, check)

    def _answering(self, active: bool) -> None:
        """On Control's thread."""
        self._ceding.told(active)
        self._group.answering(active)

    def _finish(self, outcome: Outcome) -> None:
        """Also on Control's thread."""
        self._publish(outcome)
        (Path(self._command.output_dir) / _VERIFYING).unlink(missing_ok=True)
        self._engine.channel.send(self._finished)

    def _publish(self, outcome: Outcome) -> None:
        """Once. Before the model is there, nothing is written."""
        if self._finished is not None:
            return
        step, loss, best_step = 0, None, None
        if self._run is not None:
            step, loss = self._run.progress.step, self._run.progress.loss
            published = self._run.publish(best=outcome == "completed" and self._command.load_best_model_at_end)
            best_step = published if published != step else None
        elif self._command.resume and (folders := checkpoint.steps(Path(self._command.output_dir) / "checkpoints")):
            step = checkpoint.step_of(folders[0])
        self._finished = Finished(outcome=outcome, step=step, loss=loss, best_step=best_step, reason=self._reason)
