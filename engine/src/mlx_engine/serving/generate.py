"""One answer from one model by itself, for what trains: prefill, then a token at a time. Serving has batch.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import make_prompt_cache

from mlx_engine.models.load import LoadedModel
from mlx_engine.protocol import FinishReason, Generate
from mlx_engine.serving.answer import Answer
from mlx_engine.serving.prompt import counted, prompt_of

_PREFILL_TOKENS = 256  # of the prompt at a time; a cancel is seen between them


@dataclass(frozen=True)
class Result:
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int  # sampled, the end token too


def generate(
    loaded: LoadedModel,
    ends: set[int],
    request: Generate,
    is_cancelled: Callable[[], bool],
    system: str | None = None,
) -> Iterator[str | Result]:
    """Yields pieces of text, then one Result. `is_cancelled` is asked before every token and every part of the prompt.
    EngineError as prompt_of and counted have it.
    """
    prompt, limit = counted(prompt_of(loaded, request, system), loaded, request.max_tokens)
    answer = Answer(loaded, ends, request, prompt, limit)
    cache = make_prompt_cache(loaded.model)
    for start in range(0, len(prompt) - 1, _PREFILL_TOKENS):
        if is_cancelled():
            break
        loaded.model(mx.array([prompt[start : min(start + _PREFILL_TOKENS, len(prompt) - 1)]]), cache=cache)
        mx.eval([layer.state for layer in cache])
    token = prompt[-1]
    while answer.finish_reason is None:
        if is_cancelled():
            piece = answer.finish("cancelled")
        else:
            piece = answer.add(last_logits(loaded.model, [token], cache)[0])
            token = answer.tokens[-1]
        if piece is not None:
            yield piece.text
    yield Result(answer.finish_reason, len(prompt), len(answer.tokens))


def last_logits(model: Callable[..., mx.array], tokens: list[int], cache: list[object]) -> np.ndarray:
    """One token for each row of the cache → (rows, vocabulary) float32."""
    return np.array(model(mx.array(tokens)[:, None], cache=cache)[:, -1].astype(mx.float32))
