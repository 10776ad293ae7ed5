"""What became of all the rows of a data set: counts over all of them, and the numbers of some."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappushpop

import msgspec
import numpy as np

from mlx_engine.data.affected import Affected
from mlx_engine.data.encode import Encoded

_LONGEST = 10

# Of rows that nothing is trained on, whatever the limit.
UNSUPERVISED = ("no_assistant_turn", "not_learned", "template_refuses", "empty_answer", "no_room_for_answer")
CUT = ("cut_answers", "cut_turns")


class Survey(msgspec.Struct):
    """Kept with the tokenised rows, so that a report takes no second look at them. Memory does not grow with the rows,
    but with how many different lengths they have."""

    rows: int = 0
    used: int = 0  # that something is trained on
    total: int = 0  # tokens of all texts, whole: trained + masked + cut + unused
    trained: int = 0
    masked: int = 0  # shown, but not predicted
    cut: int = 0  # lost to the limit
    unused: int = 0  # after the last answer that is learned, or of rows of which nothing is
    lengths: dict[int, int] = {}  # rows by their tokens up to the end of what is learned, before anything is cut
    longest: list[tuple[int, int]] = []  # a heap of such a length and its row
    affected: dict[str, Affected] = {}  # by code

    def note(self, code: str, sample: int) -> None:
        self.affected.setdefault(code, Affected()).add(sample)

    def count(self, *codes: str) -> int:
        return sum(len(self.affected[code]) for code in codes if code in self.affected)

    def measured(self, sample: int, length: int) -> None:
        """A row's length; 0 for one without anything that is learned."""
        if not length:
            return
        self.lengths[length] = self.lengths.get(length, 0) + 1
        if len(self.longest) < _LONGEST:
            self.longest = sorted([*self.longest, (length, sample)])
        elif length > self.longest[0][0]:
            heappushpop(self.longest, (length, sample))

    def left_out(self, texts: Sequence[Encoded], needed: Sequence[int], *, too_long: bool) -> None:
        """A row that nothing is trained on: what would have been learned is cut, if that is why."""
        for text, length in zip(texts, needed, strict=True):
            cut = length if too_long else 0
            self.total += len(text.tokens)
            self.cut += cut
            self.unused += len(text.tokens) - cut

    def taken(self, sample: int, text: Encoded, needed: int, supervised: np.ndarray, bos: int | None) -> None:
        """A text of which something is trained on, `supervised` (kept,) telling what."""
        kept, trained = len(supervised), int(np.count_nonzero(supervised))
        self.total += len(text.tokens)
        self.trained += trained
        self.masked += kept - trained
        self.cut += needed - kept
        self.unused += len(text.tokens) - needed
        if kept < needed:
            inside = any(answer.start < kept < answer.end for answer in text.answers)
            self.note("cut_answers" if inside else "cut_turns", sample)
        if any(answer.learned and not answer.closed and answer.start < kept for answer in text.answers):
            self.note("missing_end_token", sample)
        if text.straddled:
            self.note("straddling_token", sample)
        if bos is not None and text.tokens[:2].tolist() == [bos, bos]:
            self.note("doubled_bos", sample)

    def percentiles(self, shares: Sequence[float]) -> list[int]:
        """For each of `shares` the smallest length that so large a share of the rows does not exceed; [] of no rows."""
        if not self.lengths:
            return []
        lengths = sorted(self.lengths)
        reached = np.cumsum([self.lengths[length] for length in lengths])
        places = np.searchsorted(reached, np.asarray(shares) * reached[-1] - 1e-9)
        return [lengths[int(place)] for place in places]
