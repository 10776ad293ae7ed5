"""What becomes of each row once it is tokenised, and what the user is told of it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mlx_engine.data.affected import Affected
from mlx_engine.data.cut import cut, needed
from mlx_engine.data.encode import Encoded
from mlx_engine.data.examples import Example
from mlx_engine.data.render import NOTICES, LossOn, Rejected
from mlx_engine.data.survey import Survey

_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Options:
    """All that decides what a row becomes, besides the tokenizer."""

    max_seq_length: int
    date: datetime.date  # that templates show
    context_length: int | None = None  # of the model
    loss_on: LossOn = "completions"
    truncation: Literal["truncate", "drop", "error"] = "truncate"

    @property
    def limit(self) -> int:
        """Tokens of an example at most."""
        return min(self.max_seq_length, self.context_length or self.max_seq_length)

    @property
    def limit_name(self) -> str:
        if self.limit == self.max_seq_length:
            return f"max_seq_length {self.limit}"
        return f"the model's context of {self.limit} tokens"


class Tally:
    """Takes rows in their order. `bos`: the tokenizer's."""

    def __init__(self, options: Options, bos: int | None = None) -> None:
        self.truncated = Affected()
        self.dropped = Affected()
        self.survey = Survey()
        self.reasons: dict[str, tuple[str, Affected]] = {}  # why rows are dropped, with its code
        self._options = options
        self._bos = bos
        self._too_long: list[str] = []  # the first of them
        self._longest = 0

    def take(self, sample: int, texts: Sequence[Encoded], rejected: Rejected | None = None) -> list[Example]:
        """The examples of a row: one for each text of which something is learned; none of a row that is dropped."""
        survey, options, everything = self.survey, self._options, self._options.loss_on == "all"
        survey.rows += 1
        if rejected is not None:
            return self._drop(sample, rejected.code, str(rejected))
        lengths = [needed(text.tokens, text.answers, everything=everything) for text in texts]
        length = max(lengths, default=0)
        survey.measured(sample, length)
        too_long = length > options.limit
        self._longest = max(self._longest, length)
        if too_long and options.truncation != "truncate":
            if len(self._too_long) < _NAMED:
                self._too_long.append(f"sample {sample}: {length} tokens")
            survey.left_out(texts, lengths, too_long=True)
            return self._drop(sample, "too_long", f"longer than {options.limit_name}")
        cuts = [cut(text.tokens, text.answers, options.limit, everything=everything) for text in texts]
        examples = []
        for text, text_length, found in zip(texts, lengths, cuts, strict=True):
            if found is None:
                survey.left_out([text], [text_length], too_long=text_length > options.limit)
            else:
                examples.append(Example(sample, *found))
                survey.taken(sample, text, text_length, found[1], self._bos)
        if not examples:
            if too_long:
                room = f"its prompt leaves no room for the answer within {options.limit_name}"
                return self._drop(sample, "no_room_for_answer", room)
            return self._drop(sample, "empty_answer", "its answers are empty")
        if too_long:
            self.truncated.add(sample)
        survey.used += 1
        return examples

    def warnings(self, notices: Mapping[str, Affected]) -> list[tuple[str, str]]:
        """Codes and messages, once all rows are taken."""
        longest = f"; the longest has {self._longest} tokens"
        found = []
        for reason, (_, rows) in self.reasons.items():
            end = longest if reason.startswith("longer than") else ""
            found.append(("rows_dropped", f"{rows} dropped: {reason}{end}"))
        if len(self.truncated):
            found.append(("rows_truncated", f"{self.truncated} cut to {self._options.limit_name}{longest}"))
        return found + [(code, f"{rows}: {NOTICES[code]}") for code, rows in notices.items()]

    def refusal(self) -> str | None:
        """Why these rows are not to be trained on: none is left, or some are too long where that is an error."""
        if self._options.truncation == "error" and self._too_long:
            return self._too_long_message()
        if self.survey.used:
            return None
        reasons = "; ".join(f"{rows}: {reason}" for reason, (_, rows) in list(self.reasons.items())[:3])
        return f"no row can be trained on ({reasons or 'the data set is empty'})"

    def _drop(self, sample: int, code: str, reason: str) -> list[Example]:
        self.dropped.add(sample)
        self.reasons.setdefault(reason, (code, Affected()))[1].add(sample)
        self.survey.note(code, sample)
        return []

    def _too_long_message(self) -> str:
        options = self._options
        rows = len(self.survey.affected["too_long"])
        named = ", ".join(self._too_long) + (", …" if rows > _NAMED else "")
        raised = options.limit == options.max_seq_length
        remedy = "Raise dataset.max_seq_length, or set" if raised else "Set"
        return (
            f"{rows} row{' is' if rows == 1 else 's are'} longer than {options.limit_name} ({named}); the longest has "
            f'{self._longest} tokens. {remedy} dataset.truncation to "truncate" or "drop"'
        )
