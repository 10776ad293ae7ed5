"""The mask of a row: every token with what becomes of it in training, as pieces of the exact text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mlx_engine.data.cut import cut, needed
from mlx_engine.data.encode import Encoded, Encoder
from mlx_engine.data.render import Rejected, Rendered, Renderer
from mlx_engine.data.rows import Row
from mlx_engine.data.tally import Options, Tally
from mlx_engine.inspection.report import message_of
from mlx_engine.supervision import Note, Piece, PreviewRow, PreviewText, TextPart, Tokens, TokenState

_SHOWN_TOKENS = 200_000  # of one answer

_STATES: tuple[TokenState, ...] = ("trained", "masked", "cut", "unused")
_TRAINED, _MASKED, _CUT, _UNUSED = range(4)


class Previewer:
    """Shows rows for one answer. The tokens are those of training: rendered, encoded and cut by the same code."""

    def __init__(self, tokenizer: object, options: Options) -> None:
        self._tokenizer = tokenizer
        self._options = options
        self._encoder = Encoder(tokenizer)
        self._left = _SHOWN_TOKENS

    def show(self, sample: int, row: Row | None) -> PreviewRow:
        """`row`: None for one that is not in the data set."""
        if row is None:
            return PreviewRow(sample=sample, problem="there is no valid row of this number", notes=[], texts=[])
        options = self._options
        renderer = Renderer(self._tokenizer, options.date, options.loss_on)
        tally = Tally(options, self._tokenizer.bos_token_id)
        try:
            rendered, rejected = renderer.render(row), None
        except Rejected as error:
            rendered, rejected = [], error
        texts = self._encoder(rendered)
        tally.take(sample, texts, rejected)
        problem = next(iter(tally.reasons), None)
        codes = [*renderer.notices, *tally.survey.affected]
        notes = [Note(code=code, message=message) for code in codes if (message := message_of(code, options))]
        shown = [self._text(row, *each, dropped=problem is not None) for each in zip(rendered, texts, strict=True)]
        return PreviewRow(sample=sample, problem=problem, notes=notes, texts=shown)

    def _text(self, row: Row, rendered: Rendered, text: Encoded, *, dropped: bool) -> PreviewText:
        states = _states(text, self._options, dropped=dropped)
        counts = np.bincount(states, minlength=len(_STATES)).tolist()
        pieces, omitted = [], 0
        at = 0
        for piece, ids in self._encoder.pieces(rendered, text):
            if len(ids) > self._left:
                omitted += len(ids)
                self._left = 0
            else:
                # A character of which only some tokens are kept is not whole.
                state = _STATES[int(states[at : at + len(ids)].max(initial=0))]
                pieces.append(Piece(text=piece, ids=ids, state=state))
                self._left -= len(ids)
            at += len(ids)
        return PreviewText(
            parts=list(_parts(row, rendered.text)),
            pieces=pieces,
            tokens=Tokens(
                total=len(states),
                trained=counts[_TRAINED],
                masked=counts[_MASKED],
                cut=counts[_CUT],
                unused=counts[_UNUSED],
            ),
            omitted=omitted,
        )


def _states(text: Encoded, options: Options, *, dropped: bool) -> np.ndarray:
    """(tokens,) of what becomes of each: numbers of _STATES."""
    everything = options.loss_on == "all"
    wanted = needed(text.tokens, text.answers, everything=everything)
    found = None if dropped else cut(text.tokens, text.answers, options.limit, everything=everything)
    states = np.full(len(text.tokens), _UNUSED)
    if wanted > options.limit or found is not None:
        states[:wanted] = _CUT
    if found is not None:
        tokens, supervised = found
        states[_places(text, tokens)] = np.where(supervised, _TRAINED, _MASKED)
    return states


def _places(text: Encoded, kept: np.ndarray) -> np.ndarray:
    """Where each of the kept tokens stood. They are the first ones, but the last may be the end token of an answer that
    is cut there."""
    places = np.arange(len(kept))
    for answer in text.answers:
        if answer.closed and answer.start < len(kept) < answer.end:
            places[-1] = answer.end - 1
    return places


def _parts(row: Row, text: str) -> Iterator[TextPart]:
    """What of the text the row says, and, without a role, what is put around it. Together they are the text."""
    if row.raw is not None:
        said: Sequence[tuple[str, str]] = [("prompt", row.raw.prompt), ("completion", row.raw.completion)]
    else:
        said = [(message.role, message.content) for message in row.messages]
    at = 0
    for role, content in said:
        # As it stands, or as templates trim it.
        for shown in (content, content.strip()):
            start = text.find(shown, at) if shown else -1
            if start >= 0:
                if start > at:
                    yield TextPart(role=None, text=text[at:start])
                yield TextPart(role=role, text=shown)
                at = start + len(shown)
                break
    if at < len(text):
        yield TextPart(role=None, text=text[at:])
