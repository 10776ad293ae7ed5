"""What a training would take: exact counts, then some real steps, smallest first, so that none is begun that memory has
no room for."""

from __future__ import annotations

import datetime
import math
import time
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from mlx_engine import kernels
from mlx_engine.data.examples import Example
from mlx_engine.data.load import load_data, told
from mlx_engine.data.tokenize import Dataset
from mlx_engine.memory import available_bytes
from mlx_engine.process import Engine
from mlx_engine.protocol import Estimated, Train
from mlx_engine.training import advice
from mlx_engine.training.forecast import SQUARE_OF_MEMORY, SQUARE_OF_TIME, Cost, Load, fit
from mlx_engine.training.measure import Measure, Rows, Step
from mlx_engine.training.method import Subject, prepare
from mlx_engine.training.plan import Plan
from mlx_engine.training.session import CPU_CACHE_BYTES

_SMALL_TOKENS = (48, 96)  # of one row each: the first warms up, both tell how memory grows
_STEPS_LOOKED_AT = 500  # of the plan, for what its steps compute
_EPOCHS_LOOKED_AT = 3
_BATCHES_LOOKED_AT = 200
_LARGEST_TOKENS = 4096  # on a CPU, where pieces of rows are computed one by one, no more need be measured
_QUICK_SECONDS = 5.0  # a step that takes less is measured twice
_ROWS_EVALUATED = 8
_MARGIN = 1.1  # on memory that is extrapolated
_CONCLUDING_SECONDS = 5.0  # the result is published, and verified beside being loaded again
_UTILISATION = 0.25  # of the measured rate of matrix products: a guess, before anything else is known


@dataclass(frozen=True)
class _Lengths:
    """As much of a data set as it takes to tell what a step computes."""

    lengths: np.ndarray


@dataclass(frozen=True)
class _Found:
    time: Cost  # of gradients, in seconds
    update_seconds: float  # of the optimiser, a step
    memory: Cost  # at the peak, in bytes beside what is always there


class DryRun:
    """`run` it once, on the main thread. Each Estimated frame that it sends says all that is known by then."""

    def __init__(self, command: Train, engine: Engine) -> None:
        self._command = command
        self._engine = engine
        # On a CPU every rank holds its own model, all in the same memory.
        self._available = available_bytes() / (command.ranks if engine.platform.on_cpu else 1)

    def run(self) -> None:
        with kernels.patched(kernels.load()):
            self._estimate()

    def _estimate(self) -> None:
        command, engine = self._command, self._engine
        started = time.monotonic()
        if engine.platform.on_cpu:
            mx.set_cache_limit(CPU_CACHE_BYTES)
        engine.stage("loading_model")
        subject = prepare(command, engine.platform, lazy=True)
        engine.stage("tokenizing")
        self._data, self._held_out = load_data(command.dataset, subject.loaded, datetime.date.today())
        self._plan = Plan(command, self._data)
        for code, message in told(self._data, self._held_out):
            engine.warn(code, message)
        if command.ranks > 1:
            engine.warn("one_rank", f"Measured in one process, where {command.ranks} are to share each step")
        said = self._said = self._known(subject)
        needed = advice.least_bytes(subject)
        if needed > self._available:
            lighter = advice.lighter_methods(command, subject, needed, self._available)
            said.advice = [self._too_much("The model", needed), *lighter]
            return engine.channel.send(said)
        said.advice = advice.lighter_methods(command, subject, math.inf, self._available)
        engine.channel.send(said)  # what holds if memory runs out from here on
        engine.stage("measuring")
        self._measure = Measure(command, engine, subject)
        starting = time.monotonic() - started
        found = self._steps()
        said.seconds = round(self._run_seconds(found) + self._other_seconds(found) + starting + _CONCLUDING_SECONDS, 1)
        said.advice = [] if said.fits else self._what_would_fit(found, subject)
        said.advice += advice.long_rows(self._data.lengths, found.time)
        said.advice += advice.padding(command, said.padding_share)
        said.advice += advice.slow_machine(engine.platform)
        engine.channel.send(said)

    def _known(self, subject: Subject) -> Estimated:
        """Before anything is measured."""
        data, plan = self._data, self._plan
        epochs = plan.total_steps / plan.steps_per_epoch
        flop = (6 if self._command.method == "full" else 4) * subject.total_params * data.tokens
        gflops = self._engine.platform.gflops or 1.0
        return Estimated(
            total_steps=plan.total_steps,
            steps_per_epoch=plan.steps_per_epoch,
            samples=len(data.examples),
            samples_dropped=len(data.dropped),
            samples_truncated=len(data.truncated),
            tokens=data.tokens,
            trained_tokens=data.trained_tokens,
            longest_sample=int(data.lengths.max()),
            padding_share=0.0,
            measured_steps=0,
            seconds=round(_CONCLUDING_SECONDS + flop / (gflops * 1e9 * _UTILISATION) * epochs, 1),
            seconds_per_step=None,
            tokens_per_second=None,
            peak_memory_mb=None,
            available_memory_mb=round(self._available / 1e6, 1),
            fits=False,
            advice=[],
            trainable_params=subject.trainable_params,
            total_params=subject.total_params,
            target_modules=subject.target_modules,
        )

    # ---- steps ----

    def _steps(self) -> _Found:
        """Small ones tell how memory grows, before any other is begun; one of the usual size is what most of the time
        will go into; the largest batch is what has to fit."""
        measure, said = self._measure, self._said
        first, small = (measure.step(self._one_row(tokens), [np.array([0])]) for tokens in _SMALL_TOKENS)
        memory = _memory(first, small)
        usual = self._usual_step()
        if not self._has_room(memory, self._data, usual):
            return _Found(_time(small, small), small.update_seconds, memory)
        middle = measure.step(self._data, usual)
        memory = _memory(small, middle)
        largest = self._largest_batch(self._data.lengths, self._command.dataset.batch_size, memory)
        if not self._has_room(memory, self._data, largest):
            return _Found(_time(small, middle), middle.update_seconds, memory)
        steps = [middle, measure.step(self._data, largest)]
        if middle.seconds < _QUICK_SECONDS:
            steps.append(measure.step(self._data, usual))
        said.measured_steps = len(steps)
        said.peak_memory_mb = round(measure.peak_bytes / 1e6, 1)
        as_asked = measure.compute.memory_level == self._command.memory_level  # it rises when memory runs out
        said.fits = as_asked and measure.peak_bytes <= self._available
        return _Found(
            _time(steps[-1], steps[1]),
            sum(step.update_seconds for step in steps) / len(steps),
            _memory(middle, steps[1]),
        )

    def _one_row(self, tokens: int) -> Rows:
        """The beginning of the longest row, with as much of it to be learned as of all rows."""
        row = self._data.examples[int(self._data.lengths.argmax())]
        length = min(tokens, len(row.tokens))
        supervised = np.zeros(length, dtype=bool)
        supervised[-max(1, round((length - 1) * self._data.trained_tokens / self._data.tokens)) :] = True
        return Rows([Example(row.sample, row.tokens[:length], supervised)])

    def _usual_step(self) -> list[np.ndarray]:
        """That of the middle by what it computes, or as much of it as keeps all threads busy."""
        numbers = self._looked_at()
        loads = [self._measure.loads(self._data, self._plan.micro_batches(number))[0] for number in numbers]
        middle = numbers[int(np.argsort([load.positions for load in loads])[len(loads) // 2])]
        return self._plan.micro_batches(middle)[: max(4, self._measure.compute.lanes)]

    def _largest_batch(self, lengths: np.ndarray, batch_size: int, memory: Cost) -> list[np.ndarray]:
        """What takes the most memory of all that can be drawn. On a CPU a step's rows are computed in pieces, whatever
        the batch size, and shorter ones side by side: so it need not be the longest rows."""
        dataset = self._command.dataset
        order = np.argsort(-lengths, kind="stable")
        if not self._engine.platform.on_cpu:
            if dataset.shuffle:
                return [order[:batch_size]]
            batches = [np.arange(i, min(i + batch_size, len(lengths))) for i in range(0, len(lengths), batch_size)]
            return [max(batches, key=lambda rows: len(rows) * lengths[rows].max())]
        count = dataset.batch_size * self._command.gradient_accumulation_steps
        starts = np.unique(np.linspace(0, len(order) - 1, _BATCHES_LOOKED_AT).astype(int))
        batches = [self._few(order[start : start + count], lengths) for start in starts]
        return [max(batches, key=lambda rows: memory.of(self._measure.loads(_Lengths(lengths), [rows])[1]))]

    def _few(self, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        return rows[: int(np.searchsorted(np.cumsum(lengths[rows]), _LARGEST_TOKENS)) + 1]

    def _has_room(self, memory: Cost, data: Dataset | _Lengths, micro_batches: list[np.ndarray]) -> bool:
        return self._bytes(memory, data, micro_batches) <= self._available

    def _bytes(self, memory: Cost, data: Dataset | _Lengths, micro_batches: list[np.ndarray]) -> float:
        """Of the whole process during such a step."""
        return self._measure.resident_bytes + _MARGIN * memory.of(self._measure.loads(data, micro_batches)[1])

    # ---- the whole run ----

    def _looked_at(self) -> list[int]:
        steps = min(self._plan.total_steps, _EPOCHS_LOOKED_AT * self._plan.steps_per_epoch)
        return sorted({int(number) for number in np.linspace(0, steps - 1, min(steps, _STEPS_LOOKED_AT))})

    def _run_seconds(self, found: _Found) -> float:
        """Of all steps; what is known of them from now on goes into the estimate."""
        numbers = self._looked_at()
        loads, tokens = Load(0, 0), 0
        for number in numbers:
            micro_batches = self._plan.micro_batches(number)
            loads += self._measure.loads(self._data, micro_batches)[0]
            tokens += sum(int(self._data.lengths[rows].sum()) - len(rows) for rows in micro_batches)
        seconds = found.time.of(loads) / len(numbers) + found.update_seconds
        if not self._engine.platform.on_cpu:
            seconds /= self._command.ranks
        said = self._said
        said.padding_share = round(1 - tokens / loads.positions, 4)
        if said.measured_steps:
            said.seconds_per_step = round(seconds, 4)
            said.tokens_per_second = round(tokens / len(numbers) / seconds, 2)
        return seconds * self._plan.total_steps

    def _other_seconds(self, found: _Found) -> float:
        """Of evaluations and samples."""
        command, plan = self._command, self._plan
        seconds = 0.0
        if self._held_out is not None and self._said.fits:
            rounds = 1 + plan.cadence(command.eval_steps).left(0)
            there = len(self._held_out.examples)
            count = min(_ROWS_EVALUATED, there)
            rows = Rows([self._held_out.examples[i * there // count] for i in range(count)])
            share = found.time.of(_sum(rows.lengths)) / found.time.of(_sum(self._held_out.lengths))
            seconds += rounds * self._measure.evaluation(rows) / share
        if command.sample_prompts and self._said.fits:
            rounds = 1 + plan.cadence(command.sample_steps).left(0)
            tokens = rounds * len(command.sample_prompts) * command.sample_max_tokens
            seconds += tokens * self._measure.sampled_token(command.sample_prompts[0])
        return seconds

    # ---- what does not fit ----

    def _what_would_fit(self, found: _Found, subject: Subject) -> list[str]:
        command, lengths = self._command, self._data.lengths

        def predict(limit: int, batch_size: int) -> float:
            cut = np.minimum(lengths, limit)
            return self._bytes(found.memory, _Lengths(cut), self._largest_batch(cut, batch_size, found.memory))

        needed = predict(int(lengths.max()), command.dataset.batch_size)
        return [
            self._too_much("The largest batch", needed),
            *advice.smaller_batches(command, lengths, predict, self._available),
            *advice.lighter_methods(command, subject, needed, self._available),
            "Started all the same, it goes on in smaller pieces once memory has run out, and takes longer",
        ]

    def _too_much(self, what: str, needed: float) -> str:
        there = advice.gigabytes(self._available)
        return f"{what} would take about {advice.gigabytes(needed)}, and {there} are available"


def _time(small: Step, large: Step) -> Cost:
    return fit((small.load, small.seconds), (large.load, large.seconds), SQUARE_OF_TIME)


def _memory(small: Step, large: Step) -> Cost:
    return fit((small.at_once, small.bytes), (large.at_once, large.bytes), SQUARE_OF_MEMORY)


def _sum(lengths: np.ndarray) -> Load:
    """Of rows without padding."""
    return Load(int(lengths.sum()), int((lengths.astype(np.int64) ** 2).sum()))
