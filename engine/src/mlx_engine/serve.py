"""`python -m mlx_engine.serve`: answers Generate commands, many at a time (serving/), until stdin closes.

token frames, then done; or one error frame with the request's id, after which the others go on as if nothing had
happened. Cancel works on running and on waiting requests; either is answered by done.
"""

from __future__ import annotations

import queue

from mlx_engine import blas, kernels
from mlx_engine.process import Engine, error_frame, run
from mlx_engine.protocol import Cancel, Command, EngineError, Generate, Loaded


def main(engine: Engine) -> None:
    blas.same_rows()
    found = kernels.load()
    with kernels.patched(found):
        serve(engine, found)


def serve(engine: Engine, found: kernels.Kernels) -> None:
    from mlx_engine.models.bases import Bases  # seconds of imports, after hello
    from mlx_engine.serving.scheduler import Scheduler
    from mlx_engine.serving.settings import Settings

    settings = Settings.of_environment()
    bases = Bases(
        engine.platform,
        lambda path, seconds: engine.channel.send(Loaded(model_path=path, seconds=seconds)),
        budget=settings.models_bytes,
        adapters_bytes=settings.adapters_bytes,
    )
    scheduler = Scheduler(bases, settings, engine.channel.send, found)

    def take(command: Command) -> None:
        match command:
            case Generate():
                scheduler.submit(command)
            case Cancel(id=id):
                scheduler.cancel(id)
            case other:
                error = EngineError("protocol", f"{type(other).__name__.lower()} is no command of the serve process")
                engine.channel.send(error_frame(error))

    while True:
        if scheduler.idle:
            try:
                take(engine.commands.get(timeout=settings.idle_seconds if bases.loaded else None))
            except queue.Empty:
                scheduler.unload_idle()
        while (command := engine.poll()) is not None:
            take(command)
        scheduler.step()


if __name__ == "__main__":
    run(main)
