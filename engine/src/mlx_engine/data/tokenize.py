"""Rows → token sequences with a mask of what carries loss, cut to the maximum length.

A row that is too long is cut so that what stays still makes sense:
- answers that fit whole stay, with everything before them; what comes after the last of them goes;
- when not even the first answer fits, it is cut and its end token put at the cut, so that no row teaches to run on;
- when the prompt leaves no room for a useful piece of the answer (16 tokens, or a quarter of a shorter limit),
  the row is dropped.
Tokens after the last answer are cut off always: nothing that carries loss can see them.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mlx_engine.data.render import NOTICES, Rejected, Rendered, Renderer
from mlx_engine.data.rows import Row
from mlx_engine.protocol import EngineError

_LEAST_ANSWER = 16  # tokens
_SHOWN_SAMPLES = 10


@dataclass(frozen=True, slots=True)
class Example:
    sample: int
    tokens: np.ndarray  # (length,) int32
    supervised: np.ndarray  # (length,) bool: the token at this position is one to be predicted; never the first

    @property
    def trained(self) -> int:
        return int(self.supervised.sum())


@dataclass
class Dataset:
    examples: list[Example] = field(default_factory=list)
    truncated: list[int] = field(default_factory=list)  # samples
    dropped: list[int] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)  # code, message

    @cached_property
    def lengths(self) -> list[int]:
        return [len(example.tokens) for example in self.examples]

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @property
    def trained_tokens(self) -> int:
        return sum(example.trained for example in self.examples)


def tokenize(
    rows: list[Row],
    tokenizer: Any,
    *,
    max_seq_length: int,
    date: datetime.date,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Dataset:
    """All rows as examples, in order; `progress` is called before each row with rows done and total.

    EngineError('invalid_dataset') when no row is left."""
    renderer = Renderer(tokenizer, date)
    encode = _Encoder(tokenizer)
    found = Dataset()
    reasons: dict[str, list[int]] = {}
    longest = 0
    for done, row in enumerate(rows):
        progress(done, len(rows))
        examples = []
        reason = "its answers are empty"
        try:
            for rendered in renderer.render(row):
                tokens, answers = encode(rendered)
                length = len(tokens)
                cut = truncate(tokens, answers, max_seq_length)
                if cut is None:
                    reason = "its prompt leaves no room for the answer within max_seq_length"
                    longest = max(longest, length)
                elif cut[1].any():
                    examples.append(Example(row.sample, *cut))
                    if length > max_seq_length and found.truncated[-1:] != [row.sample]:
                        found.truncated.append(row.sample)
                        longest = max(longest, length)
        except Rejected as error:
            reason = str(error)
        if examples:
            found.examples.extend(examples)
        else:
            found.dropped.append(row.sample)
            reasons.setdefault(reason, []).append(row.sample)
    progress(len(rows), len(rows))
    _warn(found, renderer.notices, reasons, longest, max_seq_length)
    if not found.examples:
        detail = "; ".join(f"{_samples(samples)}: {reason}" for reason, samples in list(reasons.items())[:3])
        raise EngineError("invalid_dataset", f"no row can be trained on ({detail or 'the data set is empty'})")
    return found


class _Encoder:
    """Text and its answers → (length,) int32 tokens, and the answers as token ranges (start, end, closed)."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        bos = tokenizer.bos_token_id
        self._bos = bos if bos is not None and tokenizer.encode("", add_special_tokens=True)[:1] == [bos] else None

    def __call__(self, rendered: Rendered) -> tuple[np.ndarray, list[tuple[int, int, bool]]]:
        if self._tokenizer.is_fast:
            encoding = self._tokenizer.backend_tokenizer.encode(rendered.text, add_special_tokens=False)
            tokens = encoding.ids
            begin, end = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2).T
            end = np.maximum(end, begin + 1)  # some tokens, such as bytes of one character, have no width
            answers = []
            for answer in rendered.answers:
                inside = np.flatnonzero((end > answer.start) & (begin < answer.end))
                if len(inside):
                    answers.append((int(inside[0]), int(inside[-1]) + 1, answer.closed))
        else:
            tokens, answers = self._pieces(rendered)
        if not rendered.chat and self._bos is not None and tokens[:1] != [self._bos]:
            tokens = [self._bos, *tokens]
            answers = [(start + 1, end + 1, closed) for start, end, closed in answers]
        return np.array(tokens, dtype=np.int32), answers

    def _pieces(self, rendered: Rendered) -> tuple[list[int], list[tuple[int, int, bool]]]:
        """For tokenizers in Python, which know no offsets: prompts and answers are tokenised one by one."""
        tokens: list[int] = []
        answers = []
        at = 0
        for answer in rendered.answers:
            tokens += self._tokenizer.encode(rendered.text[at : answer.start], add_special_tokens=False)
            start = len(tokens)
            tokens += self._tokenizer.encode(rendered.text[answer.start : answer.end], add_special_tokens=False)
            if len(tokens) > start:
                answers.append((start, len(tokens), answer.closed))
            at = answer.end
        return tokens, answers


def truncate(
    tokens: np.ndarray, answers: list[tuple[int, int, bool]], limit: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Tokens and mask, both at most `limit` long; None when no useful piece of the first answer fits. See above."""
    whole = [answer for answer in answers if answer[1] <= limit]
    if not whole and answers:
        start, end, closed = answers[0]
        room = limit - start - closed
        if room < max(1, min(_LEAST_ANSWER, limit // 4)):
            return None
        tokens = np.concatenate([tokens[: start + room], tokens[end - closed : end]])
        whole = [(start, len(tokens), closed)]
    length = whole[-1][1] if whole else 0
    supervised = np.zeros(length, dtype=bool)
    for start, end, _ in whole:
        supervised[start:end] = True
    supervised[:1] = False  # nothing comes before the first token to predict it from
    return tokens[:length], supervised


# ---- what the user is told ----


def _warn(
    found: Dataset, notices: dict[str, list[int]], reasons: dict[str, list[int]], longest: int, limit: int
) -> None:
    for reason, samples in reasons.items():
        found.warnings.append(("rows_dropped", f"{_samples(samples)} dropped: {reason}"))
    if found.truncated:
        found.warnings.append(
            (
                "rows_truncated",
                f"{_samples(found.truncated)} cut to max_seq_length {limit}; the longest has {longest} tokens",
            )
        )
    for code, samples in notices.items():
        found.warnings.append((code, f"{_samples(samples)}: {NOTICES[code]}"))


def _samples(samples: list[int]) -> str:
    """`3 rows (samples 4, 8, 15)`"""
    shown = ", ".join(map(str, samples[:_SHOWN_SAMPLES]))
    more = ", …" if len(samples) > _SHOWN_SAMPLES else ""
    rows, numbers = ("row", "sample") if len(samples) == 1 else ("rows", "samples")
    return f"{len(samples)} {rows} ({numbers} {shown}{more})"
