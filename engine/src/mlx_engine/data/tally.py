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
from mlx_engine.data.render import NOTICES, LossOn
from mlx_engine.protocol import EngineError

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
    """Takes rows in their order."""

    def __init__(self, options: Options) -> None:
        self.truncated = Affected()
        self.dropped = Affected()
        self.trained_tokens = 0
        self._options = options
        self._reasons: dict[str, Affected] = {}
        self._too_long: list[str] = []  # the first of them
        self._longest = 0
        self._kept = 0

    def take(self, sample: int, texts: Sequence[Encoded], rejected: str | None = None) -> list[Example]:
        """The examples of a row: one for each text of which something is learned; none of a row that is dropped."""
        if rejected is not None:
            return self._drop(sample, rejected)
        options, everything = self._options, self._options.loss_on == "all"
        length = max((needed(*text, everything=everything) for text in texts), default=0)
        too_long = length > options.limit
        self._longest = max(self._longest, length)
        if too_long and options.truncation != "truncate":
            if len(self._too_long) < _NAMED:
                self._too_long.append(f"sample {sample}: {length} tokens")
            return self._drop(sample, f"longer than {options.limit_name}")
        cuts = [cut(*text, options.limit, everything=everything) for text in texts]
        examples = [Example(sample, *found) for found in cuts if found is not None]
        if not examples:
            room = f"its prompt leaves no room for the answer within {options.limit_name}"
            return self._drop(sample, room if too_long else "its answers are empty")
        if too_long:
            self.truncated.add(sample)
        self._kept += 1
        self.trained_tokens += sum(example.trained for example in examples)
        return examples

    def warnings(self, notices: Mapping[str, Affected]) -> list[tuple[str, str]]:
        """Codes and messages, once all rows are taken.

        EngineError('invalid_dataset') when none is left, and for rows that are too long when that is an error."""
        options = self._options
        if options.truncation == "error" and self._too_long:
            raise EngineError("invalid_dataset", self._refusal())
        if not self._kept:
            reasons = "; ".join(f"{rows}: {reason}" for reason, rows in list(self._reasons.items())[:3])
            raise EngineError("invalid_dataset", f"no row can be trained on ({reasons or 'the data set is empty'})")
        longest = f"; the longest has {self._longest} tokens"
        found = []
        for reason, rows in self._reasons.items():
            end = longest if reason.startswith("longer than") else ""
            found.append(("rows_dropped", f"{rows} dropped: {reason}{end}"))
        if len(self.truncated):
            found.append(("rows_truncated", f"{self.truncated} cut to {options.limit_name}{longest}"))
        return found + [(code, f"{rows}: {NOTICES[code]}") for code, rows in notices.items()]

    def _drop(self, sample: int, reason: str) -> list[Example]:
        self.dropped.add(sample)
        self._reasons.setdefault(reason, Affected()).add(sample)
        return []

    def _refusal(self) -> str:
        options = self._options
        rows = self._reasons[f"longer than {options.limit_name}"].count
        named = ", ".join(self._too_long) + (", …" if rows > _NAMED else "")
        raised = options.limit == options.max_seq_length
        remedy = "Raise dataset.max_seq_length, or set" if raised else "Set"
        return (
            f"{rows} row{' is' if rows == 1 else 's are'} longer than {options.limit_name} ({named}); the longest has "
            f'{self._longest} tokens. {remedy} dataset.truncation to "truncate" or "drop"'
        )
