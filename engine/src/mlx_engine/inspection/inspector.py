"""Answers the commands of the inspect process, one after the other."""

from __future__ import annotations

import datetime
import time
import traceback
from collections import deque
from pathlib import Path

import msgspec

from mlx_engine.data.load import options_of, tokenized
from mlx_engine.data.rows import pick
from mlx_engine.inspection.preview import Previewer
from mlx_engine.inspection.report import report
from mlx_engine.models.text import Text, read_text
from mlx_engine.process import Engine, error_frame
from mlx_engine.protocol import Cancel, Command, Inspect, Inspected, Preview, Previewed

_STAGE_SECONDS = 0.5
_POLL_ROWS = 64
_SLICE = 100_000  # characters of an answer in a frame, which is one megabyte at most whatever must be escaped in them


class Cancelled(Exception):
    pass


class Inspector:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._text: tuple[object, Text] | None = None  # the last one, and what changes when its files do
        self._waiting: deque[Command] = deque()  # what came while another was worked on
        self._told = 0.0

    def answer(self, command: Inspect | Preview) -> None:
        """Sends the answer, whatever happens."""
        try:
            try:
                if isinstance(command, Inspect):
                    self._inspect(command)
                else:
                    self._preview(command)
            except Cancelled:
                empty = Inspected if isinstance(command, Inspect) else Previewed
                self._engine.channel.send(empty(id=command.id))
        except Exception as error:
            traceback.print_exc()
            self._engine.channel.send(error_frame(error, command.id))
        for later in self._waiting:
            self._engine.commands.put(later)
        self._waiting.clear()

    def _inspect(self, command: Inspect) -> None:
        text = self._load(command.model_path)
        made = False

        def progress(done: int, total: int) -> None:
            nonlocal made
            made = True
            self._look(command.id, done, total)

        data, _ = tokenized(command.dataset, text, datetime.date.today(), progress)
        self._look(command.id, 1, 1)
        found = report(command, data, text, self._engine.platform, cached=not made)
        self._engine.channel.send(Inspected(id=command.id, report=found))

    def _preview(self, command: Preview) -> None:
        text = self._load(command.model_path)
        wanted = set(command.samples)
        rows = pick(command.dataset.path, wanted, lambda done: self._look(command.id, done, 0))
        previewer = Previewer(text.tokenizer, options_of(command.dataset, text, datetime.date.today()))
        shown = [previewer.show(sample, rows.get(sample)) for sample in command.samples]
        answer = msgspec.json.encode(shown).decode()
        for at in range(0, len(answer), _SLICE):
            last = at + _SLICE >= len(answer)
            self._engine.channel.send(Previewed(id=command.id, json=answer[at : at + _SLICE], more=not last))

    def _load(self, model_path: str) -> Text:
        path = Path(model_path)
        files = sorted([*path.glob("*.json"), *path.glob("*.jinja"), *path.glob("*.model")])
        version = (model_path, *((file.name, file.stat().st_mtime_ns, file.stat().st_ino) for file in files))
        if self._text is None or self._text[0] != version:
            self._engine.stage("loading_tokenizer")
            self._text = (version, read_text(path))
        return self._text[1]

    def _look(self, id: str, done: int, total: int) -> None:
        """Tells how far it is, and ends it when it has been cancelled."""
        if done % _POLL_ROWS and done != total:
            return
        while (command := self._engine.poll()) is not None:
            if isinstance(command, Cancel) and command.id == id:
                raise Cancelled
            self._waiting.append(command)
        if time.monotonic() - self._told > _STAGE_SECONDS:
            self._told = time.monotonic()
            self._engine.stage("tokenizing", done, total)
