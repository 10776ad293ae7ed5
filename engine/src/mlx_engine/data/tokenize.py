"""Rows → token sequences with a mask of what carries loss, in a file of examples.

Texts are rendered in chunks, and a chunk is tokenised on another thread, without Python's lock, while the next is
rendered.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

import msgspec

from mlx_engine.data.affected import Affected
from mlx_engine.data.encode import Encoded, Encoder
from mlx_engine.data.examples import Example, Examples, Writer
from mlx_engine.data.render import Rejected, Rendered, Renderer
from mlx_engine.data.rows import Row
from mlx_engine.data.survey import Survey
from mlx_engine.data.tally import Options, Tally

# Tokenised at a time: enough to keep all cores busy for a while, few enough to hear a stop and to need little memory.
_CHUNK_ROWS = 256
_CHUNK_CHARACTERS = 1 << 19

Progress = Callable[[int, int], None]


class Notes(msgspec.Struct):
    """What is known of a data set besides its examples."""

    key: str = ""  # of the cache
    truncated: Affected = msgspec.field(default_factory=Affected)
    dropped: Affected = msgspec.field(default_factory=Affected)
    reasons: dict[str, tuple[str, Affected]] = {}
    warnings: list[tuple[str, str]] = []  # code, message
    refusal: str | None = None
    survey: Survey = msgspec.field(default_factory=Survey)


class Dataset:
    """What `write` has written into a file. Damaged when that is not what it holds."""

    def __init__(self, file: BinaryIO) -> None:
        examples = Examples(file)
        self._notes = msgspec.json.decode(examples.notes, type=Notes)
        self.examples: Sequence[Example] = examples  # each is read when it is asked for
        self.lengths = examples.lengths  # (examples,) int64: tokens of each
        self.samples = examples.samples  # (examples,) int64: row number of each
        self.tokens = int(self.lengths.sum())

    @property
    def key(self) -> str:
        return self._notes.key

    @property
    def trained_tokens(self) -> int:
        return self._notes.survey.trained

    @property
    def survey(self) -> Survey:
        return self._notes.survey

    @property
    def refusal(self) -> str | None:
        """Why it is not to be trained on."""
        return self._notes.refusal

    @property
    def reasons(self) -> dict[str, tuple[str, Affected]]:
        """Why rows are dropped, in words, with the code of that."""
        return self._notes.reasons

    @property
    def truncated(self) -> Affected:
        return self._notes.truncated

    @property
    def dropped(self) -> Affected:
        return self._notes.dropped

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """Codes and messages for the user."""
        return self._notes.warnings


def write(
    file: BinaryIO,
    rows: Collection[Row],
    tokenizer: Any,
    options: Options,
    *,
    key: str = "",
    progress: Progress = lambda done, total: None,
) -> None:
    """Tokenises all rows, in order, into an empty file; `progress` is called before each with rows done and total."""
    writer = Writer(file)
    tally = Tally(options, tokenizer.bos_token_id)
    renderer = Renderer(tokenizer, options.date, options.loss_on)
    for chunk, encoded in _encoded(_chunks(rows, renderer, progress), Encoder(tokenizer)):
        texts = iter(encoded)
        for row in chunk:
            for example in tally.take(row.sample, list(islice(texts, len(row.texts))), row.rejected):
                writer.add(example)
    tally.survey.affected |= renderer.notices
    warnings = tally.warnings(renderer.notices)
    notes = Notes(key, tally.truncated, tally.dropped, tally.reasons, warnings, tally.refusal(), tally.survey)
    writer.finish(msgspec.json.encode(notes))


class _RenderedRow(NamedTuple):
    sample: int
    texts: list[Rendered]
    rejected: Rejected | None


def _chunks(rows: Collection[Row], renderer: Renderer, progress: Progress) -> Iterator[list[_RenderedRow]]:
    chunk: list[_RenderedRow] = []
    characters, total = 0, len(rows)
    for done, row in enumerate(rows):
        progress(done, total)
        try:
            chunk.append(_RenderedRow(row.sample, renderer.render(row), None))
        except Rejected as error:
            chunk.append(_RenderedRow(row.sample, [], error))
        characters += sum(len(rendered.text) for rendered in chunk[-1].texts)
        if len(chunk) == _CHUNK_ROWS or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    yield chunk
    progress(total, total)


def _encoded(
    chunks: Iterator[list[_RenderedRow]], encoder: Encoder
) -> Iterator[tuple[list[_RenderedRow], list[Encoded]]]:
    """One chunk is tokenised on another thread while the next is rendered on this one."""
    with ThreadPoolExecutor(1, "tokenize") as thread:
        waiting: tuple[list[_RenderedRow], Future[list[Encoded]]] | None = None
        for chunk in chunks:
            started = thread.submit(encoder, [rendered for row in chunk for rendered in row.texts])
            if waiting:
                yield waiting[0], waiting[1].result()
            waiting = chunk, started
        if waiting:
            yield waiting[0], waiting[1].result()
