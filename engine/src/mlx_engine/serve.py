"""`python -m mlx_engine.serve`: answers Generate commands, one after another, until stdin closes.

token frames, then done; or one error frame with the request's id, after which the next request is served as if
nothing had happened. Cancel works on the running request (seen before every token) and on waiting ones.
"""

from __future__ import annotations

import traceback
from collections import deque

from mlx_engine import kernels
from mlx_engine.process import Engine, error_frame, run
from mlx_engine.protocol import Cancel, Choice, Command, Done, EngineError, Generate, Loaded, Timing, Token


def main(engine: Engine) -> None:
    with kernels.patched(kernels.load()):
        Server(engine).serve()


class Server:
    def __init__(self, engine: Engine) -> None:
        from mlx_engine.models.bases import Bases  # seconds of imports, after hello

        self._engine = engine
        self._bases = Bases(engine.platform, lambda path, s: engine.channel.send(Loaded(model_path=path, seconds=s)))
        self._waiting: deque[Generate] = deque()
        self._running: str | None = None  # a request's id; None once it is cancelled

    def serve(self) -> None:
        while True:
            if not self._waiting:
                self._take(self._engine.commands.get())
            self._take_all()
            if self._waiting:
                self._answer(self._waiting.popleft())

    def _take_all(self) -> None:
        while (command := self._engine.poll()) is not None:
            self._take(command)

    def _take(self, command: Command) -> None:
        match command:
            case Generate():
                self._waiting.append(command)
            case Cancel(id=id) if id == self._running:
                self._running = None
            case Cancel(id=id):
                for request in [request for request in self._waiting if request.id == id]:
                    self._waiting.remove(request)
                    self._done(id, "", "cancelled", 0, 0)
            case other:
                error = EngineError("protocol", f"{type(other).__name__.lower()} is no command of the serve process")
                self._engine.channel.send(error_frame(error))

    def _answer(self, request: Generate) -> None:
        self._running = request.id
        try:
            self._generate(request)
        except Exception as error:
            if not isinstance(error, EngineError):
                traceback.print_exc()
            self._engine.channel.send(error_frame(error, request.id))
            self._bases.free_buffers()
        finally:
            self._running = None

    def _generate(self, request: Generate) -> None:
        from mlx_engine.serving.generate import Result, generate

        served = self._bases.serve(request.model_path, request.adapter_path)
        pieces = []
        for piece in generate(served.loaded, served.ends, request, self._is_cancelled, served.system):
            if isinstance(piece, Result):
                text = "".join(pieces)
                self._done(request.id, text, piece.finish_reason, piece.prompt_tokens, piece.completion_tokens)
            else:
                pieces.append(piece)
                self._engine.channel.send(Token(id=request.id, text=piece))

    def _is_cancelled(self) -> bool:
        self._take_all()
        return self._running is None

    def _done(self, id: str, text: str, reason: str, prompt_tokens: int, completion_tokens: int) -> None:
        self._engine.channel.send(
            Done(
                id=id,
                text=text,
                finish_reason=reason,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                cached_tokens=0,
                choices=[Choice(text=text, finish_reason=reason, completion_tokens=completion_tokens)],
                timing=Timing(queue_seconds=0.0, prefill_seconds=0.0, decode_seconds=0.0),
            )
        )


if __name__ == "__main__":
    run(main)
