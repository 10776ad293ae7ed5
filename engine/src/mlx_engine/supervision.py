"""What the inspect process tells: packages/contract/src/supervision.ts is the other side and describes every field."""

from __future__ import annotations

from typing import Literal

import msgspec


class _Part(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    pass


class Tokens(_Part):
    total: int
    trained: int
    masked: int
    cut: int
    unused: int


class Lengths(_Part):
    min: int
    mean: float
    p50: int
    p90: int
    p95: int
    p99: int
    max: int


class LongRow(_Part):
    sample: int
    tokens: int


class Finding(_Part):
    code: str
    rows: int
    samples: list[int]
    message: str


class SupervisionReport(_Part):
    rows: int
    used_rows: int
    cut_rows: int
    rows_without_supervision: int
    rows_missing_end: int
    rows_doubled_bos: int
    examples: int
    tokens: Tokens
    lengths: Lengths | None
    longest: list[LongRow]
    limit: int
    suggested_max_seq_length: int | None
    suggestion: str | None
    batch_size: int
    steps_per_epoch: int
    padding_share: float
    padding_share_unpacked: float
    packing: bool
    chat_template: bool
    opening: str | None
    findings: list[Finding]
    refusal: str | None
    cached: bool


TokenState = Literal["trained", "masked", "cut", "unused"]


class Piece(_Part):
    text: str
    ids: list[int]
    state: TokenState


class TextPart(_Part):
    role: str | None
    text: str


class PreviewText(_Part):
    parts: list[TextPart]
    pieces: list[Piece]
    tokens: Tokens
    omitted: int


class Note(_Part):
    code: str
    message: str


class PreviewRow(_Part):
    sample: int
    problem: str | None
    notes: list[Note]
    texts: list[PreviewText]
