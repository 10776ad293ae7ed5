"""`python -m mlx_engine.evaluate`: the loss of one model over a data set, row by row. One Evaluate command; Scored
frames with the rows, then one Evaluated. Nothing is written. It gives way to everything else on the CPU."""

import os

from mlx_engine.process import Engine, run
from mlx_engine.protocol import Evaluate

_NICENESS = 5  # beside a training on the same cores it then gets a quarter of one, and not a tenth


def main(engine: Engine) -> None:
    command = engine.expect(Evaluate)
    os.nice(_NICENESS)
    from mlx_engine.evaluation.held_out import HeldOut  # takes seconds to import, which hello should not wait for

    HeldOut(command, engine).run()


if __name__ == "__main__":
    run(main)
