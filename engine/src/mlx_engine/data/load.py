"""The data sets of a run, from its command: the rows that are trained on, and those that are held out."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

from mlx_engine.data.cache import cached, key_of
from mlx_engine.data.rows import Row, Snapshot
from mlx_engine.data.split import hold_out
from mlx_engine.data.tally import Options
from mlx_engine.data.tokenize import Dataset, Progress, write
from mlx_engine.models.text import ModelText
from mlx_engine.protocol import DatasetSpec, EngineError


def load_data(
    spec: DatasetSpec, text: ModelText, date: datetime.date, progress: Progress = lambda done, total: None
) -> tuple[Dataset, Dataset | None]:
    """Both tokenised, or taken from the cache. `progress` is called with rows done and total, and may raise.

    EngineError for snapshots, rows and splits that don't go; what it says of held-out rows names them so.
    """
    data, held_out = tokenized(spec, text, date, progress)
    if data.refusal is not None:
        raise EngineError("invalid_dataset", data.refusal)
    if held_out is not None and held_out.refusal is not None:
        raise EngineError("invalid_dataset", f"in the validation set, {held_out.refusal}")
    return data, held_out


def tokenized(
    spec: DatasetSpec, text: ModelText, date: datetime.date, progress: Progress = lambda done, total: None
) -> tuple[Dataset, Dataset | None]:
    """The same of data sets that may have a refusal."""
    options = options_of(spec, text, date)

    def made(snapshot: Snapshot, part: str, rows: Callable[[], Collection[Row]]) -> Dataset:
        key = key_of(snapshot.sha256, part, text.tokenizer, Path(text.path), options)
        return cached(
            spec.cache_path,
            key,
            lambda file: write(file, rows(), text.tokenizer, options, key=key, progress=progress),
        )

    snapshot = Snapshot(spec.path, spec.sha256)
    if spec.validation_split is not None:
        parts = cache(lambda: hold_out(snapshot, spec.validation_split))
        share = f"of {spec.validation_split}"
        data = made(snapshot, f"all but the share {share}", lambda: parts()[0])
        return data, _held_out(lambda: made(snapshot, f"the share {share}", lambda: parts()[1]))
    data = made(snapshot, "all", lambda: snapshot)
    if spec.validation_path is None:
        return data, None

    def from_file() -> Dataset:
        rows = Snapshot(spec.validation_path, spec.validation_sha256)
        return made(rows, "all", lambda: rows)

    return data, _held_out(from_file)


def options_of(spec: DatasetSpec, text: ModelText, date: datetime.date) -> Options:
    return Options(
        max_seq_length=spec.max_seq_length,
        context_length=text.context_length,
        loss_on=spec.loss_on,
        truncation=spec.truncation,
        date=date,
    )


def told(data: Dataset, held_out: Dataset | None) -> list[tuple[str, str]]:
    """Codes and messages of all that the user should know of the rows."""
    return data.warnings + [
        (code, f"In the validation set, {message}") for code, message in (held_out.warnings if held_out else [])
    ]


def _held_out(load: Callable[[], Dataset]) -> Dataset:
    try:
        return load()
    except EngineError as error:
        raise EngineError(error.kind, f"in the validation set, {error}") from error
