"""Rows that are continued as plain text: prompt_completion and text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from mlx_lm.utils import load_tokenizer

from harness import of, train, train_command, write_snapshot
from mlx_engine.data.rows import Row
from mlx_engine.data.split import hold_out
from mlx_engine.protocol import EngineError
from tiny import make_tokenizer
from tokenized import tokenized


def raw(sample: int, prompt: str, completion: str) -> dict[str, Any]:
    return {"sample": sample, "messages": [], "raw": {"prompt": prompt, "completion": completion}}


def shown(folder: Path, rows: list[dict[str, Any]], bos: bool = False, **options: Any) -> tuple[Any, list[list[str]]]:
    """The data set, and of each example its text and what is learned of it."""
    make_tokenizer(folder, bos=bos)
    tokenizer = load_tokenizer(folder)
    write_snapshot(folder / "rows", rows)
    data = tokenized(folder / "rows", tokenizer, **options)
    return data, [[tokenizer.decode(e.tokens), tokenizer.decode(e.tokens[e.supervised])] for e in data.examples]


@pytest.mark.parametrize(
    ("options", "bos", "learned"),
    [
        ({}, False, " Paris.<|im_end|>"),
        ({"loss_on": "last_completion"}, False, " Paris.<|im_end|>"),
        ({"loss_on": "all"}, True, "Capital: Paris.<|im_end|>"),
        ({}, True, " Paris.<|im_end|>"),
    ],
)
def test_a_completion_follows_its_prompt_without_a_template(
    tmp_path: Path, options: dict[str, Any], bos: bool, learned: str
) -> None:
    _, [found] = shown(tmp_path, [raw(0, "Capital:", " Paris.")], bos, **options)
    assert found == ["<|bos|>" * bos + "Capital: Paris.<|im_end|>", learned]


def test_text_is_learned_whole_but_for_what_nothing_comes_before(tmp_path: Path) -> None:
    data, [found] = shown(tmp_path / "without", [raw(0, "", "zq")])
    assert found == ["zq<|im_end|>", "q<|im_end|>"]
    assert data.trained_tokens == 2
    _, [found] = shown(tmp_path / "with", [raw(0, "", "zq")], bos=True)
    assert found == ["<|bos|>zq<|im_end|>", "zq<|im_end|>"]


def test_bos_and_eos_that_a_text_brings_are_not_doubled(tmp_path: Path) -> None:
    _, [found] = shown(tmp_path, [raw(0, "<|bos|>Hi", " there<|im_end|>")], bos=True)
    assert found == ["<|bos|>Hi there<|im_end|>", " there<|im_end|>"]


def test_long_ones_are_cut_as_answers_are(tmp_path: Path) -> None:
    data, found = shown(
        tmp_path, [raw(0, "Say it: ", "z " * 90), raw(1, "q" * 80, "never"), raw(2, "", "")], max_seq_length=40
    )
    [[text, _]] = found
    assert text.startswith("Say it: z z")
    assert text.endswith("z<|im_end|>")
    assert data.lengths.tolist() == [40]
    assert (data.truncated.samples, data.dropped.samples) == ([0], [1, 2])
    assert ("rows_dropped", "1 row (sample 2) dropped: its completion is empty") in data.warnings
    rows = [raw(0, "", "z " * 90), raw(1, "a", "b")]
    data, found = shown(tmp_path / "drop", rows, max_seq_length=40, truncation="drop")
    assert [text for text, _ in found] == ["ab<|im_end|>"]
    with pytest.raises(EngineError, match=r"sample 0: \d+ tokens"):
        shown(tmp_path / "error", [raw(0, "", "z " * 90)], max_seq_length=40, truncation="error")


def test_what_they_say_decides_which_are_held_out() -> None:
    rows = [msgspec.convert(raw(i, "Q", f"answer {i % 50}"), Row) for i in range(100)]
    train_rows, held = hold_out(rows, 0.3)
    said = [{row.raw.completion for row in part} for part in (train_rows, held)]
    assert len(said[1]) > 3
    assert not said[0] & said[1]


def test_a_run_over_them(tmp_path: Path, chat: Path) -> None:
    """sample_prompts are continued as the rows are: no template is between."""
    rows = [raw(i, "What is it?", f" It is {i % 3}.") for i in range(12)]
    prompted = {"sample_prompts": ["What is it?"], "sample_max_tokens": 8, "epochs": 12}
    frames = train(train_command(tmp_path, chat, rows, dataset__format="prompt_completion", **prompted))
    losses = [frame["loss"] for frame in of(frames, "step")]
    assert losses[-1] < losses[0] / 2
    assert of(frames, "sample")[-1]["tuned"].startswith(" It")
