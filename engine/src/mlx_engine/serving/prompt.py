"""A request's prompt as tokens, and how many may follow."""

from __future__ import annotations

from mlx_engine.models.load import LoadedModel
from mlx_engine.protocol import EngineError, Generate
from mlx_engine.serving.chat import Prompt, chat_prompt, with_system


def prompt_of(loaded: LoadedModel, request: Generate, system: str | None) -> Prompt:
    """`system`: the system turn that the model was trained with, for conversations that bring none. Plain text comes
    after BOS where the tokenizer puts one. EngineError('invalid_parameters') for what the chat template refuses."""
    if request.messages is None:
        return Prompt(request.prompt or "")
    return chat_prompt(loaded.tokenizer, with_system(request.messages, system), request.tools)


def counted(prompt: Prompt, loaded: LoadedModel, max_tokens: int) -> tuple[list[int], int]:
    """Its tokens, and how many may follow: `max_tokens` or what is left of the context window. On any thread.

    EngineError('invalid_parameters') for a prompt that is empty, 'context_length' for one that is too long.
    """
    window = loaded.context_length
    tokens = prompt.tokens(loaded.tokenizer, window)
    if not tokens:
        raise EngineError("invalid_parameters", "the prompt is empty")
    if window is None:
        return tokens, max_tokens
    if len(tokens) >= window:
        message = f"the prompt has {len(tokens)} tokens, which leaves no room in the model's context window of {window}"
        raise EngineError("context_length", message)
    return tokens, min(max_tokens, window - len(tokens))
