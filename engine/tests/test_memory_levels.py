"""Less in memory at a time, with the same result: what is cut, layers that are computed again, running out for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_flatten
from mlx_lm.models.llama import TransformerBlock

from mlx_engine.data.batches import collate
from mlx_engine.protocol import EngineError
from mlx_engine.training.cutting import Cutting
from mlx_engine.training.lane import Lane
from mlx_engine.training.loss import Loss
from test_compute import ALL, LENGTHS, close, flat, make, rows, same_bits, step
from tiny import make_tiny_model

HIGHEST = 10  # of LENGTHS, whose rows are computed one by one and in little then


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_level_changes_only_the_rounding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, packing: bool
) -> None:
    changes: dict[str, Any] = {"method": method, "dataset__packing": packing}
    if method == "full":
        changes["lora"] = None
    expected = step(make(tmp_path, monkeypatch, 2, **changes)[0], [ALL])
    recompute = _spy(monkeypatch)
    for level in (1, 2, 3, HIGHEST):
        compute, _ = make(tmp_path, monkeypatch, 2, memory_level=level, **changes)
        recompute.clear()
        close(step(compute, [[0, 1, 2, 3], [4, 5, 6, 7]]), expected)
        assert compute.memory_level == level
    assert recompute == [True] * len(LENGTHS)


def _spy(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each piece was computed with layer checkpointing."""
    seen: list[bool] = []
    gradients = Lane.gradients

    def spy(self: Lane, *arguments: Any, **options: Any) -> Any:
        seen.append(options["recompute"])
        return gradients(self, *arguments, **options)

    monkeypatch.setattr(Lane, "gradients", spy)
    return seen


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@given(
    lengths=st.lists(st.integers(2, 3000), min_size=1, max_size=40), size=st.integers(1, 9), level=st.integers(0, 14)
)
def test_each_level_halves_what_is_in_memory(
    lengths: list[int], size: int, level: int, on_cpu: bool, packed: bool
) -> None:
    cutting = Cutting(
        on_cpu=on_cpu, packed=packed, dense=not on_cpu, lanes=2, multiple=2, batch_size=size, width_multiple=1
    )
    table = np.array(lengths)
    every = np.arange(len(lengths))
    batches = [every[i : i + size] for i in range(0, len(lengths), size)]
    cuts = [cutting.step(table, batches, level) for level in (level, level + 1)]
    for cut in [*cuts, cutting.evaluation(table, level)]:
        assert sorted(np.concatenate(cut.parts).tolist()) == every.tolist()
        assert list(cut.sizes) == [cutting.positions(table[part]) for part in cut.parts]
        if level:
            assert all(len(part) == 1 or each <= cut.at_once for part, each in zip(cut.parts, cut.sizes, strict=True))
    assert cuts[1].at_once <= max(1, cuts[0].at_once / 2)
    highest = cutting.step(table, batches, 30)
    assert highest.finest == (min(lengths) > 2)
    assert all(len(part) == 1 for part in highest.parts) or min(lengths) == 2


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_layers_computed_again_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dropout: float
) -> None:
    """Dropout included, which must drop the same numbers again; and nothing of it is left afterwards."""
    _, subject = make(tmp_path, monkeypatch, lora__dropout=dropout)
    lane = Lane(Loss(subject.model))
    parameters = subject.model.trainable_parameters()
    batch = collate(rows().examples, 0)
    found = []
    for recompute in (False, True, False):
        mx.random.seed(5)
        found.append(lane.gradients(parameters, batch, None, share=0.5, recompute=recompute))
        found[-1] = (*found[-1], mx.random.normal((4,)).tolist() if not recompute else None)
        assert all(type(layer) is TransformerBlock for layer in [*subject.model.layers, *lane._model.layers])
    for loss, gradients, drawn in found[1:]:
        assert loss.item() == found[0][0].item()
        for (name, a), (_, b) in zip(tree_flatten(gradients), tree_flatten(found[0][1]), strict=True):
            assert mx.array_equal(a, b).item(), name
        assert drawn in (None, found[0][2])
    mx.random.seed(6)
    other = lane.gradients(parameters, batch, None, share=0.5, recompute=True)[0].item()
    assert (other == found[0][0].item()) == (dropout == 0.0)


def test_layers_computed_again_take_less_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiny_model(tmp_path / "model", num_hidden_layers=12)
    _, subject = make(tmp_path, monkeypatch)
    lane = Lane(Loss(subject.model))
    parameters = subject.model.trainable_parameters()
    batch = collate(rows([300] * 4).examples, 0)
    peaks = []
    for recompute in (False, True):
        mx.clear_cache()
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        lane.gradients(parameters, batch, None, share=1.0, recompute=recompute)
        peaks.append(mx.get_peak_memory() - before)
    assert peaks[1] < 0.4 * peaks[0]


@pytest.mark.parametrize("during", ["step", "evaluation"])
def test_running_out_of_memory_raises_the_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: str) -> None:
    """Layers that really ask for more memory than any machine has, as long as they are given many tokens."""
    compute, subject = make(tmp_path, monkeypatch, 2, dataset__packing=False)

    def run() -> Any:
        if during == "step":
            return step(compute, [ALL])
        return compute.evaluate(rows(), lambda done, total: None)

    expected = run()
    told: list[tuple[int, str]] = []
    compute.on_memory_level = lambda level, message: told.append((level, message))
    call = TransformerBlock.__call__
    most = 120

    def greedy(self: TransformerBlock, x: mx.array, *arguments: Any, **options: Any) -> mx.array:
        if x.shape[0] * x.shape[1] > most:
            np.empty(1 << 55)
        return call(self, x, *arguments, **options)

    monkeypatch.setattr(TransformerBlock, "__call__", greedy)
    found = run()
    if during == "step":
        close(found, expected)
    else:
        assert found.loss == pytest.approx(expected.loss, rel=1e-6)
        assert found.token_accuracy == expected.token_accuracy
    assert [level for level, _ in told] == list(range(1, compute.memory_level + 1))
    assert compute.memory_level >= 1
    assert "Unable to allocate" in told[0][1]
    told.clear()
    if during == "step":
        assert same_bits(run(), found)  # stays at that level
    assert not told

    most = 1
    with pytest.raises(EngineError, match="as little as possible") as error:
        run()
    assert error.value.kind == "out_of_memory"
    monkeypatch.setattr(TransformerBlock, "__call__", call)
    subject.model.train()
    assert flat(step(compute, [ALL])).keys()


def test_other_errors_are_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute, _ = make(tmp_path, monkeypatch, 2)

    def broken(self: TransformerBlock, *arguments: Any, **options: Any) -> mx.array:
        raise RuntimeError("broken")

    monkeypatch.setattr(TransformerBlock, "__call__", broken)
    with pytest.raises(RuntimeError, match="broken"):
        step(compute, [ALL])
    assert compute.memory_level == 0
