"""Text → tokens, and where its answers are among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from mlx_engine.data.render import Rendered

_UTF8_BYTES = 4  # of a character at most


class Span(NamedTuple):
    """An answer among tokens."""

    start: int
    end: int  # exclusive
    closed: bool  # whether its last token is an end token
    learned: bool = True


class Encoded(NamedTuple):
    tokens: np.ndarray  # (length,) int32
    answers: list[Span]  # those that have a token
    straddled: bool = False  # a token of an answer that is learned begins before it


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
            self._with_bos(rendered, encoding.ids, *_answers(rendered, encoding.offsets))
            for rendered, encoding in zip(texts, encodings, strict=True)
        ]

    def pieces(self, rendered: Rendered, encoded: Encoded) -> Iterator[tuple[str, list[int]]]:
        """The tokens as pieces of the text, which they are together: those that share a character are one piece. A BOS
        token that the text does not show comes first."""
        tokens = encoded.tokens.tolist()
        if not self._tokenizer.is_fast:
            yield from self._decoded(tokens)
            return
        backend = self._tokenizer.backend_tokenizer
        ends = [end for _, end in backend.encode(rendered.text, add_special_tokens=False).offsets]
        added = len(tokens) - len(ends)
        if added:
            yield self._tokenizer.bos_token, tokens[:added]
        at, ids = 0, []
        for i, (token, end) in enumerate(zip(tokens[added:], ends, strict=True)):
            ids.append(token)
            # What no token stands for, such as white space that is normalised away, goes with the next one.
            following = ends[i + 1] if i + 1 < len(ends) else None
            if following is None or following > max(at, end):
                end = len(rendered.text) if following is None else max(at, end)
                yield rendered.text[at:end], ids
                at, ids = end, []

    def _decoded(self, tokens: list[int]) -> Iterator[tuple[str, list[int]]]:
        """For tokenizers in Python: the text as the tokens have it, which need not be the exact one."""
        ids: list[int] = []
        for token in tokens:
            ids.append(token)
            piece = self._tokenizer.decode(ids)
            if not piece.endswith("\ufffd") or len(ids) == _UTF8_BYTES:
                yield piece, ids
                ids = []
        if ids:
            yield self._tokenizer.decode(ids), ids

    def _with_bos(self, rendered: Rendered, tokens: list[int], answers: list[Span], straddled: bool = False) -> Encoded:
        if not rendered.chat and self._bos is not None and tokens[:1] != [self._bos]:
            tokens = [self._bos, *tokens]
            answers = [span._replace(start=span.start + 1, end=span.end + 1) for span in answers]
        return Encoded(np.array(tokens, dtype=np.int32), answers, straddled)

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


def _answers(rendered: Rendered, offsets: list[tuple[int, int]]) -> tuple[list[Span], bool]:
    """`offsets`: first character and end of each token. The last value: see Encoded.straddled."""
    flat = np.fromiter(chain.from_iterable(offsets), dtype=np.int64, count=2 * len(offsets))
    begin, end = flat[::2], flat[1::2]
    end = np.maximum(end, begin + 1)  # some tokens, such as bytes of one character, have no width
    answers = []
    straddled = False
    for answer in rendered.answers:
        inside = np.flatnonzero((end > answer.start) & (begin < answer.end))
        if len(inside):
            straddled |= answer.learned and bool(begin[inside[0]] < answer.start)
            answers.append(Span(int(inside[0]), int(inside[-1]) + 1, answer.closed, answer.learned))
    return answers, straddled
