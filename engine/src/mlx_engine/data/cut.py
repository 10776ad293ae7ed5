"""Tokens and answers of a row → what is trained on of it, and what becomes of a row that is too long.

Where answers are learned, a row is cut so that what stays still makes sense:
- answers that fit whole stay, with everything before them; what comes after the last of them goes;
- when not even the first answer fits, it is cut and its end token put at the cut, so that no row teaches to run on;
- when the prompt leaves no room for a useful piece of the answer (16 tokens, or a quarter of a shorter limit),
  nothing stays.
Tokens after the last answer are cut off always: nothing that carries loss can see them.

Where every token is learned, a row is cut at the limit, and an answer that is cut there gets its end token as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mlx_engine.data.encode import Span

_LEAST_ANSWER = 16  # tokens

Cut = tuple[np.ndarray, np.ndarray]  # tokens and mask, of one length


def needed(tokens: np.ndarray, answers: Sequence[Span], *, everything: bool) -> int:
    """Tokens that all of what is learned takes."""
    return len(tokens) if everything else max((answer.end for answer in answers if answer.learned), default=0)


def cut(tokens: np.ndarray, answers: Sequence[Span], limit: int, *, everything: bool) -> Cut | None:
    """At most `limit` tokens, and which of them are learned: some, or it is None. `everything`: not answers only."""
    found = _everything(tokens, answers, limit) if everything else _answers(tokens, answers, limit)
    if found is None:
        return None
    found[1][:1] = False  # nothing comes before the first token to predict it from
    return found if found[1].any() else None


def _answers(tokens: np.ndarray, answers: Sequence[Span], limit: int) -> Cut | None:
    learned = [answer for answer in answers if answer.learned]
    whole = [answer for answer in learned if answer.end <= limit]
    if not whole:
        if not learned:
            return None
        start, end, closed, _ = learned[0]
        room = limit - start - closed
        if room < max(1, min(_LEAST_ANSWER, limit // 4)):
            return None
        tokens = np.concatenate([tokens[: start + room], tokens[end - closed : end]])
        whole = [Span(start, len(tokens), closed)]
    length = whole[-1].end
    supervised = np.zeros(length, dtype=bool)
    for start, end, _, _ in whole:
        supervised[start:end] = True
    return tokens[:length], supervised


def _everything(tokens: np.ndarray, answers: Sequence[Span], limit: int) -> Cut:
    supervised = np.ones(len(tokens), dtype=bool)
    for start, end, _, learned in answers:
        supervised[start:end] &= learned
    if len(tokens) <= limit:
        return tokens, supervised
    for start, end, closed, _ in answers:
        if closed and start < limit < end:
            if start == limit - 1:  # no room for more than the end token: it would teach to say nothing
                return tokens[:start], supervised[:start]
            return np.append(tokens[: limit - 1], tokens[end - 1]), supervised[:limit]
    return tokens[:limit], supervised[:limit]
