"""A row's messages → text, and where its answers are, of which some or all are learned.

An answer goes from where the model would begin to generate to the end of its end-of-turn token, without the newline
that most templates put after it. The spans come from rendering the conversation up to each turn: what
`add_generation_prompt` shows is the prompt, what the turn adds is the answer. No template is known by name.
"""

from __future__ import annotations

import datetime
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any, Literal

from mlx_engine.data.affected import Affected
from mlx_engine.data.rows import Raw, Row
from mlx_engine.deadline import DeadlineExceeded
from mlx_engine.models.prompts import alpaca_text, conversation_text
from mlx_engine.models.template import SENTINEL, TEMPLATE_ERRORS, fold, hidden_roles, render_chat, with_tools
from mlx_engine.protocol import ChatMessage, EngineError

_NOTHING = "none of its assistant turns is to be learned"
_NOT_THE_LAST = "its last assistant turn is not to be learned"
_TODAY = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")

LossOn = Literal["completions", "last_completion", "all"]

NOTICES = {
    "tools_in_system_message": "the chat template does not show tools, so their descriptions were put into the system "
    "message; send them the same way when generating",
    "system_in_user_turn": "the chat template takes no system message, so it was put into the first user turn",
    "tool_results_in_user_turns": "the chat template takes no tool results, so they became user turns",
    "turns_joined": "the chat template wants users and assistants in turn, so neighbours of one role were joined",
    "turns_split": "the chat template rewrites earlier turns (it hides their thinking, say), so each assistant turn "
    "is trained as a sample of its own, as the model will see it",
    "generation_prompt_differs": "the chat template's generation prompt does not begin the turns that it renders, "
    "so the answer was taken from where its content begins",
    "no_end_token": "the chat template closes assistant turns with no special token; the tokenizer's EOS was added "
    "after the last turn",
}


class Rejected(Exception):
    """The row cannot be rendered; says why. `code`: one of survey.py's."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Answer:
    start: int  # characters of the text
    end: int  # exclusive
    closed: bool  # whether its last token is an end token
    learned: bool = True


@dataclass(frozen=True)
class Rendered:
    text: str
    answers: tuple[Answer, ...]
    chat: bool  # from a chat template, which shows a BOS itself if there is one


class Renderer:
    """Renders rows with a tokenizer's chat template, or as plain text when it has none.

    `date` is what templates that show today's date get, so that a resumed run sees the same text. `loss_on` says which
    answers are learned: all, a row's last, or with "all" every token; those of turns with `train: false` never are.
    `notices` collects, by code of NOTICES, the rows that needed something unusual.
    """

    def __init__(self, tokenizer: Any, date: datetime.date, loss_on: LossOn = "completions") -> None:
        self._tokenizer = tokenizer
        self._loss_on = loss_on
        self._dated = dated(tokenizer.chat_template, date)
        self._ends = tuple(
            token.content
            for id, token in tokenizer.added_tokens_decoder.items()
            if token.special or id in tokenizer.eos_token_ids
        )
        self.notices: dict[str, Affected] = defaultdict(Affected)

    def render(self, row: Row) -> list[Rendered]:
        """One text, or one for each assistant turn that is learned. Raises Rejected."""
        if row.raw is not None:
            return [self._raw(row.raw)]
        if not any(message.role == "assistant" for message in row.messages):
            raise Rejected("no_assistant_turn", "it has no assistant turn")
        if not self._tokenizer.has_chat_template:
            return [self._plain(row)]
        messages, tools, text, joined = self._accepted(row)
        learned = self._learned(row, joined)
        spans = self._spans(row.sample, messages, tools, text, self._wanted(learned))
        if spans is None and self._loss_on == "all":
            if not all(learned):
                told = "the chat template rewrites earlier turns, so those with train: false cannot be told"
                raise Rejected("template_refuses", told)
            last = [False] * (len(learned) - 1) + [True]
            spans = self._spans(row.sample, messages, tools, text, last) or [None] * len(learned)
        if spans is not None:
            return [self._finished(row.sample, text, spans, learned)]
        self._note("turns_split", row.sample)
        return list(self._split(row.sample, messages, tools, learned))

    # ---- which answers ----

    def _learned(self, row: Row, joined: bool) -> list[bool]:
        """Of each assistant turn. Neighbours that have been `joined` to one turn are learned if all of them are."""
        runs = [list(run) for assistant, run in groupby(row.messages, lambda m: m.role == "assistant") if assistant]
        turns = runs if joined else [[turn] for run in runs for turn in run]
        learned = [all(part.train for part in turn) for turn in turns]
        if self._loss_on == "last_completion":
            learned[:-1] = [False] * (len(learned) - 1)
        if self._loss_on != "all" and not any(learned):
            raise Rejected("not_learned", _NOTHING if self._loss_on == "completions" else _NOT_THE_LAST)
        return learned

    def _wanted(self, learned: list[bool]) -> list[bool]:
        """Answers whose place is needed."""
        return [True] * len(learned) if self._loss_on == "all" else learned

    # ---- plain text ----

    def _raw(self, raw: Raw) -> Rendered:
        """Its completion is the answer. It ends with the EOS token, whether it brings one or not."""
        if not raw.completion:
            raise Rejected("empty_answer", "its completion is empty")
        eos = self._tokenizer.eos_token or ""
        text = raw.prompt + raw.completion.removesuffix(eos) + eos
        return Rendered(text, (Answer(len(raw.prompt), len(text), bool(eos)),), chat=False)

    # ---- base models ----

    def _plain(self, row: Row) -> Rendered:
        eos = self._tokenizer.eos_token or ""
        learned = self._learned(row, joined=False)
        if row.alpaca is not None and [m.role for m in row.messages if m.role != "system"] == ["user", "assistant"]:
            system = "".join(m.content for m in row.messages if m.role == "system")
            prompt = alpaca_text(row.alpaca.instruction, row.alpaca.input, system)
            text = prompt + row.messages[-1].content + eos
            return Rendered(text, (Answer(len(prompt), len(text), bool(eos), *learned),), chat=False)
        answers = []
        text = ""
        for i, wanted, learn in _turns(row.messages, self._wanted(learned), learned):
            if wanted:
                prompt = conversation_text(row.messages[:i], eos, add_generation_prompt=True)
                text = conversation_text(row.messages[: i + 1], eos, add_generation_prompt=False).removesuffix("\n")
                answers.append(Answer(len(prompt), len(text), bool(eos), learn))
        if self._loss_on == "all":
            text = conversation_text(row.messages, eos, add_generation_prompt=False).removesuffix("\n")
        return Rendered(text, tuple(answers), chat=False)

    # ---- chat templates ----

    def _template(self, messages: Sequence[ChatMessage], tools: list[Any] | None, prompt: bool = False) -> str:
        try:
            return render_chat(self._tokenizer, messages, prompt=prompt, tools=tools, **self._dated)
        except DeadlineExceeded as error:  # it would on every row
            raise EngineError("invalid_model", f"the model's chat template cannot be used: {error}") from error

    def _accepted(self, row: Row) -> tuple[Sequence[ChatMessage], list[Any] | None, str, bool]:
        """The messages in the first form that the template shows whole, its text, and whether neighbours are joined."""
        messages: Sequence[ChatMessage] = row.messages
        tools = row.tools or None
        reason = ""
        for fold_tools, fold_system in ((False, False), (True, False), (True, True)):
            candidate = fold(messages, fold_system=fold_system) if fold_tools else messages
            try:
                text = self._template(candidate, tools)
                if tools and text == self._template(candidate, None):
                    self._note("tools_in_system_message", row.sample)
                    messages, tools = with_tools(messages, tools), None
                    candidate = fold(messages, fold_system=fold_system) if fold_tools else messages
                    text = self._template(candidate, None)
            except TEMPLATE_ERRORS as error:
                reason = " ".join(str(error).split())
                continue
            hidden = hidden_roles(candidate, text)
            if hidden is None:
                if fold_tools:
                    self._note_folded(row, fold_system)
                return candidate, tools, text, fold_tools
            reason = hidden
        raise Rejected("template_refuses", f"the chat template does not accept it: {reason}")

    def _note_folded(self, row: Row, fold_system: bool) -> None:
        roles = [message.role for message in row.messages]
        if fold_system and "system" in roles:
            self._note("system_in_user_turn", row.sample)
        if "tool" in roles:
            self._note("tool_results_in_user_turns", row.sample)
        shown = ["user" if role == "tool" else role for role in roles]
        if any(before == after for before, after in pairwise(shown)):
            self._note("turns_joined", row.sample)

    def _spans(
        self, sample: int, messages: Sequence[ChatMessage], tools: list[Any] | None, text: str, wanted: list[bool]
    ) -> list[tuple[int, int] | None] | None:
        """Of each wanted assistant turn that shows anything, and None for the others; None when the text up to one of
        them does not begin the whole text."""
        spans: list[tuple[int, int] | None] = []
        last = len(messages) - 1
        for i, want in _turns(messages, wanted):
            spans.append(None)
            if not want:
                continue
            try:
                upto = text if i == last else self._template(messages[: i + 1], tools)
            except TEMPLATE_ERRORS:
                return None
            if not text.startswith(upto):
                return None
            start = self._start(sample, messages[:i], tools, upto)
            if start < len(upto):
                spans[-1] = (start, len(upto))
        return spans

    def _start(self, sample: int, before: Sequence[ChatMessage], tools: list[Any] | None, upto: str) -> int:
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

    def _split(
        self, sample: int, messages: Sequence[ChatMessage], tools: list[Any] | None, learned: list[bool]
    ) -> Iterator[Rendered]:
        for i, learn in _turns(messages, learned):
            if not learn:
                continue
            try:
                upto = self._template(messages[: i + 1], tools)
            except TEMPLATE_ERRORS:
                continue
            yield self._finished(sample, upto, [(self._start(sample, messages[:i], tools, upto), len(upto))], [True])

    def _finished(
        self, sample: int, text: str, spans: Sequence[tuple[int, int] | None], learned: Sequence[bool]
    ) -> Rendered:
        """Ends each answer with its end token; adds one after the last where the template shows none."""
        answers = []
        for span, learn in zip(spans, learned, strict=True):
            if span is not None:
                start, end = span
                bare = start + len(text[start:end].rstrip())
                closed = text.endswith(self._ends, start, bare)
                answers.append(Answer(start, bare if closed else end, closed, learn))
        if answers and not answers[-1].closed and self._tokenizer.eos_token and self._is_last(answers[-1], text):
            self._note("no_end_token", sample)
            start = answers[-1].start
            text = text[:start] + text[start : answers[-1].end].rstrip() + self._tokenizer.eos_token
            answers[-1] = replace(answers[-1], end=len(text), closed=True)
        return Rendered(text, tuple(answers), chat=True)

    def _is_last(self, answer: Answer, text: str) -> bool:
        """Whether nothing that is learned follows."""
        return self._loss_on != "all" or not text[answer.end :].strip()

    def _note(self, code: str, sample: int) -> None:
        self.notices[code].add(sample)


def _turns(messages: Sequence[ChatMessage], *flags: Sequence[bool]) -> Iterator[tuple[Any, ...]]:
    """Where each assistant turn is, and its flags."""
    places = [i for i, message in enumerate(messages) if message.role == "assistant"]
    return zip(places, *flags, strict=True)


def dated(template: object, date: datetime.date) -> dict[str, str]:
    """apply_chat_template's argument for a template that shows today's date: the same with `date` written in."""
    if not isinstance(template, str):
        return {}
    dated = _TODAY.sub(lambda call: json.dumps(date.strftime(call[2])), template)
    return {} if dated == template else {"chat_template": dated}
