"""The loss over held-out rows, of a model as generation loads it, by the tokens, masks and code of the trainer: for the
same file it is the number that the training reports."""

from __future__ import annotations

import datetime
import hashlib
import math
import time
from pathlib import Path

import mlx.core as mx
import numpy as np

from mlx_engine import kernels
from mlx_engine.data.load import tokenized, told
from mlx_engine.data.tokenize import Dataset
from mlx_engine.memory import available_bytes
from mlx_engine.models import folder
from mlx_engine.models.bases import Bases, Served
from mlx_engine.models.load import total_params
from mlx_engine.process import Engine
from mlx_engine.protocol import EngineError, Evaluate, Evaluated, Scored
from mlx_engine.training.compute import Compute, EvaluatedRows
from mlx_engine.training.measure import Rows
from mlx_engine.training.method import Subject
from mlx_engine.training.session import CPU_CACHE_BYTES

_STAGE_SECONDS = 0.5
_ROWS_A_FRAME = 4096


class HeldOut:
    """`run` it once, on the main thread."""

    def __init__(self, command: Evaluate, engine: Engine) -> None:
        self._command = command
        self._engine = engine
        self._told = 0.0

    def run(self) -> None:
        with kernels.patched(kernels.load()):
            self._evaluate()

    def _evaluate(self) -> None:
        command, engine = self._command, self._engine
        if engine.platform.on_cpu:
            mx.set_cache_limit(CPU_CACHE_BYTES)
        engine.stage("loading_model")
        served = self._serve()
        data = self._load(served)
        started = time.monotonic()
        model = served.loaded.model
        model.freeze()  # so that the head is computed as it is in training, where only what it makes has gradients
        subject = Subject(served.loaded, "", {}, total_params(model), trainable_params=0)
        compute = Compute(command, subject, engine.platform)
        rows = len(data.lengths)
        found = compute.evaluate_rows(
            data, lambda done, total: self._stage("evaluating", done * rows // max(1, total), rows)
        )
        self._tell(data, found, time.monotonic() - started)

    def _serve(self) -> Served:
        """EngineError also when there is no room: a CPU would end the process, or another one."""
        command = self._command
        bases = Bases(self._engine.platform, lambda *_: None)
        path = Path(command.model_path)
        needed, there = bases.needed_bytes(command.model_path, folder.check(path)), available_bytes()
        if needed > there:
            raise EngineError(
                "out_of_memory",
                f"the model takes about {needed / 1e9:.1f} GB, and {there / 1e9:.1f} are available: try again when "
                "nothing is trained or generated",
            )
        return bases.serve(command.model_path, command.adapter_path)

    def _load(self, served: Served) -> Dataset | Rows:
        command, engine = self._command, self._engine
        everything, held_out = tokenized(
            command.dataset,
            served.loaded,
            datetime.date.today(),
            lambda done, total: self._stage("tokenizing", done, total),
        )
        self._data = data = everything if held_out is None else held_out
        if data.refusal is not None:
            raise EngineError("invalid_dataset", data.refusal)
        for code, message in told(data, None):
            engine.warn(code, message)
        chosen = choose(data.samples, command.max_samples, command.seed)
        if chosen is None:
            self._samples = data.samples
            return data
        self._samples = data.samples[chosen]
        return Rows([data.examples[i] for i in chosen])

    def _tell(self, data: Dataset | Rows, found: EvaluatedRows, seconds: float) -> None:
        """A row of several examples, as some templates make them, is one again."""
        samples, places = np.unique(self._samples, return_inverse=True)
        losses, hits, trained = (np.bincount(places, column) for column in (found.losses, found.hits, found.trained))
        for at in range(0, len(samples), _ROWS_A_FRAME):
            part = slice(at, at + _ROWS_A_FRAME)
            self._engine.channel.send(
                Scored(
                    samples=samples[part].tolist(),
                    trained=trained[part].astype(int).tolist(),
                    correct=hits[part].astype(int).tolist(),
                    losses=[_finite(loss) for loss in losses[part].tolist()],
                )
            )
        tokens = data.trained_tokens
        self._engine.channel.send(
            Evaluated(
                rows=len(samples),
                rows_dropped=len(self._data.dropped),
                rows_truncated=len(self._data.truncated),
                trained_tokens=tokens,
                loss=_finite(float(losses.sum()) / tokens),
                token_accuracy=float(hits.sum()) / tokens,
                seconds=round(seconds, 3),
            )
        )

    def _stage(self, stage: str, done: int, total: int) -> None:
        if done in (0, total) or time.monotonic() - self._told > _STAGE_SECONDS:
            self._told = time.monotonic()
            self._engine.stage(stage, done, total)


def choose(samples: np.ndarray, most: int | None, seed: int) -> np.ndarray | None:
    """samples (examples,): their row numbers → which of them, (chosen,) in order; None: all.

    A row is chosen by a hash of the seed and its number, so that models which leave out different rows, as their
    tokenizers have it, get the same ones of the others.
    """
    rows = np.unique(samples)
    if most is None or len(rows) <= most:
        return None
    places = np.array([_place(seed, row) for row in rows.tolist()], dtype=np.uint64)
    return np.flatnonzero(np.isin(samples, rows[np.argsort(places, kind="stable")[:most]]))


def _place(seed: int, row: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {row}".encode(), digest_size=8).digest(), "little")


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
