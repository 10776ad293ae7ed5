"""Tokenises a snapshot for tests."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from mlx_engine.data.cache import cached
from mlx_engine.data.rows import Snapshot
from mlx_engine.data.tally import Options
from mlx_engine.data.tokenize import Dataset, Progress, write
from mlx_engine.protocol import EngineError

DATE = datetime.date(2026, 1, 2)


def tokenized(
    snapshot: Path,
    tokenizer: Any,
    *,
    max_seq_length: int = 512,
    progress: Progress = lambda done, total: None,
    **options: Any,
) -> Dataset:
    rows = Snapshot(str(snapshot))
    everything = Options(max_seq_length=max_seq_length, date=DATE, **options)
    data = cached(None, "", lambda file: write(file, rows, tokenizer, everything, progress=progress))
    if data.refusal is not None:
        raise EngineError("invalid_dataset", data.refusal)
    return data
