"""A row's messages → text, and which characters of it carry loss.

All assistant turns do, each from where the model would begin to generate to the end of its end-of-turn token, without
the newline that most templates put after it. The spans come from rendering the conversation up to each turn: what
`add_generation_prompt` shows is the prompt, what the turn adds is the answer. No template is known by name.
"""

from __future__ import annotations

import datetime
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_engine.data.rows import Row
from mlx_engine.deadline import DeadlineExceeded
from mlx_engine.models.prompts import alpaca_text, conversation_text
from mlx_engine.models.template import SENTINEL, TEMPLATE_ERRORS, fold, hidden_roles, render_chat
from mlx_engine.protocol import ChatMessage, EngineError

_TOOLS = "You can call these functions:\n"
_TODAY = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")

NOTICES = {
    "tools_in_system_message": "the chat template does not show tools, so their descriptions were put into the system "
    "message; send them the same way when generating",
    "roles_folded": "the chat template does not take these roles in this order, so tool results became user turns, "
    "neighbours of one role were joined, and a system message moved into the first user turn where needed",
    "turns_split": "the chat template rewrites earlier turns (it hides their thinking, say), so each assistant turn "
    "is trained as a sample of its own, as the model will see it",
    "generation_prompt_differs": "the chat template's generation prompt does not begin the turns that it renders, "
    "so the answer was taken from where its content begins",
    "no_end_token": "the chat template closes assistant turns with no special token; the tokenizer's EOS was added "
    "after the last turn",
}


class Rejected(Exception):
    """The row cannot be rendered; says why."""


@dataclass(frozen=True)
class Answer:
    start: int  # characters of the text
    end: int  # exclusive
    closed: bool  # whether its last token is an end token


@dataclass(frozen=True)
class Rendered:
    text: str
    answers: tuple[Answer, ...]
    chat: bool  # from a chat template, which shows a BOS itself if there is one


class Renderer:
    """Renders rows with a tokenizer's chat template, or as plain text when it has none.

    `date` is what templates that show today's date get, so that a resumed run sees the same text. `notices` collects,
    by code of NOTICES, the samples that needed something unusual.
    """

    def __init__(self, tokenizer: Any, date: datetime.date) -> None:
        self._tokenizer = tokenizer
        self._dated = _dated(tokenizer.chat_template, date)
        self._ends = tuple(
            token.content
            for id, token in tokenizer.added_tokens_decoder.items()
            if token.special or id in tokenizer.eos_token_ids
        )
        self.notices: dict[str, list[int]] = defaultdict(list)

    def render(self, row: Row) -> list[Rendered]:
        """One text, or one for each assistant turn. Raises Rejected."""
        if not any(message.role == "assistant" for message in row.messages):
            raise Rejected("it has no assistant turn")
        if not self._tokenizer.has_chat_template:
            return [self._plain(row)]
        messages, tools, text = self._accepted(row)
        spans = self._spans(row.sample, messages, tools, text)
        if spans is not None:
            return [self._finished(row.sample, text, spans)]
        self._note("turns_split", row.sample)
        return list(self._split(row.sample, messages, tools))

    # ---- base models ----

    def _plain(self, row: Row) -> Rendered:
        eos = self._tokenizer.eos_token or ""
        if row.alpaca is not None and [m.role for m in row.messages if m.role != "system"] == ["user", "assistant"]:
            system = "".join(m.content for m in row.messages if m.role == "system")
            prompt = alpaca_text(row.alpaca.instruction, row.alpaca.input, system)
            text = prompt + row.messages[-1].content + eos
            return Rendered(text, (Answer(len(prompt), len(text), closed=bool(eos)),), chat=False)
        answers = []
        text = ""
        for i, message in enumerate(row.messages):
            if message.role == "assistant":
                prompt = conversation_text(row.messages[:i], eos, add_generation_prompt=True)
                text = conversation_text(row.messages[: i + 1], eos, add_generation_prompt=False).removesuffix("\n")
                answers.append(Answer(len(prompt), len(text), closed=bool(eos)))
        return Rendered(text, tuple(answers), chat=False)

    # ---- chat templates ----

    def _template(self, messages: Sequence[ChatMessage], tools: list[Any] | None, prompt: bool = False) -> str:
        try:
            return render_chat(self._tokenizer, messages, prompt=prompt, tools=tools, **self._dated)
        except DeadlineExceeded as error:  # it would on every row
            raise EngineError("invalid_model", f"the model's chat template cannot be used: {error}") from error

    def _accepted(self, row: Row) -> tuple[list[ChatMessage], list[Any] | None, str]:
        """The messages in the first form that the template shows whole, with its text."""
        messages, tools = row.messages, row.tools or None
        reason = ""
        for fold_tools, fold_system in ((False, False), (True, False), (True, True)):
            candidate = fold(messages, fold_system=fold_system) if fold_tools else messages
            try:
                text = self._template(candidate, tools)
                if tools and text == self._template(candidate, None):
                    self._note("tools_in_system_message", row.sample)
                    messages, tools = _with_tools(messages, tools), None
                    candidate = fold(messages, fold_system=fold_system) if fold_tools else messages
                    text = self._template(candidate, None)
            except TEMPLATE_ERRORS as error:
                reason = " ".join(str(error).split())
                continue
            hidden = hidden_roles(candidate, text)
            if hidden is None:
                if fold_tools:
                    self._note("roles_folded", row.sample)
                return candidate, tools, text
            reason = hidden
        raise Rejected(f"the chat template does not accept it: {reason}")

    def _spans(
        self, sample: int, messages: list[ChatMessage], tools: list[Any] | None, text: str
    ) -> list[tuple[int, int]] | None:
        """Of all assistant turns; None when the text up to one of them does not begin the whole text."""
        spans = []
        last = len(messages) - 1
        for i, message in enumerate(messages):
            if message.role != "assistant":
                continue
            try:
                upto = text if i == last else self._template(messages[: i + 1], tools)
            except TEMPLATE_ERRORS:
                return None
            if not text.startswith(upto):
                return None
            start = self._start(sample, messages[:i], tools, upto)
            if start < len(upto):
                spans.append((start, len(upto)))
        return spans

    def _start(self, sample: int, before: list[ChatMessage], tools: list[Any] | None, upto: str) -> int:
        """Where the answer begins that ends `upto`."""
        try:
            prompt = self._template(before, tools, prompt=True)
            if upto.startswith(prompt):
                return len(prompt)
        except TEMPLATE_ERRORS:
            pass
        self._note("generation_prompt_differs", sample)
        try:
            other = self._template([*before, ChatMessage(role="assistant", content=SENTINEL)], tools)
        except TEMPLATE_ERRORS:
            return len(upto)
        return next((i for i, pair in enumerate(zip(upto, other, strict=False)) if pair[0] != pair[1]), len(upto))

    def _split(self, sample: int, messages: list[ChatMessage], tools: list[Any] | None) -> Iterator[Rendered]:
        for i, message in enumerate(messages):
            if message.role != "assistant":
                continue
            try:
                upto = self._template(messages[: i + 1], tools)
            except TEMPLATE_ERRORS:
                continue
            yield self._finished(sample, upto, [(self._start(sample, messages[:i], tools, upto), len(upto))])

    def _finished(self, sample: int, text: str, spans: list[tuple[int, int]]) -> Rendered:
        """Ends each answer with its end token; adds one at the very end where the template shows none."""
        answers = []
        for start, end in spans:
            bare = start + len(text[start:end].rstrip())
            closed = text.endswith(self._ends, start, bare)
            answers.append(Answer(start, bare if closed else end, closed))
        if answers and not answers[-1].closed and self._tokenizer.eos_token:
            self._note("no_end_token", sample)
            start = answers[-1].start
            text = text[:start] + text[start : answers[-1].end].rstrip() + self._tokenizer.eos_token
            answers[-1] = Answer(start, len(text), closed=True)
        return Rendered(text, tuple(answers), chat=True)

    def _note(self, code: str, sample: int) -> None:
        samples = self.notices[code]
        if not samples or samples[-1] != sample:
            samples.append(sample)


def _dated(template: object, date: datetime.date) -> dict[str, str]:
    """apply_chat_template's argument for a template that shows today's date: the same with `date` written in."""
    if not isinstance(template, str):
        return {}
    dated = _TODAY.sub(lambda call: json.dumps(date.strftime(call[2])), template)
    return {} if dated == template else {"chat_template": dated}


def _with_tools(messages: list[ChatMessage], tools: list[Any]) -> list[ChatMessage]:
    text = _TOOLS + "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    if messages[0].role == "system":
        return [ChatMessage(role="system", content=f"{messages[0].content}\n\n{text}"), *messages[1:]]
    return [ChatMessage(role="system", content=text), *messages]
