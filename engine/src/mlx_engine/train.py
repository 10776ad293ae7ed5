"""`python -m mlx_engine.train`: one fine-tuning run, from its Train command to the Finished frame."""

from mlx_engine.hang import WATCH
from mlx_engine.process import Engine, run
from mlx_engine.protocol import Train


def main(engine: Engine) -> None:
    command = engine.expect(Train)
    from mlx_engine.training.session import Training  # takes seconds to import, which hello should not wait for

    WATCH.begin()
    Training(command, engine).run()


if __name__ == "__main__":
    run(main)
