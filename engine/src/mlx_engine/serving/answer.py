"""One answer as it grows: samples, ends, and tells its text and logprobs piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlx_engine.models.load import LoadedModel
from mlx_engine.protocol import Choice, FinishReason, Generate, LikelyToken, TokenLogprob
from mlx_engine.serving.grammar import Constraint
from mlx_engine.serving.sampling import Sampled, Sampler
from mlx_engine.serving.text import Detokenizer, StopFilter


@dataclass(frozen=True)
class Piece:
    text: str
    logprobs: list[TokenLogprob] | None


class Answer:
    def __init__(
        self,
        loaded: LoadedModel,
        ends: set[int],
        request: Generate,
        prompt: Sequence[int],
        limit: int,
        index: int = 0,
        constraint: Constraint | None = None,
    ) -> None:
        """`ends`: tokens that end it. `limit`: tokens at most. `constraint`: of its own, see grammar.py."""
        self.index = index
        self.tokens: list[int] = []  # sampled, the end token too
        self.finish_reason: FinishReason | None = None
        self._tokenizer = loaded.tokenizer
        self._ends = ends
        self._limit = limit
        self._constraint = constraint
        self._sampler = Sampler(request, prompt, index)
        self._detokenizer = Detokenizer(loaded.tokenizer, () if request.messages is not None else prompt)
        self._stops = StopFilter(request.stop)
        self._pieces: list[str] = []
        self._logprobs: list[TokenLogprob] | None = None if request.logprobs is None else []

    def add(self, logits: np.ndarray) -> Piece | None:
        """Samples from a row of logits (vocabulary,) float32. What there is to tell now, if anything; once there is a
        finish_reason, nothing may be added. EngineError when its constraint can't be kept to."""
        constraint = self._constraint
        sampled = self._sampler.sample(logits, constraint and constraint.allowed(logits.size))
        self.tokens.append(sampled.token)
        if self._logprobs is not None:
            self._logprobs.append(self._describe(sampled))
        if sampled.token in self._ends:
            return self.finish("stop")
        if constraint is not None:
            constraint.take(sampled.token)
        text = self._stops.add(self._detokenizer.add(sampled.token))
        if self._stops.stopped:
            return self.finish("stop", text)
        if constraint is not None and constraint.complete:
            return self.finish("stop", text)
        if len(self.tokens) >= self._limit:
            return self.finish("length", text)
        return self._piece(text) if text else None

    def finish(self, reason: FinishReason, text: str = "") -> Piece | None:
        """The last piece: what was held back, too."""
        self.finish_reason = reason
        text += self._stops.add(self._detokenizer.finish()) + self._stops.finish()
        return self._piece(text) if text or self._logprobs else None

    @property
    def choice(self) -> Choice:
        """Once it has finished."""
        assert self.finish_reason is not None
        return Choice(text="".join(self._pieces), finish_reason=self.finish_reason, completion_tokens=len(self.tokens))

    def _piece(self, text: str) -> Piece:
        self._pieces.append(text)
        told = self._logprobs
        if told is not None:
            self._logprobs = []
        return Piece(text, told)

    def _describe(self, sampled: Sampled) -> TokenLogprob:
        assert sampled.logprob is not None
        top = [LikelyToken(id=t, text=self._text(t), logprob=logprob) for t, logprob in sampled.top]
        return TokenLogprob(id=sampled.token, text=self._text(sampled.token), logprob=sampled.logprob, top=top)

    def _text(self, token: int) -> str:
        return self._tokenizer.decode([token])
