"""Rows laid end to end: which models allow it, and that it changes nothing but the rounding."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models import llama
from mlx_lm.utils import load as mlx_lm_load

from mlx_engine.data.batches import Batch, Example, bins, collate, pack
from mlx_engine.protocol import LoraSpec
from mlx_engine.training.lora import apply_lora
from mlx_engine.training.loss import Loss, arrays
from mlx_engine.training.packing import Packing, Segments
from tiny import make_tiny_model

WINDOW = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 6}


def examples(*lengths: int) -> list[Example]:
    generator = np.random.default_rng(3)
    rows = []
    for length in lengths:
        mask = (np.arange(length) >= length // 2) & (np.arange(length) > 0)
        rows.append(Example(0, generator.integers(4, 380, length).astype(np.int32), mask))
    return rows


def tiny(folder: Path, model_type: str = "llama", **options: object) -> Loss:
    model, _ = mlx_lm_load(str(make_tiny_model(folder, model_type=model_type, **options)))
    apply_lora(model, LoraSpec(rank=4, alpha=8.0, dropout=0.0, target_modules=["q_proj", "v_proj"]), 1)
    mx.random.seed(2)
    model.update(tree_map(lambda p: p + 0.05 * mx.random.normal(p.shape), model.trainable_parameters()))
    return Loss(model)


def gradients(loss: Loss, batch: Batch, packing: Packing | None) -> tuple[float, dict[str, mx.array]]:
    def run(parameters: dict) -> mx.array:
        loss.model.update(parameters)
        return loss(*arrays(batch), packing and packing.caches(batch.segments))

    value, tree = mx.value_and_grad(run)(loss.model.trainable_parameters())
    return value.item(), dict(tree_flatten(tree))


@pytest.mark.parametrize("dense", [False, True], ids=["segments", "dense"])
@pytest.mark.parametrize(
    ("model_type", "options"),
    [("llama", {}), ("llama", WINDOW), ("qwen2", {}), ("qwen3", {}), ("gemma", {}), ("gemma2", {}), ("olmo2", {})],
    ids=["llama", "window", "qwen2", "qwen3", "gemma", "gemma2", "olmo2"],
)
def test_packed_gradients_are_the_padded_ones(tmp_path: Path, model_type: str, options: dict, dense: bool) -> None:
    loss = tiny(tmp_path, model_type, **options)
    packing = Packing(loss, dense=dense)
    assert packing.fault(loss) is None
    rows = examples(40, 3, 17, 2, 9)
    expected, padded = gradients(loss, collate(rows, 0), None)
    for multiple in (1, 32):
        found, packed = gradients(loss, pack(rows, 0, multiple), packing)
        assert found == pytest.approx(expected, rel=1e-6)
        for name, gradient in padded.items():
            scale = mx.abs(gradient).max().item()
            assert mx.abs(packed[name] - gradient).max().item() <= 1e-5 * scale, name


def test_a_state_that_runs_through_the_row_is_found_out(tmp_path: Path) -> None:
    model, _ = mlx_lm_load(str(make_tiny_model(tmp_path, model_type="falcon_h1")))
    loss = Loss(model)
    assert "Error" in Packing(loss, dense=False).fault(loss)


def test_a_model_that_attends_by_itself_is_given_arrays(tmp_path: Path) -> None:
    loss = tiny(tmp_path, "gemma2")
    packing = Packing(loss, dense=False)
    assert packing.fault(loss) is None
    assert packing.dense


def test_positions_that_do_not_restart_are_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that adds an embedding of the absolute position, as GPT-2 does."""
    table = mx.random.normal((64, 64), key=mx.random.key(0))
    original = llama.LlamaModel.__call__

    def absolute(self: llama.LlamaModel, inputs: mx.array, cache: object = None) -> mx.array:
        embedded = self.embed_tokens(inputs) + table[: inputs.shape[1]]
        return original(self, inputs, cache, input_embeddings=embedded)

    loss = tiny(tmp_path)
    assert Packing(loss, dense=False).fault(loss) is None
    monkeypatch.setattr(llama.LlamaModel, "__call__", absolute)
    assert "differ" in Packing(loss, dense=False).fault(loss)
    assert "differ" in Packing(loss, dense=True).fault(loss)


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    window=st.one_of(st.none(), st.integers(1, 14)),
)
def test_the_mask(lengths: list[int], window: int | None) -> None:
    segment = [i for i, length in enumerate(lengths) for _ in range(length)]
    mask = np.array(Segments(tuple(lengths), window).array())
    for i in range(len(segment)):
        for j in range(len(segment)):
            seen = segment[i] == segment[j] and j <= i and (window is None or j > i - window)
            assert mask[i, j] == seen
    starts = Segments(tuple(lengths)).starts
    assert starts.dtype == mx.int32
    assert starts.tolist() == [segment.index(s) for s in segment]


def test_pack_lays_rows_end_to_end() -> None:
    first = Example(0, np.array([5, 6, 7, 8], dtype=np.int32), np.array([0, 0, 1, 1], dtype=bool))
    second = Example(1, np.array([1, 2, 3], dtype=np.int32), np.array([0, 1, 0], dtype=bool))
    batch = pack([first, second], pad=9)
    assert batch.inputs.tolist() == [[5, 6, 7, 1, 2]]
    assert batch.positions.tolist() == [1, 2, 3]
    assert batch.targets.tolist() == [7, 8, 2]
    assert (batch.rows, batch.tokens, batch.segments) == (2, 7, (3, 2))
    padded = pack([first, second], pad=9, multiple=8)
    assert padded.inputs.tolist() == [[5, 6, 7, 1, 2, 9, 9, 9]]
    assert padded.segments == (3, 2, 3)
    assert padded.positions.tolist() == batch.positions.tolist()


@given(
    lengths=st.lists(st.integers(2, 500), min_size=1, max_size=300),
    tokens=st.integers(1, 2000),
    multiple=st.integers(1, 5),
)
def test_bins_keep_every_row_and_to_their_size(lengths: list[int], tokens: int, multiple: int) -> None:
    parts = bins(np.arange(len(lengths)), lengths, tokens=tokens, multiple=multiple)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    assert all(len(part) == 1 or sum(lengths[i] for i in part) <= tokens for part in parts)


def test_bins_are_balanced_and_enough_for_the_lanes() -> None:
    def sums(lengths: list[int], multiple: int) -> list[int]:
        return [
            sum(lengths[i] for i in part)
            for part in bins(np.arange(len(lengths)), lengths, tokens=512, multiple=multiple)
        ]

    assert sums([50, 50, 40, 40, 30, 30], 2) == [120, 120]
    assert sums([300, 40, 30, 20], 2) == [300, 90]
    assert sums([400, 400], 1) == [400, 400]
    assert sums([100], 4) == [100]
