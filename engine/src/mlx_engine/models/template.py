"""Chat templates, which are code of whoever made the model: rendered in transformers' sandbox, with a time limit.

Training and generation go through this file alone, so that a conversation has one text in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jinja2
from mlx_lm.tokenizer_utils import TokenizerWrapper

from mlx_engine.deadline import DeadlineExceeded, deadline
from mlx_engine.protocol import ChatMessage

SENTINEL = "\u2042"  # stands for an answer when its place in a text must be found
_SECONDS = 2.0

# Whatever a template does wrong, short of exhausting memory.
TEMPLATE_ERRORS = (
    jinja2.TemplateError,
    DeadlineExceeded,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)


def render_chat(
    tokenizer: TokenizerWrapper,
    messages: Sequence[ChatMessage],
    *,
    prompt: bool = False,
    tools: list[Any] | None = None,
    **options: Any,
) -> str:
    """The conversation's text; with `prompt`, up to where the assistant speaks. Raises one of TEMPLATE_ERRORS."""
    with deadline(_SECONDS, "the template"):
        return tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in messages],
            tools=tools,
            tokenize=False,
            add_generation_prompt=prompt,
            **options,
        )


def fold(messages: Sequence[ChatMessage], *, fold_system: bool) -> list[ChatMessage]:
    """For templates that take only users and assistants in turn: tool results as user turns, neighbours of one role
    joined; with `fold_system` no system message either."""
    folded: list[ChatMessage] = []
    for message in messages:
        system = message.role == "system" and not fold_system
        role = message.role if system or message.role == "assistant" else "user"
        if folded and folded[-1].role == role:
            folded[-1] = ChatMessage(role=role, content=f"{folded[-1].content}\n\n{message.content}")
        else:
            folded.append(ChatMessage(role=role, content=message.content))
    return folded


def hidden_roles(messages: Sequence[ChatMessage], text: str) -> str | None:
    """Why `text` is not the whole conversation: it leaves out system or tool messages. None when it shows them."""
    hidden = {m.role for m in messages if m.role in ("system", "tool") and m.content.strip() not in text}
    return f"it does not show {' and '.join(sorted(hidden))} messages" if hidden else None
