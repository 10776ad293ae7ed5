"""Loss and gradients of a step, and the loss over held-out rows: all that the device is busy with.

Nothing is compiled: MLX's elementwise work gains nothing by it on a CPU (and it would need a C++ compiler there), so
that batches of ever new shapes cost no compilations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map

from mlx_engine import blas, kernels
from mlx_engine.cores import TURN, usable_cores
from mlx_engine.data.batches import Batch, collate, pack
from mlx_engine.data.examples import Example
from mlx_engine.data.tokenize import Dataset
from mlx_engine.platform import Platform
from mlx_engine.process import error_kind, one_line
from mlx_engine.protocol import EngineError, Evaluate, Train
from mlx_engine.training.cutting import Cut, Cutting, width_multiple
from mlx_engine.training.forecast import Load
from mlx_engine.training.lane import Lane
from mlx_engine.training.lanes import Lanes
from mlx_engine.training.loss import Loss
from mlx_engine.training.method import Subject
from mlx_engine.training.optimizer import add
from mlx_engine.training.packing import Packing
from mlx_engine.training.ranks import ALONE, Group

_SMALL_GRADIENT_BYTES = 64 << 20

Result = TypeVar("Result")


@dataclass
class Computed:
    """Of one step, before clipping. The loss is the mean over its supervised tokens, and so is what the gradients are
    of: every token weighs the same, whichever micro-batch, piece or rank it is in."""

    loss: mx.array
    gradients: Any
    rows: int
    tokens: int  # without padding
    trained: int
    positions: int  # computed, padding included


@dataclass
class Evaluated:
    loss: float  # mean over the supervised tokens
    token_accuracy: float  # share of them that are the most likely ones
    trained: int


@dataclass(frozen=True)
class EvaluatedRows:
    """(examples,) each, in the order of the data."""

    losses: np.ndarray  # float64: sums over an example's supervised tokens
    hits: np.ndarray  # int64: how many of them are the most likely ones
    trained: np.ndarray  # int64: how many there are


class Compute:
    """`pin` is given the choices that decide the last bits, by name, and returns those that the run began with.
    `holds`: see Lanes."""

    def __init__(
        self,
        command: Train | Evaluate,
        subject: Subject,
        platform: Platform,
        group: Group = ALONE,
        pin: Callable[[str, Any], Any] = lambda name, chosen: chosen,
        holds: Callable[[float], bool] = lambda patience: False,
    ) -> None:
        self._group = group
        self._command = command
        self._model = subject.model
        self._pad = subject.loaded.tokenizer.pad_token_id or 0
        self._on_cpu = platform.on_cpu
        self._width_multiple = width_multiple(platform)
        cores = usable_cores()
        # Pieces that a step is to have, or a multiple of it: the same for any number of ranks on a CPU.
        parts = pin("cores", cores) if platform.on_cpu else group.size
        self._cores = max(1, parts // group.size)
        self.lanes = self._cores
        loss = Loss(subject.model)
        self.responses_only = loss.responses_only
        self.memory_level: int = pin("memory_level", command.memory_level)
        self.on_memory_level: Callable[[int, str], None] = lambda level, message: None
        self.packing_fault: str | None = None  # why rows are not packed although that was asked for
        self._packing = self._make_packing(loss, pin)
        self._cutting = Cutting(
            on_cpu=platform.on_cpu,
            packed=self.packs,
            dense=self._packing is not None and self._packing.dense,
            lanes=self.lanes,
            multiple=parts,
            batch_size=command.dataset.batch_size,
            width_multiple=self._width_multiple,
        )
        self._lanes = Lanes(
            [Lane(loss) for _ in range(min(max(1, cores // group.size), self.lanes))],
            inline=not platform.on_cpu,
            holds=holds,
        )
        bytes_of_gradient = sum(array.nbytes for _, array in tree_flatten(subject.model.trainable_parameters()))
        self._ahead = self.lanes * (4 if bytes_of_gradient <= _SMALL_GRADIENT_BYTES else 1)

    @property
    def packs(self) -> bool:
        """Whether rows are laid end to end instead of padded."""
        return self._packing is not None

    def step(
        self, number: int, data: Dataset, micro_batches: Sequence[np.ndarray], check: Callable[[], None]
    ) -> Computed:
        """Of step `number`, from 0, made of these rows of `data`. Calls `check` between pieces, and on a CPU every
        0.2 s; what it raises ends the step at once.

        Dropout is drawn from the seed and the place in the run, so that a step done again is the same step.
        """
        found = None
        while found is None:
            cut = self._cutting.step(data.lengths, micro_batches, self.memory_level)
            batches = [self._collate(data, rows) for rows in cut.parts]
            found = self._unless_memory_runs_out(cut, partial(self._sum, number, cut, batches, check))
        check()
        loss, gradients = found
        return Computed(
            loss=mx.array(sum(self._group.exchange(loss))),
            gradients=self._group.total(gradients),
            rows=sum(batch.rows for batch in batches),
            tokens=sum(batch.tokens for batch in batches),
            trained=sum(len(batch.targets) for batch in batches),
            positions=sum(cut.sizes),
        )

    def evaluate(self, data: Dataset, check: Callable[[int, int], None]) -> Evaluated:
        """Over all rows in a fixed order, without dropout. Calls `check` with pieces done and in all, as in a step."""
        _, found = self._evaluated(data, check)
        sums = [(i, float(rows.losses.sum()), int(rows.hits.sum())) for i, rows in found]
        in_order = sorted(each for one in self._group.exchange(sums) for each in one)
        _, loss, correct = (sum(column) / data.trained_tokens for column in zip(*in_order, strict=True))
        return Evaluated(loss, correct, data.trained_tokens)

    def evaluate_rows(self, data: Dataset, check: Callable[[int, int], None]) -> EvaluatedRows:
        """The same row by row, on a single rank."""
        cut, found = self._evaluated(data, check)
        order = np.argsort(np.concatenate([cut.parts[i] for i, _ in found]))
        columns = ([getattr(rows, name) for _, rows in found] for name in ("losses", "hits", "trained"))
        return EvaluatedRows(*(np.concatenate(column)[order] for column in columns))

    def _evaluated(
        self, data: Dataset, check: Callable[[int, int], None]
    ) -> tuple[Cut, list[tuple[int, EvaluatedRows]]]:
        found = None
        while found is None:
            cut = self._cutting.evaluation(data.lengths, self.memory_level)
            found = self._unless_memory_runs_out(cut, partial(self._evaluate, data, cut, check))
        return cut, found

    def loads(self, data: Dataset, micro_batches: Sequence[np.ndarray]) -> list[Load]:
        """What a step of these rows computes, piece by piece; it takes their lengths alone to tell."""
        cut = self._cutting.step(data.lengths, micro_batches, self.memory_level)
        return [
            Load(size, self._cutting.pairs(data.lengths[rows])) for rows, size in zip(cut.parts, cut.sizes, strict=True)
        ]

    def side_by_side(self, sizes: Sequence[float], at_once: float | None = None) -> int:
        """How many pieces of these sizes are in memory at a time, of `at_once` positions in all (None: as at first)."""
        room = (at_once or self._cutting.usually_at_once) // max(sizes)
        return int(max(1, min(self.lanes, len(sizes), room)))

    def _sum(self, number: int, cut: Cut, batches: list[Batch], check: Callable[[], None]) -> tuple[float, Any]:
        """This rank's share of the step's loss, and of its gradients."""
        trained = sum(len(batch.targets) for batch in batches)

        def work(lane: Lane, parameters: Any, i: int) -> tuple[mx.array, Any]:
            mx.random.seed(_derived_seed(self._command.seed, number, i))  # of this thread
            too_long = self.memory_level > 0 and cut.sizes[i] > cut.at_once
            return lane.gradients(
                parameters, batches[i], self._caches(batches[i]), share=1 / trained, recompute=too_long
            )

        total, gradients = mx.array(0.0), None
        for loss, gradient in self._map(work, cut, self._group.share(cut.sizes), check):
            total = total + loss
            gradients = gradient if gradients is None else add(gradients, gradient)
            del gradient  # added in place
            mx.eval(total, gradients)
        if gradients is None:  # this rank had nothing to do
            gradients = tree_map(mx.zeros_like, self._model.trainable_parameters())
        return total.item(), gradients

    def _evaluate(self, data: Dataset, cut: Cut, check: Callable[[int, int], None]) -> list[tuple[int, EvaluatedRows]]:
        """This rank's pieces: their numbers, and what became of their rows, in the order of `cut.parts`."""

        def work(lane: Lane, parameters: Any, i: int) -> tuple[int, EvaluatedRows]:
            examples = [data.examples[row] for row in cut.parts[i]]
            batch = self._join(examples)
            losses, hits = lane.evaluate(parameters, batch, self._caches(batch))
            trained = np.array([example.trained for example in examples])
            starts = np.cumsum(trained) - trained
            return i, EvaluatedRows(
                np.add.reduceat(losses, starts, dtype=np.float64),
                np.add.reduceat(hits, starts, dtype=np.int64),
                trained,
            )

        share = self._group.share(cut.sizes)
        found: list[tuple[int, EvaluatedRows]] = []
        for each in self._map(work, cut, share, lambda: check(len(found), len(share))):
            found.append(each)
        check(len(share), len(share))
        return found

    def _unless_memory_runs_out(self, cut: Cut, compute: Callable[[], Result]) -> Result | None:
        """What it computes; None when memory ran out, on any rank: it is to be done again then, at a higher level."""
        found = failure = None
        try:
            found = compute()
        except (RuntimeError, MemoryError) as error:
            if error_kind(error) != "out_of_memory":
                raise
            failure = one_line(error)
        failures = [each for each in self._group.exchange(failure) if each is not None]
        if not failures:
            return found
        self._lanes.settle()
        mx.clear_cache()
        if cut.finest:
            raise EngineError(
                "out_of_memory",
                f"Memory ran out although as little as possible was computed at a time ({failures[0]}). Lower "
                "dataset.max_seq_length, choose a smaller model, or train over packed weights (lora.use_qlora)",
            )
        self.memory_level += 1
        self.on_memory_level(
            self.memory_level, f"Memory ran out, half as much is computed at a time now: {failures[0]}"
        )
        return None

    def _collate(self, data: Dataset, rows: np.ndarray) -> Batch:
        return self._join([data.examples[i] for i in rows])

    def _join(self, examples: Sequence[Example]) -> Batch:
        join = pack if self._packing else collate
        return join(examples, self._pad, self._width_multiple)

    def _caches(self, batch: Batch) -> list[Any] | None:
        return None if self._packing is None else self._packing.caches(batch.segments)

    def _make_packing(self, loss: Loss, pin: Callable[[str, Any], Any]) -> Packing | None:
        """Packed rows cost what they cost alone as long as attention keeps to them; over a dense mask they cost the
        square of all (a bin of 512 tokens a quarter more than 4 rows of 128, padding apart), so only if asked for."""
        asked = self._command.dataset.packing
        if asked is False:
            return None
        packing = Packing(loss, dense=not self._on_cpu)
        fault = packing.fault(loss)
        if fault is not None and asked:
            self.packing_fault = fault
        chosen = pin("packing", fault is None and (asked or not packing.dense))
        return packing if chosen and fault is None else None

    def _map(
        self,
        work: Callable[[Lane, Any, int], Result],
        cut: Cut,
        share: Sequence[int],
        look: Callable[[], None],
    ) -> Iterator[Result]:
        """work(lane, trainable parameters, i) of each piece i of this rank's share, in order."""
        parameters = self._model.trainable_parameters()
        mx.eval(parameters)  # what is not evaluated yet belongs to this thread's stream
        lanes = min(self.side_by_side(cut.sizes, cut.at_once), max(1, len(share)))
        each = self._cores // lanes
        with TURN, blas.threads(each), kernels.threads(each):
            yield from self._lanes.map(
                lambda lane, i: work(lane, parameters, share[i]),
                len(share),
                side_by_side=min(lanes, len(self._lanes.workers)),
                ahead=self._ahead,
                look=look,
            )
        for lane in self._lanes.workers:
            lane.release()


def _derived_seed(*position: int) -> int:
    """64 bits for mx.random.seed from the run's seed and a place in it."""
    return int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0])
