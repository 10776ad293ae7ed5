"""Messages → a prompt and its tokens, and the tokens that end an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mlx_lm.tokenizer_utils import TokenizerWrapper
from msgspec.structs import replace

from mlx_engine.deadline import DeadlineExceeded
from mlx_engine.models.prompts import alpaca_text, conversation_text
from mlx_engine.models.template import (
    SENTINEL,
    TEMPLATE_ERRORS,
    fold,
    hidden_roles,
    render_chat,
    with_calls_as_text,
    with_tools,
)
from mlx_engine.process import one_line
from mlx_engine.protocol import ChatMessage, EngineError

# Characters of a text for each token of the window that are tokenised before the rest: English has 4 to 5 to
# a token, so what begins so is mostly too long. All of 1 MB takes 2.7 s.
_LOOK = 8
# Tokens that a text which goes on may have fewer than its beginning, whose last word is cut.
_SEAM = 64


@dataclass(frozen=True)
class Prompt:
    """The text that is continued, and how the tokenizer takes it."""

    text: str
    options: Mapping[str, bool] = field(default_factory=dict)

    def tokens(self, tokenizer: TokenizerWrapper, window: int | None = None) -> list[int]:
        """EngineError('context_length') for a text that is far too long for the model's context window: not all of its
        tokens are counted then. May run on any thread: the tokenizer lets go of Python's lock."""
        if window is not None and len(self.text) > _LOOK * window:
            least = len(tokenizer.encode(self.text[: _LOOK * window], **self.options)) - _SEAM
            if least > window:
                message = f"the prompt has more than {least} tokens, which leaves no room in"
                raise EngineError("context_length", f"{message} the model's context window of {window}")
        return tokenizer.encode(self.text, **self.options)


def chat_prompt(tokenizer: TokenizerWrapper, messages: Sequence[ChatMessage], tools: list[Any] | None = None) -> Prompt:
    """Through the model's chat template, up to where the assistant speaks. Base models get the text that they were
    trained on (prompts.py): Stanford's for one instruction, a plain conversation otherwise. What a template has no
    place for (tools, their calls and results, a system message) is put where training put it. For the main thread, as
    templates are (deadline.py).

    EngineError('invalid_parameters') when the template refuses the messages.
    """
    if not messages:
        raise EngineError("invalid_parameters", "messages is empty")
    if not tokenizer.has_chat_template:
        shown = with_calls_as_text(messages)
        return Prompt(_plain(tokenizer, with_tools(shown, tools) if tools else shown))
    return Prompt(_accepted(tokenizer, messages, tools or None), {"add_special_tokens": False})


def with_system(messages: Sequence[ChatMessage], trained: str | None) -> list[ChatMessage]:
    """The messages as training showed them. A result whose rows all began with one system turn never saw a conversation
    without it, so it is put first where there is none. An empty system turn says that there is to be none."""
    turns = [m for m in messages if m.role != "system" or m.content]
    if trained is None or not turns or any(m.role == "system" for m in messages):
        return turns
    return [ChatMessage(role="system", content=trained), *turns]


def end_tokens(tokenizer: TokenizerWrapper) -> set[int]:
    """The model's EOS tokens, and the special token with which its template closes an assistant turn."""
    ends = set(tokenizer.eos_token_ids)
    if tokenizer.has_chat_template:
        talk = [ChatMessage(role="user", content="?"), ChatMessage(role="assistant", content=SENTINEL)]
        try:
            after = render_chat(tokenizer, talk).rpartition(SENTINEL)[2].lstrip()
        except TEMPLATE_ERRORS:
            return ends
        added = tokenizer.added_tokens_decoder.items()
        ends |= {number for number, token in added if token.special and after.startswith(token.content)}
    return ends


def _accepted(tokenizer: TokenizerWrapper, messages: Sequence[ChatMessage], tools: list[Any] | None) -> str:
    """The messages in the first form that the template shows whole: the one that training chose for such rows."""
    as_text = with_calls_as_text(messages)
    forms: list[tuple[Sequence[ChatMessage], Callable[..., Sequence[ChatMessage]]]] = [
        (as_text, list),
        (as_text, partial(fold, fold_system=False)),
        (as_text, partial(fold, fold_system=True)),
    ]
    if as_text != messages:
        forms.insert(0, (messages, list))
    for turns, form in forms:
        try:
            candidate = form(turns)
            text = render_chat(tokenizer, candidate, prompt=True, tools=tools)
            if tools and text == render_chat(tokenizer, candidate, prompt=True):
                candidate = form(with_tools(turns, tools))
                text = render_chat(tokenizer, candidate, prompt=True)
            hidden = hidden_roles(candidate, text) or _hidden_calls(tokenizer, candidate)
        except DeadlineExceeded as error:
            raise _refused(one_line(error)) from error
        except TEMPLATE_ERRORS as error:
            hidden = one_line(error)
        if hidden is None:
            return text
    raise _refused(hidden)


def _hidden_calls(tokenizer: TokenizerWrapper, messages: Sequence[ChatMessage]) -> str | None:
    without = [replace(message, tool_calls=[]) for message in messages]
    if without == messages or render_chat(tokenizer, messages) != render_chat(tokenizer, without):
        return None
    return "it does not show calls of tools"


def _refused(reason: str) -> EngineError:
    return EngineError("invalid_parameters", f"the model's chat template refuses these messages: {reason}")


def _plain(tokenizer: TokenizerWrapper, messages: Sequence[ChatMessage]) -> str:
    system = "\n\n".join(m.content for m in messages if m.role == "system")
    rest = [m for m in messages if m.role != "system"]
    if [m.role for m in rest] == ["user"]:
        return alpaca_text(rest[0].content, system=system)
    return conversation_text(messages, tokenizer.eos_token or "", add_generation_prompt=True)
