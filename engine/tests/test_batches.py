from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_engine.data.batches import collate, epoch_batches, evaluation_batches, pieces
from mlx_engine.data.tokenize import Example
from mlx_engine.training.schedule import learning_rate, warmup_steps

lengths_of_rows = st.lists(st.integers(2, 500), min_size=1, max_size=300)


@given(lengths=lengths_of_rows, size=st.integers(1, 9), epoch=st.integers(0, 3), shuffle=st.booleans())
def test_every_row_once_and_no_batch_dropped(lengths: list[int], size: int, epoch: int, shuffle: bool) -> None:
    batches = epoch_batches(lengths, size, shuffle=shuffle, seed=1, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size)
    assert sorted(map(len, batches))[1:] == [size] * (len(batches) - 1)


def test_file_order_without_shuffling() -> None:
    batches = epoch_batches([9, 1, 5, 3, 7], 2, shuffle=False, seed=1, epoch=3)
    assert [b.tolist() for b in batches] == [[0, 1], [2, 3], [4]]


def test_order_is_a_function_of_seed_and_epoch() -> None:
    lengths = list(range(2, 200))

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_batches(lengths, 4, shuffle=True, seed=seed, epoch=epoch)).tolist()

    np.random.seed(5)  # the global generator has no say
    first = order(1, 0)
    assert order(1, 0) == first
    assert order(1, 1) != first
    assert order(2, 0) != first


def test_batches_hold_rows_of_like_length_in_random_order() -> None:
    """Batches in random order would be 40% padding with such lengths."""
    lengths = np.random.default_rng(0).lognormal(5, 0.7, 1000).astype(int) + 2
    batches = epoch_batches(lengths, 4, shuffle=True, seed=1, epoch=0)
    padded = sum(len(b) * lengths[b].max() for b in batches)
    assert padded < 1.06 * lengths.sum()
    means = [lengths[b].mean() for b in batches]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.2


def test_evaluation_takes_all_rows_longest_first() -> None:
    batches = evaluation_batches([3, 9, 5], 2)
    assert [b.tolist() for b in batches] == [[1, 2], [0]]


@given(lengths=lengths_of_rows, tokens=st.integers(1, 2000), multiple=st.integers(1, 5))
def test_pieces_keep_every_row_and_to_their_size(lengths: list[int], tokens: int, multiple: int) -> None:
    rows = np.arange(len(lengths))
    parts = pieces(rows, lengths, tokens=tokens, multiple=multiple)
    assert sorted(np.concatenate(parts).tolist()) == rows.tolist()
    assert all(len(part) == 1 or len(part) * max(lengths[i] for i in part) <= tokens for part in parts)


def test_pieces_are_balanced_and_enough_for_the_lanes() -> None:
    def widths(lengths: list[int], multiple: int) -> list[list[int]]:
        parts = pieces(np.arange(len(lengths)), lengths, tokens=512, multiple=multiple)
        return [[lengths[i] for i in part] for part in parts]

    assert widths([100, 100, 100, 100], 1) == [[100] * 4]
    assert widths([100, 100, 100, 100], 2) == [[100] * 2] * 2
    assert widths([100, 500, 90, 80], 2) == [[500], [100, 90, 80]]
    assert widths([256] * 6, 2) == [[256] * 2, [256] * 2, [256], [256]]
    assert widths([700, 300, 200], 2) == [[700], [300], [200]]
    assert widths([50], 8) == [[50]]


def test_collate_shifts_by_one_and_pads_on_the_right() -> None:
    def example(tokens: list[int], mask: list[int]) -> Example:
        return Example(0, np.array(tokens, dtype=np.int32), np.array(mask, dtype=bool))

    batch = collate([example([5, 6, 7, 8], [0, 0, 1, 1]), example([1, 2], [0, 1])], pad=0)
    assert batch.inputs.tolist() == [[5, 6, 7], [1, 0, 0]]
    assert batch.positions.tolist() == [1, 2, 3]  # outputs after 6, after 7, after 1
    assert batch.targets.tolist() == [7, 8, 2]
    assert (batch.rows, batch.tokens) == (2, 6)


# ---- learning rate ----


def rates(kind: str, total: int, ratio: float) -> list[float]:
    warmup = warmup_steps(ratio, total)
    return [learning_rate(i, peak=1.0, total_steps=total, warmup=warmup, kind=kind) for i in range(total)]


def test_linear() -> None:
    assert rates("linear", 5, 0.0) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    assert rates("linear", 6, 0.3) == pytest.approx([0.5, 1, 1, 0.75, 0.5, 0.25])


def test_cosine() -> None:
    assert rates("cosine", 4, 0.0) == pytest.approx([1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5])


def test_constant() -> None:
    assert rates("constant", 4, 0.5) == [0.5, 1, 1, 1]


@given(kind=st.sampled_from(["linear", "cosine", "constant"]), total=st.integers(1, 60), ratio=st.floats(0, 1))
def test_no_step_is_wasted(kind: str, total: int, ratio: float) -> None:
    assert all(0 < rate <= 1 for rate in rates(kind, total, ratio))
