"""What keys and values of the answers at work take, told before they are taken on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache

from mlx_engine.protocol import EngineError
from mlx_engine.serving.pool import STEP, slots_for


def bytes_of_position(model: Any) -> int:
    """Of keys and values of all layers. Of layers that keep something else of a fixed size, nothing."""
    cache = make_prompt_cache(model)
    model(mx.array([[1, 2]]), cache=cache)
    total = 0
    for layer in cache:
        keys, values = (getattr(layer, name, None) for name in ("keys", "values"))
        if isinstance(keys, mx.array) and isinstance(values, mx.array):
            total += (keys.nbytes + values.nbytes) // keys.shape[2]
    return total


def pooled_positions(rows: int, longest: int, slots: int = 0, capacity: int = 0) -> int:
    """Of a pool (pool.py) that has `slots` and `capacity`, once it holds so many rows of up to `longest` positions."""
    return max(slots, slots_for(rows)) * max(capacity, -(-longest // STEP) * STEP + STEP)


def refuse_if_never(prompt: int, limit: int, answers: int, *, pooled: bool, position_bytes: int, allowed: int) -> None:
    """EngineError('invalid_parameters') for a request that has no room even alone: of `prompt` tokens, with `answers`
    of at most `limit`."""

    def needed(more: int) -> int:
        return position_bytes * (
            prompt + (pooled_positions(answers, prompt + more) if pooled else answers * (prompt + more))
        )

    if needed(limit) <= allowed:
        return
    fitting = _greatest(limit, lambda more: needed(more) <= allowed)
    advice = f"lower max_tokens to {fitting}" if fitting > 0 else "shorten the prompt" if answers == 1 else "lower n"
    raise EngineError(
        "invalid_parameters",
        f"max_tokens: a prompt of {prompt} tokens and {_count(answers)} of up to {limit} take "
        f"{_mb(needed(limit))} MB of keys and values, and MLX_TRAINING_GENERATION_KV_MB allows {_mb(allowed)} MB: "
        f"{advice}",
    )


def _greatest(below: int, fits: Callable[[int], bool]) -> int:
    """The greatest number under `below` that fits, 0 for none."""
    low, high = 0, below
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _count(answers: int) -> str:
    return "an answer" if answers == 1 else f"{answers} answers"


def _mb(count: int) -> int:
    return max(1, round(count / 10**6))
