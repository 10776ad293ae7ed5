"""Real steps of a training that is only tried: what they take of time and of memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

import mlx.core as mx
import numpy as np

from mlx_engine.data.examples import Example
from mlx_engine.data.tokenize import Dataset
from mlx_engine.platform import memory_mb
from mlx_engine.process import Engine
from mlx_engine.protocol import ChatMessage, Generate, Train
from mlx_engine.serving.chat import end_tokens
from mlx_engine.serving.generate import generate
from mlx_engine.training.compute import Compute
from mlx_engine.training.forecast import Load
from mlx_engine.training.method import Subject
from mlx_engine.training.optimizer import global_norm, make_optimizer, scaled

_TOKENS_SAMPLED = 4


@dataclass
class Rows:
    """Some rows as Compute takes them."""

    examples: Sequence[Example]
    lengths: np.ndarray = field(init=False)
    trained_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.lengths = np.array([len(example.tokens) for example in self.examples])
        self.trained_tokens = sum(example.trained for example in self.examples)


@dataclass(frozen=True)
class Step:
    load: Load
    at_once: Load  # the part of it that is in memory at a time
    seconds: float  # of the gradients
    update_seconds: float  # of the optimiser
    bytes: int  # at the peak, beside what is always there


class Measure:
    """Trains the subject with real data at a learning rate of 0. Everything is evaluated when it is made."""

    def __init__(self, command: Train, engine: Engine, subject: Subject) -> None:
        self._engine = engine
        self._subject = subject
        self._steps = 0
        self._gpu = not engine.platform.on_cpu
        mx.eval(subject.model)
        self.compute = Compute(command, subject, engine.platform)
        self._optimizer = make_optimizer(command, subject.model)
        self._optimizer.init(subject.model.trainable_parameters())
        self._optimizer.learning_rate = 0.0
        mx.eval(self._optimizer.state)
        self._peak = 0

    @property
    def resident_bytes(self) -> float:
        """What is there between steps."""
        return mx.get_active_memory() if self._gpu else memory_mb() * 1e6

    @property
    def peak_bytes(self) -> float:
        """The most that the process has taken so far: of the GPU's memory, or of the machine's."""
        if self._gpu:
            return max(self._peak, mx.get_peak_memory())
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    def loads(self, data: Dataset | Rows, micro_batches: Sequence[np.ndarray]) -> tuple[Load, Load]:
        """What a step of these rows computes, and the most of it that is in memory at a time."""
        loads = sorted(self.compute.loads(data, micro_batches), key=lambda load: -load.positions)
        side_by_side = self.compute.side_by_side([load.positions for load in loads])
        return reduce(Load.__add__, loads), reduce(Load.__add__, loads[:side_by_side])

    def step(self, data: Dataset | Rows, micro_batches: Sequence[np.ndarray]) -> Step:
        self._steps += 1
        self._engine.stage("measuring", self._steps)
        load, at_once = self.loads(data, micro_batches)
        self._peak = max(self._peak, mx.get_peak_memory())
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        started = time.monotonic()
        computed = self.compute.step(0, data, micro_batches, lambda: None)
        gradients = computed.gradients
        computed.gradients = None
        mx.eval(computed.loss, global_norm(gradients))
        computed_at = time.monotonic()
        self._optimizer.update(self._subject.model, scaled(gradients, 1.0))
        del gradients
        mx.eval(self._subject.model.trainable_parameters(), self._optimizer.state)
        return Step(
            load,
            at_once,
            seconds=computed_at - started,
            update_seconds=time.monotonic() - computed_at,
            bytes=mx.get_peak_memory() - before,
        )

    def evaluation(self, rows: Rows) -> float:
        """Seconds of an evaluation of these rows."""
        started = time.monotonic()
        self.compute.evaluate(rows, lambda done, total: None)
        return time.monotonic() - started

    def sampled_token(self, prompt: str) -> float:
        """Seconds of one token of an answer."""
        loaded = self._subject.loaded
        request = Generate(
            id="",
            model_path="",
            adapter_path=None,
            messages=[ChatMessage(role="user", content=prompt)],
            prompt=None,
            max_tokens=_TOKENS_SAMPLED,
            temperature=0.0,
            top_p=1.0,
            stop=[],
            seed=None,
        )
        loaded.model.eval()
        started = time.monotonic()
        *_, result = generate(loaded, end_tokens(loaded.tokenizer), request, lambda: False)
        loaded.model.train()
        return (time.monotonic() - started) / result.completion_tokens
