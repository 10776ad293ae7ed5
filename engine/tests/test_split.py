"""Which rows are held out for validation."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import row
from mlx_engine.data.rows import Row
from mlx_engine.data.split import hold_out
from mlx_engine.protocol import EngineError


def rows_of(contents: list[str]) -> list[Row]:
    return [msgspec.convert(row(i, ("user", "Q"), ("assistant", text)), Row) for i, text in enumerate(contents)]


def said(rows: Any) -> list[str]:
    return [one.messages[1].content for one in rows]


contents = st.lists(st.text(alphabet="abc", max_size=4), min_size=1, max_size=40)
shares = st.floats(0.001, 0.5)


@given(contents=contents, share=shares)
def test_every_row_is_on_one_side_in_its_order_and_copies_are_together(contents: list[str], share: float) -> None:
    if len(set(contents)) < 2:
        with pytest.raises(EngineError, match="needs at least 2 different rows") as error:
            hold_out(rows_of(contents), share)
        assert error.value.kind == "invalid_parameters"
        return
    train, held = hold_out(rows_of(contents), share)
    assert len(train) == len(list(train)) > 0
    assert len(held) == len(list(held)) > 0
    assert not set(said(train)) & set(said(held))
    assert Counter(said(train)) + Counter(said(held)) == Counter(contents)
    for part in (train, held):
        assert [one.sample for one in part] == sorted(one.sample for one in part)


@given(contents=contents, more=contents, share=shares, order=st.randoms(use_true_random=False))
def test_order_and_added_rows_move_no_row(contents: list[str], more: list[str], share: float, order: Any) -> None:
    """Beyond the row that few rows must give up."""
    many = [f"row {i}" for i in range(200)]
    everything = [*contents, *more, *many]
    order.shuffle(everything)
    before = set(said(hold_out(rows_of([*contents, *many]), share)[1]))
    after = set(said(hold_out(rows_of(everything), share)[1]))
    known = {*contents, *many}
    assert len(before ^ (after & known)) <= (0 if len(before) > 1 else 1)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_share_is_about_what_was_asked_for(share: float) -> None:
    train, held = hold_out(rows_of([f"row {i}" for i in range(20_000)]), share)
    deviation = (share * (1 - share) / 20_000) ** 0.5
    assert abs(len(held) / 20_000 - share) < 5 * deviation
    assert len(train) + len(held) == 20_000


def test_numbers_and_flags_do_not_decide() -> None:
    def one(sample: int, train: bool, tools: list | None) -> Row:
        turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "train": train}]
        return msgspec.convert({"sample": sample, "messages": turns, "tools": tools}, Row)

    same = [one(0, True, None), one(1, False, []), one(2, True, None)]
    with pytest.raises(EngineError, match="the 3 rows are all the same"):
        hold_out(same, 0.5)
    train, held = hold_out([*same, one(3, True, [{"name": "f"}])], 0.5)
    assert sorted([len(train), len(held)]) == [1, 3]


def test_the_choice_is_for_good() -> None:
    """A run that is resumed by a later version must hold out the same rows."""
    assert said(hold_out(rows_of([f"row {i}" for i in range(20)]), 0.2)[1]) == ["row 10", "row 19"]


def test_one_row_is_not_enough() -> None:
    with pytest.raises(EngineError, match="at least 2 different rows, one of them to hold out; the data set has 1"):
        hold_out(rows_of(["a"]), 0.1)
