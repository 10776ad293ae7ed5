"""Loss and gradients of a step, and the loss over held-out rows: all that the device is busy with.

Nothing is compiled: MLX's elementwise work gains nothing by it on a CPU (and it would need a C++ compiler there), so
that batches of ever new shapes cost no compilations.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten, tree_map

from mlx_engine import blas
from mlx_engine.cores import usable_cores
from mlx_engine.data.batches import Batch, bins, collate, evaluation_batches, pack, pieces
from mlx_engine.data.tokenize import Dataset
from mlx_engine.platform import Platform
from mlx_engine.protocol import Train
from mlx_engine.training.lanes import Lanes
from mlx_engine.training.loss import Loss, arrays
from mlx_engine.training.method import Subject
from mlx_engine.training.optimizer import add
from mlx_engine.training.packing import Packing
from mlx_engine.training.ranks import ALONE, Group

# On a CPU a step is computed in pieces of this many tokens, because larger ones are no faster there (SmolLM2-135M: 9.2
# CPU seconds per 1,000 tokens with 1 row of 256, 9.8 with 4 in one piece) and take more memory.
_PIECE_TOKENS = 512
# Two pieces are in memory at a time only up to this many tokens each, on average.
_LANE_TOKENS = 1024
_GPU_PACKED_TOKENS = 2048  # masks are dense there, so that attention costs the square of it
_CUDA_WIDTH = 128  # the backward pass of its fused attention needs it
_EVALUATION_IS_SMALLER = 4  # times, as nothing is kept for a gradient
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


class Compute:
    """`pin` is given the choices that decide the last bits, by name, and returns those that the run began with."""

    def __init__(
        self,
        command: Train,
        subject: Subject,
        platform: Platform,
        group: Group = ALONE,
        pin: Callable[[str, Any], Any] = lambda name, chosen: chosen,
    ) -> None:
        self._group = group
        self._command = command
        self._model = subject.model
        self._pad = subject.loaded.tokenizer.pad_token_id or 0
        self._on_cpu = platform.on_cpu
        self._width_multiple = _CUDA_WIDTH if platform.device.startswith("cuda") else 1
        cores = usable_cores()
        # Pieces that a step is to have, or a multiple of it: the same for any number of ranks on a CPU.
        self._parts = pin("cores", cores) if platform.on_cpu else group.size
        self._cores = max(1, self._parts // group.size)
        self.lanes = self._cores
        loss = Loss(subject.model)
        self.responses_only = loss.responses_only
        self.packing_fault: str | None = None  # why rows are not packed although that was asked for
        self._packing = self._make_packing(loss, pin)
        self._lanes = Lanes(
            [_Lane(loss.twin()) for _ in range(min(max(1, cores // group.size), self.lanes))],
            inline=not platform.on_cpu,
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
        batches = [self._collate(data, rows) for rows in self._pieces(data, micro_batches)]
        trained = sum(len(batch.targets) for batch in batches)

        def work(lane: _Lane, parameters: Any, i: int) -> tuple[mx.array, Any]:
            mx.random.seed(_derived_seed(self._command.seed, number, i))  # of this thread
            return lane.gradients(parameters, batches[i], self._caches(batches[i]), 1 / trained)

        sizes = [batch.inputs.size for batch in batches]
        total, gradients = mx.array(0.0), None
        for loss, gradient in self._map(work, sizes, self._group.share(sizes), check):
            total = total + loss
            gradients = gradient if gradients is None else add(gradients, gradient)
            del gradient  # added in place
            mx.eval(total, gradients)
        check()
        if gradients is None:  # this rank had nothing to do
            gradients = tree_map(mx.zeros_like, self._model.trainable_parameters())
        return Computed(
            loss=mx.array(sum(self._group.exchange(total.item()))),
            gradients=self._group.total(gradients),
            rows=sum(batch.rows for batch in batches),
            tokens=sum(batch.tokens for batch in batches),
            trained=trained,
            positions=sum(batch.inputs.size for batch in batches),
        )

    def evaluate(self, data: Dataset, check: Callable[[int, int], None]) -> Evaluated:
        """Over all rows in a fixed order, without dropout. Calls `check` with pieces done and in all, as in a step."""
        if self._on_cpu:
            parts = self._cut(np.arange(len(data.examples)), data.lengths, _PIECE_TOKENS)
        else:
            parts = evaluation_batches(data.lengths, self._command.dataset.batch_size)
        sizes = [len(part) * max(data.lengths[row] for row in part) // _EVALUATION_IS_SMALLER for part in parts]

        def work(lane: _Lane, parameters: Any, i: int) -> tuple[float, int]:
            batch = self._collate(data, parts[i])
            return lane.evaluate(parameters, batch, self._caches(batch))

        share = self._group.share(sizes)
        found: list[tuple[float, int]] = []
        for each in self._map(work, sizes, share, lambda: check(len(found), len(share))):
            found.append(each)
        check(len(share), len(share))
        everyone = self._group.exchange([[i, *each] for i, each in zip(share, found, strict=True)])
        in_order = sorted(each for one in everyone for each in one)
        _, loss, correct = (sum(column) / data.trained_tokens for column in zip(*in_order, strict=True))
        return Evaluated(loss, correct, data.trained_tokens)

    def side_by_side(self, sizes: Sequence[float]) -> int:
        """How many pieces of these tokens, padding included, are in memory at a time."""
        return max(1, min(self.lanes, len(sizes), int(self.lanes * _LANE_TOKENS // max(1, *sizes))))

    def _pieces(self, data: Dataset, micro_batches: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """A step's rows as they are computed: on a GPU the micro-batches as they were asked for, divided where that
        would give the ranks unequal work."""
        if self._on_cpu:
            return self._cut(np.concatenate(micro_batches), data.lengths, _PIECE_TOKENS)
        if not self._packing and len(micro_batches) % self._group.size == 0:
            return micro_batches
        tokens = _GPU_PACKED_TOKENS if self._packing else sys.maxsize
        return [part for rows in micro_batches for part in self._cut(rows, data.lengths, tokens)]

    def _cut(self, rows: np.ndarray, lengths: np.ndarray, tokens: int) -> list[np.ndarray]:
        return (bins if self._packing else pieces)(rows, lengths, tokens=tokens, multiple=self._parts)

    def _collate(self, data: Dataset, rows: np.ndarray) -> Batch:
        join = pack if self._packing else collate
        return join([data.examples[i] for i in rows], self._pad, self._width_multiple)

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
        work: Callable[[_Lane, Any, int], Result],
        sizes: Sequence[int],
        share: Sequence[int],
        look: Callable[[], None],
    ) -> Iterator[Result]:
        """work(lane, trainable parameters, i) of each piece i of this rank's share, in order; `sizes` are the tokens of
        all pieces, padding included."""
        parameters = self._model.trainable_parameters()
        mx.eval(parameters)  # what is not evaluated yet belongs to this thread's stream
        lanes = min(self.side_by_side(sizes), max(1, len(share)))
        with blas.threads(self._cores // lanes):
            yield from self._lanes.map(
                lambda lane, i: work(lane, parameters, share[i]),
                len(share),
                side_by_side=min(lanes, len(self._lanes.workers)),
                ahead=self._ahead,
                look=look,
            )
        for lane in self._lanes.workers:
            lane.release()


class _Lane:
    """A model of its own over the same arrays, so that gradients can be built on several threads."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self._value_and_grad = mx.value_and_grad(self._share)
        self._nothing = tree_map(lambda _: mx.array(0.0), loss.model.trainable_parameters())
        self.release()

    def gradients(self, parameters: Any, batch: Batch, caches: list[Any] | None, share: float) -> tuple[mx.array, Any]:
        """The loss times `share`, and its gradients, evaluated."""
        self._loss.model.train()
        parameters = tree_map(lambda array: array, parameters)  # tracers stand in this very tree meanwhile
        loss, gradients = self._value_and_grad(parameters, batch, caches, share)
        mx.eval(loss, gradients)
        return loss, gradients

    def evaluate(self, parameters: Any, batch: Batch, caches: list[Any] | None) -> tuple[float, int]:
        """Summed loss, and how many targets are the most likely tokens."""
        self._loss.model.update(parameters)
        self._loss.model.eval()
        loss, hits = self._loss.evaluate(*arrays(batch), caches)
        return loss.item(), hits.item()

    def release(self) -> None:
        """Lets go of the parameters, which the optimiser is about to replace."""
        self._loss.model.update(self._nothing)

    def _share(self, parameters: Any, batch: Batch, caches: list[Any] | None, share: float) -> mx.array:
        self._loss.model.update(parameters)
        return self._loss(*arrays(batch), caches) * share


def _derived_seed(*position: int) -> int:
    """64 bits for mx.random.seed from the run's seed and a place in it."""
    return int(np.random.SeedSequence(position).generate_state(1, np.uint64)[0])
