"""Chat templates, which are code of whoever made the model: rendered in transformers' sandbox, with a time limit.

Training and generation go through this file alone, so that a conversation has one text in both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import jinja2
from mlx_lm.tokenizer_utils import TokenizerWrapper

from mlx_engine.deadline import DeadlineExceeded, deadline
from mlx_engine.protocol import ChatMessage

SENTINEL = "\u2042"  # stands for an answer when its place in a text must be found
_SECONDS = 2.0
_TOOLS = "You can call these functions:\n"

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
            [_shown(m) for m in messages],
            tools=tools,
            tokenize=False,
            add_generation_prompt=prompt,
            **options,
        )


def _shown(message: ChatMessage) -> dict[str, Any]:
    """As templates read it; what a message doesn't have is not there, since many ask only whether it is defined."""
    shown: dict[str, Any] = {"role": message.role, "content": message.content}
    for key in ("tool_calls", "tool_call_id", "name"):
        if value := getattr(message, key):
            shown[key] = value
    return shown


def with_tools(messages: Sequence[ChatMessage], tools: list[Any]) -> list[ChatMessage]:
    """For templates that show no tools: their descriptions in the system message."""
    text = _TOOLS + "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    if messages[0].role == "system":
        return [ChatMessage(role="system", content=f"{messages[0].content}\n\n{text}"), *messages[1:]]
    return [ChatMessage(role="system", content=text), *messages]


def with_calls_as_text(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """For templates that show no calls of tools: {"name", "arguments"}, one a line, which is the text that rows with
    tool_calls are trained on (packages/server/src/datasets/formats/tools.ts)."""

    def text(message: ChatMessage) -> ChatMessage:
        if not message.tool_calls:
            return message
        calls = [{key: call["function"][key] for key in ("name", "arguments")} for call in message.tool_calls]
        lines = [json.dumps(call, ensure_ascii=False, separators=(",", ":")) for call in calls]
        return ChatMessage(role=message.role, content="\n".join([message.content] * bool(message.content) + lines))

    return [text(message) for message in messages]


def fold(messages: Sequence[ChatMessage], *, fold_system: bool) -> list[ChatMessage]:
    """For templates that take only users and assistants in turn: tool results as user turns, neighbours of one role
    joined; with `fold_system` no system message either."""
    folded: list[tuple[str, list[str]]] = []
    for message in messages:
        system = message.role == "system" and not fold_system
        role = message.role if system or message.role == "assistant" else "user"
        if folded and folded[-1][0] == role:
            folded[-1][1].append(message.content)
        else:
            folded.append((role, [message.content]))
    return [ChatMessage(role=role, content="\n\n".join(contents)) for role, contents in folded]


def hidden_roles(messages: Sequence[ChatMessage], text: str) -> str | None:
    """Why `text` is not the whole conversation: it leaves out system or tool messages. None when it shows them."""
    hidden = {m.role for m in messages if m.role in ("system", "tool") and m.content.strip() not in text}
    return f"it does not show {' and '.join(sorted(hidden))} messages" if hidden else None
