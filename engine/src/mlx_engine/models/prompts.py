"""Prompt texts for base models, those without a chat template. Training and serving must use the same ones.

The Alpaca texts are those of Stanford's `train.py` (github.com/tatsu-lab/stanford_alpaca). Conversations have no such
standard; theirs follows Vicuna's `USER: … ASSISTANT: …`, one turn a line, each answer closed by the EOS token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
_ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
_ROLES = {"user": "USER", "assistant": "ASSISTANT", "tool": "TOOL"}


class Message(Protocol):
    role: str
    content: str


def alpaca_text(instruction: str, input: str = "", system: str = "") -> str:
    """The Stanford prompt; the answer follows directly. A system prompt goes before it."""
    text = (
        _ALPACA_WITH_INPUT.format(instruction=instruction, input=input)
        if input
        else _ALPACA.format(instruction=instruction)
    )
    return f"{system}\n\n{text}" if system else text


def conversation_text(messages: Sequence[Message], eos: str, *, add_generation_prompt: bool) -> str:
    """Messages as plain text. `eos` closes each assistant turn; a generation prompt ends in `ASSISTANT:`."""
    text = ""
    for message in messages:
        if message.role == "system":
            text += f"{message.content}\n\n"
        else:
            end = eos if message.role == "assistant" else ""
            text += f"{_ROLES.get(message.role, message.role.upper())}: {message.content}{end}\n"
    return text + "ASSISTANT:" if add_generation_prompt else text
