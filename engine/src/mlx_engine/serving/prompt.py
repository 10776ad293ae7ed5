"""A request's prompt as tokens, and how many may follow."""

from __future__ import annotations

from mlx_engine.models.load import LoadedModel
from mlx_engine.protocol import EngineError, Generate
from mlx_engine.serving.chat import chat_tokens, text_tokens, with_system


def prompt_tokens(loaded: LoadedModel, request: Generate, system: str | None) -> tuple[list[int], int]:
    """Tokens, and how many may follow: the request's limit or what is left of the context window. `system`: the system
    turn that the model was trained with, for conversations that bring none.

    EngineError('invalid_parameters') for a prompt that is empty or refused by the chat template, 'context_length' for
    one that is too long.
    """
    window = loaded.context_length
    if request.messages is not None:
        tokens = chat_tokens(loaded.tokenizer, with_system(request.messages, system), request.tools, window)
    else:
        tokens = text_tokens(loaded.tokenizer, request.prompt or "", window)
    if not tokens:
        raise EngineError("invalid_parameters", "the prompt is empty")
    if window is None:
        return tokens, request.max_tokens
    if len(tokens) >= window:
        message = f"the prompt has {len(tokens)} tokens, which leaves no room in the model's context window of {window}"
        raise EngineError("context_length", message)
    return tokens, min(request.max_tokens, window - len(tokens))
