"""Tokenises a snapshot for tests."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from mlx_engine.data.cache import cached
from mlx_engine.data.rows import Snapshot
from mlx_engine.data.tally import Options
from mlx_engine.data.tokenize import Dataset, write

DATE = datetime.date(2026, 1, 2)


def tokenized(snapshot: Path, tokenizer: Any, *, max_seq_length: int = 512, **options: Any) -> Dataset:
    all_options = Options(max_seq_length=max_seq_length, date=DATE, **options)
    return cached(None, "", lambda file: write(file, Snapshot(str(snapshot)), tokenizer, all_options))
