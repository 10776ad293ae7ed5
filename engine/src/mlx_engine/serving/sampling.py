"""One answer's next token from its row of logits.

In numpy, one row at a time: a batch of rows with different settings has nothing to share, a row costs less here than
MLX's sorts over the vocabulary on a CPU (top_p 0.9 of 49,152 words: 0.6 ms for 9.4), and nothing of it can depend on
what else is in the batch. Random numbers come from a generator of its own.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mlx_engine.protocol import EngineError, Generate

_FIRST_GUESS = 64  # likeliest tokens that mostly hold top_p; more are sorted when they don't


@dataclass(frozen=True)
class Sampled:
    token: int
    logprob: float | None = None  # natural logarithm of the model's own probability
    top: tuple[tuple[int, float], ...] = ()  # the likeliest (token, logprob), best first


class Sampler:
    """Penalties, temperature, top_k, min_p, top_p, in this order: the order of vLLM, and of transformers but for min_p,
    which it applies last."""

    def __init__(self, request: Generate, prompt: Sequence[int], index: int = 0) -> None:
        """`index`: which of the request's answers; each has random numbers of its own."""
        self._request = request
        seed = secrets.randbits(64) if request.seed is None else request.seed % 2**64
        self._random = np.random.Generator(np.random.PCG64([seed, index]))
        self._said: Counter[int] = Counter()
        self._seen = set(prompt) if request.repetition_penalty != 1 else set()

    def sample(self, logits: np.ndarray, allowed: np.ndarray | None = None) -> Sampled:
        """(vocabulary,) float32, left as they are; `allowed`: (vocabulary,) bool, what may be chosen. Log-probabilities
        are told as if all might be. EngineError('non_finite') when there is nothing to choose by."""
        if not np.isfinite(logits.max()):  # of NaN and others, NaN
            raise EngineError("non_finite", "the model computes no numbers (NaN or infinity): its weights are damaged")
        penalised = self._penalised(logits)
        token = self._choose(penalised if allowed is None else np.where(allowed, penalised, np.float32(-np.inf)))
        self._said[token] += 1
        self._seen.add(token)
        if self._request.logprobs is None:
            return Sampled(token)
        logprobs = log_softmax(logits)
        top = likeliest(logprobs, self._request.logprobs)
        return Sampled(token, float(logprobs[token]), tuple((int(t), float(logprobs[t])) for t in top))

    def _choose(self, logits: np.ndarray) -> int:
        request = self._request
        if request.temperature == 0:
            return int(np.argmax(logits))
        # The greatest becomes 0, so that a low temperature can't make all of them underflow.
        weights = np.exp((logits - logits.max()) / np.float32(request.temperature))
        kept = np.flatnonzero(weights)
        if 0 < request.top_k < kept.size:
            kept = likeliest(weights, request.top_k)
        if request.min_p > 0:
            kept = kept[weights[kept] >= request.min_p]
        if request.top_p < 1:
            kept = _nucleus(weights, kept, request.top_p)
        cumulative = np.cumsum(weights[kept], dtype=np.float64)
        drawn = np.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right")
        return int(kept[min(drawn, kept.size - 1)])

    def _penalised(self, logits: np.ndarray) -> np.ndarray:
        """Repetition: Keskar et al., arXiv:1909.05858, section 4.1, over prompt and answer. Presence and frequency: as
        in OpenAI's API, over the answer."""
        request = self._request
        if not self._seen or (
            request.repetition_penalty == 1 and request.presence_penalty == 0 and request.frequency_penalty == 0
        ):
            return logits
        logits = logits.copy()
        if request.repetition_penalty != 1:
            seen = np.fromiter(self._seen, int)
            score = logits[seen]
            penalty = np.float32(request.repetition_penalty)
            logits[seen] = np.where(score > 0, score / penalty, score * penalty)
        if self._said:
            said = np.fromiter(self._said, int)
            counts = np.fromiter(self._said.values(), np.float32)
            logits[said] -= request.presence_penalty + request.frequency_penalty * counts
        return logits


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum(dtype=np.float64)).astype(np.float32)


def likeliest(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the `count` greatest, greatest first; of equals the smaller index comes first."""
    count = min(count, scores.size)
    if count == 0:
        return np.empty(0, int)
    least = np.partition(scores, scores.size - count)[scores.size - count]
    found = np.flatnonzero(scores >= least)
    return found[np.argsort(-scores[found], kind="stable")][:count]


def _nucleus(weights: np.ndarray, kept: np.ndarray, top_p: float) -> np.ndarray:
    """The fewest of the likeliest in `kept` that hold top_p of its weight."""
    within = weights[kept]
    needed = top_p * within.sum(dtype=np.float64)
    count = min(_FIRST_GUESS, kept.size)
    while True:
        best = likeliest(within, count)
        reached = np.cumsum(within[best], dtype=np.float64)
        if reached[-1] >= needed or count == kept.size:
            return kept[best[: np.searchsorted(reached, needed) + 1]]
        count = min(count * 8, kept.size)
