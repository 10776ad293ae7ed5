"""`python -m mlx_engine.estimate`: what a training would take. One Train command; Estimated frames, the last of which
counts. Nothing is written."""

from mlx_engine.process import Engine, run
from mlx_engine.protocol import Train


def main(engine: Engine) -> None:
    command = engine.expect(Train)
    from mlx_engine.training.dry_run import DryRun  # takes seconds to import, which hello should not wait for

    DryRun(command, engine).run()


if __name__ == "__main__":
    run(main, measure=True)
