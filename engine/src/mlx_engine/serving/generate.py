"""One answer from one model: prefill, sample, decode, until an end token, a stop sequence, the limit or a cancel."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.sample_utils import apply_top_p

from mlx_engine.models.load import LoadedModel
from mlx_engine.protocol import EngineError, Generate
from mlx_engine.serving.chat import chat_tokens, text_tokens, with_system
from mlx_engine.serving.text import Detokenizer, StopFilter

_PREFILL_TOKENS = 256  # of the prompt at a time; a cancel is seen between them
_Sampler = Callable[[mx.array], mx.array]


class Cancelled(Exception):
    pass


@dataclass(frozen=True)
class Result:
    finish_reason: Literal["stop", "length", "cancelled"]
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
    `system`: the system turn that the model was trained with, for conversations that bring none.

    EngineError('invalid_parameters') for a prompt that is empty, too long, or refused by the chat template.
    """
    prompt, limit = _prompt(loaded, request, system)
    detokenizer = Detokenizer(loaded.tokenizer, () if request.messages is not None else prompt)
    stops = StopFilter(request.stop)
    count = 0
    reason: Literal["stop", "length", "cancelled"] = "length"

    def check(*_: int) -> None:
        if is_cancelled():
            raise Cancelled

    steps = generate_step(
        mx.array(prompt),
        loaded.model,
        max_tokens=limit,
        sampler=sampler(request.temperature, request.top_p, request.seed),
        prefill_step_size=_PREFILL_TOKENS,
        prompt_progress_callback=check,
    )
    try:
        for token, _ in steps:
            check()
            count += 1
            if token in ends:
                reason = "stop"
                break
            if text := stops.add(detokenizer.add(token)):
                yield text
            if stops.stopped:
                reason = "stop"
                break
    except Cancelled:
        reason = "cancelled"
    finally:
        steps.close()
    if text := stops.add(detokenizer.finish()) + stops.finish():
        yield text
    yield Result(reason, len(prompt), count)


def _prompt(loaded: LoadedModel, request: Generate, system: str | None) -> tuple[list[int], int]:
    """Tokens, and how many may follow: the request's limit or what is left of the context window."""
    if request.messages is not None:
        tokens = chat_tokens(loaded.tokenizer, with_system(request.messages, system))
    else:
        tokens = text_tokens(loaded.tokenizer, request.prompt or "")
    if not tokens:
        raise EngineError("invalid_parameters", "the prompt is empty")
    window = loaded.context_length
    if window is None:
        return tokens, request.max_tokens
    if len(tokens) >= window:
        message = f"the prompt has {len(tokens)} tokens, which leaves no room in the model's context window of {window}"
        raise EngineError("invalid_parameters", message)
    return tokens, min(request.max_tokens, window - len(tokens))


def sampler(temperature: float, top_p: float, seed: int | None) -> _Sampler:
    """(1, vocabulary) logits → (1,) token. Temperature first, then the nucleus, as OpenAI, vLLM and transformers do.

    Random numbers come from a key of its own, so that a seed gives the same tokens whatever else this process does.
    """
    if temperature == 0:
        return lambda logits: mx.argmax(logits, axis=-1)
    key = mx.random.key((secrets.randbits(64) if seed is None else seed) % 2**64)

    def sample(logits: mx.array) -> mx.array:
        nonlocal key
        key, now = mx.random.split(key)
        logits = logits.astype(mx.float32)
        # The greatest becomes 0, so that a low temperature can't underflow all of them.
        logits = (logits - logits.max(axis=-1, keepdims=True)) / temperature
        if top_p < 1:
            logits = apply_top_p(logits, top_p)
        return mx.random.categorical(logits, key=now)

    return sample
