"""A step's gradients, however it is computed: lanes, pieces, micro-batches."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map
from mlx_lm.utils import load as mlx_lm_load

from harness import train_command
from mlx_engine import blas, platform
from mlx_engine.data.batches import Example
from mlx_engine.training import compute as module
from mlx_engine.training import cutting
from mlx_engine.training.compute import Compute, Computed
from mlx_engine.training.loss import Loss, arrays
from mlx_engine.training.method import Subject, prepare
from tiny import make_tiny_model

LENGTHS = [30, 9, 120, 44, 71, 13, 5, 60]
CPU = mx.default_device() == mx.Device(mx.cpu)


@dataclass
class Rows:
    """What Compute sees of a data set."""

    examples: list[Example]

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(example.tokens) for example in self.examples])

    @property
    def tokens(self) -> int:
        return int(self.lengths.sum())

    @property
    def trained_tokens(self) -> int:
        return sum(example.trained for example in self.examples)


def rows(lengths: list[int] = LENGTHS) -> Rows:
    """Random rows whose second half carries loss."""
    generator = np.random.default_rng(3)
    examples = []
    for i, length in enumerate(lengths):
        mask = (np.arange(length) >= length // 2) & (np.arange(length) > 0)
        examples.append(Example(i, generator.integers(4, 380, length).astype(np.int32), mask))
    return Rows(examples)


def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int = 1, **changes: Any) -> tuple[Compute, Subject]:
    """Over a tiny model whose adapter is not zero."""
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    folder = tmp_path / "model"
    if not folder.exists():
        make_tiny_model(folder)
    found = platform.setup()
    command = train_command(tmp_path, folder, [], lora__target_modules=["all-linear"], **changes)
    subject = prepare(command, found)
    mx.random.seed(2)
    subject.model.update(tree_map(lambda p: p + 0.05 * mx.random.normal(p.shape), subject.model.trainable_parameters()))
    mx.eval(subject.model.parameters())
    return Compute(command, subject, found), subject


def step(compute: Compute, batches: list[list[int]], data: Rows | None = None) -> Computed:
    return compute.step(0, data or rows(), [np.array(batch) for batch in batches], lambda: None)


def flat(computed: Computed) -> dict[str, mx.array]:
    return dict(tree_flatten(computed.gradients))


def close(left: Computed, right: Computed, tolerance: float = 1e-5) -> None:
    assert left.loss.item() == pytest.approx(right.loss.item(), rel=1e-6)
    assert (left.rows, left.tokens, left.trained) == (right.rows, right.tokens, right.trained)
    first, second = flat(left), flat(right)
    assert first.keys() == second.keys()
    for name in first:
        scale = mx.abs(second[name]).max().item()
        assert scale > 0
        assert mx.abs(first[name] - second[name]).max().item() <= tolerance * scale, name


def same_bits(left: Computed, right: Computed) -> bool:
    pairs = zip(flat(left).values(), flat(right).values(), strict=True)
    return left.loss.item() == right.loss.item() and all(mx.array_equal(a, b).item() for a, b in pairs)


ALL = list(range(len(LENGTHS)))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_lanes_packing_and_accumulation_change_only_the_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    changes: dict[str, Any] = {"method": method}
    if method == "full":
        changes["lora"] = None
        monkeypatch.setattr(module, "_SMALL_GRADIENT_BYTES", 0)
    expected = _step_with(tmp_path, monkeypatch, 1, [ALL], dataset__packing=False, **changes)
    for cores, batches in (
        (1, [ALL]),
        (2, [ALL]),
        (3, [ALL]),
        (8, [ALL]),
        (2, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (1, [[0], [1, 2, 3, 4, 5], [6, 7]]),
    ):
        for packing in (False, True):
            found = _step_with(tmp_path, monkeypatch, cores, batches, dataset__packing=packing, **changes)
            close(found, expected)
            if packing:
                assert found.positions == found.tokens - found.rows  # no padding at all


def _step_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, batches: list[list[int]], **changes: Any
) -> Computed:
    return step(make(tmp_path, monkeypatch, cores, **changes)[0], batches)


def test_the_same_step_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout included: each piece's random numbers are its own, whichever thread draws them and when."""
    compute, _ = make(tmp_path, monkeypatch, 3, lora__dropout=0.3)
    monkeypatch.setattr(cutting, "_PIECE_TOKENS", 64)
    first = step(compute, [ALL])
    for _ in range(5):
        mx.random.normal((7,))  # of the calling thread, which has no say
        assert same_bits(step(compute, [ALL]), first)
    again, _ = make(tmp_path, monkeypatch, 3, lora__dropout=0.3)
    assert same_bits(step(again, [ALL]), first)
    other = again.step(1, rows(), [np.array(ALL)], lambda: None)
    assert not same_bits(other, first)


@pytest.mark.skipif(not CPU, reason="lanes are for CPUs")
def test_lanes_work_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, _ = make(tmp_path, monkeypatch, 2)
    both = threading.Barrier(2, timeout=60)
    gradients = module.Lane.gradients

    def meet(self: Any, *arguments: Any, **options: Any) -> Any:
        both.wait()  # breaks unless two pieces are begun at the same time
        return gradients(self, *arguments, **options)

    monkeypatch.setattr(module.Lane, "gradients", meet)
    assert step(compute, [[0, 1], [2, 3]]).rows == 4


def test_trained_parameters_reach_the_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, subject = make(tmp_path, monkeypatch, 2)
    before = step(compute, [ALL])
    evaluated = compute.evaluate(rows(), lambda done, total: None)
    subject.model.update(tree_map(lambda p: p * 1.5, subject.model.trainable_parameters()))
    after = step(compute, [ALL])
    assert abs(after.loss.item() - before.loss.item()) > 1e-4
    assert abs(compute.evaluate(rows(), lambda done, total: None).loss - evaluated.loss) > 1e-4
    close(after, _expected(subject))


def _expected(subject: Subject) -> Computed:
    """Row by row with the stock model."""
    data = rows()
    loss = Loss(subject.model)
    trained = data.trained_tokens
    value_and_grad = mx.value_and_grad(lambda parameters, *batch: (subject.model.update(parameters), loss(*batch))[1])
    total, gradients = mx.array(0.0), None
    for example in data.examples:
        batch = arrays(module.collate([example], 0))
        value, found = value_and_grad(subject.model.trainable_parameters(), *batch)
        total = total + value / trained
        found = tree_map(lambda g: g / trained, found)
        gradients = found if gradients is None else module.add(gradients, found)
    return Computed(total, gradients, len(data.examples), data.tokens, trained, 0)


def test_against_each_row_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, subject = make(tmp_path, monkeypatch, 2)
    close(step(compute, [ALL]), _expected(subject))


@pytest.mark.skipif(not CPU, reason="lanes are for CPUs")
def test_a_look_that_raises_ends_the_step_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, _ = make(tmp_path, monkeypatch, 2)
    expected = step(compute, [ALL])
    begun, go_on = threading.Semaphore(0), threading.Event()
    gradients = module.Lane.gradients

    def wait(self: Any, *arguments: Any, **options: Any) -> Any:
        begun.release()
        assert go_on.wait(60)
        return gradients(self, *arguments, **options)

    def look() -> None:
        if begun.acquire(blocking=False):
            raise InterruptedError("stop")

    monkeypatch.setattr(module.Lane, "gradients", wait)
    started = time.monotonic()
    with pytest.raises(InterruptedError):
        compute.step(0, rows(), [np.array(ALL)], look)
    assert time.monotonic() - started < 30  # although no piece can end
    go_on.set()
    monkeypatch.setattr(module.Lane, "gradients", gradients)
    assert same_bits(step(compute, [ALL]), expected)


def test_an_error_in_a_lane_is_the_step_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, _ = make(tmp_path, monkeypatch, 2)
    expected = step(compute, [ALL])
    monkeypatch.setattr(module.Lane, "gradients", lambda *_, **__: mx.zeros((2, 3)) @ mx.zeros((2, 3)))
    with pytest.raises(ValueError, match="matmul"):
        step(compute, [ALL])
    monkeypatch.undo()
    assert same_bits(step(compute, [ALL]), expected)


def test_evaluation_adds_up_over_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = rows()
    found = {}
    for cores in (1, 2):
        compute, subject = make(tmp_path, monkeypatch, cores, lora__dropout=0.5)
        looks: list[tuple[int, int]] = []
        found[cores] = compute.evaluate(data, lambda done, total, looks=looks: looks.append((done, total)))
        assert looks[0][0] == 0
        assert looks[-1][0] == looks[-1][1] > 0
        assert compute.evaluate(data, lambda done, total: None) == found[cores]
    assert found[1].trained == data.trained_tokens
    assert found[2].loss == pytest.approx(found[1].loss, rel=1e-6)
    subject.model.eval()
    logits = [np.array(subject.model(mx.array(e.tokens[None])))[0].astype(np.float64) for e in data.examples]
    loss = hits = 0.0
    for example, scores in zip(data.examples, logits, strict=True):
        for i in np.flatnonzero(example.supervised):
            loss += np.log(np.exp(scores[i - 1]).sum()) - scores[i - 1, example.tokens[i]]
            hits += scores[i - 1].argmax() == example.tokens[i]
    assert found[1].loss == pytest.approx(loss / data.trained_tokens, rel=1e-5)
    assert found[1].token_accuracy == pytest.approx(hits / data.trained_tokens)


def test_a_twin_has_its_own_modules_and_the_same_arrays(tmp_path: Path) -> None:
    model, _ = mlx_lm_load(str(make_tiny_model(tmp_path)))
    twin = Loss(model).twin().model
    ours, theirs = dict(tree_flatten(model.parameters())), dict(tree_flatten(twin.parameters()))
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in ours)
    twin.model.norm.weight = mx.zeros_like(twin.model.norm.weight)
    assert model.model.norm.weight.max().item() > 0


def test_packing_is_chosen_where_it_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins: dict[str, Any] = {}

    def compute(model_type: str, packing: bool | None) -> Compute:
        folder = tmp_path / model_type
        if not (folder / "model").exists():
            make_tiny_model(folder / "model", model_type=model_type)
        subject = make(folder, monkeypatch, dataset__packing=packing)[1]
        command = train_command(folder, folder / "model", [], dataset__packing=packing)
        return Compute(command, subject, platform.setup(), pin=pins.setdefault)

    assert compute("llama", None).packs == CPU
    assert pins["packing"] == CPU
    assert compute("llama", True).packs == CPU  # as the run began
    pins.clear()
    assert compute("llama", True).packs
    pins.clear()
    assert not compute("llama", False).packs
    assert not compute("gemma2", None).packs  # over dense masks only: possible, and slower
    pins.clear()
    assert compute("gemma2", True).packs
    pins.clear()
    impossible = compute("falcon_h1", True)
    assert not impossible.packs
    assert "Error" in impossible.packing_fault
    assert compute("falcon_h1", None).packing_fault is None  # nobody asked


@pytest.mark.skipif(blas._mkl is None, reason="another BLAS than MKL")
def test_blas_threads_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = blas._mkl.MKL_Get_Max_Threads()
    seen = set()
    compute, _ = make(tmp_path, monkeypatch, 2)
    gradients = module.Lane.gradients

    def look(self: Any, *arguments: Any, **options: Any) -> Any:
        seen.add(blas._mkl.MKL_Get_Max_Threads())
        return gradients(self, *arguments, **options)

    monkeypatch.setattr(module.Lane, "gradients", look)
    step(compute, [ALL])
    assert seen == {1}
    seen.clear()
    step(compute, [[2]])
    assert seen == {2} or before == 1
    assert blas._mkl.MKL_Get_Max_Threads() == before
