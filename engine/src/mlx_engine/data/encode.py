"""Text → tokens, and where its answers are among them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from mlx_engine.data.render import Rendered


class Span(NamedTuple):
    """An answer among tokens."""

    start: int
    end: int  # exclusive
    closed: bool  # whether its last token is an end token
    learned: bool = True


class Encoded(NamedTuple):
    tokens: np.ndarray  # (length,) int32
    answers: list[Span]  # those that have a token


class Encoder:
    """Texts of one call are tokenised side by side, on all cores, without Python's lock."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        bos = tokenizer.bos_token_id
        self._bos = bos if bos is not None and tokenizer.encode("", add_special_tokens=True)[:1] == [bos] else None

    def __call__(self, texts: Sequence[Rendered]) -> list[Encoded]:
        if not self._tokenizer.is_fast:
            return [self._with_bos(rendered, *self._pieces(rendered)) for rendered in texts]
        backend = self._tokenizer.backend_tokenizer
        encodings = backend.encode_batch([rendered.text for rendered in texts], add_special_tokens=False)
        return [
            self._with_bos(rendered, encoding.ids, _answers(rendered, encoding.offsets))
            for rendered, encoding in zip(texts, encodings, strict=True)
        ]

    def _with_bos(self, rendered: Rendered, tokens: list[int], answers: list[Span]) -> Encoded:
        if not rendered.chat and self._bos is not None and tokens[:1] != [self._bos]:
            tokens = [self._bos, *tokens]
            answers = [span._replace(start=span.start + 1, end=span.end + 1) for span in answers]
        return Encoded(np.array(tokens, dtype=np.int32), answers)

    def _pieces(self, rendered: Rendered) -> tuple[list[int], list[Span]]:
        """For tokenizers in Python, which know no offsets: what is between, and in, answers is tokenised by itself."""
        tokens: list[int] = []
        answers = []
        at = 0
        for answer in rendered.answers:
            tokens += self._encode(rendered.text[at : answer.start])
            start = len(tokens)
            tokens += self._encode(rendered.text[answer.start : answer.end])
            if len(tokens) > start:
                answers.append(Span(start, len(tokens), answer.closed, answer.learned))
            at = answer.end
        return tokens + self._encode(rendered.text[at:]), answers

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False) if text else []


def _answers(rendered: Rendered, offsets: list[tuple[int, int]]) -> list[Span]:
    """`offsets`: first character and end of each token."""
    flat = np.fromiter(chain.from_iterable(offsets), dtype=np.int64, count=2 * len(offsets))
    begin, end = flat[::2], flat[1::2]
    end = np.maximum(end, begin + 1)  # some tokens, such as bytes of one character, have no width
    answers = []
    for answer in rendered.answers:
        inside = np.flatnonzero((end > answer.start) & (begin < answer.end))
        if len(inside):
            answers.append(Span(int(inside[0]), int(inside[-1]) + 1, answer.closed, answer.learned))
    return answers
