"""`python -m mlx_engine.inspect`: what training would make of data sets, told from its own tokenisation.

One command at a time, until stdin closes: Inspect is answered by inspected, Preview by previewed frames, either by one
error frame with its id instead; stage frames tell how far it is. A Cancel for the command at work ends it with an empty
answer. No weights are read, and the last model's tokenizer stays loaded.
"""

from __future__ import annotations

from mlx_engine.process import Engine, error_frame, run
from mlx_engine.protocol import Cancel, EngineError, Inspect, Preview


def main(engine: Engine) -> None:
    from mlx_engine.inspection.inspector import Inspector  # seconds of imports, after hello

    inspector = Inspector(engine)
    while True:
        match engine.commands.get():
            case Inspect() | Preview() as command:
                inspector.answer(command)
            case Cancel():
                pass  # it came when its command had been answered
            case other:
                error = EngineError("protocol", f"{type(other).__name__.lower()} is no command of the inspect process")
                engine.channel.send(error_frame(error))


if __name__ == "__main__":
    run(main)
