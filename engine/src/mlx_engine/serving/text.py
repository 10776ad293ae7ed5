"""Tokens → text as they come: whole characters only, and nothing that may turn out to be a stop sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_CONTEXT = 8  # tokens before the answer, or what is left of a long window, that decide how the next one is written
_UNFINISHED = "\ufffd"
_MOST = 32  # tokens that are waited for: a character has 4 bytes, so what has none by then is no text


class Decoder(Protocol):
    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str: ...


class Detokenizer:
    """Adds a token, gives the text that it completes. Special tokens give none.

    Decodes a window of tokens whose beginning is out already, as transformers and vLLM do: works with every tokenizer,
    and keeps the spaces that decoding tokens one by one would lose. `before`: what the text continues. A step's time
    doesn't grow with the answer, bytes that never become characters and special tokens without end included.
    """

    def __init__(self, tokenizer: Decoder, before: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._window = list(before[-_CONTEXT:])
        self._read = len(self._window)  # tokens of the window that are done with
        self._told = len(self._decode(self._window))  # characters of its text that are out

    def add(self, token: int) -> str:
        self._window.append(token)
        return self._new(final=False)

    def finish(self) -> str:
        """What is left: bytes of a character that never got complete."""
        return self._new(final=True)

    def _new(self, *, final: bool) -> str:
        text = self._decode(self._window)
        told, long = self._told, len(self._window) - self._read >= _MOST
        unfinished = text.endswith(_UNFINISHED) and not final
        if len(text) <= told or (unfinished and not long):
            if long and not unfinished:
                del self._window[self._read : -_CONTEXT]  # special tokens
            return ""
        # The last character may yet become one, whatever is before it.
        new = text[told : len(text) - 1 if unfinished else None]
        self._window = self._window[-_CONTEXT if unfinished else self._read :]
        self._read = len(self._window)
        self._told = len(self._decode(self._window)) - unfinished
        return new

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)


class StopFilter:
    """Passes text on up to the stop sequence that completes first, holding back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def add(self, text: str) -> str:
        """Text that is safe to show. After `stopped` nothing more comes."""
        if self.stopped:
            return ""
        text = self._held + text
        found = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)[1]]
        keep = max((self._overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back, when the text ends without a stop sequence."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """Length of the longest end of text that begins stop."""
        return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
