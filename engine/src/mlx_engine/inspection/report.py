"""The supervision report: from what the trainer's own tokenisation has kept of all rows, in a moment."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator

import numpy as np

from mlx_engine.cores import usable_cores
from mlx_engine.data.batches import epoch_batches
from mlx_engine.data.load import options_of
from mlx_engine.data.render import NOTICES
from mlx_engine.data.survey import CUT, UNSUPERVISED, Survey
from mlx_engine.data.tally import Options
from mlx_engine.data.tokenize import Dataset
from mlx_engine.models.template import SENTINEL, TEMPLATE_ERRORS, render_chat
from mlx_engine.models.text import ModelText
from mlx_engine.platform import Platform
from mlx_engine.protocol import ChatMessage, Inspect
from mlx_engine.supervision import Finding, Lengths, LongRow, SupervisionReport, Tokens
from mlx_engine.training.cutting import Cutting

_SHARES = (0.0, 0.5, 0.9, 0.95, 0.99, 1.0)
_STEPS_LOOKED_AT = 200  # of an epoch, for their padding
_ROUND = 64  # a suggested length is a multiple of so many tokens
_OUTLIER = 4  # times the 99th percentile: longer rows don't decide what is suggested

_MESSAGES = {
    "cut_answers": "the answer goes on beyond {limit}: it is cut there and closed with the end token",
    "cut_turns": "what comes after {limit} is left out, so that later answers are not learned",
    "missing_end_token": "an answer that is learned has no end token, so that the model does not learn to stop there",
    "straddling_token": "the answer's first token begins with the end of its prompt: generation, given the prompt "
    "alone, meets other tokens there. White space between the two belongs to the answer, not to the prompt",
    "doubled_bos": "it begins with two BOS tokens: the text brings one that the tokenizer or the template adds as well",
}


def report(command: Inspect, data: Dataset, text: ModelText, platform: Platform, *, cached: bool) -> SupervisionReport:
    survey = data.survey
    options = options_of(command.dataset, text, datetime.date.today())
    batch_size = command.dataset.batch_size
    packing = command.dataset.packing is True or (command.dataset.packing is None and platform.on_cpu)
    suggested, suggestion = _suggestion(survey, options)
    return SupervisionReport(
        rows=survey.rows,
        used_rows=survey.used,
        cut_rows=survey.count(*CUT),
        rows_without_supervision=survey.count(*UNSUPERVISED),
        rows_missing_end=survey.count("missing_end_token"),
        rows_doubled_bos=survey.count("doubled_bos"),
        examples=len(data.examples),
        tokens=Tokens(
            total=survey.total, trained=survey.trained, masked=survey.masked, cut=survey.cut, unused=survey.unused
        ),
        lengths=_lengths(survey),
        longest=[LongRow(sample=sample, tokens=tokens) for tokens, sample in sorted(survey.longest, reverse=True)],
        limit=options.limit,
        suggested_max_seq_length=suggested,
        suggestion=suggestion,
        batch_size=batch_size,
        steps_per_epoch=math.ceil(len(data.examples) / batch_size),
        padding_share=_padding(command, data, platform, packed=packing),
        padding_share_unpacked=_padding(command, data, platform, packed=False),
        packing=packing,
        chat_template=text.tokenizer.has_chat_template,
        opening=_opening(text),
        findings=list(_findings(data, options)),
        refusal=data.refusal,
        cached=cached,
    )


def _lengths(survey: Survey) -> Lengths | None:
    if not survey.lengths:
        return None
    least, p50, p90, p95, p99, most = survey.percentiles(_SHARES)
    rows = sum(survey.lengths.values())
    mean = sum(length * count for length, count in survey.lengths.items()) / rows
    return Lengths(min=least, mean=round(mean, 1), p50=p50, p90=p90, p95=p95, p99=p99, max=most)


def _suggestion(survey: Survey, options: Options) -> tuple[int | None, str | None]:
    """The smallest length that cuts nothing, or, where few rows are far longer than all others, next to nothing."""
    if not survey.lengths:
        return None, None
    p99, longest = survey.percentiles((0.99, 1.0))
    wanted = longest if longest <= _OUTLIER * p99 else p99
    rounded = math.ceil(wanted / _ROUND) * _ROUND
    suggested = min(rounded, options.context_length or rounded)
    cut = sum(count for length, count in survey.lengths.items() if length > suggested)
    if not cut:
        return suggested, f"max_seq_length {suggested} holds every row: the longest has {longest} tokens"
    why = "the model's context" if suggested < rounded else f"99 % of them have at most {p99} tokens"
    return suggested, (
        f"max_seq_length {suggested} holds all but {cut} row{'' if cut == 1 else 's'}: {why}, the longest has {longest}"
    )


def _padding(command: Inspect, data: Dataset, platform: Platform, *, packed: bool) -> float:
    """Share of the positions computed in an epoch, over some of its steps; grouped and cut as the trainer does it."""
    lengths = data.lengths
    if not len(lengths):
        return 0.0
    dataset, cores = command.dataset, usable_cores()
    batches = epoch_batches(lengths, dataset.batch_size, shuffle=dataset.shuffle, seed=command.seed, epoch=0)
    cutting = Cutting.of(platform, packed=packed, dense=not platform.on_cpu, cores=cores, batch_size=dataset.batch_size)
    tokens = positions = 0
    for number in np.unique(np.linspace(0, len(batches) - 1, min(len(batches), _STEPS_LOOKED_AT)).astype(int)):
        rows = batches[number]
        tokens += int(lengths[rows].sum()) - len(rows)
        positions += sum(cutting.step(lengths, [rows], 0).sizes)
    return round(1 - tokens / positions, 4)


def _opening(text: ModelText) -> str | None:
    """What the chat template puts before a first user turn without a system turn: some bring one of their own."""
    tokenizer = text.tokenizer
    if not tokenizer.has_chat_template:
        return None
    try:
        shown = render_chat(tokenizer, [ChatMessage(role="user", content=SENTINEL)], prompt=True)
    except TEMPLATE_ERRORS:
        return None
    return shown.partition(SENTINEL)[0]


def _findings(data: Dataset, options: Options) -> Iterator[Finding]:
    for reason, (code, rows) in data.reasons.items():
        yield Finding(code=code, rows=len(rows), samples=rows.samples, message=f"{rows} left out: {reason}")
    for code, rows in data.survey.affected.items():
        if (message := message_of(code, options)) is not None:
            yield Finding(code=code, rows=len(rows), samples=rows.samples, message=f"{rows}: {message}")


def message_of(code: str, options: Options) -> str | None:
    """What has happened to rows that the survey has noted; None for those that are left out, whose reasons differ."""
    message = _MESSAGES.get(code) or NOTICES.get(code)
    return message and message.replace("{limit}", options.limit_name)
